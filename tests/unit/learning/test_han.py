from pathlib import Path

import numpy as np
import pytest

from pointsman_policy.learning.han import HanAgent, han_tunables
from pointsman_policy.learning.search import SearchSettings
from pointsman_policy.learning.search_space import tunables
from pointsman_policy.learning.training import TrainingPlan, TrainingRun
from pointsman_policy.pickers import han_actor, impact_greedy
from pointsman_policy.pickers.han_actor import han_actor as make_actor
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.pickers.trained import load_picker
from pointsman_policy.runtime.packing import pack_network
from pointsman_policy.runtime.size import NetworkSize, weight_shapes
from pointsman_policy.simulator.randomisation import Distribution

SIZE = NetworkSize(channels=4, heads=2, hidden=8)
SETTINGS = SearchSettings(seed=3, population=2, situations=1, validation_situations=2, validate_every=1)
ROUNDS = 8


def train(folder: Path, rounds: int, resume: bool = False) -> Path:
    agent = HanAgent(SETTINGS, Distribution(requests=80, experts=(2, 3)), SIZE)
    folder.mkdir(exist_ok=True)
    with TrainingRun(TrainingPlan("han", folder, seed=5, rounds=rounds, processes=1), resume=resume) as run:
        return agent.train(run)


def test_searches_set_the_tables_and_the_trust_and_leave_the_network_alone() -> None:
    network = pack_network(
        {name: np.full(shape, 0.25, np.float32) for name, shape in weight_shapes(SIZE).items()}, SIZE
    )
    picker = make_actor(network, impact_greedy.PICKER.parameters, trust=0.5)
    parts = han_tunables(picker)
    greedy = tunables(impact_greedy.PICKER)
    assert [part.admissions for part in parts] == [part.admissions for part in greedy]
    for part, plain in zip(parts, greedy, strict=True):
        trusts = [name for name in part.space.names if name.startswith("trust@")]
        assert part.space.names == (*plain.space.names, *trusts)
        assert part.space.start[: len(plain.space)] == pytest.approx(plain.space.start)
        assert set(part.space.start[len(plain.space) :]) == {0.5}
        np.testing.assert_allclose(part.parameters(np.array(part.space.start)), picker.parameters)
        changed = part.parameters(np.array(part.space.start) + 0.01)
        end = 2 + int(picker.parameters[1])
        np.testing.assert_array_equal(changed[end:], picker.parameters[end:])
        loads = changed[2:end].reshape(-1, len(han_actor.COLUMNS))[:, 0]
        np.testing.assert_array_equal(loads[:3], [0.5, 0.9, 1.3])


def test_a_run_goes_through_all_stages_and_exports_a_policy_that_can_be_loaded(tmp_path: Path) -> None:
    folder = train(tmp_path / "run", ROUNDS)
    picker = load_picker(folder)
    assert picker.name == "HanActor"
    assert picker.version
    assert len(picker.parameters) > len(PICKERS["ImpactGreedy"].parameters)
    log = (tmp_path / "run" / "checkpoint.json").read_text("utf-8")
    for figure in ("ImpactGreedy must-serve/mean_score", "outcomes/loss", "HanActor may-drop/mean_score"):
        assert figure in log


def test_a_run_that_was_stopped_ends_where_it_would_have(tmp_path: Path) -> None:
    whole = load_picker(train(tmp_path / "whole", ROUNDS))

    class StoppedError(Exception):
        pass

    folder = tmp_path / "stopped"
    folder.mkdir()
    agent = HanAgent(SETTINGS, Distribution(requests=80, experts=(2, 3)), SIZE)

    def stop(share: float, line: str) -> None:
        if share >= 0.5:
            raise StoppedError

    plan = TrainingPlan("han", folder, seed=5, rounds=ROUNDS, processes=1)
    with pytest.raises(StoppedError), TrainingRun(plan, progress=stop) as run:
        agent.train(run)
    resumed = load_picker(train(folder, ROUNDS, resume=True))
    assert resumed.parameters == whole.parameters
