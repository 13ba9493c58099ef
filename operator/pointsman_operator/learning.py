"""What is noted at a decision for learning from it later, beyond what explains it."""

from typing import Literal, NamedTuple


class ShadowOpinion(NamedTuple):
    """What a candidate that only watches would have done."""

    version: str
    expert: str
    """Its name; empty = it would have dropped the request."""
    predicted_gain: float
    """Expected QoS of its choice over that of the choice made, both by its own predictions."""


class Sample(NamedTuple):
    """What is kept of a decision's state and prompt."""

    may_drop: bool = False
    """Admission let the picker shed the request."""
    packed_state: bytes = b""
    """As by `pointsman_policy.experience.packed_state`; empty = not sampled."""
    prompt_features: bytes = b""
    """As by `pointsman_policy.experience.prompt_features`; empty where there was no prompt."""
    prompt: str = ""
    """Only where the RouterPolicy lets prompts be stored."""


class Learning(NamedTuple):
    """How a decision came about. The defaults are those of a packaged policy that nobody learns from."""

    version: str = ""
    """The version that decided; empty = the packaged policy."""
    arm: Literal["control", "canary"] = "control"
    propensity: float = 1.0
    """Chance with which this expert was chosen, given the picker's choice; 0 = not known."""
    explored: bool = False
    """Whether another expert than the picker's choice was tried."""
    sample: Sample = Sample()
    shadow: ShadowOpinion | None = None
