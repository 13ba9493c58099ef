import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.states import draw_state

from pointsman_policy.experience.packed_state import StateBatch, pack_state, unpack_states
from pointsman_policy.state import RoutingState, empty_state


def assert_same(batch: StateBatch, index: int, state: RoutingState) -> None:
    for found, expected in zip(batch.states, state, strict=True):
        assert found[index].tobytes() == expected.tobytes()


def drawn(experts: int, slots: int = 10, seed: int = 1) -> RoutingState:
    return draw_state(np.random.default_rng(seed), experts, allowed=0.7, slots=slots)


def test_states_come_back_bit_by_bit_in_batches_of_equal_sizes() -> None:
    states = [drawn(experts, seed=seed) for seed, experts in enumerate((4, 2, 4, 1, 2))]
    states.append(drawn(4, slots=3))
    found = unpack_states([pack_state(state) for state in states])
    assert found.refused == 0
    assert [batch.rows.tolist() for batch in found.batches] == [[3], [1, 4], [5], [0, 2]]
    for batch in found.batches:
        for index, row in enumerate(batch.rows):
            assert_same(batch, index, states[row])


def test_empty_slots_take_no_room() -> None:
    state = empty_state(4)
    idle = len(pack_state(state))
    state.running_mask[2, :3] = True
    assert len(pack_state(state)) == idle + 3 * state.running.itemsize


def test_what_is_left_in_slots_out_of_use_is_not_told() -> None:
    state = drawn(3)
    state.running[:] = 7.0
    state.running_mask[:] = False
    batch = unpack_states([pack_state(state)]).batches[0]
    assert not batch.states.running.view(np.float32).any()


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: b"",
        lambda packed: packed[:9],
        lambda packed: packed[:-1],
        lambda packed: packed + b"\0",
        lambda packed: packed[:60] + bytes([packed[60] ^ 1]) + packed[61:],
        lambda packed: b"else" + packed[4:],
    ],
    ids=["empty", "head only", "cut", "too long", "flipped bit", "other schema"],
)
def test_damaged_states_are_left_out_and_counted(damage) -> None:  # type: ignore[no-untyped-def]
    sound = pack_state(drawn(3))
    found = unpack_states([damage(sound), sound])
    assert found.refused == 1
    assert [batch.rows.tolist() for batch in found.batches] == [[1]]


def signed(packed: bytes, place: int, content: bytes) -> bytes:
    """Return a packed state with other content whose checksum holds."""
    body = packed[8:place] + content + packed[place + len(content) :]
    return packed[:4] + struct.pack("<I", zlib.crc32(body)) + body


@pytest.mark.parametrize(
    ("place", "content"),
    [
        (8, struct.pack("<H", 0)),
        (8, struct.pack("<H", 2_000)),
        (10, struct.pack("<H", 200)),
        (10, struct.pack("<H", 60_000)),
        (14, b"\0\0"),
    ],
    ids=["no expert", "too many experts", "more slots than there are", "too many slots", "rows that no mask has"],
)
def test_sizes_that_do_not_fit_are_refused_although_the_checksum_holds(place: int, content: bytes) -> None:
    state = drawn(2)
    state.running_mask[:] = True
    assert unpack_states([signed(pack_state(state), place, content)]) == ((), 1)


@given(st.binary(max_size=400))
def test_no_bytes_make_it_fail(content: bytes) -> None:
    sound = pack_state(drawn(1))
    prefix = sound[: len(content)]
    assert unpack_states([content, prefix + content]).refused == 2


def test_packing_four_experts_takes_microseconds() -> None:
    state = drawn(4)
    pack_state(state)
    spans = []
    for _ in range(50):
        started = time.perf_counter()
        pack_state(state)
        spans.append(time.perf_counter() - started)
    assert min(spans) < 100e-6
