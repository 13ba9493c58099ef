"""`pointsman envoy-config` and `envoy-drain`: the sidecar's configuration, and its end."""

from pathlib import Path
from typing import Annotated

import typer

from pointsman_operator.serving.envoy_config import EnvoySettings, render_bootstrap, write_endpoints

_MEBIBYTE = 1024 * 1024


def envoy_config(
    endpoints: Annotated[Path, typer.Option(help="The endpoints file that `pointsman router` keeps up to date.")],
    router: Annotated[list[str], typer.Option(help="A router's gRPC address; may be given several times.")],
    ext_proc: Annotated[
        list[str] | None, typer.Option(help="Its --sidecar-listen address; costs less than asking at --router.")
    ] = None,
    listen_address: Annotated[str, typer.Option(help="Where clients connect.")] = "127.0.0.1",
    listen_port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
    admin_port: Annotated[int, typer.Option(min=0, max=65535, help="Envoy's admin port, on loopback.")] = 9901,
    admin_socket: Annotated[Path | None, typer.Option(help="A unix socket instead of the admin port.")] = None,
    status_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Readiness and metrics for others; needs --admin-socket.")
    ] = None,
    message_timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to wait for a decision.")] = 0.2,
    fail_open: Annotated[bool, typer.Option(help="Without a decision: any healthy expert, or 503.")] = True,
    heap_limit_mebibytes: Annotated[int, typer.Option(min=64, help="New requests get 503 near this.")] = 1024,
    output: Annotated[
        Path | None, typer.Option(help="Write it there, and an empty endpoints file if there is none; default: print.")
    ] = None,
) -> None:
    """Print the Envoy configuration that sends requests through the router."""
    settings = EnvoySettings(
        listen_address=listen_address,
        listen_port=listen_port,
        admin_port=admin_port,
        admin_socket=None if admin_socket is None else admin_socket.absolute(),
        status_port=status_port,
        endpoints_path=endpoints.absolute(),
        router_addresses=tuple(router),
        ext_proc_addresses=tuple(ext_proc or ()),
        message_timeout_seconds=message_timeout,
        fail_open=fail_open,
        heap_limit_bytes=heap_limit_mebibytes * _MEBIBYTE,
    )
    try:
        text = render_bootstrap(settings)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if output is None:
        typer.echo(text, nl=False)
        return
    output.write_text(text, "utf-8")
    if not endpoints.exists():
        write_endpoints(endpoints, ())


def envoy_drain(
    admin_socket: Annotated[Path, typer.Option(help="Envoy's admin page, as given to `pointsman envoy-config`.")],
    notice: Annotated[float, typer.Option(min=0, help="Seconds to serve on, while load balancers take note.")] = 5,
    grace: Annotated[float, typer.Option(min=0, help="Then: most seconds for open requests to end.")] = 120,
    done: Annotated[Path | None, typer.Option(help="A file to make at the end, for whoever stops Envoy.")] = None,
) -> None:
    """Wait until Envoy has answered what it has begun; it refuses nothing meanwhile."""
    import asyncio

    from pointsman_operator.serving.envoy_drain import drain

    try:
        open_requests = asyncio.run(drain(admin_socket, notice, grace))
    finally:
        if done is not None:
            done.touch()
    typer.echo(f"{open_requests} requests were still open after {grace:g} s" if open_requests else "No request is open")
