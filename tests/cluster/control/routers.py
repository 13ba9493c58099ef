"""Stand-ins for routers: pods whose addresses answer ListPolicies with what a test says."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
import requests
from tests.cluster.cluster import Cluster
from tests.cluster.control.pods import add_pod, set_ready
from tests.cluster.objects import Objects, RefusedError

from pointsman.routing.v1 import routing_pb2, routing_pb2_grpc

LABELS = {"app.kubernetes.io/component": "router", "app.kubernetes.io/instance": "test"}
SELECTOR = ",".join(f"{key}={text}" for key, text in LABELS.items())


class Router(routing_pb2_grpc.RoutingServiceServicer):
    """One router: a pod, and a gRPC server at its address.

    By default it runs every policy as it is stored, or as it was stored last while the API server is away.
    `states` changes what it says of one, by "namespace/name".
    """

    def __init__(self, cluster: Cluster, namespace: str, name: str, ip: str, port: int, **tls: bytes) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self.name = name
        self.states: dict[str, Mapping[str, Any]] = {}
        self.silent = threading.Event()
        self.polls = 0
        self._objects = Objects(cluster.url, cluster.ca, cluster.token)
        self._lock = threading.Lock()
        self._listed: list[dict[str, Any]] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        routing_pb2_grpc.add_RoutingServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        if tls:
            pairs = [(tls["key"], tls["certificate"])]
            credentials = grpc.ssl_server_credentials(pairs, tls["authority"], require_client_auth=True)
            assert self._server.add_secure_port(f"{ip}:{port}", credentials)
        else:
            assert self._server.add_insecure_port(f"{ip}:{port}")
        self._server.start()
        add_pod(cluster, namespace, name, LABELS, ip)

    def ListPolicies(  # noqa: N802 - as in the proto
        self, request: routing_pb2.ListPoliciesRequest, context: grpc.ServicerContext
    ) -> routing_pb2.ListPoliciesResponse:
        self.polls += 1
        if self.silent.is_set():
            context.abort(grpc.StatusCode.UNAVAILABLE, "silenced by the test")
        with self._lock, suppress(requests.RequestException, RefusedError):
            self._listed = self._objects.list("pointsman.io/v1alpha1/routerpolicies")
        return routing_pb2.ListPoliciesResponse(policies=map(self._state, self._listed), router=self.name)

    def _state(self, policy: Mapping[str, Any]) -> routing_pb2.PolicyState:
        metadata = policy["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        values: dict[str, Any] = {
            "policy": key,
            "uid": metadata["uid"],
            "generation": metadata["generation"],
            "model_name": policy["spec"]["modelName"],
            "picker": policy["spec"]["picker"]["name"],
            "ready_expert_count": 2,
            "expert_count": 2,
            "fresh_expert_count": 2,
        }
        return routing_pb2.PolicyState(**values | dict(self.states.get(key, {})))

    def set_ready(self, *, ready: bool) -> None:
        set_ready(self._cluster, self._namespace, self.name, ready=ready)

    def stop(self) -> None:
        self._server.stop(None).wait()
        self._objects.close()
        self._cluster.objects.delete("pods", self.name, self._namespace, gracePeriodSeconds=0)
