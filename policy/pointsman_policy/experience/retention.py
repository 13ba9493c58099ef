"""How long outcomes are kept: so many days, and so many bytes; the oldest days go first."""

from collections.abc import Iterable
from dataclasses import dataclass

from pointsman_policy.experience.parts import Part, day_of

_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept."""

    days: float = 400.0
    """Longest."""
    bytes: float = 32 * 2**30
    """Of all parts of all policies, at most."""

    def outdated(self, parts: Iterable[Part], now: float) -> list[Part]:
        """Return the parts to delete, oldest first.

        Args:
            parts: All parts of a table.
            now: Unix seconds.
        """
        oldest_first = sorted(parts, key=lambda part: (part.day, part.path))
        first_day = day_of(now - self.days * _DAY_SECONDS)
        excess = sum(part.size for part in oldest_first) - self.bytes
        result = []
        for part in oldest_first:
            if part.day >= first_day and excess <= 0:
                break
            result.append(part)
            excess -= part.size
        return result
