"""Which versions of the learned policy decide on a RouterPolicy's requests."""

import hashlib
from dataclasses import dataclass, replace

from pointsman_operator.picking import AnyPicker
from pointsman_policy.pickers.trained import as_picker
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.registry.version import PolicyVersion

_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Installed:
    """A version made ready to decide."""

    version: str
    picker: AnyPicker
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class Assignment:
    """What runs for one policy."""

    active: Installed | None = None
    """None = the packaged policy and the experts' declared beliefs."""
    candidate: Installed | None = None
    canary_percent: int = 0
    """Share of requests that the candidate decides on, 0 to 100; 0 = it only watches."""
    exploration_percent: int = 0
    """Share of decisions that may try another expert nearly as good, 0 to 100."""
    store_prompts: bool = False


PACKAGED = Assignment()


def install(version: PolicyVersion) -> Installed:
    """Make a version ready; takes milliseconds, and may run in a thread.

    Raises:
        DocumentError: If its policy is for no picker of this program.
    """
    picker = replace(as_picker(version.exported, f"version {version.version}"), version=version.version)
    return Installed(version.version, picker, version.calibration)


def in_canary(version: str, request: str, percent: int) -> bool:
    """Tell whether a candidate decides on a request: always the same for one request, on every router.

    Args:
        version: The candidate's; another one gets other requests.
        request: What tells the request from others, such as its id.
        percent: Share of requests, 0 to 100.
    """
    digest = hashlib.blake2b(f"{version}\0{request}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % _BUCKETS < percent * _BUCKETS // 100
