"""What routers send, checked and made into rows. Everything here comes from the wire: lengths, ranges, finiteness."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_policy.documents import parse
from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.fleet import Fleet
from pointsman_policy.experience.policy_key import check_policy_key
from pointsman_policy.experience.schema import LABELS, id_hashes, outcomes_table

EARLIEST: Final = 1_577_836_800.0
"""2020-01-01: a router whose clock says less has not set it yet."""
LARGEST_LEAD_SECONDS: Final = 86_400.0
"""A router whose clock is further ahead has it wrong."""

_ID = re.compile(r"[\x21-\x7e]{1,128}")
_MOST_STATE_BYTES = 256 << 10
_MOST_FEATURE_BYTES = 16 << 10
_MOST_PROMPT_BYTES = 1 << 20
_MOST_EXPERTS = 1_000
_LONGEST_SECONDS = 7 * 86_400.0
_MOST_TOKENS = 100_000_000

_ARMS: Final[Mapping[int, str]] = {pb.CONTROL: "control", pb.CANARY: "canary"}
_STATUSES: Final[Mapping[int, str]] = {
    pb.COMPLETED: "completed",
    pb.CANCELLED: "cancelled",
    pb.FAILED: "failed",
    pb.DROPPED: "dropped",
    pb.EXPIRED: "expired",
}
_TEXTS: Final = ("version", "picker", "expert")
_PREDICTION: Final[Mapping[str, str]] = {
    "quality": "predicted_quality",
    "output_tokens": "predicted_output_tokens",
    "ttft_seconds": "predicted_ttft_seconds",
    "tpot_seconds": "predicted_tpot_seconds",
    "ntpot_seconds": "predicted_ntpot_seconds",
    "slo_probability": "slo_probability",
}
_OBJECTIVES: Final = ("ttft_objective_seconds", "tpot_objective_seconds", "ntpot_objective_seconds")

Row = dict[str, Any]


class RecordError(ValueError):
    """A record makes no sense; the message names its field."""


def read_outcome(outcome: pb.Outcome, router: str, now: float, fleet: Callable[[str], Fleet | None]) -> Row:
    """Return an outcome as a row of the schema OUTCOMES, and its policy under "policy".

    A time that cannot be, because the router's clock is wrong, is replaced by the time of arrival, and the row says so.

    Args:
        outcome: From the wire.
        router: Who sent it.
        now: Unix seconds.
        fleet: Returns the fleet that a policy was last told to have.

    Raises:
        RecordError: If it makes no sense.
    """
    policy = _policy(outcome.policy)
    decided_at, retimed = _time(outcome.decided_at, now)
    known = fleet(policy)
    expert = known.expert(outcome.expert) if known is not None and outcome.expert else None
    row: Row = {
        "policy": policy,
        "id": _id(outcome.id),
        "decided_at": decided_at,
        "retimed": retimed,
        "router": _text("router", router),
        "arm": _choice("arm", outcome.arm, _ARMS),
        "status": _choice("status", outcome.status, _STATUSES),
        "model": expert.model if expert is not None else "",
        "gpu": expert.gpu if expert is not None else "",
        "prompt_tokens": int(_number("prompt_tokens", outcome.prompt_tokens, _MOST_TOKENS)),
        "output_tokens": _optional(outcome, "output_tokens", _MOST_TOKENS),
        "ttft_seconds": _optional(outcome, "ttft_seconds", _LONGEST_SECONDS),
        "duration_seconds": _optional(outcome, "duration_seconds", _LONGEST_SECONDS),
        "quality": _optional(outcome, "quality", 1.0),
        "may_drop": outcome.may_drop,
        "load_ratio": _number("load_ratio", outcome.load_ratio, 1e6),
        "propensity": _number("propensity", outcome.propensity, 1.0),
        "explored": outcome.explored,
        "state": _bytes("state", outcome.state, _MOST_STATE_BYTES),
        "experts": _experts(outcome.experts),
        "prompt_features": _bytes("prompt_features", outcome.prompt_features, _MOST_FEATURE_BYTES),
        "prompt": _bytes("prompt", outcome.prompt.encode(), _MOST_PROMPT_BYTES) and outcome.prompt,
    }
    row |= {name: _text(name, getattr(outcome, name)) for name in _TEXTS}
    row |= {name: _number(name, getattr(outcome, name), _LONGEST_SECONDS) for name in _OBJECTIVES}
    return {**row, **_prediction(outcome), **_shadow(outcome)}


def read_label(label: pb.QualityLabel) -> tuple[str, str, float]:
    """Return a label's policy, id and quality.

    Raises:
        RecordError: If it makes no sense.
    """
    return _policy(label.policy), _id(label.id), _number("quality", label.quality, 1.0)


def read_fleet(fleet: pb.Fleet, now: float) -> Fleet:
    """Return a fleet.

    Raises:
        RecordError: If it makes no sense.
    """
    names = [field.name for field in pb.Expert.DESCRIPTOR.fields]
    experts = [{_camel(name): getattr(one, name) for name in names} for one in fleet.experts]
    at, _ = _time(fleet.at, now)
    try:
        return parse(Fleet, {"policy": _policy(fleet.policy), "at": at, "experts": experts}, "fleet")
    except (DocumentError, ValidationError) as error:
        raise RecordError(str(error)) from error


def rows_table(rows: Sequence[Row]) -> pa.Table:
    """Return rows of one policy as a table of the schema OUTCOMES."""
    names = [name for name in rows[0] if name != "policy"]
    return outcomes_table({name: [row[name] for row in rows] for name in names})


def labels_table(labels: Iterable[tuple[str, float]], now: float) -> pa.Table:
    """Return ids and qualities as a table of the schema LABELS."""
    ids, qualities = zip(*labels, strict=True)
    columns = [id_hashes(ids), np.array(qualities, np.float32), np.full(len(ids), now)]
    return pa.Table.from_arrays([pa.array(one) for one in columns], schema=LABELS)


def _policy(key: str) -> str:
    try:
        return check_policy_key(key)
    except DocumentError as error:
        raise RecordError(str(error)) from error


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise RecordError(f"id: must be 1 to 128 visible ASCII characters (got {text[:40]!r})")
    return text


def _time(at: float, now: float) -> tuple[float, bool]:
    right = math.isfinite(at) and EARLIEST <= at <= now + LARGEST_LEAD_SECONDS
    return (at, False) if right else (now, True)


def _text(name: str, text: str) -> str:
    if len(text) > 253:
        raise RecordError(f"{name}: is longer than 253 characters")
    return text


def _choice(name: str, value: int, known: Mapping[int, str]) -> str:
    if value not in known:
        raise RecordError(f"{name}: must be one of {', '.join(known.values())} (got number {value})")
    return known[value]


def _number(name: str, value: float, most: float) -> float:
    if not 0.0 <= value <= most:  # NaN is not either
        raise RecordError(f"{name}: must be between 0 and {most:g} (got {value})")
    return value


def _optional(message: pb.Outcome, name: str, most: float) -> float | None:
    return _number(name, getattr(message, name), most) if message.HasField(name) else None


def _bytes(name: str, value: bytes, most: int) -> bytes | None:
    if len(value) > most:
        raise RecordError(f"{name}: is {len(value)} bytes long, at most {most} are kept")
    return value or None


def _experts(names: Sequence[str]) -> str:
    if len(names) > _MOST_EXPERTS or any("," in name or len(name) > 253 for name in names):
        raise RecordError(f"experts: must be at most {_MOST_EXPERTS} names without commas, of at most 253 characters")
    return ",".join(names)


def _prediction(outcome: pb.Outcome) -> Row:
    if not outcome.HasField("prediction"):
        return dict.fromkeys(_PREDICTION.values())
    values = {column: getattr(outcome.prediction, name) for name, column in _PREDICTION.items()}
    # An expert that is hopeless may be predicted to take for ever: that is no mistake, but no number either.
    return {column: value if math.isfinite(value) else None for column, value in values.items()}


def _shadow(outcome: pb.Outcome) -> Row:
    if not outcome.HasField("shadow"):
        return {"shadow_version": None, "shadow_expert": None, "shadow_gain": None}
    shadow = outcome.shadow
    gain = shadow.predicted_gain
    return {
        "shadow_version": _text("shadow.version", shadow.version),
        "shadow_expert": _text("shadow.expert", shadow.expert),
        "shadow_gain": gain if math.isfinite(gain) else None,
    }


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(one.capitalize() for one in others)
