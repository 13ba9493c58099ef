"""`pointsman operator`: the control plane in a cluster."""

from pathlib import Path
from typing import Annotated

import typer

from pointsman_operator.cli.extras import needs_extra


def operator(
    router_namespace: Annotated[str, typer.Option(help="Namespace of the router pods.")],
    router_selector: Annotated[str, typer.Option(help="Label selector of the router pods.")],
    router_port: Annotated[int, typer.Option(min=1, max=65535, help="Their gRPC port.")] = 9002,
    namespace: Annotated[
        list[str] | None, typer.Option(help="Where to look after RouterPolicies; may be repeated. Default: everywhere.")
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file: certificate shown to routers.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file: its key.")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(help="PEM file: CA of the routers' certificates. Default: plain text.")
    ] = None,
    tls_server_name: Annotated[
        str, typer.Option(help="Name in the routers' certificates. Default: any that the CA has signed.")
    ] = "",
    policy_service: Annotated[
        str, typer.Option(help='"host:port" of the policy service. Default: policies are not trained.')
    ] = "",
    policy_service_ca: Annotated[
        Path | None, typer.Option(help="PEM file: CA of its certificate. Default: plain text.")
    ] = None,
    policy_service_certificate: Annotated[Path | None, typer.Option(help="PEM file: certificate shown to it.")] = None,
    policy_service_key: Annotated[Path | None, typer.Option(help="PEM file: its key.")] = None,
    webhook_listen: Annotated[
        str, typer.Option(help='"ip:port" of the admission webhook. Default: it is not served.')
    ] = "",
    webhook_certificate: Annotated[Path | None, typer.Option(help="PEM file; reloaded on change.")] = None,
    webhook_key: Annotated[Path | None, typer.Option(help="PEM file; reloaded on change.")] = None,
    peering: Annotated[
        str, typer.Option(help="(Cluster)KopfPeering object that replicas share. Default: this is the only one.")
    ] = "",
    priority: Annotated[
        int | None, typer.Option(help="The highest is active, others stand by. Default: the first one started.")
    ] = None,
    identity: Annotated[
        str, typer.Option(help="Unique among replicas.", envvar="POD_NAME", show_default="made up")
    ] = "",
    admin_host: Annotated[str, typer.Option(help="Where metrics and probes are served.")] = "127.0.0.1",
    admin_port: Annotated[int, typer.Option(min=0, max=65535, help="Their port; 0 = any free one.")] = 8080,
) -> None:
    """Look after RouterPolicies in a cluster: check them, and say in their status what routers really run."""
    with needs_extra("operator"):
        import uvloop

        from pointsman_operator.control.run import run_operator
        from pointsman_operator.control.settings import OperatorSettings, RouterSelection, WebhookSettings
        from pointsman_operator.policy_service import PolicyServiceAddress

    _check_files({"--tls-certificate": tls_certificate, "--tls-key": tls_key}, needs={"--tls-ca": tls_ca})
    service_pair = {
        "--policy-service-certificate": policy_service_certificate,
        "--policy-service-key": policy_service_key,
    }
    _check_files(service_pair, needs={"--policy-service-ca": policy_service_ca})
    service = None
    if policy_service:
        service = PolicyServiceAddress(
            target=policy_service,
            authority=policy_service_ca,
            certificate=policy_service_certificate,
            key=policy_service_key,
        )
    webhook = None
    if webhook_listen:
        host, port = _address(webhook_listen)
        if webhook_certificate is None or webhook_key is None:
            raise typer.BadParameter("--webhook-listen needs --webhook-certificate and --webhook-key")
        webhook = WebhookSettings(host=host, port=port, certificate=webhook_certificate, key=webhook_key)
    settings = OperatorSettings(
        routers=RouterSelection(
            namespace=router_namespace,
            selector=router_selector,
            port=router_port,
            certificate=tls_certificate,
            key=tls_key,
            authority=tls_ca,
            server_name=tls_server_name,
        ),
        namespaces=tuple(namespace or ()),
        webhook=webhook,
        policy_service=service,
        peering=peering,
        priority=priority,
        identity=identity,
        admin_host=admin_host,
        admin_port=admin_port,
    )
    uvloop.run(run_operator(settings))


def _check_files(pair: dict[str, Path | None], needs: dict[str, Path | None]) -> None:
    """Refuse a certificate without its key, and either without the CA that makes the connection encrypted."""
    given = [option for option, file in pair.items() if file is not None]
    if given and len(given) < len(pair):
        raise typer.BadParameter(f"{' and '.join(pair)} go together; give both or neither")
    for option, file in needs.items():
        if given and file is None:
            raise typer.BadParameter(f"{' and '.join(pair)} need {option}")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise typer.BadParameter(f'--webhook-listen must be "ip:port" (got {text!r})')
    return host.removeprefix("[").removesuffix("]"), int(port)
