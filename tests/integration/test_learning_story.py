"""A fleet changes, and a policy learns of it: on real parts, from the first outcome to the promotion and back."""

from pathlib import Path

from rich.console import Console

from pointsman_operator.demo.learning import LearningSettings, run_learning


async def test_a_policy_learns_of_a_change_proves_itself_and_a_harmful_one_is_withdrawn(tmp_path: Path) -> None:
    settings = LearningSettings(
        out=tmp_path,
        before_seconds=5.0,
        outcomes_seconds=90.0,
        rollout_seconds=600.0,
        after_seconds=25.0,
        harm_seconds=300.0,
        judged_percent=100,
        canary_percents=(50,),
        canary_requests=40,
        training_minutes=0.1,
    )
    result = await run_learning(settings, Console(quiet=True))
    names = [moment.name for moment in result.moments]
    assert names[:2] == ["change", "training"]
    assert names[-3:] == ["active", "harm", "rolled back"]
    assert "gating" in names
    assert result.mean_qos["after"]["learning"] > result.mean_qos["after"]["declared"]
    assert result.failed == 0
    assert 0 < result.harm.requests < 400
    assert result.harm.qos > 0.0
