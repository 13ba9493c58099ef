"""How much experience there is."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pointsman_policy.experience.catalogue import Summary
from pointsman_policy.experience.parts import Part


@dataclass(slots=True)
class PolicyStats:
    """What is kept of one policy."""

    rows: int = 0
    bytes: int = 0
    """Of its parts."""
    parts: int = 0
    first_at: float = 0.0
    """Unix seconds; 0 = there is none."""
    last_at: float = 0.0
    arms: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows by version and arm."""

    def add(self, summary: Summary) -> None:
        """Count in some rows."""
        if not summary.rows:
            return
        self.first_at = min(self.first_at or summary.first_at, summary.first_at)
        self.last_at = max(self.last_at, summary.last_at)
        self.rows += summary.rows
        for version, arm, rows in summary.arms:
            self.arms[version, arm] += rows

    def add_stats(self, others: "PolicyStats") -> None:
        """Count in the rows that others count."""
        arms = tuple((version, arm, rows) for (version, arm), rows in others.arms.items())
        self.add(Summary(others.rows, others.first_at, others.last_at, arms))


def count_rows(parts: Iterable[tuple[Part, Summary]]) -> dict[str, PolicyStats]:
    """Sum up parts of outcomes by policy."""
    result: dict[str, PolicyStats] = {}
    for part, summary in parts:
        stats = result.setdefault(part.policy, PolicyStats())
        stats.bytes += part.size
        stats.parts += 1
        stats.add(summary)
    return result
