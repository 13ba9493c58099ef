"""The compiled network against the torch network that it stands for."""

import numpy as np
import pytest
import torch
from tests.unit.states import draw_state

from pointsman_policy.networks.han import to_tensors
from pointsman_policy.networks.policy_network import PolicyNetwork
from pointsman_policy.runtime.features import features_of
from pointsman_policy.runtime.han import forward
from pointsman_policy.runtime.packing import pack_network
from pointsman_policy.runtime.size import NetworkSize

SIZES = {
    "default": NetworkSize(),
    "paper": NetworkSize(64, 8, 64),
    "odd": NetworkSize(6, 3, 7),
    "without the graph": NetworkSize(graph=False),
}


def network_of(size: NetworkSize, seed: int = 0) -> PolicyNetwork:
    """Return a network of which every weight is drawn."""
    generator = torch.Generator().manual_seed(seed)
    network = PolicyNetwork(size, generator)
    with torch.no_grad():
        for layer in (network.scorer.last, network.drop.last):
            layer.weight.normal_(generator=generator)
            layer.bias.normal_(generator=generator)
    return network


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@torch.no_grad()
def test_the_kernel_equals_the_torch_network(size: NetworkSize) -> None:
    network = network_of(size)
    vector = pack_network(network.weights(), size)
    rng = np.random.default_rng(3)
    for experts in (*range(1, 21), 64):
        features = features_of(draw_state(rng, experts, allowed=float(rng.choice([0.5, 1.0]))))
        scores, slo_logits = np.zeros(experts), np.zeros(experts)
        drop = forward(features, vector, scores, slo_logits)
        expected = network(to_tensors(features))
        np.testing.assert_allclose(scores, expected.score[0].numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(slo_logits, expected.slo_logit[0].numpy(), rtol=1e-5, atol=1e-5)
        assert drop == pytest.approx(float(expected.drop[0]), rel=1e-5, abs=1e-5)


@torch.no_grad()
def test_large_weights_stay_close() -> None:
    network = network_of(NetworkSize())
    for parameter in network.parameters():
        parameter.mul_(3.0)
    vector = pack_network(network.weights(), network.size)
    features = features_of(draw_state(np.random.default_rng(4), 6))
    scores, slo_logits = np.zeros(6), np.zeros(6)
    forward(features, vector, scores, slo_logits)
    expected = network(to_tensors(features)).score[0].numpy()
    assert np.abs(expected).max() > 5
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-3)


def test_experts_that_are_not_allowed_get_no_score() -> None:
    size = NetworkSize()
    vector = pack_network(network_of(size).weights(), size)
    state = draw_state(np.random.default_rng(5), 4)
    state.allowed[:] = [True, False, True, False]
    scores = np.full(4, np.nan)
    forward(features_of(state), vector, scores, np.zeros(4))
    assert np.isnan(scores).tolist() == [False, True, False, True]


def test_states_without_slots_are_as_those_whose_slots_are_free() -> None:
    size = NetworkSize()
    vector = pack_network(network_of(size).weights(), size)
    state = draw_state(np.random.default_rng(6), 3)
    state.running_mask[:] = state.waiting_mask[:] = False
    none = state._replace(
        running=state.running[:, :0].copy(),
        running_mask=state.running_mask[:, :0].copy(),
        waiting=state.waiting[:, :0].copy(),
        waiting_mask=state.waiting_mask[:, :0].copy(),
    )
    scores = np.zeros((2, 3))
    for i, one in enumerate((state, none)):
        forward(features_of(one), vector, scores[i], np.zeros(3))
    np.testing.assert_array_equal(scores[0], scores[1])
