"""Work on a Ray cluster: an executor like those of the standard library.

Ray sends functions and their arguments to its workers by itself, and they need the same version of Pointsman. A cluster
that is given work can run anything as its user: only name one that you trust.
"""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

from pointsman_policy.errors import DocumentError

P = ParamSpec("P")
R = TypeVar("R")


class RayExecutor(Executor):
    """Runs calls as tasks of one Ray cluster.

    Args:
        address: "host:port" or "ray://host:port" of the cluster; "local" = one of its own on this machine.

    Raises:
        DocumentError: If Ray is not installed here.
        ConnectionError: If there is no such cluster.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise DocumentError(
                "training.ray", f"{address} cannot be used without the package `ray`; install it, or leave this empty"
            ) from error
        self._ray = ray
        ray.init(address=address, log_to_driver=False, include_dashboard=False)

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Run a call on any worker."""
        future: Future[R] = self._ray.remote(fn).remote(*args, **kwargs).future()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; what is not done yet is given up."""
        self._ray.shutdown()
