"""docs/policy-service.md: every fault names a test that exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_fault_names_a_test_that_exists() -> None:
    section = (ROOT / "docs" / "policy-service.md").read_text().partition("\n## Faults\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 12
    for fault, *_, told in rows:
        ((file, test),) = re.findall(r"`([\w/]+\.py)::(\w+)`", told)
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(), fault
