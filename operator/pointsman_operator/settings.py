"""How one router process runs; everything about routing itself is in RouterPolicies."""

import socket
from dataclasses import dataclass, field
from pathlib import Path

from pointsman_operator.policy_service import PolicyServiceAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """Policies and experts from files."""

    policies: Path
    """RouterPolicies: a YAML file of one or more documents, or a folder of ``*.yaml`` files; reloaded on change."""
    experts: Path
    """The ``experts.yaml``; reloaded on change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSource:
    """Policies and experts from a cluster."""

    namespaces: tuple[str, ...] = ()
    """Where to look; none = everywhere."""
    profiles: Path | None = None
    """CSV of iteration-time fits; None = all experts are estimated from data sheets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """Read once at the start."""

    source: "FileSource | KubernetesSource"
    """Where policies and experts are found."""
    grpc_addresses: tuple[str, ...] = ("127.0.0.1:9002",)
    """Where ext_proc, the access log and RoutingService are served: "ip:port" or "unix:/path"."""
    sidecar_addresses: tuple[str, ...] = ()
    """Where our own sidecar finds ext_proc, over a transport that costs less; forms as above, empty = not
    served."""
    tls_certificate: Path | None = None
    """PEM file with which `grpc_addresses` that have a port are served over TLS; None = plain text."""
    tls_key: Path | None = None
    """Its key."""
    tls_client_ca: Path | None = None
    """CAs of the certificates that clients must show; None = they need none."""
    name: str = field(default_factory=socket.gethostname)
    """Tells this router from its replicas; in Kubernetes its pod's name."""
    admin_host: str = "127.0.0.1"
    """Where metrics, probes and debug pages are served."""
    admin_port: int = 9090
    """0 = any free port."""
    envoy_endpoints: Path | None = None
    """Kept up to date with the ready experts for Envoy's file-based endpoint discovery; None = not written."""
    drain_notice_seconds: float = 2.0
    """After SIGTERM: not ready but still serving, so that load balancers notice."""
    drain_grace_seconds: float = 20.0
    """Then: longest time for open streams to end."""
    decision_expiry_seconds: float = 600.0
    """A decision of which nothing is heard for so long is closed."""
    predictor: Path | None = None
    """Folder of a fitted predictor of quality and output length; None = every expert is at its priors."""
    trained_policies: tuple[Path, ...] = ()
    """Folders of exported policies, whose parameters replace those of the packaged pickers of their names."""
    policy_service: PolicyServiceAddress | None = None
    """Where outcomes go and versions come from; None = nobody learns."""
    state_folder: Path | None = None
    """Keeps outcomes until they are delivered, and the last good versions; None = nothing outlives the process."""
    seed: int | None = None
    """Of tie-breaking, to repeat a run; None = from the operating system."""
