"""The protocol's names, written down apart from the router's: a misspelling there must not pass here."""

from typing import Final

EXT_PROC_METHOD: Final = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
EXT_PROC_SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"

DESTINATION: Final = "x-gateway-destination-endpoint"
SERVED: Final = "x-gateway-destination-endpoint-served"
LOAD_BALANCER_NAMESPACE: Final = "envoy.lb"
SUBSET: Final = "x-gateway-destination-endpoint-subset"
SUBSET_NAMESPACE: Final = "envoy.lb.subset_hint"

DROPPED_REASON: Final = "x-llm-d-request-dropped-reason"
TEST_SERVED: Final = "x-conformance-test-served-endpoint"

STRANGER: Final = "192.0.2.1:8000"
"""An endpoint that no pool has: the network is reserved for documentation."""
