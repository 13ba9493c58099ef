"""The whole table, and docs/errors.md made from it: ``python -m tests.unit.malformed.page > docs/errors.md``."""

from collections.abc import Iterable

from tests.unit.malformed import calls, commands, documents, policies, quality, requests, tables, telemetry
from tests.unit.malformed.case import Case, Surface

SURFACES: tuple[Surface, ...] = (
    documents.POLICY_FILE,
    documents.EXPERTS_FILE,
    tables.PROFILES_FILE,
    tables.TRACE_FILE,
    quality.SCORES_FILE,
    quality.PARQUET_FILE,
    quality.PROMPTS_FILE,
    quality.MIX_INSTRUCT_FILE,
    quality.SCENARIO_FILE,
    policies.EXPORTED_POLICY,
    requests.BODIES,
    requests.HEADERS,
    requests.EXT_PROC,
    calls.ROUTING_SERVICE,
    telemetry.PROMETHEUS,
    telemetry.SCRAPE,
)

INTRODUCTION = """\
# Errors

What goes wrong with inputs, and what you see. Each row is a test: it gives the input to the running part, compares the
error word for word, and checks that good inputs work before and after. "…" stands for words of a library. No error
repeats a prompt.
"""


def page() -> str:
    """Return the page."""
    sections = [(one.name, one.where, one.cases) for one in SURFACES]
    sections.append((commands.NAME, commands.WHERE, commands.CASES))
    return "\n".join([INTRODUCTION, *(_section(*section) for section in sections)])


def _section(name: str, where: str, cases: Iterable[Case]) -> str:
    rows = [f"| {_cell(case.wrong)} | {_code(case.sees)} |" for case in cases]
    return "\n".join([f"## {name}", "", where, "", "| what is wrong | what you see |", "|---|---|", *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _code(text: str) -> str:
    """Return text as code; what holds backticks itself needs two around it."""
    fence = "``" if "`" in text else "`"
    space = " " if "`" in text else ""
    return f"{fence}{space}{_cell(text)}{space}{fence}"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - its purpose
