"""The suite's results as grids of text, for the terminal, for the report and for documents alike."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pointsman_policy.evaluation.contestants import Contestant, Role
from pointsman_policy.evaluation.standings import Ratio, Standings, Where
from pointsman_policy.evaluation.table import MISSING, difference, number, percent
from pointsman_policy.evaluation.targets import Target, may_drop, served

DETAIL = "Detail"
"""Heading of a column that can be left out where there is no room."""
_SHOWN_QUALITIES: tuple[Role, ...] = ("subject", "constant", "peer", "other", "ablation", "reference")


@dataclass(frozen=True)
class Grid:
    """A table of text; the first column names the rows."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marks: tuple[str, ...]
    """better, worse or "" for each row."""
    wide: bool = False
    """Whether it has too many columns for a terminal."""

    def markdown(self) -> str:
        """Return it as a table of a Markdown document."""
        lines = [self.headings, tuple("---" for _ in self.headings), *self.rows]
        return f"### {self.title}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in lines)


def suite_grids(standings: Standings, targets: Sequence[Target]) -> list[Grid]:
    """Return all tables of a suite that has at least one finished workload."""
    grids = [_targets(targets)] if targets else []
    grids += [_ratios(standings, subject.name) for subject in standings.contestants("subject")]
    grids.append(_qualities(standings))
    grids.append(_overall(standings))
    if any(scenario.adverse for scenario in standings.plan.scenarios):
        grids.append(_adversity(standings))
    return grids


def _grid(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], marks: Sequence[str] = ()) -> Grid:
    return Grid(title, tuple(headings), tuple(map(tuple, rows)), tuple(marks) or ("",) * len(rows))


def _targets(targets: Sequence[Target]) -> Grid:
    rows = [
        (
            target.name,
            target.subject,
            f"{'at least' if target.inclusive else 'above'} {target.least:g}",
            number(target.figure, 3 if target.least else 4),
            "pass" if target.passed else "miss",
            target.detail,
        )
        for target in targets
    ]
    headings = ("Target", "Policy", "Wanted", "Reached", "Verdict", DETAIL)
    return _grid("Targets", headings, rows, ["better" if target.passed else "worse" for target in targets])


def _ratios(standings: Standings, subject: str) -> Grid:
    peers = _peer_groups(standings)
    everyone = [name for names in peers.values() for name in names]
    whole: dict[str, Where] = {"All, may drop": may_drop, "All, never drop, loads up to 0.9": served}
    whole = {title: where for title, where in whole.items() if standings.workloads(where)}
    rows = []
    for place, where in {**standings.by_scenario(), **whole}.items():
        ratios = [standings.against_best(subject, names, where) for names in peers.values()]
        cells = [standings.against_best(subject, everyone, of_cell) for of_cell in standings.by_cell(where).values()]
        worst = min((ratio.value for ratio in cells if not math.isnan(ratio.value)), default=math.nan)
        overall = standings.against_best(subject, everyone, where)
        rows.append((place, _ratio(overall), *(number(ratio.value, 2) for ratio in ratios), number(worst, 2)))
    headings = ("Scenario", "Best peer", *peers, "Worst cell")
    return _grid(f"Mean QoS of {subject} over that of its peers, all loads together", headings, rows)


def _peer_groups(standings: Standings) -> dict[str, list[str]]:
    """Return the names of each peer's variants, default and tuned."""
    groups: dict[str, list[str]] = {}
    for peer in standings.contestants("peer"):
        groups.setdefault(peer.of or peer.name, []).append(peer.name)
    return groups


def _ratio(ratio: Ratio) -> str:
    if math.isnan(ratio.value):
        return MISSING
    if math.isnan(ratio.low):
        return number(ratio.value, 2)
    return f"{number(ratio.value, 2)} ({number(ratio.low, 2)} to {number(ratio.high, 2)})"


def _qualities(standings: Standings) -> Grid:
    """Return mean QoS over loads of everybody."""
    names = [one.name for role in _SHOWN_QUALITIES for one in standings.contestants(role)]
    first = standings.contestants("subject")[0].name
    rows = []
    for place, where in standings.by_scenario().items():
        values = [number(standings.mean(name, where)) for name in names]
        rows.append((place, *values, percent(standings.drop_ratio(first, where), 0)))
    grid = _grid("Mean QoS over all loads", ("Scenario", *names, f"{first} drops"), rows)
    return replace(grid, wide=True)


def _overall(standings: Standings) -> Grid:
    first = standings.contestants("subject")[0].name
    rows = []
    for one in sorted(standings.plan.contestants, key=lambda one: -standings.mean(one.name)):
        paired = standings.difference(first, one.name)
        ahead = "" if paired is None or one.name == first else difference(paired)
        ratio = "" if one.name == first else number(standings.ratio(first, one.name).value)
        drops = percent(standings.drop_ratio(one.name, may_drop))
        rows.append((one.name, _role(one), number(standings.mean(one.name)), drops, ahead, ratio))
    headings = ("Policy", "Role", "Mean QoS", "Drops where it may", f"{first} is ahead by", "Ratio")
    return _grid("The whole suite", headings, rows)


def _role(one: Contestant) -> str:
    return f"{one.role} of {one.of}" if one.of else one.role


def _adversity(standings: Standings) -> Grid:
    subjects = [one.name for one in standings.contestants("subject")]
    rows = []
    for scenario in standings.plan.scenarios:
        where = standings.by_scenario().get(scenario.name)
        if not scenario.adverse or where is None:
            continue
        row = [scenario.name]
        for name in subjects:
            kept = standings.retention(name, scenario).value if scenario.reference else math.nan
            row += [number(standings.mean(name, where)), percent(kept)]
        for other in subjects[1:]:
            paired = standings.difference(subjects[0], other, where)
            row.append(MISSING if paired is None else difference(paired))
        rows.append(row)
    headings = [heading for name in subjects for heading in (name, f"{name} keeps")]
    headings += [f"{subjects[0]} less {other}" for other in subjects[1:]]
    return _grid("Stale state, wrong beliefs, unannounced changes", ("Scenario", *headings), rows)
