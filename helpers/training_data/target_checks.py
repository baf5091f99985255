"""Findings about the target: imbalance, missing labels, and everything that tells the target too well."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from helpers.training_data.report import Dimension, Finding, Severity, plural
from helpers.training_data.scores import (
    array_score,
    category_score,
    chance_level,
    floor,
    missing_score,
    number_score,
)
from helpers.training_data.splits import duplicate_clusters
from helpers.training_data.subject import Subject, Target

Findings = Iterator[Finding]
Ints = NDArray[np.int64]

SPLIT_WORDS = frozenset(
    ["train", "training", "test", "testing", "val", "valid", "validation", "dev", "holdout", "eval"]
)


@dataclass(frozen=True)
class Limits:
    """Scores (AUC, or R² for a quantity) from which a column is suspicious."""

    certain: float
    strong: float
    suspicious: float
    stands_out: float
    weak: float


CLASS_LIMITS = Limits(certain=0.999, strong=0.97, suspicious=0.85, stands_out=0.2, weak=0.65)
QUANTITY_LIMITS = Limits(certain=0.995, strong=0.995, suspicious=0.8, stands_out=0.35, weak=0.15)


@dataclass(frozen=True)
class Scores:
    """The score of every feature column alone."""

    by_column: dict[Hashable, float] = field(default_factory=dict)
    name: str = "AUC"
    floor: float = 0.5

    @property
    def usual(self) -> float:
        """The median over the columns, or the floor when there are few."""
        values = list(self.by_column.values())
        return float(np.median(values)) if len(values) > 3 else self.floor


def limits(subject: Subject) -> Limits:
    """The limits for this kind of target."""
    return CLASS_LIMITS if subject.target is not None and subject.target.is_class else QUANTITY_LIMITS


def score_column(subject: Subject, name: Hashable) -> float:
    """What one column alone says about the target."""
    if subject.kinds[name] in ("number", "time"):
        score = number_score(subject, name)
        # a number with few values may be a code: 1, 2, 3 without an order
        if subject.codes(name).max() < 50:
            score = max(score, category_score(subject, subject.codes(name)))
        return score
    if subject.kinds[name] == "id" and subject.table[name].dtype.kind in "iuf":
        return number_score(subject, name)
    return category_score(subject, subject.codes(name))


# ------------------------------------------------------------------------------------------------------ imbalance


def missing_target(subject: Subject) -> Findings:
    """Rows without a label."""
    target = subject.target
    if target is None or target.present.all():
        return
    rows = np.flatnonzero(~target.present)
    share = len(rows) / subject.n
    yield Finding(
        "missing_target", "accuracy", "severe" if share > 0.2 else "warning" if share >= 0.005 else "note",
        f"target {subject.target_name!r} is missing in {plural(len(rows), 'row')} ({share:.1%})",
        "These rows cannot be trained on; filled in, they become wrong labels. If they are missing for a reason "
        "(a cancelled flight has no delay), the model knows nothing about such cases.",
        "Find out why; drop them before splitting, and say in the model's description what it does not cover.",
        (subject.target_name,), tuple(rows), len(rows), {"share": share},
    )  # fmt: skip


def imbalance(subject: Subject) -> Findings:
    """Few rows of some classes; a quantity that is mostly one value."""
    target = subject.target
    if target is None:
        return
    if not target.is_class:
        yield from _lumpy(subject)
        return
    counts = target.counts
    order = np.argsort(counts, kind="stable")
    total = int(counts.sum())
    fair = total / len(counts)
    tiny = [target.classes[k] for k in order if counts[k] < 10]
    if tiny:
        yield Finding(
            "tiny_classes", "imbalance", "warning",
            f"{len(tiny)} class{'es have' if len(tiny) > 1 else ' has'} fewer than 10 rows: {_some(tiny)}",
            "After a split a handful of test rows is left: no score about such a class means anything.",
            "Collect more, merge rare classes, or leave them out and say so.",
            (subject.target_name,), evidence={"rows": {str(target.classes[k]): int(counts[k]) for k in order[:8]}},
        )  # fmt: skip
    order = order[counts[order] >= 10]  # the others have their finding
    if len(order) < 2 or counts[order[0]] >= 0.4 * fair:
        return
    smallest, largest = int(counts[order[0]]), int(counts[order[-1]])
    share = smallest / total
    severity: Severity = "warning" if smallest < 0.2 * fair else "note"
    yield Finding(
        "imbalance", "imbalance", severity,
        f"class {target.classes[order[0]]!r} has {smallest:,} rows ({share:.2%}), {target.classes[order[-1]]!r} "
        f"{largest:,} ({largest / total:.1%})",
        f"A model that always says {target.classes[order[-1]]!r} is {largest / total:.1%} accurate and useless.",
        "Judge by recall, precision or PR-AUC per class; split with target=; weigh the loss (class_weights) or "
        "resample the training rows only, and check the calibration afterwards.",
        (subject.target_name,),
        evidence={"rows": {str(target.classes[k]): int(counts[k]) for k in order[::-1][:8]},
                  "accuracy_of_the_lazy": largest / total},
    )  # fmt: skip


def _lumpy(subject: Subject) -> Findings:
    target = subject.target
    assert target is not None
    ranks = target.ranks[target.present]
    values, counts = np.unique(ranks, return_counts=True)
    top = counts.max() / len(ranks)
    if top >= 0.3:
        value = subject.table[subject.target_name][target.present].iloc[
            int(np.flatnonzero(ranks == values[counts.argmax()])[0])
        ]
        yield Finding(
            "lumpy_target", "imbalance", "note" if top < 0.8 else "warning",
            f"target {subject.target_name!r} is {value} in {top:.0%} of the rows",
            "The mean error is dominated by that value; a model that always says it looks good.",
            "Consider two steps (is it this value? if not, how much?), and judge both.",
            (subject.target_name,), evidence={"value": value, "share": float(top)},
        )  # fmt: skip


def _some(values: list[Hashable], most: int = 5) -> str:
    return ", ".join(map(repr, values[:most])) + (" …" if len(values) > most else "")


# -------------------------------------------------------------------------------------------------------- leakage


def leaks(subject: Subject, scores: Scores) -> Findings:
    """Columns that say too much about the target on their own."""
    target = subject.target
    if target is None:
        return
    limit, usual = limits(subject), scores.usual
    chance = chance_level(target, np.flatnonzero(target.present))
    strong: dict[Hashable, float] = {}
    for name, score in scores.by_column.items():
        if score < chance or subject.kinds[name] == "id":
            continue
        alone = score - usual >= limit.stands_out
        if score >= limit.certain or (score >= limit.strong and score - usual >= 1.5 * limit.stands_out):
            yield _leak(subject, scores, name, "severe")
        elif score >= limit.suspicious and alone:
            yield _leak(subject, scores, name, "warning")
        elif score >= limit.strong - 0.02 or (not target.is_class and score >= 0.9):
            strong[name] = score
    if strong:
        yield Finding(
            "strong_columns", "leakage", "note",
            f"{len(strong)} column{'s say' if len(strong) > 1 else ' says'} nearly everything about the target alone, "
            f"such as {max(strong, key=lambda c: strong[c])!r} ({scores.name} {max(strong.values()):.3f})",
            "Either the task is easy, or these are known only after the target is.",
            "Check for each when its value is written down: before or after what is to be predicted?",
            tuple(strong), evidence={scores.name: strong, "usual_column": usual},
        )  # fmt: skip


def _leak(subject: Subject, scores: Scores, name: Hashable, severity: Severity) -> Finding:
    score = scores.by_column[name]
    says = "all there is to know" if severity == "severe" else "a great deal"
    return Finding(
        "target_leak", "leakage", severity,
        f"{name!r} alone says {says} about {subject.target_name!r}: {scores.name} {score:.3f}, "
        f"the usual column {scores.usual:.2f}",
        "If it is known only after the target, or made from it, every test score is too good: "
        "the model disappoints in use.",
        f"Ask when {name!r} is written down. If after what is to be predicted: leave it out.",
        (name,), evidence={scores.name: score, "usual_column": scores.usual, "out_of_fold": True},
    )  # fmt: skip


def ids_that_tell(subject: Subject, scores: Scores) -> Findings:
    """Row numbers and ids that say something about the target."""
    target = subject.target
    if target is None:
        return
    chance = chance_level(target, np.flatnonzero(target.present))
    for name in subject.ids:
        score = scores.by_column.get(name, scores.floor)
        if score < max(limits(subject).weak, chance):
            continue
        yield Finding(
            "id_predicts_target", "leakage", "severe" if score >= limits(subject).strong else "warning",
            f"{name!r} numbers the rows, yet says something about {subject.target_name!r}: {scores.name} {score:.3f}",
            "The model learns how the file was put together (class after class, batch after batch), not the task.",
            f"Leave {name!r} out of the features; find out why it carries the target (sorted file? two sources?).",
            (name,), evidence={scores.name: score},
        )  # fmt: skip


def row_order(subject: Subject, scores: Scores) -> Findings:
    """A file sorted by the target."""
    target = subject.target
    if target is None or subject.time is not None:
        return
    position = np.arange(subject.n, dtype=float)
    score = array_score(subject, position)
    if score < max(limits(subject).weak, chance_level(target, np.flatnonzero(target.present))):
        return
    yield Finding(
        "sorted_by_target", "leakage", "warning" if score >= limits(subject).suspicious else "note",
        f"the position in the file says something about {subject.target_name!r}: {scores.name} {score:.3f}",
        "Folds cut without shuffling hold other classes than the rest; if the order is time, a random split flatters.",
        "If the order means time, give it as time; if it means nothing, shuffle (split does).",
        (subject.target_name,), evidence={scores.name: score},
    )  # fmt: skip


def missing_and_target(subject: Subject) -> Findings:
    """Gaps that depend on the label: a finding for each column that gives the label away, one for all the others."""
    target = subject.target
    if target is None:
        return
    weaker: dict[Hashable, _Gap] = {}
    for name in subject.features:
        gone = subject.missing(name) & target.present
        if min(int(gone.sum()), int((target.present & ~gone).sum())) < 10:
            continue
        score, p_value, strength = missing_score(subject, name)
        # thousands of rows make any trifle significant: ask for an effect as well
        if p_value > 1e-4 or strength < (0.1 if target.is_class else 0.15):
            continue
        gap = _Gap(score, p_value, strength, _missing_rates(target, gone), np.flatnonzero(gone))
        if score >= (0.75 if target.is_class else 0.3):
            yield _gap_finding(subject, {name: gap}, "severe" if score >= 0.95 else "warning", "leakage")
        else:
            weaker[name] = gap
    if weaker:
        yield _gap_finding(subject, weaker, "warning", "accuracy")


@dataclass(frozen=True)
class _Gap:
    score: float
    p_value: float
    strength: float
    rates: dict[str, float]
    rows: Ints


def _missing_rates(target: Target, gone: NDArray[np.bool_]) -> dict[str, float]:
    """Share missing in each of the five largest classes."""
    if not target.is_class:
        return {}
    large = [k for k in np.argsort(-target.counts, kind="stable")[:5] if target.counts[k] >= 10]
    return {str(target.classes[k]): float(gone[target.codes == k].mean()) for k in large}


def _gap_finding(subject: Subject, gaps: dict[Hashable, _Gap], severity: Severity, dimension: Dimension) -> Finding:
    name = max(gaps, key=lambda c: gaps[c].strength)
    gap = gaps[name]
    how = f"missing in {_rates(gap.rates)}" if len(gap.rates) > 1 else f"rank correlation {gap.strength:.2f}"
    others = f", and so for {plural(len(gaps) - 1, 'more column')}" if len(gaps) > 1 else ""
    return Finding(
        "missing_tells_target", dimension, severity,
        f"whether {name!r} is missing depends on {subject.target_name!r}: {how}{others}",
        "Imputation hides it or bends the values of one class more than of the other; a model can read the label "
        "off the gap, which a new row may not have.",
        "Find out who leaves it empty and when. If the reason exists at prediction time, keep an indicator column; "
        "if not, the gap is a leak: drop the column or collect it evenly.",
        tuple(sorted(gaps, key=lambda c: -gaps[c].strength)), tuple(gap.rows), len(gap.rows),
        {"missing_share": gap.rates, "score_of_the_gap": gap.score, "p_value": gap.p_value,
         "strength": {str(c): g.strength for c, g in gaps.items()}},
    )  # fmt: skip


def _rates(rates: dict[str, float]) -> str:
    pair = sorted(rates.items(), key=lambda item: -item[1])
    return f"{pair[0][1]:.0%} of {pair[0][0]!r}, {pair[-1][1]:.0%} of {pair[-1][0]!r}"


def groups(subject: Subject, scores: Scores) -> Findings:
    """Rows of one person, device, place … on both sides of a random split."""
    if subject.group is not None:
        yield from _given_group(subject, subject.group)
    else:
        yield from _hidden_groups(subject, scores)


def _given_group(subject: Subject, group: Hashable) -> Findings:
    codes = subject.codes(group)
    known = codes >= 0
    sizes = np.bincount(codes[known])
    if len(sizes) == 0 or sizes.max() < 2:
        return
    in_test = subject.rng.random(subject.n) < 0.2
    test = in_test & known
    shared = float(np.isin(codes[test], codes[known & ~in_test]).mean()) if test.any() else 0.0
    score = category_score(subject, codes) if subject.target is not None else None
    limit = limits(subject)
    knows = score is not None and score >= limit.weak
    strongly = score is not None and score >= limit.weak + 0.25 * limit.stands_out
    severity: Severity = "severe" if shared >= 0.2 and strongly else "warning" if shared >= 0.05 else "note"
    if subject.time is not None and severity == "severe":
        severity = "warning"  # with a time, the same shop or share usually does come again
    about = f"; knowing it alone predicts {subject.target_name!r} ({score:.2f})" if knows else ""
    yield Finding(
        "group_straddles", "leakage", severity,
        f"in a random split {shared:.0%} of the test rows share their {group!r} with training rows{about}",
        f"The model recognises the {group!r} instead of learning the task; on new ones it is worse than it seems.",
        f"split(table, target=…, group={group!r}), and GroupKFold in cross-validation.",
        (group,), evidence={"shared_test_rows": shared, "groups": len(sizes), "rows_per_group": float(sizes.mean()),
                            "score_of_group_alone": score},
    )  # fmt: skip


def _hidden_groups(subject: Subject, scores: Scores) -> Findings:
    """A column with many values, each on several rows, that predicts the target as if it named a group."""
    target = subject.target
    if target is None:
        return
    limit = limits(subject)
    chance = chance_level(target, np.flatnonzero(target.present))
    for name in subject.features:
        if not looks_like_group(subject, name):
            continue
        score = category_score(subject, subject.codes(name))
        as_number = number_score(subject, name) if subject.kinds[name] == "number" else floor(target)
        # what a smooth curve through the numbers also finds is no membership
        if score < max(limit.weak, chance) or score - as_number < 0.5 * limit.stands_out:
            continue
        sizes = np.bincount(subject.codes(name)[subject.codes(name) >= 0])
        yield Finding(
            "possible_group", "leakage", "warning" if score >= limit.weak + 0.1 else "note",
            f"{name!r} has {len(sizes):,} values on {sizes.mean():.1f} rows each and predicts {subject.target_name!r} "
            f"({scores.name} {score:.2f}): rows may belong together",
            "If a random split divides the rows of one value, the model recognises it instead of learning the task.",
            f"If {name!r} names a person, a device or a place that will be new in use, pass group={name!r}.",
            (name,), evidence={scores.name: score, "values": len(sizes)},
        )  # fmt: skip


def looks_like_group(subject: Subject, name: Hashable) -> bool:
    """At least 30 words on 2 rows each or more, or 100 whole numbers on 1.5 to 50 rows each (on average)."""
    if subject.kinds[name] not in ("category", "number"):
        return False
    codes = subject.codes(name)
    values = int(codes.max()) + 1
    rows = int((codes >= 0).sum())
    if subject.kinds[name] == "category":
        return values >= 30 and rows / values >= 2
    numbers = subject.floats(name)
    whole = bool(np.all(np.isnan(numbers) | (numbers == np.round(numbers))))
    return whole and values >= 100 and 1.5 <= rows / values < 50


def existing_split(subject: Subject) -> Findings:
    """A column that already says train or test: groups and copies on both sides of it."""
    for name in subject.features:
        if subject.kinds[name] != "category" or not 2 <= subject.codes(name).max() + 1 <= 4:
            continue
        words = subject.table[name].astype(str).str.strip().str.lower()
        if not set(words[subject.table[name].notna()].unique()) <= SPLIT_WORDS:
            continue
        train = words.str.startswith("train").to_numpy()
        rest = [c for c in subject.table.columns if c not in (name, *subject.ids)]
        for what, codes in (
            ("copies of a training row", duplicate_clusters(subject.table[rest])),
            (
                f"a {subject.group!r} that is in training",
                None if subject.group is None else subject.codes(subject.group),
            ),
        ):
            if codes is None:
                continue
            rows = np.flatnonzero(~train & (codes >= 0) & np.isin(codes, codes[train]))
            if len(rows):
                yield Finding(
                    "split_leaks", "leakage", "severe",
                    f"{len(rows):,} of {int((~train).sum()):,} rows outside {name!r} = train are {what}"
                    if what.startswith("copies") else
                    f"{len(rows):,} of {int((~train).sum()):,} rows outside {name!r} = train have {what}",
                    "The existing split tests memory: its score is too good.",
                    "Make a new split with split(table, target=…, group=…).",
                    (name,), tuple(rows), len(rows), {"share": len(rows) / max(1, int((~train).sum()))},
                )  # fmt: skip


def time_order(subject: Subject, scores: Scores) -> Findings:
    """A target that drifts, neighbours in time that share it, and features that are the time in disguise."""
    moments = subject.moments
    if moments is None or np.isnan(moments).all():
        return
    yield from _time_in_features(subject, moments)
    target = subject.target
    if target is None:
        return
    rows = np.flatnonzero(target.present & ~np.isnan(moments))
    if len(rows) < 100:
        return
    rows = rows[np.argsort(moments[rows], kind="stable")]
    limit = limits(subject)
    yield from _drift(subject, rows, scores)
    near = _neighbours_in_time(subject, rows, moments)
    if near is None:
        return
    random, ahead = near
    if random >= max(limit.weak - 0.05, chance_level(target, rows)):
        yield Finding(
            "time_neighbours", "leakage", "warning",
            f"rows near in time share {subject.target_name!r}: the mean of the rows around a moment predicts it with "
            f"{scores.name} {random:.2f} in random folds, but {ahead:.2f} for a later stretch of time",
            "A random split trains on the minutes before and after each test row, which no use allows: too good.",
            f"split(table, time={subject.time!r}); in cross-validation TimeSeriesSplit.",
            (subject.time,), evidence={"random_folds": random, "later_stretch": ahead, "rows": len(rows)},
        )  # fmt: skip


def _neighbours_in_time(subject: Subject, rows: Ints, moments: NDArray[np.float64]) -> tuple[float, float] | None:
    """Score of the target's mean in slices of time, with random folds and with folds of neighbouring slices."""
    slices = min(2000, len(rows) // 20)
    if slices < 10:
        return None
    _, moment = np.unique(moments[rows], return_inverse=True)
    # rows of one moment stay in one slice
    first = np.maximum.accumulate(np.where(np.diff(moment, prepend=-1) > 0, np.arange(len(rows)), 0))
    codes = np.full(subject.n, -1, dtype=np.int64)
    codes[rows] = first * slices // len(rows)
    random = category_score(subject, codes, rows=rows)
    ahead = category_score(subject, codes, rows=rows, blocks=True)
    return random, ahead


def _drift(subject: Subject, rows: Ints, scores: Scores) -> Findings:
    """The target's mean in tenths of the time."""
    target = subject.target
    assert target is not None
    tenths = np.arange(len(rows)) * 10 // len(rows)
    codes = np.full(subject.n, -1, dtype=np.int64)
    codes[rows] = tenths
    score = category_score(subject, codes, rows=rows)
    limit = 0.58 if target.is_class else 0.05
    if score < max(limit, chance_level(target, rows)):
        return
    if target.is_class:
        rare = int(np.argmin(np.where(target.counts > 0, target.counts, subject.n)))
        y, what = (target.codes[rows] == rare).astype(float), f"share of {target.classes[rare]!r}"
    else:
        y, what = target.ranks[rows], "mean rank (0 to 1)"
    course = [float(y[tenths == t].mean()) for t in range(10)]
    yield Finding(
        "target_drifts", "leakage", "warning",
        f"{subject.target_name!r} changes with time: the {what} is {course[0]:.2f} in the first tenth, "
        f"{course[-1]:.2f} in the last, between {min(course):.2f} and {max(course):.2f}",
        "What is learnt from the past is not quite the future; a random split does not show it.",
        f"Test on the latest rows: split(table, time={subject.time!r}), and watch this number in use.",
        (subject.target_name,), evidence={"course": course, scores.name: score},
    )  # fmt: skip


def _time_in_features(subject: Subject, moments: NDArray[np.float64]) -> Findings:
    from scipy.stats import rankdata

    found = {}
    order = np.isfinite(moments)
    for name in [*subject.numbers, *[c for c in subject.ids if subject.table[c].dtype.kind in "iuf"]]:
        x = subject.floats(name)
        keep = order & ~np.isnan(x)
        if keep.sum() < 50 or np.ptp(x[keep]) == 0 or np.ptp(moments[keep]) == 0:
            continue
        rho = np.corrcoef(rankdata(x[keep]), rankdata(moments[keep]))[0, 1]
        if abs(rho) >= 0.98:
            found[name] = float(rho)
    if found:
        yield Finding(
            "time_in_features", "leakage", "note",
            f"{_some(list(found))} {'follow' if len(found) > 1 else 'follows'} {subject.time!r}: the time in disguise",
            "A model can learn dates by heart; at prediction time the values lie outside all it has seen.",
            "Leave it out, or use what repeats (hour, weekday, month) and differences.",
            tuple(found), evidence={"rank_correlation_with_time": found},
        )  # fmt: skip
