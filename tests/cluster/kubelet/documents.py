"""What pods' documents say, read in one place."""

from typing import Any

Document = dict[str, Any]


def key(pod: Document) -> str:
    """Return a pod's namespace/name."""
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def uid(pod: Document) -> str:
    """Return what tells a pod from another of the same name."""
    return str(pod["metadata"]["uid"])


def is_ready(pod: Document) -> bool:
    """Say whether Services send requests to a pod: Ready, with an address, and not being deleted."""
    status = pod.get("status", {})
    if not status.get("podIP") or "deletionTimestamp" in pod["metadata"]:
        return False
    return any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))


def has_address(pod: Document) -> bool:
    """Say whether a pod has an address and is not being deleted."""
    return bool(pod.get("status", {}).get("podIP")) and "deletionTimestamp" not in pod["metadata"]


def port_number(pod: Document, port: int | str, container: Document | None = None) -> int | None:
    """Return a port's number, looked up by name in one container or in all of a pod; None if no port has that name."""
    if isinstance(port, int):
        return port
    containers = [container] if container is not None else pod["spec"]["containers"]
    for one in containers:
        for declared in one.get("ports", ()):
            if declared.get("name") == port:
                return int(declared["containerPort"])
    return int(port) if port.isdigit() else None


def path(pod: Document) -> str:
    """Return the path under which the API serves a pod."""
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
