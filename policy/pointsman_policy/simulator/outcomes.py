"""What became of requests, and their quality of service: one definition for simulated and for measured runs.

TTFT is arrival to first token; TPOT (end - first token)/(tokens - 1); NTPOT (end - arrival)/tokens, queueing and
prefill included. The QoS of a request is its quality if every objective set for it is met, else 0; a request that was
dropped or failed counts 0.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of n requests, in order of arrival. Values of requests without an answer are ignored."""

    arrival_at: Floats
    """Seconds on any clock that all times share, [n]."""
    first_token_at: Floats
    """[n]."""
    end_at: Floats
    """[n]."""
    output_tokens: npt.NDArray[np.int64]
    """Tokens of the answer, [n]; below 1 = not known, so that no per-token objective counts as met."""
    quality: Floats
    """Of the answer, 0 to 1, [n]."""
    objectives: Floats
    """TTFT, TPOT and NTPOT, seconds, 0 = none, [n, 3]."""
    answered: npt.NDArray[np.bool_]
    """Got its whole answer, [n]."""
    dropped: npt.NDArray[np.bool_]
    """Shed by the router, [n]; a request that is neither answered nor dropped has failed."""

    def __post_init__(self) -> None:
        if not len(self.arrival_at):
            raise ValueError("there are no figures without any request")
        if (self.answered & self.dropped).any():
            raise ValueError("a request cannot be both answered and dropped")

    def __len__(self) -> int:
        return len(self.arrival_at)

    def ttft_seconds(self) -> Floats:
        """Return TTFT, [n]; NaN where there is no answer."""
        return np.where(self.answered, self.first_token_at - self.arrival_at, np.nan)

    def tpot_seconds(self) -> Floats:
        """Return TPOT, [n]; NaN where there is no answer or one of a single token."""
        gaps = np.where(self.answered & (self.output_tokens > 1), self.output_tokens - 1.0, np.nan)
        seconds: Floats = (self.end_at - self.first_token_at) / gaps
        return seconds

    def ntpot_seconds(self) -> Floats:
        """Return NTPOT, [n]; NaN where there is no answer."""
        tokens = np.where(self.answered & (self.output_tokens > 0), self.output_tokens, np.nan)
        seconds: Floats = (self.end_at - self.arrival_at) / tokens
        return seconds

    def met(self) -> npt.NDArray[np.bool_]:
        """Return who was answered within every objective set for it, [n]; one token has no TPOT to miss."""
        ttft, tpot, ntpot = self.objectives.T
        single = self.output_tokens == 1
        within = _within(self.ttft_seconds(), ttft) & _within(self.ntpot_seconds(), ntpot)
        met: npt.NDArray[np.bool_] = self.answered & within & (single | _within(self.tpot_seconds(), tpot))
        return met

    def qos(self) -> Floats:
        """Return the QoS of each request, 0 to 1, [n]."""
        return np.where(self.met(), self.quality, 0.0)


def _within(seconds: Floats, objective_seconds: Floats) -> npt.NDArray[np.bool_]:
    return (objective_seconds <= 0.0) | (seconds <= objective_seconds)
