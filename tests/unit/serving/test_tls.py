import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest
from tests.cluster.certificates import CertificateAuthority, KeyPair
from tests.unit.serving.conftest import FakeRouting

from pointsman.routing.v1 import routing_pb2 as pb
from pointsman.routing.v1 import routing_pb2_grpc
from pointsman_operator.metrics import Metrics
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.server import RouterServer, ServerSettings
from pointsman_operator.serving.tls import TlsFiles
from pointsman_policy.errors import DocumentError

Authority = Callable[[str], CertificateAuthority]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    def make(name: str) -> CertificateAuthority:
        (tmp_path / name).mkdir()
        return CertificateAuthority(tmp_path / name)

    return make


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt")


def install(files: TlsFiles, signer: CertificateAuthority, clients: CertificateAuthority | None = None) -> None:
    pair = signer.issue("router", ["127.0.0.1"])
    copies = {files.certificate: pair.certificate, files.key: pair.key}
    if files.client_ca is not None:
        copies[files.client_ca] = (clients or signer).certificate
    for target, source in copies.items():
        beside = target.with_suffix(".new")
        shutil.copy(source, beside)
        beside.replace(target)
    pair.certificate.unlink()
    pair.key.unlink()


def channel(port: int, trusted: CertificateAuthority, own: KeyPair | None = None) -> grpc.aio.Channel:
    pair = (None, None) if own is None else (own.key.read_bytes(), own.certificate.read_bytes())
    credentials = grpc.ssl_channel_credentials(trusted.certificate.read_bytes(), *pair)
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, [("grpc.use_local_subchannel_pool", 1)])


async def router_of(channel: grpc.aio.Channel) -> str:
    stub = routing_pb2_grpc.RoutingServiceStub(channel)  # type: ignore[no-untyped-call]
    response = await stub.ListPolicies(pb.ListPoliciesRequest(), timeout=5)
    return str(response.router)


async def answers(port: int, trusted: CertificateAuthority, own: KeyPair | None = None) -> bool:
    async with channel(port, trusted, own) as one:
        try:
            return await router_of(one) == "router-0"
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False


@contextlib.asynccontextmanager
async def serving(
    routing: FakeRouting, metrics: Metrics, files: TlsFiles, *addresses: str
) -> AsyncIterator[tuple[int, ...]]:
    settings = ServerSettings(addresses or ("127.0.0.1:0",), tls=files, name="router-0")
    server = RouterServer(routing, metrics, Destinations(routing, metrics), settings)
    try:
        yield await server.start()
    finally:
        await server.drain(0, 0)


async def test_clients_without_a_certificate_are_served_if_none_is_asked_for(
    routing: FakeRouting, metrics: Metrics, files: TlsFiles, authority: Authority
) -> None:
    files = TlsFiles(files.certificate, files.key)
    signer, stranger = authority("signer"), authority("stranger")
    install(files, signer)
    async with serving(routing, metrics, files) as (port,):
        assert await answers(port, signer)
        assert not await answers(port, stranger)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as plain:
            with pytest.raises(grpc.aio.AioRpcError):
                await router_of(plain)


async def test_clients_must_show_a_certificate_of_the_given_authority(
    routing: FakeRouting, metrics: Metrics, files: TlsFiles, authority: Authority
) -> None:
    signer, clients, stranger = authority("signer"), authority("clients"), authority("stranger")
    install(files, signer, clients)
    async with serving(routing, metrics, files) as (port,):
        assert await answers(port, signer, clients.issue("operator"))
        assert not await answers(port, signer)
        assert not await answers(port, signer, stranger.issue("operator"))


async def test_new_certificates_are_taken_over_and_open_connections_stay(
    routing: FakeRouting, metrics: Metrics, files: TlsFiles, authority: Authority
) -> None:
    old, new = authority("old"), authority("new")
    old_client, new_client = old.issue("client"), new.issue("client")
    install(files, old)
    async with serving(routing, metrics, files) as (port,), channel(port, old, old_client) as open_one:
        assert await router_of(open_one) == "router-0"
        install(files, new)
        assert await answers(port, new, new_client)
        assert not await answers(port, old, old_client)
        assert await router_of(open_one) == "router-0"


async def test_broken_new_files_leave_the_old_ones_in_use(
    routing: FakeRouting, metrics: Metrics, files: TlsFiles, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    signer = authority("signer")
    client = signer.issue("client")
    install(files, signer)
    async with serving(routing, metrics, files) as (port,):
        files.key.write_text("not a key")
        assert await answers(port, signer, client)
        assert await answers(port, signer, client)
        files.certificate.unlink()
        assert await answers(port, signer, client)
        install(files, signer)
        assert await answers(port, signer, client)
    kept = [record.getMessage() for record in caplog.records if "Keeping the certificate" in record.getMessage()]
    assert len(kept) == 2
    assert "not usable for TLS" in kept[0]
    assert "cannot be read" in kept[1]


async def test_a_unix_socket_stays_plain(
    routing: FakeRouting, metrics: Metrics, files: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    signer = authority("signer")
    install(files, signer)
    socket = f"unix:{tmp_path}/grpc.sock"
    async with (
        serving(routing, metrics, files, "127.0.0.1:0", socket) as (port, _),
        grpc.aio.insecure_channel(socket) as plain,
    ):
        assert await router_of(plain) == "router-0"
        assert await answers(port, signer, signer.issue("client"))


def _with_password(path: Path) -> None:
    path.write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgAAAAAAAAAAAIC\n"
        "-----END ENCRYPTED PRIVATE KEY-----\n"
    )


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda files: files.certificate.unlink(), "tls.crt: cannot be read for TLS (No such file or directory)"),
        (lambda files: files.key.unlink(), "tls.key: cannot be read for TLS"),
        (lambda files: files.client_ca.unlink(), "ca.crt: cannot be read for TLS"),
        (lambda files: files.certificate.write_text(""), "tls.crt and"),
        (lambda files: files.key.write_text("no key"), "not usable for TLS"),
        (lambda files: _with_password(files.key), "its key without password"),
        (lambda files: files.client_ca.write_text("no CA"), "ca.crt: not usable for TLS"),
        (lambda files: shutil.copy(files.client_ca, files.certificate), "KEY_VALUES_MISMATCH"),
    ],
)
async def test_unusable_files_end_the_start_and_are_named(
    routing: FakeRouting,
    metrics: Metrics,
    files: TlsFiles,
    authority: Authority,
    spoil: Callable[[TlsFiles], object],
    problem: str,
) -> None:
    install(files, authority("signer"))
    spoil(files)
    with pytest.raises(DocumentError) as raised:
        RouterServer(routing, metrics, Destinations(routing, metrics), ServerSettings(tls=files))
    assert problem in str(raised.value)
