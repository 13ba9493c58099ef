"""Kubernetes objects as plain documents: the few verbs that tests need, without a class for every kind.

Resources are named by the path under which the API serves them: ``pods``, ``apps/v1/deployments``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

Document = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


class RefusedError(RuntimeError):
    """The API server did not do what was asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        """HTTP status: 403 forbidden, 404 not found, 409 conflict, 422 invalid."""


class Objects:
    """Reads and writes objects as one user."""

    def __init__(self, url: str, ca: Path, token: str, timeout_seconds: float = 60.0) -> None:
        self._url, self._timeout_seconds = url, timeout_seconds
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(ca)
        self._session.headers["Authorization"] = f"Bearer {token}"

    def create(self, resource: str, body: Document, namespace: str | None = None) -> Document:
        """Create an object; every method raises RefusedError where the server does not comply."""
        return self.call("POST", path(resource, None, namespace), body)

    def get(self, resource: str, name: str, namespace: str | None = None) -> Document:
        """Return an object."""
        return self.call("GET", path(resource, name, namespace))

    def find(self, resource: str, name: str, namespace: str | None = None) -> Document | None:
        """Return an object, or None if there is none of that name."""
        try:
            return self.get(resource, name, namespace)
        except RefusedError as refused:
            if refused.status == requests.codes.not_found:
                return None
            raise

    def list(self, resource: str, namespace: str | None = None, **selectors: str) -> list[Document]:
        """Return the objects of one namespace or of all, or those that a labelSelector or fieldSelector selects."""
        found = self.call("GET", path(resource, None, namespace), query=selectors)
        return list(found["items"])

    def patch(self, resource: str, name: str, body: Document, namespace: str | None = None) -> Document:
        """Merge a document into an object (JSON merge patch); ``NAME/status`` or ``NAME/scale`` are names, too."""
        return self.call("PATCH", path(resource, name, namespace), body, MERGE_PATCH)

    def delete(self, resource: str, name: str, namespace: str | None = None, **options: object) -> None:
        """Ask for an object's deletion (``gracePeriodSeconds=0`` and the like are options); none is fine."""
        try:
            self.call("DELETE", path(resource, name, namespace), {"propagationPolicy": "Background", **options})
        except RefusedError as refused:
            if refused.status != requests.codes.not_found:
                raise

    def call(
        self,
        method: str,
        at: str,
        body: Document | None = None,
        kind: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Document:
        """Make one call.

        Raises:
            RefusedError: the answer is an error.
        """
        answer = self._session.request(
            method,
            self._url + at,
            params=query,
            json=body,
            headers={"Content-Type": kind},
            timeout=self._timeout_seconds,
        )
        if not answer.ok:
            raise RefusedError(answer.status_code, _message(answer))
        document: Document = answer.json()
        return document

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def path(resource: str, name: str | None = None, namespace: str | None = None) -> str:
    """Return the path of a collection or an object: ``apps/v1/deployments`` and a namespace make
    ``/apis/apps/v1/namespaces/NS/deployments``.
    """
    group, _, plural = resource.rpartition("/")
    parts = ["/apis", group] if group else ["/api/v1"]
    if namespace is not None:
        parts += ["namespaces", namespace]
    parts.append(plural)
    if name is not None:
        parts.append(name)
    return "/".join(parts)


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError):
        return answer.text
