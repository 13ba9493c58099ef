"""What people type."""

import re
import sys
from pathlib import Path

import pytest
from tests.unit.malformed.case import Case, without_folder
from tests.unit.malformed.documents import EXPERTS, policy
from tests.unit.malformed.quality import SCENARIO
from tests.unit.malformed.tables import PROMPTS, SCORES

from pointsman_operator.cli.main import main

NAME = "Command line"
WHERE = "On standard error; the number is the exit code. 2: what was given is wrong; 1: something else failed."

FILES = {
    "policy.yaml": policy("ImpactGreedy, fallback: [ShortestQueue]", "ShortestQueue"),
    "experts.yaml": EXPERTS,
    "none.yaml": "",
    "scores.csv": SCORES,
    "prompts.csv": PROMPTS,
    "scenario.yaml": SCENARIO,
}
"""What the folder holds in which the commands are typed."""


def run(arguments: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command in a folder; returns its exit code and the error that it prints, without the usage lines."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "argv", ["pointsman", *arguments.split()])
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    boxed = re.findall(r"^│ (.*?) *│$", printed.err, re.MULTILINE)
    error = " ".join(boxed) if boxed else printed.err.rpartition("Error: ")[2]
    return f"{caught.value.code}: {without_folder(' '.join(error.split()), folder)}"


CASES = (
    Case("an unknown command", "routes", "2: No such command 'routes'.…"),
    Case("an unknown option", "router --police policy.yaml", "2: No such option: --police…"),
    Case(
        "a missing option",
        "router --policy policy.yaml",
        "2: give --policy and --experts, or --kubernetes to find both in a cluster",
    ),
    Case(
        "a policy file that does not exist",
        "router --policy absent.yaml --experts experts.yaml",
        "2: absent.yaml: cannot be read (No such file or directory); check the path and its permissions",
    ),
    Case(
        "an empty experts file",
        "router --policy policy.yaml --experts none.yaml",
        "2: none.yaml: must hold exactly one YAML document with the key 'experts', found 0",
    ),
    Case(
        "the files mixed up",
        "router --policy experts.yaml --experts policy.yaml",
        "2: experts.yaml: apiVersion: required field is missing; kind: required field is missing; "
        "metadata: required field is missing; spec: required field is missing; experts: unknown "
        "field; remove it or check its spelling",
    ),
    Case(
        "a port that does not exist",
        "router --policy policy.yaml --experts experts.yaml --admin-port 70000",
        "2: Invalid value for '--admin-port': …65535…",
    ),
    Case(
        "a negative duration",
        "router --policy policy.yaml --experts experts.yaml --drain-grace -1",
        "2: Invalid value for '--drain-grace': …0…",
    ),
    Case(
        "an address that cannot be listened on",
        "router --policy policy.yaml --experts experts.yaml --admin-port 0 --listen 127.0.0.1:99999",
        "1: cannot listen on '127.0.0.1:99999'; "
        'give an "ip:port" with a literal IP address, or "unix:/path", that no other process has',
    ),
    Case(
        "Envoy's endpoints in a folder that is a file",
        "router --policy policy.yaml --experts experts.yaml --envoy-endpoints none.yaml/endpoints.json",
        "2: none.yaml/endpoints.json: Envoy's endpoints file cannot be written (File exists); "
        "make its folder writable, or name another file with --envoy-endpoints",
    ),
    Case("a word for a number", "route hello --ttft-ms soon", "2: Invalid value for '--ttft-ms': …number…"),
    Case(
        "nobody at the target",
        "route hello --target 127.0.0.1:1",
        "1: no router answers (…); start one with `pointsman router`, or name it with --target HOST:PORT",
    ),
    Case("a missing argument", "explain", "2: Missing argument '…'."),
    Case(
        "a router's address without a port",
        "envoy-config --endpoints endpoints.json --router localhost",
        '2: Invalid value: address \'localhost\' must be "ip:port" with a literal IP address, or "unix:/path"',
    ),
    Case(
        "scores without their prompts",
        "expert-sim --experts experts.yaml --scores scores.csv",
        "2: scores.csv: scores are of use only together with prompts; give both files or neither",
    ),
    Case(
        "a picker that does not exist",
        "bench sim --scenario scenario.yaml --picker ImpactGready",
        "2: --picker: no picker is named 'ImpactGready'; choose from HanActor, ImpactGreedy, LeastKv, "
        "PowerOfTwo, QualityFirst, Random, RoundRobin, ShortestQueue, SloFilteredQuality, "
        "StaticPrior, WeightedScore",
    ),
    Case(
        "a scenario that does not exist",
        "bench sim --scenario absent.yaml",
        "2: absent.yaml: cannot be read (No such file or directory); check the path and its permissions",
    ),
    Case(
        "seeds that are no numbers",
        "bench sim --scenario scenario.yaml --seeds one",
        "2: Invalid value for '--seeds': must be integers separated by commas, such as 1,2,3, not 'one'",
    ),
    Case(
        "a negative seed",
        "bench sim --scenario scenario.yaml --seeds -1",
        "2: --seeds: must be one or more integers of at least 0, such as 1,2,3",
    ),
    Case(
        "results in a file's place",
        "bench sim --scenario scenario.yaml --picker Random --out scores.csv",
        "2: scores.csv: cannot be written to (File exists); choose another folder with --out",
    ),
    Case(
        "a demo of a picker that does not exist",
        "demo --picker Fastest",
        "2: --picker: no picker is named 'Fastest'; choose from HanActor, ImpactGreedy, LeastKv, "
        "PowerOfTwo, QualityFirst, Random, RoundRobin, ShortestQueue, SloFilteredQuality, "
        "StaticPrior, WeightedScore",
    ),
    Case(
        "a demo on scores without prompts",
        "demo --scores scores.csv",
        "2: --scores: the demo needs scores and the prompts they belong to; give --prompts as well",
    ),
    Case(
        "a trained policy that does not exist",
        "router --policy policy.yaml --experts experts.yaml --trained-policy absent",
        "2: absent/manifest.json: cannot be read (No such file or directory); "
        "give a folder written by `pointsman train`",
    ),
    Case(
        "a file in place of a trained policy's folder",
        "bench sim --scenario scenario.yaml --trained-policy scores.csv",
        "2: scores.csv/manifest.json: cannot be read (Not a directory); give a folder written by `pointsman train`",
    ),
    Case("no load", "demo --load 0", "2: Invalid value for '--load': …0.01…"),
)
