"""From a scenario to a run of the simulator and back to outcomes."""

import numpy as np

from pointsman_policy.pickers.picker import Picker
from pointsman_policy.simulator.outcomes import Outcomes
from pointsman_policy.simulator.scenario import Scenario
from pointsman_policy.simulator.simulation import Fleet, Run, simulate
from pointsman_policy.simulator.situation import build_changes, build_requests, build_visibility
from pointsman_policy.simulator.workload import Workload
from pointsman_policy.state import DROP


def emulate(scenario: Scenario, fleet: Fleet, workload: Workload, picker: Picker, rng: np.random.Generator) -> Run:
    """Send a workload through the scenario's emulated fleet.

    Args:
        scenario: Gives visibility, admission and changes.
        fleet: From `build_fleet`.
        workload: From `build_workload`.
        picker: The rule.
        rng: Breaks ties.
    """
    return simulate(
        fleet,
        build_requests(scenario, workload),
        picker,
        rng,
        build_visibility(scenario),
        scenario.document.admission.mode,
        build_changes(scenario, workload),
    )


def run_outcomes(workload: Workload, run: Run) -> Outcomes:
    """Return what became of a workload's requests in a run."""
    dropped = run.expert == DROP
    rows, columns = np.arange(len(workload)), np.maximum(run.expert, 0)
    return Outcomes(
        arrival_at=workload.arrival_seconds,
        first_token_at=run.first_token_at,
        end_at=run.finished_at,
        output_tokens=workload.output_tokens[rows, columns],
        quality=workload.quality[rows, columns].astype(np.float64),
        objectives=workload.objectives,
        answered=~dropped & ~np.isnan(run.finished_at),
        dropped=dropped,
    )
