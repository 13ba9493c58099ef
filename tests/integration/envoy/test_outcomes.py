import json
from typing import TYPE_CHECKING, Any

import pytest

from pointsman.envoy.v3 import access_log_pb2 as log

if TYPE_CHECKING:
    from tests.integration.envoy.conftest import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def outcome(stack: "Stack", **fields: Any) -> tuple[log.HttpAccessLogEntry, dict[str, Any]]:
    """The access log entry of one request that is read to its end, and what Lua noted in it."""
    async with stack.post(**fields) as response:
        assert response.status == 200
        await response.read()
    entry = await stack.router.outcome()
    return entry, stack.metadata(entry, "pointsman.tokens")


async def test_an_entry_names_decision_and_expert(stack: "Stack") -> None:
    stack.router.destination = f"{stack.dead_address},{stack.experts['b'].address}"
    entry, _ = await outcome(stack)
    common = entry.common_properties
    socket_address = common.upstream_remote_address.socket_address
    assert f"{socket_address.address}:{socket_address.port_value}" == stack.experts["b"].address
    assert stack.metadata(entry, "pointsman") == {"decision_id": stack.router.decisions[-1]}
    assert common.duration.ToNanoseconds() > 0
    assert entry.response.response_code.value == 200


async def test_a_client_is_told_its_decision(stack: "Stack") -> None:
    stack.router.destination = stack.experts["a"].address
    async with stack.post(stream=True) as response:
        assert response.headers["x-pointsman-decision-id"] == stack.router.decisions[-1]


async def test_a_plain_answer_gives_its_usage(stack: "Stack") -> None:
    _, tokens = await outcome(stack, max_tokens=5_000)
    assert tokens["streaming"] is False
    assert json.loads(tokens["usage"])["completion_tokens"] == 5_000
    assert "events" not in tokens


@pytest.mark.parametrize("count", [5, 50, 500])
async def test_tokens_of_a_stream_are_counted(stack: "Stack", count: int) -> None:
    entry, tokens = await outcome(stack, stream=True, max_tokens=count)
    assert tokens["streaming"] is True
    assert tokens["done"] is True
    assert tokens["events"] == count + 2
    assert json.loads(tokens["usage"]) == {
        "prompt_tokens": 7,
        "completion_tokens": count,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    start = entry.common_properties.start_time.ToNanoseconds() / 1e9
    end = start + entry.common_properties.duration.ToNanoseconds() / 1e9
    assert start <= tokens["first_event_seconds"] <= end + 0.001


@pytest.mark.parametrize("split", [1, 2, 7])
async def test_tokens_are_counted_over_chunk_borders(stack: "Stack", split: int) -> None:
    _, tokens = await outcome(stack, stream=True, fake={"split": split, "pause_seconds": 0.0005})
    assert tokens["events"] == 7
    assert tokens["done"] is True
    assert json.loads(tokens["usage"])["completion_tokens"] == 5


async def test_without_usage_only_events_are_counted(stack: "Stack") -> None:
    _, tokens = await outcome(stack, stream=True, fake={"usage": False})
    assert tokens["events"] == 6
    assert tokens["done"] is True
    assert "usage" not in tokens


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
async def test_usage_may_be_written_with_or_without_spaces(stack: "Stack", separators: tuple[str, str]) -> None:
    _, tokens = await outcome(stack, stream=True, fake={"separators": separators})
    assert json.loads(tokens["usage"])["completion_tokens"] == 5


@pytest.mark.parametrize(
    "text", ['"usage":{"completion_tokens":9999}', "usage", "\ndata: [DONE]\n\n", "data: data: [DONE]", '\\"usage": {}']
)
async def test_what_an_answer_says_is_not_taken_for_what_it_is(stack: "Stack", text: str) -> None:
    _, tokens = await outcome(stack, stream=True, fake={"text": text})
    assert tokens["events"] == 7
    assert json.loads(tokens["usage"])["completion_tokens"] == 5
    _, tokens = await outcome(stack, stream=True, fake={"text": text, "usage": False})
    assert tokens["events"] == 6
    assert "usage" not in tokens


async def test_a_client_that_hangs_up_leaves_an_outcome(stack: "Stack") -> None:
    stack.router.destination = stack.experts["a"].address
    async with stack.post(stream=True, max_tokens=50, fake={"hold_after": 40}) as response:
        for _ in range(80):
            await response.content.readline()
        response.close()
    entry = await stack.router.outcome()
    tokens = stack.metadata(entry, "pointsman.tokens")
    assert entry.common_properties.response_flags.downstream_connection_termination
    assert 40 - 15 <= tokens["events"] <= 40
    assert tokens["done"] is False
    assert tokens["first_event_seconds"] > 0
    stack.experts["a"].release.set()


async def test_a_long_answer_tells_its_progress(stack: "Stack") -> None:
    stack.router.destination = stack.experts["a"].address

    def progress() -> bool:
        return any(
            entry.common_properties.access_log_type == log.DOWNSTREAM_PERIODIC
            and stack.metadata(entry, "pointsman").get("decision_id") == stack.router.decisions[-1]
            and stack.metadata(entry, "pointsman.tokens")["events"] >= 16
            for entry in stack.router.entries
        )

    async with stack.post(stream=True, max_tokens=50, fake={"hold_after": 40}) as response:
        await response.content.readline()
        await stack.eventually(progress, "no periodic entry")
        stack.experts["a"].release.set()
        await response.read()
    entry = await stack.router.outcome()
    assert stack.metadata(entry, "pointsman.tokens")["events"] == 52


async def test_an_expert_that_fails_leaves_an_outcome(stack: "Stack") -> None:
    stack.router.destination = stack.experts["a"].address
    stack.experts["a"].status = 500
    async with stack.post() as response:
        assert response.status == 500
    entry = await stack.router.outcome()
    assert entry.response.response_code.value == 500
