import runpy
import sys
from collections.abc import Callable
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


@pytest.fixture
def add_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Adds a module to the package of pickers, as long as the test runs."""

    def add(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setattr(pickers, "__path__", [*pickers.__path__, str(tmp_path)])
        monkeypatch.setattr(pickers, name, None, raising=False)
        monkeypatch.setitem(sys.modules, f"{pickers.__name__}.{name}", cast("object", None))
        monkeypatch.delitem(sys.modules, f"{pickers.__name__}.{name}")

    return add


def test_a_new_file_is_a_new_picker(add_module: Callable[[str, str], None]) -> None:
    add_module("always_first", MODULE)
    found = cast("dict[str, Picker]", runpy.run_path(str(registry.__file__))["PICKERS"])
    assert set(found) == {*PICKERS, "AlwaysFirst"}


def test_a_second_picker_of_the_same_name_is_an_error(add_module: Callable[[str, str], None]) -> None:
    add_module("always_first", MODULE.replace("AlwaysFirst", "RoundRobin"))
    with pytest.raises(ValueError, match=r"second picker named 'RoundRobin'; rename one of the two"):
        runpy.run_path(str(registry.__file__))
