"""The two real tasks on which notebook 04 and its benchmark judge int8: labelled digits and crops of photographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import datasets, models
from helpers.randomness import random_states_kept

__all__ = ["Digits", "accuracy", "crops", "digits", "train_resnet"]


@dataclass(frozen=True)
class Digits:
    """Real digits as colour pictures (n, 3, 32, 32), mean 0, with labels; the test part is used by nothing else."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def digits(seed: int = 0, *, test: int = 697) -> Digits:
    """1,797 digits in a random order, the last `test` of them for testing."""
    images, labels = datasets.digit_images()
    order = np.random.default_rng(seed).permutation(len(images))
    x, y = torch.from_numpy(2 * images[order] - 1), torch.from_numpy(labels[order])
    return Digits(x[:-test], y[:-test], x[-test:], y[-test:])


def train_resnet(data: Digits, *, epochs: int = 4, seed: int = 0) -> nn.Module:
    """ResNet-18 trained on the digits, in evaluation mode. The random state is put back."""
    with random_states_kept():
        torch.manual_seed(seed)
        model = models.resnet18()
        train(model, data, epochs=epochs)
    return model.eval()


def train(model: nn.Module, data: Digits, *, epochs: int, lr: float = 2e-3, batch_size: int = 50) -> None:
    """AdamW with a cosine of the learning rate, in place; the model is called as it is (its mode is the caller's)."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * (len(data.x) // batch_size))
    for _ in range(epochs):
        order = torch.randperm(len(data.x))
        for rows in order[: len(order) // batch_size * batch_size].split(batch_size):
            optimiser.zero_grad()
            F.cross_entropy(model(data.x[rows]), data.y[rows]).backward()
            optimiser.step()
            schedule.step()


def accuracy(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, *, batch_size: int = 41) -> float:
    """Share of right answers. 41 divides the 697 test digits, so that every batch has the same shape."""
    with torch.no_grad():
        right = [
            model(part).argmax(1) == labels
            for part, labels in zip(x.split(batch_size), y.split(batch_size), strict=True)
        ]
    return float(torch.cat(right).float().mean())


def crops(seed: int, *, each: int) -> Tensor:
    """`each` random crops (60 to 100 % of the sides, half of them mirrored) of each of the 14 photographs, prepared."""
    rng = np.random.default_rng(seed)
    found = []
    for image in datasets.photographs().values():
        for _ in range(each):
            share = rng.uniform(0.6, 1)
            height, width = (int(side * share) for side in image.shape[:2])
            top, left = (
                int(rng.integers(0, side - part + 1))
                for side, part in zip(image.shape[:2], (height, width), strict=True)
            )
            part = image[top : top + height, left : left + width]
            found.append(models.efficientnet_preprocess(part[:, ::-1].copy() if rng.random() < 0.5 else part))
    return torch.stack(found)
