"""What is due today, and the days until the interview: FSRS on the learner's own reviews, capped by the date.

The schedule is never stored: it is computed from the reviews each time, so that undoing one undoes what followed.
FSRS: Ye, Su, Cao, *A stochastic shortest path algorithm for optimizing spaced repetition scheduling*, KDD 2022; the
model is version 6 of https://github.com/open-spaced-repetition/py-fsrs (2025).
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from helpers.rehearsal.questions import Head
from helpers.rehearsal.state import Plan, Review

if TYPE_CHECKING:
    import fsrs

RETENTION = 0.9
LONGEST_DAYS = 21  # nobody prepares for an interview that is a year away
LAST_LOOK_DAYS = 7  # the last look at a question lies in the last week, not all of them on the last day
HORIZON_DAYS = 366
_LEVELS = ("junior", "senior", "staff")


@dataclass(frozen=True)
class Memory:
    """What is remembered of a question: when it is due, and the probability that it is still known."""

    card: fsrs.Card
    due: datetime
    last: datetime
    rev: int


@dataclass(frozen=True)
class Due:
    """A question to be asked: `why` is "changed" (its meaning did), "due" or "new"."""

    question: str
    why: str
    minutes: float


@dataclass(frozen=True)
class Day:
    """One day ahead: questions seen again, new ones, their minutes, and the due ones that no longer fit."""

    date: date
    again: int
    new: int
    minutes: float
    left_over: int


def scheduler() -> fsrs.Scheduler:
    """FSRS without steps of minutes and without chance: a question comes again on another day."""
    import fsrs

    return fsrs.Scheduler(
        desired_retention=RETENTION,
        learning_steps=(),
        relearning_steps=(),
        maximum_interval=LONGEST_DAYS,
        enable_fuzzing=False,
    )


def memories(reviews: Sequence[Review], plan: Plan) -> dict[str, Memory]:
    """What is remembered of each reviewed question, whatever its revision was."""
    rule, found = scheduler(), dict[str, Memory]()
    for review in sorted(reviews, key=lambda one: one.time):
        found[review.question] = _after(found.get(review.question), review, plan, rule)
    return found


def _after(known: Memory | None, review: Review, plan: Plan, rule: fsrs.Scheduler) -> Memory:
    import fsrs

    card = known.card if known else fsrs.Card(card_id=1, due=review.time)
    card, _ = rule.review_card(card, fsrs.Rating(review.rating), review_datetime=review.time)
    rev = max(review.rev, known.rev if known else 0)
    return Memory(card, _capped(card.due, review, plan), review.time, rev)


def _capped(due: datetime, review: Review, plan: Plan) -> datetime:
    """Not later than the question's last look before the interview."""
    if plan.date is None:
        return due
    seen = review.time.astimezone().date()
    left = (plan.date - seen).days
    if left < 1:
        return due
    spread = zlib.crc32(review.question.encode()) % max(1, min(LAST_LOOK_DAYS, left // 2))
    last_look = plan.date - timedelta(days=1 + spread)
    return min(due, start_of(last_look)) if last_look > seen else due


def start_of(day: date) -> datetime:
    """The first moment of a day where the learner is, in UTC."""
    return datetime.combine(day, time()).astimezone().astimezone(UTC)


def due_today(
    bank: Mapping[str, Head], reviews: Sequence[Review], plan: Plan, *, now: datetime, minutes: float | None = None
) -> list[Due]:
    """What to rehearse now: changed questions, then due ones, then new ones, as far as today's minutes go.

    Args:
        minutes: the time for today; the plan's minutes a day without it. What was rehearsed today counts against it.
    """
    used = _minutes_on(now.astimezone().date(), reviews)
    budget = (plan.minutes_a_day if minutes is None else minutes) - used
    return _fill(waiting(bank, reviews, plan, now=now), budget)


def _minutes_on(day: date, reviews: Sequence[Review]) -> float:
    """An interview is extra: its minutes do not count."""
    return sum(review.seconds / 60 for review in reviews if not review.mock and review.time.astimezone().date() == day)


def waiting(bank: Mapping[str, Head], reviews: Sequence[Review], plan: Plan, *, now: datetime) -> list[Due]:
    """Everything that could be asked now, the most urgent first."""
    return _waiting(bank, reviews, memories(reviews, plan), now)


def _waiting(
    bank: Mapping[str, Head], reviews: Sequence[Review], known: Mapping[str, Memory], now: datetime
) -> list[Due]:
    end = start_of(now.astimezone().date() + timedelta(days=1))
    there = {name: memory for name, memory in known.items() if name in bank}  # a removed one keeps its history
    changed = [name for name, memory in there.items() if memory.rev < bank[name].rev]
    rule = scheduler()
    old = [name for name, memory in there.items() if memory.due < end and name not in changed]
    old.sort(key=lambda name: rule.get_card_retrievability(there[name].card, now))
    new = new_ones(bank, reviews)
    order = [(sorted(changed), "changed"), (old, "due"), (new, "new")]
    return [Due(name, why, bank[name].minutes) for names, why in order for name in names]


def new_ones(bank: Mapping[str, Head], reviews: Sequence[Review]) -> list[str]:
    """The questions that were never asked: areas take turns, the weakest begins; the easier ones come first."""
    seen = {review.question for review in reviews}
    areas: dict[str, list[str]] = defaultdict(list)
    for name in sorted(bank, key=lambda name: _ease(bank[name])):
        if name not in seen:
            areas[bank[name].area].append(name)
    weakest = strength(bank, reviews)
    turn = {name: (n, weakest.get(area, 0.0)) for area, names in areas.items() for n, name in enumerate(names)}
    return sorted(turn, key=lambda name: (*turn[name], name))


def strength(bank: Mapping[str, Head], reviews: Sequence[Review]) -> dict[str, float]:
    """Mean score of the latest review of each seen question, by area."""
    latest = {review.question: review for review in reviews if review.question in bank}
    scores: dict[str, list[float]] = defaultdict(list)
    for name, review in latest.items():
        scores[bank[name].area].append(review.score)
    return {area: sum(found) / len(found) for area, found in scores.items()}


def days_ahead(bank: Mapping[str, Head], reviews: Sequence[Review], plan: Plan, *, now: datetime) -> list[Day]:
    """The days from today to the eve of the interview (two weeks without a date), if every answer is good.

    A simulation of the calendar, not of the learner: what goes wrong comes back earlier than it says.
    """
    today = now.astimezone().date()
    last = plan.date - timedelta(days=1) if plan.date and plan.date > today else today + timedelta(days=13)
    days: list[Day] = []
    done, known, rule = list(reviews), memories(reviews, plan), scheduler()
    for n in range(min((last - today).days + 1, HORIZON_DAYS)):
        moment = now if n == 0 else start_of(today + timedelta(days=n)) + timedelta(hours=12)
        order = _waiting(bank, done, known, moment)
        asked = _fill(order, plan.minutes_a_day - (_minutes_on(today, reviews) if n == 0 else 0))
        days.append(_day(moment, asked, order))
        for one in asked:
            done.append(_good(bank[one.question], moment))
            known[one.question] = _after(known.get(one.question), done[-1], plan, rule)
    return days


def _day(moment: datetime, asked: Sequence[Due], all_waiting: Sequence[Due]) -> Day:
    again = sum(one.why != "new" for one in asked)
    left = sum(one.why != "new" for one in all_waiting) - again
    return Day(moment.astimezone().date(), again, len(asked) - again, sum(one.minutes for one in asked), left)


def _good(head: Head, moment: datetime) -> Review:
    return Review("", moment, head.id, 3, rev=head.rev, seconds=head.minutes * 60, score=0.9)


def _fill(order: Sequence[Due], budget: float) -> list[Due]:
    """Greedy in the order given; the first one that does not fit ends it, so that nothing urgent is passed over.

    While any time is left, one question is asked, however long it is.
    """
    chosen: list[Due] = []
    for one in order:
        if budget <= 0 or (chosen and one.minutes > budget):
            break
        budget -= one.minutes
        chosen.append(replace(one))
    return chosen


def _ease(head: Head) -> tuple[int, bool, str]:
    return (min(_LEVELS.index(level) for level in head.levels), not head.id.endswith("-seed"), head.id)
