"""How good sets of parameters are: all of them on the same situations, on as many processes as there are cores.

The score of a rule in a situation is its mean QoS over a scale: the mean QoS of the best of a few classic rules there,
but at least a quarter of what the best expert's answers would be worth if none were late. So every situation counts
about the same, also those in which the classic rules collapse, and a sum of scores is close to a ratio of means. What
a rule lacks of the best classic one counts once more, so that being good on average is not bought by being bad
somewhere.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.learning.on_ray import RayExecutor
from pointsman_policy.learning.sources import MadeUp, Source
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.randomisation import Distribution
from pointsman_policy.simulator.situation import Situation, qos, run_situation

Floats = npt.NDArray[np.float64]

CLASSICS = ("ShortestQueue", "SloFilteredQuality", "StaticPrior", "WeightedScore")
_LEAST_SHARE = 0.25
_TIES = 1


class Scores(NamedTuple):
    """What P sets of parameters reach in each of S situations."""

    qos: Floats
    """Mean QoS, [S, P]."""
    classic_qos: Floats
    """Of the best classic rule, [S]."""
    scale: Floats
    """[S]."""

    def values(self) -> Floats:
        """Return the score of each set of parameters in each situation, [S, P]."""
        lacking = np.maximum(self.classic_qos[:, None] - self.qos, 0.0)
        values: Floats = (self.qos - lacking) / self.scale[:, None]
        return values


@dataclass(frozen=True)
class _Task:
    source: Source
    index: int
    picker: str
    parameters: Floats
    """[P, parameters]"""


def mean_qos(situation: Situation, picker: Picker, index: int = 0) -> float:
    """Return the mean QoS that a picker reaches in a situation; ties are broken by the situation's index."""
    run = run_situation(situation, picker, np.random.default_rng([index, _TIES]))
    return float(qos(situation, run).mean())


def _score(task: _Task) -> tuple[Floats, float, float]:
    situation = task.source.situation(task.index)
    picker = PICKERS[task.picker]
    reached = [mean_qos(situation, _with_parameters(picker, parameters), task.index) for parameters in task.parameters]
    classic = max(mean_qos(situation, PICKERS[name], task.index) for name in CLASSICS)
    attainable = float(situation.quality.mean(axis=0).max())
    return np.array(reached), classic, max(classic, _LEAST_SHARE * attainable, 1e-6)


def _with_parameters(picker: Picker, parameters: Floats) -> Picker:
    return Picker(
        picker.name,
        picker.kernel,
        picker.summary,
        parameters=tuple(float(value) for value in parameters),
        needs_slots=picker.needs_slots,
    )


class Scorer:
    """Scores parameters; the answer does not depend on how many processes work on it.

    Args:
        executor: Runs the work; None = this process.
    """

    def __init__(self, executor: Executor | None = None) -> None:
        self._executor = executor
        self._compiled: set[str] = set()

    def score(self, source: Source, indices: Sequence[int], picker: str, parameters: Floats) -> Scores:
        """Run every set of parameters in every situation.

        Args:
            source: Gives the situations.
            indices: Which of them, [S].
            picker: Name of the rule.
            parameters: [P, parameters].
        """
        tasks = [_Task(source, index, picker, parameters) for index in indices]
        if self._executor is not None and picker not in self._compiled:
            self._compiled.add(picker)
            _score(_Task(MadeUp(Distribution(requests=10), 0), 0, picker, parameters[:1]))  # once, not in each process
        results = list(map(_score, tasks) if self._executor is None else self._executor.map(_score, tasks))
        return Scores(
            qos=np.array([reached for reached, _, _ in results]).reshape(len(tasks), len(parameters)),
            classic_qos=np.array([classic for _, classic, _ in results]),
            scale=np.array([scale for _, _, scale in results]),
        )


@contextmanager
def scorer(processes: int | None = None, ray: str = "") -> Iterator[Scorer]:
    """Return a scorer with worker processes, which end with the block.

    Args:
        processes: How many; None = one a core, 1 = none besides this one.
        ray: Address of a Ray cluster to use in their place; empty = none.

    Raises:
        DocumentError: If there is an address, but no Ray here.
        ConnectionError: If there is no cluster at the address.
    """
    if ray:
        with RayExecutor(ray) as cluster:
            yield Scorer(cluster)
        return
    count = os.cpu_count() or 1 if processes is None else processes
    if count == 1:
        yield Scorer()
        return
    executor = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=_leave_to_parent)
    try:
        yield Scorer(executor)
    finally:
        executor.shutdown(cancel_futures=True)


def _leave_to_parent() -> None:
    """Let Ctrl-C end only the process that gives the work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
