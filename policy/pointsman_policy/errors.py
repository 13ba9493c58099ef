"""Every error that the policy package raises on purpose.

::

    PointsmanError
    ├── DocumentError      a file or document from the user is wrong; says where and what to do
    └── PickError          a picker cannot answer for this state
"""


class PointsmanError(Exception):
    """Base of all errors that are the user's or the environment's to mend; the message says how."""


class DocumentError(PointsmanError):
    """A document from the user (policy, experts, scenario, trace, table, profile) is unusable.

    Args:
        source: The file or the surface that it came from, as the user knows it.
        problem: What is wrong and what to do, one sentence; several problems are separated by "; ".
    """

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source
        self.problem = problem


class PickError(PointsmanError):
    """A picker cannot choose: no candidate is allowed, or the state is not what it was made for."""
