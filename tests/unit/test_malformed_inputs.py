"""Every surface gets malformed inputs: each is refused with a clear error, and nothing else breaks.

The table is in `tests/unit/malformed`, one module for each kind of surface; docs/errors.md shows it.
"""

import logging
from pathlib import Path

import pytest
from tests.unit.malformed import commands
from tests.unit.malformed.case import Case, Surface
from tests.unit.malformed.page import SURFACES, page

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


@pytest.mark.parametrize(
    ("surface", "case"),
    [pytest.param(surface, case, id=f"{surface.name}: {case.wrong}") for surface in SURFACES for case in surface.cases],
)
async def test_it_is_refused_with_its_error_and_nothing_else_breaks(
    surface: Surface, case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with surface.trial(tmp_path) as trial:
        await trial.works()
        seen = await trial.give(case.given)
        assert case.fits(seen), seen
        await trial.works()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.wrong) for case in commands.CASES])
def test_a_wrong_command_ends_with_its_error(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = commands.run(case.given, tmp_path, monkeypatch, capsys)
    assert case.fits(seen), seen


def test_no_row_stands_twice() -> None:
    for surface in SURFACES:
        names = [case.wrong for case in surface.cases]
        assert len(set(names)) == len(names)


def test_the_page_shows_the_table() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.unit.malformed.page > docs/errors.md`"
