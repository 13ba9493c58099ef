"""The four coefficients of an expert's iteration time, fitted to what it served."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman_policy.twin.served import Rows, Served, decode_rows, first_token_rows
from pointsman_policy.twin.shifts import shifts

Floats = npt.NDArray[np.float64]

LEAST_OUTCOMES = 20
"""Below so many, an expert stays as it is declared."""
_ROUNDS = 4
_REWEIGHTINGS = 8
_HUBER = 1.5
"""Standard deviations beyond which an equation counts less (Huber, "Robust Statistics", 1981)."""
_PRIOR_DEVIATION = 0.4
"""How far, relatively, single coefficients are expected to be from the declared ones once all are scaled alike."""
_PACE_PRIOR_ROWS = 2.0
_LEAST_CLEAR = 5
_LEAST_SHARE = 0.02
"""Of an iteration: a coefficient declared lower, even 0, may still be found to matter so much."""
_LARGEST_FACTOR = 16.0
_LEAST_SHIFT = 0.08
"""Relative change of pace that is taken for a change of the expert."""
_OLDER_WEIGHT = 0.25
"""Of equations from before a change of pace, which tell of the coefficients' proportions only."""


class Fit(NamedTuple):
    """What an expert is really like."""

    coefficients: Floats
    """(c0, c_seq, c_ctx, c_prefill), seconds, as of the newest outcomes, [4]."""
    outcomes: int
    """Since the last change of pace."""
    changes: tuple[float, ...]
    """When its pace changed, as far as seen; same clock as the outcomes."""


def fit_expert(served: Served, declared: Floats) -> Fit | None:
    """Fit an expert's coefficients; None if it served too little.

    Robust least squares, shrunk in two steps: all coefficients have a common factor to the declared ones, and each of
    them one of its own around that. Where the expert changed its pace on the way, what it did before is scaled to what
    it does now.

    Args:
        served: All that it served in some span of time.
        declared: Coefficients as declared, [4].
    """
    if len(served) < LEAST_OUTCOMES:
        return None
    first_tokens = first_token_rows(served)
    coefficients = declared.copy()
    for _ in range(_ROUNDS):
        decodes = decode_rows(served, coefficients)
        if len(decodes.seconds) < LEAST_OUTCOMES:
            return None
        order = np.argsort(decodes.at, kind="stable")
        decodes = Rows(*(column[order] for column in decodes))
        ratios = np.log(decodes.seconds / (decodes.terms @ coefficients))
        found = shifts(ratios, _LEAST_SHIFT)
        changed_at = decodes.at[list(found)]
        paces = _paces(decodes, ratios, changed_at)
        rows = _joined(
            _at_pace(_apart(decodes, changed_at), changed_at, paces),
            _at_pace(_apart(first_tokens, changed_at), changed_at, paces),
        )
        coefficients = _solve(rows, declared, coefficients * paces[-1])
    newest = len(decodes.seconds) - (found[-1] if found else 0)
    return Fit(coefficients, newest, tuple(changed_at.tolist()))


def _paces(decodes: Rows, ratios: Floats, changed_at: Floats) -> Floats:
    """Return how much longer things took than supposed, at each level; few observations count less."""
    clear = _clear_of(decodes, changed_at)
    level = np.searchsorted(changed_at, decodes.at, side="right")
    paces = []
    for number in range(len(changed_at) + 1):
        own = ratios[clear & (level == number)]
        if len(own) < _LEAST_CLEAR:
            own = ratios[level == number]
        paces.append(np.median(own) * len(own) / (len(own) + _PACE_PRIOR_ROWS))
    return np.asarray(np.exp(np.array(paces)))


def _clear_of(rows: Rows, changed_at: Floats) -> npt.NDArray[np.bool_]:
    """Tell which were not under way when the pace changed; that was before the first to end of those it shows in.

    Args:
        rows: Equations.
        changed_at: Ends of those first ones, rising.
    """
    margin = float(np.median(rows.seconds)) if len(rows.seconds) else 0.0
    begun = np.searchsorted(changed_at, rows.at - rows.seconds, side="right")
    ended = np.searchsorted(changed_at - margin, rows.at, side="right")
    return np.asarray(begun == ended)


def _apart(rows: Rows, changed_at: Floats) -> Rows:
    clear = _clear_of(rows, changed_at)
    return Rows(*(column[clear] for column in rows))


def _at_pace(rows: Rows, changed_at: Floats, paces: Floats) -> Rows:
    """Return equations as they would be at the last pace; those of older ones with less weight."""
    level = np.searchsorted(changed_at, rows.at, side="right")
    factor = paces[-1] / paces[level]
    doubt = np.where(level == len(paces) - 1, 1.0, 1.0 / np.sqrt(_OLDER_WEIGHT))
    return Rows(rows.terms, rows.seconds * factor, rows.deviation * factor * doubt, rows.at)


def _joined(*parts: Rows) -> Rows:
    return Rows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _solve(rows: Rows, declared: Floats, start: Floats) -> Floats:
    """Return the coefficients that explain equations best; iteratively reweighted least squares."""
    typical = rows.terms.mean(axis=0) / rows.terms[:, 0].mean()
    iteration = float(typical @ declared)
    scale = np.maximum(declared, _LEAST_SHARE * iteration / np.maximum(typical, 1e-9))
    a = rows.terms * scale / rows.deviation[:, None]
    b = rows.seconds / rows.deviation
    factors = start / scale
    prior = declared / scale
    spread = 1.0
    for _ in range(_REWEIGHTINGS):
        residual = np.abs(b - a @ factors)
        spread = max(float(np.median(residual)) * 1.4826, 0.25)
        weight = np.minimum(1.0, _HUBER * spread / np.maximum(residual, 1e-12)) / spread**2
        common = _common_factor(a @ prior, b, weight)
        strength = 1.0 / (_PRIOR_DEVIATION * common) ** 2
        normal = (a * weight[:, None]).T @ a + strength * np.eye(4)
        target = (a * weight[:, None]).T @ b + strength * common * prior
        factors = _bounded(normal, target, factors, _LARGEST_FACTOR)
    return np.asarray(factors * scale)


def _common_factor(supposed: Floats, measured: Floats, weight: Floats) -> float:
    """Return by what factor measured values differ from supposed ones, by weighted least squares."""
    factor = float((weight * supposed) @ measured / max(float((weight * supposed) @ supposed), 1e-12))
    return min(max(factor, 1.0 / _LARGEST_FACTOR), _LARGEST_FACTOR)


def _bounded(normal: Floats, target: Floats, start: Floats, most: float) -> Floats:
    """Minimise ``x'Nx/2 - t'x`` for x between 0 and `most`, by coordinate descent."""
    x = start.copy()
    for _ in range(500):
        before = x.copy()
        for k in range(len(x)):
            gradient = target[k] - normal[k] @ x
            x[k] = min(max(x[k] + gradient / normal[k, k], 0.0), most)
        if np.abs(x - before).max() < 1e-9:
            break
    x[0] = max(x[0], 1.0 / _LARGEST_FACTOR)
    return x
