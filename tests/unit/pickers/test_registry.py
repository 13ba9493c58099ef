import runpy
import sys
from pathlib import Path
from typing import cast

import pytest

from pointsman_policy import pickers
from pointsman_policy.pickers import registry
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.registry import PICKERS

MODULE = """
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.round_robin import _kernel

PICKER = Picker("AlwaysFirst", _kernel, "a rule in a file of its own")
"""


def test_every_rule_is_registered_under_its_name() -> None:
    assert set(PICKERS) >= {
        "ImpactGreedy",
        "LeastKv",
        "PowerOfTwo",
        "QualityFirst",
        "Random",
        "RoundRobin",
        "ShortestQueue",
        "SloFilteredQuality",
        "StaticPrior",
        "WeightedScore",
    }
    assert all(picker.name == name for name, picker in PICKERS.items())


def test_every_rule_says_what_it_goes_by() -> None:
    assert all(picker.summary and not picker.summary.endswith(".") for picker in PICKERS.values())


def test_a_new_file_is_a_new_picker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "always_first.py").write_text(MODULE)
    monkeypatch.setattr(pickers, "__path__", [*pickers.__path__, str(tmp_path)])
    monkeypatch.setattr(pickers, "always_first", None, raising=False)
    monkeypatch.setitem(sys.modules, f"{pickers.__name__}.always_first", cast("object", None))
    monkeypatch.delitem(sys.modules, f"{pickers.__name__}.always_first")
    found = cast("dict[str, Picker]", runpy.run_path(str(registry.__file__))["PICKERS"])
    assert set(found) == {*PICKERS, "AlwaysFirst"}
