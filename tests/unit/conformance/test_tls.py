"""Pickers behind TLS: certificates of their own making, of an authority, and clients that must show one."""

from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from tests.unit.conformance.certificates import Certificate, issue
from tests.unit.conformance.picker import serving

from pointsman_operator.conformance.gateway import Gateway
from pointsman_operator.conformance.rule import Subject
from pointsman_operator.conformance.running import Outcome, learn, run
from pointsman_operator.conformance.table import RULES
from pointsman_operator.conformance.tls import TlsFileError, TlsSettings

AUTHORITY = issue("authority")
PICKER = issue("picker.example", AUTHORITY, address="127.0.0.1")
GATEWAY = issue("gateway.example", AUTHORITY)
SUBJECT = Subject(model="chat")
SOME_RULES = [rule for rule in RULES if rule.id in ("health-liveness", "request-large", "streams-interleaved")]


def credentials(certificate: Certificate, *, mutual: bool = False) -> grpc.ServerCredentials:
    pair = (certificate.key_pem, certificate.certificate_pem)
    root = AUTHORITY.certificate_pem if mutual else None
    return grpc.ssl_server_credentials([pair], root_certificates=root, require_client_auth=mutual)


async def outcomes(target: str, settings: TlsSettings | None, timeout_seconds: float = 10.0) -> Sequence[Outcome]:
    async with Gateway(target, timeout_seconds, settings) as gateway:
        learned = await learn(gateway, SUBJECT)
        return [result.outcome for result in await run(gateway, learned, SOME_RULES)]


async def test_a_certificate_of_the_pickers_own_making_is_taken_as_gateways_do() -> None:
    async with serving(credentials=credentials(issue("self-made"))) as target:
        assert await outcomes(target, TlsSettings()) == [Outcome.PASSED] * 3


async def test_with_an_authority_the_certificate_is_verified(tmp_path: Path) -> None:
    authority = AUTHORITY.write(tmp_path / "ca.pem")
    async with serving(credentials=credentials(PICKER)) as target:
        assert await outcomes(target, TlsSettings(authority=authority)) == [Outcome.PASSED] * 3
        named = TlsSettings(authority=authority, server_name="picker.example")
        assert await outcomes(target, named) == [Outcome.PASSED] * 3
        with pytest.raises(ConnectionError, match=r"(?i)hostname mismatch.*check --ca and --server-name"):
            await outcomes(target, TlsSettings(authority=authority, server_name="other.example"))
    async with serving(credentials=credentials(issue("self-made"))) as target:
        with pytest.raises(ConnectionError, match="is not accepted"):
            await outcomes(target, TlsSettings(authority=authority))


async def test_a_picker_may_want_a_certificate_from_the_gateway(tmp_path: Path) -> None:
    ours = GATEWAY.write(tmp_path / "gateway.pem")
    key = tmp_path / "key.pem"
    key.write_bytes(GATEWAY.key_pem)
    async with serving(credentials=credentials(PICKER, mutual=True)) as target:
        assert await outcomes(target, TlsSettings(certificate=ours)) == [Outcome.PASSED] * 3
        assert await outcomes(target, TlsSettings(certificate=ours, key=key)) == [Outcome.PASSED] * 3
        with pytest.raises(ConnectionError, match="wants a --client-certificate"):
            await outcomes(target, TlsSettings(), timeout_seconds=1.0)


async def test_plaintext_and_tls_do_not_meet() -> None:
    async with serving() as target:
        with pytest.raises(ConnectionError, match=r"no TLS server answers at .* or give --plaintext"):
            await outcomes(target, TlsSettings())
    async with serving(credentials=credentials(PICKER)) as target:
        with pytest.raises(ConnectionError, match=r"whether it wants TLS \(--tls\)"):
            await outcomes(target, None, timeout_seconds=1.0)


def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with pytest.raises(TlsFileError, match=r"--ca .*empty\.pem cannot be used .* give a PEM file"):
        TlsSettings(authority=empty).context()
    with pytest.raises(TlsFileError, match=r"--client-certificate .*empty\.pem cannot be used"):
        TlsSettings(certificate=empty).context()
