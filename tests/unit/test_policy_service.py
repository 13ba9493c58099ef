"""The connection to a policy service, with TLS files that change."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.cluster.certificates import CertificateAuthority, KeyPair

from pointsman.policy.v1 import policy_pb2, policy_pb2_grpc
from pointsman_operator.policy_service import PolicyServiceAddress, PolicyServiceConnection


class Service(policy_pb2_grpc.PolicyServiceServicer):
    async def ListRollouts(  # noqa: N802
        self, request: policy_pb2.ListRolloutsRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> policy_pb2.ListRolloutsResponse:
        return policy_pb2.ListRolloutsResponse(rollouts=[policy_pb2.RolloutReport(policy="edge/chat")])


@asynccontextmanager
async def served(authority: CertificateAuthority, port: int = 0) -> AsyncIterator[int]:
    pair = authority.issue("service", ["127.0.0.1", "localhost"])
    credentials = grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.certificate.read_bytes())],
        authority.certificate.read_bytes(),
        require_client_auth=True,
    )
    server = grpc.aio.server()
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]
    bound = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    yield bound
    await server.stop(None)


async def ask(connection: PolicyServiceConnection) -> str:
    stub = await connection.stub()
    response = await stub.ListRollouts(policy_pb2.ListRolloutsRequest(), timeout=5)
    return str(response.rollouts[0].policy)


@pytest.fixture
def mount(tmp_path: Path) -> Callable[[CertificateAuthority, KeyPair], None]:
    """Put files where a Secret is mounted."""
    (tmp_path / "mounted").mkdir()

    def put(authority: CertificateAuthority, pair: KeyPair) -> None:
        for source, name in ((authority.certificate, "ca"), (pair.certificate, "crt"), (pair.key, "key")):
            shutil.copy(source, tmp_path / "mounted" / name)

    return put


async def test_new_certificates_are_taken_over_without_a_restart(
    tmp_path: Path, mount: Callable[[CertificateAuthority, KeyPair], None]
) -> None:
    first, second = CertificateAuthority(tmp_path, "first"), CertificateAuthority(tmp_path, "second")
    mount(first, first.issue("client", ["client"]))
    folder = tmp_path / "mounted"
    async with served(first) as port:
        connection = PolicyServiceConnection(
            PolicyServiceAddress(
                target=f"127.0.0.1:{port}",
                authority=folder / "ca",
                certificate=folder / "crt",
                key=folder / "key",
            )
        )
        assert await ask(connection) == "edge/chat"
    async with served(second, port):
        with pytest.raises(grpc.aio.AioRpcError):
            await ask(connection)
        mount(second, second.issue("other-client", ["client"]))
        assert set(await asyncio.gather(ask(connection), ask(connection))) == {"edge/chat"}
    await connection.close()


async def test_a_client_without_a_certificate_is_turned_away(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path, "ca")
    async with served(authority) as port:
        address = PolicyServiceAddress(target=f"127.0.0.1:{port}", authority=authority.certificate)
        connection = PolicyServiceConnection(address)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(connection)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        await connection.close()


async def test_a_missing_file_is_an_error_of_the_file(tmp_path: Path) -> None:
    connection = PolicyServiceConnection(PolicyServiceAddress(target="127.0.0.1:1", authority=tmp_path / "ca"))
    with pytest.raises(FileNotFoundError):
        await connection.stub()
