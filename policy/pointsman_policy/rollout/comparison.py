"""A canary's requests set against the others of the same time, by a test that may be looked at after each of them.

Load comes and goes, and the canary's share rises from step to step, so the means of all requests of either arm differ
although nothing is wrong with the canary. What is compared are neighbours instead: requests are collected until both
arms have some, and the difference of their means is one value of a confidence sequence. Whatever happens to both arms
alike drops out, and the test goes on over all steps of a canary.
"""

import math
from dataclasses import dataclass
from typing import Literal

from pointsman_policy.rollout.confidence import ConfidenceSequence

Arm = Literal["control", "canary"]

ALPHA = 0.05
"""Chance that a canary as good as the others is ever withdrawn: half of it for each of QoS and SLO attainment."""


class Difference:
    """A figure of the canary less that of the control, between -1 and 1."""

    def __init__(self) -> None:
        # Only its upper end withdraws a canary, which is wrong with half of this chance.
        self._halved = ConfidenceSequence(ALPHA)
        self._pending: dict[Arm, _Mean] = {"control": _Mean(), "canary": _Mean()}
        self._totals: dict[Arm, _Mean] = {"control": _Mean(), "canary": _Mean()}

    def observe(self, arm: Arm, value: float) -> None:
        """Take a request's figure, between 0 and 1."""
        self._totals[arm].add(value)
        self._pending[arm].add(value)
        canary, control = self._pending["canary"], self._pending["control"]
        if canary.count and control.count:
            self._halved.observe(min(max(0.5 + 0.5 * (canary.value - control.value), 0.0), 1.0))
            self._pending = {"control": _Mean(), "canary": _Mean()}

    def mean(self, arm: Arm) -> float:
        """Return the plain mean of an arm's requests; 0 = it has none."""
        total = self._totals[arm]
        return total.value if total.count else 0.0

    @property
    def estimate(self) -> float:
        """The difference as far as pairs tell; 0 before the first one."""
        return 2.0 * self._halved.estimate - 1.0

    @property
    def low(self) -> float:
        """Lower end of the interval that holds at all times with a chance of 1 - alpha."""
        return max(self.estimate - 2.0 * self._halved.reach, -1.0)

    @property
    def high(self) -> float:
        """Upper end of that interval."""
        return min(self.estimate + 2.0 * self._halved.reach, 1.0)


class Comparison:
    """The arms of one canary, from its first step on; requests in the order in which they ended."""

    def __init__(self) -> None:
        self.qos = Difference()
        """Of QoS."""
        self.slo = Difference()
        """Of SLO attainment."""
        self._requests: dict[Arm, int] = {"control": 0, "canary": 0}

    def observe(self, arm: Arm, qos: float, met: float) -> None:
        """Take a request that ended.

        Args:
            arm: Who decided.
            qos: Its QoS, 0 to 1; NaN = it cannot be told.
            met: 1 = it met its objectives, 0 = it did not; NaN = it cannot be told.

        Raises:
            ValueError: If a figure is neither between 0 and 1 nor NaN.
        """
        if not (math.isnan(qos) or 0.0 <= qos <= 1.0) or not (math.isnan(met) or 0.0 <= met <= 1.0):
            raise ValueError(f"QoS and met must be between 0 and 1, or NaN (got {qos} and {met})")
        if math.isnan(qos) and math.isnan(met):
            return
        self._requests[arm] += 1
        if not math.isnan(qos):
            self.qos.observe(arm, qos)
        if not math.isnan(met):
            self.slo.observe(arm, met)

    def requests(self, arm: Arm) -> int:
        """Return how many requests of an arm could be judged."""
        return self._requests[arm]

    def worse_by(self, margin: float) -> str:
        """Return why the canary is worse than the control by more than a margin beyond doubt; empty = it may not be.

        Args:
            margin: Of QoS and SLO attainment, 0 to 1.
        """
        for name, difference in self._named():
            if difference.high < -margin:
                return (
                    f"{name} is lower than the control's by {100 * -difference.high:.1f} percentage points or more "
                    f"({100 * difference.mean('canary'):.1f} % against {100 * difference.mean('control'):.1f} %, "
                    f"{self.requests('canary')} and {self.requests('control')} requests)"
                )
        return ""

    def seems_worse_by(self, margin: float) -> str:
        """Return which figure of the canary lies below the control's by more than a margin, with or without doubt.

        SLO attainment is a part of QoS: where that is surely higher, an attainment that may be lower holds nothing up.
        """
        if self.qos.low > 0.0:
            return ""
        return next((name for name, difference in self._named() if difference.estimate < -margin), "")

    def _named(self) -> tuple[tuple[str, Difference], ...]:
        return ("QoS", self.qos), ("SLO attainment", self.slo)


@dataclass(slots=True)
class _Mean:
    sum: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.sum += value
        self.count += 1

    @property
    def value(self) -> float:
        return self.sum / self.count
