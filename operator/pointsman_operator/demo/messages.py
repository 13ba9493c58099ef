"""What the demo and its load process tell each other, as lines of JSON."""

from typing import Literal

import msgspec

Status = Literal["answered", "dropped", "failed"]


class PlannedRequest(msgspec.Struct, frozen=True):
    """One request, sent to every rule at the same time."""

    arrival_seconds: float
    """Since the start."""
    prompt: str
    streamed: bool
    headers: dict[str, str]
    quality: dict[str, float] = {}
    """What a judge says of each model's answer, 0 to 1; empty = nobody judges it."""


class LoadPlan(msgspec.Struct, frozen=True):
    """All that the load process is told."""

    url: str
    """Where chat completions are posted."""
    models: tuple[str, ...]
    """What goes into "model", one for each rule."""
    requests: tuple[PlannedRequest, ...]
    """In order of arrival."""
    patience_seconds: float
    """A client that has no whole answer after so long gives up."""
    judge_url: str = ""
    """The router's admin port, where judgements are posted."""


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one request under one rule. Times are seconds since the start."""

    rule: int
    """Index into the plan's models."""
    request: int
    """Index into the plan's requests."""
    status: Status
    sent_at: float
    ended_at: float
    first_token_at: float | None = None
    """None = the answer was not streamed, or there is none."""
    output_tokens: int = 0
    """As the server counts them; 0 = not told."""
    model: str = ""
    """The model that answered."""
    decision_id: str = ""
    problem: str = ""
    """Why it failed."""
