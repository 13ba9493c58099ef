"""What one version of a policy believes of the experts, beside what is declared of them.

Versions see the same requests on the same experts, but each sets what it observes against beliefs of its own; so each
has its own pace (see `pointsman_policy.pace`), and a candidate's is known by the time that it decides anything.
"""

import numpy as np
import numpy.typing as npt

from pointsman_policy.reckoning import BELIEF, new_loads
from pointsman_policy.state import Record

_PACE = ("observed_seconds", "believed_seconds")


class Lens:
    """Beliefs about experts, and how their pace differs from these.

    Args:
        size: How many experts there is room for, X.
    """

    def __init__(self, size: int) -> None:
        self.beliefs = np.zeros(size, BELIEF)
        """BELIEF rows, [X]."""
        self.paces = new_loads(size)
        """LOAD rows whose pace is that of these beliefs, [X]; `loads` brings the rest."""

    def believe(self, row: int, belief: Record) -> None:
        """Take a belief over; one that has changed starts without a pace."""
        if self.beliefs[row] != belief:
            self.beliefs[row] = belief
            self.forget(row)

    def forget(self, row: int) -> None:
        """Forget the pace of a row, which another expert may have had before."""
        self.paces[row] = new_loads(1)[0]

    def grow(self, size: int) -> None:
        """Make room for so many experts."""
        more = size - len(self.beliefs)
        self.beliefs = np.concatenate([self.beliefs, np.zeros(more, BELIEF)])
        self.paces = np.concatenate([self.paces, new_loads(more)])

    def loads(self, rows: npt.NDArray[np.int64], loads: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
        """Return LOAD rows, [X], of which these experts' are as they are now, but with the pace of these beliefs."""
        pace = [self.paces[name][rows] for name in _PACE]
        self.paces[rows] = loads[rows]
        for name, seconds in zip(_PACE, pace, strict=True):
            self.paces[name][rows] = seconds
        return self.paces
