import numpy as np

from pointsman_policy.ledger import Ledger, close_entry, grown, new_ledger, open_at, open_entry


def open_request(ledger: Ledger, expert: int, arrival_at: float) -> int:
    slot = open_entry(ledger, expert)
    ledger.entry[slot]["arrival_at"] = arrival_at
    return slot


def order(ledger: Ledger, expert: int) -> list[int]:
    return list(map(int, ledger.order[expert, : ledger.open_count[expert]]))


def test_open_requests_stay_in_order_of_arrival() -> None:
    ledger = new_ledger(2, 8)
    slots = [open_request(ledger, 0, k) for k in range(5)]
    assert order(ledger, 0) == slots
    assert close_entry(ledger, 0, slots[1], 9.0)
    assert close_entry(ledger, 0, slots[4], 9.0)
    assert order(ledger, 0) == [slots[0], slots[2], slots[3]]
    assert order(ledger, 1) == []


def test_a_closed_slot_is_used_again_and_goes_to_the_end() -> None:
    ledger = new_ledger(1, 3)
    slots = [open_request(ledger, 0, k) for k in range(3)]
    close_entry(ledger, 0, slots[0], 5.0)
    again = open_request(ledger, 0, 6.0)
    assert again == slots[0]
    assert order(ledger, 0) == [slots[1], slots[2], again]


def test_a_full_ledger_says_so_and_is_unharmed() -> None:
    ledger = new_ledger(2, 2)
    slots = [open_request(ledger, 0, 0.0), open_request(ledger, 1, 0.0)]
    assert open_entry(ledger, 0) == -1
    assert [order(ledger, 0), order(ledger, 1)] == [[slots[0]], [slots[1]]]
    close_entry(ledger, 1, slots[1], 1.0)
    assert open_entry(ledger, 0) == slots[1]


def test_closing_what_is_not_open_there_changes_nothing() -> None:
    ledger = new_ledger(2, 4)
    slot = open_request(ledger, 0, 0.0)
    assert not close_entry(ledger, 1, slot, 1.0)
    assert close_entry(ledger, 0, slot, 1.0)
    assert not close_entry(ledger, 0, slot, 1.0)
    assert ledger.free_count[0] == 4
    assert ledger.ended_count.tolist() == [1, 0]


def test_open_and_close_at_random_agree_with_lists() -> None:
    rng = np.random.default_rng(0)
    ledger = new_ledger(3, 16)
    expected: list[list[int]] = [[], [], []]
    for _ in range(600):
        x = int(rng.integers(3))
        if rng.random() < 0.55:
            slot = open_entry(ledger, x)
            if sum(map(len, expected)) == 16:
                assert slot == -1
            else:
                assert all(slot not in slots for slots in expected)
                expected[x].append(slot)
        elif expected[x]:
            slot = expected[x].pop(int(rng.integers(len(expected[x]))))
            assert close_entry(ledger, x, slot, 0.0)
        assert [order(ledger, e) for e in range(3)] == expected


def test_open_at_counts_what_was_there_at_that_moment() -> None:
    ledger = new_ledger(1, 8)
    slots = [open_request(ledger, 0, arrival) for arrival in (1.0, 2.0, 3.0, 4.0)]
    close_entry(ledger, 0, slots[0], 3.5)
    close_entry(ledger, 0, slots[2], 5.0)
    moments = (0.5, 1.0, 2.5, 3.2, 3.5, 4.5, 5.0, 9.0)
    assert [open_at(ledger, 0, moment) for moment in moments] == [0, 1, 2, 3, 2, 3, 2, 2]


def test_open_at_remembers_hundreds_of_ended_requests() -> None:
    ledger = new_ledger(1, 8)
    for k in range(700):
        close_entry(ledger, 0, open_request(ledger, 0, k), k + 10.0)
    assert open_at(ledger, 0, 699.5) == 10
    assert open_at(ledger, 0, 300.5) == 10
    assert open_at(ledger, 0, 100.5) == 0  # forgotten


def test_a_grown_ledger_keeps_slots_order_and_ends() -> None:
    ledger = new_ledger(1, 2)
    slots = [open_request(ledger, 0, k) for k in range(2)]
    close_entry(ledger, 0, slots[0], 1.5)
    slots.append(open_request(ledger, 0, 2.0))
    ledger = grown(ledger, 2, 5)
    assert order(ledger, 0) == slots[1:]
    assert ledger.entry["arrival_at"][slots[1:]].tolist() == [1.0, 2.0]
    assert open_at(ledger, 0, 1.2) == 2
    added = [open_request(ledger, 1, 3.0) for _ in range(3)]
    assert sorted(slots[1:] + added) == [0, 1, 2, 3, 4]
    assert open_entry(ledger, 1) == -1
