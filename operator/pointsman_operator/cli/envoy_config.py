"""`pointsman envoy-config`: the sidecar's configuration."""

from pathlib import Path
from typing import Annotated

import typer

from pointsman_operator.serving.envoy_config import EnvoySettings, render_bootstrap


def envoy_config(
    endpoints: Annotated[Path, typer.Option(help="The endpoints file that `pointsman router` keeps up to date.")],
    router: Annotated[list[str], typer.Option(help="A router's gRPC address; may be given several times.")],
    ext_proc: Annotated[
        list[str] | None, typer.Option(help="Its --sidecar-listen address; costs less than asking at --router.")
    ] = None,
    listen_address: Annotated[str, typer.Option(help="Where clients connect.")] = "127.0.0.1",
    listen_port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
    admin_port: Annotated[int, typer.Option(min=0, max=65535, help="Envoy's admin port, on loopback.")] = 9901,
    message_timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to wait for a decision.")] = 0.2,
    fail_open: Annotated[bool, typer.Option(help="Without a decision: any healthy expert, or 503.")] = True,
) -> None:
    """Print the Envoy configuration that sends requests through the router."""
    settings = EnvoySettings(
        listen_address=listen_address,
        listen_port=listen_port,
        admin_port=admin_port,
        endpoints_path=endpoints.absolute(),
        router_addresses=tuple(router),
        ext_proc_addresses=tuple(ext_proc or ()),
        message_timeout_seconds=message_timeout,
        fail_open=fail_open,
    )
    try:
        typer.echo(render_bootstrap(settings), nl=False)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
