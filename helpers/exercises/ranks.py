"""Answers that run in several processes at once: what a check sends to the ranks, and what comes back from them.

The answers travel by value (the ranks could not import a notebook's cells), exactly as they were written:
the functions that a check forbids are forbidden again in each rank.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import cloudpickle

from helpers.exercises import trial as trials
from helpers.exercises.describing import shorten
from helpers.exercises.trial import CheckFailed, NotAttempted, Trial

# what gloo says in a rank whose partner has finished, or died, while it still waits for a message
LEFT_ALONE = re.compile(r"closed by peer|Connection (reset|refused|closed)|Broken pipe|Socket closed", re.IGNORECASE)
WAITING = (
    "the ranks do not make the same calls: one waits for a message that no other sends, or all wait for one another"
)

Place = tuple[str, int]  # file (or the name of a notebook's cell) and line number


@dataclass(frozen=True)
class Task:
    """What each rank does: run `body(*answers, **kwargs)`, with these functions (names, why) forbidden."""

    exercise: str
    forbidden: Sequence[tuple[tuple[str, ...], str]]
    body: Callable[..., Any]
    answers: tuple[Any, ...]
    kwargs: dict[str, Any]


def run(
    trial: Trial, task: Task, world_size: int, timeout: float, otherwise: str | None, initialise: bool = True
) -> list[Any]:
    """The task's results by rank. Raises NotAttempted or CheckFailed, see `Trial.on_ranks`."""
    from helpers import ddp  # not above: it imports torch

    try:
        with _by_value(task.answers):
            payload = cloudpickle.dumps(task)
    except Exception as error:  # pickling fails in as many ways as there are objects
        trial.fail(
            "the answer can be sent to other processes",
            expected="a function whose parts can be pickled",
            got=f"{type(error).__name__}: {shorten(str(error), 200)}",
            otherwise="it uses an object of the notebook that belongs to this process (a lock, an open file, a "
            "generator): create it inside the function",
        )
    try:
        results: list[Any] = ddp.launch(on_rank, world_size, payload, timeout=timeout, threads=1, initialise=initialise)
    except ddp.WorkerError as error:
        _blame(trial, task.answers, error, timeout, otherwise)
    return results


def on_rank(payload: bytes) -> Any:
    """Runs in each rank: the task's result. Learner's line and input go with an exception, as attributes."""
    task: Task = cloudpickle.loads(payload)
    trial = Trial(task.exercise, answers=task.answers)
    with ExitStack() as stack:
        for names, why in task.forbidden:
            stack.enter_context(trial.forbid(*names, why=why))
        try:
            return task.body(*task.answers, **task.kwargs)
        except Exception as error:
            for answer in task.answers:
                trials.not_a_stub(answer, error)
            error.__dict__.update(learners_place=_place(task.answers, error), learners_case=_case)
            raise


def working_on(case: str) -> None:
    """Called by a body before it calls an answer: the input that an exception's message shall name."""
    global _case
    _case = case


_case = ""  # in a rank's own process, which runs one task


def _place(answers: tuple[Any, ...], error: Exception) -> Place | None:
    found = [place for answer in answers if (place := trials.place_of(answer, error)) is not None]
    return found[-1] if found else None


@contextmanager
def _by_value(answers: tuple[Any, ...]) -> Iterator[None]:
    """Inside, cloudpickle writes the answers' modules out instead of naming them, except for the course's own."""
    registered = []
    for module in {id(m): m for answer in answers if (m := _module(answer)) is not None}.values():
        if module.__name__ not in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.register_pickle_by_value(module)
            registered.append(module)
    try:
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _module(answer: Any) -> types.ModuleType | None:
    """The module of an answer that other processes may not be able to import."""
    name = getattr(answer, "__module__", None) or "__main__"
    if name.partition(".")[0] in ("__main__", "helpers", "torch"):
        return None
    return sys.modules.get(name)


def _blame(trial: Trial, answers: tuple[Any, ...], error: Any, timeout: float, otherwise: str | None) -> NoReturn:
    """Say what went wrong in the ranks, in the learner's terms."""
    cause = error.exception
    if isinstance(cause, CheckFailed | NotAttempted):
        raise cause from None
    name = trials.name_of(answers[0])
    if case := getattr(cause, "learners_case", ""):
        trial.input = f"{trial.input}, {case}"
    if error.kind == "timeout":
        where = trials.at_line(_stack_place(answers, error.traceback))
        what = f"{name} finishes on every rank"
        got = f"rank {error.rank} still waits after {timeout:g} seconds{where}"
        raise trial.failure(what, expected="no rank waits for ever", got=got, otherwise=otherwise or WAITING) from error
    text = _text(error)
    where = trials.at_line(getattr(cause, "learners_place", None) or _stack_place(answers, error.traceback))
    mistake = (otherwise or WAITING) if LEFT_ALONE.search(error.traceback) else None
    if error.kind != "raised":
        text = f"its process ended: {shorten(str(error), 160)}"
        mistake = "tensors of different sizes or dtypes met in one call, which ends a process without an exception"
    got = f"rank {error.rank}: {text}{where}"
    raise trial.failure(f"{name} runs on every rank", expected="no exception", got=got, otherwise=mistake) from error


def _text(error: Any) -> str:
    """The learner's exception in one line: of the object, or of the traceback's end when it could not be sent."""
    if error.exception is not None:
        return trials.exception_text(error.exception)
    lines = [line for line in (error.traceback or str(error)).splitlines() if line.strip()]
    return shorten(lines[-1], 200)


def _stack_place(answers: tuple[Any, ...], stack: str) -> Place | None:
    """The innermost line of the answers' files in a printed traceback (the most recent call is its last)."""
    files = {code.co_filename for answer in answers if (code := trials.code_of(answer)) is not None}
    found = [(file, int(line)) for file, line in re.findall(r'File "(.+?)", line (\d+)', stack) if file in files]
    return found[-1] if found else None
