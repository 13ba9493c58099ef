"""What every store of endpoints offers, wherever it finds them."""

from collections.abc import Callable, Iterable
from typing import Protocol

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.routerpolicy import RouterPolicy

EVERY_NAMESPACE = ""
"""Namespace of endpoints that belong to no Kubernetes namespace; every policy may select them."""

EndpointsCallback = Callable[[tuple[Endpoint, ...]], None]


class EndpointStore(Protocol):
    """Knows which experts there are. Used on the event loop only."""

    @property
    def problem(self) -> str | None:
        """Why the endpoints may be out of date; None = they are not."""

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return all that are known, ready or not."""

    def subscribe(self, callback: EndpointsCallback) -> None:
        """Call back with all endpoints after every change, at once and synchronously."""


def matching(endpoints: Iterable[Endpoint], policy: RouterPolicy) -> tuple[Endpoint, ...]:
    """Return the endpoints that a policy selects by labels, ready or not, in their order.

    Those from a file have no namespace of their own: see `EVERY_NAMESPACE`.
    """
    selector = policy.spec.experts.selector
    if selector is None:
        return ()
    namespace = policy.metadata.namespace
    wanted = selector.match_labels.items()
    return tuple(
        endpoint
        for endpoint in endpoints
        if endpoint.namespace in (EVERY_NAMESPACE, namespace) and wanted <= endpoint.expert.labels.items()
    )
