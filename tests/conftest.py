"""What every test may ask for: the test cluster."""

from tests.cluster.fixtures import cluster, namespace, nodes

__all__ = ["cluster", "namespace", "nodes"]
