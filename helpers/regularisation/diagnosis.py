"""What a run's curves say about it: diverged, leaking, overfitting, too short, underfitting, or fine.

What it does not catch: a leak that makes training and validation equally easy, when no test score is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import fisher_exact

from helpers.regularisation.training import History, Score

__all__ = ["Diagnosis", "diagnose"]

Name = Literal["diverged", "leak", "overfit", "too short", "underfit", "fine"]

RISE = 1.05
"""Overfitting: the validation loss is more than this times its minimum while the training loss went on falling."""
GAP = 0.10
"""Overfitting as well: training accuracy is this much above validation accuracy, and chance does not explain it."""
FALLING = 0.05
"""Too short: both losses fell by this share within the last quarter of the run."""
HOPELESS = 20.0
"""Diverged as well: a loss in nats that guessing among 485 million classes would have."""
REACHABLE = 0.95
"""Underfitting: the training accuracy has settled below this share of what is reachable."""

TO_TRY = {
    "diverged": ("lower the learning rate or warm it up", "clip the gradients", "look for NaN in the inputs"),
    "leak": (
        "look for validation samples, or copies and relatives of them, in the training data",
        "fit preprocessing on the training part only",
        "split by group and time (notebook 01)",
    ),
    "overfit": (
        "more data, or augmentation that keeps the answer",
        "stop early and keep the best weights",
        "weight decay, dropout, a smaller model",
    ),
    "too short": ("train longer", "raise the learning rate"),
    "underfit": ("a larger model or better inputs", "less regularisation", "another learning rate; look for a bug"),
    "fine": ("compare with other seeds before you believe a difference",),
}


@dataclass(frozen=True)
class Diagnosis:
    """A name, the numbers that it rests on, and what to try, the most promising first."""

    name: Name
    evidence: tuple[str, ...]
    to_try: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {'; '.join(self.evidence)}. Try: {'; '.join(self.to_try)}."


def diagnose(history: History, *, test: Score | None = None, reachable: float = 1.0) -> Diagnosis:
    """Name what is wrong with a run. The first that holds is given, in the order of this module's first line.

    Args:
        history: of `train`, with a validation set; at least 4 evaluations.
        test: score on data that nobody has looked at before: tells a leak that the curves cannot show.
        reachable: best accuracy that anyone expects on this task (label noise lowers it).

    Raises ValueError when there are too few evaluations, no validation set, or `reachable` is not in (0, 1].
    """
    if not 0 < reachable <= 1:
        raise ValueError(f"reachable must be above 0 and at most 1, got {reachable}")
    diverged = _diverged(history)
    if diverged:
        return _named("diverged", diverged)
    if not history.valid_loss:
        raise ValueError("the run has no validation scores: overfitting cannot be told from learning")
    if len(history.epochs) < 4:
        raise ValueError(f"at least 4 evaluations are needed to see a trend, got {len(history.epochs)}")
    for name, evidence in (
        ("leak", _leak(history, test)),
        ("overfit", _overfit(history)),
        ("too short", _too_short(history)),
        ("underfit", _underfit(history, reachable)),
    ):
        if evidence:
            return _named(name, evidence)
    gap = history.train_accuracy[-1] - history.valid_accuracy[-1]
    return _named("fine", [f"accuracy {history.valid_accuracy[-1]:.3f} on validation, {gap:.3f} below training"])


def _named(name: str, evidence: list[str]) -> Diagnosis:
    return Diagnosis(name, tuple(evidence), TO_TRY[name])  # type: ignore[arg-type]


def _diverged(history: History) -> list[str]:
    if history.diverged:
        return [f"a loss was NaN or infinite after epoch {history.epochs[-1]}"]
    first, last = history.train_loss[0], history.train_loss[-1]
    if len(history.train_loss) >= 4 and last > 1.5 * min(history.train_loss) and last > first:
        return [f"the training loss rose from {min(history.train_loss):.3g} to {last:.3g}"]
    if last > HOPELESS:
        return [f"the training loss is {last:.3g} nats: far worse than guessing"]
    return []


def _leak(history: History, test: Score | None) -> list[str]:
    if test is not None:
        expected, count = history.valid_accuracy[-1], test.count
        right = (round(expected * history.valid_count), round(test.accuracy * count))
        table = [[right[0], history.valid_count - right[0]], [right[1], count - right[1]]]
        if fisher_exact(table, alternative="greater").pvalue < 1e-3 and test.accuracy < expected - 0.02:
            return [f"accuracy {expected:.3f} on validation and {test.accuracy:.3f} on the test set of {count:,}"]
    later = slice(len(history.epochs) // 4, None)
    easier = np.array(history.valid_loss[later]) < 0.9 * np.array(history.train_loss[later])
    better = np.array(history.valid_accuracy[later]) > np.array(history.train_accuracy[later])
    if (easier & better).mean() > 0.9:
        return [
            f"validation is easier than training: loss {history.valid_loss[-1]:.3f} against "
            f"{history.train_loss[-1]:.3f}, both in evaluation mode"
        ]
    return []


def _overfit(history: History) -> list[str]:
    evidence = []
    best = int(np.argmin(history.valid_loss))
    low, last = history.valid_loss[best], history.valid_loss[-1]
    if last > RISE * low and history.train_loss[-1] < history.train_loss[best]:
        evidence.append(
            f"validation loss {low:.3f} after epoch {history.epochs[best]}, {last:.3f} at the end, "
            f"while the training loss fell from {history.train_loss[best]:.3f} to {history.train_loss[-1]:.3f}"
        )
    train, valid = history.train_accuracy[-1], history.valid_accuracy[-1]
    # of the difference of two shares, each of about as many samples
    error = math.sqrt((train * (1 - train) + valid * (1 - valid)) / max(history.valid_count, 1))
    if train - valid > max(GAP, 3 * error):
        evidence.append(f"accuracy {train:.3f} on training data and {valid:.3f} on validation")
    return evidence


def _too_short(history: History) -> list[str]:
    falls = [_fall(losses) for losses in (history.train_loss, history.valid_loss)]
    if min(falls) > FALLING:
        return [
            f"in the last quarter the losses still fell by {falls[0]:.0%} (training) and {falls[1]:.0%} (validation)"
        ]
    return []


def _fall(losses: Sequence[float]) -> float:
    """Share of the loss that went within the last quarter; medians of three, against noise."""
    quarter = max(1, len(losses) // 4)
    before = float(np.median(losses[-quarter - 3 : -quarter]))
    return 1 - float(np.median(losses[-3:])) / before


def _underfit(history: History, reachable: float) -> list[str]:
    train, valid = history.train_accuracy[-1], history.valid_accuracy[-1]
    if train < REACHABLE * reachable:
        return [f"accuracy {train:.3f} on the training data itself, {valid:.3f} on validation, and no longer rising"]
    return []
