"""Makes versions ready to decide: from memory, from disk, or from the policy service."""

import asyncio
import logging

from pointsman_operator.assignment import Installed, install
from pointsman_operator.policy_service import PolicyServiceConnection
from pointsman_operator.versions.fetching import fetch_files
from pointsman_operator.versions.kept import KeptVersions, VersionName
from pointsman_policy.errors import DocumentError

_LOGGER = logging.getLogger(__name__)


class Installer:
    """Holds the versions that are in use; used on one event loop.

    Args:
        kept: Versions on disk.
        connection: To the policy service.
    """

    def __init__(self, kept: KeptVersions, connection: PolicyServiceConnection) -> None:
        self._kept = kept
        self._connection = connection
        self._ready: dict[tuple[str, str], Installed] = {}

    def load(self, policy: str, name: VersionName) -> Installed:
        """Return a version that is on disk; blocks.

        Raises:
            DocumentError: If it is not, or is damaged.
        """
        version = self._kept.read(policy, name)
        if version is None:
            raise DocumentError(f"version {name.version} of {policy}", "is not kept here; the policy service has it")
        return self._ready.setdefault((policy, name.digest), install(version))

    async def obtain(self, policy: str, name: VersionName) -> Installed:
        """Return a version; it is fetched if it is not on disk, or is damaged there.

        Raises:
            DocumentError: If what the policy service sends cannot be used.
            OSError: If it cannot be written, or a TLS file cannot be read.
            grpc.aio.AioRpcError: If the policy service does not send it.
        """
        ready = self._ready.get((policy, name.digest))
        if ready is not None:
            return ready
        try:
            return await asyncio.to_thread(self.load, policy, name)
        except DocumentError as error:
            _LOGGER.info("Fetching version %s of %s: %s", name.version, policy, error.problem)
        files = await fetch_files(await self._connection.stub(), policy, name.version)
        version = await asyncio.to_thread(self._kept.add, policy, name, files)
        ready = self._ready[policy, name.digest] = await asyncio.to_thread(install, version)
        return ready

    def forget_all_but(self, policy: str, used: tuple[VersionName, ...]) -> None:
        """Let go of a policy's other versions in memory."""
        digests = {one.digest for one in used}
        for key in [key for key in self._ready if key[0] == policy and key[1] not in digests]:
            del self._ready[key]
