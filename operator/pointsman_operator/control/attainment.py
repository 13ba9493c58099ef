"""The share of recent requests that met their objectives, from counters that routers have since their start."""

from collections import defaultdict, deque

_Sample = tuple[float, int, int]


class Attainment:
    """Counts over a sliding window, summed over routers; survives their restarts.

    Args:
        window_seconds: How far back it looks.
        resolution_seconds: Least time from one kept sample to the next.
    """

    def __init__(self, window_seconds: float = 300.0, resolution_seconds: float = 10.0) -> None:
        self._window_seconds = window_seconds
        self._resolution_seconds = resolution_seconds
        self._samples: dict[str, dict[str, deque[_Sample]]] = defaultdict(dict)

    def observe(self, policy: str, router: str, answered: int, met: int, now: float) -> None:
        """Take a router's counters for a policy at a time in seconds on any clock that never goes back."""
        samples = self._samples[policy].setdefault(router, deque())
        if samples and (answered < samples[-1][1] or met < samples[-1][2]):
            # The router has restarted: what it counts now began at nothing.
            samples.clear()
            samples.append((now, 0, 0))
        if len(samples) > 1 and now - samples[-2][0] < self._resolution_seconds:
            samples.pop()
        samples.append((now, answered, met))
        # The newest of the samples outside the window is where the window begins.
        while len(samples) > 1 and samples[1][0] <= now - self._window_seconds:
            samples.popleft()

    def forget(self, policies: frozenset[str], routers: frozenset[str]) -> None:
        """Keep only what is of these policies and routers."""
        for policy in self._samples.keys() - policies:
            del self._samples[policy]
        for samples in self._samples.values():
            for router in samples.keys() - routers:
                del samples[router]

    def percent(self, policy: str) -> int | None:
        """Return the share, rounded down so that 100 means all; None = nothing was answered."""
        answered = met = 0
        for samples in self._samples.get(policy, {}).values():
            (_, answered_before, met_before), (_, answered_now, met_now) = samples[0], samples[-1]
            answered += answered_now - answered_before
            met += met_now - met_before
        return min(100, 100 * met // answered) if answered > 0 else None
