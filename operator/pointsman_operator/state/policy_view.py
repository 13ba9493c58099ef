"""One policy's side of a RoutingState: its experts, its objectives, and a request put among them."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_operator.decision import ObjectiveOverrides, RouteQuery
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.routerpolicy import RouterPolicy
from pointsman_operator.state.in_flight import DECLARED, InFlight
from pointsman_policy.experts import Expert
from pointsman_policy.prediction.fitted import FittedPredictor
from pointsman_policy.prediction.for_experts import ExpertPredictor, Means
from pointsman_policy.prediction.predictor import Predictor
from pointsman_policy.prediction.prior import PriorPredictor
from pointsman_policy.reckoning import Asked
from pointsman_policy.state import RoutingState, empty_state

_CHARACTERS_PER_TOKEN = 4
_NOTHING_ASKED = (None, None, None)


class Objectives(NamedTuple):
    """Latency targets of one request, seconds; 0 = none."""

    ttft_seconds: float
    tpot_seconds: float
    ntpot_seconds: float


class PolicyView:
    """Assembles the RoutingState of each request of one policy.

    Args:
        policy: The policy.
        endpoints: The experts that it selects.
        in_flight: Knows all of them.
        arrivals: ARRIVALS row of the policy; kept over changes of its experts.
        fitted: Predicts quality and length for the models that it knows; None = all experts are at their priors.
        lens: By which beliefs it sees the experts.
        means: What models' answers have been like since the fit, by the models' names.
    """

    def __init__(
        self,
        policy: RouterPolicy,
        endpoints: Sequence[Endpoint],
        in_flight: InFlight,
        arrivals: npt.NDArray[np.void],
        fitted: FittedPredictor | None = None,
        lens: str = DECLARED,
        means: Mapping[str, Means] | None = None,
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.rows = np.array([in_flight.row(endpoint) for endpoint in endpoints], np.int64)
        self.state = empty_state(len(endpoints))
        self.allowed_count = 0
        """Experts that the last assembled request may go to."""
        self._in_flight = in_flight
        self._arrivals = arrivals
        self.lens = lens
        experts = [endpoint.expert for endpoint in endpoints]
        self._predictor = _predictor(experts, fitted, means)
        self._ready = np.array([expert.ready for expert in experts], np.bool_)
        self._context_length = np.array([expert.context_length_tokens or np.inf for expert in experts])
        self._shortest_context = float(self._context_length.min(initial=np.inf))
        self._addresses = [endpoint.address for endpoint in endpoints]
        spec = policy.spec
        self._admission = spec.admission.mode
        self._quality_floor = spec.objectives.quality_floor_percent / 100
        self._objectives = Objectives(
            spec.objectives.time_to_first_token_milliseconds / 1e3,
            spec.objectives.time_per_output_token_milliseconds / 1e3,
            spec.objectives.normalized_time_per_output_token_milliseconds / 1e3,
        )

    @property
    def at_prior(self) -> tuple[str, ...]:
        """Models for which quality or length was not fitted, though there is a fitted predictor."""
        return self._predictor.at_prior if isinstance(self._predictor, ExpertPredictor) else ()

    def assemble(self, query: RouteQuery, now: float, counted: bool = True) -> RoutingState:
        """Return what is known when a request arrives; valid until the next call. Nothing may be allowed.

        Args:
            query: The request.
            now: Seconds.
            counted: Whether it counts as an arrival; not where a second opinion is asked for.
        """
        prompt_tokens = query.prompt_tokens or max(len(query.prompt) // _CHARACTERS_PER_TOKEN, 1)
        objectives = self.objectives(query.objectives)
        asked = Asked(
            float(prompt_tokens),
            objectives.ttft_seconds,
            objectives.tpot_seconds,
            objectives.ntpot_seconds,
            self._quality_floor,
            float(query.priority),
            self._may_drop(query),
            float(query.max_output_tokens) or math.inf,
        )
        prediction = self._predictor.predict(query.prompt, prompt_tokens)
        usable = self._usable(query, prompt_tokens + query.max_output_tokens)
        arrivals = self._arrivals if counted else self._arrivals.copy()
        self.allowed_count = self._in_flight.assemble(
            self.rows, arrivals, now, asked, prediction, usable, self.state, self.lens
        )
        return self.state

    def objectives(self, overrides: ObjectiveOverrides) -> Objectives:
        """Return the targets of a request: its own where it has any, else the policy's."""
        asked = (overrides.ttft_seconds, overrides.tpot_seconds, overrides.ntpot_seconds)
        if asked == _NOTHING_ASKED:
            return self._objectives
        return Objectives(
            *(default if own is None else own for own, default in zip(asked, self._objectives, strict=True))
        )

    def exclusion(self, index: int, query: RouteQuery) -> str:
        """Say why an expert could not be picked for a request that was just assembled."""
        endpoint = self.endpoints[index]
        if not endpoint.expert.ready:
            return "not ready"
        if query.subset is not None and endpoint.address not in query.subset:
            return "not in the gateway's endpoint subset"
        if self._context_length[index] < float(self.state.request[0]["prompt_tokens"]) + query.max_output_tokens:
            return "prompt and answer exceed its context length"
        return "predicted quality below the floor"

    def _may_drop(self, query: RouteQuery) -> bool:
        return self._admission == "ShedHopeless" or (self._admission == "ShedSheddable" and query.priority < 0)

    def _usable(self, query: RouteQuery, tokens: int) -> npt.NDArray[np.bool_]:
        usable = self._ready
        if tokens > self._shortest_context:
            usable = usable & (self._context_length >= tokens)
        if query.subset is not None:
            usable = usable & np.array([address in query.subset for address in self._addresses], np.bool_)
        return usable


def _predictor(
    experts: Sequence[Expert], fitted: FittedPredictor | None, means: Mapping[str, Means] | None
) -> Predictor:
    prior = PriorPredictor(
        [expert.model for expert in experts],
        [expert.quality_prior_percent / 100 for expert in experts],
        [float(expert.output_tokens_prior) for expert in experts],
    )
    if fitted is None or not experts:
        return prior
    return ExpertPredictor(fitted, prior, means)
