import io
import json
import sys

import pytest
from tests.unit.cli.conftest import Run
from tests.unit.routing import Core

from pointsman_operator.decision import OutcomeStatus


def test_a_route_is_shown_with_its_reason_and_how_to_ask_for_more(run: Run, target: str) -> None:
    result = run("route", "Where to?", "--target", target)
    assert (result.code, result.err) == (0, "")
    assert "by Obedient 3 under policy edge/chat" in result.out
    assert "c, by Obedient: what the test says" in result.out
    assert "More: pointsman explain " in result.out
    assert "10.0.0.3:8000" in result.out


def test_the_target_may_come_from_the_environment(run: Run, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_TARGET", target)
    assert run("experts").code == 0


def test_options_become_the_query(run: Run, target: str, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("x" * 400))
    options = ("--ttft-ms", 500, "--ntpot-ms", 0, "--priority", -1, "--max-tokens", 50, "--model", "edge-chat")
    result = run("route", "-", *options, "--target", target, "--json")
    decision = json.loads(result.out)
    assert [one["expert"] for one in decision["endpoints"]] == ["c", "a"]
    explained = core.router.explain(decision["decision_id"])
    assert explained.prompt_tokens == 100
    assert (explained.objectives.ttft_seconds, explained.objectives.ntpot_seconds) == (0.5, 0)
    state = core.picker.seen[-1]
    assert state.request[0]["priority"] == -1
    assert state.candidate["predicted_output_tokens"].tolist() == [50, 50, 50]


def test_experts_are_listed_and_what_is_unknown_is_not_a_number(run: Run, target: str, core: Core) -> None:
    core.sample("10.0.0.1:8000", running=3)
    result = run("experts", "--target", target)
    assert result.code == 0
    rows = {line.split()[0]: line for line in result.out.splitlines() if "10.0.0." in line}
    assert {"a", "b", "c"} <= rows.keys()
    assert "3.0" in rows["a"]
    assert "L4" in rows["a"]
    assert "no" in rows["b"].split()
    assert "never" in rows["c"]
    assert json.loads(run("experts", "--target", target, "--json").out)["experts"][2]["name"] == "c"


def test_a_decision_is_explained_with_its_outcome(run: Run, target: str, core: Core) -> None:
    decision = core.route()
    assert "Outcome" not in run("explain", decision.id, "--target", target).out
    core.report(decision, duration_seconds=2.0, output_tokens=100)
    result = run("explain", decision.id, "--target", target)
    assert result.code == 0
    assert "by Obedient 3, " in result.out
    assert "objectives NTPOT 30 ms" in result.out
    assert "not ready" in result.out
    assert "Outcome: completed, tokens 100, duration 2.00 s, TTFT -" in result.out


def test_fallbacks_of_a_decision_are_shown(run: Run, target: str, core: Core) -> None:
    core.picker.error = RuntimeError("no [model]")
    decision = core.route()
    core.report(decision, OutcomeStatus.CANCELLED, endpoint="10.0.0.1:8000")
    result = run("explain", decision.id, "--target", target)
    assert "did not answer: Obedient: failed (RuntimeError: no [model])" in result.out
    assert "Outcome: cancelled by 10.0.0.1:8000, tokens -, duration -, TTFT -" in result.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("route", "x", "--model", "gpt-5"), 1, "NOT_FOUND: no RouterPolicy serves the model 'gpt-5'"),
        (("explain", "nothing"), 1, "NOT_FOUND: decision 'nothing' is not known"),
        (("explain",), 2, "Missing argument"),
        (("experts", "--model", "[gone]"), 1, "no RouterPolicy serves the model '[gone]'"),
        (("route", "x", "--priority", "2000"), 2, "--priority"),
        (("route", "x", "--ttft-ms", "soon"), 2, "Invalid value for '--ttft-ms'"),
        (("rout",), 2, "No such command 'rout'"),
    ],
)
def test_what_is_wrong_is_one_message_and_an_exit_code(
    run: Run, target: str, arguments: tuple[str, ...], code: int, message: str
) -> None:
    needs_router = code == 1
    result = run(*arguments, *(("--target", target) if needs_router else ()))
    assert result.code == code
    assert message in " ".join(result.err.split())
    assert "Traceback" not in result.err
    assert result.out == ""


def test_without_a_router_it_says_how_to_start_one(run: Run) -> None:
    result = run("route", "x", "--target", "127.0.0.1:1")
    assert result.code == 1
    assert "start one with `pointsman router`" in result.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("route", "chat", "Where to?"), "give the prompt as one argument"),
        (("route", "-n", "edge", "chat", "Where", "to?"), "give the prompt as one argument"),
        (("explain", "chat", "id"), "a RouterPolicy may stand before it with --namespace only"),
        (("experts", "edge/chat", "--model", "m"), "name either a RouterPolicy or --model, not both"),
        (("router",), "give --policy and --experts, or --kubernetes"),
        (("router", "--kubernetes", "--policy", "x.yaml"), "leave out --policy and --experts"),
        (("router", "--policy", "p", "--experts", "e", "--namespace", "n"), "go with --kubernetes only"),
        (("router", "--kubernetes", "--tls-certificate", "x"), "TLS needs both"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(run: Run, arguments: tuple[str, ...], problem: str) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert problem in result.err


def test_experts_may_be_asked_for_by_the_key_of_their_policy(run: Run, target: str) -> None:
    assert "policy edge/chat" in run("experts", "edge/chat", "--target", target).out
