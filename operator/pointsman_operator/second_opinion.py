"""What a candidate that only watches would have done with a request."""

from pointsman_operator.decision import RouteQuery
from pointsman_operator.learning import ShadowOpinion
from pointsman_operator.routes import Arm
from pointsman_policy.latency.estimator import estimates
from pointsman_policy.state import DROP


def second_opinion(watcher: Arm, query: RouteQuery, expert: int, now: float, uniform: float) -> ShadowOpinion | None:
    """Ask a candidate; nothing that it says has any effect.

    Args:
        watcher: The candidate; it sees the same experts in the same order as whoever decided.
        query: The request, before it is open anywhere.
        expert: Index of the choice made, or DROP.
        now: Seconds.
        uniform: Breaks the candidate's ties.

    Returns:
        Its opinion; None if it would not have let the request go anywhere.
    """
    state = watcher.view.assemble(query, now, counted=False)
    if not watcher.view.allowed_count:
        return None
    own = watcher.chain.pick(state, uniform).pick.expert
    expected = state.candidate["predicted_quality"] * estimates(state)["slo_probability"]
    values = [0.0 if index == DROP else float(expected[index]) for index in (own, expert)]
    name = "" if own == DROP else watcher.view.endpoints[own].name
    return ShadowOpinion(watcher.version, name, values[0] - values[1])
