"""Made-up objectives, such that a fleet can keep them in part."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_KINDS = ("ntpot", "tpot", "ttft", "ttft and tpot", "ttft and ntpot", "all")
_KIND_CHANCES = (0.55, 0.1, 0.05, 0.15, 0.1, 0.05)
_CLASSES_CHANCE = 0.3
_MOST_CLASSES = 3


def draw_objectives(
    rng: np.random.Generator, count: int, coefficients: Floats, prompt_tokens: float, output_tokens: Floats
) -> Floats:
    """Return (TTFT, TPOT, NTPOT) seconds, 0 = none, [count, 3].

    Per-token limits are 1.2 to 4 times what one of the experts needs for a mean request when alone, the time to first
    token 3 to 30 times. Now and then two or three classes of requests have limits of their own.

    Args:
        rng: Gives everything.
        count: Requests.
        coefficients: True (c0, c_seq, c_ctx, c_prefill) of the experts, seconds, [E, 4].
        prompt_tokens: Mean prompt length.
        output_tokens: Mean answer length on each expert, [E].
    """
    base, sequence, context, prefill = coefficients.T
    place = rng.uniform(0.2, 1.0)
    first = np.quantile(base + prefill * prompt_tokens, place)
    step = base + sequence + context * (prompt_tokens + output_tokens / 2)
    tpot = np.quantile(step, place)
    ntpot = np.quantile(step + prefill * prompt_tokens / output_tokens, place)
    multiple = np.exp(rng.uniform(np.log(1.2), np.log(4.0)))
    limits = np.array([first * np.exp(rng.uniform(np.log(3.0), np.log(30.0))), tpot * multiple, ntpot * multiple])
    kind = str(rng.choice(_KINDS, p=_KIND_CHANCES))
    limits *= np.array(
        [
            kind in ("ttft", "ttft and tpot", "ttft and ntpot", "all"),
            kind in ("tpot", "ttft and tpot", "all"),
            kind in ("ntpot", "ttft and ntpot", "all"),
        ]
    )
    if rng.random() >= _CLASSES_CHANCE:
        return np.tile(limits, (count, 1))
    classes = int(rng.integers(2, _MOST_CLASSES + 1))
    own = limits * np.exp(rng.uniform(np.log(0.7), np.log(2.5), (classes, 1)))
    return own[rng.integers(classes, size=count)]
