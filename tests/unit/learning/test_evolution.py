import numpy as np
import pytest

from pointsman_policy.learning.evolution import Evolution, mirrored


def climb(dimensions: int, noise: float, generations: int, seed: int = 0) -> Evolution:
    goal = np.linspace(0.2, 0.7, dimensions)
    scale = np.linspace(1.0, 5.0, dimensions)
    rng = np.random.default_rng(seed)
    evolution = Evolution.begin(np.full(dimensions, 0.5), 0.2)
    for _ in range(generations):
        candidates = evolution.sample(rng, 16)
        scores = -(((candidates - goal) * scale) ** 2).sum(axis=1) + noise * rng.standard_normal(16)
        evolution = evolution.updated(candidates, scores)
    return evolution


@pytest.mark.parametrize("dimensions", [1, 2, 8, 24])
def test_it_finds_the_top_of_a_hill(dimensions: int) -> None:
    found = climb(dimensions, 0.0, 150)
    assert np.abs(found.mean - np.linspace(0.2, 0.7, dimensions)).max() < 0.01
    assert found.generation == 150


def test_it_gets_near_the_top_through_noise() -> None:
    errors = [np.abs(climb(10, 0.05, 150, seed).mean - np.linspace(0.2, 0.7, 10)).mean() for seed in range(5)]
    assert np.mean(errors) < 0.05


def test_a_top_outside_the_box_is_approached_to_its_edge() -> None:
    rng = np.random.default_rng(1)
    evolution = Evolution.begin(np.full(4, 0.5), 0.2)
    for _ in range(80):
        candidates = evolution.sample(rng, 12)
        assert candidates.min() >= 0
        assert candidates.max() <= 1
        evolution = evolution.updated(candidates, candidates.sum(axis=1))
    assert evolution.mean.min() > 0.95


def test_what_belongs_together_moves_together_at_first_and_apart_in_the_end() -> None:
    rng = np.random.default_rng(2)
    evolution = Evolution.begin(np.full(6, 0.5), 0.1, alike=(0, 1, 0, 1, 0, 1))
    assert evolution.basis @ evolution.basis.T == pytest.approx(np.eye(6))
    candidates = evolution.sample(rng, 2_000)
    correlation: np.ndarray = np.atleast_2d(np.corrcoef(candidates.T))
    assert correlation[0, 2] > 0.6
    assert abs(correlation[0, 1]) < 0.1
    goal = np.array([0.2, 0.8, 0.4, 0.6, 0.3, 0.7])
    for _ in range(120):
        candidates = evolution.sample(rng, 16)
        evolution = evolution.updated(candidates, -((candidates - goal) ** 2).sum(axis=1))
    assert np.abs(evolution.mean - goal).max() < 0.01


def test_the_same_generator_gives_the_same_search() -> None:
    one, two = climb(5, 0.1, 20, seed=3), climb(5, 0.1, 20, seed=3)
    assert np.array_equal(one.mean, two.mean)
    assert one.step == two.step


def test_values_outside_are_mirrored_at_the_edge() -> None:
    assert mirrored(np.array([-0.25, 0.5, 1.25, 2.25])) == pytest.approx([0.25, 0.5, 0.75, 0.25])
