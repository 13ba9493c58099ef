"""Holds every rule's conversations with a picker and judges them."""

import enum
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from google.protobuf.message import Message

from pointsman_operator.conformance import answers
from pointsman_operator.conformance.gateway import Gateway
from pointsman_operator.conformance.rule import (
    AnyRule,
    HealthRule,
    Level,
    NotApplicable,
    Rule,
    Subject,
    Violation,
)
from pointsman_operator.conformance.rules.asking import ask, just
from pointsman_policy.errors import PointsmanError

_LEARNING_PICKS: Final = 24


class Outcome(enum.StrEnum):
    """What came of a rule."""

    PASSED = "pass"
    FAILED = "fail"
    WARNING = "warning"
    ABSENT = "absent"
    SKIPPED = "skipped"


_OUTCOME_OF_VIOLATION: Final = {
    Level.MUST: Outcome.FAILED,
    Level.SHOULD: Outcome.WARNING,
    Level.MAY: Outcome.ABSENT,
}


@dataclass(frozen=True, slots=True)
class Result:
    """One rule, checked."""

    rule: AnyRule
    outcome: Outcome
    reason: str = ""
    """Empty if it passed."""
    message: Message | None = None
    """The message that shows the violation."""
    conversation: tuple[str, ...] = ()
    """The messages of the conversation that broke the rule, one line each; of the last one if there were several."""
    seconds: float = 0.0


class UnsuitableModelError(PointsmanError):
    """The picker refuses requests for the model that the suite was told to ask for."""


async def learn(gateway: Gateway, subject: Subject) -> Subject:
    """Ask once whether the model will do, and learn endpoints from picks unless they are told.

    Raises:
        UnsuitableModelError: If requests for the model are refused as wrong (4xx other than 429).
    """
    (first,) = await gateway.hold(just(ask(subject)))
    refused = answers.refusal(first)
    if refused is not None and refused.immediate_response.status.code in range(400, 429):
        raise UnsuitableModelError(
            f"the picker refuses requests for the model {subject.model!r} with "
            f"{answers.describe_refusal(refused)}; name one that it serves with --model"
        )
    if subject.endpoints_are_told or answers.find_pick(first) is None:
        return subject
    transcripts = await gateway.hold([one for _ in range(_LEARNING_PICKS) for one in just(ask(subject))], abreast=True)
    picks = [answers.find_pick(one) for one in (first, *transcripts)]
    return replace(subject, endpoints=tuple(sorted(_well_formed(pick for pick in picks if pick))))


async def run(
    gateway: Gateway, subject: Subject, rules: Sequence[AnyRule], seen: Callable[[Result], None] = lambda _: None
) -> list[Result]:
    """Check rules one after the other; `seen` takes each result as it comes."""
    results = []
    for rule in rules:
        begun = time.monotonic()
        result = await (_check_health if isinstance(rule, HealthRule) else _check)(gateway, subject, rule)  # type: ignore[arg-type]
        results.append(replace(result, seconds=time.monotonic() - begun))
        seen(results[-1])
    return results


async def _check(gateway: Gateway, subject: Subject, rule: Rule) -> Result:
    try:
        transcripts = await gateway.hold(rule.converse(subject), abreast=rule.abreast)
    except NotApplicable as reason:
        return Result(rule, Outcome.SKIPPED, str(reason))
    try:
        rule.check(transcripts, subject)
    except NotApplicable as reason:
        return Result(rule, Outcome.SKIPPED, str(reason))
    except Violation as violation:
        broken = [one for one in transcripts if violation.message in one.answers] or transcripts
        return _violated(rule, violation, tuple(broken[-1].describe()))
    return Result(rule, Outcome.PASSED)


async def _check_health(gateway: Gateway, _: Subject, rule: HealthRule) -> Result:
    status = await gateway.health(rule.service)
    try:
        rule.check(status)
    except Violation as violation:
        return _violated(rule, violation, (f"-> Check {rule.service!r}", f"<- {status}"))
    return Result(rule, Outcome.PASSED)


def _violated(rule: AnyRule, violation: Violation, conversation: tuple[str, ...]) -> Result:
    return Result(rule, _OUTCOME_OF_VIOLATION[rule.level], violation.reason, violation.message, conversation)


def _well_formed(picks: Iterable[answers.Pick]) -> set[str]:
    found = set()
    for pick in picks:
        for endpoint in pick.endpoints:
            try:
                answers.check_syntax(endpoint, pick.message)
            except Violation:
                continue
            found.add(endpoint)
    return found
