"""The other way to an explanation: a model so small that it needs none, and the accuracy that it gives up.

Rudin (2019) argues that for tables the loss is often nothing. Here it is measured, fold by fold against a forest. What
the comparison does not hold: pictures and texts, for which no small model is near.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from helpers.explanation.images import Array

__all__ = ["Scorecard", "accuracy_given_up", "simple_models", "size_of"]


class Scorecard(ClassifierMixin, BaseEstimator):
    """A card for pencil and paper, two classes: whole points for each of a few features above its median; sum, compare.

    The features are those that an L1 penalty keeps, the points a logistic regression on them, scaled to at most
    `most` and rounded. Rounding is the simple way; Ustun and Rudin (2016) search for the best whole points.

    After `fit`: `features_` (their numbers), `cuts_`, `points_` (whole numbers), `limit_` (class 1 above this sum).
    """

    def __init__(self, features: int = 4, most: int = 5) -> None:
        self.features = features
        self.most = most

    def fit(self, x: Array, y: Array) -> Scorecard:
        """x (n, features) float, y (n,) of two classes. Raises ValueError for another number of classes or features."""
        x, y = np.asarray(x, dtype=float), np.asarray(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) != 2:
            raise ValueError(f"y must hold two classes, got {len(self.classes_)}")
        if not 1 <= self.features <= x.shape[1]:
            raise ValueError(f"features must be from 1 to {x.shape[1]}, got {self.features}")
        self.features_ = _kept(x, y, self.features)
        self.cuts_ = np.median(x[:, self.features_], axis=0)
        high = (x[:, self.features_] > self.cuts_).astype(float)
        weights = LogisticRegression(C=10.0).fit(high, y).coef_[0]
        self.points_ = np.rint(weights / np.abs(weights).max() * self.most).astype(int)
        sums = high @ self.points_
        limits = np.unique(sums)
        right = [np.mean((sums > limit) == (y == self.classes_[1])) for limit in limits]
        self.limit_ = float(limits[int(np.argmax(right))])
        return self

    def predict(self, x: Array) -> Array:
        """Classes (n,)."""
        sums = (np.asarray(x, dtype=float)[:, self.features_] > self.cuts_) @ self.points_
        return self.classes_[(sums > self.limit_).astype(int)]


def _kept(x: Array, y: Array, count: int) -> Array:
    """The first `count` features that come in while an L1 penalty is loosened; the largest weights break ties."""
    scaled = StandardScaler().fit_transform(x)
    for c in np.geomspace(0.003, 30, 60):
        weights = np.abs(
            LogisticRegression(l1_ratio=1, C=c, solver="liblinear", random_state=0).fit(scaled, y).coef_[0]
        )
        if (weights > 0).sum() >= count:
            break
    return np.sort(np.argsort(-weights, kind="stable")[:count])


def simple_models(*, seed: int = 0) -> dict[str, BaseEstimator]:
    """Name → classifier for a table of two classes, from a forest of 300 trees (the first, to compare with) down."""
    sparse = LogisticRegression(l1_ratio=1, C=0.1, solver="liblinear", random_state=seed)
    return {
        "forest, 300 trees": RandomForestClassifier(300, random_state=seed),
        "logistic, all features": make_pipeline(StandardScaler(), LogisticRegression(C=1.0)),
        "logistic, sparse (L1)": make_pipeline(StandardScaler(), sparse),
        "tree, depth 3": DecisionTreeClassifier(max_depth=3, random_state=seed),
        "tree, depth 1": DecisionTreeClassifier(max_depth=1, random_state=seed),
        "scorecard, 4 features": Scorecard(4),
    }


def size_of(fitted: BaseEstimator) -> int:
    """How many numbers a person has to read to know the whole model: leaves, or weights that are not 0."""
    model = fitted.steps[-1][1] if isinstance(fitted, Pipeline) else fitted
    if isinstance(model, RandomForestClassifier):
        return sum(int(tree.get_n_leaves()) for tree in model.estimators_)
    if isinstance(model, DecisionTreeClassifier):
        return int(model.get_n_leaves())
    if isinstance(model, Scorecard):
        return int((model.points_ != 0).sum())
    if isinstance(model, LogisticRegression):
        return int((model.coef_ != 0).sum())
    raise TypeError(f"fitted must be one of simple_models(), got {type(model).__name__}")


def accuracy_given_up(
    models: Mapping[str, BaseEstimator], x: Array, y: Array, *, folds: int = 5, repeats: int = 2, seed: int = 0
) -> pd.DataFrame:
    """Accuracy of every model on the same folds, and what it gives up against the first: one row a model.

    Columns: `size` (of the model fitted to everything, see `size_of`), `accuracy`, `given_up` (first model's accuracy
    minus this one's, in points) and `margin`, half of a 95 % interval of that difference by the corrected resampled
    t-test (Nadeau and Bengio, 2003): folds share their training samples, a plain t-test would be too sure.
    """
    if len(models) < 2:
        raise ValueError(f"models must be at least two, got {len(models)}")
    splits = list(RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed).split(x, y))
    scores = {
        name: np.array([np.mean(clone(model).fit(x[fit], y[fit]).predict(x[test]) == y[test]) for fit, test in splits])
        for name, model in models.items()
    }
    first = next(iter(scores.values()))
    spread = stats.t.ppf(0.975, len(splits) - 1) * np.sqrt(1 / len(splits) + 1 / (folds - 1))
    rows = {
        name: {
            "size": size_of(clone(models[name]).fit(x, y)),
            "accuracy": own.mean(),
            "given_up": 100 * (first - own).mean(),
            "margin": 100 * spread * (first - own).std(ddof=1),
        }
        for name, own in scores.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")
