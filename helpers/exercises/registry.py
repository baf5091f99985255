"""What an exercise is, and where the exercises of each notebook are found."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

# The leading number of an id names its notebook; its checks are imported when first asked for.
MODULES = {
    1: "training_data",
    2: "training_efficiency",
    3: "overfitting",
    4: "inference_speed",
    5: "interpretability",
}

_registered: dict[str, Exercise] = {}

CheckFunction = TypeVar("CheckFunction", bound=Callable[..., None])


@dataclass(frozen=True)
class Exercise:
    """One exercise: its check and what a learner is told about it.

    `parts` names the answers in the order in which `check` takes them, `minutes` is the time an interviewer
    would give, `difficulty` runs from 1 to 5, `hints` go from a nudge to nearly the code.
    """

    id: str
    title: str
    parts: tuple[str, ...]
    difficulty: int
    minutes: int
    asked_as: str
    hints: tuple[str, ...]
    check: Callable[..., None]

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not re.fullmatch(r"[1-9]\d*\.[1-9]\d*", self.id):
            raise ValueError(f"id must look like '2.3' (notebook.exercise), got {self.id!r}")
        for name in ("parts", "hints"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not value or not all(isinstance(v, str) and v for v in value):
                raise TypeError(f"{name} of exercise {self.id} must be a tuple of texts, got {value!r}")
        if isinstance(self.difficulty, bool) or self.difficulty not in range(1, 6):
            raise ValueError(f"difficulty of exercise {self.id} must be 1 to 5, got {self.difficulty!r}")
        if isinstance(self.minutes, bool) or not isinstance(self.minutes, int) or self.minutes < 1:
            raise ValueError(f"minutes of exercise {self.id} must be a whole number from 1, got {self.minutes!r}")
        for name in ("title", "asked_as"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise ValueError(f"{name} of exercise {self.id} must be a text, got {getattr(self, name)!r}")

    @property
    def call(self) -> str:
        """The line that checks it, as the notebook has it."""
        return f'check("{self.id}", {", ".join(self.parts)})'


def exercise(
    id: str,
    *,
    title: str,
    parts: tuple[str, ...],
    difficulty: int,
    minutes: int,
    asked_as: str,
    hints: tuple[str, ...],
) -> Callable[[CheckFunction], CheckFunction]:
    """Register the decorated function `(trial, *answers) -> None` as the check of an exercise.

    Raises ValueError or TypeError when a field is missing or odd, or when another check has the id already.
    """

    def register(check: CheckFunction) -> CheckFunction:
        new = Exercise(id, title, parts, difficulty, minutes, asked_as, hints, check)
        old = _registered.get(id)
        if old is not None and _name(old.check) != _name(check):  # the same name again is a reload
            raise ValueError(f"exercise {id} is registered twice: {_name(old.check)} and {_name(check)}")
        _registered[id] = new
        return check

    return register


def find(id: str) -> Exercise:
    """The exercise with this id. TypeError unless a text, ValueError (with the known ids) when there is none."""
    if not isinstance(id, str):
        raise TypeError(f'id must be a text such as "1.1" (1.10 and 1.1 are the same number), got {id!r}')
    head = id.split(".")[0]
    if head.isdecimal() and int(head) in MODULES:
        _load(int(head))
    if id not in _registered:
        known = ", ".join(e.id for e in exercises())
        raise ValueError(f"id {id!r} is not an exercise; there are: {known or 'none'}")
    return _registered[id]


def exercises(notebook: int | None = None) -> tuple[Exercise, ...]:
    """All exercises, or those of one notebook (1 …), in the order of their ids."""
    if notebook is not None and notebook not in MODULES:
        raise ValueError(f"notebook must be one of {', '.join(map(str, MODULES))}, got {notebook!r}")
    for number in MODULES if notebook is None else (notebook,):
        _load(number)
    found = sorted(_registered.values(), key=lambda e: _numbers(e.id))
    return tuple(e for e in found if notebook is None or _numbers(e.id)[0] == notebook)


def _load(notebook: int) -> None:
    importlib.import_module(f"helpers.exercises.{MODULES[notebook]}")


def _numbers(id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in id.split("."))


def _name(function: Any) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', '?')}"
