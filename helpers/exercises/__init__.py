"""The exercises: `check` an answer, open a `hint`, see the `solution`, draw your `progress`, `predict` a result."""

from helpers.exercises.checking import check
from helpers.exercises.hinting import hint
from helpers.exercises.overview import progress
from helpers.exercises.prediction import predict
from helpers.exercises.reference import solution
from helpers.exercises.trial import CheckFailed

__all__ = ["CheckFailed", "check", "hint", "predict", "progress", "solution"]
