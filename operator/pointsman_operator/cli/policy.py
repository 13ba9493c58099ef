"""`pointsman policy`: the policy service, which learns from outcomes and hands versions to routers."""

from pathlib import Path
from typing import Annotated

import typer

from pointsman_operator.cli.extras import needs_extra
from pointsman_operator.errors import UsageError

_GIB = 2**30


def policy(
    root: Annotated[Path, typer.Option(help="Folder on a local volume for outcomes, versions and rollouts.")],
    listen: Annotated[
        list[str], typer.Option(help='gRPC address, "ip:port" or "unix:/path"; may be given several times.')
    ] = ["127.0.0.1:9004"],  # noqa: B006 - typer needs a list
    policy_: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            help="RouterPolicies whose training and rollout hold: a YAML file or a folder; default: an operator tells.",
        ),
    ] = None,
    outcomes_url: Annotated[
        str, typer.Option(help="Where outcomes rest, such as s3://bucket/folder; default: in --root.")
    ] = "",
    retention_days: Annotated[float, typer.Option(min=1, help="Outcomes are kept so long.")] = 400,
    retention_gib: Annotated[float, typer.Option(min=0.001, help="And so many, in GiB on disk.")] = 32,
    training_minutes: Annotated[
        float, typer.Option(min=0, help="Of tuning in each training; calibration and gate come on top.")
    ] = 3.0,
    training_processors: Annotated[int, typer.Option(min=1, max=1024, help="Cores that a training may use.")] = 1,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="Serve ip:port addresses over TLS with this PEM file; reread when it changes.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's key, a PEM file without a password.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Demand certificates of these CAs from clients (mutual TLS).")
    ] = None,
    admin_host: Annotated[str, typer.Option(help="Where metrics and probes are served.")] = "127.0.0.1",
    admin_port: Annotated[int, typer.Option(min=0, max=65535, help="Their port; 0 = any free one.")] = 9094,
) -> None:
    """Keep outcomes, train policies from them, and bring into service what proves itself."""
    with needs_extra("policy"):
        import uvloop

        from pointsman_operator.control.picker_names import picker_names
        from pointsman_operator.policy_settings import policy_settings
        from pointsman_operator.routerpolicy import read_policies
        from pointsman_operator.serving.tls import ServerTls, TlsFiles
        from pointsman_policy.experience.retention import Retention
        from pointsman_policy.service.policy_settings import read_configuration
        from pointsman_policy.service.run import run_service
        from pointsman_policy.service.settings import TRAINING_COMMAND, ServiceSettings
    if (tls_certificate is None) != (tls_key is None) or (tls_client_ca is not None and tls_key is None):
        raise UsageError("TLS needs both --tls-certificate and --tls-key; --tls-client-ca goes with them")
    files = TlsFiles(tls_certificate, tls_key, tls_client_ca) if tls_certificate and tls_key else None
    policies = read_policies(policy_, picker_names()) if policy_ is not None else ()
    settings = ServiceSettings(
        root=root,
        addresses=tuple(listen),
        credentials=None if files is None else lambda: ServerTls(files).credentials(),
        admin_host=admin_host,
        admin_port=admin_port,
        outcomes_url=outcomes_url,
        retention=Retention(retention_days, retention_gib * _GIB),
        training_command=(*TRAINING_COMMAND, "--minutes", f"{training_minutes:g}"),
        training_processors=training_processors,
    )
    uvloop.run(run_service(settings, [read_configuration(policy_settings(one)) for one in policies]))
