import dataclasses

import numpy as np
import pytest
from tests.unit.exports import SMALL, drawn_weights, han_export
from tests.unit.states import draw_state

from pointsman_policy.latency.estimator import estimates
from pointsman_policy.pickers import impact_greedy
from pointsman_policy.pickers.han_actor import PICKER
from pointsman_policy.pickers.trained import as_picker
from pointsman_policy.runtime.features import features_of
from pointsman_policy.runtime.han import forward
from pointsman_policy.runtime.packing import pack_network
from pointsman_policy.state import DROP, RoutingState


def said(state: RoutingState, seed: int = 0) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], ...]:
    """Return what the small network says of a state: scores and corrections of logits."""
    scores, slo_logits = np.zeros((2, len(state.expert)))
    forward(features_of(state), pack_network(drawn_weights(SMALL, seed), SMALL), scores, slo_logits)
    return scores, slo_logits


@pytest.mark.parametrize("experts", [1, 3, 12])
def test_untrained_and_with_no_trust_it_is_impact_greedy(experts: int) -> None:
    rng = np.random.default_rng(experts)
    for _ in range(20):
        state = draw_state(rng, experts, allowed=0.8)
        uniform = float(rng.random())
        expected = impact_greedy.PICKER.pick(state, uniform)
        for picker in (PICKER, as_picker(han_export(trust=0.0))):
            pick = picker.pick(state, uniform)
            assert pick.expert == expected.expert
            np.testing.assert_array_equal(pick.scores, expected.scores)


def test_with_full_trust_the_chance_is_the_default_one_corrected_by_the_network() -> None:
    policy = han_export(trust=1.0)
    row = {**dict.fromkeys(policy.columns, 0.0), "pessimism": 1.0, "spread": 0.25, "trust": 1.0}
    rows = (tuple(row.values()),)
    picker = as_picker(dataclasses.replace(policy, must_serve=rows, may_drop=rows))
    state = draw_state(np.random.default_rng(2), 5)
    state.request["ntpot_objective_seconds"] = 0.03
    chance = estimates(state)["slo_probability"].astype(float).clip(1e-9, 1 - 1e-9)
    logit = np.log(chance / (1 - chance)).clip(-6, 6) + said(state)[1]
    expected = state.candidate["predicted_quality"] / (1 + np.exp(-logit))
    np.testing.assert_allclose(picker.pick(state, 0.5).scores, expected, atol=1e-4)


def test_without_tables_it_goes_by_the_networks_scores_alone() -> None:
    picker = as_picker(dataclasses.replace(han_export(), must_serve=(), may_drop=()))
    rng = np.random.default_rng(3)
    drops = 0
    for _ in range(40):
        state = draw_state(rng, 4)
        scores = said(state)[0]
        pick = picker.pick(state, 0.5)
        np.testing.assert_allclose(pick.scores, scores, atol=1e-9)
        drops += pick.expert == DROP
        assert pick.expert in (int(scores.argmax()), DROP)
        assert pick.expert != DROP or state.request["may_drop"][0] > 0
    assert 0 < drops < 40


def test_experts_that_are_not_allowed_change_nothing() -> None:
    picker = as_picker(han_export(trust=0.7))
    state = draw_state(np.random.default_rng(4), 4)
    state.allowed[:] = [True, True, False, True]
    kept = [0, 1, 3]
    parts = {name: array[kept] for name, array in state._asdict().items() if name != "request"}
    np.testing.assert_allclose(
        picker.pick(state, 0.5).scores[kept], picker.pick(state._replace(**parts), 0.5).scores, atol=1e-12
    )
