"""`solution`: the reference answer to an exercise, read as text from the script that its notebook is built from."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from helpers.exercises import cards, log
from helpers.exercises.cards import Card, Displayed
from helpers.exercises.checking import passed_here, recorded
from helpers.exercises.registry import MODULES, find

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


def solution(exercise: str, *, reveal: bool = False) -> Displayed:
    """Show the reference answer: after a pass, or before one with `reveal=True`, which the log records.

    Raises ValueError for an unknown id, FileNotFoundError when the course's solutions are not on this machine.
    """
    found = find(exercise)
    if not isinstance(reveal, bool):
        raise TypeError(f"reveal must be True or False, got {reveal!r}")
    if not (reveal or _passed(exercise)):
        line = f'solution("{exercise}", reveal=True)'
        note = f"pass the check first, or look now with `{line}` (your record will say so)"
        return Displayed(Card("open", f"{exercise} solution is still closed", notes=(note,)))
    text = regions(cell(source(exercise), cell_id(exercise)))
    notes = () if _passed(exercise) else recorded(exercise, "reveal", "")
    headline = f"{exercise} solution: {found.title}"
    return Displayed(
        Card("info", headline, notes=notes, body=cards.code(text), body_text=textwrap.indent(text, "    "))
    )


def source(exercise: str) -> Path:
    """The script that holds the exercise: in the checkout, or in a `solutions` folder above the notebook."""
    number = int(exercise.split(".")[0])
    name = f"{number:02d}_{MODULES[number]}.py"
    here = Path.cwd()
    folders = [Path(__file__).parents[2], here, *here.parents]
    for folder in folders:
        if (folder / "solutions" / name).is_file():
            return folder / "solutions" / name
    raise FileNotFoundError(f"solutions/{name} is not on this machine: run from inside a clone of the course")


def cell_id(exercise: str) -> str:
    """The id of the notebook cell with the exercise: dots are not allowed there."""
    return "exercise-" + exercise.replace(".", "-")


def cell(script: Path, id: str) -> str:
    """The source of one cell of a script in percent format. ValueError when there is none with this id."""
    text = script.read_text(encoding="utf-8")
    for part in re.split(r"^(?=# %%)", text, flags=re.MULTILINE):
        head, _, body = part.partition("\n")
        if re.search(rf'\bid="{re.escape(id)}"', head):
            return body.strip("\n") + "\n"
    raise ValueError(f"id: {script.name} has no cell {id!r}")


def regions(text: str) -> str:
    """What stands between the solution marks; with several regions each below the name of its function."""
    found: list[str] = []
    name, inside, lines = "", False, list[str]()
    for line in text.splitlines():
        if defined := re.match(r"\s*(?:def|class)\s+(\w+)", line):
            name = name if inside else defined[1]
        if line.strip() == BEGIN:
            inside, lines = True, [f"# {name}"]
        elif line.strip() == END:
            inside = False
            found.append(lines[0] + "\n" + textwrap.dedent("\n".join(lines[1:])))
        elif inside:
            lines.append(line)
    if len(found) == 1:
        return found[0].partition("\n")[2]
    return "\n\n".join(found)


def _passed(exercise: str) -> bool:
    if passed_here(exercise):
        return True
    try:
        return log.read().count(exercise, "pass") > 0
    except log.LogError:
        return False
