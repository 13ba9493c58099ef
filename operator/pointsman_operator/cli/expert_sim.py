"""`pointsman expert-sim`: emulated experts."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
import yaml

from pointsman_operator.cli.extras import needs_extra


def expert_sim(
    experts: Annotated[
        Path | None, typer.Option(help="The experts.yaml; every expert gets a server at its endpoint.")
    ] = None,
    listen: Annotated[str, typer.Option(help='Or one expert at this "ip:port", without a file.')] = "",
    model: Annotated[str, typer.Option(help="Its model.")] = "emulated",
    gpu: Annotated[str, typer.Option(help="Its GPU, which says how fast it is.")] = "",
    served_model_name: Annotated[
        list[str] | None, typer.Option(help="A name that it accepts, its own first; may be given several times.")
    ] = None,
    scores: Annotated[Path | None, typer.Option(help="Quality table that answers come from; default: drawn.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="The prompts of the quality table.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the answers that are in no table.")] = 0,
) -> None:
    """Serve emulated experts: OpenAI's API and vLLM's metrics at the speed of their profiles, until stopped."""
    if (experts is None) == (not listen):
        raise typer.BadParameter("give either --experts FILE or --listen IP:PORT")
    with needs_extra("simulator"):
        from pointsman_policy.simulator.server.run import serve_experts
    if experts is not None:
        serve_experts(experts, scores, prompts, seed)
        return
    expert = {"name": "expert", "endpoint": listen, "model": model, "gpu": gpu}
    document = {"experts": [expert | {"servedModelNames": served_model_name or [model]}]}
    with tempfile.TemporaryDirectory(prefix="pointsman-") as folder:
        path = Path(folder) / "experts.yaml"
        path.write_text(yaml.safe_dump(document), "utf-8")
        serve_experts(path, scores, prompts, seed)
