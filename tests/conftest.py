"""What every test may ask for: the test cluster."""

from tests.cluster.fixtures import cluster, kubelet, namespace, nodes

__all__ = ["cluster", "kubelet", "namespace", "nodes"]
