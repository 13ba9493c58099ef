"""Simulations that stop at every decision and wait for an action: one, or a batch that is stepped together.

Made of the kernels of `simulate`: the same actions give the same run. Decisions at which no expert is allowed are
passed over, as there; those requests are shed.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pointsman_policy.compiled import compiled
from pointsman_policy.errors import PickError
from pointsman_policy.latency.impact import added_delay, newly_late
from pointsman_policy.simulator.decisions import World, arrive, dispatch, finish, may_choose
from pointsman_policy.simulator.engine import Engine
from pointsman_policy.simulator.requests import Requests
from pointsman_policy.simulator.simulation import Run, new_world, run_of, stacked_states
from pointsman_policy.simulator.situation import Situation
from pointsman_policy.state import DROP, Record, RoutingState

_FIRST = DROP - 1
"""In place of an action: there has been no decision yet."""

STEP = np.dtype(
    [
        ("request", np.int64),  # whose decision is due; n = none is any more
        ("over", np.bool_),  # every request has ended
        ("qos", np.float64),  # of the requests that ended since the decision before, summed
        ("ended_count", np.int64),  # how many those are, failed ones too
        ("late_count", np.float64),  # running requests that the last action is expected to leave late, see `lateness`
        ("late_quality", np.float64),  # their predicted quality, summed
        ("newly_late_count", np.float64),  # those of them that were not late before
        ("newly_late_quality", np.float64),
    ]
)
"""What one step brought."""


class Simulation:
    """A situation, decision by decision.

    Args:
        situation: The fleet, the requests and what is seen of them.
        state: Where to write the state, a zeroed one of as many experts; None = anew.

    Raises:
        ValueError: If one of the situation's changes is impossible.
    """

    def __init__(self, situation: Situation, state: RoutingState | None = None) -> None:
        count, experts = len(situation), len(situation.fleet.coefficients)
        world = new_world(
            situation.fleet, situation.requests, situation.visibility, situation.admission, situation.changes
        )
        self._world = world if state is None else world._replace(state=state)
        self._quality = np.ascontiguousarray(situation.quality, np.float64)
        self._chosen = np.full(count, DROP, np.int64)
        self._reported = np.zeros(experts, np.int64)
        self._ended = np.zeros(count, np.int64)
        self._ended_qos = np.zeros(count)
        self._step = np.zeros(1, STEP)
        self._go(_FIRST)

    @property
    def state(self) -> RoutingState:
        """The state of the decision that is due; later ones are written in its place."""
        return self._world.state

    @property
    def last_step(self) -> npt.NDArray[np.void]:
        """The STEP row of the last action, [1]; before any action only `request` and `over` mean something."""
        return self._step

    @property
    def over(self) -> bool:
        """Whether every request has ended, and no decision is due."""
        return bool(self._step[0]["over"])

    @property
    def ended(self) -> npt.NDArray[np.int64]:
        """Indices of the requests that ended since the decision before, [k]."""
        return self._ended[: self._step[0]["ended_count"]]

    @property
    def ended_qos(self) -> npt.NDArray[np.float64]:
        """Their QoS, [k]; by the formula of `Outcomes.qos`."""
        return self._ended_qos[: self._step[0]["ended_count"]]

    def allows(self, action: int) -> bool:
        """Tell whether an expert's index, or DROP, may be the next action."""
        return not self.over and bool(may_choose(self._world.state, action))

    def step(self, action: int) -> None:
        """Carry out an action and go to the next decision; after the last one everything is served to its end.

        Args:
            action: Expert's index, or DROP.

        Raises:
            PickError: If the simulation is over, or the action is not allowed; nothing has happened then.
        """
        if self.over:
            raise PickError("the simulation is over: no decision is due")
        if not self.allows(action):
            what = "drop a request that must be served" if action == DROP else f"pick expert {action}: not allowed"
            raise PickError(f"request {self._step[0]['request']}: cannot {what}")
        self._go(action)

    def run(self) -> Run:
        """Return what has happened to each request so far; those to come count as shed."""
        return run_of(self._world, self._chosen, wall_seconds=0.0)

    def _go(self, action: int) -> None:
        _step(
            self._world,
            self._quality,
            self._chosen,
            self._reported,
            self._ended,
            self._ended_qos,
            self._step,
            action,
        )


class SimulationBatch:
    """B simulations, their states side by side.

    Args:
        situations: One for each simulation.
        experts: E, at least as many as any of them will have; states are padded to it.

    Raises:
        ValueError: If a situation has more experts than that, or an impossible change.
    """

    def __init__(self, situations: Sequence[Situation], experts: int) -> None:
        self.states = stacked_states(len(situations), experts)
        """[B, E, ...]; padded experts are zero and not allowed."""
        self.present = np.zeros((len(situations), experts), np.bool_)
        """Which experts are no padding, [B, E]."""
        self.steps = np.zeros(len(situations), STEP)
        """STEP rows, [B]."""
        self.simulations = [self._begin(row, situation) for row, situation in enumerate(situations)]
        """[B]."""

    def __len__(self) -> int:
        return len(self.simulations)

    def reset(self, row: int, situation: Situation) -> None:
        """Begin another simulation in the place of one.

        Raises:
            ValueError: As for the class.
        """
        self.simulations[row] = self._begin(row, situation)

    def step(self, actions: npt.NDArray[np.int64]) -> None:
        """Carry out one action in every simulation that is not over.

        Args:
            actions: Expert's index or DROP, [B]; that of a simulation that is over is ignored.

        Raises:
            PickError: If an action is not allowed; no simulation has been stepped then.
        """
        due = [row for row, simulation in enumerate(self.simulations) if not simulation.over]
        for row in due:
            if not self.simulations[row].allows(int(actions[row])):
                raise PickError(f"simulation {row}: action {actions[row]} is not allowed")
        for row in due:
            self.simulations[row].step(int(actions[row]))
            self.steps[row] = self.simulations[row].last_step[0]

    def _begin(self, row: int, situation: Situation) -> Simulation:
        count, most = len(situation.fleet.coefficients), self.present.shape[1]
        if count > most:
            raise ValueError(f"a situation has {count} experts; there is room for {most}")
        for array in self.states:
            array[row] = np.zeros((), array.dtype)
        self.present[row] = np.arange(most) < count
        states = self.states
        part = RoutingState(
            expert=states.expert[row, :count],
            running=states.running[row, :count],
            running_mask=states.running_mask[row, :count],
            waiting=states.waiting[row, :count],
            waiting_mask=states.waiting_mask[row, :count],
            request=states.request[row],
            candidate=states.candidate[row, :count],
            allowed=states.allowed[row, :count],
        )
        simulation = Simulation(situation, part)
        self.steps[row] = simulation.last_step[0]
        return simulation


@compiled
def lateness(state: RoutingState, x: int, step: Record) -> None:
    """Write which running requests the state's request is expected to leave late if it is sent to expert x.

    Of the requests j listed as running there that have an objective L_j on time per token (NTPOT), those for which
    ``l_j + delay / D_j > L_j``, with l_j the latency per token so far, D_j the predicted output tokens and the delay of
    `added_delay`: the paper's action impact estimator. It counts those that are late already at every arrival anew;
    the newly late ones are those that were not.

    Args:
        state: Of the decision.
        x: Index of the expert.
        step: STEP row; its four fields of lateness are written.
    """
    expert = state.expert[x]
    step.late_count = 0.0
    step.late_quality = 0.0
    step.newly_late_count = 0.0
    step.newly_late_quality = 0.0
    for r in range(state.running_mask.shape[1]):
        slot = state.running[x, r]
        if not state.running_mask[x, r] or slot.ntpot_objective_seconds <= 0.0:
            continue
        output_tokens = max(slot.predicted_output_tokens, slot.generated_tokens + 1.0)
        delay = added_delay(
            state.request[0].prompt_tokens,
            state.candidate[x].predicted_output_tokens,
            output_tokens - slot.generated_tokens,
            expert.per_sequence_seconds,
            expert.per_context_token_seconds,
            expert.per_prefill_token_seconds,
        )
        if slot.ntpot_seconds + delay / output_tokens > slot.ntpot_objective_seconds:
            step.late_count += 1.0
            step.late_quality += slot.predicted_quality
        if newly_late(slot.ntpot_seconds, delay, output_tokens, slot.ntpot_objective_seconds):
            step.newly_late_count += 1.0
            step.newly_late_quality += slot.predicted_quality


@compiled
def _step(
    world: World,
    quality: npt.NDArray[np.float64],
    chosen: npt.NDArray[np.int64],
    reported: npt.NDArray[np.int64],
    ended: npt.NDArray[np.int64],
    ended_qos: npt.NDArray[np.float64],
    steps: npt.NDArray[np.void],
    action: int,
) -> None:
    engine, requests, ledger, samples, state, notes = world
    step = steps[0]
    step.late_count = 0.0
    step.late_quality = 0.0
    step.newly_late_count = 0.0
    step.newly_late_quality = 0.0
    i = step.request
    if action >= 0:
        chosen[i] = action
        lateness(state, action, step)
        dispatch(engine, requests, ledger, state, notes, i, action, True)
    if action >= DROP:
        i += 1
    while i < chosen.shape[0] and not arrive(engine, requests, ledger, samples, state, notes, i, True):
        i += 1
    step.request = i
    step.over = i == chosen.shape[0]
    if step.over:
        finish(engine, samples, notes)
    step.qos = 0.0
    step.ended_count = 0
    for x in range(reported.shape[0]):
        while reported[x] < engine.expert[x].finished_count:
            j = engine.finished[x, reported[x]]
            reported[x] += 1
            ended[step.ended_count] = j
            ended_qos[step.ended_count] = _qos(engine, requests, quality[j, x], j, x)
            step.qos += ended_qos[step.ended_count]
            step.ended_count += 1


@compiled
def _qos(engine: Engine, requests: Requests, quality: float, j: int, x: int) -> float:
    """Return the QoS of request j, ended on expert x: `Outcomes.qos` for one request."""
    request = engine.request[j]
    if np.isnan(request.finished_at):
        return 0.0
    arrival_at, tokens = requests.arrival_at[j], requests.output_tokens[j, x]
    ttft, tpot, ntpot = requests.objectives[j, 0], requests.objectives[j, 1], requests.objectives[j, 2]
    met = ttft <= 0.0 or request.first_token_at - arrival_at <= ttft
    met = met and (ntpot <= 0.0 or (request.finished_at - arrival_at) / tokens <= ntpot)
    if tokens > 1:
        met = met and (tpot <= 0.0 or (request.finished_at - request.first_token_at) / (tokens - 1.0) <= tpot)
    return quality if met else 0.0
