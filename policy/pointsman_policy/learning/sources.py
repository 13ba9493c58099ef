"""Where training situations come from: made up, drawn from scenarios, or both in turn. The n-th is always the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from pointsman_policy.simulator.randomisation import Distribution, draw_situation
from pointsman_policy.simulator.scenario import Scenario, read_scenario
from pointsman_policy.simulator.situation import Situation, situation_from_scenario


class Source(Protocol):
    """An endless series of situations; can be sent to another process."""

    def situation(self, index: int) -> Situation:
        """Return the situation with this index, 0 or above."""

    def admitting(self, admissions: Sequence[str]) -> "Source":
        """Return a source of situations under these modes of admission only."""


@dataclass(frozen=True)
class MadeUp:
    """Situations of `draw_situation`."""

    distribution: Distribution
    seed: int

    def situation(self, index: int) -> Situation:
        """Return the situation with this index, 0 or above."""
        return draw_situation(np.random.default_rng([self.seed, index]), self.distribution)

    def admitting(self, admissions: Sequence[str]) -> "MadeUp":
        """Return a source of situations under these modes of admission only."""
        return replace(self, distribution=replace(self.distribution, admissions=tuple(admissions)))


@dataclass(frozen=True)
class FromScenarios:
    """Runs of scenario files in turn, each at a load between its least and its greatest load factor."""

    paths: tuple[Path, ...]
    seed: int
    requests: int
    """In one situation, whatever the scenario says."""
    admissions: tuple[str, ...] = ()
    """Modes to replace the scenarios' own by; none = their own."""
    _read: dict[Path, Scenario] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("a source of scenarios needs at least one")

    def situation(self, index: int) -> Situation:
        """Return the situation with this index, 0 or above.

        Raises:
            DocumentError: If its scenario cannot be read or is wrong.
        """
        rng = np.random.default_rng([self.seed, index])
        path = self.paths[index % len(self.paths)]
        if path not in self._read:
            scenario = read_scenario(path)
            document = scenario.document.model_copy(update={"requests": self.requests})
            self._read[path] = replace(scenario, document=document)
        scenario = self._read[path]
        loads = scenario.document.load_factors
        load = float(rng.uniform(min(loads), max(loads)))
        situation = situation_from_scenario(scenario, load, int(rng.integers(2**31)))
        if not self.admissions:
            return situation
        return replace(situation, admission=str(rng.choice(self.admissions)))

    def admitting(self, admissions: Sequence[str]) -> "FromScenarios":
        """Return a source of the same runs, but under these modes of admission."""
        return replace(self, admissions=tuple(admissions))


@dataclass(frozen=True)
class Mixed:
    """Situations of several sources in turn."""

    sources: tuple[Source, ...]

    def situation(self, index: int) -> Situation:
        """Return the situation with this index, 0 or above."""
        return self.sources[index % len(self.sources)].situation(index // len(self.sources))

    def admitting(self, admissions: Sequence[str]) -> "Mixed":
        """Return a source of situations under these modes of admission only."""
        return Mixed(tuple(source.admitting(admissions) for source in self.sources))


def training_source(scenarios: Sequence[Path], distribution: Distribution, seed: int) -> Source:
    """Return made-up situations and, if there are scenarios, as many of theirs.

    Args:
        scenarios: Scenario files; none = made-up situations only.
        distribution: What the made-up ones are drawn from.
        seed: Any non-negative integer.
    """
    made_up = MadeUp(distribution, seed)
    if not scenarios:
        return made_up
    return Mixed((made_up, FromScenarios(tuple(scenarios), seed, distribution.requests)))
