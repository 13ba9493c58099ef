"""Reads transcripts: the pick, refusals, the bodies that came back."""

import ipaddress
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import grpc

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.conformance import names
from pointsman_operator.conformance.conversation import Transcript
from pointsman_operator.conformance.rule import NotApplicable, Violation

_SHOWN_BYTES = 120


@dataclass(frozen=True, slots=True)
class Pick:
    """Where a picker sends a request, as it says in two places; None = not said there."""

    header: str | None
    metadata: str | None
    message: pb.ProcessingResponse
    """The answer that says so."""

    @property
    def value(self) -> str:
        """Either of the two."""
        return self.header if self.header is not None else self.metadata or ""

    @property
    def endpoints(self) -> list[str]:
        """The list, first choice first."""
        return self.value.split(",")


def kinds(transcript: Transcript) -> list[str]:
    """Return the kinds of the answers in order."""
    return [answer.WhichOneof("response") or "an answer without content" for answer in transcript.answers]


def of_kind(transcript: Transcript, kind: str) -> list[pb.ProcessingResponse]:
    """Return the answers of one kind."""
    return [answer for answer in transcript.answers if answer.WhichOneof("response") == kind]


def refusal(transcript: Transcript) -> pb.ProcessingResponse | None:
    """Return the answer that ends the request with an error or a local reply."""
    return next(iter(of_kind(transcript, "immediate_response")), None)


def common(answer: pb.ProcessingResponse) -> pb.CommonResponse:
    """Return what answers to headers and bodies share; empty for the other kinds."""
    kind = answer.WhichOneof("response")
    if kind in ("request_headers", "response_headers", "request_body", "response_body"):
        part: pb.HeadersResponse | pb.BodyResponse = getattr(answer, kind)
        return part.response
    return pb.CommonResponse()


def set_header(mutation: pb.HeaderMutation, name: str) -> pb.HeaderValueOption | None:
    """Return the last setting of a header, whatever the case of its name."""
    found = [option for option in mutation.set_headers if option.header.key.lower() == name]
    return found[-1] if found else None


def header_text(option: pb.HeaderValueOption) -> str:
    """Return a header's value, from whichever field holds it."""
    return option.header.raw_value.decode("utf-8", "replace") or option.header.value


def find_pick(transcript: Transcript) -> Pick | None:
    """Return what the answers to the request say of its destination; None = nothing."""
    header = metadata = None
    told: pb.ProcessingResponse | None = None
    for answer in transcript.answers:
        if answer.WhichOneof("response") not in ("request_headers", "request_body"):
            continue
        option = set_header(common(answer).header_mutation, names.DESTINATION)
        if option is not None:
            header, told = header_text(option), answer
        value = _metadata(answer)
        if value is not None:
            metadata, told = value, told or answer
    return Pick(header, metadata, told) if told is not None else None


def picked(transcript: Transcript) -> Pick:
    """Return the pick. Raises: Violation if there is none."""
    pick = find_pick(transcript)
    if pick is not None:
        return pick
    refused = refusal(transcript)
    if refused is not None:
        raise Violation(f"expected a pick, got {describe_refusal(refused)}", refused)
    if transcript.answers:
        raise Violation(
            f"the answers ({', '.join(dict.fromkeys(kinds(transcript)))}) name no destination", transcript.answers[0]
        )
    raise Violation(f"expected a pick, {describe_end(transcript)}")


def refused(transcript: Transcript, *statuses: int) -> pb.ProcessingResponse:
    """Return the ImmediateResponse; it must have one of the statuses, if any are given. Raises: Violation."""
    wanted = f"an ImmediateResponse with status {' or '.join(map(str, statuses))}" if statuses else "an error"
    answer = refusal(transcript)
    if answer is None:
        pick = find_pick(transcript)
        if pick is not None:
            raise Violation(f"expected {wanted}, got the pick {pick.value!r}", pick.message)
        raise Violation(f"expected {wanted}, {describe_end(transcript)}", next(iter(transcript.answers), None))
    if statuses and answer.immediate_response.status.code not in statuses:
        raise Violation(f"expected {wanted}, got {describe_refusal(answer)}", answer)
    return answer


def picked_or_refused(transcript: Transcript, what: str) -> None:
    """Demand a pick or an ImmediateResponse with an error. Raises: Violation."""
    answer = refusal(transcript)
    if answer is not None and answer.immediate_response.status.code < 400:
        raise Violation(f"{what}: expected a pick or an error, got {describe_refusal(answer)}", answer)
    if answer is None and find_pick(transcript) is None:
        raise Violation(f"{what}: expected a pick or an ImmediateResponse, {describe_end(transcript)}")


def describe_refusal(answer: pb.ProcessingResponse) -> str:
    """Return status and beginning of the body of an ImmediateResponse."""
    immediate = answer.immediate_response
    text = immediate.body[:_SHOWN_BYTES].decode("utf-8", "replace")
    return f"an ImmediateResponse with status {immediate.status.code}" + (f" ({text})" if text else "")


def describe_end(transcript: Transcript) -> str:
    """Return why there is no more: the picker ended the stream, or let the gateway wait."""
    if transcript.status is not None and transcript.status is not grpc.StatusCode.OK:
        return f"but the stream failed with {transcript.status.name} {transcript.details}".rstrip()
    if transcript.missed:
        return f"but {transcript.missed} did not come in time"
    if transcript.status is grpc.StatusCode.OK:
        return "but the picker ended the stream"
    return "but it did not come"


def check_syntax(value: str, message: pb.ProcessingResponse) -> None:
    """Demand "ip:port[,ip:port...]" with literal addresses. Raises: Violation."""
    for endpoint in value.split(","):
        problem = _endpoint_problem(endpoint)
        if problem:
            raise Violation(f"{value!r} is no list of ip:port: {endpoint!r} {problem}", message)


def stayed(transcript: Transcript) -> None:
    """Demand that the picker picked and took part in the response. Raises: Violation, NotApplicable."""
    picked(transcript)
    left = transcript.status is grpc.StatusCode.OK and not transcript.missed
    if left and not _response_answers(transcript) and refusal(transcript) is None:
        raise NotApplicable("the picker ends the stream after its pick, so the response never reaches it")
    refused = refusal(transcript)
    if refused is not None:
        raise Violation(f"expected an answer to the response, got {describe_refusal(refused)}", refused)
    if transcript.status not in (None, grpc.StatusCode.OK):
        raise Violation(f"expected an answer to the response, {describe_end(transcript)}")


def streamed(transcript: Transcript, leg: str) -> bytes:
    """Return the body that came back on one leg ("request" or "response"). Raises: Violation if none did."""
    pieces = pieces_of(transcript, leg)
    if not pieces:
        answers = of_kind(transcript, f"{leg}_body")
        if answers:
            raise Violation("the answer to the body has no streamed_response, so the body would be lost", answers[0])
        raise Violation(f"expected the body of the {leg} back, {describe_end(transcript)}")
    return b"".join(piece.body for piece in pieces)


def pieces_of(transcript: Transcript, leg: str) -> list[pb.StreamedBodyResponse]:
    """Return the pieces of body that came back on one leg."""
    mutations = [common(answer).body_mutation for answer in of_kind(transcript, f"{leg}_body")]
    return [one.streamed_response for one in mutations if one.WhichOneof("mutation") == "streamed_response"]


def same_body(sent: bytes, returned: bytes, what: str) -> None:
    """Demand that a body came back; JSON may be written anew and name another model. Raises: Violation."""
    if sent != returned and _without_model(sent) != _without_model(returned):
        raise Violation(f"{what} came back changed: {_difference(sent, returned)}")


def same_bytes(sent: bytes, returned: bytes, what: str) -> None:
    """Demand that a body came back byte for byte; only the model's name may differ. Raises: Violation."""
    if _with_model_of(sent, returned) != returned:
        raise Violation(f"{what} came back with other bytes: {_difference(sent, returned)}")


def in_order(transcript: Transcript, leg: str) -> None:
    """Demand headers, once, then bodies, then at most one for trailers. Raises: Violation."""
    told = [kind for kind in kinds(transcript) if kind.startswith(leg)]
    bodies = told.count(f"{leg}_body")
    trailers = told.count(f"{leg}_trailers")
    wanted = [f"{leg}_headers", *[f"{leg}_body"] * bodies, *[f"{leg}_trailers"] * min(trailers, 1)]
    if told != wanted:
        raise Violation(
            f"answers came as {', '.join(_runs(told)) or 'none'}; headers must be answered first and once, "
            "trailers last"
        )


def ended_once(transcript: Transcript, leg: str) -> None:
    """Demand that the last piece of the body, and only it, ends the stream. Raises: Violation."""
    pieces = pieces_of(transcript, leg)
    if not pieces:
        streamed(transcript, leg)
    ends = [piece.end_of_stream for piece in pieces]
    if not any(ends):
        raise Violation(f"none of {len(ends)} pieces has end_of_stream, so the {leg} would never end", pieces[-1])
    first = ends.index(True)
    if first != len(ends) - 1:
        raise Violation(f"piece {first + 1} of {len(ends)} has end_of_stream, but more follow", pieces[first])


def outside(endpoints: Iterable[str], allowed: Sequence[str]) -> list[str]:
    """Return the endpoints that are not allowed."""
    return [endpoint for endpoint in endpoints if endpoint not in allowed]


def _metadata(answer: pb.ProcessingResponse) -> str | None:
    namespaces = answer.dynamic_metadata.fields
    if names.LOAD_BALANCER_NAMESPACE not in namespaces:
        return None
    fields = namespaces[names.LOAD_BALANCER_NAMESPACE].struct_value.fields
    return fields[names.DESTINATION].string_value if names.DESTINATION in fields else None


def _endpoint_problem(endpoint: str) -> str:
    host, separator, port = endpoint.rpartition(":")
    if not separator:
        return "has no port"
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        return f"has no valid port ({port!r})"
    try:
        if host.startswith("[") and host.endswith("]"):
            ipaddress.IPv6Address(host[1:-1])
        else:
            ipaddress.IPv4Address(host)
    except ValueError:
        return "has no literal IPv4 address and no IPv6 address in brackets"
    return ""


def _response_answers(transcript: Transcript) -> bool:
    return any(kind.startswith("response") for kind in kinds(transcript))


def _without_model(body: bytes) -> object:
    try:
        value = json.loads(body)
    except ValueError:
        return body
    if isinstance(value, dict):
        value.pop("model", None)
    return value


def _with_model_of(sent: bytes, returned: bytes) -> bytes:
    """Return what was sent with the model's name that came back."""
    try:
        old, new = json.loads(sent)["model"], json.loads(returned)["model"]
    except (ValueError, TypeError, KeyError):
        return sent
    return sent.replace(json.dumps(old).encode(), json.dumps(new, ensure_ascii=False).encode(), 1)


def _difference(sent: bytes, returned: bytes) -> str:
    if not returned:
        return f"{len(sent)} bytes were sent, none came"
    at = next((index for index, (one, other) in enumerate(zip(sent, returned, strict=False)) if one != other), None)
    at = min(len(sent), len(returned)) if at is None else at
    start = max(at - 10, 0)
    return (
        f"{len(sent)} bytes were sent, {len(returned)} came; at byte {at} "
        f"{sent[start : at + 20]!r} became {returned[start : at + 20]!r}"
    )


def _runs(told: Sequence[str]) -> list[str]:
    shown = [kind for index, kind in enumerate(told) if index == 0 or told[index - 1] != kind]
    return shown if len(shown) < 8 else [*shown[:8], "..."]
