"""How one operator process runs; everything about routing itself is in RouterPolicies."""

from dataclasses import dataclass
from pathlib import Path

from pointsman_operator.policy_service import PolicyServiceAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSelection:
    """Which pods are routers, and how they are asked."""

    namespace: str
    """Namespace of the router pods."""
    selector: str
    """Label selector of the router pods."""
    port: int = 9002
    """Their gRPC port."""
    certificate: Path | None = None
    """PEM file with the operator's own certificate; None = connections are plain text."""
    key: Path | None = None
    """PEM file with its key."""
    authority: Path | None = None
    """PEM file with the CA that signed the routers' certificates."""
    server_name: str = ""
    """Name in the routers' certificates, as pods are called by address; empty = any that `authority` has signed for."""

    @property
    def described(self) -> str:
        """Where routers are looked for, for people."""
        return f"pods of namespace {self.namespace} with the labels {self.selector}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """Where the admission webhook is served."""

    host: str
    port: int
    """0 = any free port."""
    certificate: Path
    """PEM file; reloaded on change, as is the key."""
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """Read once at the start."""

    routers: RouterSelection
    namespaces: tuple[str, ...] = ()
    """Where RouterPolicies are looked after; none = everywhere."""
    webhook: WebhookSettings | None = None
    """None = no webhook is served."""
    policy_service: PolicyServiceAddress | None = None
    """None = there is none, and policies are not trained."""
    peering: str = ""
    """Name of the (Cluster)KopfPeering object that the replicas share; empty = there is one replica only."""
    priority: int | None = None
    """The replica of the highest priority is active, the others stand by; None = the one that started first."""
    identity: str = ""
    """Name of this replica, unique among them; empty = made up."""
    admin_host: str = "127.0.0.1"
    """Where metrics and probes are served."""
    admin_port: int = 8080
    """0 = any free port."""
    poll_interval_seconds: float = 2.0
    """From one round of questions to the routers to the next; those to the policy service likewise."""
    drain_notice_seconds: float = 2.0
    """After SIGTERM: not ready but still answering the webhook, so that the API server notices."""
