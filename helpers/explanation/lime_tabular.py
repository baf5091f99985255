"""LIME for tables, through the library `lime`: which measurements of one row speak for an answer.

Each measurement is cut into quarters of the training data; a sample draws a quarter for each measurement by itself and
a value inside of it. What this does not do: respect correlations. Many of the samples could not exist.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from helpers.explanation.lime_text import FeatureExplanation, must_be_counts, must_be_names, wanted_label
from helpers.explanation.predicting import checked

__all__ = ["explain_tabular"]

Array = np.ndarray[Any, Any]


def explain_tabular(
    row: Any,
    predict: Callable[[Array], Any],
    training: Any,
    *,
    label: int | None = None,
    features: Sequence[str] | None = None,
    named: int = 10,
    samples: int = 5000,
    seed: int = 0,
) -> FeatureExplanation:
    """Explain one answer of a classifier of rows.

    Args:
        row: (m,) numbers, also as a pandas row.
        predict: rows (n, m) float -> probabilities (n, classes).
        training: (k, m) rows that the quarters come from, an array or a DataFrame, at least 4.
        label: the class to explain; None for the most probable one.
        features: names, by default the DataFrame's columns or x0 …
        named: how many to name, the heaviest. A feature that never varies in `training` gets the weight 0 or is not
            named: it cannot be varied, so nothing is known about it.
        samples: rows shown to the model, at least 10.
        seed: of the sampling.

    Same seed: the coefficients of `lime.lime_tabular.LimeTabularExplainer` with its defaults.
    Raises TypeError or ValueError, naming the argument; also when `predict` gives no probabilities.
    """
    from lime.lime_tabular import LimeTabularExplainer

    table, x = _finite(training, "training", 2), _finite(row, "row", 1)
    if len(table) < 4:
        raise ValueError(f"training must have at least 4 rows (quarters are cut), got {len(table)}")
    if len(x) != table.shape[1]:
        raise ValueError(f"row must have the {table.shape[1]} features of training, got {len(x)}")
    known = features if features is not None else getattr(training, "columns", [f"x{n}" for n in range(len(x))])
    names = must_be_names("features", list(known), len(x))
    must_be_counts(named=named, samples=samples)
    if samples < 10:
        raise ValueError(f"samples must be at least 10, got {samples}")
    ask = checked(predict)
    chosen = wanted_label(label, ask(x[None])[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lime divides by the width of a quarter, which may be 0
        explainer = LimeTabularExplainer(table, feature_names=list(names), random_state=seed)
        found = explainer.explain_instance(x, ask, labels=(chosen,), num_features=named, num_samples=samples)
    constant = {number for number in range(len(x)) if np.ptp(table[:, number]) == 0}
    pairs = zip(found.local_exp[chosen], found.as_list(label=chosen), strict=True)
    weights = tuple((text, float(weight)) for (number, _), (text, weight) in pairs if number not in constant)
    return FeatureExplanation(
        chosen, found.predict_proba, weights, float(found.intercept[chosen]), samples, seed, found
    )


def _finite(values: Any, name: str, dimensions: int) -> Array:
    array = np.asarray(values)
    if array.ndim != dimensions or array.dtype.kind not in "fiub" or not array.size:
        shape = "(rows, features)" if dimensions == 2 else "(features,)"
        raise ValueError(f"{name} must be numbers {shape}, got {array.dtype} of shape {array.shape}")
    array = array.astype(float)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity: impute first")
    return array
