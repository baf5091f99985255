"""`hint`: opens an exercise's hints one after another, from a nudge to nearly the code."""

from __future__ import annotations

from helpers.exercises import log
from helpers.exercises.cards import QUIET, Card, Displayed, prose
from helpers.exercises.checking import recorded
from helpers.exercises.registry import find

_opened_here: dict[str, int] = {}


def hint(exercise: str) -> Displayed:
    """Open the next hint and show those before it; the log records each. ValueError for an unknown id."""
    found = find(exercise)
    before = min(_opened(exercise), len(found.hints))
    notes: tuple[str, ...] = ()
    if before < len(found.hints):
        notes = recorded(exercise, "hint", str(before + 1))
    opened = min(before + 1, len(found.hints))
    _opened_here[exercise] = opened
    return Displayed(_card(exercise, found.hints, opened, notes))


def _card(exercise: str, hints: tuple[str, ...], opened: int, notes: tuple[str, ...]) -> Card:
    if opened == len(hints):
        after = f'that was the last one; `solution("{exercise}", reveal=True)` shows the answer'
    else:
        after = f'the next one: `hint("{exercise}")` again'
    headline = f"{exercise} hint {opened} of {len(hints)}"
    text = "\n".join(f"  hint {i}    {_indented(hints[i - 1])}" for i in range(1, opened + 1))
    return Card("info", headline, notes=(after, *notes), body=_nested(hints[:opened]), body_text=text)


def _nested(hints: tuple[str, ...]) -> str:
    """Hint 2 inside hint 1 and so on, all open: a reader closes what is in the way."""
    inner = ""
    for number in range(len(hints), 0, -1):
        summary = f'<summary style="cursor:pointer;{QUIET}">Hint {number}</summary>'
        text = f'<div style="margin:.2em 0 .4em 1.2em">{prose(hints[number - 1])}</div>'
        inner = f'<details open style="margin:.2em 0">{summary}{text}{inner}</details>'
    return inner


def _indented(text: str) -> str:
    return text.replace("\n", "\n" + " " * 12)


def _opened(exercise: str) -> int:
    try:
        logged = log.read().count(exercise, "hint")
    except log.LogError:
        logged = 0
    return max(logged, _opened_here.get(exercise, 0))
