"""The exercises: `check` an answer, open a `hint`, see the `solution`, draw your `progress`, `predict` a result."""

from helpers.exercises.checking import check
from helpers.exercises.trial import CheckFailed

__all__ = ["CheckFailed", "check"]
