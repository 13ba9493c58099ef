import itertools
from pathlib import Path

import pytest
import yaml

from pointsman_operator.demo.configuration import Configuration, write_configuration
from pointsman_operator.demo.lanes import Lane, build_lanes
from pointsman_operator.demo.workload import DemoWorkload
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.discovery.store import EVERY_NAMESPACE, matching
from pointsman_operator.routerpolicy import read_policies
from pointsman_policy.experts import read_experts
from pointsman_policy.pickers.registry import PICKERS


@pytest.fixture
def lanes(workload: DemoWorkload) -> tuple[Lane, ...]:
    ports = itertools.count(1000)
    return build_lanes(workload, ("RoundRobin", "ImpactGreedy"), lambda host: f"{host}:{next(ports)}")


def test_the_router_reads_back_what_is_written(workload: DemoWorkload, lanes: tuple[Lane, ...], tmp_path: Path) -> None:
    files = Configuration(tmp_path / "configuration")
    write_configuration(files, workload, lanes, "http://127.0.0.1:9090")
    experts = read_experts(files.experts).experts
    assert experts == tuple(expert for lane in lanes for expert in lane.experts)
    endpoints = [Endpoint(expert, EVERY_NAMESPACE) for expert in experts]
    for policy, lane in zip(read_policies(files.policies, PICKERS), lanes, strict=True):
        assert policy.spec.model_name == lane.model_name
        assert policy.spec.picker.name == lane.picker
        assert policy.spec.admission.mode == "ShedSheddable"
        assert policy.spec.objectives.normalized_time_per_output_token_milliseconds == 30
        assert policy.spec.telemetry.source == "Prometheus"
        assert tuple(endpoint.expert for endpoint in matching(endpoints, policy)) == lane.experts


def test_without_prometheus_the_router_scrapes(workload: DemoWorkload, lanes: tuple[Lane, ...], tmp_path: Path) -> None:
    files = Configuration(tmp_path)
    write_configuration(files, workload, lanes, None)
    assert {policy.spec.telemetry.source for policy in read_policies(files.policies, PICKERS)} == {"DirectScrape"}


def test_prometheus_scrapes_every_expert_as_often_as_the_scenario_says(
    workload: DemoWorkload, lanes: tuple[Lane, ...], tmp_path: Path
) -> None:
    files = Configuration(tmp_path)
    write_configuration(files, workload, lanes, "http://127.0.0.1:9090")
    document = yaml.safe_load(files.prometheus.read_text())
    assert document["global"]["scrape_interval"] == "1000ms"
    (job,) = document["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [expert.endpoint for lane in lanes for expert in lane.experts]
