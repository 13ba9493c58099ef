"""Keeps router, telemetry and Envoy in line with what discovery finds."""

import logging
from dataclasses import replace
from pathlib import Path

from pointsman_operator.decision import PolicyReport
from pointsman_operator.discovery.store import Discovery
from pointsman_operator.router import Router
from pointsman_operator.serving.envoy_endpoints import EnvoyEndpoints
from pointsman_operator.telemetry.pollers import Pollers
from pointsman_policy.errors import DocumentError

_LOGGER = logging.getLogger(__name__)

_SOURCES = ("policies", "experts", "envoy_endpoints")


class Configuration:
    """Puts policies and experts into effect, at the start and whenever one of them changes.

    A new expert is announced to Envoy first and picked a moment later; one that has gone is not picked from the moment
    of the change on.

    Args:
        discovery: Knows policies and experts.
        router: Told of both.
        pollers: Told of the policies.
        envoy: Told of the experts; None = Envoy is not told by a file.
    """

    def __init__(
        self,
        discovery: Discovery,
        router: Router,
        pollers: Pollers,
        envoy: EnvoyEndpoints | None,
    ) -> None:
        self._discovery = discovery
        self._router = router
        self._pollers = pollers
        self._envoy = envoy
        self._failures = {"envoy_endpoints": "", "experts": ""}
        self._complete = False
        self._effective = False
        self._profiles: Path | None = None

    def start(self) -> None:
        """Put what is known into effect, and each change of it from now on.

        Raises:
            DocumentError: If the experts' profiles cannot be read, or Envoy's file cannot be written.
        """
        self._announce()
        self._configure()
        self._discovery.subscribe(self.refresh)

    def refresh(self) -> None:
        """Put a change into effect as far as possible; what is not in effect is logged and becomes a problem."""
        for source, step in (("envoy_endpoints", self._announce), ("experts", self._configure)):
            try:
                step()
            except DocumentError as error:
                if self._failures[source] != str(error):
                    _LOGGER.error("A change is not in effect: %s", error)
                self._failures[source] = str(error)
            else:
                self._failures[source] = ""

    @property
    def not_ready(self) -> str:
        """Why what discovery found has not been in effect even once; empty = it has been."""
        return "" if self._effective else "the experts are being announced"

    def complete(self) -> None:
        """Go on with what could not be done at once; call this about every half second."""
        if not self._complete or any(self._failures.values()):
            self.refresh()

    def problems(self) -> dict[str, str]:
        """Return why a change is not in effect, by what it was a change of; empty = it is."""
        found = self._discovery.problems()
        return {source: found.get(source) or self._failures.get(source, "") for source in _SOURCES}

    def reports(self) -> tuple[PolicyReport, ...]:
        """Return what runs of each policy, and how that goes, by key."""
        telemetry = self._pollers.problems()
        running = {report.policy: report for report in self._router.reports()}
        return tuple(
            replace(
                running.get(known.key) or PolicyReport(policy=known.key),
                uid=known.uid,
                generation=known.generation,
                problem=known.problem or self._failures["experts"],
                telemetry_problem=telemetry.get(known.key, ""),
            )
            for known in sorted(self._discovery.policies(), key=lambda known: known.key)
        )

    def _announce(self) -> None:
        if self._envoy is None:
            return
        if self._discovery.not_ready:
            # A router that starts while the API server is away must not take from Envoy the experts that it knows.
            self._envoy.prepare()
        else:
            self._envoy.announce(self._discovery.endpoints())

    def _configure(self) -> None:
        policies = [known.policy for known in self._discovery.policies() if known.policy is not None]
        endpoints, profiles = self._discovery.endpoints(), self._discovery.profiles
        known = endpoints if self._envoy is None else self._envoy.known(endpoints)
        self._complete = len(known) == len(endpoints)
        if not self._discovery.not_ready and (known or not endpoints):
            self._effective = True
        try:
            self._router.configure(policies, known, profiles)
            self._profiles = profiles
        except DocumentError:
            # Whatever is wrong with the new profiles: what has gone must not be picked.
            self._router.configure(policies, known, self._profiles)
            raise
        finally:
            self._pollers.follow(policies)
