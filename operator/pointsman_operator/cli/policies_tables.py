"""How `pointsman policies` shows where policies stand, versions, verdicts and differences."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from pointsman.policy.v1 import policy_pb2 as pb

_MISSING = "-"
_PACKAGED = "packaged"
_COEFFICIENTS = {
    "baseSeconds": "base ms",
    "perSequenceSeconds": "per seq ms",
    "perContextTokenSeconds": "per ctx token us",
    "perPrefillTokenSeconds": "per prompt token us",
}
_SCALES = {"baseSeconds": 1e3, "perSequenceSeconds": 1e3, "perContextTokenSeconds": 1e6, "perPrefillTokenSeconds": 1e6}


def rollouts_table(rollouts: Sequence[pb.RolloutReport]) -> Table:
    """Return one line for each policy."""
    table = _table("Policies", ("Policy", "Active", "Candidate", "Stage"), ("Outcomes", "New", "Next training"))
    for one in rollouts:
        stage = _stage(one.candidate.stage) if one.HasField("candidate") else _MISSING
        if one.candidate.HasField("canary"):
            stage += f" {one.candidate.canary.percent} %"
        table.add_row(
            escape(one.policy),
            one.active.version or _PACKAGED,
            one.candidate.id.version or _MISSING,
            stage,
            f"{one.outcomes:,}",
            f"{one.new_outcomes:,}",
            _time(one.next_training_at),
        )
    return table


def versions_table(policy: str, versions: Sequence[pb.VersionReport]) -> Table:
    """Return one line for each version."""
    table = _table(f"Versions of {policy}", ("Version", "Stage", "Made", "Parent", "Gate"), ("Outcomes", "Gain >="))
    for one in versions:
        if one.problem:
            table.add_row(one.id.version, "[red]damaged[/]", _time(one.created_at), "", escape(one.problem), "", "")
            continue
        table.add_row(
            one.id.version,
            _stage(one.stage),
            _time(one.created_at),
            one.parent or _PACKAGED,
            _gate(one),
            f"{one.outcomes:,}",
            f"{one.gate.gain_lower_bound:+.3f}" if one.HasField("gate") else _MISSING,
        )
    return table


def history_table(rollout: pb.RolloutReport) -> Table:
    """Return what happened to a policy's versions, newest first."""
    table = _table("History", ("When", "Version", "Stage", "Why"), ())
    for one in rollout.history:
        table.add_row(_time(one.at), one.version or _PACKAGED, _stage(one.stage), escape(one.reason))
    return table


def canary_lines(candidate: pb.Candidate) -> Iterator[str]:
    """Yield what is known of a candidate's doing."""
    if candidate.waiting_for:
        yield f"waits for {candidate.waiting_for}"
    if candidate.HasField("shadow") and candidate.shadow.decisions:
        shadow = candidate.shadow
        yield (
            f"in shadow: {shadow.decisions:,} decisions, {shadow.agreement:.0%} as the active version decided, "
            f"expected gain {shadow.predicted_gain:+.3f} QoS"
        )
    if candidate.HasField("canary"):
        canary = candidate.canary
        for name, arm in (("control", canary.control), ("canary", canary.candidate)):
            yield f"{name}: {arm.requests:,} requests, QoS {arm.mean_qos:.3f}, SLO attainment {arm.slo_attainment:.1%}"
        yield (
            f"difference: QoS {canary.qos_difference_low:+.3f} to {canary.qos_difference_high:+.3f}, "
            f"SLO attainment {canary.slo_difference_low:+.1%} to {canary.slo_difference_high:+.1%}"
        )


def gate_table(gate: Mapping[str, Any]) -> Table:
    """Return the scenarios that a version was judged in."""
    table = _table(
        "The gate's scenarios, mean QoS", ("Scenario",), ("Candidate", "Active", "Rule", "Gain", "From", "To")
    )
    for one in gate["scenarios"]:
        gain = "green" if one["gainLow"] > 0 else "red" if one["gainHigh"] < 0 else "default"
        table.add_row(
            escape(one["name"]),
            *(f"{one[name]:.3f}" for name in ("candidateQos", "activeQos", "ruleQos")),
            *(f"[{gain}]{one[name]:+.3f}[/]" for name in ("gain", "gainLow", "gainHigh")),
        )
    return table


def calibration_table(calibration: Mapping[str, Any]) -> Table:
    """Return what a version believes of the experts."""
    table = _table("Experts", ("Expert",), (*_COEFFICIENTS.values(), "outcomes"))
    for name, one in sorted({**calibration["kinds"], **calibration["experts"]}.items()):
        table.add_row(escape(name), *_coefficients(one), f"{one['outcomes']:,}")
    return table


def models_table(calibration: Mapping[str, Any]) -> Table:
    """Return what a version believes of the models."""
    table = _table("Models", ("Model",), ("Quality", "Labels", "Tokens", "Outcomes"))
    for name, one in sorted(calibration["models"].items()):
        table.add_row(
            escape(name),
            _MISSING if one["quality"] is None else f"{one['quality']:.3f}",
            f"{one['labels']:,}",
            _MISSING if one["outputTokens"] is None else f"{one['outputTokens']:.0f}",
            f"{one['outcomes']:,}",
        )
    return table


def difference_table(names: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    """Return in what two versions' calibrations differ.

    Args:
        names: Of the two versions.
        before: Calibration of the first.
        after: Of the second.
    """
    table = _table(f"From {names[0]} to {names[1]}", ("What", "Of"), ("Before", "After", "Ratio"))
    for part, figures in (("experts", _COEFFICIENTS), ("models", {"quality": "quality", "outputTokens": "tokens"})):
        for name in sorted({*before[part], *after[part]}):
            old, new = before[part].get(name, {}), after[part].get(name, {})
            for figure, title in figures.items():
                if old.get(figure) != new.get(figure):
                    table.add_row(
                        title, escape(name), *_change(old.get(figure), new.get(figure), _SCALES.get(figure, 1))
                    )
    return table


def _change(before: float | None, after: float | None, scale: float) -> tuple[str, str, str]:
    ratio = f"{after / before:.2f}" if before and after is not None else _MISSING
    return _figure(before, scale), _figure(after, scale), ratio


def _figure(value: float | None, scale: float) -> str:
    return _MISSING if value is None else f"{value * scale:.4g}"


def _coefficients(one: Mapping[str, Any]) -> list[str]:
    return [f"{one[name] * _SCALES[name]:.4g}" for name in _COEFFICIENTS]


def _gate(one: pb.VersionReport) -> str:
    if not one.HasField("gate"):
        return _MISSING
    return "[green]passed[/]" if one.gate.passed else f"[red]refused:[/] {escape(one.gate.summary)}"


def _stage(stage: int) -> str:
    name = pb.Stage.Name(stage)
    return _MISSING if stage == pb.STAGE_UNSPECIFIED else name.removesuffix("_STAGE").replace("_", " ").lower()


def _time(at: float) -> str:
    if not at:
        return _MISSING
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M")


def _table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in texts:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table
