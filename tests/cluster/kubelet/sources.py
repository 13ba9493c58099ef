"""Where volumes and variables of a pod come from: ConfigMaps, Secrets, tokens, and the pod itself."""

import base64
import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Protocol

from tests.cluster.kubelet.documents import Document

_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_SUFFIXES = {"": "1", "m": "0.001", "k": "1E3", "M": "1E6", "G": "1E9", "T": "1E12"}
_SUFFIXES |= {"Ki": str(2**10), "Mi": str(2**20), "Gi": str(2**30), "Ti": str(2**40)}
NODE_RESOURCES = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "100Gi"}
"""What a container without limits is told that it may use."""


class NotThereError(LookupError):
    """A pod refers to an object, or to a key of one, that does not exist (yet)."""


class Lookup(Protocol):
    """Finds ConfigMaps and Secrets."""

    def get(self, namespace: str, name: str) -> Document | None:
        """Return the object, or None."""


class Sources:
    """ConfigMaps and Secrets, as the API holds them now."""

    def __init__(self, config_maps: Lookup, secrets: Lookup) -> None:
        self._config_maps, self._secrets = config_maps, secrets

    def config_map(self, namespace: str, name: str, *, optional: bool = False) -> Mapping[str, bytes]:
        """Return a ConfigMap's entries; none if it is missing and optional.

        Raises:
            NotThereError: it is missing.
        """
        found = self._config_maps.get(namespace, name)
        if found is None:
            return _missing("configmap", name, optional)
        texts = {key: text.encode() for key, text in (found.get("data") or {}).items()}
        return texts | {key: base64.b64decode(text) for key, text in (found.get("binaryData") or {}).items()}

    def secret(self, namespace: str, name: str, *, optional: bool = False) -> Mapping[str, bytes]:
        """Return a Secret's entries; none if it is missing and optional.

        Raises:
            NotThereError: it is missing.
        """
        found = self._secrets.get(namespace, name)
        if found is None:
            return _missing("secret", name, optional)
        return {key: base64.b64decode(text) for key, text in (found.get("data") or {}).items()}


def _missing(kind: str, name: str, optional: bool) -> Mapping[str, bytes]:
    if optional:
        return {}
    message = f'{kind} "{name}" not found'
    raise NotThereError(message)


def pod_field(pod: Document, path: str) -> str:
    """Return a field of a pod as the downward API gives it.

    Raises:
        NotThereError: the downward API has no such field.
    """
    if match := _KEYED.fullmatch(path):
        return str(pod["metadata"].get(match[1], {}).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        entries = pod["metadata"].get(path.partition(".")[2], {})
        return "\n".join(f'{name}="{value}"' for name, value in sorted(entries.items()))
    if path == "status.podIPs":
        path = "status.podIP"
    section, _, name = path.partition(".")
    if section not in ("metadata", "spec", "status") or "." in name or not name:
        message = f"the downward API has no field {path}"
        raise NotThereError(message)
    return str(pod[section].get(name, ""))


def resource_field(container: Document, reference: Document) -> str:
    """Return a limit or request of a container as the downward API gives it: in units of its divisor, rounded up."""
    section, _, resource = reference["resource"].partition(".")
    stated = container.get("resources", {}).get(section, {}).get(resource)
    divisor = quantity(reference.get("divisor") or "1") or Decimal(1)
    amount = quantity(stated or NODE_RESOURCES.get(resource, "0")) / divisor
    return str(int(amount.to_integral_value(ROUND_CEILING)))


def quantity(text: str) -> Decimal:
    """Read an amount such as ``250m``, ``2`` or ``1.5Gi``."""
    text = str(text)
    number = text.rstrip("KMGTkmi")
    return Decimal(number) * Decimal(_SUFFIXES[text[len(number) :]])
