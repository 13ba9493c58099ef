"""All agents by name. Modules are imported when their agent is asked for: some take seconds to load."""

import importlib
from typing import cast

from pointsman_policy.errors import DocumentError
from pointsman_policy.learning.training import Agent

_MODULES = {
    "han": "pointsman_policy.learning.han",
    "han-without-estimates": "pointsman_policy.learning.han",
    "han-without-graph": "pointsman_policy.learning.han",
    "impact-greedy": "pointsman_policy.learning.impact_greedy_search",
    "paper": "pointsman_policy.learning.paper",
}
"""Agent: the module among whose `AGENTS` it is."""

AGENT_NAMES = tuple(_MODULES)


def find_agent(name: str) -> Agent:
    """Return an agent by name.

    Raises:
        DocumentError: If there is none of that name.
    """
    if name not in _MODULES:
        raise DocumentError("--agent", f"no agent is named {name!r}; choose from {', '.join(AGENT_NAMES)}")
    agents = cast("tuple[Agent, ...]", importlib.import_module(_MODULES[name]).AGENTS)
    return next(agent for agent in agents if agent.name == name)
