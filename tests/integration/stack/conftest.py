"""The whole data plane: emulated experts, Prometheus, the router and Envoy, each a real process on loopback.

Started once for all modules in here; a test that breaks something mends it before it ends.
"""

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.stack.processes import START_SECONDS, Process, answers, eventually, free_port

from pointsman.routing.v1 import routing_pb2_grpc
from pointsman_operator.demo.processes import find_envoy
from pointsman_operator.errors import PartError

DECISION_HEADER = "x-pointsman-decision-id"
POOL = "pool"
ALIASES = ("edge-chat", "edge-turns", "edge-strict")


def pointsman(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pointsman_operator.cli", *map(str, arguments)]


def expert(name: str, port: int, pool: str, iteration_ms: float, quality: int, **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "endpoint": f"127.0.0.1:{port}",
        "model": name,
        "servedModelNames": [f"real-{name}", *ALIASES],
        "labels": {POOL: pool},
        "qualityPriorPercent": quality,
        "outputTokensPrior": 5_000,
        "maximumRunning": 64,
        "kvCapacityTokens": 400_000,
        "iterationTime": {
            "baseMilliseconds": iteration_ms,
            "perSequenceMilliseconds": 0.01,
            "perContextTokenMilliseconds": 0,
            "perPrefillTokenMilliseconds": 0.001,
        },
        **fields,
    }


def policy(name: str, pool: str, picker: str, prometheus: str | None, **spec: Any) -> dict[str, Any]:
    telemetry: dict[str, Any] = {"intervalMilliseconds": 250, "staleAfterMilliseconds": 5_000}
    telemetry |= {"prometheusUrl": prometheus} if prometheus else {"source": "DirectScrape"}
    return {
        "apiVersion": "pointsman.io/v1alpha1",
        "kind": "RouterPolicy",
        "metadata": {"name": name, "namespace": "edge"},
        "spec": {
            "modelName": f"edge-{name}",
            "experts": {"selector": {"matchLabels": {POOL: pool}}},
            "picker": {"name": picker, "fallback": ["ShortestQueue"], "timeoutMilliseconds": 200},
            "telemetry": telemetry,
            **spec,
        },
    }


def replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.replace(path)


@dataclass
class Answer:
    """What a client got."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def decision_id(self) -> str:
        return self.headers.get(DECISION_HEADER, "")


@dataclass
class Stack:
    """Everything that a test talks to."""

    folder: Path
    experts: list[dict[str, Any]] = field(default_factory=list)
    policies: list[dict[str, Any]] = field(default_factory=list)
    parts: dict[str, Process] = field(default_factory=dict)
    url: str = ""
    target: str = ""
    admin_url: str = ""
    prometheus_url: str = ""

    def write_experts(self, *without: str) -> None:
        listed = [one for one in self.experts if one["name"] not in without]
        replace(self.folder / "experts.yaml", yaml.safe_dump({"experts": listed}))

    def write_policies(self) -> None:
        replace(self.folder / "policies.yaml", yaml.safe_dump_all(self.policies))

    def address(self, name: str) -> str:
        return next(str(one["endpoint"]) for one in self.experts if one["name"] == name)

    # A client of Envoy

    def body(self, model: str = "edge-chat", size: int = 1_000, **fields: Any) -> dict[str, Any]:
        prompt = ("word " * (size // 5 + 1))[:size]
        return {"model": model, "prompt": prompt, "max_tokens": 10, **fields}

    def post(
        self,
        model: str = "edge-chat",
        headers: Mapping[str, str] | None = None,
        session: requests.Session | None = None,
        **fields: Any,
    ) -> Answer:
        send = session.post if session else requests.post
        response = send(f"{self.url}/v1/completions", json=self.body(model, **fields), headers=headers, timeout=60)
        return Answer(response.status_code, response.headers, response.text)

    @contextmanager
    def stream(self, model: str = "edge-chat", tokens: int = 100, **fields: Any) -> Iterator["Stream"]:
        """A streamed answer whose first event has come."""
        body = self.body(model, max_tokens=tokens, stream=True, **fields)
        with requests.post(f"{self.url}/v1/completions", json=body, stream=True, timeout=60) as response:
            yield Stream(response)

    # What the router says

    def state(self) -> dict[str, Any]:
        answer: dict[str, Any] = requests.get(f"{self.admin_url}/debug/state", timeout=5).json()
        return answer

    def views(self, policy: str = "edge/chat") -> dict[str, dict[str, Any]]:
        """What is believed of a policy's experts, by their names."""
        (found,) = [one for one in self.state()["policies"] if one["name"] == policy]
        return {one["endpoint"]["expert"]["name"]: one for one in found["experts"]}

    def readiness(self, expert: str) -> bool | None:
        """Whether an expert may be picked; None = the policy does not know it, as it is while Envoy is told of it."""
        view = self.views().get(expert)
        return None if view is None else bool(view["ready"])

    def explain(self, decision_id: str) -> dict[str, Any]:
        response = requests.get(f"{self.admin_url}/debug/decisions/{decision_id}", timeout=5)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def outcome(self, decision_id: str) -> dict[str, Any]:
        """The decision with its outcome, once that is known."""
        eventually(lambda: self.explain(decision_id)["outcome"], f"no outcome of {decision_id}")
        return self.explain(decision_id)

    def metric(self, name: str, **labels: str) -> float:
        text = requests.get(f"{self.admin_url}/metrics", timeout=5).text
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        wanted = [one for one in samples if one.name == f"pointsman_{name}" and labels.items() <= one.labels.items()]
        return sum(float(one.value) for one in wanted)

    def stub(self) -> "Stub":
        return Stub(self.target)


class Stub:
    """RoutingService, as long as the context lasts."""

    def __init__(self, target: str) -> None:
        self.channel = grpc.insecure_channel(target)

    def __enter__(self) -> Any:
        return routing_pb2_grpc.RoutingServiceStub(self.channel)  # type: ignore[no-untyped-call]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.channel.close()


class Stream:
    """The answer's events as they come."""

    def __init__(self, response: requests.Response) -> None:
        self.response = response
        self.decision_id = response.headers.get(DECISION_HEADER, "")
        self._lines = response.iter_lines(chunk_size=1)
        self.events = [next(self._lines)]

    def read_all(self) -> list[bytes]:
        self.events += list(self._lines)
        return [line for line in self.events if line]


class Load:
    """Clients that send one request after another, until the context ends."""

    def __init__(self, stack: Stack, model: str, clients: int = 4, **fields: Any) -> None:
        self.answers: list[Answer] = []
        self._stack = stack
        self._model = model
        self._fields = fields
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def proceed(self, count: int = 20) -> None:
        """Wait for more answers."""
        wanted = len(self.answers) + count
        eventually(lambda: len(self.answers) >= wanted, f"the clients do not get {count} more answers")

    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status != 200]

    def _run(self) -> None:
        with requests.Session() as session:
            while not self._ended.is_set():
                try:
                    answer = self._stack.post(self._model, session=session, **self._fields)
                except requests.RequestException as error:
                    answer = Answer(0, {}, str(error))
                self.answers.append(answer)


def describe(stack: Stack) -> None:
    """Write the files of two pools: "main", of three unlike experts, and "turns", of two alike; and one slow expert."""
    ports = iter([free_port() for _ in range(6)])
    stack.experts = [
        expert("small", next(ports), "main", 3, 40),
        expert("medium", next(ports), "main", 8, 60),
        expert("large", next(ports), "main", 20, 90),
        expert("left", next(ports), "turns", 5, 50),
        expert("right", next(ports), "turns", 5, 50),
        expert("single", next(ports), "single", 10, 50, maximumRunning=1),
    ]
    stack.prometheus_url = f"http://127.0.0.1:{free_port()}"
    stack.policies = [
        policy("chat", "main", "SloFilteredQuality", stack.prometheus_url),
        policy("real", "main", "SloFilteredQuality", None),
        policy("turns", "turns", "RoundRobin", stack.prometheus_url),
        policy("strict", "single", "SloFilteredQuality", None, admission={"mode": "ShedHopeless"}),
    ]
    stack.write_experts()
    stack.write_policies()
    targets = [one["endpoint"] for one in stack.experts]
    scrape = {"job_name": "experts", "static_configs": [{"targets": targets}]}
    timing = {"scrape_interval": "250ms", "scrape_timeout": "250ms"}
    (stack.folder / "prometheus.yml").write_text(yaml.safe_dump({"global": timing, "scrape_configs": [scrape]}))


def add_parts(stack: Stack, envoy: Path, prometheus: str) -> None:
    folder = stack.folder
    for name, members in (("experts", ("small", "medium", "large", "left", "single")), ("victim", ("right",))):
        listed = [one for one in stack.experts if one["name"] in members]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"experts": listed}))
        urls = [f"http://{one['endpoint']}/health" for one in listed]
        stack.parts[name] = Process(
            pointsman("expert-sim", "--experts", folder / f"{name}.yaml"),
            lambda urls=urls: all(map(answers, urls)),  # type: ignore[misc]
            folder / f"{name}.log",
        )
    stack.parts["prometheus"] = Process(
        (
            *(prometheus, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"),
            f"--web.listen-address={stack.prometheus_url.removeprefix('http://')}",
        ),
        lambda: answers(f"{stack.prometheus_url}/-/ready"),
        folder / "prometheus.log",
    )
    stack.target, admin_port = f"127.0.0.1:{free_port()}", free_port()
    stack.admin_url = f"http://127.0.0.1:{admin_port}"
    stack.parts["router"] = Process(
        pointsman(
            "router",
            *("--policy", folder / "policies.yaml", "--experts", folder / "experts.yaml"),
            *("--envoy-endpoints", folder / "envoy" / "endpoints.json"),
            *("--listen", stack.target, "--sidecar-listen", f"unix:{stack.folder}/s"),
            *("--admin-port", admin_port, "--seed", 1),
            *("--drain-notice", 0.5, "--drain-grace", 30),
        ),
        lambda: answers(f"{stack.admin_url}/readyz"),
        folder / "router.log",
    )
    admin_address = folder / "envoy-admin"
    stack.parts["envoy"] = Process(
        (
            *(str(envoy), "-c", str(folder / "envoy.yaml"), "--admin-address-path", str(admin_address)),
            *("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"),
        ),
        lambda: admin_address.exists() and answers(f"http://{admin_address.read_text()}/ready"),
        folder / "envoy.log",
    )


def write_envoy_config(stack: Stack) -> None:
    arguments = pointsman(
        "envoy-config",
        *("--endpoints", stack.folder / "envoy" / "endpoints.json", "--router", stack.target),
        *("--ext-proc", f"unix:{stack.folder}/s"),
        *("--listen-port", 0, "--admin-port", 0, "--message-timeout", 5),
    )
    config = subprocess.run(arguments, check=True, capture_output=True, timeout=60).stdout
    (stack.folder / "envoy.yaml").write_bytes(config)


def listen_url(stack: Stack) -> str:
    admin = (stack.folder / "envoy-admin").read_text()
    listeners = requests.get(f"http://{admin}/listeners?format=json", timeout=5).json()["listener_statuses"]
    address = listeners[0]["local_address"]["socket_address"]
    return f"http://{address['address']}:{address['port_value']}"


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("needs Debian's package prometheus")
    try:
        envoy = find_envoy()
    except PartError as error:
        pytest.skip(str(error))
    whole = Stack(tmp_path_factory.mktemp("stack"))
    describe(whole)
    add_parts(whole, envoy, prometheus)
    with ExitStack() as running:
        for part in whole.parts.values():
            running.callback(part.stop)
        for part in whole.parts.values():
            running.callback(part.terminate)
        for name in ("experts", "victim", "prometheus", "router"):
            whole.parts[name].launch()
        write_envoy_config(whole)
        endpoints = whole.folder / "envoy" / "endpoints.json"
        eventually(endpoints.exists, "the router writes no endpoints file", START_SECONDS)
        whole.parts["envoy"].launch()
        for part in whole.parts.values():
            part.wait_until_ready()
        whole.url = listen_url(whole)
        eventually(lambda: all_seen(whole), "the router does not learn every expert's load")
        yield whole


def all_seen(stack: Stack) -> bool:
    policies: Sequence[dict[str, Any]] = stack.state()["policies"]
    return all(one["telemetry_age_seconds"] is not None for policy in policies for one in policy["experts"])
