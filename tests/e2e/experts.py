"""Emulated experts as their owners deploy them: the samples' Deployment, one for each model and kind of GPU."""

from dataclasses import dataclass
from typing import Any

import yaml
from tests.e2e.release import ROOT

SAMPLE = ROOT / "manifests" / "samples" / "emulated" / "experts.yaml"
MODEL_NAME = "edge-chat"
GPU_LABEL = "nvidia.com/gpu.product"


@dataclass(frozen=True)
class Kind:
    """Experts of one kind."""

    name: str
    model: str
    gpu: str
    """As NVIDIA's feature discovery labels a node."""
    quality_percent: int

    def deployment(self) -> dict[str, Any]:
        """Return the Deployment of one replica; its node says which GPU it has."""
        made: dict[str, Any] = next(yaml.safe_load_all(SAMPLE.read_text()))
        labels = {"app": self.name, "pointsman.io/expert": "true"}
        made["metadata"]["name"] = self.name
        made["spec"] |= {"replicas": 1, "selector": {"matchLabels": {"app": self.name}}}
        template = made["spec"]["template"]
        template["metadata"] = {
            "labels": labels,
            "annotations": {
                "pointsman.io/model": self.model,
                "pointsman.io/served-model-names": f"{self.model},{MODEL_NAME}",
                "pointsman.io/quality-prior-percent": str(self.quality_percent),
            },
        }
        template["spec"]["nodeSelector"] = {GPU_LABEL: self.gpu}
        template["spec"]["containers"][0]["args"] = [
            *("--listen=$(POD_IP):8000", f"--model={self.model}", f"--gpu={self.gpu}"),
            *(f"--served-model-name={self.model}", f"--served-model-name={MODEL_NAME}"),
        ]
        return made


SMALL = Kind("small", "gemma-2-2b", "NVIDIA-L4", 30)
MEDIUM = Kind("medium", "gemma-2-9b", "NVIDIA-L40S", 55)
LARGE = Kind("large", "Llama-3.1-8B", "NVIDIA-A100-SXM4-80GB", 80)
KINDS = (SMALL, MEDIUM, LARGE)


def policy(prometheus_url: str) -> dict[str, Any]:
    """Return the policy that sends requests to the best expert that is in time."""
    return {
        "apiVersion": "pointsman.io/v1alpha1",
        "kind": "RouterPolicy",
        "metadata": {"name": "chat"},
        "spec": {
            "modelName": MODEL_NAME,
            "experts": {"selector": {"matchLabels": {"pointsman.io/expert": "true"}}},
            "objectives": {"timeToFirstTokenMilliseconds": 5000},
            "picker": {"name": "SloFilteredQuality", "fallback": ["ShortestQueue"], "timeoutMilliseconds": 100},
            "telemetry": {
                "prometheusUrl": prometheus_url,
                "intervalMilliseconds": 500,
                "staleAfterMilliseconds": 10_000,
            },
        },
    }
