"""What a pod's status says, from the states of its containers."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.cluster.kubelet.container import Container
from tests.cluster.kubelet.documents import Document


@dataclass(frozen=True)
class Facts:
    """What there is to say of a pod."""

    pod: Document
    published: Sequence[Document]
    """The conditions that were written last."""
    address: str
    host_address: str
    started_at: str
    now: str
    init_containers: Sequence[Container]
    containers: Sequence[Container]
    ending: bool
    """Whether the pod is being deleted."""
    finished: bool
    """Whether no container will ever run again."""


def pod_status(facts: Facts) -> Document:
    """Return the status, to be merged into the pod's."""
    return {
        "phase": _phase(facts),
        "conditions": _conditions(facts),
        "hostIP": facts.host_address,
        "podIP": facts.address,
        "podIPs": [{"ip": facts.address}],
        "startTime": facts.started_at,
        "initContainerStatuses": [_init_container_status(one) for one in facts.init_containers],
        "containerStatuses": [_container_status(one) for one in facts.containers],
    }


def _phase(facts: Facts) -> str:
    if facts.finished:
        codes = [one.state.exit_code for one in facts.containers]
        return "Succeeded" if all(code == 0 for code in codes) else "Failed"
    begun = any(_has_begun(one) for one in facts.containers)
    return "Running" if begun else "Pending"


def _has_begun(container: Container) -> bool:
    return "waiting" not in container.state.current or bool(container.state.last)


def _initialized(facts: Facts) -> bool:
    return all(one.state.exit_code == 0 for one in facts.init_containers)


def _conditions(facts: Facts) -> list[Document]:
    unready = [one.name for one in facts.containers if not one.state.ready]
    containers_ready = not unready and not facts.ending and not facts.finished
    gates = [gate["conditionType"] for gate in facts.pod["spec"].get("readinessGates", ())]
    closed = [gate for gate in gates if not _is_true(facts.pod, gate)]
    why = _why_not_ready(facts, unready)
    gate_why = ("ReadinessGatesNotReady", f"not true: {', '.join(closed)}")
    initial_why = ("ContainersNotInitialized", "init containers have not finished")
    return [
        _condition(facts, "Initialized", _initialized(facts), initial_why),
        _condition(facts, "ContainersReady", containers_ready, why),
        _condition(facts, "Ready", containers_ready and not closed, gate_why if containers_ready else why),
    ]


def _why_not_ready(facts: Facts, unready: Sequence[str]) -> tuple[str, str]:
    if facts.finished:
        return "PodCompleted", ""
    if facts.ending:
        return "Terminating", "the pod is being deleted"
    return "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"


def _is_true(pod: Document, kind: str) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == kind and one["status"] == "True" for one in conditions)


def _condition(facts: Facts, kind: str, holds: bool, why: tuple[str, str]) -> Document:
    status = "True" if holds else "False"
    reason, message = (None, None) if holds else why
    before = next((one for one in facts.published if one["type"] == kind and one["status"] == status), {})
    since = before.get("lastTransitionTime", facts.now)
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}


def _init_container_status(container: Container) -> Document:
    return _container_status(container) | {"ready": container.state.exit_code == 0}


def _container_status(container: Container) -> Document:
    state = container.state
    return {
        "name": container.name,
        "image": container.document.get("image", ""),
        "imageID": "",
        "containerID": state.container_id,
        "state": state.current,
        "lastState": state.last,
        "ready": state.ready,
        "started": state.started,
        "restartCount": state.restart_count,
    }
