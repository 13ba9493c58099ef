"""Episodes of the paper's agent and what its actions are rewarded for."""

import dataclasses

import numpy as np
import pytest
from tests.unit.states import draw_state, stacked

from pointsman_policy.latency.impact import added_delay
from pointsman_policy.learning.episodes import RewardSettings, expected_loss, paper_penalty, play
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.runtime.features import FEATURES, empty_features, encode_batch
from pointsman_policy.simulator.randomisation import Distribution, draw_situation
from pointsman_policy.simulator.situation import Situation, run_situation
from pointsman_policy.state import DROP

GREEDY = PICKERS["ImpactGreedy"]


@pytest.fixture(scope="module")
def situation() -> Situation:
    distribution = Distribution(requests=300, experts=(3, 3), admissions=("ShedHopeless",))
    return draw_situation(np.random.default_rng(4), distribution)


def test_without_exploration_an_episode_is_the_pickers_run(situation: Situation) -> None:
    episode = play(situation, GREEDY, np.random.default_rng(1), 0.0, RewardSettings(penalty_weight=0.0))
    run = run_situation(situation, GREEDY, np.random.default_rng(1))
    assert episode.features.request.shape == (300, len(FEATURES["request"]))
    assert episode.mean_qos == pytest.approx(episode.reward.mean(), abs=1e-6)
    assert set(np.unique(episode.action)) <= {0, 1, 2, 3}
    assert (episode.action == 3).mean() == pytest.approx((run.expert == DROP).mean(), abs=0.05)


def test_each_decision_is_rewarded_with_its_own_requests_qos(situation: Situation) -> None:
    rng = np.random.default_rng(1)
    episode = play(situation, GREEDY, rng, 0.3, RewardSettings(penalty_weight=0.0))
    dropped = episode.action == 3
    assert (episode.reward[dropped] == 0).all()
    chosen = situation.quality[np.arange(300), np.minimum(episode.action, 2)].astype(np.float32)
    assert ((episode.reward == 0) | (np.abs(episode.reward - chosen) < 1e-6)).all()


def test_exploration_tries_every_action(situation: Situation) -> None:
    episode = play(situation, GREEDY, np.random.default_rng(1), 1.0, RewardSettings())
    assert np.bincount(episode.action, minlength=4) == pytest.approx(np.full(4, 75), abs=30)


def test_requests_that_must_be_served_are_never_dropped(situation: Situation) -> None:
    served = dataclasses.replace(situation, admission="Never")
    episode = play(served, GREEDY, np.random.default_rng(1), 0.5, RewardSettings())
    assert episode.action.max() < 3


def test_the_penalty_is_taken_off_the_reward() -> None:
    distribution = Distribution(requests=300, experts=(3, 3), admissions=("ShedHopeless",), loads=(1.4, 1.5))
    busy = draw_situation(np.random.default_rng(6), distribution)
    free, charged, paper = (
        play(busy, GREEDY, np.random.default_rng(1), 1.0, settings).reward.mean()
        for settings in (RewardSettings(0.0), RewardSettings(1.0), RewardSettings(1.0, corrected=False))
    )
    assert free > charged
    assert free > paper


def test_the_corrected_penalty_is_the_expected_loss_of_the_chosen_expert() -> None:
    rng = np.random.default_rng(1)
    states = stacked([draw_state(rng, 3) for _ in range(20)])
    features = empty_features((20,), 3, 10, 10)
    encode_batch(states, features)
    expert = rng.integers(DROP, 3, 20)
    loss = expected_loss(features, expert)
    assert (loss[expert == DROP] == 0).all()
    assert (loss >= 0).all()
    assert loss.max() > 0


def test_the_papers_penalty_charges_for_every_request_expected_to_be_late() -> None:
    rng = np.random.default_rng(1)
    states = stacked([draw_state(rng, 3) for _ in range(40)])
    expert = rng.integers(DROP, 3, 40)
    penalty = paper_penalty(states, expert)
    for i, e in enumerate(expert):
        wanted = 0.0
        for k in range(10):
            if e == DROP or not states.running_mask[i, e, k]:
                continue
            slot, row = states.running[i, e, k], states.expert[i, e]
            total = max(slot["predicted_output_tokens"], slot["generated_tokens"] + 1.0)
            delay = added_delay(
                states.request[i, 0]["prompt_tokens"],
                states.candidate[i, e]["predicted_output_tokens"],
                total - slot["generated_tokens"],
                row["per_sequence_seconds"],
                row["per_context_token_seconds"],
                row["per_prefill_token_seconds"],
            )
            if 0 < slot["ntpot_objective_seconds"] < slot["ntpot_seconds"] + delay / total:
                wanted += slot["predicted_quality"]
        assert penalty[i] == pytest.approx(wanted, rel=1e-4)
    assert penalty.max() > 1
