"""Whether a RouterPolicy is right: by itself, and beside the others of the cluster."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pointsman_operator.routerpolicy import RouterPolicy, parse_policy
from pointsman_policy.errors import DocumentError

_INTERVALS_UNTIL_STALE = 3


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """A policy's claim to its model name; the least of those to the same name has it."""

    created: str
    """The object's creation time, in RFC 3339; empty while it is being created, which makes it the youngest."""
    key: str
    """As "namespace/name"."""
    model_name: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What is to be said of one object."""

    key: str
    """As "namespace/name", as far as the object has them."""
    policy: RouterPolicy | None
    """None = it is wrong."""
    problem: str = ""
    """Each wrong field and its fix; empty = it is right."""


def key_of(manifest: Mapping[str, Any]) -> str:
    """Return "namespace/name" of any object, however broken."""
    metadata = manifest.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    return f"{metadata.get('namespace') or 'default'}/{metadata.get('name') or ''}"


def check(manifest: object, picker_names: Collection[str]) -> Checked:
    """Check one object by itself; never raises, whatever it is given."""
    key = key_of(manifest) if isinstance(manifest, Mapping) else "/"
    try:
        return Checked(key, parse_policy(manifest, key, picker_names))
    except DocumentError as error:
        return Checked(key, None, error.problem)
    except Exception as error:
        return Checked(key, None, f"cannot be read ({type(error).__name__}); compare it with docs/routerpolicy.md")


def claim_of(manifest: Mapping[str, Any], policy: RouterPolicy) -> Claim:
    """Return a right policy's claim to its model name."""
    created = manifest["metadata"].get("creationTimestamp") or ""
    return Claim(str(created), policy.key, policy.spec.model_name)


def owners(claims: Iterable[Claim]) -> dict[str, str]:
    """Return the key of the policy that has each model name: the oldest; among equals the first by key."""
    found: dict[str, str] = {}
    for claim in sorted(claims, key=lambda claim: (not claim.created, claim)):
        found.setdefault(claim.model_name, claim.key)
    return found


def taken(policy: RouterPolicy, owner: str) -> str:
    """Say that a policy's model name belongs to another one."""
    return (
        f"spec.modelName: {policy.spec.model_name!r} belongs to the older policy {owner}, so requests reach this one "
        f'as model "{policy.key}" only; choose another model name, or delete {owner}'
    )


def doubts(policy: RouterPolicy) -> list[str]:
    """Return what is legal but hardly meant."""
    spec = policy.spec
    objectives, telemetry = spec.objectives, spec.telemetry
    no_latency_objective = not (
        objectives.normalized_time_per_output_token_milliseconds
        or objectives.time_per_output_token_milliseconds
        or objectives.time_to_first_token_milliseconds
    )
    found = []
    if no_latency_objective:
        found.append(
            "spec.objectives: no latency objective is set, so every answer counts as in time unless a request's "
            "headers say otherwise; set timeToFirstTokenMilliseconds or another one"
        )
        if spec.admission.mode == "ShedHopeless":
            found.append(
                "spec.admission.mode: ShedHopeless drops what would miss its objectives, and there are none; set one, "
                "or use Never"
            )
    if telemetry.stale_after_milliseconds < _INTERVALS_UNTIL_STALE * telemetry.interval_milliseconds:
        found.append(
            f"spec.telemetry.staleAfterMilliseconds: {telemetry.stale_after_milliseconds} is below three intervals of "
            f"{telemetry.interval_milliseconds}, so one late reading makes the load unknown; set it to "
            f"{_INTERVALS_UNTIL_STALE * telemetry.interval_milliseconds} or more"
        )
    if spec.experts.selector is not None and "" in spec.experts.selector.match_labels.values():
        found.append(
            "spec.experts.selector.matchLabels: an empty value matches only pods whose label is empty too, not every "
            "pod that has the label; give the value"
        )
    return found
