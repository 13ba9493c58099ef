"""Runs one made-up request through a made-up router, so that no kernel is compiled or loaded while a client waits."""

import numpy as np
from prometheus_client import CollectorRegistry

from pointsman_operator.decision import Outcome, OutcomeStatus, RouteQuery
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.metrics import Metrics
from pointsman_operator.router import Router
from pointsman_operator.routerpolicy import parse_policy
from pointsman_operator.telemetry.sample import LoadSample
from pointsman_policy.experts import Expert
from pointsman_policy.pickers.registry import PICKERS

_LABELS = {"pointsman.io/expert": "true"}
_ADDRESS = "192.0.2.1:8000"


def warm_up() -> None:
    """Compile what every decision needs; takes seconds the first time and a moment from the cache on disk."""
    policy = {
        "apiVersion": "pointsman.io/v1alpha1",
        "kind": "RouterPolicy",
        "metadata": {"name": "warm-up"},
        "spec": {
            "modelName": "warm-up",
            "experts": {"selector": {"matchLabels": _LABELS}},
            "objectives": {"normalizedTimePerOutputTokenMilliseconds": 30},
            "telemetry": {"source": "DirectScrape"},
        },
    }
    router = Router(PICKERS, Metrics(CollectorRegistry()), lambda: 100.0, lambda: 100.0, np.random.default_rng(0))
    expert = Expert(name="warm-up", endpoint=_ADDRESS, model="warm-up", labels=_LABELS)
    router.configure([parse_policy(policy, "warm-up", PICKERS.keys())], [Endpoint(expert)])
    decision = router.route(RouteQuery("warm-up", "warm up"))
    router.observe([LoadSample(_ADDRESS, 100.0, 1.0, 0.0, 0.5)])
    router.report(Outcome(decision.id, OutcomeStatus.IN_PROGRESS, _ADDRESS, 0.1, 0.2, 3))
    router.report(Outcome(decision.id, OutcomeStatus.COMPLETED, _ADDRESS, 0.1, 1.0, 50))
    router.experts("warm-up")
    router.expire()
