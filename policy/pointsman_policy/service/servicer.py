"""Serves `pointsman.policy.v1.PolicyService`; every method reads, calls and writes, and decides nothing."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import grpc

from pointsman.policy.v1 import policy_pb2 as pb
from pointsman.policy.v1 import policy_pb2_grpc
from pointsman_policy.errors import DocumentError, PointsmanError
from pointsman_policy.experience.errors import StoreFullError
from pointsman_policy.experience.policy_key import check_policy_key
from pointsman_policy.experience.stats import PolicyStats
from pointsman_policy.experience.store import OutcomeStore
from pointsman_policy.pickers.trained import TRAINABLE
from pointsman_policy.registry.registry import Registry
from pointsman_policy.rollout.state import RolloutError, Stage
from pointsman_policy.service.assignments import Assignments
from pointsman_policy.service.drifts import Drifts
from pointsman_policy.service.ingestion import Ingestion
from pointsman_policy.service.policy_settings import read_configuration
from pointsman_policy.service.reports import rollout_report, version_details, version_report
from pointsman_policy.service.rollouts import Rollouts
from pointsman_policy.service.schedules import Schedules
from pointsman_policy.service.training_record import TrainingRecord
from pointsman_policy.service.trainings import Trainings

SERVICE_NAME: Final = "pointsman.policy.v1.PolicyService"
PIECE_BYTES: Final = 64 << 10

_FORCED_STAGES: Final = {
    pb.STAGE_UNSPECIFIED: None,
    pb.SHADOW: Stage.SHADOW,
    pb.CANARY_STAGE: Stage.CANARY,
    pb.ACTIVE: Stage.ACTIVE,
}

Context = grpc.aio.ServicerContext[Any, Any]


class PolicyServicer(policy_pb2_grpc.PolicyServiceServicer):
    """The servicer.

    Args:
        store: The outcomes.
        ingestion: Takes records.
        registry: The versions.
        rollouts: Where policies stand.
        assignments: Tells routers.
        trainings: Run.
        schedules: Say when.
        drifts: Tell whether experts are as believed.
    """

    def __init__(
        self,
        store: OutcomeStore,
        ingestion: Ingestion,
        registry: Registry,
        rollouts: Rollouts,
        assignments: Assignments,
        trainings: Trainings,
        schedules: Schedules,
        drifts: Drifts,
    ) -> None:
        self._store = store
        self._ingestion = ingestion
        self._registry = registry
        self._rollouts = rollouts
        self._assignments = assignments
        self._trainings = trainings
        self._schedules = schedules
        self._drifts = drifts

    async def SubmitOutcomes(  # noqa: N802
        self, requests: AsyncIterator[pb.SubmitOutcomesRequest], context: Context
    ) -> AsyncIterator[pb.SubmitOutcomesResponse]:
        """Store batches, one after the other."""
        async for request in requests:
            try:
                taken = await asyncio.to_thread(self._ingestion.take, request)
            except StoreFullError as error:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            self._rollouts.take(taken.fresh)
            self._drifts.take(taken.fresh)
            yield taken.response

    async def WatchActive(  # noqa: N802
        self, request: pb.WatchActiveRequest, context: Context
    ) -> AsyncIterator[pb.Assignment]:
        """Tell a router what to run, and then whatever changes."""
        for policy in request.policies:
            await _check(context, policy)
        async for assignment in self._assignments.watch(request.policies):
            yield assignment

    async def FetchVersion(  # noqa: N802
        self, request: pb.FetchVersionRequest, context: Context
    ) -> AsyncIterator[pb.FilePiece]:
        """Send the files of a version."""
        await _check(context, request.policy)
        try:
            if not self._registry.contains(request.policy, request.version):
                await context.abort(
                    grpc.StatusCode.NOT_FOUND, f"{request.policy} has no version {request.version[:40]!r}"
                )
            files = await asyncio.to_thread(self._registry.files, request.policy, request.version)
        except (DocumentError, OSError) as error:
            await context.abort(grpc.StatusCode.DATA_LOSS, str(error))
        for path, content in files:
            for start in range(0, max(len(content), 1), PIECE_BYTES):
                yield pb.FilePiece(path=path, content=content[start : start + PIECE_BYTES])

    async def Configure(self, request: pb.ConfigureRequest, context: Context) -> pb.ConfigureResponse:  # noqa: N802
        """Take what is wanted for policies; all of them or none."""
        try:
            settings = [read_configuration(one) for one in request.policies]
        except DocumentError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        for one in settings:
            try:
                self._rollouts.configure(one)
            except OSError as error:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"settings cannot be kept: {error}")
        return pb.ConfigureResponse()

    async def ListRollouts(  # noqa: N802
        self, request: pb.ListRolloutsRequest, context: Context
    ) -> pb.ListRolloutsResponse:
        """Show where policies stand."""
        for policy in request.policies:
            await _check(context, policy)
        stats = await self._stats()
        policies = request.policies or sorted({*self._rollouts.policies(), *stats})
        return pb.ListRolloutsResponse(rollouts=[await self._report(policy, stats) for policy in policies])

    async def StartTraining(  # noqa: N802
        self, request: pb.StartTrainingRequest, context: Context
    ) -> pb.StartTrainingResponse:
        """Start a training."""
        await _check(context, request.policy)
        if request.policy not in self._rollouts.policies():
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{request.policy} is not configured here")
        settings = self._rollouts.settings(request.policy)
        if not settings.learns:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{request.policy} names the picker {settings.picker}, which does not learn; "
                f"name {' or '.join(sorted(TRAINABLE))} in its spec.picker",
            )
        running = self._trainings.running(request.policy)
        missing = 0 if running or request.force else await self._schedules.missing(request.policy)
        if missing:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{missing} outcomes are missing since the last training; wait for them, or force it",
            )
        try:
            return pb.StartTrainingResponse(training=self._trainings.start(request.policy).id)
        except OSError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"the training cannot be noted: {error}")

    async def WatchTraining(  # noqa: N802
        self, request: pb.WatchTrainingRequest, context: Context
    ) -> AsyncIterator[pb.TrainingProgress]:
        """Tell how a training goes."""
        await _check(context, request.policy)
        if self._trainings.last(request.policy) is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no training of {request.policy} runs or ran")
        async for record in self._trainings.watch(request.policy):
            yield _progress(record)

    async def ListVersions(  # noqa: N802
        self, request: pb.ListVersionsRequest, context: Context
    ) -> pb.ListVersionsResponse:
        """Show the versions of a policy."""
        await _check(context, request.policy)
        reports = await asyncio.to_thread(self._version_reports, request.policy)
        return pb.ListVersionsResponse(versions=reports)

    async def Promote(self, request: pb.PromoteRequest, context: Context) -> pb.PromoteResponse:  # noqa: N802
        """Move a version on."""
        await _check(context, request.policy)
        if request.stage not in _FORCED_STAGES:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "stage: must be SHADOW, CANARY_STAGE or ACTIVE")
        stage = _FORCED_STAGES[request.stage]
        try:
            if request.version and not self._registry.contains(request.policy, request.version):
                await context.abort(
                    grpc.StatusCode.NOT_FOUND, f"{request.policy} has no version {request.version[:40]!r}"
                )
            await self._rollouts.promote(request.policy, request.version, force=request.force, stage=stage)
        except (RolloutError, DocumentError) as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except OSError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"the promotion cannot be kept: {error}")
        return pb.PromoteResponse(rollout=await self._report(request.policy, await self._stats()))

    async def RollBack(self, request: pb.RollBackRequest, context: Context) -> pb.RollBackResponse:  # noqa: N802
        """Withdraw a version."""
        await _check(context, request.policy)
        try:
            self._rollouts.roll_back(request.policy, request.reason[:500])
        except RolloutError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return pb.RollBackResponse(rollout=await self._report(request.policy, await self._stats()))

    async def _stats(self) -> dict[str, PolicyStats]:
        return await asyncio.to_thread(self._store.stats)

    async def _report(self, policy: str, stats: Mapping[str, PolicyStats]) -> pb.RolloutReport:
        report = rollout_report(policy, self._rollouts, self._registry)
        report.outcomes = stats[policy].rows if policy in stats else 0
        try:
            report.new_outcomes = await self._schedules.new_outcomes(policy)
        except (OSError, PointsmanError) as error:
            report.problem = report.problem or f"outcomes cannot be counted: {error}"
        for one in self._drifts.found(policy):
            report.drifts.add(expert=one.expert, ratio=one.ratio, drifted=one.drifted)
        report.next_training_at = self._schedules.next_at(policy)
        running, last = self._trainings.running(policy), self._trainings.last(policy)
        if running is not None:
            report.training.CopyFrom(_progress(running))
        elif last is not None and last.progress.phase == "failed":
            report.problem = report.problem or f"the last training failed: {last.progress.line}"
        report.problem = report.problem or self._ingestion.full
        return report

    def _version_reports(self, policy: str) -> list[pb.VersionReport]:
        state = self._rollouts.state(policy)
        reports = [version_report(one, state) for one in self._registry.listed(policy)]
        for report in reports:
            report.details = "" if report.problem else version_details(self._registry, policy, report.id.version)
        return reports


def _progress(record: TrainingRecord) -> pb.TrainingProgress:
    return pb.TrainingProgress(
        training=record.id,
        policy=record.policy,
        phase=record.progress.phase,
        share=record.progress.share,
        line=record.progress.line,
        started_at=record.started_at,
        version=record.version,
    )


async def _check(context: Context, policy: str) -> None:
    try:
        check_policy_key(policy)
    except DocumentError as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
