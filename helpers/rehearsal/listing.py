"""What the commands show without asking: a question, a search, the plan, the statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from helpers.rehearsal import progress
from helpers.rehearsal.questions import Bank
from helpers.rehearsal.schedule import days_ahead, new_ones
from helpers.rehearsal.schema import Question
from helpers.rehearsal.state import History, Plan, Review
from helpers.rehearsal.words import word

BAR = "█"


def show_question(console: Console, question: Question, lang: str) -> None:
    """Everything about one question."""
    from helpers.rehearsal.terminal import Screen

    head = f"{question.area} · {question.kind} · {', '.join(question.levels)} · {question.minutes:g} min"
    console.print(Panel(Text(question.prompt.in_(lang), style="bold"), title=head, title_align="left",
                        subtitle=f"{question.id} rev {question.rev}", subtitle_align="right"))  # fmt: skip
    for point in question.rubric:
        told = f"• {point.text.in_(lang)}"
        notes = f"  [{'must, ' if point.must else ''}{point.level}, weight {point.weight}]"
        console.print(Text(told).append(notes, style="dim"))
    for mistake in question.mistakes:
        console.print(Text(f"✗ {mistake.text.in_(lang)}", style="red"))
        console.print(Text(f"  {mistake.why.in_(lang)}"))
    Screen(lang, console).show_answer(question)


def search_bank(console: Console, bank: Bank, words: Sequence[str]) -> int:
    """A table of the questions whose file holds all `words`, whatever their case; how many there are."""
    wanted = [one.lower() for one in words]
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("id", "area", "kind", "levels", "question"):
        table.add_column(name, no_wrap=name == "id", overflow="fold")
    for name, head in bank.items():
        text = head.file.read_text(encoding="utf-8").lower()
        if all(one in text for one in wanted):
            prompt = bank.question(name).prompt
            shown = prompt.zh if any(one in prompt.zh.lower() and not one.isascii() for one in wanted) else prompt.en
            table.add_row(name, head.area, head.kind, ", ".join(head.levels), Text(shown))
    if table.row_count:
        console.print(table)
    return table.row_count


def show_plan(console: Console, bank: Bank, reviews: Sequence[Review], plan: Plan, *, now: datetime) -> None:
    """The days ahead: what comes again, what is new, and what does not fit."""
    days = days_ahead(bank, reviews, plan, now=now)
    table = Table(title=plan_title(plan, now), title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("day", "again", "new", "minutes", "no longer fits"):
        table.add_column(name, justify="left" if name == "day" else "right")
    table.add_column("")
    for day in days:
        bar = BAR * round(day.minutes / 2)
        left = str(day.left_over or "")
        table.add_row(f"{day.date:%a %Y-%m-%d}", str(day.again), str(day.new), f"{day.minutes:g}", left, bar)
    console.print(table)
    unseen = len(new_ones(bank, reviews)) - sum(day.new for day in days)
    if unseen > 0:
        console.print(f"{unseen} of {len(bank)} questions would not be seen: more minutes a day, or choose areas.",
                      style="yellow")  # fmt: skip
    else:
        last = max((day.date for day in days if day.new), default=None)
        console.print(f"All {len(bank)} questions will have been seen by {last or 'today'}.", style="green")


def plan_title(plan: Plan, now: datetime) -> str:
    """What the plan is, in one line."""
    minutes = f"{plan.minutes_a_day:g} minutes a day"
    if plan.date is None:
        return f"{minutes}, no interview date yet (rehearse plan --date 2027-01-15)"
    left = (plan.date - now.astimezone().date()).days
    return f"Interview on {plan.date}, {left} days ahead, {minutes}" if left >= 0 else f"{plan.date} is over, {minutes}"


def show_stats(console: Console, bank: Bank, history: History, *, now: datetime, lang: str) -> None:
    """Retention, the due load of two weeks, and the areas from the weakest on."""
    reviews = history.reviews
    if not reviews:
        console.print(word(lang, "no_stats"))
        return
    seconds = sum(review.seconds for review in reviews)
    answered = len({review.question for review in reviews})
    console.print(word(lang, "stats", reviews=len(reviews), questions=answered, minutes=round(seconds / 60)))
    found = progress.retention(reviews)
    if found:
        console.print(word(lang, "retention", known=found.known, predicted=found.predicted, n=found.reviews))
    _show_areas(console, progress.areas(bank, reviews, now=now), lang)
    _show_load(console, progress.load(bank, reviews, history.plan, now=now), lang)


def _show_areas(console: Console, areas: Sequence[progress.AreaProgress], lang: str) -> None:
    table = Table(title=word(lang, "areas_title"), title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("area", "seen", "score", "remembered"):
        table.add_column(word(lang, f"column-{name}"), justify="left" if name == "area" else "right")
    table.add_column("")
    for one in areas:
        score = f"{one.score:.0%}" if one.seen else "–"
        bar = BAR * round(one.remembered * 20)
        seen = f"{one.seen}/{one.questions}"
        table.add_row(word(lang, f"area-{one.area}"), seen, score, f"{one.remembered:.0%}", bar)
    console.print(table)


def _show_load(console: Console, days: Mapping[date, int], lang: str) -> None:
    console.print(Text(word(lang, "load_title"), style="bold"))
    for day, number in days.items():
        console.print(f" {day:%m-%d}  {number:3}  {BAR * number}")
