"""The conditions of a RouterPolicy, each a pure function of what is known.

Messages speak to the policy's owner: what is wrong, where, and how to mend it. They hold nothing that changes by
itself, such as ages, because every new message is a write to the API.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pointsman_operator.control.reports import PolicyReport, RouterReport
from pointsman_operator.control.status_document import LONGEST_MESSAGE, Condition, ConditionStatus
from pointsman_operator.discovery.pods import Discovered
from pointsman_operator.routerpolicy import Experts

ConditionType = Literal[
    "Accepted", "ExpertsDiscovered", "MetricsFresh", "Programmed", "PolicyPromoted", "LatencyModelFits"
]

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition without its times."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str


def accepted(problem: str, taken: str) -> Finding:
    """Tell whether the policy is valid.

    Args:
        problem: Why it is not, by itself; empty = it is.
        taken: Why it cannot have its model name; empty = it has it.
    """
    if problem:
        return Finding("Accepted", "False", "InvalidSpec", problem)
    if taken:
        return Finding("Accepted", "False", "ModelNameTaken", taken)
    return Finding("Accepted", "True", "Valid", "The policy is valid.")


def experts_discovered(experts: Experts | None, discovered: Discovered) -> Finding:
    """Tell whether there are experts, and which pods cannot be some.

    Args:
        experts: How the policy finds them; None = the policy is not valid.
        discovered: What was found.
    """
    if experts is None:
        return _not_accepted("ExpertsDiscovered")
    if lack := discovered.problems.get(""):
        return Finding("ExpertsDiscovered", "False", "InferencePoolUnusable", lack)
    if not discovered.total:
        return Finding("ExpertsDiscovered", "False", "NoPods", _nothing_selected(experts))
    wrong = [f"pod {name} {problem}" for name, problem in sorted(discovered.problems.items())]
    waiting = sorted([one.name for one in discovered.endpoints if not one.expert.ready] + list(discovered.pending))
    if not discovered.ready:
        parts = _listed("left out", wrong, "; ") + _listed("not ready", waiting)
        message = f"None of {_pods(discovered.total)} is ready: {'; '.join(parts)}."
        return Finding("ExpertsDiscovered", "False", "InvalidPods" if not waiting else "NoneReady", message)
    message = f"{discovered.ready} of {discovered.total} experts are ready"
    parts = _listed("left out", wrong, "; ") + _listed("not ready", waiting)
    message += f"; {'; '.join(parts)}." if parts else "."
    return Finding("ExpertsDiscovered", "True", "SomePodsInvalid" if wrong else "Found", message)


def metrics_fresh(reports: Iterable[tuple[str, PolicyReport]]) -> Finding:
    """Tell whether the routers know their experts' load.

    Args:
        reports: Routers that run the policy, and what they say of it.
    """
    running = list(reports)
    if not running:
        return Finding(
            "MetricsFresh", "Unknown", "NoRouterReports", "No router has reported; see condition Programmed."
        )
    if not any(report.ready_expert_count for _, report in running):
        return Finding("MetricsFresh", "Unknown", "NoExperts", "No expert is ready; see condition ExpertsDiscovered.")
    troubled = [
        f"{router}: {report.telemetry_problem}" if report.telemetry_problem else router
        for router, report in running
        if report.fresh_expert_count < report.ready_expert_count
    ]
    if troubled:
        named = any(report.telemetry_problem for _, report in running)
        message = "; ".join(_listed("the load of some experts is not known, or too old, on", troubled, "; "))
        fix = "check spec.telemetry.prometheusUrl, that Prometheus scrapes the experts, and that they serve /metrics"
        reason = "TelemetryUnavailable" if named else "Stale"
        return Finding("MetricsFresh", "False", reason, f"{_sentence(message)}; {fix}. Routing goes on without it.")
    detours = sorted({report.telemetry_problem for _, report in running if report.telemetry_problem})
    if detours:
        return Finding("MetricsFresh", "True", "ReadAnotherWay", f"The load is known, but {'; '.join(detours)}.")
    return Finding("MetricsFresh", "True", "Fresh", "The load of every ready expert is known.")


def programmed(key: str, uid: str, generation: int, routers: Sequence[RouterReport], where: str) -> Finding:
    """Tell whether every ready router runs this generation.

    Args:
        key: The policy, as "namespace/name".
        uid: Its uid.
        generation: The one at hand.
        routers: All ready routers.
        where: Where routers are looked for, for the message when there are none.
    """
    if not routers:
        message = f"No router is ready ({where}); check the router Deployment and its pods."
        return Finding("Programmed", "False", "NoRouters", message)
    silent = [f"{one.router} ({one.problem})" for one in routers if one.problem]
    refused: list[str] = []
    behind: list[str] = []
    for one in routers:
        if one.problem:
            continue
        report = one.policies.get(key)
        if report is None or report.uid != uid:
            behind.append(f"{one.router} (does not know the policy yet)")
        elif report.generation < generation:
            behind.append(f"{one.router} (runs generation {report.generation} of {generation})")
        elif report.problem:
            refused.append(f"{one.router}: {report.problem}")
    if refused:
        reason = "Refused"
    elif behind:
        reason = "Pending"
    elif silent:
        reason = "RoutersNotAnswering"
    else:
        return Finding("Programmed", "True", "AllRouters", _all_run(len(routers)))
    parts = [
        *_listed("refused by", refused, "; "),
        *_listed("not yet run by", behind),
        *_listed("no answer from", silent),
    ]
    return Finding("Programmed", "False", reason, f"{_sentence('; '.join(parts))}.")


def with_times(
    findings: Iterable[Finding], before: Iterable[Condition], generation: int, now: str
) -> tuple[Condition, ...]:
    """Return conditions ready to be stored.

    Args:
        findings: What is the case now.
        before: The stored conditions; those of types that no finding has are kept as they are.
        generation: The one that the findings are about.
        now: RFC 3339; the transition time of each condition whose status is new.
    """
    known = {condition.type: condition for condition in before}
    made = []
    for finding in findings:
        old = known.pop(finding.type, None)
        made.append(
            Condition(
                type=finding.type,
                status=finding.status,
                observed_generation=generation,
                last_transition_time=old.last_transition_time if old and old.status == finding.status else now,
                reason=finding.reason,
                message=_cut(finding.message),
            )
        )
    return (*made, *known.values())


def not_accepted_programmed(routers: Sequence[RouterReport], key: str, uid: str) -> Finding:
    """Say what the routers do while the policy is not valid."""
    older = [one.policies[key] for one in routers if key in one.policies and one.policies[key].uid == uid]
    goes_on = any(report.picker for report in older)
    message = "The policy is not valid; see condition Accepted. " + (
        "Routers go on with the last generation that was." if goes_on else "No router serves it."
    )
    return Finding("Programmed", "False", "NotAccepted", message)


def _not_accepted(kind: ConditionType) -> Finding:
    return Finding(kind, "Unknown", "NotAccepted", "The policy is not valid; see condition Accepted.")


def _nothing_selected(experts: Experts) -> str:
    if experts.selector is None:
        return "The InferencePool selects no pod of this namespace; start pods with its labels, or mend its selector."
    labels = ",".join(f"{key}={text}" for key, text in sorted(experts.selector.match_labels.items()))
    return (
        f"No pod of this namespace has the labels {labels}; start experts with them, or mend "
        "spec.experts.selector.matchLabels."
    )


def _listed(what: str, names: Sequence[str], separator: str = ", ") -> list[str]:
    """Return the names behind what they are, not more than a person reads; nothing if there are none."""
    if not names:
        return []
    more = f"{separator}and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return [f"{what} {separator.join(names[:_MOST_NAMED])}{more}"]


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"


def _all_run(count: int) -> str:
    return "The only router runs this generation." if count == 1 else f"All {count} routers run this generation."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cut(message: str) -> str:
    return message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 4] + " ..."
