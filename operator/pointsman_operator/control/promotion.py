"""The conditions that speak of trained versions: whether the last one came into service, and whether it is still right.

PolicyPromoted is True when the newest version serves, False when it was refused or withdrawn, and Unknown while one is
under way or nobody can tell. What a stage waits for is in ``status.candidate``.
"""

from collections.abc import Sequence

from pointsman_operator.control.conditions import Finding
from pointsman_operator.control.rollout_document import Candidate
from pointsman_operator.control.rollouts import PACKAGED, Drift, PolicyRollout, RolloutReport

_CANDIDATES = {
    "Waiting": ("WaitingForPromotion", "passed the gate and waits for `pointsman policies promote`"),
    "Shadow": ("Shadow", "is in shadow: it decides beside the active version, and its decisions are only compared"),
    "Canary": ("Canary", "is in canary: it serves {percent} % of requests, which are compared with the others"),
}


def policy_promoted(rollout: PolicyRollout) -> Finding:
    """Tell whether the newest version has come into service."""
    if rollout.unreachable:
        message = f"The policy service does not answer ({rollout.unreachable}). Routers go on with what they have."
        return Finding("PolicyPromoted", "Unknown", "PolicyServiceUnreachable", message)
    if rollout.refusal:
        return Finding("PolicyPromoted", "False", "SettingsRefused", f"The policy service refuses: {rollout.refusal}")
    report = rollout.report
    if report is None:
        return Finding("PolicyPromoted", "Unknown", "NotConfigured", "The policy service does not know the policy yet.")
    found = _under_way(report.candidate) if report.candidate is not None else _verdict(report)
    if not report.problem:
        return found
    return Finding(found.type, found.status, found.reason, f"{found.message} Held up: {report.problem}")


def latency_model_fits(rollout: PolicyRollout) -> Finding:
    """Tell whether the experts are as fast as the active version believes."""
    report = rollout.report
    if report is None:
        reason = "PolicyServiceUnreachable" if rollout.unreachable else "NotConfigured"
        return Finding("LatencyModelFits", "Unknown", reason, "Nothing is known of the experts; see PolicyPromoted.")
    if not report.judged_experts:
        message = "No expert has answered enough requests yet to tell how fast it is."
        return Finding("LatencyModelFits", "Unknown", "TooFewOutcomes", message)
    if report.drifts:
        parts = [
            f"{what} than believed: {', '.join(experts)}"
            for what, experts in (("slower", _experts(report.drifts, True)), ("faster", _experts(report.drifts, False)))
            if experts
        ]
        message = f"Experts are {'; '.join(parts)}. Training measures them anew; check nodes whose experts slowed down."
        return Finding("LatencyModelFits", "False", "Drifted", message)
    return Finding("LatencyModelFits", "True", "Fits", "Every expert is as fast as the active version believes.")


def _under_way(candidate: Candidate) -> Finding:
    reason, text = _CANDIDATES.get(candidate.stage, ("UnderWay", "is under way"))
    percent = candidate.canary.percent if candidate.canary is not None else 0
    message = f"Version {candidate.version} {text.format(percent=percent)}."
    return Finding("PolicyPromoted", "Unknown", reason, message)


def _verdict(report: RolloutReport) -> Finding:
    newest = report.history[0] if report.history else None
    goes_on = f"Routers run {_named(report.active_version)}."
    if newest is not None and newest.stage == "Active":
        message = f"{_capital(_named(newest.version))} is active: {newest.reason}."
        return Finding("PolicyPromoted", "True", "Promoted", message)
    if report.training_phase in ("loading", "calibrating", "training"):
        return Finding("PolicyPromoted", "Unknown", "Training", f"A version is being trained. {goes_on}")
    if report.training_phase == "gating":
        return Finding("PolicyPromoted", "Unknown", "Gating", f"A version is being judged by the gate. {goes_on}")
    if newest is not None and newest.stage == "Rejected":
        message = f"Version {newest.version} did not pass the gate: {newest.reason}. {goes_on}"
        return Finding("PolicyPromoted", "False", "Rejected", message)
    if newest is not None and newest.stage == "RolledBack":
        message = f"Version {newest.version} was withdrawn: {newest.reason}. {goes_on}"
        return Finding("PolicyPromoted", "False", "RolledBack", message)
    message = f"No version was trained yet; spec.training says when that happens. {goes_on}"
    return Finding("PolicyPromoted", "Unknown", "NoCandidate", message)


def _experts(drifts: Sequence[Drift], slower: bool) -> list[str]:
    return sorted(one.expert for one in drifts if one.slower is slower)


def _named(version: str) -> str:
    return "the packaged policy" if version == PACKAGED else f"version {version}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
