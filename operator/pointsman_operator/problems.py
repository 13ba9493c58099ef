"""What is wrong although the router goes on serving: shown to operators, counted for alerts."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Problems:
    """Texts for people; empty = that part is in order."""

    configuration: Mapping[str, str]
    """Why a change is not in effect, by what it was a change of: a closed set of sources."""
    telemetry: Mapping[str, str]
    """Why load is missing or read another way, by policy ("namespace/name")."""
    learning: Mapping[str, str] = field(default_factory=dict)
    """Why outcomes wait ("outcomes"), or a policy does not run the version that it should, by policy."""
