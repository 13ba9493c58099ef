"""Records in a file: each behind its length and a checksum, so that a file may end anywhere."""

import struct
import zlib
from collections.abc import Iterator

LARGEST_RECORD = 512 * 1024
"""Bytes; whoever writes keeps to it, and whoever reads takes more than that for damage."""

_HEAD = struct.Struct("<II")
HEAD_BYTES = _HEAD.size


def frame(record: bytes) -> bytes:
    """Return a record with its length and its CRC-32, both little-endian uint32, in front."""
    return _HEAD.pack(len(record), zlib.crc32(record)) + record


def sound_frames(content: bytes) -> Iterator[bytes]:
    """Yield the records from the beginning on, up to the first that is cut off or damaged."""
    at = 0
    while at + HEAD_BYTES <= len(content):
        length, checksum = _HEAD.unpack_from(content, at)
        at += HEAD_BYTES
        record = content[at : at + length]
        if not 0 < length <= LARGEST_RECORD or len(record) < length or zlib.crc32(record) != checksum:
            return
        yield record
        at += length
