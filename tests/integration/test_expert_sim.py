"""Emulated experts behind real sockets."""

import asyncio
import io
import json
import math
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pointsman_policy.errors import DocumentError, ListenError
from pointsman_policy.experts import Expert, ExpertList, IterationTime, Simulation
from pointsman_policy.latency.profiles import IterationTimeCoefficients
from pointsman_policy.simulator import sample
from pointsman_policy.simulator.engine import advance, enqueue, new_engine
from pointsman_policy.simulator.server.answers import AnswerBook, read_answers
from pointsman_policy.simulator.server.app import MAXIMUM_BODY_BYTES
from pointsman_policy.simulator.server.run import serve_experts, serving, true_coefficients
from pointsman_policy.simulator.tables import read_score_table

DEADLINE_SECONDS = 30.0
FAST = IterationTime(
    base_milliseconds=1,
    per_sequence_milliseconds=0.1,
    per_context_token_milliseconds=0,
    per_prefill_token_milliseconds=0.001,
)
SLOW = IterationTime(
    base_milliseconds=20,
    per_sequence_milliseconds=2,
    per_context_token_milliseconds=0.01,
    per_prefill_token_milliseconds=0.1,
)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def new_experts() -> ExpertList:
    fast, slow = free_ports(2)
    return ExpertList(
        experts=(
            Expert(
                name="fast-0",
                endpoint=f"127.0.0.1:{fast}",
                model="gemma-2-2b",
                served_model_names=("google/gemma-2-2b-it", "edge-chat"),
                context_length_tokens=1_000,
                iteration_time=FAST,
            ),
            Expert(
                name="slow-0",
                endpoint=f"127.0.0.1:{slow}",
                model="Llama-3.1-8B",
                output_tokens_prior=100_000,
                maximum_running=1,
                iteration_time=SLOW,
            ),
        )
    )


class Client:
    """Talks to the emulated experts."""

    def __init__(self, session: aiohttp.ClientSession, experts: ExpertList, answers: AnswerBook) -> None:
        self.session = session
        self.experts = {expert.name: expert for expert in experts.experts}
        self.answers = answers

    def url(self, path: str, expert: str = "fast-0") -> str:
        return f"http://{self.experts[expert].endpoint}{path}"

    def post(self, path: str, body: object, expert: str = "fast-0") -> "aiohttp.client._RequestContextManager":
        return self.session.post(self.url(path, expert), json=body)

    def put(self, path: str, body: object, expert: str = "fast-0") -> "aiohttp.client._RequestContextManager":
        return self.session.put(self.url(path, expert), json=body)

    async def metric(self, name: str, expert: str, **labels: str) -> float:
        async with self.session.get(self.url("/metrics", expert)) as response:
            families = text_string_to_metric_families(await response.text())
            samples = [one for family in families for one in family.samples if one.name == f"vllm:{name}"]
        return sum(float(one.value) for one in samples if labels.items() <= one.labels.items())

    async def eventually(self, name: str, expert: str, wanted: Callable[[float], bool], **labels: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not wanted(await self.metric(name, expert, **labels)):
            assert time.monotonic() < deadline, f"{name} of {expert} stays at {await self.metric(name, expert)}"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    experts, answers = new_experts(), AnswerBook(seed=1)
    async with (
        serving(experts, answers),
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(DEADLINE_SECONDS)) as session,
    ):
        yield Client(session, experts, answers)


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "edge-chat", "messages": [{"role": "user", "content": "Say it."}], **fields}


def completion(**fields: Any) -> dict[str, Any]:
    return {"model": "edge-chat", "prompt": "Say it.", **fields}


async def events(response: aiohttp.ClientResponse) -> list[Any]:
    assert response.status == 200
    assert response.content_type == "text/event-stream"
    parts = (await response.text()).split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


async def test_models_and_health_are_served(client: Client) -> None:
    async with client.session.get(client.url("/v1/models")) as response:
        cards = (await response.json())["data"]
    assert [(card["id"], card["object"], card["max_model_len"]) for card in cards] == [
        ("google/gemma-2-2b-it", "model", 1_000),
        ("edge-chat", "model", 1_000),
    ]
    async with client.session.get(client.url("/health")) as response:
        assert response.status == 200


@pytest.mark.parametrize("model", ["google/gemma-2-2b-it", "edge-chat"])
async def test_an_answer_has_the_length_that_the_book_says(client: Client, model: str) -> None:
    expected = client.answers.lookup(client.experts["fast-0"], "Say it.")
    async with client.post("/v1/chat/completions", chat(model=model)) as response:
        body = await response.json()
    assert body["model"] == model
    assert body["choices"][0]["finish_reason"] == "stop"
    assert len(body["choices"][0]["message"]["content"].split()) == expected.output_tokens
    assert body["usage"]["prompt_tokens"] == expected.prompt_tokens
    assert body["usage"]["completion_tokens"] == expected.output_tokens


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_max_tokens_cuts_an_answer(client: Client, path: str) -> None:
    body = completion(max_tokens=5) if path == "/v1/completions" else chat(max_tokens=5)
    async with client.post(path, body) as response:
        answer = await response.json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 5

    async with client.post(path, {**body, "stream": True}) as response:
        chunks = await events(response)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert len(chunks) == (5 if path == "/v1/completions" else 6)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_a_stream_ends_with_usage_when_asked_for(client: Client, path: str) -> None:
    body = {**chat(), **completion(), "max_tokens": 9, "stream": True, "stream_options": {"include_usage": True}}
    async with client.post(path, body) as response:
        chunks = await events(response)
    assert chunks[-1]["usage"]["completion_tokens"] == 9
    assert chunks[-1]["usage"]["total_tokens"] == 9 + chunks[-1]["usage"]["prompt_tokens"]
    assert chunks[-1]["choices"] == []


async def test_a_connection_serves_one_answer_after_another(client: Client) -> None:
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        for streaming in (True, False, True):
            url = client.url("/v1/completions")
            async with session.post(url, json=completion(max_tokens=3, stream=streaming)) as response:
                assert response.status == 200
                await response.read()


async def test_headers_of_a_stream_come_before_its_first_token(client: Client) -> None:
    body = completion(model="Llama-3.1-8B", max_tokens=100_000, stream=True)
    async with client.post("/v1/completions", body, "slow-0") as first:
        await first.content.readline()
        async with client.post("/v1/completions", body, "slow-0") as second:
            assert second.status == 200
            assert await client.metric("num_requests_waiting", "slow-0") == 1
            assert not second.content.total_bytes


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_client_that_leaves_frees_its_place(client: Client, streaming: bool) -> None:
    body = completion(model="Llama-3.1-8B", max_tokens=100_000, stream=streaming)
    leaving = asyncio.create_task(_read(client, body))
    await client.eventually("num_requests_running", "slow-0", lambda count: count == 1)
    waiting = asyncio.create_task(_read(client, {**body, "max_tokens": 2}))
    await client.eventually("num_requests_waiting", "slow-0", lambda count: count == 1)
    leaving.cancel()
    await waiting
    assert await client.metric("num_requests_running", "slow-0") == 0
    assert await client.metric("request_success_total", "slow-0", finished_reason="abort") == 1
    assert await client.metric("request_success_total", "slow-0", finished_reason="length") == 1


async def _read(client: Client, body: object) -> bytes:
    async with client.post("/v1/completions", body, "slow-0") as response:
        return await response.read()


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "message"),
    [
        ("/v1/completions", completion(model="gpt-5"), 404, "NotFoundError", "The model `gpt-5` does not exist."),
        ("/v1/chat/completions", chat(model="gemma-2-2b"), 404, "NotFoundError", "does not exist"),
        ("/v1/completions", {"model": "edge-chat"}, 400, "BadRequestError", "missing required field `prompt`"),
        ("/v1/completions", completion(max_tokens=0), 400, "BadRequestError", "at least 1"),
        ("/v1/completions", completion(prompt="x" * 4_000), 400, "BadRequestError", "maximum context length is 1000"),
        ("/v1/completions", completion(max_tokens=999), 400, "BadRequestError", "2 in the prompt, 999 in the"),
        ("/v1/embeddings", {"model": "edge-chat", "input": "x"}, 404, "NotFoundError", "Not Found"),
        ("/health", {}, 405, "BadRequestError", "Method Not Allowed"),
    ],
    ids=["model", "alias", "field", "limit", "prompt", "context", "path", "method"],
)
async def test_wrong_requests_get_the_errors_of_the_api(
    client: Client, path: str, body: object, status: int, kind: str, message: str
) -> None:
    async with client.post(path, body) as response:
        assert response.status == status
        error = (await response.json())["error"]
    assert (error["code"], error["type"]) == (status, kind)
    assert message in error["message"]


async def test_a_body_that_is_too_large_is_refused(client: Client) -> None:
    body = io.BytesIO(b" " * (MAXIMUM_BODY_BYTES + 1))
    async with client.session.post(client.url("/v1/completions"), data=body) as response:
        assert response.status == 413
        assert (await response.json())["error"]["code"] == 413


async def test_an_expert_can_be_slowed_down_while_it_runs(client: Client) -> None:
    body = {"model": client.experts["fast-0"].names[0], "prompt": "Slower?", "max_tokens": 5, "ignore_eos": True}

    async def seconds() -> float:
        started = time.monotonic()
        async with client.post("/v1/completions", body) as response:
            assert response.status == 200
            await response.read()
        return time.monotonic() - started

    usual = await seconds()
    async with client.put("/simulation", {"pace": 40.0}) as response:
        assert response.status == 204
    assert await seconds() > 4 * usual


@pytest.mark.parametrize("wrong", [{"pace": 0}, {"pace": "fast"}, {"speed": 2}, []])
async def test_a_pace_that_is_none_is_refused(client: Client, wrong: object) -> None:
    async with client.put("/simulation", wrong) as response:
        assert response.status == 400
        assert 'such as {"pace": 1.6}' in (await response.json())["error"]["message"]


async def test_metrics_tell_of_served_requests(client: Client) -> None:
    async with client.post("/v1/completions", completion(max_tokens=5)) as response:
        await response.read()
    assert await client.metric("generation_tokens_total", "fast-0", model_name="google/gemma-2-2b-it") == 5
    assert await client.metric("prompt_tokens_total", "fast-0") == 2
    for name in ("time_to_first_token_seconds_count", "e2e_request_latency_seconds_count"):
        assert await client.metric(name, "fast-0", engine="0") == 1
    for name in ("inter_token_latency_seconds_count", "time_per_output_token_seconds_count"):
        assert await client.metric(name, "fast-0") == 4


async def test_answers_over_http_end_when_the_engine_says_offline() -> None:
    """2 s of arrivals, some of which wait; a shared machine's delays are within the tolerance."""
    port = free_ports(1)[0]
    coefficients = IterationTime(
        base_milliseconds=8,
        per_sequence_milliseconds=1,
        per_context_token_milliseconds=0.004,
        per_prefill_token_milliseconds=0.05,
    )
    expert = Expert(
        name="e", endpoint=f"127.0.0.1:{port}", model="m", maximum_running=4, kv_capacity_tokens=100_000,
        iteration_time=coefficients,
    )  # fmt: skip
    rng = np.random.default_rng(8)
    due = np.cumsum(rng.exponential(0.08, 25)).tolist()
    lengths = rng.integers(5, 40, 25).tolist()
    async with (
        serving(ExpertList(experts=(expert,)), AnswerBook(seed=1)),
        aiohttp.ClientSession() as session,
    ):
        started = time.monotonic()
        runs = [_timed(session, expert, started, *one) for one in zip(due, lengths, strict=True)]
        measured = np.array(await asyncio.gather(*runs))

    arrivals = measured[:, 0]
    row = [value * 1e-3 for value in (8, 1, 0.004, 0.05)]
    engine = new_engine(np.array([row]), np.array([100_000.0]), np.array([4]), requests=25)
    for index in np.argsort(arrivals).tolist():
        advance(engine, 0, arrivals[index])
        enqueue(engine, 0, index, 10, lengths[index], arrivals[index])
    advance(engine, 0, math.inf)
    expected = engine.request["finished_at"]
    assert expected.max() - arrivals.min() < 10
    lateness = measured[:, 1] - expected
    assert np.median(np.abs(lateness)) < 0.05
    assert np.abs(lateness).max() < 0.5


async def _timed(
    session: aiohttp.ClientSession, expert: Expert, started: float, due: float, tokens: int
) -> tuple[float, float]:
    """Return when the request was sent and when its last byte came, seconds since the start."""
    await asyncio.sleep(started + due - time.monotonic())
    sent = time.monotonic() - started
    body = {"model": "m", "prompt": list(range(10)), "max_tokens": tokens, "stream": True}
    async with session.post(f"http://{expert.endpoint}/v1/completions", json=body) as response:
        assert len(await events(response)) == tokens
    return sent, time.monotonic() - started


def test_true_speed_may_differ_from_what_is_believed() -> None:
    believed = Expert(name="e", endpoint="127.0.0.1:9000", model="m", iteration_time=SLOW)
    assert true_coefficients(believed, None) == IterationTimeCoefficients.from_document(SLOW)
    faster = believed.model_copy(update={"simulation": Simulation(speed=4)})
    assert true_coefficients(faster, None).base_seconds == pytest.approx(0.005)
    other = believed.model_copy(update={"simulation": Simulation(speed=2, iteration_time=FAST)})
    assert true_coefficients(other, None).base_seconds == pytest.approx(0.0005)


async def test_an_address_that_is_taken_is_named(client: Client) -> None:
    with pytest.raises(ListenError, match=r"expert fast-0: cannot listen on 127\.0\.0\.1:\d+ .*another endpoint"):
        async with serving(ExpertList(experts=(client.experts["fast-0"],)), AnswerBook()):
            pass


def test_files_are_checked_before_anything_is_served(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be read"):
        serve_experts(tmp_path / "experts.yaml")
    path = tmp_path / "experts.yaml"
    path.write_text("profiles: none.csv\nexperts: []\n")
    with pytest.raises(DocumentError, match=r"none\.csv"):
        serve_experts(path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_serves_a_table_and_stops_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    experts = new_experts()
    path = tmp_path / "experts.yaml"
    path.write_text(yaml.safe_dump(experts.model_dump(mode="json", by_alias=True)))
    answers = read_answers(sample.scores_path(), sample.prompts_path(), seed=0)
    prompt = (read_score_table(sample.scores_path(), sample.prompts_path()).prompts or ())[0]
    code = (
        "import sys, pathlib\n"
        "from pointsman_policy.simulator.server.run import serve_experts\n"
        "serve_experts(*map(pathlib.Path, sys.argv[1:]))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(path), str(sample.scores_path()), str(sample.prompts_path()),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(session, experts, answers)
            await _answering(client, process)
            expected = answers.lookup(client.experts["fast-0"], prompt)
            async with client.post("/v1/completions", completion(prompt=prompt, max_tokens=800)) as response:
                usage = (await response.json())["usage"]
            assert usage["prompt_tokens"] == expected.prompt_tokens
            assert usage["completion_tokens"] == expected.output_tokens
            body = completion(model="Llama-3.1-8B", max_tokens=100_000, stream=True)
            async with client.post("/v1/completions", body, "slow-0") as response:
                await response.content.readline()
                process.send_signal(number)
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
        _, errors = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
        assert (process.returncode, errors) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _answering(client: Client, process: asyncio.subprocess.Process) -> None:
    deadline = time.monotonic() + 2 * DEADLINE_SECONDS
    while True:
        assert process.returncode is None, "the process has ended"
        assert time.monotonic() < deadline, "the process does not answer"
        try:
            async with client.session.get(client.url("/health", "slow-0")):
                return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.05)
