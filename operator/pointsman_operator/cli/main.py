"""The `pointsman` command: what it offers, and how its errors look."""

import logging
import sys

import grpc
import typer
from rich.console import Console

from pointsman_operator.cli import (
    bench,
    check,
    conformance,
    data,
    demo,
    envoy_config,
    expert_sim,
    operator,
    policies,
    policy,
    predictor,
    routing,
    run_router,
    train,
)
from pointsman_policy.errors import PointsmanError

app = typer.Typer(
    name="pointsman",
    help="A QoS-aware router for LLM requests: one decision picks model and replica.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("router")(run_router.router)
app.command("operator")(operator.operator)
app.command("policy")(policy.policy)
app.command("expert-sim")(expert_sim.expert_sim)
app.command("route")(routing.route)
app.command("experts")(routing.experts)
app.command("explain")(routing.explain)
app.command("check")(check.check)
app.command("conformance")(conformance.conformance)
app.command("envoy-config")(envoy_config.envoy_config)
app.command("envoy-drain")(envoy_config.envoy_drain)
app.command("train")(train.train)
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
app.add_typer(policies.app, name="policies")
app.add_typer(predictor.app, name="predictor")

USAGE_ERROR = 2
"""Exit code for wrong arguments and wrong documents."""
FAILURE = 1
"""Exit code for everything else that went wrong."""


def main() -> None:
    """Run the command line; known errors become one line and an exit code, without a traceback.

    Wrong usage is typer's to report. A command that ends with another code than 0 raises `typer.Exit`.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    error_console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        app()
    except PointsmanError as error:
        error_console.print(f"[red]Error:[/] {_escape(str(error))}")
        sys.exit(USAGE_ERROR)
    except grpc.RpcError as error:
        error_console.print(f"[red]Error:[/] {_escape(_describe(error))}")
        sys.exit(FAILURE)
    except (OSError, RuntimeError) as error:
        error_console.print(f"[red]Error:[/] {_escape(str(error))}")
        sys.exit(FAILURE)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def _describe(error: grpc.RpcError) -> str:
    code, details = error.code(), error.details()
    if code is grpc.StatusCode.UNAVAILABLE and "connect" in (details or "").lower():
        return f"no router answers ({details}); start one with `pointsman router`, or name it with --target HOST:PORT"
    return f"{code.name}: {details}"
