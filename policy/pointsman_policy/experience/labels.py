"""Labels at reading: which outcomes had their quality reported afterwards."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pointsman_policy.experience.catalogue import Catalogue
from pointsman_policy.experience.known_ids import Hashes


@dataclass(frozen=True)
class Labels:
    """The last label of each outcome."""

    hashes: Hashes
    """Of the outcomes' ids, rising, [labels]."""
    quality: npt.NDArray[np.float32]
    """0 to 1, [labels]."""

    def over(self, quality: npt.NDArray[np.float32], hashes: Hashes) -> npt.NDArray[np.float32]:
        """Return qualities with the labels in their place where there are any.

        Args:
            quality: As reported with the outcomes, [rows].
            hashes: Of the outcomes' ids, [rows].
        """
        if not len(self.hashes):
            return quality
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[places] == hashes, self.quality[places], quality).astype(np.float32)


def read_labels(catalogue: Catalogue, policy: str, problems: list[str]) -> Labels:
    """Read the labels of a policy.

    Args:
        catalogue: Of labels.
        policy: Its key.
        problems: Gets what is wrong with parts that are damaged, which are left out.

    Raises:
        OSError: If the place cannot be read at all.
    """
    problems += catalogue.find(policy)
    hashes, quality, times = [np.empty(0, np.uint64)], [np.empty(0, np.float32)], [np.empty(0)]
    for part, _ in catalogue.listed(policy):
        try:
            table = catalogue.read(part, catalogue.schema.names)
        except OSError as error:
            problems.append(str(error))
            continue
        hashes.append(table.column("id_hash").to_numpy())
        quality.append(table.column("quality").to_numpy())
        times.append(table.column("labelled_at").to_numpy())
    return _last_of_each(np.concatenate(hashes), np.concatenate(quality), np.concatenate(times))


def _last_of_each(hashes: Hashes, quality: npt.NDArray[np.float32], times: npt.NDArray[np.float64]) -> Labels:
    order = np.lexsort((times, hashes))
    hashes, quality = hashes[order], quality[order]
    last = np.append(hashes[1:] != hashes[:-1], True) if len(hashes) else np.empty(0, np.bool_)
    return Labels(hashes[last], quality[last])
