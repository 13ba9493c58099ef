from collections.abc import Callable

import numpy as np
import pytest

from pointsman_policy.evaluation.comparison import Comparison, Objectives, RuleRun, compare
from pointsman_policy.evaluation.metrics import figures
from pointsman_policy.evaluation.paired import batches
from pointsman_policy.simulator.outcomes import Outcomes

QUALITY = {"Bad": 0.2, "Middling": 0.5, "Good": 0.8}


@pytest.fixture
def measure() -> Callable[[float, int], Outcomes]:
    """Return what draws the outcomes of 300 requests of about this quality."""

    def draw(quality: float, seed: int) -> Outcomes:
        rng = np.random.default_rng(seed)
        arrival_at = np.cumsum(rng.standard_exponential(300))
        dropped = rng.random(300) < 0.05
        return Outcomes(
            arrival_at=arrival_at,
            first_token_at=arrival_at + rng.uniform(0.01, 0.5, 300),
            end_at=arrival_at + rng.uniform(1.0, 5.0, 300),
            output_tokens=np.full(300, 100),
            quality=np.clip(quality + 0.05 * rng.standard_normal(300), 0, 1),
            objectives=np.tile((1.0, 0.0, 0.04), (300, 1)),
            answered=~dropped,
            dropped=dropped,
        )

    return draw


@pytest.fixture
def cells(measure: Callable[[float, int], Outcomes]) -> dict[str, list[RuleRun]]:
    def run(picker: str, seed: int) -> RuleRun:
        outcomes = measure(QUALITY[picker], seed)
        return RuleRun(picker, seed, figures(outcomes, 10.0, 1e5), batches(outcomes.qos()))

    return {cell: [run(picker, seed) for seed in (1, 2, 3) for picker in QUALITY] for cell in ("load 0.5", "load 0.9")}


@pytest.fixture
def comparison(cells: dict[str, list[RuleRun]]) -> Comparison:
    result = compare("A title", "What it is", Objectives(1.0, 0.0, 0.04), cells)
    assert result is not None
    return result
