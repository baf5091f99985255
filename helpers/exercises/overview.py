"""`progress`: a table of what has been tried, hinted at and passed, drawn from the local log."""

from __future__ import annotations

from dataclasses import dataclass

from helpers.exercises import log
from helpers.exercises.cards import COLOURS, SIGNS, Card, Displayed, escape
from helpers.exercises.registry import Exercise, exercises

TRAIL = 24  # events of one exercise that a row has room for
MARKS = {"attempt": SIGNS["not yet"], "pass": SIGNS["passed"], "hint": "?", "reveal": "!"}
MARK_COLOURS = {
    "attempt": COLOURS["not yet"],
    "pass": COLOURS["passed"],
    "hint": COLOURS["info"],
    "reveal": COLOURS["info"],
}
LEGEND = "✗ not yet · ✓ passed · ? hint · ! solution opened before a pass"


@dataclass(frozen=True)
class Row:
    """One exercise and its events, oldest first."""

    exercise: Exercise
    events: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return "pass" in self.events

    @property
    def mood(self) -> str:
        if self.passed:
            return "passed"
        return "not yet" if "attempt" in self.events else "open"

    @property
    def attempts(self) -> int:
        return self.events.count("attempt") + self.events.count("pass")

    @property
    def shown(self) -> tuple[str, ...]:
        return self.events[-TRAIL:]


def progress(notebook: int | None = None) -> Displayed:
    """Show attempts, hints and passes of all exercises, or of one notebook (1 …). ValueError when there is none."""
    found = exercises(notebook)
    trouble: tuple[str, ...] = ()
    try:
        history = log.read()
    except log.LogError as error:
        history, trouble = log.History(), (f"({error})",)
    rows = [Row(e, tuple(x.event for x in history.events if x.exercise == e.id)) for e in found]
    passed = sum(row.passed for row in rows)
    mood = "passed" if rows and passed == len(rows) else "info"
    skipped = (f"({history.skipped} damaged lines of the record were skipped)",) if history.skipped else ()
    return Displayed(
        Card(
            mood,
            f"{passed} of {len(rows)} exercises passed",
            notes=(LEGEND, *skipped, *trouble),
            body=_bar(passed, len(rows)) + _table(rows),
            body_text=_text(rows),
        )
    )


def _text(rows: list[Row]) -> str:
    width = max((len(row.exercise.title) for row in rows), default=0)
    lines = [
        f"  {SIGNS[row.mood]} {row.exercise.id:<5} {row.exercise.title:<{width}}  {_tries(row.attempts):<9} "
        + " ".join(MARKS[event] for event in row.shown)
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _table(rows: list[Row]) -> str:
    cell = "text-align:left;padding:.15em .8em .15em 0;background:none;border:none;color:inherit"
    lines = []
    for row in rows:
        sign = f'<span style="color:{COLOURS[row.mood]};font-weight:bold">{SIGNS[row.mood]}</span>'
        trail = " ".join(f'<span style="color:{MARK_COLOURS[e]};font-weight:bold">{MARKS[e]}</span>' for e in row.shown)
        values = (sign, escape(row.exercise.id), escape(row.exercise.title), _tries(row.attempts), trail)
        lines.append(
            '<tr style="background:none">' + "".join(f'<td style="{cell}">{value}</td>' for value in values) + "</tr>"
        )
    style = "color:inherit;border-collapse:collapse;margin:.4em 0;border:none;font-size:inherit"
    return f'<table style="{style}"><tbody>{"".join(lines)}</tbody></table>'


def _bar(done: int, total: int) -> str:
    share = 100 * done / total if total else 0
    inner = f'<div style="height:100%;width:{share:.0f}%;background:{COLOURS["passed"]}"></div>'
    outer = "height:.6em;max-width:30em;margin:.4em 0;border:1px solid rgba(127,127,127,.5)"
    return f'<div style="{outer}" role="img" aria-label="{done} of {total} passed">{inner}</div>'


def _tries(count: int) -> str:
    return "" if count == 0 else f"{count} {'try' if count == 1 else 'tries'}"
