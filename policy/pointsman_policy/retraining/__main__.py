"""One training, or one judgement, as a command: ``python -m pointsman_policy.retraining --help``."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from pointsman_policy.errors import PointsmanError
from pointsman_policy.experience.dataset import DEFAULT_COLUMNS, load
from pointsman_policy.registry.version import GateReport, read_version, write_gate
from pointsman_policy.retraining.contenders import of_version
from pointsman_policy.retraining.evidence import gather, split_point
from pointsman_policy.retraining.gate import judge
from pointsman_policy.retraining.job import DEFAULT_MINUTES, MOST_OUTCOMES, Job, JobSettings
from pointsman_policy.retraining.standing import active_contender, active_version, named_picker

_FAILED, _REFUSED = 1, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and return the exit code: 0 = it ended, 1 = it failed, 3 = a version that was judged was refused."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    try:
        if options.judge is not None:
            report = _judge(options.root, options.policy, options.judge, options.seed)
            sys.stdout.write(report.model_dump_json(by_alias=True, indent=1) + "\n")
            return 0 if report.passed else _REFUSED
        minutes = None if options.rounds is not None else options.minutes
        settings = JobSettings(options.root, options.policy, options.out, options.seed, minutes, options.rounds)
        report = Job(settings, time.time).run()
        sys.stdout.write(f"{'passed' if report.passed else 'refused'}: {report.summary}\n")
    except (PointsmanError, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return _FAILED
    return 0


def _judge(root: Path, policy: str, folder: Path, seed: int) -> GateReport:
    """Judge a version against what serves now, and put the verdict beside it."""
    version = read_version(folder)
    experience = load(root, policy, limit=MOST_OUTCOMES, columns=(*DEFAULT_COLUMNS, "state"))
    active = active_contender(root, policy, active_version(root, policy), named_picker(root, policy))
    report = judge(of_version(version, "candidate"), active, gather(experience, split_point(experience), seed))
    write_gate(folder, report)
    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pointsman_policy.retraining", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="Folder of the policy service.")
    parser.add_argument("--policy", required=True, help='Key of the policy, "namespace/name".')
    parser.add_argument("--seed", type=int, default=0, help="Same seed and outcomes, same candidate (with --rounds).")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="Work folder; one that holds a training goes on with it.")
    what.add_argument("--judge", type=Path, help="Folder of a version: judge it, and train nothing.")
    parser.add_argument("--minutes", type=float, default=DEFAULT_MINUTES, help="Of tuning.")
    parser.add_argument("--rounds", type=int, help="Of tuning, in place of minutes: the result then repeats.")
    return parser


if __name__ == "__main__":
    sys.exit(main())
