"""Contenders: a rule, and what it believes of the experts."""

from dataclasses import dataclass

from pointsman_policy.pickers.picker import Picker
from pointsman_policy.pickers.registry import PICKERS
from pointsman_policy.pickers.trained import as_picker
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.registry.version import PolicyVersion
from pointsman_policy.runtime.exported import ARTEFACTS, ExportedPolicy, read_exported_policy

RULE = "ImpactGreedy"
"""The best rule that needs no training."""
DEFAULT_PICKER = "HanActor"
_FOLDERS = {"HanActor": "han", "ImpactGreedy": "impact-greedy"}
_DECLARED = Calibration()


@dataclass(frozen=True)
class Contender:
    """Something that decides."""

    name: str
    """For people."""
    picker: Picker
    calibration: Calibration
    """Empty = the declared beliefs."""
    exported: ExportedPolicy | None = None
    """Its policy, where it can be trained."""


def of_version(version: PolicyVersion, name: str) -> Contender:
    """Return a version as a contender.

    Raises:
        DocumentError: If its policy takes other parameters than it has here.
    """
    return Contender(name, as_picker(version.exported), version.calibration, version.exported)


def of_packaged(picker: str) -> Contender:
    """Return what serves where no version is active: the RouterPolicy's picker with the declared beliefs.

    Args:
        picker: Its name; one that is not known here counts as the default.
    """
    name = picker if picker in PICKERS else DEFAULT_PICKER
    exported = packaged_policy(name) if name in _FOLDERS else None
    return Contender("the packaged policy", PICKERS[name], _DECLARED, exported)


def of_rule(calibration: Calibration) -> Contender:
    """Return the best rule with some beliefs."""
    return Contender(RULE, PICKERS[RULE], calibration)


def packaged_policy(picker: str) -> ExportedPolicy:
    """Return a policy that comes with the package.

    Args:
        picker: HanActor or ImpactGreedy.

    Raises:
        DocumentError: If the package is damaged.
    """
    return read_exported_policy(ARTEFACTS / _FOLDERS[picker])
