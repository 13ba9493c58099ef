from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Arm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ARM_UNSPECIFIED: _ClassVar[Arm]
    CONTROL: _ClassVar[Arm]
    CANARY: _ClassVar[Arm]

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    COMPLETED: _ClassVar[Status]
    CANCELLED: _ClassVar[Status]
    FAILED: _ClassVar[Status]
    DROPPED: _ClassVar[Status]
    EXPIRED: _ClassVar[Status]

class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_UNSPECIFIED: _ClassVar[Stage]
    GATING: _ClassVar[Stage]
    REJECTED: _ClassVar[Stage]
    WAITING: _ClassVar[Stage]
    SHADOW: _ClassVar[Stage]
    CANARY_STAGE: _ClassVar[Stage]
    ACTIVE: _ClassVar[Stage]
    RETIRED: _ClassVar[Stage]
    ROLLED_BACK: _ClassVar[Stage]
ARM_UNSPECIFIED: Arm
CONTROL: Arm
CANARY: Arm
STATUS_UNSPECIFIED: Status
COMPLETED: Status
CANCELLED: Status
FAILED: Status
DROPPED: Status
EXPIRED: Status
STAGE_UNSPECIFIED: Stage
GATING: Stage
REJECTED: Stage
WAITING: Stage
SHADOW: Stage
CANARY_STAGE: Stage
ACTIVE: Stage
RETIRED: Stage
ROLLED_BACK: Stage

class SubmitOutcomesRequest(_message.Message):
    __slots__ = ("router", "sequence", "records")
    ROUTER_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    router: str
    sequence: int
    records: _containers.RepeatedCompositeFieldContainer[Record]
    def __init__(self, router: _Optional[str] = ..., sequence: _Optional[int] = ..., records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ...) -> None: ...

class SubmitOutcomesResponse(_message.Message):
    __slots__ = ("sequence", "stored", "duplicates", "refused", "problem")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    stored: int
    duplicates: int
    refused: int
    problem: str
    def __init__(self, sequence: _Optional[int] = ..., stored: _Optional[int] = ..., duplicates: _Optional[int] = ..., refused: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("outcome", "label", "fleet")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    FLEET_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    label: QualityLabel
    fleet: Fleet
    def __init__(self, outcome: _Optional[_Union[Outcome, _Mapping]] = ..., label: _Optional[_Union[QualityLabel, _Mapping]] = ..., fleet: _Optional[_Union[Fleet, _Mapping]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("id", "policy", "decided_at", "version", "arm", "picker", "expert", "status", "prompt_tokens", "output_tokens", "ttft_seconds", "duration_seconds", "quality", "prediction", "ttft_objective_seconds", "tpot_objective_seconds", "ntpot_objective_seconds", "may_drop", "load_ratio", "propensity", "explored", "state", "experts", "prompt_features", "prompt", "shadow")
    ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    PICKER_FIELD_NUMBER: _ClassVar[int]
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TTFT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    TTFT_OBJECTIVE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TPOT_OBJECTIVE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NTPOT_OBJECTIVE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAY_DROP_FIELD_NUMBER: _ClassVar[int]
    LOAD_RATIO_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    EXPLORED_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EXPERTS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FEATURES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    id: str
    policy: str
    decided_at: float
    version: str
    arm: Arm
    picker: str
    expert: str
    status: Status
    prompt_tokens: int
    output_tokens: int
    ttft_seconds: float
    duration_seconds: float
    quality: float
    prediction: Prediction
    ttft_objective_seconds: float
    tpot_objective_seconds: float
    ntpot_objective_seconds: float
    may_drop: bool
    load_ratio: float
    propensity: float
    explored: bool
    state: bytes
    experts: _containers.RepeatedScalarFieldContainer[str]
    prompt_features: bytes
    prompt: str
    shadow: Shadow
    def __init__(self, id: _Optional[str] = ..., policy: _Optional[str] = ..., decided_at: _Optional[float] = ..., version: _Optional[str] = ..., arm: _Optional[_Union[Arm, str]] = ..., picker: _Optional[str] = ..., expert: _Optional[str] = ..., status: _Optional[_Union[Status, str]] = ..., prompt_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., ttft_seconds: _Optional[float] = ..., duration_seconds: _Optional[float] = ..., quality: _Optional[float] = ..., prediction: _Optional[_Union[Prediction, _Mapping]] = ..., ttft_objective_seconds: _Optional[float] = ..., tpot_objective_seconds: _Optional[float] = ..., ntpot_objective_seconds: _Optional[float] = ..., may_drop: _Optional[bool] = ..., load_ratio: _Optional[float] = ..., propensity: _Optional[float] = ..., explored: _Optional[bool] = ..., state: _Optional[bytes] = ..., experts: _Optional[_Iterable[str]] = ..., prompt_features: _Optional[bytes] = ..., prompt: _Optional[str] = ..., shadow: _Optional[_Union[Shadow, _Mapping]] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("quality", "output_tokens", "ttft_seconds", "tpot_seconds", "ntpot_seconds", "slo_probability")
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TTFT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TPOT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NTPOT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SLO_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    quality: float
    output_tokens: float
    ttft_seconds: float
    tpot_seconds: float
    ntpot_seconds: float
    slo_probability: float
    def __init__(self, quality: _Optional[float] = ..., output_tokens: _Optional[float] = ..., ttft_seconds: _Optional[float] = ..., tpot_seconds: _Optional[float] = ..., ntpot_seconds: _Optional[float] = ..., slo_probability: _Optional[float] = ...) -> None: ...

class Shadow(_message.Message):
    __slots__ = ("version", "expert", "predicted_gain")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_GAIN_FIELD_NUMBER: _ClassVar[int]
    version: str
    expert: str
    predicted_gain: float
    def __init__(self, version: _Optional[str] = ..., expert: _Optional[str] = ..., predicted_gain: _Optional[float] = ...) -> None: ...

class QualityLabel(_message.Message):
    __slots__ = ("id", "policy", "quality")
    ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    policy: str
    quality: float
    def __init__(self, id: _Optional[str] = ..., policy: _Optional[str] = ..., quality: _Optional[float] = ...) -> None: ...

class Fleet(_message.Message):
    __slots__ = ("policy", "at", "experts")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    EXPERTS_FIELD_NUMBER: _ClassVar[int]
    policy: str
    at: float
    experts: _containers.RepeatedCompositeFieldContainer[Expert]
    def __init__(self, policy: _Optional[str] = ..., at: _Optional[float] = ..., experts: _Optional[_Iterable[_Union[Expert, _Mapping]]] = ...) -> None: ...

class Expert(_message.Message):
    __slots__ = ("name", "model", "gpu", "base_seconds", "per_sequence_seconds", "per_context_token_seconds", "per_prefill_token_seconds", "kv_capacity_tokens", "maximum_running", "quality_prior", "output_tokens_prior")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    BASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PER_SEQUENCE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PER_CONTEXT_TOKEN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PER_PREFILL_TOKEN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    KV_CAPACITY_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_RUNNING_FIELD_NUMBER: _ClassVar[int]
    QUALITY_PRIOR_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_PRIOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    gpu: str
    base_seconds: float
    per_sequence_seconds: float
    per_context_token_seconds: float
    per_prefill_token_seconds: float
    kv_capacity_tokens: float
    maximum_running: int
    quality_prior: float
    output_tokens_prior: float
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., gpu: _Optional[str] = ..., base_seconds: _Optional[float] = ..., per_sequence_seconds: _Optional[float] = ..., per_context_token_seconds: _Optional[float] = ..., per_prefill_token_seconds: _Optional[float] = ..., kv_capacity_tokens: _Optional[float] = ..., maximum_running: _Optional[int] = ..., quality_prior: _Optional[float] = ..., output_tokens_prior: _Optional[float] = ...) -> None: ...

class WatchActiveRequest(_message.Message):
    __slots__ = ("router", "policies")
    ROUTER_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    router: str
    policies: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, router: _Optional[str] = ..., policies: _Optional[_Iterable[str]] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("policy", "active", "candidate", "canary_percent", "exploration_percent", "store_prompts")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    CANARY_PERCENT_FIELD_NUMBER: _ClassVar[int]
    EXPLORATION_PERCENT_FIELD_NUMBER: _ClassVar[int]
    STORE_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    policy: str
    active: VersionId
    candidate: VersionId
    canary_percent: int
    exploration_percent: int
    store_prompts: bool
    def __init__(self, policy: _Optional[str] = ..., active: _Optional[_Union[VersionId, _Mapping]] = ..., candidate: _Optional[_Union[VersionId, _Mapping]] = ..., canary_percent: _Optional[int] = ..., exploration_percent: _Optional[int] = ..., store_prompts: _Optional[bool] = ...) -> None: ...

class VersionId(_message.Message):
    __slots__ = ("version", "digest")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    version: str
    digest: str
    def __init__(self, version: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class FetchVersionRequest(_message.Message):
    __slots__ = ("policy", "version")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    policy: str
    version: str
    def __init__(self, policy: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class FilePiece(_message.Message):
    __slots__ = ("path", "content")
    PATH_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    path: str
    content: bytes
    def __init__(self, path: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...

class ConfigureRequest(_message.Message):
    __slots__ = ("policies",)
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedCompositeFieldContainer[PolicySettings]
    def __init__(self, policies: _Optional[_Iterable[_Union[PolicySettings, _Mapping]]] = ...) -> None: ...

class ConfigureResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PolicySettings(_message.Message):
    __slots__ = ("policy", "schedule", "minimum_outcomes", "store_prompts", "ray", "exploration_percent", "manual", "shadow_minutes", "canary_percents", "canary_minutes", "canary_requests", "maximum_slo_regression_percent", "picker", "admission")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    STORE_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    RAY_FIELD_NUMBER: _ClassVar[int]
    EXPLORATION_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MANUAL_FIELD_NUMBER: _ClassVar[int]
    SHADOW_MINUTES_FIELD_NUMBER: _ClassVar[int]
    CANARY_PERCENTS_FIELD_NUMBER: _ClassVar[int]
    CANARY_MINUTES_FIELD_NUMBER: _ClassVar[int]
    CANARY_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_SLO_REGRESSION_PERCENT_FIELD_NUMBER: _ClassVar[int]
    PICKER_FIELD_NUMBER: _ClassVar[int]
    ADMISSION_FIELD_NUMBER: _ClassVar[int]
    policy: str
    schedule: str
    minimum_outcomes: int
    store_prompts: bool
    ray: str
    exploration_percent: int
    manual: bool
    shadow_minutes: int
    canary_percents: _containers.RepeatedScalarFieldContainer[int]
    canary_minutes: int
    canary_requests: int
    maximum_slo_regression_percent: float
    picker: str
    admission: str
    def __init__(self, policy: _Optional[str] = ..., schedule: _Optional[str] = ..., minimum_outcomes: _Optional[int] = ..., store_prompts: _Optional[bool] = ..., ray: _Optional[str] = ..., exploration_percent: _Optional[int] = ..., manual: _Optional[bool] = ..., shadow_minutes: _Optional[int] = ..., canary_percents: _Optional[_Iterable[int]] = ..., canary_minutes: _Optional[int] = ..., canary_requests: _Optional[int] = ..., maximum_slo_regression_percent: _Optional[float] = ..., picker: _Optional[str] = ..., admission: _Optional[str] = ...) -> None: ...

class ListRolloutsRequest(_message.Message):
    __slots__ = ("policies",)
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, policies: _Optional[_Iterable[str]] = ...) -> None: ...

class ListRolloutsResponse(_message.Message):
    __slots__ = ("rollouts",)
    ROLLOUTS_FIELD_NUMBER: _ClassVar[int]
    rollouts: _containers.RepeatedCompositeFieldContainer[RolloutReport]
    def __init__(self, rollouts: _Optional[_Iterable[_Union[RolloutReport, _Mapping]]] = ...) -> None: ...

class RolloutReport(_message.Message):
    __slots__ = ("policy", "active", "active_since", "candidate", "history", "outcomes", "new_outcomes", "next_training_at", "training", "drifts", "problem")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_SINCE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    NEW_OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    NEXT_TRAINING_AT_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    DRIFTS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    policy: str
    active: VersionId
    active_since: float
    candidate: Candidate
    history: _containers.RepeatedCompositeFieldContainer[HistoryEntry]
    outcomes: int
    new_outcomes: int
    next_training_at: float
    training: TrainingProgress
    drifts: _containers.RepeatedCompositeFieldContainer[Drift]
    problem: str
    def __init__(self, policy: _Optional[str] = ..., active: _Optional[_Union[VersionId, _Mapping]] = ..., active_since: _Optional[float] = ..., candidate: _Optional[_Union[Candidate, _Mapping]] = ..., history: _Optional[_Iterable[_Union[HistoryEntry, _Mapping]]] = ..., outcomes: _Optional[int] = ..., new_outcomes: _Optional[int] = ..., next_training_at: _Optional[float] = ..., training: _Optional[_Union[TrainingProgress, _Mapping]] = ..., drifts: _Optional[_Iterable[_Union[Drift, _Mapping]]] = ..., problem: _Optional[str] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("id", "stage", "since", "gate", "canary", "shadow", "waiting_for")
    ID_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    id: VersionId
    stage: Stage
    since: float
    gate: Gate
    canary: Canary
    shadow: ShadowReport
    waiting_for: str
    def __init__(self, id: _Optional[_Union[VersionId, _Mapping]] = ..., stage: _Optional[_Union[Stage, str]] = ..., since: _Optional[float] = ..., gate: _Optional[_Union[Gate, _Mapping]] = ..., canary: _Optional[_Union[Canary, _Mapping]] = ..., shadow: _Optional[_Union[ShadowReport, _Mapping]] = ..., waiting_for: _Optional[str] = ...) -> None: ...

class Gate(_message.Message):
    __slots__ = ("passed", "summary", "candidate_qos", "active_qos", "rule_qos", "gain_lower_bound", "replay_agreement")
    PASSED_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_QOS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_QOS_FIELD_NUMBER: _ClassVar[int]
    RULE_QOS_FIELD_NUMBER: _ClassVar[int]
    GAIN_LOWER_BOUND_FIELD_NUMBER: _ClassVar[int]
    REPLAY_AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    passed: bool
    summary: str
    candidate_qos: float
    active_qos: float
    rule_qos: float
    gain_lower_bound: float
    replay_agreement: float
    def __init__(self, passed: _Optional[bool] = ..., summary: _Optional[str] = ..., candidate_qos: _Optional[float] = ..., active_qos: _Optional[float] = ..., rule_qos: _Optional[float] = ..., gain_lower_bound: _Optional[float] = ..., replay_agreement: _Optional[float] = ...) -> None: ...

class ShadowReport(_message.Message):
    __slots__ = ("decisions", "agreement", "predicted_gain")
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_GAIN_FIELD_NUMBER: _ClassVar[int]
    decisions: int
    agreement: float
    predicted_gain: float
    def __init__(self, decisions: _Optional[int] = ..., agreement: _Optional[float] = ..., predicted_gain: _Optional[float] = ...) -> None: ...

class Canary(_message.Message):
    __slots__ = ("percent", "control", "candidate", "qos_difference_low", "qos_difference_high", "slo_difference_low", "slo_difference_high")
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    QOS_DIFFERENCE_LOW_FIELD_NUMBER: _ClassVar[int]
    QOS_DIFFERENCE_HIGH_FIELD_NUMBER: _ClassVar[int]
    SLO_DIFFERENCE_LOW_FIELD_NUMBER: _ClassVar[int]
    SLO_DIFFERENCE_HIGH_FIELD_NUMBER: _ClassVar[int]
    percent: int
    control: ArmReport
    candidate: ArmReport
    qos_difference_low: float
    qos_difference_high: float
    slo_difference_low: float
    slo_difference_high: float
    def __init__(self, percent: _Optional[int] = ..., control: _Optional[_Union[ArmReport, _Mapping]] = ..., candidate: _Optional[_Union[ArmReport, _Mapping]] = ..., qos_difference_low: _Optional[float] = ..., qos_difference_high: _Optional[float] = ..., slo_difference_low: _Optional[float] = ..., slo_difference_high: _Optional[float] = ...) -> None: ...

class ArmReport(_message.Message):
    __slots__ = ("requests", "mean_qos", "slo_attainment")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MEAN_QOS_FIELD_NUMBER: _ClassVar[int]
    SLO_ATTAINMENT_FIELD_NUMBER: _ClassVar[int]
    requests: int
    mean_qos: float
    slo_attainment: float
    def __init__(self, requests: _Optional[int] = ..., mean_qos: _Optional[float] = ..., slo_attainment: _Optional[float] = ...) -> None: ...

class HistoryEntry(_message.Message):
    __slots__ = ("at", "version", "stage", "reason")
    AT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    at: float
    version: str
    stage: Stage
    reason: str
    def __init__(self, at: _Optional[float] = ..., version: _Optional[str] = ..., stage: _Optional[_Union[Stage, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class Drift(_message.Message):
    __slots__ = ("expert", "ratio", "drifted")
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    RATIO_FIELD_NUMBER: _ClassVar[int]
    DRIFTED_FIELD_NUMBER: _ClassVar[int]
    expert: str
    ratio: float
    drifted: bool
    def __init__(self, expert: _Optional[str] = ..., ratio: _Optional[float] = ..., drifted: _Optional[bool] = ...) -> None: ...

class StartTrainingRequest(_message.Message):
    __slots__ = ("policy", "force")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    policy: str
    force: bool
    def __init__(self, policy: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class StartTrainingResponse(_message.Message):
    __slots__ = ("training",)
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    training: str
    def __init__(self, training: _Optional[str] = ...) -> None: ...

class WatchTrainingRequest(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: str
    def __init__(self, policy: _Optional[str] = ...) -> None: ...

class TrainingProgress(_message.Message):
    __slots__ = ("training", "policy", "phase", "share", "line", "started_at", "version")
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    training: str
    policy: str
    phase: str
    share: float
    line: str
    started_at: float
    version: str
    def __init__(self, training: _Optional[str] = ..., policy: _Optional[str] = ..., phase: _Optional[str] = ..., share: _Optional[float] = ..., line: _Optional[str] = ..., started_at: _Optional[float] = ..., version: _Optional[str] = ...) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: str
    def __init__(self, policy: _Optional[str] = ...) -> None: ...

class ListVersionsResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[VersionReport]
    def __init__(self, versions: _Optional[_Iterable[_Union[VersionReport, _Mapping]]] = ...) -> None: ...

class VersionReport(_message.Message):
    __slots__ = ("id", "stage", "created_at", "parent", "outcomes", "gate", "problem", "details")
    ID_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    id: VersionId
    stage: Stage
    created_at: float
    parent: str
    outcomes: int
    gate: Gate
    problem: str
    details: str
    def __init__(self, id: _Optional[_Union[VersionId, _Mapping]] = ..., stage: _Optional[_Union[Stage, str]] = ..., created_at: _Optional[float] = ..., parent: _Optional[str] = ..., outcomes: _Optional[int] = ..., gate: _Optional[_Union[Gate, _Mapping]] = ..., problem: _Optional[str] = ..., details: _Optional[str] = ...) -> None: ...

class PromoteRequest(_message.Message):
    __slots__ = ("policy", "version", "force", "stage")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    policy: str
    version: str
    force: bool
    stage: Stage
    def __init__(self, policy: _Optional[str] = ..., version: _Optional[str] = ..., force: _Optional[bool] = ..., stage: _Optional[_Union[Stage, str]] = ...) -> None: ...

class PromoteResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: RolloutReport
    def __init__(self, rollout: _Optional[_Union[RolloutReport, _Mapping]] = ...) -> None: ...

class RollBackRequest(_message.Message):
    __slots__ = ("policy", "reason")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    policy: str
    reason: str
    def __init__(self, policy: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RollBackResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: RolloutReport
    def __init__(self, rollout: _Optional[_Union[RolloutReport, _Mapping]] = ...) -> None: ...
