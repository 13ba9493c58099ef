"""How often something may happen: at a steady rate, with bursts."""

from collections.abc import Callable


class TokenBucket:
    """Holds tokens that come back one by one; whoever acts takes one.

    Args:
        burst: Tokens that it holds at most, and at first.
        seconds_per_token: How long one takes to come back.
        clock: Returns seconds; never goes back.
    """

    def __init__(self, burst: int, seconds_per_token: float, clock: Callable[[], float]) -> None:
        self._burst = float(burst)
        self._seconds_per_token = seconds_per_token
        self._clock = clock
        self._tokens = self._burst
        self._at = clock()

    def take(self) -> bool:
        """Take a token if there is one."""
        self._refill()
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def wait_seconds(self) -> float:
        """Return how long it is until there is a token; 0 = there is one."""
        self._refill()
        return max(0.0, (1.0 - self._tokens) * self._seconds_per_token)

    def _refill(self) -> None:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) / self._seconds_per_token)
        self._at = now
