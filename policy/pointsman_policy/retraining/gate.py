"""The gate: a candidate reaches traffic only if it is better than what serves, on outcomes that it has not seen.

It is judged in a twin of the newest outcomes, which it was not made from: paired runs against the active version, which
has its own beliefs there, and against the best rule. Besides, it must decide in every stored state, and nothing that it
believes may be far from what was measured.
"""

import math
from collections.abc import Callable

from pointsman_policy.evaluation.paired import Interval
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.registry.version import GateReport, GateScenario
from pointsman_policy.retraining.contenders import RULE, Contender, of_rule
from pointsman_policy.retraining.evidence import Evidence
from pointsman_policy.retraining.off_policy import estimated_gain
from pointsman_policy.retraining.plausibility import implausible
from pointsman_policy.retraining.replay import replay
from pointsman_policy.retraining.trials import Results, compare, usual_trials

_CANDIDATE, _ACTIVE, _RULE, _DECLARED_RULE = "candidate", "active", "rule", "declared rule"


def judge(
    candidate: Contender,
    active: Contender,
    evidence: Evidence,
    progress: Callable[[float], None] = lambda share: None,
) -> GateReport:
    """Judge a candidate.

    Args:
        candidate: What shall serve.
        active: What serves now.
        evidence: What happened.
        progress: Called with the share that is done, 0 to 1.
    """
    problems = implausible(evidence.held_out, candidate.calibration, active.calibration)
    replayed = replay(evidence.held_out, candidate, active)
    problems += [replayed.problem] if replayed.problem else []
    gain = estimated_gain(evidence.held_out, replayed.answers)
    if gain.high < 0.0:
        loss = f"{gain.mean:+.4f} QoS ({_interval(gain.low, gain.high)})"
        problems.append(f"{gain.outcomes} explored outcomes say that it loses: {loss}")
    contenders = {
        _CANDIDATE: candidate,
        _ACTIVE: active,
        _RULE: of_rule(candidate.calibration),
        _DECLARED_RULE: of_rule(Calibration()),
    }
    results = compare(contenders, usual_trials(evidence.twin), evidence.seeds, progress)
    over_active = results.gain(_CANDIDATE, _ACTIVE)
    problems += _not_better(results, over_active)
    return GateReport(
        passed=not problems,
        summary="; ".join(problems) if problems else _praise(results, over_active),
        candidate_qos=results.mean(_CANDIDATE),
        active_qos=results.mean(_ACTIVE),
        rule_qos=results.mean(_RULE),
        gain_lower_bound=over_active.low,
        replay_agreement=replayed.agreement,
        scenarios=tuple(_scenario(results, trial) for trial in results.trials),
    )


def _not_better(results: Results, over_active: Interval) -> list[str]:
    problems = []
    if not over_active.low > 0.0:
        problems.append(f"not surely better than the active version: {_described(over_active)}")
    over_rule = results.gain(_CANDIDATE, _RULE)
    if over_rule.high < 0.0:
        problems.append(f"worse than {RULE} with the same beliefs: {_described(over_rule)}")
    over_declared = results.gain(_CANDIDATE, _DECLARED_RULE)
    if not over_declared.mean > 0.0:
        problems.append(f"no better than {RULE} with the declared beliefs: {_described(over_declared)}")
    return problems


def _praise(results: Results, over_active: Interval) -> str:
    return (
        f"better than the active version: {_described(over_active)}; "
        f"than {RULE} with the same beliefs: {_described(results.gain(_CANDIDATE, _RULE))}"
    )


def _described(gain: Interval) -> str:
    return f"{gain.mean:+.4f} QoS ({_interval(gain.low, gain.high)})"


def _interval(low: float, high: float) -> str:
    return f"95 % interval {low:+.4f} to {high:+.4f}"


def _scenario(results: Results, trial: str) -> GateScenario:
    gain = results.gain(_CANDIDATE, _ACTIVE, trial)
    return GateScenario(
        name=trial,
        candidate_qos=results.mean(_CANDIDATE, trial),
        active_qos=results.mean(_ACTIVE, trial),
        rule_qos=results.mean(_RULE, trial),
        gain=gain.mean,
        gain_low=gain.low if math.isfinite(gain.low) else gain.mean,
        gain_high=gain.high if math.isfinite(gain.high) else gain.mean,
    )
