"""Averages of the weights along the way, and noise in the gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from helpers.regularisation.training import Callback, Run

__all__ = ["EMA", "SWA", "GradientNoise", "WeightAverage", "moving_average", "running_mean"]


def moving_average(average: Tensor, weight: Tensor, decay: float) -> Tensor:
    """The next exponential moving average: `decay` × average + (1 - decay) × weight."""
    return decay * average + (1 - decay) * weight


def running_mean(average: Tensor, weight: Tensor, count: int) -> Tensor:
    """The mean of `count` + 1 weights from the mean of the first `count` and the last one."""
    return average + (weight - average) / (count + 1)


class WeightAverage(Callback):
    """What EMA and SWA share: they are evaluated with the average, and leave it in the model when training ends.

    With `EarlyStopping`, name it after them: the callback that comes last decides about the weights at the end.

    Floating-point buffers (the statistics of BatchNorm) are averaged with the parameters; that is an approximation:
    the average network's own statistics would have to be measured again (torch.optim.swa_utils.update_bn).
    """

    def __init__(self) -> None:
        self.count = 0
        self.average: dict[str, Tensor] = {}
        self._own: dict[str, Tensor] = {}

    def next(self, average: Tensor, weight: Tensor) -> Tensor:
        raise NotImplementedError

    def update(self, model: nn.Module) -> None:
        """Take in the model's weights as they are now."""
        for name, value in model.state_dict().items():
            weight = value.detach()
            first = self.count == 0 or not weight.is_floating_point()
            self.average[name] = weight.clone() if first else self.next(self.average[name], weight)
        self.count += 1

    def before_evaluation(self, run: Run) -> None:
        if self.count:
            self._own = {name: value.detach().clone() for name, value in run.model.state_dict().items()}
            run.model.load_state_dict(self.average)

    def leave_evaluation(self, run: Run) -> None:
        if self._own:
            run.model.load_state_dict(self._own)
            self._own = {}

    def end(self, run: Run) -> None:
        if self.count:
            run.model.load_state_dict(self.average)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self.average = state["count"], state["average"]


@dataclass
class EMA(WeightAverage):
    """Exponential moving average of the weights: remembers about 1 / (1 - decay) steps.

    Raises ValueError when `decay` is not in [0, 1). Source: Polyak and Juditsky (1992); Tarvainen and Valpola (2017).
    """

    decay: float = 0.99

    def __post_init__(self) -> None:
        super().__init__()
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {self.decay}")

    def next(self, average: Tensor, weight: Tensor) -> Tensor:
        return moving_average(average, weight, self.decay)

    def after_step(self, run: Run) -> None:
        self.update(run.model)


@dataclass
class SWA(WeightAverage):
    """Stochastic weight averaging: the mean of the weights after each epoch from `start_share` of the run on.

    Raises ValueError when `start_share` is not in [0, 1). Source: Izmailov et al. (2018).
    """

    start_share: float = 0.5

    def __post_init__(self) -> None:
        super().__init__()
        if not 0 <= self.start_share < 1:
            raise ValueError(f"start_share must be at least 0 and below 1, got {self.start_share}")

    def next(self, average: Tensor, weight: Tensor) -> Tensor:
        return running_mean(average, weight, self.count)

    def after_step(self, run: Run) -> None:
        per_epoch = run.steps // run.config.epochs
        if run.step % per_epoch == 0 and run.step > self.start_share * run.steps:
            self.update(run.model)


@dataclass
class GradientNoise(Callback):
    """Adds Gaussian noise to every gradient; its variance falls with the steps as eta / (1 + step)^gamma.

    Source: Neelakantan et al., Adding Gradient Noise Improves Learning for Very Deep Networks (2015).
    """

    eta: float = 0.01
    gamma: float = 0.55

    def after_backward(self, run: Run) -> None:
        deviation = (self.eta / (1 + run.step) ** self.gamma) ** 0.5
        for parameter in run.model.parameters():
            if parameter.grad is not None:
                parameter.grad += deviation * torch.randn(parameter.shape, generator=run.generator)
