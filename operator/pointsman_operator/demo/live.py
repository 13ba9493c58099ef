"""What the demo shows while it runs."""

from collections.abc import Mapping

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pointsman_operator.demo.scoreboard import Scoreboard, Tally
from pointsman_policy.evaluation.metrics import figures
from pointsman_policy.evaluation.table import MISSING, milliseconds, number, percent

_HEADINGS = (
    "sent",
    "an-\nswered",
    "dropped",
    "failed",
    "mean\nQoS",
    "SLO\nmet",
    "quality",
    "TTFT\np50 ms",
    "NTPOT\np50 ms",
)
_PLAIN_SECONDS = 15.0
"""Between lines where there is no terminal to draw on."""


class LiveView:
    """Draws a scoreboard.

    Args:
        scoreboard: What to draw.
        console: Where.
        total_seconds: When all clients will have ended at the latest, as far as is known.
    """

    def __init__(self, scoreboard: Scoreboard, console: Console, total_seconds: float) -> None:
        self._scoreboard = scoreboard
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn()
        )
        self._task = self._progress.add_task("sending", total=total_seconds)
        self._console = console
        self._next_line = _PLAIN_SECONDS

    def render(self, elapsed: float, cpu: Mapping[str, float]) -> RenderableType:
        """Return what is to be seen now.

        Args:
            elapsed: Seconds since the start.
            cpu: Share of one core that each part takes.
        """
        over = elapsed > self._scoreboard.workload.span_seconds
        self._progress.update(
            self._task, completed=elapsed, description="waiting for the last answers" if over else "sending"
        )
        shares = ", ".join(f"{name} {share:.0%}" for name, share in cpu.items())
        return Group(self._progress, live_table(self._scoreboard, elapsed), Text(f"CPU: {shares}", style="dim"))

    def print_line(self, elapsed: float) -> None:
        """Print a line now and then."""
        if elapsed < self._next_line:
            return
        self._next_line += _PLAIN_SECONDS
        rules = []
        for picker, tally in self._scoreboard.tallies.items():
            outcomes = tally.outcomes()
            rules.append(f"{picker} {MISSING if outcomes is None else number(float(outcomes.qos().mean()))}")
        self._console.print(f"{elapsed:.0f} s, mean QoS so far: {', '.join(rules)}", highlight=False, soft_wrap=True)


def live_table(scoreboard: Scoreboard, elapsed: float) -> Table:
    """Return the rules' figures so far, over requests that have ended."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("rule", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    sent = str(scoreboard.sent_by(elapsed))
    for picker, tally in scoreboard.tallies.items():
        counts = (str(tally.answered), str(tally.dropped), str(tally.failed))
        table.add_row(picker, sent, *counts, *_figure_cells(tally))
    return table


def _figure_cells(tally: Tally) -> tuple[str, ...]:
    outcomes = tally.outcomes()
    if outcomes is None:
        return (MISSING,) * 5
    now = figures(outcomes)
    return (
        number(now.mean_qos),
        percent(now.slo_attainment_ratio),
        number(now.mean_quality_served),
        milliseconds(now.ttft_seconds_p50),
        milliseconds(now.ntpot_seconds_p50),
    )
