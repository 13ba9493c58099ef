"""Which parameters of which picker can be searched, and between which bounds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pointsman_policy.pickers import impact_greedy
from pointsman_policy.pickers.picker import Picker

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SearchSpace:
    """d parameters with bounds. A search sees them as coordinates from 0 to 1."""

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    start: tuple[float, ...]
    logarithmic: tuple[bool, ...]
    """Whether equal steps are equal factors; such a bound is above 0."""

    def __post_init__(self) -> None:
        sizes = {len(part) for part in (self.names, self.low, self.high, self.start, self.logarithmic)}
        if len(sizes) != 1:
            raise ValueError("every part of a search space needs one entry for each parameter")
        for name, low, high, logarithmic in zip(self.names, self.low, self.high, self.logarithmic, strict=True):
            if not low < high or (logarithmic and low <= 0):
                raise ValueError(f"{name}: bounds {low:g} and {high:g} are not ascending, or not above 0")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def groups(self) -> tuple[int, ...]:
        """Group of each parameter: those whose names differ only after "@" do the same at different loads, [d]."""
        families = [name.partition("@")[0] for name in self.names]
        return tuple(families.index(family) for family in families)

    def encode(self, values: Floats) -> Floats:
        """Return the coordinates of parameters, [d]; those outside the bounds are moved to them."""
        low, high, inside = (self._scaled(np.asarray(part, np.float64)) for part in (self.low, self.high, values))
        return np.asarray(np.clip((inside - low) / (high - low), 0.0, 1.0))

    def decode(self, coordinates: Floats) -> Floats:
        """Return the parameters at coordinates, [d]."""
        low, high = (self._scaled(np.asarray(part, np.float64)) for part in (self.low, self.high))
        scaled = low + np.clip(coordinates, 0.0, 1.0) * (high - low)
        return np.where(self.logarithmic, np.exp(np.where(self.logarithmic, scaled, 0.0)), scaled)

    def _scaled(self, values: Floats) -> Floats:
        positive = np.where(self.logarithmic, np.maximum(values, 1e-9), 1.0)
        return np.where(self.logarithmic, np.log(positive), values)


@dataclass(frozen=True)
class Tunable:
    """A picker and the part of its parameters that a search may set."""

    name: str
    """In reports and file names."""
    picker: Picker
    space: SearchSpace
    positions: tuple[tuple[int, ...], ...]
    """Where each parameter of the space goes among the picker's, one or several places each."""
    admissions: tuple[str, ...]
    """Modes under which these parameters matter."""

    def parameters(self, values: Floats) -> Floats:
        """Return all of the picker's parameters with these set, [parameters]."""
        full = np.array(self.picker.parameters, np.float64)
        for value, places in zip(values, self.positions, strict=True):
            full[list(places)] = value
        return full

    def with_values(self, values: Floats) -> Picker:
        """Return the picker with these parameters, [d]."""
        return replace(self.picker, parameters=tuple(float(value) for value in self.parameters(values)))

    def on(self, picker: Picker) -> "Tunable":
        """Return the same search over a picker whose parameters are other ones, starting there."""
        start = tuple(picker.parameters[places[0]] for places in self.positions)
        return replace(self, picker=picker, space=replace(self.space, start=start))


ALL_ADMISSIONS = ("Never", "ShedHopeless", "ShedSheddable")

IMPACT_GREEDY_BOUNDS: Mapping[str, tuple[float, float, bool]] = {
    # column: lowest, highest, logarithmic
    "impact_weight": (0.0, 4.0, False),
    "price": (0.0, 2.0, False),
    "waste": (0.0, 5.0, False),
    "threshold": (0.0, 0.6, False),
    "pessimism": (0.7, 1.7, True),
    "spread": (0.05, 0.9, True),
    "length_spread": (0.05, 1.5, False),
    "sharpness": (0.0, 8.0, False),
}
_MUST_SERVE_ONLY = ("waste",)
_MAY_DROP_ONLY = ("threshold",)

_PEERS: Mapping[str, tuple[tuple[str, ...], tuple[tuple[float, float, bool], ...]]] = {
    # picker: names and bounds of its parameters
    "SloFilteredQuality": (("share",), ((0.3, 1.5, True),)),
    "StaticPrior": (("quality_weight",), ((0.0, 1.0, False),)),
    "WeightedScore": (("queue_weight", "cache_weight"), ((0.01, 10.0, True), (0.01, 10.0, True))),
}


def tunables(picker: Picker) -> tuple[Tunable, ...]:
    """Return the searches that together tune a picker, each on its own; none if it has nothing to tune."""
    if picker.name == impact_greedy.PICKER.name:
        return tuple(_impact_greedy_table(picker, table, constant=False) for table in range(2))
    if picker.name not in _PEERS:
        return ()
    names, bounds = _PEERS[picker.name]
    space = SearchSpace(
        names=names,
        low=tuple(low for low, _, _ in bounds),
        high=tuple(high for _, high, _ in bounds),
        start=picker.parameters,
        logarithmic=tuple(logarithmic for _, _, logarithmic in bounds),
    )
    positions = tuple((k,) for k in range(len(names)))
    return (Tunable(picker.name, picker, space, positions, ALL_ADMISSIONS),)


def constant_tunables(picker: Picker) -> tuple[Tunable, ...]:
    """Return the searches over ImpactGreedy's parameters as constants, the same at every load: an ablation."""
    return tuple(_impact_greedy_table(picker, table, constant=True) for table in range(2))


def _impact_greedy_table(picker: Picker, table: int, constant: bool) -> Tunable:
    """Return the search over one of ImpactGreedy's tables: 0 for requests that must be served, 1 for the others."""
    columns = impact_greedy.COLUMNS
    half = len(picker.parameters) // 2
    rows = half // len(columns)
    unused = (_MAY_DROP_ONLY, _MUST_SERVE_ONLY)[table]
    names: list[str] = []
    positions: list[tuple[int, ...]] = []
    for column, name in enumerate(columns):
        if name == "load" or name in unused:
            continue
        places = [table * half + row * len(columns) + column for row in range(rows)]
        groups = [tuple(places)] if constant else [(place,) for place in places]
        positions += groups
        names += [name] if constant else [f"{name}@{picker.parameters[place - column]:g}" for place in places]
    bounds = [IMPACT_GREEDY_BOUNDS[name.partition("@")[0]] for name in names]
    space = SearchSpace(
        names=tuple(names),
        low=tuple(low for low, _, _ in bounds),
        high=tuple(high for _, high, _ in bounds),
        start=tuple(float(np.mean([picker.parameters[place] for place in places])) for places in positions),
        logarithmic=tuple(logarithmic for _, _, logarithmic in bounds),
    )
    title = ("must-serve", "may-drop")[table]
    admissions = (("Never",), ("ShedHopeless", "ShedHopeless", "ShedSheddable"))[table]
    return Tunable(title, picker, space, tuple(positions), admissions)
