import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from pointsman_policy.learning.sources import FromScenarios, MadeUp, training_source
from pointsman_policy.simulator.randomisation import Distribution

DATA = Path(__file__).parents[3] / "policy" / "pointsman_policy" / "simulator" / "data"
SMALL = Distribution(requests=50)


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    document = {
        "name": "sample",
        "experts": [{"name": "a", "model": "gemma-2-2b", "gpu": "L4", "replicas": 2}],
        "quality": {"scores": str(DATA / "scores.csv"), "prompts": str(DATA / "prompts.csv")},
        "loadFactors": [0.5, 1.2],
    }
    path = tmp_path / "sample.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(document))))
    return path


def test_the_nth_made_up_situation_is_always_the_same() -> None:
    one, two = MadeUp(SMALL, 5).situation(3), MadeUp(SMALL, 5).situation(3)
    assert np.array_equal(one.quality, two.quality)
    assert not np.array_equal(one.requests.arrival_at, MadeUp(SMALL, 5).situation(4).requests.arrival_at)
    assert not np.array_equal(one.requests.arrival_at, MadeUp(SMALL, 6).situation(3).requests.arrival_at)


def test_only_the_modes_of_admission_asked_for_come() -> None:
    source = MadeUp(SMALL, 1).admitting(("ShedHopeless",))
    assert {source.situation(index).admission for index in range(10)} == {"ShedHopeless"}


def test_scenarios_are_run_at_loads_between_theirs(scenario: Path) -> None:
    source = FromScenarios((scenario,), 1, 60)
    situations = [source.situation(index) for index in range(20)]
    assert all(len(situation) == 60 for situation in situations)
    loads = [situation.load for situation in situations]
    assert 0.5 <= min(loads) < 0.7
    assert 1.0 < max(loads) <= 1.2
    assert {situation.admission for situation in situations} == {"Never"}
    assert source.admitting(("ShedHopeless",)).situation(0).admission == "ShedHopeless"


def test_scenarios_are_half_of_the_mix(scenario: Path) -> None:
    source = training_source([scenario], SMALL, 1)
    names = [source.situation(index).name for index in range(6)]
    assert names.count("sample") == 3


def test_a_source_of_no_scenarios_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FromScenarios((), 1, 60)
