"""Pick, say so, leave: ext_proc for gateways that send bodies whole (BUFFERED) or not at all (NONE).

The stream ends with the pick, so that a router that dies later never truncates an answer. How the request went is
learnt from the access log.
"""

import logging

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.decision import Outcome, OutcomeStatus
from pointsman_operator.errors import RouteError
from pointsman_operator.serving import ext_proc_messages as messages
from pointsman_operator.serving.conversation import MalformedStreamError, Responses
from pointsman_operator.serving.destinations import Destinations
from pointsman_operator.serving.reporting import report

logger = logging.getLogger(__name__)


class PickOnce:
    """A stream's request leg.

    Args:
        destinations: Where requests go.
        mode: Name of the gateway's request body mode.
    """

    def __init__(self, destinations: Destinations, mode: str) -> None:
        self.finished = False
        self._destinations = destinations
        self._mode = mode
        self._head: messages.RequestHead | None = None
        self._decision_id = ""

    @property
    def complete(self) -> bool:
        """Whether there is no decision that a gateway which never got it would leave open."""
        return self.finished and not self._decision_id

    def receive(self, message: pb.ProcessingRequest) -> Responses:
        """Return the answer to the headers, then to the body. Raises: MalformedStreamError."""
        expected = "request_headers" if self._head is None else "request_body"
        kind = message.WhichOneof("request")
        if kind != expected:
            raise MalformedStreamError(f"expected {expected}, got {kind or 'a message without content'}")
        if self._head is None:
            return (self._headers(messages.read_head(message)),)
        self.finished = True
        return (self._pick(self._head, message.request_body.body),)

    def closed(self, *, delivered: bool) -> None:
        """Close the decision if the gateway never heard of it."""
        if self._decision_id and not delivered:
            outcome = Outcome(self._decision_id, OutcomeStatus.CANCELLED)
            report(self._destinations.routing, self._destinations.metrics, outcome)

    def _headers(self, head: messages.RequestHead) -> pb.ProcessingResponse:
        self._head = head
        self.finished = True
        if head.asks_for_models:
            return self._destinations.model_list()
        if head.end_of_stream:
            return self._pick(head, b"")
        if self._mode == "NONE":
            return self._pick(head, None)
        if self._mode == "BUFFERED":
            self.finished = False
            return messages.CONTINUE_REQUEST_HEADERS
        return self._destinations.refusal(
            RouteError(
                f"the gateway's ext_proc request_body_mode {self._mode} cannot be routed; "
                "configure BUFFERED or FULL_DUPLEX_STREAMED"
            )
        )

    def _pick(self, head: messages.RequestHead, body: bytes | None) -> pb.ProcessingResponse:
        in_body = not head.end_of_stream and body is not None
        try:
            destination = self._destinations.find(head, body)
        except RouteError as error:
            return self._destinations.refusal(error)
        except Exception:
            self._destinations.metrics.failed("ext_proc")
            logger.exception("picking an expert failed; the gateway chooses one")
            return messages.undecided_in_body() if in_body else messages.undecided_in_headers()
        self._decision_id = destination.decision_id
        return messages.destination_in_body(destination) if in_body else messages.destination_in_headers(destination)
