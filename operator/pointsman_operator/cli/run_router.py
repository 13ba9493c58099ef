"""`pointsman router`: the data plane without Kubernetes."""

from pathlib import Path
from typing import Annotated

import typer
import uvloop

from pointsman_operator.settings import RouterSettings

_DEFAULTS = RouterSettings(policies=Path(), experts=Path())


def router(
    policy: Annotated[Path, typer.Option(help="RouterPolicies: a YAML file or a folder; reloaded on change.")],
    experts: Annotated[Path, typer.Option(help="The experts.yaml; reloaded on change.")],
    listen: Annotated[
        list[str], typer.Option(help='gRPC address, "ip:port" or "unix:/path"; may be given several times.')
    ] = list(_DEFAULTS.grpc_addresses),  # noqa: B006 - typer needs a list
    sidecar_listen: Annotated[
        list[str], typer.Option(help="Where our own Envoy sidecar finds ext_proc, at less cost; forms as above.")
    ] = list(_DEFAULTS.sidecar_addresses),  # noqa: B006
    name: Annotated[
        str, typer.Option(envvar="POD_NAME", help="What the router is called among its replicas.")
    ] = _DEFAULTS.name,
    admin_host: Annotated[str, typer.Option(help="Where metrics, probes and debug pages are served.")] = (
        _DEFAULTS.admin_host
    ),
    admin_port: Annotated[int, typer.Option(min=0, max=65535, help="Their port; 0 = any free one.")] = (
        _DEFAULTS.admin_port
    ),
    envoy_endpoints: Annotated[
        Path | None, typer.Option(help="File to keep up to date for Envoy's endpoint discovery.")
    ] = None,
    drain_notice: Annotated[float, typer.Option(min=0, help="Seconds of serving while not ready, on SIGTERM.")] = (
        _DEFAULTS.drain_notice_seconds
    ),
    drain_grace: Annotated[float, typer.Option(min=0, help="Then: most seconds for open streams to end.")] = (
        _DEFAULTS.drain_grace_seconds
    ),
    decision_expiry: Annotated[float, typer.Option(min=1, help="Seconds after which a silent decision is closed.")] = (
        _DEFAULTS.decision_expiry_seconds
    ),
    predictor: Annotated[
        Path | None, typer.Option(help="Folder written by `pointsman predictor fit`; default: the experts' priors.")
    ] = None,
    trained_policy: Annotated[
        list[Path] | None,
        typer.Option(help="Folder written by `pointsman train`, in place of its packaged picker; may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of tie-breaking; default: from the system.")] = None,
) -> None:
    """Serve routing decisions over gRPC: ext_proc for Envoy, and RoutingService."""
    from pointsman_operator.app import run_router

    uvloop.run(
        run_router(
            RouterSettings(
                policies=policy,
                experts=experts,
                grpc_addresses=tuple(listen),
                sidecar_addresses=tuple(sidecar_listen),
                name=name,
                admin_host=admin_host,
                admin_port=admin_port,
                envoy_endpoints=envoy_endpoints,
                drain_notice_seconds=drain_notice,
                drain_grace_seconds=drain_grace,
                decision_expiry_seconds=decision_expiry,
                predictor=predictor,
                trained_policies=tuple(trained_policy or ()),
                seed=seed,
            )
        )
    )
