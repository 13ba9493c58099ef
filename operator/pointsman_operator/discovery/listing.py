"""Which kinds of objects a cluster has, and which objects exist now: lists of names, to compare a watch with.

A watch tells what changes, but not what was deleted while it was broken. A list tells what exists, whatever happened.
"""

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import aiohttp
import kopf
import msgspec

from pointsman_operator.errors import KubernetesError

_ACCEPT = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_PAGE = 500
_TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object, as the API serves it."""

    name: str
    """What it is called here."""
    group: str
    """Empty for the core group."""
    version: str
    plural: str
    namespaced: bool = True
    needed: bool = True
    """False: nothing is wrong where a cluster does not have it."""

    @property
    def full_name(self) -> str:
        """As in `kubectl get`: "routerpolicies.pointsman.io"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None) -> str:
        """Return the path of its list, in one namespace or everywhere."""
        prefix = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{prefix}/namespaces/{namespace}/{self.plural}" if namespace else f"{prefix}/{self.plural}"


POLICIES = Kind("policies", "pointsman.io", "v1alpha1", "routerpolicies")
PODS = Kind("pods", "", "v1", "pods")
NODES = Kind("nodes", "", "v1", "nodes", namespaced=False, needed=False)
POOLS = Kind("pools", "inference.networking.k8s.io", "v1", "inferencepools", needed=False)
EARLY_POOLS = Kind("early-pools", "inference.networking.x-k8s.io", "v1alpha2", "inferencepools", needed=False)
KINDS = (POLICIES, PODS, NODES, POOLS, EARLY_POOLS)


class Absence(enum.Enum):
    """Why a kind cannot be listed."""

    UNKNOWN = "the cluster does not have it"
    FORBIDDEN = "this account may not list it"


Uids = frozenset[str]
Listing = Mapping[Kind, Uids | Absence]


class _Metadata(msgspec.Struct):
    uid: str = ""


class _Item(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _ListMetadata(msgspec.Struct):
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct):
    items: list[_Item] | None = None
    metadata: _ListMetadata = msgspec.field(default_factory=_ListMetadata)


_DECODER = msgspec.json.Decoder(_Page)


async def list_kinds(info: kopf.ConnectionInfo, kinds: Collection[Kind], namespaces: Collection[str]) -> Listing:
    """Return the uids of all objects of these kinds as they are now, or why a kind has none to list.

    Args:
        info: Server and credentials.
        kinds: What to list.
        namespaces: Where; none = everywhere.

    Raises:
        KubernetesError: If the API server cannot be asked now.
    """
    connector = aiohttp.TCPConnector(ssl=info.as_ssl_context())
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    headers = {**info.as_http_headers(), "Accept": _ACCEPT}
    try:
        async with aiohttp.ClientSession(
            info.server, connector=connector, timeout=timeout, headers=headers, proxy=info.proxy_url
        ) as session:
            return {kind: await _list_kind(session, kind, namespaces) for kind in kinds}
    except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
        reason = str(error) or type(error).__name__
        raise KubernetesError(f"the API server at {info.server} cannot be asked ({reason})") from error


async def _list_kind(session: aiohttp.ClientSession, kind: Kind, namespaces: Collection[str]) -> Uids | Absence:
    uids: set[str] = set()
    for namespace in namespaces if kind.namespaced and namespaces else (None,):
        found = await _list_path(session, kind.path(namespace))
        if isinstance(found, Absence):
            return found
        uids |= found
    return frozenset(uids)


async def _list_path(session: aiohttp.ClientSession, path: str) -> set[str] | Absence:
    uids: set[str] = set()
    parameters = {"limit": str(_PAGE)}
    while True:
        async with session.get(path, params=parameters) as response:
            if response.status == 404:
                return Absence.UNKNOWN
            if response.status == 403:
                return Absence.FORBIDDEN
            if response.status != 200:
                raise KubernetesError(f"the API server answers {path} with status {response.status}")
            page = _DECODER.decode(await response.read())
        uids.update(item.metadata.uid for item in page.items or ())
        if not page.metadata.continue_:
            return uids
        parameters["continue"] = page.metadata.continue_
