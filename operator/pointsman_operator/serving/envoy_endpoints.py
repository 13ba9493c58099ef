"""Envoy's endpoints file, kept in line with the experts, and which of them Envoy knows by now."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.serving.envoy_config import write_endpoints
from pointsman_policy.errors import DocumentError

SETTLE_SECONDS = 0.25
"""Envoy has taken over a changed file by then; it watches the folder and needs milliseconds."""


class EnvoyEndpoints:
    """Announces experts to Envoy.

    Args:
        path: The endpoints file; its folder is made if needed.
        clock: Monotonic seconds.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._written: list[str] | None = None
        self._known_at: dict[str, float] = {}

    def prepare(self) -> None:
        """Write a file without experts if there is none, so that Envoy can start.

        Raises:
            DocumentError: If it cannot be written.
        """
        if not self._path.exists():
            self._write([])

    def announce(self, endpoints: Sequence[Endpoint]) -> None:
        """Write the ready ones into the file, if that changes it.

        Raises:
            DocumentError: If the file cannot be written.
        """
        ready = list(dict.fromkeys(endpoint.address for endpoint in endpoints if endpoint.expert.ready))
        if ready == self._written:
            return
        self._write(ready)
        # Until the first announcement nothing could be picked, so Envoy has time enough for that one.
        known_at = self._clock() + (SETTLE_SECONDS if self._written is not None else 0.0)
        self._known_at = {address: self._known_at.get(address, known_at) for address in ready}
        self._written = ready

    def _write(self, addresses: Sequence[str]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_endpoints(self._path, addresses)
        except OSError as error:
            raise DocumentError(
                str(self._path),
                f"Envoy's endpoints file cannot be written ({error.strerror}); make its folder writable, or name "
                "another file with --envoy-endpoints",
            ) from error

    def known(self, endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
        """Return those that Envoy knows, or need not know because they are not ready."""
        now = self._clock()
        return tuple(
            endpoint
            for endpoint in endpoints
            if not endpoint.expert.ready or self._known_at.get(endpoint.address, float("inf")) <= now
        )
