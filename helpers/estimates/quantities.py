"""A quantity in words, and the checks of arguments that every formula makes."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from numbers import Integral, Real


def human(value: float, unit: str = "B") -> str:
    """A quantity with three digits and a decimal prefix: 120 GB, 1.88 GB, 84.0 ZFLOP, 312 TFLOP/s, -5.00 MB.

    Raises ValueError for infinity and not-a-number.
    """
    if not isfinite(value):
        raise ValueError(f"value must be finite, got {value}")
    size, prefixes = abs(value), ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
    step = 0
    # 999.5 would be shown as "1000": it belongs to the next prefix
    while size >= 999.5 and step < len(prefixes) - 1:
        size, step = size / 1000, step + 1
    whole = step == 0 and size == int(size)
    digits = 0 if whole or size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{'-' if value < 0 else ''}{size:.{digits}f} {prefixes[step]}{unit}"


def positive(name: str, value: float, *, zero: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name} must be finite and {'at least' if zero else 'above'} 0, got {value}")


def whole(name: str, value: int, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, got {type(value).__name__} {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def one_of(name: str, value: str, accepted: Mapping[str, object] | tuple[str, ...]) -> None:
    if value not in accepted:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, accepted))}, got {value!r}")


def share(name: str, value: float) -> None:
    positive(name, value)
    if value > 1:
        raise ValueError(f"{name} must be a share, above 0 and at most 1, got {value}")
