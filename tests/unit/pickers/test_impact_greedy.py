import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pointsman_policy.latency.estimator import estimates
from pointsman_policy.pickers.impact_greedy import COLUMNS, PICKER
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.state import DROP, RoutingState

MakeState = Callable[..., RoutingState]
Knot = dict[str, float]

NEUTRAL: Knot = {**dict.fromkeys(COLUMNS, 0.0), "pessimism": 1.0, "spread": 0.25}


def table(knots: Sequence[Knot]) -> list[float]:
    return [{**NEUTRAL, **knot}[column] for knot in knots for column in COLUMNS]


def greedy(*knots: Knot, may_drop: Sequence[Knot] = ()) -> Picker:
    """Return the rule with these knots for requests that must be served, and for the others the same or their own."""
    return dataclasses.replace(PICKER, parameters=(*table(knots), *table(may_drop or knots)))


def priced(state: RoutingState) -> RoutingState:
    """Make the request one of mean size, so that a price times the mean quality is taken off a full expert's score."""
    state.request["mean_work_seconds"] = estimates(state)["work_seconds"][0]
    return state


def test_without_prices_and_on_idle_experts_quality_decides(make_state: MakeState) -> None:
    state = make_state(candidate={"predicted_quality": (0.5, 0.9, 0.7)})
    pick = greedy({"load": 1.0, "impact_weight": 1.0}).pick(state, 0.5)
    assert pick.expert == 1
    assert pick.scores.tolist() == pytest.approx([0.5, 0.9, 0.7])


def test_quality_counts_as_far_as_the_objectives_are_likely_to_be_met(make_state: MakeState) -> None:
    state = make_state(
        expert={"base_seconds": (0.01, 0.03, 0.06)},
        candidate={"predicted_quality": (0.4, 0.6, 0.9)},
        request={"ntpot_objective_seconds": 0.03},
    )
    pick = greedy({"load": 1.0}).pick(state, 0.5)
    chances = estimates(state)["slo_probability"]
    assert chances[0] > 0.9 > chances[1] > 0.1 > chances[2]
    assert pick.expert == 0
    assert pick.scores[0] == pytest.approx(0.4 * chances[0], rel=0.05)
    assert pick.scores[2] < 0.1


@pytest.mark.parametrize(
    ("load", "price"), [(0.0, 0.1), (0.5, 0.1), (0.75, 0.15), (1.0, 0.2), (1.25, 0.25), (2.0, 0.4), (9.0, 0.4)]
)
def test_the_price_follows_the_load_between_its_knots_and_is_constant_beyond(
    load: float, price: float, make_state: MakeState
) -> None:
    picker = greedy({"load": 0.5, "price": 0.1}, {"load": 1.0, "price": 0.2}, {"load": 2.0, "price": 0.4})
    state = priced(make_state(candidate={"predicted_quality": 0.5}, request={"load_ratio": load}))
    assert picker.pick(state, 0.5).scores.tolist() == pytest.approx([0.5 - 0.5 * price] * 3, abs=1e-5)


def test_a_single_knot_holds_at_every_load(make_state: MakeState) -> None:
    picker = greedy({"load": 1.0, "price": 0.2})
    for load in (0.0, 1.0, 5.0):
        state = priced(make_state(request={"load_ratio": load}))
        assert picker.pick(state, 0.5).scores.tolist() == pytest.approx([0.4] * 3, abs=1e-5)


def test_a_price_is_for_a_mean_request_and_the_same_on_unlike_experts(make_state: MakeState) -> None:
    state = make_state(2, expert={"base_seconds": (0.01, 0.03)})
    work = estimates(state)["work_seconds"]
    mean = 2 / (1 / work[0] + 1 / work[1])
    for size in (0.5, 1.0, 2.0):
        state.request["mean_work_seconds"] = mean / size
        scores = greedy({"load": 1.0, "price": 0.1}).pick(state, 0.5).scores
        assert scores.tolist() == pytest.approx([0.5 - 0.05 * size] * 2, abs=1e-5)


def test_the_price_rises_with_the_slack_that_is_taken(make_state: MakeState) -> None:
    crowded = {"running_request_count": (0, 4), "running_context_tokens": (0, 800), "running_remaining_tokens": (0, 80)}
    state = make_state(2, expert=crowded, request={"ntpot_objective_seconds": 0.012})
    work = estimates(state)["work_seconds"]
    state.request["mean_work_seconds"] = 2 / (1 / work[0] + 1 / work[1])
    taken = estimates(state)["crowding_ratio"]
    assert taken[0] == pytest.approx(0.0, abs=1e-5)
    assert 0.1 < taken[1] < 1.0
    free = greedy({"load": 1.0}).pick(state, 0.5).scores
    priced = greedy({"load": 1.0, "price": 0.1, "sharpness": 2.0}).pick(state, 0.5).scores
    health = estimates(state)["health"]
    assert (free - priced).tolist() == pytest.approx([0.0, 0.05 * taken[1] ** 2 * health[1]], abs=1e-5)


def with_runner_on(state: RoutingState, expert: int) -> RoutingState:
    """Let a long request that is just in time run on an expert."""
    state.expert[expert]["running_request_count"] = 1
    state.expert[expert]["running_context_tokens"] = 150
    state.expert[expert]["running_remaining_tokens"] = 150
    slot = state.running[expert, 0]
    slot["prompt_tokens"], slot["predicted_quality"], slot["predicted_output_tokens"] = 100, 0.8, 200
    slot["generated_tokens"], slot["age_seconds"], slot["decode_age_seconds"] = 50, 1.0, 0.9
    slot["ntpot_objective_seconds"] = 0.0128
    state.running_mask[expert, 0] = True
    return state


def test_harm_to_running_requests_is_weighed_against_quality(make_state: MakeState) -> None:
    state = with_runner_on(
        make_state(2, candidate={"predicted_quality": (0.51, 0.5)}, request={"prompt_tokens": 6_000}),
        0,
    )
    impact = estimates(state)["impact"]
    assert impact[0] > 0.05
    assert impact[1] == 0
    assert greedy({"load": 1.0, "impact_weight": 0.0}).pick(state, 0.5).expert == 0
    weighed = greedy({"load": 1.0, "impact_weight": 2.0}).pick(state, 0.5)
    assert weighed.expert == 1
    assert weighed.scores.tolist() == pytest.approx([0.51 - 2 * impact[0], 0.5], abs=1e-5)


def test_a_score_below_the_threshold_drops_only_what_may_be_dropped(make_state: MakeState) -> None:
    picker = greedy({"load": 0.5, "threshold": 0.0}, {"load": 1.5, "threshold": 2.0})
    for load, may_drop, expected in ((0.5, 1, 2), (1.5, 1, DROP), (1.5, 0, 2), (1.1, 1, 2), (1.3, 1, DROP)):
        state = make_state(
            candidate={"predicted_quality": (0.2, 0.4, 0.6)}, request={"load_ratio": load, "may_drop": may_drop}
        )
        assert picker.pick(state, 0.5).expert == expected


def test_requests_that_may_be_dropped_have_prices_of_their_own(make_state: MakeState) -> None:
    picker = greedy({"load": 1.0, "price": 0.1}, may_drop=[{"load": 1.0, "price": 0.3}])
    scores = [picker.pick(priced(make_state(request={"may_drop": may_drop})), 0.5).scores[0] for may_drop in (0, 1)]
    assert scores == pytest.approx([0.45, 0.35], abs=1e-5)


def test_a_late_request_goes_where_it_wastes_least(make_state: MakeState) -> None:
    state = make_state(
        expert={"base_seconds": (0.01, 0.03, 0.01)},
        candidate={"predicted_quality": (0.9, 0.5, 0.7)},
        request={"ntpot_objective_seconds": 0.001},
    )
    assert greedy({"load": 1.0, "waste": 1.0}).pick(state, 0.5).expert == 1


def test_experts_that_are_not_allowed_set_no_scale(make_state: MakeState) -> None:
    request = {"ntpot_objective_seconds": 0.001}
    picker = greedy({"load": 1.0, "waste": 1.0})
    few = make_state(2, candidate={"predicted_quality": (0.9, 0.5)}, request=request)
    more = make_state(3, candidate={"predicted_quality": (0.9, 0.5, 0.1)}, request=request, allowed=[True, True, False])
    np.testing.assert_allclose(picker.pick(more, 0.5).scores[:2], picker.pick(few, 0.5).scores)


def test_pessimism_makes_slow_experts_less_attractive(make_state: MakeState) -> None:
    state = make_state(
        2,
        expert={"base_seconds": (0.01, 0.027)},
        candidate={"predicted_quality": (0.5, 0.8)},
        request={"ntpot_objective_seconds": 0.03},
    )
    hopeful = greedy({"load": 1.0, "spread": 0.05})
    careful = greedy({"load": 1.0, "spread": 0.05, "pessimism": 1.2})
    assert [hopeful.pick(state, 0.5).expert, careful.pick(state, 0.5).expert] == [1, 0]


def test_the_shipped_tables_are_ordered_and_of_one_width() -> None:
    tables = np.array(PICKER.parameters).reshape(2, -1, len(COLUMNS))
    load, pessimism, spread = (tables[:, :, COLUMNS.index(name)] for name in ("load", "pessimism", "spread"))
    assert (np.diff(load, axis=1) > 0).all()
    assert (pessimism > 0).all()
    assert (spread > 0).all()
