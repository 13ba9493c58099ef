"""The programs of the control plane: named by the user, or built once and kept outside the checkout.

``python -m tests.cluster.binaries`` builds them and says where they are.
"""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

RECIPE = Path(__file__).with_name("build-kubernetes.sh")
VERSION = "1.20.2"
ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
REQUIRED_OF_ASSETS = PROGRAMS[:2]
"""What the folder that KUBEBUILDER_ASSETS names must hold, by the convention of envtest."""


class NoBinariesError(RuntimeError):
    """The programs are neither at hand nor could they be built."""


@dataclass(frozen=True)
class Binaries:
    """Where each program of the control plane lies."""

    etcd: Path
    api_server: Path
    controller_manager: Path
    scheduler: Path


def find_or_build(environment: Mapping[str, str] = os.environ) -> Binaries:
    """Return the programs, after building them where they are missing (about 8 minutes on two cores).

    Raises:
        NoBinariesError: KUBEBUILDER_ASSETS names a folder without etcd or kube-apiserver, or the build failed.
    """
    found = _assets(environment)
    if len(found) < len(PROGRAMS):
        folder = _built(cache_folder(environment))
        found = {program: folder / program for program in PROGRAMS} | found
    return Binaries(*(found[program] for program in PROGRAMS))


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the built programs are kept; another recipe means another folder."""
    base = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(RECIPE.read_bytes()).hexdigest()[:12]
    return base / "pointsman" / f"kubernetes-{VERSION}-{digest}"


def minor_version(program: Path) -> int:
    """Return 20 for a program of Kubernetes 1.20."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v1\.(\d+)\.", said)
    if found is None:
        message = f"{program} --version says {said.strip()!r}, which is not a version of Kubernetes 1"
        raise NoBinariesError(message)
    return int(found[1])


def _assets(environment: Mapping[str, str]) -> dict[str, Path]:
    named = environment.get(ASSETS_VARIABLE)
    if not named:
        return {}
    found = {program: Path(named, program) for program in PROGRAMS if Path(named, program).is_file()}
    missing = [program for program in REQUIRED_OF_ASSETS if program not in found]
    if missing:
        message = f"{ASSETS_VARIABLE}={named} holds no {' and no '.join(missing)}; name another folder or unset it"
        raise NoBinariesError(message)
    return found


def _built(folder: Path) -> Path:
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(folder.name + ".log")
    print(f"building Kubernetes {VERSION}, once, about 8 minutes; progress is in {log}", file=sys.stderr)  # noqa: T201
    with log.open("ab") as output:
        ended = subprocess.run(["bash", RECIPE, folder], stdout=output, stderr=subprocess.STDOUT, check=False)
    if ended.returncode:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        message = f"the build of Kubernetes {VERSION} failed; the end of {log}:\n{last}"
        raise NoBinariesError(message)
    return folder


def main() -> None:
    try:
        binaries = find_or_build()
    except NoBinariesError as error:
        sys.exit(str(error))
    print(binaries.api_server.parent)  # noqa: T201


if __name__ == "__main__":
    main()
