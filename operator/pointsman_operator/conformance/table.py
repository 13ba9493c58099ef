"""All the rules, in the order in which they are checked and documented."""

from typing import Final

from pointsman_operator.conformance.rule import SECTION_SOURCES, AnyRule
from pointsman_operator.conformance.rules import destination, health, refusals, request, response, streams, subset

RULES: Final[tuple[AnyRule, ...]] = (
    *health.RULES,
    *destination.RULES,
    *subset.RULES,
    *request.RULES,
    *response.RULES,
    *refusals.RULES,
    *streams.RULES,
)


def markdown() -> str:
    """Return the rules as the Markdown table of the documentation."""
    rows = [f"| `{one.id}` | {one.level} | {one.section} | {one.demand} |" for one in RULES]
    sources = [f"| {section} | {source} |" for section, source in SECTION_SOURCES.items()]
    return "\n".join(
        (
            "| rule | level | section | what the picker does |",
            "|---|---|---|---|",
            *rows,
            "",
            "| section | where that is |",
            "|---|---|",
            *sources,
        )
    )
