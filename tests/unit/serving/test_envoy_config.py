import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pointsman_operator.serving.envoy_config import (
    EnvoySettings,
    bootstrap,
    render_bootstrap,
    render_endpoints,
    write_endpoints,
)

SETTINGS = EnvoySettings(
    listen_port=8080,
    admin_port=9901,
    endpoints_path=Path("/run/pointsman/endpoints.json"),
    router_addresses=("127.0.0.1:9002",),
)


def connection_manager(settings: EnvoySettings) -> dict[str, Any]:
    listener = bootstrap(settings)["static_resources"]["listeners"][0]
    manager: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


def filters(settings: EnvoySettings) -> dict[str, dict[str, Any]]:
    return {item["name"]: item["typed_config"] for item in connection_manager(settings)["http_filters"]}


def clusters(settings: EnvoySettings) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in bootstrap(settings)["static_resources"]["clusters"]}


def members(assignment: dict[str, Any]) -> list[dict[str, Any]]:
    return [item["endpoint"]["address"] for item in assignment["endpoints"][0]["lb_endpoints"]]


def test_the_file_says_what_the_data_says() -> None:
    assert yaml.safe_load(render_bootstrap(SETTINGS)) == bootstrap(SETTINGS)


def test_the_script_is_readable_in_the_file() -> None:
    assert "inline_string: |" in render_bootstrap(SETTINGS)


def test_filters_are_in_the_order_that_the_counter_needs() -> None:
    assert [name.rpartition(".")[2] for name in filters(SETTINGS)] == ["ext_proc", "lua", "router"]


def test_steering_headers_are_stripped_before_any_filter() -> None:
    (early,) = connection_manager(SETTINGS)["early_header_mutation_extensions"]
    prefixes = {
        item["remove_on_match"]["key_matcher"]["prefix"]
        for item in early["typed_config"]["mutations"]
        if "remove_on_match" in item
    }
    assert prefixes == {"x-gateway-destination-endpoint", "x-envoy-"}
    assert {"remove": "accept-encoding"} in early["typed_config"]["mutations"]


def test_only_the_request_is_shown_to_the_router() -> None:
    mode = filters(SETTINGS)["envoy.filters.http.ext_proc"]["processing_mode"]
    assert mode == {
        "request_header_mode": "SEND",
        "request_body_mode": "BUFFERED",
        "request_trailer_mode": "SKIP",
        "response_header_mode": "SKIP",
        "response_body_mode": "NONE",
        "response_trailer_mode": "SKIP",
    }


@pytest.mark.parametrize("fail_open", [True, False])
def test_the_failure_mode_is_a_setting(fail_open: bool) -> None:
    settings = dataclasses.replace(SETTINGS, fail_open=fail_open, message_timeout_seconds=0.05)
    processor = filters(settings)["envoy.filters.http.ext_proc"]
    assert processor["failure_mode_allow"] is fail_open
    assert processor["message_timeout"] == "0.05s"


def test_generations_have_no_time_limit_by_default() -> None:
    route = connection_manager(SETTINGS)["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
    assert route["timeout"] == "0s"
    assert connection_manager(SETTINGS)["stream_idle_timeout"] == "1800s"


def test_experts_come_from_the_endpoints_file() -> None:
    source = clusters(SETTINGS)["experts"]["eds_cluster_config"]["eds_config"]["path_config_source"]
    assert source == {"path": "/run/pointsman/endpoints.json", "watched_directory": {"path": "/run/pointsman"}}


def test_one_router_takes_picks_and_outcomes() -> None:
    assert list(clusters(SETTINGS)) == ["experts", "router"]
    (logger,) = connection_manager(SETTINGS)["access_log"]
    assert logger["typed_config"]["common_config"]["grpc_service"] == {"envoy_grpc": {"cluster_name": "router"}}


def test_several_routers_share_picks_and_each_gets_all_outcomes() -> None:
    settings = dataclasses.replace(SETTINGS, router_addresses=("127.0.0.1:9002", "unix:/run/router.sock"))
    found = clusters(settings)
    first = {"socket_address": {"address": "127.0.0.1", "port_value": 9002}}
    second = {"pipe": {"path": "/run/router.sock"}}
    assert members(found["router"]["load_assignment"]) == [first, second]
    assert members(found["router_0"]["load_assignment"]) == [first]
    assert members(found["router_1"]["load_assignment"]) == [second]
    logged = [
        item["typed_config"]["common_config"]["grpc_service"]["envoy_grpc"]["cluster_name"]
        for item in connection_manager(settings)["access_log"]
    ]
    assert logged == ["router_0", "router_1"]


def test_without_a_router_there_is_nothing_but_the_proxy() -> None:
    settings = dataclasses.replace(SETTINGS, router_addresses=())
    assert list(filters(settings)) == ["envoy.filters.http.router"]
    assert list(clusters(settings)) == ["experts"]
    assert "access_log" not in connection_manager(settings)


@pytest.mark.parametrize("name", ["experts", "router"])
def test_limits_are_raised_above_the_defaults(name: str) -> None:
    (thresholds,) = clusters(SETTINGS)[name]["circuit_breakers"]["thresholds"]
    assert set(thresholds.values()) == {16_384}


@pytest.mark.parametrize(
    "address", ["9002", "router:x", ":9002", "10.0.0.1:0", "10.0.0.1:70000", "10.0.0.1:x", "unix:relative", ""]
)
def test_a_wrong_router_address_is_named(address: str) -> None:
    settings = dataclasses.replace(SETTINGS, router_addresses=(address,))
    with pytest.raises(ValueError, match=r'must be "ip:port"'):
        bootstrap(settings)


def test_endpoints_are_listed_with_their_version() -> None:
    response = json.loads(render_endpoints(["10.0.0.7:8000", "[2001:db8::1]:8001"], "7"))
    (assignment,) = response["resources"]
    assert response["version_info"] == "7"
    assert assignment["cluster_name"] == "experts"
    assert members(assignment) == [
        {"socket_address": {"address": "10.0.0.7", "port_value": 8000}},
        {"socket_address": {"address": "2001:db8::1", "port_value": 8001}},
    ]


def test_endpoints_may_be_none() -> None:
    (assignment,) = json.loads(render_endpoints([], "1"))["resources"]
    assert members(assignment) == []


def test_writing_replaces_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    write_endpoints(path, ["10.0.0.7:8000"])
    first = json.loads(path.read_text())
    write_endpoints(path, ["10.0.0.8:8000"])
    second = json.loads(path.read_text())
    assert members(second["resources"][0])[0]["socket_address"]["address"] == "10.0.0.8"
    assert first["version_info"] != second["version_info"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_wrong_endpoint_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    write_endpoints(path, ["10.0.0.7:8000"])
    before = path.read_text()
    with pytest.raises(ValueError, match=r"10\.0\.0\.8"):
        write_endpoints(path, ["10.0.0.8"])
    assert path.read_text() == before
