"""Records for the policy service what the router decides, and what becomes of it."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_operator.decision import Outcome, RouteQuery
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.learning import Learning, Sample
from pointsman_operator.outcomes.recording import (
    MOST_PROMPT_CHARACTERS,
    dropped_record,
    fleet_record,
    label_record,
    outcome_record,
)
from pointsman_operator.token_bucket import TokenBucket
from pointsman_operator.trace import Trace
from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.packed_state import pack_state
from pointsman_policy.experience.prompt_features import encode_prompt
from pointsman_policy.latency.profiles import ProfileTable, read_profiles
from pointsman_policy.state import RoutingState

_LOGGER = logging.getLogger(__name__)

_STATES_PER_SECOND = 5
_PROMPTS_PER_SECOND = 10
_BURST_SECONDS = 4


class _Samplers(NamedTuple):
    states: TokenBucket
    prompts: TokenBucket


class OutcomeRecorder:
    """Implements `pointsman_operator.recorder.Recorder`.

    Every outcome is recorded; states and prompts, which take room, of so many decisions a second and policy.

    Args:
        append: Takes a record.
        clock: Monotonic seconds, the router's.
        unix_clock: Unix seconds.
    """

    def __init__(
        self, append: Callable[[pb.Record], None], clock: Callable[[], float], unix_clock: Callable[[], float]
    ) -> None:
        self._append = append
        self._clock = clock
        self._unix_clock = unix_clock
        self._profiles: ProfileTable | None = None
        self._fleets: dict[str, pb.Record] = {}
        self._samplers: dict[str, _Samplers] = {}

    def configured(self, fleets: Sequence[tuple[str, Sequence[Endpoint]]], profiles: Path | None) -> None:
        """Record the fleets that have changed."""
        self._read_profiles(profiles)
        for known in (self._fleets, self._samplers):
            for policy in known.keys() - {policy for policy, _ in fleets}:
                del known[policy]
        for policy, endpoints in fleets:
            record = fleet_record(policy, endpoints, self._profiles, self._unix_clock())
            known_record = self._fleets.get(policy)
            if known_record is None or list(known_record.fleet.experts) != list(record.fleet.experts):
                self._fleets[policy] = record
                self._append(record)

    def repeat_fleets(self) -> None:
        """Record all fleets as they are, for a policy service that may be a new one."""
        for record in self._fleets.values():
            self._append(record)

    def sample(self, policy: str, query: RouteQuery, state: RoutingState, store_prompt: bool) -> Sample:
        """Return what is kept of a decision's state and prompt, as far as there is room for it."""
        samplers = self._samplers.get(policy)
        if samplers is None:
            buckets = (
                TokenBucket(_BURST_SECONDS * rate, 1 / rate, self._clock)
                for rate in (_STATES_PER_SECOND, _PROMPTS_PER_SECOND)
            )
            samplers = self._samplers[policy] = _Samplers(*buckets)
        packed, features, prompt = b"", b"", ""
        if samplers.states.take():
            packed = pack_state(state)
        if query.prompt and samplers.prompts.take():
            features = encode_prompt(query.prompt)
            prompt = query.prompt[:MOST_PROMPT_CHARACTERS] if store_prompt else ""
        return Sample(bool(state.request[0]["may_drop"]), packed, features, prompt)

    def dropped(
        self,
        decision_id: str,
        policy: str,
        picker: str,
        state: RoutingState,
        experts: Sequence[str],
        learning: Learning,
    ) -> None:
        """Record a request that was shed just now."""
        self._append(dropped_record(decision_id, policy, picker, experts, state, learning, self._unix_clock()))

    def finished(self, trace: Trace, outcome: Outcome | None) -> None:
        """Record the end of a decision."""
        decided_at = self._unix_clock() - (self._clock() - trace.made_at)
        self._append(outcome_record(trace, outcome, decided_at))

    def labelled(self, decision_id: str, policy: str, quality: float) -> None:
        """Record a quality that was told after the end."""
        self._append(label_record(decision_id, policy, quality))

    def _read_profiles(self, profiles: Path | None) -> None:
        try:
            self._profiles = None if profiles is None else read_profiles(profiles)
        except DocumentError as error:
            _LOGGER.warning("Recording experts by the profiles read before: %s", error)
