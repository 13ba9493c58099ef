"""The Endpoint Picker Protocol's own mode, FULL_DUPLEX_STREAMED: both bodies stream through the router.

The order of answers is fixed, or the gateway hangs: nothing until the body has ended, then headers, body, trailers.
Pieces of the answer are handed back at once, because every client waits for them; the outcome is read off as they pass.
"""

import logging
from collections.abc import Callable
from typing import Final

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.decision import OutcomeStatus
from pointsman_operator.errors import NoExpertError, RouteError
from pointsman_operator.serving import ext_proc_messages as messages
from pointsman_operator.serving.answer_watch import AnswerWatch
from pointsman_operator.serving.conversation import MalformedStreamError, Responses
from pointsman_operator.serving.destinations import Destinations

logger = logging.getLogger(__name__)


class FullDuplex:
    """A stream with both legs.

    Args:
        destinations: Where requests go.
        clock: Seconds, monotonic.
        stream_answer: Whether the answer's body is FULL_DUPLEX_STREAMED too, and so must be handed back.
    """

    def __init__(self, destinations: Destinations, clock: Callable[[], float], *, stream_answer: bool) -> None:
        self.finished = False
        self._destinations = destinations
        self._clock = clock
        self._stream_answer = stream_answer
        self._arrived_at = clock()
        self._head: messages.RequestHead | None = None
        self._chunks: list[bytes] = []
        self._length = 0
        self._request_ended = self._answer_begun = False
        self._watch: AnswerWatch | None = None
        self._receivers: Final[dict[str, Callable[[pb.ProcessingRequest], Responses]]] = {
            "request_headers": self._request_headers,
            "request_body": self._request_body,
            "request_trailers": self._request_trailers,
            "response_headers": self._response_headers,
            "response_body": self._response_body,
            "response_trailers": self._response_trailers,
        }

    @property
    def complete(self) -> bool:
        """Whether the request was refused or its answer has ended; a gateway may reset the stream once it knows."""
        return self.finished

    def receive(self, message: pb.ProcessingRequest) -> Responses:
        """Return the answers to a message, possibly none. Raises: MalformedStreamError."""
        kind = message.WhichOneof("request")
        if kind is None:
            raise MalformedStreamError("got a message without content")
        if (self._head is None) != (kind == "request_headers"):
            raise MalformedStreamError(f"got {kind}; request_headers must come first, and once")
        return self._receivers[kind](message)

    def closed(self, *, delivered: bool) -> None:
        """Close the decision if the answer's end was not seen: the client has gone, or the stream broke."""
        if self._watch:
            self._watch.close(OutcomeStatus.CANCELLED)

    def _request_headers(self, message: pb.ProcessingRequest) -> Responses:
        head = self._head = messages.read_head(message)
        if head.asks_for_models:
            self.finished = True
            return (self._destinations.model_list(),)
        return self._route(head) if head.end_of_stream else ()

    def _request_body(self, message: pb.ProcessingRequest) -> Responses:
        head = self._open_request("request_body")
        body = message.request_body
        self._length += len(body.body)
        try:
            self._destinations.check_size(self._length)
        except RouteError as error:
            return self._refuse(error)
        self._chunks.append(body.body)
        return self._route(head) if body.end_of_stream else ()

    def _request_trailers(self, message: pb.ProcessingRequest) -> Responses:
        return self._route(self._open_request("request_trailers"), in_trailers=True)

    def _open_request(self, kind: str) -> messages.RequestHead:
        if self._head is None or self._request_ended:
            raise MalformedStreamError(f"got {kind} after the end of the request")
        return self._head

    def _route(self, head: messages.RequestHead, *, in_trailers: bool = False) -> Responses:
        self._request_ended = True
        body = b"".join(self._chunks)
        self._chunks.clear()
        try:
            destination = self._destinations.find(head, body)
        except RouteError as error:
            return self._refuse(error)
        except Exception:
            self._destinations.metrics.failed("ext_proc")
            logger.exception("picking an expert failed; the request is refused")
            return self._refuse(NoExpertError("the router could not pick an expert; try again"))
        if destination.decision_id:
            routing, metrics = self._destinations.routing, self._destinations.metrics
            self._watch = AnswerWatch(routing, metrics, self._clock, self._arrived_at, destination.decision_id)
        responses = [messages.destination_in_headers(destination)]
        if not head.end_of_stream:
            new_body = body if destination.body is None else destination.body
            responses += messages.streamed_request_body(new_body, end_of_stream=not in_trailers)
        if in_trailers:
            responses.append(messages.CONTINUE_REQUEST_TRAILERS)
        return responses

    def _refuse(self, error: RouteError) -> Responses:
        self.finished = True
        return (self._destinations.refusal(error),)

    def _response_headers(self, message: pb.ProcessingRequest) -> Responses:
        if self._answer_begun:
            raise MalformedStreamError("got response_headers twice, or after the body of the response")
        self._answer_begun = True
        self.finished = message.response_headers.end_of_stream
        served = messages.read_served(message)
        if self._watch:
            self._watch.begin(messages.read_answer_headers(message), served, ended=self.finished)
        if served and self._destinations.honour_test_selection:
            return (messages.served_in_headers(served),)
        return (messages.CONTINUE_RESPONSE_HEADERS,)

    def _response_body(self, message: pb.ProcessingRequest) -> Responses:
        self._answer_begun = True
        body = message.response_body
        self.finished = body.end_of_stream
        if self._watch:
            self._watch.read(body.body, ended=body.end_of_stream)
        if not self._stream_answer:
            return (messages.CONTINUE_RESPONSE_BODY,)
        return messages.streamed_response_body(body.body, end_of_stream=body.end_of_stream)

    def _response_trailers(self, message: pb.ProcessingRequest) -> Responses:
        self._answer_begun = self.finished = True
        if self._watch:
            self._watch.read(b"", ended=True)
        return (messages.CONTINUE_RESPONSE_TRAILERS,)
