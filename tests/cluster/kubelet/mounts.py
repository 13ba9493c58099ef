"""Where a container's mount paths lie on this machine."""

import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.kubelet.documents import Document

TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a folder
CLAIMS = "claims"
"""Folder beside those of pods: a claim's files outlive its pods, and the kubelet's restarts."""
ATOMIC_KINDS = ("configMap", "secret", "projected", "downwardAPI")
"""Volumes whose files are replaced when their source changes, but not in a mount with a subPath."""


def containers(pod: Document) -> list[Document]:
    """Return init containers and containers of a pod."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def volume_folder(pod: Document, folder: Path, name: str) -> Path:
    """Return where a pod's volume lies, `folder` being where the pod's files are."""
    volume = next(one for one in pod["spec"]["volumes"] if one["name"] == name)
    if "hostPath" in volume:
        return Path(volume["hostPath"]["path"])
    if "persistentVolumeClaim" in volume:
        claim = volume["persistentVolumeClaim"]["claimName"]
        return folder.parent.joinpath(CLAIMS, pod["metadata"]["namespace"], claim)
    return folder / "v" / name


def mount_folders(pod: Document, container: Document, folder: Path) -> dict[str, Path]:
    """Return the folder or file that stands for each mount path of a container."""
    found = {}
    for number, mount in enumerate(container.get("volumeMounts", ())):
        place = volume_folder(pod, folder, mount["name"])
        if subpath := mount.get("subPath"):
            copied = _is_atomic(pod, mount["name"])
            place = _copy_place(folder, container, number, subpath) if copied else place / subpath
        found[mount["mountPath"]] = place
    return found


def pod_wide_folders(pod: Document, folder: Path) -> Mapping[str, Path]:
    """Return the mount paths that mean the same thing in all containers of a pod that have them."""
    places: dict[str, set[Path]] = defaultdict(set)
    for container in containers(pod):
        for path, place in mount_folders(pod, container, folder).items():
            places[path].add(place)
    return {path: found.pop() for path, found in places.items() if len(found) == 1}


def copy_subpaths(pod: Document, container: Document, folder: Path) -> None:
    """Copy what a container mounts by subPath from ConfigMaps and the like: it stays as it is at the start."""
    for number, mount in enumerate(container.get("volumeMounts", ())):
        subpath = mount.get("subPath")
        if not subpath:
            continue
        origin = volume_folder(pod, folder, mount["name"]) / subpath
        if not _is_atomic(pod, mount["name"]):
            origin.mkdir(parents=True, exist_ok=True) if not origin.exists() else None
            continue
        copy = _copy_place(folder, container, number, subpath)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_dir():
            shutil.copytree(origin, copy, dirs_exist_ok=True)
        elif origin.exists():
            shutil.copy2(origin, copy)


def _copy_place(folder: Path, container: Document, number: int, subpath: str) -> Path:
    name = str(container["name"])
    return folder / "s" / name / str(number) / Path(subpath).name


def _is_atomic(pod: Document, name: str) -> bool:
    volume = next(one for one in pod["spec"]["volumes"] if one["name"] == name)
    return any(kind in volume for kind in ATOMIC_KINDS)
