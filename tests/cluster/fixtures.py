"""Fixtures of the test cluster, for every test below tests/ (tests/conftest.py brings them in)."""

import secrets
from collections.abc import Callable, Iterator, Mapping

import pytest
from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.process_kubelet import ProcessKubelet, running_kubelet


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real control plane for the whole session, on loopback; no kubelet (fixture `kubelet`), so pods stay Pending."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def kubelet(cluster: Cluster) -> Iterator[ProcessKubelet]:
    """A process kubelet that runs the pods of every node (fixture `nodes`) and makes cluster IPs answer."""
    with running_kubelet(cluster) as running:
        yield running


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace, deleted after the test."""
    name = cluster.create_namespace()
    yield name
    cluster.delete_namespace(name)


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[Callable[..., str]]:
    """Register nodes: ``nodes({"pointsman.io/gpu": "L4"})`` returns the name of a new one; they go after the test."""
    names: list[str] = []

    def add(labels: Mapping[str, str] | None = None) -> str:
        names.append(f"node-{secrets.token_hex(4)}")
        cluster.add_node(names[-1], labels)
        return names[-1]

    yield add
    for name in names:
        cluster.delete_node(name)
