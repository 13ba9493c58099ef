"""One reading of one expert's load."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadSample:
    """What an expert's server said of its load; None = not said, which is not zero."""

    endpoint: str
    """The "ip:port" of the expert."""
    sampled_at: float
    """When the server was read, Unix seconds (for Prometheus: the sample's own timestamp)."""
    running_requests: float | None
    waiting_requests: float | None
    kv_cache_utilization_ratio: float | None
    """0 to 1."""
