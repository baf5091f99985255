"""How much one column alone says about the target, measured so that chance and memory do not count.

For classes a score is an AUC (0.5 is chance, 1.0 is everything; the mean over classes, one against the rest, when
there are more than two). For a quantity it is R², the explained share of the variance of the target or of its ranks,
whichever is larger (0 is chance). Numbers: the better of the rank statistic, folded so that .1 counts as .9, and a
small tree judged out of fold. Categories: the target's mean per category, learnt on the other folds; learnt on the
same rows it would say .8 about a column of random names (Micci-Barreca, "A preprocessing scheme for high-cardinality
categorical attributes", 2001; Kaufman et al., "Leakage in data mining", 2012).
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from helpers.training_data.subject import Subject, Target

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 5
MOST_CLASSES = 20
"""Scores look at this many of the largest classes."""
SMOOTHING = 5.0
"""A category's mean counts as if it had this many more rows of the average kind."""


def auc_per_class(x: Floats, codes: Ints, n_classes: int) -> Floats:
    """AUC (n_classes,) of x for each class against the rest, mid-ranks for ties; NaN for a class without rows."""
    ranks = rankdata(x)
    size = np.bincount(codes, minlength=n_classes).astype(float)
    rest = len(x) - size
    ranksum = np.bincount(codes, weights=ranks, minlength=n_classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (ranksum - size * (size + 1) / 2) / (size * rest)


def folded_auc(x: Floats, codes: Ints) -> float:
    """max(AUC, 1 - AUC) for classes 0 and 1; .5 when one of them has no rows."""
    auc = auc_per_class(x, codes, 2)[1]
    return 0.5 if np.isnan(auc) else float(max(auc, 1 - auc))


def chance_level(target: Target, rows: Ints) -> float:
    """A score that four standard errors of chance would not reach, for these rows."""
    n = max(1, len(rows))
    if not target.is_class:
        return float(16 / n)
    counts = np.bincount(target.codes[rows], minlength=len(target.classes))
    small = max(1, np.sort(counts[counts > 0])[-2] if (counts > 0).sum() == 2 else counts[counts > 0].min())
    small = min(small, n - small) if n > small else small
    return float(0.5 + 4 * np.sqrt((n + 1) / (12 * small * max(1, n - small))))


def number_score(subject: Subject, name: Hashable, rows: Ints | None = None) -> float:
    """Score of a number-like column on the rows where it and the target are present."""
    target = subject.target
    assert target is not None
    x = subject.floats(name)
    return array_score(subject, x, rows)


def array_score(subject: Subject, x: Floats, rows: Ints | None = None) -> float:
    """Score of an array (n,) of numbers, missing as NaN: rank statistic on all rows, tree on the sample."""
    target = subject.target
    assert target is not None
    keep = target.present & ~np.isnan(x)
    if rows is not None:
        keep &= np.isin(np.arange(subject.n), rows)
    if keep.sum() < 20:
        return floor(target)
    sampled = subject.sample[keep[subject.sample]]
    places = rankdata(x[sampled])  # a tree sees the order alone, and ranks are never too large for it
    if not target.is_class:
        ranks = rankdata(x[keep])
        rho = _correlation(ranks, target.ranks[keep])
        line = _correlation(_without_tails(x[keep]), _without_tails(target.values[keep]))
        return max(rho**2, line**2, _tree_r2(places, target.ranks[sampled]), 0.0)
    linear = folded_auc(x[keep], target.codes[keep]) if len(target.classes) == 2 else 0.5
    return max(linear, _tree_auc(places, target.codes[sampled]))


def _without_tails(x: Floats) -> Floats:
    """Cut at the 0.5 and 99.5 percentiles: a few huge values are no relation."""
    return np.clip(x, *np.percentile(x, [0.5, 99.5]))


def floor(target: Target) -> float:
    """The score of knowing nothing."""
    return 0.5 if target.is_class else 0.0


def category_score(subject: Subject, codes: Ints, *, blocks: bool = False, rows: Ints | None = None) -> float:
    """Score of categories (n,) by the target's mean on the other folds. Missing is a category of its own.

    blocks: folds are stretches of neighbouring rows instead of random rows.
    """
    target = subject.target
    assert target is not None
    keep = np.flatnonzero(target.present) if rows is None else rows[target.present[rows]]
    if len(keep) < 20:
        return floor(target)
    cats = np.unique(codes[keep], return_inverse=True)[1]
    folds = np.arange(len(keep)) * FOLDS // len(keep) if blocks else fold_numbers(len(keep), subject.rng)
    if not target.is_class:
        y = target.ranks[keep]
        guess = out_of_fold_means(cats, y[:, None], folds)[:, 0]
        return float(max(0.0, 1 - ((y - guess) ** 2).sum() / max(1e-12, ((y - y.mean()) ** 2).sum())))
    y_codes, n_classes = _largest_classes(target.codes[keep])
    onehot = np.zeros((len(keep), n_classes))
    onehot[np.arange(len(keep)), y_codes] = 1
    guess = out_of_fold_means(cats, onehot, folds)
    return max(0.5, _macro_auc(guess, y_codes))


def fold_numbers(n: int, rng: np.random.Generator) -> Ints:
    """Fold (n,) of each row, equally full."""
    return rng.permutation(np.arange(n) % FOLDS)


def out_of_fold_means(cats: Ints, y: Floats, folds: Ints) -> Floats:
    """Mean of y (n, k) per category over the rows of the other folds, drawn towards the mean of those folds."""
    n_cats = int(cats.max()) + 1
    cell = folds * n_cats + cats
    size = np.bincount(cell, minlength=FOLDS * n_cats).reshape(FOLDS, n_cats)
    others = size.sum(0) - size
    out = np.empty_like(y)
    for k in range(y.shape[1]):
        total = np.bincount(cell, weights=y[:, k], minlength=FOLDS * n_cats).reshape(FOLDS, n_cats)
        rest = total.sum(0) - total
        prior = rest.sum(1, keepdims=True) / np.maximum(1, others.sum(1, keepdims=True))
        means = (rest + SMOOTHING * prior) / (others + SMOOTHING)
        # the prior differs a little from fold to fold, against the labels of that fold: take it out
        out[:, k] = (means - prior)[folds, cats] + y[:, k].mean()
    return out


def missing_score(subject: Subject, name: Hashable) -> tuple[float, float, float]:
    """(score, p-value, Cramér's V or |rank correlation|) of "is missing" about the target."""
    from scipy.stats import chi2_contingency, mannwhitneyu

    target = subject.target
    assert target is not None
    gone = subject.missing(name)[target.present]
    if not target.is_class:
        y = target.ranks[target.present]
        test = mannwhitneyu(y[gone], y[~gone])
        rho = _correlation(gone.astype(float), y)
        return rho**2, float(test.pvalue), abs(rho)
    codes = target.codes[target.present]
    table = np.stack([np.bincount(codes[~gone], minlength=len(target.classes)),
                      np.bincount(codes[gone], minlength=len(target.classes))])  # fmt: skip
    chi2, p, _, _ = chi2_contingency(table[:, table.sum(0) > 0])
    flag = gone.astype(float)
    per_class = auc_per_class(flag, codes, len(target.classes))
    big = np.bincount(codes, minlength=len(target.classes)) >= 10
    folded = np.maximum(per_class, 1 - per_class)[big]
    return float(folded.max(initial=0.5)), float(p), float(np.sqrt(chi2 / len(codes)))


def _correlation(a: Floats, b: Floats) -> float:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _largest_classes(codes: Ints) -> tuple[Ints, int]:
    """Codes renumbered so that the largest classes come first and all smaller ones share the last."""
    size = np.bincount(codes)
    order = np.argsort(-size, kind="stable")
    order = order[size[order] > 0]
    place = np.empty(len(size), dtype=np.int64)
    place[order] = np.minimum(np.arange(len(order)), MOST_CLASSES - 1)
    return place[codes], min(len(order), MOST_CLASSES)


def _macro_auc(guess: Floats, codes: Ints) -> float:
    """Mean over classes (with 5 rows or more) of the AUC of column k for class k."""
    n_classes = guess.shape[1]
    size = np.bincount(codes, minlength=n_classes)
    wanted = [1] if n_classes == 2 else [k for k in range(n_classes) if 5 <= size[k] < len(codes)]
    aucs = [auc_per_class(guess[:, k], (codes == k).astype(np.int64), 2)[1] for k in wanted]
    return float(np.nanmean(aucs)) if len(aucs) and not np.isnan(aucs).all() else 0.5


def _tree_auc(x: Floats, codes: Ints) -> float:
    """Out-of-fold macro AUC of a tree of depth 4 on one column."""
    from sklearn.model_selection import StratifiedKFold
    from sklearn.tree import DecisionTreeClassifier

    codes, n_classes = _largest_classes(codes)
    size = np.bincount(codes, minlength=n_classes)
    if len(x) < 20 or n_classes < 2 or size.min() < 3:
        keep = size[codes] >= 3
        if keep.sum() < 20 or (size >= 3).sum() < 2 or keep.all():
            return 0.5
        return _tree_auc(x[keep], codes[keep])
    guess = np.zeros((len(x), n_classes))
    for train, test in StratifiedKFold(3, shuffle=True, random_state=0).split(x, codes):
        tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=5, random_state=0)
        tree.fit(x[train, None], codes[train])
        guess[np.ix_(test, tree.classes_)] = tree.predict_proba(x[test, None])
    return _macro_auc(guess, codes)


def _tree_r2(x: Floats, y: Floats) -> float:
    """Out-of-fold R² of a tree of depth 4 on one column."""
    from sklearn.model_selection import KFold
    from sklearn.tree import DecisionTreeRegressor

    if len(x) < 20 or np.ptp(y) == 0:
        return 0.0
    guess = np.empty(len(y))
    for train, test in KFold(3, shuffle=True, random_state=0).split(x):
        tree = DecisionTreeRegressor(max_depth=4, min_samples_leaf=5, random_state=0).fit(x[train, None], y[train])
        guess[test] = tree.predict(x[test, None])
    return float(1 - ((y - guess) ** 2).sum() / ((y - y.mean()) ** 2).sum())
