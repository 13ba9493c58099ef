"""Which answers have grown since an emulated server last looked, found in one compiled call per iteration."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import compiled
from pointsman_policy.simulator.engine import Engine, advance, generated, iteration_ends_at


class Deliveries(NamedTuple):
    """What has been told of the answers of an engine with one expert and room for N requests."""

    tokens: npt.NDArray[np.int64]
    """Tokens told of each request, [N]."""
    token_at: npt.NDArray[np.float64]
    """When the last of them was made, seconds, [N]."""
    changed: npt.NDArray[np.int64]
    """Ids of the requests that grew; the first entries count, [N]."""
    end_count: npt.NDArray[np.int64]
    """Ends told, ever, [1]."""
    token_count: npt.NDArray[np.int64]
    """Tokens told, ever, [1]."""
    gap_bounds: npt.NDArray[np.float64]
    """Upper bounds of a histogram of the time between two tokens of an answer, seconds, ascending, [B]."""
    gap_counts: npt.NDArray[np.int64]
    """Its counts, the last one of those above all bounds, [B + 1]."""
    gap_seconds: npt.NDArray[np.float64]
    """Its sum, [1]."""


def new_deliveries(requests: int, gap_bounds: tuple[float, ...]) -> Deliveries:
    """Return a blank record for an engine with room for `requests`."""
    return Deliveries(
        tokens=np.zeros(requests, np.int64),
        token_at=np.zeros(requests),
        changed=np.zeros(requests, np.int64),
        end_count=np.zeros(1, np.int64),
        token_count=np.zeros(1, np.int64),
        gap_bounds=np.array(gap_bounds),
        gap_counts=np.zeros(len(gap_bounds) + 1, np.int64),
        gap_seconds=np.zeros(1),
    )


@compiled
def collect(engine: Engine, deliveries: Deliveries, until: float) -> tuple[int, float]:
    """Advance the expert and note whose answers have grown.

    Returns:
        How many of `changed` count, and when the iteration now under way ends (inf = idle).
    """
    advance(engine, 0, until)
    expert = engine.expert[0]
    count = 0
    while deliveries.end_count[0] < expert.finished_count:
        request = engine.finished[0, deliveries.end_count[0] % engine.finished.shape[1]]
        ended = engine.request[request]
        count = _note(engine, deliveries, request, ended.output_tokens, ended.finished_at, count)
        deliveries.end_count[0] += 1
    for k in range(expert.running_count):
        request = engine.running[0, k]
        count = _note(engine, deliveries, request, generated(engine, 0, request), expert.clock, count)
    for k in range(expert.queue_count):  # preempted requests, which may have grown before, are at the head
        request = engine.queue[0, (expert.queue_head + k) % engine.queue.shape[1]]
        if engine.request[request].generated_tokens == 0:
            break
        count = _note(engine, deliveries, request, generated(engine, 0, request), expert.clock, count)
    return count, iteration_ends_at(engine, 0)


@compiled
def _note(engine: Engine, deliveries: Deliveries, request: int, tokens: int, now: float, count: int) -> int:
    told = deliveries.tokens[request]
    if tokens <= told:
        return count
    since = deliveries.token_at[request]
    if told == 0:
        since = engine.request[request].first_token_at
    gaps = tokens - max(told, 1)
    if gaps > 0:
        deliveries.gap_counts[np.searchsorted(deliveries.gap_bounds, (now - since) / gaps)] += gaps
        deliveries.gap_seconds[0] += now - since
    deliveries.tokens[request] = tokens
    deliveries.token_at[request] = now
    deliveries.token_count[0] += tokens - told
    deliveries.changed[count] = request
    return count + 1
