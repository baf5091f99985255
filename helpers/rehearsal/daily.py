"""`rehearse`: today's questions one after another, with the follow-ups that the learner asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from helpers.rehearsal import state
from helpers.rehearsal.questions import Bank
from helpers.rehearsal.schedule import Due, due_today
from helpers.rehearsal.sitting import Sitting
from helpers.rehearsal.terminal import Screen
from helpers.rehearsal.words import word

if TYPE_CHECKING:
    from rich.console import Console


def rehearse_today(
    console: Console,
    bank: Bank,
    history: state.History,
    *,
    lang: str,
    areas: Sequence[str] | None,
    level: str,
    minutes: float | None,
    now: Callable[[], datetime],
) -> None:
    """Ask what is due until nothing is, or until the learner stops (raises Stop then)."""
    screen = Screen(lang, console)
    heads = {name: head for name, head in bank.items() if not areas or head.area in areas}
    queue = due_today(heads, history.reviews, history.plan, now=now(), minutes=minutes)
    queue = _begun_first(queue, heads)
    if not queue:
        screen.say("nothing_due", "green")
        return
    asked: list[str] = []
    total = len(queue)
    while queue:
        one = queue.pop(0)
        asked.append(one.question)
        title = f"{min(len(asked), total)}/{total} · {word(lang, one.why)}"
        question = bank.usable(one.question)
        if question is None:
            screen.left_out(bank)
            continue
        sitting = Sitting(question, language=lang, level=_fitting(level, question.levels))
        outcome = screen.ask(sitting, bank, asked=asked, title=title)
        if outcome.follow:
            queue = [one for one in queue if one.question != outcome.follow]
            queue.insert(0, Due(outcome.follow, "due", bank[outcome.follow].minutes))
            total = len(asked) + len(queue)
    screen.say("day_done", "green", n=len(asked))


def _begun_first(queue: Sequence[Due], heads: dict) -> list[Due]:
    """An answer that was begun and not finished comes first."""
    begun = [draft.question for draft in state.drafts() if not draft.mock and draft.question in heads]
    first = [Due(name, "due", heads[name].minutes) for name in begun]
    return first + [one for one in queue if one.question not in begun]


def _fitting(level: str, levels: Sequence[str]) -> str:
    """The learner's level; without one, or when the question is not for it, the question decides."""
    return level if level in levels else ""
