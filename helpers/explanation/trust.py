"""Can an explanation be believed? Faithfulness, stability, sanity, agreement and cost, for any explainer.

An explainer is a callable picture (h, w, 3) uint8 -> heat map (h, w); where a method depends on the model or on a
seed, it comes as a `Method`: (model, seed) -> explainer. What these numbers do not show: that an explanation is right.
They find some of the wrong ones. A single number misleads, so each stands beside maps that know nothing of the model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import cast

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from scipy.stats import spearmanr
from torch import nn
from tqdm.auto import tqdm

from helpers.explanation.images import Array, Explainer, scorer

__all__ = [
    "BLIND",
    "Curve",
    "Method",
    "Sanity",
    "Stability",
    "agreement",
    "blind_heat",
    "blurred",
    "cells",
    "deletion_auc",
    "deletion_curve",
    "insertion_auc",
    "insertion_curve",
    "jitter",
    "passes",
    "permuted",
    "rank_agreement",
    "sanity_check",
    "stability",
    "trust_table",
]

Score = Callable[[Array], Array]
"""Pictures (b, h, w, 3) -> score of the explained class (b,), usually its probability."""
Method = Callable[[nn.Module, int], Explainer]
"""(model, seed) -> explainer."""

BLIND = ("random", "edges", "centre")
"""Heat maps that know nothing of the model: what every method has to beat."""


# --- faithfulness ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """The score while pixels are taken away or put in: `shares` of the pixels (0 … 1) and `scores`."""

    shares: Array
    scores: Array

    @property
    def auc(self) -> float:
        """Area under the curve by trapezoids, 0 … 1 for a probability."""
        return float(np.trapezoid(self.scores, self.shares))


def deletion_curve(score: Score, image: Array, heat: Array, *, fill: Array | None = None, steps: int = 20) -> Curve:
    """The score while the hottest pixels are replaced first (Petsiuk, Das and Saenko, RISE, 2018).

    Args:
        score: see `Score`.
        image: (h, w, 3) uint8.
        heat: (h, w); of pixels equally hot the first in reading order goes first.
        fill: what replaces them, (h, w, 3); None: the picture itself, blurred.
        steps: equal steps between no pixel and all.

    Raises ValueError when the shapes do not fit, a heat is NaN, or `steps` is below 1.
    """
    gone = blurred(image) if fill is None else fill
    return _curve(score, start=image, end=gone, heat=heat, steps=steps)


def insertion_curve(score: Score, image: Array, heat: Array, *, fill: Array | None = None, steps: int = 20) -> Curve:
    """The score while the hottest pixels are put into `fill` first; as `deletion_curve`, the other way round."""
    empty = blurred(image) if fill is None else fill
    return _curve(score, start=empty, end=image, heat=heat, steps=steps)


def deletion_auc(score: Score, image: Array, heat: Array, *, fill: Array | None = None, steps: int = 20) -> float:
    """Area under `deletion_curve`: the lower, the sooner the class is lost."""
    return deletion_curve(score, image, heat, fill=fill, steps=steps).auc


def insertion_auc(score: Score, image: Array, heat: Array, *, fill: Array | None = None, steps: int = 20) -> float:
    """Area under `insertion_curve`: the higher, the sooner the class appears."""
    return insertion_curve(score, image, heat, fill=fill, steps=steps).auc


def _curve(score: Score, *, start: Array, end: Array, heat: Array, steps: int) -> Curve:
    if start.shape != end.shape or start.shape[:2] != heat.shape:
        raise ValueError(f"heat and fill must fit the picture {start.shape}, got heat {heat.shape}, fill {end.shape}")
    if not np.isfinite(heat).all():
        raise ValueError("heat must hold numbers, got NaN or infinity")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    order = np.argsort(-heat.ravel(), kind="stable")
    counts = np.arange(steps + 1) * heat.size // steps
    pictures = np.repeat(start[None], steps + 1, axis=0).reshape(steps + 1, heat.size, -1)
    replacement = end.reshape(heat.size, -1)
    for picture, count in zip(pictures, counts, strict=True):
        picture[order[:count]] = replacement[order[:count]]
    return Curve(counts / heat.size, np.asarray(score(pictures.reshape(steps + 1, *start.shape)), dtype=float))


def blurred(image: Array, *, sigma: float = 12.0) -> Array:
    """The picture (h, w, 3) uint8 without its details: Gaussian blur of `sigma` pixels."""
    return (
        ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0), mode="reflect").round().astype(image.dtype)
    )


def blind_heat(kind: str, image: Array, *, seed: int = 0) -> Array:
    """A heat map (h, w) that never saw the model: "random" blobs, the picture's "edges", or its "centre".

    Random is smooth at the scale of 16 pixels, as real heat maps are: single random pixels would be no opponent.
    """
    if kind == "random":
        noise = np.random.default_rng(seed).normal(size=image.shape[:2])
        return ndimage.gaussian_filter(noise, 16.0)
    if kind == "edges":
        grey = image.astype(float).mean(2)
        return ndimage.gaussian_filter(np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1)), 4.0)
    if kind == "centre":
        rows, columns = np.indices(image.shape[:2])
        middle = (np.array(image.shape[:2]) - 1) / 2
        distance = np.hypot(rows - middle[0], columns - middle[1])
        return distance.max() - distance
    raise ValueError(f"kind must be one of {', '.join(BLIND)}, got {kind!r}")


# --- agreement and stability ----------------------------------------------------------------------------------------


def cells(heat: Array, size: int = 16) -> Array:
    """A heat map in coarse: the mean of each square of `size` pixels; what is left over at the edges is dropped."""
    rows, columns = heat.shape[0] // size, heat.shape[1] // size
    if not rows or not columns:
        raise ValueError(f"size must be at most the picture's {heat.shape}, got {size}")
    return heat[: rows * size, : columns * size].reshape(rows, size, columns, size).mean((1, 3))


def rank_agreement(first: Array, second: Array) -> float:
    """Spearman's rank correlation of two heat maps, -1 … 1. NaN when one of them is the same everywhere."""
    if first.shape != second.shape:
        raise ValueError(f"first and second must have one shape, got {first.shape} and {second.shape}")
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second, axis=None).statistic)


@dataclass(frozen=True)
class Stability:
    """Rank correlations of pairs of explanations of one picture."""

    correlations: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.correlations))

    @property
    def lowest(self) -> float:
        return float(np.min(self.correlations))


def stability(explainers: Sequence[Explainer], image: Array, *, size: int = 16) -> Stability:
    """How far explainers that differ in the seed alone agree on a picture: every pair, in squares of `size` pixels."""
    if len(explainers) < 2:
        raise ValueError(f"explainers must be at least two (one a seed), got {len(explainers)}")
    maps = [cells(explain(image), size) for explain in explainers]
    return Stability(tuple(rank_agreement(a, b) for a, b in combinations(maps, 2)))


def jitter(
    explain: Explainer, image: Array, *, noise: float = 4.0, seeds: Sequence[int] = (0, 1), size: int = 16
) -> Stability:
    """How far the explanation of a picture with `noise` (standard deviation in grey levels, invisible at 4) agrees
    with that of the picture, once a seed, in squares of `size` pixels."""
    known = cells(explain(image), size)
    shaken = (explain(_shaken(image, noise, seed)) for seed in seeds)
    return Stability(tuple(rank_agreement(known, cells(heat, size)) for heat in shaken))


def _shaken(image: Array, noise: float, seed: int) -> Array:
    noisy = image + np.random.default_rng(seed).normal(0, noise, image.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


def agreement(heats: Mapping[str, Array], *, size: int = 16) -> pd.DataFrame:
    """Rank correlation of every method with every other, in squares of `size` pixels."""
    coarse = {name: cells(heat, size) for name, heat in heats.items()}
    rows = [[rank_agreement(a, b) for b in coarse.values()] for a in coarse.values()]
    return pd.DataFrame(rows, index=list(heats), columns=list(heats))


# --- sanity ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sanity:
    """What became of an explanation while the model forgot, from its last layers to its first.

    `stages` says what was permuted so far; `correlations` is the rank correlation with the explanation of the trained
    model. NaN: the explanation is the same everywhere, the network is dead, and nothing can be said.
    """

    stages: tuple[str, ...]
    correlations: tuple[float, ...]
    limit: float = 0.3

    @property
    def passed(self) -> bool:
        """True when the explanation of the wholly permuted model has little to do with the first one."""
        return bool(abs(self.correlations[-1]) < self.limit)  # False for NaN


def sanity_check(method: Method, model: nn.Module, image: Array, *, stages: int = 3, seed: int = 0) -> Sanity:
    """Permute the weights layer by layer, from the last to the first, and explain again (Adebayo et al., 2018).

    Permuted, not drawn anew: fresh weights in a deep network let the activations die out, and a dead network's empty
    explanation looks like a change. An explanation that does not change does not depend on what was learned.

    Args:
        method: (model, seed) -> explainer.
        stages: at how many depths to explain again, the last with every layer permuted.
    """
    layers = [name for name, _ in _weights(model)]
    if not 1 <= stages <= len(layers):
        raise ValueError(f"stages must be between 1 and the {len(layers)} layers of the model, got {stages}")
    known = method(model, seed)(image)
    names, correlations = [], []
    for stage in range(1, stages + 1):
        count = -(-len(layers) * stage // stages)
        broken = permuted(model, layers[len(layers) - count :], seed=seed)
        correlations.append(rank_agreement(known, method(broken, seed)(image)))
        names.append(f"last {count} of {len(layers)}")
    return Sanity(tuple(names), tuple(correlations))


def permuted(model: nn.Module, layers: Sequence[str], *, seed: int = 0) -> nn.Module:
    """A copy of the model in which the weights of these layers are shuffled, each within its own tensor."""
    broken = copy.deepcopy(model)
    known = dict(_weights(broken))
    if unknown := [name for name in layers if name not in known]:
        raise ValueError(f"layers must name convolutions or linear layers of the model, got {unknown[0]!r}")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in layers:
            weight = known[name]
            order = torch.randperm(weight.numel(), generator=generator)
            weight.copy_(weight.flatten()[order].view_as(weight))
    return broken


def _weights(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The weights of convolutions and linear layers, in the order of the forward pass."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    parts = ((name, module) for name, module in model.named_modules() if isinstance(module, kinds))
    return [(name, cast("nn.Parameter", module.weight)) for name, module in parts]


# --- cost, and everything in one table --------------------------------------------------------------------------------


@contextmanager
def passes(model: nn.Module) -> Iterator[_Count]:
    """Inside, count the pictures that go through the model: `with passes(model) as count: …; count.pictures`."""
    count = _Count()
    handle = model.register_forward_hook(count.add)
    try:
        yield count
    finally:
        handle.remove()


class _Count:
    def __init__(self) -> None:
        self.pictures = 0

    def add(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.pictures += len(output)


def trust_table(
    methods: Mapping[str, Method],
    model: nn.Module,
    image: Array,
    target: int,
    *,
    drawn: Sequence[str] = (),
    seeds: tuple[int, int] = (0, 1),
    steps: int = 20,
    progress: bool = True,
) -> pd.DataFrame:
    """One row for each method and each blind map: every trust measure of one picture.

    Columns: `deletion` (lower is better), `insertion` (higher is better), `seeds` and `jitter` (rank correlations
    between two seeds, and between the picture and a noisy one; 1 is stable), `sanity` (rank correlation with the
    explanation of the model whose weights are all permuted; far from 0 is bad), `pictures` (through the model, for one
    explanation).

    Args:
        methods: name → `Method`.
        drawn: the methods that draw random numbers; the others get NaN in `seeds`, as there is nothing to compare.
        seeds: of the two explanations; the first also of the noise and of the permutation.
    """
    score = scorer(model, target)
    broken = permuted(model, [name for name, _ in _weights(model)], seed=seeds[0])
    noisy = _shaken(image, 4.0, seeds[0])
    rows = {}
    blind = {kind: _blind_method(kind) for kind in BLIND}
    for name, method in tqdm({**methods, **blind}.items(), desc="trust", leave=False, disable=not progress):
        explain = method(model, seeds[0])
        with passes(model) as count:
            heat = explain(image)
        again = method(model, seeds[1])(image) if name in (*drawn, "random") else None
        rows[name] = {
            "deletion": deletion_auc(score, image, heat, steps=steps),
            "insertion": insertion_auc(score, image, heat, steps=steps),
            "seeds": float("nan") if again is None else rank_agreement(cells(heat), cells(again)),
            "jitter": rank_agreement(cells(heat), cells(explain(noisy))),
            "sanity": rank_agreement(heat, method(broken, seeds[0])(image)),
            "pictures": count.pictures,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _blind_method(kind: str) -> Method:
    return lambda model, seed: lambda image: blind_heat(kind, image, seed=seed)
