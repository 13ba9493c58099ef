"""Figures of the suite: ratios to the best peer, scenario by scenario."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pointsman_policy.evaluation.html import STYLE, Html
from pointsman_policy.evaluation.plots import Axis, diamond, line, mark_label, rows_plot
from pointsman_policy.evaluation.standings import Ratio, Standings, Where
from pointsman_policy.evaluation.targets import may_drop, served


@dataclass(frozen=True)
class Ratios:
    """A diamond with a whisker in each row, and a mark at 1."""

    title: str
    values: Sequence[Ratio]
    limits: tuple[float, float]

    def axis(self, left: float, width: float) -> Axis:
        """Return the scale that holds all rows."""
        return Axis(*self.limits, left, width - 44)

    def draw(self, row: int, y: float, axis: Axis) -> list[Html]:
        """Return mark, whisker, diamond and value."""
        ratio = self.values[row]
        one = axis.at(1.0)
        marks = [line(one, y - 12, one, y + 12, "var(--bad)", 1.5)]
        if math.isnan(ratio.value):
            return marks
        end = axis.at(ratio.value)
        if math.isfinite(ratio.low):
            marks.append(line(axis.at(ratio.low), y, axis.at(ratio.high), y, "var(--accent)", 2.5))
            end = max(end, axis.at(ratio.high))
        return [*marks, diamond(axis.at(ratio.value), y), mark_label(end + 8, y + 4, f"{ratio.value:.2f}")]


def ratios_plot(standings: Standings, subject: str) -> Html:
    """Return the ratios of a subject's mean QoS to the best peer's; rows are scenarios, panels ways of admission."""
    peers = [peer.name for peer in standings.contestants("peer")]
    panels, rows = [], list(standings.by_scenario())
    found = {
        title: _of_rows(standings, subject, peers, where)
        for title, where in (("may drop", may_drop), ("never drop, loads up to 0.9", served))
        if standings.workloads(where)
    }
    rows = list(dict.fromkeys(row for of_title in found.values() for row in of_title))
    none = Ratio(math.nan, math.nan, math.nan, "")
    values = [ratio.value for of_title in found.values() for ratio in of_title.values() if math.isfinite(ratio.value)]
    limits = (min([*values, 1.0]) - 0.05, max([*values, 1.0]) + 0.05)
    panels = [Ratios(title, [of_title.get(row, none) for row in rows], limits) for title, of_title in found.items()]
    return rows_plot(f"Ratios of {subject}'s mean QoS to the best peer's, by scenario", rows, panels)


def _of_rows(standings: Standings, subject: str, peers: Sequence[str], where: Where) -> dict[str, Ratio]:
    return {
        name.removesuffix(", never drop"): standings.against_best(subject, peers, chosen)
        for name, chosen in standings.by_scenario(where).items()
    }


def standalone(drawing: Html) -> str:
    """Return a drawing as an SVG file of its own."""
    opened = drawing.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    head, end, rest = opened.partition(">")
    return f"{head}{end}<style>{STYLE}</style>{rest}\n"
