"""Which figures of the service are exported."""

from pointsman_policy.experience.store import OutcomeStore
from pointsman_policy.rollout.state import Stage
from pointsman_policy.service.assignments import Assignments
from pointsman_policy.service.drifts import Drifts
from pointsman_policy.service.ingestion import Ingestion
from pointsman_policy.service.metrics import Sample, ServiceMetrics
from pointsman_policy.service.rollouts import Rollouts
from pointsman_policy.service.trainings import Trainings


def export_store(metrics: ServiceMetrics, store: OutcomeStore, ingestion: Ingestion) -> None:
    """Export what is kept, and what becomes of what comes in."""
    kinds = ("stored", "duplicate", "refused", "label", "retimed")
    metrics.count(
        "pointsman_policy_records",
        "Records from routers: outcomes stored, known already, refused for good, with a time that cannot be; labels.",
        ["result"],
        lambda: [((kind,), ingestion.counted[kind]) for kind in kinds],
    )
    metrics.gauge(
        "pointsman_policy_store_outcomes",
        "Outcomes that are kept.",
        ["policy"],
        lambda: [((policy,), stats.rows) for policy, stats in store.stats().items()],
    )
    metrics.gauge("pointsman_policy_store_bytes", "Size of all parts.", [], lambda: [((), store.size)])
    metrics.gauge(
        "pointsman_policy_store_pending_outcomes", "Rows in the journal only.", [], lambda: [((), store.pending_rows)]
    )
    metrics.count(
        "pointsman_policy_store_expired_outcomes",
        "Outcomes deleted by retention.",
        [],
        lambda: [((), store.deleted_rows)],
    )
    metrics.gauge(
        "pointsman_policy_store_problems",
        "Damaged parts and files that were set aside since the start.",
        [],
        lambda: [((), len(store.problems))],
    )
    metrics.gauge(
        "pointsman_policy_store_full", "1 = the volume takes nothing.", [], lambda: [((), float(bool(ingestion.full)))]
    )


def export_rollouts(metrics: ServiceMetrics, rollouts: Rollouts, assignments: Assignments) -> None:
    """Export where policies stand."""
    metrics.gauge(
        "pointsman_policy_candidate_stage",
        "1 for the stage of a policy's candidate.",
        ["policy", "stage"],
        lambda: [
            ((policy, stage), float(stage is _stage(rollouts, policy)))
            for policy in rollouts.policies()
            for stage in (Stage.WAITING, Stage.SHADOW, Stage.CANARY)
        ],
    )
    metrics.gauge(
        "pointsman_policy_canary_percent",
        "Share of requests that the candidate serves.",
        ["policy"],
        lambda: [((policy,), rollouts.assignment(policy).canary_percent) for policy in rollouts.policies()],
    )
    metrics.gauge(
        "pointsman_policy_rollout_problem",
        "1 = something keeps a policy's rollout from its work; see ListRollouts.",
        ["policy"],
        lambda: [((policy,), float(bool(rollouts.problem(policy)))) for policy in rollouts.policies()],
    )
    metrics.gauge(
        "pointsman_policy_watching_routers",
        "Open calls of WatchActive.",
        [],
        lambda: [((), assignments.watchers)],
    )


def export_trainings(metrics: ServiceMetrics, rollouts: Rollouts, trainings: Trainings) -> None:
    """Export how trainings go."""
    metrics.gauge(
        "pointsman_policy_training_running",
        "1 = a training of the policy runs or waits for its turn.",
        ["policy"],
        lambda: [((policy,), float(trainings.running(policy) is not None)) for policy in rollouts.policies()],
    )
    metrics.gauge(
        "pointsman_policy_training_failed",
        "1 = the last training of the policy failed.",
        ["policy"],
        lambda: _failed(rollouts, trainings),
    )


def export_drifts(metrics: ServiceMetrics, rollouts: Rollouts, drifts: Drifts) -> None:
    """Export whether experts are as the active versions believe."""
    metrics.gauge(
        "pointsman_policy_expert_time_ratio",
        "Measured over believed iteration time, median of recent requests; 1 = as the active version believes.",
        ["policy", "expert"],
        lambda: [((policy, one.expert), one.ratio) for policy in rollouts.policies() for one in drifts.found(policy)],
    )
    metrics.gauge(
        "pointsman_policy_expert_drifted",
        "1 = the expert is no longer as the active version believes.",
        ["policy", "expert"],
        lambda: [
            ((policy, one.expert), float(one.drifted)) for policy in rollouts.policies() for one in drifts.found(policy)
        ],
    )


def _stage(rollouts: Rollouts, policy: str) -> Stage | None:
    candidate = rollouts.state(policy).candidate
    return candidate.stage if candidate is not None else None


def _failed(rollouts: Rollouts, trainings: Trainings) -> list[Sample]:
    last = {policy: trainings.last(policy) for policy in rollouts.policies()}
    return [
        ((policy,), float(record is not None and record.progress.phase == "failed")) for policy, record in last.items()
    ]
