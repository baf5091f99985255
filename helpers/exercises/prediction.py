"""`predict`: what a learner guessed before running the next cell, against what was measured."""

from __future__ import annotations

import math
from types import EllipsisType
from typing import Any

from helpers.exercises.cards import Card, Displayed
from helpers.exercises.comparing import is_number

CLOSE = 1.1  # a guess within ten per cent counts as right: these are estimates made in one's head


def predict(what: str, guess: float | EllipsisType | None = None, *, measured: float, unit: str = "") -> Displayed:
    """Say how far a guess was from the measured value, as a factor. `None` or `...` means no guess yet.

    Raises TypeError when guess or measured is not a number, ValueError when it is not finite.
    """
    real = _number("measured", measured)
    if guess is None or guess is ...:
        note = "write your number as `guess` before you read on: a wrong guess is remembered, a read number is not"
        return Displayed(Card("open", f"no guess yet: {what}", (("measured", _with_unit(real, unit)),), (note,)))
    said = _number("guess", guess)
    verdict, close = _verdict(said, real)
    rows = (("your guess", _with_unit(said, unit)), ("measured", _with_unit(real, unit)))
    return Displayed(Card("passed" if close else "info", f"{what}: {verdict}", rows))


def _verdict(guess: float, measured: float) -> tuple[str, bool]:
    if guess == measured:
        return "exactly right", True
    side = "high" if guess > measured else "low"
    if guess * measured <= 0:  # no factor leads from one sign, or from nothing, to the other
        return f"{_plain(abs(guess - measured))} too {side}", False
    factor = max(guess / measured, measured / guess)
    if factor <= CLOSE:
        return f"close, {_percent(abs(guess - measured) / abs(measured))} too {side}", True
    return f"a factor of {_plain(factor, 2)} too {side}", False


def _number(name: str, value: Any) -> float:
    if not is_number(value) or isinstance(value, complex):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return float(value)


def _plain(value: float, digits: int = 3) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.{digits}g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _with_unit(value: float, unit: str) -> str:
    return f"{_plain(value)} {unit}".rstrip()
