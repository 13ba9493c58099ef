from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OutcomeStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_STATUS_UNSPECIFIED: _ClassVar[OutcomeStatus]
    OUTCOME_STATUS_IN_PROGRESS: _ClassVar[OutcomeStatus]
    OUTCOME_STATUS_COMPLETED: _ClassVar[OutcomeStatus]
    OUTCOME_STATUS_CANCELLED: _ClassVar[OutcomeStatus]
    OUTCOME_STATUS_FAILED: _ClassVar[OutcomeStatus]
OUTCOME_STATUS_UNSPECIFIED: OutcomeStatus
OUTCOME_STATUS_IN_PROGRESS: OutcomeStatus
OUTCOME_STATUS_COMPLETED: OutcomeStatus
OUTCOME_STATUS_CANCELLED: OutcomeStatus
OUTCOME_STATUS_FAILED: OutcomeStatus

class RouteRequest(_message.Message):
    __slots__ = ("model", "prompt", "prompt_token_count", "max_output_token_count", "objectives", "endpoint_subset", "priority", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_SUBSET_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    prompt: str
    prompt_token_count: int
    max_output_token_count: int
    objectives: Objectives
    endpoint_subset: _containers.RepeatedScalarFieldContainer[str]
    priority: int
    request_id: str
    def __init__(self, model: _Optional[str] = ..., prompt: _Optional[str] = ..., prompt_token_count: _Optional[int] = ..., max_output_token_count: _Optional[int] = ..., objectives: _Optional[_Union[Objectives, _Mapping]] = ..., endpoint_subset: _Optional[_Iterable[str]] = ..., priority: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class Objectives(_message.Message):
    __slots__ = ("ttft_seconds", "tpot_seconds", "ntpot_seconds")
    TTFT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TPOT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NTPOT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ttft_seconds: float
    tpot_seconds: float
    ntpot_seconds: float
    def __init__(self, ttft_seconds: _Optional[float] = ..., tpot_seconds: _Optional[float] = ..., ntpot_seconds: _Optional[float] = ...) -> None: ...

class RouteResponse(_message.Message):
    __slots__ = ("decision_id", "endpoints", "picker", "policy", "policy_version", "reason")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    PICKER_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    endpoints: _containers.RepeatedCompositeFieldContainer[Candidate]
    picker: str
    policy: str
    policy_version: str
    reason: str
    def __init__(self, decision_id: _Optional[str] = ..., endpoints: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., picker: _Optional[str] = ..., policy: _Optional[str] = ..., policy_version: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("expert", "endpoint", "served_model_name", "ttft_seconds", "tpot_seconds", "ntpot_seconds", "quality", "output_token_count", "slo_probability", "impact", "score", "allowed", "exclusion")
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    SERVED_MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    TTFT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TPOT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NTPOT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    SLO_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    IMPACT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    EXCLUSION_FIELD_NUMBER: _ClassVar[int]
    expert: str
    endpoint: str
    served_model_name: str
    ttft_seconds: float
    tpot_seconds: float
    ntpot_seconds: float
    quality: float
    output_token_count: float
    slo_probability: float
    impact: float
    score: float
    allowed: bool
    exclusion: str
    def __init__(self, expert: _Optional[str] = ..., endpoint: _Optional[str] = ..., served_model_name: _Optional[str] = ..., ttft_seconds: _Optional[float] = ..., tpot_seconds: _Optional[float] = ..., ntpot_seconds: _Optional[float] = ..., quality: _Optional[float] = ..., output_token_count: _Optional[float] = ..., slo_probability: _Optional[float] = ..., impact: _Optional[float] = ..., score: _Optional[float] = ..., allowed: _Optional[bool] = ..., exclusion: _Optional[str] = ...) -> None: ...

class ReportOutcomeRequest(_message.Message):
    __slots__ = ("decision_id", "endpoint", "status", "ttft_seconds", "duration_seconds", "output_token_count", "prompt_token_count", "quality")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TTFT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    endpoint: str
    status: OutcomeStatus
    ttft_seconds: float
    duration_seconds: float
    output_token_count: int
    prompt_token_count: int
    quality: float
    def __init__(self, decision_id: _Optional[str] = ..., endpoint: _Optional[str] = ..., status: _Optional[_Union[OutcomeStatus, str]] = ..., ttft_seconds: _Optional[float] = ..., duration_seconds: _Optional[float] = ..., output_token_count: _Optional[int] = ..., prompt_token_count: _Optional[int] = ..., quality: _Optional[float] = ...) -> None: ...

class ReportOutcomeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListExpertsRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class ListExpertsResponse(_message.Message):
    __slots__ = ("policy", "experts")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    EXPERTS_FIELD_NUMBER: _ClassVar[int]
    policy: str
    experts: _containers.RepeatedCompositeFieldContainer[Expert]
    def __init__(self, policy: _Optional[str] = ..., experts: _Optional[_Iterable[_Union[Expert, _Mapping]]] = ...) -> None: ...

class Expert(_message.Message):
    __slots__ = ("name", "endpoint", "model", "served_model_name", "gpu", "engine", "ready", "running_request_count", "waiting_request_count", "kv_cache_utilization_ratio", "telemetry_age_seconds", "in_flight_count", "quality_prior")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SERVED_MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    RUNNING_REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    WAITING_REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_UTILIZATION_RATIO_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_COUNT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_PRIOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    endpoint: str
    model: str
    served_model_name: str
    gpu: str
    engine: str
    ready: bool
    running_request_count: float
    waiting_request_count: float
    kv_cache_utilization_ratio: float
    telemetry_age_seconds: float
    in_flight_count: int
    quality_prior: float
    def __init__(self, name: _Optional[str] = ..., endpoint: _Optional[str] = ..., model: _Optional[str] = ..., served_model_name: _Optional[str] = ..., gpu: _Optional[str] = ..., engine: _Optional[str] = ..., ready: _Optional[bool] = ..., running_request_count: _Optional[float] = ..., waiting_request_count: _Optional[float] = ..., kv_cache_utilization_ratio: _Optional[float] = ..., telemetry_age_seconds: _Optional[float] = ..., in_flight_count: _Optional[int] = ..., quality_prior: _Optional[float] = ...) -> None: ...

class GetDecisionRequest(_message.Message):
    __slots__ = ("decision_id",)
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    def __init__(self, decision_id: _Optional[str] = ...) -> None: ...

class GetDecisionResponse(_message.Message):
    __slots__ = ("decision_id", "policy", "picker", "policy_version", "reason", "fallbacks", "age_seconds", "prompt_token_count", "objectives", "load_ratio", "candidates", "outcome")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PICKER_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    LOAD_RATIO_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    policy: str
    picker: str
    policy_version: str
    reason: str
    fallbacks: _containers.RepeatedScalarFieldContainer[str]
    age_seconds: float
    prompt_token_count: int
    objectives: Objectives
    load_ratio: float
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    outcome: ReportOutcomeRequest
    def __init__(self, decision_id: _Optional[str] = ..., policy: _Optional[str] = ..., picker: _Optional[str] = ..., policy_version: _Optional[str] = ..., reason: _Optional[str] = ..., fallbacks: _Optional[_Iterable[str]] = ..., age_seconds: _Optional[float] = ..., prompt_token_count: _Optional[int] = ..., objectives: _Optional[_Union[Objectives, _Mapping]] = ..., load_ratio: _Optional[float] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., outcome: _Optional[_Union[ReportOutcomeRequest, _Mapping]] = ...) -> None: ...

class ListPoliciesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPoliciesResponse(_message.Message):
    __slots__ = ("policies", "router")
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    ROUTER_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedCompositeFieldContainer[PolicyState]
    router: str
    def __init__(self, policies: _Optional[_Iterable[_Union[PolicyState, _Mapping]]] = ..., router: _Optional[str] = ...) -> None: ...

class PolicyState(_message.Message):
    __slots__ = ("policy", "uid", "generation", "model_name", "picker", "policy_version", "ready_expert_count", "expert_count", "fresh_expert_count", "oldest_telemetry_age_seconds", "telemetry_problem", "problem", "answered_request_count", "met_objective_count")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    PICKER_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    READY_EXPERT_COUNT_FIELD_NUMBER: _ClassVar[int]
    EXPERT_COUNT_FIELD_NUMBER: _ClassVar[int]
    FRESH_EXPERT_COUNT_FIELD_NUMBER: _ClassVar[int]
    OLDEST_TELEMETRY_AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    MET_OBJECTIVE_COUNT_FIELD_NUMBER: _ClassVar[int]
    policy: str
    uid: str
    generation: int
    model_name: str
    picker: str
    policy_version: str
    ready_expert_count: int
    expert_count: int
    fresh_expert_count: int
    oldest_telemetry_age_seconds: float
    telemetry_problem: str
    problem: str
    answered_request_count: int
    met_objective_count: int
    def __init__(self, policy: _Optional[str] = ..., uid: _Optional[str] = ..., generation: _Optional[int] = ..., model_name: _Optional[str] = ..., picker: _Optional[str] = ..., policy_version: _Optional[str] = ..., ready_expert_count: _Optional[int] = ..., expert_count: _Optional[int] = ..., fresh_expert_count: _Optional[int] = ..., oldest_telemetry_age_seconds: _Optional[float] = ..., telemetry_problem: _Optional[str] = ..., problem: _Optional[str] = ..., answered_request_count: _Optional[int] = ..., met_objective_count: _Optional[int] = ...) -> None: ...
