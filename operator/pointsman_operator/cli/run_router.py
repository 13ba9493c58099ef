"""`pointsman router`: the data plane, in a cluster or from files."""

from pathlib import Path
from typing import Annotated

import typer
import uvloop

from pointsman_operator.errors import UsageError
from pointsman_operator.policy_service import PolicyServiceAddress
from pointsman_operator.settings import FileSource, KubernetesSource, RouterSettings

_DEFAULTS = RouterSettings(source=KubernetesSource())


def router(
    policy: Annotated[
        Path | None, typer.Option(help="RouterPolicies: a YAML file or a folder; reloaded on change.")
    ] = None,
    experts: Annotated[Path | None, typer.Option(help="The experts.yaml; reloaded on change.")] = None,
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="Find policies and experts in a cluster instead of in files.")
    ] = False,
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="With --kubernetes: where to look; may be repeated; default: everywhere."),
    ] = None,
    profiles: Annotated[
        Path | None, typer.Option(help="With --kubernetes: CSV of iteration-time fits (experts.yaml names its own).")
    ] = None,
    listen: Annotated[
        list[str], typer.Option(help='gRPC address, "ip:port" or "unix:/path"; may be given several times.')
    ] = list(_DEFAULTS.grpc_addresses),  # noqa: B006 - typer needs a list
    sidecar_listen: Annotated[
        list[str], typer.Option(help="Where our own Envoy sidecar finds ext_proc, at less cost; forms as above.")
    ] = list(_DEFAULTS.sidecar_addresses),  # noqa: B006
    tls_certificate: Annotated[
        Path | None, typer.Option(help="Serve ip:port addresses over TLS with this PEM file; reread when it changes.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's key, a PEM file without a password.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Demand certificates of these CAs from clients (mutual TLS).")
    ] = None,
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
    policy_service: Annotated[
        str | None, typer.Option(help='Where the policy service is, "host:port"; default: nobody learns from outcomes.')
    ] = None,
    policy_service_ca: Annotated[
        Path | None, typer.Option(help="CA of its certificate, a PEM file; default: the connection is plain text.")
    ] = None,
    policy_service_certificate: Annotated[
        Path | None, typer.Option(help="Certificate to show it (mutual TLS); with --policy-service-key.")
    ] = None,
    policy_service_key: Annotated[Path | None, typer.Option(help="Its key, without a password.")] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Keeps outcomes until they are delivered, and the last good versions; default: memory only."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of tie-breaking; default: from the system.")] = None,
) -> None:
    """Serve routing decisions over gRPC: ext_proc for Envoy, and RoutingService."""
    source = _source(policy, experts, kubernetes, tuple(namespace or ()), profiles)
    if (tls_certificate is None) != (tls_key is None) or (tls_client_ca is not None and tls_key is None):
        raise UsageError("TLS needs both --tls-certificate and --tls-key; --tls-client-ca goes with them")
    service = service_address(policy_service, policy_service_ca, policy_service_certificate, policy_service_key)
    from pointsman_operator.app import run_router

    uvloop.run(
        run_router(
            RouterSettings(
                source=source,
                grpc_addresses=tuple(listen),
                sidecar_addresses=tuple(sidecar_listen),
                tls_certificate=tls_certificate,
                tls_key=tls_key,
                tls_client_ca=tls_client_ca,
                name=name,
                admin_host=admin_host,
                admin_port=admin_port,
                envoy_endpoints=envoy_endpoints,
                drain_notice_seconds=drain_notice,
                drain_grace_seconds=drain_grace,
                decision_expiry_seconds=decision_expiry,
                predictor=predictor,
                trained_policies=tuple(trained_policy or ()),
                policy_service=service,
                state_folder=state_dir,
                seed=seed,
            )
        )
    )


def service_address(
    target: str | None, authority: Path | None, certificate: Path | None, key: Path | None
) -> PolicyServiceAddress | None:
    """Return where the policy service is; None = there is none.

    Raises:
        UsageError: If the options do not fit together.
    """
    if target is None:
        if authority is not None or certificate is not None or key is not None:
            raise UsageError("--policy-service-ca, -certificate and -key go with --policy-service")
        return None
    if (certificate is None) != (key is None) or (certificate is not None and authority is None):
        raise UsageError("mutual TLS needs --policy-service-ca, --policy-service-certificate and --policy-service-key")
    return PolicyServiceAddress(target=target, authority=authority, certificate=certificate, key=key)


def _source(
    policy: Path | None, experts: Path | None, kubernetes: bool, namespaces: tuple[str, ...], profiles: Path | None
) -> FileSource | KubernetesSource:
    if kubernetes:
        if policy is not None or experts is not None:
            raise UsageError("--kubernetes finds policies and experts in the cluster; leave out --policy and --experts")
        return KubernetesSource(namespaces=namespaces, profiles=profiles)
    if policy is None or experts is None:
        raise UsageError("give --policy and --experts, or --kubernetes to find both in a cluster")
    if namespaces or profiles is not None:
        raise UsageError("--namespace and --profiles go with --kubernetes only")
    return FileSource(policies=policy, experts=experts)
