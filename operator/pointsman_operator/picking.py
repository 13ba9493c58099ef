"""A policy's picker and the ones that stand in for it."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from pointsman_policy.pickers.picker import Pick
from pointsman_policy.state import RoutingState

_LOGGER = logging.getLogger(__name__)

LAST_RESORT = "FewestRequests"
"""Named as the picker when every picker of a chain has failed: the allowed expert with the fewest requests."""

_LATE_IN_A_ROW = 3
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


class AnyPicker(Protocol):
    """What a chain asks: a rule, a learned policy, or anything else that answers."""

    @property
    def name(self) -> str:
        """As in a RouterPolicy's `picker.name`."""

    @property
    def version(self) -> str:
        """Of its parameters; empty if it has none from outside."""

    @property
    def summary(self) -> str:
        """What it goes by, one phrase."""

    def pick(self, state: RoutingState, uniform: float) -> Pick:
        """Choose an expert."""


class Chosen(NamedTuple):
    """What a chain answered."""

    picker: str
    version: str
    summary: str
    pick: Pick
    fallbacks: tuple[str, ...]
    """Why earlier pickers did not answer, as "Picker: reason"."""
    seconds: float


@dataclass(slots=True)
class _Record:
    """How a picker has kept its deadline."""

    late_in_a_row: int = 0
    pause_seconds: float = _FIRST_PAUSE_SECONDS
    asked_again_at: float = float("-inf")


class PickerChain:
    """Asks pickers in order until one answers in time; the last one's answer counts even if it is late.

    Pickers run on the event loop and cannot be interrupted, so a late answer is discarded after the fact. A picker that
    is late three times running is passed over for a second, and for twice as long each time it happens again, so
    that it cannot hold up every request.

    Args:
        pickers: At least one, in order.
        timeout_seconds: Deadline of each.
        on_fallback: Told (picker, "deadline" | "paused" | "error") for each one that did not answer.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        pickers: Sequence[AnyPicker],
        timeout_seconds: float,
        on_fallback: Callable[[str, str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._pickers = tuple(pickers)
        self._timeout_seconds = timeout_seconds
        self._on_fallback = on_fallback
        self._clock = clock
        self._records = [_Record() for _ in pickers]

    def warm(self, state: RoutingState) -> None:
        """Ask every picker once, so that none compiles or loads anything at the first request."""
        for picker in self._pickers:
            try:
                picker.pick(state, 0.5)
            except Exception:
                _LOGGER.warning("Picker %s fails at warm-up; its fallback will answer", picker.name, exc_info=True)

    def pick(self, state: RoutingState, uniform: float) -> Chosen:
        """Choose an expert; at least one must be allowed. Never fails."""
        started = self._clock()
        fallbacks: list[str] = []
        for position, (picker, record) in enumerate(zip(self._pickers, self._records, strict=True)):
            asked = self._clock()
            last = position == len(self._pickers) - 1
            if asked < record.asked_again_at and not last:
                self._pass_over(picker, "paused", "was late repeatedly and is passed over for now", fallbacks)
                continue
            try:
                pick = picker.pick(state, uniform)
            except Exception as error:
                _LOGGER.warning("Picker %s failed", picker.name, exc_info=True)
                self._pass_over(picker, "error", f"failed ({type(error).__name__}: {error})", fallbacks)
                continue
            taken = self._clock() - asked
            if taken > self._timeout_seconds:
                self._note_late(record, asked + taken)
                if not last:
                    self._pass_over(picker, "deadline", f"took {taken * 1e3:.1f} ms", fallbacks)
                    continue
            else:
                record.late_in_a_row = 0
                record.pause_seconds = _FIRST_PAUSE_SECONDS
            return Chosen(picker.name, picker.version, picker.summary, pick, tuple(fallbacks), self._clock() - started)
        return Chosen(
            LAST_RESORT,
            "",
            "the fewest requests, since every picker failed",
            _fewest_requests(state),
            tuple(fallbacks),
            self._clock() - started,
        )

    def _pass_over(self, picker: AnyPicker, reason: str, text: str, fallbacks: list[str]) -> None:
        self._on_fallback(picker.name, reason)
        fallbacks.append(f"{picker.name}: {text}")

    @staticmethod
    def _note_late(record: _Record, now: float) -> None:
        record.late_in_a_row += 1
        if record.late_in_a_row >= _LATE_IN_A_ROW:
            record.asked_again_at = now + record.pause_seconds
            record.pause_seconds = min(2 * record.pause_seconds, _LONGEST_PAUSE_SECONDS)
            record.late_in_a_row = 0


def _fewest_requests(state: RoutingState) -> Pick:
    requests = state.expert["running_request_count"] + state.expert["waiting_request_count"]
    scores = np.where(state.allowed, -requests, -np.inf).astype(np.float64)
    return Pick(int(scores.argmax()), scores)
