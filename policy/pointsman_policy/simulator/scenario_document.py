"""The scenario document: one YAML file that fixes everything of an experiment but the picker, the seed and the load."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pointsman_policy.documents import Document, name_pattern
from pointsman_policy.experts import IterationTime

Integer = Annotated[int, Field(strict=True)]
Percent = Annotated[int, Field(strict=True, ge=0, le=100)]
Tokens = Annotated[float, Field(ge=1, le=1_000_000)]
Variation = Annotated[float, Field(gt=0, le=100)]


class ScenarioExpert(Document):
    """One kind of expert, and how many of it there are."""

    name: str = Field(pattern=name_pattern(58))
    """Unique; replicas get "-0", "-1", ... after it."""
    model: str = Field(min_length=1, max_length=253)
    """The model's name in the profiles."""
    quality_model: str = ""
    """The model's name in the score table or in `synthetic`; default: `model`, or the one of that architecture."""
    gpu: str = ""
    """GPU type as in the profiles, such as "L40S"; empty if unknown."""
    replicas: Integer = Field(default=1, ge=1, le=1_000)
    """Experts of this kind."""
    iteration_time: IterationTime | None = None
    """True coefficients; default: the profile of (model, gpu), else estimated from both."""
    kv_capacity_tokens: Integer = Field(default=0, ge=0)
    """Tokens that fit in the KV cache; 0 = from the profile or estimated."""
    maximum_running: Integer = Field(default=256, ge=1, le=4_096)
    """Most sequences in one iteration."""
    speed: float = Field(default=1.0, gt=0, le=1_000)
    """Iterations run this many times as fast as the coefficients say."""

    def replica_names(self) -> tuple[str, ...]:
        """Return the name of each of its replicas."""
        if self.replicas == 1:
            return (self.name,)
        return tuple(f"{self.name}-{replica}" for replica in range(self.replicas))


class Arrivals(Document):
    """When requests come. Their mean rate is the fleet's capacity times the load factor."""

    kind: Literal["poisson", "bursty", "diurnal", "trace"] = "poisson"
    """poisson; bursty: gamma-distributed gaps; diurnal: the same with rates of one day, compressed into the run; trace:
    the trace's arrivals, compressed in time."""
    coefficient_of_variation: Variation = 1.0
    """Of the gaps, for bursty and diurnal: standard deviation over mean; above 1 is burstier than Poisson."""
    trace: str | None = None
    """CSV of arrivals and lengths, relative to this file; needed for kind trace and for lengths fromTrace."""
    rates: str | None = None
    """For diurnal: CSV of rates over time, relative to this file; default: a made-up day."""
    rates_column: str = "rps"
    """The column of `rates` to follow."""


class PromptLengths(Document):
    """Prompt lengths."""

    kind: Literal["fromPrompts", "fromTrace", "lognormal"] = "fromPrompts"
    """fromPrompts: of the prompt drawn from the quality table; fromTrace: of the trace's request."""
    mean_tokens: Tokens = 500
    """For lognormal."""
    coefficient_of_variation: Variation = 1.0
    """For lognormal: standard deviation over mean."""


class OutputLengths(Document):
    """Answer lengths."""

    kind: Literal["fromScores", "fromTrace", "lognormal"] = "fromScores"
    """fromScores: of each model's answer in the quality table; fromTrace: of the trace's request on every model."""
    mean_tokens: Tokens = 200
    """For lognormal."""
    coefficient_of_variation: Variation = 1.0
    """For lognormal: standard deviation over mean."""


class Lengths(Document):
    """Prompt and answer lengths."""

    prompt: PromptLengths = PromptLengths()
    """Of prompts."""
    output: OutputLengths = OutputLengths()
    """Of answers."""


class PredictorDocument(Document):
    """What pickers are told of quality and length before a request is answered."""

    kind: Literal["modelMean", "fitted", "noisy", "oracle", "fromTable"] = "modelMean"
    """modelMean: each model's mean over the prompts set aside for fitting; fitted: a predictor fitted on those; noisy:
    the truth plus noise, shrunk towards that mean; oracle: the truth; fromTable: the predictions in the mixInstruct
    file."""
    noise_percent: Percent = 20
    """For noisy: standard deviation of the noise on quality, percentage points."""
    length_noise_percent: Percent = 40
    """For noisy: standard deviation of the noise on the length, percent of the length."""
    reliability_percent: Annotated[int, Field(strict=True, ge=0, le=100)] | None = None
    """For noisy: weight of the noisy truth against the mean; default: truth's variance over truth's plus noise's."""


class Synthetic(Document):
    """Quality drawn from beta distributions, for want of a table."""

    mean_percent: dict[str, Annotated[int, Field(strict=True, ge=1, le=99)]] = Field(min_length=1)
    """Mean quality of each model."""
    spread_percent: Annotated[int, Field(strict=True, ge=1, le=49)] = 20
    """Standard deviation of quality over prompts, percentage points."""

    @model_validator(mode="after")
    def _spread_is_possible(self) -> "Synthetic":
        for model, percent in self.mean_percent.items():
            mean, spread = percent / 100, self.spread_percent / 100
            if spread**2 >= mean * (1 - mean):
                raise ValueError(
                    f"spreadPercent {self.spread_percent} is too much for a mean of {percent} ({model}); "
                    f"it must be below {100 * (mean * (1 - mean)) ** 0.5:.0f}"
                )
        return self


class Quality(Document):
    """How good answers are: from a score table, a mix-instruct file, or made up. Files are relative to this file."""

    scores: str | None = None
    """Score table: parquet, CSV or JSONL."""
    prompts: str | None = None
    """The prompts of `scores`."""
    mix_instruct: str | None = None
    """JSONL with prompts, answers and scores in one."""
    synthetic: Synthetic | None = None
    """Made-up quality."""
    predictor: PredictorDocument = PredictorDocument()
    """What pickers are told."""
    fit_percent: Annotated[int, Field(strict=True, ge=1, le=99)] = 50
    """Share of a table's prompts set aside for fitting predictors; requests carry the others only."""
    split_seed: Integer = Field(default=0, ge=0, le=2**32 - 1)
    """Which prompts are set aside."""

    @model_validator(mode="after")
    def _one_origin(self) -> "Quality":
        origins = {"scores": self.scores, "mixInstruct": self.mix_instruct, "synthetic": self.synthetic}
        given = [name for name, value in origins.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of scores, mixInstruct and synthetic, not {' and '.join(given) or 'none'}"
            )
        if self.prompts is not None and self.scores is None:
            raise ValueError("prompts belong to scores; remove them")
        if self.predictor.kind == "fromTable" and self.mix_instruct is None:
            raise ValueError("predictor.kind fromTable needs mixInstruct")
        if self.predictor.kind == "fitted" and self.prompts is None and self.mix_instruct is None:
            raise ValueError("predictor.kind fitted needs prompts, or mixInstruct; it predicts from their text")
        return self


class Targets(Document):
    """Latency targets of a request; 0 = no such target."""

    normalized_time_per_output_token_milliseconds: Integer = Field(default=0, ge=0, le=60_000)
    """NTPOT: arrival to end, divided by output tokens."""
    time_per_output_token_milliseconds: Integer = Field(default=0, ge=0, le=60_000)
    """TPOT: first token to end, divided by the tokens after the first."""
    time_to_first_token_milliseconds: Integer = Field(default=0, ge=0, le=600_000)
    """TTFT: arrival to first token."""


class Objectives(Targets):
    """Targets of every request, as in a RouterPolicy."""

    quality_floor_percent: Percent = 0
    """Experts predicted below it are not picked while any other is above; 0 = no floor."""


class ObjectiveClass(Targets):
    """Requests with targets of their own, as clients set them by headers."""

    share_percent: Annotated[int, Field(strict=True, ge=1, le=100)]
    """Share of all requests."""


class Admission(Document):
    """May requests be shed?"""

    mode: Literal["Never", "ShedSheddable", "ShedHopeless"] = "Never"
    """As in a RouterPolicy."""
    sheddable_percent: Percent = 0
    """Share of requests that have priority -1; the others have 0."""


class Telemetry(Document):
    """How old a picker's picture of the experts is."""

    interval_milliseconds: Integer = Field(default=1_000, ge=0, le=600_000)
    """Between load samples of an expert; 0 = always fresh."""
    delay_milliseconds: Integer = Field(default=0, ge=0, le=600_000)
    """From the sampling to the picker's knowing."""
    discovery_milliseconds: Integer = Field(default=1_000, ge=0, le=600_000)
    """From an expert's loss or addition, see `changes`, to the picker's knowing."""


class Outcomes(Document):
    """How late a picker's router hears of its requests."""

    delay_milliseconds: Integer = Field(default=100, ge=0, le=600_000)
    """From the end of a request to the router's knowing."""
    progress_milliseconds: Integer = Field(default=1_000, ge=0, le=600_000)
    """Between reports of tokens so far; 0 = always known."""


class ScenarioChange(Document):
    """What happens to one expert during a run."""

    at_percent: Percent
    """When: percent of the time from 0 to the last arrival."""
    expert: str
    """Its name; a replica's has its number."""
    kind: Literal["pace", "lost", "added"]
    """pace: its iterations take another time from now on, and nobody is told; lost: it is gone, and so are its
    requests; added: it was not there before."""
    iteration_time_percent: Annotated[int, Field(strict=True, ge=1, le=100_000)] | None = None
    """For pace: of the time that they took at first."""

    @model_validator(mode="after")
    def _says_what_it_needs(self) -> "ScenarioChange":
        if self.kind == "pace" and self.iteration_time_percent is None:
            raise ValueError("kind pace needs iterationTimePercent; 200 is twice as slow as at first")
        if self.kind != "pace" and self.iteration_time_percent is not None:
            raise ValueError(f"iterationTimePercent belongs to kind pace, not to {self.kind}; remove it")
        return self


class ScenarioDocument(Document):
    """The whole of a scenario file."""

    name: str = Field(min_length=1, max_length=100)
    """In reports."""
    description: str = ""
    """For people."""
    profiles: str | None = None
    """CSV of iteration-time fits, relative to this file."""
    experts: tuple[ScenarioExpert, ...] = Field(min_length=1, max_length=1_000)
    """The fleet."""
    arrivals: Arrivals = Arrivals()
    """When requests come."""
    requests: Integer = Field(default=6_000, ge=1, le=10_000_000)
    """Requests in one run."""
    lengths: Lengths = Lengths()
    """How long prompts and answers are."""
    quality: Quality
    """How good answers are."""
    objectives: Objectives = Objectives(normalized_time_per_output_token_milliseconds=30)
    """What a request must keep to count; these targets define load factor 1, whatever `objectiveClasses` says."""
    objective_classes: tuple[ObjectiveClass, ...] = Field(default=(), max_length=20)
    """Requests with other targets; the rest has `objectives`."""
    admission: Admission = Admission()
    """May requests be shed?"""
    telemetry: Telemetry = Telemetry()
    """Age of load samples."""
    outcomes: Outcomes = Outcomes()
    """Delay of outcomes."""
    belief_scale_percent: Integer = Field(default=100, ge=1, le=10_000)
    """Believed iteration times over true ones; 100 = the latency model is right, below it is optimistic."""
    changes: tuple[ScenarioChange, ...] = Field(default=(), max_length=1_000)
    """What happens to experts during a run; in the order given where the time is the same."""
    load_factors: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(default=(0.5, 0.9, 1.3), min_length=1)
    """Loads to run at; 1 = the fleet's capacity."""

    @model_validator(mode="after")
    def _fits_together(self) -> "ScenarioDocument":
        names = [expert.name for expert in self.experts]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two experts have the name {name!r}; each needs its own")
        for problem in (*self._missing_files(), *self._impossible_changes()):
            raise ValueError(problem)
        shares = sum(entry.share_percent for entry in self.objective_classes)
        if shares > 100:
            raise ValueError(f"the shares of objectiveClasses add up to {shares} %; they must not exceed 100 %")
        return self

    def replica_names(self) -> tuple[str, ...]:
        """Return the experts' names, replicas one by one."""
        return tuple(name for expert in self.experts for name in expert.replica_names())

    def _impossible_changes(self) -> list[str]:
        there: dict[str, bool] = {}
        names = self.replica_names()
        problems = []
        for change in sorted(self.changes, key=lambda one: one.at_percent):
            name, added = change.expert, change.kind == "added"
            if name not in names:
                known = f"{', '.join(names[:40])}{' ...' if len(names) > 40 else ''}"
                problems.append(f"changes: there is no expert {name!r}; experts are {known}")
            elif change.kind != "pace":
                if there.get(name) == added:
                    state = "there already" if added else "gone already"
                    problems.append(f"changes: {name!r} is {change.kind} at {change.at_percent} %, but it is {state}")
                there[name] = added
        return problems

    def _missing_files(self) -> list[str]:
        lengths, quality = self.lengths, self.quality
        problems = []
        if self.arrivals.rates is not None and self.arrivals.kind != "diurnal":
            problems.append("arrivals.rates belong to arrivals.kind diurnal; remove them")
        if self.arrivals.trace is None:
            if self.arrivals.kind == "trace":
                problems.append("arrivals.trace is needed for arrivals.kind trace")
            if "fromTrace" in (lengths.prompt.kind, lengths.output.kind):
                problems.append("arrivals.trace is needed for lengths fromTrace")
        if lengths.prompt.kind == "fromPrompts" and quality.prompts is None and quality.mix_instruct is None:
            problems.append("quality.prompts is needed for lengths.prompt.kind fromPrompts; or use lognormal")
        if lengths.output.kind == "fromScores" and quality.synthetic is not None:
            problems.append("lengths.output.kind fromScores needs quality.scores; or use lognormal")
        return problems
