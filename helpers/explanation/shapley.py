"""Shapley values (1953): exactly, by their definition, and through the library `shap` (Lundberg and Lee 2017).

A feature that is "absent" takes its values from background rows, the others keep theirs (the interventional value).
What this does not do: respect correlations. Rows are asked about that may not exist in the world.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from helpers.explanation.predicting import must_be_function

__all__ = ["coalition_values", "exact_shapley", "shap_values", "shapley_from_values"]

Array = np.ndarray[Any, Any]

MOST_EXACT = 16  # players: 65,536 coalitions
ROWS_AT_ONCE = 50_000
METHODS = ("permutation", "kernel", "tree")


def shapley_from_values(values: Array) -> Array:
    """Shapley values (m,) of a game with m players, given the value of every coalition.

    Args:
        values: (2**m,) float; `values[c]` belongs to the coalition of the players whose bits are set in c.

    φᵢ = Σ over the coalitions S without i of |S|! (m - |S| - 1)! / m! · (v(S ∪ i) - v(S)); they sum to v(all) - v(∅).
    Raises ValueError unless the length is a power of two from 2 to 65,536 and all is finite.
    """
    v = np.asarray(values, dtype=float)
    m = v.size.bit_length() - 1
    if v.ndim != 1 or v.size != 2**m or not 1 <= m <= MOST_EXACT:
        raise ValueError(f"values must have 2**m entries for m = 1 to {MOST_EXACT} players, got shape {v.shape}")
    if not np.isfinite(v).all():
        raise ValueError("values must be finite, got NaN or infinity")
    coalitions = np.arange(2**m)
    sizes = np.array([int(c).bit_count() for c in coalitions])
    weight = np.array([1 / (m * math.comb(m - 1, size)) for size in range(m)])
    shares = np.empty(m)
    for player in range(m):
        without = coalitions[coalitions >> player & 1 == 0]
        shares[player] = weight[sizes[without]] @ (v[without | 1 << player] - v[without])
    return shares


def coalition_values(predict: Callable[[Array], Any], row: Array, background: Array) -> Array:
    """(2**m,) the mean answer when the features of a coalition come from `row` and the others from `background`.

    Args:
        predict: rows (n, m) -> scores (n,).
        row: (m,) what is explained, at most 16 features.
        background: (k, m) rows that stand for "absent".

    Shows `predict` 2**m · k rows, 50,000 at a time. Raises ValueError for other shapes, NaN or other answers.
    """
    must_be_function(predict)
    x, others = _row_and_background(row, background)
    m = len(x)
    if m > MOST_EXACT:
        raise ValueError(
            f"row must have at most {MOST_EXACT} features for the exact sum (2**m coalitions), got {m}: "
            'use shap_values(…, method="permutation")'
        )
    at_once = max(1, ROWS_AT_ONCE // len(others))
    values = []
    for coalitions in np.split(np.arange(2**m), range(at_once, 2**m, at_once)):
        present = (coalitions[:, None] >> np.arange(m) & 1).astype(bool)
        rows = np.where(present[:, None], x, others).reshape(-1, m)
        values.append(_scores(predict, rows).reshape(len(coalitions), -1).mean(1))
    return np.concatenate(values)


def exact_shapley(predict: Callable[[Array], Any], row: Array, background: Array) -> tuple[Array, float]:
    """Shapley values (m,) of one row, and the base value: their sum and the base give the model's answer for the row.

    Arguments and errors as in `coalition_values`; 2**m · k rows are shown to the model.
    """
    values = coalition_values(predict, row, background)
    return shapley_from_values(values), float(values[0])


def shap_values(
    model: Any,
    rows: Array,
    background: Array,
    *,
    method: str = "permutation",
    output: int | None = None,
    rounds: int = 10,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Shapley values by the library `shap`: (n, m), and base values (n,).

    Args:
        model: for "tree" a fitted scikit-learn tree model; else a function rows (n, m) -> scores (n,) or (n, classes).
        rows: (n, m) what is explained.
        background: (k, m) rows that stand for "absent".
        method: "permutation" (orders of the features, there and back), "kernel" (a weighted regression on coalitions:
            on all of them, and so exact, where `rounds` suffices), "tree" (for tree models, by way of their nodes).
        output: which class, where the model gives several.
        rounds: orders for "permutation"; 100 coalitions each for "kernel".
        seed: of the sampling.

    Raises ValueError or TypeError for bad arguments.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    for name, value in (("rows", rows), ("background", background)):
        _finite_table(value, name)
    if np.shape(rows)[1] != np.shape(background)[1]:
        raise ValueError(
            f"background must have the {np.shape(rows)[1]} features of rows, got {np.shape(background)[1]}"
        )
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    import shap

    x, others = np.asarray(rows, dtype=float), np.asarray(background, dtype=float)
    if method == "tree":
        if callable(model) and not hasattr(model, "fit"):
            raise TypeError('model must be a fitted tree model for method="tree", got a function')
        found = shap.TreeExplainer(model, shap.maskers.Independent(others, max_samples=len(others)))(x)
        return _one_output(found.values, found.base_values, output, len(x))
    must_be_function(model)
    if method == "kernel":
        explainer = shap.KernelExplainer(model, others, seed=seed)
        values = explainer.shap_values(x, nsamples=100 * rounds, silent=True)
        base = np.broadcast_to(explainer.expected_value, (len(x), *np.shape(explainer.expected_value)))
        return _one_output(values, base, output, len(x))
    masker = shap.maskers.Independent(others, max_samples=len(others))
    found = shap.explainers.PermutationExplainer(model, masker, seed=seed)(
        x, max_evals=rounds * (2 * x.shape[1] + 1), silent=True
    )
    return _one_output(found.values, found.base_values, output, len(x))


def _one_output(values: Any, base: Any, output: int | None, rows: int) -> tuple[Array, Array]:
    values, base = np.asarray(values, dtype=float), np.asarray(base, dtype=float)
    if values.ndim == 3:
        if output is None or not 0 <= output < values.shape[2]:
            raise ValueError(f"output must name one of the {values.shape[2]} classes, got {output!r}")
        values, base = values[..., output], base[..., output]
    elif output is not None:
        raise ValueError(f"output must be None, the model gives one score, got {output!r}")
    return values, np.broadcast_to(base.reshape(-1), (rows,)).copy()


def _row_and_background(row: Any, background: Any) -> tuple[Array, Array]:
    x, others = np.asarray(row), np.asarray(background)
    if x.ndim != 1 or not len(x):
        raise ValueError(f"row must be (features,), got shape {x.shape}")
    if others.ndim != 2 or not len(others) or others.shape[1] != len(x):
        raise ValueError(f"background must be (rows, {len(x)}) with at least one row, got shape {others.shape}")
    _finite_table(x[None], "row")
    _finite_table(others, "background")
    return x.astype(float), others.astype(float)


def _finite_table(table: Any, name: str) -> None:
    array = np.asarray(table)
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers (n, features), got {array.dtype} of shape {array.shape}")
    if not len(array):
        raise ValueError(f"{name} must have at least one row, got none")
    if not np.isfinite(array.astype(float)).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")


def _scores(predict: Callable[[Array], Any], rows: Array) -> Array:
    scores = np.asarray(predict(rows), dtype=float)
    if scores.shape != (len(rows),):
        raise ValueError(
            f"predict must give one score per row, shape ({len(rows)},), got {scores.shape}: choose the class"
        )
    if not np.isfinite(scores).all():
        raise ValueError("predict must give finite scores, got NaN or infinity")
    return scores
