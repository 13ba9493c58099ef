"""What a RouterPolicy tells the policy service."""

from pointsman.policy.v1 import policy_pb2
from pointsman_operator.routerpolicy import RouterPolicy


def policy_settings(policy: RouterPolicy) -> policy_pb2.PolicySettings:
    """Return a policy's settings as the service takes them."""
    training, rollout = policy.spec.training, policy.spec.rollout
    return policy_pb2.PolicySettings(
        policy=policy.key,
        schedule=training.schedule,
        minimum_outcomes=training.minimum_outcomes,
        store_prompts=training.store_prompts,
        ray=training.ray,
        exploration_percent=training.exploration_percent,
        manual=rollout.mode == "Manual",
        shadow_minutes=rollout.shadow_minutes,
        canary_percents=rollout.canary_percents,
        canary_minutes=rollout.canary_minutes,
        canary_requests=rollout.canary_requests,
        maximum_slo_regression_percent=rollout.maximum_slo_regression_percent,
        picker=policy.spec.picker.name,
        admission=policy.spec.admission.mode,
    )
