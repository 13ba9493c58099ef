import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from pointsman.envoy.v3 import external_processor_pb2 as ext
from pointsman_operator.serving.envoy_config import write_endpoints

if TYPE_CHECKING:
    from tests.integration.envoy.conftest import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def answering(stack: "Stack", headers: dict[str, str] | None = None) -> str:
    """The name of the expert that answers one request."""
    async with stack.post(headers=headers) as response:
        assert response.status == 200
        await response.read()
        return response.headers["x-expert"]


async def test_the_first_message_tells_the_router_the_body_mode(stack: "Stack") -> None:
    stack.router.requests.clear()
    await answering(stack)
    first, second = stack.router.requests
    assert first.HasField("request_headers")
    assert first.protocol_config.request_body_mode == ext.BUFFERED
    assert second.request_body.end_of_stream


@pytest.mark.parametrize("name", ["a", "b", "c"])
async def test_a_pick_is_followed(stack: "Stack", name: str) -> None:
    stack.router.destination = stack.experts[name].address
    assert [await answering(stack) for _ in range(5)] == [name] * 5


async def test_a_pick_without_a_body_is_followed(stack: "Stack") -> None:
    stack.router.destination = stack.experts["c"].address
    async with stack.client.get(f"{stack.sidecar.url}/v1/models") as response:
        assert (await response.json())["data"] == [{"id": "c"}]


async def test_the_first_of_a_list_is_taken(stack: "Stack") -> None:
    stack.router.destination = ",".join(stack.experts[name].address for name in "bca")
    assert {await answering(stack) for _ in range(5)} == {"b"}


async def test_without_a_pick_all_experts_take_turns(stack: "Stack") -> None:
    served = Counter([await answering(stack) for _ in range(40)])
    assert min(served[name] for name in "abc") >= 8


async def test_an_unknown_pick_falls_back_to_any_expert(stack: "Stack") -> None:
    stack.router.destination = "127.0.0.77:1"
    assert {await answering(stack) for _ in range(12)} == {"a", "b", "c"}


async def test_an_unknown_first_pick_falls_back_to_the_second(stack: "Stack") -> None:
    stack.router.destination = f"127.0.0.77:1,{stack.experts['b'].address}"
    assert {await answering(stack) for _ in range(5)} == {"b"}


async def test_a_dead_first_pick_falls_back_to_the_second(stack: "Stack") -> None:
    stack.router.destination = f"{stack.dead_address},{stack.experts['c'].address}"
    assert {await answering(stack) for _ in range(5)} == {"c"}
    entry = await stack.router.outcome()
    assert entry.common_properties.upstream_request_attempt_count == 2


async def test_a_dead_only_pick_falls_back_to_any_expert(stack: "Stack") -> None:
    stack.router.destination = stack.dead_address
    assert await answering(stack) in {"a", "b", "c"}


async def test_an_unready_first_pick_falls_back_to_the_second(stack: "Stack") -> None:
    stack.experts["a"].status = 503
    stack.router.destination = f"{stack.experts['a'].address},{stack.experts['b'].address}"
    assert await answering(stack) == "b"
    assert len(stack.experts["a"].received) == 1


async def test_an_expert_that_failed_at_its_work_is_not_asked_again(stack: "Stack") -> None:
    stack.experts["a"].status = 500
    stack.router.destination = f"{stack.experts['a'].address},{stack.experts['b'].address}"
    async with stack.post() as response:
        assert response.status == 500
    assert len(stack.experts["a"].received) == 1
    assert not stack.experts["b"].received


async def test_the_router_may_forbid_retries_of_a_request(stack: "Stack") -> None:
    stack.router.destination = stack.dead_address
    stack.router.mutations["x-envoy-max-retries"] = "0"
    async with stack.post() as response:
        assert response.status == 503
    assert not any(expert.received for expert in stack.experts.values())


async def test_a_request_that_killed_its_expert_is_not_sent_to_the_next(stack: "Stack") -> None:
    stack.router.destination = ",".join(stack.experts[name].address for name in "abc")
    async with stack.post(fake={"die": True}) as response:
        assert response.status == 503
    assert [len(expert.received) for expert in stack.experts.values()] == [1, 0, 0]


@pytest.mark.parametrize(
    "header",
    ["x-gateway-destination-endpoint", "X-Gateway-Destination-Endpoint-Subset", "x-envoy-upstream-rq-timeout-ms"],
)
async def test_a_client_cannot_steer_by_headers(stack: "Stack", header: str) -> None:
    stack.router.requests.clear()
    assert {await answering(stack, {header: stack.experts["a"].address}) for _ in range(12)} == {"a", "b", "c"}
    seen_by_router = [item.key for item in stack.router.requests[0].request_headers.headers.headers]
    seen_by_experts = {key for expert in stack.experts.values() for headers, _ in expert.received for key in headers}
    assert header.lower() not in seen_by_router
    assert header.lower() not in seen_by_experts


async def test_a_client_cannot_override_a_pick(stack: "Stack") -> None:
    stack.router.destination = stack.experts["b"].address
    spoofed = {"x-gateway-destination-endpoint": stack.experts["a"].address}
    assert {await answering(stack, spoofed) for _ in range(5)} == {"b"}
    (headers, _) = stack.experts["b"].received[0]
    assert headers["x-gateway-destination-endpoint"] == stack.experts["b"].address


async def test_experts_are_not_asked_for_compressed_answers(stack: "Stack") -> None:
    stack.router.destination = stack.experts["a"].address
    await answering(stack, {"accept-encoding": "gzip"})
    (headers, _) = stack.experts["a"].received[0]
    assert "accept-encoding" not in headers


async def test_a_rejection_reaches_the_client_with_its_header(stack: "Stack") -> None:
    rejection = ext.ImmediateResponse(status=ext.HttpStatus(code=429), body=b'{"error":{"type":"rate_limit_error"}}')
    for key, value in {
        "x-llm-d-request-dropped-reason": "rejected-saturated",
        "content-type": "application/json",
    }.items():
        rejection.headers.set_headers.add(header=ext.HeaderValue(key=key, raw_value=value.encode()))
    stack.router.rejection = rejection
    async with stack.post() as response:
        assert response.status == 429
        assert response.headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
        assert (await response.json())["error"] == {"type": "rate_limit_error"}
    entry = await stack.router.outcome()
    assert entry.response.response_code.value == 429
    assert not any(expert.received for expert in stack.experts.values())


@pytest.mark.parametrize("model", ["m", "a-much-longer-model-name/than-the-alias-was"])
async def test_a_rewritten_body_arrives_whole(stack: "Stack", model: str) -> None:
    stack.router.destination = stack.experts["b"].address
    stack.router.rewrite = json.dumps(stack.body(model=model)).encode()
    assert await answering(stack) == "b"
    (headers, body) = stack.experts["b"].received[0]
    assert body == stack.body(model=model)
    assert headers["content-length"] == str(len(stack.router.rewrite))


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
@pytest.mark.parametrize("size", [1_000, 220_000, 8_000_000], ids=["1KB", "220KB", "8MB"])
async def test_prompts_of_any_size_arrive_whole(stack: "Stack", size: int, streaming: bool) -> None:
    stack.router.requests.clear()
    stack.router.destination = stack.experts["c"].address
    prompt = "é" * (size // 2)
    async with stack.post(prompt=prompt, stream=streaming) as response:
        assert response.status == 200
        await response.read()
    (_, body) = stack.experts["c"].received[0]
    assert body["prompt"] == prompt
    assert json.loads(stack.router.requests[1].request_body.body) == body


async def test_a_prompt_beyond_the_limit_is_refused(stack: "Stack") -> None:
    async with stack.post(prompt="x" * (33 * 1024 * 1024)) as response:
        assert response.status == 413


async def test_experts_come_and_go_without_a_restart(stack: "Stack") -> None:
    addresses = {name: expert.address for name, expert in stack.experts.items()}
    try:
        stack.router.destination = addresses["a"]
        write_endpoints(stack.sidecar.endpoints_path, [addresses["b"], addresses["c"]])
        await stack.eventually(lambda: leaves(stack, "a"), "the removed expert is still asked")
        write_endpoints(stack.sidecar.endpoints_path, list(addresses.values()))
        await stack.eventually(lambda: returns(stack, "a"), "the added expert is never asked")
    finally:
        write_endpoints(stack.sidecar.endpoints_path, [*addresses.values(), stack.dead_address])


async def leaves(stack: "Stack", name: str) -> bool:
    return await answering(stack) != name


async def returns(stack: "Stack", name: str) -> bool:
    return await answering(stack) == name


async def test_removing_an_expert_truncates_no_answer(stack: "Stack") -> None:
    addresses = {name: expert.address for name, expert in stack.experts.items()}
    stack.router.destination = addresses["a"]
    try:
        async with stack.post(stream=True, fake={"hold_after": 2}) as response:
            first = await response.content.readline()
            write_endpoints(stack.sidecar.endpoints_path, [addresses["b"], addresses["c"]])
            await stack.eventually(lambda: leaves(stack, "a"), "the removed expert is still asked")
            stack.experts["a"].release.set()
            text = first + await response.read()
        assert text.endswith(b"data: [DONE]\n\n")
        assert text.count(b"data:") == 7
    finally:
        write_endpoints(stack.sidecar.endpoints_path, [*addresses.values(), stack.dead_address])


async def test_without_any_expert_the_answer_is_503(stack: "Stack") -> None:
    addresses = [expert.address for expert in stack.experts.values()]
    try:
        write_endpoints(stack.sidecar.endpoints_path, [])
        await stack.eventually(lambda: refuses(stack), "requests are still answered")
    finally:
        write_endpoints(stack.sidecar.endpoints_path, [*addresses, stack.dead_address])
        await stack.eventually(lambda: refuses(stack, 200), "experts did not come back")


async def refuses(stack: "Stack", status: int = 503) -> bool:
    async with stack.post() as response:
        return response.status == status
