"""How one policy service runs; what it does for each policy is in RouterPolicies."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from pointsman_policy.experience.retention import Retention

TRAINING_COMMAND = (sys.executable, "-m", "pointsman_policy.retraining")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Read once at the start."""

    root: Path
    """Folder on a local volume, for everything that the service keeps."""
    addresses: tuple[str, ...] = ("127.0.0.1:9004",)
    """Where PolicyService is served: "ip:port" (port 0 = any free one) or "unix:/path"."""
    credentials: Callable[[], grpc.ServerCredentials] | None = None
    """Makes what addresses with a port are served with; None = plain text."""
    admin_host: str = "127.0.0.1"
    """Where metrics and probes are served."""
    admin_port: int = 9094
    """0 = any free port."""
    outcomes_url: str = ""
    """Where outcomes rest, such as "s3://bucket/folder"; empty = in `root`."""
    retention: Retention = field(default_factory=Retention)
    """How long outcomes are kept."""
    compact_seconds: float = 300.0
    """From one moving of outcomes into parts to the next."""
    tick_seconds: float = 1.0
    """From one look at rollouts and schedules to the next."""
    training_command: tuple[str, ...] = TRAINING_COMMAND
    """What runs a training."""
    drift_seconds: float = 10.0
    """From one look at experts that are not as believed to the next."""
    training_processors: int = 1
    """Cores that a training may use."""
    grace_seconds: float = 5.0
    """After SIGTERM: longest time for open calls to end."""
