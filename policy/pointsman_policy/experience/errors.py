"""What can go wrong with the store of outcomes, apart from wrong documents.

::

    pointsman_policy.errors.PointsmanError
    ├── StoreFullError     nothing can be stored now; nothing was lost, trying again later is right
    └── StoreInUseError    another process has the store
"""

from pointsman_policy.errors import PointsmanError


class StoreFullError(PointsmanError):
    """The volume takes no more now; the message says why and what to do."""


class StoreInUseError(PointsmanError):
    """Another process writes to the store; the message says which command to stop."""
