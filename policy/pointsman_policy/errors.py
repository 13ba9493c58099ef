"""Every error that the policy package raises on purpose.

::

    PointsmanError
    ├── DocumentError      a file or document from the user is wrong; says where and what to do
    ├── PickError          a picker cannot answer for this state
    ├── ListenError        an emulated server cannot have its address
    ├── OverloadError      an emulated server holds as many requests as it can
    └── RequestError       an emulated server refuses a request; carries what its client is told
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

    def __reduce__(self) -> tuple[type["DocumentError"], tuple[str, str]]:  # for those that come from another process
        return type(self), (self.source, self.problem)


class PickError(PointsmanError):
    """A picker cannot choose: no candidate is allowed, or the state is not what it was made for."""


class ListenError(PointsmanError):
    """An emulated server cannot listen on its address; the message says why."""


class OverloadError(PointsmanError):
    """An emulated server holds as many requests as it can; trying again later is right."""


class RequestError(PointsmanError):
    """An emulated server refuses a request. The message is meant for the client.

    Args:
        message: What is wrong and what to do.
        status: HTTP status.
        kind: The error's type in the body, as vLLM names it.
        field: The request's field that is wrong, None = not one.
    """

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "BadRequestError", field: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.field = field
