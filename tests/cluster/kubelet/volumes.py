"""The volumes of a pod as folders, rewritten whenever their sources change."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tests.cluster.kubelet.atomic_files import AtomicFolder, File
from tests.cluster.kubelet.documents import Document
from tests.cluster.kubelet.expansion import MountPaths
from tests.cluster.kubelet.mounts import ATOMIC_KINDS, containers, pod_wide_folders, volume_folder
from tests.cluster.kubelet.sources import NotThereError, Sources, pod_field, resource_field

RequestToken = Callable[[Document, str | None, int], Awaitable[str]]
"""Makes a token of a pod's ServiceAccount for an audience and a number of seconds."""
DEFAULT_TOKEN_SECONDS = 3600
RENEW_AT = 0.8
"""Share of a token's lifetime after which it is replaced."""


class UnsupportedVolumeError(RuntimeError):
    """A pod wants a kind of volume that plain folders cannot stand for."""


class Volumes:
    """The volumes of one pod."""

    def __init__(self, folder: Path, sources: Sources, request_token: RequestToken) -> None:
        self._folder, self._sources, self._request_token = folder, sources, request_token
        self._atomic: dict[str, AtomicFolder] = {}
        self._tokens: dict[tuple[str, str], tuple[float, bytes]] = {}

    async def write(self, pod: Document) -> None:
        """Make every volume hold what it should hold now.

        Raises:
            NotThereError: an object that a volume refers to, and that is not optional, does not exist.
            UnsupportedVolumeError: of a kind that cannot be had here.
        """
        paths = MountPaths(pod_wide_folders(pod, self._folder))
        for volume in pod["spec"].get("volumes", ()):
            place = volume_folder(pod, self._folder, volume["name"])
            kind = next(kind for kind in volume if kind != "name")
            if kind in ("emptyDir", "persistentVolumeClaim"):
                place.mkdir(parents=True, exist_ok=True)
            elif kind in ATOMIC_KINDS:
                files = await self._files(pod, volume["name"], kind, volume[kind], paths)
                self._atomic.setdefault(volume["name"], AtomicFolder(place)).write(files)
            elif kind != "hostPath":
                message = f'volume "{volume["name"]}" is of kind {kind}, which the process kubelet does not have'
                raise UnsupportedVolumeError(message)

    async def _files(self, pod: Document, name: str, kind: str, spec: Document, paths: MountPaths) -> dict[str, File]:
        mode = spec.get("defaultMode", 0o644)
        if kind != "projected":
            return self._plain_files(pod, kind, spec, mode, paths)
        files: dict[str, File] = {}
        for source in spec.get("sources", ()):
            inner, details = next(iter(source.items()))
            if inner == "serviceAccountToken":
                token = await self._token(pod, name, details)
                files[details["path"]] = File(token, mode)
            else:
                files |= self._plain_files(pod, inner, details, mode, paths)
        return files

    def _plain_files(self, pod: Document, kind: str, spec: Document, mode: int, paths: MountPaths) -> dict[str, File]:
        if kind == "downwardAPI":
            return {item["path"]: File(_field(pod, item).encode(), mode) for item in spec.get("items", ())}
        namespace, optional = pod["metadata"]["namespace"], spec.get("optional", False)
        if kind == "secret":
            name = spec.get("secretName") or spec["name"]
            return _select(self._sources.secret(namespace, name, optional=optional), spec, mode)
        entries = self._sources.config_map(namespace, spec["name"], optional=optional)
        files = _select(entries, spec, mode)
        return {name: replace(file, content=_rewritten(file.content, paths)) for name, file in files.items()}

    async def _token(self, pod: Document, volume: str, spec: Document) -> bytes:
        where, now = (volume, spec["path"]), time.monotonic()
        renew_at, token = self._tokens.get(where, (0.0, b""))
        if now >= renew_at:
            lifetime = int(spec.get("expirationSeconds", DEFAULT_TOKEN_SECONDS))
            token = (await self._request_token(pod, spec.get("audience"), lifetime)).encode()
            self._tokens[where] = now + lifetime * RENEW_AT, token
        return token


def _select(entries: Mapping[str, bytes], spec: Document, mode: int) -> dict[str, File]:
    if "items" not in spec:
        return {name: File(content, mode) for name, content in entries.items()}
    files = {}
    for item in spec["items"]:
        if item["key"] in entries:
            files[item["path"]] = File(entries[item["key"]], item.get("mode", mode))
        elif not spec.get("optional", False):
            message = f"references non-existent config key: {item['key']}"
            raise NotThereError(message)
    return files


def _rewritten(content: bytes, paths: MountPaths) -> bytes:
    try:
        return paths.in_text(content.decode()).encode()
    except UnicodeDecodeError:
        return content


def _field(pod: Document, item: Document) -> str:
    if reference := item.get("fieldRef"):
        return pod_field(pod, reference["fieldPath"])
    reference = item["resourceFieldRef"]
    container = next(one for one in containers(pod) if one["name"] == reference["containerName"])
    return resource_field(container, reference)
