from rich.console import Console

from pointsman_policy.evaluation.speed import measure_speed, speed_table


def test_the_speed_of_each_rule_is_measured_and_shown() -> None:
    speeds = measure_speed(("RoundRobin", "ImpactGreedy"), requests=500, repeats=3)

    assert [speed.picker for speed in speeds] == ["RoundRobin", "ImpactGreedy"]
    for speed in speeds:
        assert 0 < speed.slowest <= speed.requests_per_second <= speed.fastest
    console = Console(width=100)
    with console.capture() as capture:
        console.print(speed_table(speeds))
    assert "ImpactGreedy" in capture.get()
