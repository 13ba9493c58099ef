"""The policies that a router serves: which of them a request means, and how each of them does."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pointsman_operator.assignment import Assignment, in_canary
from pointsman_operator.decision import PolicyReport, RouteQuery
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.errors import UnknownModelError
from pointsman_operator.picking import PickerChain
from pointsman_operator.routerpolicy import RESERVED_MODEL_NAME, RouterPolicy
from pointsman_operator.state.in_flight import InFlight
from pointsman_operator.state.policy_view import PolicyView


@dataclass(slots=True)
class Score:
    """How a policy's requests went since the router started."""

    judged: int = 0
    met: int = 0


ArmName = Literal["control", "canary"]


@dataclass(frozen=True, slots=True)
class Arm:
    """A version at work: how it sees the experts, and how it chooses among them."""

    name: ArmName
    version: str
    """Empty = the packaged policy."""
    chain: PickerChain
    view: PolicyView
    picker_version: str
    """Of the picker asked first."""


@dataclass(frozen=True, slots=True)
class Route:
    """One policy as it is now."""

    policy: RouterPolicy
    control: Arm
    """Decides on all requests but the canary's."""
    candidate: Arm | None
    assignment: Assignment
    score: Score

    def arm(self, query: RouteQuery) -> Arm:
        """Return who decides on a request; a request that comes again meets the same one."""
        percent = self.assignment.canary_percent
        if self.candidate is None or percent <= 0:
            return self.control
        chosen = in_canary(self.candidate.version, query.request_id or query.prompt, percent)
        return self.candidate if chosen else self.control

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The experts that the policy selects."""
        return self.control.view.endpoints

    @property
    def watcher(self) -> Arm | None:
        """The candidate, while it only watches."""
        return None if self.assignment.canary_percent > 0 else self.candidate


class Routes:
    """All policies, by what clients call them.

    Args:
        routes: In order of precedence: of several with one model name, the first has it.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.by_key = {route.policy.key: route for route in routes}
        self._by_name: dict[str, Route] = {}
        for route in self.by_key.values():
            self._by_name.setdefault(route.policy.spec.model_name, route)

    def find(self, model: str, subset: frozenset[str] | None = None) -> Route:
        """Return the policy that a request's "model" means.

        Args:
            model: A model name, or a policy's key; "auto" and "" mean the only policy there is, or the only one that
                has experts in the subset.
            subset: Endpoints ("ip:port") that the gateway allows; None = it says nothing.

        Raises:
            UnknownModelError: If there is none.
        """
        # A key is exact, so that no policy can take another's requests by a model name that looks like its key.
        route = self.by_key.get(model) or self._by_name.get(model)
        if route is None and model in ("", RESERVED_MODEL_NAME):
            route = self._only(subset)
        if route is None:
            known = ", ".join(sorted(self.models())) or "none yet: no RouterPolicy is configured"
            raise UnknownModelError(f"no RouterPolicy serves the model {model[:100]!r}; models: {known}")
        return route

    def _only(self, subset: frozenset[str] | None) -> Route | None:
        routes = list(self.by_key.values())
        if len(routes) > 1 and subset:
            routes = [route for route in routes if any(one.address in subset for one in route.endpoints)]
        return routes[0] if len(routes) == 1 else None

    def models(self) -> tuple[str, ...]:
        """Return the model names that clients may use: those of the policies, or a policy's key if another has its."""
        return (*self._by_name, *(key for key, route in self.by_key.items() if not self._has_its_name(route)))

    def not_ready(self) -> str:
        """Say why no request can be served; empty if some can."""
        if not self.by_key:
            return "no RouterPolicy is configured"
        if any(endpoint.expert.ready for route in self.by_key.values() for endpoint in route.endpoints):
            return ""
        return f"no expert is ready for {', '.join(self.by_key)}"

    def believed_seconds(self) -> dict[int, float]:
        """Return how old each expert's load sample may be, by row: of several policies, the most patient one says."""
        ages: dict[int, float] = {}
        for route in self.by_key.values():
            stale_after = route.policy.spec.telemetry.stale_after_milliseconds / 1e3
            for row in route.control.view.rows.tolist():
                ages[row] = max(ages.get(row, 0.0), stale_after)
        return ages

    def reports(self, in_flight: InFlight, now: float) -> tuple[PolicyReport, ...]:
        """Report each policy, by key.

        Args:
            in_flight: Knows the experts' load.
            now: On its clock.
        """
        return tuple(self._report(self.by_key[key], in_flight, now) for key in sorted(self.by_key))

    def _report(self, route: Route, in_flight: InFlight, now: float) -> PolicyReport:
        spec = route.policy.spec
        views = in_flight.views(route.endpoints, now, route.control.view.lens)
        ready = [view for view in views if view.ready]
        ages = [view.telemetry_age_seconds for view in ready if view.telemetry_age_seconds is not None]
        return PolicyReport(
            policy=route.policy.key,
            model_name=spec.model_name if self._has_its_name(route) else "",
            picker=spec.picker.name,
            policy_version=route.control.picker_version,
            experts=len(route.endpoints),
            ready_experts=len(ready),
            fresh_experts=sum(age < spec.telemetry.stale_after_milliseconds / 1e3 for age in ages),
            oldest_telemetry_age_seconds=max(ages, default=None),
            judged_requests=route.score.judged,
            met_requests=route.score.met,
        )

    def _has_its_name(self, route: Route) -> bool:
        return self._by_name[route.policy.spec.model_name] is route
