from collections.abc import Iterator
from pathlib import Path

import pytest

from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.contestants import CONSTANT, line_up
from pointsman_policy.evaluation.tuning import TunedRules, read_tuned, rules_to_tune, tune_rules, write_tuned
from pointsman_policy.learning.scoring import Scorer
from pointsman_policy.learning.search import SearchSettings
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.randomisation import Distribution


def test_peers_with_parameters_and_the_constant_rule_are_tuned() -> None:
    assert list(rules_to_tune()) == ["StaticPrior", "WeightedScore", "SloFilteredQuality", CONSTANT]


def test_each_rule_is_searched_until_its_time_is_over() -> None:
    ticks: Iterator[int] = iter(range(10_000))
    begun: list[str] = []
    settings = SearchSettings(population=2, situations=1, validation_situations=1, validate_every=1)
    distribution = Distribution(requests=40, experts=(2, 3))
    tuned = tune_rules(settings, distribution, Scorer(), 2 / 60, lambda: float(next(ticks)), begun.append)
    assert begun == list(rules_to_tune())
    assert tuned.generations == {"StaticPrior": 2, "WeightedScore": 2, "SloFilteredQuality": 2, CONSTANT: 3}
    for name, parameters in tuned.parameters.items():
        assert len(parameters) == len(rules_to_tune()[name][0].picker.parameters)
    names = {one.name for one in line_up(tuned.parameters)}
    assert {"StaticPrior (tuned)", "WeightedScore (tuned)", "SloFilteredQuality (tuned)"} <= names


def test_tuned_parameters_can_be_written_and_read(tmp_path: Path) -> None:
    tuned = TunedRules(
        seed=3,
        minutes=1.5,
        generations={"StaticPrior": 7},
        parameters={"StaticPrior": (0.25,), CONSTANT: PICKERS["ImpactGreedy"].parameters},
    )
    write_tuned(tmp_path / "tuned.json", tuned)
    assert read_tuned(tmp_path / "tuned.json") == tuned


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ('{"Best": [1]}', "no rule 'Best' is tuned; choose from StaticPrior, WeightedScore"),
        ('{"PowerOfTwo": []}', "no rule 'PowerOfTwo' is tuned"),
        ('{"StaticPrior": [1, 2]}', "StaticPrior has 1 parameters, not 2"),
        ('{"StaticPrior": ["x"]}', "parameters"),
    ],
)
def test_wrong_parameters_are_refused(tmp_path: Path, parameters: str, message: str) -> None:
    path = tmp_path / "tuned.json"
    path.write_text(f'{{"seed": 0, "minutes": 1, "generations": {{}}, "parameters": {parameters}}}')
    with pytest.raises(DocumentError, match=message):
        read_tuned(path)
