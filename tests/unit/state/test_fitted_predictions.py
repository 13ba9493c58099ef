"""A router with a fitted predictor: what its picker is told."""

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from prometheus_client import CollectorRegistry
from tests.unit.routing import ObedientPicker, endpoint, policy

from pointsman_operator.decision import RouteQuery
from pointsman_operator.metrics import Metrics
from pointsman_operator.router import Router
from pointsman_policy.prediction.fitted import Fit, FittedPredictor, ModelFit, Weights


class Shouting:
    """One feature: whether the text has an exclamation mark."""

    name = "shouting"
    version = 1
    dimension = 1

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.array([["!" in text] for text in texts], np.float32)


def predictor() -> FittedPredictor:
    """Knows model-a: quality 0.3 or, shouted at, 0.8; always 40 tokens."""
    weights = Weights(
        matrix=np.array([[0.5], [0.0]], np.float32),
        offset=np.array([0.3, 0.0], np.float32),
        log_length_bounds=np.zeros((2, 1), np.float32),
        length_intercept=np.array([40], np.float32),
        length_slope=np.zeros(1, np.float32),
    )
    fit = ModelFit("model-a", Fit(9, 0.44, 1.0), Fit(9, 40.0), 0.1)
    return FittedPredictor(Shouting(), [fit], weights)


def router(picker: ObedientPicker) -> Router:
    one = Router(
        {"Obedient": picker},
        Metrics(CollectorRegistry()),
        lambda: 100.0,
        lambda: 100.0,
        np.random.default_rng(1),
        predictor=predictor(),
    )
    one.configure([policy()], [endpoint("a"), endpoint("b")])
    picker.seen.clear()
    return one


def test_the_picker_is_told_what_is_predicted_of_the_prompt() -> None:
    picker = ObedientPicker()
    one = router(picker)
    told = []
    for prompt in ("please", "now!", ""):
        decision = one.route(RouteQuery("edge-chat", prompt))
        explanation = one.explain(decision.id)
        told.append([(candidate.quality, candidate.output_tokens) for candidate in explanation.candidates])
    by_name = [dict(zip(("a", "b"), sorted(pairs, key=lambda pair: pair[1]), strict=True)) for pairs in told]
    for predicted, quality in zip(by_name, (0.3, 0.8, 0.44), strict=True):
        assert predicted["a"] == pytest.approx((quality, 40))
        assert predicted["b"] == pytest.approx((0.6, 100))


def test_a_known_models_mean_is_its_prior() -> None:
    views = {view.endpoint.name: view for view in router(ObedientPicker()).experts("edge-chat")[1]}
    assert views["a"].endpoint.expert.quality_prior_percent == 44
    assert views["b"].endpoint.expert.quality_prior_percent == 60


def test_models_without_a_fit_are_named_once_and_prompts_never(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        one = router(ObedientPicker())
        one.configure([policy()], [endpoint("a"), endpoint("b")])
        one.route(RouteQuery("edge-chat", "my secret!"))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO] == [
        "Policy edge/chat: model-b not fitted, at the experts' priors"
    ]
    assert "secret" not in caplog.text
