"""What a picker is, and what all of them share.

A picker is a pure function of a RoutingState, its parameters and one uniform random number. Its kernel writes a score
for each expert (higher is better) and returns the index of its choice, or DROP. Kernels are compiled once and run the
same in the router and in the simulator.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import CompiledPointer, compiled
from pointsman_policy.errors import PickError
from pointsman_policy.state import DROP, RoutingState, state_type

Kernel = Callable[[RoutingState, npt.NDArray[np.float64], float, npt.NDArray[np.float64]], int]
"""(state, parameters, uniform in [0, 1), scores [E] to be written) -> index of the pick, or DROP."""


class Pick(NamedTuple):
    """A picker's answer."""

    expert: int
    """Its index; DROP to shed the request."""
    scores: npt.NDArray[np.float64]
    """[E]; higher is better, -inf where not allowed."""


def kernel_signature() -> Any:
    """Return the numba signature of every kernel."""
    vector = numba.types.Array(numba.types.float64, 1, "C")
    return numba.types.int64(state_type(), vector, numba.types.float64, vector)


@functools.cache
def _pointer(kernel: Kernel) -> CompiledPointer:
    """Return a kernel compiled once, whatever the parameters that pickers run it with."""
    return CompiledPointer(kernel, kernel_signature())


@functools.cache
def _no_scores(experts: int) -> npt.NDArray[np.float64]:
    """Return -inf for each expert, to be copied: numpy takes four times as long to fill a small array."""
    return np.full(experts, -np.inf)


@dataclass(frozen=True)
class Picker:
    """A routing rule.

    Args:
        name: As in a RouterPolicy's `picker.name`.
        kernel: The rule.
        summary: One sentence for people: what it goes by.
        parameters: Passed to the kernel; what they mean is the rule's business.
        needs_slots: Whether it looks at requests one by one; the simulator saves the work otherwise.
        version: Of the parameters, where they come from outside.
    """

    name: str
    kernel: Kernel
    summary: str
    parameters: tuple[float, ...] = ()
    needs_slots: bool = True
    version: str = ""
    _parameters: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parameters", np.asarray(self.parameters, np.float64))

    @property
    def pointer(self) -> CompiledPointer:
        """The compiled kernel; compiling takes seconds unless it is cached on disk."""
        return _pointer(self.kernel)

    def pick(self, state: RoutingState, uniform: float) -> Pick:
        """Choose an expert.

        Raises:
            PickError: If nothing is allowed, or the answer is not an allowed expert (nor a drop that is permitted).
        """
        allowed = state.allowed.tolist()  # plain Python is faster than numpy for as many as there are
        if True not in allowed:
            raise PickError(f"{self.name}: no expert is allowed")
        scores = _no_scores(len(allowed)).copy()
        index = int(self.pointer.call(state, self._parameters, uniform, scores))
        if index == DROP:
            if not state.request[0]["may_drop"]:
                raise PickError(f"{self.name}: dropped a request that must be served")
        elif not (0 <= index < len(allowed) and allowed[index]):
            raise PickError(f"{self.name}: picked expert {index}, which is not allowed")
        if False in allowed:
            scores[~state.allowed] = -np.inf
        return Pick(index, scores)


@compiled
def best(state: RoutingState, scores: npt.NDArray[np.float64], tolerance: float, uniform: float) -> int:
    """Return one of the allowed experts within `tolerance` of the best score, each with the same chance; DROP if none.

    Ties broken at random keep several routers that see the same state from herding onto one expert.
    """
    top = -np.inf
    for e in range(scores.shape[0]):
        if state.allowed[e] and scores[e] > top:
            top = scores[e]
    near = 0
    for e in range(scores.shape[0]):
        if state.allowed[e] and scores[e] >= top - tolerance:
            near += 1
    if near == 0:
        return DROP
    chosen = min(int(uniform * near), near - 1)
    for e in range(scores.shape[0]):
        if state.allowed[e] and scores[e] >= top - tolerance:
            if chosen == 0:
                return e
            chosen -= 1
    return DROP


@compiled
def nth_allowed(state: RoutingState, n: int) -> int:
    """Return the n-th allowed expert, counting from 0; DROP if there are fewer."""
    for e in range(state.allowed.shape[0]):
        if state.allowed[e]:
            if n == 0:
                return e
            n -= 1
    return DROP


@compiled
def allowed_count(state: RoutingState) -> int:
    """Return how many experts are allowed."""
    count = 0
    for e in range(state.allowed.shape[0]):
        if state.allowed[e]:
            count += 1
    return count


@compiled
def load_score(state: RoutingState, e: int) -> float:
    """Return minus the count of requests on expert e, running and waiting: the score of shortest-queue rules."""
    return -float(state.expert[e].running_request_count + state.expert[e].waiting_request_count)
