"""The twin: situations with experts as calibrated and traffic as observed, for any version's beliefs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pointsman_policy.experience.dataset import Experience
from pointsman_policy.experience.fleet import FleetExpert
from pointsman_policy.latency.profiles import IterationTimeCoefficients, capacity_requests_per_second
from pointsman_policy.registry.calibration import Calibration
from pointsman_policy.simulator.simulation import Fleet, Requests, Visibility
from pointsman_policy.simulator.situation import Situation
from pointsman_policy.twin.answers import Answers, knows_answers, observed_answers
from pointsman_policy.twin.calibration import believed_coefficients, declared_experts
from pointsman_policy.twin.traffic import Drawn, Traffic, observed_traffic

Floats = npt.NDArray[np.float64]

DEFAULT_LOADS = (0.4, 1.4)
_DEFAULT_MAXIMUM_RUNNING = 256
_USUAL = Visibility()


@dataclass(frozen=True, eq=False)
class Twin:
    """An endless series of situations; can be sent to another process.

    The same index and seed give the same requests, answers and experts whatever is believed of them: versions with
    unlike beliefs meet the same situations.
    """

    experts: tuple[FleetExpert, ...]
    """As declared."""
    truth: Calibration
    """What the experts are like."""
    believed: Calibration
    """What the router believes that they are like; what is not in it, is believed as declared."""
    traffic: Traffic
    answers: tuple[Answers, ...]
    """Of each expert's model; experts of one model share theirs."""
    seed: int
    requests: int = 1_000
    """In one situation."""
    loads: tuple[float, float] = DEFAULT_LOADS
    """Least and greatest mean arrival rate over the fleet's capacity within the objectives."""
    visibility: Visibility = _USUAL
    admissions: tuple[str, ...] = ()
    """Modes of admission to draw from; none = as observed."""

    def believing(self, believed: Calibration) -> "Twin":
        """Return the same situations for a router with other beliefs."""
        return replace(self, believed=believed)

    def admitting(self, admissions: Sequence[str]) -> "Twin":
        """Return the same situations under these modes of admission."""
        return replace(self, admissions=tuple(admissions))

    @property
    def observed_load(self) -> float:
        """Mean arrival rate as observed over the fleet's capacity."""
        return self.traffic.requests_per_second / self._capacity()

    def situation(self, index: int) -> Situation:
        """Return the situation with this index, 0 or above."""
        arriving, answering, admitting = np.random.default_rng([self.seed, index]).spawn(3)
        load = float(arriving.uniform(*self.loads))
        drawn = self.traffic.draw(arriving, self.requests, load * self._capacity())
        admission = str(admitting.choice(self.admissions)) if self.admissions else self.traffic.admission
        requests, quality = self._requests(drawn, answering)
        return Situation(
            name=f"twin, load {load:.2f}",
            fleet=self._fleet(requests.predicted_quality),
            requests=requests,
            quality=quality,
            visibility=self.visibility,
            admission=admission,
            load=load,
        )

    def _requests(self, drawn: Drawn, rng: np.random.Generator) -> tuple[Requests, Floats]:
        shape = (len(drawn.arrival_at), len(self.experts))
        quality, output_tokens = np.empty(shape), np.empty(shape)
        predicted_quality, predicted_tokens = np.empty(shape), np.empty(shape)
        column_of: dict[str, int] = {}
        for e, expert in enumerate(self.experts):
            known = column_of.setdefault(expert.model, e)
            if known != e:  # replicas give the same answer
                for table in (quality, output_tokens, predicted_quality, predicted_tokens):
                    table[:, e] = table[:, known]
                continue
            answers, believed = self.answers[e], self.believed.models.get(expert.model)
            quality[:, e], seen = answers.quality.draw(rng, drawn.prompt_tokens)
            predicted_quality[:, e] = answers.predicted_quality(seen, believed)
            output_tokens[:, e], seen = answers.output_tokens.draw(rng, drawn.prompt_tokens)
            predicted_tokens[:, e] = answers.predicted_output_tokens(seen, believed)
        requests = Requests(
            arrival_at=drawn.arrival_at,
            prompt_tokens=drawn.prompt_tokens,
            output_tokens=np.maximum(np.round(output_tokens), 1).astype(np.int64),
            predicted_quality=predicted_quality.astype(np.float32),
            predicted_output_tokens=predicted_tokens.astype(np.float32),
            objectives=drawn.objectives,
            priority=-drawn.may_drop.astype(np.int64),
            quality_floor=0.0,
        )
        return requests, quality

    def _fleet(self, predicted_quality: npt.NDArray[np.float32]) -> Fleet:
        return Fleet(
            coefficients=self._coefficients(self.truth),
            believed_coefficients=self._coefficients(self.believed),
            kv_capacity=np.array([expert.kv_capacity_tokens for expert in self.experts]),
            maximum_running=np.array([_most_running(expert) for expert in self.experts], np.int64),
            quality_prior=predicted_quality.mean(axis=0).astype(np.float64),
        )

    def _coefficients(self, calibration: Calibration) -> Floats:
        return np.array([believed_coefficients(expert, calibration) for expert in self.experts])

    def _capacity(self) -> float:
        """Return the requests per second that the true fleet carries within the tightest per-token objective."""
        per_token = self.traffic.objectives[:, 1:]
        tightest = np.where(per_token > 0.0, per_token, np.inf).min(axis=1)
        within = tightest[np.isfinite(tightest)]
        prompt_tokens = float(self.traffic.prompt_tokens.mean())
        return sum(
            capacity_requests_per_second(
                IterationTimeCoefficients(*coefficients.tolist()),
                prompt_tokens=prompt_tokens,
                output_tokens=max(float(answers.output_tokens.value.mean()), 1.0),
                token_seconds=float(within.mean()) if within.size else 0.0,
                maximum_running=_most_running(expert),
                kv_capacity_tokens=int(expert.kv_capacity_tokens),
            )
            for expert, answers, coefficients in zip(
                self.experts, self.answers, self._coefficients(self.truth), strict=True
            )
        )


def _most_running(expert: FleetExpert) -> int:
    return expert.maximum_running or _DEFAULT_MAXIMUM_RUNNING


def make_twin(
    experience: Experience,
    truth: Calibration,
    believed: Calibration,
    seed: int,
    everything: Experience | None = None,
) -> Twin:
    """Return the twin of what was observed.

    Args:
        experience: Gives traffic and answers, and the fleet.
        truth: What the experts are like.
        believed: What the router believes.
        seed: Of all situations, any non-negative integer.
        everything: Gives the answers of models of which there are too few in the experience; None = nothing more.

    Raises:
        ValueError: If no fleet is known, or there are no outcomes.
    """
    experts = declared_experts(experience)
    of_model = {}
    for expert in experts:
        source = experience
        if everything is not None and not knows_answers(experience, expert.model):
            source = everything
        prior_tokens = max(expert.output_tokens_prior, 1.0)
        of_model[expert.model] = observed_answers(source, expert.model, expert.quality_prior, prior_tokens)
    return Twin(
        experts=experts,
        truth=truth,
        believed=believed,
        traffic=observed_traffic(experience),
        answers=tuple(of_model[expert.model] for expert in experts),
        seed=seed,
    )
