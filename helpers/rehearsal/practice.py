"""`rehearse drill` and `rehearse debug` in the terminal."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from helpers.rehearsal.debugging import ROUNDS, Bug, Marking, Round
from helpers.rehearsal.drills import DRILLS, Drill, Problem, QuantityError
from helpers.rehearsal.terminal import Screen
from helpers.rehearsal.words import word

if TYPE_CHECKING:
    from rich.console import Console


def drill(console: Console, name: str | None, *, lang: str, number: int, seed: int | None) -> int:
    """Ask `number` problems of the drill, or of drills by chance; how many were near enough. Raises Stop."""
    screen, rng = Screen(lang, console), random.Random(seed)
    held = 0
    for n in range(1, number + 1):
        kind = DRILLS[name] if name else rng.choice(list(DRILLS.values()))
        held += _problem(screen, kind, kind.draw(rng), f"{n}/{number}")
    screen.say("drill_done", "bold", held=held, number=number)
    return held


def _problem(screen: Screen, kind: Drill, problem: Problem, count: str) -> bool:
    lang, start = screen.language, time.monotonic()
    title = f"{count} · {kind.title[lang]} · {kind.name}"
    screen.console.print(Panel(Text(problem.prompt[lang], style="bold"), title=Text(title), title_align="left"))
    while True:
        typed = screen.line(word(lang, "drill_prompt", unit=problem.unit or word(lang, "plain_number"))).strip()
        if typed == "?":
            holds, factor = False, 0.0
            break
        try:
            judgement = problem.judge(typed)
        except (QuantityError, TypeError) as error:
            screen.console.print(Text(_in(error, lang), style="red"))
            continue
        holds, factor = judgement.holds, judgement.factor
        screen.console.print(Text(judgement.message[lang], style="green" if holds else "yellow"))
        break
    lines = "\n".join(line[lang] for line in problem.derivation)
    screen.console.print(Panel(Text(lines), title=word(lang, "derivation"), title_align="left"))
    seconds = round(time.monotonic() - start, 1)
    screen.save("drill", name=kind.name, text=typed, holds=holds, factor=factor, seconds=seconds, language=lang)
    return holds


def _in(error: Exception, lang: str) -> str:
    return str(getattr(error, lang, None) or error)


# --- debugging rounds ----------------------------------------------------------------------------------------


def debug(console: Console, name: str, *, lang: str) -> Marking:
    """One debugging round. Raises Stop."""
    screen, one = Screen(lang, console), ROUNDS[name]
    title = (
        f"{one.title[lang]} · {word(lang, f'area-{one.area}')} · {one.level} · {one.minutes} {word(lang, 'minutes')}"
    )
    console.print(Panel(Text(one.story[lang], style="bold"), title=Text(title), title_align="left"))
    console.print(Syntax(one.code, "python", line_numbers=True, word_wrap=True, background_color="default"))
    screen.say("debug_how", "dim")
    start = time.monotonic()
    marks = _marks(screen, len(one.code.splitlines()))
    marking = one.mark(marks)
    unnamed = _claimed(screen, marking.unnamed)
    _show_marking(screen, one, marking)
    screen.save(
        "round",
        name=one.id,
        marks=[list(mark) for mark in marks],
        found=[bug.id for bug in marking.found] + unnamed,
        missed=[bug.id for bug in marking.missed] + [bug.id for bug in marking.unnamed if bug.id not in unnamed],
        fine=[mark.line for mark in marking.fine],
        seconds=round(time.monotonic() - start, 1),
        language=lang,
    )
    return marking


def parse_mark(text: str, lines: int) -> tuple[int, str]:
    """ "9 the scaler sees the test rows" as (9, "the scaler …"). Raises ValueError for anything else."""
    found = re.fullmatch(r"\s*(\d+)\s*[:：.,，、]?\s*(.*)", text, re.ASCII | re.DOTALL)
    if not found or not 1 <= int(found[1]) <= lines or not found[2].strip():
        raise ValueError(text)
    return int(found[1]), found[2].strip()


def _marks(screen: Screen, lines: int) -> list[tuple[int, str]]:
    marks: list[tuple[int, str]] = []

    def read(text: str) -> tuple[int, str] | None:
        return parse_mark(text, lines) if text.strip() else None

    accepted = word(screen.language, "debug_accepted", n=lines)
    while (mark := screen.choose(f"{len(marks) + 1}> ", accepted, read)) is not None:
        assert isinstance(mark, tuple)
        marks.append(mark)
    return marks


def _claimed(screen: Screen, unnamed: Sequence[Bug]) -> list[str]:
    """Of the bugs whose line was marked in other words: those that the learner says they meant."""
    claimed = []
    for bug in unnamed:
        prompt = word(screen.language, "debug_meant", name=bug.name[screen.language])
        if screen.choose(prompt, word(screen.language, "yes_no"), _yes_or_no) is True:
            claimed.append(bug.id)
    return claimed


def _yes_or_no(text: str) -> bool:
    known = {"y": True, "yes": True, "是": True, "n": False, "no": False, "": False, "否": False}
    if text.strip().lower() not in known:
        raise ValueError(text)
    return known[text.strip().lower()]


def _show_marking(screen: Screen, one: Round, marking: Marking) -> None:
    lang = screen.language
    screen.console.print(Text(marking.summary[lang], style="bold"))
    for bug in one.bugs:
        sign, style = ("✓", "green") if bug in marking.found else ("?", "yellow")
        if bug in marking.missed:
            sign, style = "✗", "red"
        where = ", ".join(str(line) for line in bug.lines)
        screen.console.print(Text(f"{sign} {where}: {bug.name[lang]}", style=style))
        screen.console.print(Text(f"  {bug.why[lang]}\n  → {bug.mend[lang]}"))
    screen.console.print(Syntax(one.mended, "python", line_numbers=True, word_wrap=True, background_color="default"))
