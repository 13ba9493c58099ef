from dataclasses import dataclass, field

import numpy as np
import pytest
from tests.unit.routing import Clock, ObedientPicker

from pointsman_operator.picking import LAST_RESORT, Chosen, PickerChain
from pointsman_policy.errors import PickError
from pointsman_policy.pickers.picker import Pick
from pointsman_policy.state import RoutingState, empty_state

TIMEOUT_SECONDS = 0.005


@dataclass
class SlowPicker(ObedientPicker):
    """Takes the time that a test sets."""

    name: str = "Slow"
    clock: Clock = field(default_factory=Clock)
    seconds: float = 0.0
    asked: int = 0

    def pick(self, state: RoutingState, uniform: float) -> Pick:
        self.asked += 1
        self.clock.now += self.seconds
        return super().pick(state, uniform)


class Chain:
    """A slow picker before an obedient one."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.slow = SlowPicker(clock=self.clock)
        self.second = ObedientPicker(name="Second")
        self.fallbacks: list[tuple[str, str]] = []
        self.chain = PickerChain(
            [self.slow, self.second],
            TIMEOUT_SECONDS,
            lambda picker, reason: self.fallbacks.append((picker, reason)),
            self.clock,
        )

    def pick(self) -> Chosen:
        return self.chain.pick(state(), 0.5)

    def be_late(self, times: int) -> None:
        self.slow.seconds = 2 * TIMEOUT_SECONDS
        for _ in range(times):
            assert self.pick().picker == "Second"
        self.slow.seconds = 0.0


@pytest.fixture
def chain() -> Chain:
    return Chain()


def state(*requests: float) -> RoutingState:
    made = empty_state(max(len(requests), 2))
    made.allowed[:] = True
    made.expert["running_request_count"][: len(requests)] = requests
    return made


def test_the_first_picker_answers_while_it_is_on_time(chain: Chain) -> None:
    chain.slow.seconds = TIMEOUT_SECONDS
    chosen = chain.pick()
    assert (chosen.picker, chosen.version, chosen.fallbacks) == ("Slow", "3", ())
    assert chosen.seconds == pytest.approx(TIMEOUT_SECONDS)
    assert chain.fallbacks == []


def test_a_late_answer_is_not_used(chain: Chain) -> None:
    chain.slow.seconds = 0.0072
    chosen = chain.pick()
    assert (chosen.picker, chosen.fallbacks) == ("Second", ("Slow: took 7.2 ms",))
    assert chain.fallbacks == [("Slow", "deadline")]


def test_a_picker_that_fails_is_passed_over_for_that_request(chain: Chain) -> None:
    chain.slow.error = PickError("no weights")
    assert chain.pick().fallbacks == ("Slow: failed (PickError: no weights)",)
    chain.slow.error = None
    assert chain.pick().picker == "Slow"
    assert chain.fallbacks == [("Slow", "error")]


def test_a_picker_that_is_late_three_times_running_is_not_asked_for_a_second(chain: Chain) -> None:
    chain.be_late(3)
    assert chain.pick().fallbacks == ("Slow: was late repeatedly and is passed over for now",)
    assert chain.slow.asked == 3
    assert chain.fallbacks[-1] == ("Slow", "paused")
    chain.clock.now += 1.0
    assert chain.pick().picker == "Slow"


def test_being_on_time_once_forgives_what_was_before(chain: Chain) -> None:
    for _ in range(3):
        chain.be_late(2)
        assert chain.pick().picker == "Slow"
    assert chain.slow.asked == 9


def test_a_pause_doubles_while_the_picker_stays_late_and_has_a_limit(chain: Chain) -> None:
    pauses = []
    chain.be_late(3)
    for _ in range(8):
        chain.slow.seconds = 2 * TIMEOUT_SECONDS
        began, asked = chain.clock.now, chain.slow.asked
        while chain.slow.asked == asked:
            chain.clock.now += 0.25
            chain.pick()
        pauses.append(round(chain.clock.now - began))
        chain.be_late(2)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_last_picker_may_be_late_and_is_never_passed_over() -> None:
    clock = Clock()
    only = SlowPicker(clock=clock, seconds=1.0)
    chain = PickerChain([only], TIMEOUT_SECONDS, lambda picker, reason: None, clock)
    for _ in range(5):
        assert chain.pick(state(), 0.5).picker == "Slow"


def test_without_any_picker_left_the_fewest_requests_decide(chain: Chain) -> None:
    chain.slow.error = chain.second.error = RuntimeError("broken")
    made = state(3, 1, 2)
    made.expert["waiting_request_count"][1] = 5
    chosen = chain.chain.pick(made, 0.5)
    assert (chosen.picker, chosen.pick.expert) == (LAST_RESORT, 2)
    made.allowed[2] = False
    chosen = chain.chain.pick(made, 0.5)
    assert chosen.pick.expert == 0
    assert chosen.pick.scores[2] == -np.inf
    assert len(chosen.fallbacks) == 2


def test_warming_up_asks_every_picker_and_survives_them(chain: Chain, caplog: pytest.LogCaptureFixture) -> None:
    chain.slow.error = RuntimeError("broken")
    chain.chain.warm(state())
    assert (chain.slow.asked, len(chain.second.seen)) == (1, 1)
    assert "Picker Slow fails at warm-up" in caplog.text
