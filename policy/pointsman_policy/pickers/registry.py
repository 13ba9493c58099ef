"""All pickers by name. A module of this package that defines `PICKER` is a picker; nothing else needs to know of it."""

import importlib
import pkgutil

from pointsman_policy import pickers
from pointsman_policy.pickers.picker import Picker

PICKERS: dict[str, Picker] = {
    module.PICKER.name: module.PICKER
    for info in pkgutil.iter_modules(pickers.__path__)
    if hasattr(module := importlib.import_module(f"{pickers.__name__}.{info.name}"), "PICKER")
}
