"""The RouterPolicy document (``pointsman.io/v1alpha1``): a model name, the experts behind it, and how to choose one.

The same document is a custom resource in Kubernetes and a YAML file without it. This module knows its shape and every
rule that holds inside one document or among the documents of one file; which pickers exist is told by the caller.
"""

import difflib
import itertools
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from pointsman_policy.documents import Document, name_pattern, parse, read_yaml
from pointsman_policy.errors import DocumentError
from pointsman_policy.experts import Engine

API_VERSION = "pointsman.io/v1alpha1"
RESERVED_MODEL_NAME = "auto"
"""In a request's "model" it means "the only policy there is", so no policy may claim it."""

# Set by the API server on stored objects, so that a policy saved with `kubectl get -o yaml` reads back.
_SERVER_SIDE_METADATA = frozenset(
    {
        "clusterName",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)

Integer = Annotated[int, Field(strict=True)]
Percent = Annotated[int, Field(strict=True, ge=0, le=100)]
ObjectName = Annotated[str, Field(pattern=name_pattern(253))]


class Metadata(Document):
    """Kubernetes object metadata, as far as routing looks at it."""

    name: ObjectName
    """Name of the policy, unique in its namespace; a DNS subdomain of at most 253 characters."""
    namespace: ObjectName = "default"
    """Namespace of the policy; it selects experts of the same namespace only."""
    labels: dict[str, str] = Field(default_factory=dict)
    """For people and tools; routing ignores them."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """For people and tools; routing ignores them."""

    @model_validator(mode="before")
    @classmethod
    def _without_server_side_fields(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if key not in _SERVER_SIDE_METADATA}


class Selector(Document):
    """Which experts belong to the policy."""

    match_labels: dict[str, str] = Field(min_length=1)
    """Labels that an expert must all have with these values; at least one, so that nothing is selected by accident."""


class InferencePoolRef(Document):
    """An InferencePool of the Gateway API Inference Extension; its selector and its first target port are used."""

    group: Literal["inference.networking.k8s.io", "inference.networking.x-k8s.io"] = "inference.networking.k8s.io"
    """API group of the pool: inference.networking.k8s.io (v1), or inference.networking.x-k8s.io before that."""
    name: ObjectName
    """Name of the pool, in the policy's own namespace."""


class Experts(Document):
    """The experts behind the model name, by `selector` or by `inferencePoolRef`: exactly one of the two."""

    selector: Selector | None = None
    """Which experts, among those of the policy's namespace."""
    inference_pool_ref: InferencePoolRef | None = None
    """The InferencePool whose pods are the experts; needs Kubernetes with the CRD of InferencePools."""
    port: Integer = Field(default=8000, ge=1, le=65_535)
    """TCP port of their OpenAI-compatible servers. An InferencePool's target port, a pod's annotation or an entry of
    ``experts.yaml`` goes first."""
    engine: Engine = "vllm"
    """Inference server that they run, which decides how their metrics are named; an expert's own setting goes first."""

    @model_validator(mode="after")
    def _one_way_to_find_them(self) -> "Experts":
        if self.selector is None and self.inference_pool_ref is None:
            raise ValueError(
                "needs selector or inferencePoolRef, and has neither; say by one of them which pods they are"
            )
        if self.selector is not None and self.inference_pool_ref is not None:
            raise ValueError("has both selector and inferencePoolRef; remove one of the two")
        return self


class Objectives(Document):
    """Targets of each request unless its headers say otherwise; 0 = no such target."""

    normalized_time_per_output_token_milliseconds: Integer = Field(default=0, ge=0, le=60_000)
    """NTPOT: arrival to end, divided by output tokens, queueing and prefill included. 0 to 60000 ms."""
    time_per_output_token_milliseconds: Integer = Field(default=0, ge=0, le=60_000)
    """TPOT: first token to end, divided by the tokens after the first. 0 to 60000 ms."""
    time_to_first_token_milliseconds: Integer = Field(default=0, ge=0, le=600_000)
    """TTFT: arrival to first token. 0 to 600000 ms."""
    quality_floor_percent: Percent = 0
    """Lowest predicted quality of an answer worth giving, 0 to 100."""


def _default_fallback(data: dict[str, Any]) -> tuple[str, ...]:
    chain = ("ImpactGreedy", "ShortestQueue") if data.get("name") == "HanActor" else ("ShortestQueue",)
    return tuple(name for name in chain if name != data.get("name"))


class Picker(Document):
    """How an expert is chosen."""

    name: str = Field(default="HanActor", min_length=1)
    """The picker asked first."""
    fallback: tuple[str, ...] = Field(default_factory=_default_fallback, max_length=8)
    """Pickers asked in this order when the earlier ones fail or are late; at most 8, none twice."""
    timeout_milliseconds: Integer = Field(default=5, ge=1, le=1_000)
    """Longest time for one pick before the next picker is asked, 1 to 1000 ms."""

    @model_validator(mode="after")
    def _chain_is_a_chain(self) -> "Picker":
        if self.name in self.fallback:
            raise ValueError(f"fallback names the picker itself ({self.name}); remove it from fallback")
        for name in self.fallback:
            if self.fallback.count(name) > 1:
                raise ValueError(f"fallback names {name} twice; name each picker once")
        return self


class Admission(Document):
    """Whether the router may drop requests."""

    mode: Literal["Never", "ShedSheddable", "ShedHopeless"] = "Never"
    """Never: every request is routed. ShedSheddable: requests of negative priority may be dropped. ShedHopeless: any
    request that no expert would answer within its objectives may be dropped."""


class Telemetry(Document):
    """Where the experts' load is read."""

    source: Literal["Prometheus", "DirectScrape"] = "Prometheus"
    """Prometheus: from `prometheusUrl`, and from the experts themselves while it is unreachable. DirectScrape: each
    expert's /metrics."""
    prometheus_url: str = Field(default="", max_length=2_048)
    """Base URL of a Prometheus-compatible server, such as "http://prometheus:9090"; needed for source Prometheus."""
    interval_milliseconds: Integer = Field(default=1_000, ge=50, le=600_000)
    """Time from one reading to the next, 50 to 600000 ms."""
    stale_after_milliseconds: Integer = Field(default=15_000, ge=50, le=3_600_000)
    """Age from which a reading is no longer believed, at least `intervalMilliseconds` and at most 3600000 ms."""

    @model_validator(mode="after")
    def _source_is_complete(self) -> "Telemetry":
        if self.source == "Prometheus" and not self.prometheus_url:
            raise ValueError(
                'source Prometheus needs prometheusUrl, such as "http://prometheus:9090"; '
                "set it, or set source: DirectScrape to read the experts themselves"
            )
        # Checked here and not by a field validator, whose message would repeat a password in the URL.
        if self.prometheus_url:
            _check_url(self.prometheus_url)
        if self.stale_after_milliseconds < self.interval_milliseconds:
            raise ValueError(
                f"staleAfterMilliseconds ({self.stale_after_milliseconds}) is below intervalMilliseconds "
                f"({self.interval_milliseconds}), so every reading would be stale; raise it to several intervals"
            )
        return self


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in url):
        raise ValueError('prometheusUrl must be an http:// or https:// URL, such as "http://prometheus:9090"')
    if parts.username is not None or parts.password is not None:
        raise ValueError("prometheusUrl must not hold a user or password; a policy is readable by many")
    if parts.query or parts.fragment:
        raise ValueError("prometheusUrl must end before any '?' or '#'; give the server's base URL only")


class Training(Document):
    """When the learned policy is trained again, and from what."""

    schedule: str = Field(default="0 3 * * *", max_length=128)
    """Five cron fields in UTC: minute, hour, day of month, month, day of week."""
    minimum_outcomes: Integer = Field(default=2_000, ge=1, le=100_000_000)
    """Outcomes that must have come in since the last training, 1 to 100000000 requests."""
    store_prompts: Annotated[bool, Field(strict=True)] = False
    """Whether the policy service keeps prompts as they are; else only hashed n-grams of them, which do not tell their
    text."""
    exploration_percent: Integer = Field(default=0, ge=0, le=50)
    """Share of decisions that may try another expert among those that are nearly as good and in time, 0 to 50. More of
    them tell sooner what an expert has become."""
    ray: str = Field(default="", max_length=256)
    """Address of a Ray cluster that trainings simulate on, such as "ray://ray-head:10001"; empty = the policy service's
    own CPUs."""

    @field_validator("schedule")
    @classmethod
    def _has_five_fields(cls, value: str) -> str:
        if len(value.split()) != 5:
            raise ValueError('must be five cron fields (minute hour day month weekday), such as "0 3 * * *"')
        return value

    @field_validator("ray")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value and (not value.removeprefix("ray://") or any(character.isspace() for character in value)):
            raise ValueError('must be an address without spaces, such as "ray://ray-head:10001"; or leave it out')
        return value


class Rollout(Document):
    """How a newly trained policy comes into service."""

    mode: Literal["Automatic", "Manual"] = "Automatic"
    """Automatic: each stage follows when the one before went well. Manual: a person promotes each stage."""
    shadow_minutes: Integer = Field(default=30, ge=0, le=10_080)
    """How long it only watches and its picks are only compared, 0 to 10080 minutes."""
    canary_percents: tuple[Annotated[int, Field(strict=True, ge=1, le=100)], ...] = Field(
        default=(5, 25, 50), max_length=10
    )
    """Shares of requests that it serves stage by stage, 1 to 100, each above the one before; then it serves all."""
    canary_minutes: Integer = Field(default=10, ge=0, le=10_080)
    """How long each of these steps takes at least, 0 to 10080 minutes."""
    canary_requests: Integer = Field(default=300, ge=1, le=10_000_000)
    """Requests that it must have answered in each of these steps, 1 to 10000000."""
    maximum_slo_regression_percent: Percent = 1
    """It is withdrawn when its SLO attainment or its QoS lies beyond doubt more than this many percentage points below
    that of the other requests, 0 to 100."""

    @field_validator("canary_percents")
    @classmethod
    def _rises(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(later <= earlier for earlier, later in itertools.pairwise(value)):
            raise ValueError(f"must rise from step to step, such as [5, 25, 50] (got {list(value)})")
        return value


class Spec(Document):
    """What the user wants."""

    model_name: str = Field(pattern=r"^\S+$", max_length=253)
    """What clients put in a request's "model"; 1 to 253 characters without spaces, not "auto"."""
    experts: Experts
    """The experts behind the model name."""
    objectives: Objectives = Objectives()
    """Targets of each request."""
    picker: Picker = Picker()
    """How an expert is chosen."""
    admission: Admission = Admission()
    """Whether requests may be dropped."""
    telemetry: Telemetry
    """Where the experts' load is read."""
    training: Training = Training()
    """When the learned policy is trained again, and from what."""
    rollout: Rollout = Rollout()
    """How a newly trained policy comes into service."""

    @model_validator(mode="before")
    @classmethod
    def _telemetry_says_what_it_needs(cls, value: Any) -> Any:
        """Check a left-out telemetry like an empty one: its message says more than "required field is missing"."""
        return {"telemetry": {}, **value} if isinstance(value, dict) else value

    @field_validator("model_name")
    @classmethod
    def _is_not_reserved(cls, value: str) -> str:
        if value == RESERVED_MODEL_NAME:
            raise ValueError('"auto" is reserved for "the only policy there is"; choose another model name')
        return value


class RouterPolicy(Document):
    """One model name and how its requests are routed."""

    api_version: Literal["pointsman.io/v1alpha1"]
    """Always "pointsman.io/v1alpha1"."""
    kind: Literal["RouterPolicy"]
    """Always "RouterPolicy"."""
    metadata: Metadata
    """Its name and namespace."""
    spec: Spec
    """What the user wants."""

    @model_validator(mode="before")
    @classmethod
    def _without_status(cls, value: Any) -> Any:
        """Leave out what the operator writes: a new status is not a changed policy."""
        return {key: item for key, item in value.items() if key != "status"} if isinstance(value, dict) else value

    @property
    def key(self) -> str:
        """The policy's identity, as "namespace/name"."""
        return f"{self.metadata.namespace}/{self.metadata.name}"


def parse_policy(value: object, source: str, picker_names: Collection[str]) -> RouterPolicy:
    """Check one RouterPolicy document.

    Args:
        value: The document as read from YAML or JSON.
        source: Where it came from, for messages.
        picker_names: The pickers there are.

    Raises:
        DocumentError: Names each wrong field and says how to mend it.
    """
    policy = parse(RouterPolicy, value, source)
    picker = policy.spec.picker
    named = [("spec.picker.name", picker.name)]
    named += [(f"spec.picker.fallback[{index}]", name) for index, name in enumerate(picker.fallback)]
    problems = [f"{path}: {_unknown_picker(name, picker_names)}" for path, name in named if name not in picker_names]
    if problems:
        raise DocumentError(source, "; ".join(problems))
    return policy


def read_policies(path: Path, picker_names: Collection[str]) -> tuple[RouterPolicy, ...]:
    """Read the policies of a YAML file with one or more documents, or of all ``*.yaml`` files of a folder.

    Raises:
        DocumentError: If a file or a document is unusable, if there is no policy at all, or if two policies share
            their namespace and name or their model name, or if one finds its experts in a way that needs Kubernetes.
    """
    files = policy_files(path)
    if not files:
        raise DocumentError(str(path), "the folder holds no *.yaml file; put at least one RouterPolicy there")
    found = [policy for file in files for policy in _read_file(file, picker_names)]
    if not found:
        raise DocumentError(str(path), "holds no RouterPolicy; write at least one document")
    _check_unique(str(path), "are named", [policy.key for policy in found])
    _check_unique(str(path), "have the modelName", [policy.spec.model_name for policy in found])
    for policy in found:
        if policy.spec.experts.inference_pool_ref is not None:
            problem = "inferencePoolRef needs Kubernetes; select the experts of experts.yaml by selector.matchLabels"
            raise DocumentError(str(path), f"{policy.key}: spec.experts.{problem}")
    return tuple(found)


def policy_files(path: Path) -> list[Path]:
    """Return the files that policies are read from: the path itself, or the ``*.yaml`` files of a folder by name."""
    return sorted(path.glob("*.yaml")) if path.is_dir() else [path]


def _read_file(path: Path, picker_names: Collection[str]) -> Iterable[RouterPolicy]:
    documents = read_yaml(path)
    for number, document in enumerate(documents, start=1):
        source = str(path) if len(documents) == 1 else f"{path} (document {number})"
        yield parse_policy(document, source, picker_names)


def _check_unique(source: str, relation: str, values: Sequence[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise DocumentError(source, f"two policies {relation} {value!r}; each needs its own")


def _unknown_picker(name: str, picker_names: Collection[str]) -> str:
    close = difflib.get_close_matches(name, picker_names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"no picker is called {name!r}; {hint}there are {', '.join(sorted(picker_names))}"
