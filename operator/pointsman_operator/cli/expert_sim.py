"""`pointsman expert-sim`: emulated experts."""

from pathlib import Path
from typing import Annotated

import typer

from pointsman_operator.cli.extras import needs_extra


def expert_sim(
    experts: Annotated[Path, typer.Option(help="The experts.yaml; every expert gets a server at its endpoint.")],
    scores: Annotated[Path | None, typer.Option(help="Quality table that answers come from; default: drawn.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="The prompts of the quality table.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the answers that are in no table.")] = 0,
) -> None:
    """Serve emulated experts: OpenAI's API and vLLM's metrics at the speed of their profiles, until stopped."""
    with needs_extra("simulator"):
        from pointsman_policy.simulator.server.run import serve_experts
    serve_experts(experts, scores, prompts, seed)
