import asyncio
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.cluster.certificates import CertificateAuthority
from tests.unit.service.conftest import Services

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman.policy.v1 import policy_pb2_grpc
from pointsman_operator.serving.tls import ServerTls, TlsFiles
from pointsman_policy.experience.errors import StoreInUseError
from pointsman_policy.service.run import serve
from pointsman_policy.service.settings import ServiceSettings

SERVICE = "pointsman.policy.v1.PolicyService"


async def test_health_and_reflection_are_served(services: Services) -> None:
    served = await services.start()
    health = health_pb2_grpc.HealthStub(served.channel)
    for name in ("", SERVICE):
        response = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert response.status == health_pb2.HealthCheckResponse.SERVING
    call = reflection_pb2_grpc.ServerReflectionStub(served.channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {one.name for one in (await call.read()).list_services_response.service}
    assert SERVICE in names
    call.cancel()


async def test_clients_need_a_certificate_where_that_is_wanted(services: Services, tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    authority = CertificateAuthority(tmp_path / "ca")
    pair = authority.issue("policy-service", ["127.0.0.1"])
    files = TlsFiles(pair.certificate, pair.key, authority.certificate)
    served = await services.start(credentials=lambda: ServerTls(files).credentials())
    own = (pair.key.read_bytes(), pair.certificate.read_bytes())
    known, unknown = (
        grpc.ssl_channel_credentials(authority.certificate.read_bytes(), *some) for some in (own, (None, None))
    )
    address = f"127.0.0.1:{served.port}"
    async with grpc.aio.secure_channel(address, known) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)  # type: ignore[no-untyped-call]
        assert (await stub.ListRollouts(pb.ListRolloutsRequest(), timeout=10)).rollouts == []
    async with grpc.aio.secure_channel(address, unknown, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListRollouts(pb.ListRolloutsRequest(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_an_address_that_is_none_ends_the_start(tmp_path: Path) -> None:
    settings = ServiceSettings(root=tmp_path / "root", addresses=("localhost:1",), admin_port=0)
    with pytest.raises(RuntimeError, match="literal IP address"):
        await serve(settings, (), asyncio.Event())


async def test_two_services_do_not_share_a_root(services: Services) -> None:
    await services.start()
    with pytest.raises(StoreInUseError, match="another process"):
        await services.start()
