"""From a container's document to the command that stands for it."""

import os
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.kubelet.configuration import Image
from tests.cluster.kubelet.documents import Document
from tests.cluster.kubelet.expansion import MountPaths, expand
from tests.cluster.kubelet.mounts import TOKEN_FOLDER, mount_folders
from tests.cluster.kubelet.process import Command

KUBECONFIG_VARIABLE = "KUBECONFIG"


class Launcher:
    """Makes the commands of one pod's containers.

    Args:
        folder: where the pod's files are.
        logs: where output goes.
        server: URL of the API server, for programs that look for it.
        authority: PEM file of its CA.
    """

    def __init__(self, folder: Path, logs: Path, server: str, authority: Path) -> None:
        self._folder, self._logs, self._server, self._authority = folder, logs, server, authority

    def command(
        self, pod: Document, container: Document, image: Image, variables: Mapping[str, str], attempt: int
    ) -> Command:
        """Return what to run for a container, for the given time (0 is the first).

        Args:
            variables: what the container's document makes of its environment.
        """
        folders = mount_folders(pod, container, self._folder)
        paths = MountPaths(folders)
        own = {name: paths.in_text(value) for name, value in variables.items()}
        environment = self._base(pod, container, image) | own
        token_folder = folders.get(TOKEN_FOLDER)
        if token_folder is not None:
            environment.setdefault(KUBECONFIG_VARIABLE, str(self._kubeconfig(pod, container, token_folder)))
        texts = [*(container.get("command") or image.entrypoint), *container.get("args", ())]
        arguments = [paths.in_text(expand(text, variables)) for text in texts]
        place = paths.in_text(container.get("workingDir", ""))
        here = Path(place) if place and place != container.get("workingDir") else self._scratch(container)
        return Command(arguments, environment, here, self.log(pod, container, attempt), paths)

    def log(self, pod: Document, container: Document, attempt: int) -> Path:
        """Return where the output of one run of a container goes."""
        metadata = pod["metadata"]
        return self._logs / f"{metadata['namespace']}_{metadata['name']}_{container['name']}.{attempt}.log"

    def _base(self, pod: Document, container: Document, image: Image) -> dict[str, str]:
        scratch = self._scratch(container)
        scratch.mkdir(parents=True, exist_ok=True)
        host, _, port = self._server.removeprefix("https://").partition(":")
        return {
            "PATH": os.pathsep.join([*image.path, os.environ.get("PATH", os.defpath)]),
            "HOME": str(scratch),
            "TMPDIR": str(scratch),
            "HOSTNAME": pod["metadata"]["name"],
            "LANG": "C.UTF-8",
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            **image.environment,
        }

    def _scratch(self, container: Document) -> Path:
        return self._folder / "c" / str(container["name"])

    def _kubeconfig(self, pod: Document, container: Document, token_folder: Path) -> Path:
        """Write what in-cluster clients read instead of the folder whose path they have built in."""
        token = (token_folder / "token").read_text()
        path = self._scratch(container) / "kubeconfig"
        namespace = pod["metadata"]["namespace"]
        return write_kubeconfig(path, server=self._server, ca=self._authority, token=token, namespace=namespace)
