import dataclasses
import socket
import sys
from pathlib import Path

import pytest
from rich.console import Console

from pointsman_operator.cli.bench_transport import TransportSettings, run
from pointsman_policy.errors import PointsmanError

ROUTER = Path(__file__).with_name("minimal_router.py")


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "{}:{}".format(*probe.getsockname())


@pytest.fixture
def settings(envoy_binary: Path) -> TransportSettings:
    upstream, router = free_address(), free_address()
    return TransportSettings(
        envoy=envoy_binary,
        router_command=(sys.executable, str(ROUTER), upstream, router),
        router_address=router,
        ext_proc_address=router,
        upstream_address=upstream,
        rate=50.0,
        seconds=1.0,
        rounds=2,
    )


def test_both_ways_are_measured_with_the_same_load(settings: TransportSettings) -> None:
    console = Console(record=True, width=200, quiet=True)
    figures = run(settings, console)
    assert figures.alone.requests == figures.routed.requests > 50
    assert figures.alone.failed == figures.routed.failed == figures.unrouted_requests == 0
    assert 0 < figures.routed.p50_seconds <= figures.routed.p95_seconds <= figures.routed.p99_seconds
    assert len(figures.added_median_by_round_seconds) == 2
    assert figures.routed.router_cpu_seconds > 0


def test_a_router_that_does_not_start_is_named(settings: TransportSettings) -> None:
    broken = dataclasses.replace(settings, router_command=(sys.executable, "-c", "raise SystemExit('no policy file')"))
    with pytest.raises(PointsmanError, match="'router' ended with code 1; it wrote: no policy file"):
        run(broken, Console(quiet=True))


def test_a_command_that_does_not_exist_is_named(settings: TransportSettings) -> None:
    broken = dataclasses.replace(settings, router_command=("/nowhere/router",))
    with pytest.raises(PointsmanError, match="/nowhere/router cannot be started"):
        run(broken, Console(quiet=True))
