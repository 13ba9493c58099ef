"""Texts of the sample's prompts: templates of seven kinds of task, filled with random names and numbers."""

from collections.abc import Callable, Sequence

import numpy as np

_NAMES = ("Amina", "Bruno", "Chiara", "Deniz", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Keiko", "Lior")
_ITEMS = ("bolts", "notebooks", "bus tickets", "apples", "batteries", "light bulbs", "seed packets", "tiles")
_PLACES = ("the harbour", "platform four", "the north depot", "the old mill", "the ferry pier", "the signal box")
_LANGUAGES = ("French", "Turkish", "Portuguese", "Polish", "Swahili", "Japanese")
_ROUTINES = (
    "merges overlapping intervals and returns them sorted by their start",
    "finds the longest run of equal values and returns its first index and its length",
    "groups words that are anagrams of each other, keeping the order of first appearance",
    "parses durations such as '1h20m' and returns seconds, raising ValueError on anything else",
    "returns the n largest values of a stream without keeping the whole stream in memory",
    "checks whether a directed graph, given as a dict of lists, has a cycle",
)
_CONSTRAINTS = (
    "Use the standard library only.",
    "Add type hints and one test.",
    "State its running time in a comment.",
    "It must not change its argument.",
)
_WISHES = (
    "plan a quiet weekend in the mountains",
    "learn to cook for a family of five on a small budget",
    "prepare for a first talk in front of a hundred people",
    "get back to running after a long winter",
    "choose a used bicycle for a commute over hills",
    "keep house plants alive in a flat that faces north",
)
_MOODS = ("friendly", "frank", "brief", "thorough", "playful")
_EVENTS = (
    "{name} reported that the {item} for {place} had come {n} days late, and that nobody had been told.",
    "At {place}, the morning shift counted {n} crates of {item}, {m} fewer than the delivery note said.",
    "The meeting agreed to move the stock of {item} to {place} before the end of the month.",
    "{name} asked for {n} more volunteers, since the work at {place} took {m} hours a week instead of the planned few.",
    "A visitor praised the new signs near {place} but found the opening hours of the counter for {item} confusing.",
    "The cost of {item} rose by {n} percent, so {name} proposed to order only every {m} weeks.",
    "After the storm, {place} stayed closed for {n} hours and the {item} had to be carried in by hand.",
)
_REMARKS = (
    "The {item} arrived broken and nobody answered my {n} messages.",
    "Friendly staff near {place}, and I waited only {n} minutes for my {item}.",
    "My {item} are fine, I suppose, though {n} coins for them is a lot.",
    "Will there be {item} at {place} again on the {n}th?",
)


def prompt_text(kind: str, rng: np.random.Generator) -> str:
    """Return a new prompt of one of `KINDS`."""
    return _WRITERS[kind](rng)


def _choose(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _fill(rng: np.random.Generator, template: str) -> str:
    return template.format(
        name=_choose(rng, _NAMES),
        item=_choose(rng, _ITEMS),
        place=_choose(rng, _PLACES),
        n=int(rng.integers(2, 28)),
        m=int(rng.integers(2, 12)),
    )


def _arithmetic(rng: np.random.Generator) -> str:
    item, count, price, share = _choose(rng, _ITEMS), *map(int, rng.integers((12, 3, 2), (96, 20, 7)))
    text = (
        f"{_choose(rng, _NAMES)} buys {count} {item} at {price} coins each and sells them in bundles of {share}. "
        f"A bundle brings {price * share + int(rng.integers(1, 9))} coins; what does not fill a bundle is given away."
    )
    if rng.random() < 0.5:
        text += f" On {int(rng.integers(2, 6))} market days the stall costs {int(rng.integers(5, 40))} coins a day."
    return text + " How many coins are gained in all? Reason step by step, then give the number on a line of its own."


def _code(rng: np.random.Generator) -> str:
    return (
        f"Write a Python function that {_choose(rng, _ROUTINES)}. {_choose(rng, _CONSTRAINTS)} "
        f"Inputs have up to {int(rng.integers(2, 100))},000 elements."
    )


def _summary(rng: np.random.Generator) -> str:
    passage = " ".join(_fill(rng, _choose(rng, _EVENTS)) for _ in range(int(rng.integers(6, 22))))
    return f"Summarise these minutes in {int(rng.integers(2, 5))} sentences for someone who was not there.\n\n{passage}"


def _extraction(rng: np.random.Generator) -> str:
    lines = [
        f"{_choose(rng, _NAMES)}; {int(rng.integers(1, 60))} {_choose(rng, _ITEMS)}; to {_choose(rng, _PLACES)}"
        for _ in range(int(rng.integers(3, 12)))
    ]
    return "Return a JSON list with the keys who, count, what and where for these orders:\n" + "\n".join(lines)


def _translation(rng: np.random.Generator) -> str:
    sentences = " ".join(_fill(rng, _choose(rng, _EVENTS)) for _ in range(int(rng.integers(1, 4))))
    return f"Translate into {_choose(rng, _LANGUAGES)}, keeping the tone: {sentences}"


def _advice(rng: np.random.Generator) -> str:
    return (
        f"I have {int(rng.integers(2, 12))} weeks and about {int(rng.integers(20, 400))} euros, and want to "
        f"{_choose(rng, _WISHES)}. What would you do? Be {_choose(rng, _MOODS)}."
    )


def _classification(rng: np.random.Generator) -> str:
    return (
        "Answer with one word, praise, complaint or question. What is this remark from a customer? "
        f'"{_fill(rng, _choose(rng, _REMARKS))}"'
    )


_WRITERS: dict[str, Callable[[np.random.Generator], str]] = {
    "arithmetic": _arithmetic,
    "code": _code,
    "summary": _summary,
    "extraction": _extraction,
    "translation": _translation,
    "advice": _advice,
    "classification": _classification,
}
KINDS = tuple(_WRITERS)
"""Kinds of task."""
