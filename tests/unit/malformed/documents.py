"""The files that say how to route: read at the start, and watched by a router that runs on when they become wrong."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from tests.unit.malformed.case import Case, Surface, Trial, without_folder, write

from pointsman_operator.discovery.file import ExpertFile, PolicyFile
from pointsman_operator.routerpolicy import read_policies
from pointsman_policy.errors import DocumentError
from pointsman_policy.experts import read_experts
from pointsman_policy.pickers.registry import PICKERS

TICK_SECONDS = 0.002

POLICY = """\
apiVersion: pointsman.io/v1alpha1
kind: RouterPolicy
metadata: {name: chat, namespace: edge}
spec:
  modelName: edge-chat
  experts: {selector: {matchLabels: {app: llm}}}
  picker: {name: ImpactGreedy, fallback: [ShortestQueue]}
  telemetry: {source: DirectScrape}
"""
EXPERTS = """\
experts:
  - {name: small, endpoint: "10.0.0.1:8000", model: gemma-2-2b, labels: {app: llm}}
  - {name: large, endpoint: "10.0.0.2:8000", model: gemma-2-9b, labels: {app: llm}}
"""


def policy(old: str, new: str) -> str:
    """Return the good policy with one part of it replaced."""
    assert old in POLICY
    return POLICY.replace(old, new)


def experts(old: str, new: str) -> str:
    """Return the good experts with one part of them replaced, once."""
    assert old in EXPERTS
    return EXPERTS.replace(old, new, 1)


@asynccontextmanager
async def _watched(
    path: Path, good: str, store: PolicyFile | ExpertFile, content: Callable[[], object], read: Callable[[], object]
) -> AsyncIterator[Trial]:
    """Watch a file: a malformed version is refused at the start and, while it is watched, changes nothing."""
    before = content()

    async def give(given: str | bytes) -> str:
        write(path, given)
        await _until(lambda: store.problem is not None)
        assert content() == before
        with pytest.raises(DocumentError) as caught:
            read()
        assert str(caught.value) == store.problem
        return without_folder(str(caught.value), path.parent)

    async def works() -> None:
        write(path, good)
        await _until(lambda: store.problem is None)
        assert content() == before
        assert not watching.done()

    watching = asyncio.create_task(store.run())
    try:
        yield Trial(give, works)
    finally:
        watching.cancel()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the file is polled, too
            await asyncio.sleep(TICK_SECONDS)


def _watch_policies(folder: Path) -> AbstractAsyncContextManager[Trial]:
    path = folder / "policy.yaml"
    write(path, POLICY)
    store = PolicyFile(path, PICKERS, interval_seconds=TICK_SECONDS)
    return _watched(path, POLICY, store, store.policies, lambda: read_policies(path, PICKERS))


def _watch_experts(folder: Path) -> AbstractAsyncContextManager[Trial]:
    path = folder / "experts.yaml"
    write(path, EXPERTS)
    store = ExpertFile(path, interval_seconds=TICK_SECONDS)
    return _watched(path, EXPERTS, store, store.endpoints, lambda: read_experts(path))


POLICY_FILE = Surface(
    "Policy file",
    "`pointsman router` does not start with it (exit code 2). One that runs logs it, shows it at `/debug/state`, and "
    "goes on with the last policies that were right.",
    _watch_policies,
    (
        Case("not YAML", "spec: [", "policy.yaml: is not valid YAML at line 1, column 8: …"),
        Case("not text", b"\xff\xfe\x00", "policy.yaml: is not UTF-8 text (byte 0); save it as UTF-8"),
        Case("empty", "\n", "policy.yaml: holds no RouterPolicy; write at least one document"),
        Case("a list", "- spec\n", "policy.yaml: must be a mapping with the keys of RouterPolicy, not list"),
        Case(
            "misspelt field",
            policy("modelName", "modelname"),
            "policy.yaml: spec.modelName: required field is missing; spec.modelname: unknown field; "
            "did you mean modelName?",
        ),
        Case(
            "missing field",
            policy("  modelName: edge-chat\n", ""),
            "policy.yaml: spec.modelName: required field is missing",
        ),
        Case(
            "a picker that does not exist",
            policy("ImpactGreedy", "ImpactGready"),
            "policy.yaml: spec.picker.name: no picker is called 'ImpactGready'; did you mean "
            "ImpactGreedy? there are HanActor, ImpactGreedy, LeastKv, PowerOfTwo, QualityFirst, Random, "
            "RoundRobin, ShortestQueue, SloFilteredQuality, StaticPrior, WeightedScore",
        ),
        Case(
            "fallback to itself",
            policy("[ShortestQueue]", "[ImpactGreedy]"),
            "policy.yaml: spec.picker: fallback names the picker itself (ImpactGreedy); remove it from fallback",
        ),
        Case(
            "Prometheus without its address",
            policy("DirectScrape", "Prometheus"),
            "policy.yaml: spec.telemetry: source Prometheus needs prometheusUrl, such as "
            '"http://prometheus:9090"; set it, or set source: DirectScrape to read the experts '
            "themselves",
        ),
        Case(
            "a password in the address of Prometheus",
            policy("{source: DirectScrape}", '{prometheusUrl: "http://me:secret@prometheus:9090"}'),
            "policy.yaml: spec.telemetry: prometheusUrl must not hold a user or password; a policy is readable by many",
        ),
        Case(
            "an objective with a fraction",
            policy("  picker", "  objectives: {timeToFirstTokenMilliseconds: 0.5}\n  picker"),
            "policy.yaml: spec.objectives.timeToFirstTokenMilliseconds: Input should be a valid integer (got 0.5)",
        ),
        Case(
            "an objective below 0",
            policy("  picker", "  objectives: {timeToFirstTokenMilliseconds: -1}\n  picker"),
            "policy.yaml: spec.objectives.timeToFirstTokenMilliseconds: Input should be greater than "
            "or equal to 0 (got -1)",
        ),
        Case(
            "the reserved model name",
            policy("edge-chat", "auto"),
            'policy.yaml: spec.modelName: "auto" is reserved for "the only policy there is"; choose '
            "another model name (got 'auto')",
        ),
        Case(
            "another kind",
            policy("RouterPolicy", "Deployment"),
            "policy.yaml: kind: Input should be 'RouterPolicy' (got 'Deployment')",
        ),
        Case(
            "another version of the API",
            policy("v1alpha1", "v2"),
            "policy.yaml: apiVersion: Input should be 'pointsman.io/v1alpha1' (got 'pointsman.io/v2')",
        ),
        Case(
            "two policies for one model",
            POLICY + "---\n" + policy("name: chat", "name: talk"),
            "policy.yaml: two policies have the modelName 'edge-chat'; each needs its own",
        ),
    ),
)

EXPERTS_FILE = Surface(
    "Experts file",
    "As for a policy file; `pointsman expert-sim` does not start with it either.",
    _watch_experts,
    (
        Case("no experts key", "{}", "experts.yaml: experts: required field is missing"),
        Case(
            "a host name for an address",
            experts("10.0.0.1:8000", "small.edge:8000"),
            "experts.yaml: experts[0].endpoint: must be \"ip:port\" with a literal IP address (got 'small.edge:8000')",
        ),
        Case(
            "no port",
            experts("10.0.0.1:8000", "10.0.0.1"),
            "experts.yaml: experts[0].endpoint: must be \"ip:port\" with a literal IP address (got '10.0.0.1')",
        ),
        Case(
            "two experts of one name",
            experts("name: large", "name: small"),
            "experts.yaml: two experts have the name 'small'; each needs its own",
        ),
        Case(
            "two experts at one address",
            experts("10.0.0.2", "10.0.0.1"),
            "experts.yaml: two experts have the endpoint '10.0.0.1:8000'; each needs its own",
        ),
        Case(
            "unknown engine",
            experts("labels", "engine: ollama, labels"),
            "experts.yaml: experts[0].engine: Input should be 'vllm', 'sglang', 'tgi', 'llamacpp' or "
            "'triton' (got 'ollama')",
        ),
        Case(
            "a percentage above 100",
            experts("labels", "qualityPriorPercent: 140, labels"),
            "experts.yaml: experts[0].qualityPriorPercent: Input should be less than or equal to 100 (got 140)",
        ),
        Case(
            "upper case in a name",
            experts("name: small", "name: Small"),
            "experts.yaml: experts[0].name: must be 1 to 63 lower-case letters, digits, '-' or '.', "
            "with a letter or digit at both ends (got 'Small')",
        ),
        Case(
            "no iteration time",
            experts("labels", "iterationTime: {baseMilliseconds: 0}, labels"),
            "experts.yaml: experts[0].iterationTime.baseMilliseconds: Input should be greater than 0 "
            "(got 0); experts[0].iterationTime.perSequenceMilliseconds: required field is missing; "
            "experts[0].iterationTime.perContextTokenMilliseconds: required field is missing; "
            "experts[0].iterationTime.perPrefillTokenMilliseconds: required field is missing",
        ),
        Case(
            "yes for true",
            experts("labels", 'ready: "maybe", labels'),
            "experts.yaml: experts[0].ready: Input should be a valid boolean, unable to interpret input (got 'maybe')",
        ),
        Case(
            "two documents",
            EXPERTS + "---\n" + EXPERTS,
            "experts.yaml: must hold exactly one YAML document with the key 'experts', found 2",
        ),
    ),
)
