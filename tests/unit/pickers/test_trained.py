import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tests.unit.exports import greedy_export, han_export
from tests.unit.states import draw_state

from pointsman_policy.errors import DocumentError
from pointsman_policy.pickers import han_actor, impact_greedy
from pointsman_policy.pickers.registry import PICKERS, with_trained
from pointsman_policy.pickers.trained import as_picker, impact_greedy_policy, load_picker
from pointsman_policy.runtime.exported import ARTEFACTS, write_exported_policy


def test_an_exported_rule_is_the_rule(tmp_path: Path) -> None:
    policy = write_exported_policy(tmp_path / "policy", impact_greedy_policy(impact_greedy.PICKER, {"seed": "1"}))
    picker = load_picker(tmp_path / "policy")
    assert picker.parameters == impact_greedy.PICKER.parameters
    assert picker.version == policy.version
    assert picker.kernel is impact_greedy.PICKER.kernel


def test_an_exported_network_scores_as_before_its_export(tmp_path: Path) -> None:
    policy = han_export()
    write_exported_policy(tmp_path / "policy", policy)
    before, after = as_picker(policy), load_picker(tmp_path / "policy")
    rng = np.random.default_rng(1)
    for experts in (1, 3, 7):
        state = draw_state(rng, experts)
        np.testing.assert_array_equal(before.pick(state, 0.5).scores, after.pick(state, 0.5).scores)
    assert after.version
    assert not before.version


def test_a_trained_policy_takes_the_place_of_its_namesake(tmp_path: Path) -> None:
    write_exported_policy(tmp_path / "policy", greedy_export())
    pickers = with_trained([tmp_path / "policy"])
    assert pickers.keys() == PICKERS.keys()
    assert [name for name in pickers if pickers[name] is not PICKERS[name]] == ["ImpactGreedy"]
    assert len(pickers["ImpactGreedy"].parameters) == 2 * len(impact_greedy.COLUMNS)


def test_two_policies_of_one_picker_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_exported_policy(tmp_path / name, greedy_export())
    with pytest.raises(DocumentError, match="two: is a second ImpactGreedy"):
        with_trained([tmp_path / "one", tmp_path / "two"])


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        (dataclasses.replace(greedy_export(), picker="Oracle"), "no trainable picker is named 'Oracle'"),
        (dataclasses.replace(greedy_export(), columns=("load", "luck")), "the export has load, luck"),
        (dataclasses.replace(greedy_export(), must_serve=(), may_drop=()), "takes tables and no network"),
        (dataclasses.replace(han_export(), size=None), "needs a network"),
        (dataclasses.replace(greedy_export(), must_serve=((0.0,) * len(impact_greedy.COLUMNS),)), "must be above 0"),
    ],
)
def test_what_is_no_policy_of_a_picker_here_is_refused(policy: object, problem: str) -> None:
    assert isinstance(policy, type(greedy_export()))
    with pytest.raises(DocumentError, match=problem):
        as_picker(policy, "manifest.json")


def test_the_packaged_policies_are_in_use() -> None:
    for manifest in ARTEFACTS.glob("*/manifest.json"):
        picker = load_picker(manifest.parent)
        assert PICKERS[picker.name] == picker
        assert picker.version


def test_a_han_actor_has_the_columns_of_impact_greedy_and_its_trust() -> None:
    assert (*impact_greedy.COLUMNS, "trust") == han_actor.COLUMNS
