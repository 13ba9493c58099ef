"""`pointsman policies`: where learned policies stand, what they believe, and what to do with them."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman_operator.cli import policies_tables as tables
from pointsman_operator.cli.ask_service import TIMEOUT_SECONDS, PolicyService, ServicePlace, policy_service
from pointsman_operator.cli.extras import needs_extra
from pointsman_operator.errors import UsageError

app = typer.Typer(help="Learned policies: list, show, compare, promote, roll back, train.", no_args_is_help=True)

Policy = Annotated[str, typer.Argument(help='The RouterPolicy, "namespace/name"; not needed where there is one only.')]
Target = Annotated[
    str, typer.Option(envvar="POINTSMAN_POLICY_SERVICE", help="The policy service's gRPC address, in plain text.")
]
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-n", help="Ask the service of a cluster, by the kubeconfig: the policy's namespace."),
]
ServiceNamespace = Annotated[str, typer.Option(help="With --namespace: the service's namespace; default: any.")]
Context = Annotated[str, typer.Option(help="With --namespace: the kubeconfig's context; default: its current one.")]
Json = Annotated[bool, typer.Option("--json", help="Print the response as JSON.")]

_DEFAULT_TARGET = "127.0.0.1:9004"
_STAGES = {"shadow": pb.SHADOW, "canary": pb.CANARY_STAGE, "active": pb.ACTIVE}


@app.command("list")
def list_(
    policy: Policy = "",
    target: Target = _DEFAULT_TARGET,
    namespace: Namespace = "",
    service_namespace: ServiceNamespace = "",
    context: Context = "",
    as_json: Json = False,
) -> None:
    """List all policies, or one with its versions and its history."""
    console = Console(highlight=False)
    with policy_service(ServicePlace(target, namespace, service_namespace, context)) as service:
        if not policy:
            rollouts = service.rollouts()
            if as_json:
                _print_json([_as_dict(one) for one in rollouts])
                return
            console.print(tables.rollouts_table(rollouts))
            for one in rollouts:
                _print_problem(console, one)
            return
        key = service.key(policy)
        rollout, versions = service.rollout(key), service.versions(key)
    if as_json:
        _print_json({"rollout": _as_dict(rollout), "versions": [_as_dict(one) for one in versions]})
        return
    console.print(tables.rollouts_table([rollout]))
    _print_problem(console, rollout)
    for line in tables.canary_lines(rollout.candidate):
        console.print(escape(line))
    console.print(tables.versions_table(key, versions))
    console.print(tables.history_table(rollout))


@app.command("show")
def show(
    policy: Policy = "",
    version: Annotated[
        str, typer.Option(help="Its name or the beginning of it; default: the candidate, else the active one.")
    ] = "",
    png: Annotated[Path | None, typer.Option(help="Draw the gate's verdict into this file.")] = None,
    target: Target = _DEFAULT_TARGET,
    namespace: Namespace = "",
    service_namespace: ServiceNamespace = "",
    context: Context = "",
    as_json: Json = False,
) -> None:
    """Show a version: what the gate said, and what it believes of experts and models."""
    with policy_service(ServicePlace(target, namespace, service_namespace, context)) as service:
        key = service.key(policy)
        report = service.version(key, version)
    details = _details(report)
    if png is not None:
        _draw(key, report, details, png)
    if as_json:
        _print_json({**_as_dict(report), "details": details})
        return
    console = Console(highlight=False)
    console.print(tables.versions_table(key, [report]))
    if details["gate"] is not None:
        console.print(escape(details["gate"]["summary"]))
        if details["gate"]["scenarios"]:
            console.print(tables.gate_table(details["gate"]))
    console.print(tables.calibration_table(details["calibration"]))
    console.print(tables.models_table(details["calibration"]))
    for name, value in details["training"].items():
        console.print(f"{escape(name)}: {escape(value)}", style="dim")


@app.command("diff")
def diff(
    policy: Annotated[str, typer.Argument(help='The RouterPolicy, "namespace/name".')],
    before: Annotated[str, typer.Argument(help="A version, or the beginning of its name.")],
    after: Annotated[str, typer.Argument(help="Another one; default: the candidate, else the active one.")] = "",
    target: Target = _DEFAULT_TARGET,
    namespace: Namespace = "",
    service_namespace: ServiceNamespace = "",
    context: Context = "",
) -> None:
    """Show in what two versions differ."""
    with policy_service(ServicePlace(target, namespace, service_namespace, context)) as service:
        key = service.key(policy)
        reports = [service.version(key, before), service.version(key, after)]
    old, new = (_details(one) for one in reports)
    console = Console(highlight=False)
    names = [one.id.version for one in reports]
    for what in ("picker", "training"):
        if old[what] != new[what]:
            console.print(escape(f"{what}: {old[what]} -> {new[what]}"))
    console.print(tables.difference_table(names, old["calibration"], new["calibration"]))


@app.command("promote")
def promote(
    policy: Policy = "",
    version: Annotated[str, typer.Option(help="Its name; default: the candidate.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Although it did not pass the gate.")] = False,
    stage: Annotated[str, typer.Option(help="With --force: shadow, canary or active; default: the next one.")] = "",
    target: Target = _DEFAULT_TARGET,
    namespace: Namespace = "",
    service_namespace: ServiceNamespace = "",
    context: Context = "",
) -> None:
    """Bring a version to its next stage: shadow, then each canary step, then active."""
    if stage and (not force or stage not in _STAGES):
        raise UsageError(f"--stage goes with --force, and is one of {', '.join(_STAGES)}")
    with policy_service(ServicePlace(target, namespace, service_namespace, context)) as service:
        key = service.key(policy)
        name = service.version(key, version).id.version if version else ""
        request = pb.PromoteRequest(
            policy=key, version=name, force=force, stage=_STAGES[stage] if stage else pb.STAGE_UNSPECIFIED
        )
        _print_rollout(service.stub.Promote(request, timeout=TIMEOUT_SECONDS).rollout)


@app.command("rollback")
def rollback(
    policy: Policy = "",
    reason: Annotated[str, typer.Option(help="For people; kept in the history.")] = "",
    target: Target = _DEFAULT_TARGET,
    namespace: Namespace = "",
    service_namespace: ServiceNamespace = "",
    context: Context = "",
) -> None:
    """Withdraw the candidate, or, where there is none, go back from the active version to the one before."""
    with policy_service(ServicePlace(target, namespace, service_namespace, context)) as service:
        request = pb.RollBackRequest(policy=service.key(policy), reason=reason)
        _print_rollout(service.stub.RollBack(request, timeout=TIMEOUT_SECONDS).rollout)


@app.command("train")
def train(
    policy: Policy = "",
    force: Annotated[bool, typer.Option("--force", help="Although there are few new outcomes.")] = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait until it ends.")] = True,
    target: Target = _DEFAULT_TARGET,
    namespace: Namespace = "",
    service_namespace: ServiceNamespace = "",
    context: Context = "",
) -> None:
    """Start a training now; where one runs already, follow it."""
    console = Console(highlight=False)
    with policy_service(ServicePlace(target, namespace, service_namespace, context)) as service:
        key = service.key(policy)
        request = pb.StartTrainingRequest(policy=key, force=force)
        started = service.stub.StartTraining(request, timeout=TIMEOUT_SECONDS)
        if not follow:
            console.print(f"training {started.training} of {key}")
            return
        last = _follow(service, key, console)
    console.print(escape(f"{last.phase}: {last.line}"))
    if last.phase == "failed":
        raise typer.Exit(1)
    if last.version:
        console.print(f"More: pointsman policies show {key} --version {last.version}", style="dim")


def _follow(service: PolicyService, key: str, console: Console) -> pb.TrainingProgress:
    """Show a training until it ends; a training that is left goes on by itself."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[line]}", markup=False),
    )
    last = pb.TrainingProgress()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("waiting", total=1.0, line="")
        for last in service.stub.WatchTraining(pb.WatchTrainingRequest(policy=key)):
            bar.update(task, description=last.phase, completed=last.share, line=last.line)
    return last


def _details(report: pb.VersionReport) -> dict[str, Any]:
    if report.problem or not report.details:
        raise UsageError(f"version {report.id.version} is damaged: {report.problem or 'it cannot be read any more'}")
    details: dict[str, Any] = json.loads(report.details)
    return details


def _draw(key: str, report: pb.VersionReport, details: dict[str, Any], png: Path) -> None:
    with needs_extra("policy"):
        from pointsman_policy.documents import parse
        from pointsman_policy.evaluation.gate_plot import plot_gate
        from pointsman_policy.registry.version import GateReport
    if details["gate"] is None or not details["gate"]["scenarios"]:
        raise UsageError(f"version {report.id.version} was never judged in scenarios: there is nothing to draw")
    plot_gate(parse(GateReport, details["gate"], report.id.version), f"{key} {report.id.version}", png)


def _print_rollout(rollout: pb.RolloutReport) -> None:
    console = Console(highlight=False)
    console.print(tables.rollouts_table([rollout]))
    _print_problem(console, rollout)


def _print_problem(console: Console, rollout: pb.RolloutReport) -> None:
    if rollout.problem:
        console.print(f"[red]{escape(rollout.policy)}:[/] {escape(rollout.problem)}")


def _as_dict(message: pb.RolloutReport | pb.VersionReport) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _print_json(document: object) -> None:
    typer.echo(json.dumps(document, indent=2))
