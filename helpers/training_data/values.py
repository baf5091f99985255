"""What text in a column means: numbers in several spellings, dates, placeholders for "unknown"."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

MISSING = frozenset(
    ["", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None"]
)
"""Text that stands for a missing value wherever it occurs."""

PLACEHOLDERS = frozenset(
    ["?", "??", "-", "--", "---", ".", "..", "…", "*", "(null)", "#value!", "#div/0!", "#ref!", "#name?"]
) | {"unknown", "missing", "n.a.", "na", "n/a", "nil", "none", "undefined", "not available", "not applicable"}
"""Text that stands for a missing value in a column that otherwise holds numbers or dates (compared in lower case)."""

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
THOUSANDS = r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?"
EURO_THOUSANDS = r"[+-]?\d{1,3}(?:[.\u00a0\u202f ']\d{3})+(?:,\d+)?"
DECIMAL_COMMA = r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?|[+-]?\d+"

DATE_FORMATS = (
    "ISO8601",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%y",
    "%m/%d/%y",
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d-%b-%y",
    "%d-%b-%Y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%B %d %Y",
    "%b %Y",
    "%B %Y",
)
_DATE_SHAPE = re.compile(r"^(?=.*\d)(?=.*[-/.:\sA-Za-z])[\w\s,./:+-]{6,40}$")


def strip_words(words: pd.Series) -> pd.Series:
    """Text without blanks at both ends."""
    return words.str.strip()


def matches(words: pd.Series, pattern: str) -> np.ndarray:
    """Where (n,) the whole text fits the pattern."""
    return words.str.fullmatch(pattern).to_numpy(dtype=bool, na_value=False)


def is_placeholder(words: pd.Series) -> np.ndarray:
    """Where (n,) the text is a usual way to write "unknown"."""
    return words.str.strip().str.lower().isin(PLACEHOLDERS).to_numpy(dtype=bool)


def date_formats(words: pd.Series, *, share: float = 1.0) -> list[str]:
    """The formats that read at least `share` of the texts; none when they do not look like dates."""
    head = words.head(50)
    if len(head) == 0 or np.mean([bool(_DATE_SHAPE.match(word)) for word in head]) < min(share, 0.8):
        return []
    found = []
    for form in DATE_FORMATS:
        if pd.to_datetime(head, format=form, errors="coerce", utc=True).notna().mean() < min(share, 0.8):
            continue
        if pd.to_datetime(words, format=form, errors="coerce", utc=True).notna().mean() >= share:
            found.append(form)
    return found
