"""What turns a prompt into numbers, and where an encoder of another package is found."""

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pointsman_policy.prediction.hashed_ngrams import HashedNgrams

ENTRY_POINT_GROUP = "pointsman.encoders"
"""Packages offer encoders under it: the entry point's name is the encoder's, its object takes no arguments and returns
an `Encoder`."""


class Encoder(Protocol):
    """Turns texts into features. The same text must give the same features, in fitting and in serving."""

    @property
    def name(self) -> str:
        """Tells encoders apart; kept with what is fitted on their features."""

    @property
    def version(self) -> int:
        """Rises when the features of any text change; kept too."""

    @property
    def dimension(self) -> int:
        """d, features of a text."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return features, [n, d], finite. Called on the request path with one text at a time: it must not fail."""


def find_encoder(name: str) -> Encoder | None:
    """Return the built-in encoder or one that an installed package offers; None if there is none of that name."""
    built_in = HashedNgrams()
    if name == built_in.name:
        return built_in
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=name):
        encoder: Encoder = entry.load()()
        return encoder
    return None
