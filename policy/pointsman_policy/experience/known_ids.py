"""Which outcomes are in the store already, by the hashes of their ids."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]


class KnownIds:
    """The hashes of one policy's outcomes: recent ones in a set, those of parts in one sorted array."""

    def __init__(self) -> None:
        self._sorted: Hashes = np.empty(0, np.uint64)
        self._recent: set[int] = set()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._recent)

    def fresh(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Tell which rows are not known yet; of those that are given twice, the first is fresh, [rows]."""
        places = np.searchsorted(self._sorted, hashes)
        result = np.ones(len(hashes), np.bool_)
        inside = places < len(self._sorted)
        result[inside] = self._sorted[places[inside]] != hashes[inside]
        given: set[int] = set()
        for row, one in enumerate(hashes.tolist()):
            if one in self._recent or one in given:
                result[row] = False
            given.add(one)
        return result

    def add_recent(self, hashes: Hashes) -> None:
        """Take in rows that are not in a part yet."""
        self._recent.update(hashes.tolist())

    def add_parts(self, hashes: Iterable[Hashes]) -> None:
        """Take in the rows of new parts, which are recent no more."""
        found = list(hashes)
        if not found:
            return
        added = np.concatenate(found)
        self._recent.difference_update(added.tolist() if self._recent else ())
        self._sorted = np.sort(np.concatenate([self._sorted, added]))

    def forget(self, hashes: Hashes) -> None:
        """Leave out the rows of a part that is gone."""
        self._sorted = self._sorted[~np.isin(self._sorted, hashes)]
