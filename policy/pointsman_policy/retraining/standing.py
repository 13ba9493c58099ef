"""Where a policy stands when a training begins: what serves now, and which picker its RouterPolicy names."""

import json
import re
from pathlib import Path

from pointsman_policy.documents import parse
from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.policy_key import policy_folder
from pointsman_policy.registry.registry import Registry
from pointsman_policy.retraining.contenders import DEFAULT_PICKER, Contender, of_packaged, of_version
from pointsman_policy.rollout.state import RolloutState

_STATE, _SETTINGS = "state.json", "settings.json"
_PICKER = re.compile(r"[A-Za-z0-9]{1,64}")


def active_version(root: Path, policy: str) -> str:
    """Return the version that serves now; empty = the packaged policy.

    Args:
        root: Of the policy service.
        policy: Its key.

    Raises:
        DocumentError: If the service's file on it is damaged.
    """
    path = policy_folder(root / "rollouts", policy) / _STATE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise DocumentError(str(path), f"cannot be read ({error.strerror}); fix its rights") from error
    try:
        return parse(RolloutState, json.loads(content), str(path)).active.version
    except ValueError as error:
        raise DocumentError(str(path), "is not JSON; start the policy service, which sets it aside") from error


def named_picker(root: Path, policy: str) -> str:
    """Return the picker that the policy's RouterPolicy names; the default where that is not known."""
    picker = _setting(root, policy, "picker")
    return picker if _PICKER.fullmatch(picker) else DEFAULT_PICKER


def named_cluster(root: Path, policy: str) -> str:
    """Return the address of the Ray cluster that the policy's RouterPolicy names; empty = none."""
    return _setting(root, policy, "ray")


def _setting(root: Path, policy: str, name: str) -> str:
    path = policy_folder(root / "rollouts", policy) / _SETTINGS
    try:
        value = json.loads(path.read_bytes()).get(name, "")
    except (OSError, ValueError, AttributeError):
        return ""
    return value if isinstance(value, str) else ""


def active_contender(root: Path, policy: str, version: str, picker: str) -> Contender:
    """Return what serves now as a contender.

    Args:
        root: Of the policy service.
        policy: Its key.
        version: That is active; empty = the packaged policy.
        picker: That the RouterPolicy names.

    Raises:
        DocumentError: If the version is damaged or gone.
    """
    if not version:
        return of_packaged(picker)
    return of_version(Registry(root).read(policy, version), f"version {version}")
