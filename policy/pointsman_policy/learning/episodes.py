"""Episodes of a policy in the simulator, with what the paper's agent is rewarded for.

The reward of a routing decision is the QoS of the request that it routed, less the penalty of the action impact
estimator: the QoS that the decision is expected to cost the requests already there. The paper credits a finished
request's QoS to the step at which it happened to finish, which says little of that step's action; here it goes to the
step that decided it.

The penalty comes in two forms. The paper's sums the quality of every running request that it expects to be late, so a
request that is late already is charged for again at each arrival; with some twenty requests at once this dwarfs every
reward, and an agent learns to drop everything. The corrected one counts the loss of chances: a request that is late
already has none to lose.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.pickers.picker import Picker
from pointsman_policy.runtime.features import FEATURES, Features, empty_features, encode_batch
from pointsman_policy.simulator.simulation import UNFORCED, record
from pointsman_policy.simulator.situation import Situation, qos
from pointsman_policy.state import DROP, RoutingState

Floats = npt.NDArray[np.float32]

_IMPACT = FEATURES["expert"].index("impact")
_MEAN_QUALITY = FEATURES["request"].index("mean_quality")
_LEAST_MEAN_QUALITY = 1e-3


@dataclass(frozen=True)
class RewardSettings:
    """What an action is rewarded for."""

    penalty_weight: float = 1.0
    """Of the action impact."""
    corrected: bool = True
    """False = the paper's penalty."""


class Episode(NamedTuple):
    """m decisions of a run at which an expert was allowed."""

    features: Features
    """[m, ...]."""
    action: npt.NDArray[np.int64]
    """Expert, or E = dropped, [m]."""
    reward: Floats
    """[m]."""
    mean_qos: float
    """Over all requests."""


def play(
    situation: Situation, picker: Picker, rng: np.random.Generator, exploration: float, reward: RewardSettings
) -> Episode:
    """Send a situation's requests through its fleet and return all decisions.

    Args:
        situation: The fleet and the requests.
        picker: The rule.
        rng: Explores and breaks ties.
        exploration: Share of decisions made at random among the experts and, where permitted, dropping.
        reward: What actions are rewarded for.
    """
    count, experts = len(situation), len(situation.fleet.coefficients)
    forced = np.full(count, UNFORCED)
    random = rng.random(count) < exploration
    forced[random] = rng.integers(DROP if situation.may_drop else 0, experts, int(random.sum()))
    recording = record(
        situation.fleet,
        situation.requests,
        picker,
        rng,
        situation.visibility,
        situation.admission,
        situation.changes,
        np.ones(count, np.bool_),
        forced,
    )
    states = recording.states
    features = empty_features((count,), experts, states.running_mask.shape[2], states.waiting_mask.shape[2])
    encode_batch(states, features)
    expert = recording.run.expert
    reached = qos(situation, recording.run)
    penalty = expected_loss(features, expert) if reward.corrected else paper_penalty(states, expert)
    rewards = (reached - reward.penalty_weight * penalty).astype(np.float32)
    routable = features.allowed.any(axis=1)
    return Episode(
        Features._make(field[routable] for field in features),
        np.where(expert == DROP, experts, expert)[routable],
        rewards[routable],
        float(reached.mean()),
    )


def expected_loss(features: Features, expert: npt.NDArray[np.int64]) -> Floats:
    """Return the corrected penalty: the QoS that the requests on the chosen expert are expected to lose, [m].

    Args:
        features: [m, ...]; its analytic impact is that loss over the mean quality.
        expert: Chosen, DROP = none, [m].
    """
    rows = np.arange(len(expert))
    impact = features.expert[rows, np.maximum(expert, 0), _IMPACT]
    scale = np.maximum(features.request[:, _MEAN_QUALITY], _LEAST_MEAN_QUALITY)
    return np.where(expert == DROP, np.float32(0.0), impact * scale)


def paper_penalty(states: RoutingState, expert: npt.NDArray[np.int64]) -> Floats:
    """Return the paper's penalty, [m].

    It is the sum of quality_j over the requests j that run on the chosen expert and for which ::

        l_j + delay_j / D_j > L_j,    delay_j = k1 * p + k2 * sum_{k=1}^{n-1} (p + k),    n = min(D_j - d_j, D)

    l_j is the latency per token so far, D_j and d_j predicted and generated tokens, p and D those of the new request,
    k1 and k2 the expert's seconds per prefill token and per context token (and a share per sequence besides).

    Args:
        states: [m, ...].
        expert: Chosen, DROP = none, [m].
    """
    rows, chosen = np.arange(len(expert)), np.maximum(expert, 0)
    row = states.expert[rows, chosen]
    slots, mask = states.running[rows, chosen], states.running_mask[rows, chosen]  # [m, R]
    prompt = states.request["prompt_tokens"].reshape(-1, 1)
    output = states.candidate["predicted_output_tokens"][rows, chosen][:, np.newaxis]
    total = np.maximum(slots["predicted_output_tokens"], slots["generated_tokens"] + 1.0)
    shared = np.maximum(np.minimum(total - slots["generated_tokens"], output) - 1.0, 0.0)
    delay = row["per_prefill_token_seconds"][:, np.newaxis] * prompt
    delay = delay + row["per_context_token_seconds"][:, np.newaxis] * (shared * prompt + 0.5 * shared * (shared + 1.0))
    delay = delay + row["per_sequence_seconds"][:, np.newaxis] * shared
    objective = slots["ntpot_objective_seconds"]
    late = mask & (objective > 0.0) & (slots["ntpot_seconds"] + delay / total > objective)
    penalty: Floats = np.where(late, slots["predicted_quality"], 0.0).sum(axis=1).astype(np.float32)
    return np.where(expert == DROP, np.float32(0.0), penalty)
