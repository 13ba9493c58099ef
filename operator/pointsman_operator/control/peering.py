"""Which replica is the active one, by the peering objects that kopf keeps.

Kopf pauses its watches in a replica that stands by, but tells nobody. Before the active replica writes, it looks at the
same object with the same rule, so that a replica that was overruled stays silent.
"""

import datetime
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pointsman_operator.control.api import KubernetesApi, RefusedError
from pointsman_operator.errors import KubernetesError

LIFETIME_SECONDS = 20
"""How long a replica that has vanished without a word counts as alive."""
_PLURALS = {True: "clusterkopfpeerings", False: "kopfpeerings"}


def priority_of_start(unix_seconds: float) -> int:
    """Return a priority by which the replica that started first is the active one."""
    return -int(unix_seconds * 1_000)


def outranked_by(peers: object, identity: str, priority: int, now: datetime.datetime) -> str:
    """Return the name of a living replica that goes before this one; empty = there is none.

    Args:
        peers: The peering object's status: priority, lifetime and last sign of life by identity.
        identity: Of this replica.
        priority: Of this replica; one of the same priority goes before it too, as in kopf both would pause.
        now: The current time, with a time zone.
    """
    if not isinstance(peers, Mapping):
        return ""
    for name, peer in peers.items():
        if name != identity and isinstance(peer, Mapping) and _alive(peer, now) and peer.get("priority", 0) >= priority:
            return str(name)
    return ""


def _alive(peer: Mapping[str, Any], now: datetime.datetime) -> bool:
    try:
        seen = datetime.datetime.fromisoformat(str(peer.get("lastseen")))
        seen = seen if seen.tzinfo else seen.replace(tzinfo=datetime.UTC)
        return seen + datetime.timedelta(seconds=int(peer.get("lifetime", 60))) > now
    except (ValueError, TypeError, OverflowError):
        return False


class Peering:
    """The peering objects of this operator's replicas.

    Args:
        api: The API server.
        name: Of the objects; empty = there is one replica only.
        namespaces: Those with a KopfPeering each; none = there is one ClusterKopfPeering.
        identity: Of this replica.
        priority: Of this replica.
    """

    def __init__(
        self, api: KubernetesApi, name: str, namespaces: Collection[str], identity: str, priority: int
    ) -> None:
        self._api = api
        self._identity = identity
        self._priority = priority
        self._paths = _paths(name, namespaces)
        self.standby_for = ""
        """The replica that goes before this one, as of the last look; empty = this one is active."""

    async def look(self) -> None:
        """Look again.

        Raises:
            KubernetesError: If the objects cannot be read; says what to do if there are none.
        """
        now = datetime.datetime.now(datetime.UTC)
        for path in self._paths:
            peers = (await self._read(path)).get("status")
            self.standby_for = outranked_by(peers, self._identity, self._priority, now)
            if self.standby_for:
                return

    async def _read(self, path: str) -> Mapping[str, Any]:
        try:
            found = await self._api.get(path)
        except RefusedError as error:
            if error.not_found:
                raise KubernetesError(
                    f"there is no peering object {path}; apply the CRDs and the peering object of the chart, "
                    "or leave out --peering"
                ) from error
            raise
        return found if isinstance(found, Mapping) else {}


def _paths(name: str, namespaces: Collection[str]) -> Sequence[str]:
    if not name:
        return ()
    plural = _PLURALS[not namespaces]
    if not namespaces:
        return (f"/apis/kopf.dev/v1/{plural}/{name}",)
    return tuple(f"/apis/kopf.dev/v1/namespaces/{namespace}/{plural}/{name}" for namespace in namespaces)
