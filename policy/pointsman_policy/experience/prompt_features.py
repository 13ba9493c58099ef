"""A prompt's features as bytes: enough to fit predictors again, and not the prompt's text.

They are those of `pointsman_policy.prediction.hashed_ngrams`: counts of hashed n-grams, of which 512 are kept at most,
the most frequent ones first and then those of the lowest buckets. All numbers are little-endian::

    version     uint8       of the encoder
    total       uint32      n-grams counted, those left out too
    surface     7 x float16
    pairs       uint16      16 * bucket + min(count, 15), buckets rising

Up to about 250 characters nothing is left out; the longest takes 1 KB.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.prediction.hashed_ngrams import HashedNgrams, count_ngrams

_MOST_PAIRS = 512
_MOST_COUNT = 15
_HEAD = struct.Struct("<BI7e")
_VERSION: Final = HashedNgrams.version
_SURFACES = 7


class DecodedPrompts(NamedTuple):
    """What `decode_prompts` found among what it was given."""

    rows: npt.NDArray[np.int64]
    """Which ones could be read, rising, [n]."""
    features: npt.NDArray[np.float32]
    """As `HashedNgrams.encode` gives them, but for n-grams that were left out, [n, d]."""


def encode_prompt(prompt: str) -> bytes:
    """Return a prompt's features as bytes, of an empty prompt none; takes about 0.1 ms."""
    if not prompt:
        return b""
    counts, surface = count_ngrams(prompt)
    buckets = (counts > 0).nonzero()[0]
    if len(buckets) > _MOST_PAIRS:
        order = buckets - counts[buckets] * len(counts)
        buckets = np.sort(np.partition(order, _MOST_PAIRS - 1)[:_MOST_PAIRS] % len(counts))
    pairs = buckets * (_MOST_COUNT + 1) + np.minimum(counts[buckets], _MOST_COUNT)
    return _HEAD.pack(_VERSION, int(counts.sum()), *surface) + pairs.astype("<u2").tobytes()


def decode_prompts(packed: Sequence[bytes]) -> DecodedPrompts:
    """Return the features of those that this version encoded and that are whole; never fails.

    Args:
        packed: As made by `encode_prompt`. 16 KB of memory are needed for each.
    """
    rows = np.array([row for row, content in enumerate(packed) if _is_sound(content)], np.int64)
    features = np.zeros((len(rows), HashedNgrams.dimension), np.float32)
    for row, into in zip(rows, features, strict=True):
        _, total, *surface = _HEAD.unpack_from(packed[row])
        buckets, counts = _pairs(packed[row])
        into[buckets] = np.sqrt(counts / total)
        into[-_SURFACES:] = surface
    return DecodedPrompts(rows, features)


def _is_sound(content: bytes) -> bool:
    if len(content) < _HEAD.size or (len(content) - _HEAD.size) % 2:
        return False
    version, total, *surface = _HEAD.unpack_from(content)
    if version != _VERSION or not np.isfinite(surface).all():
        return False
    buckets, counts = _pairs(content)
    return len(buckets) <= _MOST_PAIRS and bool((np.diff(buckets) > 0).all()) and int(counts.sum()) <= total


def _pairs(content: bytes) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return buckets and their counts."""
    pairs = np.frombuffer(content, "<u2", offset=_HEAD.size).astype(np.intp)
    return pairs // (_MOST_COUNT + 1), pairs % (_MOST_COUNT + 1)
