"""What the journal's frames hold: rows of one policy, as Arrow record batches whose schema both sides know."""

import logging
import struct
from typing import Final

import pyarrow as pa

from pointsman_policy.experience.policy_key import is_policy_key
from pointsman_policy.experience.schema import LABELS, OUTCOMES, SCHEMA_VERSION

_LOGGER = logging.getLogger(__name__)

_HEADER: Final = struct.Struct("<BBH")  # schema version, whether outcomes or labels, length of the policy's key


def write_frame(policy: str, table: pa.Table, *, outcomes: bool) -> bytes:
    """Return rows as a frame.

    Args:
        policy: Whose.
        table: Of the schema OUTCOMES or LABELS.
        outcomes: Which of the two.
    """
    key = policy.encode()
    (batch,) = table.combine_chunks().to_batches()
    return b"".join((_HEADER.pack(SCHEMA_VERSION, outcomes, len(key)), key, batch.serialize()))


def read_frame(frame: bytes, source: str) -> tuple[str, pa.Table, bool] | None:
    """Return a frame's policy and rows, and whether they are outcomes.

    Args:
        frame: As `write_frame` made it.
        source: For messages.

    Returns:
        None = it is of another version, or no frame; logged.
    """
    try:
        version, outcomes, length = _HEADER.unpack_from(frame)
        start = _HEADER.size + length
        policy = frame[_HEADER.size : start].decode()
        if version != SCHEMA_VERSION or not is_policy_key(policy):
            raise ValueError(f"version {version}, policy {policy[:80]!r}; here is version {SCHEMA_VERSION}")
        schema = OUTCOMES if outcomes else LABELS
        batch = pa.ipc.read_record_batch(pa.py_buffer(frame[start:]), schema)
        batch.validate(full=True)
    except (struct.error, UnicodeDecodeError, ValueError, OSError) as error:
        _LOGGER.error("%s: a frame of %d bytes cannot be read (%s); left out", source, len(frame), error)
        return None
    return policy, pa.Table.from_batches([batch]), bool(outcomes)
