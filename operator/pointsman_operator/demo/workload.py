"""What the demo sends: a scenario with the user's own files put in, its prompts, and the answers they will get."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from pointsman_operator.demo.messages import LoadPlan, PlannedRequest
from pointsman_operator.demo.settings import DemoSettings
from pointsman_policy.documents import parse, read_yaml
from pointsman_policy.errors import DocumentError
from pointsman_policy.simulator.sample import data_folder
from pointsman_policy.simulator.scenario import Scenario, resolve_scenario
from pointsman_policy.simulator.scenario_document import ScenarioDocument
from pointsman_policy.simulator.workload import Workload, build_workload, fleet_capacity

_PLAIN_EVERY = 10
"""One request in so many is not streamed."""
_PRIORITY_HEADER = "x-llm-d-inference-objective"
_TTFT_HEADER, _TPOT_HEADER = "x-llm-d-slo-ttft-ms", "x-llm-d-slo-tpot-ms"


@dataclass(frozen=True, slots=True, eq=False)
class DemoWorkload:
    """The requests of one run, the same for every rule."""

    scenario: Scenario
    load: float
    """Mean arrival rate over the fleet's capacity."""
    requests: Workload
    objectives: npt.NDArray[np.float64]
    """TTFT, TPOT and NTPOT of each request, seconds, 0 = none, [n, 3]. Who does not stream has no first token to wait
    for, and so neither a TTFT nor a TPOT objective."""
    streamed: npt.NDArray[np.bool_]
    """[n]"""

    @property
    def span_seconds(self) -> float:
        """From the start to the last arrival."""
        return float(self.requests.arrival_seconds[-1])

    @property
    def rate(self) -> float:
        """Mean requests per second to each rule."""
        return len(self.requests) / max(self.span_seconds, 1e-3)

    @property
    def prompts(self) -> list[str]:
        """The prompt of each request."""
        table = self.scenario.table
        texts = table.prompts if table is not None else None
        if texts is None:
            raise ValueError("a demo's scenario has prompts")
        return [texts[row] for row in self.requests.prompt_index.tolist()]

    def expert_of(self) -> dict[str, int]:
        """Return, for each quality model, the column of the workload that holds its answers."""
        models = [expert.quality_model for expert in self.scenario.experts]
        return {model: models.index(model) for model in self.scenario.quality_models}


def read_workload(settings: DemoSettings) -> DemoWorkload:
    """Read the scenario and draw its requests.

    Raises:
        DocumentError: If a file is unusable, or the scenario has no prompts that could be sent.
    """
    path = settings.scenario or data_folder().with_name("scenarios") / "demo.yaml"
    document = parse(ScenarioDocument, _put_in(_read(path), settings), str(path))
    scenario = resolve_scenario(document, path.parent, str(path))
    if scenario.table is None or scenario.table.prompts is None or document.lengths.prompt.kind != "fromPrompts":
        raise DocumentError(
            str(path),
            "the demo sends real prompts at their own lengths; set quality.scores with quality.prompts, or "
            "quality.mixInstruct, and lengths.prompt.kind fromPrompts",
        )
    load = settings.load or document.load_factors[0]
    count = settings.requests or max(round(load * fleet_capacity(scenario) * settings.seconds), 1)
    scenario = replace(scenario, document=document.model_copy(update={"requests": count}))
    requests = build_workload(scenario, load, settings.seed)
    streamed = np.arange(count) % _PLAIN_EVERY != _PLAIN_EVERY - 1
    objectives = requests.objectives.copy()
    objectives[~streamed, :2] = 0.0
    return DemoWorkload(scenario, load, requests, objectives, streamed)


def _read(path: Path) -> Any:
    documents = read_yaml(path)
    if len(documents) != 1:
        raise DocumentError(str(path), f"must hold exactly one YAML document, found {len(documents)}")
    return documents[0]


def _put_in(raw: Any, settings: DemoSettings) -> Any:
    """Return a scenario document with the user's files in the places of its own."""
    if not isinstance(raw, Mapping):
        return raw
    if (settings.scores is None) != (settings.prompts is None):
        given, missing = ("scores", "prompts") if settings.prompts is None else ("prompts", "scores")
        raise DocumentError(
            f"--{given}", f"the demo needs scores and the prompts they belong to; give --{missing} as well"
        )
    changed = dict(raw)
    if settings.trace is not None:
        changed["arrivals"] = {"kind": "trace", "trace": str(settings.trace.absolute())}
    if settings.scores is not None:
        split = {key: value for key, value in (raw.get("quality") or {}).items() if key in ("fitPercent", "splitSeed")}
        changed["quality"] = {
            **split,
            "scores": str(settings.scores.absolute()),
            "prompts": str(settings.prompts and settings.prompts.absolute()),
        }
        changed["lengths"] = {}
    return changed


def load_plan(
    workload: DemoWorkload,
    url: str,
    models: tuple[str, ...],
    patience_seconds: float,
    judge_url: str = "",
    judgements: Sequence[Mapping[str, float]] | None = None,
) -> LoadPlan:
    """Return what the load process is to send.

    Args:
        workload: What to send.
        url: Where chat completions are posted.
        models: What to put into "model", one for each rule.
        patience_seconds: After so long without the whole answer, a client gives up.
        judge_url: The router's admin port, where judgements are posted.
        judgements: What a judge says of each model's answer, for each request; None = nobody judges.
    """
    requests = workload.requests
    rows = zip(
        requests.arrival_seconds.tolist(),
        workload.prompts,
        workload.streamed.tolist(),
        requests.priority.tolist(),
        judgements or [{}] * len(requests),
        strict=True,
    )
    planned = tuple(
        PlannedRequest(arrival, prompt, streamed, _headers(streamed=streamed, priority=priority), dict(quality))
        for arrival, prompt, streamed, priority, quality in rows
    )
    return LoadPlan(url, models, planned, patience_seconds, judge_url)


def _headers(*, streamed: bool, priority: int) -> dict[str, str]:
    headers = {} if streamed else {_TTFT_HEADER: "0", _TPOT_HEADER: "0"}
    return headers | {_PRIORITY_HEADER: str(priority)} if priority else headers


def write_answers(workload: DemoWorkload, scores: Path, prompts: Path) -> None:
    """Write the quality table that the emulated experts answer from, JSON lines: the workload's prompts and no others.

    A prompt that comes several times gets the answers drawn for its first time.
    """
    requests, columns = workload.requests, workload.expert_of()
    first: dict[str, int] = {}
    for index, prompt in enumerate(workload.prompts):
        first.setdefault(prompt, index)
    encoder = msgspec.json.Encoder()
    with prompts.open("wb") as prompt_file, scores.open("wb") as score_file:
        for prompt, index in first.items():
            row = {
                "prompt_id": f"request-{index}",
                "prompt": prompt,
                "prompt_tokens": requests.prompt_tokens[index].item(),
            }
            prompt_file.write(encoder.encode(row) + b"\n")
            for model, column in columns.items():
                answer = {
                    "prompt_id": f"request-{index}",
                    "model": model,
                    "score": requests.quality[index, column].item(),
                    "out_tokens": requests.output_tokens[index, column].item(),
                }
                score_file.write(encoder.encode(answer) + b"\n")
