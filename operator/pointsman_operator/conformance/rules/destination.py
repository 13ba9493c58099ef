"""Where a request goes, said twice and alike; or why it goes nowhere."""

from collections.abc import Callable, Sequence
from typing import Final

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.conformance import answers, messages, names
from pointsman_operator.conformance.answers import Pick
from pointsman_operator.conformance.conversation import Conversation, Transcript
from pointsman_operator.conformance.rule import AnyRule, Level, NotApplicable, Rule, Section, Subject, Violation
from pointsman_operator.conformance.rules.asking import ask, ask_without_body, just, only

_PICKS: Final = 4


def _ask_once(subject: Subject) -> Sequence[Conversation]:
    return just(ask(subject))


def _ask_often(subject: Subject) -> Sequence[Conversation]:
    return [one for _ in range(_PICKS) for one in just(ask(subject))]


def _of_pick(judge: Callable[[Pick], None]) -> Callable[[Sequence[Transcript], Subject], None]:
    def check(transcripts: Sequence[Transcript], _: Subject) -> None:
        for transcript in transcripts:
            judge(answers.picked(transcript))

    return check


def _has_header(pick: Pick) -> None:
    if pick.header is None:
        raise Violation(f"no answer sets the request header {names.DESTINATION}", pick.message)
    kind = pick.message.WhichOneof("response")
    if kind != "request_headers":
        raise Violation(f"{names.DESTINATION} comes with {kind}, when the headers have gone upstream", pick.message)


def _has_metadata(pick: Pick) -> None:
    if pick.metadata is None:
        found = ", ".join(sorted(pick.message.dynamic_metadata.fields)) or "none"
        raise Violation(
            f"no dynamic metadata {names.LOAD_BALANCER_NAMESPACE}/{names.DESTINATION} (namespaces: {found})",
            pick.message,
        )


def _agrees(pick: Pick) -> None:
    if pick.header is None or pick.metadata is None:
        raise NotApplicable("the destination is said in one place only")
    if pick.header != pick.metadata:
        raise Violation(f"the header says {pick.header!r}, the metadata says {pick.metadata!r}", pick.message)


def _is_well_formed(pick: Pick) -> None:
    for value in (pick.header, pick.metadata):
        if value is not None:
            answers.check_syntax(value, pick.message)


def _is_distinct(pick: Pick) -> None:
    if len(set(pick.endpoints)) < len(pick.endpoints):
        raise Violation(f"{pick.value!r} names an endpoint twice, so that a retry meets it again", pick.message)


def _clears_route_cache(pick: Pick) -> None:
    if not answers.common(pick.message).clear_route_cache:
        raise Violation("the pick is without clear_route_cache: true", pick.message)


def _has_fallbacks(pick: Pick) -> None:
    if len(pick.endpoints) < 2:
        raise Violation(f"{pick.value!r} is a single endpoint, without fallbacks", pick.message)


def _is_in_pool(transcripts: Sequence[Transcript], subject: Subject) -> None:
    for transcript in transcripts:
        pick = answers.picked(transcript)
        strangers = answers.outside(pick.endpoints, subject.endpoints)
        if strangers:
            raise Violation(f"{', '.join(strangers)} is not among the endpoints of the pool", pick.message)


def _ask_whole_pool(subject: Subject) -> Sequence[Conversation]:
    if not subject.endpoints_are_told:
        raise NotApplicable("the pool is not known; name its endpoints with --endpoints")
    return _ask_often(subject)


def _ask_with_own_destination(subject: Subject) -> Sequence[Conversation]:
    return just(ask(subject, headers={**messages.CHAT, names.DESTINATION: names.STRANGER}))


def _replaces_clients(transcripts: Sequence[Transcript], _: Subject) -> None:
    pick = answers.picked(only(transcripts))
    if names.STRANGER in pick.endpoints:
        raise Violation(f"the destination {names.STRANGER} that the client wrote was taken over", pick.message)
    option = answers.set_header(answers.common(pick.message).header_mutation, names.DESTINATION)
    if option is not None and option.append.value:
        raise Violation(f"{names.DESTINATION} is appended to what the client wrote", pick.message)


def _ask_empty_model(subject: Subject) -> Sequence[Conversation]:
    if not subject.empty_model:
        raise NotApplicable("no model without ready endpoints is known; name one with --empty-model")
    return just(ask(subject, messages.chat_body(subject.empty_model)))


def _ask_to_shed(subject: Subject) -> Sequence[Conversation]:
    if not subject.sheds:
        raise NotApplicable("nothing is known that it sheds now; see --shed-model and --shed-header")
    body = messages.chat_body(subject.shed_model or subject.model)
    return just(ask(subject, body, headers={**messages.CHAT, **subject.shed_headers}))


def _refused(status: int) -> Callable[[Sequence[Transcript], Subject], None]:
    def check(transcripts: Sequence[Transcript], _: Subject) -> None:
        answers.refused(only(transcripts), status)

    return check


def _tells_reason(transcripts: Sequence[Transcript], _: Subject) -> None:
    answer: pb.ProcessingResponse = answers.refused(only(transcripts))
    if answers.set_header(answer.immediate_response.headers, names.DROPPED_REASON) is None:
        raise Violation(f"the refusal has no header {names.DROPPED_REASON}", answer)


def _ask_without_body(_: Subject) -> Sequence[Conversation]:
    return just(ask_without_body())


RULES: Final[tuple[AnyRule, ...]] = (
    Rule(
        "destination-header",
        Level.MUST,
        Section.DESTINATION,
        "The answer to the request's headers sets `x-gateway-destination-endpoint`.",
        _ask_once,
        _of_pick(_has_header),
    ),
    Rule(
        "destination-metadata",
        Level.MUST,
        Section.DESTINATION,
        "The same key stands in the dynamic metadata, in the namespace `envoy.lb`.",
        _ask_once,
        _of_pick(_has_metadata),
    ),
    Rule(
        "destination-agrees",
        Level.MUST,
        Section.DESTINATION,
        "Header and metadata have the same value.",
        _ask_often,
        _of_pick(_agrees),
    ),
    Rule(
        "destination-syntax",
        Level.MUST,
        Section.DESTINATION,
        "The value is `ip:port`, or several with commas and nothing else between them; IPv6 in brackets.",
        _ask_often,
        _of_pick(_is_well_formed),
    ),
    Rule(
        "destination-in-pool",
        Level.MUST,
        Section.SUBSET,
        "Without a subset, endpoints of the pool are picked, and only these.",
        _ask_whole_pool,
        _is_in_pool,
    ),
    Rule(
        "destination-without-body",
        Level.MUST,
        Section.DESTINATION,
        "A request that ends with its headers gets a destination too.",
        _ask_without_body,
        _of_pick(lambda _: None),
    ),
    Rule(
        "destination-replaces-clients",
        Level.MUST,
        Section.DESTINATION,
        "A destination header that the client wrote is replaced, neither followed nor extended.",
        _ask_with_own_destination,
        _replaces_clients,
    ),
    Rule(
        "destination-distinct",
        Level.SHOULD,
        Section.PRACTICE,
        "The list names no endpoint twice: gateways go down the list to retry.",
        _ask_often,
        _of_pick(_is_distinct),
    ),
    Rule(
        "destination-fallbacks",
        Level.MAY,
        Section.DESTINATION,
        "More than one endpoint is named, for retries.",
        _ask_once,
        _of_pick(_has_fallbacks),
    ),
    Rule(
        "route-cache",
        Level.SHOULD,
        Section.PRACTICE,
        "The pick comes with `clear_route_cache`, or gateways that route by the header do not look again.",
        _ask_once,
        _of_pick(_clears_route_cache),
    ),
    Rule(
        "no-endpoints-503",
        Level.MUST,
        Section.DESTINATION,
        "No ready endpoint: ImmediateResponse with status 503.",
        _ask_empty_model,
        _refused(503),
    ),
    Rule(
        "shed-429",
        Level.MUST,
        Section.DESTINATION,
        "A request to be dropped under load: ImmediateResponse with status 429.",
        _ask_to_shed,
        _refused(429),
    ),
    Rule(
        "shed-reason",
        Level.MAY,
        Section.PRACTICE,
        "Such a refusal says why in the header `x-llm-d-request-dropped-reason`.",
        _ask_to_shed,
        _tells_reason,
    ),
)
