import sys
from pathlib import Path

import pytest

from pointsman_operator.demo.processes import Part, Parts, find_envoy, free_address
from pointsman_operator.errors import PartError

SLEEPER = (sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()",
)
FAILING = (sys.executable, "-c", "print('no such file: experts.yaml'); raise SystemExit(3)")


async def up(parts: Parts, part: Part) -> None:
    async def said_so() -> bool:
        return "up" in part.last_words()

    await parts.until(part, said_so, "it was not up")


async def never() -> bool:
    return False


async def test_parts_end_with_their_context(tmp_path: Path) -> None:
    async with Parts(tmp_path / "logs") as parts:
        started = [await parts.start(f"sleeper{index}", SLEEPER) for index in range(2)]
        for part in started:
            await up(parts, part)
        folder = parts.temporary_folder
        assert folder.exists()
    assert [part.process.returncode for part in started] == [-15, -15]
    assert not folder.exists()
    assert (tmp_path / "logs" / "sleeper0.log").read_text() == "up\n"


async def test_parts_end_when_something_goes_wrong(tmp_path: Path) -> None:
    started: list[Part] = []

    async def go_wrong() -> None:
        async with Parts(tmp_path) as parts:
            started.append(await parts.start("sleeper", SLEEPER))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await go_wrong()
    assert started[0].process.returncode is not None


async def test_a_part_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    async with Parts(tmp_path, stop_seconds=0.2) as parts:
        part = await parts.start("stubborn", STUBBORN)
        await up(parts, part)
    assert part.process.returncode == -9


async def test_a_part_that_dies_early_is_named_with_its_last_words(tmp_path: Path) -> None:
    async with Parts(tmp_path) as parts:
        part = await parts.start("experts", FAILING)
        with pytest.raises(PartError, match=r"experts ended with status 3; (.|\n)*no such file: experts.yaml"):
            await parts.until(part, never, "not ready")


async def test_waiting_for_one_part_notices_that_another_died(tmp_path: Path) -> None:
    async with Parts(tmp_path) as parts:
        await parts.start("experts", FAILING)
        router = await parts.start("router", SLEEPER)
        with pytest.raises(PartError, match="experts ended"):
            await parts.until(router, never, "not ready")


async def test_waiting_has_an_end(tmp_path: Path) -> None:
    async with Parts(tmp_path) as parts:
        part = await parts.start("router", SLEEPER)
        await up(parts, part)
        with pytest.raises(PartError, match=r"router: it knew no expert within 0\.01 s; (.|\n)*up"):
            await parts.until(part, never, "it knew no expert", seconds=0.01)


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with Parts(tmp_path) as parts:
        with pytest.raises(PartError, match=r"envoy: /nowhere/envoy cannot be started \(No such file"):
            await parts.start("envoy", ("/nowhere/envoy",))


async def test_a_job_may_end_if_it_succeeds(tmp_path: Path) -> None:
    async with Parts(tmp_path) as parts:
        good = await parts.start("load", (sys.executable, "-c", ""), job=True)
        await good.process.wait()
        parts.check()
        bad = await parts.start("load", (sys.executable, "-c", "raise SystemExit('out of sockets')"), job=True)
        await bad.process.wait()
        with pytest.raises(PartError, match=r"load ended with status 1(.|\n)*out of sockets"):
            parts.check()


def test_a_missing_envoy_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PartError, match="pointsman\\[demo\\]"):
        find_envoy()


def test_a_free_address_is_on_the_host_asked_for() -> None:
    host, _, port = free_address("127.0.3.4").rpartition(":")
    assert host == "127.0.3.4"
    assert 0 < int(port) < 65_536
