"""What a run of continuous learning found: how much of what could be regained was."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from pointsman_operator.demo.drift import DECLARED, INFORMED, LANES, LEARNING
from pointsman_operator.demo.scoreboard import Scoreboard
from pointsman_policy.evaluation.learning_plots import plot_over_time

_MARKS = ("change", "training", "active", "harm", "rolled back")
_RESAMPLES = 2_000
_BLOCK = 25
"""Requests that are resampled together: neighbours share their queues."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened during a run."""

    at_seconds: float
    """Since the start."""
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """Share of what could be regained that was: 0 = as if nothing had been learned, 1 = as if all had been told."""

    share: float
    low: float
    """Of its 95 % interval, by block bootstrap."""
    high: float


@dataclass(frozen=True, slots=True)
class Harm:
    """What a harmful version cost before it was withdrawn."""

    percent: int = 0
    """Share of the requests that it decided on."""
    requests: int = 0
    """That it had decided on by then."""
    qos: float = 0.0
    """Lost on them against the control, summed."""


@dataclass(frozen=True, slots=True, eq=False)
class LearningResult:
    """Everything that a run found."""

    out: Path
    moments: tuple[Moment, ...]
    mean_qos: Mapping[str, Mapping[str, float]]
    """By phase ("before", "changed", "after") and by lane."""
    recovery: Recovery
    harm: Harm
    requests: Mapping[str, int]
    """In each phase, for each lane."""
    failed: int
    """Requests of any lane that got no answer, though they were not shed."""


def summarise(
    out: Path, scoreboard: Scoreboard, moments: Sequence[Moment], harm: Harm, settle_seconds: float, seed: int
) -> LearningResult:
    """Compute the figures, and write `results.json` and `qos.png`.

    Args:
        out: Folder for them.
        scoreboard: What became of the requests.
        moments: What happened, the change and the promotion among it.
        harm: Of the harmful version.
        settle_seconds: After each of these: what is left out.
        seed: Of the bootstrap.

    Raises:
        OSError: If a file cannot be written.
    """
    at = {moment.name: moment.at_seconds for moment in moments}
    arrivals, qos = _paired(scoreboard)
    spans = {
        "before": (0.0, at["change"]),
        "changed": (at["change"] + settle_seconds, at["training"]),
        "after": (at["active"] + settle_seconds, at["harm"]),
    }
    rows = {phase: (arrivals >= start) & (arrivals < end) for phase, (start, end) in spans.items()}
    means = {phase: {lane: float(qos[lane][chosen].mean()) for lane in LANES} for phase, chosen in rows.items()}
    after = {lane: values[rows["after"]] for lane, values in qos.items()}
    recovery = _recovery(after, np.random.default_rng(seed))
    counts = {phase: int(chosen.sum()) for phase, chosen in rows.items()}
    failed = sum(tally.failed for tally in scoreboard.tallies.values())
    result = LearningResult(out, tuple(moments), means, recovery, harm, counts, failed)
    document = {
        "meanQos": means,
        "requests": counts,
        "failed": failed,
        "recovery": asdict(recovery),
        "harm": asdict(harm),
        "moments": [asdict(moment) for moment in moments],
    }
    (out / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    marks = {moment.name: moment.at_seconds for moment in moments if moment.name in _MARKS}
    plot_over_time(out / "qos.png", arrivals, qos, marks)
    return result


def show(result: LearningResult, console: Console) -> None:
    """Print the result."""
    table = Table("mean QoS", *LANES)
    for phase, means in result.mean_qos.items():
        table.add_row(f"{phase} ({result.requests[phase]} requests)", *(f"{means[lane]:.3f}" for lane in LANES))
    console.print(table)
    recovery = result.recovery
    console.print(
        f"regained of what there was to regain: {100 * recovery.share:.0f} % "
        f"(95 %: {100 * recovery.low:.0f} to {100 * recovery.high:.0f} %)",
        highlight=False,
    )
    harm = result.harm
    console.print(
        f"a harmful version at {harm.percent} % was withdrawn after {harm.requests} requests, which lost "
        f"{harm.qos:.1f} QoS",
        highlight=False,
    )
    console.print(f"requests that failed, swaps and rollback included: {result.failed}", highlight=False)
    console.print(f"figures and plot: {result.out}", highlight=False, soft_wrap=True)


def _paired(scoreboard: Scoreboard) -> tuple[Floats, dict[str, Floats]]:
    """Return arrival times and QoS by lane of the requests that have ended in all lanes, in order of arrival."""
    count = len(scoreboard.workload.requests)
    qos = {lane: np.zeros(count) for lane in LANES}
    everywhere = np.ones(count, np.bool_)
    for lane in LANES:
        tally = scoreboard.tallies[lane]
        outcomes, ended = tally.outcomes(), tally.ended()
        if outcomes is not None:
            qos[lane][ended] = outcomes.qos()
        everywhere &= ended
    arrivals = scoreboard.workload.requests.arrival_seconds[everywhere]
    return arrivals, {lane: values[everywhere] for lane, values in qos.items()}


def _recovery(qos: Mapping[str, Floats], rng: np.random.Generator) -> Recovery:
    def share(rows: npt.NDArray[np.int64] | slice) -> float:
        declared, learning, informed = (float(qos[lane][rows].mean()) for lane in (DECLARED, LEARNING, INFORMED))
        return (learning - declared) / (informed - declared) if informed != declared else 0.0

    count = len(qos[LEARNING])
    blocks = -(-count // _BLOCK)
    found = []
    for _ in range(_RESAMPLES):
        starts = rng.integers(0, max(count - _BLOCK, 1), blocks)
        rows = (starts[:, None] + np.arange(min(_BLOCK, count))).ravel()[:count]
        found.append(share(rows))
    low, high = np.percentile(found, [2.5, 97.5])
    return Recovery(share(slice(None)), float(low), float(high))
