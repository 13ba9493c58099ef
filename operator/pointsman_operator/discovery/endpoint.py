"""A routable expert, wherever it was found."""

from dataclasses import dataclass

from pointsman_policy.experts import Expert


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """A pod (or process) serving one model at one address. Compared by identity: a changed expert is a new one."""

    expert: Expert
    """Its description, from pod metadata or from ``experts.yaml``."""
    namespace: str = "default"
    policy: str = ""
    """Key of the policy that it was made for, whose defaults it holds; empty = of every policy that selects it."""

    @property
    def name(self) -> str:
        """The expert's name, unique in its namespace."""
        return self.expert.name

    @property
    def address(self) -> str:
        """The "ip:port"."""
        return self.expert.endpoint

    @property
    def served_model_name(self) -> str:
        """The name that its server expects in "model"."""
        return self.expert.names[0]
