"""The files that the demo's parts are started with; they stay in its folder, to be read and tried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pointsman_operator.demo.lanes import RULE_LABEL, Lane
from pointsman_operator.demo.workload import DemoWorkload, write_answers
from pointsman_operator.routerpolicy import API_VERSION
from pointsman_policy.experts import ExpertList

_LEAST_INTERVAL_MILLISECONDS = 50
_LEAST_STALE_MILLISECONDS = 15_000


@dataclass(frozen=True, slots=True)
class Configuration:
    """Paths in one folder."""

    folder: Path

    @property
    def experts(self) -> Path:
        """What the router and the emulated experts are told of the experts."""
        return self.folder / "experts.yaml"

    @property
    def policies(self) -> Path:
        """The RouterPolicies."""
        return self.folder / "policies.yaml"

    @property
    def prompts(self) -> Path:
        """The prompts that emulated experts know."""
        return self.folder / "prompts.jsonl"

    @property
    def scores(self) -> Path:
        """Their answers."""
        return self.folder / "scores.jsonl"

    @property
    def prometheus(self) -> Path:
        """Prometheus' configuration."""
        return self.folder / "prometheus.yml"

    @property
    def envoy(self) -> Path:
        """Envoy's bootstrap."""
        return self.folder / "envoy.yaml"

    @property
    def endpoints(self) -> Path:
        """The experts' addresses, written by the router for Envoy."""
        return self.folder / "endpoints.json"


def write_configuration(
    files: Configuration,
    workload: DemoWorkload,
    lanes: Sequence[Lane],
    prometheus_url: str | None,
    learning: Mapping[str, Any] | None = None,
) -> None:
    """Write everything but Envoy's files.

    Args:
        files: Where to.
        workload: What is sent.
        lanes: The rules.
        prometheus_url: Where the router finds Prometheus; None = it reads the experts itself.
        learning: `training` and `rollout` of the RouterPolicies; None = as by default.
    """
    files.folder.mkdir(parents=True, exist_ok=True)
    experts = ExpertList(experts=tuple(expert for lane in lanes for expert in lane.experts))
    document = experts.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    files.experts.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    policies = [_policy(workload, lane, prometheus_url, learning or {}) for lane in lanes]
    files.policies.write_text(yaml.safe_dump_all(policies, sort_keys=False), "utf-8")
    write_answers(workload, files.scores, files.prompts)
    addresses = [expert.endpoint for lane in lanes for expert in lane.experts]
    files.prometheus.write_text(yaml.safe_dump(_prometheus(workload, addresses), sort_keys=False), "utf-8")


def _policy(
    workload: DemoWorkload, lane: Lane, prometheus_url: str | None, learning: Mapping[str, Any]
) -> Mapping[str, Any]:
    document = workload.scenario.document
    interval = _interval_milliseconds(workload)
    source = {"source": "DirectScrape"}
    if prometheus_url is not None:
        source = {"source": "Prometheus", "prometheusUrl": prometheus_url}
    return {
        "apiVersion": API_VERSION,
        "kind": "RouterPolicy",
        "metadata": {"name": lane.slug},
        "spec": {
            "modelName": lane.model_name,
            "experts": {"selector": {"matchLabels": {RULE_LABEL: lane.slug}}},
            "objectives": document.objectives.model_dump(by_alias=True),
            "picker": {"name": lane.picker},
            "admission": {"mode": document.admission.mode},
            "telemetry": {
                **source,
                "intervalMilliseconds": interval,
                "staleAfterMilliseconds": max(_LEAST_STALE_MILLISECONDS, interval),
            },
            **learning,
        },
    }


def _prometheus(workload: DemoWorkload, addresses: Sequence[str]) -> Mapping[str, Any]:
    interval = f"{_interval_milliseconds(workload)}ms"
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval},
        "scrape_configs": [{"job_name": "experts", "static_configs": [{"targets": list(addresses)}]}],
    }


def _interval_milliseconds(workload: DemoWorkload) -> int:
    """Return the scenario's, but for one that means "always fresh"."""
    return max(workload.scenario.document.telemetry.interval_milliseconds, _LEAST_INTERVAL_MILLISECONDS)
