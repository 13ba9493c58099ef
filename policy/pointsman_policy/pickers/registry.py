"""All pickers by name. A module of this package that defines `PICKER` is a picker; nothing else needs to know of it.

Those that can be trained have the parameters of the exported policies that come with the package.
"""

import importlib
import logging
import pkgutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from pointsman_policy import pickers
from pointsman_policy.errors import DocumentError
from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.trained import load_picker
from pointsman_policy.runtime.exported import ARTEFACTS

_LOGGER = logging.getLogger(__name__)


def _packaged() -> dict[str, Picker]:
    found: dict[str, Picker] = {}
    for info in pkgutil.iter_modules(pickers.__path__):
        module = importlib.import_module(f"{pickers.__name__}.{info.name}")
        picker = getattr(module, "PICKER", None)
        if picker is None:
            continue
        if picker.name in found:
            raise ValueError(f"{module.__name__} is a second picker named {picker.name!r}; rename one of the two")
        found[picker.name] = picker
    for manifest in sorted(ARTEFACTS.glob("*/manifest.json")):
        try:
            picker = load_picker(manifest.parent)
        except DocumentError as error:  # routing goes on with what the module itself has
            _LOGGER.warning("A packaged policy is not used: %s", error)
        else:
            found[picker.name] = picker
    return found


PICKERS: dict[str, Picker] = _packaged()


def with_trained(folders: Iterable[Path]) -> Mapping[str, Picker]:
    """Return all pickers, with those of exported policies in place of their namesakes.

    Args:
        folders: Of exported policies, at most one for each picker.

    Raises:
        DocumentError: If a folder is unusable, or two are of the same picker.
    """
    trained: dict[str, Picker] = {}
    for folder in folders:
        picker = load_picker(folder)
        if picker.name in trained:
            raise DocumentError(str(folder), f"is a second {picker.name}; give one policy for each picker")
        trained[picker.name] = picker
    return {**PICKERS, **trained}
