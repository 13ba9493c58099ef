"""A small evolution strategy for noisy objectives in a box: separable CMA-ES (Ros and Hansen, 2008).

Each direction of a given basis has a variance of its own that is learned, correlations are not: with few, noisy
comparisons that learns faster than the full method. Coordinates run from 0 to 1; what is sampled outside is mirrored at
the edge.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_SMALLEST_STEP = 1e-4
_LARGEST_STEP = 0.5
_APART = 0.1
"""First variance of what makes the coordinates of a group differ; what they share moves each of them by the step."""


@dataclass(frozen=True, eq=False)
class Evolution:
    """The state of a search over d coordinates."""

    mean: Floats
    """[d]."""
    step: float
    """Overall step size."""
    basis: Floats
    """Orthonormal directions, one a row, [d, d]."""
    variance: Floats
    """Relative variance along each direction, [d]."""
    step_path: Floats
    """Along each direction, [d]."""
    variance_path: Floats
    """Along each direction, [d]."""
    generation: int = 0

    @classmethod
    def begin(cls, start: Floats, step: float, alike: Sequence[int] = ()) -> "Evolution":
        """Return a search around a start.

        Args:
            start: Coordinates within 0 and 1, [d].
            step: First step size.
            alike: Group of each coordinate, [d]; those of a group move together at first. None = each on its own.
        """
        groups = np.asarray(alike if len(alike) else np.arange(len(start)))
        basis, variance = _basis(groups)
        zeros = np.zeros(len(start))
        return cls(np.asarray(start, np.float64), step, basis, variance, zeros, zeros)

    def sample(self, rng: np.random.Generator, population: int) -> Floats:
        """Return candidates, [population, d], drawn in pairs on either side of the mean."""
        half = rng.standard_normal((-(-population // 2), len(self.mean)))
        normal = np.concatenate([half, -half])[:population]
        return mirrored(self.mean + self.step * (np.sqrt(self.variance) * normal) @ self.basis)

    def updated(self, candidates: Floats, scores: Floats) -> "Evolution":
        """Return the next generation's state.

        Args:
            candidates: From `sample`, [population, d], at least 2.
            scores: How good each is, higher is better, [population].
        """
        dimensions, population = len(self.mean), len(candidates)
        parents = max(population // 2, 1)
        weights = math.log(parents + 0.5) - np.log(np.arange(1, parents + 1))
        weights /= weights.sum()
        effective = 1.0 / float((weights**2).sum())
        rates = _Rates.of(dimensions, effective)

        order = np.argsort(-scores, kind="stable")[:parents]
        deviation = np.sqrt(self.variance)
        steps = (candidates[order] - self.mean) @ self.basis.T / self.step
        move = weights @ steps
        step_path = (1 - rates.step) * self.step_path
        step_path = step_path + math.sqrt(rates.step * (2 - rates.step) * effective) * move / deviation
        length = float(np.linalg.norm(step_path))
        expected = math.sqrt(dimensions) * (1 - 1 / (4 * dimensions) + 1 / (21 * dimensions**2))
        settled = math.sqrt(1 - (1 - rates.step) ** (2 * (self.generation + 1)))
        short = length / settled < (1.4 + 2 / (dimensions + 1)) * expected

        variance_path = (1 - rates.path) * self.variance_path
        if short:
            variance_path = variance_path + math.sqrt(rates.path * (2 - rates.path) * effective) * move
        lost = 0.0 if short else rates.path * (2 - rates.path)
        variance = (1 - rates.one - rates.many + rates.one * lost) * self.variance
        variance = variance + rates.one * variance_path**2 + rates.many * (weights @ steps**2)
        step = self.step * math.exp(min(rates.step / rates.damping * (length / expected - 1), 1.0))
        return replace(
            self,
            mean=np.clip(self.mean + self.step * move @ self.basis, 0.0, 1.0),
            step=min(max(step, _SMALLEST_STEP), _LARGEST_STEP),
            variance=np.maximum(variance, 1e-8),
            step_path=step_path,
            variance_path=variance_path,
            generation=self.generation + 1,
        )


@dataclass(frozen=True, slots=True)
class _Rates:
    """Learning rates of the method, from its dimensions and the effective number of parents."""

    step: float
    damping: float
    path: float
    one: float
    many: float

    @classmethod
    def of(cls, dimensions: int, effective: float) -> "_Rates":
        step = (effective + 2) / (dimensions + effective + 5)
        one = 2 / ((dimensions + 1.3) ** 2 + effective)
        many = 2 * (effective - 2 + 1 / effective) / ((dimensions + 2) ** 2 + effective)
        faster = (dimensions + 2) / 3  # what the separable form can afford
        one = min(one * faster, 0.5)
        return cls(
            step=step,
            damping=1 + step + 2 * max(0.0, math.sqrt((effective - 1) / (dimensions + 1)) - 1),
            path=(4 + effective / dimensions) / (dimensions + 4 + 2 * effective / dimensions),
            one=one,
            many=min(max(many, 0.0) * faster, 1 - one, 0.5),
        )


def _basis(groups: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return directions, the common one of each group first, and their variances, [d, d] and [d]."""
    directions, variance = [], []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        for k in range(len(members)):  # Helmert's contrasts: all together, then each one against those before
            direction = np.zeros(len(groups))
            direction[members if k == 0 else members[:k]] = 1.0
            if k:
                direction[members[k]] = -k
            directions.append(direction / np.linalg.norm(direction))
            variance.append(float(len(members)) if k == 0 else _APART)
    return np.array(directions), np.array(variance)


def mirrored(values: Floats) -> Floats:
    """Return values folded back into 0 to 1."""
    folded = np.mod(values, 2.0)
    inside: Floats = np.where(folded > 1.0, 2.0 - folded, folded)
    return inside
