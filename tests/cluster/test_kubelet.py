"""The process kubelet runs pods as a kubelet does: real controllers, the scheduler and clients see no difference."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from tests.cluster.cluster import Cluster
from tests.cluster.objects import Document, Objects
from tests.cluster.process_kubelet import ProcessKubelet
from tests.integration.stack.processes import answers, eventually

pytestmark = pytest.mark.usefixtures("kubelet")

DEPLOYMENTS = "apps/v1/deployments"
JOBS = "batch/v1/jobs"
ADDRESS = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
SERVE = ["python", "-m", "http.server", "8000", "--bind", "$(POD_IP)", "--directory"]
PROBE = {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1}


class Here:
    """One test's namespace and node."""

    def __init__(self, cluster: Cluster, namespace: str, node: str) -> None:
        self.cluster, self.namespace, self.node = cluster, namespace, node
        self.objects: Objects = cluster.objects

    def web_container(self, **changes: object) -> Document:
        return {
            "name": "web",
            "image": "python:3.11",
            "command": [*SERVE, "/www"],
            "env": [ADDRESS],
            "ports": [{"name": "web", "containerPort": 8000}],
            "readinessProbe": PROBE,
            "volumeMounts": [{"name": "www", "mountPath": "/www"}],
            **changes,
        }

    def deploy(self, name: str, container: Document, volume: Document | None = None, replicas: int = 1) -> None:
        pod = {
            "containers": [container],
            "volumes": [{"name": "www", **(volume or {"emptyDir": {}})}],
            "nodeSelector": {"kubernetes.io/hostname": self.node},
            "terminationGracePeriodSeconds": 5,
        }
        template = {"metadata": {"labels": {"app": name}}, "spec": pod}
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
        self.objects.create(DEPLOYMENTS, {"metadata": {"name": name}, "spec": spec}, self.namespace)

    def pods(self, name: str) -> list[Document]:
        return self.objects.list("pods", self.namespace, labelSelector=f"app={name}")

    def ready(self, name: str) -> list[Document]:
        return [pod for pod in self.pods(name) if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]

    def until_ready(self, name: str, count: int = 1) -> list[Document]:
        eventually(lambda: len(self.ready(name)) == count, f"{count} ready pods of {name}: {self.pods(name)}")
        return self.ready(name)

    def run_pod(self, name: str, container: Document, **spec: object) -> Document:
        """Run a pod that ends by itself, and return it then."""
        body = {
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "restartPolicy": "Never",
                "nodeSelector": {"kubernetes.io/hostname": self.node},
                "containers": [{"name": "main", "image": "python:3.11", **container}],
                **spec,
            },
        }
        self.objects.create("pods", body, self.namespace)
        eventually(lambda: self.phase(name) in ("Succeeded", "Failed"), f"{name} does not end")
        return self.objects.get("pods", name, self.namespace)

    def phase(self, name: str) -> str:
        return str(self.objects.get("pods", name, self.namespace)["status"]["phase"])


@pytest.fixture
def here(cluster: Cluster, namespace: str, nodes: Callable[..., str]) -> Here:
    return Here(cluster, namespace, nodes())


def is_ready(pod: Document) -> bool:
    return condition(pod, "Ready") == "True"


def condition(pod: Document, kind: str) -> str | None:
    return next((one["status"] for one in pod["status"].get("conditions", ()) if one["type"] == kind), None)


def web_url(pod: Document) -> str:
    return f"http://{pod['status'].get('podIP')}:8000/"


def fetch(pod: Document, path: str = "") -> str:
    return requests.get(web_url(pod) + path, timeout=5).text


def pid(pod: Document) -> int:
    return int(pod["status"]["containerStatuses"][0]["containerID"].removeprefix("process://"))


def is_running(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def test_a_deployment_gets_ready_is_scaled_and_leaves_nothing_behind(here: Here) -> None:
    here.deploy("web", here.web_container())
    (first,) = here.until_ready("web")
    assert "Directory listing" in fetch(first)
    assert first["status"]["podIP"].startswith("127.")
    here.objects.patch(DEPLOYMENTS, "web/scale", {"spec": {"replicas": 3}}, here.namespace)
    pods = here.until_ready("web", 3)
    assert len({pod["status"]["podIP"] for pod in pods}) == 3
    here.objects.delete(DEPLOYMENTS, "web", here.namespace)
    eventually(lambda: not here.pods("web"), "pods stay")
    assert not any(is_running(pid(pod)) for pod in pods)


def test_a_killed_container_is_started_again_and_counted(here: Here) -> None:
    here.deploy("web", here.web_container())
    (pod,) = here.until_ready("web")
    os.kill(pid(pod), signal.SIGKILL)

    def restarted() -> bool:
        (now,) = here.pods("web")
        return bool(now["status"]["containerStatuses"][0]["restartCount"] == 1 and is_ready(now))

    eventually(restarted, "the container is not started again")
    (now,) = here.pods("web")
    assert now["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 128 + signal.SIGKILL
    assert pid(now) != pid(pod)


def test_a_pod_whose_readiness_probe_fails_is_not_ready_until_it_succeeds_again(here: Here) -> None:
    probe = {"httpGet": {"path": "/ready", "port": "web"}, "periodSeconds": 1, "failureThreshold": 1}
    here.objects.create("configmaps", {"metadata": {"name": "page"}, "data": {"index.html": "page"}}, here.namespace)
    here.deploy("web", here.web_container(readinessProbe=probe), {"configMap": {"name": "page"}})
    eventually(lambda: [pod for pod in here.pods("web") if answers(web_url(pod))], "the pod does not serve")
    (pod,) = here.pods("web")
    assert condition(pod, "Ready") == "False"
    assert condition(pod, "Initialized") == condition(pod, "PodScheduled") == "True"
    here.objects.patch("configmaps", "page", {"data": {"ready": "yes"}}, here.namespace)
    here.until_ready("web")
    here.objects.patch("configmaps", "page", {"data": {"ready": None}}, here.namespace)
    eventually(lambda: not here.ready("web"), "the pod stays ready")


def test_a_container_whose_liveness_probe_fails_is_restarted(here: Here) -> None:
    probe = {"exec": {"command": ["test", "-e", "/www/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    script = "touch /www/alive; sleep 1; rm /www/alive; sleep 600"
    container = here.web_container(command=["sh", "-c", script], livenessProbe=probe, readinessProbe=None)
    here.deploy("web", container)

    def restarted() -> bool:
        pods = here.pods("web")
        return bool(pods) and any(status["restartCount"] for status in pods[0]["status"].get("containerStatuses", ()))

    eventually(restarted, "the container is not restarted")
    assert any("Liveness probe failed" in event for event in events(here))


def test_a_startup_probe_holds_the_others_back(here: Here) -> None:
    startup = {"exec": {"command": ["test", "-e", "/www/started"]}, "periodSeconds": 1, "failureThreshold": 60}
    never = {"exec": {"command": ["test", "-e", "/www/started"]}, "periodSeconds": 1, "failureThreshold": 1}
    script = "sleep 2; touch /www/started; sleep 600"
    container = here.web_container(
        command=["sh", "-c", script], startupProbe=startup, livenessProbe=never, readinessProbe=None
    )
    here.deploy("web", container)
    (pod,) = here.until_ready("web")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_changed_config_map_reaches_the_running_pod(here: Here) -> None:
    here.objects.create("configmaps", {"metadata": {"name": "page"}, "data": {"index.html": "old"}}, here.namespace)
    here.deploy("web", here.web_container(), {"configMap": {"name": "page"}})
    (pod,) = here.until_ready("web")
    assert fetch(pod) == "old"
    here.objects.patch("configmaps", "page", {"data": {"index.html": "new", "more.txt": "more"}}, here.namespace)
    eventually(lambda: fetch(pod) == "new", "the new content does not arrive")
    eventually(lambda: fetch(pod, "more.txt") == "more", "the new file does not arrive")
    assert pid(here.until_ready("web")[0]) == pid(pod)


def events(here: Here) -> list[str]:
    return [f"{event['reason']}: {event['message']}" for event in here.objects.list("events", here.namespace)]


def test_a_pod_waits_for_the_secret_that_it_mounts(here: Here) -> None:
    here.deploy("web", here.web_container(), {"secret": {"secretName": "late", "items": [{"key": "a", "path": "b/c"}]}})
    eventually(
        lambda: any(e["reason"] == "FailedMount" for e in here.objects.list("events", here.namespace)), "no event"
    )
    assert not here.ready("web")
    here.objects.create("secrets", {"metadata": {"name": "late"}, "stringData": {"a": "hidden"}}, here.namespace)
    (pod,) = here.until_ready("web")
    assert fetch(pod, "b/c") == "hidden"


def test_a_service_passes_connections_on_to_ready_pods_alone(here: Here) -> None:
    own_name = {"downwardAPI": {"items": [{"path": "index.html", "fieldRef": {"fieldPath": "metadata.name"}}]}}
    here.deploy("web", here.web_container(), own_name, replicas=2)
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}]}
    service = here.objects.create("services", {"metadata": {"name": "web"}, "spec": spec}, here.namespace)
    url = f"http://{service['spec']['clusterIP']}/"
    pods = here.until_ready("web", 2)
    names = {pod["metadata"]["name"] for pod in pods}
    answered: set[str] = set()

    def both_answered() -> bool:
        answered.add(requests.get(url, timeout=5).text)
        return answered == names

    eventually(lambda: answers(url), "the service does not answer")
    eventually(both_answered, f"only {answered} answer")
    here.objects.patch(DEPLOYMENTS, "web/scale", {"spec": {"replicas": 0}}, here.namespace)
    eventually(lambda: not answers(url), "the service answers without a pod")


def test_a_rolling_update_never_leaves_the_service_without_an_answer(here: Here) -> None:
    for version in ("one", "two"):
        page = {"metadata": {"name": version}, "data": {"index.html": version}}
        here.objects.create("configmaps", page, here.namespace)
    finish_answers = {"preStop": {"exec": {"command": ["sleep", "1"]}}}
    here.deploy("web", here.web_container(lifecycle=finish_answers), {"configMap": {"name": "one"}}, replicas=2)
    spec = {"selector": {"app": "web"}, "ports": [{"port": 8000}]}
    service = here.objects.create("services", {"metadata": {"name": "web"}, "spec": spec}, here.namespace)
    url = f"http://{service['spec']['clusterIP']}:8000/"
    here.until_ready("web", 2)
    eventually(lambda: answers(url), "the service does not answer")
    volumes = [{"name": "www", "configMap": {"name": "two"}}]
    template = {"spec": {"template": {"spec": {"volumes": volumes}}}}
    here.objects.patch(DEPLOYMENTS, "web", template, here.namespace)
    heard: list[str] = []

    def rolled() -> bool:
        heard.append(requests.get(url, timeout=5).text)
        return len(heard) > 4 and set(heard[-4:]) == {"two"} and len(here.pods("web")) == 2

    eventually(rolled, "the update does not come through")
    assert heard[0] == "one"


def test_a_job_succeeds_once_its_command_does(here: Here) -> None:
    pod = {
        "restartPolicy": "OnFailure",
        "nodeSelector": {"kubernetes.io/hostname": here.node},
        "volumes": [{"name": "memory", "emptyDir": {}}],
        "containers": [
            {
                "name": "main",
                "image": "busybox",
                "args": ["-c", "test -e /memory/tried || { touch /memory/tried; exit 3; }"],
                "volumeMounts": [{"name": "memory", "mountPath": "/memory"}],
            }
        ],
    }
    here.objects.create(JOBS, {"metadata": {"name": "job"}, "spec": {"template": {"spec": pod}}}, here.namespace)
    eventually(lambda: here.objects.get(JOBS, "job", here.namespace)["status"].get("succeeded"), "no success")
    (done,) = here.objects.list("pods", here.namespace, labelSelector="job-name=job")
    assert done["status"]["phase"] == "Succeeded"
    assert done["status"]["containerStatuses"][0]["restartCount"] == 1


def test_a_pod_that_fails_and_is_not_restarted_has_failed(here: Here) -> None:
    pod = here.run_pod("broken", {"command": ["sh", "-c", "exit 7"]})
    assert pod["status"]["phase"] == "Failed"
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7


def test_init_containers_run_one_after_the_other_before_the_others(here: Here) -> None:
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    steps = [
        {
            "name": f"step-{step}",
            "image": "busybox",
            "args": ["-c", f"echo {step} >> /shared/steps"],
            "volumeMounts": mounts,
        }
        for step in (1, 2)
    ]
    check = {"command": ["sh", "-c", 'test "$(cat /shared/steps)" = "$(printf "1\\n2")"'], "volumeMounts": mounts}
    pod = here.run_pod("steps", check, initContainers=steps, volumes=[{"name": "shared", "emptyDir": {}}])
    assert pod["status"]["phase"] == "Succeeded"


def test_a_claims_files_outlive_its_pods(here: Here) -> None:
    name = f"volume-{here.namespace}"
    size = {"storage": "1Gi"}
    volume = {"capacity": size, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/nowhere"}}
    here.objects.create("persistentvolumes", {"metadata": {"name": name}, "spec": volume})
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": size}, "volumeName": name}
    here.objects.create("persistentvolumeclaims", {"metadata": {"name": "data"}, "spec": claim}, here.namespace)
    mounts = [{"name": "data", "mountPath": "/data"}]
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    here.run_pod("writes", {"command": ["sh", "-c", "echo kept > /data/note"], "volumeMounts": mounts}, volumes=volumes)
    here.objects.delete("pods", "writes", here.namespace)
    reads = {"command": ["sh", "-c", 'test "$(cat /data/note)" = kept'], "volumeMounts": mounts}
    assert here.run_pod("reads", reads, volumes=volumes)["status"]["phase"] == "Succeeded"
    here.objects.delete("persistentvolumes", name)


def test_the_environment_is_what_the_document_makes_of_it(here: Here, kubelet: ProcessKubelet) -> None:
    settings = {"metadata": {"name": "settings"}, "data": {"COLOUR": "blue", "SIZE": "9"}}
    here.objects.create("configmaps", settings, here.namespace)
    here.objects.create("secrets", {"metadata": {"name": "keys"}, "stringData": {"key": "s3"}}, here.namespace)
    env = [
        ADDRESS,
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "key"}}},
        {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": True}}},
        {"name": "MEBIBYTES", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "TEXT", "value": "$(KEY)-$$(KEY)-$(UNKNOWN)"},
        {"name": "FILE", "value": "file:///data/x:/data"},
    ]
    container = {
        "command": ["sh", "-c", "env; echo args=$0", "$(COLOUR)"],
        "env": env,
        "envFrom": [{"configMapRef": {"name": "settings"}}],
        "resources": {"limits": {"memory": "1Gi"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = here.run_pod("environment", container, volumes=[{"name": "data", "emptyDir": {}}])
    said = kubelet.output(here.namespace, "environment", "main").splitlines()
    values = dict(line.split("=", 1) for line in said if "=" in line)
    expected = {
        "POD_IP": pod["status"]["podIP"],
        "NODE": here.node,
        "APP": "environment",
        "KEY": "s3",
        "COLOUR": "blue",
    }
    expected |= {"SIZE": "9", "MEBIBYTES": "1024", "TEXT": "s3-$(KEY)-$(UNKNOWN)", "args": "blue"}
    assert {name: values.get(name) for name in expected} == expected
    assert "NONE" not in values
    first, _, second = values["FILE"].removeprefix("file://").partition(":")
    assert first == f"{second}/x"
    assert second != "/data"


def test_a_pod_is_asked_to_end_and_killed_when_its_grace_is_over(here: Here, kubelet: ProcessKubelet) -> None:
    script = "trap 'echo asked' TERM; while :; do sleep 0.1; done"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hooked >> /www/hooked; cat /www/hooked >&2"]}}}
    here.deploy("web", here.web_container(command=["sh", "-c", script], lifecycle=hook, readinessProbe=None))
    (pod,) = here.until_ready("web")
    name = pod["metadata"]["name"]
    here.objects.delete("pods", name, here.namespace, gracePeriodSeconds=2)
    eventually(lambda: "asked" in kubelet.output(here.namespace, name, "web"), "no SIGTERM")
    leaving = here.objects.find("pods", name, here.namespace)
    if leaving is not None:
        assert condition(leaving, "Ready") == "False"
    eventually(lambda: here.objects.find("pods", name, here.namespace) is None, "the pod stays")
    assert not is_running(pid(pod))


def test_a_pod_acts_as_its_service_account_and_no_more(here: Here, kubelet: ProcessKubelet) -> None:
    script = (
        "kubectl get pods; kubectl auth can-i list secrets; cat /var/run/secrets/kubernetes.io/serviceaccount/namespace"
    )
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    rbac = "rbac.authorization.k8s.io/v1"
    here.objects.create("serviceaccounts", {"metadata": {"name": "reader"}}, here.namespace)
    here.objects.create(f"{rbac}/roles", {"metadata": {"name": "reader"}, "rules": rules}, here.namespace)
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader"}],
    }
    here.objects.create(f"{rbac}/rolebindings", binding, here.namespace)
    eventually(
        lambda: "secrets" in here.objects.get("serviceaccounts", "reader", here.namespace), "no token for the account"
    )
    here.run_pod("me", {"command": ["sh", "-c", script]}, serviceAccountName="reader")
    said = kubelet.output(here.namespace, "me", "main")
    assert "me " in said
    assert "\nno\n" in said
    assert said.endswith(here.namespace)


def test_an_image_that_nothing_stands_for_cannot_be_pulled(here: Here) -> None:
    here.deploy("web", here.web_container(image="unheard-of:1"))

    def refused() -> bool:
        statuses = [one for pod in here.pods("web") for one in pod["status"].get("containerStatuses", ())]
        return any(one["state"].get("waiting", {}).get("reason") == "ErrImagePull" for one in statuses)

    eventually(refused, "no ErrImagePull")


def test_pods_of_a_lost_node_die_and_come_back_with_it(here: Here) -> None:
    here.deploy("web", here.web_container())
    (pod,) = here.until_ready("web")
    here.cluster.lose(here.node)
    eventually(lambda: not here.ready("web"), "the pod stays ready")
    eventually(lambda: not is_running(pid(pod)), "the process lives on")
    assert condition(here.objects.get("nodes", here.node), "Ready") == "Unknown"
    here.cluster.recover(here.node)
    here.until_ready("web")


def test_pods_die_with_a_killed_kubelet_and_come_back_with_the_next(here: Here, kubelet: ProcessKubelet) -> None:
    here.deploy("web", here.web_container())
    (pod,) = here.until_ready("web")
    kubelet.part.stop(signal.SIGKILL)
    eventually(lambda: not is_running(pid(pod)), "the process outlives its kubelet")
    kubelet.part.start()
    eventually(lambda: here.ready("web") and pid(here.ready("web")[0]) != pid(pod), "the pod does not come back")
    assert here.ready("web")[0]["status"]["containerStatuses"][0]["restartCount"] == 1
    assert answers(web_url(here.ready("web")[0]))


def test_pods_run_on_while_the_api_server_is_away(here: Here) -> None:
    here.deploy("web", here.web_container())
    (pod,) = here.until_ready("web")
    here.cluster.control_plane.api_server.stop()
    try:
        assert "Directory listing" in fetch(pod)
        os.kill(pid(pod), signal.SIGKILL)
        eventually(lambda: answers(web_url(pod)), "not started again")
    finally:
        here.cluster.control_plane.api_server.start()

    def told() -> bool:
        (now,) = here.pods("web")
        return bool(now["status"]["containerStatuses"][0]["restartCount"] == 1 and is_ready(now))

    eventually(told, "the API is not told of the restart")
