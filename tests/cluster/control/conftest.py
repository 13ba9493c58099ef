"""The operator as a process on the test cluster, with the rights of manifests/rbac/operator.yaml and no others."""

import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.cluster.certificates import CertificateAuthority
from tests.cluster.cluster import Cluster
from tests.cluster.control.operators import NAMESPACE, PEERING, PROGRAM, ROOT, Operator
from tests.cluster.control.policies import RESOURCE, Policies, wait_for
from tests.cluster.control.routers import SELECTOR, Router
from tests.cluster.objects import RefusedError
from tests.cluster.part import Part
from tests.integration.stack.processes import free_port


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Callable[..., str]:
    """Run kubectl as administrator: ``kubectl("get", "rp")`` returns what it prints, also what it prints as error."""

    def run(*arguments: str, check: bool = True) -> str:
        command = [str(PROGRAM.with_name("kubectl")), f"--kubeconfig={cluster.kubeconfig}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def installed(cluster: Cluster, kubectl: Callable[..., str]) -> None:
    """CRDs, and what the operator's role grants."""
    if cluster.objects.find("namespaces", NAMESPACE) is None:
        kubectl("create", "namespace", NAMESPACE)
    kubectl("apply", "-f", str(ROOT / "manifests/crd"), "-f", str(ROOT / "charts/pointsman/crds"))
    for name in ("routerpolicies.pointsman.io", "clusterkopfpeerings.kopf.dev", "kopfpeerings.kopf.dev"):
        kubectl("wait", "--for=condition=Established", f"crd/{name}")
    wait_for(lambda: _served(cluster), bool, "the new kinds are not served")
    kubectl("apply", "-f", str(ROOT / "manifests/rbac/operator.yaml"))


def _served(cluster: Cluster) -> bool:
    try:
        cluster.objects.list(RESOURCE)
        cluster.objects.list("kopf.dev/v1/clusterkopfpeerings")
    except RefusedError:
        return False
    return True


@pytest.fixture
def policies(cluster: Cluster, installed: None, namespace: str) -> Iterator[Policies]:
    """Policies of a fresh namespace; they go after the test."""
    yield (made := Policies(cluster, namespace))
    for policy in cluster.objects.list(RESOURCE, namespace):
        made.delete(policy["metadata"]["name"])


@pytest.fixture
def router_port() -> int:
    return free_port()


@pytest.fixture
def routers(cluster: Cluster, installed: None, router_port: int) -> Iterator[Callable[..., Router]]:
    """Start routers: ``routers()`` returns one more; they are stopped after the test."""
    with ExitStack() as stack:
        count = 0

        def start(**tls: bytes) -> Router:
            nonlocal count
            count += 1
            name = f"router-{count}-{secrets.token_hex(3)}"
            router = Router(cluster, NAMESPACE, name, f"127.66.{secrets.randbelow(250)}.{count}", router_port, **tls)
            stack.callback(router.stop)
            return router

        yield start


@pytest.fixture
def operator(cluster: Cluster, installed: None, router_port: int, tmp_path: Path) -> Iterator[Callable[..., Operator]]:
    """Start an operator as its ServiceAccount: ``operator("--namespace=a")``; all are stopped after the test."""
    authority = CertificateAuthority(tmp_path, "webhook-ca")
    with ExitStack() as stack:
        started = 0

        def start(*arguments: str, kubeconfig: Path | None = None, peering: str = PEERING) -> Operator:
            nonlocal started
            started += 1
            kubeconfig = kubeconfig or cluster.service_account_kubeconfig(NAMESPACE, "pointsman-operator")
            admin, hook = free_port(), free_port()
            pair = authority.issue(f"webhook-{started}", ["127.0.0.1"])
            command = [
                *("env", f"KUBECONFIG={kubeconfig}", f"POD_NAME=operator-{started}", str(PROGRAM), "operator"),
                *("--router-namespace", NAMESPACE, "--router-selector", SELECTOR, "--router-port", str(router_port)),
                *("--webhook-listen", f"127.0.0.1:{hook}", "--admin-port", str(admin)),
                *("--webhook-certificate", str(pair.certificate), "--webhook-key", str(pair.key)),
                *(("--peering", peering) if peering else ()),
                *arguments,
            ]
            made = Operator(
                Part(f"operator-{started}", command, lambda: made.ready(), tmp_path / f"operator-{started}.log"),
                admin,
                hook,
                pair,
                authority,
            )
            stack.callback(made.part.stop)
            made.part.start()
            with socket.create_connection(("127.0.0.1", hook), 5):  # ready means that reviews are answered
                return made

        yield start
