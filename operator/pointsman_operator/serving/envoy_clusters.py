"""The clusters of the Envoy sidecar: the experts that requests go to, and the router that is asked where.

The cluster of experts tries the router's picks in their order, then any expert by round robin. Its members come from
the endpoints file, which Envoy watches.
"""

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

JsonObject = dict[str, Any]

DESTINATION_HEADER = "x-gateway-destination-endpoint"
"""Header and metadata key of the pick; its "-subset", "-served" and "-scores" forms share the prefix."""
DESTINATION_NAMESPACE = "envoy.lb"
ADMIN_CLUSTER = "admin"
EXPERTS_CLUSTER = "experts"
ROUTER_CLUSTER = "router"
TYPES = "type.googleapis.com/envoy"

_EXPERT_CONNECT_SECONDS = 1.0
_ROUTER_CONNECT_SECONDS = 0.1
# Servers on uvicorn close idle connections after 5 s; being first avoids requests sent into a closing one.
_EXPERT_IDLE_SECONDS = 4.0


def experts_cluster(endpoints_path: Path, maximum_requests: int) -> JsonObject:
    """Return the cluster of experts.

    Args:
        endpoints_path: The endpoints file.
        maximum_requests: Most requests and connections at once.
    """
    source = {"path": str(endpoints_path), "watched_directory": {"path": str(endpoints_path.parent)}}
    return {
        "name": EXPERTS_CLUSTER,
        "type": "EDS",
        "connect_timeout": duration(_EXPERT_CONNECT_SECONDS),
        "eds_cluster_config": {"eds_config": {"resource_api_version": "V3", "path_config_source": source}},
        "load_balancing_policy": _pick_or_round_robin(),
        "circuit_breakers": _circuit_breakers(maximum_requests),
        "outlier_detection": _outlier_detection(local_failures=3),
        # Finds out within a minute that a node is gone, however long its requests are silent.
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_time": 30, "keepalive_interval": 10, "keepalive_probes": 3}
        },
        **_http_protocol("http_protocol_options", _EXPERT_IDLE_SECONDS),
    }


def router_clusters(
    addresses: Sequence[str], ext_proc_addresses: Sequence[str], maximum_requests: int
) -> list[JsonObject]:
    """Return a cluster of all router processes, for picks, and one of each for the access log where that differs.

    Raises:
        ValueError: If an address is neither "ip:port" nor "unix:/path".
    """
    if not addresses:
        return []
    clusters = [_router_cluster(ROUTER_CLUSTER, ext_proc_addresses or addresses, maximum_requests)]
    members = zip(access_log_clusters(addresses, ext_proc_addresses), addresses, strict=True)
    clusters += [
        _router_cluster(name, (address,), maximum_requests) for name, address in members if name != ROUTER_CLUSTER
    ]
    return clusters


def admin_cluster(socket: Path) -> JsonObject:
    """Return the cluster of Envoy's own admin page behind a unix socket."""
    endpoint = {"endpoint": {"address": pipe(socket)}}
    return {
        "name": ADMIN_CLUSTER,
        "type": "STATIC",
        "connect_timeout": duration(_ROUTER_CONNECT_SECONDS),
        "load_assignment": {"cluster_name": ADMIN_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def access_log_clusters(addresses: Sequence[str], ext_proc_addresses: Sequence[str]) -> list[str]:
    """Return the names of the clusters of single router processes."""
    if len(addresses) == 1 and not ext_proc_addresses:
        return [ROUTER_CLUSTER]
    return [f"{ROUTER_CLUSTER}_{index}" for index in range(len(addresses))]


def load_assignment(cluster: str, addresses: Sequence[str]) -> JsonObject:
    """Return the members of a cluster; raises like `router_clusters`."""
    endpoints = [{"endpoint": {"address": _address(address)}} for address in addresses]
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}]}


def extension(
    category: str, name: str, config: JsonObject, *, message: str | None = None, package: str | None = None
) -> JsonObject:
    """Return one of Envoy's extensions with its configuration.

    Args:
        category: Such as "filters.http".
        name: Such as "lua".
        config: Fields of its configuration message.
        message: The message's name; default: the name in CamelCase.
        package: The last part of the message's package; default: the name.
    """
    message = message or "".join(word.capitalize() for word in name.split("_"))
    kind = f"{TYPES}.extensions.{category}.{package or name}.v3.{message}"
    return {"name": f"envoy.{category}.{name}", "typed_config": {"@type": kind, **config}}


def socket_address(host: str, port: int) -> JsonObject:
    """Return a TCP address."""
    return {"socket_address": {"address": host, "port_value": port}}


def pipe(socket: Path) -> JsonObject:
    """Return the address of a unix socket."""
    return {"pipe": {"path": str(socket)}}


def duration(seconds: float) -> str:
    """Return a span as protobuf's JSON writes it."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def _pick_or_round_robin() -> JsonObject:
    round_robin = extension("load_balancing_policies", "round_robin", {})
    pick = {
        "override_host_sources": [{"metadata": {"key": DESTINATION_NAMESPACE, "path": [{"key": DESTINATION_HEADER}]}}],
        "fallback_policy": {"policies": [{"typed_extension_config": round_robin}]},
    }
    return {"policies": [{"typed_extension_config": extension("load_balancing_policies", "override_host", pick)}]}


def _outlier_detection(local_failures: int) -> JsonObject:
    """Keep requests off members that fail every one, never off more than half; picks are followed regardless."""
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": local_failures,
        "enforcing_consecutive_local_origin_failure": 100,
        "consecutive_gateway_failure": 5,
        "enforcing_consecutive_gateway_failure": 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "interval": duration(2),
        "base_ejection_time": duration(5),
        "max_ejection_time": duration(60),
        "max_ejection_percent": 50,
        "always_eject_one_host": False,
    }


def _router_cluster(name: str, addresses: Sequence[str], maximum_requests: int) -> JsonObject:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": duration(_ROUTER_CONNECT_SECONDS),
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": load_assignment(name, addresses),
        "circuit_breakers": _circuit_breakers(maximum_requests),
        "outlier_detection": _outlier_detection(local_failures=1),
        **_http_protocol("http2_protocol_options"),
    }


def _http_protocol(kind: str, idle_seconds: float | None = None) -> JsonObject:
    name = "extensions.upstreams.http.v3.HttpProtocolOptions"
    options: JsonObject = {"@type": f"{TYPES}.{name}", "explicit_http_config": {kind: {}}}
    if idle_seconds is not None:
        options["common_http_protocol_options"] = {"idle_timeout": duration(idle_seconds)}
    return {"typed_extension_protocol_options": {f"envoy.{name}": options}}


def _circuit_breakers(maximum_requests: int) -> JsonObject:
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(limits, maximum_requests)]}


def _address(address: str) -> JsonObject:
    if address.startswith("unix:/"):
        return {"pipe": {"path": address.removeprefix("unix:")}}
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
        number = int(port)
    except ValueError:
        number = 0
    if not 0 < number < 65_536:
        raise ValueError(f'address {address!r} must be "ip:port" with a literal IP address, or "unix:/path"')
    return socket_address(host, number)
