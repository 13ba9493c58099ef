"""``python -m tests.cluster``: a cluster to play with, until Ctrl-C."""

import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.cluster.binaries import NoBinariesError
from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.process_kubelet import running_kubelet

GPUS = ("NVIDIA-L4", "NVIDIA-A10")
GPU_LABEL = "nvidia.com/gpu.product"


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="cluster-"))
    try:
        with running_cluster(folder) as cluster, running_kubelet(cluster):
            for number, gpu in enumerate(GPUS, start=1):
                cluster.add_node(f"node-{number}", {GPU_LABEL: gpu})
            _explain(cluster)
            signal.pause()
    except KeyboardInterrupt:
        sys.stderr.write(f"stopped; logs stay in {folder}\n")
    except NoBinariesError as error:
        sys.exit(str(error))


def _explain(cluster: Cluster) -> None:
    programs = Path(sys.executable).parent
    version = ".".join(str(number) for number in cluster.version)
    lines = [
        f"# Kubernetes {version}, nodes node-1 and node-2; pods run as processes of this machine.",
        f"# Logs: {cluster.folder} (of pods: {cluster.folder / 'pods'}). Ctrl-C stops everything.",
        f"export KUBECONFIG={cluster.kubeconfig}",
        f"export PATH={programs}{os.pathsep}$PATH   # kubectl",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
