"""A confidence sequence: an interval for a mean that holds at all times at once, however often somebody looks.

A usual confidence interval is made for one look. Whoever looks after every request and acts at the first interval that
suits finds one in the end, whatever the truth is. A confidence sequence covers the mean at every time together with
probability 1 - alpha, so that a rollout may be stopped the moment it leaves no doubt.

This one is the predictable plug-in empirical Bernstein sequence of Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", JRSS-B 86 (2024), theorem 2 and equations 14 to 16. It needs nothing but values
between 0 and 1 whose mean, given all before, is the same; where it changes, a weighted mean of all times is covered.
"""

import math
from dataclasses import dataclass

_LARGEST_WEIGHT = 0.5


@dataclass(slots=True)
class ConfidenceSequence:
    """The mean of values between 0 and 1, one value after the other, in constant time and space."""

    alpha: float
    """Chance that the interval ever leaves out the mean, half of it on each side; above 0 and below 1."""
    count: int = 0
    """Values so far."""
    _sum: float = 0.0
    _squares: float = 0.0
    _weights: float = 0.0
    _weighted_sum: float = 0.0
    _penalty: float = 0.0

    def observe(self, value: float) -> None:
        """Take the next value.

        Raises:
            ValueError: If it is not between 0 and 1.
        """
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"a value of a confidence sequence must be between 0 and 1 (got {value})")
        # What is bet on a value must be known before it: mean and variance are those of the values before, and of one
        # imagined value of 1/2 with a variance of 1/4.
        mean = (0.5 + self._sum) / (self.count + 1)
        variance = (0.25 + self._squares) / (self.count + 1)
        self.count += 1
        spread = variance * self.count * math.log1p(self.count)
        weight = min(math.sqrt(2.0 * math.log(2.0 / self.alpha) / spread), _LARGEST_WEIGHT)
        self._weights += weight
        self._weighted_sum += weight * value
        self._penalty += (value - mean) ** 2 * (-math.log1p(-weight) - weight)
        self._sum += value
        self._squares += (value - (0.5 + self._sum) / (self.count + 1)) ** 2

    @property
    def estimate(self) -> float:
        """The middle of the interval; 0.5 before the first value."""
        return self._weighted_sum / self._weights if self.count else 0.5

    @property
    def reach(self) -> float:
        """How far the interval goes to either side; 1 before the first value."""
        return min((math.log(2.0 / self.alpha) + self._penalty) / self._weights, 1.0) if self.count else 1.0
