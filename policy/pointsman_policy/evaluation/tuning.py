"""Tuning the peers that a policy is compared with, by the same search in the same simulator as its own parameters."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pointsman_policy.documents import Document, parse, read_yaml
from pointsman_policy.errors import DocumentError
from pointsman_policy.evaluation.bench import write_text
from pointsman_policy.evaluation.contestants import CONSTANT, PEERS
from pointsman_policy.learning.scoring import Scorer
from pointsman_policy.learning.search import SearchSettings, advance, all_found, begin
from pointsman_policy.learning.search_space import Tunable, constant_tunables, tunables
from pointsman_policy.learning.sources import MadeUp
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.simulator.randomisation import Distribution

_RULE = "ImpactGreedy"


class TunedRules(Document):
    """A file of tuned parameters."""

    seed: Annotated[int, Field(strict=True, ge=0)]
    """Of the search."""
    minutes: Annotated[float, Field(gt=0)]
    """Given to each rule."""
    generations: dict[str, int]
    """Of each rule's search."""
    parameters: dict[str, tuple[float, ...]]
    """Of each rule."""


def rules_to_tune() -> dict[str, tuple[Tunable, ...]]:
    """Return the searches of the peers that have parameters, and of ImpactGreedy with constant ones, by name."""
    searches = {name: tunables(PICKERS[name]) for name in PEERS}
    return {name: found for name, found in searches.items() if found} | {CONSTANT: constant_tunables(PICKERS[_RULE])}


def tune_rules(
    settings: SearchSettings,
    distribution: Distribution,
    scorer: Scorer,
    minutes: float,
    clock: Callable[[], float],
    begun: Callable[[str], None],
) -> TunedRules:
    """Search each rule's parameters for the same time, on made-up situations.

    Args:
        settings: Of each search.
        distribution: What the situations are drawn from.
        scorer: Runs them.
        minutes: For each rule, compiling and the first validation not counted; parts of one that are searched apart
            take turns, and each gets at least as many generations as it takes to be validated once.
        clock: Seconds.
        begun: Is told each rule's name when its search begins.
    """
    source = MadeUp(distribution, settings.seed)
    parameters: dict[str, tuple[float, ...]] = {}
    generations: dict[str, int] = {}
    for name, parts in rules_to_tune().items():
        begun(name)
        states = [begin(part, source, settings, scorer) for part in parts]
        until, least = clock() + 60 * minutes, settings.validate_every * len(parts)
        turn = 0
        while turn < least or clock() < until:
            part = turn % len(parts)
            states[part] = advance(parts[part], source, settings, scorer, states[part])
            turn += 1
        parameters[name] = all_found(parts[0].picker, list(zip(parts, states, strict=True))).parameters
        generations[name] = turn
    return TunedRules(seed=settings.seed, minutes=minutes, generations=generations, parameters=parameters)


def write_tuned(path: Path, tuned: TunedRules) -> None:
    """Write tuned parameters as JSON.

    Raises:
        OSError: If it cannot be written.
    """
    write_text(path, tuned.model_dump_json(by_alias=True, indent=1) + "\n")


def read_tuned(path: Path) -> TunedRules:
    """Read tuned parameters.

    Raises:
        DocumentError: If the file cannot be read, names a rule that is not tuned, or has a wrong number of
            parameters.
    """
    documents = read_yaml(path)
    if len(documents) != 1:
        raise DocumentError(str(path), f"must hold exactly one document, found {len(documents)}")
    tuned = parse(TunedRules, documents[0], str(path))
    known = rules_to_tune()
    for name, parameters in tuned.parameters.items():
        if name not in known:
            raise DocumentError(str(path), f"parameters: no rule {name!r} is tuned; choose from {', '.join(known)}")
        count = len(known[name][0].picker.parameters)
        if len(parameters) != count:
            raise DocumentError(str(path), f"parameters: {name} has {count} parameters, not {len(parameters)}")
    return tuned
