"""Findings about rows: copies, near-copies, the same features with different labels, labels that are probably wrong."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import numpy as np
from numpy.typing import NDArray

from helpers.training_data.report import Finding, Severity
from helpers.training_data.splits import duplicate_clusters
from helpers.training_data.subject import MODEL_ROWS, Subject

Findings = Iterator[Finding]
Ints = NDArray[np.int64]

NEAR = 0.1
"""A row whose nearest neighbour is this many times nearer than usual is a near-copy."""
NEIGHBOUR_ROWS = 10_000


def duplicates(subject: Subject) -> Findings:
    """Exact copies, and rows that are copies but for an id."""
    exact = copies_of(duplicate_clusters(subject.table))
    if len(exact):
        yield _copies(
            subject, exact, "duplicate_rows", list(subject.table.columns), "exact copies of an earlier row", ()
        )
    ids = subject.ids
    rest = [c for c in subject.table.columns if c not in ids]
    if ids and len(rest) > 1:
        but_id = np.setdiff1d(copies_of(duplicate_clusters(subject.table[rest])), exact)
        if len(but_id):
            shown = ", ".join(repr(c) for c in ids[:3])
            what = f"copies of an earlier row in all but {shown}"
            yield _copies(subject, but_id, "duplicate_rows_but_id", rest, what, tuple(ids))


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
        code, "duplicates", severity, f"{len(rows):,} rows ({share:.1%}) are {what}{why}",
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
    names = subject.numbers
    if len(names) < 5 or subject.n < 100:
        return
    rows, distance, partner = nearest_neighbours(subject, names)
    usual = float(np.median(distance))
    if usual <= 1e-6:
        return
    near = (distance < NEAR * usual) & (distance > 1e-9)
    share = float(near.mean())
    if near.sum() < 5 or share < 0.005:
        return
    severity: Severity = "warning"
    grouped = ""
    if subject.group is not None:
        codes = subject.codes(subject.group)
        together = float((codes[rows[near]] == codes[partner[near]]).mean())
        grouped = f", {together:.0%} of them with a row of the same {subject.group!r}"
        severity = "note" if together > 0.95 else "warning"
    found = np.sort(rows[near])
    yield Finding(
        "near_duplicate_rows", "duplicates", severity,
        f"{share:.1%} of {'the' if len(rows) == subject.n else f'{len(rows):,} sampled'} rows have a near-copy, "
        f"ten times nearer than a row's neighbour usually is{grouped}",
        "A near-copy on the other side of the split is remembered, not predicted: the test score is too good.",
        "Find what they share (a person, a device, a day) and give that column as group to split and audit.",
        rows=tuple(found), count=len(found),
        evidence={"share": share, "pairs": [f"{r} and {partner[i]}" for i, r in enumerate(rows) if near[i]][:8],
                  "usual_distance": usual, "rows_used": len(rows), "columns_used": len(names)},
    )  # fmt: skip


def nearest_neighbours(subject: Subject, names: list[Hashable]) -> tuple[Ints, NDArray[np.float64], Ints]:
    """(rows, distance to the nearest other row, that row) on standardised numbers, on a sample of the rows."""
    from sklearn.neighbors import NearestNeighbors

    rows = np.arange(subject.n)
    if subject.n > NEIGHBOUR_ROWS:
        # neighbours in file order stay together: copies are often near each other
        start = np.sort(subject.rng.choice(subject.n - 50, NEIGHBOUR_ROWS // 50, replace=False))
        rows = np.unique((start[:, None] + np.arange(50)).ravel())
    table = np.column_stack([_standard(subject.floats(c)) for c in names])[rows].astype(np.float32)
    distance, index = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(table).kneighbors(table)
    other = np.where(index[:, 0] == np.arange(len(rows)), 1, 0)
    pick = np.arange(len(rows))
    return rows, distance[pick, other].astype(float), rows[index[pick, other]]


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
    severity: Severity = "note" if natural and lost / len(present) < 0.2 else "severe" if share > 0.01 else "warning"
    severity = "warning" if natural and severity == "severe" else severity
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
    right = chances.argmax(1) == np.searchsorted(classes, labels)
    per_class = [right[labels == k].mean() for k in classes]
    if np.mean(per_class) < 0.5 + 0.5 / len(classes) or min(per_class) < 0.5:
        return  # too weak a judge: it would accuse rows that are merely hard
    found = find(labels, chances)
    share = len(found) / len(rows)
    if len(found) == 0:
        return
    severity: Severity = "warning" if share >= 0.04 and len(found) >= 10 else "note"
    yield Finding(
        "label_errors", "accuracy", severity,
        f"{len(found):,} labels ({share:.1%}{'' if len(rows) == subject.n else f' of {len(rows):,} sampled'}) are "
        "probably wrong: models that had not seen the row are sure of another class",
        "Wrong labels teach the wrong thing, and in the test set they punish the right answer.",
        "Show the worst to somebody who knows (label_errors lists them); correct or drop them, then train again.",
        (subject.target_name,), tuple(rows[found["row"].to_numpy()]), len(found),
        {"method": "confident learning on out-of-fold probabilities of a logistic regression",
         "accuracy_out_of_fold": float(right.mean()), "share": share, "rows_used": len(rows),
         "given_and_suggested": [f"{target.classes[g]} → {target.classes[s]}"
                                 for g, s in zip(found["given"].head(5), found["suggested"].head(5), strict=True)]},
    )  # fmt: skip


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
