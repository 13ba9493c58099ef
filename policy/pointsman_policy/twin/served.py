"""What an expert's iterations were made of, told from the requests that it served.

Every sequence of a batch gets a token in each iteration. So between a request's first token and its end there are as
many iterations as it has further tokens, and in all of them ran whoever else was between first token and end then. An
iteration that ends with somebody's first token admitted that prompt. This gives, for each request, the sums that the
iteration-time model is linear in (see ``pointsman_policy.latency.estimator``)::

    end - first token = c0*n + c_seq*sum(B) + c_ctx*sum(C) + c_prefill*sum(P)        over its n = tokens - 1 iterations

and the same for its time to first token: the iteration that admitted it, and half of the one that it found under way.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_SAME_ITERATION_SECONDS = 1e-3
"""First tokens that come so close together come from one iteration."""
_DECODE_ERROR, _TTFT_ERROR = 0.05, 0.08
"""Relative standard deviations that measured times have besides what the model explains."""
_REMAINDER_DEVIATION = 0.29
"""Of a uniform random share of an iteration."""
_PLAUSIBLE_PACE = 16.0
_MOST_ENDED = 0.98


@dataclass(frozen=True, eq=False)
class Served:
    """n requests that one expert served, in order of arrival; seconds on one clock."""

    arrival_at: Floats
    """[n]."""
    first_token_at: Floats
    """[n]."""
    end_at: Floats
    """[n]."""
    prompt_tokens: Floats
    """[n]."""
    output_tokens: Floats
    """At least 1, [n]."""
    first_token_known: npt.NDArray[np.bool_]
    """Whether the first token was seen; otherwise its time is a guess, [n]."""

    def __len__(self) -> int:
        return len(self.arrival_at)


class Rows(NamedTuple):
    """N equations ``seconds = terms @ coefficients``."""

    terms: Floats
    """What c0, c_seq, c_ctx and c_prefill are multiplied by, [N, 4]."""
    seconds: Floats
    """Measured, [N]."""
    deviation: Floats
    """Standard deviation of the measured seconds around the model's, [N]."""
    at: Floats
    """When the measurement was complete, [N]."""


class _Timeline(NamedTuple):
    """An expert between K + 1 moments at which somebody's first token came or somebody ended."""

    moments: Floats
    """Rising, [K + 1]."""
    running: Floats
    """Sequences in the batch, [K]."""
    context: Floats
    """Tokens that they held, mean, [K]."""
    admitted: Floats
    """Requests whose first token came at the end of the span, [K]."""
    prompts: Floats
    """Their prompt tokens, [K]."""


def decode_rows(served: Served, coefficients: Floats) -> Rows:
    """Return an equation for each answer of more than one token.

    Args:
        served: Of one expert, all of it: what is left out is missing in the batches of others. Not empty.
        coefficients: (c0, c_seq, c_ctx, c_prefill), seconds, as far as known, [4]. They only share out the iterations
            of a request over the time that it ran.
    """
    served = _with_common_first_tokens(served)
    line = _timeline(served)
    spans = np.diff(line.moments)
    iteration = coefficients[0] + coefficients[1] * line.running + coefficients[2] * line.context
    stalled = coefficients[1] * line.admitted + (coefficients[2] + coefficients[3]) * line.prompts
    iterations = np.where(line.running > 0, np.maximum(spans - stalled, 0.0) / iteration, 0.0)
    first = np.searchsorted(line.moments, served.first_token_at)
    last = np.searchsorted(line.moments, served.end_at)
    count = served.output_tokens - 1.0
    supposed = _between(iterations, first, last)
    known = (count > _PLAUSIBLE_PACE**-1 * supposed) & (count < _PLAUSIBLE_PACE * supposed)
    pace = count / np.where(known, supposed, 1.0)
    terms = np.stack(
        [
            count,
            pace * _between(iterations * line.running, first, last) + _between(line.admitted, first, last),
            pace * _between(iterations * line.context, first, last) + _between(line.prompts, first, last),
            _between(line.prompts, first, last),
        ],
        axis=1,
    )
    known &= _whole_batch_known(served)
    seconds = served.end_at - served.first_token_at
    per_token = seconds / np.maximum(count, 1.0)
    deviation = np.sqrt((_DECODE_ERROR * seconds) ** 2 + (0.5 * per_token) ** 2)
    known &= seconds > 0.0
    return Rows(terms[known], seconds[known], deviation[known], served.end_at[known])


def first_token_rows(served: Served) -> Rows:
    """Return an equation for each request that did not have to wait for others to end, as far as can be told.

    Args:
        served: Of one expert, not empty.
    """
    served = _with_common_first_tokens(served)
    line = _timeline(served)
    arrived, first = served.arrival_at, served.first_token_at
    own = np.searchsorted(line.moments, first) - 1
    known = (own >= 0) & (first > arrived) & served.first_token_known
    own = np.maximum(own, 0)
    at_arrival = np.clip(np.searchsorted(line.moments, arrived, side="right") - 1, 0, len(line.running) - 1)
    before_all = arrived < line.moments[0]
    running = np.where(before_all, 0.0, line.running[at_arrival])
    context = np.where(before_all, 0.0, line.context[at_arrival])
    starts = np.unique(first)
    between = np.searchsorted(starts, first) - np.searchsorted(starts, arrived, side="right")
    known &= between <= 1  # more iterations than one began while it waited: it queued
    found_prefill = np.where(between == 1, _prompts_at(served, starts, first), 0.0)
    busy = np.where((running > 0) | (between == 1), 0.5, 0.0)
    terms = np.stack(
        [
            1.0 + busy,
            line.running[own] + line.admitted[own] + busy * running,
            line.context[own] + line.prompts[own] + busy * context,
            line.prompts[own] + busy * found_prefill,
        ],
        axis=1,
    )
    known &= _whole_batch_known(served)
    seconds = first - arrived
    remainder = _REMAINDER_DEVIATION * seconds * 2.0 * busy / (1.0 + busy)
    deviation = np.sqrt((_TTFT_ERROR * seconds) ** 2 + remainder**2)
    return Rows(terms[known], seconds[known], deviation[known], first[known])


def _with_common_first_tokens(served: Served) -> Served:
    """Return the requests with first tokens of one iteration at one moment."""
    order = np.argsort(served.first_token_at, kind="stable")
    sorted_at = served.first_token_at[order]
    group = np.concatenate([[0], np.cumsum(np.diff(sorted_at) > _SAME_ITERATION_SECONDS)])
    latest = np.zeros(group[-1] + 1)
    np.maximum.at(latest, group, sorted_at)
    first = np.empty_like(sorted_at)
    first[order] = latest[group]
    end = np.maximum(served.end_at, first)
    return replace(served, first_token_at=first, end_at=end)


def _whole_batch_known(served: Served) -> npt.NDArray[np.bool_]:
    """Tell for which requests nearly all that ran beside them is among the served, [n].

    What came after the last of them or had not ended when it did is missing, and so is what came before the first one.
    """
    margin = float(np.quantile(served.end_at - served.arrival_at, _MOST_ENDED))
    begun = served.arrival_at >= served.arrival_at[0] + margin
    until = min(float(served.arrival_at[-1]), float(served.end_at.max()) - margin)
    return np.asarray(begun & (served.end_at <= until))


def _timeline(served: Served) -> _Timeline:
    moments = np.unique(np.concatenate([served.first_token_at, served.end_at]))
    first = np.searchsorted(moments, served.first_token_at)
    last = np.searchsorted(moments, served.end_at)
    spans = len(moments) - 1
    duration = served.end_at - served.first_token_at
    rate = np.where(duration > 0.0, (served.output_tokens - 1.0) / np.where(duration > 0.0, duration, 1.0), 0.0)
    origin = moments[0]
    held = served.prompt_tokens + 1.0 - rate * (served.first_token_at - origin)
    middle = 0.5 * (moments[1:] + moments[:-1]) - origin
    running = _over_spans(np.ones(len(served)), first, last, spans)
    context = _over_spans(held, first, last, spans) + middle * _over_spans(rate, first, last, spans)
    admitted = np.zeros(spans + 1)
    prompts = np.zeros(spans + 1)
    np.add.at(admitted, first, 1.0)
    np.add.at(prompts, first, served.prompt_tokens)
    return _Timeline(moments, running, np.maximum(context, 0.0), admitted[1:], prompts[1:])


def _over_spans(
    values: Floats, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64], spans: int
) -> npt.NDArray[np.float64]:
    """Return, for each span, the sum of the values of those who are there in it, [spans]."""
    steps = np.zeros(spans + 1)
    np.add.at(steps, first, values)
    np.add.at(steps, last, -values)
    return np.cumsum(steps)[:-1]


def _between(values: Floats, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> Floats:
    """Return the sums of spans' values from each first to each last moment."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    total: Floats = sums[last] - sums[first]
    return total


def _prompts_at(served: Served, starts: Floats, first: Floats) -> Floats:
    """Return the prompt tokens admitted at the start before each of these, [n]."""
    prompts = np.zeros(len(starts))
    np.add.at(prompts, np.searchsorted(starts, served.first_token_at), served.prompt_tokens)
    before: Floats = prompts[np.maximum(np.searchsorted(starts, first) - 1, 0)]
    return before
