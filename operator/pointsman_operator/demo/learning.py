"""Continuous learning on real parts, a long day in some minutes.

Three twin fleets get the same requests through one Envoy and one router. In the middle one expert slows down and one
model's answers become worse, and nobody is told. One fleet's policy learns from its outcomes: the service trains a
candidate, which has to pass gate, shadow and canary. The two others show what not to learn costs, and what there
would be to regain: one goes on as declared, the other was told of the change beforehand.

At the end somebody forces a harmful version past the gate, and the canary has to notice.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import grpc
import numpy as np
from rich.console import Console

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman.policy.v1.policy_pb2_grpc import PolicyServiceStub
from pointsman_operator.demo.configuration import Configuration, write_configuration
from pointsman_operator.demo.cpu import CpuMeter
from pointsman_operator.demo.drift import LANES, LEARNING, Drift, drift_lanes, drifted, expert_name, judged, poisoned
from pointsman_operator.demo.lanes import Lane
from pointsman_operator.demo.learning_results import Harm, LearningResult, Moment, summarise
from pointsman_operator.demo.processes import Parts, find_envoy, free_address, pointsman
from pointsman_operator.demo.run import PATIENCE_SECONDS, make_folder, play, try_out
from pointsman_operator.demo.scoreboard import Scoreboard
from pointsman_operator.demo.settings import DemoSettings
from pointsman_operator.demo.stack import Launch, Probe, Stack, start_stack
from pointsman_operator.demo.workload import DemoWorkload, load_plan, read_workload
from pointsman_operator.errors import PartError
from pointsman_policy.registry.registry import Registry
from pointsman_policy.registry.version import write_version

POLICY = f"default/{LEARNING}"
_NEVER = "0 0 29 2 *"
"""A schedule that will not come during a run: trainings start when they are asked for."""
_POLL_SECONDS = 0.5
_SETTLE_SECONDS = 5.0
"""After a promotion: until routers have taken it over and earlier answers have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningSettings:
    """Read once at the start."""

    out: Path
    """Folder for figures, plot, configuration, logs, and what the policy service keeps."""
    before_seconds: float = 30.0
    """Until the change."""
    outcomes_seconds: float = 180.0
    """From the change to the training."""
    rollout_seconds: float = 240.0
    """Most from the start of the training to the promotion."""
    after_seconds: float = 180.0
    """What is measured after that."""
    harm_seconds: float = 90.0
    """Longest time that a harmful version may decide before it is withdrawn."""
    load: float = 0.6
    """Mean arrival rate over the fleet's capacity before the change."""
    slow_expert: str = "middle"
    pace: float = 1.6
    """How many times as long its iterations take."""
    poor_model: str = "gemma-2-9b"
    quality_factor: float = 0.4
    judged_percent: int = 50
    """Share of the answers that somebody judges."""
    canary_percents: tuple[int, ...] = (25, 50)
    canary_requests: int = 60
    """In each step."""
    training_minutes: float = 1.0
    seed: int = 1

    @property
    def seconds(self) -> float:
        """Longest duration of the run."""
        learning = self.before_seconds + self.outcomes_seconds + self.rollout_seconds
        return learning + self.after_seconds + self.harm_seconds

    @property
    def drift(self) -> Drift:
        """What changes."""
        return Drift(self.before_seconds, self.slow_expert, self.pace, self.poor_model, self.quality_factor)


async def run_learning(settings: LearningSettings, console: Console) -> LearningResult:
    """Run it and write figures and a plot; whatever happens, no process is left behind.

    Raises:
        DocumentError: If a setting is wrong; nothing has been started then.
        PartError: If a part is missing, does not start or dies, or no candidate is promoted in time; logs are kept.
    """
    out = make_folder(settings.out)
    find_envoy()
    demo = DemoSettings(out=out, load=settings.load, seconds=settings.seconds, seed=settings.seed)
    workload = drifted(read_workload(demo), settings.drift)
    lanes = drift_lanes(workload.scenario, settings.drift, free_address)
    service = _Service(free_address("127.0.0.1"), free_address("127.0.0.1"), out / "policy-service")
    options = ("--policy-service", service.address, "--state-dir", str(out / "router-state"))
    launch = Launch(
        files=Configuration(out / "configuration"),
        lanes=lanes,
        seed=settings.seed,
        prometheus=None,
        prometheus_url=None,
        router_options=options,
    )
    write_configuration(launch.files, workload, lanes, None, _learning(settings))
    scoreboard = Scoreboard(workload, LANES)
    async with Parts(out / "logs") as parts, aiohttp.ClientSession() as session:
        probe = Probe(session)
        await _start_service(parts, probe, launch.files, service, settings)
        stack = await start_stack(parts, probe, launch, console)
        await try_out(session, stack)
        async with grpc.aio.insecure_channel(service.address) as channel:
            stub = PolicyServiceStub(channel)  # type: ignore[no-untyped-call]
            script = _Script(settings, stub, service.root, session, lanes, console)
            await _play(parts, stack, workload, settings, scoreboard, script)
    return summarise(out, scoreboard, script.moments, script.harm, _SETTLE_SECONDS, settings.seed)


@dataclass(frozen=True, slots=True)
class _Service:
    address: str
    admin: str
    root: Path


def _learning(settings: LearningSettings) -> dict[str, object]:
    return {
        "training": {"schedule": _NEVER, "minimumOutcomes": 100},
        "rollout": {
            "shadowMinutes": 0,
            "canaryPercents": list(settings.canary_percents),
            "canaryMinutes": 0,
            "canaryRequests": settings.canary_requests,
        },
    }


async def _start_service(
    parts: Parts, probe: Probe, files: Configuration, service: _Service, settings: LearningSettings
) -> None:
    options = (
        *("--root", service.root, "--listen", service.address, "--policy", files.policies),
        *("--admin-port", service.admin.rpartition(":")[2], "--training-minutes", settings.training_minutes),
    )
    part = await parts.start("policy-service", pointsman("policy", *map(str, options)))
    await parts.until(part, lambda: probe.answers(f"http://{service.admin}/readyz"), "the policy service was not ready")


async def _play(
    parts: Parts,
    stack: Stack,
    workload: DemoWorkload,
    settings: LearningSettings,
    scoreboard: Scoreboard,
    script: "_Script",
) -> None:
    judgements = judged(workload, settings.judged_percent, np.random.default_rng(settings.seed))
    models = tuple(lane.model_name for lane in stack.lanes)
    url = f"{stack.envoy_url}/v1/chat/completions"
    plan = load_plan(workload, url, models, PATIENCE_SECONDS, stack.router_admin_url, judgements)
    quiet = Console(quiet=True)  # the script tells how it goes
    playing = asyncio.create_task(play(parts, plan, scoreboard, CpuMeter(parts), quiet))
    directing = asyncio.create_task(script.run())
    try:
        await asyncio.wait([playing, directing], return_when=asyncio.FIRST_COMPLETED)
        for task in (playing, directing):
            if task.done():
                task.result()
        if not directing.done():
            raise PartError("the requests were over before all had happened; give --rollout-seconds more")
    finally:
        playing.cancel()
        directing.cancel()


class _Script:
    """What happens beside the requests: the change, the training, and what becomes of the candidate.

    Args:
        settings: When what happens.
        service: The policy service.
        root: Its folder.
        session: To slow experts down with.
        lanes: Have the experts.
        console: Is told of each moment.
    """

    def __init__(
        self,
        settings: LearningSettings,
        service: PolicyServiceStub,
        root: Path,
        session: aiohttp.ClientSession,
        lanes: tuple[Lane, ...],
        console: Console,
    ) -> None:
        self._settings = settings
        self._service = service
        self._root = root
        self._session = session
        self._lanes = lanes
        self._console = console
        self._started = time.monotonic()
        self.moments: list[Moment] = []
        self.harm = Harm()

    async def run(self) -> None:
        """Direct the run until all has happened.

        Raises:
            PartError: If the candidate is never promoted, or the harmful version never withdrawn.
        """
        self._started = time.monotonic()
        await asyncio.sleep(self._settings.before_seconds)
        await self._change()
        await asyncio.sleep(self._settings.outcomes_seconds)
        await self._service.StartTraining(pb.StartTrainingRequest(policy=POLICY))
        self._note("training")
        version = await self._trained()
        await self._promoted(version)
        await asyncio.sleep(_SETTLE_SECONDS + self._settings.after_seconds)
        await self._do_harm(version)

    def _note(self, name: str, text: str = "") -> None:
        moment = Moment(time.monotonic() - self._started, name, text)
        self.moments.append(moment)
        self._console.print(f"{moment.at_seconds:6.1f} s  {name}{f': {text}' if text else ''}", highlight=False)

    async def _change(self) -> None:
        settings = self._settings
        for lane in self._lanes:
            (slow,) = [one for one in lane.experts if one.name == expert_name(settings.slow_expert, lane.slug)]
            url = f"http://{slow.endpoint}/simulation"
            async with self._session.put(url, json={"pace": settings.pace}) as response:
                if response.status != 204:
                    raise PartError(f"{slow.name} was not slowed down (status {response.status})")
        text = f"{settings.slow_expert} takes {settings.pace:g} times as long, {settings.poor_model} answers worse"
        self._note("change", text)

    async def _trained(self) -> str:
        phase, version, line = "", "", ""
        async for progress in self._service.WatchTraining(pb.WatchTrainingRequest(policy=POLICY)):
            version, line = progress.version, progress.line
            if progress.phase != phase:
                phase = progress.phase
                self._note(phase, line)
        if phase != "done" or not version:
            raise PartError(f"the training came to nothing ({phase}: {line})")
        return version

    async def _promoted(self, version: str) -> None:
        shown = ""
        while True:
            response = await self._service.ListRollouts(pb.ListRolloutsRequest(policies=[POLICY]))
            (rollout,) = response.rollouts
            if rollout.active.version == version:
                self._note("active", version)
                return
            candidate = rollout.candidate
            stage = pb.Stage.Name(candidate.stage)
            if candidate.stage in (pb.REJECTED, pb.ROLLED_BACK) or candidate.id.version != version:
                why = candidate.gate.summary or (rollout.history[0].reason if rollout.history else "")
                raise PartError(f"the candidate {version} is out ({stage}): {why}")
            percent = candidate.canary.percent
            if (name := f"{stage} {percent}" if percent else stage) != shown:
                shown = name
                self._note(name.lower(), candidate.gate.summary)
            await asyncio.sleep(_POLL_SECONDS)

    async def _do_harm(self, active: str) -> None:
        """Force a harmful version past the gate, and wait until it is withdrawn."""
        registry = Registry(self._root)
        folder = self._root.parent / "harmful"
        harmful = write_version(folder, poisoned(registry.read(POLICY, active)))
        registry.add(POLICY, folder)
        request = pb.PromoteRequest(policy=POLICY, version=harmful.version, force=True, stage=pb.CANARY_STAGE)
        await self._service.Promote(request)
        self._note("harm", f"{harmful.version} is forced past the gate")
        deadline = time.monotonic() + self._settings.harm_seconds
        while time.monotonic() < deadline:
            response = await self._service.ListRollouts(pb.ListRolloutsRequest(policies=[POLICY]))
            (rollout,) = response.rollouts
            if rollout.candidate.id.version == harmful.version and rollout.candidate.stage == pb.CANARY_STAGE:
                self.harm = _harm(rollout.candidate.canary)
            else:
                self._note("rolled back", rollout.history[0].reason if rollout.history else "")
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise PartError(f"the harmful version was not withdrawn within {self._settings.harm_seconds:g} s")


def _harm(canary: pb.Canary) -> Harm:
    lost = canary.control.mean_qos - canary.candidate.mean_qos
    return Harm(canary.percent, canary.candidate.requests, lost * canary.candidate.requests)
