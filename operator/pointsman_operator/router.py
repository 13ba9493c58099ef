"""The routing core: from a request to a decision, and from its outcome back into what the next decision knows."""

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pointsman_operator import choice
from pointsman_operator.arms import Arms
from pointsman_operator.assignment import Assignment
from pointsman_operator.decision import (
    Decision,
    ExpertView,
    Explanation,
    Outcome,
    OutcomeStatus,
    PolicyReport,
    Reason,
    RouteQuery,
)
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.discovery.store import matching
from pointsman_operator.errors import NoExpertError, ShedError, UnknownDecisionError
from pointsman_operator.exploration import Explored, explore
from pointsman_operator.learning import Learning
from pointsman_operator.metrics import Metrics
from pointsman_operator.picking import AnyPicker, Chosen
from pointsman_operator.recorder import Recorder
from pointsman_operator.routerpolicy import RouterPolicy
from pointsman_operator.routes import Arm, Route, Routes
from pointsman_operator.second_opinion import second_opinion
from pointsman_operator.state.in_flight import InFlight
from pointsman_operator.telemetry.sample import LoadSample
from pointsman_operator.token_bucket import TokenBucket
from pointsman_operator.trace import LATENCIES, Trace, latencies
from pointsman_policy.latency.estimator import ESTIMATE
from pointsman_policy.prediction.fitted import FittedPredictor
from pointsman_policy.prediction.for_experts import with_fitted_means
from pointsman_policy.state import DROP, RoutingState

_RECENT_DECISIONS = 4_096
_LABELABLE_DECISIONS = 100_000
"""Decisions whose policy is remembered, so that an answer can be judged minutes after its end."""
_UNIFORMS = 1_024
_OPINIONS_PER_SECOND = 20
"""How often a candidate that only watches is asked; each time costs about as much as a decision."""


class Router:
    """Implements `pointsman_operator.decision.Routing`. Used on one event loop.

    Args:
        pickers: Every picker by name.
        metrics: Where decisions and outcomes are counted.
        clock: Monotonic seconds.
        unix_clock: Unix seconds, to place load samples on the monotonic clock, and for decision ids.
        rng: Breaks ties, explores, and tells the decision ids of routers that start at once apart.
        decision_expiry_seconds: A decision of which nothing is heard for so long is closed.
        predictor: Predicts quality and length for the models that it knows; None = all experts are at their priors.
        recorder: Takes decisions and outcomes for learning; None = nobody learns from them.
    """

    def __init__(
        self,
        pickers: Mapping[str, AnyPicker],
        metrics: Metrics,
        clock: Callable[[], float],
        unix_clock: Callable[[], float],
        rng: np.random.Generator,
        decision_expiry_seconds: float = 600.0,
        predictor: FittedPredictor | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._unix_clock = unix_clock
        self._rng = rng
        self._expiry_seconds = decision_expiry_seconds
        self._predictor = predictor
        self._recorder = recorder
        self._in_flight = InFlight()
        self._arms = Arms(pickers, metrics, self._in_flight, predictor)
        self._policies: Sequence[RouterPolicy] = ()
        self._endpoints: Sequence[Endpoint] = ()
        self._assignments: dict[str, Assignment] = {}
        self._routes = Routes(())
        self._open: OrderedDict[str, Trace] = OrderedDict()
        self._by_slot: dict[int, str] = {}
        self._recent: OrderedDict[str, Trace] = OrderedDict()
        self._labelable: OrderedDict[str, str] = OrderedDict()
        # The policy service knows outcomes by their decision's id, and a seed may be the same after a restart.
        self._id_prefix = f"{int(unix_clock() * 1e3):x}{rng.bytes(4).hex()}"
        self._numbers = itertools.count()
        self._uniforms: list[float] = []
        self._opinions = TokenBucket(_OPINIONS_PER_SECOND, 1 / _OPINIONS_PER_SECOND, clock)

    def configure(
        self, policies: Sequence[RouterPolicy], endpoints: Sequence[Endpoint], profiles: Path | None = None
    ) -> None:
        """Take over policies and experts; open decisions, load and arrival estimates are kept.

        Args:
            policies: In order of precedence: of several with one model name, the first has it.
            endpoints: The experts of all of them.
            profiles: CSV of iteration-time fits.

        Raises:
            DocumentError: If the experts' profiles cannot be read; nothing has changed then.
        """
        if self._predictor is not None:
            endpoints = [replace(one, expert=with_fitted_means(one.expert, self._predictor)) for one in endpoints]
        self._in_flight.set_experts(endpoints, profiles)
        self._policies, self._endpoints = policies, endpoints
        self._routes = self._arms.routes(policies, endpoints, self._assignments)
        if self._recorder is not None:
            self._recorder.configured([(one.key, matching(endpoints, one)) for one in policies], profiles)

    def assign(self, policy: str, assignment: Assignment) -> None:
        """Let other versions decide on a policy's requests, from the next one on.

        Args:
            policy: Key of the policy; one that is not there yet gets it when it comes.
            assignment: What runs.
        """
        self._assignments[policy] = assignment
        self._routes = self._arms.routes(self._policies, self._endpoints, self._assignments)

    def route(self, query: RouteQuery) -> Decision:
        """Pick an expert and open a decision.

        Raises:
            UnknownModelError: If no policy serves the model.
            NoExpertError: If no expert may be picked.
            ShedError: If admission dropped the request.
        """
        now = self._clock()
        route = self._routes.find(query.model, query.subset)
        policy, arm = route.policy.key, route.arm(query)
        state = arm.view.assemble(query, now)
        if not arm.view.allowed_count:
            self._metrics.dropped(policy, NoExpertError.dropped_reason or "")
            raise NoExpertError(choice.why_none(route, query))
        chosen = arm.chain.pick(state, self._uniform())
        self._metrics.picked(policy, chosen.picker, chosen.seconds)
        explored = Explored(chosen.pick.expert, 1.0, False)
        if route.assignment.exploration_percent:
            explored = explore(state, chosen.pick.expert, route.assignment.exploration_percent, self._uniform())
        learning = self._learning(route, arm, query, explored, now)
        if chosen.pick.expert == DROP:
            self._metrics.dropped(policy, ShedError.dropped_reason or "")
            if self._recorder is not None:
                names = [endpoint.name for endpoint in arm.view.endpoints]
                self._recorder.dropped(self._next_id(), policy, chosen.picker, state, names, learning)
            raise ShedError(
                "no expert is expected to answer within the request's objectives; retry later or relax the objectives"
            )
        return self._open_decision(route, arm, query, state, chosen, explored, learning, now).decision

    def report(self, outcome: Outcome) -> None:
        """Take progress or the end of a decision's request.

        An end that is already known is left as it is, but for a quality that was not; one that comes after the
        decision was closed for its silence still counts.

        Raises:
            UnknownDecisionError: If the decision was never made here or has expired.
        """
        trace = self._open.get(outcome.decision_id)
        if trace is not None:
            self._follow(trace, outcome)
        else:
            trace = self._recent.get(outcome.decision_id)
        if trace is not None and trace.outcome is None:
            if outcome.status is not OutcomeStatus.IN_PROGRESS:
                trace.outcome = outcome
                self._count_outcome(trace, outcome)
        elif outcome.quality is not None:
            self.label(outcome.decision_id, outcome.quality)
        elif trace is None:
            raise _unknown(outcome.decision_id)

    def label(self, decision_id: str, quality: float) -> None:
        """Take the quality of an answer, judged after its end; the first one that is told counts.

        Args:
            decision_id: One of the last hundred thousand.
            quality: 0 to 1.

        Raises:
            UnknownDecisionError: If the decision was never made here, or is too long ago.
        """
        policy = self._labelable.get(decision_id)
        if policy is None:
            raise _unknown(decision_id)
        trace = self._recent.get(decision_id)
        if trace is not None and trace.outcome is not None:
            if trace.outcome.quality is not None:
                return
            trace.outcome = replace(trace.outcome, quality=quality)
        if self._recorder is not None:
            self._recorder.labelled(decision_id, policy, quality)

    def explain(self, decision_id: str) -> Explanation:
        """Return a recent decision.

        Raises:
            UnknownDecisionError: If it was never made here, or is too long ago.
        """
        trace = self._recent.get(decision_id)
        if trace is None:
            raise UnknownDecisionError(
                f"decision {decision_id!r} is not known; a router keeps its last {_RECENT_DECISIONS} decisions"
            )
        return trace.explanation(self._clock())

    def experts(self, model: str) -> tuple[str, tuple[ExpertView, ...]]:
        """Return the policy ("namespace/name") that serves a model, and its experts.

        Raises:
            UnknownModelError: If there is none.
        """
        route = self._routes.find(model)
        return route.policy.key, self._in_flight.views(route.endpoints, self._clock(), route.control.view.lens)

    def models(self) -> tuple[str, ...]:
        """Return the model names that clients may use: those of the policies, or a policy's key if another has its."""
        return self._routes.models()

    def reports(self) -> tuple[PolicyReport, ...]:
        """Return what is known of each policy by routing alone, by key."""
        return self._routes.reports(self._in_flight, self._clock())

    def observe(self, samples: Iterable[LoadSample]) -> None:
        """Take load samples; decisions whose request an expert verifiably no longer has are closed."""
        now, unix_now = self._clock(), self._unix_clock()
        for sample in samples:
            for slot in self._in_flight.observe(sample, now, unix_now):
                self._expire(self._open[self._by_slot[slot]], now)

    def expire(self) -> None:
        """Let go of what is too old: silent decisions and stale load samples; call this about every second."""
        now = self._clock()
        self._in_flight.forget_samples(self._routes.believed_seconds(), now)
        while self._open:
            trace = next(iter(self._open.values()))
            if now - trace.heard_at < self._expiry_seconds:
                return
            self._expire(trace, now)

    def open_decisions(self) -> int:
        """Return the number of decisions whose end is not known yet."""
        return len(self._open)

    def views(self) -> Iterable[tuple[str, ExpertView]]:
        """Return (policy, expert) pairs of all policies, as believed now."""
        now = self._clock()
        return [
            (route.policy.key, view)
            for route in self._routes.by_key.values()
            for view in self._in_flight.views(route.endpoints, now, route.control.view.lens)
        ]

    def endpoints(self, key: str) -> tuple[Endpoint, ...]:
        """Return the experts that the policy with this key ("namespace/name") selects; none if it is gone."""
        route = self._routes.by_key.get(key)
        return route.endpoints if route else ()

    def not_ready(self) -> str:
        """Say why the router cannot serve; empty if it can."""
        return self._routes.not_ready()

    def _uniform(self) -> float:
        if not self._uniforms:
            self._uniforms = self._rng.random(_UNIFORMS).tolist()
        return self._uniforms.pop()

    def _next_id(self) -> str:
        return f"{self._id_prefix}-{next(self._numbers):x}"

    def _learning(self, route: Route, arm: Arm, query: RouteQuery, explored: Explored, now: float) -> Learning:
        """Return what is recorded of a decision beside what explains it; the arm's state is that of the decision."""
        if self._recorder is None:
            return Learning(arm.version, arm.name)
        sample = self._recorder.sample(route.policy.key, query, arm.view.state, route.assignment.store_prompts)
        shadow = None
        watcher = route.watcher
        if watcher is not None and self._opinions.take():
            shadow = second_opinion(watcher, query, explored.expert, now, self._uniform())
        return Learning(arm.version, arm.name, explored.propensity, explored.tried, sample, shadow)

    def _open_decision(
        self,
        route: Route,
        arm: Arm,
        query: RouteQuery,
        state: RoutingState,
        chosen: Chosen,
        explored: Explored,
        learning: Learning,
        now: float,
    ) -> Trace:
        view, first = arm.view, explored.expert
        predicted = np.empty(len(view.endpoints), ESTIMATE)
        row = int(view.rows[first])
        slot = self._in_flight.open(row, first, now, state, predicted)
        request = state.request[0]
        endpoints, rewrite = choice.order(view.endpoints, choice.rank(state, chosen.pick, first), query.model)
        summary = "tried for learning, being nearly as good as the best" if explored.tried else chosen.summary
        decision = Decision(
            id=self._next_id(),
            policy=route.policy.key,
            picker=chosen.picker,
            policy_version=arm.version or chosen.version,
            reason=Reason(endpoints[0].name, chosen.picker, summary, predicted, first),
            fallbacks=chosen.fallbacks,
            endpoints=endpoints,
            model_rewrite=rewrite,
        )
        trace = Trace(
            decision=decision,
            view=view,
            made_at=now,
            heard_at=now,
            objectives=view.objectives(query.objectives),
            prompt_tokens=int(request["prompt_tokens"]),
            load_ratio=float(request["load_ratio"]),
            chosen=first,
            scores=chosen.pick.scores,
            allowed=state.allowed.copy(),
            estimates=predicted,
            predictions=state.candidate.copy(),
            exclusions=choice.exclusions(view, query, state),
            row=row,
            slot=slot,
            learning=learning,
        )
        self._remember(trace)
        return trace

    def _remember(self, trace: Trace) -> None:
        self._open[trace.decision.id] = trace
        self._by_slot[trace.slot] = trace.decision.id
        self._recent[trace.decision.id] = trace
        self._labelable[trace.decision.id] = trace.decision.policy
        for known, most in ((self._recent, _RECENT_DECISIONS), (self._labelable, _LABELABLE_DECISIONS)):
            if len(known) > most:
                known.popitem(last=False)

    def _follow(self, trace: Trace, outcome: Outcome) -> None:
        """Take news of an open decision into the ledger."""
        now = self._clock()
        served = self._in_flight.row_of(outcome.endpoint) if outcome.endpoint else None
        if served is not None and served != trace.row:
            del self._by_slot[trace.slot]
            trace.slot = self._in_flight.move(trace.row, trace.slot, served)
            trace.row = served
            self._by_slot[trace.slot] = trace.decision.id
        self._note_progress(trace, outcome, now)
        if outcome.status is OutcomeStatus.IN_PROGRESS:
            trace.heard_at = now
            self._open.move_to_end(trace.decision.id)
        else:
            self._close(trace, now)

    def _note_progress(self, trace: Trace, outcome: Outcome, now: float) -> None:
        first_token_at = math.nan
        if outcome.ttft_seconds is not None:
            first_token_at = trace.made_at + outcome.ttft_seconds
        if outcome.output_tokens:
            at = now if outcome.duration_seconds is None else min(trace.made_at + outcome.duration_seconds, now)
            self._in_flight.note_progress(trace.row, trace.slot, at, outcome.output_tokens, first_token_at)
        elif outcome.ttft_seconds is not None:
            self._in_flight.entry(trace.slot)["first_token_at"] = first_token_at

    def _expire(self, trace: Trace, now: float) -> None:
        self._close(trace, now)
        self._metrics.expired(1)
        if self._recorder is not None:
            self._recorder.finished(trace, None)

    def _close(self, trace: Trace, now: float) -> None:
        del self._open[trace.decision.id]
        del self._by_slot[trace.slot]
        self._in_flight.close(trace.row, trace.slot, now)

    def _count_outcome(self, trace: Trace, outcome: Outcome) -> None:
        policy = trace.decision.policy
        met = trace.slo_met(outcome)
        qos = None if met is None else trace.quality(outcome) * met
        score = self._arms.score(policy)
        if score is not None and met is not None:
            score.judged += 1
            score.met += met
        self._metrics.finished(policy, trace.decision.picker, outcome.status, slo_met=met, qos=qos)
        for kind, measured in zip(LATENCIES, latencies(outcome), strict=True):
            predicted = trace.predicted_seconds(kind)
            self._metrics.latency(kind, policy, measured_seconds=measured, predicted_seconds=predicted)
        if self._recorder is not None:
            self._recorder.finished(trace, outcome)


def _unknown(decision_id: str) -> UnknownDecisionError:
    return UnknownDecisionError(
        f"decision {decision_id!r} is not open; it was made elsewhere, or ended or expired long ago"
    )
