from typing import Any

import numpy as np
import pytest
from tests.unit.routing import Core, endpoint, policy

from pointsman_operator.decision import ObjectiveOverrides, Outcome, OutcomeStatus
from pointsman_operator.trace import latencies


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ttft_seconds": 0.5, "duration_seconds": 2.5, "output_tokens": 101}, (0.5, 0.02, 2.5 / 101)),
        ({"ttft_seconds": 0.5, "duration_seconds": 0.5, "output_tokens": 1}, (0.5, None, 0.5)),
        ({"duration_seconds": 2.0, "output_tokens": 100}, (None, None, 0.02)),
        ({"ttft_seconds": 0.5, "duration_seconds": 2.0}, (0.5, None, None)),
        ({"ttft_seconds": 0.5, "duration_seconds": 2.0, "output_tokens": 0}, (0.5, None, None)),
        ({"ttft_seconds": 0.51, "duration_seconds": 0.5, "output_tokens": 5}, (0.51, 0.0, 0.1)),
        ({}, (None, None, None)),
    ],
)
def test_latencies_follow_from_what_is_known(
    fields: dict[str, Any], expected: tuple[float | None, float | None, float | None]
) -> None:
    assert latencies(Outcome("d", OutcomeStatus.COMPLETED, **fields)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("objectives", "fields", "met"),
    [
        ((0.5, 0, 0), {"ttft_seconds": 0.5}, True),
        ((0.5, 0, 0), {"ttft_seconds": 0.51}, False),
        ((0.5, 0, 0), {"duration_seconds": 1.0, "output_tokens": 10}, None),
        ((0.5, 0, 0.02), {"duration_seconds": 1.0, "output_tokens": 10}, False),
        ((0.5, 0, 0.2), {"duration_seconds": 1.0, "output_tokens": 10}, None),
        ((0, 0.1, 0.2), {"ttft_seconds": 0.5, "duration_seconds": 1.0, "output_tokens": 11}, True),
        ((0, 0.01, 0.2), {"ttft_seconds": 0.5, "duration_seconds": 1.0, "output_tokens": 11}, False),
        ((0, 0, 0), {"duration_seconds": 99.0, "output_tokens": 1}, None),
    ],
)
def test_a_request_met_its_objectives_if_each_of_them_was_met(
    objectives: tuple[float, float, float], fields: dict[str, Any], *, met: bool | None
) -> None:
    core = Core([endpoint("a")], [policy(objectives={})])
    decision = core.route(objectives=ObjectiveOverrides(*objectives))
    core.report(decision, **fields)
    judged = core.value("slo_judged_requests_total", policy="edge/chat", picker="Obedient")
    attained = core.value("slo_attained_requests_total", policy="edge/chat", picker="Obedient")
    assert (judged, attained) == (0 if met is None else 1, 1 if met else 0)


def test_every_candidate_of_an_explanation_has_predictions() -> None:
    core = Core([endpoint("a"), endpoint("b", ready=False), endpoint("c", quality_prior_percent=30)])
    core.picker.scores = (0.5, 0.9, 0.7)
    explanation = core.router.explain(core.route().id)
    assert [(one.endpoint.name, one.allowed, one.score) for one in explanation.candidates] == [
        ("c", True, pytest.approx(0.7)),
        ("a", True, 0.5),
        ("b", False, None),
    ]
    for one in explanation.candidates:
        numbers = (one.ttft_seconds, one.tpot_seconds, one.ntpot_seconds, one.quality, one.slo_probability, one.impact)
        assert np.isfinite(numbers).all()
