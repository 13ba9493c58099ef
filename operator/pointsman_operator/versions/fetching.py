"""Fetches a version's files from the policy service, which may send anything."""

import asyncio
from collections.abc import AsyncIterable

import grpc

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman.policy.v1 import policy_pb2_grpc
from pointsman_policy.errors import DocumentError
from pointsman_policy.registry.version import FILES

LARGEST_VERSION = 64 << 20
"""Bytes of all files of a version together."""

_DEADLINE_SECONDS = 60.0


async def fetch_files(stub: policy_pb2_grpc.PolicyServiceStub, policy: str, version: str) -> dict[str, bytes]:
    """Return the files of a version by path.

    Raises:
        DocumentError: If what is sent cannot be a version.
        grpc.aio.AioRpcError: If the service does not have it, or it has not come within a minute.
        OSError: If the connection is closed meanwhile.
    """
    request = pb.FetchVersionRequest(policy=policy, version=version)
    call: grpc.aio.UnaryStreamCall[pb.FetchVersionRequest, pb.FilePiece] = stub.FetchVersion(
        request, timeout=_DEADLINE_SECONDS
    )
    try:
        return await _whole_files(call, policy, version)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionError("the connection to the policy service is being opened anew") from None
    finally:
        call.cancel()


async def _whole_files(pieces: AsyncIterable[pb.FilePiece], policy: str, version: str) -> dict[str, bytes]:
    files: dict[str, bytearray] = {}
    size = 0
    async for piece in pieces:
        if piece.path not in FILES:
            raise _unusable(policy, version, f"it holds {piece.path[:100]!r}, which is no file of a version")
        if piece.path in files and piece.path != next(reversed(files)):
            raise _unusable(policy, version, f"{piece.path} comes in parts with other files between them")
        size += len(piece.content)
        if size > LARGEST_VERSION:
            raise _unusable(policy, version, f"it is larger than {LARGEST_VERSION >> 20} MiB")
        files.setdefault(piece.path, bytearray()).extend(piece.content)
    return {path: bytes(content) for path, content in files.items()}


def _unusable(policy: str, version: str, why: str) -> DocumentError:
    return DocumentError(
        f"version {version} of {policy}", f"cannot be used: {why}; check the policy service, or promote another version"
    )
