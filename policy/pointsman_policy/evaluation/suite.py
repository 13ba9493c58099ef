"""The suite of `pointsman bench policies`: scenarios that tell rules apart.

A base scenario, families that change one thing of it each, and a few that mix changes. What discriminates is set on
purpose: prompt lengths of a conversation trace, whose prefill hurts the requests beside them; 30 ms per token on small
fleets and 20 ms for long answers; and enough requests for queues to build up and drain.

With a data folder (docs/benchmarks.md says what it holds) arrivals, qualities and speeds are measured ones; without,
the packaged sample and estimated speeds stand in for them.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pointsman_policy.documents import parse
from pointsman_policy.evaluation.materials import Materials
from pointsman_policy.simulator.scenario_document import ScenarioDocument

Family = Literal["arrivals", "fleets", "requests", "telemetry", "beliefs", "changes", "mixed"]
Adversity = Literal["", "stale", "optimistic", "pessimistic", "slow"]
"""stale: old state; optimistic and pessimistic: iteration times believed too short and too long; slow: an expert slows
down, and nobody says so."""
_Changes = dict[str, Any]

SEEDS = (910_001, 910_002, 910_003, 910_004, 910_005)
"""The suite's own: nothing is trained or tuned on workloads of these seeds."""
REQUESTS = 6_000
LOADS = (0.5, 0.9, 1.3)
SERVED_LOADS = (0.5, 0.9)
"""Where every request must be served: above 1 the queues only grow, which the base scenario alone shows."""
FRESH = "fresh"
"""The scenario that stale and misjudged ones are measured against."""
BASE = "poisson"

_DROP, _NEVER = {"mode": "ShedHopeless"}, {"mode": "Never"}
_NTPOT = "normalizedTimePerOutputTokenMilliseconds"
_CLASSES = (
    {"sharePercent": 25, _NTPOT: 20},
    {"sharePercent": 25, _NTPOT: 60},
    {"sharePercent": 20, "timeToFirstTokenMilliseconds": 1_000, "timePerOutputTokenMilliseconds": 25},
)


@dataclass(frozen=True)
class SuiteScenario:
    """A scenario and its place in the suite."""

    family: Family
    document: ScenarioDocument
    long_answers: bool = False
    """Whether the answers are long ones of chats, whose lengths nobody knows beforehand."""
    adverse: Adversity = ""
    """In what way pickers are misled; "" = they are not."""
    reference: str = ""
    """Name of the scenario that shows what the same rule reaches with fresh state and right beliefs."""
    never: bool = False
    """Whether every request must be served."""

    @property
    def name(self) -> str:
        """Its name in reports."""
        return self.document.name


def suite(materials: Materials, requests: int = REQUESTS) -> tuple[SuiteScenario, ...]:
    """Return all scenarios.

    Args:
        materials: From `measured` or `packaged`.
        requests: In each run; fewer than 6,000 are for trying things out.
    """
    builder = _Builder(materials, requests)
    return (
        *_arrivals(builder),
        *_fleets(builder),
        *_requests(builder),
        *_telemetry(builder),
        *_beliefs(builder),
        *_changes(builder),
        *_mixed(builder),
    )


@dataclass(frozen=True)
class _Builder:
    materials: Materials
    requests: int

    def base(self) -> dict[str, Any]:
        materials = self.materials
        return {
            "profiles": materials.profiles,
            "experts": list(materials.trio),
            "arrivals": {"kind": "poisson", "trace": materials.conversation},
            "requests": self.requests,
            "lengths": {"prompt": {"kind": "fromTrace"}},
            "quality": _quality(materials.scores),
            "objectives": {_NTPOT: 30},
            "admission": _DROP,
            "telemetry": {"intervalMilliseconds": 1_000, "delayMilliseconds": 100},
            "loadFactors": list(LOADS),
        }

    def one(self, family: Family, name: str, description: str, changes: _Changes, **place: Any) -> SuiteScenario:
        document = {**copy.deepcopy(self.base()), "name": name, "description": description, **changes}
        never = document["admission"]["mode"] == "Never"
        parsed = parse(ScenarioDocument, document, f"the suite's scenario {name}")
        return SuiteScenario(family, parsed, never=never, **place)

    def both(
        self, family: Family, name: str, description: str, changes: _Changes, **place: Any
    ) -> tuple[SuiteScenario, SuiteScenario]:
        """Return a scenario where requests may be shed and its twin where all must be served."""
        served = {**changes, "admission": _NEVER, "loadFactors": list(SERVED_LOADS)}
        return (
            self.one(family, name, description, changes, **place),
            self.one(family, f"{name}, never drop", f"{description} All must be served.", served, **place),
        )


def _quality(scores: Mapping[str, str]) -> dict[str, Any]:
    return {**scores, "predictor": {"kind": "fitted"}}


def _arrivals(builder: _Builder) -> tuple[SuiteScenario, ...]:
    materials = builder.materials
    conversation, code = materials.conversation, materials.code
    bursty = {"kind": "bursty", "coefficientOfVariation": 3, "trace": conversation}
    diurnal = {"kind": "diurnal", "coefficientOfVariation": 1.5, "trace": conversation, **materials.rates}
    code_lengths = {"prompt": {"kind": "lognormal", "meanTokens": 1_200, "coefficientOfVariation": 1.0}}
    base = "Three unlike experts, steady arrivals, prompt lengths of the conversation trace, 30 ms per token (NTPOT)."
    return (
        builder.one("arrivals", BASE, base, {}, adverse="stale", reference=FRESH),
        builder.one("arrivals", f"{BASE}, never drop", f"{base} All must be served.", {"admission": _NEVER}),
        *builder.both("arrivals", "bursty", "Gaps with a coefficient of variation of 3.", {"arrivals": bursty}),
        *builder.both(
            "arrivals",
            "conversation trace",
            "Arrivals and prompt lengths of the conversation trace.",
            {"arrivals": {"kind": "trace", "trace": conversation}},
        ),
        *builder.both(
            "arrivals",
            "code trace",
            "Arrivals of the code trace, in extreme bursts; log-normal prompts of 1,200 tokens.",
            {"arrivals": {"kind": "trace", "trace": code}, "lengths": code_lengths},
        ),
        *builder.both("arrivals", "diurnal", "One day's rates, compressed into the run.", {"arrivals": diurnal}),
    )


def _fleets(builder: _Builder) -> tuple[SuiteScenario, ...]:
    six = list(builder.materials.six)
    twelve = [{**expert, "replicas": 2} for expert in six]
    return (
        *builder.both("fleets", "six experts", "Six experts.", {"experts": six}),
        *builder.both("fleets", "twelve experts", "Two of each of the six experts.", {"experts": twelve}),
        *builder.both(
            "fleets", "unlike GPUs", "The same model on different GPUs.", {"experts": list(builder.materials.unlike)}
        ),
    )


def _requests(builder: _Builder) -> tuple[SuiteScenario, ...]:
    materials = builder.materials
    chat = {
        "experts": list(materials.chat),
        "quality": _quality(materials.chat_scores),
        "lengths": {"prompt": {"kind": "fromTrace"}, "output": {"kind": "fromTrace"}},
    }
    long = {
        "objectives": {_NTPOT: 20},
        "lengths": {
            "prompt": {"kind": "fromTrace"},
            "output": {"kind": "lognormal", "meanTokens": 450, "coefficientOfVariation": 0.6},
        },
    }
    return (
        *builder.both(
            "requests", "objectives of their own", "Four kinds of targets.", {"objectiveClasses": list(_CLASSES)}
        ),
        *builder.both("requests", "chat", "Lengths of the conversation trace.", chat, long_answers=True),
        *builder.both("requests", "long answers", "450 tokens on average, 20 ms per token.", long, long_answers=True),
    )


def _telemetry(builder: _Builder) -> tuple[SuiteScenario, ...]:
    fresh = {"telemetry": {"intervalMilliseconds": 0}}
    bursty = {"kind": "bursty", "coefficientOfVariation": 3, "trace": builder.materials.conversation}
    stale = {"telemetry": {"intervalMilliseconds": 5_000, "delayMilliseconds": 2_500}}
    return (
        builder.one("telemetry", FRESH, "Exact load samples at every decision.", fresh),
        builder.one(
            "telemetry",
            "stale 5 s",
            "Load samples are 2.5 to 7.5 s old.",
            stale,
            adverse="stale",
            reference=FRESH,
        ),
        builder.one("telemetry", "bursty, fresh", "Bursts and exact load samples.", {**fresh, "arrivals": bursty}),
        builder.one(
            "telemetry",
            "bursty, stale 5 s",
            "The same with bursts.",
            {**stale, "arrivals": bursty},
            adverse="stale",
            reference="bursty, fresh",
        ),
    )


def _beliefs(builder: _Builder) -> tuple[SuiteScenario, ...]:
    return (
        builder.one(
            "beliefs",
            "belief x0.7",
            "Iteration times believed 30 % too short.",
            {"beliefScalePercent": 70},
            adverse="optimistic",
            reference=FRESH,
        ),
        builder.one(
            "beliefs",
            "belief x1.3",
            "Iteration times believed 30 % too long.",
            {"beliefScalePercent": 130},
            adverse="pessimistic",
            reference=FRESH,
        ),
    )


def _changes(builder: _Builder) -> tuple[SuiteScenario, ...]:
    lost = [{"atPercent": 40, "expert": "middle", "kind": "lost"}]
    added = [{"atPercent": 40, "expert": "large", "kind": "added"}]
    slower = [{"atPercent": 30, "expert": "middle", "kind": "pace", "iterationTimePercent": 200}]
    return (
        builder.one("changes", "expert lost", "The middle one goes, and its requests with it.", {"changes": lost}),
        builder.one("changes", "expert added", "The large one comes during the run.", {"changes": added}),
        *builder.both(
            "changes",
            "slow-down",
            "The middle one takes twice its time from 30 % of the run on; nobody says so.",
            {"changes": slower},
            adverse="slow",
        ),
    )


def _mixed(builder: _Builder) -> tuple[SuiteScenario, ...]:
    conversation, six = builder.materials.conversation, list(builder.materials.six)
    trace = {"kind": "trace", "trace": conversation}
    bursty = {"kind": "bursty", "coefficientOfVariation": 3, "trace": conversation}
    changes = [
        {"atPercent": 30, "expert": "large-0", "kind": "lost"},
        {"atPercent": 50, "expert": "small-1", "kind": "pace", "iterationTimePercent": 250},
        {"atPercent": 60, "expert": "large-0", "kind": "added"},
    ]
    old = {
        "telemetry": {"intervalMilliseconds": 5_000, "delayMilliseconds": 500},
        "outcomes": {"delayMilliseconds": 1_000, "progressMilliseconds": 5_000},
    }
    sheddable = {"mode": "ShedSheddable", "sheddablePercent": 30}
    return (
        builder.one(
            "mixed",
            "everything late",
            "Bursts; load samples and progress every 5 s, ends of answers 1 s late, beliefs 30 % too short.",
            {**old, "arrivals": bursty, "beliefScalePercent": 70},
        ),
        builder.one(
            "mixed",
            "six, some sheddable",
            "Six experts, the conversation trace, kinds of targets; 30 % of the requests may be shed.",
            {"experts": six, "arrivals": trace, "objectiveClasses": list(_CLASSES), "admission": sheddable},
        ),
        builder.one(
            "mixed",
            "twelve, one gone for a while",
            "Bursts on twelve experts; a large one is away from 30 % to 60 % of the run, a small one slows down.",
            {"experts": [{**expert, "replicas": 2} for expert in six], "arrivals": bursty, "changes": changes},
        ),
    )
