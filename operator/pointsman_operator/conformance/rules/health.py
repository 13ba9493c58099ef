"""The health service by which gateways and Kubernetes see whether a picker works."""

from typing import Final

from pointsman_operator.conformance import names
from pointsman_operator.conformance.rule import AnyRule, HealthRule, Level, Section, Violation

_SERVING: Final = "SERVING"
_UNKNOWN: Final = ("NOT_FOUND", "SERVICE_UNKNOWN")


def _serves(status: str) -> None:
    if status != _SERVING:
        raise Violation(f"expected SERVING, got {status}")


def _is_unknown(status: str) -> None:
    if status not in _UNKNOWN:
        raise Violation(f"expected NOT_FOUND, got {status}")


RULES: Final[tuple[AnyRule, ...]] = (
    HealthRule(
        "health-liveness",
        Level.MUST,
        Section.HEALTH,
        "`grpc.health.v1` says SERVING for `liveness` while the process answers.",
        "liveness",
        _serves,
    ),
    HealthRule(
        "health-readiness",
        Level.MUST,
        Section.HEALTH,
        "It says SERVING for `readiness` when the picker is ready (which the suite takes it to be).",
        "readiness",
        _serves,
    ),
    HealthRule(
        "health-ext-proc",
        Level.MUST,
        Section.HEALTH,
        "It says SERVING for `envoy.service.ext_proc.v3.ExternalProcessor` by the same measure.",
        names.EXT_PROC_SERVICE,
        _serves,
    ),
    HealthRule(
        "health-overall",
        Level.SHOULD,
        Section.PRACTICE,
        "It says SERVING for the server as a whole (the empty name), which plain probes ask for.",
        "",
        _serves,
    ),
    HealthRule(
        "health-unknown",
        Level.SHOULD,
        Section.PRACTICE,
        "It does not know services that it does not have (NOT_FOUND).",
        "pointsman.conformance.NoSuchService",
        _is_unknown,
    ),
    HealthRule(
        "health-old-name",
        Level.MAY,
        Section.PRACTICE,
        "It says SERVING for `inference-extension`, the name that older checkers ask for.",
        "inference-extension",
        _serves,
    ),
)
