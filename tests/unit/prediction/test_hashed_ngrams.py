import zlib

import numpy as np
import numpy.typing as npt
import pytest

from pointsman_policy.prediction.hashed_ngrams import HashedNgrams

ENCODER = HashedNgrams()
FINGERPRINT = 2250624515


def encode(text: str) -> npt.NDArray[np.float32]:
    features: npt.NDArray[np.float32] = ENCODER.encode([text])[0]
    return features


def buckets(text: str) -> set[int]:
    return set(np.flatnonzero(encode(text)[:4096]).tolist())


def test_a_text_has_the_same_features_alone_and_among_others() -> None:
    texts = ["Add 2 and 3.", "", "def f(x): return x", "ein längerer Satz\nmit zwei Zeilen?"]
    together = ENCODER.encode(texts)
    assert together.shape == (4, ENCODER.dimension)
    for row, text in zip(together, texts, strict=True):
        np.testing.assert_array_equal(row, encode(text))


def test_features_never_change_under_one_version() -> None:
    text = 'What is 17 * 23? Élan, naïve, 東京.\n```json\n{"answer": "___"}\n```'
    shown = np.round(encode(text) * 1e4).astype("<i4")
    assert (ENCODER.version, zlib.crc32(shown.tobytes())) == (1, FINGERPRINT)


def test_buckets_are_of_length_one_and_surfaces_about_one_at_most() -> None:
    for text in ("a", "What?", "x" * 100_000, "\n" * 50, "{}" * 900):
        features = encode(text)
        assert np.linalg.norm(features[:4096]) == pytest.approx(1.0) or not features[:4096].any()
        assert (features[4096:] >= 0).all()
        assert (features[4096:] < 1.6).all()


def test_words_count_wherever_they_stand_and_however_they_are_capitalised() -> None:
    alone = buckets("cloud")
    assert alone <= buckets("the CLOUD, seen from below")
    assert alone <= buckets("seen from below: a Cloud")
    assert not alone <= buckets("seen from below")


def test_an_empty_text_has_no_features() -> None:
    assert not encode("").any()


@pytest.mark.parametrize("text", ["\ud800", "\x00", "a", "ab", "日", "\U0001f600" * 5_000, " " * 10])
def test_no_text_fails(text: str) -> None:
    assert np.isfinite(encode(text)).all()


def test_a_long_text_is_looked_at_from_both_ends() -> None:
    head, tail = "first " * 256, " last" * 102 + " !"
    long = encode(head + "middle " * 10_000 + tail)
    np.testing.assert_array_equal(long[:4096], encode(head + "other " * 50_000 + tail)[:4096])
    assert buckets("last") <= buckets(head + "middle " * 10_000 + tail)
    assert encode("a" * 5_000)[4096] > encode("a" * 3_000)[4096]
