"""A real Prometheus that scrapes the experts.

Debian's is built without discovery in Kubernetes. So a thread lists the pods, as an account that may do nothing else,
and writes what Prometheus would have found into a file that it follows.
"""

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
import yaml
from tests.cluster.cluster import Cluster
from tests.cluster.objects import Document, Objects, RefusedError
from tests.cluster.part import Part
from tests.integration.stack.processes import answers, free_port

ACCOUNT = "prometheus"
RBAC = "rbac.authorization.k8s.io"
REFRESH_SECONDS = 0.3


@contextlib.contextmanager
def running_prometheus(cluster: Cluster, namespace: str, folder: Path) -> Iterator[tuple[Part, str]]:
    """Run it inside a ``with`` block, for the experts of a namespace; gives its URL, too."""
    _grant(cluster, namespace)
    targets, file = folder / "targets.json", folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(_configuration(targets)))
    program = shutil.which("prometheus")
    assert program is not None, "install the package prometheus"
    address = f"127.0.0.1:{free_port()}"
    command = (
        program,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address={address}",
    )
    url = f"http://{address}"
    part = Part("prometheus", command, lambda: answers(f"{url}/-/ready"), folder / "prometheus.log")
    with cluster.service_account_objects(namespace, ACCOUNT) as objects, _following(objects, namespace, targets):
        try:
            part.start()
            yield part, url
        finally:
            part.stop()


@contextlib.contextmanager
def _following(objects: Objects, namespace: str, file: Path) -> Iterator[None]:
    over = threading.Event()

    def follow() -> None:
        while not over.wait(REFRESH_SECONDS):
            # While the API server is away, targets stay as they are, as they do in Prometheus.
            with contextlib.suppress(requests.RequestException, RefusedError):
                pods = objects.list("pods", namespace, labelSelector="pointsman.io/expert=true")
                fresh = file.with_suffix(".fresh")
                fresh.write_text(json.dumps([_target(pod) for pod in pods if pod["status"].get("podIP")]))
                fresh.replace(file)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _target(pod: Document) -> Document:
    metadata = pod["metadata"]
    labels = {"namespace": metadata["namespace"], "pod": metadata["name"]}
    return {"targets": [f"{pod['status']['podIP']}:8000"], "labels": labels}


def _configuration(targets: Path) -> dict[str, Any]:
    job = {"job_name": "experts", "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}]}
    timing = {"scrape_interval": "500ms", "scrape_timeout": "500ms"}
    return {"global": timing, "scrape_configs": [job]}


def _grant(cluster: Cluster, namespace: str) -> None:
    metadata = {"metadata": {"name": ACCOUNT}}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    role = {"apiGroup": RBAC, "kind": "Role", "name": ACCOUNT}
    cluster.objects.create("serviceaccounts", metadata, namespace)
    cluster.objects.create(f"{RBAC}/v1/roles", metadata | {"rules": rules}, namespace)
    cluster.objects.create(f"{RBAC}/v1/rolebindings", metadata | {"roleRef": role, "subjects": [subject]}, namespace)
