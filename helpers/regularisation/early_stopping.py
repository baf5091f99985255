"""Early stopping: end training when the validation score no longer improves, and go back to the best weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from helpers.regularisation.training import Callback, Run

__all__ = ["EarlyStopping"]


@dataclass
class EarlyStopping(Callback):
    """Stop after `patience` evaluations in a row without a better score, and restore the weights of the best one.

    Better means by more than `min_delta`. A score that is NaN is never better. The best weights
    are restored however training ends.

    Args:
        patience: evaluations without improvement that are borne, at least 1; the one after which there have been
            `patience` of them in a row is the last.
        mode: min for losses, max for accuracies.
        metric: the list of `History` that is watched.
        restore: take back the best weights at the end.

    Raises ValueError for a patience below 1, a `min_delta` below 0, an unknown mode, and for data without a
    validation set.

    Source: Prechelt, Early Stopping - But When? (1998), the criterion UP in its simplest form.
    """

    patience: int = 10
    min_delta: float = 0.0
    mode: Literal["min", "max"] = "min"
    metric: str = "valid_loss"
    restore: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.patience, bool) or not isinstance(self.patience, int) or self.patience < 1:
            raise ValueError(f"patience must be a whole number, at least 1, got {self.patience!r}")
        if not self.min_delta >= 0:
            raise ValueError(f"min_delta must be at least 0, got {self.min_delta}")
        if self.mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {self.mode!r}")
        self.best = math.inf if self.mode == "min" else -math.inf
        self.best_epoch = 0
        self.waited = 0
        self._weights: dict[str, Tensor] = {}

    def update(self, score: float, model: nn.Module, epoch: int = 0) -> bool:
        """Take in one evaluation; returns whether to stop now."""
        if self._better(score):
            self.best, self.best_epoch, self.waited = score, epoch, 0
            # a state_dict holds the live tensors: without the copy they would go on changing
            self._weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        else:
            self.waited += 1
        return self.waited >= self.patience

    def restore_best(self, model: nn.Module) -> None:
        """Load the best weights, when there has been a score that was a number."""
        if self._weights:
            model.load_state_dict(self._weights)

    def _better(self, score: float) -> bool:
        gain = self.best - score if self.mode == "min" else score - self.best
        return gain > self.min_delta

    def after_evaluation(self, run: Run) -> None:
        scores = getattr(run.history, self.metric)
        if not scores:
            raise ValueError(f"{self.metric} is empty: early stopping needs a validation set")
        if self.update(scores[-1], run.model, run.epoch):
            run.history.stopped = (
                f"{self.metric} has not improved in {self.patience} evaluations: best {self.best:.4g} "
                f"after epoch {self.best_epoch}"
            )

    def end(self, run: Run) -> None:
        if self.restore:
            self.restore_best(run.model)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]
        self._weights = state["weights"]
