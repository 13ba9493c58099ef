"""The subset of endpoints that a gateway may prescribe with each request."""

from collections.abc import Callable, Sequence
from typing import Final

from pointsman_operator.conformance import answers, messages, names
from pointsman_operator.conformance.conversation import Conversation, Transcript
from pointsman_operator.conformance.rule import AnyRule, Check, Conversations, Level, Rule, Section, Subject, Violation
from pointsman_operator.conformance.rules.asking import ask, ask_without_body, just, only

_REPEATS: Final = 3

Allowed = Callable[[Subject], Sequence[Sequence[str]]]
"""The subsets to try with a picker."""


def _each_alone(subject: Subject) -> Sequence[Sequence[str]]:
    return [[endpoint] for endpoint in subject.some_endpoints(max(2, min(len(subject.endpoints), 4)))]


def _all_but_one(subject: Subject) -> Sequence[Sequence[str]]:
    known = subject.some_endpoints(max(3, len(subject.endpoints)))
    return [[one for one in known if one != left_out] for left_out in known[:4]]


def _with_stranger(subject: Subject) -> Sequence[Sequence[str]]:
    return [[names.STRANGER, endpoint] for endpoint in subject.some_endpoints(2)]


def _ask(allowed: Allowed, hint: Callable[[Sequence[str]], object], *, without_body: bool = False) -> Conversations:
    def converse(subject: Subject) -> Sequence[Conversation]:
        found: list[Conversation] = []
        for subset in allowed(subject):
            for _ in range(_REPEATS):
                metadata = messages.subset_hint(hint(subset))
                turn = ask_without_body(metadata=metadata) if without_body else ask(subject, metadata=metadata)
                found += just(turn)
        return found

    return converse


def _stays_inside(allowed: Allowed) -> Check:
    def check(transcripts: Sequence[Transcript], subject: Subject) -> None:
        subsets = [subset for subset in allowed(subject) for _ in range(_REPEATS)]
        for subset, transcript in zip(subsets, transcripts, strict=False):
            pick = answers.picked(transcript)
            strangers = answers.outside(pick.endpoints, subset)
            if strangers:
                raise Violation(f"with the subset {', '.join(subset)} it picked {pick.value}", pick.message)

    return check


def _ask_with(hint: object) -> Conversations:
    return lambda subject: just(ask(subject, metadata=messages.subset_hint(hint)))


def _ask_other_port(subject: Subject) -> Sequence[Conversation]:
    host = subject.some_endpoints(1)[0].rpartition(":")[0]
    return just(ask(subject, metadata=messages.subset_hint([f"{host}:1"])))


def _ask_without_key(subject: Subject) -> Sequence[Conversation]:
    return just(ask(subject, metadata={names.SUBSET_NAMESPACE: {"x-other": ["a"]}}))


def _unavailable(transcripts: Sequence[Transcript], _: Subject) -> None:
    answers.refused(only(transcripts), 503)


def _is_picked(transcripts: Sequence[Transcript], _: Subject) -> None:
    answers.picked(only(transcripts))


RULES: Final[tuple[AnyRule, ...]] = (
    Rule(
        "subset-of-one",
        Level.MUST,
        Section.SUBSET,
        "A subset of one endpoint is obeyed, fallbacks included.",
        _ask(_each_alone, list),
        _stays_inside(_each_alone),
    ),
    Rule(
        "subset-of-several",
        Level.MUST,
        Section.SUBSET,
        "With all endpoints but one in the subset, that one is not picked, nor listed as a fallback.",
        _ask(_all_but_one, list),
        _stays_inside(_all_but_one),
    ),
    Rule(
        "subset-with-stranger",
        Level.MUST,
        Section.SUBSET,
        "Endpoints of the subset that are not in the pool are passed over.",
        _ask(_with_stranger, list),
        _stays_inside(_with_stranger),
    ),
    Rule(
        "subset-without-body",
        Level.MUST,
        Section.SUBSET,
        "The subset binds requests without a body too.",
        _ask(_each_alone, list, without_body=True),
        _stays_inside(_each_alone),
    ),
    Rule(
        "subset-empty-503",
        Level.MUST,
        Section.SUBSET,
        "An empty subset: ImmediateResponse with status 503.",
        _ask_with([]),
        _unavailable,
    ),
    Rule(
        "subset-of-strangers-503",
        Level.MUST,
        Section.SUBSET,
        "A subset without an eligible endpoint: ImmediateResponse with status 503.",
        _ask_with([names.STRANGER, "[2001:db8::1]:8000"]),
        _unavailable,
    ),
    Rule(
        "subset-port-503",
        Level.MUST,
        Section.SUBSET,
        "The port counts: the right address with another port is not in the pool.",
        _ask_other_port,
        _unavailable,
    ),
    Rule(
        "subset-without-key",
        Level.MUST,
        Section.SUBSET,
        "The namespace without its key `x-gateway-destination-endpoint-subset` restricts nothing.",
        _ask_without_key,
        _is_picked,
    ),
    Rule(
        "subset-as-text",
        Level.SHOULD,
        Section.PRACTICE,
        "A subset written as one text with commas, as header-to-metadata filters make it, is obeyed.",
        _ask(_with_stranger, ", ".join),
        _stays_inside(_with_stranger),
    ),
)
