"""Every error of the operator package.

::

    pointsman_policy.errors.PointsmanError
    ├── UsageError                 a command was given arguments that do not go together
    ├── PartError                  a process that the demo or a benchmark needs is missing, does not start, or dies
    ├── KubernetesError            the API server cannot be reached, or does not let us look
    ├── TelemetryError             no load at all can be read from a source now
    └── RouteError                 a request cannot be routed; carries HTTP status, gRPC code name and drop reason
        ├── InvalidRequestError        400  INVALID_ARGUMENT
        │   └── RequestTooLargeError   413  INVALID_ARGUMENT
        ├── UnknownModelError          404  NOT_FOUND
        ├── UnknownDecisionError       404  NOT_FOUND
        ├── ShedError                  429  RESOURCE_EXHAUSTED
        └── NoExpertError              503  UNAVAILABLE
"""

from typing import ClassVar

from pointsman_policy.errors import PointsmanError

DROPPED_REASON_HEADER = "x-llm-d-request-dropped-reason"


class UsageError(PointsmanError):
    """Arguments of a command do not go together; the message says which ones do."""


class PartError(PointsmanError):
    """A process to be started is missing, does not get ready, or ends early; the message has its last words."""


class KubernetesError(PointsmanError):
    """A cluster cannot be read; the message says why and what to do."""


class TelemetryError(PointsmanError):
    """A telemetry source as a whole is unusable now; the message says which and why. Trying again later is right."""


class RouteError(PointsmanError):
    """A request cannot be routed. The message is safe to show to the client and says what to do."""

    http_status: ClassVar[int] = 500
    grpc_code: ClassVar[str] = "INTERNAL"
    error_type: ClassVar[str] = "internal_error"
    """The "type" of the OpenAI-style error body."""
    dropped_reason: ClassVar[str | None] = None
    """Value of the header `x-llm-d-request-dropped-reason`."""


class InvalidRequestError(RouteError):
    """The request is malformed."""

    http_status = 400
    grpc_code = "INVALID_ARGUMENT"
    error_type = "invalid_request_error"


class RequestTooLargeError(InvalidRequestError):
    """The request's body is larger than the router takes."""

    http_status = 413


class UnknownModelError(RouteError):
    """No RouterPolicy serves the requested model."""

    http_status = 404
    grpc_code = "NOT_FOUND"
    error_type = "not_found_error"


class UnknownDecisionError(UnknownModelError):
    """A decision id was never given out here, or has expired."""


class ShedError(RouteError):
    """Admission dropped the request: no expert would keep its objectives."""

    http_status = 429
    grpc_code = "RESOURCE_EXHAUSTED"
    error_type = "rate_limit_error"
    dropped_reason = "rejected-saturated"


class NoExpertError(RouteError):
    """No expert is ready, or none that the request may use."""

    http_status = 503
    grpc_code = "UNAVAILABLE"
    error_type = "service_unavailable_error"
    dropped_reason = "rejected-no-endpoints"
