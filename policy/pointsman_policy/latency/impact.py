"""What a new request costs the requests that already run on an expert.

The paper (arXiv 2508.00234, action impact estimator) expects request i, once admitted beside a running request j, to
delay j by the prefill of i's prompt and by i's growing context in every iteration that the two share::

    delay(i, j) = k1 * p_i + k2 * sum_{k=1}^{m-1} (p_i + k),    m = min(D_j - d_j, D_i)

with p_i the prompt tokens of i, D the output tokens of each, d_j the tokens that j has already, k1 and k2 the expert's
seconds per prefill token and per context token and iteration. j is lost if its latency per token then exceeds L_j.
Here k1 and k2 are ``per_prefill_token_seconds`` and ``per_context_token_seconds``, and a share per sequence is added.
"""

from pointsman_policy.compiled import compiled


@compiled
def added_delay(
    prompt_tokens: float,
    output_tokens: float,
    shared_tokens: float,
    per_sequence_seconds: float,
    per_context_token_seconds: float,
    per_prefill_token_seconds: float,
) -> float:
    """Return the seconds by which a new request delays one that runs beside it.

    Args:
        prompt_tokens: Prompt of the new request.
        output_tokens: Predicted output of the new request.
        shared_tokens: Tokens that the other one still generates once the new one is admitted; 0 or less = no delay.
        per_sequence_seconds: Cost of one more sequence in an iteration; 0 gives the paper's formula.
        per_context_token_seconds: The paper's k2.
        per_prefill_token_seconds: The paper's k1.
    """
    if shared_tokens <= 0.0:
        return 0.0
    m = max(min(shared_tokens, output_tokens) - 1.0, 0.0)
    context = m * prompt_tokens + 0.5 * m * (m + 1.0)
    return per_prefill_token_seconds * prompt_tokens + per_context_token_seconds * context + per_sequence_seconds * m


@compiled
def newly_late(latency_per_token: float, delay: float, output_tokens: float, objective_seconds: float) -> bool:
    """Tell whether a delay pushes a running request over its objective.

    The paper charges a request again at every later arrival once it is late; a request that is late already has nothing
    left to lose, so only the crossing counts.

    Args:
        latency_per_token: The paper's l_j, seconds per output token expected without the new request.
        delay: From `added_delay`, seconds.
        output_tokens: The paper's D_j.
        objective_seconds: The paper's L.
    """
    return latency_per_token <= objective_seconds < latency_per_token + delay / output_tokens
