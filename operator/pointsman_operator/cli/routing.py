"""`pointsman route`, `experts` and `explain`: a router's decisions from the command line."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pointsman.routing.v1 import routing_pb2 as pb
from pointsman_operator.cli.ask import Where, routers
from pointsman_operator.errors import UsageError

Target = Annotated[str, typer.Option(envvar="POINTSMAN_TARGET", help="The router's gRPC address.")]
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-n", help="Ask the routers of a cluster, by the kubeconfig: the policy's namespace."),
]
RouterNamespace = Annotated[str, typer.Option(help="With --namespace: the routers' namespace; default: any.")]
Context = Annotated[str, typer.Option(help="With --namespace: the kubeconfig's context; default: its current one.")]
Json = Annotated[bool, typer.Option("--json", help="Print the response as JSON.")]
Model = Annotated[str, typer.Option(help='What a client puts in "model".')]

_DEFAULT_TARGET = "127.0.0.1:9002"
_TIMEOUT_SECONDS = 10.0
_MISSING = "-"


def route(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[POLICY] [PROMPT]",
            help="The RouterPolicy, with --namespace only; the prompt, where '-' reads it from standard input.",
        ),
    ] = None,
    model: Model = "auto",
    prompt_tokens: Annotated[int, typer.Option(min=0, help="Tokens in the prompt; 0 = estimate.")] = 0,
    max_tokens: Annotated[int, typer.Option(min=0, help="Most tokens of the answer; 0 = no limit.")] = 0,
    ttft_ms: Annotated[float | None, typer.Option(min=0, help="Time to first token; 0 = no such objective.")] = None,
    tpot_ms: Annotated[float | None, typer.Option(min=0, help="Time per token after the first.")] = None,
    ntpot_ms: Annotated[float | None, typer.Option(min=0, help="Whole time divided by tokens.")] = None,
    priority: Annotated[int, typer.Option(min=-1000, max=1000, help="Below 0 may be shed first.")] = 0,
    target: Target = _DEFAULT_TARGET,
    namespace: Namespace = "",
    router_namespace: RouterNamespace = "",
    context: Context = "",
    as_json: Json = False,
) -> None:
    """Ask for one decision, without sending the request anywhere (the decision expires by itself)."""
    objectives = pb.Objectives()
    for name, value in (("ttft_seconds", ttft_ms), ("tpot_seconds", tpot_ms), ("ntpot_seconds", ntpot_ms)):
        if value is not None:
            setattr(objectives, name, value / 1e3)
    policy, prompt = _policy_and_prompt(words or [], in_cluster=bool(namespace), model=model)
    with routers(Where(target, namespace, router_namespace, context)) as some:
        request = pb.RouteRequest(
            model=some.model(policy, model),
            prompt=sys.stdin.read() if prompt == "-" else prompt,
            prompt_token_count=prompt_tokens,
            max_output_token_count=max_tokens,
            objectives=objectives,
            priority=priority,
        )
        response: pb.RouteResponse = some.ask(lambda stub: stub.Route(request, timeout=_TIMEOUT_SECONDS))
    if as_json:
        _print_json(response)
        return
    console = Console()
    console.print(f"Decision [bold]{response.decision_id}[/] by {_picker(response)} under policy {response.policy}")
    console.print(response.reason, highlight=False, markup=False)
    console.print(_candidates(response.endpoints, "In order of preference"))
    place = f" -n {namespace}" if namespace else ""
    console.print(f"More: pointsman explain{place} {response.decision_id}", style="dim")


def experts(
    policy: Annotated[str, typer.Argument(help="The RouterPolicy; not needed where there is one only.")] = "",
    model: Model = "auto",
    target: Target = _DEFAULT_TARGET,
    namespace: Namespace = "",
    router_namespace: RouterNamespace = "",
    context: Context = "",
    as_json: Json = False,
) -> None:
    """Show a policy's experts and what the router believes of them now."""
    with routers(Where(target, namespace, router_namespace, context)) as some:
        request = pb.ListExpertsRequest(model=some.model(policy, model))
        response: pb.ListExpertsResponse = some.ask(lambda stub: stub.ListExperts(request, timeout=_TIMEOUT_SECONDS))
    if as_json:
        _print_json(response)
        return
    table = _table(
        f"Experts of policy {response.policy}",
        ("Expert", "Endpoint", "Model", "GPU"),
        ("Ready", "Run", "Wait", "KV", "Age s", "Open", "Quality"),
    )
    for expert in response.experts:
        table.add_row(
            expert.name,
            expert.endpoint,
            escape(expert.model),
            escape(expert.gpu) or _MISSING,
            "yes" if expert.ready else "[red]no[/]",
            f"{expert.running_request_count:.1f}",
            f"{expert.waiting_request_count:.1f}",
            f"{expert.kv_cache_utilization_ratio:.0%}" if expert.HasField("kv_cache_utilization_ratio") else _MISSING,
            f"{expert.telemetry_age_seconds:.1f}" if expert.HasField("telemetry_age_seconds") else "[yellow]never[/]",
            str(expert.in_flight_count),
            f"{expert.quality_prior:.2f}",
        )
    Console().print(table)


def explain(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[POLICY] DECISION_ID", help="As in a response, or in Envoy's access log."),
    ],
    target: Target = _DEFAULT_TARGET,
    namespace: Namespace = "",
    router_namespace: RouterNamespace = "",
    context: Context = "",
    as_json: Json = False,
) -> None:
    """Show why a recent decision went where it did: every candidate's predictions and score."""
    if len(words) > 2 or (len(words) == 2 and not namespace):
        raise UsageError("give one decision id; a RouterPolicy may stand before it with --namespace only")
    request = pb.GetDecisionRequest(decision_id=words[-1])
    with routers(Where(target, namespace, router_namespace, context)) as some:
        response: pb.GetDecisionResponse = some.ask(
            lambda stub: stub.GetDecision(request, timeout=_TIMEOUT_SECONDS), until_known=True
        )
    if as_json:
        _print_json(response)
        return
    console = Console()
    console.print(
        f"Decision [bold]{response.decision_id}[/] by {_picker(response)}, {response.age_seconds:.1f} s ago, "
        f"policy {response.policy}"
    )
    console.print(response.reason, highlight=False, markup=False)
    for fallback in response.fallbacks:
        console.print(f"[yellow]did not answer:[/] {escape(fallback)}", highlight=False)
    objectives = ", ".join(
        f"{name.removesuffix('_seconds').upper()} {value * 1e3:g} ms"
        for name, value in ((field.name, value) for field, value in response.objectives.ListFields())
        if value
    )
    console.print(
        f"Prompt {response.prompt_token_count} tokens, objectives {objectives or 'none'}, "
        f"load {response.load_ratio:.2f}",
        highlight=False,
    )
    console.print(_candidates(response.candidates, "Candidates, best first"))
    if response.HasField("outcome"):
        console.print(_outcome(response.outcome), highlight=False)


def _policy_and_prompt(words: Sequence[str], *, in_cluster: bool, model: str) -> tuple[str, str]:
    """Return what the command's words are: in a cluster the policy goes first, unless --model names it."""
    names_policy = in_cluster and model == "auto"
    if len(words) > (2 if names_policy else 1):
        raise UsageError("give the prompt as one argument, in quotes; a RouterPolicy before it with --namespace only")
    if names_policy:
        return (words[0] if words else ""), (words[1] if len(words) == 2 else "")
    return "", (words[0] if words else "")


def _picker(response: pb.RouteResponse | pb.GetDecisionResponse) -> str:
    """Name the picker, and the version of its parameters where it has one."""
    return f"{response.picker} {response.policy_version}".rstrip()


def _outcome(outcome: pb.ReportOutcomeRequest) -> str:
    """Say how it went; what is 0 is unknown."""
    status = pb.OutcomeStatus.Name(outcome.status).removeprefix("OUTCOME_STATUS_").lower()
    tokens = outcome.output_token_count or _MISSING
    duration = f"{outcome.duration_seconds:.2f} s" if outcome.duration_seconds else _MISSING
    ttft = f"{outcome.ttft_seconds * 1e3:.0f} ms" if outcome.ttft_seconds else _MISSING
    served = f" by {outcome.endpoint}" if outcome.endpoint else ""
    return f"Outcome: {status}{served}, tokens {tokens}, duration {duration}, TTFT {ttft}"


def _candidates(candidates: Sequence[pb.Candidate], title: str) -> Table:
    excluded = ("Excluded",) if any(one.exclusion for one in candidates) else ()
    columns = ("Score", "Quality", "P(met)", "TTFT ms", "NTPOT ms", "Tokens", "Impact", *excluded)
    table = _table(title, ("Expert", "Endpoint"), columns)
    for one in candidates:
        table.add_row(
            one.expert,
            one.endpoint,
            f"{one.score:.3f}" if one.HasField("score") else _MISSING,
            f"{one.quality:.2f}",
            f"{one.slo_probability:.2f}",
            f"{one.ttft_seconds * 1e3:.0f}",
            f"{one.ntpot_seconds * 1e3:.1f}",
            f"{one.output_token_count:.0f}",
            f"{one.impact:.3f}",
            *((one.exclusion,) if excluded else ()),
        )
    return table


def _table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """Return an empty table that fits 80 columns as far as its contents allow."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in texts:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _print_json(message: Message) -> None:
    typer.echo(
        json.dumps(
            MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True),
            indent=2,
        )
    )
