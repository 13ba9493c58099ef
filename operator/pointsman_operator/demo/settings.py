"""What a user of the demo may choose."""

from dataclasses import dataclass
from pathlib import Path

DEFAULT_PICKERS = ("RoundRobin", "ShortestQueue", "SloFilteredQuality", "ImpactGreedy", "HanActor")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """Read once at the start."""

    out: Path
    """Folder for the report, the configuration of every part, and logs; made if needed."""
    pickers: tuple[str, ...] = DEFAULT_PICKERS
    """The rules to compare, each once."""
    scenario: Path | None = None
    """None = the packaged one."""
    trace: Path | None = None
    """Replaces the scenario's arrivals by a trace's; lengths are not taken from it."""
    scores: Path | None = None
    """Replaces the scenario's quality table; answer lengths come from it as well."""
    prompts: Path | None = None
    """The prompts of `scores`, given together with it."""
    load: float | None = None
    """Mean arrival rate over the fleet's capacity; None = the first of the scenario's load factors."""
    seconds: float = 120.0
    """Length of the arrivals, where `requests` does not say how many there are."""
    requests: int | None = None
    """Requests to each rule."""
    seed: int = 1
    """Of the workload, the emulated answers and the router's tie-breaking."""
    scrape: bool = False
    """The router reads the experts' metrics itself, without a Prometheus."""
