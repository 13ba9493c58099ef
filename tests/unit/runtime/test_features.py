import copy

import numpy as np
import numpy.typing as npt
import pytest
from tests.unit.states import draw_state, stacked

from pointsman_policy.latency.estimator import estimates
from pointsman_policy.runtime.features import (
    EXPERT_FEATURES,
    FEATURES,
    REQUEST_FEATURES,
    SLOT_FEATURES,
    Features,
    empty_features,
    encode,
    encode_batch,
    feature_digest,
)
from pointsman_policy.state import RoutingState, empty_state

LARGEST = 4.0


def encoded(state: RoutingState) -> Features:
    """Return a state's features, written over rubbish."""
    experts, running = state.running_mask.shape
    features = empty_features((), experts, running, state.waiting_mask.shape[1])
    for array in features:
        array[:] = True if array.dtype == np.bool_ else np.nan
    encode(state, features)
    return features


def expert_rows(features: Features) -> npt.NDArray[np.void]:
    return features.expert.view(EXPERT_FEATURES)[:, 0]


def only(state: RoutingState, experts: list[int]) -> RoutingState:
    """Return the state as it would be with some of its experts alone."""
    parts = {name: array[experts] for name, array in state._asdict().items() if name != "request"}
    return state._replace(**parts)


def assert_bounded(features: Features) -> None:
    for name, array in features._asdict().items():
        if array.dtype == np.float32:
            assert np.isfinite(array).all(), name
            assert np.abs(array).max(initial=0) <= LARGEST, name


@pytest.mark.parametrize("experts", [1, 3, 20])
def test_plausible_states_give_bounded_features_that_differ(experts: int) -> None:
    rng = np.random.default_rng(experts)
    drawn = [encoded(draw_state(rng, experts)) for _ in range(30)]
    for features in drawn:
        assert_bounded(features)
    spread = np.concatenate([features.expert for features in drawn]).std(axis=0)
    constant = {name for name, deviation in zip(FEATURES["expert"], spread, strict=True) if deviation < 1e-3}
    alone = {"quality_difference", "quality_relative", "output_relative", "work_relative", "advantage"}
    assert constant == (alone if experts == 1 else set())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0, 0.0, 1e-30, 1e30, 3e38])
def test_features_are_finite_whatever_the_state_holds(value: float) -> None:
    rng = np.random.default_rng(5)
    for table in ("expert", "running", "waiting", "candidate", "request"):
        drawn = draw_state(rng, 2)
        for name in getattr(drawn, table).dtype.names:
            state = copy.deepcopy(drawn)
            getattr(state, table)[name] = value
            assert_bounded(encoded(state))
        for name in getattr(drawn, table).dtype.names:
            getattr(drawn, table)[name] = value
        assert_bounded(encoded(drawn))


def test_an_empty_state_is_encoded() -> None:
    assert_bounded(encoded(empty_state(2)))


def test_the_analytic_predictions_are_among_the_features() -> None:
    state = draw_state(np.random.default_rng(1), 3)
    state.request["ntpot_objective_seconds"] = 0.03
    state.request["ttft_objective_seconds"] = 2.0
    rows = expert_rows(encoded(state))
    one = estimates(state)
    np.testing.assert_allclose(rows["ntpot"], np.log(one["ntpot_seconds"] / 0.03).clip(-4, 4) / 2, atol=1e-5)
    np.testing.assert_allclose(rows["ttft"], np.log(one["ttft_seconds"] / 2.0).clip(-4, 4) / 2, atol=1e-5)
    chance = one["slo_probability"].astype(float).clip(1e-9, 1 - 1e-9)
    np.testing.assert_allclose(rows["slo_logit"], np.log(chance / (1 - chance)).clip(-6, 6) / 3, atol=1e-3)
    work = one["work_seconds"]
    np.testing.assert_allclose(rows["work_relative"], np.log(work / work.mean()) / 2, atol=1e-5)
    quality = state.candidate["predicted_quality"]
    expected = (quality * one["slo_probability"] - one["impact"]) / quality.mean()
    np.testing.assert_allclose(rows["expected"], expected.clip(-4, 4), atol=1e-5)
    np.testing.assert_allclose(rows["advantage"], (expected - expected.max()).clip(-4, 0), atol=1e-5)


def test_unknown_kv_use_is_told_from_an_empty_cache() -> None:
    state = draw_state(np.random.default_rng(2), 2)
    state.expert["kv_cache_utilization_ratio"] = (np.nan, 0.0)
    rows = expert_rows(encoded(state))
    assert rows["kv_used"].tolist() == [0, 0]
    assert rows["kv_unknown"].tolist() == [1, 0]


def test_an_expert_that_is_not_allowed_changes_nothing_elsewhere() -> None:
    state = draw_state(np.random.default_rng(3), 4)
    state.allowed[2] = False
    features = encoded(state)
    for array in (features.expert, features.running, features.waiting, features.running_mask, features.waiting_mask):
        assert not array[2].any()
    kept = [0, 1, 3]
    fewer = encoded(only(state, kept))
    for name in ("expert", "running", "running_mask", "waiting", "waiting_mask", "allowed"):
        np.testing.assert_array_equal(getattr(features, name)[kept], getattr(fewer, name), name)
    np.testing.assert_array_equal(features.request, fewer.request)


def test_slots_tell_how_far_a_request_is_from_its_objective() -> None:
    state = empty_state(1)
    state.allowed[:] = True
    state.expert["base_seconds"] = 0.01
    slot = state.running[0, 0]
    slot["predicted_output_tokens"], slot["generated_tokens"], slot["ntpot_objective_seconds"] = 100, 50, 0.02
    slot["age_seconds"], slot["ntpot_seconds"] = 1.5, 0.03
    state.running_mask[0, 0] = True
    row = encoded(state).running.view(SLOT_FEATURES)[0, 0, 0]
    assert row["progress"] == pytest.approx(0.5)
    assert row["age_share"] == pytest.approx(1.5 / 2.0)
    assert row["latency"] == pytest.approx(0.5 * np.log(1.5), abs=1e-6)
    assert row["predicted_latency"] == pytest.approx(0.5 * np.log((1.5 + 50 * 0.01) / 100 / 0.02), abs=1e-6)
    assert row["objective_unset"] == 0


def test_objectives_that_are_not_set_are_told_from_loose_ones() -> None:
    state = empty_state(1)
    state.allowed[:] = True
    state.request["tpot_objective_seconds"] = 0.03
    row = encoded(state).request.view(REQUEST_FEATURES)[0]
    assert [row[name] for name in ("ttft_set", "tpot_set", "ntpot_set")] == [0, 1, 0]
    assert row["tpot_objective"] == pytest.approx(0, abs=1e-6)
    assert row["ntpot_objective"] == 0


def test_a_batch_is_its_single_states() -> None:
    rng = np.random.default_rng(4)
    states = [draw_state(rng, 5, allowed=0.6) for _ in range(6)]
    batch = empty_features((6,), 5, 10, 10)
    encode_batch(stacked(states), batch)
    for b, state in enumerate(states):
        for name, array in encoded(state)._asdict().items():
            np.testing.assert_array_equal(getattr(batch, name)[b], array, name)


def test_the_digest_is_that_of_the_table() -> None:
    assert feature_digest() == feature_digest()
    assert len(feature_digest()) == 64
    assert FEATURES["expert"] == EXPERT_FEATURES.names
    assert len({*FEATURES["expert"]}) == len(FEATURES["expert"])
