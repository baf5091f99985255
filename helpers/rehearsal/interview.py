"""`rehearse mock`: the interview in the terminal, resumed when it was interrupted, and its report at the end."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.rehearsal import mock as mocks
from helpers.rehearsal import state
from helpers.rehearsal.questions import Bank
from helpers.rehearsal.sitting import Sitting
from helpers.rehearsal.terminal import Screen, Stop
from helpers.rehearsal.words import word

if TYPE_CHECKING:
    from rich.console import Console


def hold(
    console: Console,
    bank: Bank,
    *,
    level: str,
    minutes: float,
    lang: str,
    areas: Sequence[str],
    resume: bool | None,
    out: Path | None,
) -> Path | None:
    """Hold an interview, or go on with the one that was interrupted; where its report lies.

    Args:
        resume: go on (True), begin anew (False), or ask when there is one to go on with (None).

    Raises Stop when the learner stops; everything so far is kept then.
    """
    held = _resumed(console, bank, lang, resume) or _begun(console, bank, level, minutes, lang, areas)
    screen = Screen(held.language, console)
    while True:
        held = _reread(held)
        slot = mocks.next_slot(held, bank)
        if slot is None:
            break
        question = bank.usable(slot.question)
        if question is None:
            screen.left_out(bank)
            continue
        sitting = Sitting(question, language=held.language, level=_level(held, question.levels), mock=held.id,
                          slot=slot.name)  # fmt: skip
        left = max(0, round(held.seconds_left / 60))
        title = f"{word(held.language, 'slot-' + slot.name)} · {left} {word(held.language, 'minutes_left')}"
        screen.ask(sitting, bank, asked=[*held.asked, question.id], title=title, follow_ups=False)
    mocks.end(held, "finished")
    return report(console, held, bank, out)


def report(console: Console, held: mocks.Mock, bank: Bank, out: Path | None) -> Path | None:
    """Write the report of an interview and say where it lies; None when nothing was answered."""
    from helpers.rehearsal.report import write_report

    if not held.reviews:
        return None
    folder = out or state.path().parent / "mocks" / f"{held.begun.astimezone():%Y-%m-%d-%H%M}-{held.id}"
    page = write_report(held, bank, folder)
    console.print(word(held.language, "report", page=page), style="green", markup=False, soft_wrap=True)
    return page


def _reread(held: mocks.Mock) -> mocks.Mock:
    return next(one for one in mocks.interviews(state.read()) if one.id == held.id)


def _level(held: mocks.Mock, levels: Sequence[str]) -> str:
    return held.level if held.level in levels else ""


def _resumed(console: Console, bank: Bank, lang: str, resume: bool | None) -> mocks.Mock | None:
    held = mocks.unfinished(state.read())
    if held is None or mocks.next_slot(held, bank) is None:
        return None
    if resume is None:
        screen = Screen(lang, console)
        prompt = word(lang, "resume", when=f"{held.begun.astimezone():%Y-%m-%d %H:%M}", n=len(held.reviews))
        resume = screen.choose(prompt, word(lang, "resumes"), _yes_or_new) is True
    if resume:
        return held
    mocks.end(held, "given up")
    return None


def _yes_or_new(text: str) -> bool:
    if text.strip().lower() not in ("", "n"):
        raise ValueError(text)
    return text.strip() == ""


def _begun(console: Console, bank: Bank, level: str, minutes: float, lang: str, areas: Sequence[str]) -> mocks.Mock:
    reviews = state.read().reviews
    slots = mocks.compose(bank, reviews, level=level, minutes=minutes, areas=areas, rng=random.Random())
    planned = ", ".join(word(lang, "slot-" + slot.name) for slot in slots)
    console.print(word(lang, "interview", n=len(slots), minutes=f"{minutes:g}", planned=planned), markup=False)
    return mocks.begin(slots, level=level, minutes=minutes, language=lang, areas=areas)


__all__ = ["Stop", "hold", "report"]
