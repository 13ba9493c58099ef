"""Hands outcomes to the routing core, whatever it says to them: a report must never disturb the traffic it is about."""

import logging
from typing import Literal

from pointsman_operator.decision import Outcome, Routing
from pointsman_operator.errors import UnknownDecisionError
from pointsman_operator.metrics import Metrics, Surface

logger = logging.getLogger(__name__)

ReportResult = Literal["reported", "unknown_decision", "failed"]


def report(routing: Routing, metrics: Metrics, outcome: Outcome, surface: Surface = "ext_proc") -> ReportResult:
    """Report an outcome and return what came of it; never raises."""
    try:
        routing.report(outcome)
    except UnknownDecisionError:
        return "unknown_decision"
    except Exception:
        metrics.failed(surface)
        logger.exception("reporting the outcome of decision %s failed", outcome.decision_id)
        return "failed"
    return "reported"
