"""Loopback addresses of one cluster, so that several clusters run on one machine at once.

A cluster owns 127.N.0.0/16: Services get addresses in its lower half, pods in the quarter above, and the control plane
listens in its last 256, on its usual ports. N is taken by binding one port of that range, and so is free again when the
process that took it ends, however it ends.
"""

import ipaddress
import random
import socket
from collections.abc import Iterator
from types import TracebackType

FIRST_BLOCK, LAST_BLOCK = 64, 250
CLAIM_PORT = 1024
SERVICES, PODS, CONTROL_PLANE = 0, 128, 255
"""The third byte at which each kind of address begins."""


class NoFreeBlockError(RuntimeError):
    """Every block of loopback addresses is taken by a running cluster."""


class AddressBlock:
    """One claimed 127.N.0.0/16."""

    def __init__(self) -> None:
        order = list(range(FIRST_BLOCK, LAST_BLOCK))
        random.SystemRandom().shuffle(order)
        for block in order:
            claim = socket.socket()
            try:
                claim.bind((f"127.{block}.{CONTROL_PLANE}.254", CLAIM_PORT))
            except OSError:
                claim.close()
                continue
            self._claim, self._prefix = claim, f"127.{block}"
            return
        message = f"no block from 127.{FIRST_BLOCK} to 127.{LAST_BLOCK - 1} is free; stop a cluster"
        raise NoFreeBlockError(message)

    @property
    def services(self) -> str:
        """The range of Services' cluster IPs."""
        return f"{self._prefix}.{SERVICES}.0/17"

    @property
    def pods(self) -> str:
        """The range of pods' IPs."""
        return f"{self._prefix}.{PODS}.0/18"

    def control_plane(self, number: int) -> str:
        """Return the address of one part of the control plane (1 to 253)."""
        return f"{self._prefix}.{CONTROL_PLANE}.{number}"

    def release(self) -> None:
        """Give the block back."""
        self._claim.close()

    def __enter__(self) -> "AddressBlock":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


def hosts(network: str) -> Iterator[str]:
    """Yield the addresses of a range in order, without its first and last."""
    return (str(address) for address in ipaddress.ip_network(network).hosts())
