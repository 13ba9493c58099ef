"""An Envoy as the chart runs it: admin page on a unix socket, a status port for others, drained before it stops."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from typer.testing import CliRunner

from pointsman_operator.cli.main import app
from pointsman_operator.serving.envoy_config import write_endpoints
from pointsman_operator.serving.envoy_drain import drain

DEADLINE_SECONDS = 20.0


@dataclass
class Pod:
    """What the containers of one pod share."""

    admin_socket: Path
    url: str
    status_url: str
    process: asyncio.subprocess.Process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest_asyncio.fixture(loop_scope="module")
async def pod(envoy_binary: Path, experts: dict[str, Any], routers: list[Any], tmp_path: Path) -> AsyncIterator[Pod]:
    config, endpoints, admin = tmp_path / "envoy.yaml", tmp_path / "endpoints.json", tmp_path / "admin.sock"
    port, status_port = free_port(), free_port()
    made = CliRunner().invoke(
        app,
        [
            "envoy-config",
            *(f"--output={config}", f"--endpoints={endpoints}", f"--admin-socket={admin}"),
            *(f"--router=127.0.0.1:{routers[0].port}", f"--listen-port={port}", f"--status-port={status_port}"),
            *("--heap-limit-mebibytes=256", "--message-timeout=2"),
        ],
    )
    assert made.exit_code == 0, made.output
    process = await asyncio.create_subprocess_exec(
        *(envoy_binary, "-c", config, "--concurrency", "1", "--disable-hot-restart", "--drain-time-s", "30"),
        *("--log-path", tmp_path / "envoy.log", "--log-level", "warning"),
    )
    started = Pod(admin, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{status_port}", process)
    try:
        await answers(f"{started.status_url}/ready")
        write_endpoints(endpoints, [expert.address for expert in experts.values()])
        await answers(f"{started.url}/v1/models")
        yield started
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def answers(url: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    async with aiohttp.ClientSession() as client:
        while time.monotonic() < deadline:
            try:
                async with client.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
    pytest.fail(f"{url} does not answer")


@pytest.mark.asyncio(loop_scope="module")
async def test_the_status_port_shows_readiness_and_metrics_and_nothing_else(
    pod: Pod, client: aiohttp.ClientSession
) -> None:
    async with client.get(f"{pod.status_url}/stats/prometheus") as response:
        assert "envoy_http_downstream_rq_total" in await response.text()
    for method, path in (("GET", "/config_dump"), ("GET", "/"), ("POST", "/quitquitquit"), ("POST", "/ready")):
        async with client.request(method, pod.status_url + path) as response:
            assert response.status == 404, path


@pytest.mark.asyncio(loop_scope="module")
async def test_an_open_answer_ends_before_the_drain_does(
    pod: Pod, client: aiohttp.ClientSession, experts: dict[str, Any]
) -> None:
    for expert in experts.values():
        expert.release.clear()
    body = json.dumps(
        {"model": "m", "prompt": "p", "max_tokens": 40, "stream": True, "fake": {"hold_after": 20}}
    ).encode()
    headers = {"content-type": "application/json"}
    async with client.post(f"{pod.url}/v1/completions", data=body, headers=headers) as response:
        assert await response.content.readline() != b""
        drained = asyncio.create_task(drain(pod.admin_socket, 0.1, 20))
        async with client.get(f"{pod.url}/v1/models") as other:
            assert other.status == 200
        assert not drained.done()
        for expert in experts.values():
            expert.release.set()
        assert (await response.text()).endswith("data: [DONE]\n\n")
    assert await drained == 0


@pytest.mark.asyncio(loop_scope="module")
async def test_an_answer_without_end_is_waited_for_no_longer_than_allowed(
    pod: Pod, client: aiohttp.ClientSession, experts: dict[str, Any]
) -> None:
    for expert in experts.values():
        expert.release.clear()
    body = json.dumps({"model": "m", "prompt": "p", "max_tokens": 4, "stream": True, "fake": {"hold_after": 1}})
    headers = {"content-type": "application/json"}
    async with client.post(f"{pod.url}/v1/completions", data=body.encode(), headers=headers) as response:
        assert await response.content.readline() != b""
        assert await drain(pod.admin_socket, 0.0, 0.3) == 1
    for expert in experts.values():
        expert.release.set()


def test_where_no_envoy_is_there_is_nothing_to_wait_for_and_the_end_is_told(tmp_path: Path) -> None:
    done = tmp_path / "drained"
    ended = CliRunner().invoke(app, ["envoy-drain", f"--admin-socket={tmp_path}/none.sock", f"--done={done}"])
    assert isinstance(ended.exception, OSError)
    assert done.exists()


def test_a_status_port_needs_something_to_show(tmp_path: Path) -> None:
    arguments = ["envoy-config", "--endpoints=e.json", "--router=127.0.0.1:9002", "--status-port=9902"]
    failed = CliRunner().invoke(app, arguments)
    assert failed.exit_code == 2
    assert "admin socket" in failed.output


def test_an_endpoints_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    endpoints, output = tmp_path / "endpoints.json", tmp_path / "envoy.yaml"
    write_endpoints(endpoints, ["10.0.0.1:8000"])
    before = endpoints.read_text()
    arguments = ["envoy-config", f"--endpoints={endpoints}", "--router=127.0.0.1:9002", f"--output={output}"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert endpoints.read_text() == before
    assert yaml.safe_load(output.read_text())["static_resources"]
