"""Actor and critics of the paper's agent."""

import numpy as np
import pytest
import torch
from tests.unit.states import draw_state, stacked

from pointsman_policy.networks.actor_critic import FlatActorCritic, GraphActorCritic
from pointsman_policy.pickers.flat_actor import flat_actor
from pointsman_policy.runtime.features import Features, empty_features, encode_batch
from pointsman_policy.runtime.size import NetworkSize
from pointsman_policy.state import DROP, RoutingState

SIZE = NetworkSize(channels=16, heads=4, hidden=16)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn_states(seed: int, experts: int, count: int, allowed: float = 1.0) -> list[RoutingState]:
    rng = np.random.default_rng(seed)
    return [draw_state(rng, experts, allowed=allowed) for _ in range(count)]


def features_of(states: list[RoutingState]) -> Features:
    experts, slots = states[0].running_mask.shape
    features = empty_features((len(states),), experts, slots, slots)
    encode_batch(stacked(states), features)
    return features


def stirred(network: GraphActorCritic) -> GraphActorCritic:
    """Move the actor's last layers away from 0."""
    with torch.no_grad():
        for parameter in network.policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator(2)))
    return network


def test_valid_actions_are_the_allowed_experts_and_dropping_where_it_is_permitted() -> None:
    states = drawn_states(1, 4, 40, allowed=0.5)
    mask = GraphActorCritic(SIZE, generator()).mask(features_of(states))
    for row, state in zip(mask.tolist(), states, strict=True):
        assert row == [*state.allowed.tolist(), bool(state.request[0]["may_drop"])]


def test_experts_that_are_not_allowed_change_nothing() -> None:
    network = stirred(GraphActorCritic(SIZE, generator()))
    features = features_of(drawn_states(1, 3, 8))
    padded = empty_features((8,), 5, 10, 10)
    for field, source in zip(padded, features, strict=True):
        if source.ndim > 1 and source.shape[1] == 3:
            field[:, :3] = source
        else:
            field[:] = source
    kept = [0, 1, 2, -1]
    with torch.no_grad():
        small, large = network.encode(features), network.encode(padded)
        assert torch.allclose(network.actor(small), network.actor(large)[:, kept], atol=1e-5)
        assert torch.allclose(network.critics(small), network.critics(large)[..., kept], atol=1e-5)


def test_the_actors_loss_does_not_move_the_shared_encoder() -> None:
    network = stirred(GraphActorCritic(SIZE, generator()))
    embedding = network.encode(features_of(drawn_states(1, 3, 4)))
    network.actor(network.detach(embedding)).sum().backward()  # type: ignore[no-untyped-call]
    assert network.policy.han is not None
    assert all(parameter.grad is None for parameter in network.policy.han.parameters())
    network.critics(embedding).sum().backward()  # type: ignore[no-untyped-call]
    assert any(parameter.grad is not None for parameter in network.policy.han.parameters())


def test_without_its_graph_it_sees_experts_and_request_alone() -> None:
    network = GraphActorCritic(SIZE._replace(graph=False), generator())
    embedding = network.encode(features_of(drawn_states(1, 3, 4)))
    assert embedding.embeddings is None
    assert network.actor(network.detach(embedding)).shape == (4, 4)
    assert network.critics(embedding).shape == (2, 4, 4)


def test_the_flat_network_is_made_for_one_number_of_experts() -> None:
    network = FlatActorCritic(3, 16, generator())
    with pytest.raises(ValueError, match="made for 3 experts, not 4"):
        network.encode(features_of(drawn_states(1, 4, 2)))


def test_the_flat_rule_does_what_the_flat_network_does() -> None:
    network = FlatActorCritic(3, 16, generator())
    states = drawn_states(1, 3, 60, allowed=0.7)
    picker = flat_actor("flat", 3, network.layers())
    with torch.no_grad():
        features = features_of(states)
        logits = network.actor(network.encode(features)).masked_fill(~network.mask(features), -np.inf)
    wanted = logits.argmax(-1).numpy()
    picks = [picker.pick(state, 0.5) for state in states]
    assert [pick.expert if pick.expert != DROP else 3 for pick in picks] == wanted.tolist()
    for pick, row, state in zip(picks, logits.numpy(), states, strict=True):
        assert pick.scores[state.allowed] == pytest.approx(row[:3][state.allowed], abs=1e-5)
    assert len(set(wanted.tolist())) > 1
