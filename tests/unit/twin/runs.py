"""Small runs of the simulator, as experience to calibrate on."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.arrivals import poisson
from pointsman_policy.simulator.simulation import Change, Fleet, Requests, Run, Visibility, simulate
from pointsman_policy.twin.served import Served

TRUE = np.array([[0.0105, 3.7e-5, 2.4e-7, 5.2e-5], [0.0109, 5.2e-5, 2.3e-7, 7.4e-5]])


class Experience(NamedTuple):
    """A run of two experts."""

    requests: Requests
    run: Run

    def served(self, expert: int) -> Served:
        """Return what one of them served."""
        rows = np.flatnonzero((self.run.expert == expert) & ~np.isnan(self.run.finished_at))
        return Served(
            self.requests.arrival_at[rows],
            self.run.first_token_at[rows],
            self.run.finished_at[rows],
            self.requests.prompt_tokens[rows].astype(np.float64),
            self.requests.output_tokens[rows, expert].astype(np.float64),
            np.ones(len(rows), np.bool_),
        )


def make_requests(rng: np.random.Generator, count: int, rate: float, quality: tuple[float, ...]) -> Requests:
    """Return Poisson arrivals of prompts of some 400 tokens and answers of some 120."""
    shape = (count, len(quality))
    lengths = np.maximum(rng.lognormal(4.5, 0.7, (count, 1)), 1).astype(np.int64)
    return Requests(
        arrival_at=poisson(rng, rate, count),
        prompt_tokens=np.maximum(rng.lognormal(5.6, 0.9, count), 1).astype(np.int64),
        output_tokens=np.ascontiguousarray(np.broadcast_to(lengths, shape)),
        predicted_quality=np.ascontiguousarray(np.broadcast_to(np.array(quality, np.float32), shape)),
        predicted_output_tokens=np.full(shape, 120.0, np.float32),
        objectives=np.tile([2.0, 0.0, 0.03], (count, 1)),
        priority=np.zeros(count, np.int64),
        quality_floor=0.0,
    )


def make_experience(
    seed: int = 0,
    count: int = 900,
    rate: float = 10.0,
    declared: npt.NDArray[np.float64] = TRUE,
    changes: tuple[Change, ...] = (),
) -> Experience:
    """Return what two like experts did under ShortestQueue."""
    rng = np.random.default_rng(seed)
    requests = make_requests(rng, count, rate, (0.5, 0.6))
    fleet = Fleet(TRUE, declared, np.zeros(2), np.full(2, 256), np.array([0.5, 0.6]))
    run = simulate(fleet, requests, PICKERS["ShortestQueue"], rng, Visibility(), changes=changes)
    return Experience(requests, run)
