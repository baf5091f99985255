"""Findings about single columns: consistency, missing values, diversity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.training_data.report import Finding, Severity, plural
from helpers.training_data.subject import Subject
from helpers.training_data.values import NUMBER, date_formats, is_placeholder, matches

Findings = Iterator[Finding]

SENTINELS = (-1.0, -9.0, -99.0, -999.0, -9999.0, -99999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0)
UNITS = {
    2.54: "inch and cm",
    3.28084: "metre and foot",
    1.609344: "mile and km",
    2.20462: "kg and pound",
    10.0: "×10",
    12.0: "foot and inch, or year and month",
    16.0: "pound and ounce",
    24.0: "day and hour",
    25.4: "inch and mm",
    60.0: "minute and second, or hour and minute",
    100.0: "×100, such as a share and a percentage",
    1000.0: "×1,000, such as g and kg",
    1_000_000.0: "×1,000,000",
}
CORRELATED = 0.99
PAIR_ROWS = 2_000
"""Rows on which all pairs of columns are compared."""


# ---------------------------------------------------------------------------------------------------- consistency


def mixed_types(subject: Subject) -> Findings:
    """Numbers and text, or several Python types, in one column."""
    for name in subject.table.columns:
        column = subject.table[name]
        if subject.kinds[name] not in ("category", "text", "id") or not _holds_text(column):
            continue
        present = column.dropna()
        if column.dtype == object:
            types = Counter(type(value).__name__ for value in present)
            if len(types) > 1:
                rare = min(types, key=lambda t: types[t])
                rows = [i for i, value in enumerate(column) if type(value).__name__ == rare]
                yield _mixed(name, rows, {"types": dict(types)}, f"values of type {' and '.join(types)}")
                continue
            if not isinstance(present.iloc[0], str):
                continue
        yield from _numbers_and_words(column, present.drop_duplicates().astype(str), name)


def _holds_text(column: pd.Series) -> bool:
    return column.dtype == object or isinstance(column.dtype, pd.StringDtype)


def _numbers_and_words(column: pd.Series, words: pd.Series, name: Hashable) -> Findings:
    numeric = matches(words.str.strip(), NUMBER)
    if not 0.5 <= numeric.mean() < 1 or numeric.sum() < 3:
        return
    others = words[~numeric]
    # codes such as 10A, 10B, 11 are words that may look like numbers; a few odd words among numbers are not
    if len(others) > max(20, 0.1 * len(words)) or words[numeric].str.len().nunique() == 1 == others.str.len().nunique():
        return
    odd = column.isin(others.tolist()).to_numpy()
    evidence = {"not_numbers": others.head(8).tolist(), "share": float(odd.mean())}
    yield _mixed(name, np.flatnonzero(odd), evidence, f"numbers, but also {', '.join(map(repr, others.head(3)))}")


def _mixed(name: Hashable, rows: Any, evidence: dict[str, Any], what: str) -> Finding:
    return Finding(
        "mixed_types", "consistency", "warning", f"{name!r} holds {what} ({len(rows):,} rows)",
        "The whole column is read as text: a model sees each number as a word of its own, or the encoder fails.",
        "Find out what the odd values mean; make them missing or convert them, then make the column numeric.",
        (name,), tuple(rows), len(rows), evidence,
    )  # fmt: skip


def dates_as_text(subject: Subject) -> Findings:
    """Columns of text that are dates."""
    for name in subject.table.columns:
        if subject.kinds[name] not in ("category", "text", "id") or not _holds_text(subject.table[name]):
            continue
        words = subject.table[name].dropna().drop_duplicates()
        words = words[words.map(lambda value: isinstance(value, str))] if words.dtype == object else words
        if len(words) < 3:
            continue
        some = words.sample(min(len(words), 5_000), random_state=0).astype(str).str.strip()
        forms = date_formats(some, share=0.9)
        if not forms:
            continue
        ambiguous = len({form for form in forms if form.startswith(("%d", "%m"))}) > 1
        reading = "day and month cannot be told apart" if ambiguous else f"read by {forms[0]}"
        yield Finding(
            "dates_as_text", "consistency", "warning" if ambiguous else "note",
            f"{name!r} holds dates as text ({reading})",
            "As text every date is a category that never comes again, and their order is lost.",
            f"Convert it: pd.to_datetime(table[{name!r}], format={forms[0]!r})"
            + (", after asking the source which of the two it is." if ambiguous else "."),
            (name,), evidence={"formats": forms, "example": some.iloc[0]},
        )  # fmt: skip


def spelling_variants(subject: Subject) -> Findings:
    """Categories that differ by case or blanks alone."""
    for name in subject.table.columns:
        if subject.kinds[name] != "category" or not _holds_text(subject.table[name]):
            continue
        counts = subject.table[name].dropna().astype(str).value_counts()
        folded = counts.index.to_series().str.normalize("NFKC").str.casefold().str.split().str.join(" ")
        folded = folded[folded.duplicated(keep=False)]
        several: dict[str, list[str]] = {}
        for spelling, key in folded.items():
            several.setdefault(key, []).append(str(spelling))
        if not several:
            continue
        minor = [v for spellings in several.values() for v in sorted(spellings, key=lambda v: -counts[v])[1:]]
        rows = np.flatnonzero(subject.table[name].astype(str).isin(minor).to_numpy())
        shown = next(iter(several.values()))
        yield Finding(
            "spelling_variants", "consistency", "warning",
            f"{name!r} spells {plural(len(several), 'value')} in several ways: {', '.join(map(repr, shown[:3]))}",
            "One category is split into several rare ones, so each is learnt from fewer rows"
            + (" and the classes are not those that are meant." if name == subject.target_name else "."),
            f"Normalise: table[{name!r}].str.strip().str.casefold().",
            (name,), tuple(rows), len(rows), {"variants": list(several.values())[:6]},
        )  # fmt: skip


def placeholders(subject: Subject) -> Findings:
    """'?', 'unknown' and the like in text columns."""
    for name in subject.features:
        if subject.kinds[name] != "category" or not _holds_text(subject.table[name]):
            continue
        words = subject.table[name].dropna().drop_duplicates().astype(str)
        found = words[is_placeholder(words)].tolist()
        if not found:
            continue
        rows = np.flatnonzero(subject.table[name].isin(found).to_numpy())
        yield Finding(
            "placeholder", "consistency", "note",
            f"{name!r} has {', '.join(map(repr, found[:3]))} in {len(rows):,} rows, which may mean missing",
            "A model treats it as a category like any other, and the share of missing values looks smaller than it is.",
            "If it means missing, replace it by pd.NA before imputation.",
            (name,), tuple(rows), len(rows), {"values": found},
        )  # fmt: skip


def sentinels(subject: Subject) -> Findings:
    """Numbers such as -999 that stand for missing; infinite values."""
    for name in subject.numbers:
        values = subject.table[name].to_numpy(dtype=float, na_value=np.nan)
        infinite = np.flatnonzero(np.isinf(values))
        if len(infinite):
            yield Finding(
                "infinite", "consistency", "warning", f"{name!r} is infinite in {len(infinite):,} rows",
                "Means, scaling and most models fail or become NaN.",
                "Look for a division by zero at the source; make the values missing.",
                (name,), tuple(infinite), len(infinite), {"rows": len(infinite)},
            )  # fmt: skip
        yield from _sentinel(subject, name, subject.floats(name))


def _sentinel(subject: Subject, name: Hashable, values: NDArray[np.float64]) -> Findings:
    present = values[~np.isnan(values)]
    if len(present) < 20:
        return
    for extreme in {present.min(), present.max()}:
        rest = present[present != extreme]
        count = len(present) - len(rest)
        if extreme not in SENTINELS or count < max(3, 0.001 * len(present)) or len(np.unique(rest)) < 10:
            continue
        low, high = float(rest.min()), float(rest.max())
        gap = low - extreme if extreme < low else extreme - high
        far = gap > 3 * (high - low)
        only_negative = extreme < 0 <= low and (extreme <= -9 or bool(np.all(present == np.round(present))))
        # 99 after 0 … 98 is the next number; so is -1 before -0.9
        if not far and not (only_negative and gap >= 1):
            continue
        rows = np.flatnonzero(values == extreme)
        yield Finding(
            "sentinel", "consistency", "warning",
            f"{name!r} is {extreme:g} in {count:,} rows, far from the rest ({low:g} to {high:g}): a code for missing?",
            "A model takes it for a measurement: means, scaling and trees bend towards it.",
            f"Make it missing: table[{name!r}].replace({extreme:g}, pd.NA), and keep an indicator if it matters.",
            (name,), tuple(rows), count, {"value": extreme, "others": [low, high]},
        )  # fmt: skip


@dataclass(frozen=True)
class _Units:
    factor: float
    words: str
    rows: NDArray[np.int64]
    spread: float
    how: str


def unit_mixups(subject: Subject) -> Findings:
    """Some rows of a column in another unit: apart from the others by a well-known factor."""
    names = [c for c in subject.numbers if _measures(subject.floats(c))]
    if not names:
        return
    found = {name: unit for name in names if (unit := _gap_in_scale(subject.floats(name)))}
    if len(names) >= 3:
        found |= _residual_scale(subject, [c for c in names if c not in found])
    for name, unit in found.items():
        other = explained_by(subject, name, unit.rows)
        far = f"{name!r} is about {_factor(unit.factor)} in {plural(len(unit.rows), 'row')}"
        evidence = {"factor": unit.factor, "share": len(unit.rows) / subject.n, "found_by": unit.how,
                    "spread_of_the_others": 10**unit.spread}  # fmt: skip
        if other is not None:
            yield Finding(
                "scale_by_category", "consistency", "note",
                f"{far}, nearly those with one value of {other!r}: another kind of thing, or another unit",
                "If it is another unit, a model learns the unit instead of the quantity.",
                f"Ask whether {other!r} changes the unit of {name!r}; if so, convert.",
                (name, other), tuple(unit.rows), len(unit.rows), evidence,
            )  # fmt: skip
            continue
        yield Finding(
            "unit_mixup", "consistency", "severe" if len(unit.rows) >= 0.01 * subject.n else "warning",
            f"{far}: another unit ({unit.words})?",
            "These rows look like extreme cases: scaling squeezes all others together, linear models follow the few.",
            f"Ask where the rows come from. If the unit differs, divide {name!r} by {unit.factor:g} there.",
            (name,), tuple(unit.rows), len(unit.rows), evidence,
        )  # fmt: skip


def _factor(factor: float) -> str:
    return f"{factor:g} times too large" if factor > 1 else f"{1 / factor:g} times too small"


def explained_by(subject: Subject, name: Hashable, rows: NDArray[np.int64]) -> Hashable | None:
    """A column with few values, one of which is (nearly) found in exactly these rows."""
    inside = np.zeros(subject.n, dtype=bool)
    inside[rows] = True
    for other in subject.table.columns:
        codes = subject.codes(other)
        if other == name or not 0 < codes.max() < 20:
            continue
        for k in range(codes.max() + 1):
            here = codes == k
            if (here & inside).sum() >= 0.9 * max(here.sum(), inside.sum()):
                return other
    return None


def _measures(values: NDArray[np.float64]) -> bool:
    """Positive with many distinct values: something measured in a unit."""
    present = values[~np.isnan(values)]
    return len(present) >= 50 and (present > 0).mean() > 0.9 and len(np.unique(present)) > 30


def _logs(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(values > 0, np.log10(values), np.nan)


def _spread(values: NDArray[np.float64]) -> float:
    """Robust standard deviation (1.4826 · median absolute deviation)."""
    return float(1.4826 * np.nanmedian(np.abs(values - np.nanmedian(values))))


def _gap_in_scale(values: NDArray[np.float64]) -> _Units | None:
    """A second heap at a factor from the first, with nothing between."""
    logs = _logs(values)
    spread = _spread(logs)
    if spread == 0:
        return None
    return _heap(logs - np.nanmedian(logs), spread, "a second heap of values")


def _heap(distance: NDArray[np.float64], spread: float, how: str) -> _Units | None:
    """The factor at which a heap of at least 5 rows stands, clearly apart from the main one and shaped like it."""
    present = distance[~np.isnan(distance)]
    best: _Units | None = None
    for factor, words in UNITS.items():
        for shift in (np.log10(factor), -np.log10(factor)):
            inside = np.abs(distance - shift) < 3 * spread
            count = int(inside.sum())
            if abs(shift) < 9 * spread or not max(5, 0.002 * len(present)) <= count <= 0.4 * len(present):
                continue
            if best is not None and count <= len(best.rows):
                continue
            moved = distance[inside] - shift
            if _stands_apart(present, shift, spread, count) and _same_shape(present, moved, spread):
                factor_here = float(factor if shift > 0 else 1 / factor)
                best = _Units(factor_here, words, np.flatnonzero(inside), spread, how)
    return best


def _stands_apart(present: NDArray[np.float64], shift: float, spread: float, count: int) -> bool:
    """Nearly nothing lies between the two heaps, and nearly nothing beyond the second."""
    side = present * np.sign(shift)
    between = (side > 5 * spread) & (side < abs(shift) - 3.5 * spread)
    beyond = side > abs(shift) + 3.5 * spread
    return int(between.sum() + beyond.sum()) <= 0.1 * count


def _same_shape(present: NDArray[np.float64], moved: NDArray[np.float64], spread: float) -> bool:
    """Divided by the factor, the heap looks like a sample of the main one (Kolmogorov–Smirnov)."""
    from scipy.stats import ks_2samp

    main = present[np.abs(present) < 4 * spread]
    return bool(ks_2samp(moved[:5_000], main[:20_000]).pvalue > 1e-4)


def _residual_scale(subject: Subject, names: list[Hashable]) -> dict[Hashable, _Units]:
    """The same for what the other columns do not explain: finds a factor of 2.54 in a column that varies by 10."""
    usable = [c for c in names if np.isnan(_logs(subject.floats(c))).mean() < 0.2][:40]
    if len(usable) < 3 or subject.n < 100:
        return {}
    logs = np.column_stack([_logs(subject.floats(c)) for c in usable])
    logs = np.where(np.isnan(logs), np.nanmedian(logs, axis=0), logs)
    logs -= np.median(logs, axis=0)
    fit_rows = subject.rng.choice(subject.n, min(subject.n, MODEL_ROWS_FOR_UNITS), replace=False)
    found: dict[Hashable, _Units] = {}
    for j, name in enumerate(usable):
        others = np.delete(np.arange(len(usable)), j)
        residual = logs[:, j] - logs[:, others] @ _trimmed_fit(logs[fit_rows][:, others], logs[fit_rows, j])
        spread = _spread(residual)
        if 0 < spread < 0.06 and (unit := _heap(residual - np.median(residual), spread, "the other columns")):
            found[name] = unit
    return _keep_causes(found)


MODEL_ROWS_FOR_UNITS = 3_000


def _trimmed_fit(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares (d,), three times, each time without the rows that fit badly."""
    keep = np.ones(len(y), dtype=bool)
    ridge = 1e-6 * np.eye(x.shape[1]) * len(y)
    weights: NDArray[Any] = np.zeros(x.shape[1])
    for _ in range(3):
        weights = np.linalg.solve(x[keep].T @ x[keep] + ridge, x[keep].T @ y[keep])
        residual = np.abs(y - x @ weights)
        keep = residual <= max(3 * 1.4826 * np.median(residual), 1e-12)
    return weights


def _keep_causes(found: dict[Hashable, _Units]) -> dict[Hashable, _Units]:
    """Of columns accused for the same rows, the one that stands out most: the others only answer to it."""
    kept: dict[Hashable, _Units] = {}
    taken: set[int] = set()
    for name, unit in sorted(found.items(), key=lambda item: -abs(np.log10(item[1].factor)) / item[1].spread):
        rows = set(unit.rows.tolist())
        if len(rows & taken) > 0.5 * len(rows):
            continue
        taken |= rows
        kept[name] = unit
    return kept


# ------------------------------------------------------------------------------------------------- missing values


def missing_values(subject: Subject) -> Findings:
    """Gaps, column by column (one finding for all small ones), and columns without any value."""
    empty = [c for c in subject.table.columns if subject.kinds[c] == "empty"]
    if empty:
        yield Finding(
            "all_missing", "accuracy", "warning",
            f"{_list(empty)} {'has' if len(empty) == 1 else 'have'} no value at all",
            "Nothing can be learnt from it; imputation has nothing to start from.",
            "Drop the column, or find out why the export left it empty.",
            tuple(empty), evidence={"columns": len(empty)},
        )  # fmt: skip
    shares = {c: float(subject.missing(c).mean()) for c in subject.table.columns if c != subject.target_name}
    gaps = {c: s for c, s in shares.items() if s > 0 and c not in empty}
    if gaps:
        worst = max(gaps, key=lambda c: gaps[c])
        any_gap = np.logical_or.reduce([subject.missing(c) for c in gaps])
        rows = np.flatnonzero(any_gap)
        yield Finding(
            "missing_values", "accuracy", "warning" if gaps[worst] > 0.3 else "note",
            f"{len(gaps)} column{'s have' if len(gaps) > 1 else ' has'} missing values, most of all {worst!r} "
            f"({gaps[worst]:.1%})",
            f"Dropping every row with a gap would lose {any_gap.mean():.0%} of the rows; filling them from all rows "
            "leaks the test set into training.",
            "Ask why they are missing. Impute inside the pipeline (fit_preprocessing on the training rows alone).",
            tuple(sorted(gaps, key=lambda c: -gaps[c])), tuple(rows), len(rows),
            {"share_missing": dict(sorted(gaps.items(), key=lambda item: -item[1])[:10])},
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------------ diversity


def constant_columns(subject: Subject) -> Findings:
    """Columns with one value, or nearly."""
    constant, nearly = [], {}
    for name in subject.features:
        codes = subject.codes(name)
        present = codes[codes >= 0]
        top = np.bincount(present).max() / len(present)
        if top == 1:
            constant.append(name)
        elif top >= 0.995 and subject.n >= 200:
            nearly[name] = float(top)
    if constant:
        yield Finding(
            "constant", "diversity", "note" if subject.n < 50 else "warning",
            f"{_list(constant)} {'has' if len(constant) == 1 else 'have'} one value only",
            "It cannot help a model, and dividing by its standard deviation of zero gives NaN.",
            "Drop it, unless its being missing elsewhere means something.",
            tuple(constant), evidence={"values": {str(c): subject.table[c].dropna().iloc[0] for c in constant[:6]}},
        )  # fmt: skip
    if nearly:
        yield Finding(
            "nearly_constant", "diversity", "note",
            f"{_list(list(nearly))} {'has' if len(nearly) == 1 else 'have'} one value in at least 99.5 % of the rows",
            "The few other rows decide what a model learns from it, and a fold may hold none of them.",
            "Keep it only if those rows matter; count them per fold.",
            tuple(nearly), evidence={"share_of_most_frequent": nearly},
        )  # fmt: skip


def redundant_columns(subject: Subject) -> Findings:
    """Columns that say the same: equal, or numbers correlated at .99 or more."""
    by_codes: dict[int, list[Hashable]] = {}
    for name in subject.features:
        by_codes.setdefault(hash(subject.codes(name).tobytes()), []).append(name)
    # any two columns without repeated values divide the rows alike: that says nothing
    same = [g for g in by_codes.values() if len(g) > 1 and 0 < subject.codes(g[0]).max() < 0.9 * subject.n]
    for names in same:
        yield Finding(
            "same_information", "diversity", "warning" if len(names) > 1 else "note",
            f"{_list(names)} divide the rows in exactly the same way",
            "One of them is enough; weights and importances are shared out between them at random.",
            "Keep one; check that it is not the target in another spelling.",
            tuple(names), evidence={"distinct_values": int(subject.codes(names[0]).max()) + 1},
        )  # fmt: skip
    yield from _correlated(subject, {c for g in same for c in g[1:]})


def _correlated(subject: Subject, skip: set[Hashable]) -> Findings:
    names = [c for c in subject.numbers if c not in skip and subject.codes(c).max() > 1][:300]
    if len(names) < 2 or subject.n < 20:
        return
    rows = subject.sample if subject.n <= PAIR_ROWS else subject.rng.choice(subject.n, PAIR_ROWS, replace=False)
    table = pd.DataFrame({j: subject.floats(c)[rows] for j, c in enumerate(names)})
    strength = table.rank().corr(min_periods=20).abs().to_numpy()
    pairs = [(i, j) for i, j in zip(*np.nonzero(np.triu(strength >= CORRELATED, 1)), strict=True)]
    if not pairs:
        return
    involved = sorted({k for pair in pairs for k in pair})
    best = max(pairs, key=lambda p: strength[p])
    yield Finding(
        "correlated", "diversity", "note",
        f"{plural(len(pairs), 'pair')} of columns {'moves' if len(pairs) == 1 else 'move'} together "
        f"(rank correlation ≥ {CORRELATED}), such as {names[best[0]]!r} and {names[best[1]]!r}",
        "Linear weights and importances are shared out between them at random; trees lose nothing.",
        "For explanations keep one of each pair; check that one is not the other in another unit.",
        tuple(names[k] for k in involved),
        evidence={"pairs": [f"{names[i]} / {names[j]} {strength[i, j]:.3f}" for i, j in pairs[:8]],
                  "rows_used": len(rows)},
    )  # fmt: skip


def homogeneity(subject: Subject) -> Findings:
    """Rows that are nearly all alike."""
    effective, columns, rows = effective_directions(subject)
    if columns >= 5 and effective < 0.15 * columns:
        yield Finding(
            "homogeneous", "diversity", "note",
            f"{columns} numeric columns vary in about {effective:.1f} independent directions",
            "The rows differ in few ways: a model meets little variety, and new kinds of rows will surprise it.",
            "Collect rows from other sources or times; drop columns that repeat others.",
            tuple(subject.numbers), evidence={"effective_number": effective, "columns": columns, "rows_used": rows},
        )  # fmt: skip


def effective_directions(subject: Subject) -> tuple[float, int, int]:
    """exp(entropy of the correlation matrix's eigenvalues): how many directions the numbers vary in; columns; rows.

    The Vendi score with a linear kernel on standardised columns (Friedman and Dieng, 2023), in its dual form.
    """
    rows = subject.sample[:PAIR_ROWS] if subject.n <= PAIR_ROWS else subject.rng.choice(subject.n, PAIR_ROWS, False)
    columns = [subject.floats(c)[rows] for c in subject.numbers[:300]]
    columns = [np.where(np.isnan(x), np.nanmean(x), x) for x in columns if (~np.isnan(x)).any()]
    columns = [(x - x.mean()) / x.std() for x in columns if x.std() > 0]
    if len(columns) < 2 or len(rows) < 20:
        return float(len(columns)), len(columns), len(rows)
    values = np.linalg.eigvalsh(np.corrcoef(np.stack(columns)))
    shares = np.clip(values, 1e-15, None) / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum())), len(columns), len(rows)


def _list(names: list[Hashable], most: int = 4) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def load_notes(subject: Subject) -> Findings:
    """What `load_table` had to decide when it read the file."""
    by_code: dict[str, list[dict[str, Any]]] = {}
    for note in subject.table.attrs.get("notes", ()):
        columns = note.get("columns", ())
        if all(c in subject.table.columns for c in columns):
            by_code.setdefault(note["code"], []).append(note)
    for code, notes in by_code.items():
        severity: Severity = "warning" if any(n.get("severity") == "warning" for n in notes) else "note"
        columns = tuple(c for n in notes for c in n.get("columns", ()))
        more = f" (and {len(notes) - 1} more like it)" if len(notes) > 1 else ""
        yield Finding(
            f"file_{code}", "consistency", severity, notes[0]["message"] + more,
            notes[0]["consequence"], notes[0]["remedy"], columns,
            evidence={"notes": [n["message"] for n in notes]} if len(notes) > 1 else {},
        )  # fmt: skip
