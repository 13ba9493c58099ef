"""What a RouterPolicy says of training and rollout, as the service keeps it: it goes on without whoever told it."""

from typing import Annotated

from google.protobuf.json_format import MessageToDict
from pydantic import Field, field_validator

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_policy.documents import Document, parse
from pointsman_policy.errors import DocumentError
from pointsman_policy.experience.policy_key import check_policy_key
from pointsman_policy.pickers.trained import TRAINABLE
from pointsman_policy.rollout.state import RolloutSettings
from pointsman_policy.service.cron import Cron


class PolicyConfiguration(Document):
    """What is wanted for one policy."""

    policy: str
    schedule: str = Field(default="0 3 * * *", max_length=128)
    """Five cron fields, UTC; empty = only on demand."""
    minimum_outcomes: Annotated[int, Field(ge=1)] = 2_000
    """That must have come in since the last training."""
    store_prompts: bool = False
    ray: str = Field(default="", max_length=2_048)
    exploration_percent: Annotated[int, Field(ge=0, le=100)] = 0
    picker: str = Field(default="", max_length=253)
    admission: str = Field(default="Never", pattern="^(Never|ShedSheddable|ShedHopeless)$")
    rollout: RolloutSettings = RolloutSettings()

    @property
    def learns(self) -> bool:
        """Whether routers would run versions: not where the RouterPolicy names a picker that takes none."""
        return not self.picker or self.picker in TRAINABLE

    @field_validator("policy")
    @classmethod
    def _is_key(cls, value: str) -> str:
        try:
            return check_policy_key(value)
        except DocumentError as error:
            raise ValueError(error.problem) from error

    @field_validator("schedule")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        if value:
            Cron(value)
        return value


_ROLLOUT_FIELDS = (
    "manual",
    "shadow_minutes",
    "canary_percents",
    "canary_minutes",
    "canary_requests",
    "maximum_slo_regression_percent",
)


def read_configuration(settings: pb.PolicySettings) -> PolicyConfiguration:
    """Check what was sent for one policy.

    Raises:
        DocumentError: Names each wrong field.
    """
    told = MessageToDict(settings, always_print_fields_with_no_presence=True, preserving_proto_field_name=True)
    rollout = {name: told.pop(name) for name in _ROLLOUT_FIELDS}
    told["admission"] = told["admission"] or "Never"
    return parse(PolicyConfiguration, {**told, "rollout": rollout}, f"settings of {settings.policy[:80]!r}")
