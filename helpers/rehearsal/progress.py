"""What the reviews say: how much is retained, what comes due, where the weak areas are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from helpers.rehearsal.questions import Head
from helpers.rehearsal.schedule import memories, scheduler, strength
from helpers.rehearsal.state import Plan, Review

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOAD_DAYS = 14


@dataclass(frozen=True)
class Retention:
    """Of the questions that were seen before: how often they were still known, and how often FSRS had said so."""

    reviews: int
    known: float
    predicted: float


@dataclass(frozen=True)
class AreaProgress:
    """An area: its questions, those seen, the mean score of the latest answers, and what is now remembered."""

    area: str
    questions: int
    seen: int
    score: float
    remembered: float


def retention(reviews: Sequence[Review]) -> Retention | None:
    """Over all repeated reviews; None when no question was asked twice on different days.

    A question counts as known when it was rated hard, good or easy. The prediction is FSRS's, made just before.
    """
    outcomes: list[tuple[bool, float]] = []
    rule = scheduler()
    for n, review in enumerate(reviews):
        before = [one for one in reviews[:n] if one.question == review.question]
        if before and before[-1].time.date() < review.time.date():
            card = memories(before, Plan())[review.question].card
            outcomes.append((review.rating > 1, rule.get_card_retrievability(card, review.time)))
    if not outcomes:
        return None
    number = len(outcomes)
    return Retention(number, sum(k for k, _ in outcomes) / number, sum(p for _, p in outcomes) / number)


def load(bank: Mapping[str, Head], reviews: Sequence[Review], plan: Plan, *, now: datetime) -> dict[date, int]:
    """How many questions come due on each of the next days; what is overdue counts for today."""
    today = now.astimezone().date()
    days = Counter(
        max(today, memory.due.astimezone().date()) for name, memory in memories(reviews, plan).items() if name in bank
    )
    return {today + timedelta(days=n): days[today + timedelta(days=n)] for n in range(LOAD_DAYS)}


def areas(bank: Mapping[str, Head], reviews: Sequence[Review], *, now: datetime) -> list[AreaProgress]:
    """Each area of the bank, the weakest first; unseen questions count as not known."""
    known, scores, rule = memories(reviews, Plan()), strength(bank, reviews), scheduler()
    found = []
    for area in dict.fromkeys(head.area for head in bank.values()):
        names = [name for name, head in bank.items() if head.area == area]
        seen = [name for name in names if name in known]
        remembered = sum(rule.get_card_retrievability(known[name].card, now) for name in seen) / len(names)
        found.append(AreaProgress(area, len(names), len(seen), scores.get(area, 0.0), remembered))
    return sorted(found, key=lambda one: one.remembered * one.score)


def draw(bank: Mapping[str, Head], reviews: Sequence[Review], plan: Plan, *, now: datetime) -> list[Axes]:
    """Two pictures for a notebook: the weak areas, and what comes due on the next days."""
    from helpers.plots import COLOURS, bars, panels

    progress, days = areas(bank, reviews, now=now), load(bank, reviews, plan, now=now)
    due = sum(days.values())
    left, right = panels(
        [f"Weakest area: {progress[0].area}", f"{due} questions come due in {LOAD_DAYS} days"], width=5.2, height=3.0
    )
    bars({one.area: one.score for one in progress}, xlabel="mean score of the latest answers", ax=left)
    right.bar(range(len(days)), list(days.values()), color=COLOURS[0])
    right.set_xticks(range(0, len(days), 3), [f"{day:%d %b}" for day in list(days)[::3]])
    right.set_ylabel("questions due")
    return [left, right]
