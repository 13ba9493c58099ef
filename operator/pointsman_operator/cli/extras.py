"""Commands that need an extra of the distribution say so where it is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from pointsman_policy.errors import PointsmanError

_OURS = ("pointsman", "pointsman_operator", "pointsman_policy")


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Wrap the imports of a command.

    Raises:
        PointsmanError: If a package is missing; says which extra brings it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _OURS:
            raise
        raise PointsmanError(
            f"this command needs the package {error.name!r}; install it with: pip install 'pointsman[{extra}]'"
        ) from error
