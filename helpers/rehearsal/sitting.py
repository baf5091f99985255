"""One question from its prompt to its follow-up: what both front ends, terminal and notebook, do.

The learner ticks; the rating follows from the rubric and may be overridden; an answer is safe before the next step.
What this does not do: understand the answer. Nothing here ticks a point by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from helpers.rehearsal import state
from helpers.rehearsal.closest import Closest, closest

if TYPE_CHECKING:
    from helpers.rehearsal.schema import FollowUp, Level, Mistake, Point, Question

RATING_NAMES = {number: name for name, number in state.RATINGS.items()}
PAUSE_S = 0.4  # a pause of the keys after which the answer is saved
AGAIN, HARD, GOOD = 0.5, 0.75, 0.95  # shares of the weight below which an answer is no better than that


@dataclass(frozen=True)
class Verdict:
    """What the ticks give: the share of the expected weight, a rating 1 to 4, and why it is not better."""

    score: float
    rating: int
    reason: str
    missed: tuple[str, ...]

    @property
    def name(self) -> str:
        """The rating as a word: again, hard, good or easy."""
        return RATING_NAMES[self.rating]


class Sitting:
    """A question that is being answered.

    Args:
        level: points expected from a higher level on do not count; the question's lowest level without it.
        mock, slot: the mock interview that it belongs to and its place in it.
        clock: seconds from anywhere, only ever growing.
    """

    def __init__(
        self,
        question: Question,
        *,
        language: str = "en",
        level: str = "",
        mock: str = "",
        slot: str = "",
        clock: Callable[[], float] = time.monotonic,
    ):
        self.question, self.language, self.mock, self.slot = question, language, mock, slot
        self.level = level or min(question.levels, key=_rank)
        begun = state.draft_of(question.id, mock)
        self.taken_up = begun is not None
        self.answer = begun.text if begun else ""
        self.hints_used = min(begun.hints, len(question.hints)) if begun else 0
        self._before = begun.seconds if begun else 0.0
        self._clock, self._start, self._stopped = clock, clock(), False

    # --- answering

    @property
    def seconds(self) -> float:
        """Time spent on the answer so far, including before an interruption."""
        return self._before + (0.0 if self._stopped else self._clock() - self._start)

    @property
    def seconds_left(self) -> float:
        """Of the planned time; negative when it is over."""
        return self.question.minutes * 60 - self.seconds

    def keep(self, text: str) -> None:
        """Save the answer as it stands. Raises StateError when it cannot be written; the text is kept in memory."""
        self.answer = text
        state.save_draft(state.Draft(self.question.id, text, self.seconds, self.hints_used, self.mock))

    def hint(self) -> str | None:
        """The next hint, or None when all were shown."""
        hints = self.question.hints
        if self.hints_used >= len(hints):
            return None
        self.hints_used += 1
        return hints[self.hints_used - 1].in_(self.language)

    def stop_clock(self) -> None:
        """The answer is finished: ticking is not timed."""
        if not self._stopped:
            self._before, self._stopped = self.seconds, True

    # --- judging

    def beside_points(self) -> list[tuple[Point, Closest]]:
        """Each rubric point with the closest sentence of the answer."""
        points = self.question.rubric
        texts = [point.text.in_(self.language) for point in points]
        return list(zip(points, closest(self.answer, texts), strict=True))

    def verdict(self, ticked: Collection[str], mistakes: Collection[str]) -> Verdict:
        """The rating that the rubric gives. Raises ValueError for a point or mistake that the question has not."""
        _refuse_unknown(ticked, [point.id for point in self.question.rubric], "point")
        _refuse_unknown(mistakes, [mistake.id for mistake in self.question.mistakes], "mistake")
        made = [mistake for mistake in self.question.mistakes if mistake.id in mistakes]
        taken = {mistake.contradicts for mistake in made}
        expected = [point for point in self.question.rubric if _rank(point.level) <= _rank(self.level)]
        missed = [point for point in expected if point.id not in ticked or point.id in taken]
        total = sum(point.weight for point in expected)
        score = 1 - sum(point.weight for point in missed) / total
        rating, reason = self._rating(score, missed, made)
        return Verdict(score, rating, reason, tuple(point.id for point in missed))

    def _rating(self, score: float, missed: Sequence[Point], made: Sequence[Mistake]) -> tuple[int, str]:
        share = f"{score:.0%} of the weight"
        musts = [str(self.question.rubric.index(point) + 1) for point in missed if point.must]
        if musts:
            return 1, f"{share}; a must was missed: {', '.join(musts)}"
        if score < AGAIN:
            return 1, f"{share}, less than {AGAIN:.0%}"
        if score < HARD:
            return 2, f"{share}, less than {HARD:.0%}"
        if made:
            return 2, f"{share}, and a mistake was made"
        if self.hints_used:
            return 2, f"{share}, with a hint"
        if score < GOOD:
            return 3, f"{share}, less than {GOOD:.0%}"
        if self.seconds > self.question.minutes * 60:
            return 3, f"{share}, but it took longer than {self.question.minutes:g} minutes"
        return 4, f"{share}, within the time"

    # --- recording

    def record(
        self, ticked: Iterable[str], mistakes: Iterable[str], *, rating: int = 0, now: datetime | None = None
    ) -> state.Event:
        """Write the review to the log; `rating` overrides what the rubric gives. The draft is dropped afterwards.

        Raises ValueError for an unknown tick or rating, StateError when it cannot be written: nothing is lost then,
        and it may be called again.
        """
        ticked, mistakes = tuple(ticked), tuple(mistakes)
        if rating not in (0, *RATING_NAMES):
            raise ValueError(f"rating must be 1 to 4 (again, hard, good, easy), got {rating!r}")
        self.stop_clock()
        verdict = self.verdict(ticked, mistakes)
        event = state.append(
            "review",
            now=now,
            question=self.question.id,
            rev=self.question.rev,
            rating=rating or verdict.rating,
            suggested=verdict.rating,
            score=round(verdict.score, 4),
            ticked=list(ticked),
            mistakes=list(mistakes),
            missed=list(verdict.missed),
            language=self.language,
            level=self.level,
            answer=self.answer,
            hints=self.hints_used,
            seconds=round(self.seconds, 1),
            planned=self.question.minutes * 60,
            mock=self.mock,
            slot=self.slot,
        )
        state.drop_draft(self.question.id, self.mock)
        return event


def undo(review: str) -> None:
    """Take a recorded review back: what followed from it for the schedule is gone, the line stays in the log.

    Raises ValueError when no review of that id counts (unknown, or undone before).
    """
    if review not in {one.id for one in state.read().reviews}:
        raise ValueError(f"no review {review!r} that could be undone")
    state.append("undo", of=review)


def follow_up(
    question: Question, missed: Collection[str], score: float, *, asked: Collection[str] = ()
) -> FollowUp | None:
    """What an interviewer asks next: about the heaviest point that was missed, else what follows a strong answer.

    Args:
        missed: ids of the expected points that were missed.
        score: share of the expected weight; what builds on a strong answer needs 75 % and every must.
        asked: ids of questions that were asked already; none of them comes again.
    """
    open_ones = [follow for follow in question.follow_ups if follow.id not in asked]
    about = [follow for follow in open_ones if follow.when == "missing" and follow.point in missed]
    if about:
        return max(about, key=lambda follow: _importance(question, follow.point or ""))
    if score < HARD or any(question.point(name).must for name in missed):
        return None
    return next((follow for follow in open_ones if follow.when == "strong"), None)


def clock(seconds_left: float) -> str:
    """Minutes and seconds, without a sign."""
    minutes, seconds = divmod(round(abs(seconds_left)), 60)
    return f"{minutes}:{seconds:02}"


def _importance(question: Question, point: str) -> tuple[bool, int]:
    found = question.point(point)
    return found.must, found.weight


def _rank(level: Level | str) -> int:
    return ("junior", "senior", "staff").index(level)


def _refuse_unknown(given: Collection[str], known: Sequence[str], what: str) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"unknown {what} {name!r}: this question has {', '.join(known)}")
