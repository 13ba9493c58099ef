"""The demo's clients, in a process of their own, so that nothing else the demo does delays their clocks.

``python -m pointsman_operator.demo.load`` reads a `LoadPlan` from its standard input and starts at once. Its standard
output is one empty line at the start and then a `Report` for each request and rule as it ends. Requests go out at their
times whatever became of earlier ones (an open loop).
"""

import asyncio
import contextlib
import io
import sys
import time
from collections.abc import Callable

import aiohttp
import msgspec
import uvloop

from pointsman_operator.demo.messages import LoadPlan, PlannedRequest, Report

DECISION_HEADER = "x-pointsman-decision-id"
_KEPT_BYTES = 2_048
"""Of the end of a stream, which tells the usage."""
_SHOWN_CHARACTERS = 200


class _Usage(msgspec.Struct):
    completion_tokens: int = 0


class _Event(msgspec.Struct):
    """What the client reads of an answer, or of an event of one."""

    model: str = ""
    usage: _Usage | None = None


_EVENT = msgspec.json.Decoder(_Event)


class AnswerError(Exception):
    """An answer is not what was asked for; the message says why."""


class Clients:
    """Sends a plan's requests.

    Args:
        plan: What to send.
        session: Has no timeout of its own.
        clock: Seconds since the start.
        report: Told of each request as it ends.
    """

    def __init__(
        self,
        plan: LoadPlan,
        session: aiohttp.ClientSession,
        clock: Callable[[], float],
        report: Callable[[Report], None],
    ) -> None:
        self._plan = plan
        self._session = session
        self._clock = clock
        self._report = report

    async def run(self) -> None:
        """Send everything, and wait until everything has ended."""
        rules = len(self._plan.models)
        async with asyncio.TaskGroup() as requests:
            for index, request in enumerate(self._plan.requests):
                if (wait := request.arrival_seconds - self._clock()) > 0:
                    await asyncio.sleep(wait)
                for offset in range(rules):  # so that no rule is always the first to be sent to
                    requests.create_task(self._send((index + offset) % rules, index))

    async def _send(self, rule: int, index: int) -> None:
        request = self._plan.requests[index]
        sent_at = self._clock()
        try:
            async with asyncio.timeout(self._plan.patience_seconds):
                report = await self._ask(rule, index, sent_at)
        except TimeoutError:
            problem = f"gave up after {self._plan.patience_seconds:g} s"
        except (aiohttp.ClientError, AnswerError, OSError) as error:
            problem = f"{type(error).__name__}: {error}"[:_SHOWN_CHARACTERS]
        else:
            self._report(report)
            await self._judge(request, report)
            return
        self._report(
            Report(rule, index, "failed", sent_at, max(self._clock(), request.arrival_seconds), problem=problem)
        )

    async def _judge(self, request: PlannedRequest, report: Report) -> None:
        """Tell the router how good an answer is; one that cannot be told is simply not judged."""
        quality = request.quality.get(report.model)
        if quality is None or not report.decision_id:
            return
        url = f"{self._plan.judge_url}/decisions/{report.decision_id}/quality"
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with self._session.post(url, json={"quality": quality}):
                pass

    async def _ask(self, rule: int, index: int, sent_at: float) -> Report:
        """Send one request and take its answer.

        Raises:
            AnswerError: If there is no whole answer.
            aiohttp.ClientError: If the connection fails.
        """
        request = self._plan.requests[index]
        body = request_body(self._plan.models[rule], request)
        headers = {"content-type": "application/json", **request.headers}
        async with self._session.post(self._plan.url, data=io.BytesIO(body), headers=headers) as response:
            decision_id = response.headers.get(DECISION_HEADER, "")
            if response.status == 429:
                await response.read()
                return Report(rule, index, "dropped", sent_at, self._clock(), decision_id=decision_id)
            if response.status != 200:
                raise AnswerError(f"status {response.status}: {(await response.text())[:_SHOWN_CHARACTERS]}")
            if request.streamed:
                model, tokens, first_token_at = await self._read_stream(response.content)
            else:
                model, tokens, first_token_at = *read_body(await response.read()), None
            return Report(
                rule,
                index,
                "answered",
                sent_at,
                self._clock(),
                first_token_at=first_token_at,
                output_tokens=tokens,
                model=model,
                decision_id=decision_id,
            )

    async def _read_stream(self, content: aiohttp.StreamReader) -> tuple[str, int, float]:
        """Return model, tokens and the time of the first one; only the first event and the last ones are parsed."""
        first = await content.readany()
        first_token_at = self._clock()
        last = first
        while chunk := await content.readany():
            last = (last + chunk)[-_KEPT_BYTES:]
        return read_model(first), read_last_events(last), first_token_at


def request_body(model: str, request: PlannedRequest) -> bytes:
    """Return the body of a chat completion."""
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": request.prompt}]}
    if request.streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode(body)


def read_model(first_events: bytes) -> str:
    """Return the model that a stream's first event names.

    Raises:
        AnswerError: If it names none.
    """
    return _decode(first_events.partition(b"\n")[0].removeprefix(b"data:")).model


def read_last_events(end: bytes) -> int:
    """Return the tokens that a stream's usage event tells.

    Raises:
        AnswerError: If the stream has no usage or stops before its end.
    """
    events = [line.removeprefix(b"data:").strip() for line in end.split(b"\n") if line.startswith(b"data:")]
    if not events or events[-1] != b"[DONE]":
        raise AnswerError("the stream stops before its end")
    usage = _decode(events[-2]).usage if len(events) > 1 else None
    if usage is None:
        raise AnswerError("the stream tells no usage")
    return usage.completion_tokens


def read_body(body: bytes) -> tuple[str, int]:
    """Return model and tokens of an answer that is not streamed.

    Raises:
        AnswerError: If it is not one.
    """
    answer = _decode(body)
    if answer.usage is None:
        raise AnswerError("the answer tells no usage")
    return answer.model, answer.usage.completion_tokens


def _decode(text: bytes) -> _Event:
    try:
        return _EVENT.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AnswerError(f"the answer cannot be read: {error}") from error


async def replay(plan: LoadPlan, write: Callable[[bytes], None]) -> None:
    """Send a plan from now on, and write a line at the start and after the end of each request."""
    encoder = msgspec.json.Encoder()
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        start = time.perf_counter()
        write(b"\n")
        clients = Clients(
            plan,
            session,
            lambda: time.perf_counter() - start,
            lambda report: write(encoder.encode(report) + b"\n"),
        )
        await clients.run()


def main() -> None:
    """Read a plan and replay it."""
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadPlan)

    def write(line: bytes) -> None:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()

    uvloop.run(replay(plan, write))


if __name__ == "__main__":
    main()
