"""The admission webhook: a server for kopf whose certificate changes without a restart, and the verdict itself."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import kopf
import msgspec
from aiohttp import web

from pointsman_operator.control.certificates import ServerCertificate
from pointsman_operator.control.settings import WebhookSettings
from pointsman_operator.control.validation import Claim, check, claim_of, doubts, owners, taken

_LOGGER = logging.getLogger(__name__)

PATH = "validate-routerpolicy"
_LARGEST_REVIEW_BYTES = 8 << 20
_BAD_REQUEST = 400


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the API server shall store an object."""

    problem: str = ""
    """Each wrong field and its fix; empty = it may be stored."""
    warnings: tuple[str, ...] = ()
    """What is legal but hardly meant."""


def review(
    manifest: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    claims: Iterable[Claim],
    picker_names: Collection[str],
) -> Verdict:
    """Judge a RouterPolicy that is about to be stored; never raises, whatever it is given.

    Args:
        manifest: The object.
        before: As it is stored; None = it is new.
        claims: Model names of all policies that are known.
        picker_names: The pickers there are.
    """
    checked = check(manifest, picker_names)
    if before is not None and before.get("spec") == manifest.get("spec"):
        # Labels, annotations and finalizers of a policy must not depend on whether it is right.
        return Verdict(warnings=(f"stays invalid: {checked.problem}",) if checked.problem else ())
    policy = checked.policy
    if policy is None:
        return Verdict(checked.problem)
    name = policy.spec.model_name
    others = [claim for claim in claims if claim.key != policy.key and claim.model_name == name]
    spec_before = (before or {}).get("spec")
    if not isinstance(spec_before, Mapping) or spec_before.get("modelName") != name:
        owner = owners([*others, claim_of(manifest, policy)])[name]
        if owner != policy.key:
            return Verdict(taken(policy, owner))
    return Verdict(warnings=tuple(doubts(policy)))


class AdmissionServer:
    """Serves kopf's admission handlers over HTTPS; one call for each run of kopf.

    Args:
        settings: Where, and with which certificate.
        changed: Called with the port once it listens, and with None when it no longer does.

    Raises:
        OSError: If the certificate cannot be used.
    """

    def __init__(self, settings: WebhookSettings, changed: Callable[[int | None], None]) -> None:
        self._settings = settings
        self._changed = changed
        self.certificate = ServerCertificate(settings.certificate, settings.key)

    async def __call__(self, answer: Callable[..., Any]) -> AsyncIterator[dict[str, str]]:
        """Listen, tell kopf the address, and serve until cancelled."""
        app = web.Application(client_max_size=_LARGEST_REVIEW_BYTES)

        async def serve(request: web.Request) -> web.Response:
            return await _serve(request, answer)

        app.router.add_post("/{id:.*}", serve)
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=5.0)
        await runner.setup()
        try:
            site = web.TCPSite(
                runner,
                self._settings.host,
                self._settings.port,
                ssl_context=self.certificate.context,
                reuse_address=True,
            )
            await site.start()
            port = int(runner.addresses[0][1])
            self._changed(port)
            yield {"url": f"https://{self._settings.host}:{port}"}
            await self.certificate.watch()
        finally:
            self._changed(None)
            await asyncio.shield(runner.cleanup())


async def _serve(request: web.Request, answer: Callable[..., Any]) -> web.Response:
    """Answer one review; a request that is none gets a 400, and the API server goes by its failure policy."""
    try:
        document = msgspec.json.decode(await request.read())
        reviewed = await answer(document, webhook=request.match_info["id"], sslpeer={}, headers=dict(request.headers))
    except web.HTTPException:
        raise
    except Exception as error:
        _LOGGER.warning("A request to the webhook is no admission review: %s: %s", type(error).__name__, error)
        return web.json_response({"error": f"not an admission review of a RouterPolicy ({error})"}, status=_BAD_REQUEST)
    return web.json_response(reviewed)


def refuse(problem: str) -> kopf.AdmissionError:
    """Return the error that makes the API server refuse an object."""
    return kopf.AdmissionError(problem, code=422)
