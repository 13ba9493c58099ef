import asyncio
import json
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from pointsman_operator.demo.load import AnswerError, read_body, read_last_events, read_model, replay
from pointsman_operator.demo.messages import LoadPlan, PlannedRequest, Report

USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


class FakeEnvoy:
    """Answers as the prompt says, and keeps what it got."""

    def __init__(self) -> None:
        self.received: list[tuple[float, dict[str, str], dict[str, object]]] = []
        self.url = ""
        self.judgements: dict[str, object] = {}
        self.left = asyncio.Event()

    async def judge(self, request: web.Request) -> web.Response:
        self.judgements[request.match_info["id"]] = await request.json()
        return web.Response(status=204)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.received.append((asyncio.get_running_loop().time(), dict(request.headers), body))
        prompt, headers = body["messages"][0]["content"], {"x-pointsman-decision-id": f"d-{len(self.received)}"}
        if prompt == "shed":
            return web.Response(status=429, headers={"x-llm-d-request-dropped-reason": "rejected-saturated"})
        if prompt == "break":
            return web.Response(status=503, text="no expert is ready")
        if prompt == "hang":
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()
        if not body.get("stream"):
            return web.json_response({"model": "small", "usage": USAGE}, headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        for event in ({"model": "small", "usage": None}, {"model": "small", "usage": USAGE}):
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        if prompt != "stop early":
            await response.write(b"data: [DONE]\n\n")
        return response


@pytest_asyncio.fixture
async def envoy() -> AsyncIterator[FakeEnvoy]:
    fake = FakeEnvoy()
    application = web.Application()
    application.router.add_post("/v1/chat/completions", fake.complete)
    application.router.add_post("/decisions/{id}/quality", fake.judge)
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/chat/completions"
    yield fake
    await runner.cleanup()


async def send(
    envoy: FakeEnvoy,
    *prompts: str,
    streamed: bool = True,
    models: tuple[str, ...] = ("edge-a",),
    patience: float = 20.0,
) -> list[Report]:
    requests = tuple(PlannedRequest(0.01 * index, prompt, streamed, {}) for index, prompt in enumerate(prompts))
    lines: list[bytes] = []
    await replay(LoadPlan(envoy.url, models, requests, patience), lines.append)
    assert lines[0] == b"\n"

    reports = [msgspec.json.decode(line, type=Report) for line in lines[1:]]
    return sorted(reports, key=lambda report: (report.request, report.rule))


async def test_a_streamed_answer_gives_model_tokens_and_times(envoy: FakeEnvoy) -> None:
    (report,) = await send(envoy, "Hello?")
    assert (report.status, report.model, report.output_tokens, report.decision_id) == ("answered", "small", 2, "d-1")
    assert report.first_token_at is not None
    assert 0 <= report.sent_at <= report.first_token_at <= report.ended_at
    assert envoy.received[0][2]["stream_options"] == {"include_usage": True}


async def test_a_plain_answer_has_no_first_token(envoy: FakeEnvoy) -> None:
    (report,) = await send(envoy, "Hello?", streamed=False)
    assert (report.status, report.model, report.output_tokens) == ("answered", "small", 2)
    assert report.first_token_at is None
    assert "stream" not in envoy.received[0][2]


async def test_every_rule_gets_every_request_and_takes_turns_at_being_first(envoy: FakeEnvoy) -> None:
    reports = await send(envoy, "one", "two", models=("edge-a", "edge-b"))
    assert [(report.request, report.rule, report.status) for report in reports] == [
        (request, rule, "answered") for request in (0, 1) for rule in (0, 1)
    ]
    assert {str(body["model"]) for _, _, body in envoy.received} == {"edge-a", "edge-b"}


async def test_a_shed_request_is_dropped(envoy: FakeEnvoy) -> None:
    (report,) = await send(envoy, "shed")
    assert report.status == "dropped"


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [("break", "status 503: no expert is ready"), ("stop early", "the stream stops before its end")],
)
async def test_an_answer_that_is_none_is_a_failure(envoy: FakeEnvoy, prompt: str, problem: str) -> None:
    (report,) = await send(envoy, prompt)
    assert report.status == "failed"
    assert problem in report.problem


async def test_a_client_gives_up_and_hangs_up(envoy: FakeEnvoy) -> None:
    (report,) = await send(envoy, "hang", patience=0.05)
    assert (report.status, report.problem) == ("failed", "gave up after 0.05 s")
    async with asyncio.timeout(10):
        await envoy.left.wait()


async def test_a_judge_tells_the_router_how_good_an_answer_is(envoy: FakeEnvoy) -> None:
    judged = [{"small": 0.8, "large": 0.9}, {"large": 0.9}, {}]
    requests = tuple(PlannedRequest(0.0, "Hello", True, {}, quality) for quality in judged)
    base = envoy.url.removesuffix("/v1/chat/completions")
    await replay(LoadPlan(envoy.url, ("edge-a",), requests, 20.0, base), lambda line: None)
    assert list(envoy.judgements.values()) == [{"quality": 0.8}]


async def test_requests_go_out_whatever_became_of_earlier_ones(envoy: FakeEnvoy) -> None:
    reports = await send(envoy, "hang", "Hello?", patience=0.5)
    assert [report.status for report in reports] == ["failed", "answered"]
    assert reports[1].ended_at < reports[0].ended_at


async def test_a_server_that_is_not_there_is_a_failure(envoy: FakeEnvoy) -> None:
    envoy.url = "http://127.0.0.1:9/v1/chat/completions"
    (report,) = await send(envoy, "Hello?")
    assert report.status == "failed"
    assert "Connect" in report.problem


def test_a_stream_is_read_from_its_first_and_last_events() -> None:
    assert read_model(b'data: {"model":"m","choices":[]}\n\ndata: {"mo') == "m"
    assert read_last_events(b'l":"m"}\n\ndata: {"usage":{"completion_tokens":7}}\n\ndata: [DONE]\n\n') == 7
    with pytest.raises(AnswerError, match="no usage"):
        read_last_events(b'data: {"choices":[]}\n\ndata: [DONE]\n\n')
    with pytest.raises(AnswerError, match="cannot be read"):
        read_model(b"data: <html>")
    with pytest.raises(AnswerError, match="no usage"):
        read_body(b"{}")
