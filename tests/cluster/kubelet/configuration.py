"""What the kubelet is told at its start, in one JSON file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path


@dataclass(frozen=True)
class Image:
    """What stands for a container image: programs of this machine."""

    pattern: str
    """Shell pattern that the whole image reference matches, such as ``*/envoy:*``."""
    path: Sequence[str]
    """Folders where its programs lie; the machine's own PATH follows."""
    entrypoint: Sequence[str] = ()
    """What runs where a container names no command, before its args."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the image; a container's own ones go before them."""


@dataclass(frozen=True)
class Configuration:
    """All settings."""

    kubeconfig: str
    folder: str
    """Where pods' files are kept while they run; short, since paths of unix sockets end at 107 characters."""
    logs: str
    """Where the output of containers goes: NAMESPACE_POD_CONTAINER.RESTART.log."""
    pod_addresses: str
    """Range of pods' IP addresses, on loopback."""
    address: str
    """Where the kubelet's own API listens."""
    certificate: str
    key: str
    authority: str
    """PEM files: its serving certificate, and who signs certificates of its clients."""
    images: Sequence[Image]
    """The first that matches is taken; an image that none matches cannot be pulled."""
    port: int = 10250
    restart_backoff_seconds: float = 1.0
    """Wait before the second restart, doubled by each further one up to 30 s; the first restart comes at once."""

    def image(self, reference: str) -> Image | None:
        """Return what stands for an image reference, or None."""
        return next((image for image in self.images if fnmatchcase(reference, image.pattern)), None)

    def write(self, path: Path) -> None:
        """Write the file that `read` reads."""
        path.write_text(json.dumps(asdict(self), indent=2))


def read(path: Path) -> Configuration:
    """Read a configuration.

    Raises:
        TypeError: a field is missing or unknown.
    """
    document = json.loads(path.read_text())
    images = [Image(**image) for image in document.pop("images")]
    return Configuration(images=images, **document)
