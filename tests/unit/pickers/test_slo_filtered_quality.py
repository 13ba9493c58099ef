import dataclasses
from collections.abc import Callable

import pytest

from pointsman_policy.pickers.slo_filtered_quality import PICKER
from pointsman_policy.state import DROP, RoutingState

MakeState = Callable[..., RoutingState]
# Alone, expert e needs about 10, 20 and 40 ms a token, and the better its answers the slower it is.
LADDER = {"base_seconds": (0.01, 0.02, 0.04)}
QUALITY = {"predicted_quality": (0.3, 0.6, 0.9)}


@pytest.mark.parametrize("kind", ["ttft_objective_seconds", "tpot_objective_seconds", "ntpot_objective_seconds"])
@pytest.mark.parametrize(("seconds", "expected"), [(0.0, 2), (0.05, 2), (0.03, 1), (0.015, 0)])
def test_the_best_quality_among_those_in_time_wins(
    kind: str, seconds: float, expected: int, make_state: MakeState
) -> None:
    state = make_state(expert=LADDER, candidate=QUALITY, request={kind: seconds})
    assert PICKER.pick(state, 0.5).expert == expected


def test_every_objective_must_be_met(make_state: MakeState) -> None:
    request = {"ntpot_objective_seconds": 0.05, "ttft_objective_seconds": 0.03}
    assert PICKER.pick(make_state(expert=LADDER, candidate=QUALITY, request=request), 0.5).expert == 1


def test_a_loaded_expert_is_left_out(make_state: MakeState) -> None:
    expert = {**LADDER, "running_request_count": (0, 8, 8), "waiting_request_count": (0, 50, 50)}
    expert["running_remaining_tokens"], expert["waiting_output_tokens"] = (0, 800, 800), (0, 5_000, 5_000)
    state = make_state(expert=expert, candidate=QUALITY, request={"ntpot_objective_seconds": 0.05})
    assert PICKER.pick(state, 0.5).expert == 0


def test_if_none_is_in_time_the_least_late_is_taken(make_state: MakeState) -> None:
    request = {"ntpot_objective_seconds": 0.001}
    state = make_state(expert=LADDER, candidate=QUALITY, request=request, allowed=[False, True, True])
    assert PICKER.pick(state, 0.5).expert == 1


def test_if_none_is_in_time_a_request_that_may_be_dropped_is(make_state: MakeState) -> None:
    request = {"ntpot_objective_seconds": 0.015, "may_drop": 1}
    allowed = [False, True, True]
    assert PICKER.pick(make_state(expert=LADDER, candidate=QUALITY, request=request), 0.5).expert == 0
    state = make_state(expert=LADDER, candidate=QUALITY, request=request, allowed=allowed)
    assert PICKER.pick(state, 0.5).expert == DROP


def test_the_parameter_is_the_share_of_an_objective_that_may_be_used(make_state: MakeState) -> None:
    state = make_state(expert=LADDER, candidate=QUALITY, request={"ntpot_objective_seconds": 0.05})
    half = dataclasses.replace(PICKER, parameters=(0.5,))
    assert [PICKER.pick(state, 0.5).expert, half.pick(state, 0.5).expert] == [2, 1]
