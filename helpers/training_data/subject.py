"""The table under audit, seen once: what kind each column is, and its numbers and codes, computed when first needed."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.training_data.splits import check_column, check_table, float_column, is_quantity, plain_scalar, time_values

Kind = Literal["number", "flag", "time", "category", "text", "id", "empty"]

MODEL_ROWS = 5_000
"""Small models (trees, label errors) are fitted on a sample of at most this many rows."""

HUGE = 1e100

_ID_NAME = re.compile(r"(^|[\s_.-])(id|ids|uuid|guid|key|index|idx|rownum|row|no|nr|unnamed.*)$|[a-z]Id$|^Id", re.ASCII)


@dataclass(frozen=True)
class Target:
    """The target as classes (`codes`, -1 where missing) or as a quantity (`values`, and `ranks` scaled to 0..1)."""

    name: Hashable
    is_class: bool
    present: NDArray[np.bool_]
    codes: NDArray[np.int64]
    classes: tuple[Hashable, ...]
    ranks: NDArray[np.float64]
    values: NDArray[np.float64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Rows of each class."""
        return np.bincount(self.codes[self.present], minlength=len(self.classes))


@dataclass
class Subject:
    """A table with the roles of its columns. Everything derived is computed once."""

    table: pd.DataFrame
    target_name: Hashable | None
    group: Hashable | None
    time: Hashable | None
    rng: np.random.Generator
    kinds: dict[Hashable, Kind] = field(default_factory=dict)
    _floats: dict[Hashable, NDArray[np.float64]] = field(default_factory=dict)
    _codes: dict[Hashable, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.table)

    @property
    def features(self) -> list[Hashable]:
        """What a model would be given: all columns but target, group, time and those that are all missing."""
        roles = {self.target_name, self.group, self.time} - {None}
        return [c for c in self.table.columns if c not in roles and self.kinds[c] != "empty"]

    @property
    def ids(self) -> list[Hashable]:
        """Columns that number or name the rows."""
        return [c for c in self.features if self.kinds[c] == "id"]

    @property
    def numbers(self) -> list[Hashable]:
        """Numeric feature columns (no flags, no ids)."""
        return [c for c in self.features if self.kinds[c] == "number"]

    def floats(self, name: Hashable) -> NDArray[np.float64]:
        """A number-like column as float (n,): missing and infinite are NaN, cut at ±1e100 (squares stay finite)."""
        if name not in self._floats:
            values = float_column(self.table[name])
            self._floats[name] = np.clip(np.where(np.isfinite(values), values, np.nan), -HUGE, HUGE)
        return self._floats[name]

    def codes(self, name: Hashable) -> NDArray[np.int64]:
        """A column's distinct values numbered (n,) from 0; missing is -1."""
        if name not in self._codes:
            self._codes[name] = factorise(self.table[name])
        return self._codes[name]

    def missing(self, name: Hashable) -> NDArray[np.bool_]:
        """Where the column is missing (n,)."""
        return self.table[name].isna().to_numpy()

    @cached_property
    def target(self) -> Target | None:
        """The target, or None when none was named."""
        if self.target_name is None:
            return None
        return read_target(self.table[self.target_name])

    @cached_property
    def moments(self) -> NDArray[np.float64] | None:
        """The time column as float (n,), or None."""
        return None if self.time is None else time_values(self.table, self.time)

    @cached_property
    def sample(self) -> NDArray[np.int64]:
        """Sorted positions of at most MODEL_ROWS rows whose target is present."""
        rows = np.arange(self.n) if self.target is None else np.flatnonzero(self.target.present)
        if len(rows) > MODEL_ROWS:
            rows = np.sort(self.rng.choice(rows, MODEL_ROWS, replace=False))
        return rows


def read_subject(
    table: pd.DataFrame, target: Hashable | None, group: Hashable | None, time: Hashable | None, seed: int
) -> Subject:
    """Check the arguments and look at every column once.

    Raises TypeError or ValueError as `audit` does.
    """
    check_table(table)
    roles = {"target": target, "group": group, "time": time}
    for argument, name in roles.items():
        check_column(table, name, argument)
    named = [name for name in roles.values() if name is not None]
    if len(set(named)) < len(named):
        raise ValueError(f"target, group and time must be different columns, got {roles}")
    subject = Subject(table, target, group, time, np.random.default_rng(seed))
    subject.kinds = {name: column_kind(table[name], name) for name in table.columns}
    if target is not None:
        check_target(table[target], target)
    if time is not None:
        time_values(table, time)  # raises now, not after a minute of work
    return subject


def check_target(y: pd.Series, name: Hashable) -> None:
    """Raise ValueError for a target that nothing can be learnt from."""
    values = y.dropna()
    if len(values) == 0:
        raise ValueError(f"target={name!r} is missing in every row")
    distinct = values.map(repr).nunique() if values.dtype == object else values.nunique()
    if distinct < 2:
        raise ValueError(f"target={name!r} has one class only ({plain_scalar(values.iloc[0])!r}): nothing to learn")
    if not pd.api.types.is_numeric_dtype(y) and distinct > max(20, len(values) // 2):
        raise ValueError(
            f"target={name!r} has {distinct:,} distinct values in {len(values):,} rows: neither classes nor numbers"
        )


def column_kind(column: pd.Series, name: Hashable) -> Kind:
    """What a column is, from its dtype and its values."""
    kinds = pd.api.types
    present = column.dropna()
    if len(present) == 0:
        return "empty"
    if kinds.is_datetime64_any_dtype(column) or kinds.is_timedelta64_dtype(column):
        return "time"
    if kinds.is_bool_dtype(column):
        return "flag"
    if kinds.is_numeric_dtype(column):
        return "id" if is_number_id(present, name) else "number"
    return _word_kind(present)


def is_number_id(present: pd.Series, name: Hashable) -> bool:
    """Whole numbers that are all different, and named like an id or numbered through without large gaps."""
    if len(present) < 20 or not present.is_unique:
        return False
    values = present.to_numpy(dtype=float)
    if not np.array_equal(values, np.round(values)):
        return False
    return bool(_ID_NAME.search(str(name))) or float(np.ptp(values)) < 1.2 * len(values)


def _word_kind(present: pd.Series) -> Kind:
    words = present.astype(str) if present.dtype == object else present
    distinct = words.nunique()
    if distinct == len(words) and len(words) >= 20:
        return "text" if float(words.head(1000).str.len().mean()) > 40 else "id"
    if distinct > 0.5 * len(words) and float(words.head(1000).astype(str).str.len().mean()) > 40:
        return "text"
    return "category"


def factorise(column: pd.Series) -> NDArray[np.int64]:
    """Codes (n,) from 0, missing -1; 1 and "1" in one column differ."""
    if column.dtype == object:
        column = column.map(lambda value: f"{type(value).__name__}:{value!r}", na_action="ignore")
    return pd.factorize(column)[0].astype(np.int64)


def read_target(y: pd.Series) -> Target:
    """Classes or quantity, by `splits.is_quantity`."""
    present = y.notna().to_numpy()
    if is_quantity(y):
        ranks = y.astype(float).rank().to_numpy(dtype=float, na_value=np.nan) / max(1, int(present.sum()))
        values = np.clip(y.to_numpy(dtype=float, na_value=np.nan), -HUGE, HUGE)
        return Target(y.name, False, present, np.full(len(y), -1, dtype=np.int64), (), ranks, values)
    codes, classes = pd.factorize(y)
    order = np.argsort([str(c) for c in classes], kind="stable")
    place = np.empty(len(order) + 1, dtype=np.int64)
    place[order], place[-1] = np.arange(len(order)), -1
    names = tuple(plain_scalar(c) for c in np.asarray(classes, dtype=object)[order])
    unknown = np.full(len(y), np.nan)
    return Target(y.name, True, present, place[codes], names, unknown, unknown)
