"""`pointsman conformance` against a picker in this process."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run
from tests.unit.conformance import picker

POOL = ",".join(picker.POOL)
QUICK = ("--timeout", "2", "--model", "chat")


@contextmanager
def serving(*faults: str) -> Iterator[str]:
    """A picker on a loop of its own; returns its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    stack = AsyncExitStack()
    try:
        yield asyncio.run_coroutine_threadsafe(stack.enter_async_context(picker.serving(*faults)), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_picker_that_conforms_ends_with_0_and_every_rule_in_the_table(run: Run, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ("--shed-model", "busy", "--empty-model", "empty", "--endpoints", POOL, "--json", report)
    with serving("shows served") as target:
        result = run("conformance", "--target", target, *QUICK, *options)
    assert result.code == 0
    told = json.loads(report.read_text())
    assert told["conforms"] is True
    assert told["endpoints"] == list(picker.POOL)
    assert {one["result"] for one in told["rules"]} == {"pass"}
    for one in told["rules"]:
        assert one["id"] in result.out
    assert f"The picker conforms: {len(told['rules'])} pass" in result.out


def test_a_broken_must_ends_with_1_the_reason_and_the_message_that_shows_it(run: Run, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with serving("tells two values") as target:
        result = run("conformance", "--target", target, *QUICK, "--rule", "destination-agrees", "--json", report)
    assert result.code == 1
    assert "The picker does not conform: 1 fail" in result.out
    (told,) = json.loads(report.read_text())["rules"]
    assert (told["result"], told["level"], told["section"]) == ("fail", "MUST", "Destination Endpoint")
    assert told["conversation"] == [
        "-> request_headers",
        "-> request_body",
        "<- request_headers",
        "<- request_body",
        "<- stream ended: OK",
    ]
    assert 'key: "x-gateway-destination-endpoint"' in told["message"]
    for line in told["message"].splitlines():
        assert line.strip() in result.out
    assert told["reason"] in result.out


def test_a_broken_should_is_a_warning_unless_the_check_is_strict(run: Run) -> None:
    with serving("keeps the route") as target:
        options = ("conformance", "--target", target, *QUICK, "--rule", "route-cache")
        lenient, strict = run(*options), run(*options, "--strict")
    assert (lenient.code, strict.code) == (0, 1)
    assert "The picker conforms: 1 warning" in lenient.out
    assert "without clear_route_cache: true" in lenient.out


def test_long_bodies_are_cut_where_they_are_shown(run: Run) -> None:
    with serving("bodies first") as target:
        result = run("conformance", "--target", target, *QUICK, "--rule", "request-order", "--rule", "request-large")
    assert result.code == 1
    assert len(result.out) < 5_000


def test_a_model_that_the_picker_refuses_is_a_usage_error(run: Run) -> None:
    with serving() as target:
        result = run("conformance", "--target", target, "--model", "no-such-model-conformance")
    assert result.code == 2
    assert "with an ImmediateResponse with status 404; name one that it serves with --model" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--target", "127.0.0.1:1"), 1, "no endpoint picker answers at 127.0.0.1:1; check the address"),
        (("--target", "127.0.0.1:1", "--tls"), 1, "no TLS server answers at 127.0.0.1:1"),
        (("--rule", "nonsense"), 2, "there is no rule 'nonsense'"),
        (("--shed-header", "x"), 2, "must be \"name: value\", not 'x'"),
        (("--ca", "/nowhere/ca.pem"), 2, "--ca /nowhere/ca.pem cannot be used ([Errno 2] No such file or directory)"),
    ],
)
def test_what_is_wrong_is_one_message_and_an_exit_code(
    run: Run, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = run("conformance", "--timeout", "0.3", *arguments)
    assert result.code == code
    assert message in " ".join(result.err.split()).replace(" │ │ ", " ")
    assert "Traceback" not in result.err


def test_the_rules_can_be_listed(run: Run) -> None:
    result = run("conformance", "--list")
    assert result.code == 0
    assert "| `destination-header` | MUST | Destination Endpoint |" in result.out
