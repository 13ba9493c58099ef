"""Running emulated experts: every expert of an experts.yaml at its own address, all in one process."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import uvloop
from aiohttp import web

from pointsman_policy.errors import ListenError
from pointsman_policy.experts import Expert, ExpertList, read_experts
from pointsman_policy.latency.profiles import IterationTimeCoefficients, ProfileTable, beliefs, read_profiles
from pointsman_policy.simulator.server.answers import AnswerBook, read_answers
from pointsman_policy.simulator.server.app import ExpertServer
from pointsman_policy.simulator.server.driver import ExpertDriver

_STOP_SECONDS = 0.01
"""The HTTP library waits this long for answers under way, twice; 0 would mean for ever."""

logger = logging.getLogger(__name__)


def serve_experts(path: Path, scores: Path | None = None, prompts: Path | None = None, seed: int = 0) -> None:
    """Serve every expert of a file until SIGTERM or SIGINT: the command ``pointsman expert-sim``.

    Args:
        path: An experts.yaml.
        scores: Quality table that answers come from.
        prompts: The texts of its prompts; given together with scores.
        seed: Of answers that are in no table.

    Raises:
        DocumentError: If a file is unusable.
        ListenError: If an expert cannot have its address.
    """
    experts = read_experts(path)
    profiles = read_profiles(path.parent / experts.profiles) if experts.profiles is not None else None
    uvloop.run(run(experts, read_answers(scores, prompts, seed), profiles))


async def run(experts: ExpertList, answers: AnswerBook, profiles: ProfileTable | None = None) -> None:
    """Serve experts until SIGTERM or SIGINT; answers under way are then cut off.

    Raises:
        ListenError: If an expert cannot have its address.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        async with serving(experts, answers, profiles):
            await stop.wait()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
    logger.info("%d emulated experts have stopped", len(experts.experts))


@asynccontextmanager
async def serving(
    experts: ExpertList, answers: AnswerBook, profiles: ProfileTable | None = None
) -> AsyncIterator[tuple[ExpertServer, ...]]:
    """Serve experts as long as the context lasts, in the order of the list.

    Raises:
        ListenError: If an expert cannot have its address.
    """
    warm_up()
    async with AsyncExitStack() as stack:
        servers = []
        for expert in experts.experts:
            servers.append(_new_server(expert, answers, profiles))
            await stack.enter_async_context(_listening(expert, servers[-1]))
            _log_start(expert, answers)
        yield tuple(servers)


def warm_up() -> None:
    """Compile the engine's kernels, so that no request has to wait for that."""
    driver = ExpertDriver(
        IterationTimeCoefficients(1e-3, 0.0, 0.0, 0.0),
        kv_capacity_tokens=0,
        maximum_running=1,
        clock=lambda: 0.0,
        call_later=lambda _delay, _call: _NoTimer(),
        capacity=1,
    )
    driver.cancel(driver.submit(1, 1, lambda _tokens: None))


def true_coefficients(expert: Expert, profiles: ProfileTable | None) -> IterationTimeCoefficients:
    """Return how fast an emulated expert is, which its router need not know."""
    simulation = expert.simulation
    if simulation.iteration_time is not None:
        coefficients = IterationTimeCoefficients.from_document(simulation.iteration_time)
    else:
        coefficients = beliefs(expert, profiles).coefficients
    return coefficients.scaled(1 / simulation.speed)


class _NoTimer:
    """A call that never comes."""

    def cancel(self) -> None:
        """There is nothing to do."""


def _new_server(expert: Expert, answers: AnswerBook, profiles: ProfileTable | None) -> ExpertServer:
    kv_capacity_tokens = beliefs(expert, profiles).kv_capacity_tokens
    driver = ExpertDriver(
        true_coefficients(expert, profiles),
        kv_capacity_tokens=kv_capacity_tokens,
        maximum_running=expert.maximum_running,
        clock=time.monotonic,
        call_later=asyncio.get_running_loop().call_later,
    )
    return ExpertServer(expert, driver, answers, kv_capacity_tokens=kv_capacity_tokens, wall_clock=time.time)


@asynccontextmanager
async def _listening(expert: Expert, server: ExpertServer) -> AsyncIterator[None]:
    host, _, port = expert.endpoint.rpartition(":")
    runner = web.AppRunner(
        server.application(), handler_cancellation=True, access_log=None, shutdown_timeout=_STOP_SECONDS
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except OSError as error:
        await runner.cleanup()
        raise ListenError(
            f"expert {expert.name}: cannot listen on {expert.endpoint} ({error.strerror or error}); "
            "stop what uses the address, or give the expert another endpoint"
        ) from error
    try:
        yield
    finally:
        await runner.cleanup()


def _log_start(expert: Expert, answers: AnswerBook) -> None:
    lengths = "the table" if answers.has_model(expert.model) else "a distribution"
    logger.info("%s serves %s at http://%s, answers from %s", expert.name, expert.names[0], expert.endpoint, lengths)
    if expert.engine != "vllm":
        logger.warning("%s speaks as vllm; its engine %s is not emulated", expert.name, expert.engine)
