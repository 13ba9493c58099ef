import numpy as np
from rich.console import Console

from pointsman_policy.evaluation.decision_speed import busy_state, decision_table, measure_decisions, timed_pickers
from pointsman_policy.pickers.picker import Picker


def test_every_picker_is_timed_for_every_number_of_experts() -> None:
    pickers: dict[str, Picker] = {title: picker for title, picker in timed_pickers().items() if title == "ImpactGreedy"}
    found = measure_decisions(pickers, experts=(2, 5), batches=1)
    assert found.keys() == {"ImpactGreedy"}
    assert len(found["ImpactGreedy"]) == 2
    assert min(found["ImpactGreedy"]) >= 0


def test_the_table_has_a_row_for_each_picker() -> None:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(decision_table({"A": [0.01, 0.5], "B": [0.02, 1.25]}, (3, 16)))
    assert "16 experts" in capture.get()
    assert "1.250" in capture.get()


def test_the_busy_state_has_every_slot_in_use() -> None:
    state = busy_state(4, np.random.default_rng(1))
    assert state.running_mask.all()
    assert state.waiting_mask.all()
    assert state.allowed.all()


def test_a_network_of_the_papers_size_is_timed_too() -> None:
    lengths = {title: len(picker.parameters) for title, picker in timed_pickers().items()}
    assert lengths["HanActor, 64 channels, 8 heads"] > 50_000 > lengths["HanActor"] > lengths["ImpactGreedy"]
