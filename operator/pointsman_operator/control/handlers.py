"""The kopf handlers: they keep what is stored of RouterPolicies at hand, and answer the admission webhook.

None of them writes to an object, so kopf adds neither finalizers nor annotations.
"""

from collections.abc import Callable
from typing import Any

import kopf

from pointsman_operator.control import webhook
from pointsman_operator.control.crd import GROUP, PLURAL, VERSION
from pointsman_operator.control.facts import Facts, Stored
from pointsman_operator.control.metrics import OperatorMetrics

_WHERE = (GROUP, VERSION, PLURAL)
_RETRY_SECONDS = 2.0


def make_registry(
    facts: Facts,
    metrics: OperatorMetrics,
    connect: Callable[[], kopf.ConnectionInfo],
    changed: Callable[[], None],
    *,
    admission: bool,
) -> kopf.OperatorRegistry:
    """Return the handlers for one run of kopf.

    Args:
        facts: Told where stored statuses are found; asked for the model names that are taken.
        metrics: Counts admission reviews.
        connect: Returns server and credentials.
        changed: Called after every change of a RouterPolicy.
        admission: Whether the webhook is served.
    """
    registry = kopf.OperatorRegistry()

    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        return connect()

    async def remember(**indices: Any) -> None:
        stored: kopf.Index[str, Stored] = indices["stored"]
        facts.stored = lambda uid: next(iter(stored.get(uid, ())), None)

    async def index(body: kopf.Body, **_: Any) -> dict[str, Stored]:
        status = body.get("status")
        version = str(body.metadata.get("resourceVersion") or "")
        return {str(body.metadata.get("uid")): Stored(version, status if isinstance(status, dict) else None)}

    async def note(**_: Any) -> None:
        changed()

    async def validate(body: kopf.Body, warnings: list[str], **rest: Any) -> None:
        old = rest.get("old")
        verdict = webhook.review(dict(body), dict(old) if old is not None else None, facts.claims(), facts.picker_names)
        metrics.reviewed("refused" if verdict.problem else "warned" if verdict.warnings else "allowed")
        warnings.extend(verdict.warnings)
        if verdict.problem:
            raise webhook.refuse(verdict.problem)

    kopf.on.login(id="log-in", backoff=_RETRY_SECONDS, registry=registry)(log_in)
    kopf.on.startup(id="remember", registry=registry)(remember)
    kopf.index(*_WHERE, id="stored", registry=registry)(index)
    kopf.on.event(*_WHERE, id="note", registry=registry)(note)
    if admission:
        kopf.on.validate(*_WHERE, id=webhook.PATH, operations=["CREATE", "UPDATE"], registry=registry)(validate)
    return registry
