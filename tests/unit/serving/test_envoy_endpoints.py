import json
from pathlib import Path

import pytest
from tests.unit.serving.conftest import ManualClock

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.serving.envoy_endpoints import SETTLE_SECONDS, EnvoyEndpoints
from pointsman_policy.errors import DocumentError
from pointsman_policy.experts import Expert


def endpoint(name: str, *, ready: bool = True) -> Endpoint:
    return Endpoint(Expert(name=name, endpoint=f"10.0.0.{ord(name) - 96}:8000", model="m", ready=ready))


def written(path: Path) -> list[str]:
    (assignment,) = json.loads(path.read_text())["resources"]
    sockets = [
        one["endpoint"]["address"]["socket_address"]
        for locality in assignment["endpoints"]
        for one in locality["lb_endpoints"]
    ]
    return [f"{one['address']}:{one['port_value']}" for one in sockets]


def names(endpoints: tuple[Endpoint, ...]) -> list[str]:
    return [one.name for one in endpoints]


A, B = endpoint("a"), endpoint("b")


def test_the_first_experts_are_written_with_their_folder_and_known_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run" / "envoy" / "endpoints.json"
    envoy = EnvoyEndpoints(path, ManualClock())
    assert envoy.known([A]) == ()
    envoy.announce([A, endpoint("c", ready=False)])
    assert written(path) == [A.address]
    assert names(envoy.known([A, endpoint("c", ready=False)])) == ["a", "c"]


def test_a_new_expert_is_known_only_after_envoy_had_time_to_take_it_over(tmp_path: Path) -> None:
    clock = ManualClock()
    envoy = EnvoyEndpoints(tmp_path / "endpoints.json", clock)
    envoy.announce([A])
    clock.now += 10
    envoy.announce([A, B])
    assert written(tmp_path / "endpoints.json") == [A.address, B.address]
    assert names(envoy.known([A, B])) == ["a"]
    clock.now += SETTLE_SECONDS / 2
    envoy.announce([A, B])
    assert names(envoy.known([A, B])) == ["a"]
    clock.now += SETTLE_SECONDS
    assert names(envoy.known([A, B])) == ["a", "b"]


def test_an_expert_that_becomes_ready_again_is_announced_again(tmp_path: Path) -> None:
    clock = ManualClock()
    envoy = EnvoyEndpoints(tmp_path / "endpoints.json", clock)
    envoy.announce([A, B])
    envoy.announce([endpoint("a", ready=False), B])
    assert written(tmp_path / "endpoints.json") == [B.address]
    envoy.announce([A, B])
    assert names(envoy.known([A, B])) == ["b"]


def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    envoy = EnvoyEndpoints(path, ManualClock())
    envoy.announce([A])
    before = path.stat().st_ino
    envoy.announce([A, endpoint("c", ready=False)])
    assert path.stat().st_ino == before


def test_a_file_that_cannot_be_written_is_named_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    envoy = EnvoyEndpoints(tmp_path / "run" / "endpoints.json", ManualClock())
    for _ in range(2):
        with pytest.raises(DocumentError, match=r"run/endpoints\.json: Envoy's endpoints file cannot be written"):
            envoy.announce([A])
    (tmp_path / "run").unlink()
    envoy.announce([A])
    assert written(tmp_path / "run" / "endpoints.json") == [A.address]
