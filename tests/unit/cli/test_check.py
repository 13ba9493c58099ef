import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run


class _Gateway(BaseHTTPRequestHandler):
    """A gateway without experts."""

    def do_GET(self) -> None:
        self.send_error(503 if self.path == "/v1/models" else 404)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def gateway() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Gateway) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_installation_that_answers_is_described(run: Run, target: str, gateway: str) -> None:
    result = run("check", "--grpc", target, "--http", gateway)
    assert (result.code, result.err) == (0, "")
    assert "1 policies" in result.out
    assert "- edge/chat: " in result.out
    assert "503 Service Unavailable" in result.out


def test_no_router_is_a_failure_after_the_time_given(run: Run) -> None:
    result = run("check", "--grpc", "127.0.0.1:1", "--timeout", 1)
    assert result.code == 1
    assert "no router answers: UNAVAILABLE" in result.err


def test_no_policy_service_is_a_failure(run: Run, target: str) -> None:
    result = run("check", "--grpc", target, "--policy-service", "127.0.0.1:1", "--timeout", 1)
    assert result.code == 1
    assert "no policy service answers: UNAVAILABLE" in result.err


def test_no_gateway_is_a_failure(run: Run, target: str) -> None:
    result = run("check", "--grpc", target, "--http", "http://127.0.0.1:1", "--timeout", 1)
    assert result.code == 1
    assert "the gateway http://127.0.0.1:1 does not answer" in result.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--tls-certificate", "c.pem"), "--tls-key"),
        (("--tls-certificate", "c.pem", "--tls-key", "k.pem"), "--tls-ca"),
        (("--policy-service-key", "k.pem"), "--policy-service-certificate"),
    ],
)
def test_half_a_tls_is_refused(run: Run, options: tuple[str, ...], told: str) -> None:
    result = run("check", *options)
    assert result.code == 2
    assert told in result.err


@pytest.mark.parametrize("options", [(), ("--experts", "e.yaml", "--listen", "127.0.0.2:8000")])
def test_emulated_experts_come_from_a_file_or_are_one(run: Run, options: tuple[str, ...]) -> None:
    result = run("expert-sim", *options)
    assert result.code == 2
    assert "--experts FILE or --listen IP:PORT" in result.err


def test_one_emulated_expert_needs_no_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[str] = []
    monkeypatch.setattr(
        "pointsman_policy.simulator.server.run.serve_experts",
        lambda path, *_: served.append(Path(path).read_text()),
    )
    assert run("expert-sim", "--listen", "127.0.0.2:8000", "--model", "gemma-2-2b", "--gpu", "L40S").code == 0
    (text,) = served
    assert "servedModelNames:\n  - gemma-2-2b" in text
    assert "endpoint: 127.0.0.2:8000" in text
