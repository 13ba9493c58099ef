"""What follows from a pick: which endpoints to try in which order, and why others were left out."""

from collections.abc import Mapping, Sequence

from pointsman_operator.decision import RouteQuery
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.routes import Route
from pointsman_operator.state.policy_view import PolicyView
from pointsman_policy.pickers.picker import Pick
from pointsman_policy.state import RoutingState

_MOST_ENDPOINTS = 4
"""Endpoints listed in a decision: the pick and those to try when it fails."""


def rank(state: RoutingState, pick: Pick, first: int) -> list[int]:
    """Return the allowed experts, the choice first, then by score, ties by fewest requests."""
    others = [index for index, allowed in enumerate(state.allowed.tolist()) if allowed and index != first]
    if len(others) > 1:
        requests = (state.expert["running_request_count"] + state.expert["waiting_request_count"]).tolist()
        scores = pick.scores.tolist()
        others.sort(key=lambda index: (-scores[index], requests[index]))
    return [first, *others]


def order(endpoints: Sequence[Endpoint], ranking: Sequence[int], model: str) -> tuple[tuple[Endpoint, ...], str | None]:
    """Return the endpoints to try and what "model" must become.

    A proxy sends the same body to each of them, so only those that accept the same model name can follow the first.
    """
    first = endpoints[ranking[0]]
    rewrite = None
    if model and model not in first.expert.names:
        rewrite = first.served_model_name
    name = rewrite or model
    alike = [endpoints[index] for index in ranking if not name or name in endpoints[index].expert.names]
    return tuple(alike[:_MOST_ENDPOINTS]), rewrite


def exclusions(view: PolicyView, query: RouteQuery, state: RoutingState) -> Mapping[int, str]:
    """Return why experts may not be picked, by index."""
    allowed = state.allowed.tolist()
    return {index: view.exclusion(index, query) for index in range(len(allowed)) if not allowed[index]}


def why_none(route: Route, query: RouteQuery) -> str:
    """Say why no expert at all may be picked for a request that was just assembled."""
    endpoints, view = route.endpoints, route.arm(query).view
    if not endpoints:
        return f"policy {route.policy.key} selects no expert; check its selector and the experts' labels"
    if query.subset is not None and not query.subset:
        return "the gateway's endpoint subset is empty, so no expert may be picked"
    why = sorted({view.exclusion(index, query) for index in range(len(endpoints))})
    return f"none of the {len(endpoints)} experts of policy {route.policy.key} may be picked: {'; '.join(why)}"
