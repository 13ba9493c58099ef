"""What a routing policy must reach on the suite to be worth its name, checked on the standings."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pointsman_policy.evaluation.contestants import Contestant
from pointsman_policy.evaluation.standings import Ratio, Standings, Where
from pointsman_policy.evaluation.suite import SuiteScenario
from pointsman_policy.evaluation.table import number

DROP_SUITE, DROP_SCENARIO, DROP_CELL = 1.10, 1.05, 0.98
"""Least ratio to the best peer where requests may be shed: over the suite, in each scenario, in each cell."""
NEVER_SUITE, NEVER_LOAD = 1.10, 0.9
"""Least ratio to the best peer where all must be served, over loads up to this one."""
TRUE_LENGTHS, TRUE_LENGTHS_LONG = 0.95, 0.92
"""Least ratio to the same policy with true answer lengths; the second for long answers of chats."""
STALE, OPTIMISTIC = 0.95, 0.85
"""Least share of the fresh state's mean QoS that is kept with stale state and with beliefs that are 30 % too short."""
PREDICTOR = 0.99
"""Least ratio to the same policy without a predictor."""


@dataclass(frozen=True)
class Target:
    """One target and whether it is met."""

    subject: str
    name: str
    least: float
    figure: float
    """What was reached; NaN if nothing of the suite tells."""
    detail: str
    """Against whom, where."""
    inclusive: bool = True
    """Whether the figure may equal `least`."""

    @property
    def passed(self) -> bool:
        """Whether it is met; unknown is not."""
        return self.figure >= self.least if self.inclusive else self.figure > self.least


def check_targets(standings: Standings) -> list[Target]:
    """Return all targets for every subject; the first subject's are those that count.

    Without peers, or without the scenarios that a target is about, the target is left out.
    """
    subjects = standings.contestants("subject")
    targets: list[Target] = []
    for subject in subjects:
        targets += _against_peers(standings, subject.name)
        targets += _against_references(standings, subject.name)
        targets += _against_constants(standings, subject.name)
    if subjects:
        targets += _robustness(standings, subjects[0].name, subjects[1:])
    return targets


def may_drop(scenario: SuiteScenario, load: float) -> bool:
    """Choose cells where requests may be shed."""
    return not scenario.never


def served(scenario: SuiteScenario, load: float) -> bool:
    """Choose cells where all must be served, up to the highest load that counts."""
    return scenario.never and load <= NEVER_LOAD


def _against_peers(standings: Standings, subject: str) -> Iterator[Target]:
    peers = [peer.name for peer in standings.contestants("peer")]
    if not peers:
        return
    if standings.workloads(may_drop):
        over_all = standings.against_best(subject, peers, may_drop)
        yield _target(subject, "may drop: over the suite", DROP_SUITE, over_all)
        scenarios = ratios(standings, subject, peers, standings.by_scenario(may_drop))
        yield _target(subject, "may drop: worst scenario", DROP_SCENARIO, _worst(scenarios))
        cells = ratios(standings, subject, peers, standings.by_cell(may_drop))
        yield _target(subject, "may drop: worst cell", DROP_CELL, _worst(cells))
    if standings.workloads(served):
        over_served = standings.against_best(subject, peers, served)
        yield _target(subject, f"never drop: over loads up to {NEVER_LOAD:g}", NEVER_SUITE, over_served)


def _against_references(standings: Standings, subject: str) -> Iterator[Target]:
    kinds = (
        ("true lengths: worst scenario", TRUE_LENGTHS, False),
        ("true lengths: worst with long answers", TRUE_LENGTHS_LONG, True),
    )
    for reference in standings.contestants("reference", subject):
        if reference.knowledge == "true lengths":
            for name, least, long in kinds:
                chosen = standings.by_scenario(_answers(long))
                if chosen:
                    yield _target(subject, name, least, _worst(ratios(standings, subject, [reference.name], chosen)))
    for ablation in standings.contestants("ablation", subject):
        if ablation.knowledge == "model means":
            yield _target(
                subject, "predictor's worth over the suite", PREDICTOR, standings.ratio(subject, ablation.name)
            )


def _answers(long: bool) -> Where:
    return lambda scenario, load: scenario.long_answers == long


def _against_constants(standings: Standings, subject: str) -> Iterator[Target]:
    for constant in standings.contestants("constant"):
        paired = standings.difference(subject, constant.name)
        if paired is not None:
            detail = f"{paired.interval.mean:+.4f} mean QoS over {constant.name}, over the suite"
            yield Target(subject, "over constant parameters: lower bound", 0.0, paired.interval.low, detail, False)


def _robustness(standings: Standings, subject: str, rules: Sequence[Contestant]) -> Iterator[Target]:
    for scenario in standings.plan.scenarios:
        where = standings.by_scenario().get(scenario.name)
        if where is None or not scenario.adverse:
            continue
        for rule in rules:
            paired = standings.difference(subject, rule.name, where)
            if paired is not None:
                detail = f"{paired.interval.mean:+.4f} mean QoS over {rule.name}"
                yield Target(subject, f"{scenario.name}: lower bound", 0.0, paired.interval.low, detail, False)
        least = _least_kept(scenario)
        if least is not None:
            kept = standings.retention(subject, scenario)
            detail = f"of its mean QoS in {scenario.reference!r}"
            yield Target(subject, f"{scenario.name}: kept", least, kept.value, detail)


def _least_kept(scenario: SuiteScenario) -> float | None:
    if not scenario.reference:
        return None
    return {"stale": STALE, "optimistic": OPTIMISTIC}.get(scenario.adverse)


def ratios(standings: Standings, subject: str, others: Sequence[str], cells: dict[str, Where]) -> list[Ratio]:
    """Return the ratio to the best of the others in each of the cells."""
    return [standings.against_best(subject, others, where, name) for name, where in cells.items()]


def _worst(found: Sequence[Ratio]) -> Ratio:
    known = [ratio for ratio in found if not math.isnan(ratio.value)]
    return min(known, key=lambda ratio: ratio.value, default=Ratio(math.nan, math.nan, math.nan, ""))


def _target(subject: str, name: str, least: float, ratio: Ratio) -> Target:
    detail = f"to {ratio.other} ({number(ratio.low)} to {number(ratio.high)})"
    return Target(subject, name, least, ratio.value, f"{detail}, {ratio.place}" if ratio.place else detail)
