"""Which policy becomes the candidate: the one that does best on the twin that all of them are made for.

The rule is taken unless another one is surely better: of several that are about as good, the one that looks best has
had luck, and the gate would find it worse than the rule.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from pointsman_policy.pickers.trained import as_picker
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.retraining.contenders import RULE, Contender, packaged_policy
from pointsman_policy.retraining.trials import compare, usual_trials
from pointsman_policy.runtime.exported import ExportedPolicy
from pointsman_policy.twin.twin import Twin

_SEEDS = range(500, 504)
"""Situations that neither tuning nor the gate meets."""


class Proposal(NamedTuple):
    """A policy that may become the candidate."""

    name: str
    """For people: where it comes from."""
    exported: ExportedPolicy
    calibration: Calibration


def proposals(
    active: ExportedPolicy | None, tuned: Mapping[str, ExportedPolicy], calibration: Calibration
) -> tuple[Proposal, ...]:
    """Return what there is to choose from, each policy once.

    Args:
        active: Policy of what serves now; None = it is a rule that cannot be trained.
        tuned: Policies tuned on the twin, by name.
        calibration: That all of them will have.
    """
    found = {"the active policy": active} if active is not None else {}
    found |= {"the packaged HanActor": packaged_policy("HanActor"), f"the packaged {RULE}": packaged_policy(RULE)}
    found |= {f"tuned {name}": policy for name, policy in tuned.items()}
    known: set[str] = set()
    chosen = []
    for name, policy in found.items():
        if policy.digest and policy.digest in known:
            continue
        known.add(policy.digest)
        chosen.append(Proposal(name, policy, calibration))
    return tuple(chosen)


def best(choices: tuple[Proposal, ...], twin: Twin, progress: Callable[[float], None] = lambda share: None) -> Proposal:
    """Return the policy with the highest mean QoS if it is surely above the rule's, else the rule.

    Args:
        choices: The rule, as it comes with the package, among them.
        twin: Where they are compared.
        progress: Called with the share that is done, 0 to 1.
    """
    contenders = {one.name: Contender(one.name, as_picker(one.exported), one.calibration) for one in choices}
    results = compare(contenders, usual_trials(twin), _SEEDS, progress)
    (rule,) = [one for one in choices if one.exported.digest == packaged_policy(RULE).digest]
    chosen = max(choices, key=lambda one: results.mean(one.name))
    return chosen if results.gain(chosen.name, rule.name).low > 0.0 else rule
