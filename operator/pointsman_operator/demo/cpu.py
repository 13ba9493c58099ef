"""How much of a core each part takes."""

import time
from collections.abc import Callable, Mapping

from pointsman_operator.demo.processes import Parts

_LEAST_SECONDS = 1.0
_OWN = "demo"


class CpuMeter:
    """Measures the parts that run now, and this process itself.

    Args:
        parts: The parts.
        clock: Seconds, never going back.
    """

    def __init__(self, parts: Parts, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._clock = clock
        self._seconds: dict[str, float] = {}
        self._start = self._last = (clock(), self._used())
        self._shares: Mapping[str, float] = {}

    def shares(self) -> Mapping[str, float]:
        """Return each part's recent share of one core: 1 = all of it."""
        if self._clock() - self._last[0] >= _LEAST_SECONDS:
            self._shares = self._since(self._last)
            self._last = (self._clock(), self._used())
        return self._shares

    def means(self) -> Mapping[str, float]:
        """Return each part's share of one core since the meter was made."""
        return self._since(self._start)

    def _since(self, before: tuple[float, Mapping[str, float]]) -> Mapping[str, float]:
        seconds = max(self._clock() - before[0], 1e-6)
        return {name: max(used - before[1].get(name, 0.0), 0.0) / seconds for name, used in self._used().items()}

    def _used(self) -> Mapping[str, float]:
        """Return CPU seconds so far; a part that has ended keeps its last ones."""
        for part in self._parts:
            self._seconds[part.name] = max(part.cpu_seconds(), self._seconds.get(part.name, 0.0))
        return self._seconds | {_OWN: time.process_time()}
