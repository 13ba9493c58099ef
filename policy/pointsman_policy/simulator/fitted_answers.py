"""What a predictor fitted on part of a score table says of all its prompts."""

from functools import lru_cache

import numpy as np

from pointsman_policy.errors import DocumentError
from pointsman_policy.prediction.hashed_ngrams import HashedNgrams
from pointsman_policy.prediction.predictor import Prediction
from pointsman_policy.simulator.tables import ScoreTable


@lru_cache(maxsize=4)
def fitted_answers(table: ScoreTable, split_seed: int, fit_percent: int) -> Prediction:
    """Return predictions for the P prompts and M models of a table, [P, M]; no prompt's own answers are in its own.

    The predictor is fitted on the prompts set aside for that, with the split's seed; a prompt among these gets what a
    fit on other ones of them says. The last few tables are remembered.

    Raises:
        DocumentError: If the table has no prompts, or scikit-learn is not installed.
    """
    if table.prompts is None:
        raise DocumentError(table.source, "has no prompts; predictor.kind fitted needs them")
    try:
        from pointsman_policy.prediction.fitting import fit_predictor
    except ModuleNotFoundError as error:
        raise DocumentError(
            "predictor.kind fitted",
            f"needs the package {error.name!r}; install it with: pip install 'pointsman[policy]'",
        ) from error
    rows, _ = table.split(np.random.default_rng(split_seed), fit_percent / 100)
    chosen = table.take(rows)
    fit = fit_predictor(
        table.models,
        chosen.prompts or (),
        chosen.score,
        chosen.out_tokens,
        HashedNgrams(),
        np.random.default_rng(split_seed),
    )
    prediction = fit.predictor.predict_all(table.prompts)
    for values, out_of_fold in zip(prediction, fit.out_of_fold, strict=True):
        values[rows[list(fit.rows)]] = out_of_fold
        values.flags.writeable = False
    return prediction
