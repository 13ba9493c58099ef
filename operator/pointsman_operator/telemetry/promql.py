"""The language of Prometheus' query API: selectors to send, matrices to read."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pointsman_operator.telemetry.protocols import DropReason
from pointsman_operator.telemetry.series import Drops, Series


def range_selector(matchers: Mapping[str, Iterable[str]], window_seconds: float) -> str:
    """Return a range-vector selector.

    Args:
        matchers: For each label (``__name__`` is the metric's name) the values it may have, literally.
        window_seconds: How far back to look; whole milliseconds.
    """
    parts = [f'{label}=~"{"|".join(map(_literal, sorted(values)))}"' for label, values in matchers.items()]
    return f"{{{','.join(parts)}}}[{max(1, round(window_seconds * 1000))}ms]"


def _literal(value: str) -> str:
    """Escape a value first for the regular expression, then for the string around it."""
    return re.escape(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def newest_values(result: Iterable[Any], drops: Drops) -> list[Series]:
    """Read the newest value of every series of a matrix; what is no series is dropped and counted as malformed."""
    series = []
    for item in result:
        try:
            series.append(_newest_value(item))
        except (KeyError, IndexError, TypeError, ValueError, OverflowError):
            drops["", DropReason.MALFORMED] += 1
    return series


def _newest_value(item: Any) -> Series:
    labels = dict(item["metric"])
    metric = labels.pop("__name__")
    at, value = item["values"][-1]
    if not all(isinstance(text, str) for text in (metric, value, *labels.values())) or isinstance(at, str | bool):
        raise TypeError("a label, a value or a time has the wrong type")
    if "_" in value:
        raise ValueError("Python's digit groups are no number elsewhere")
    return Series(metric, labels, float(value), float(at))
