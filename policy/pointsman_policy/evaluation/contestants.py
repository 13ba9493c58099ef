"""Who runs in `pointsman bench policies`, and what each of them is told of the requests."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pointsman_policy.pickers import impact_greedy
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.scenario import Scenario
from pointsman_policy.simulator.scenario_document import PredictorDocument
from pointsman_policy.simulator.simulation import Visibility
from pointsman_policy.simulator.situation import Situation, situation_from_scenario

Role = Literal["subject", "peer", "other", "constant", "reference", "ablation"]
"""subject: a policy of this project; peer: another project's rule that it must beat; other: a rule for comparison;
constant: a subject whose parameters do not follow the load; reference: a subject that knows more than it can;
ablation: a subject without one of its parts."""
Knowledge = Literal["predicted", "true lengths", "clairvoyant", "model means", "snapshots"]
"""predicted: what the scenario's predictor says; true lengths: also the true answer lengths; clairvoyant: also the true
qualities, exact beliefs and fresh state; model means: only each model's mean quality and length; snapshots: the state
as it was when the last load sample came, not moved on by dead reckoning."""

PEERS = ("StaticPrior", "WeightedScore", "SloFilteredQuality", "QualityFirst", "PowerOfTwo")
SUBJECTS = ("HanActor", "ImpactGreedy")
"""Best first: the targets are those of the first one that is there."""
CONSTANT = "ImpactGreedy, constant"
"""ImpactGreedy whose parameters do not follow the load."""
_VARIANTS: tuple[tuple[str, Role, Knowledge], ...] = (
    ("true lengths", "reference", "true lengths"),
    ("clairvoyant", "reference", "clairvoyant"),
    ("no predictor", "ablation", "model means"),
    ("no dead reckoning", "ablation", "snapshots"),
)
"""Of the first subject: how they are called, their role and their knowledge."""
_FRESH = Visibility(telemetry_interval=0.0, telemetry_delay=0.0, outcome_delay=0.0, progress_interval=0.0)


@dataclass(frozen=True)
class Contestant:
    """A picker with its role and its knowledge."""

    name: str
    picker: Picker
    role: Role
    knowledge: Knowledge = "predicted"
    of: str = ""
    """The subject that a reference, an ablation or a constant rule belongs to; the rule that was tuned."""


def line_up(
    tuned: Mapping[str, Sequence[float]] | None = None, trained: Mapping[str, Picker] | None = None
) -> tuple[Contestant, ...]:
    """Return everyone who runs, the first subject first.

    Args:
        tuned: Parameters from a search, by name: of peers, which run beside the defaults, and of `CONSTANT`, whose
            they become.
        trained: Further policies by name. One with a subject's name takes its place; the others count as ablations of
            the first subject.
    """
    tuned, trained = tuned or {}, trained or {}
    pickers = {**PICKERS, **{name: picker for name, picker in trained.items() if name in SUBJECTS}}
    subjects = [name for name in SUBJECTS if name in pickers]
    first = subjects[0]
    contestants = [Contestant(name, pickers[name], "subject") for name in subjects]
    contestants += [Contestant(name, pickers[name], "peer") for name in PEERS]
    for name in PEERS:
        if name in tuned:
            picker = dataclasses.replace(pickers[name], parameters=tuple(tuned[name]))
            contestants.append(Contestant(f"{name} (tuned)", picker, "peer", of=name))
    contestants.append(_constant(pickers["ImpactGreedy"], tuned.get(CONSTANT)))
    known = {*subjects, *PEERS}
    contestants += [Contestant(name, pickers[name], "other") for name in pickers if name not in known]
    for suffix, role, knowledge in _VARIANTS:
        contestants.append(Contestant(f"{first}, {suffix}", pickers[first], role, knowledge, first))
    contestants += [
        Contestant(name, picker, "ablation", of=first) for name, picker in trained.items() if name not in SUBJECTS
    ]
    return tuple(contestants)


def _constant(picker: Picker, parameters: Sequence[float] | None) -> Contestant:
    """Return ImpactGreedy with parameters that are the same at every load; default: its tables' middle row."""
    if parameters is None:
        rows = np.reshape(picker.parameters, (2, -1, len(impact_greedy.COLUMNS)))
        parameters = rows[:, rows.shape[1] // 2].ravel().tolist()
    constant = dataclasses.replace(picker, parameters=tuple(parameters))
    return Contestant(CONSTANT, constant, "constant", of=picker.name)


def situation_for(contestant: Contestant, scenario: Scenario, load: float, seed: int) -> Situation:
    """Draw a run of a scenario as a contestant gets to know it; what happens is the same for all."""
    if contestant.knowledge == "model means":
        quality = scenario.document.quality.model_copy(update={"predictor": PredictorDocument(kind="modelMean")})
        document = scenario.document.model_copy(update={"quality": quality})
        return situation_from_scenario(dataclasses.replace(scenario, document=document), load, seed)
    situation = situation_from_scenario(scenario, load, seed)
    if contestant.knowledge == "predicted":
        return situation
    if contestant.knowledge == "snapshots":
        visibility = dataclasses.replace(situation.visibility, dead_reckoning=False)
        return dataclasses.replace(situation, visibility=visibility)
    requests = situation.requests._replace(predicted_output_tokens=situation.requests.output_tokens.astype(np.float32))
    if contestant.knowledge == "true lengths":
        return dataclasses.replace(situation, requests=requests)
    return dataclasses.replace(
        situation,
        requests=requests._replace(predicted_quality=situation.quality.astype(np.float32)),
        fleet=dataclasses.replace(situation.fleet, believed_coefficients=situation.fleet.coefficients),
        visibility=_FRESH,
    )
