"""`pointsman check`: does an installation answer? What `helm test` runs."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, TypeVar

import grpc
import typer

from pointsman.policy.v1 import policy_pb2, policy_pb2_grpc
from pointsman.routing.v1 import routing_pb2 as pb
from pointsman.routing.v1 import routing_pb2_grpc

Answer = TypeVar("Answer")

_ATTEMPT_SECONDS = 5.0
_PAUSE_SECONDS = 0.5


def check(
    grpc_address: Annotated[str, typer.Option("--grpc", help="The routers' gRPC address.")] = "127.0.0.1:9002",
    http_url: Annotated[str, typer.Option("--http", help="The gateway's base URL; default: not asked.")] = "",
    tls_certificate: Annotated[Path | None, typer.Option(help="The certificate to show to the router.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(help="The CA of the router's certificate; default: plain text.")
    ] = None,
    tls_server_name: Annotated[str, typer.Option(help="The name in it, where it is not the address.")] = "",
    policy_service: Annotated[str, typer.Option(help="The policy service's address; default: not asked.")] = "",
    policy_service_ca: Annotated[
        Path | None, typer.Option(help="The CA of its certificate; default: plain text.")
    ] = None,
    policy_service_certificate: Annotated[Path | None, typer.Option(help="The certificate to show to it.")] = None,
    policy_service_key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    policy_service_server_name: Annotated[
        str, typer.Option(help="The name in its certificate, where it is not the address.")
    ] = "",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for answers.")] = 60,
) -> None:
    """Ask a router, its gateway and the policy service whether they answer, and say which policies are in effect."""
    deadline = time.monotonic() + timeout
    service_pair = (policy_service_certificate, policy_service_key)
    service = Target(
        policy_service,
        _credentials(*service_pair, policy_service_ca, options="--policy-service"),
        policy_service_server_name,
    )
    target = Target(grpc_address, _credentials(tls_certificate, tls_key, tls_ca), tls_server_name)
    response = _until(deadline, lambda: _policies(target))
    typer.echo(f"{grpc_address} answers: router {response.router}, {len(response.policies)} policies")
    for policy in response.policies:
        problem = f", {policy.problem}" if policy.problem else ""
        typer.echo(f"- {policy.policy}: {policy.ready_expert_count} of {policy.expert_count} experts ready{problem}")
    if http_url:
        status = _until(deadline, lambda: _gateway(http_url))
        typer.echo(f"{http_url} answers: {status.value} {status.phrase}")
    if policy_service:
        known = _until(deadline, lambda: _rollouts(service))
        typer.echo(f"{policy_service} answers: policy service, {len(known.rollouts)} policies")


class Target:
    """How to reach a router or the policy service.

    Args:
        address: Its "host:port".
        credentials: For TLS; None = plain text.
        server_name: The name in its certificate; empty = the address.
    """

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None, server_name: str) -> None:
        self._address = address
        self._credentials = credentials
        self._options = [("grpc.ssl_target_name_override", server_name)] if server_name else []

    def channel(self) -> grpc.Channel:
        """Return a new channel."""
        if self._credentials is None:
            return grpc.insecure_channel(self._address)
        return grpc.secure_channel(self._address, self._credentials, self._options)


def _policies(target: Target) -> pb.ListPoliciesResponse:
    with target.channel() as channel:
        stub = routing_pb2_grpc.RoutingServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            response: pb.ListPoliciesResponse = stub.ListPolicies(pb.ListPoliciesRequest(), timeout=_ATTEMPT_SECONDS)
        except grpc.RpcError as error:
            raise ConnectionError(f"no router answers: {error.code().name}: {error.details()}") from error
    return response


def _rollouts(target: Target) -> policy_pb2.ListRolloutsResponse:
    with target.channel() as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            response: policy_pb2.ListRolloutsResponse = stub.ListRollouts(
                policy_pb2.ListRolloutsRequest(), timeout=_ATTEMPT_SECONDS
            )
        except grpc.RpcError as error:
            raise ConnectionError(f"no policy service answers: {error.code().name}: {error.details()}") from error
    return response


def _gateway(url: str) -> HTTPStatus:
    """Ask for the models; 503 is an answer too, as long as no policy has experts."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/v1/models", timeout=_ATTEMPT_SECONDS) as response:  # noqa: S310
            return HTTPStatus(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return HTTPStatus(error.code)
    except OSError as error:
        raise ConnectionError(f"the gateway {url} does not answer: {error}") from error


def _until(deadline: float, ask: Callable[[], Answer]) -> Answer:
    """Ask again until there is an answer; raises the last failure at the deadline, monotonic seconds."""
    while True:
        try:
            return ask()
        except ConnectionError:
            if time.monotonic() + _PAUSE_SECONDS >= deadline:
                raise
            time.sleep(_PAUSE_SECONDS)


def _credentials(
    certificate: Path | None, key: Path | None, ca: Path | None, options: str = "--tls"
) -> grpc.ChannelCredentials | None:
    if (certificate is None) != (key is None):
        raise typer.BadParameter(f"give both {options}-certificate and {options}-key, or neither")
    if ca is None:
        if certificate is not None:
            raise typer.BadParameter(f"{options}-certificate needs {options}-ca")
        return None
    pair = (None, None) if key is None or certificate is None else (key.read_bytes(), certificate.read_bytes())
    return grpc.ssl_channel_credentials(ca.read_bytes(), *pair)
