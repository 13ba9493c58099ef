"""A training as a job with a work folder: loading, calibrating, training, gating.

Each phase leaves its result in the folder, and a job that was killed goes on after the last one that is there. With a
budget in rounds it then ends as it would have without the interruption; one in minutes counts what was used before.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pointsman_policy.documents import Document
from pointsman_policy.experience.dataset import DEFAULT_COLUMNS, Experience, load
from pointsman_policy.learning.scoring import scorer
from pointsman_policy.learning.training import TrainingPlan, TrainingRun
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.registry.version import (
    GateReport,
    PolicyVersion,
    read_gate,
    read_version,
    write_gate,
    write_version,
)
from pointsman_policy.retraining.contenders import RULE, Contender, of_version, packaged_policy
from pointsman_policy.retraining.evidence import gather, split, split_point
from pointsman_policy.retraining.files import read_document, write_document
from pointsman_policy.retraining.gate import judge
from pointsman_policy.retraining.reporting import RESULT, Phase, Reporting, Result, write_result
from pointsman_policy.retraining.selection import Proposal, best, proposals
from pointsman_policy.retraining.snapshot import read_snapshot, write_snapshot
from pointsman_policy.retraining.standing import active_contender, active_version, named_cluster, named_picker
from pointsman_policy.retraining.tuning import Start, Tuning
from pointsman_policy.runtime.exported import ExportedPolicy, read_exported_policy, write_exported_policy
from pointsman_policy.twin.calibration import calibrate
from pointsman_policy.twin.twin import Twin, make_twin

CANDIDATE = "candidate"
DEFAULT_MINUTES = 3.0

MOST_OUTCOMES = 100_000
_MOST_STATES = 5_000
_GATE_SEED = 1
_SNAPSHOT, _TUNING, _TUNED = "outcomes.safetensors", "tuning", "tuned"


@dataclass(frozen=True)
class JobSettings:
    """What was asked for."""

    root: Path
    """Of the policy service."""
    policy: str
    """Its key."""
    folder: Path
    """Work folder; made if needed."""
    seed: int
    minutes: float | None = DEFAULT_MINUTES
    """Of tuning; None = not limited."""
    rounds: int | None = None
    """Of tuning; None = not limited."""


class _Inputs(Document):
    """What a job found at its start, and keeps to."""

    started_at: float
    active: str
    """Version; empty = the packaged policy."""
    picker: str
    """That the RouterPolicy names."""
    split_point: int
    """How many outcomes are to learn from."""


@dataclass
class Job:
    """One training.

    Args:
        settings: What was asked for.
        clock: Unix seconds.
    """

    settings: JobSettings
    clock: Callable[[], float]
    _reporting: Reporting = field(init=False)

    def run(self) -> GateReport:
        """Go through all phases that are not done yet, and return the verdict on the candidate.

        Raises:
            DocumentError: If a file that it needs is damaged.
            ValueError: If there is too little to learn from.
            OSError: If the store cannot be read or the work folder not written.
        """
        folder = self.settings.folder
        folder.mkdir(parents=True, exist_ok=True)
        known = read_gate(folder / CANDIDATE)
        if known is not None and (folder / RESULT).exists():
            return known
        self._reporting = Reporting(folder)
        inputs, experience = self._load()
        active = active_contender(self.settings.root, self.settings.policy, inputs.active, inputs.picker)
        training, _ = split(experience, inputs.split_point)
        calibration = self._calibrate(training)
        candidate = self._train(inputs, training, calibration, active)
        report = self._judge(candidate, active, experience, inputs.split_point)
        self._tidy()
        return report

    def _tell(self, phase: Phase) -> Callable[[float, str], None]:
        return lambda share, line: self._reporting.tell(phase, share, line)

    def _load(self) -> tuple[_Inputs, Experience]:
        settings, folder = self.settings, self.settings.folder
        path, snapshot = folder / "inputs.json", folder / _SNAPSHOT
        inputs = read_document(_Inputs, path)
        if inputs is not None:
            return inputs, read_snapshot(snapshot)
        tell = self._tell("loading")
        tell(0.0, "reading outcomes")
        experience = load(settings.root, settings.policy, limit=MOST_OUTCOMES, columns=(*DEFAULT_COLUMNS, "state"))
        experience = _with_newest_states(experience)
        point = split_point(experience)
        write_snapshot(snapshot, experience)
        inputs = _Inputs(
            started_at=self.clock(),
            active=active_version(settings.root, settings.policy),
            picker=named_picker(settings.root, settings.policy),
            split_point=point,
        )
        write_document(path, inputs)
        tell(1.0, f"{len(experience)} outcomes")
        return inputs, experience

    def _calibrate(self, training: Experience) -> Calibration:
        path = self.settings.folder / "calibration.json"
        known = read_document(Calibration, path)
        if known is not None:
            return known
        tell = self._tell("calibrating")
        tell(0.0, "fitting experts")
        calibration = calibrate(training)
        write_document(path, calibration)
        tell(1.0, f"{len(calibration.experts)} experts calibrated")
        return calibration

    def _train(
        self, inputs: _Inputs, training: Experience, calibration: Calibration, active: Contender
    ) -> PolicyVersion:
        folder = self.settings.folder / CANDIDATE
        if folder.exists():
            return read_version(folder)
        twin = make_twin(training, calibration, calibration, self.settings.seed)
        chosen = self._chosen(twin, calibration, self._tuned(twin), active)
        version = PolicyVersion(
            policy=self.settings.policy,
            created_at=inputs.started_at,
            parent=inputs.active,
            outcomes=len(training),
            exported=chosen.exported,
            calibration=calibration,
            training={"origin": chosen.name, "seed": str(self.settings.seed)},
        )
        return write_version(folder, version)

    def _tuned(self, twin: Twin) -> Mapping[str, ExportedPolicy]:
        settings, tell = self.settings, self._tell("training")
        folders = {name: settings.folder / _TUNED / name for name in ("rule", "network")}
        if not all(folder.exists() for folder in folders.values()):
            plan = TrainingPlan(
                agent="twin",
                folder=settings.folder / _TUNING,
                seed=settings.seed,
                minutes=settings.minutes,
                rounds=settings.rounds,
                processes=1,
            )
            start = Start(packaged_policy(RULE), packaged_policy("HanActor"))
            progressing = TrainingRun(plan, resume=True, progress=lambda share, line: tell(0.9 * share, line))
            with scorer(plan.processes, named_cluster(settings.root, settings.policy)) as work, progressing as run:
                found = Tuning(start, twin).run(run, work)
            for folder, policy in zip(folders.values(), found, strict=True):
                write_exported_policy(folder, policy)
        return {name: read_exported_policy(folder) for name, folder in folders.items()}

    def _chosen(
        self, twin: Twin, calibration: Calibration, tuned: Mapping[str, ExportedPolicy], active: Contender
    ) -> Proposal:
        tell = self._tell("training")

        def choosing(share: float) -> None:
            tell(0.9 + 0.1 * share, "choosing among policies")

        chosen = best(proposals(active.exported, tuned, calibration), twin, choosing)
        tell(1.0, f"chosen: {chosen.name}")
        return chosen

    def _judge(self, candidate: PolicyVersion, active: Contender, experience: Experience, point: int) -> GateReport:
        tell = self._tell("gating")
        tell(0.0, "judging the candidate on outcomes held out")
        evidence = gather(experience, point, self.settings.seed + _GATE_SEED)
        contender = of_version(candidate, "candidate")
        report = judge(contender, active, evidence, lambda share: tell(share, "paired runs in the twin"))
        write_gate(self.settings.folder / CANDIDATE, report)
        result = Result(version=candidate.version, passed=report.passed, summary=report.summary)
        write_result(self.settings.folder, result)
        self._reporting.tell("done", 1.0, report.summary)
        return report

    def _tidy(self) -> None:
        """Remove what only an interrupted job would need again."""
        (self.settings.folder / _SNAPSHOT).unlink(missing_ok=True)
        for name in (_TUNING, _TUNED):
            shutil.rmtree(self.settings.folder / name, ignore_errors=True)


def _with_newest_states(experience: Experience) -> Experience:
    """Return the outcomes with the newest of their states only: the others are never replayed."""
    states = experience["state"].copy()
    states[:-_MOST_STATES] = None
    return replace(experience, columns={**experience.columns, "state": states})
