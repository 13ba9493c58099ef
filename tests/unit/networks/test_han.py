"""The graph network against torch-geometric, on single graphs and in batches."""

import warnings

import numpy as np
import pytest
import torch
from tests.unit.states import draw_state, stacked
from torch import Tensor

from pointsman_policy.networks.han import Embeddings, FeatureTensors, Han, to_tensors
from pointsman_policy.networks.policy_network import PolicyNetwork
from pointsman_policy.runtime.features import FEATURES, empty_features, encode_batch
from pointsman_policy.runtime.size import NetworkSize, weight_shapes
from pointsman_policy.state import RoutingState

with warnings.catch_warnings():  # its import runs into deprecations of torch
    warnings.simplefilter("ignore")
    from torch_geometric.nn import HANConv

NODES = ("arrived", "expert", "running", "waiting")
EDGES = [("expert", "to", node) for node in ("arrived", "running", "waiting")]
EDGES += [(node, "to", "expert") for node in ("arrived", "running", "waiting")]
SIZES = [(16, 4), (64, 8)]
LAYER_NAMES = {("running", "expert"): "running", ("waiting", "expert"): "waiting", ("expert", "arrived"): "arrived"}


def features_of(states: list[RoutingState]) -> FeatureTensors:
    experts, slots = states[0].running_mask.shape
    features = empty_features((len(states),), experts, slots, slots)
    encode_batch(stacked(states), features)
    return to_tensors(features)


def drawn(seed: int, experts: int, graphs: int = 1, allowed: float = 1.0) -> FeatureTensors:
    rng = np.random.default_rng(seed)
    return features_of([draw_state(rng, experts, allowed=allowed) for _ in range(graphs)])


def han_of(channels: int, heads: int, seed: int = 0) -> Han:
    return Han(channels, heads, torch.Generator().manual_seed(seed))


def reference(han: Han, inputs: dict[str, int], channels: int, heads: int, layer: str) -> HANConv:
    """Return torch-geometric's layer with the weights of ours; those that cannot matter stay as drawn."""
    conv = HANConv(inputs, channels, (list(NODES), EDGES), heads=heads)
    ours = {name.removeprefix(f"{layer}."): value for name, value in han.state_dict().items() if name.startswith(layer)}
    with torch.no_grad():
        for node in NODES:
            conv.proj[node].weight.copy_(ours[f"{node}.weight"])
            conv.proj[node].bias.copy_(ours[f"{node}.bias"])
        for source, _, target in EDGES:
            name = LAYER_NAMES.get((source, target))
            if f"{name}_source" in ours:
                conv.lin_src[f"{source}__to__{target}"].copy_(ours[f"{name}_source"].view(1, heads, -1))
                conv.lin_dst[f"{source}__to__{target}"].copy_(ours[f"{name}_target"].view(1, heads, -1))
        conv.k_lin.weight.copy_(ours["key.weight"])
        conv.k_lin.bias.copy_(ours["key.bias"])
        conv.q.copy_(ours["query"].view(1, -1))
    return conv


def graph_of(features: FeatureTensors) -> tuple[dict[str, Tensor], dict[tuple[str, str, str], Tensor]]:
    """Return the only graph of a batch as torch-geometric takes it."""
    experts = features.expert.shape[1]
    nodes = {"arrived": features.request, "expert": features.expert[0]}
    every = torch.arange(experts)
    edges = {
        ("arrived", "to", "expert"): torch.stack([torch.zeros_like(every), every]),
        ("expert", "to", "arrived"): torch.stack([every, torch.zeros_like(every)]),
    }
    for node, slots, mask in (
        ("running", features.running, features.running_mask),
        ("waiting", features.waiting, features.waiting_mask),
    ):
        nodes[node] = slots[0][mask[0]]
        owner = mask[0].nonzero()[:, 0]
        edges[(node, "to", "expert")] = torch.stack([torch.arange(len(owner)), owner])
        edges[("expert", "to", node)] = torch.stack([owner, torch.arange(len(owner))])
    return nodes, edges


@pytest.mark.parametrize(("channels", "heads"), SIZES)
@pytest.mark.parametrize("experts", [1, 2, 5])
@torch.no_grad()
def test_two_layers_equal_those_of_torch_geometric(experts: int, channels: int, heads: int) -> None:
    torch.manual_seed(1)
    han = han_of(channels, heads)
    slot = len(FEATURES["slot"])
    inputs = {"arrived": len(FEATURES["request"]), "expert": len(FEATURES["expert"]), "running": slot, "waiting": slot}
    first = reference(han, inputs, channels, heads, "first")
    second = reference(han, dict.fromkeys(inputs, channels), channels, heads, "second")
    for seed in range(8):
        features = drawn(seed, experts)
        nodes, edges = graph_of(features)
        expected = second(first(nodes, edges), edges)
        found = han(features)
        torch.testing.assert_close(found.expert[0], expected["expert"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.arrived, expected["arrived"], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_experts_without_any_request_equal_those_of_torch_geometric() -> None:
    features = drawn(1, 3)
    features.running_mask[:] = False
    features.waiting_mask[0, 1:] = False
    han = han_of(16, 4)
    inputs = dict(zip(NODES, (len(FEATURES[table]) for table in ("request", "expert", "slot", "slot")), strict=True))
    nodes, edges = graph_of(features)
    first = reference(han, inputs, 16, 4, "first")(nodes, edges)
    expected = reference(han, dict.fromkeys(NODES, 16), 16, 4, "second")(first, edges)
    torch.testing.assert_close(han(features).expert[0], expected["expert"], rtol=1e-5, atol=1e-5)


def assert_same(found: Embeddings, expected: Embeddings) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_batch_equals_its_single_graphs() -> None:
    han = han_of(16, 4)
    batch = drawn(2, 4, graphs=7)
    found = han(batch)
    for b in range(7):
        alone = han(FeatureTensors(*(tensor[b : b + 1] for tensor in batch)))
        assert_same(Embeddings(found.expert[b : b + 1], found.arrived[b : b + 1]), alone)


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    han = han_of(16, 4)
    batch = drawn(3, 6, graphs=5, allowed=0.5)
    found = han(batch)
    for b in range(5):
        kept = batch.allowed[b]
        parts = {name: getattr(batch, name)[b][kept][None] for name in FeatureTensors._fields if name != "request"}
        alone = han(FeatureTensors(**parts, request=batch.request[b][None]))
        assert_same(Embeddings(found.expert[b, kept][None], found.arrived[b][None]), alone)


@torch.no_grad()
def test_the_order_of_experts_does_not_matter() -> None:
    network = random_network(NetworkSize())
    batch = drawn(4, 5, graphs=3)
    order = torch.tensor([3, 0, 4, 2, 1])
    parts = {name: getattr(batch, name)[:, order] for name in FeatureTensors._fields if name != "request"}
    permuted = network(FeatureTensors(**parts, request=batch.request))
    straight = network(batch)
    torch.testing.assert_close(permuted.score, straight.score[:, order], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(permuted.slo_logit, straight.slo_logit[:, order], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(permuted.drop, straight.drop, rtol=1e-5, atol=1e-6)


def random_network(size: NetworkSize, seed: int = 0) -> PolicyNetwork:
    """Return a network whose last layers are drawn too."""
    generator = torch.Generator().manual_seed(seed)
    network = PolicyNetwork(size, generator)
    with torch.no_grad():
        for layer in (network.scorer.last, network.drop.last):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
            layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator))
    return network


@pytest.mark.parametrize("graph", [True, False])
def test_a_new_network_scores_nothing_and_learns(graph: bool) -> None:
    network = PolicyNetwork(NetworkSize(graph=graph), torch.Generator().manual_seed(0))
    batch = drawn(5, 3, graphs=16)
    for scores in network(batch):
        assert not scores.any()
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    target = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(60):
        scores = network(batch)
        loss = ((scores.score - target) ** 2).mean() + ((scores.drop - target[:, 0]) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    unused = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert unused == set()


@torch.no_grad()
def test_without_the_graph_an_expert_is_scored_on_its_own_features() -> None:
    network = random_network(NetworkSize(graph=False))
    batch = drawn(6, 4, graphs=2)
    before = network(batch).score
    batch.expert[:, 0] += 1.0
    batch.running[:] += 1.0
    after = network(batch).score
    assert (before[:, 0] != after[:, 0]).all()
    assert torch.equal(before[:, 1:], after[:, 1:])


@torch.no_grad()
def test_the_graph_lets_experts_and_their_requests_count_for_each_other() -> None:
    network = random_network(NetworkSize())
    batch = drawn(7, 3, graphs=4)
    batch.running_mask[:, 0, 0] = True
    before = network(batch).score
    batch.running[:, 0, 0] += 1.0
    after = network(batch).score
    assert (before[:, 0] != after[:, 0]).any()


@pytest.mark.parametrize("size", [NetworkSize(), NetworkSize(64, 8, 64), NetworkSize(graph=False)])
def test_the_weights_have_the_names_and_shapes_of_an_export(size: NetworkSize) -> None:
    network = PolicyNetwork(size, torch.Generator().manual_seed(0))
    assert {name: value.shape for name, value in network.weights().items()} == weight_shapes(size)


def test_the_same_seed_gives_the_same_network() -> None:
    one, two, other = (
        PolicyNetwork(NetworkSize(), torch.Generator().manual_seed(seed)).weights() for seed in (1, 1, 2)
    )
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["han.first.expert.weight"], other["han.first.expert.weight"])


def test_channels_must_split_among_the_heads() -> None:
    with pytest.raises(ValueError, match="10 channels cannot be split among 4 heads"):
        han_of(10, 4)
