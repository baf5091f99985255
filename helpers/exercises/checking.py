"""`check`: runs an exercise's check on the learner's answers, records the attempt and shows the outcome."""

from __future__ import annotations

import secrets
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from helpers.exercises import cards, log
from helpers.exercises.cards import Card, Displayed
from helpers.exercises.describing import describe, shorten
from helpers.exercises.registry import Exercise, find
from helpers.exercises.trial import CheckFailed, NotAttempted, Trial, is_stub
from helpers.randomness import random_states_kept

PASSED, NOT_ATTEMPTED = "passed", "not attempted yet"


class Result(Displayed):
    """The outcome of a check that did not fail: `state` is "passed" or "not attempted yet"."""

    def __init__(self, exercise: str, state: str, card: Card) -> None:
        self.exercise, self.state = exercise, state
        super().__init__(card)

    @property
    def passed(self) -> bool:
        return self.state == PASSED


def check(exercise: str, *answers: Any, seed: int | None = None) -> Result:
    """Check answers to an exercise, given in the order of its parts; shows a card.

    Every check draws new random cases; a failure names its `seed`, and the same seed repeats it.
    Raises CheckFailed when an answer is not right yet, ValueError for an unknown id,
    TypeError for the wrong number of answers. An answer not written yet is no error.
    """
    found = find(exercise)
    _fitting(found, answers)
    number = _seed(seed)
    try:
        judge(found, answers, number)
    except NotAttempted as missing:
        return Result(exercise, NOT_ATTEMPTED, _open_card(found, str(missing)))
    except CheckFailed as failure:
        failure.notes = recorded(exercise, "attempt", f"{failure.property} (seed {number})")
        failure.repeat = found.call[:-1] + f", seed={number})"
        if cards.in_ipython():
            cards.show(failure.card)
            failure.displayed = True
        raise failure from failure.__cause__  # no "during handling of": the cause is the learner's own, or none
    notes = recorded(exercise, "pass", f"seed {number}")
    _passed_here.add(exercise)
    return Result(exercise, PASSED, _passed_card(found, notes))


def judge(exercise: Exercise, answers: Sequence[Any], seed: int) -> None:
    """Run a check on answers and nothing else: no card, no record, the random state as before.

    Raises NotAttempted or CheckFailed; returns when the answers pass.
    """
    trial = Trial(exercise.id, seed, answers)
    missing = [name for name, answer in zip(exercise.parts, answers, strict=True) if is_stub(answer)]
    if len(missing) == len(answers) or any(answer is ... for answer in answers):
        raise NotAttempted(missing[0])
    with undisturbed():
        try:
            exercise.check(trial, *answers)
        except (CheckFailed, NotAttempted):
            raise
        except Exception as error:  # an answer so odd that the check's own arithmetic failed on it
            raise trial.failure(
                "the answer has the form that was asked for",
                got=describe(trial.last),
                otherwise=f"the check met {type(error).__name__} ({shorten(str(error))}): see the docstring",
            ) from error


def passed_here(exercise: str) -> bool:
    """True when this process has seen the exercise pass, whatever the log says."""
    return exercise in _passed_here


_passed_here: set[str] = set()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave the global random states, numpy's error handling, the warning filters and torch's modes as they were."""
    with random_states_kept(), np.errstate(), warnings.catch_warnings(), _torch_modes_kept():
        yield


@contextmanager
def _torch_modes_kept() -> Iterator[None]:
    """An answer that leaves gradients off, or another default type, would make the next right answer fail."""
    torch = sys.modules.get("torch")  # importing it takes seconds
    if torch is None:
        yield
        return
    gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)


def _fitting(exercise: Exercise, answers: Sequence[Any]) -> None:
    if len(answers) != len(exercise.parts):
        raise TypeError(f"exercise {exercise.id} takes {len(exercise.parts)}, got {len(answers)}: {exercise.call}")


def _seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbelow(2**31)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be a whole number from 0, got {seed!r}")
    return int(seed)


def recorded(exercise: str, event: str, detail: str) -> tuple[str, ...]:
    """Record an event; a log that cannot be written costs one quiet line on the card, not the check."""
    try:
        log.record(exercise, event, detail)
    except log.LogError as error:
        return (f"(not recorded: {error})",)
    return ()


def _open_card(exercise: Exercise, missing: str) -> Card:
    headline = f"{exercise.id} {NOT_ATTEMPTED}: {exercise.title}"
    still = f"still to write: `{missing}`; " if len(exercise.parts) > 1 and missing else ""
    return Card("open", headline, notes=(f'{still}stuck? `hint("{exercise.id}")`',))


def _passed_card(exercise: Exercise, notes: tuple[str, ...]) -> Card:
    headline = f"{exercise.id} {PASSED}: {exercise.title}"
    return Card("passed", headline, notes=(f'compare: `solution("{exercise.id}")`', *notes))
