import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman_policy.experience.prompt_features import decode_prompts, encode_prompt
from pointsman_policy.prediction.hashed_ngrams import HashedNgrams
from pointsman_policy.simulator.sample_prompts import KINDS, prompt_text

SHORT = "Write a haiku about a pointsman who sets the points for 3 trains.\nIn German, please?"


def long_prompt() -> str:
    rng = np.random.default_rng(1)
    texts = [prompt_text(kind, rng) for _ in range(20) for kind in KINDS]
    return " ".join(texts)[:4_096]


def test_a_short_prompts_features_come_back_whole() -> None:
    found = decode_prompts([encode_prompt(SHORT)])
    np.testing.assert_allclose(found.features, HashedNgrams().encode([SHORT]), atol=1e-3)


def test_of_a_long_prompt_the_most_frequent_ngrams_are_kept_as_they_are() -> None:
    packed = encode_prompt(long_prompt())
    assert len(packed) < 1_050
    whole = HashedNgrams().encode([long_prompt()])[0, :4_096]
    found = decode_prompts([packed]).features[0, :4_096]
    kept = found > 0
    assert kept.sum() == 512
    assert whole[~kept].max() <= whole[kept].min() + 1e-6
    np.testing.assert_allclose(found[kept], np.minimum(whole[kept], found[kept].max()), rtol=1e-5)


def test_of_equally_frequent_ngrams_the_lowest_buckets_are_kept() -> None:
    whole = HashedNgrams().encode([long_prompt()])[0, :4_096]
    kept = decode_prompts([encode_prompt(long_prompt())]).features[0, :4_096] > 0
    rarest = whole[kept].min()
    left_out = np.flatnonzero(~kept & np.isclose(whole, rarest))
    assert np.flatnonzero(kept & np.isclose(whole, rarest)).max() < left_out.min()


def test_no_prompt_has_no_features() -> None:
    assert encode_prompt("") == b""
    assert decode_prompts([b""]).rows.tolist() == []


def test_what_cannot_be_read_is_left_out() -> None:
    sound = encode_prompt(SHORT)
    other_version = bytes([sound[0] + 1]) + sound[1:]
    repeated = sound + sound[-2:]
    impossible = sound[:1] + b"\0\0\0\0" + sound[5:]
    found = decode_prompts([sound[:-1], other_version, repeated, impossible, sound, sound[:10]])
    assert found.rows.tolist() == [4]
    assert found.features.shape == (1, HashedNgrams.dimension)


@settings(max_examples=40)
@given(st.text(min_size=1, max_size=300))
def test_any_prompt_can_be_encoded_and_read_back(prompt: str) -> None:
    found = decode_prompts([encode_prompt(prompt)])
    assert found.rows.tolist() == [0]
    whole = HashedNgrams().encode([prompt])
    assert np.linalg.norm(found.features[0, :4_096]) <= np.linalg.norm(whole[0, :4_096]) + 1e-5
    np.testing.assert_allclose(found.features[0, 4_096:], whole[0, 4_096:], atol=2e-3)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(content: bytes) -> None:
    for packed in (content, encode_prompt(SHORT)[:20] + content):
        assert np.isfinite(decode_prompts([packed]).features).all()


def test_encoding_a_long_prompt_does_not_hold_up_requests() -> None:
    prompt = long_prompt()
    spans = []
    for _ in range(20):
        started = time.perf_counter()
        encode_prompt(prompt)
        spans.append(time.perf_counter() - started)
    assert min(spans) < 500e-6
