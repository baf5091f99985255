"""Which labels are probably wrong: confident learning, done by cleanlab.

The probabilities must come from models that have not seen the row they judge: a model that has, agrees with the
wrong label it was taught. What this does not catch: mistakes that a model of these features also makes, such as a
class that is mislabelled everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from helpers.training_data.splits import plain_scalar


def out_of_fold_probabilities(
    model: Any, x: Any, y: ArrayLike, *, folds: int = 5, seed: int = 0
) -> NDArray[np.float64]:
    """Class probabilities (n, k) of each row by a copy of `model` that was fitted without it.

    Args:
        model: scikit-learn classifier with `predict_proba`; put preprocessing into a Pipeline, or it sees all rows.
        x: (n, d) array or DataFrame.
        y: (n,) labels of k ≥ 2 classes, each with at least `folds` rows. Column j belongs to the j-th sorted label.
        folds: how many models are fitted, 2 or more.
        seed: of the folds.

    Raises TypeError or ValueError naming the argument. Stone, "Cross-validatory choice", 1974.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    if not hasattr(model, "predict_proba"):
        raise TypeError(f"model must be a classifier with predict_proba, got {type(model).__name__}")
    labels = _labels(y, "y")
    rows = x.shape[0] if hasattr(x, "shape") else len(x)
    if rows != len(labels):
        raise ValueError(f"x and y must have the same number of rows, got {rows:,} and {len(labels):,}")
    if isinstance(folds, bool) or not isinstance(folds, (int, np.integer)) or folds < 2:
        raise ValueError(f"folds must be a whole number of at least 2, got {folds!r}")
    codes, names = pd.factorize(labels, sort=True)
    counts = np.bincount(codes)
    if len(names) < 2:
        raise ValueError(f"y has one class only ({plain_scalar(names[0])!r}): nothing to predict")
    if counts.min() < folds:
        rare = plain_scalar(names[int(counts.argmin())])
        raise ValueError(
            f"class {rare!r} of y has {counts.min()} rows, fewer than folds={folds}: merge or drop it, "
            "or use fewer folds"
        )
    by_class = StratifiedKFold(int(folds), shuffle=True, random_state=seed)
    return cross_val_predict(model, x, codes, cv=by_class, method="predict_proba")


def label_errors(labels: ArrayLike, probabilities: ArrayLike) -> pd.DataFrame:
    """The rows whose label is probably wrong, the most doubtful first.

    Args:
        labels: (n,) given labels of k classes.
        probabilities: (n, k) out-of-fold probabilities; column j belongs to the j-th sorted label.

    Returns a DataFrame with `row` (position), `given`, `suggested` and `quality` (0 to 1, the self-confidence: the
    probability of the given label). Empty when nothing stands out. Raises ValueError for shapes or values that are
    no probabilities. Northcutt, Jiang and Chuang, "Confident learning", 2021 (cleanlab).
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    given = _labels(labels, "labels")
    codes, names = pd.factorize(given, sort=True)
    chances = _probabilities(probabilities, len(given), len(names))
    rows = find_label_issues(codes, chances, return_indices_ranked_by="self_confidence", n_jobs=1)
    rows = np.asarray(rows, dtype=np.int64)
    quality = np.asarray(get_label_quality_scores(codes, chances), dtype=float)[rows]
    suggested = pd.Index(names)[chances[rows].argmax(axis=1)]
    return pd.DataFrame(
        {"row": rows, "given": pd.Index(names)[codes[rows]], "suggested": suggested, "quality": quality}
    )


def _labels(values: ArrayLike, argument: str) -> pd.Series:
    if np.ndim(values) != 1:
        raise ValueError(f"{argument} must have one dimension, got shape {np.shape(values)}")
    labels = pd.Series(values).reset_index(drop=True)
    if len(labels) == 0:
        raise ValueError(f"{argument} is empty")
    if labels.isna().any():
        raise ValueError(f"{argument} is missing in {int(labels.isna().sum()):,} of {len(labels):,} rows")
    return labels


def _probabilities(values: ArrayLike, rows: int, classes: int) -> NDArray[np.float64]:
    chances = np.asarray(values, dtype=float)
    if classes < 2:
        raise ValueError("labels has one class only: no label can be wrong")
    if chances.shape != (rows, classes):
        raise ValueError(
            f"probabilities must have shape ({rows}, {classes}): a row per label and a column per class that occurs "
            f"in labels; got {chances.shape}"
        )
    if not np.isfinite(chances).all() or chances.min() < 0 or not np.allclose(chances.sum(axis=1), 1, atol=1e-3):
        raise ValueError("probabilities must be finite, not negative and sum to 1 in every row")
    return chances
