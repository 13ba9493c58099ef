"""The demo's real parts: emulated experts, Prometheus, the router and Envoy."""

import re
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console

from pointsman_operator.demo.configuration import Configuration
from pointsman_operator.demo.lanes import Lane
from pointsman_operator.demo.processes import Parts, find_envoy, free_address, pointsman
from pointsman_operator.serving.envoy_config import EnvoySettings, render_bootstrap

_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
_MESSAGE_TIMEOUT_SECONDS = 2.0
_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)(?: \d+)?$")


class Probe:
    """Reads what parts say of themselves over HTTP; what does not answer reads as empty."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def text(self, url: str) -> str:
        """Return the body of an answer of status 200, else nothing."""
        try:
            async with self._session.get(url, timeout=_TIMEOUT) as response:
                return await response.text() if response.status == 200 else ""
        except (aiohttp.ClientError, TimeoutError, OSError):
            return ""

    async def answers(self, url: str) -> bool:
        """Tell whether there is an answer of status 200."""
        try:
            async with self._session.get(url, timeout=_TIMEOUT) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def total(self, url: str, metric: str, labels: str = "") -> float | None:
        """Return the sum of a metric's series.

        Args:
            url: Of an exposition in Prometheus' text format.
            metric: Its exact name.
            labels: A text that the series' labels must contain.

        Returns:
            None if there is no such series.
        """
        found = [
            float(match["value"])
            for line in (await self.text(url)).splitlines()
            if (match := _SAMPLE.match(line)) and match["name"] == metric and labels in (match["labels"] or "")
        ]
        return sum(found) if found else None


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the running parts are."""

    lanes: tuple[Lane, ...]
    envoy_url: str
    router_target: str
    """The router's gRPC address."""
    router_admin_url: str
    prometheus_url: str | None

    def expert_urls(self, lane: Lane) -> list[str]:
        """Return the base URLs of a rule's experts."""
        return [f"http://{expert.endpoint}" for expert in lane.experts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is to be started."""

    files: Configuration
    """Written, but for Envoy's."""
    lanes: tuple[Lane, ...]
    seed: int
    prometheus: Path | None
    """The binary; None = do without."""
    prometheus_url: str | None
    """Where it is to listen; None = do without."""
    router_options: tuple[str, ...] = ()
    """Beside those that it always has."""


async def start_stack(parts: Parts, probe: Probe, launch: Launch, console: Console) -> Stack:
    """Start all parts in the order in which they need each other, each once the one before is ready.

    Raises:
        PartError: If one does not get ready.
    """
    with console.status("starting the emulated experts; the very first start compiles for half a minute") as status:
        await _start_experts(parts, probe, launch)
        if launch.prometheus is not None:
            status.update("starting Prometheus")
            await _start_prometheus(parts, probe, launch)
        status.update("starting the router")
        target, router_admin = await _start_router(parts, probe, launch)
        status.update("starting Envoy")
        envoy = await _start_envoy(parts, probe, launch.files, target)
    where = f"Running: Envoy at {envoy}, router at {target} (metrics: {router_admin}/metrics)"
    if launch.prometheus_url is not None:
        where += f", Prometheus at {launch.prometheus_url}"
    console.print(where, highlight=False, soft_wrap=True)
    return Stack(launch.lanes, envoy, target, router_admin, launch.prometheus_url)


async def _start_experts(parts: Parts, probe: Probe, launch: Launch) -> None:
    """Start one process with all fleets, and wait until every expert answers."""
    files = launch.files
    options = ("--experts", files.experts, "--scores", files.scores, "--prompts", files.prompts, "--seed", launch.seed)
    part = await parts.start("experts", pointsman("expert-sim", *map(str, options)))
    waiting = [f"http://{expert.endpoint}/health" for lane in launch.lanes for expert in lane.experts]

    async def ready() -> bool:
        while waiting and await probe.answers(waiting[-1]):
            waiting.pop()
        return not waiting

    await parts.until(part, ready, "not all emulated experts answered")


async def _start_prometheus(parts: Parts, probe: Probe, launch: Launch) -> None:
    """Start Prometheus, and wait until it has scraped every expert."""
    url = str(launch.prometheus_url)
    storage = parts.temporary_folder / "prometheus"
    command = (
        str(launch.prometheus),
        f"--config.file={launch.files.prometheus}",
        f"--storage.tsdb.path={storage}",
        f"--web.listen-address={url.removeprefix('http://')}",
    )
    part = await parts.start("prometheus", command)
    experts = sum(len(lane.experts) for lane in launch.lanes)

    async def ready() -> bool:
        return f'"{experts}"' in await probe.text(f"{url}/api/v1/query?query=sum(up)")

    await parts.until(part, ready, "Prometheus did not scrape all experts")


async def _start_router(parts: Parts, probe: Probe, launch: Launch) -> tuple[str, str]:
    """Start one router for all policies, and wait until it knows every expert's load.

    Returns:
        Its gRPC address, and the URL of its admin port.
    """
    target, admin = free_address("127.0.0.1"), free_address("127.0.0.1")
    files = launch.files
    options = (
        *("--policy", files.policies, "--experts", files.experts, "--envoy-endpoints", files.endpoints),
        *("--listen", target, "--sidecar-listen", _sidecar(parts), "--admin-port", admin.rpartition(":")[2]),
        *("--drain-notice", 0, "--drain-grace", 1, "--seed", launch.seed, *launch.router_options),
    )
    part = await parts.start("router", pointsman("router", *map(str, options)))
    url = f"http://{admin}"

    async def ready() -> bool:
        if not await probe.answers(f"{url}/readyz"):
            return False
        state = msgspec.json.decode(await probe.text(f"{url}/debug/state") or "{}")
        experts = [expert for policy in state.get("policies", ()) for expert in policy["experts"]]
        return bool(experts) and all(expert["telemetry_age_seconds"] is not None for expert in experts)

    await parts.until(part, ready, "the router did not learn every expert's load")
    return target, url


def _sidecar(parts: Parts) -> str:
    return f"unix:{parts.temporary_folder / 'sidecar'}"


async def _start_envoy(parts: Parts, probe: Probe, files: Configuration, router: str) -> str:
    """Start Envoy on any free port, wait until it listens, and return its URL.

    A request that the router does not answer fails here: another rule's fleet must not get it.
    """
    settings = EnvoySettings(
        listen_address="127.0.0.1",
        listen_port=0,
        admin_port=0,
        endpoints_path=files.endpoints,
        router_addresses=(router,),
        ext_proc_addresses=(_sidecar(parts),),
        message_timeout_seconds=_MESSAGE_TIMEOUT_SECONDS,
        fail_open=False,
    )
    files.envoy.write_text(render_bootstrap(settings), "utf-8")
    admin = parts.temporary_folder / "envoy-admin"
    command = (
        *(str(find_envoy()), "-c", str(files.envoy), "--admin-address-path", str(admin)),
        *("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"),
    )
    part = await parts.start("envoy", command)

    async def address_known() -> bool:
        return admin.exists() and admin.read_text() != ""

    await parts.until(part, address_known, "Envoy did not open its admin port")
    url = f"http://{admin.read_text()}"
    await parts.until(part, lambda: probe.answers(f"{url}/ready"), "Envoy was not ready")
    listeners = msgspec.json.decode(await probe.text(f"{url}/listeners?format=json"))
    address = listeners["listener_statuses"][0]["local_address"]["socket_address"]
    return f"http://{address['address']}:{address['port_value']}"
