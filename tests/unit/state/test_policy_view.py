from typing import Any

import numpy as np
import pytest
from tests.unit.routing import endpoint, policy

from pointsman_operator.decision import ObjectiveOverrides, RouteQuery
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.state.in_flight import InFlight
from pointsman_operator.state.policy_view import Objectives, PolicyView
from pointsman_policy.reckoning import new_arrivals

OBJECTIVES = {
    "timeToFirstTokenMilliseconds": 2_000,
    "timePerOutputTokenMilliseconds": 50,
    "normalizedTimePerOutputTokenMilliseconds": 30,
}


def view(endpoints: list[Endpoint], **spec: Any) -> PolicyView:
    in_flight = InFlight()
    in_flight.set_experts(endpoints, None)
    return PolicyView(policy(**spec), endpoints, in_flight, new_arrivals())


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (ObjectiveOverrides(), (2.0, 0.05, 0.03)),
        (ObjectiveOverrides(ttft_seconds=0.5), (0.5, 0.05, 0.03)),
        (ObjectiveOverrides(ttft_seconds=0, tpot_seconds=0, ntpot_seconds=0), (0, 0, 0)),
        (ObjectiveOverrides(ntpot_seconds=0.2, tpot_seconds=0.1), (2.0, 0.1, 0.2)),
    ],
)
def test_a_requests_own_objectives_go_before_the_policys(
    overrides: ObjectiveOverrides, expected: tuple[float, float, float]
) -> None:
    assert view([endpoint("a")], objectives=OBJECTIVES).objectives(overrides) == pytest.approx(Objectives(*expected))


@pytest.mark.parametrize(
    ("query", "tokens"),
    [
        (RouteQuery("m"), 1),
        (RouteQuery("m", prompt="x" * 399), 99),
        (RouteQuery("m", prompt="x" * 400, prompt_tokens=7), 7),
    ],
)
def test_the_prompts_length_is_counted_or_estimated(query: RouteQuery, tokens: int) -> None:
    assert view([endpoint("a")]).assemble(query, 0.0).request[0]["prompt_tokens"] == tokens


@pytest.mark.parametrize(("limit", "predicted"), [(0, [100, 300]), (200, [100, 200]), (5, [5, 5])])
def test_an_answer_is_not_predicted_longer_than_it_may_be(limit: int, predicted: list[int]) -> None:
    one = view([endpoint("a"), endpoint("b", output_tokens_prior=300)])
    for _ in range(2):
        state = one.assemble(RouteQuery("m", max_output_tokens=limit), 0.0)
        assert state.candidate["predicted_output_tokens"].tolist() == predicted
    assert one.assemble(RouteQuery("m"), 0.0).candidate["predicted_output_tokens"].tolist() == [100, 300]


@pytest.mark.parametrize(
    ("subset", "allowed"),
    [
        (None, [True, True, False]),
        (frozenset({"10.0.0.2:8000", "10.0.0.3:8000"}), [False, True, False]),
        (frozenset[str](), [False, False, False]),
    ],
)
def test_only_what_is_ready_and_in_the_subset_is_allowed(subset: frozenset[str] | None, allowed: list[bool]) -> None:
    one = view([endpoint("a"), endpoint("b"), endpoint("c", ready=False)])
    for _ in range(2):
        assert one.assemble(RouteQuery("m", subset=subset), 0.0).allowed.tolist() == allowed


def test_the_load_is_that_of_the_arrivals() -> None:
    one = view([endpoint("a"), endpoint("b")], objectives=OBJECTIVES)
    slow = [float(one.assemble(RouteQuery("m"), float(t)).request[0]["load_ratio"]) for t in range(40)]
    fast = [float(one.assemble(RouteQuery("m"), 40 + t / 50).request[0]["load_ratio"]) for t in range(2_000)]
    assert np.all(np.diff(slow) >= -1e-6)
    assert fast[-1] > 20 * slow[-1] > 0
