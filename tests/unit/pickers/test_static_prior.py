import dataclasses
from collections.abc import Callable

import pytest

from pointsman_policy.pickers.static_prior import PICKER
from pointsman_policy.state import RoutingState

MakeState = Callable[..., RoutingState]
EXPERT = {"base_seconds": (0.01, 0.02, 0.03), "per_sequence_seconds": 0.0}
QUALITY = {"predicted_quality": (0.4, 0.6, 0.9)}


@pytest.mark.parametrize(("weight", "expected"), [(0.0, 0), (0.5, 0), (0.65, 2), (1.0, 2)])
def test_the_weight_trades_quality_for_latency(weight: float, expected: int, make_state: MakeState) -> None:
    picker = dataclasses.replace(PICKER, parameters=(weight,))
    assert picker.pick(make_state(expert=EXPERT, candidate=QUALITY), 0.5).expert == expected


def test_the_scores_are_those_of_the_formula(make_state: MakeState) -> None:
    picker = dataclasses.replace(PICKER, parameters=(0.5,))
    expert = {**EXPERT, "running_remaining_tokens": (800, 0, 0), "waiting_output_tokens": (800, 0, 0)}
    scores = picker.pick(make_state(expert=expert, candidate=QUALITY), 0.5).scores
    # Seconds: 0.01 * (100 + 1600 / 8), 0.02 * 100, 0.03 * 100.
    assert scores.tolist() == pytest.approx([0.2 - 0.5, 0.3 - 0.5 * 2 / 3, 0.45 - 0.5])


def test_the_slowest_allowed_expert_sets_the_scale(make_state: MakeState) -> None:
    picker = dataclasses.replace(PICKER, parameters=(0.5,))
    state = make_state(expert=EXPERT, candidate=QUALITY, allowed=[True, True, False])
    assert picker.pick(state, 0.5).scores[:2].tolist() == pytest.approx([0.2 - 0.25, 0.3 - 0.5])
