"""Short, safe descriptions of any object, for the messages of the checks."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np

LIMIT = 90  # characters of one description: a line of a card


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxarray = 6
        self.maxdict = 5
        self.maxstring = self.maxother = self.maxlong = 60
        self.fillvalue = "…"

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, np.ndarray):
            return _array(x)
        if isinstance(x, np.generic):  # "0.5" says as much as "np.float64(0.5)"
            x = x.item()
        if isinstance(x, float):
            return f"{x:.6g}"
        module = type(x).__module__.split(".")[0]
        if module == "torch" and hasattr(x, "detach"):
            return _tensor(x)
        if module in ("pandas", "scipy") and hasattr(x, "shape"):
            return _shaped(x)
        return super().repr1(x, level)


def describe(value: Any, limit: int = LIMIT) -> str:
    """One line of at most `limit` characters about any object, also when its own repr is huge or raises."""
    try:
        text = _Short().repr(value)
    except Exception:  # a learner's class may do anything in __repr__ or __len__
        text = f"{type(value).__name__} object (its repr fails)"
    return shorten(text, limit)


def shorten(text: str, limit: int = LIMIT) -> str:
    """The text on one line, cut in the middle when longer than `limit` characters."""
    # cut before splitting as well: a repr may be a billion characters long
    if len(text) > 4 * limit:
        text = text[: 2 * limit] + "…" + text[-2 * limit :]
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    tail = limit // 4
    return text[: limit - tail - 1] + "…" + text[-tail:]


def number_pair(got: Any, want: Any) -> tuple[str, str]:
    """Two numbers as text, with as many digits as it takes to see the difference."""
    if isinstance(got, int) and isinstance(want, int):
        return describe(got), describe(want)
    try:
        for digits in (4, 6, 9, 12):
            first, second = f"{got:.{digits}g}", f"{want:.{digits}g}"
            if first != second:
                return first, second
    except OverflowError:  # an int beyond every float
        return describe(got), describe(want)
    return str(got), str(want)


def _array(x: np.ndarray[Any, Any]) -> str:
    head = f"{x.dtype} array {x.shape}"
    if x.size == 0 or x.dtype.kind == "V":
        return head
    shown = x.ravel() if x.size <= 8 else np.concatenate([x.flat[:3], x.flat[-2:]])  # no copy of a huge array
    return f"{head}: {_items(shown.tolist(), x.size)}"


def _tensor(x: Any) -> str:
    where = "" if x.device.type == "cpu" else f" on {x.device}"
    head = f"{str(x.dtype).removeprefix('torch.')} tensor {tuple(x.shape)}{where}"
    if x.numel() == 0 or where or x.is_sparse:
        return head
    flat = x.detach().flatten()
    shown = flat if len(flat) <= 8 else flat[[0, 1, 2, -2, -1]]
    return f"{head}: {_items(shown.tolist(), len(flat))}"


def _items(shown: list[Any], size: int) -> str:
    items = [describe(item, 24) for item in shown]
    if size > 8:
        items.insert(3, "…")
    return " ".join(items)


def _shaped(x: Any) -> str:
    dtype = f"{x.dtype} " if hasattr(x, "dtype") else ""
    return f"{dtype}{type(x).__name__} {tuple(x.shape)}"
