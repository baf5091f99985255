"""A training loop for experiments on overfitting: data that fits into memory, and callbacks for what a method changes.

What it is not: fast on large data or on several processes. For that see `helpers.ddp`.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.files import replacing

__all__ = ["Callback", "Data", "History", "Run", "Score", "TrainConfig", "cross_entropy", "evaluate", "train"]

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Data:
    """Training and validation data as tensors; a test set has no place here.

    `x` (n, ...) with classes `y` (n,) int64, or tokens (n, t) with the tokens that follow, (n, t).

    Raises ValueError when inputs and targets differ in number, a part is empty, the targets are no whole numbers, or
    all of `y` is one class.
    """

    x: Tensor
    y: Tensor
    x_valid: Tensor | None = None
    y_valid: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.x_valid is None) != (self.y_valid is None):
            raise ValueError("x_valid and y_valid belong together: give both or neither")
        for name, x, y in (("training", self.x, self.y), ("validation", self.x_valid, self.y_valid)):
            if x is None or y is None:
                continue
            if len(x) != len(y):
                raise ValueError(f"the {name} set has {len(x)} inputs and {len(y)} targets: one target each is needed")
            if len(x) == 0:
                raise ValueError(f"the {name} set is empty" + ("" if name == "training" else ": leave it out (None)"))
            if y.dtype != torch.int64:
                raise ValueError(f"the {name} targets must be class numbers (int64), got {y.dtype}")
        if bool((self.y == self.y.flatten()[0]).all()):
            raise ValueError(f"the training targets are all class {int(self.y.flatten()[0])}: nothing to tell apart")


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Raises ValueError for a value that cannot be used."""

    epochs: int = 100
    batch_size: int = 100
    lr: float = 1e-3
    """Learning rate after `warm_up`, for the schedule to lower."""
    schedule: Literal["constant", "cosine"] = "constant"
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    """adam adds `weight_decay` × weight to the gradient (L2); adamw shrinks the weight beside the step (decoupled)."""
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    evaluate_every: int = 1
    """Epochs from one evaluation to the next; the last epoch is always evaluated."""
    seed: int = 0
    """Of the order of the samples and of everything that callbacks draw; the model's weights are the caller's."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, got {self.label_smoothing}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be above 0, or None, got {self.clip_norm}")
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule must be 'constant' or 'cosine', got {self.schedule!r}")
        if self.optimiser not in ("adamw", "adam", "sgd"):
            raise ValueError(f"optimiser must be 'adamw', 'adam' or 'sgd', got {self.optimiser!r}")


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats and share of right answers, over `count` targets (for text: tokens)."""

    loss: float
    accuracy: float
    count: int


@dataclass
class History:
    """What a run measured, one entry per evaluation. Losses are in nats, in evaluation mode, on hard labels.

    `train_*` is over as many training samples as there are validation samples (all of them when there is none).
    `running_loss` is the mean of what the optimiser saw during the epoch: dropout on, mixed or smoothed targets.
    """

    epochs: list[int] = field(default_factory=list)
    running_loss: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    valid_loss: list[float] = field(default_factory=list)
    valid_accuracy: list[float] = field(default_factory=list)
    valid_count: int = 0
    steps: int = 0
    seconds: float = 0.0
    """Spent in training steps, without evaluation."""
    diverged: bool = False
    """A loss was NaN or infinite; training ended there."""
    stopped: str = ""
    """Why training ended before the last epoch; empty when it did not."""


class Callback:
    """What a method adds to the loop. Override the moments that are needed; the others cost nothing.

    `change_batch` may return other inputs and targets (class numbers, or probabilities (b, classes)).
    """

    def start(self, run: Run) -> None: ...

    def change_batch(self, run: Run, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x, y

    def after_backward(self, run: Run) -> None: ...

    def after_step(self, run: Run) -> None: ...

    def before_evaluation(self, run: Run) -> None: ...

    def after_evaluation(self, run: Run) -> None:
        """The history has the new scores, and the model still holds the weights that they are of."""

    def leave_evaluation(self, run: Run) -> None:
        """Take back what `before_evaluation` has done, before training goes on."""

    def end(self, run: Run) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class Run:
    """A run as its callbacks see it. A callback ends it by setting `history.stopped`."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    config: TrainConfig
    history: History
    generator: torch.Generator
    """Source of every random choice of the loop and its callbacks, so that runs repeat."""
    steps: int
    """Of the whole run, when nothing stops it."""
    epoch: int = 0
    step: int = 0


def cross_entropy(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats. Logits (b, classes) or (b, t, classes); class numbers, or probabilities."""
    if targets.is_floating_point():
        return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), label_smoothing=label_smoothing)


@torch.no_grad()
def evaluate(model: nn.Module, x: Tensor, y: Tensor) -> Score:
    """Loss and accuracy in evaluation mode, over all targets; the model's mode is put back.

    Raises ValueError when there is nothing to evaluate on.
    """
    if len(x) == 0:
        raise ValueError("there is nothing to evaluate on: x is empty")
    was_training = model.training
    model.eval()
    try:
        loss, right = 0.0, 0
        for inputs, targets in zip(x.split(EVALUATION_BATCH), y.split(EVALUATION_BATCH), strict=True):
            outputs = model(inputs)
            loss += cross_entropy(outputs, targets).item() * targets.numel()
            right += int((outputs.argmax(-1) == targets).sum())
        return Score(loss / y.numel(), right / y.numel(), y.numel())
    finally:
        model.train(was_training)


def train(
    model: nn.Module,
    data: Data,
    config: TrainConfig = TrainConfig(),
    callbacks: Sequence[Callback] = (),
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    on_epoch: Callable[[Run], None] | None = None,
) -> History:
    """Train `model` in place.

    Args:
        model: inputs (b, ...) -> logits (b, classes), or (b, t, classes) for text.
        callbacks: what a method adds, called in this order.
        checkpoint: file of the state after the last evaluation. When it is there already, training goes on from it and
            ends with the numbers of an undisturbed run (on the same machine, with the same number of threads).
        on_epoch: called after each epoch, for example by a progress bar.

    Raises ValueError when the model has nothing to train or the checkpoint is of other settings.
    """
    run = _new_run(model, data, config, callbacks)
    moments = _moments(callbacks)
    if checkpoint is not None and Path(checkpoint).exists():
        _load(run, callbacks, checkpoint)
    else:
        for callback in moments["start"]:
            callback.start(run)
    while run.epoch < config.epochs and not run.history.stopped and not run.history.diverged:
        run.epoch += 1
        start = time.perf_counter()
        running = _one_epoch(run, data, moments)
        run.history.seconds += time.perf_counter() - start
        if run.epoch % config.evaluate_every == 0 or run.epoch == config.epochs or not math.isfinite(running):
            _measure(run, data, running, moments)
            if checkpoint is not None:
                _save(run, callbacks, checkpoint)
        if on_epoch is not None:
            on_epoch(run)
    for callback in moments["end"]:
        callback.end(run)
    return run.history


def _one_epoch(run: Run, data: Data, moments: dict[str, list[Callback]]) -> float:
    """One pass over the training data in a new order; returns the mean loss that the optimiser saw."""
    model, config, optimiser = run.model, run.config, run.optimiser
    model.train()
    order = torch.randperm(len(data.x), generator=run.generator)
    total = torch.zeros(())
    for rows in order.split(config.batch_size):
        x, y = data.x[rows], data.y[rows]
        for callback in moments["change_batch"]:
            x, y = callback.change_batch(run, x, y)
        loss = cross_entropy(model(x), y, config.label_smoothing)
        optimiser.zero_grad()
        loss.backward()
        for callback in moments["after_backward"]:
            callback.after_backward(run)
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        if config.schedule == "cosine":
            _set_lr(optimiser, config.lr * (1 + math.cos(math.pi * run.step / run.steps)) / 2)
        optimiser.step()
        run.step += 1
        for callback in moments["after_step"]:
            callback.after_step(run)
        total += loss.detach() * len(rows)  # the last batch may be smaller
    return total.item() / len(order)


def _measure(run: Run, data: Data, running: float, moments: dict[str, list[Callback]]) -> None:
    """Evaluate, and write it into the history."""
    for callback in moments["before_evaluation"]:
        callback.before_evaluation(run)
    history = run.history
    count = len(data.x) if data.x_valid is None else min(len(data.x_valid), len(data.x))
    seen = evaluate(run.model, data.x[:count], data.y[:count])
    history.epochs.append(run.epoch)
    history.steps = run.step
    history.running_loss.append(running)
    history.train_loss.append(seen.loss)
    history.train_accuracy.append(seen.accuracy)
    if data.x_valid is not None and data.y_valid is not None:
        held_out = evaluate(run.model, data.x_valid, data.y_valid)
        history.valid_loss.append(held_out.loss)
        history.valid_accuracy.append(held_out.accuracy)
        history.valid_count = held_out.count
    history.diverged = not (math.isfinite(running) and math.isfinite(seen.loss))
    for callback in moments["after_evaluation"]:
        callback.after_evaluation(run)
    for callback in moments["leave_evaluation"]:
        callback.leave_evaluation(run)


def _new_run(model: nn.Module, data: Data, config: TrainConfig, callbacks: Sequence[Callback]) -> Run:
    for number, callback in enumerate(callbacks):
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks[{number}] must be a Callback, got {type(callback).__name__}")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("the model has no trainable parameter: none at all, or requires_grad is False for each")
    return Run(
        model=model,
        optimiser=_optimiser(model, config),
        config=config,
        history=History(),
        generator=torch.Generator().manual_seed(config.seed),
        steps=config.epochs * math.ceil(len(data.x) / config.batch_size),
    )


def _optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    from helpers.regularisation.decay import parameter_groups

    groups = parameter_groups(model, config.weight_decay)
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr)


def _set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr


def _moments(callbacks: Sequence[Callback]) -> dict[str, list[Callback]]:
    """For each moment the callbacks that have something to do then: an empty list costs nothing."""
    names = [name for name, value in vars(Callback).items() if callable(value) and not name.startswith("_")]
    return {
        name: [one for one in callbacks if getattr(type(one), name) is not getattr(Callback, name)] for name in names
    }


# ------------------------------------------------------------------------------------------------- checkpoints


def _save(run: Run, callbacks: Sequence[Callback], path: str | os.PathLike[str]) -> None:
    state = {
        "config": asdict(run.config),
        "callbacks": [type(one).__name__ for one in callbacks],
        "epoch": run.epoch,
        "step": run.step,
        "history": asdict(run.history),
        "model": run.model.state_dict(),
        "optimiser": run.optimiser.state_dict(),
        "generator": run.generator.get_state(),
        "torch": torch.get_rng_state(),  # dropout draws from torch's own generator
        "states": [one.state_dict() for one in callbacks],
    }
    with replacing(path) as part:
        torch.save(state, part)


def _load(run: Run, callbacks: Sequence[Callback], path: str | os.PathLike[str]) -> None:
    state = torch.load(path, weights_only=True)
    names = [type(one).__name__ for one in callbacks]
    if state["callbacks"] != names:
        raise ValueError(f"{path} was written with the callbacks {state['callbacks']}, not {names}")
    for one in fields(TrainConfig):
        before, now = state["config"][one.name], getattr(run.config, one.name)
        if before != now:
            raise ValueError(f"{path} was written with {one.name} {before!r}, not {now!r}")
    run.epoch, run.step = state["epoch"], state["step"]
    for name, value in state["history"].items():
        setattr(run.history, name, value)
    run.model.load_state_dict(state["model"])
    run.optimiser.load_state_dict(state["optimiser"])
    run.generator.set_state(state["generator"])
    torch.set_rng_state(state["torch"])
    for callback, saved in zip(callbacks, state["states"], strict=True):
        callback.load_state_dict(saved)
