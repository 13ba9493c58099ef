"""Every rule is broken by a picker that has one fault, and by no other fault."""

from collections.abc import Mapping

import pytest
from tests.unit.conformance.picker import POOL, serving

from pointsman_operator.conformance.gateway import Gateway
from pointsman_operator.conformance.rule import Subject
from pointsman_operator.conformance.running import Outcome, Result, learn, run
from pointsman_operator.conformance.table import RULES

TIMEOUT_SECONDS = 2.0
SUBJECT = Subject(model="chat", shed_model="busy", empty_model="empty", timeout_seconds=TIMEOUT_SECONDS)
TOLD = Subject(
    model="chat",
    shed_model="busy",
    empty_model="empty",
    timeout_seconds=TIMEOUT_SECONDS,
    endpoints=POOL,
    endpoints_are_told=True,
)


async def judge(*faults: str, subject: Subject = SUBJECT) -> Mapping[str, Result]:
    async with serving(*faults) as target, Gateway(target, TIMEOUT_SECONDS) as gateway:
        learned = await learn(gateway, subject)
        return {result.rule.id: result for result in await run(gateway, learned, RULES)}


def broken(results: Mapping[str, Result]) -> dict[str, str]:
    fine = (Outcome.PASSED, Outcome.SKIPPED)
    return {id_: result.reason for id_, result in results.items() if result.outcome not in fine}


async def test_a_picker_without_faults_breaks_no_rule() -> None:
    results = await judge("shows served", subject=TOLD)
    assert broken(results) == {}
    assert [id_ for id_, result in results.items() if result.outcome is Outcome.SKIPPED] == []


FAULTS: dict[str, dict[str, str]] = {
    "is not ready": {
        "health-readiness": "expected SERVING, got NOT_SERVING",
        "health-ext-proc": "expected SERVING, got NOT_SERVING",
    },
    "one health service": {
        "health-liveness": "expected SERVING, got NOT_FOUND",
        "health-readiness": "expected SERVING, got NOT_FOUND",
        "health-ext-proc": "expected SERVING, got NOT_FOUND",
        "health-old-name": "expected SERVING, got NOT_FOUND",
    },
    "is not ready as a whole": {"health-overall": "expected SERVING, got NOT_SERVING"},
    "any service is healthy": {"health-unknown": "expected NOT_FOUND, got SERVING"},
    "no header": {"destination-header": "no answer sets the request header x-gateway-destination-endpoint"},
    "no metadata": {
        "destination-metadata": "no dynamic metadata envoy.lb/x-gateway-destination-endpoint (namespaces: none)"
    },
    "another namespace": {
        "destination-metadata": "no dynamic metadata envoy.lb/x-gateway-destination-endpoint (namespaces: envoy)"
    },
    "tells two values": {"destination-agrees": "the metadata says"},
    "host names": {
        "destination-syntax": "'pod-0:8000' has no literal IPv4 address and no IPv6 address in brackets",
    },
    "a single endpoint": {"destination-fallbacks": "is a single endpoint, without fallbacks"},
    "names one twice": {"destination-distinct": "names an endpoint twice"},
    "silent without a body": {
        "destination-without-body": "an answer to the request's headers did not come in time",
        "subset-without-body": "an answer to the request's headers did not come in time",
    },
    "follows the client": {"destination-replaces-clients": "192.0.2.1:8000 that the client wrote was taken over"},
    "appends the header": {"destination-replaces-clients": "is appended to what the client wrote"},
    "keeps the route": {"route-cache": "without clear_route_cache"},
    "500 without endpoints": {
        "no-endpoints-503": "expected an ImmediateResponse with status 503, got an ImmediateResponse with status 500",
        "subset-empty-503": "status 500",
        "subset-of-strangers-503": "status 500",
        "subset-port-503": "status 500",
    },
    "503 when shedding": {"shed-429": "expected an ImmediateResponse with status 429, got"},
    "sheds without a reason": {"shed-reason": "the refusal has no header x-llm-d-request-dropped-reason"},
    "fallbacks outside the subset": {
        "subset-of-one": "with the subset 10.0.0.1:8000 it picked 10.0.0.1:8000,10.0.0.2:8000,[fd00::3]:8000",
        "subset-of-several": "with the subset",
        "subset-with-stranger": "with the subset",
        "subset-without-body": "with the subset",
        "subset-as-text": "with the subset",
    },
    "empty subset means all": {"subset-empty-503": "expected an ImmediateResponse with status 503, got the pick"},
    "subset by address": {"subset-port-503": "expected an ImmediateResponse with status 503, got the pick"},
    "no subset without a body": {"subset-without-body": "with the subset 10.0.0.1:8000 it picked"},
    "no key means none": {"subset-without-key": "expected a pick, got an ImmediateResponse with status 503"},
    "no subset as text": {"subset-as-text": "with the subset 192.0.2.1:8000, 10.0.0.1:8000 it picked"},
    "bodies first": {"request-order": "answers came as request_body, request_headers; headers must be answered first"},
    "keeps the body": dict.fromkeys(
        (
            "request-body",
            "request-end",
            "request-in-bytes",
            "request-large",
            "request-bytes",
            "request-empty-last-chunk",
            "request-trailers",
            "mode-untold",
            "streams-interleaved",
            "stream-stalled",
        ),
        "the answer to the body has no streamed_response, so the body would be lost",
    ),
    "ends with every piece": {"request-end": "piece 1 of 4 has end_of_stream, but more follow"},
    "never ends": {"request-end": "none of 4 pieces has end_of_stream, so the request would never end"},
    "reads pieces as text": {"request-in-bytes": "the request came back changed"},
    "forgets after 512 KiB": {"request-large": "524288 came; at byte 524288"},
    "one piece": {"request-piece-size": "more than 65536"},
    "encodes anew": {"request-bytes": "came back with other bytes"},
    "encodes anew + the old length": {
        "request-bytes": "came back with other bytes",
        "request-length": "content-length is set to",
    },
    "passes over empty pieces": {
        "request-empty-last-chunk": "expected a pick, but an answer to the headers and all of",
        "unreadable-answered": "an empty body: expected a pick or an ImmediateResponse, but an answer to the headers",
    },
    "silent on request trailers": {"request-trailers": "an answer to the request's trailers did not come in time"},
    "wants protocol_config": {"mode-untold": "expected a pick, but the stream failed with INTERNAL no protocol_config"},
    "wants to know who served": dict.fromkeys(
        (rule.id for rule in RULES if rule.id.startswith("response-")),
        "expected an answer to the response, but the stream failed with INTERNAL who served?",
    ),
    "streams only": {"mode-buffered": "expected a pick, but an answer to the request's headers did not come in time"},
    "answers twice": {"response-order": "headers must be answered first and once"},
    "breaks on served": {
        "served-taken": "expected an answer to the response, but the stream failed with INTERNAL unexpected metadata",
        "served-by-stranger": "but the stream failed with INTERNAL",
        "served-shown": "but the stream failed with INTERNAL",
    },
    "trims answers": {"response-events": "the event stream came back changed"},
    "ends answers twice": {"response-end": "has end_of_stream, but more follow"},
    "reads answers as text": {
        "response-events": "the event stream came back changed",
        "response-compressed": "the compressed response came back changed",
    },
    "returns the last piece": {
        "response-body": "the response came back changed: 155 bytes were sent, 1 came",
        "response-large": "the response came back changed",
    },
    "forgets answers after 512 KiB": {"response-large": "524288 came; at byte 524288"},
    "silent on empty responses": {"response-without-body": "an answer to the response's headers did not come in time"},
    "holds events": {"response-events-at-once": "0 of 20 events came back at once; but an answer to a piece"},
    "refuses errors": {
        "response-error": "expected an answer to the response, got an ImmediateResponse with status 502"
    },
    "silent on response trailers": {"response-trailers": "an answer to the response's trailers did not come in time"},
    "breaks on bad bodies": {"unreadable-answered": "a body that is not JSON: expected a pick or an ImmediateResponse"},
    "500 on bad bodies": {"unreadable-4xx": "a body that is not JSON: expected status 4xx"},
    "500 on unknown models": {"unknown-model-4xx": "an unknown model: expected status 4xx"},
    "goes on after a refusal": {"refusal-last": "after the ImmediateResponse came request_body"},
    "sends on what it refuses": {"refusal-alone": "the request is refused, and sent to 10.0.0.1:8000"},
    "one buffer for all": {
        "streams-interleaved": "expected a pick, got an ImmediateResponse with status 400",
        "stream-stalled": "expected a pick, got an ImmediateResponse with status 400",
    },
    "remembers who left": {"streams-abandoned": "expected a pick, got an ImmediateResponse with status 503"},
    "errs without messages": {"stream-without-messages": "expected status OK, but the stream failed with UNKNOWN"},
    "picks without headers": {"body-before-headers": "for a request whose headers never came"},
    "knows every field": {"unknown-fields": "expected a pick, but the stream failed with INTERNAL unknown field"},
    "wants metadata that it knows": {"unknown-metadata": "the stream failed with INTERNAL unknown namespace"},
    "wants a method": {"headers-none": "a request without headers: expected a pick or an ImmediateResponse, but"},
    "reads raw_value only": {"headers-in-value": "expected a pick, but the stream failed with INTERNAL no path"},
    "wants UTF-8": {"headers-as-bytes": "expected a pick, but the stream failed with INTERNAL"},
    "heeds case": {"headers-in-capitals": "expected a pick, but the stream failed with INTERNAL no path"},
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_breaks_its_rules_and_no_others_for_the_reason_that_it_is(fault: str) -> None:
    found = broken(await judge(*fault.split(" + "), "shows served"))
    expected = FAULTS[fault]
    assert found.keys() == expected.keys(), found
    for id_, reason in expected.items():
        assert reason in found[id_]


async def test_a_pick_outside_the_pool_is_seen_where_the_pool_is_told() -> None:
    found = broken(await judge("a pod that has gone", "shows served", subject=TOLD))
    assert found == {
        "destination-in-pool": "10.9.9.9:8000 is not among the endpoints of the pool",
        "destination-fallbacks": "'10.9.9.9:8000' is a single endpoint, without fallbacks",
    }


async def test_a_picker_that_leaves_after_its_pick_is_not_judged_by_the_response() -> None:
    results = await judge("leaves after its pick")
    assert broken(results) == {}
    skipped = {id_: result.reason for id_, result in results.items() if result.outcome is Outcome.SKIPPED}
    assert skipped["response-body"] == ("the picker ends the stream after its pick, so the response never reaches it")
    assert {id_ for id_ in skipped if id_.startswith(("response", "served"))} == {
        rule.id for rule in RULES if rule.id.startswith(("response", "served"))
    }


async def test_what_is_not_known_of_a_picker_is_skipped_with_the_option_that_would_tell() -> None:
    results = await judge("shows served", subject=Subject(model="chat", timeout_seconds=TIMEOUT_SECONDS))
    skipped = {id_: result.reason for id_, result in results.items() if result.outcome is Outcome.SKIPPED}
    assert {id_: reason.rpartition("--")[2] for id_, reason in skipped.items()} == {
        "destination-in-pool": "endpoints",
        "no-endpoints-503": "empty-model",
        "shed-429": "shed-header",
        "shed-reason": "shed-header",
    }


async def test_every_rule_has_a_fault_that_breaks_it() -> None:
    broken_somewhere = {id_ for rules in FAULTS.values() for id_ in rules}
    assert {rule.id for rule in RULES} - broken_somewhere == {"destination-in-pool"}
