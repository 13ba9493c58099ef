"""What discovery offers, wherever it finds policies and experts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.routerpolicy import RouterPolicy

EVERY_NAMESPACE = ""
"""Namespace of endpoints that belong to no Kubernetes namespace; every policy may select them."""


@dataclass(frozen=True, slots=True)
class KnownPolicy:
    """A RouterPolicy as discovery knows it."""

    key: str
    """As "namespace/name"."""
    policy: RouterPolicy | None
    """The newest version that was good; None = none ever was."""
    uid: str = ""
    """Of the object in Kubernetes."""
    generation: int = 0
    """The newest, good or not; 0 outside Kubernetes."""
    problem: str = ""
    """Why `policy` is not the newest generation; empty = it is."""


class Discovery(Protocol):
    """Knows policies and experts, and keeps up with them. Used on the event loop only."""

    @property
    def profiles(self) -> Path | None:
        """The CSV of iteration-time fits for experts without coefficients of their own."""

    @property
    def not_ready(self) -> str:
        """Why not even the first look has been possible yet; empty = it has been."""

    def policies(self) -> tuple[KnownPolicy, ...]:
        """Return all policies, in order of precedence."""

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return all experts, ready or not."""

    def problems(self) -> Mapping[str, str]:
        """Return why policies ("policies") or endpoints ("experts") may be out of date; empty = they are not."""

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call back after every change, synchronously."""

    async def run(self) -> None:
        """Keep up for ever; ends only by cancellation."""


def matching(endpoints: Iterable[Endpoint], policy: RouterPolicy) -> tuple[Endpoint, ...]:
    """Return the endpoints of a policy, ready or not, in their order: those made for it, else by labels.

    Those from a file have no namespace of their own: see `EVERY_NAMESPACE`.
    """
    return tuple(endpoint for endpoint in endpoints if _belongs(endpoint, policy))


def _belongs(endpoint: Endpoint, policy: RouterPolicy) -> bool:
    if endpoint.policy:
        return endpoint.policy == policy.key
    selector = policy.spec.experts.selector
    return (
        selector is not None
        and endpoint.namespace in (EVERY_NAMESPACE, policy.metadata.namespace)
        and selector.match_labels.items() <= endpoint.expert.labels.items()
    )
