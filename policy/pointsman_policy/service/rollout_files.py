"""What the service remembers of each policy: its settings and where its rollout stands, each a file replaced whole."""

import json
import logging
from pathlib import Path
from typing import TypeVar

from pointsman_policy.documents import Document, parse
from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.fleet import write_durably
from pointsman_policy.experience.policy_key import policies_in, policy_folder
from pointsman_policy.rollout.state import RolloutState
from pointsman_policy.service.policy_settings import PolicyConfiguration

_LOGGER = logging.getLogger(__name__)

_STATE, _SETTINGS = "state.json", "settings.json"
_DAMAGED = ".damaged"

Kept = TypeVar("Kept", RolloutState, PolicyConfiguration)


class RolloutFiles:
    """Files of all policies.

    Args:
        root: Of the policy service.
    """

    def __init__(self, root: Path) -> None:
        self._root = root / "rollouts"

    def policies(self) -> list[str]:
        """Return the policies that there are files of."""
        return policies_in(self._root)

    def read_state(self, policy: str) -> tuple[RolloutState, str]:
        """Return where a policy stands, and what is wrong with its file, which is set aside then."""
        state, problem = self._read(RolloutState, policy, _STATE)
        return state or RolloutState(), problem

    def read_settings(self, policy: str) -> tuple[PolicyConfiguration, str]:
        """Return a policy's settings, and what is wrong with their file, which is set aside then."""
        settings, problem = self._read(PolicyConfiguration, policy, _SETTINGS)
        return settings or PolicyConfiguration(policy=policy), problem

    def write_state(self, policy: str, state: RolloutState) -> None:
        """Keep where a policy stands.

        Raises:
            OSError: If it cannot be written.
        """
        self._write(policy, _STATE, state)

    def write_settings(self, settings: PolicyConfiguration) -> None:
        """Keep a policy's settings.

        Raises:
            OSError: If they cannot be written.
        """
        self._write(settings.policy, _SETTINGS, settings)

    def _read(self, model: type[Kept], policy: str, name: str) -> tuple[Kept | None, str]:
        path = policy_folder(self._root, policy) / name
        try:
            return parse(model, json.loads(path.read_bytes()), str(path)), ""
        except FileNotFoundError:
            return None, ""
        except (OSError, ValueError, RecursionError, DocumentError) as error:
            problem = f"{path} cannot be read and was set aside; the policy starts anew ({error})"
            _LOGGER.error("%s", problem)
            try:
                path.rename(path.with_name(name + _DAMAGED))
            except OSError as again:
                _LOGGER.error("%s: cannot be set aside: %s", path, again)
            return None, problem

    def _write(self, policy: str, name: str, document: Document) -> None:
        content = document.model_dump_json(by_alias=True, indent=1).encode() + b"\n"
        write_durably(policy_folder(self._root, policy) / name, content)
