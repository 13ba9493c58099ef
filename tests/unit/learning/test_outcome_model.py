import numpy as np
import pytest
import torch

from pointsman_policy.learning.outcome_model import EXPERT_ESTIMATES, Collection, Decisions, OutcomeModel, collect
from pointsman_policy.learning.sources import MadeUp
from pointsman_policy.networks.han import to_tensors
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.runtime.features import FEATURES, empty_features
from pointsman_policy.runtime.size import NetworkSize
from pointsman_policy.simulator.randomisation import Distribution

SIZE = NetworkSize(channels=4, heads=2, hidden=8)
SOURCE = MadeUp(Distribution(requests=120, experts=(2, 6)), 3)


def collected(seed: int = 0, explored_share: float = 0.2) -> list[Decisions]:
    collection = Collection(sampled_share=0.5, explored_share=explored_share)
    return collect(SOURCE, range(6), PICKERS["ImpactGreedy"], collection, np.random.default_rng(seed))


def test_decisions_come_with_their_outcomes_by_size_of_fleet() -> None:
    groups = collected()
    widths = [group.features.allowed.shape[1] for group in groups]
    assert widths == sorted(set(widths))
    assert set(widths) <= {4, 8}
    for group in groups:
        count = len(group.met)
        assert count > 20
        assert all(len(array) == count for array in group.features)
        assert group.features.allowed[np.arange(count), group.chosen].all()
        assert np.isfinite(group.features.expert).all()
    met = np.concatenate([group.met for group in groups])
    assert 0.02 < met.mean() < 0.98


def test_the_same_seed_collects_the_same_decisions() -> None:
    for one, other in zip(collected(1), collected(1), strict=True):
        np.testing.assert_array_equal(one.chosen, other.chosen)
        np.testing.assert_array_equal(one.features.expert, other.features.expert)


def test_exploration_reaches_experts_that_the_policy_avoids() -> None:
    def experts(share: float) -> list[int]:
        return [len(np.unique(group.chosen)) for group in collected(2, share)]

    assert experts(1.0) >= experts(0.0)
    assert sum(experts(1.0)) > 0


def made_up(count: int, rng: np.random.Generator) -> Decisions:
    """Return decisions whose outcome is told by one feature of the chosen expert."""
    features = empty_features((count,), 3, 2, 2)
    features.allowed[:] = True
    column = FEATURES["expert"].index("telemetry_age")
    features.expert[:, :, column] = rng.random((count, 3))
    chosen = rng.integers(3, size=count)
    met = features.expert[np.arange(count), chosen, column] < 0.5
    return Decisions(features, chosen, met)


def test_it_learns_what_the_analytic_chance_does_not_know() -> None:
    rng = np.random.default_rng(0)
    model = OutcomeModel(SIZE, seed=0)
    before, analytic = model.losses([made_up(500, rng)])
    assert before == pytest.approx(analytic)  # it starts by adding nothing
    for _ in range(12):
        model.fit([made_up(1000, rng)], rng, rate=1e-2, batch=64)
    after, analytic = model.losses([made_up(500, rng)])
    assert analytic > 0.6
    assert after < 0.25


def test_a_restored_model_goes_on_as_the_first_would_have() -> None:
    data = made_up(400, np.random.default_rng(5))
    model = OutcomeModel(SIZE, seed=1)
    model.fit([data], np.random.default_rng(1), rate=1e-2)
    other = OutcomeModel(SIZE, seed=2)
    other.restore(model.arrays())
    for one in (model, other):
        one.fit([data], np.random.default_rng(2), rate=1e-2)
    for name, weights in model.network.weights().items():
        np.testing.assert_array_equal(weights, other.network.weights()[name])


def test_padding_does_not_change_the_loss() -> None:
    data = made_up(64, np.random.default_rng(6))
    wider = {
        name: np.pad(array, [(0, 0), (0, 5), *[(0, 0)] * (array.ndim - 2)])
        for name, array in data.features._asdict().items()
        if name != "request"
    }
    padded = data._replace(features=data.features._replace(**wider))
    model = OutcomeModel(SIZE, seed=3)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.05)
    assert model.losses([padded])[0] == pytest.approx(model.losses([data])[0], abs=1e-6)


@pytest.mark.parametrize("estimates", [True, False])
@pytest.mark.parametrize("size", [SIZE, SIZE._replace(graph=False)])
def test_estimates_can_be_kept_from_the_network(estimates: bool, size: NetworkSize) -> None:
    model = OutcomeModel(size, 1, estimates)
    groups = collected()
    for seed in range(3):
        model.fit(groups, np.random.default_rng(seed), 0.01)
    features = groups[0].features
    changed = features.expert.copy()
    changed[..., [FEATURES["expert"].index(name) for name in EXPERT_ESTIMATES]] += 1.0
    with torch.no_grad():
        before = model.network(to_tensors(features)).slo_logit
        after = model.network(to_tensors(features._replace(expert=changed))).slo_logit
    assert torch.equal(before, after) is not estimates
