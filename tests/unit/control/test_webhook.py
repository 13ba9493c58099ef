"""Admission: what is refused, what is warned of, and how the server behaves."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.cluster.certificates import CertificateAuthority
from tests.unit.control.subjects import PICKERS, manifest

from pointsman_operator.control.certificates import ServerCertificate
from pointsman_operator.control.settings import WebhookSettings
from pointsman_operator.control.validation import Claim
from pointsman_operator.control.webhook import AdmissionServer, review

OLDER = Claim("2026-10-01T00:00:00Z", "edge/older", "edge-chat")
YOUNGER = Claim("2026-12-01T00:00:00Z", "edge/younger", "edge-chat")
WRONG = {"spec__picker": {"name": "Unheard"}}


@pytest.mark.parametrize(
    ("now", "before", "claims", "problem"),
    [
        ({}, None, [], ""),
        (WRONG, None, [], "spec.picker.name: no picker is called 'Unheard'"),
        ({}, None, [OLDER], "spec.modelName: 'edge-chat' belongs to the older policy edge/older"),
        ({}, None, [YOUNGER], ""),
        ({"metadata__creationTimestamp": None}, None, [YOUNGER], "spec.modelName: 'edge-chat' belongs to"),
        ({}, None, [Claim("2026-10-01T00:00:00Z", "edge/chat", "edge-chat")], ""),
        ({"spec__experts__port": 1}, {}, [OLDER], ""),
        (
            {"spec__modelName": "edge-chat"},
            {"spec__modelName": "other"},
            [OLDER],
            "spec.modelName: 'edge-chat' belongs",
        ),
        (WRONG, {}, [], "spec.picker.name: no picker is called 'Unheard'"),
        ({**WRONG, "metadata__labels": {"a": "b"}}, WRONG, [], ""),
        (WRONG, {"spec": None}, [], "spec.picker.name: no picker is called 'Unheard'"),
        ({}, {"spec": None}, [], ""),
        ({"spec": None}, None, [], "spec: "),
        ({"metadata": None}, None, [], "metadata: "),
    ],
)
def test_the_verdict(now: dict[str, Any], before: dict[str, Any] | None, claims: list[Claim], problem: str) -> None:
    stored = None if before is None else manifest(**before)
    verdict = review(manifest(**now), stored, claims, PICKERS)
    assert verdict.problem.startswith(problem)
    assert bool(verdict.problem) == bool(problem)


def test_doubts_and_what_stays_wrong_are_warnings() -> None:
    assert "no latency objective" in review(manifest(spec__objectives={}), None, [], PICKERS).warnings[0]
    (warning,) = review(manifest(**WRONG, metadata__labels={"a": "b"}), manifest(**WRONG), [], PICKERS).warnings
    assert warning.startswith("stays invalid: spec.picker.name")


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path)


@pytest.fixture
def settings(authority: CertificateAuthority) -> WebhookSettings:
    pair = authority.issue("webhook", ["127.0.0.1"])
    return WebhookSettings(host="127.0.0.1", port=0, certificate=pair.certificate, key=pair.key)


@contextlib.asynccontextmanager
async def _serving(
    settings: WebhookSettings, answer: Callable[..., Any], changed: Callable[[int | None], None] = lambda port: None
) -> AsyncIterator[tuple[AdmissionServer, str]]:
    server = AdmissionServer(settings, changed)
    serving = server(answer)
    async with contextlib.aclosing(serving):  # type: ignore[type-var]
        yield server, (await anext(serving))["url"]


async def _echo(document: Any, **rest: Any) -> dict[str, Any]:
    return {"uid": document["request"]["uid"], "webhook": rest["webhook"]}


async def test_reviews_are_handed_to_kopf_by_their_path(
    settings: WebhookSettings, authority: CertificateAuthority
) -> None:
    context = ssl.create_default_context(cafile=authority.certificate)
    async with _serving(settings, _echo) as (_, url), aiohttp.ClientSession() as session:
        body = {"request": {"uid": "u"}}
        async with session.post(f"{url}/validate-routerpolicy", json=body, ssl=context) as response:
            assert await response.json() == {"uid": "u", "webhook": "validate-routerpolicy"}


async def test_whoever_waits_for_the_webhook_is_told_when_it_serves_and_when_not(settings: WebhookSettings) -> None:
    told: list[int | None] = []
    async with _serving(settings, _echo, told.append) as (_, url):
        assert told == [int(url.rpartition(":")[2])]
    assert told[1:] == [None]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"request": {}}', b"\xff\xfe"])
async def test_what_is_no_review_is_answered_and_harms_nobody(
    settings: WebhookSettings, authority: CertificateAuthority, body: bytes
) -> None:
    context = ssl.create_default_context(cafile=authority.certificate)
    async with _serving(settings, _echo) as (_, url), aiohttp.ClientSession() as session:
        async with session.post(f"{url}/validate-routerpolicy", data=body, ssl=context) as response:
            assert response.status == 400
            assert "not an admission review" in (await response.json())["error"]
        async with session.post(f"{url}/x", json={"request": {"uid": "u"}}, ssl=context) as response:
            assert response.status == 200


async def test_connections_before_and_after_a_rotation_work(
    settings: WebhookSettings, authority: CertificateAuthority
) -> None:
    context = ssl.create_default_context(cafile=authority.certificate)
    async with _serving(settings, _echo) as (server, url):
        host, port = "127.0.0.1", int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
        old = writer.get_extra_info("peercert")["serialNumber"]
        authority.issue("webhook", ["127.0.0.1"])
        assert server.certificate.refresh()
        request = b'POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 24\r\n\r\n{"request": {"uid": "u"}}'
        request = request.replace(b"24", b"25")
        writer.write(request)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        _, fresh = await asyncio.open_connection(host, port, ssl=context)
        assert fresh.get_extra_info("peercert")["serialNumber"] != old
        for one in (writer, fresh):
            one.close()
            await one.wait_closed()


def test_half_of_a_new_pair_changes_nothing(settings: WebhookSettings, authority: CertificateAuthority) -> None:
    served = ServerCertificate(settings.certificate, settings.key)
    assert not served.refresh()
    other = authority.issue("other", ["127.0.0.1"])
    settings.certificate.write_bytes(other.certificate.read_bytes())
    assert not served.refresh()
    settings.key.write_bytes(other.key.read_bytes())
    assert served.refresh()
    assert not served.refresh()
    settings.key.unlink()
    assert not served.refresh()


def test_a_certificate_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ServerCertificate(tmp_path / "absent.crt", tmp_path / "absent.key")
