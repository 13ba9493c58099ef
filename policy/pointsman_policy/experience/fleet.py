"""The fleets: what experts each policy was last told to have, as they are declared, before any calibration."""

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pointsman_policy.documents import Document, name_pattern, parse
from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.policy_key import policy_folder

_LOGGER = logging.getLogger(__name__)

_FILE = "fleet.json"

_Seconds = Annotated[float, Field(ge=0.0, le=1_000.0, allow_inf_nan=False)]
_Count = Annotated[float, Field(ge=0.0, le=1e12, allow_inf_nan=False)]


class FleetExpert(Document):
    """One expert; coefficients are those of the iteration-time model, in seconds."""

    name: str = Field(pattern=name_pattern(63))
    model: str = Field(min_length=1, max_length=253)
    gpu: str = Field(max_length=253)
    base_seconds: _Seconds
    per_sequence_seconds: _Seconds
    per_context_token_seconds: _Seconds
    per_prefill_token_seconds: _Seconds
    kv_capacity_tokens: _Count
    """0 = not known."""
    maximum_running: int = Field(ge=0, le=65_536)
    quality_prior: float = Field(ge=0.0, le=1.0)
    output_tokens_prior: _Count


class Fleet(Document):
    """The experts of a policy."""

    policy: str
    at: float = Field(ge=0.0, allow_inf_nan=False)
    """Since when, Unix seconds."""
    experts: tuple[FleetExpert, ...] = Field(max_length=1_000)

    def expert(self, name: str) -> FleetExpert | None:
        """Return an expert by its name."""
        return next((one for one in self.experts if one.name == name), None)


class Fleets:
    """The last fleet of each policy, in memory and on disk.

    Args:
        root: Of the policy service.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, Fleet | None] = {}

    def get(self, policy: str) -> Fleet | None:
        """Return a policy's fleet; None = it was never told, or its file is damaged, which is logged."""
        if policy not in self._known:
            try:
                self._known[policy] = read_fleet(self._root, policy)
            except DocumentError as error:
                _LOGGER.error("%s", error)
                self._known[policy] = None
        return self._known[policy]

    def tell(self, fleet: Fleet) -> None:
        """Keep a policy's fleet, unless a later one is known.

        Raises:
            OSError: If it cannot be written.
        """
        known = self.get(fleet.policy)
        if known is not None and (known.at > fleet.at or known.experts == fleet.experts):
            return
        write_fleet(self._root, fleet)
        self._known[fleet.policy] = fleet


def read_fleet(root: Path, policy: str) -> Fleet | None:
    """Return the fleet that a policy was last told to have; None = it was never told.

    Args:
        root: Of the policy service.
        policy: Its key.

    Raises:
        DocumentError: If the file cannot be read or is damaged.
    """
    path = _path(root, policy)
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DocumentError(
            str(path), f"cannot be read ({error}); remove it, routers tell their fleet again"
        ) from error
    return parse(Fleet, value, str(path))


def write_fleet(root: Path, fleet: Fleet) -> None:
    """Keep a policy's fleet, durably and as a whole.

    Raises:
        OSError: If it cannot be written.
    """
    path = _path(root, fleet.policy)
    write_durably(path, fleet.model_dump_json(by_alias=True, indent=1).encode() + b"\n")


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file's content, durably and as a whole; its folder is made if needed.

    Raises:
        OSError: If it cannot be written; what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(unfinished).rename(path)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _path(root: Path, policy: str) -> Path:
    return policy_folder(root / "fleets", policy) / _FILE
