"""From one complete HTTP request to the place where it goes: what every mode of ext_proc shares."""

from pointsman.envoy.v3 import external_processor_pb2 as pb
from pointsman_operator.decision import Decision, RouteQuery, Routing
from pointsman_operator.errors import NoExpertError, RequestTooLargeError, RouteError
from pointsman_operator.metrics import Metrics
from pointsman_operator.serving import ext_proc_messages as messages
from pointsman_operator.serving.model_rewrite import rewrite_model
from pointsman_operator.serving.openai_request import read_request

DEFAULT_MAX_BODY_BYTES = 32 << 20


class Destinations:
    """Finds the destination of requests.

    Args:
        routing: The routing core.
        metrics: Counts what was answered.
        max_body_bytes: Larger bodies are refused.
        honour_test_selection: Whether the header of the gateway conformance tests may choose the endpoint. It lets
            every client steer, so it is for conformance runs only.
    """

    def __init__(
        self,
        routing: Routing,
        metrics: Metrics,
        *,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        honour_test_selection: bool = False,
    ) -> None:
        self.routing = routing
        self.metrics = metrics
        self.max_body_bytes = max_body_bytes
        self.honour_test_selection = honour_test_selection

    def find(self, head: messages.RequestHead, body: bytes | None) -> messages.Destination:
        """Pick for one request.

        Args:
            head: Its first message.
            body: All of its body; None if the gateway keeps it to itself.

        Raises:
            RouteError: If the request is wrong or has nowhere to go.
        """
        if self.honour_test_selection and messages.TEST_SELECTION_HEADER in head.headers:
            return self._selected_by_test(head)
        query = self._query(head, body)
        decision = self.routing.route(query)
        self.metrics.answered("ext_proc", decision.policy, 200)
        return messages.Destination(
            ",".join([endpoint.address for endpoint in decision.endpoints]),
            decision.id,
            _new_body(decision, query, body),
        )

    def refusal(self, error: RouteError) -> pb.ProcessingResponse:
        """Answer the client with an error."""
        self.metrics.answered("ext_proc", "", error.http_status)
        return messages.refusal(error)

    def model_list(self) -> pb.ProcessingResponse:
        """Answer GET /v1/models with the names that clients may use."""
        self.metrics.answered("ext_proc", "", 200)
        return messages.model_list(self.routing.models())

    def check_size(self, length: int) -> None:
        """Refuse a body of `length` bytes if that is too many.

        Raises:
            RequestTooLargeError: If it is.
        """
        if length > self.max_body_bytes:
            raise RequestTooLargeError(
                f"the body has {length} bytes or more, at most {self.max_body_bytes} are taken; send a shorter prompt"
            )

    def _query(self, head: messages.RequestHead, body: bytes | None) -> RouteQuery:
        if body is None:
            return read_request("GET", head.path, head.headers, b"", head.subset)
        self.check_size(len(body))
        return read_request(head.method, head.path, head.headers, body, head.subset)

    def _selected_by_test(self, head: messages.RequestHead) -> messages.Destination:
        addresses = [view.endpoint.address for view in self.routing.experts("")[1]]
        wanted = [name.strip() for name in head.headers[messages.TEST_SELECTION_HEADER].split(",")]
        chosen = [
            address
            for name in wanted
            for address in addresses
            if name in (address, address.rpartition(":")[0]) and (head.subset is None or address in head.subset)
        ]
        if not chosen:
            raise NoExpertError(
                f"no expert has an address in {messages.TEST_SELECTION_HEADER}; name the address of a ready one"
            )
        return messages.Destination(",".join(chosen), decision_id="")


def _new_body(decision: Decision, query: RouteQuery, body: bytes | None) -> bytes | None:
    if not body or not query.model or decision.model_rewrite in (None, query.model):
        return None
    return rewrite_model(body, decision.model_rewrite or "")
