"""The process kubelet as tests use it: started beside a cluster, with what stands for which image."""

import contextlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.cluster.control_plane import KUBELET, KUBELET_PORT
from tests.cluster.kubelet.configuration import Configuration, Image
from tests.cluster.part import Part

PROGRAMS = str(Path(sys.executable).parent)
"""The virtual environment's programs: pointsman, envoy, python, kubectl."""
COMMON = {
    "PYTHONUNBUFFERED": "1",
    "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR") or str(Path.home() / ".cache" / "pointsman" / "kernels"),
}
"""What our images set: output at once, and kernels that were compiled when the image was built."""
IMAGES = (
    Image("*envoy*", [PROGRAMS], ["envoy"], COMMON),
    Image("*pointsman*", [PROGRAMS], ["pointsman"], COMMON),
    Image("*python*", [PROGRAMS], ["python"], COMMON),
    Image("*kubectl*", [PROGRAMS], ["kubectl"], COMMON),
    Image("*busybox*", [PROGRAMS], ["sh"], COMMON),
)


class ProcessKubelet:
    """A running process kubelet.

    Attributes:
        part: its process; tests may kill and start it. Pods' processes end with it.
        logs: folder of all output: NAMESPACE_POD_CONTAINER.RESTART.log, kept after the pods' end.
    """

    def __init__(self, cluster: Cluster, folder: Path, images: Sequence[Image]) -> None:
        self.logs = cluster.folder / "pods"
        self.logs.mkdir(exist_ok=True)
        address = cluster.control_plane.addresses.control_plane(KUBELET)
        pair = cluster.control_plane.kubelet_certificate()
        configuration = Configuration(
            kubeconfig=str(cluster.kubeconfig),
            folder=str(folder),
            logs=str(self.logs),
            pod_addresses=cluster.control_plane.addresses.pods,
            address=address,
            port=KUBELET_PORT,
            certificate=str(pair.certificate),
            key=str(pair.key),
            authority=str(cluster.ca),
            images=images,
        )
        path = cluster.folder / "kubelet.json"
        configuration.write(path)
        command = [sys.executable, "-m", "tests.cluster.kubelet", str(path)]
        log = cluster.folder / "kubelet.log"
        self.part = Part("kubelet", command, lambda: _listens(address, KUBELET_PORT), log, folder=ROOT)

    def output(self, namespace: str, pod: str, container: str) -> str:
        """Return what all runs of a container have said so far."""
        logs = sorted(self.logs.glob(f"{namespace}_{pod}_{container}.*.log"), key=lambda path: path.stat().st_mtime_ns)
        return "".join(path.read_text(errors="replace") for path in logs)


ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def running_kubelet(cluster: Cluster, images: Sequence[Image] = IMAGES) -> Iterator[ProcessKubelet]:
    """Run a process kubelet inside a ``with`` block; at its end every pod's process ends."""
    folder = Path(tempfile.mkdtemp(prefix="pk-", dir="/tmp" if Path("/tmp").is_dir() else None))
    try:
        kubelet = ProcessKubelet(cluster, folder, images)
        kubelet.part.start()
        try:
            yield kubelet
        finally:
            kubelet.part.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0
