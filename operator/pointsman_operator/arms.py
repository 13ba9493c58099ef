"""Makes the routes of all policies: who decides on their requests, and by which beliefs."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pointsman_operator.assignment import PACKAGED, Assignment, Installed
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.discovery.store import matching
from pointsman_operator.metrics import Metrics
from pointsman_operator.picking import AnyPicker, PickerChain
from pointsman_operator.routerpolicy import Picker, RouterPolicy
from pointsman_operator.routes import Arm, ArmName, Route, Routes, Score
from pointsman_operator.state.in_flight import InFlight
from pointsman_operator.state.policy_view import PolicyView
from pointsman_policy.latency.estimator import estimates
from pointsman_policy.pickers.trained import TRAINABLE
from pointsman_policy.prediction.fitted import FittedPredictor
from pointsman_policy.prediction.for_experts import Means
from pointsman_policy.reckoning import new_arrivals
from pointsman_policy.registry.calibration import calibrated
from pointsman_policy.state import RoutingState, empty_state

_LOGGER = logging.getLogger(__name__)


class Arms:
    """Keeps what outlives a change of policies, experts or versions: chains, arrival estimates, scores.

    Args:
        pickers: Every picker by name.
        metrics: Where fallbacks are counted.
        in_flight: Knows the experts.
        predictor: Predicts quality and length for the models that it knows; None = all experts are at their priors.
    """

    def __init__(
        self,
        pickers: Mapping[str, AnyPicker],
        metrics: Metrics,
        in_flight: InFlight,
        predictor: FittedPredictor | None,
    ) -> None:
        self._pickers = pickers
        self._metrics = metrics
        self._in_flight = in_flight
        self._predictor = predictor
        self._arrivals: dict[str, npt.NDArray[np.void]] = {}
        self._scores: dict[str, Score] = {}
        self._at_prior: dict[str, tuple[str, ...]] = {}
        self._chains: dict[tuple[str, str], tuple[Picker, PickerChain]] = {}

    def score(self, policy: str) -> Score | None:
        """Return how the requests of a policy, by its key, went; None = there is no such policy any more."""
        return self._scores.get(policy)

    def routes(
        self, policies: Sequence[RouterPolicy], endpoints: Sequence[Endpoint], assignments: Mapping[str, Assignment]
    ) -> Routes:
        """Return the routes of these policies.

        Args:
            policies: In order of precedence: of several with one model name, the first has it.
            endpoints: The experts of all of them, as declared; `in_flight` has them already.
            assignments: What runs for policies, by their keys; the packaged policy for those left out, and for those
                whose picker is none that learns.
        """
        routes = [self._route(one, matching(endpoints, one), assignments.get(one.key, PACKAGED)) for one in policies]
        arms = [arm for route in routes for arm in (route.control, route.candidate) if arm is not None]
        self._in_flight.keep_lenses({arm.view.lens for arm in arms})
        used = {(route.policy.key, arm.version) for route in routes for arm in (route.control, route.candidate) if arm}
        self._chains = {key: chain for key, chain in self._chains.items() if key in used}
        kept = {policy.key for policy in policies}
        for known in (self._arrivals, self._scores, self._at_prior):
            for key in known.keys() - kept:
                del known[key]
        return Routes(routes)

    def _route(self, policy: RouterPolicy, endpoints: Sequence[Endpoint], assignment: Assignment) -> Route:
        if policy.spec.picker.name not in TRAINABLE:
            assignment = PACKAGED
        control = self._arm("control", policy, endpoints, assignment.active)
        candidate = None
        if assignment.candidate is not None:
            candidate = self._arm("canary", policy, endpoints, assignment.candidate)
        self._tell_priors(policy.key, control.view.at_prior)
        return Route(policy, control, candidate, assignment, self._scores.setdefault(policy.key, Score()))

    def _arm(
        self, name: ArmName, policy: RouterPolicy, endpoints: Sequence[Endpoint], installed: Installed | None
    ) -> Arm:
        arrivals = self._arrivals.setdefault(policy.key, new_arrivals())
        chain = self._chain(policy, installed)
        if installed is None:
            view = PolicyView(policy, endpoints, self._in_flight, arrivals, self._predictor)
            return Arm(name, "", chain, view, self._pickers[policy.spec.picker.name].version)
        known = [replace(one, expert=calibrated(one.expert, installed.calibration)) for one in endpoints]
        lens = f"{policy.key}@{installed.version}"
        self._in_flight.set_lens(lens, known)
        means = {name: Means(one.quality, one.output_tokens) for name, one in installed.calibration.models.items()}
        view = PolicyView(policy, known, self._in_flight, arrivals, self._predictor, lens, means)
        return Arm(name, installed.version, chain, view, installed.version)

    def _chain(self, policy: RouterPolicy, installed: Installed | None) -> PickerChain:
        picker = policy.spec.picker
        version = "" if installed is None else installed.version
        known = self._chains.get((policy.key, version))
        if known is not None and known[0] == picker:
            return known[1]
        first = self._pickers[picker.name] if installed is None else installed.picker
        chain = PickerChain(
            [first, *(self._pickers[name] for name in picker.fallback)],
            picker.timeout_milliseconds / 1e3,
            self._metrics.fell_back,
        )
        chain.warm(_warm_up_state())
        self._chains[policy.key, version] = picker, chain
        return chain

    def _tell_priors(self, policy: str, models: tuple[str, ...]) -> None:
        if models and models != self._at_prior.get(policy):
            _LOGGER.info("Policy %s: %s not fitted, at the experts' priors", policy, ", ".join(models))
        self._at_prior[policy] = models


def _warm_up_state() -> RoutingState:
    state = empty_state(2)
    state.allowed[:] = True
    state.expert["base_seconds"] = 0.01
    state.expert["maximum_running_count"] = 8
    state.candidate["predicted_output_tokens"] = 100
    state.request["prompt_tokens"] = 100
    estimates(state)
    return state
