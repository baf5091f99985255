"""A mock interview: a sensible order that fills its minutes, follow-ups on what was missed, and a state to resume from.

Nothing is stored but its beginning, its reviews and its end: where it stands is computed from the log, so that an
interview that was interrupted at any point goes on with the next question, or in the middle of an answer.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from helpers.rehearsal import state
from helpers.rehearsal.questions import Bank, Head
from helpers.rehearsal.sitting import follow_up

ORDER = ("warm-up", "depth", "estimation", "debugging", "start-up")
FIRST = ("depth", "start-up", "warm-up", "estimation", "debugging")  # what a short interview has, in this order
KINDS = {
    "warm-up": ("explain", "compare"),
    "depth": ("explain", "compare", "design", "ethics"),
    "estimation": ("estimate",),
    "debugging": ("debug", "code"),
    "start-up": ("explain", "compare", "estimate", "design", "ethics"),
}
WARM_UP_MINUTES = 4
FOLLOW_UPS = 0.2  # of the time is left for them
LONGEST_SHARE = 0.3  # of the rest for one question, so that the others have room; but four minutes always fit
QUICKEST_MINUTES = 2.5  # a question on average: more are not asked, however quick the answers
SHORTEST_MINUTES, LONGEST_MINUTES = 10, 120
FOLLOW_UP = "follow-up"


@dataclass(frozen=True)
class Slot:
    """A place in the interview (one of ORDER, or a follow-up) and the question that is asked there."""

    name: str
    question: str


@dataclass(frozen=True)
class Mock:
    """An interview as it stands: what was planned, and the reviews so far, oldest first."""

    id: str
    begun: datetime
    minutes: float
    level: str
    language: str
    slots: tuple[Slot, ...]
    areas: tuple[str, ...] = ()
    reviews: tuple[state.Review, ...] = ()
    ended: str = field(default="")

    @property
    def seconds_left(self) -> float:
        """Answering time that is left; ticking does not count."""
        return self.minutes * 60 - sum(review.seconds for review in self.reviews)

    @property
    def pace(self) -> float:
        """How many times the planned time the answers took so far; at least 1."""
        planned = sum(review.planned for review in self.reviews)
        return max(1.0, sum(review.seconds for review in self.reviews) / planned) if planned else 1.0

    @property
    def asked(self) -> list[str]:
        """Ids of the questions that were answered."""
        return [review.question for review in self.reviews]


def compose(
    bank: Mapping[str, Head],
    reviews: Sequence[state.Review],
    *,
    level: str,
    minutes: float,
    areas: Collection[str] = (),
    rng: random.Random | None = None,
) -> tuple[Slot, ...]:
    """The questions of an interview in their order: warm-up, depth, estimation, debugging, a start-up question.

    What was asked least comes first, chance decides between the rest, and areas take turns. A fifth of the time is
    left for follow-ups.

    Args:
        areas: only these; a start-up question closes the interview all the same. All without it.
        minutes: 10 to 120.

    Raises ValueError for other minutes, and when the bank has no question for this level and these areas.
    """
    if not SHORTEST_MINUTES <= minutes <= LONGEST_MINUTES:
        raise ValueError(f"minutes must be {SHORTEST_MINUTES} to {LONGEST_MINUTES}, got {minutes:g}")
    pool = _pool(bank, reviews, level, rng or random.Random())
    technical = [head for head in pool if head.area in (areas or {head.area for head in pool} - {"start-up"})]
    if not technical:
        raise ValueError(f"no question for level {level} in {', '.join(areas) or 'any area'}")
    budget = minutes * (1 - FOLLOW_UPS)
    longest = max(4.0, LONGEST_SHARE * budget)
    chosen: list[tuple[str, Head]] = []
    for name in (*FIRST, *["depth"] * len(technical)):
        source = [head for head in pool if head.area == "start-up"] if name == "start-up" else technical
        head = _pick(name, source, [one for _, one in chosen], min(budget, longest))
        if head is not None:
            chosen.append((name, head))
            budget -= head.minutes
    chosen.sort(key=lambda one: ORDER.index(one[0]))
    return tuple(Slot(name, head.id) for name, head in chosen)


def _pool(bank: Mapping[str, Head], reviews: Sequence[state.Review], level: str, rng: random.Random) -> list[Head]:
    asked: dict[str, int] = {}
    for review in reviews:
        asked[review.question] = asked.get(review.question, 0) + 1
    heads = [head for head in bank.values() if level in head.levels]
    rng.shuffle(heads)
    return sorted(heads, key=lambda head: asked.get(head.id, 0))


def _pick(name: str, source: Sequence[Head], chosen: Sequence[Head], budget: float) -> Head | None:
    """The first that fits, from the area that was chosen least."""
    taken = [head.area for head in chosen]
    ids = {head.id for head in chosen}
    fits = [head for head in source if head.id not in ids and head.kind in KINDS[name] and head.minutes <= budget]
    if name == "warm-up":
        fits = [head for head in fits if head.minutes <= WARM_UP_MINUTES]
    return min(fits, key=lambda head: taken.count(head.area), default=None)


def begin(slots: Sequence[Slot], *, level: str, minutes: float, language: str, areas: Collection[str] = ()) -> Mock:
    """Write the beginning of an interview to the log. Raises StateError when it cannot be written."""
    event = state.append(
        "mock",
        minutes=minutes,
        level=level,
        language=language,
        areas=list(areas),
        slots=[[slot.name, slot.question] for slot in slots],
    )
    return _of(event, state.History())


def end(mock: Mock, why: str) -> None:
    """Write the end of an interview to the log: why is "finished" or "given up"."""
    state.append("mock-end", of=mock.id, why=why)


def interviews(history: state.History) -> list[Mock]:
    """All interviews of the log, oldest first."""
    return [_of(event, history) for event in history.of("mock")]


def unfinished(history: state.History) -> Mock | None:
    """The interview that was begun last, when it has not ended."""
    found = interviews(history)
    return found[-1] if found and not found[-1].ended else None


def _of(event: state.Event, history: state.History) -> Mock:
    data = event.data
    ends = [one.data["why"] for one in history.of("mock-end") if one.data.get("of") == event.id]
    return Mock(
        event.id,
        event.time,
        data["minutes"],
        data["level"],
        data["language"],
        tuple(Slot(name, question) for name, question in data["slots"]),
        tuple(data["areas"]),
        tuple(review for review in history.reviews if review.mock == event.id),
        ends[-1] if ends else "",
    )


def next_slot(mock: Mock, bank: Bank) -> Slot | None:
    """What is asked now: a follow-up on the last answer when there is time for it, else the next place, else None.

    When the time runs short, places in the middle are left out, so that the closing question is still asked.
    """
    if mock.seconds_left <= 0:
        return None
    begun = _begun(mock, bank)
    if begun is not None:
        return begun
    reached = max((n for n, slot in enumerate(mock.slots) if slot.question in mock.asked), default=-1)
    rest = [slot for slot in mock.slots[reached + 1 :] if slot.question in bank]  # what was left out stays left out
    spare = mock.seconds_left - sum(_seconds(mock, bank, slot) for slot in rest)
    if found := _follow(mock, bank, spare) or _more_depth(mock, bank, rest, spare):
        return found
    while len(rest) > 1 and mock.seconds_left < _seconds(mock, bank, rest[0]) + _seconds(mock, bank, rest[-1]):
        rest.pop(0)
    return rest[0] if rest else None


def _seconds(mock: Mock, bank: Bank, slot: Slot) -> float:
    """What the question will take at the pace so far."""
    return 60 * bank[slot.question].minutes * mock.pace


def _begun(mock: Mock, bank: Bank) -> Slot | None:
    """The question in whose answer the interview was interrupted."""
    for draft in state.drafts():
        if draft.mock == mock.id and draft.question in bank and draft.question not in mock.asked:
            names = {slot.question: slot.name for slot in mock.slots}
            return Slot(names.get(draft.question, FOLLOW_UP), draft.question)
    return None


def _more_depth(mock: Mock, bank: Bank, rest: Sequence[Slot], spare_s: float) -> Slot | None:
    """For somebody who is quick: before the closing question as many more as the time allows."""
    if len(rest) != 1 or len(mock.reviews) >= mock.minutes / QUICKEST_MINUTES:
        return None
    pool = [head for head in _pool(bank, (), mock.level, random.Random(mock.id)) if head.area != "start-up"]
    wanted = [head for head in pool if not mock.areas or head.area in mock.areas]
    asked = [bank[name] for name in {*mock.asked, rest[0].question} if name in bank]
    head = _pick("depth", wanted, asked, spare_s / 60)
    return Slot("depth", head.id) if head else None


def _follow(mock: Mock, bank: Bank, spare_s: float) -> Slot | None:
    if not mock.reviews or mock.reviews[-1].slot == FOLLOW_UP or mock.reviews[-1].question not in bank:
        return None  # one follow-up a question: then the interviewer goes on
    last = mock.reviews[-1]
    taken = {*mock.asked, *(slot.question for slot in mock.slots)}
    question = bank.usable(last.question)
    follow = follow_up(question, last.missed, last.score, asked=taken) if question else None
    if follow is None or follow.id not in bank or spare_s < 45 * bank[follow.id].minutes * mock.pace:
        return None
    return Slot(FOLLOW_UP, follow.id)
