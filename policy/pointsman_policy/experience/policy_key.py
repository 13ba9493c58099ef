"""Keys of policies, "namespace/name", where they become folders: nothing else may lead anywhere on a volume."""

import re
from pathlib import Path

from pointsman_policy.documents import name_pattern
from pointsman_policy.errors import DocumentError

_NAMESPACE = re.compile(name_pattern(63))
_NAME = re.compile(name_pattern(253))


def check_policy_key(key: str) -> str:
    """Return a policy's key as it is.

    Raises:
        DocumentError: If it is not "namespace/name" with names as Kubernetes has them.
    """
    namespace, _, name = key.partition("/")
    if not (_NAMESPACE.fullmatch(namespace) and _NAME.fullmatch(name)):
        raise DocumentError(
            f"policy {key[:80]!r}",
            'must be "namespace/name" of a RouterPolicy, in lower-case letters, digits, "-" and "."',
        )
    return key


def policy_folder(root: Path, key: str) -> Path:
    """Return a policy's folder below another one.

    Raises:
        DocumentError: If the key is none.
    """
    return root.joinpath(*check_policy_key(key).split("/"))


def policies_in(root: Path) -> list[str]:
    """Return the keys of the policies that have a folder below another one, sorted."""
    found = (f"{path.parent.name}/{path.name}" for path in root.glob("*/*") if path.is_dir())
    return sorted(key for key in found if is_policy_key(key))


def is_policy_key(key: str) -> bool:
    """Tell whether something is a policy's key."""
    try:
        check_policy_key(key)
    except DocumentError:
        return False
    return True
