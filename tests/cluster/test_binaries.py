"""Where the control plane's programs come from, and which addresses a cluster takes."""

from pathlib import Path

import pytest
from tests.cluster import binaries
from tests.cluster.addresses import AddressBlock, hosts


def folder_with(folder: Path, *programs: str) -> Path:
    for program in programs:
        (folder / program).touch()
    return folder


def test_a_folder_with_all_programs_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, *binaries.PROGRAMS)
    found = binaries.find_or_build({binaries.ASSETS_VARIABLE: str(folder)})
    assert (found.etcd, found.scheduler) == (folder / "etcd", folder / "kube-scheduler")


def test_what_a_folder_lacks_comes_from_the_cache(tmp_path: Path) -> None:
    assets, cache = tmp_path / "assets", tmp_path / "cache"
    assets.mkdir()
    folder_with(assets, "etcd", "kube-apiserver")
    environment = {binaries.ASSETS_VARIABLE: str(assets), "XDG_CACHE_HOME": str(cache)}
    built = binaries.cache_folder(environment)
    built.mkdir(parents=True)
    found = binaries.find_or_build(environment)
    assert found.api_server == assets / "kube-apiserver"
    assert found.controller_manager == built / "kube-controller-manager"
    assert cache in built.parents


def test_a_folder_without_an_api_server_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "etcd")
    with pytest.raises(binaries.NoBinariesError, match=r"KUBEBUILDER_ASSETS=.* holds no kube-apiserver; name another"):
        binaries.find_or_build({binaries.ASSETS_VARIABLE: str(folder)})


def test_a_build_that_fails_says_why_and_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "recipe.sh"
    recipe.write_text("echo no compiler; exit 3")
    monkeypatch.setattr(binaries, "RECIPE", recipe)
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    with pytest.raises(binaries.NoBinariesError, match="no compiler"):
        binaries.find_or_build(environment)
    assert not binaries.cache_folder(environment).exists()


def test_another_recipe_means_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = binaries.cache_folder({})
    recipe = tmp_path / "recipe.sh"
    recipe.write_text("other")
    monkeypatch.setattr(binaries, "RECIPE", recipe)
    assert binaries.cache_folder({}) != before


def test_the_version_is_asked_of_the_program(tmp_path: Path) -> None:
    program = tmp_path / "kube-scheduler"
    program.write_text("#!/bin/sh\necho Kubernetes v1.31.4")
    program.chmod(0o755)
    assert binaries.minor_version(program) == 31
    program.write_text("#!/bin/sh\necho nonsense")
    with pytest.raises(binaries.NoBinariesError, match="nonsense"):
        binaries.minor_version(program)


def test_two_clusters_never_share_addresses() -> None:
    with AddressBlock() as one, AddressBlock() as other:
        assert one.services != other.services
        assert next(hosts(one.services)).startswith("127.")
        taken = {next(hosts(one.services)), next(hosts(one.pods)), one.control_plane(1)}
        assert len(taken) == 3
