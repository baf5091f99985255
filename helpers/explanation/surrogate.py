"""A small decision tree that imitates a model (Craven and Shavlik 1996), and how far it may be believed.

Fidelity is agreement with the *model*, never with the true labels; it is shown beside what a constant answer would
reach, and as κ, which takes that away. What this does not do: make the tree the reason. Another tree may agree as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.explanation.predicting import must_be_function

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Fidelity", "Step", "Surrogate", "fidelity", "surrogate_tree"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Fidelity:
    """How well an imitation agrees with a model on some rows.

    `agreement`: share of rows with the same answer. `baseline`: share that the model's most frequent answer would
    reach. `kappa`: agreement beyond what two independent judges with these frequencies reach (Cohen 1960), 1 at best,
    0 for a constant answer.
    """

    agreement: float
    baseline: float
    kappa: float
    rows: int

    def __str__(self) -> str:
        return (
            f"agreement {self.agreement:.3f} on {self.rows} rows, a constant answer {self.baseline:.3f}, "
            f"κ {self.kappa:.2f}"
        )


@dataclass(frozen=True)
class Step:
    """One question on the way of a row through the tree."""

    feature: str
    value: float
    threshold: float

    @property
    def below(self) -> bool:
        return self.value <= self.threshold

    def __str__(self) -> str:
        return f"{self.feature} = {self.value:.4g} {'≤' if self.below else '>'} {self.threshold:.4g}"


@dataclass(frozen=True)
class Surrogate:
    """The tree, its fidelity on rows that it was not grown on, and the names for its picture."""

    tree: Any
    fidelity: Fidelity
    features: tuple[str, ...]
    classes: tuple[str, ...]

    def predict(self, rows: Any) -> Array:
        return self.tree.predict(_table(rows, "rows", len(self.features)))

    def path(self, row: Any) -> tuple[list[Step], str]:
        """The questions that one row (features,) meets, and the answer at the end."""
        values = _table(np.asarray(row, dtype=float)[None], "row", len(self.features))
        nodes = self.tree.decision_path(values).indices
        inner = self.tree.tree_
        # the tree compares in float32: say what it compares
        steps = [
            Step(
                self.features[inner.feature[n]],
                float(np.float32(values[0, inner.feature[n]])),
                float(inner.threshold[n]),
            )
            for n in nodes
            if inner.children_left[n] >= 0
        ]
        return steps, self.classes[list(self.tree.classes_).index(self.tree.predict(values)[0])]

    def plot(self, ax: Axes | None = None, *, title: str = "") -> Axes:
        """The tree as a picture. In each box: the question, how many rows came here, the answer of most."""
        from sklearn.tree import plot_tree

        from helpers import plots

        leaves = self.tree.get_n_leaves()
        width = min(15.0, 2.2 + 1.75 * leaves)
        axis = ax or plots.panels([title], width=width, height=1.3 + 1.1 * self.tree.get_depth())[0]
        with plots.house_style():
            plot_tree(
                self.tree,
                ax=axis,
                feature_names=list(self.features),
                class_names=list(self.classes),
                impurity=False,
                proportion=False,
                rounded=True,
                filled=False,
                fontsize=8,
                precision=3,
            )
        axis.grid(visible=False)
        return axis


def fidelity(model: Any, imitation: Any) -> Fidelity:
    """Agreement of two arrays of answers (n,): of the model and of what imitates it.

    κ is 0 when both always give the same single answer: then there is nothing that chance would not reach.
    Raises ValueError for empty arrays or different lengths.
    """
    first, second = np.asarray(model), np.asarray(imitation)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(
            f"model and imitation must be answers (n,) of the same length, got {first.shape} and {second.shape}"
        )
    labels = np.unique(np.concatenate([first, second]))
    shares = np.array([[(answers == label).mean() for label in labels] for answers in (first, second)])
    agreement, chance = float((first == second).mean()), float(shares[0] @ shares[1])
    kappa = (agreement - chance) / (1 - chance) if chance < 1 else 0.0
    return Fidelity(agreement, float(shares[0].max()), kappa, len(first))


def surrogate_tree(
    predict: Callable[[Array], Any],
    rows: Any,
    *,
    depth: int = 3,
    features: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    test_share: float = 0.3,
    seed: int = 0,
) -> Surrogate:
    """Grow a tree on what a model answers, and judge it on rows that it has not seen.

    Args:
        predict: rows (n, features) -> answers (n,), or probabilities (n, classes) of which the largest counts.
        rows: (n, features) inputs, an array or a DataFrame, at least 20. No labels: the model's answers are the target.
        depth: of the tree, at least 1. Deeper agrees more and explains less.
        features: names, by default the DataFrame's columns or x0 …
        classes: names, where the answers are 0, 1, …; by default the answers themselves.
        test_share: of the rows, kept for the fidelity.
        seed: of the split and of ties in the tree.

    Raises ValueError or TypeError for bad arguments, and when the model gives one answer for all rows.
    """
    from sklearn.tree import DecisionTreeClassifier

    must_be_function(predict)
    names = tuple(str(name) for name in (features if features is not None else getattr(rows, "columns", ())))
    table = _table(rows, "rows")
    names = names or tuple(f"x{number}" for number in range(table.shape[1]))
    if len(names) != table.shape[1]:
        raise ValueError(f"features must name the {table.shape[1]} columns of rows, got {len(names)} names")
    if len(table) < 20:
        raise ValueError(f"rows must have at least 20 rows, got {len(table)}")
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise ValueError(f"depth must be a whole number from 1, got {depth!r}")
    if not 0 < test_share < 1:
        raise ValueError(f"test_share must be between 0 and 1, got {test_share!r}")
    answers = _answers(predict(table), len(table))
    if len(np.unique(answers)) < 2:
        raise ValueError("predict must give at least two different answers on rows, got one: nothing to imitate")
    order = np.random.default_rng(seed).permutation(len(table))
    test, train = np.split(order, [max(1, round(test_share * len(table)))])
    tree = DecisionTreeClassifier(max_depth=depth, random_state=seed).fit(table[train], answers[train])
    known = list(tree.classes_)
    if classes is not None and known and isinstance(known[0], int | np.integer) and max(known) < len(classes):
        named = tuple(str(classes[int(label)]) for label in known)
    else:
        named = tuple(str(label) for label in known)
    return Surrogate(tree, fidelity(answers[test], tree.predict(table[test])), names, named)


def _answers(found: Any, rows: int) -> Array:
    answers = np.asarray(found.detach().cpu() if hasattr(found, "detach") else found)
    if len(answers) != rows or answers.ndim not in (1, 2):
        raise ValueError(f"predict must give answers ({rows},) or ({rows}, classes), got shape {answers.shape}")
    if answers.dtype.kind == "f" and not np.isfinite(answers).all():
        raise ValueError("predict must give finite answers, got NaN or infinity")
    if answers.ndim == 2:
        if answers.shape[1] < 2:
            raise ValueError("predict must give a column for each of at least two classes, got one")
        return answers.argmax(1)
    if answers.dtype.kind == "f" and len(np.unique(answers)) > 20:
        raise ValueError("predict must give classes, got floats with more than 20 different values: a score?")
    return answers


def _table(rows: Any, name: str, columns: int | None = None) -> Array:
    table = np.asarray(rows)
    if table.ndim != 2 or table.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers (n, features), got {table.dtype} of shape {table.shape}")
    if columns is not None and table.shape[1] != columns:
        raise ValueError(f"{name} must have {columns} features, got {table.shape[1]}")
    if not np.isfinite(table.astype(float)).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity: impute first")
    return table.astype(float)
