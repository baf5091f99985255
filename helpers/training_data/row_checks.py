"""Findings about rows: copies, near-copies, the same features with different labels, labels that are probably wrong."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helpers.training_data.report import Finding, Severity, plural
from helpers.training_data.splits import duplicate_clusters
from helpers.training_data.subject import MODEL_ROWS, Subject

Findings = Iterator[Finding]
Ints = NDArray[np.int64]

NEAR = 0.1
"""A row whose nearest neighbour is nearer than this share of the usual is a near-copy."""
NEIGHBOURS = 10
NEIGHBOUR_ROWS = 10_000


def duplicates(subject: Subject) -> Findings:
    """Exact copies, and rows that are copies but for an id."""
    empty = empty_rows(subject)
    if len(empty) > 1:
        yield Finding(
            "empty_rows", "accuracy", "warning", f"{len(empty):,} rows have no value in any measured column",
            "They teach a model nothing but the usual label, and imputation makes them look like average rows.",
            "Drop them, or find out why they are empty.",
            rows=tuple(empty), count=len(empty), evidence={"share": len(empty) / subject.n},
        )  # fmt: skip
    exact = copies_of(duplicate_clusters(subject.table))
    if len(exact):
        yield _copies(subject, exact, "duplicate_rows", list(subject.table.columns), "the same as an earlier row", ())
    ids = subject.ids
    rest = [c for c in subject.table.columns if c not in ids]
    if ids and len(rest) > 1:
        but_id = np.setdiff1d(copies_of(duplicate_clusters(subject.table[rest])), np.union1d(exact, empty))
        if len(but_id):
            shown = ", ".join(repr(c) for c in ids[:3])
            what = f"the same as an earlier row in all but {shown}"
            yield _copies(subject, but_id, "duplicate_rows_but_id", rest, what, tuple(ids))


def empty_rows(subject: Subject) -> Ints:
    """Positions of the rows in which every column that varies, but for ids and roles, is missing."""
    names = [c for c in subject.features if c not in subject.ids and subject.codes(c).max() > 0]
    if not names:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.logical_and.reduce([subject.missing(c) for c in names]))


def copies_of(clusters: Ints) -> Ints:
    """Positions of the rows that repeat an earlier one."""
    first = np.zeros(len(clusters), dtype=bool)
    first[np.unique(clusters, return_index=True)[1]] = True
    return np.flatnonzero(~first)


def by_chance(subject: Subject, names: list[Hashable], copies: int) -> bool:
    """True when so many equal rows are to be expected, because the columns have few distinct values.

    The expected pairs of equal rows, were the columns independent, are n(n-1)/2 · ∏ Σp². Columns that depend on each
    other give more, so the square root of the product is taken.
    """
    log_product = 0.0
    for name in names:
        codes = subject.codes(name)
        shares = np.bincount(codes + 1) / len(codes)
        log_product += np.log((shares**2).sum())
    return bool(subject.n * (subject.n - 1) / 2 * np.exp(log_product / 2) >= 0.1 * copies)


def _copies(
    subject: Subject, rows: Ints, code: str, names: list[Hashable], what: str, columns: tuple[Hashable, ...]
) -> Finding:
    share = len(rows) / subject.n
    natural = by_chance(subject, names, len(rows))
    severity: Severity = "note" if natural else "severe" if share >= 0.01 and len(rows) >= 5 else "warning"
    why = " (to be expected: the columns have few distinct values)" if natural else ""
    return Finding(
        code, "duplicates", severity,
        f"{plural(len(rows), 'row')} ({share:.1%}) {'is' if len(rows) == 1 else 'are'} {what}{why}",
        "A random split puts copies on both sides, and remembering counts as skill; copied rows also weigh more.",
        "If they are the same event, drop them (deduplicate); else keep copies on one side (split does).",
        columns, tuple(rows), len(rows),
        {"share": share, "expected_by_chance": natural, "in_the_test_of_a_random_split": _straddling(subject, names)},
    )  # fmt: skip


def _straddling(subject: Subject, names: list[Hashable]) -> str:
    clusters = duplicate_clusters(subject.table[names])
    in_test = subject.rng.random(subject.n) < 0.2
    leaked = int(np.isin(clusters[in_test], clusters[~in_test]).sum())
    return f"{leaked:,} of {int(in_test.sum()):,} test rows are also in training"


def near_duplicates(subject: Subject) -> Findings:
    """Rows that are nearly, but not exactly, equal in the numeric columns."""
    # with few distinct values nearness is no surprise
    names = [c for c in subject.numbers if subject.codes(c).max() >= min(0.2 * subject.n, 1000)]
    if len(names) < 5 or subject.n < 100:
        return
    found = nearest_neighbours(subject, names)
    if found is None or found.usual <= 1e-6:
        return
    near = (found.distance < NEAR * found.usual) & (found.distance > 1e-9)
    share = float(near.mean())
    if near.sum() < 5 or share < max(0.005, 5 * found.expected):
        return
    rows, partner = found.rows[near], found.partner[near]
    severity: Severity = "warning"
    grouped = ""
    if subject.group is not None:
        codes = subject.codes(subject.group)
        together = float((codes[rows] == codes[partner]).mean())
        grouped = f", {together:.0%} of them with a row of the same {subject.group!r}"
        severity = "note" if together > 0.95 else "warning"
    looked_at = "the" if len(found.rows) == subject.n else f"{len(found.rows):,} examined"
    yield Finding(
        "near_duplicate_rows", "duplicates", severity,
        f"{share:.1%} of {looked_at} rows have a near-copy, ten times nearer than a row's tenth neighbour usually "
        f"is{grouped}",
        "A near-copy on the other side of the split is remembered, not predicted: the test score is too good.",
        "Find what they share (a person, a device, a day) and give that column as group to split and audit.",
        rows=tuple(rows), count=len(rows),
        evidence={"share": share, "expected_share": found.expected,
                  "pairs": [f"{a} and {b}" for a, b in zip(rows[:8], partner[:8], strict=True)],
                  "rows_used": len(found.rows), "columns_used": len(names)},
    )  # fmt: skip


@dataclass(frozen=True)
class _Neighbours:
    rows: Ints  # those that were looked at
    distance: NDArray[np.float64]  # to the nearest other row
    partner: Ints  # that row
    usual: float  # median distance to the tenth nearest
    expected: float  # share of rows that would be near without any copying


def nearest_neighbours(subject: Subject, names: list[Hashable]) -> _Neighbours | None:
    """Distances between standardised numbers, on a sample of the rows; None when too few rows have values."""
    from sklearn.neighbors import NearestNeighbors

    rows = np.arange(subject.n)
    if subject.n > NEIGHBOUR_ROWS:
        # neighbours in file order stay together: copies are often near each other
        start = np.sort(subject.rng.choice(subject.n - 50, NEIGHBOUR_ROWS // 50, replace=False))
        rows = np.unique((start[:, None] + np.arange(50)).ravel())
    gaps = np.mean([np.isnan(subject.floats(c)[rows]) for c in names], axis=0)
    rows = rows[gaps <= 0.2]  # rows that are mostly gaps are all alike
    if len(rows) < 100:
        return None
    table = np.column_stack([_standard(subject.floats(c))[rows] for c in names]).astype(np.float32)
    index = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute").fit(table).kneighbors(table)[1]
    # squared distances by a product of matrices are fast, but not exact near zero: measure the few again
    distance = np.stack([np.linalg.norm(table - table[index[:, k]], axis=1) for k in range(NEIGHBOURS + 1)], axis=1)
    distance[index == np.arange(len(rows))[:, None]] = np.inf  # the row itself
    order = np.argsort(distance, axis=1, kind="stable")
    ordered = np.take_along_axis(distance, order, axis=1).astype(float)
    partner = np.take_along_axis(index, order[:, :1], axis=1)[:, 0]
    usual = float(np.median(ordered[:, NEIGHBOURS - 1]))
    return _Neighbours(rows, ordered[:, 0], rows[partner], usual, chance_of_near(ordered))


def chance_of_near(ordered: NDArray[np.float64]) -> float:
    """The share of rows that would have so near a neighbour without any copying.

    In m dimensions a ball of NEAR times the radius that holds NEIGHBOURS rows holds NEIGHBOURS · NEAR^m. m follows
    from how fast the distances (n, ≥ NEIGHBOURS) grow with the number of neighbours (Levina and Bickel, "Maximum
    likelihood estimation of intrinsic dimension", 2004); from the 5th on, so that a few copies do not count.
    """
    fifth, last = ordered[:, 4], ordered[:, NEIGHBOURS - 1]
    apart = (fifth > 1e-9) & np.isfinite(last)
    if not apart.any():
        return 1.0
    growth = float(np.mean(np.log(last[apart] / fifth[apart])))
    dimension = sum(1 / k for k in range(5, NEIGHBOURS)) / max(growth, 1e-3)
    return float(min(1.0, NEIGHBOURS * NEAR**dimension))


def _standard(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks would hide nearness: centre and scale robustly, cut at ±5, missing in the middle."""
    middle = np.nanmedian(x)
    low, high = np.nanpercentile(x, [16, 84])
    scale = (high - low) / 2 or np.nanstd(x) or 1.0
    return np.clip(np.nan_to_num((x - middle) / scale), -5, 5)


def label_conflicts(subject: Subject) -> Findings:
    """Equal features, different label."""
    target = subject.target
    names = [c for c in subject.features if c not in subject.ids]
    if target is None or not names or not target.is_class:
        return
    present = np.flatnonzero(target.present)
    clusters = duplicate_clusters(subject.table[names].iloc[present])
    labels = target.codes[present]
    pairs = np.unique(np.column_stack([clusters, labels]), axis=0)
    several = np.flatnonzero(np.bincount(pairs[:, 0]) > 1)
    if len(several) == 0:
        return
    rows = present[np.isin(clusters, several)]
    lost = len(present) - _majority(clusters, labels)
    natural = by_chance(subject, names, len(rows))
    share = len(rows) / len(present)
    severity: Severity = "note" if natural else "severe" if share > 0.01 else "warning"
    yield Finding(
        "label_conflict", "accuracy", severity,
        f"{len(rows):,} rows ({share:.1%}) have the same features as another row, but another {subject.target_name!r}",
        f"No model can be right about all of them: at least {lost / len(present):.1%} errors, whatever is trained.",
        "Look at some: is a label wrong, or is a feature missing that tells them apart? Agree on a label or drop them.",
        (subject.target_name,), tuple(rows), len(rows),
        {"sets_of_equal_rows": len(several), "errors_that_no_model_avoids": int(lost), "expected_by_chance": natural},
    )  # fmt: skip


def _majority(clusters: Ints, labels: Ints) -> int:
    """How many rows the best guess per cluster gets right."""
    cells, counts = np.unique(clusters * (labels.max() + 1) + labels, return_counts=True)
    best = np.zeros(clusters.max() + 1, dtype=np.int64)
    np.maximum.at(best, cells // (labels.max() + 1), counts)
    return int(best.sum())


def label_errors(subject: Subject) -> Findings:
    """Labels that out-of-fold probabilities contradict, where a simple model is good enough to judge."""
    from helpers.training_data.labels import label_errors as find

    target = subject.target
    names = [c for c in subject.numbers if (~np.isnan(subject.floats(c))).any()]
    if target is None or not target.is_class or len(names) < 2:
        return
    rows = subject.sample[: MODEL_ROWS // 2] if len(target.classes) > 10 else subject.sample
    rows = rows[np.isin(target.codes[rows], np.flatnonzero(np.bincount(target.codes[rows]) >= 10))]
    labels = target.codes[rows]
    if len(rows) < 50 or len(np.unique(labels)) < 2 or len(np.unique(labels)) > 50:
        return
    chances = _probabilities(subject, names, rows, labels)
    classes = np.unique(labels)
    given = np.searchsorted(classes, labels)
    right = chances.argmax(1) == given
    if np.mean([right[given == k].mean() for k in range(len(classes))]) < 0.6 + 0.4 / len(classes):
        return  # too weak a judge: it would accuse rows that are merely hard
    surprise = surprising_labels(chances, given)
    found = find(labels, chances)
    if surprise is None or len(found) == 0:
        return
    share = len(found) / len(rows)
    yield Finding(
        "label_errors", "accuracy", "warning" if share >= 0.02 and len(found) >= 10 else "note",
        f"{plural(len(found), 'label')} ({share:.1%} of {len(rows):,} examined) {'is' if len(found) == 1 else 'are'} "
        "probably wrong: models that had not seen the row are sure of another class",
        "Wrong labels teach the wrong thing, and in the test set they punish the right answer.",
        "Show the worst to somebody who knows (label_errors lists them); correct or drop them, then train again.",
        (subject.target_name,), tuple(rows[found["row"].to_numpy()]), len(found),
        {"method": "confident learning on out-of-fold probabilities of a logistic regression",
         "accuracy_out_of_fold": float(right.mean()), "share": share, "rows_used": len(rows), **surprise,
         "given_and_suggested": [f"{target.classes[g]} → {target.classes[s]}"
                                 for g, s in zip(found["given"].head(5), found["suggested"].head(5), strict=True)]},
    )  # fmt: skip


def surprising_labels(chances: NDArray[np.float64], given: Ints) -> dict[str, float] | None:
    """Numbers that show more near-impossible labels than chance explains; None when there are not more.

    Where classes overlap, some rows lie on the other side and yet are labelled rightly. If the probabilities (n, k)
    hold, labels of probability below c occur Σ p (over all p < c) times; wrong labels come on top of that.
    """
    own = chances[np.arange(len(given)), given]
    for limit in (0.02, 0.05):
        seen, expected = int((own < limit).sum()), float(chances[chances < limit].sum())
        if seen >= expected + 2 * np.sqrt(expected) + 1:
            return {"labels_below_probability": limit, "seen": seen, "expected": expected}
    return None


def _probabilities(subject: Subject, names: list[Hashable], rows: Ints, labels: Ints) -> NDArray[np.float64]:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from helpers.training_data.labels import out_of_fold_probabilities

    x = np.column_stack([_standard(subject.floats(c)[rows]) for c in names[:200]])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, C=0.3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # good enough to judge labels
        return out_of_fold_probabilities(model, x, labels)
