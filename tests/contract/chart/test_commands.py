"""What containers start exists: every command of ours, with every option that the chart gives it."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from tests.contract.chart.rendering import VALUE_SETS, JsonObject, containers, pods, render

from pointsman_operator.cli.main import app


def commands(objects: list[JsonObject]) -> Iterator[list[str]]:
    for _, _, spec in pods(objects):
        for one in containers(spec):
            yield [*one["command"], *one.get("args", [])]
            if "lifecycle" in one:
                yield one["lifecycle"]["preStop"]["exec"]["command"]


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_every_command_takes_its_options(values: JsonObject) -> None:
    ours = [words[1:] for words in commands(render(values)) if words[0] == "pointsman"]
    root: Any = typer.main.get_command(app)
    assert {words[0] for words in ours} >= {"router", "operator", "check"}
    for name, *options in ours:
        known = {option for one in root.commands[name].params for option in [*one.opts, *one.secondary_opts]}
        assert {option.partition("=")[0] for option in options} <= known
