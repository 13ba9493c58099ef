"""The documentation names what there is: pickers, metrics, commands, files."""

import importlib
import importlib.util
import inspect
import pkgutil
import re
import shlex
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import typer
from prometheus_client import CollectorRegistry

from pointsman_operator.cli.main import app
from pointsman_operator.conformance.table import markdown
from pointsman_operator.control.metrics import OperatorMetrics
from pointsman_operator.control.status_document import Condition, Status
from pointsman_operator.decision import ExpertView, OutcomeStatus
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.metrics import LATENCY_HELP, Metrics, TelemetryCount
from pointsman_operator.outcomes.metrics import LearningMetrics
from pointsman_operator.problems import Problems
from pointsman_policy import pickers
from pointsman_policy.experts import Expert
from pointsman_policy.pickers.impact_greedy import COLUMNS
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.service import exports
from pointsman_policy.service.metrics import ServiceMetrics, Values
from pointsman_policy.state import empty_state

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
OTHER_SECTIONS = {"Adding a picker", "Measured"}
PICKER_ROW = r"^\| `(\w+)` \| [^|]+ \| (counts|state) \|"


def test_every_picker_has_a_section_a_row_and_a_test() -> None:
    page = (DOCS / "policies.md").read_text()
    sections = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert set(sections) - OTHER_SECTIONS == PICKERS.keys()
    rows = [name for name, _ in re.findall(PICKER_ROW, page, re.MULTILINE)]
    assert rows == [name for name in sections if name not in OTHER_SECTIONS]
    modules = {
        info.name
        for info in pkgutil.iter_modules(pickers.__path__)
        if hasattr(importlib.import_module(f"{pickers.__name__}.{info.name}"), "PICKER")
    }
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests/unit/pickers").glob("test_*.py")}
    assert modules <= tested


def test_the_table_of_pickers_says_which_need_more_than_counts() -> None:
    told = dict(re.findall(PICKER_ROW, (DOCS / "policies.md").read_text(), re.MULTILINE))
    assert told == {name: "state" if picker.needs_slots else "counts" for name, picker in PICKERS.items()}


def test_every_column_of_impact_greedy_is_explained() -> None:
    section = (DOCS / "policies.md").read_text().partition("## ImpactGreedy")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(COLUMNS)


def test_the_picker_shown_as_an_example_works(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.+?)```", (DOCS / "policies.md").read_text(), re.DOTALL)
    path = tmp_path / "my_rule.py"
    path.write_text(re.sub(r"^   ", "", code, flags=re.MULTILINE))
    spec = importlib.util.spec_from_file_location("my_rule", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    state = empty_state(2)
    state.allowed[:] = True
    state.candidate["predicted_quality"] = (0.6, 0.5)
    state.expert["waiting_request_count"] = (3, 1)
    pick = module.PICKER.pick(state, 0.5)
    assert pick.expert == 1
    np.testing.assert_allclose(pick.scores, (3, 4), atol=1e-5)


def test_every_metric_is_in_the_catalogue_with_its_type_and_labels() -> None:
    rows = re.findall(r"^\| `(pointsman_\w+)` \| (\w+) \|([^|]*)\| [^|]+ \|$", _metrics_page(), re.MULTILINE)
    told = {name: (kind, tuple(re.findall(r"\w+", labels))) for name, kind, labels in rows}
    assert len(told) == len(rows)
    assert told == dict(_exported()) | _of_the_policy_service()


def test_the_queries_of_the_catalogue_use_metrics_that_exist() -> None:
    names = {name for name, _ in _exported()} | _of_the_policy_service().keys()
    used = set(re.findall(r"pointsman_\w+", _metrics_page()))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in used} == names


def _metrics_page() -> str:
    return (DOCS / "metrics.md").read_text()


def _exported() -> Iterator[tuple[str, tuple[str, tuple[str, ...]]]]:
    metrics, operator, learning = (
        Metrics(CollectorRegistry()),
        OperatorMetrics(CollectorRegistry()),
        CollectorRegistry(),
    )
    _exercise(metrics)
    _exercise_operator(operator)
    _exercise_learning(LearningMetrics(learning))
    for family in chain(metrics.registry.collect(), operator.registry.collect(), learning.collect()):
        labels = {
            name: None
            for sample in family.samples
            for name in sample.labels
            if not sample.name.endswith("_created") and name != "le"
        }
        assert family.samples, family.name
        suffix = "_total" if family.type == "counter" else ""
        yield family.name + suffix, (family.type, tuple(labels))


class _Noted(ServiceMetrics):
    """Notes what is exported instead of looking it up."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[str, tuple[str, ...]]] = {}

    def count(self, name: str, help_text: str, labels: Iterable[str], values: Values) -> None:
        self.found[f"{name}_total"] = ("counter", tuple(labels))

    def gauge(self, name: str, help_text: str, labels: Iterable[str], values: Values) -> None:
        self.found[name] = ("gauge", tuple(labels))


def _of_the_policy_service() -> dict[str, tuple[str, tuple[str, ...]]]:
    noted, unused = _Noted(), cast("Any", None)
    for name, export in vars(exports).items():
        if name.startswith("export_"):
            export(noted, *[unused] * (len(inspect.signature(export).parameters) - 1))
    assert len(noted.found) > 10
    return noted.found


def _exercise_learning(metrics: LearningMetrics) -> None:
    metrics.version_problem("edge/chat")
    metrics.watch_spool(lambda: 0, lambda: 0)


def _exercise(metrics: Metrics) -> None:
    """Make every metric have a value."""
    endpoint = Endpoint(Expert(name="a", endpoint="10.0.0.1:8000", model="m"))
    metrics.answered("grpc", "edge/chat", 200)
    metrics.picked("edge/chat", "ImpactGreedy", 0.001)
    metrics.fell_back("ImpactGreedy", "deadline")
    metrics.dropped("edge/chat", "rejected-saturated")
    metrics.failed("grpc")
    metrics.expired(1)
    metrics.finished("edge/chat", "ImpactGreedy", OutcomeStatus.COMPLETED, slo_met=True, qos=0.5)
    for kind in LATENCY_HELP:
        metrics.latency(kind, "edge/chat", measured_seconds=0.1, predicted_seconds=0.1)
    metrics.access_log_entry("reported")
    metrics.stream_opened()
    metrics.stream_closed("BUFFERED", "ok")
    metrics.watch_open_decisions(lambda: 1)
    metrics.watch_experts(lambda: [("edge/chat", ExpertView(endpoint, True, 1.0, 2.0, 0.5, 0.5, 3))])
    metrics.watch_problems(lambda: Problems({"experts": "unreadable"}, {"edge/chat": ""}))
    metrics.watch_telemetry(lambda: [TelemetryCount("10.0.0.1:8000", 1, 0)])


def _exercise_operator(metrics: OperatorMetrics) -> None:
    condition = Condition(
        type="Accepted", status="True", observed_generation=1, last_transition_time="", reason="Valid", message=""
    )
    metrics.policies([Status(observed_generation=1, conditions=(condition,))])
    metrics.active(active=True)
    metrics.status_written("stored")
    metrics.router_polled("answered")
    metrics.reviewed("allowed")
    metrics.event("posted")
    metrics.policy_service_connected(connected=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_make_commands_shown_exist(page: Path) -> None:
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE))
    assert shown <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pointsman_commands_shown_exist_with_their_options(page: Path) -> None:
    lines = re.findall(r"(?:^|`)(?:\.venv/bin/)?pointsman ([a-z][^`\n#>&|]*)", page.read_text(), re.MULTILINE)
    unknown = {(line, word) for line in lines for word in _unknown_words(shlex.split(line))}
    assert unknown == set()


def _unknown_words(words: list[str]) -> Iterator[str]:
    command: Any = typer.main.get_command(app)
    words = list(words)
    while words and hasattr(command, "commands"):
        word = words.pop(0)
        if word.isupper() or word.startswith("["):
            return
        if word not in command.commands:
            yield word
            return
        command = command.commands[word]
    options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    yield from (word for word in words if word.startswith("--") and word.partition("=")[0] not in options)


def test_the_rules_of_conformance_are_documented_as_they_are() -> None:
    section = (DOCS / "conformance.md").read_text().partition("\n## Rules\n")[2]
    table = section[section.index("\n| rule |") + 1 :].partition("\n## ")[0]
    assert table == markdown() + "\n", "paste the output of `pointsman conformance --list`"


def test_every_fault_names_tests_that_exist_and_run_in_the_cluster() -> None:
    page = (DOCS / "operations.md").read_text().partition("\n## Faults\n")[2]
    rows = [line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 20
    for fault, *_, told in rows:
        named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", told)
        assert named, fault
        for file, test in named:
            text = (ROOT / "tests" / file).read_text()
            assert not test or f"def {test}(" in text, (fault, test)
            assert file.startswith(("cluster/", "e2e/", "integration/kubernetes/")), (fault, file)
