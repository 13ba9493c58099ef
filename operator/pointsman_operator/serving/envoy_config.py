"""The Envoy sidecar's configuration, as a function of a few settings.

One template serves the demo and the chart. A request's way through the sidecar: headers by which clients could steer
are stripped; ext_proc sends headers and body to the router and takes its pick as metadata; the cluster of experts
follows the pick; a Lua script counts the answer's tokens; the access log tells the router what became of the request.

Experts come and go without a restart: Envoy watches the endpoints file, see `write_endpoints`.
"""

import hashlib
import importlib.resources
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from pointsman_operator.serving.envoy_clusters import (
    ADMIN_CLUSTER,
    DESTINATION_HEADER,
    DESTINATION_NAMESPACE,
    EXPERTS_CLUSTER,
    ROUTER_CLUSTER,
    TYPES,
    JsonObject,
    access_log_clusters,
    admin_cluster,
    duration,
    experts_cluster,
    extension,
    load_assignment,
    pipe,
    router_clusters,
    socket_address,
)

_SUBSET_NAMESPACE = "envoy.lb.subset_hint"
_DECISION_NAMESPACE = "pointsman"
_ACCESS_LOG_NAME = "pointsman"
DECISION_ID_HEADER = "x-pointsman-decision-id"
"""Response header by which a client can ask why its request went where it did: `pointsman explain ID`."""

# Only where the expert did not begin the work: a prompt that kills one expert must not be sent to the next.
_RETRY_ON = "connect-failure,refused-stream,reset-before-request,retriable-status-codes"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoySettings:
    """What differs between sidecars."""

    listen_port: int
    """0 = any free port, to be read from the admin port's ``/listeners``."""
    admin_port: int
    """0 = any free port, written to the file named by Envoy's ``--admin-address-path``."""
    endpoints_path: Path
    """The endpoints file; must exist when Envoy starts."""
    router_addresses: tuple[str, ...]
    """One "ip:port" or "unix:/path" per router process; empty = plain round robin, the yardstick of benchmarks."""
    ext_proc_addresses: tuple[str, ...] = ()
    """Where the same processes serve ext_proc at less cost (`--sidecar-listen`); empty = at `router_addresses`."""
    listen_address: str = "0.0.0.0"  # noqa: S104 - clients are other pods
    admin_address: str = "127.0.0.1"
    admin_socket: Path | None = None
    """A unix socket for the admin page instead of an address; only who shares its folder can reach it."""
    status_port: int | None = None
    """Where readiness and metrics, and nothing else of the admin page, are served to others; None = nowhere.
    Needs an `admin_socket`."""
    message_timeout_seconds: float = 0.2
    """How long the router may take over one message; then `fail_open` decides."""
    fail_open: bool = True
    """Without the router's answer: True = round robin over all experts, False = 503."""
    retries: int = 2
    """Further experts tried where one cannot be reached or is not ready."""
    request_timeout_seconds: float = 0.0
    """Longest time for a whole answer; 0 = no limit, since generations may be long."""
    stream_idle_timeout_seconds: float = 1800.0
    """Longest silence on a request; an answer that is not streamed is silent until its end."""
    buffer_limit_bytes: int = 32 * 1024 * 1024
    """Largest request body; larger ones get 413."""
    heap_limit_bytes: int = 1024 * 1024 * 1024
    """New requests get 503 when Envoy's heap nears this; keep it below the container's memory limit."""
    maximum_requests: int = 16_384
    """Most requests, client connections and connections to experts at once."""


def render_bootstrap(settings: EnvoySettings) -> str:
    """Return Envoy's bootstrap file as YAML.

    Raises:
        ValueError: If a router address is neither "ip:port" nor "unix:/path", or a status port has no admin socket
            behind it.
    """
    return yaml.dump(bootstrap(settings), Dumper=_BlockDumper, sort_keys=False, width=120)


def bootstrap(settings: EnvoySettings) -> JsonObject:
    """Return the bootstrap as plain data; raises like `render_bootstrap`."""
    return {
        "node": {"id": "pointsman-sidecar", "cluster": "pointsman"},
        "admin": {"address": _admin_address(settings), "ignore_global_conn_limit": True},
        "overload_manager": _overload_manager(settings),
        "static_resources": {
            "listeners": [_listener(settings), *_status_listeners(settings)],
            "clusters": [
                experts_cluster(settings.endpoints_path, settings.maximum_requests),
                *router_clusters(settings.router_addresses, settings.ext_proc_addresses, settings.maximum_requests),
                *([] if settings.admin_socket is None else [admin_cluster(settings.admin_socket)]),
            ],
        },
    }


def render_endpoints(addresses: Sequence[str], version: str) -> str:
    """Return the endpoints file, an EDS response in JSON.

    Args:
        addresses: The experts' "ip:port".
        version: Shown by Envoy as the version of its endpoints.

    Raises:
        ValueError: If an address is not of that form.
    """
    assignment = {
        "@type": f"{TYPES}.config.endpoint.v3.ClusterLoadAssignment",
        **load_assignment(EXPERTS_CLUSTER, addresses),
    }
    return json.dumps({"version_info": version, "resources": [assignment]}, indent=1)


def write_endpoints(path: Path, addresses: Sequence[str]) -> None:
    """Replace the endpoints file in one step, so that Envoy never reads half of it; raises like `render_endpoints`."""
    version = hashlib.sha256("\n".join(addresses).encode()).hexdigest()[:16]
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(render_endpoints(addresses, version), "utf-8")
    fresh.replace(path)


class _BlockDumper(yaml.SafeDumper):
    """Writes texts of several lines, such as the Lua script, as readable blocks."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_BlockDumper.add_representer(str, _represent_text)


def _listener(settings: EnvoySettings) -> JsonObject:
    connection_manager = extension("filters.network", "http_connection_manager", _connection_manager(settings))
    return {
        "name": "openai",
        "address": socket_address(settings.listen_address, settings.listen_port),
        "per_connection_buffer_limit_bytes": settings.buffer_limit_bytes,
        "filter_chains": [{"filters": [connection_manager]}],
    }


def _admin_address(settings: EnvoySettings) -> JsonObject:
    if settings.admin_socket is None:
        return socket_address(settings.admin_address, settings.admin_port)
    return pipe(settings.admin_socket)


def _status_listeners(settings: EnvoySettings) -> list[JsonObject]:
    """Let probes and Prometheus in, but nobody to the rest of the admin page, which can stop Envoy."""
    if settings.status_port is None:
        return []
    if settings.admin_socket is None:
        raise ValueError("a status port needs an admin socket, from which it takes what it shows")
    route = {"cluster": ADMIN_CLUSTER, "timeout": duration(5)}
    routes = [{"match": {"path": path}, "route": route} for path in ("/ready", "/stats/prometheus")]
    manager = {
        "stat_prefix": "status",
        "http_filters": [extension("filters.http", "router", {"suppress_envoy_headers": True})],
        "route_config": {
            "name": "status",
            "virtual_hosts": [{"name": "status", "domains": ["*"], "routes": [_only_get(one) for one in routes]}],
        },
    }
    return [
        {
            "name": "status",
            "address": socket_address(settings.listen_address, settings.status_port),
            # Probes must get an answer however many clients there are.
            "ignore_global_conn_limit": True,
            "filter_chains": [{"filters": [extension("filters.network", "http_connection_manager", manager)]}],
        }
    ]


def _only_get(route: JsonObject) -> JsonObject:
    get = {"name": ":method", "string_match": {"exact": "GET"}}
    return {**route, "match": {**route["match"], "headers": [get]}}


def _connection_manager(settings: EnvoySettings) -> JsonObject:
    routes = [{"match": {"prefix": "/"}, "route": _route_action(settings)}]
    return {
        "stat_prefix": "openai",
        "use_remote_address": True,
        "preserve_external_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        "normalize_path": True,
        "merge_slashes": True,
        "common_http_protocol_options": {"idle_timeout": duration(3600)},
        # A client that sends slowly must not hold a connection for ever; neither limits the answer.
        "request_headers_timeout": duration(10),
        "request_timeout": duration(300),
        "stream_idle_timeout": duration(settings.stream_idle_timeout_seconds),
        "early_header_mutation_extensions": [_strip_headers()],
        "http_filters": _http_filters(settings),
        "route_config": {
            "name": "openai",
            "virtual_hosts": [{"name": "openai", "domains": ["*"], "routes": routes, **_decision_id(settings)}],
        },
        **_access_log(settings),
    }


def _decision_id(settings: EnvoySettings) -> JsonObject:
    """Tell the client its decision; what an expert itself says under that name is not passed on."""
    if not settings.router_addresses:
        return {}
    value = f"%DYNAMIC_METADATA({_DECISION_NAMESPACE}:decision_id)%"
    header = {"header": {"key": DECISION_ID_HEADER, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return {"response_headers_to_remove": [DECISION_ID_HEADER], "response_headers_to_add": [header]}


def _strip_headers() -> JsonObject:
    """Remove, before anything reads them, headers that steer Envoy or have answers compressed, unreadable for Lua."""
    steering = [
        {"remove_on_match": {"key_matcher": {"prefix": prefix, "ignore_case": True}}}
        for prefix in (DESTINATION_HEADER, "x-envoy-")
    ]
    mutations = [{"remove": "accept-encoding"}, *steering]
    return extension("http.early_header_mutation", "header_mutation", {"mutations": mutations})


def _http_filters(settings: EnvoySettings) -> list[JsonObject]:
    router = extension("filters.http", "router", {"suppress_envoy_headers": True})
    if not settings.router_addresses:
        return [router]
    script = importlib.resources.files(__package__).joinpath("envoy_tokens.lua").read_text("utf-8")
    return [
        extension("filters.http", "ext_proc", _external_processor(settings), message="ExternalProcessor"),
        extension("filters.http", "lua", {"default_source_code": {"inline_string": script}}),
        router,
    ]


def _external_processor(settings: EnvoySettings) -> JsonObject:
    return {
        "grpc_service": {"envoy_grpc": {"cluster_name": ROUTER_CLUSTER}},
        "failure_mode_allow": settings.fail_open,
        "status_on_error": {"code": "ServiceUnavailable"},
        "message_timeout": duration(settings.message_timeout_seconds),
        "processing_mode": {
            "request_header_mode": "SEND",
            "request_body_mode": "BUFFERED",
            "request_trailer_mode": "SKIP",
            "response_header_mode": "SKIP",
            "response_body_mode": "NONE",
            "response_trailer_mode": "SKIP",
        },
        "metadata_options": {
            "forwarding_namespaces": {"untyped": [_SUBSET_NAMESPACE, DESTINATION_NAMESPACE]},
            "receiving_namespaces": {"untyped": [DESTINATION_NAMESPACE, _DECISION_NAMESPACE]},
        },
        # Lets the router limit the retries of one request (x-envoy-max-retries) to the experts that know its model.
        "mutation_rules": {"allow_envoy": True},
    }


def _route_action(settings: EnvoySettings) -> JsonObject:
    other_host = extension("retry.host", "previous_hosts", {}, message="PreviousHostsPredicate")
    return {
        "cluster": EXPERTS_CLUSTER,
        "timeout": duration(settings.request_timeout_seconds),
        "retry_policy": {
            "retry_on": _RETRY_ON,
            "retriable_status_codes": [503],
            "num_retries": settings.retries,
            "retry_back_off": {"base_interval": duration(0.01), "max_interval": duration(0.1)},
            "retry_host_predicate": [other_host],
            "host_selection_retry_max_attempts": 3,
        },
    }


def _access_log(settings: EnvoySettings) -> JsonObject:
    """Send every entry to every router process: a log stream is not tied to the process that made the decision."""
    if not settings.router_addresses:
        return {}
    loggers = []
    for cluster in access_log_clusters(settings.router_addresses, settings.ext_proc_addresses):
        common = {
            "log_name": _ACCESS_LOG_NAME,
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": cluster}},
            "buffer_flush_interval": duration(0.1),
            "buffer_size_bytes": 16_384,
        }
        config = {"common_config": common}
        loggers.append(
            extension("access_loggers", "http_grpc", config, message="HttpGrpcAccessLogConfig", package="grpc")
        )
    return {"access_log": loggers, "access_log_options": {"access_log_flush_interval": duration(1)}}


def _overload_manager(settings: EnvoySettings) -> JsonObject:
    connections = extension(
        "resource_monitors",
        "global_downstream_max_connections",
        {"max_active_downstream_connections": settings.maximum_requests},
        message="DownstreamConnectionsConfig",
        package="downstream_connections",
    )
    heap = extension(
        "resource_monitors", "fixed_heap", {"max_heap_size_bytes": settings.heap_limit_bytes}, message="FixedHeapConfig"
    )
    actions = {"envoy.overload_actions.shrink_heap": 0.9, "envoy.overload_actions.stop_accepting_requests": 0.95}
    return {
        "refresh_interval": duration(0.25),
        "resource_monitors": [connections, heap],
        "actions": [
            {"name": name, "triggers": [{"name": heap["name"], "threshold": {"value": share}}]}
            for name, share in actions.items()
        ],
    }
