import dataclasses
from typing import Any, cast

import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env

from pointsman_policy.learning.environment import Reward, RoutingEnvironment, RoutingVectorEnvironment, Source
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.changes import Change
from pointsman_policy.simulator.randomisation import Distribution, draw_situation
from pointsman_policy.simulator.situation import Situation, qos, run_situation
from pointsman_policy.state import DROP, EXPERT

DISTRIBUTION = Distribution(requests=60, experts=(2, 4))
ROOM = 5


def draw(rng: np.random.Generator) -> Situation:
    return draw_situation(rng, DISTRIBUTION)


def droppable(rng: np.random.Generator) -> Situation:
    return dataclasses.replace(draw_situation(rng, Distribution(requests=60, experts=(3, 3))), admission="ShedHopeless")


def fixed(source: Source, seed: int, **changes: Any) -> Situation:
    return dataclasses.replace(source(np.random.default_rng(seed)), **changes)


def always(situation: Situation) -> Source:
    return lambda rng: situation


def choose(mask: Any, rng: np.random.Generator) -> int:
    return int(rng.choice(np.flatnonzero(mask)))


@pytest.mark.filterwarnings("ignore:.*does not have a spec.*", "ignore:.*not having a spec.*")
@pytest.mark.parametrize("reward", ["qos", "paper", "paper-uncorrected"])
def test_gymnasium_finds_nothing_wrong(reward: Reward) -> None:
    check_env(RoutingEnvironment(droppable, 3, reward))
    check_env(RoutingEnvironment(draw, ROOM, reward, strict=False))


def test_the_same_seed_gives_the_same_episode_and_another_one_another() -> None:
    def episode(seed: int) -> tuple[list[float], list[bytes]]:
        environment = RoutingEnvironment(draw, ROOM)
        observation, info = environment.reset(seed=seed)
        rng = np.random.default_rng(1)
        rewards, seen, over = [], [], False
        while not over:
            seen.append(b"".join(observation[name].tobytes() for name in sorted(observation)))
            observation, reward, over, truncated, info = environment.step(choose(info["action_mask"], rng))
            assert not truncated
            assert observation in environment.observation_space
            rewards.append(reward)
        return rewards, seen

    assert episode(3) == episode(3)
    assert episode(3)[1] != episode(4)[1]


def test_going_on_after_an_episode_gives_another_situation() -> None:
    environment = RoutingEnvironment(draw, ROOM)
    first, _ = environment.reset(seed=1)
    second, _ = environment.reset()
    assert first["request"].tobytes() != second["request"].tobytes()
    again, _ = environment.reset(seed=1)
    assert first["request"].tobytes() == again["request"].tobytes()


def test_rewards_add_up_to_the_qos_of_the_episode() -> None:
    situation = fixed(droppable, 2, changes=(Change(1.0, 1, "lost"), Change(0.5, 0, "pace", 3.0)))
    picker = PICKERS["ImpactGreedy"]
    run = run_situation(situation, picker, np.random.default_rng(8))
    environment = RoutingEnvironment(always(situation), 4)
    _, info = environment.reset(seed=0)
    total, over, count = 0.0, False, 0
    while not over:
        expert = int(run.expert[info["request"]])
        _, reward, over, _, info = environment.step(4 if expert == DROP else expert)
        total += reward
        count += info["ended_count"]
    assert total == pytest.approx(qos(situation, run).sum())
    assert total > 0
    assert count == (run.expert != DROP).sum()


def test_the_papers_reward_is_less_by_those_made_late_and_the_uncorrected_by_those_late_already() -> None:
    situation = fixed(droppable, 5)
    totals = {}
    kinds: tuple[Reward, ...] = ("qos", "paper", "paper-uncorrected")
    for kind in kinds:
        environment = RoutingEnvironment(always(situation), 3, kind)
        environment.reset(seed=0)
        totals[kind], over, newly, late = 0.0, False, 0.0, 0.0
        while not over:
            _, reward, over, _, info = environment.step(0)
            totals[kind] += reward
            newly, late = newly + info["newly_late_quality"], late + info["late_quality"]
    assert totals["paper"] == pytest.approx(totals["qos"] - newly)
    assert totals["paper-uncorrected"] == pytest.approx(totals["qos"] - late)
    assert late > newly


def test_masks_say_which_experts_there_are_and_which_are_allowed() -> None:
    situation = fixed(droppable, 1, admission="Never", changes=(Change(0.0, 2, "added"),))
    environment = RoutingEnvironment(always(situation), ROOM)
    observation, info = environment.reset(seed=0)
    assert observation["present"].tolist() == [1, 1, 1, 0, 0]
    assert observation["allowed"].tolist() == [1, 1, 0, 0, 0]
    assert info["action_mask"].tolist() == [1, 1, 0, 0, 0, 0]
    assert not observation["expert"][3:].any()
    for action in (2, 4, ROOM, ROOM + 1, -1):
        with pytest.raises(InvalidAction, match=rf"action {action} is not allowed now; \[0, 1\] are"):
            environment.step(action)
    assert environment.step(1)[4]["request"] == 1


def test_dropping_is_allowed_where_admission_says_so() -> None:
    environment = RoutingEnvironment(droppable, 3)
    _, info = environment.reset(seed=0)
    assert info["action_mask"][3] == 1
    _, _, _, _, info = environment.step(3)
    assert info["newly_late_quality"] == 0


def test_what_is_not_known_is_minus_one() -> None:
    situation = fixed(droppable, 1)
    visibility = dataclasses.replace(situation.visibility, telemetry_interval=1.0, telemetry_delay=1e4)
    situation = dataclasses.replace(situation, visibility=visibility)
    observation, _ = RoutingEnvironment(always(situation), 3).reset(seed=0)
    assert EXPERT.names is not None
    assert observation["expert"][:, EXPERT.names.index("telemetry_age_seconds")].tolist() == [-1, -1, -1]


def test_stepping_before_a_reset_or_past_the_end_is_refused() -> None:
    environment = RoutingEnvironment(droppable, 3)
    with pytest.raises(ResetNeeded, match="before its first step"):
        environment.step(0)
    _, info = environment.reset(seed=0)
    over = False
    while not over:
        _, _, over, _, info = environment.step(choose(info["action_mask"], np.random.default_rng(0)))
    assert not info["action_mask"].any()
    with pytest.raises(ResetNeeded, match="the episode is over"):
        environment.step(0)


def test_too_little_room_and_unknown_rewards_are_refused() -> None:
    with pytest.raises(ValueError, match="3 experts; there is room for 2"):
        RoutingEnvironment(droppable, 2).reset(seed=0)
    with pytest.raises(ValueError, match="there is no reward 'score'"):
        RoutingEnvironment(droppable, 3, cast("Reward", "score"))


def test_environments_side_by_side_begin_anew_one_by_one() -> None:
    environment = RoutingVectorEnvironment(draw, 3, ROOM)
    observation, info = environment.reset(seed=2)
    assert observation in environment.observation_space
    rng = np.random.default_rng(0)
    over, episodes = np.zeros(3, np.bool_), np.zeros(3, np.int64)
    for _ in range(150):
        masks = info["action_mask"]
        actions = np.array([0 if over[row] else choose(masks[row], rng) for row in range(3)])
        before = over
        observation, rewards, over, truncated, info = environment.step(actions)
        assert observation in environment.observation_space
        assert not truncated.any()
        assert (rewards[before] == 0).all()
        assert (info["request"][before] == 0).all()
        assert not (before & over).any()
        episodes += over
    assert (episodes == 150 // 61).all()


def test_an_environment_in_a_batch_earns_what_its_situations_give() -> None:
    situations: list[Situation] = []

    def remembered(rng: np.random.Generator) -> Situation:
        situations.append(droppable(rng))
        return situations[-1]

    environment = RoutingVectorEnvironment(remembered, 2, 3)
    environment.reset(seed=7)
    totals = np.zeros(2)
    for _ in range(60):
        totals += environment.step(np.array([1, 2]))[1]
    for row in range(2):
        alone = RoutingEnvironment(always(situations[row]), 3)
        alone.reset(seed=0)
        assert totals[row] == pytest.approx(sum(alone.step(row + 1)[1] for _ in range(60)))


def test_a_batch_refuses_an_action_that_is_not_allowed() -> None:
    environment = RoutingVectorEnvironment(droppable, 2, 4)
    environment.reset(seed=0)
    with pytest.raises(InvalidAction, match=r"action 3 is not allowed now; \[0, 1, 2, 4\] are"):
        environment.step(np.array([0, 3]))
    again, _ = RoutingVectorEnvironment(droppable, 2, 4).reset(seed=0)
    other, _ = environment.reset(seed=0)
    assert again["request"].tobytes() == other["request"].tobytes()
