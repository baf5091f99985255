"""Curves over the amount of data, the size of the model and the length of training; double descent among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from tqdm.auto import tqdm

__all__ = ["Curve", "RandomFeatures", "capacity_curve", "learning_curve"]

Array = np.ndarray


@dataclass(frozen=True)
class Curve:
    """Scores at each size that was tried: `train` and `held_out` are (sizes, seeds)."""

    sizes: Sequence[float]
    train: Array
    held_out: Array

    def mean(self) -> tuple[Array, Array]:
        """Over the seeds: training and held-out scores, one per size."""
        return self.train.mean(1), self.held_out.mean(1)

    def spread(self) -> tuple[Array, Array]:
        """Standard deviation over the seeds, likewise; 0 with one seed."""
        one = self.train.shape[1] == 1
        return self.train.std(1, ddof=1 - one), self.held_out.std(1, ddof=1 - one)


def learning_curve(
    score: Callable[[int, int], tuple[float, float]], sizes: Sequence[int], *, seeds: Sequence[int] = (0,)
) -> Curve:
    """Scores against the number of training samples: more data worth its price, or a larger model?

    Args:
        score: (number of samples, seed) -> training and held-out score of a model trained from the beginning.
        sizes: increasing numbers of samples, at least 1.

    Raises ValueError for no sizes, sizes that do not increase, or no seeds.
    """
    return _curve(score, sizes, seeds)


def capacity_curve(
    score: Callable[[int, int], tuple[float, float]], sizes: Sequence[int], *, seeds: Sequence[int] = (0,)
) -> Curve:
    """Scores against the size of the model, for example its width; arguments and errors as `learning_curve`."""
    return _curve(score, sizes, seeds)


def _curve(score: Callable[[int, int], tuple[float, float]], sizes: Sequence[int], seeds: Sequence[int]) -> Curve:
    values = list(sizes)
    if not values or values[0] < 1 or any(a >= b for a, b in pairwise(values)):
        raise ValueError(f"sizes must increase and begin with at least 1, got {values}")
    if not list(seeds):
        raise ValueError("seeds must name at least one seed, got none")
    pairs = [(size, seed) for size in values for seed in seeds]
    found = np.array([score(*pair) for pair in tqdm(pairs, desc="curve", leave=False)])
    table = found.reshape(len(values), len(list(seeds)), 2)
    return Curve(values, table[..., 0], table[..., 1])


@dataclass
class RandomFeatures:
    """Linear regression on random ReLU features, fitted exactly: the smallest model with a double descent.

    Of all weights that fit the training data best, the smallest ones are taken (pseudo-inverse), which is where
    gradient descent from 0 ends. With `ridge` above 0 the squared size of the weights is part of the loss.

    Source: Belkin et al., Reconciling modern machine-learning practice and the bias-variance trade-off (2019).
    """

    width: int
    ridge: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")
        if not self.ridge >= 0:
            raise ValueError(f"ridge must be at least 0, got {self.ridge}")

    def fit(self, x: Array, y: Array) -> RandomFeatures:
        """`x` (n, features), class numbers `y` (n,)."""
        rng = np.random.default_rng(self.seed)
        self.mean, self.scale = x.mean(0), x.std() + 1e-12
        self.directions = rng.normal(size=(x.shape[1], self.width)) / np.sqrt(x.shape[1])
        features, targets = self._features(x), np.eye(int(y.max()) + 1)[y]
        if self.ridge:
            gram = features.T @ features + self.ridge * np.eye(self.width)
            self.weights = np.linalg.solve(gram, features.T @ targets)
        else:
            self.weights = np.linalg.lstsq(features, targets, rcond=None)[0]
        return self

    def error(self, x: Array, y: Array) -> float:
        """Share of wrong answers."""
        return float(((self._features(x) @ self.weights).argmax(1) != y).mean())

    def _features(self, x: Array) -> Array:
        return np.maximum(0, (x - self.mean) / self.scale @ self.directions)
