"""What the router knows of every expert between samples: the open requests it sent there, and the load others cause."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointsman_operator.decision import ExpertView
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.state.lens import Lens
from pointsman_operator.telemetry.sample import LoadSample
from pointsman_policy.latency.profiles import ProfileTable, beliefs, read_profiles
from pointsman_policy.ledger import close_entry, grown, new_ledger, open_entry
from pointsman_policy.pace import note_pace, note_tokens
from pointsman_policy.prediction.predictor import Prediction
from pointsman_policy.reckoning import BELIEF, Asked, assemble, new_loads, observe, open_request, reckon
from pointsman_policy.state import ENGINES, Record, RoutingState, empty_state

_FIRST_EXPERTS = 16
_FIRST_REQUESTS = 1_024
_IN_TRANSIT_SECONDS = 0.25
"""A request younger than this may not have reached its expert when the expert was sampled."""
_LOSS_SECONDS = 1.0
"""How long an expert must have counted too few requests before any is taken for lost: ends are reported late too."""


DECLARED = ""
"""Name of the beliefs that discovery brings; other lenses are those of versions."""


class InFlight:
    """The ledger of open requests of all policies, and the load and beliefs of all experts.

    An expert keeps its row as long as its address is known or requests are open on it, so a changed description loses
    nothing. Times are seconds on one monotonic clock. Used on the event loop only.
    """

    def __init__(self) -> None:
        self._ledger = new_ledger(_FIRST_EXPERTS, _FIRST_REQUESTS)
        self._loads = new_loads(_FIRST_EXPERTS)
        self._beliefs = np.zeros(_FIRST_EXPERTS, BELIEF)
        self._row: dict[str, int] = {}
        self._known: frozenset[str] = frozenset()
        self._profiles: tuple[Path, ProfileTable] | None = None
        self._suspicions: dict[int, tuple[float, float]] = {}
        self._lenses: dict[str, Lens] = {}

    def set_experts(self, endpoints: Sequence[Endpoint], profiles: Path | None) -> None:
        """Take over the list of experts.

        Args:
            endpoints: All that there are; several of one address are one expert.
            profiles: CSV of iteration-time fits that experts without coefficients of their own are looked up in.

        Raises:
            DocumentError: If the profiles cannot be read.
        """
        if profiles is None:
            self._profiles = None
        elif self._profiles is None or self._profiles[0] != profiles:
            self._profiles = (profiles, read_profiles(profiles))
        table = self._profiles[1] if self._profiles else None
        self._known = frozenset(endpoint.address for endpoint in endpoints)
        self._forget_unused()
        # A pod of two policies is one server with one load; what is believed of it is as in the first of them.
        first: dict[str, Endpoint] = {}
        for endpoint in endpoints:
            first.setdefault(endpoint.address, endpoint)
        for address, endpoint in first.items():
            row = self._row.get(address)
            if row is None:
                row = self._take_row(address)
            self._beliefs[row] = _belief(endpoint, table)

    def set_lens(self, name: str, endpoints: Sequence[Endpoint]) -> None:
        """Take over what a version believes.

        Args:
            name: Of the lens, not `DECLARED`; made if there is none.
            endpoints: Experts of the list, described as the version knows them.
        """
        lens = self._lenses.get(name)
        if lens is None:
            lens = self._lenses[name] = Lens(len(self._beliefs))
        table = self._profiles[1] if self._profiles else None
        for endpoint in endpoints:
            lens.believe(self.row(endpoint), _belief(endpoint, table))

    def keep_lenses(self, names: Collection[str]) -> None:
        """Let go of all other lenses."""
        self._lenses = {name: lens for name, lens in self._lenses.items() if name in names}

    def row(self, endpoint: Endpoint) -> int:
        """Return the row of an expert that is in the list."""
        return self._row[endpoint.address]

    def row_of(self, address: str) -> int | None:
        """Return the row of the expert at "ip:port"; None if there is none."""
        return self._row.get(address)

    def assemble(
        self,
        rows: npt.NDArray[np.int64],
        arrivals: npt.NDArray[np.void],
        now: float,
        asked: Asked,
        prediction: Prediction,
        usable: npt.NDArray[np.bool_],
        state: RoutingState,
        lens: str = DECLARED,
    ) -> int:
        """Write the state of one request, by the beliefs of a lens; see `pointsman_policy.reckoning.assemble`."""
        beliefs, loads = self._seen(lens, rows)
        return assemble(
            self._ledger,
            beliefs,
            loads,
            rows,
            arrivals,
            now,
            asked,
            prediction.quality,
            prediction.output_tokens,
            usable,
            state,
        )

    def open(self, row: int, choice: int, now: float, state: RoutingState, estimates: npt.NDArray[np.void]) -> int:
        """Predict the state's request, open it on an expert and return its slot; `open_request` says more."""
        slot = open_request(self._ledger, self._loads, row, choice, now, state, estimates)
        if slot < 0:
            experts, capacity = self._ledger.order.shape
            self._ledger = grown(self._ledger, experts, 2 * capacity)
            slot = open_request(self._ledger, self._loads, row, choice, now, state, estimates)
        return slot

    def entry(self, slot: int) -> Record:
        """Return the ledger's ENTRY row of an open request."""
        return self._ledger.entry[slot]

    def note_progress(self, row: int, slot: int, at: float, tokens: float, first_token_at: float) -> None:
        """Take a report on an open request: it has so many tokens at a moment; see `pointsman_policy.pace`."""
        gained, seconds = note_tokens(self._ledger, slot, at, tokens, first_token_at)
        if gained <= 0.0:
            return
        ledger, loads = self._ledger, self._loads
        note_pace(ledger, self._beliefs, loads, loads, row, at, gained, seconds)
        for lens in self._lenses.values():
            if lens.beliefs[row]["base_seconds"] > 0.0:  # it knows this expert
                note_pace(ledger, lens.beliefs, loads, lens.paces, row, at, gained, seconds)

    def close(self, row: int, slot: int, now: float) -> None:
        """Close a request."""
        close_entry(self._ledger, row, slot, now)

    def move(self, row: int, slot: int, to_row: int) -> int:
        """Move an open request to the expert that really serves it; returns its new slot."""
        entry = self._ledger.entry[slot].copy()
        close_entry(self._ledger, row, slot, entry["arrival_at"])  # samples never counted it here
        new = open_entry(self._ledger, to_row)
        self._ledger.entry[new] = entry
        return new

    def open_count(self, row: int) -> int:
        """Return how many requests are open on an expert."""
        return int(self._ledger.open_count[row])

    def observe(self, sample: LoadSample, now: float, unix_now: float) -> list[int]:
        """Take a load sample.

        Args:
            sample: The sample; its time is Unix seconds.
            now: The present on the ledger's clock.
            unix_now: The same moment in Unix seconds.

        Returns:
            Slots of requests that the expert no longer has although no end was reported: the oldest ones of which
            nothing was heard, once samples of a second have counted fewer requests than are open. The caller closes
            them.
        """
        row = self._row.get(sample.endpoint)
        if row is None:
            return []
        sampled_at = min(now - (unix_now - sample.sampled_at), now)
        if sampled_at <= self._loads[row]["sampled_at"]:
            return []
        running = _or_nan(sample.running_requests)
        waiting = _or_nan(sample.waiting_requests)
        lost = self._lost(row, sampled_at, running, waiting)
        observe(
            self._ledger,
            self._loads,
            row,
            sampled_at,
            running,
            waiting,
            _or_nan(sample.kv_cache_utilization_ratio),
        )
        return lost

    def forget_samples(self, oldest_seconds: Mapping[int, float], now: float) -> None:
        """Believe samples no more that are older than allowed for their row: load by others is unknown again."""
        for row, age in oldest_seconds.items():
            load = self._loads[row]
            if load["sampled_at"] < now - age:
                load["other_running_count"] = 0
                load["other_waiting_count"] = 0
                load["kv_cache_utilization_ratio"] = np.nan
                load["running_limit"] = np.inf

    def reckon(self, rows: npt.NDArray[np.int64], now: float, state: RoutingState, lens: str = DECLARED) -> None:
        """Write what the experts of these rows look like now into a state; its request side is left alone."""
        beliefs, loads = self._seen(lens, rows)
        reckon(self._ledger, beliefs, loads, rows, now, state)

    def views(self, endpoints: Sequence[Endpoint], now: float, lens: str = DECLARED) -> tuple[ExpertView, ...]:
        """Return what is believed of these experts now, in their order."""
        state = empty_state(len(endpoints))
        self.reckon(np.array([self.row(endpoint) for endpoint in endpoints], np.int64), now, state, lens)
        return tuple(
            ExpertView(
                endpoint=endpoint,
                ready=endpoint.expert.ready,
                running_requests=float(row["running_request_count"]),
                waiting_requests=float(row["waiting_request_count"]),
                kv_cache_utilization_ratio=_or_none(float(row["kv_cache_utilization_ratio"])),
                telemetry_age_seconds=_or_none(float(row["telemetry_age_seconds"])),
                in_flight=int(row["in_flight_count"]),
            )
            for endpoint, row in zip(endpoints, state.expert, strict=True)
        )

    def _seen(self, name: str, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        """Return BELIEF and LOAD rows, [X], of which those of some experts are right for a lens."""
        if name == DECLARED:
            return self._beliefs, self._loads
        lens = self._lenses[name]
        return lens.beliefs, lens.loads(rows, self._loads)

    def _lost(self, row: int, sampled_at: float, running: float, waiting: float) -> list[int]:
        if math.isnan(running) or math.isnan(waiting):
            return []
        slots = self._ledger.order[row, : self._ledger.open_count[row]]
        entries = self._ledger.entry[slots]

        def excess(moment: float, counted: float) -> int:
            """How many of the requests open now were not counted although they were there by then."""
            return int((entries["arrival_at"] <= moment - _IN_TRANSIT_SECONDS).sum()) - int(counted)

        suspicion = self._suspicions.get(row)
        if excess(sampled_at, running + waiting) <= 0:
            self._suspicions.pop(row, None)
            return []
        if suspicion is None:
            self._suspicions[row] = sampled_at, running + waiting
            return []
        if sampled_at < suspicion[0] + _LOSS_SECONDS:
            return []
        del self._suspicions[row]
        silent = slots[entries["progress_at"] <= suspicion[0] - _IN_TRANSIT_SECONDS]
        return [int(slot) for slot in silent[: max(excess(*suspicion), 0)]]

    def _forget_unused(self) -> None:
        gone = [a for a, row in self._row.items() if a not in self._known and not self._ledger.open_count[row]]
        for address in gone:
            del self._row[address]

    def _take_row(self, address: str) -> int:
        experts, capacity = self._ledger.order.shape
        used = set(self._row.values())
        row = next((index for index in range(experts) if index not in used), experts)
        if row == experts:
            self._ledger = grown(self._ledger, 2 * experts, capacity)
            self._loads = np.concatenate([self._loads, new_loads(experts)])
            self._beliefs = np.concatenate([self._beliefs, np.zeros(experts, BELIEF)])
            for lens in self._lenses.values():
                lens.grow(2 * experts)
        self._row[address] = row
        self._loads[row] = new_loads(1)[0]
        for lens in self._lenses.values():
            lens.forget(row)
        self._suspicions.pop(row, None)
        self._ledger.ended_count[row] = 0
        return row


def _belief(endpoint: Endpoint, table: ProfileTable | None) -> Record:
    expert = endpoint.expert
    profile = beliefs(expert, table)
    belief = np.zeros(1, BELIEF)[0]
    for name in ("base_seconds", "per_sequence_seconds", "per_context_token_seconds", "per_prefill_token_seconds"):
        belief[name] = getattr(profile.coefficients, name)
    belief["kv_capacity_tokens"] = profile.kv_capacity_tokens
    belief["maximum_running_count"] = expert.maximum_running
    belief["quality_prior"] = expert.quality_prior_percent / 100
    belief["engine"] = ENGINES.index(expert.engine)
    return belief


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
