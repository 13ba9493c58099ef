"""Experts and policies from files: discovery without Kubernetes."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.discovery.store import EVERY_NAMESPACE, KnownPolicy
from pointsman_operator.discovery.watch import FileWatch
from pointsman_operator.routerpolicy import RouterPolicy, read_policies
from pointsman_policy.experts import read_experts


@dataclass(frozen=True, slots=True)
class _Content:
    endpoints: tuple[Endpoint, ...]
    profiles: Path | None


class ExpertFile:
    """The endpoint store of an ``experts.yaml``, which is loaded again when it changes.

    An expert whose description stays the same keeps its `Endpoint`. A file that becomes unusable changes nothing.

    Args:
        path: The file.
        interval_seconds: From one look at the file to the next.

    Raises:
        DocumentError: If the file is unusable at the start.
    """

    def __init__(self, path: Path, *, interval_seconds: float = 0.25) -> None:
        self._watch: FileWatch[_Content] = FileWatch(
            path, lambda before: _load(path, before), interval_seconds=interval_seconds
        )

    @property
    def problem(self) -> str | None:
        """Why the file as it is now is not in use; None = it is."""
        return self._watch.problem

    @property
    def profiles(self) -> Path | None:
        """The CSV of iteration-time fits that the file names, if any."""
        return self._watch.content.profiles

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return all experts of the file, ready or not, in its order."""
        return self._watch.content.endpoints

    def subscribe(self, callback: Callable[[tuple[Endpoint, ...]], None]) -> None:
        """Call back with all endpoints after every change, at once and synchronously."""
        self._watch.subscribe(lambda content: callback(content.endpoints))

    async def run(self) -> None:
        """Watch the file for ever; ends only by cancellation."""
        await self._watch.run()


class PolicyFile:
    """The policies of a file or folder, loaded again when it changes.

    A policy whose document stays the same keeps its `RouterPolicy`. A file that becomes unusable changes nothing.

    Args:
        path: A YAML file with one or more documents, or a folder of ``*.yaml`` files.
        picker_names: The pickers there are.
        interval_seconds: From one look at the files to the next.

    Raises:
        DocumentError: If the policies are unusable at the start.
    """

    def __init__(self, path: Path, picker_names: Collection[str], *, interval_seconds: float = 0.25) -> None:
        def load(before: tuple[RouterPolicy, ...] | None) -> tuple[RouterPolicy, ...]:
            known = {policy.key: policy for policy in before or ()}
            return tuple(
                known[policy.key] if policy == known.get(policy.key) else policy
                for policy in read_policies(path, picker_names)
            )

        self._watch = FileWatch(path, load, interval_seconds=interval_seconds)

    @property
    def problem(self) -> str | None:
        """Why the files as they are now are not in use; None = they are."""
        return self._watch.problem

    def policies(self) -> tuple[RouterPolicy, ...]:
        """Return the policies, at least one."""
        return self._watch.content

    def subscribe(self, callback: Callable[[tuple[RouterPolicy, ...]], None]) -> None:
        """Call back with all policies after every change, at once and synchronously."""
        self._watch.subscribe(callback)

    async def run(self) -> None:
        """Watch the files for ever; ends only by cancellation."""
        await self._watch.run()


class FileDiscovery:
    """Discovery without Kubernetes.

    Args:
        policies: The policies' files.
        experts: The experts' file.
    """

    def __init__(self, policies: PolicyFile, experts: ExpertFile) -> None:
        self._policies = policies
        self._experts = experts

    @property
    def profiles(self) -> Path | None:
        """The CSV of iteration-time fits that the experts' file names, if any."""
        return self._experts.profiles

    @property
    def not_ready(self) -> str:
        """Nothing: files that cannot be read at the start end the start."""
        return ""

    def policies(self) -> tuple[KnownPolicy, ...]:
        """Return the policies; files have neither generations nor policies that are partly good."""
        return tuple(KnownPolicy(policy.key, policy) for policy in self._policies.policies())

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return all experts, ready or not."""
        return self._experts.endpoints()

    def problems(self) -> Mapping[str, str]:
        """Return why the files as they are now are not in use."""
        return {"policies": self._policies.problem or "", "experts": self._experts.problem or ""}

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call back after every change, at once and synchronously."""
        self._policies.subscribe(lambda _: callback())
        self._experts.subscribe(lambda _: callback())

    async def run(self) -> None:
        """Watch the files for ever; ends only by cancellation."""
        await asyncio.gather(self._policies.run(), self._experts.run())


def _load(path: Path, before: _Content | None) -> _Content:
    document = read_experts(path)
    known = {endpoint.name: endpoint for endpoint in before.endpoints} if before else {}
    endpoints = []
    for expert in document.experts:
        old = known.get(expert.name)
        endpoints.append(old if old and old.expert == expert else Endpoint(expert, namespace=EVERY_NAMESPACE))
    return _Content(tuple(endpoints), path.parent / document.profiles if document.profiles else None)
