"""What the router tells whoever records decisions and outcomes for learning."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pointsman_operator.decision import Outcome, RouteQuery
from pointsman_operator.discovery.endpoint import Endpoint
from pointsman_operator.learning import Learning, Sample
from pointsman_operator.trace import Trace
from pointsman_policy.state import RoutingState


class Recorder(Protocol):
    """Takes what is worth learning from. Methods run on the event loop, take microseconds and never raise."""

    def configured(self, fleets: Sequence[tuple[str, Sequence[Endpoint]]], profiles: Path | None) -> None:
        """Take the experts, as declared, of each policy by its key."""

    def sample(self, policy: str, query: RouteQuery, state: RoutingState, store_prompt: bool) -> Sample:
        """Return what is kept of a decision's state and prompt; empty where the decision is not sampled."""

    def dropped(
        self,
        decision_id: str,
        policy: str,
        picker: str,
        state: RoutingState,
        experts: Sequence[str],
        learning: Learning,
    ) -> None:
        """Take a request that was shed; `experts` are the names of the state's experts."""

    def finished(self, trace: Trace, outcome: Outcome | None) -> None:
        """Take the end of a decision; None = nothing was heard of it any more."""

    def labelled(self, decision_id: str, policy: str, quality: float) -> None:
        """Take a quality, 0 to 1, of an answer that was judged after its end."""
