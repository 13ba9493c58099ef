"""The built-in encoder: hashed n-grams of characters and words, and a few marks of a text's surface.

Integer arithmetic on bytes, without a Python loop over them. Three or four bytes are a number as they stand. The number
of the word from byte i to byte j is (H[j] - H[i]) / P^i modulo 2^32, with H the running sum of byte * P^position: equal
words have equal numbers wherever they stand.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

_Numbers = npt.NDArray[np.uint32]

_BUCKET_BITS = 12
_BUCKETS = 2**_BUCKET_BITS
_HEAD_CHARACTERS, _TAIL_CHARACTERS = 1_536, 512
"""Looked at, from both ends of a longer text."""
_MOST_BYTES = 4 * (_HEAD_CHARACTERS + _TAIL_CHARACTERS) + 1

_FACTOR = 0x9E3779B1
_MULTIPLIER, _WORD_MULTIPLIER = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_THREE_MARK = np.uint32(0xF5 << 24)
"""Tells three bytes from four: no UTF-8 text has this byte."""
_ONE, _TWO, _TO_BUCKET = np.uint32(8), np.uint32(16), np.uint32(32 - _BUCKET_BITS)


def _powers(factor: int) -> _Numbers:
    values = np.full(_MOST_BYTES, factor % 2**32, np.uint32)
    values[0] = 1
    return np.cumprod(values, dtype=np.uint32)


_POWERS: Final = _powers(_FACTOR)
_INVERSE_POWERS: Final = _powers(pow(_FACTOR, -1, 2**32))

_OTHER, _LOWER, _UPPER, _DIGIT, _CODE, _LINE, _QUESTION, _FOREIGN = range(8)


def _classes() -> npt.NDArray[np.uint8]:
    classes = np.full(256, _OTHER, np.uint8)
    for text, kind in (
        (b"abcdefghijklmnopqrstuvwxyz", _LOWER),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", _UPPER),
        (b"0123456789", _DIGIT),
        (b"{}[]()<>=;_`\\/*+#|&$%^~", _CODE),
        (b"\n", _LINE),
        (b"?", _QUESTION),
    ):
        classes[list(text)] = kind
    classes[128:] = _FOREIGN
    return classes


_CLASSES: Final = _classes()
_IN_WORDS: Final = np.isin(np.arange(8), (_LOWER, _UPPER, _DIGIT, _FOREIGN))
_SURFACES = 7


class HashedNgrams:
    """Encodes without any model: 4,096 buckets of n-grams and 7 surface features, in about 0.1 ms a text.

    A text's words and its sequences of 3 and of 4 bytes are counted by bucket, A to Z as a to z; the square roots of
    the counts are scaled to length 1. Of a text longer than 2,048 characters, the first 1,536 and the last 512 are
    looked at.
    """

    name = "hashed-ngrams"
    version = 1
    dimension = _BUCKETS + _SURFACES

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return features, [n, d]; of a text without any character, zeros."""
        features = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in zip(features, texts, strict=True):
            if text:
                _encode(text, row)
        return features


class NgramCounts(NamedTuple):
    """What a text's features are made of."""

    counts: npt.NDArray[np.intp]
    """Of n-grams by bucket, [4096]."""
    surface: tuple[float, ...]
    """As they are, [7]."""


def count_ngrams(text: str) -> NgramCounts:
    """Return the counts behind a text's features; the text must not be empty."""
    sampled = text
    if len(text) > _HEAD_CHARACTERS + _TAIL_CHARACTERS:
        sampled = f"{text[:_HEAD_CHARACTERS]}\n{text[-_TAIL_CHARACTERS:]}"
    encoded = sampled.encode("utf-8", "replace")
    classes = _CLASSES[np.frombuffer(encoded, np.uint8)]
    counts = np.bincount(_buckets(encoded.lower(), _IN_WORDS[classes]), minlength=_BUCKETS)
    return NgramCounts(counts, _surface(len(text), classes))


def _encode(text: str, row: npt.NDArray[np.float32]) -> None:
    counted, row[_BUCKETS:] = count_ngrams(text)
    counts = counted.astype(np.float32)
    buckets = row[:_BUCKETS]
    np.sqrt(counts, out=buckets)
    buckets *= 1 / math.sqrt(max(float(counts.sum()), 1.0))


def _buckets(encoded: bytes, in_word: npt.NDArray[np.bool_]) -> _Numbers:
    """Return the bucket of every word and of every sequence of 3 and of 4 bytes."""
    values = np.frombuffer(encoded, np.uint8).astype(np.uint32)
    numbers = [_words(values, in_word)]
    if len(values) >= 3:
        pairs = values[:-1] | (values[1:] << _ONE)
        numbers.append((pairs[:-1] | (values[2:] << _TWO)) | _THREE_MARK)
        numbers.append(pairs[:-2] | (pairs[2:] << _TWO))
    mixed = np.concatenate(numbers)
    mixed *= _MULTIPLIER
    mixed >>= _TO_BUCKET
    return mixed


def _words(values: _Numbers, in_word: npt.NDArray[np.bool_]) -> _Numbers:
    count = len(values)
    running = np.zeros(count + 1, np.uint32)
    np.cumsum(values * _POWERS[:count], out=running[1:])
    inside = np.zeros(count + 2, np.bool_)
    inside[1:-1] = in_word
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[::2], edges[1::2]
    words = (running[ends] - running[starts]) * _INVERSE_POWERS[starts]
    words ^= words >> _TWO
    return words * _WORD_MULTIPLIER


def _surface(characters: int, classes: npt.NDArray[np.uint8]) -> tuple[float, ...]:
    """Return length, lines, questions, and shares of digits, code marks, capitals and other scripts; about 0 to 1."""
    counts = np.bincount(classes, minlength=8).tolist()
    size = len(classes)
    return (
        math.log1p(characters) / 10,
        math.log1p(counts[_LINE]) / 5,
        math.log1p(counts[_QUESTION]) / 3,
        counts[_DIGIT] / size,
        counts[_CODE] / size,
        counts[_UPPER] / size,
        counts[_FOREIGN] / size,
    )
