"""Texts of a container that are not taken as they stand: $(VARIABLES), and paths that exist only in a container."""

import re
from collections.abc import Mapping
from pathlib import Path

_REFERENCE = re.compile(r"\$\$|\$\(([^()\s]+)\)")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace $(NAME) by its value where there is one, as Kubernetes does in command, args and env; $$ is one $."""

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return variables.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


class MountPaths:
    """Replaces mount paths by the folders that stand for them.

    A path is found where it begins a path of its own: after nothing, or after a character that no path goes on from,
    as in ``--config=/etc/app/x``, ``unix:///run/app.sock`` and ``/a:/b``; never inside ``/var/run/app`` or as the host
    of ``tcp://app/``.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = {_normal(path): str(folder) for path, folder in folders.items()}
        longest_first = sorted(self._folders, key=len, reverse=True)
        paths = "|".join(re.escape(path) for path in longest_first)
        self._pattern = re.compile(rf"(?<![\w.\-/])((?://)?)({paths})(?![\w\-]|\.\w)") if paths else None

    def in_text(self, text: str) -> str:
        """Return the text with every mount path replaced."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: match[1] + self._folders[match[2]], text)


def _normal(path: str) -> str:
    return "/" + path.strip("/")
