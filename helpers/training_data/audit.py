"""Audit a table: consistency, accuracy, diversity, imbalance, leakage, duplicates.

What this does not catch: a leak that takes several columns together; a wrong label that looks like its class; units
mixed up in a column that varies by more than the factor; bias in who is in the table and who is not. Severe findings
are those that make a test score a lie or rows plainly wrong; a clean table should have none.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from helpers.training_data import column_checks as columns
from helpers.training_data import row_checks as rows
from helpers.training_data import target_checks as targets
from helpers.training_data.report import DIMENSIONS, SEVERITIES, AuditReport, Finding, Picture
from helpers.training_data.subject import Subject, read_subject
from helpers.training_data.target_checks import Scores

SCORED = 200
"""So many columns are scored against the target at most; the first ones of the table."""

_COLUMN_CHECKS: tuple[Callable[[Subject], Iterable[Finding]], ...] = (
    columns.load_notes,
    columns.mixed_types,
    columns.dates_as_text,
    columns.spelling_variants,
    columns.placeholders,
    columns.sentinels,
    columns.unit_mixups,
    columns.missing_values,
    columns.constant_columns,
    columns.redundant_columns,
    columns.homogeneity,
    rows.duplicates,
    rows.near_duplicates,
    rows.label_conflicts,
    rows.label_errors,
    targets.missing_target,
    targets.imbalance,
    targets.missing_and_target,
    targets.existing_split,
)
_SCORE_CHECKS: tuple[Callable[[Subject, Scores], Iterable[Finding]], ...] = (
    targets.leaks,
    targets.ids_that_tell,
    targets.row_order,
    targets.groups,
    targets.time_order,
)


def audit(
    table: pd.DataFrame,
    target: Hashable | None = None,
    group: Hashable | None = None,
    time: Hashable | None = None,
    *,
    seed: int = 0,
    progress: bool = False,
) -> AuditReport:
    """Look for what makes a model trained on this table worse than its test score.

    Args:
        table: (n, d), one row per example. Not changed.
        target: the column to be predicted, classes or a quantity; without it the checks that need one are left out.
        group: a column whose rows belong together (patient, user, device).
        time: a column of dates or numbers that orders the rows.
        seed: of the samples that expensive checks use; same seed, same report.
        progress: show a progress bar.

    Returns an `AuditReport`. Raises TypeError when `table` is no DataFrame; ValueError when it is empty, has two
    columns of one name, when a named column does not exist, or when the target has one value only.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be a whole number from 0 on, got {seed!r}")
    subject = read_subject(table, target, group, time, int(seed))
    to_score = subject.features[:SCORED] if target is not None else []
    total = len(_COLUMN_CHECKS) + len(to_score) + len(_SCORE_CHECKS)
    found: list[Finding] = []
    by_column: dict[Hashable, float] = {}
    with tqdm(total=total, desc="audit", unit="check", disable=not progress, leave=False) as bar:
        for check in _COLUMN_CHECKS:
            bar.set_postfix_str(check.__name__.replace("_", " "))
            found += check(subject)
            bar.update()
        for name in to_score:
            bar.set_postfix_str(f"what {name} says")
            by_column[name] = targets.score_column(subject, name)
            bar.update()
        scores = _scores(subject, by_column)
        for score_check in _SCORE_CHECKS:
            bar.set_postfix_str(score_check.__name__.replace("_", " "))
            found += score_check(subject, scores)
            bar.update()
    found.sort(key=lambda f: (SEVERITIES.index(f.severity), DIMENSIONS.index(f.dimension), f.code, -f.count))
    return AuditReport(tuple(found), _summary(subject, scores), _picture(subject, scores, found))


def _scores(subject: Subject, by_column: dict[Hashable, float]) -> Scores:
    if subject.target is None or subject.target.is_class:
        return Scores(by_column)
    return Scores(by_column, "R²", 0.0)


def _summary(subject: Subject, scores: Scores) -> dict[str, Any]:
    table = subject.table
    kinds = pd.Series(list(subject.kinds.values())).value_counts().to_dict()
    directions, numbers, used = columns.effective_directions(subject)
    summary: dict[str, Any] = {
        "rows": subject.n,
        "columns": table.shape[1],
        "target": None if subject.target_name is None else str(subject.target_name),
        "group": None if subject.group is None else str(subject.group),
        "time": None if subject.time is None else str(subject.time),
        "source": (table.attrs.get("source") or {}).get("file"),
        "kinds": kinds,
        "missing_cells": f"{table.isna().to_numpy().mean():.1%}",
        "independent_directions": f"{directions:.1f} of {numbers} numeric columns"
        + (f" ({used} rows)" if used else ""),
    }
    if subject.target is not None:
        best = sorted(scores.by_column.items(), key=lambda item: -item[1])[:10]
        summary["target_kind"] = f"{len(subject.target.classes)} classes" if subject.target.is_class else "quantity"
        summary["best_single_columns"] = {str(name): score for name, score in best}
    return {key: value for key, value in summary.items() if value is not None or key == "target"}


def _picture(subject: Subject, scores: Scores, found: list[Finding]) -> Picture:
    gaps = {c: subject.missing(c) for c in subject.table.columns}
    worst = sorted((c for c in gaps if gaps[c].any()), key=lambda c: -gaps[c].mean())[:12]
    slices = np.array_split(np.arange(subject.n), min(60, subject.n))
    missing = tuple((str(c), tuple(float(gaps[c][s].mean()) for s in slices)) for c in worst)
    classes: tuple[tuple[str, int], ...] = ()
    if subject.target is not None and subject.target.is_class:
        counts = subject.target.counts
        order = np.argsort(-counts, kind="stable")
        classes = tuple((str(subject.target.classes[k]), int(counts[k])) for k in order[:12])
    best = sorted(scores.by_column.items(), key=lambda item: -item[1])[:12]
    suspects = tuple(str(c) for f in found if f.code == "target_leak" for c in f.columns)
    return Picture(missing, classes, tuple((str(c), s) for c, s in best), scores.name, scores.floor, suspects)
