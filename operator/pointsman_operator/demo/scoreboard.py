"""What has become of the demo's requests so far, rule by rule."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pointsman_operator.demo.messages import Report
from pointsman_operator.demo.workload import DemoWorkload
from pointsman_policy.simulator.outcomes import Outcomes


class Tally:
    """The requests of one rule.

    Args:
        workload: What is sent; knows how good each model's answer is.
    """

    def __init__(self, workload: DemoWorkload) -> None:
        count = len(workload.requests)
        self._workload = workload
        self._column_of = workload.expert_of()
        self._first_token_at = np.full(count, np.nan)
        self._ended_at = np.full(count, np.nan)
        self._output_tokens = np.zeros(count, np.int64)
        self._quality = np.zeros(count)
        self._answered = np.zeros(count, np.bool_)
        self._dropped = np.zeros(count, np.bool_)
        self._reports: list[Report] = []
        self.problems: Counter[str] = Counter()
        """Why requests failed."""

    def take(self, report: Report) -> None:
        """Take the end of a request."""
        self._reports.append(report)
        row = report.request
        self._ended_at[row] = report.ended_at
        if report.status == "dropped":
            self._dropped[row] = True
        elif report.status == "failed":
            self.problems[report.problem] += 1
        elif report.model not in self._column_of:
            self.problems[f"answered by an unknown model {report.model[:60]!r}"] += 1
        else:
            self._answered[row] = True
            self._first_token_at[row] = np.nan if report.first_token_at is None else report.first_token_at
            self._output_tokens[row] = report.output_tokens
            self._quality[row] = self._workload.requests.quality[row, self._column_of[report.model]]

    @property
    def reports(self) -> Sequence[Report]:
        """All ends, in the order of their coming."""
        return self._reports

    @property
    def answered(self) -> int:
        """Requests that got their whole answer."""
        return int(self._answered.sum())

    @property
    def dropped(self) -> int:
        """Requests that the router shed."""
        return int(self._dropped.sum())

    @property
    def failed(self) -> int:
        """Requests that ended otherwise."""
        return len(self._reports) - self.answered - self.dropped

    def ended(self) -> npt.NDArray[np.bool_]:
        """Return which requests of the workload have ended, [n]."""
        ended: npt.NDArray[np.bool_] = ~np.isnan(self._ended_at)
        return ended

    def outcomes(self) -> Outcomes | None:
        """Return the requests that have ended, in order of arrival; None if there are none."""
        ended = self.ended()
        if not ended.any():
            return None
        return Outcomes(
            arrival_at=self._workload.requests.arrival_seconds[ended],
            first_token_at=self._first_token_at[ended],
            end_at=self._ended_at[ended],
            output_tokens=self._output_tokens[ended],
            quality=self._quality[ended],
            objectives=self._workload.objectives[ended],
            answered=self._answered[ended],
            dropped=self._dropped[ended],
        )


class Scoreboard:
    """All rules.

    Args:
        workload: What is sent.
        pickers: The rules, as in the reports.
    """

    def __init__(self, workload: DemoWorkload, pickers: Sequence[str]) -> None:
        self.workload = workload
        self.tallies = {picker: Tally(workload) for picker in pickers}
        self._by_index = list(self.tallies.values())

    def take(self, report: Report) -> None:
        """Take the end of a request under one rule."""
        self._by_index[report.rule].take(report)

    @property
    def ended(self) -> int:
        """Ends so far, over all rules."""
        return sum(len(tally.reports) for tally in self._by_index)

    def sent_by(self, seconds: float) -> int:
        """Return how many requests each rule has been sent after so long."""
        return int(np.searchsorted(self.workload.requests.arrival_seconds, seconds, side="right"))

    def lateness_seconds(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return how much later than planned each ended request was sent."""
        arrivals = self.workload.requests.arrival_seconds
        late = [report.sent_at - arrivals[report.request] for tally in self._by_index for report in tally.reports]
        return np.array(late)
