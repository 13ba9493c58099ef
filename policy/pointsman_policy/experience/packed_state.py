"""A RoutingState as bytes: how routers send the states of their decisions, and how the experience store keeps them.

Only slots in use take room. All numbers are little-endian::

    schema      4 bytes     the first of the SHA-256 of the tables' fields
    checksum    uint32      CRC-32 of everything after it
    sizes       3 x uint16  E experts, R running slots, W waiting slots
    masks       bits        running slots in use, [E, R], waiting ones, [E, W], experts allowed, [E], each up to a byte
    rows        float32     experts, candidates, the request, running slots in use, waiting slots in use

What was packed by a version of Pointsman with other tables, or was damaged since, is told apart and left out.
"""

import hashlib
import struct
import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.state import CANDIDATE, EXPERT, REQUEST, SLOT, RoutingState, empty_state

_TABLES = (EXPERT, CANDIDATE, REQUEST, SLOT)
_SCHEMA: Final = hashlib.sha256(repr([table.names for table in _TABLES]).encode()).digest()[:4]
_HEAD = struct.Struct("<4sI")
_SIZES = struct.Struct("<3H")
_MOST_EXPERTS = 1_000
_MOST_SLOTS = 255

_Sizes = tuple[int, int, int]


class StateBatch(NamedTuple):
    """N states with the same number of experts and slots."""

    rows: npt.NDArray[np.int64]
    """Which of the packed states they are, rising, [N]."""
    states: RoutingState
    """Arrays as in one state, behind an axis of length N."""


class UnpackedStates(NamedTuple):
    """What `unpack_states` found."""

    batches: tuple[StateBatch, ...]
    """Fewest experts first."""
    refused: int
    """States that another version packed, or that are damaged."""


def pack_state(state: RoutingState) -> bytes:
    """Return a state as bytes; takes microseconds.

    Args:
        state: Of at most 1,000 experts and 255 slots each.
    """
    experts, running_slots = state.running_mask.shape
    body = b"".join(
        (
            _SIZES.pack(experts, running_slots, state.waiting_mask.shape[1]),
            np.packbits(state.running_mask).tobytes(),
            np.packbits(state.waiting_mask).tobytes(),
            np.packbits(state.allowed).tobytes(),
            state.expert.tobytes(),
            state.candidate.tobytes(),
            state.request.tobytes(),
            state.running.reshape(-1).compress(state.running_mask.reshape(-1)).tobytes(),
            state.waiting.reshape(-1).compress(state.waiting_mask.reshape(-1)).tobytes(),
        )
    )
    return _HEAD.pack(_SCHEMA, zlib.crc32(body)) + body


def unpack_states(packed: Sequence[bytes]) -> UnpackedStates:
    """Return packed states in batches of equal sizes; never fails.

    Args:
        packed: As made by `pack_state`; anything else counts as refused.
    """
    rows_of: dict[_Sizes, list[int]] = {}
    for row, content in enumerate(packed):
        sizes = _sizes(content)
        if sizes is not None:
            rows_of.setdefault(sizes, []).append(row)
    batches = tuple(_batch(sizes, rows, packed) for sizes, rows in sorted(rows_of.items()))
    return UnpackedStates(batches, len(packed) - sum(len(batch.rows) for batch in batches))


def _sizes(content: bytes) -> _Sizes | None:
    """Return the sizes of a sound packed state; None = it is not sound."""
    start = _HEAD.size + _SIZES.size
    if len(content) < start:
        return None
    schema, checksum = _HEAD.unpack_from(content)
    if schema != _SCHEMA or zlib.crc32(memoryview(content)[_HEAD.size :]) != checksum:
        return None
    sizes: _Sizes = _SIZES.unpack_from(content, _HEAD.size)
    experts, running_slots, waiting_slots = sizes
    if not 0 < experts <= _MOST_EXPERTS or max(running_slots, waiting_slots) > _MOST_SLOTS:
        return None
    tables = start + sum(_mask_bytes(count) for count in _mask_sizes(sizes))
    if len(content) < tables:
        return None
    running, waiting, _ = _masks(content, sizes)
    slots = int(running.sum()) + int(waiting.sum())
    fixed = experts * (EXPERT.itemsize + CANDIDATE.itemsize) + REQUEST.itemsize
    return sizes if len(content) == tables + fixed + slots * SLOT.itemsize else None


def _mask_sizes(sizes: _Sizes) -> _Sizes:
    experts, running_slots, waiting_slots = sizes
    return experts * running_slots, experts * waiting_slots, experts


def _mask_bytes(bits: int) -> int:
    return (bits + 7) // 8


def _masks(content: bytes, sizes: _Sizes) -> list[npt.NDArray[np.bool_]]:
    """Return the running, waiting and allowed masks, each flat."""
    masks, at = [], _HEAD.size + _SIZES.size
    for bits in _mask_sizes(sizes):
        length = _mask_bytes(bits)
        masks.append(np.unpackbits(np.frombuffer(content, np.uint8, length, at), count=bits).view(np.bool_))
        at += length
    return masks


def _batch(sizes: _Sizes, rows: Sequence[int], packed: Sequence[bytes]) -> StateBatch:
    one = empty_state(*sizes)
    states = RoutingState(*(np.zeros((len(rows), *array.shape), array.dtype) for array in one))
    for index, row in enumerate(rows):
        _unpack(packed[row], sizes, RoutingState(*(array[index] for array in states)))
    return StateBatch(np.array(rows, np.int64), states)


def _unpack(content: bytes, sizes: _Sizes, state: RoutingState) -> None:
    """Write a sound packed state over a zeroed one of its sizes."""
    running, waiting, state.allowed[:] = _masks(content, sizes)
    state.running_mask[:] = running.reshape(state.running_mask.shape)
    state.waiting_mask[:] = waiting.reshape(state.waiting_mask.shape)
    at = _HEAD.size + _SIZES.size + sum(map(_mask_bytes, _mask_sizes(sizes)))

    def take(dtype: np.dtype[np.void], count: int) -> npt.NDArray[np.void]:
        nonlocal at
        taken = np.frombuffer(content, dtype, count, at)
        at += taken.nbytes
        return taken

    state.expert[:] = take(EXPERT, sizes[0])
    state.candidate[:] = take(CANDIDATE, sizes[0])
    state.request[:] = take(REQUEST, 1)
    state.running[state.running_mask] = take(SLOT, int(running.sum()))
    state.waiting[state.waiting_mask] = take(SLOT, int(waiting.sum()))
