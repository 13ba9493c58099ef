"""A pod's port behind a unix socket of this machine, through the API server, as `kubectl port-forward` has it."""

import contextlib
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

_CHUNK_BYTES = 1 << 16

Open = Callable[[], socket.socket]
"""Opens a new connection to the port; raises OSError if it cannot."""


@contextlib.contextmanager
def forwarded(open_connection: Open) -> Iterator[Path]:
    """Serve a unix socket that only this user can reach, inside a ``with`` block.

    Args:
        open_connection: Called for each connection to the socket, in a thread of its own.
    """
    with tempfile.TemporaryDirectory(prefix="pointsman-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "router.sock"
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=_accept, args=(listener, open_connection), daemon=True).start()
        try:
            yield path
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, open_connection: Open) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_carry, args=(near, open_connection), daemon=True).start()


def _carry(near: socket.socket, open_connection: Open) -> None:
    with near:
        try:
            far = open_connection()
        except OSError:
            return
        with contextlib.closing(far):
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK_BYTES):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
