"""Splits that tell the truth, preprocessing that has not seen the test set, and weights for rare classes.

What a split here does not know: near-duplicate rows (give their cluster as `group`), and an id column makes copies
look different from each other (leave it out of the table, or give it as `group`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sklearn.compose import ColumnTransformer

Rows = NDArray[np.int64]

MAX_CLASSES = 20
"""A numeric target with more distinct values than this is a quantity, not a class."""

TRIES = 8
"""Orders in which whole blocks are dealt out; the one nearest to the asked share and class mix is taken."""


@dataclass(frozen=True)
class Split:
    """Row positions (for `.iloc`) of the two sides, sorted.

    `dropped` is empty but for a split by time and group: training rows of a group that also appears later.
    """

    train: Rows
    test: Rows
    strategy: str
    dropped: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __repr__(self) -> str:
        left_out = f", {len(self.dropped):,} left out" if len(self.dropped) else ""
        return f"Split(train {len(self.train):,} rows, test {len(self.test):,} rows{left_out}; {self.strategy})"


def check_table(table: object, what: str = "table") -> pd.DataFrame:
    """The argument itself if it is a DataFrame with rows, columns and distinct column names."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"{what} must be a pandas DataFrame, got {type(table).__name__}")
    if table.shape[0] == 0 or table.shape[1] == 0:
        raise ValueError(f"{what} must have rows and columns, got {table.shape[0]} × {table.shape[1]}")
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()].unique().tolist()
        raise ValueError(f"{what} has several columns of the same name: {twice}; rename them")
    return table


def check_column(table: pd.DataFrame, name: Hashable | None, argument: str) -> None:
    """Raise a ValueError that suggests near names when `name` is not a column."""
    if name is not None and name not in table.columns:
        raise ValueError(f"{argument}={name!r} is not a column{near_names(name, table.columns)}")


def near_names(name: Hashable, columns: Sequence[Hashable] | pd.Index) -> str:
    """'; did you mean …?' or the list of the columns."""
    from difflib import get_close_matches

    by_lower = {str(column).strip().lower(): str(column) for column in columns}
    close = get_close_matches(str(name).strip().lower(), list(by_lower), n=3, cutoff=0.6)
    if close:
        return "; did you mean " + " or ".join(repr(by_lower[c]) for c in close) + "?"
    shown = ", ".join(repr(str(column)) for column in list(columns)[:12])
    return f"; the columns are {shown}" + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")


def is_quantity(y: pd.Series) -> bool:
    """True when a target is a number to be predicted, not one of a few classes."""
    if not pd.api.types.is_numeric_dtype(y) or pd.api.types.is_bool_dtype(y):
        return False
    values = y.dropna().to_numpy(dtype=float)
    distinct = np.unique(values)
    whole = bool(np.all(distinct == np.round(distinct)))
    return len(distinct) > MAX_CLASSES or (not whole and len(distinct) > 2)


def time_values(table: pd.DataFrame, time: Hashable) -> NDArray[np.float64]:
    """The time column as float (n,), missing as NaN; text is parsed as dates.

    Raises ValueError when the column is neither dates nor numbers, or holds text that is no date.
    """
    column = table[time]
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=float, na_value=np.nan)
    if not pd.api.types.is_datetime64_any_dtype(column):
        try:
            column = pd.to_datetime(column, format="mixed", utc=True)
        except (ValueError, TypeError) as error:
            raise ValueError(f"time={time!r} must hold dates or numbers: {error}") from None
    present = column.notna().to_numpy()
    out = np.full(len(column), np.nan)
    out[present] = (column[present] - column[present].min()).dt.total_seconds().to_numpy()
    return out


def split(
    table: pd.DataFrame,
    *,
    target: Hashable | None = None,
    group: Hashable | None = None,
    time: Hashable | None = None,
    test_size: float = 0.2,
    seed: int | np.random.Generator = 0,
) -> Split:
    """Divide rows into training and test so that the test score means what it says.

    - `target`: both sides get each class in its share (a quantity is cut into ten bins).
    - `group`: all rows of a group are on one side, together with `target` as near to the class shares as groups allow.
    - `time`: the test rows are the latest; rows of one moment stay together. With `group`, training rows of a group
      that appears in the test are left out (`Split.dropped`), because they would be neither.
    - Rows that are exact copies of each other (all columns equal) never end up on both sides.
    - Rows without a group value are each a group of their own.

    Args:
        table: (n, d).
        test_size: share of the rows, between 0 and 1 (exclusive).
        seed: same seed, same split. Not used by a split by time.

    Returns positions, sorted. Raises TypeError or ValueError for an unknown column, a missing target or time
    value, a class with a single row (or a single group), or blocks too large for the asked share.
    Kaufman et al., "Leakage in data mining: formulation, detection, and avoidance", 2012.
    """
    table = check_table(table)
    if isinstance(test_size, bool) or not 0 < test_size < 1:
        raise ValueError(f"test_size must be a share between 0 and 1, got {test_size!r}")
    for argument, name in (("target", target), ("group", group), ("time", time)):
        check_column(table, name, argument)
    if len(table) < 2:
        raise ValueError("table must have at least 2 rows to be split, got 1")
    if time is not None:
        return _by_time(table, time, group, test_size)

    strata = _strata(table, target)
    blocks = _blocks(table, group)
    _check_strata(strata, blocks, target, group)
    in_test = _deal(blocks, strata.codes, test_size, np.random.default_rng(seed))
    _check_share(in_test, blocks, test_size, group)
    words = [w for w, used in (("stratified by " + repr(target), target is not None),) if used]
    words += [f"grouped by {group!r}"] if group is not None else []
    return Split(np.flatnonzero(~in_test), np.flatnonzero(in_test), " and ".join(words) or "at random")


@dataclass(frozen=True)
class _Strata:
    codes: Rows
    names: list[Any]
    is_class: bool


def _strata(table: pd.DataFrame, target: Hashable | None) -> _Strata:
    """Class codes (n,) of the target; a quantity becomes ten equally full bins."""
    if target is None:
        return _Strata(np.zeros(len(table), dtype=np.int64), [None], False)
    y = table[target]
    if y.isna().any():
        raise ValueError(
            f"target={target!r} is missing in {int(y.isna().sum()):,} of {len(y):,} rows: drop them before splitting"
        )
    if is_quantity(y):
        bins = pd.qcut(y.astype(float).rank(method="first"), min(10, max(1, len(y) // 10)), labels=False)
        return _Strata(bins.to_numpy(dtype=np.int64), [], False)
    codes, names = pd.factorize(y)
    return _Strata(codes.astype(np.int64), [plain_scalar(name) for name in names], True)


def _blocks(table: pd.DataFrame, group: Hashable | None) -> Rows:
    """Block number (n,): rows that share a group or are exact copies, transitively."""
    copies = duplicate_clusters(table)
    if group is None:
        return copies
    codes = pd.factorize(table[group])[0].astype(np.int64)
    alone = codes < 0
    codes[alone] = codes.max(initial=-1) + 1 + np.arange(alone.sum())
    if np.array_equal(copies, np.arange(len(table))):
        return np.unique(codes, return_inverse=True)[1].astype(np.int64)
    # exact copies have the same group, unless the group is missing: then the copies hold it together
    return merge_blocks(codes, copies)


def duplicate_clusters(table: pd.DataFrame) -> Rows:
    """Cluster number (n,) of each row: 0, 1, … by first appearance; equal rows (missing equals missing) share one."""
    hashed = hash_rows(table)
    suspects = pd.Series(hashed).duplicated(keep=False).to_numpy()
    key = np.arange(len(table), dtype=np.int64)
    if suspects.any():
        rows = np.flatnonzero(suspects)
        part = hashable(table.iloc[rows])
        # the hash only proposes: groupby compares the values
        number = part.groupby(list(part.columns), dropna=False, sort=False, observed=True).ngroup().to_numpy()
        first = np.full(number.max() + 1, -1, dtype=np.int64)
        first[number[::-1]] = rows[::-1]
        key[rows] = first[number]
    return pd.factorize(key)[0].astype(np.int64)


def hashable(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with columns numbered and lists, dicts or arrays in cells turned into text."""
    out = table.copy(deep=False)
    out.columns = pd.RangeIndex(out.shape[1])
    for name in object_columns(out):
        if any(isinstance(value, (list, dict, set, np.ndarray)) for value in out[name].head(1000)):
            out[name] = out[name].map(repr)
    return out


def object_columns(table: pd.DataFrame) -> list[Hashable]:
    """Columns that may hold Python values of several types."""
    return [name for name in table if pd.api.types.is_object_dtype(table[name])]


def hash_rows(table: pd.DataFrame) -> NDArray[np.uint64]:
    """A 64-bit hash (n,) per row; equal rows have equal hashes."""
    from pandas.util import hash_pandas_object

    table = hashable(table)
    for name in object_columns(table):
        # mixed types in one column: 1 and "1" are not equal
        table[name] = table[name].map(lambda value: f"{type(value).__name__}:{value!r}", na_action="ignore")
    return hash_pandas_object(table, index=False).to_numpy()


def merge_blocks(*labels: Rows) -> Rows:
    """Connected components (n,) of rows that share a value in any of the given label arrays."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(labels[0])
    starts, nodes = np.arange(n), []
    offset = n
    for codes in labels:
        inverse = np.unique(codes, return_inverse=True)[1]
        nodes.append(inverse + offset)
        offset += inverse.max() + 1
    first = np.tile(starts, len(labels))
    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, np.concatenate(nodes))), shape=(offset, offset))
    return connected_components(graph, directed=False)[1][:n].astype(np.int64)


def _check_strata(strata: _Strata, blocks: Rows, target: Hashable | None, group: Hashable | None) -> None:
    if not strata.is_class:
        return
    if len(strata.names) < 2:
        raise ValueError(f"target={target!r} has one class only ({strata.names[0]!r}): nothing to stratify by")
    pairs = np.unique(np.column_stack([strata.codes, blocks]), axis=0)
    per_class = np.bincount(pairs[:, 0], minlength=len(strata.names))
    lonely = [strata.names[i] for i in np.flatnonzero(per_class < 2)]
    if lonely:
        unit = "one row" if group is None else f"one {group!r}"
        raise ValueError(
            f"target={target!r}: class {', '.join(map(repr, lonely[:5]))} has {unit} only, which cannot be on both "
            "sides; merge rare classes, drop them, or split without target="
        )


def _deal(blocks: Rows, strata: Rows, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which rows are test rows: whole blocks, dealt so that each stratum comes near to its share."""
    n_blocks, n_strata = int(blocks.max()) + 1, int(strata.max()) + 1
    counts = np.zeros((n_blocks, n_strata))
    np.add.at(counts, (blocks, strata), 1)
    wanted = _quota(counts.sum(0), share)
    single = counts.sum(1) == 1
    best, best_cost = np.zeros(n_blocks, dtype=bool), np.inf
    for _ in range(1 if single.all() else TRIES):
        chosen = _deal_once(counts, single, wanted, rng)
        cost = float(((counts[chosen].sum(0) - wanted) ** 2).sum())
        if cost < best_cost:
            best, best_cost = chosen, cost
    return best[blocks]


def _quota(totals: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Whole numbers of test rows per stratum that sum to the share; at least one on each side of two."""
    exact = totals * share
    quota = np.floor(exact)
    missing = round(totals.sum() * share) - int(quota.sum())
    quota[np.argsort(quota - exact, kind="stable")[:missing]] += 1
    return np.where(totals >= 2, np.clip(quota, 1, totals - 1), quota)


def _deal_once(
    counts: NDArray[np.float64], single: NDArray[np.bool_], wanted: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Blocks of several rows first, in random order, if they bring the test nearer; then single rows fill up."""
    chosen = np.zeros(len(counts), dtype=bool)
    have = np.zeros(counts.shape[1])
    for block in rng.permutation(np.flatnonzero(~single)):
        row = counts[block]
        if ((have + row - wanted) ** 2).sum() < ((have - wanted) ** 2).sum() and (have + row <= wanted + row / 2).all():
            chosen[block] = True
            have += row
        if single.any() and have.sum() >= wanted.sum() * (1 - single.sum() / counts.sum()):
            break
    stratum = counts.argmax(1)
    for k in range(counts.shape[1]):
        members = rng.permutation(np.flatnonzero(single & (stratum == k)))
        chosen[members[: max(0, int(wanted[k] - have[k]))]] = True
    return chosen


def _check_share(in_test: NDArray[np.bool_], blocks: Rows, share: float, group: Hashable | None) -> None:
    largest = np.bincount(blocks).max()
    got = float(in_test.mean())
    unit = "set of equal rows" if group is None else f"{group!r} (with equal rows)"
    if not in_test.any() or in_test.all():
        raise ValueError(
            f"no split: {len(np.unique(blocks))} blocks of rows must stay together, and the largest {unit} holds "
            f"{largest:,} of {len(blocks):,} rows"
        )
    if abs(got - share) > max(0.05, largest / len(blocks)):
        raise ValueError(
            f"no split near test_size={share}: the best has {got:.2f}, because rows that must stay together form "
            f"{len(np.unique(blocks))} blocks and the largest {unit} holds {largest:,} of {len(blocks):,} rows"
        )


def _by_time(table: pd.DataFrame, time: Hashable, group: Hashable | None, share: float) -> Split:
    moments = time_values(table, time)
    if np.isnan(moments).any():
        gone = int(np.isnan(moments).sum())
        raise ValueError(f"time={time!r} is missing in {gone:,} of {len(table):,} rows: drop them before splitting")
    distinct, counts = np.unique(moments, return_counts=True)
    if len(distinct) < 2:
        raise ValueError(f"time={time!r} has one value only: nothing to split by")
    later = counts[::-1].cumsum()[::-1]  # rows from this moment on
    cut = distinct[1:][np.argmin(np.abs(later[1:] / len(table) - share))]
    in_test = moments >= cut
    train, test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
    dropped = np.empty(0, dtype=np.int64)
    strategy = f"the latest rows by {time!r} are the test"
    if group is not None:
        codes = pd.factorize(table[group])[0]
        seen = np.isin(codes[train], codes[test][codes[test] >= 0])
        train, dropped = train[~seen], train[seen]
        strategy += f", without training rows of a {group!r} that comes again"
        if len(train) == 0:
            raise ValueError(f"every {group!r} before the cut by {time!r} comes again after it: no training rows left")
    return Split(train, test, strategy, dropped)


def fit_preprocessing(train: pd.DataFrame, *, max_categories: int = 50) -> ColumnTransformer:
    """Imputation, scaling and one-hot encoding whose every statistic comes from `train`.

    Numbers, booleans and dates (as seconds): median, then (x - mean) / standard deviation. Text and categories:
    the most frequent value, then one-hot with at most `max_categories` columns each; a category that `train` has
    not seen becomes all zeros. A column that is all missing in `train` becomes zeros.

    Give it the features of the training rows alone, neither the target nor the test rows. `.transform(other)` needs
    the same columns and returns a float array (n, d).
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

    train = check_table(train, "train")
    if isinstance(max_categories, bool) or not isinstance(max_categories, int) or max_categories < 2:
        raise ValueError(f"max_categories must be a whole number of at least 2, got {max_categories!r}")
    numeric = [name for name in train if is_numberlike(train[name])]
    words = [name for name in train if name not in numeric]
    steps: list[tuple[str, Any, list[Hashable]]] = []
    if numeric:
        to_float = FunctionTransformer(as_floats, feature_names_out="one-to-one")
        impute = SimpleImputer(strategy="median", keep_empty_features=True)
        steps.append(("numbers", make_pipeline(to_float, impute, StandardScaler()), numeric))
    if words:
        to_text = FunctionTransformer(as_text, feature_names_out="one-to-one")
        fill = SimpleImputer(strategy="most_frequent", keep_empty_features=True)
        encode = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=max_categories, sparse_output=False)
        steps.append(("categories", make_pipeline(to_text, fill, encode), words))
    transformer = ColumnTransformer(steps, verbose_feature_names_out=False, sparse_threshold=0)
    return transformer.fit(train)


def is_numberlike(column: pd.Series) -> bool:
    """Numbers, booleans, dates and durations: what has an order and a mean."""
    kinds = pd.api.types
    return bool(
        (kinds.is_numeric_dtype(column) and not kinds.is_complex_dtype(column))
        or kinds.is_datetime64_any_dtype(column)
        or kinds.is_timedelta64_dtype(column)
    )


def as_floats(table: pd.DataFrame) -> NDArray[np.float64]:
    """Columns as float (n, d); missing and infinite become NaN, dates seconds since 1970."""
    columns = [float_column(table[name]) for name in table]
    out = np.column_stack(columns)
    out[np.isinf(out)] = np.nan
    return out


def float_column(column: pd.Series) -> NDArray[np.float64]:
    """One number-like column as float (n,), missing as NaN."""
    if pd.api.types.is_datetime64_any_dtype(column):
        origin = pd.Timestamp(0, tz=column.dt.tz) if column.dt.tz is not None else pd.Timestamp(0)
        column = column - origin
    if pd.api.types.is_timedelta64_dtype(column):
        column = column.dt.total_seconds()
    return column.to_numpy(dtype=float, na_value=np.nan)


def as_text(table: pd.DataFrame) -> NDArray[np.object_]:
    """Columns as objects (n, d): text, or NaN where missing."""
    out = np.empty(table.shape, dtype=object)
    for j, name in enumerate(table):
        present = table[name].notna().to_numpy()
        out[present, j] = [str(value) for value in table[name][present]]
        out[~present, j] = np.nan
    return out


def class_weights(y: Any) -> dict[Any, float]:
    """Weight n / (k · count) per class, so that every class adds up to the same (scikit-learn's "balanced").

    Args:
        y: (n,) labels of k classes: text, numbers or booleans.

    Returns label → weight, in order of first appearance. Raises ValueError for no labels, a missing label or a
    quantity with a fraction. King and Zeng, "Logistic regression in rare events data", 2001.
    """
    labels = y if isinstance(y, pd.Series) else pd.Series(np.asarray(y, dtype=None).ravel())
    if np.ndim(y) != 1:
        raise ValueError(f"y must have one dimension, got shape {np.shape(y)}")
    if len(labels) == 0:
        raise ValueError("y is empty: no classes to weigh")
    if labels.isna().any():
        raise ValueError(f"y is missing in {int(labels.isna().sum()):,} of {len(labels):,} rows")
    if is_quantity(labels) and not pd.api.types.is_integer_dtype(labels):
        raise ValueError(f"y must be classes, got a quantity with {labels.nunique():,} distinct values")
    counts = labels.value_counts(sort=False)
    counts = counts[counts > 0]  # a category that does not occur
    n, k = len(labels), len(counts)
    return {plain_scalar(label): n / (k * int(count)) for label, count in counts.items()}


def plain_scalar(value: Any) -> Any:
    """A NumPy scalar as the Python value it stands for."""
    return value.item() if isinstance(value, np.generic) else value
