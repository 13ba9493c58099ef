"""Predicted latency, P(meets the objectives) and action impact of a request on each expert.

An iteration of an expert that runs B sequences with C tokens of context and admits P prompt tokens takes
``t = c0 + c_seq*B + c_ctx*C + c_prefill*P`` seconds (iteration-level batching). From the state now this gives the
wait for a place in the batch, the time to first token and the time per token after it; a normal error whose spread
grows with the part that still lies ahead turns predictions into probabilities.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import compiled
from pointsman_policy.latency.impact import added_delay
from pointsman_policy.state import Record, RoutingState

ESTIMATE = np.dtype(
    [
        ("ttft_seconds", np.float32),
        ("tpot_seconds", np.float32),
        ("ntpot_seconds", np.float32),
        ("slo_probability", np.float32),  # that all objectives are met
        ("impact", np.float32),  # expected QoS lost among requests already there, >= 0
        ("health", np.float32),  # mean P(meets objectives) of the requests already there; 1 if there are none
        ("work_seconds", np.float32),  # expert-seconds that the request takes, see work_seconds()
        ("crowding_ratio", np.float32),  # slack that the load there takes of the objectives: 0 = none, 1 = all of it
    ]
)

DEFAULT_PESSIMISM = 1.0
DEFAULT_SPREAD = 0.25
DEFAULT_LENGTH_SPREAD = 0.5
_SMALLEST_SPREAD = 0.02
LARGEST_PREFILL_SHARE = 0.6
_LARGEST_SPREAD = 0.5  # a normal error cannot be larger without making the impossible likely
_MOST_CROWDED = 1.5
_WAIT_SPREAD = 1.0  # a wait for others to end is about as uncertain as it is long
_STEPS = 65_536
"""How finely the iterations until a place is free are resolved."""
_LENGTH_QUANTILES = (-1.2816, -0.5244, 0.0, 0.5244, 1.2816)
"""Five equally likely points of a standard normal: an integral over the answer's length."""


_CDF_STEPS = 32
"""Of a standard deviation."""
_CDF_END = 6 * _CDF_STEPS
_CDF_POINTS = np.arange(_CDF_END + 1) / _CDF_STEPS
_TAIL = np.array([0.5 * math.erfc(z / math.sqrt(2.0)) for z in _CDF_POINTS])
_TAIL_SLOPE = -np.exp(-0.5 * _CDF_POINTS**2) / math.sqrt(2.0 * math.pi) / _CDF_STEPS


@compiled
def normal_cdf(z: float) -> float:
    """Return P(Z <= z) of a standard normal Z, to 2e-9; NaN of NaN.

    Interpolates a table with cubics: erfc takes three to six times as long, and was a third of an estimate's time.
    """
    x = abs(z) * _CDF_STEPS
    if x >= _CDF_END:
        return 0.5 + math.copysign(0.5, z)
    if not x >= 0.0:
        return np.nan
    k = int(x)
    t = x - k
    fall = _TAIL[k + 1] - _TAIL[k]
    start, end = _TAIL_SLOPE[k], _TAIL_SLOPE[k + 1]
    tail = _TAIL[k] + t * (start + t * (3.0 * fall - 2.0 * start - end + t * (start + end - 2.0 * fall)))
    if z < 0.0:
        return float(tail)
    return float(1.0 - tail)


@compiled
def tightest(tpot_objective: float, ntpot_objective: float) -> float:
    """Return the stricter of two per-token objectives, seconds; inf if neither is set."""
    limit = np.inf
    if tpot_objective > 0.0:
        limit = tpot_objective
    if ntpot_objective > 0.0 and ntpot_objective < limit:
        limit = ntpot_objective
    return limit


@compiled
def work_seconds(
    state: RoutingState, e: int, prompt_tokens: float, output_tokens: float, limit_seconds: float
) -> float:
    """Return the expert-seconds that a request takes of an expert kept as full as its objectives allow.

    A steady batch of B like requests (p prompt, D output tokens) iterates in ``c0 + s*B`` with
    ``s = c_seq + c_ctx*(p + D/2) + c_prefill*p/D``. The largest batch within the limit L per token is
    ``B* = (L - c0)/s``, bounded by the batch and KV limits, so one request costs ``D*(c0/B* + s)`` of the expert.

    Args:
        state: Gives the expert's coefficients and limits.
        e: Index of the expert.
        prompt_tokens: p.
        output_tokens: D, at least 1.
        limit_seconds: L; inf = none.
    """
    expert = state.expert[e]
    share = (
        expert.per_sequence_seconds
        + expert.per_context_token_seconds * (prompt_tokens + 0.5 * output_tokens)
        + expert.per_prefill_token_seconds * prompt_tokens / output_tokens
    )
    batch = float(expert.maximum_running_count)
    if expert.kv_capacity_tokens > 0.0:
        batch = min(batch, expert.kv_capacity_tokens / (prompt_tokens + output_tokens))
    if limit_seconds < np.inf and share > 0.0:
        batch = min(batch, (limit_seconds - expert.base_seconds) / share)
    batch = max(batch, 1.0)
    return float(output_tokens * (expert.base_seconds / batch + share))


@compiled
def _turnovers(lengths: float) -> float:
    """Return how often a place has become free again after so many mean lengths; they spread evenly over twice that."""
    return max(0.5 * lengths, lengths - 1.0 / 3.0)


@compiled
def _ended(
    state: RoutingState, e: int, iterations: float, listed: int, unlisted: float, span: float, per_token: float
) -> float:
    """Return how many requests have ended after so many iterations; see `_iterations_until_free`."""
    once = min(iterations, span)
    ended = unlisted * (once / span) * (1.0 + _turnovers((iterations - 0.5 * once) * per_token))
    for r in range(listed):
        slot = state.running[e, r]
        over = iterations - (slot.predicted_output_tokens - slot.generated_tokens)
        if over >= 0.0:
            ended += 1.0 + _turnovers(over * per_token)
    return float(ended)


@compiled
def _iterations_until_free(state: RoutingState, e: int, completions: float, output_tokens: float) -> float:
    """Return the iterations until so many requests have ended, each place being taken again at once from the queue.

    Listed requests end after their remaining tokens; unlisted ones are taken to spread evenly over twice their mean. A
    place that was taken again is free again after lengths that spread evenly over twice `output_tokens`.
    """
    running = state.expert[e].running_request_count
    if running <= 0.0:
        return 0.0
    listed = 0
    unlisted_tokens = float(state.expert[e].running_remaining_tokens)
    high = 0.0
    for r in range(state.running.shape[1]):
        if state.running_mask[e, r]:
            remaining = state.running[e, r].predicted_output_tokens - state.running[e, r].generated_tokens
            unlisted_tokens -= remaining
            high = max(high, remaining)
            listed += 1
    unlisted = max(running - listed, 0.0)
    span = 2.0 * max(unlisted_tokens / max(unlisted, 1.0), 1.0)
    step = (max(high, span) + (completions / running + 1.0) * output_tokens) / _STEPS
    low, high = 0, _STEPS
    missing, spare = completions, completions  # at low, and as a guess at high
    moved = 0
    while high - low > 1:  # regula falsi on the number that has ended; bisection would take twice as many rounds
        middle = low + int((high - low) * missing / (missing + spare))
        middle = min(max(middle, low + 1), high - 1)
        excess = _ended(state, e, middle * step, listed, unlisted, span, 1.0 / output_tokens) - completions
        if excess >= 0.0:
            high, spare = middle, excess
            if moved > 0:
                missing *= 0.5  # the Illinois rule, so that the other end moves too
            moved = 1
        else:
            low, missing = middle, -excess
            if moved < 0:
                spare *= 0.5
            moved = -1
    return float(high * step)


@compiled
def _prefill_share(expert: Record, iteration: float) -> float:
    """Return the share of an expert's time that prompts take: those sent there, as far as places become free for them.

    While requests wait, one of B running ones ends every D/B iterations and lets in a prompt of p tokens.
    """
    share = expert.prefill_tokens_per_second * expert.per_prefill_token_seconds
    if expert.waiting_request_count > 0.0:
        prompt_share = expert.waiting_prompt_tokens / max(expert.waiting_output_tokens, 1.0)
        admitted = expert.running_request_count * prompt_share * expert.per_prefill_token_seconds
        share = min(share, admitted / (iteration + admitted))
    return float(min(share, LARGEST_PREFILL_SHARE))


@compiled
def _slot_chances(
    slot: Record, wait: float, remaining: float, iteration: float, delay: float, spread: float
) -> tuple[float, float]:
    """Return P(one request meets its objectives) without and with a delay."""
    total = slot.generated_tokens + remaining
    before = 1.0
    after = 1.0
    if slot.ntpot_objective_seconds > 0.0:
        ahead = wait + remaining * iteration
        limit = slot.ntpot_objective_seconds * total - slot.age_seconds
        scale = max(spread * ahead, _SMALLEST_SPREAD * slot.ntpot_objective_seconds * total)
        before = min(before, normal_cdf((limit - ahead) / scale))
        after = min(after, normal_cdf((limit - ahead - delay) / scale))
    if slot.tpot_objective_seconds > 0.0 and total > 1.0:
        ahead = remaining * iteration
        limit = slot.tpot_objective_seconds * (total - 1.0) - slot.decode_age_seconds
        scale = max(spread * ahead, _SMALLEST_SPREAD * slot.tpot_objective_seconds * total)
        before = min(before, normal_cdf((limit - ahead) / scale))
        after = min(after, normal_cdf((limit - ahead - delay) / scale))
    if slot.ttft_objective_seconds > 0.0 and slot.generated_tokens < 1.0:
        limit = slot.ttft_objective_seconds - slot.age_seconds
        scale = max(spread * wait, _SMALLEST_SPREAD * slot.ttft_objective_seconds)
        met = normal_cdf((limit - wait) / scale)  # first-come order: a later request does not delay the first token
        before = min(before, met)
        after = min(after, met)
    return before, after


@compiled
def _harm(
    state: RoutingState, e: int, wait: float, iteration: float, output_tokens: float, spread: float, row: Record
) -> None:
    """Write impact and health of expert e into its estimate, if the new request joins after `wait` seconds."""
    expert = state.expert[e]
    prompt = state.request[0].prompt_tokens
    impact = 0.0
    chances = 0.0
    known = 0
    for waiting in range(2):
        slots = state.running[e]
        mask = state.running_mask[e]
        total = float(expert.running_request_count)
        tokens = float(expert.running_remaining_tokens)
        if waiting == 1:
            slots = state.waiting[e]
            mask = state.waiting_mask[e]
            total = float(expert.waiting_request_count)
            tokens = float(expert.waiting_output_tokens)
        loss = 0.0
        listed = 0
        listed_tokens = 1.0
        for k in range(mask.shape[0]):
            if not mask[k]:
                break
            slot = slots[k]
            own_wait = 0.0
            if waiting == 1:
                own_wait = wait * (k + 1.0) / (total + 1.0)
            remaining = slot.predicted_output_tokens - slot.generated_tokens
            delay = added_delay(
                prompt,
                output_tokens,
                remaining - (wait - own_wait) / iteration,
                expert.per_sequence_seconds,
                expert.per_context_token_seconds,
                expert.per_prefill_token_seconds,
            )
            before, after = _slot_chances(slot, own_wait, remaining, iteration, delay, spread)
            loss += slot.predicted_quality * max(before - after, 0.0)
            chances += before
            listed += 1
            listed_tokens += remaining
        known += listed
        if 0 < listed < total:  # the oldest are listed, and harm grows with the tokens that are still to come
            loss *= max(total / listed, tokens / listed_tokens)
        impact += loss
    row.impact = impact
    row.health = 1.0
    if known > 0:
        row.health = chances / known


@compiled
def _scale(seconds: float, wait: float, spread: float) -> float:
    """Return the standard deviation of a predicted time of which a part is the wait for others."""
    error = math.sqrt((spread * seconds) ** 2 + (_WAIT_SPREAD * wait) ** 2)  # hypot is slow
    return min(error, max(spread, _LARGEST_SPREAD) * seconds)


@compiled
def _slo_probability(
    request: Record, ttft: float, tpot: float, wait: float, output_tokens: float, spread: float, length_spread: float
) -> float:
    """Return P(the new request meets all its objectives)."""
    chance = 1.0
    if request.ttft_objective_seconds > 0.0:
        scale = _scale(ttft, wait, spread)
        chance = min(chance, normal_cdf((request.ttft_objective_seconds - ttft) / scale))
    if request.tpot_objective_seconds > 0.0:
        chance = min(chance, normal_cdf((request.tpot_objective_seconds - tpot) / (spread * tpot)))
    probability = chance
    if request.ntpot_objective_seconds > 0.0:
        probability = 0.0
        for z in _LENGTH_QUANTILES:
            length = max(output_tokens * math.exp(length_spread * (z - 0.5 * length_spread)), 1.0)
            latency = tpot + (ttft - tpot) / length
            scale = _scale(latency, wait / length, spread)
            met = normal_cdf((request.ntpot_objective_seconds - latency) / scale)
            probability += min(chance, met) / len(_LENGTH_QUANTILES)
    return float(probability)


class _Times(NamedTuple):
    """Predicted times of a request on an expert, seconds."""

    ttft: float
    tpot: float
    wait: float
    """For a place in the batch."""
    iteration: float
    """Of the batch as it is now, the prompts that come in included."""


@compiled
def _times(state: RoutingState, e: int, pessimism: float) -> _Times:
    expert = state.expert[e]
    prompt = float(state.request[0].prompt_tokens)
    output = max(float(state.candidate[e].predicted_output_tokens), 1.0)
    running = float(expert.running_request_count)
    waiting = float(expert.waiting_request_count)
    now = expert.base_seconds + expert.per_sequence_seconds * running
    now += expert.per_context_token_seconds * expert.running_context_tokens
    stall = _prefill_share(expert, now)
    now *= pessimism / (1.0 - stall)

    mean_context = prompt
    if running > 0.0:
        mean_context = expert.running_context_tokens / running
    completions = waiting + 1.0 - (expert.maximum_running_count - running)
    if expert.kv_capacity_tokens > 0.0:
        held = expert.running_context_tokens + expert.waiting_prompt_tokens + 0.5 * expert.waiting_output_tokens
        completions = max(completions, (held + prompt - expert.kv_capacity_tokens) / max(mean_context, 1.0))
    if completions > 0.0 and running > 0.0:
        mean_output = output
        if waiting > 0.0:
            mean_output = max(expert.waiting_output_tokens / waiting, 1.0)
        wait = _iterations_until_free(state, e, completions, mean_output) * now
        ahead_prompt = 0.0
    else:
        wait = 0.0
        if running > 0.0:
            wait = 0.5 * now
        ahead_prompt = float(expert.waiting_prompt_tokens)
    batch = min(running + waiting + 1.0, expert.maximum_running_count)
    if expert.kv_capacity_tokens > 0.0:
        batch = max(min(batch, expert.kv_capacity_tokens / max(mean_context, 1.0)), 1.0)
    context = (batch - 1.0) * mean_context + prompt
    fixed = expert.base_seconds + expert.per_sequence_seconds * batch + expert.per_context_token_seconds * context
    prefill = expert.per_prefill_token_seconds * (prompt + ahead_prompt)
    ttft = wait + pessimism * (fixed + prefill)
    tpot = pessimism * (fixed + expert.per_context_token_seconds * 0.5 * output) / (1.0 - stall)
    return _Times(ttft, tpot, wait, now)


@compiled
def _slack_taken(seconds: float, alone: float, objective: float) -> float:
    """Return the share of an objective's slack that is gone; 0 = not set."""
    if objective <= 0.0:
        return 0.0
    if objective <= alone:
        return _MOST_CROWDED
    return float(min(max((seconds - alone) / (objective - alone), 0.0), _MOST_CROWDED))


@compiled
def _crowding(state: RoutingState, e: int, pessimism: float, output: float, row: Record) -> float:
    """Return how much of the slack of the tightest objective the load on an expert takes.

    Slack is what an objective leaves beyond the time that the request takes of the expert when alone there.
    """
    expert = state.expert[e]
    request = state.request[0]
    prompt = float(request.prompt_tokens)
    fixed = expert.base_seconds + expert.per_sequence_seconds + expert.per_context_token_seconds * prompt
    ttft = pessimism * (fixed + expert.per_prefill_token_seconds * prompt)
    tpot = pessimism * (fixed + expert.per_context_token_seconds * 0.5 * output)
    ntpot = (ttft + (output - 1.0) * tpot) / output
    taken = _slack_taken(row.ttft_seconds, ttft, request.ttft_objective_seconds)
    taken = max(taken, _slack_taken(row.tpot_seconds, tpot, request.tpot_objective_seconds))
    return float(max(taken, _slack_taken(row.ntpot_seconds, ntpot, request.ntpot_objective_seconds)))


@compiled
def predict_ttft_seconds(state: RoutingState, e: int, pessimism: float) -> float:
    """Return what `estimate` would say of the TTFT on expert e, and no more."""
    return float(np.float32(_times(state, e, pessimism).ttft))


@compiled
def estimate(
    state: RoutingState, e: int, pessimism: float, spread: float, length_spread: float, out: npt.NDArray[np.void]
) -> None:
    """Predict the request on expert e.

    Args:
        state: The routing state.
        e: Index of the expert.
        pessimism: Predicted times are multiplied by this; above 1 errs high.
        spread: Standard deviation of the relative error of times that lie ahead, above 0.
        length_spread: Standard deviation of the logarithm of the answer's length around its prediction.
        out: ESTIMATE rows, [E]; row e is written.
    """
    request = state.request[0]
    output = max(float(state.candidate[e].predicted_output_tokens), 1.0)
    times = _times(state, e, pessimism)
    row = out[e]
    row.ttft_seconds = times.ttft
    row.tpot_seconds = times.tpot
    row.ntpot_seconds = (times.ttft + (output - 1.0) * times.tpot) / output
    row.slo_probability = _slo_probability(request, times.ttft, times.tpot, times.wait, output, spread, length_spread)
    _harm(state, e, times.wait, times.iteration, output, spread, row)
    limit = tightest(request.tpot_objective_seconds, request.ntpot_objective_seconds)
    row.work_seconds = work_seconds(state, e, float(request.prompt_tokens), output, limit)
    row.crowding_ratio = _crowding(state, e, pessimism, output, row)


@compiled
def estimate_all(
    state: RoutingState, pessimism: float, spread: float, length_spread: float, out: npt.NDArray[np.void]
) -> None:
    """Predict the request on every expert, allowed or not; see `estimate`."""
    for e in range(state.expert.shape[0]):
        estimate(state, e, pessimism, spread, length_spread, out)


def estimates(state: RoutingState) -> npt.NDArray[np.void]:
    """Return ESTIMATE rows, [E], with the default pessimism and spreads."""
    out = np.zeros(len(state.expert), ESTIMATE)
    estimate_all(state, DEFAULT_PESSIMISM, DEFAULT_SPREAD, DEFAULT_LENGTH_SPREAD, out)
    return out
