"""A routing core to test: the real one, on a clock and with a picker that do as they are told."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from pointsman_operator.decision import Decision, Outcome, OutcomeStatus, RouteQuery
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.discovery.store import EVERY_NAMESPACE
from pointsman_operator.metrics import Metrics
from pointsman_operator.picking import AnyPicker
from pointsman_operator.recorder import Recorder
from pointsman_operator.router import Router
from pointsman_operator.routerpolicy import RouterPolicy, parse_policy
from pointsman_operator.telemetry.sample import LoadSample
from pointsman_policy.experts import Expert, IterationTime
from pointsman_policy.pickers.picker import Pick
from pointsman_policy.state import DROP, RoutingState

UNIX_OFFSET = 1_000_000_000.0
EXPIRY_SECONDS = 100.0
LABELS = {"pointsman.io/expert": "true"}
SPEED = IterationTime(
    base_milliseconds=10,
    per_sequence_milliseconds=0.1,
    per_context_token_milliseconds=0.0001,
    per_prefill_token_milliseconds=0.01,
)


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class ObedientPicker:
    """Picks the allowed expert with the highest of the scores that a test sets, by their order in the policy."""

    name: str = "Obedient"
    version: str = "3"
    summary: str = "what the test says"
    scores: tuple[float, ...] = ()
    drops: bool = False
    error: Exception | None = None
    seen: list[RoutingState] = field(default_factory=list)

    def pick(self, state: RoutingState, uniform: float) -> Pick:
        self.seen.append(copy.deepcopy(state))
        if self.error:
            raise self.error
        wanted = np.zeros(len(state.expert))
        wanted[: len(self.scores)] = self.scores[: len(wanted)]
        scores = np.where(state.allowed, wanted, -np.inf)
        return Pick(DROP if self.drops else int(scores.argmax()), scores)


def endpoint(name: str, **fields: Any) -> Endpoint:
    """An expert "a", "b", ... at 10.0.0.1, 10.0.0.2, ... that serves a model of its own name and "edge-chat"."""
    defaults: dict[str, Any] = {
        "name": name,
        "endpoint": f"10.0.0.{ord(name[0]) - ord('a') + 1}:8000",
        "model": f"model-{name}",
        "served_model_names": (f"model-{name}", "edge-chat"),
        "labels": LABELS,
        "quality_prior_percent": 60,
        "output_tokens_prior": 100,
        "iteration_time": SPEED,
    }
    return Endpoint(Expert(**{**defaults, **fields}), namespace=EVERY_NAMESPACE)


def policy(name: str = "chat", picker: str = "Obedient", **spec: Any) -> RouterPolicy:
    document = {
        "apiVersion": "pointsman.io/v1alpha1",
        "kind": "RouterPolicy",
        "metadata": {"name": name, "namespace": "edge"},
        "spec": {
            "modelName": f"edge-{name}",
            "experts": {"selector": {"matchLabels": LABELS}},
            "objectives": {"normalizedTimePerOutputTokenMilliseconds": 30},
            "picker": {"name": picker, "fallback": []},
            "telemetry": {"source": "DirectScrape", "staleAfterMilliseconds": 15_000},
            **spec,
        },
    }
    return parse_policy(document, "test", {picker, "Obedient", "ShortestQueue"})


class Core:
    """A router with its clock, its metrics and its picker."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        policies: Sequence[RouterPolicy] | None = None,
        pickers: Mapping[str, AnyPicker] | None = None,
        profiles: Path | None = None,
        recorder: Recorder | None = None,
        started_at: float = 1_000.0,
    ) -> None:
        self.clock = Clock(started_at)
        self.picker = ObedientPicker()
        self.metrics = Metrics(CollectorRegistry())
        self.policies = tuple(policies) if policies is not None else (policy(),)
        self.router = Router(
            {"Obedient": self.picker, **(pickers or {})},
            self.metrics,
            self.clock,
            lambda: self.clock.now + UNIX_OFFSET,
            np.random.default_rng(1),
            EXPIRY_SECONDS,
            recorder=recorder,
        )
        self.router.configure(self.policies, endpoints, profiles)
        self.picker.seen.clear()

    def route(self, model: str = "edge-chat", **fields: Any) -> Decision:
        return self.router.route(RouteQuery(model, **{"prompt_tokens": 100, **fields}))

    def report(self, decision: Decision, status: OutcomeStatus = OutcomeStatus.COMPLETED, **fields: Any) -> None:
        self.router.report(Outcome(decision.id, status, **fields))

    def sample(self, address: str, running: float | None, waiting: float | None = 0, *, age: float = 0.0) -> None:
        taken_at = self.clock.now + UNIX_OFFSET - age
        self.router.observe([LoadSample(address, taken_at, running, waiting, 0.25)])

    def view(self, name: str, model: str = "edge-chat") -> Any:
        return next(view for view in self.router.experts(model)[1] if view.endpoint.name == name)

    def in_flight(self) -> dict[str, int]:
        return {view.endpoint.name: view.in_flight for _, view in self.router.views()}

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"pointsman_{name}", labels) or 0.0
