from pathlib import Path

import pytest
import yaml
from tests.unit.cli.conftest import Run
from tests.unit.routing import policy


def write(folder: Path, **files: object) -> tuple[object, ...]:
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return ("--policy", folder / "policy.yaml", "--experts", folder / "experts.yaml", "--listen", "127.0.0.1:0")


def test_help_names_every_command(run: Run) -> None:
    result = run("--help")
    assert result.code == 0
    for command in (
        "demo",
        "router",
        "expert-sim",
        "route",
        "experts",
        "explain",
        "conformance",
        "envoy-config",
        "train",
        "bench",
    ):
        assert command in result.out


@pytest.mark.parametrize(
    "command", ["router", "envoy-config", "route", "experts", "explain", "expert-sim", "train", "conformance"]
)
def test_every_option_is_explained(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.code == 0
    for line in result.out.splitlines():
        if "--" in line and "│" in line:
            words = line.strip("│ *").split("  ")
            assert len([word for word in words if word.strip()]) > 1, line


@pytest.mark.parametrize(
    ("policies", "experts", "message"),
    [
        ("kind: nonsense", {"experts": []}, "policy.yaml"),
        (None, {"experts": []}, "policy.yaml"),
        ("good", {"experts": [{"name": "a"}]}, "experts.yaml"),
        ("good", {"experts": [], "profiles": "none.csv"}, "none.csv"),
    ],
)
def test_a_router_with_wrong_files_does_not_start_and_says_why(
    run: Run, tmp_path: Path, policies: str | None, experts: object, message: str
) -> None:
    good = policy(picker="ShortestQueue").model_dump(mode="json", by_alias=True)
    documents = {} if policies is None else {"policy": good if policies == "good" else policies}
    result = run("router", *write(tmp_path, **documents, experts=experts))
    assert result.code == 2
    assert result.err.startswith("Error: ")
    assert message in result.err
    assert "Traceback" not in result.err


def test_a_router_that_cannot_tell_envoy_does_not_start(run: Run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    good = policy(picker="ShortestQueue").model_dump(mode="json", by_alias=True)
    files = write(tmp_path, policy=good, experts={"experts": []})
    result = run("router", *files, "--envoy-endpoints", tmp_path / "taken" / "endpoints.json")
    assert result.code == 2
    assert "name another file with --envoy-endpoints" in result.err


def test_the_sidecars_configuration_is_printed(run: Run, tmp_path: Path) -> None:
    result = run("envoy-config", "--endpoints", tmp_path / "eds.json", "--router", "127.0.0.1:9002")
    assert result.code == 0
    document = yaml.safe_load(result.out)
    assert {cluster["name"] for cluster in document["static_resources"]["clusters"]} == {"experts", "router"}
    assert str(tmp_path / "eds.json") in result.out


def test_a_router_address_that_is_none_is_refused(run: Run, tmp_path: Path) -> None:
    result = run("envoy-config", "--endpoints", tmp_path / "eds.json", "--router", "localhost")
    assert result.code == 2
    assert 'must be "ip:port"' in result.err
