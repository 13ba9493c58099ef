"""Clients that stream answers in the background while the cluster changes under them."""

import threading
from dataclasses import dataclass, field

import requests
from tests.integration.stack.processes import eventually

DECISION_HEADER = "x-pointsman-decision-id"
TOKENS = 80


@dataclass(frozen=True)
class Ended:
    """One request at its end."""

    decision_id: str
    """Empty if no router decided on it."""
    problem: str
    """Empty if the whole answer came."""


@dataclass
class Clients:
    """Clients that send one request after the other, each by a connection of its own, until they are told to stop."""

    url: str
    model: str
    answers: list[Ended] = field(default_factory=list)
    failures: list[Ended] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, count: int) -> None:
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def proceed(self, count: int = 8) -> list[Ended]:
        """Return the answers to so many requests that are sent from now on."""
        begun = len(self.answers) + len(self._threads)
        eventually(lambda: len(self.answers) >= begun + count, f"{count} answers; failed: {self.failures}")
        return self.answers[begun:]

    def _run(self) -> None:
        while not self._over.is_set():
            ended = self._ask()
            (self.failures if ended.problem else self.answers).append(ended)

    def _ask(self) -> Ended:
        body = {"model": self.model, "max_tokens": TOKENS, "stream": True, "prompt": "Where to?"}
        decision_id = last = ""
        try:
            with requests.post(f"{self.url}/v1/completions", json=body, stream=True, timeout=60) as answer:
                decision_id = answer.headers.get(DECISION_HEADER, "")
                for line in filter(None, answer.iter_lines()):
                    last = line.decode()
        except requests.RequestException as error:
            return Ended(decision_id, repr(error))
        whole = answer.ok and last == "data: [DONE]"
        return Ended(decision_id, "" if whole else f"{answer.status_code}, ended with {last!r}")
