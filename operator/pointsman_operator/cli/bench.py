"""`pointsman bench`: rules in the simulator, the simulator's own speed, and what the router costs a request."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from pointsman_operator.cli.bench_experience import experience
from pointsman_operator.cli.bench_learning import bench_learning, bench_training_load
from pointsman_operator.cli.extras import needs_extra
from pointsman_operator.demo.settings import DEFAULT_PICKERS
from pointsman_operator.routerpolicy import API_VERSION

app = typer.Typer(
    help="Measure: rules in the simulator, the simulator itself, the transport, continuous learning.",
    no_args_is_help=True,
)
app.command("experience")(experience)
app.command("learning")(bench_learning)
app.command("training-load")(bench_training_load)

_PICKERS = list(DEFAULT_PICKERS)
_LABELS = {"pointsman.io/bench": "transport"}


@app.command("sim")
def sim(
    scenario: Annotated[
        list[Path] | None, typer.Option(help="Scenario document; may be given several times; default: the packaged.")
    ] = None,
    picker: Annotated[list[str], typer.Option(help="A rule to compare; may be given several times.")] = _PICKERS,
    trained_policy: Annotated[
        list[Path] | None,
        typer.Option(help="Folder written by `pointsman train`, in place of its packaged picker; may be repeated."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas; three or more give better intervals.")] = (
        "1,2,3"
    ),
    out: Annotated[Path, typer.Option(help="Folder for report.html and results.json.")] = Path("out/bench-sim"),
) -> None:
    """Compare rules offline: every scenario at each of its loads, the same requests for all rules."""
    with needs_extra("simulator"):
        from pointsman_operator.cli.bench_sim import bench_sim
        from pointsman_policy.simulator.sample import scenario_paths
    scenarios = scenario or list(scenario_paths())
    if not bench_sim(scenarios, picker, _integers(seeds), out, Console(), trained_policy or ()):
        raise typer.Exit(130)


@app.command("policies")
def policies(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of measured traces, qualities and profiles; default: the packaged sample."),
    ] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="A scenario or family of the suite; may be given several times; default: all."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas; nothing may be trained on them.")] = (
        "910001,910002,910003,910004,910005"
    ),
    requests: Annotated[int, typer.Option(min=1, max=1_000_000, help="Requests in each run.")] = 6_000,
    tuned_peers: Annotated[Path | None, typer.Option(help="File of tuned parameters, from --tune-minutes.")] = None,
    trained_policy: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FOLDER written by `pointsman train`: in place of HanActor or ImpactGreedy, or as an ablation "
            "under any other name; may be repeated."
        ),
    ] = None,
    tune_minutes: Annotated[
        float, typer.Option(min=0, max=1_440, help="Tune each peer for so long first, by the search of our own rule.")
    ] = 0.0,
    processes: Annotated[int, typer.Option(min=0, max=1_024, help="0 = one for each processor.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for report.html, results.json, tables.md and figures.")] = Path(
        "out/bench-policies"
    ),
) -> None:
    """Compare all rules and policies on a suite of scenarios that tell them apart, and check the targets."""
    with needs_extra("simulator"):
        from pointsman_operator.cli.bench_policies import PoliciesOptions, bench_policies
    options = PoliciesOptions(
        data=data,
        scenarios=tuple(scenario or ()),
        seeds=tuple(_integers(seeds)),
        requests=requests,
        tuned_peers=tuned_peers,
        trained=tuple(trained_policy or ()),
        tune_minutes=tune_minutes,
        processes=processes,
        out=out,
    )
    if not bench_policies(options, Console()):
        raise typer.Exit(130)


@app.command("paper")
def paper(
    mix_instruct: Annotated[
        Path | None, typer.Option(help="The paper's data set, JSONL; default: a synthetic set of the same form.")
    ] = None,
    scores: Annotated[Path | None, typer.Option(help="Score table to use in its place.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="The prompts of --scores.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Recorded arrivals, CSV; default: the packaged, synthetic ones.")
    ] = (None),
    profiles: Annotated[Path | None, typer.Option(help="Iteration-time fits, CSV; default: from data sheets.")] = None,
    agent: Annotated[list[Path] | None, typer.Option(help="Folder of a trained agent; may be repeated.")] = None,
    train_minutes: Annotated[
        float, typer.Option(min=0, help="Train agents here, each for so long: one and two flat ones for each seed.")
    ] = 0.0,
    seeds: Annotated[str, typer.Option(help="Seeds of workloads, and of training, separated by commas.")] = "1,2,3",
    loads: Annotated[str, typer.Option(help="Arrival rates over the fleet's capacity.")] = "0.5,0.8,1.1,1.4",
    requests: Annotated[int, typer.Option(min=100, help="In each run.")] = 5_000,
    out: Annotated[Path, typer.Option(help="Folder for report.html, results.json, figures and agents.")] = Path(
        "out/bench-paper"
    ),
) -> None:
    """Repeat the paper's experiment: 3 and 6 experts, Poisson and recorded arrivals, its agent and its baselines."""
    with needs_extra("policy"):
        from pointsman_operator.cli.bench_paper import PaperOptions, bench_paper
    options = PaperOptions(
        mix_instruct=mix_instruct,
        scores=scores,
        prompts=prompts,
        trace=trace,
        profiles=profiles,
        agents=tuple(agent or ()),
        train_minutes=train_minutes,
        seeds=tuple(dict.fromkeys(_integers(seeds))),
        loads=_numbers(loads),
        requests=requests,
        out=out,
    )
    if not bench_paper(options, Console()):
        raise typer.Exit(130)


@app.command("speed")
def speed(
    requests: Annotated[int, typer.Option(min=1, help="Simulated requests in one run.")] = 100_000,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each rule.")] = 5,
) -> None:
    """Measure how many requests the simulator does per second and core."""
    with needs_extra("simulator"):
        from pointsman_policy.evaluation.speed import measure_speed, speed_table
    Console().print(speed_table(measure_speed(requests=requests, repeats=repeats)))


@app.command("calibration")
def calibration() -> None:
    """Measure how well an expert's times are predicted once outcomes have calibrated what is believed of it."""
    with needs_extra("simulator"):
        from pointsman_policy.evaluation.calibration import print_calibration
    print_calibration(Console())


@app.command("decision")
def decision() -> None:
    """Measure how long one decision takes, by picker and number of experts."""
    from pointsman_policy.evaluation.decision_speed import decision_table, measure_decisions, timed_pickers

    Console().print(decision_table(measure_decisions(timed_pickers())))


@app.command("transport")
def transport(
    rate: Annotated[float, typer.Option(min=1, max=100_000, help="Requests per second.")] = 200.0,
    prompt_bytes: Annotated[int, typer.Option(min=1, max=16 << 20, help="Length of each prompt.")] = 1024,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="Of load on each way, all rounds together.")] = 20.0,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often the load changes ways.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the arrivals.")] = 1,
    general: Annotated[
        bool, typer.Option("--general", help="Ask over the general gRPC server, not the sidecar's own port.")
    ] = False,
) -> None:
    """Measure what the router adds to a request through Envoy: latency and CPU time."""
    with needs_extra("demo"):
        from pointsman_operator.cli.bench_transport import TransportSettings, run
        from pointsman_operator.demo.processes import find_envoy, free_address, pointsman
    upstream, router, sidecar = (free_address("127.0.0.1") for _ in range(3))
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as name:
        policy, experts = Path(name) / "policy.yaml", Path(name) / "experts.yaml"
        policy.write_text(yaml.safe_dump(_policy()), "utf-8")
        expert = {"name": "only", "endpoint": upstream, "model": "only", "labels": _LABELS}
        experts.write_text(yaml.safe_dump({"experts": [expert]}), "utf-8")
        options = (
            *("--policy", policy, "--experts", experts, "--admin-port", 0),
            *("--listen", router, "--sidecar-listen", sidecar),
        )
        settings = TransportSettings(
            envoy=find_envoy(),
            router_command=tuple(pointsman("router", *map(str, options))),
            router_address=router,
            ext_proc_address=router if general else sidecar,
            upstream_address=upstream,
            rate=rate,
            prompt_bytes=prompt_bytes,
            seconds=seconds,
            rounds=rounds,
            seed=seed,
        )
        run(settings, Console())


def _policy() -> dict[str, object]:
    return {
        "apiVersion": API_VERSION,
        "kind": "RouterPolicy",
        "metadata": {"name": "transport"},
        "spec": {
            "modelName": "edge-chat",
            "experts": {"selector": {"matchLabels": _LABELS}},
            "telemetry": {"source": "DirectScrape"},
        },
    }


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"must be integers separated by commas, such as 1,2,3, not {text!r}", param_hint="'--seeds'"
        ) from None


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"must be numbers separated by commas, such as 0.5,0.8,1.1, not {text!r}", param_hint="'--loads'"
        ) from None
