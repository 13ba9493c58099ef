"""From everything that is known about a policy to its status, and whether that is worth a write."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pydantic import ValidationError

from pointsman_operator.control.conditions import (
    ConditionType,
    Finding,
    accepted,
    experts_discovered,
    metrics_fresh,
    not_accepted_programmed,
    programmed,
    with_times,
)
from pointsman_operator.control.promotion import latency_model_fits, policy_promoted
from pointsman_operator.control.reports import PolicyReport, RouterReport
from pointsman_operator.control.rollouts import PolicyRollout
from pointsman_operator.control.status_document import ActivePolicy, Condition, ExpertCount, RouterCount, Status
from pointsman_operator.control.validation import Checked
from pointsman_operator.discovery.pods import Discovered

BUILT_IN = "built-in"
"""Shown as version of pickers whose parameters do not come from an exported policy."""
_ROLLOUT_CONDITIONS: tuple[ConditionType, ...] = ("PolicyPromoted", "LatencyModelFits")
_FIGURES = ("canary", "shadow")
"""Fields of a candidate that change with every request."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One stored RouterPolicy and what was found out about it."""

    uid: str
    generation: int
    checked: Checked
    taken: str = ""
    """Why it cannot have its model name; empty = it has it."""
    discovered: Discovered = field(default_factory=Discovered)

    @property
    def key(self) -> str:
        """As "namespace/name"."""
        return self.checked.key


class Change(Enum):
    """How urgent it is to store a new status."""

    NONE = "none"
    """It says what is stored."""
    SLOW = "slow"
    """Only a figure has moved that always moves."""
    NOW = "now"
    """It tells something else."""


def make_status(
    subject: Subject,
    routers: Sequence[RouterReport],
    where: str,
    before: Status,
    slo_attainment_percent: int | None,
    now: str,
    rollout: PolicyRollout | None = None,
) -> Status:
    """Return the status of a policy.

    Args:
        subject: The policy.
        routers: Reports of all ready routers.
        where: Where routers are looked for.
        before: The stored status.
        slo_attainment_percent: Of the last minutes; None = no requests.
        now: RFC 3339.
        rollout: What the policy service says of it; None = there is no policy service.
    """
    key, policy, discovered = subject.key, subject.checked.policy, subject.discovered
    known = [
        (one.router, one.policies[key])
        for one in routers
        if key in one.policies and one.policies[key].uid == subject.uid
    ]
    running = [(router, report) for router, report in known if report.picker]
    findings = [
        accepted(subject.checked.problem, subject.taken),
        experts_discovered(policy.spec.experts if policy else None, discovered),
        metrics_fresh(running),
        programmed(key, subject.uid, subject.generation, routers, where)
        if policy
        else not_accepted_programmed(routers, key, subject.uid),
        *_of_rollout(rollout, valid=policy is not None),
    ]
    current = [one for _, one in known if one.generation == subject.generation and not one.problem]
    return Status(
        observed_generation=subject.generation,
        conditions=with_times(findings, _kept(before.conditions, rollout), subject.generation, now),
        experts=_count(discovered) if policy else None,
        routers=RouterCount(programmed=len(current), ready=len(routers)),
        active_policy=_active((report for _, report in running), rollout)
        or (before.active_policy if routers and all(one.problem for one in routers) else None),
        slo_attainment_percent=slo_attainment_percent,
        **_progress(rollout, before),
    )


def read_status(manifest: Mapping[str, Any]) -> Status:
    """Return the status that an object has stored, as far as it can be understood."""
    stored = manifest.get("status")
    if not isinstance(stored, Mapping):
        return Status(observed_generation=0)
    try:
        return Status.model_validate(stored)
    except ValidationError:
        conditions = stored.get("conditions")
        known = [_condition(one) for one in conditions] if isinstance(conditions, list) else []
        return Status(observed_generation=0, conditions=tuple(one for one in known if one is not None))


def change(stored: Mapping[str, Any] | None, made: Status) -> Change:
    """Tell how a status differs from the stored document, whatever the order of its conditions and their times.

    Args:
        stored: The object's status; None = it has none.
        made: What it should be.
    """
    if stored is None:
        return Change.NOW
    before, after = _comparable(stored), _comparable(made.document())
    if before == after:
        return Change.NONE
    return Change.SLOW if _without_figures(before) == _without_figures(after) else Change.NOW


def merge_patch(stored: Mapping[str, Any] | None, made: Status) -> dict[str, Any]:
    """Return the JSON merge patch that makes the stored status the new one."""
    document = made.document()
    gone = {key: None for key in (stored or {}) if key not in document}
    return {"status": {**document, **gone}}


def _count(discovered: Discovered) -> ExpertCount:
    ready, total = discovered.ready, discovered.total
    return ExpertCount(ready=ready, total=total, summary=f"{ready}/{total}")


def _of_rollout(rollout: PolicyRollout | None, *, valid: bool) -> list[Finding]:
    if rollout is None:
        return []
    if not valid:
        message = "The policy is not valid; see condition Accepted."
        return [Finding(kind, "Unknown", "NotAccepted", message) for kind in _ROLLOUT_CONDITIONS]
    return [policy_promoted(rollout), latency_model_fits(rollout)]


def _kept(conditions: Iterable[Condition], rollout: PolicyRollout | None) -> list[Condition]:
    """Return the stored conditions that may stay; without a policy service, nobody answers for its own ones."""
    return [one for one in conditions if rollout is not None or one.type not in _ROLLOUT_CONDITIONS]


def _progress(rollout: PolicyRollout | None, before: Status) -> dict[str, Any]:
    """Return the fields that speak of the rollout, as they were while the service does not answer."""
    if rollout is None:
        return {}
    if rollout.report is None:
        return {"candidate": before.candidate, "history": before.history}
    return {"candidate": rollout.report.candidate, "history": rollout.report.history or None}


def _active(reports: Iterable[PolicyReport], rollout: PolicyRollout | None) -> ActivePolicy | None:
    versions = Counter(report.policy_version or BUILT_IN for report in reports)
    if not versions:
        return None
    version = min(versions, key=lambda one: (-versions[one], one))
    told = rollout.report if rollout is not None else None
    digest = told.active_digest or None if told is not None and told.active_version == version else None
    return ActivePolicy(version=version, digest=digest, stage="Active" if len(versions) == 1 else "Mixed")


def _condition(value: object) -> Condition | None:
    try:
        return Condition.model_validate(value)
    except ValidationError:
        return None


def _without_figures(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a comparable status without what always moves: figures of requests, but for whether there are any."""
    candidate = document.get("candidate")
    if isinstance(candidate, Mapping):
        canary = candidate.get("canary")
        percent = canary.get("percent") if isinstance(canary, Mapping) else None
        document = {**document, "candidate": {**candidate, **dict.fromkeys(_FIGURES, percent)}}
    return {key: "sloAttainmentPercent" if key == "sloAttainmentPercent" else one for key, one in document.items()}


def _comparable(document: Mapping[str, Any]) -> dict[str, Any]:
    conditions = document.get("conditions") or []
    by_type = {
        str(one.get("type")): {key: text for key, text in one.items() if key != "lastTransitionTime"}
        for one in conditions
        if isinstance(one, Mapping)
    }
    return {**document, "conditions": by_type}
