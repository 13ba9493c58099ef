"""Experience that was never lived: a situation's run in the simulator, as routers would have recorded it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.experience.fleet import Fleet, FleetExpert
from pointsman_policy.experience.packed_state import pack_state
from pointsman_policy.experience.schema import OPTIONAL_NUMBERS
from pointsman_policy.latency.estimator import estimates
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.simulator.engine import COEFFICIENTS
from pointsman_policy.simulator.simulation import UNFORCED, Recording, record
from pointsman_policy.simulator.situation import Situation, situation_outcomes
from pointsman_policy.state import DROP, RoutingState

Columns = dict[str, npt.NDArray[Any]]

_PREDICTED = ("ttft_seconds", "tpot_seconds", "ntpot_seconds")


def fleet_of(situation: Situation, models: Sequence[str], gpu: str = "L40S") -> Fleet:
    """Return a situation's experts as a router with its beliefs would declare them.

    Args:
        situation: Its experts become expert-0, expert-1 and so on.
        models: Of each expert.
        gpu: Of all of them.
    """
    fleet, tokens = situation.fleet, situation.requests.predicted_output_tokens.mean(axis=0)
    experts = tuple(
        FleetExpert(
            name=f"expert-{e}",
            model=model,
            gpu=gpu,
            kv_capacity_tokens=float(fleet.kv_capacity[e]),
            maximum_running=int(fleet.maximum_running[e]),
            quality_prior=float(fleet.quality_prior[e]),
            output_tokens_prior=float(tokens[e]),
            **dict(zip(COEFFICIENTS, fleet.believed_coefficients[e].tolist(), strict=True)),
        )
        for e, model in enumerate(models)
    )
    return Fleet(policy="simulated/policy", at=0.0, experts=experts)


def simulated_experience(
    situation: Situation,
    fleet: Fleet,
    picker: Picker,
    seed: int,
    *,
    labelled_share: float = 0.3,
    sampled_share: float = 0.2,
    explored_share: float = 0.0,
    starts_at: float = 1_750_000_000.0,
) -> Experience:
    """Return what routers would have recorded of a run.

    Args:
        situation: What happens.
        fleet: Its experts, from `fleet_of`.
        picker: Decides.
        seed: Of ties, of exploration, and of what is labelled and sampled.
        labelled_share: Of answers, that have a quality label.
        sampled_share: Of decisions, whose state is kept.
        explored_share: Of decisions, that are made at random among the experts; their propensities say so.
        starts_at: Unix seconds.
    """
    rng = np.random.default_rng([seed, 1])
    count, experts = len(situation), len(fleet.experts)
    explored = rng.random(count) < explored_share
    forced = np.where(explored, rng.integers(experts, size=count), UNFORCED)
    recording = record(
        situation.fleet,
        situation.requests,
        picker,
        np.random.default_rng(seed),
        situation.visibility,
        situation.admission,
        situation.changes,
        np.ones(count, np.bool_),
        forced,
    )
    columns = {
        **_what_was_asked(situation, starts_at),
        **_what_was_decided(recording, picker, explored, explored_share, rng.random(count) < sampled_share),
        **_what_happened(situation, recording, rng.random(count) < labelled_share),
    }
    models = tuple(dict.fromkeys(one.model for one in fleet.experts))
    model_of = np.array([models.index(one.model) for one in fleet.experts] + [DROP], np.int32)
    columns["model"] = model_of[columns["expert"]]
    names = {
        "router": ("router-0",),
        "version": ("",),
        "arm": ("control",),
        "picker": (picker.name,),
        "expert": tuple(one.name for one in fleet.experts),
        "model": models,
        "gpu": (fleet.experts[0].gpu,),
        "status": ("completed", "failed", "dropped"),
        "experts": (",".join(one.name for one in fleet.experts),),
        "shadow_version": (),
        "shadow_expert": (),
    }
    return Experience(fleet.policy, columns, names, fleet)


def _what_was_asked(situation: Situation, starts_at: float) -> Columns:
    requests, count = situation.requests, len(situation)
    may_drop = np.full(count, situation.admission == "ShedHopeless")
    if situation.admission == "ShedSheddable":
        may_drop = requests.priority < 0
    objectives = requests.objectives.astype(np.float32)
    return {
        "id_hash": np.arange(count, dtype=np.uint64),
        "decided_at": starts_at + requests.arrival_at,
        "retimed": np.zeros(count, np.bool_),
        "prompt_tokens": requests.prompt_tokens.astype(np.int32),
        "may_drop": may_drop,
        "ttft_objective_seconds": objectives[:, 0],
        "tpot_objective_seconds": objectives[:, 1],
        "ntpot_objective_seconds": objectives[:, 2],
    }


def _what_was_decided(
    recording: Recording,
    picker: Picker,
    explored: npt.NDArray[np.bool_],
    share: float,
    kept: npt.NDArray[np.bool_],
) -> Columns:
    chosen = recording.run.expert
    count, experts = len(chosen), recording.states.allowed.shape[1]
    propensity = np.full(count, 1.0 - share + share / experts, np.float32)
    columns: Columns = {name: np.full(count, np.nan, np.float32) for name in OPTIONAL_NUMBERS}
    states = np.full(count, None, object)
    for row, expert in enumerate(chosen):
        state = RoutingState(*(array[row] for array in recording.states))
        if kept[row]:
            states[row] = pack_state(state)
        if explored[row] and picker.pick(state, 0.5).expert != expert:
            propensity[row] = share / experts
        if expert == DROP:
            continue
        one, candidate = estimates(state)[expert], state.candidate[expert]
        for name in _PREDICTED:
            columns[f"predicted_{name}"][row] = one[name]
        columns["slo_probability"][row] = one["slo_probability"]
        columns["predicted_quality"][row] = candidate["predicted_quality"]
        columns["predicted_output_tokens"][row] = candidate["predicted_output_tokens"]
    no_code = np.full(count, -1, np.int32)
    own = np.zeros(count, np.int32)
    return columns | {
        "expert": chosen.astype(np.int32),
        "gpu": np.where(chosen == DROP, -1, 0).astype(np.int32),
        "router": own,
        "version": own,
        "arm": own,
        "picker": own,
        "experts": own,
        "shadow_version": no_code,
        "shadow_expert": no_code,
        "explored": explored,
        "propensity": propensity,
        "load_ratio": recording.states.request["load_ratio"][:, 0].astype(np.float32),
        "state": states,
    }


def _what_happened(situation: Situation, recording: Recording, labelled: npt.NDArray[np.bool_]) -> Columns:
    happened = situation_outcomes(situation, recording.run)
    answered = happened.answered
    status = np.where(answered, 0, np.where(happened.dropped, 2, 1)).astype(np.int32)
    return {
        "status": status,
        "output_tokens": np.where(answered, happened.output_tokens, np.nan).astype(np.float32),
        "ttft_seconds": happened.ttft_seconds().astype(np.float32),
        "duration_seconds": np.where(answered, happened.end_at - happened.arrival_at, np.nan).astype(np.float32),
        "quality": np.where(answered & labelled, happened.quality, np.nan).astype(np.float32),
    }
