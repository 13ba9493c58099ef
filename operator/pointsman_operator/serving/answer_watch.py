"""Watches the answer of one decision pass through a full-duplex stream and reports how it went, its end once."""

from collections.abc import Callable, Mapping

from pointsman_operator.decision import Outcome, OutcomeStatus, Routing
from pointsman_operator.metrics import Metrics
from pointsman_operator.serving.answer import AnswerReader
from pointsman_operator.serving.reporting import report

PROGRESS_INTERVAL_SECONDS = 1.0


class AnswerWatch:
    """The open decision of one stream.

    Args:
        routing: Receives the outcome.
        metrics: Counts failures of that.
        clock: Seconds, monotonic.
        arrived_at: When the request arrived, on that clock.
        decision_id: The decision to report on.
    """

    def __init__(
        self, routing: Routing, metrics: Metrics, clock: Callable[[], float], arrived_at: float, decision_id: str
    ) -> None:
        self._routing = routing
        self._metrics = metrics
        self._clock = clock
        self._arrived_at = arrived_at
        self._decision_id = decision_id
        self._served = ""
        self._status = 0
        self._answer = AnswerReader()
        self._reported_at: float | None = None
        self._open = True

    def begin(self, headers: Mapping[str, str], served: str, *, ended: bool) -> None:
        """Take the answer's headers and the "ip:port" that served it (empty = unknown)."""
        status = headers.get(":status", "")
        self._status = int(status) if status.isascii() and status.isdigit() else 0
        self._served = served
        self._answer.begin(headers.get("content-type", ""), headers.get("content-encoding", ""))
        if ended:
            self._finish()

    def read(self, chunk: bytes, *, ended: bool) -> None:
        """Take the next bytes of the answer's body."""
        now = self._clock()
        self._answer.read(chunk, now)
        if ended:
            self._finish()
        elif self._answer.first_event_at is not None and self._progress_is_due(now):
            self._reported_at = now
            self._report(OutcomeStatus.IN_PROGRESS)

    def close(self, status: OutcomeStatus) -> None:
        """Report the end, if it has not been reported."""
        if self._open:
            self._open = False
            self._report(status)

    def _finish(self) -> None:
        self._answer.end()
        self.close(OutcomeStatus.COMPLETED if 200 <= self._status < 300 else OutcomeStatus.FAILED)

    def _progress_is_due(self, now: float) -> bool:
        return self._reported_at is None or now - self._reported_at >= PROGRESS_INTERVAL_SECONDS

    def _report(self, status: OutcomeStatus) -> None:
        first = self._answer.first_event_at
        outcome = Outcome(
            decision_id=self._decision_id,
            status=status,
            endpoint=self._served,
            ttft_seconds=None if first is None else first - self._arrived_at,
            duration_seconds=self._clock() - self._arrived_at,
            output_tokens=self._answer.output_tokens,
            prompt_tokens=self._answer.prompt_tokens,
        )
        report(self._routing, self._metrics, outcome)
