import dataclasses

import numpy as np
import pytest

from pointsman_policy.pickers.picker import kernel_signature
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.state import CANDIDATE, DEFAULT_SLOTS, ENGINES, EXPERT, REQUEST, SLOT, empty_state, state_type


@pytest.mark.parametrize("row", [EXPERT, SLOT, REQUEST, CANDIDATE], ids=["expert", "slot", "request", "candidate"])
def test_every_table_is_also_a_matrix_of_float32(row: np.dtype[np.void]) -> None:
    assert {row[name] for name in row.names or ()} == {np.dtype(np.float32)}
    table = np.zeros((2, 3), row)
    for column, name in enumerate(row.names or ()):
        table[name] = column + 1
    matrix = table.view(np.float32).reshape(*table.shape, -1)
    assert matrix.shape == (2, 3, len(row.names or ()))
    assert matrix[1, 2].tolist() == list(range(1, len(row.names or ()) + 1))


def test_an_empty_state_allows_nothing_and_has_the_papers_slots() -> None:
    state = empty_state(4)
    assert not state.allowed.any()
    assert not state.running_mask.any()
    assert not state.waiting_mask.any()
    assert DEFAULT_SLOTS == 10
    assert state.running.shape == state.waiting.shape == (4, DEFAULT_SLOTS)
    assert (state.expert.shape, state.candidate.shape, state.request.shape) == ((4,), (4,), (1,))


def test_one_type_serves_any_number_of_experts_and_slots() -> None:
    picker = PICKERS["ShortestQueue"]
    for experts, running, waiting in ((1, 10, 10), (7, 10, 10), (3, 1, 64)):
        state = empty_state(experts, running, waiting)
        state.allowed[-1] = True
        assert picker.pick(state, 0.5).expert == experts - 1
    assert kernel_signature().args[0] == state_type()


def test_unknown_values_survive_the_matrix_view() -> None:
    table = np.zeros(1, EXPERT)
    table["kv_cache_utilization_ratio"] = np.nan
    table["telemetry_age_seconds"] = np.inf
    matrix = table.view(np.float32)
    assert np.isnan(matrix).sum() == 1
    assert np.isinf(matrix).sum() == 1


def test_engines_are_those_of_the_experts_document() -> None:
    from typing import get_args

    from pointsman_policy import experts

    assert set(ENGINES) == set(get_args(experts.Engine))


def test_a_picker_is_a_value() -> None:
    picker = PICKERS["ShortestQueue"]
    assert dataclasses.replace(picker) == picker
    assert dataclasses.replace(picker, parameters=(1.0,)) != picker
