from collections import Counter

import numpy as np
import pytest

from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.random_arrivals import draw_arrivals, rate_shape
from pointsman_policy.simulator.randomisation import Distribution, draw_situation
from pointsman_policy.simulator.situation import Situation, qos, run_situation

COUNT = 200


@pytest.fixture(scope="module")
def situations() -> list[Situation]:
    return [draw_situation(np.random.default_rng(seed), Distribution(requests=300)) for seed in range(COUNT)]


def arrays(situation: Situation) -> list[np.ndarray]:
    fleet, requests = situation.fleet, situation.requests
    values = [*vars(fleet).values(), *requests, situation.quality]
    return [value for value in values if isinstance(value, np.ndarray)]


def test_the_same_generator_gives_the_same_situation() -> None:
    one, two = (draw_situation(np.random.default_rng(7), Distribution(requests=200)) for _ in range(2))
    assert one.name == two.name
    assert one.visibility == two.visibility
    assert all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(two), strict=True))
    other = draw_situation(np.random.default_rng(8), Distribution(requests=200))
    assert other.name != one.name


def test_everything_drawn_is_possible(situations: list[Situation]) -> None:
    for situation in situations:
        requests, fleet = situation.requests, situation.fleet
        assert all(np.isfinite(values).all() for values in arrays(situation)), situation.name
        assert (np.diff(requests.arrival_at) >= 0).all(), situation.name
        assert requests.arrival_at[0] >= 0, situation.name
        assert requests.prompt_tokens.min() >= 1, situation.name
        assert requests.output_tokens.min() >= 1, situation.name
        assert requests.predicted_output_tokens.min() >= 1, situation.name
        assert requests.objectives.min() >= 0, situation.name
        assert requests.objectives.max() > 0, situation.name
        assert fleet.coefficients.min() > 0, situation.name
        assert fleet.believed_coefficients.min() > 0, situation.name
        assert fleet.maximum_running.min() >= 1, situation.name
        for quality in (situation.quality, requests.predicted_quality, fleet.quality_prior):
            assert quality.min() >= 0, situation.name
            assert quality.max() <= 1, situation.name


def test_what_the_simulator_compiles_for_is_what_is_drawn(situations: list[Situation]) -> None:
    for values in situations[0].requests:
        if isinstance(values, np.ndarray):
            assert values.flags.c_contiguous
    assert situations[0].requests.predicted_quality.dtype == np.float32
    assert situations[0].requests.output_tokens.dtype == np.int64


def test_what_is_drawn_covers_its_range(situations: list[Situation]) -> None:
    experts = np.array([len(situation.fleet.coefficients) for situation in situations])
    assert experts.min() == 2
    assert experts.max() > 12
    assert np.median(experts) <= 8
    loads = np.array([situation.load for situation in situations])
    assert loads.min() < 0.4 < 1.4 < loads.max()
    assert min(Counter(situation.admission for situation in situations).values()) > COUNT / 6
    objectives = np.array([situation.requests.objectives.max(axis=0) > 0 for situation in situations])
    assert (objectives.mean(axis=0) > 0.15).all()
    binary = [bool(np.isin(situation.quality, (0.0, 1.0)).all()) for situation in situations]
    assert 0.2 < np.mean(binary) < 0.6
    unlimited = [bool((situation.fleet.kv_capacity == 0).all()) for situation in situations]
    assert 0.1 < np.mean(unlimited) < 0.5


def test_beliefs_are_wrong_as_often_and_as_far_as_asked() -> None:
    ratios = []
    for seed in range(COUNT):
        fleet = draw_situation(np.random.default_rng(seed), Distribution(requests=20)).fleet
        ratios.append(fleet.believed_coefficients[0, 0] / fleet.coefficients[0, 0])
    wrong = np.array(ratios)[np.array(ratios) != 1.0]
    assert 0.15 < len(wrong) / COUNT < 0.45
    assert wrong.min() < 0.8
    assert wrong.max() > 1.2
    exact = draw_situation(np.random.default_rng(1), Distribution(requests=20, wrong_belief_chance=0.0)).fleet
    assert np.array_equal(exact.coefficients, exact.believed_coefficients)


def test_experts_change_now_and_then(situations: list[Situation]) -> None:
    kinds = Counter(change.kind for situation in situations for change in situation.changes)
    assert set(kinds) == {"pace", "lost", "added"}
    changing = [situation for situation in situations if situation.changes]
    assert 0.1 < len(changing) / COUNT < 0.3
    for situation in changing:
        run = run_situation(situation, PICKERS["ShortestQueue"], np.random.default_rng(0))
        assert qos(situation, run).max() <= 1
    still = Distribution(requests=20, change_chance=0.0)
    assert not any(draw_situation(np.random.default_rng(seed), still).changes for seed in range(20))


def test_replicas_of_a_model_give_the_same_answer(situations: list[Situation]) -> None:
    doubled = 0
    for situation in situations:
        columns = situation.quality.T
        distinct = {column.tobytes() for column in columns}
        doubled += len(distinct) < len(columns)
    assert doubled > COUNT / 10


def test_objectives_can_be_met_in_part_and_not_always() -> None:
    attained = []
    for seed in range(30):
        distribution = Distribution(requests=400, loads=(0.5, 0.5), admissions=("Never",))
        situation = draw_situation(np.random.default_rng(seed), distribution)
        run = run_situation(situation, PICKERS["ShortestQueue"], np.random.default_rng(0))
        attained.append(float(qos(situation, run).mean() / situation.quality.mean()))
    assert 0.2 < np.mean(attained) < 0.95


def test_arrivals_keep_the_mean_rate_whatever_their_shape() -> None:
    for seed in range(40):
        arrivals = draw_arrivals(np.random.default_rng(seed), 1_000, 4.0)
        assert arrivals[-1] == pytest.approx(250.0)
        assert (np.diff(arrivals) >= 0).all()


@pytest.mark.parametrize("kind", ["constant", "ramp", "diurnal", "jumps", "on-off"])
def test_a_rate_never_stops(kind: str) -> None:
    for seed in range(20):
        assert rate_shape(np.random.default_rng(seed), kind).min() > 0


@pytest.mark.parametrize(
    "wrong", [{"requests": 0}, {"experts": (3, 2)}, {"loads": (0.0, 1.0)}, {"belief_factors": (2.0, 1.0)}]
)
def test_a_distribution_that_cannot_be_drawn_from_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"experts|above 0"):
        Distribution(**wrong)  # type: ignore[arg-type]
