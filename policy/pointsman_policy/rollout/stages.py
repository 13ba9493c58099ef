"""How a version comes into service: waiting, shadow, canary step by step, active; and how it leaves it.

Everything here is a pure function from one state to the next. Clocks jump: a stage that began in the future begins
anew, and time alone never promotes a version, because shadow and canary need decisions and requests too.
"""

from dataclasses import dataclass

from pointsman_policy.rollout.comparison import Comparison
from pointsman_policy.rollout.state import (
    LONGEST_HISTORY,
    PACKAGED,
    Candidate,
    HistoryEntry,
    RolloutError,
    RolloutSettings,
    RolloutState,
    Stage,
    VersionName,
)

SHADOW_DECISIONS = 10
"""Decisions that a candidate must have made in shadow: the proof that routers can run it."""

_ORDER = (Stage.WAITING, Stage.SHADOW, Stage.CANARY, Stage.ACTIVE)
_MOST_WITHDRAWN = 100
_SECONDS_PER_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the candidate's doing."""

    comparison: Comparison
    """Its canary's requests against the others since `Candidate.canary_since`; empty before."""
    shadow_decisions: int = 0
    """Decisions that it made in shadow."""


def offer(state: RolloutState, version: VersionName, *, passed: bool, reason: str, now: float) -> RolloutState:
    """Take a version that comes from a training.

    It takes the place of a candidate that serves no requests yet. While a canary runs it is put off, and one that was
    rejected or rolled back before stays so; either can still be promoted by hand.

    Args:
        state: Where the policy stands.
        version: The version.
        passed: Whether it passed the gate.
        reason: What the gate said, for people.
        now: Unix seconds.
    """
    candidate = state.candidate
    if version.version in state.withdrawn or version in (state.active, candidate and candidate.id):
        return state
    if not passed:
        return _withdraw(state, version.version, Stage.REJECTED, reason, now)
    if candidate is not None and candidate.stage is Stage.CANARY:
        reason = f"put off, because {candidate.id.version} is in canary; promote it by hand if it shall follow"
        return _note(state, version.version, Stage.WAITING, reason, now)
    return _enter(state, Candidate(id=version, stage=Stage.WAITING, since=now), reason, now)


def advance(state: RolloutState, settings: RolloutSettings, evidence: Evidence, now: float) -> RolloutState:
    """Bring the candidate to its next stage, or withdraw it, if it is time; else return the state as it is.

    Args:
        state: Where the policy stands.
        settings: What its RouterPolicy says.
        evidence: What is known of the candidate's doing.
        now: Unix seconds.
    """
    candidate = state.candidate
    if candidate is None:
        return state
    if candidate.stage is Stage.CANARY and (worse := evidence.comparison.worse_by(settings.margin)):
        return roll_back(state, worse, now)
    if now < candidate.since:
        update = {"since": now, "canary_since": min(candidate.canary_since, now)}
        return state.model_copy(update={"candidate": candidate.model_copy(update=update)})
    if waits_for(candidate, settings, evidence, now):
        return state
    stage = _next_stage(candidate, settings)
    return _go_to(state, _moved(candidate, stage, settings, evidence, now), _went_well(candidate), now)


def waits_for(candidate: Candidate, settings: RolloutSettings, evidence: Evidence, now: float) -> str:
    """Return what a candidate's next stage waits for, for people; empty = nothing.

    The text does not change while it waits for the same.
    """
    if settings.manual:
        return "a promotion, because rollout.mode is Manual"
    if candidate.stage is Stage.SHADOW:
        if evidence.shadow_decisions < SHADOW_DECISIONS:
            return f"{SHADOW_DECISIONS} decisions in shadow"
        return _time_left(candidate, settings.shadow_minutes, "in shadow", now)
    if candidate.stage is Stage.CANARY:
        step = f"at {candidate.percent} %"
        if evidence.comparison.requests("canary") - candidate.requests_before < settings.canary_requests:
            return f"{settings.canary_requests} requests {step}"
        if figure := evidence.comparison.seems_worse_by(settings.margin):
            return f"more requests {step}, because {figure} seems lower than the control's"
        return _time_left(candidate, settings.canary_minutes, step, now)
    return ""


def promote(
    state: RolloutState,
    settings: RolloutSettings,
    version: VersionName,
    evidence: Evidence,
    now: float,
    *,
    passed: bool,
    force: bool = False,
    stage: Stage | None = None,
) -> RolloutState:
    """Bring a version to its next stage by hand; one that is not the candidate becomes it, in place of another.

    Args:
        state: Where the policy stands.
        settings: What its RouterPolicy says.
        version: The candidate, or any other version.
        evidence: What is known of the candidate's doing.
        now: Unix seconds.
        passed: Whether the version passed the gate.
        force: Do so although it did not.
        stage: With `force`: shadow, canary or active; None = the next one.

    Raises:
        RolloutError: If it did not pass the gate and is not forced, or is active already, or would go back a stage.
    """
    if version in (PACKAGED, state.active):
        raise RolloutError(f"{version.version or 'the packaged policy'} is no candidate; name another version")
    if not passed and not force:
        raise RolloutError(
            f"{version.version} did not pass the gate; train again, or force it if you know better than the gate"
        )
    if stage is not None and (not force or stage not in _ORDER[1:]):
        raise RolloutError("only a forced promotion names a stage, and it must be shadow, canary or active")
    candidate = state.candidate
    if candidate is None or candidate.id != version:
        candidate = Candidate(id=version, stage=Stage.WAITING, since=now)
    stage = stage or _next_stage(candidate, settings)
    if stage is not Stage.CANARY and _ORDER.index(stage) <= _ORDER.index(candidate.stage):
        raise RolloutError(f"{version.version} is in {candidate.stage.lower()} already; roll it back to begin anew")
    reason = "promoted by hand" if passed else "forced past the gate by hand"
    return _go_to(state, _moved(candidate, stage, settings, evidence, now), reason, now)


def roll_back(state: RolloutState, reason: str, now: float) -> RolloutState:
    """Withdraw the candidate, or, where there is none, go back from the active version to the one before.

    Raises:
        RolloutError: If the packaged policy is active and there is no candidate.
    """
    if state.candidate is not None:
        return _withdraw(state, state.candidate.id.version, Stage.ROLLED_BACK, reason, now)
    if state.active == PACKAGED:
        raise RolloutError("the packaged policy is active and there is no candidate: there is nothing to go back to")
    gone, back = state.active.version, state.earlier[0] if state.earlier else PACKAGED
    update = {"active": back, "active_since": now, "earlier": state.earlier[1:]}
    state = _note(state.model_copy(update=update), back.version, Stage.ACTIVE, f"{gone} is rolled back", now)
    return _withdraw(state, gone, Stage.ROLLED_BACK, reason, now)


def _next_stage(candidate: Candidate, settings: RolloutSettings) -> Stage:
    if candidate.stage is Stage.WAITING and settings.shadow_minutes:
        return Stage.SHADOW
    higher = any(percent > candidate.percent for percent in settings.canary_percents)
    return Stage.CANARY if higher else Stage.ACTIVE


def _moved(
    candidate: Candidate, stage: Stage, settings: RolloutSettings, evidence: Evidence, now: float
) -> Candidate | VersionName:
    """Return a candidate as it enters a stage; where it becomes active, its name alone."""
    if stage is Stage.ACTIVE:
        return candidate.id
    if stage is not Stage.CANARY:
        return candidate.model_copy(update={"stage": stage, "since": now})
    percents = [percent for percent in settings.canary_percents if percent > candidate.percent]
    begun = candidate.stage is Stage.CANARY
    update = {
        "stage": stage,
        "since": now,
        "canary_since": candidate.canary_since if begun else now,
        "percent": percents[0] if percents else 100,
        "requests_before": evidence.comparison.requests("canary") if begun else 0,
    }
    return candidate.model_copy(update=update)


def _go_to(state: RolloutState, moved: Candidate | VersionName, reason: str, now: float) -> RolloutState:
    return _enter(state, moved, reason, now) if isinstance(moved, Candidate) else _activate(state, moved, reason, now)


def _enter(state: RolloutState, candidate: Candidate, reason: str, now: float) -> RolloutState:
    """Make a candidate, as it is now, the policy's candidate."""
    state = _retire_candidate(state, candidate.id, now)
    if candidate.stage is Stage.CANARY:
        reason = f"{candidate.percent} % of requests: {reason}"
    state = state.model_copy(update={"candidate": candidate})
    return _note(state, candidate.id.version, candidate.stage, reason, now)


def _activate(state: RolloutState, version: VersionName, reason: str, now: float) -> RolloutState:
    state = _retire_candidate(state, version, now)
    earlier = tuple(one for one in (state.active, *state.earlier) if one not in (PACKAGED, version))
    update = {
        "active": version,
        "active_since": now,
        "earlier": earlier[:LONGEST_HISTORY],
        "candidate": None,
        "withdrawn": tuple(one for one in state.withdrawn if one != version.version),
    }
    if state.active != PACKAGED:
        state = _note(state, state.active.version, Stage.RETIRED, f"{version.version} takes its place", now)
    return _note(state.model_copy(update=update), version.version, Stage.ACTIVE, reason, now)


def _retire_candidate(state: RolloutState, follower: VersionName, now: float) -> RolloutState:
    """Note that a candidate makes way for another one, if there is one and it does."""
    candidate = state.candidate
    if candidate is None or candidate.id == follower:
        return state
    return _note(state, candidate.id.version, Stage.RETIRED, f"{follower.version} takes its place", now)


def _withdraw(state: RolloutState, version: str, stage: Stage, reason: str, now: float) -> RolloutState:
    candidate = state.candidate
    update = {
        "withdrawn": (version, *(one for one in state.withdrawn if one != version))[:_MOST_WITHDRAWN],
        "candidate": None if candidate is not None and candidate.id.version == version else candidate,
        "earlier": tuple(one for one in state.earlier if one.version != version),
    }
    return _note(state.model_copy(update=update), version, stage, reason, now)


def _note(state: RolloutState, version: str, stage: Stage, reason: str, now: float) -> RolloutState:
    entry = HistoryEntry(at=now, version=version, stage=stage, reason=reason)
    return state.model_copy(update={"history": (entry, *state.history)[:LONGEST_HISTORY]})


def _time_left(candidate: Candidate, minutes: int, where: str, now: float) -> str:
    over = now - candidate.since >= minutes * _SECONDS_PER_MINUTE
    return "" if over else f"{minutes} minutes {where}"


def _went_well(candidate: Candidate) -> str:
    if candidate.stage is Stage.CANARY:
        return f"not worse than the control at {candidate.percent} %"
    return "its decisions in shadow came as they should" if candidate.stage is Stage.SHADOW else "it passed the gate"
