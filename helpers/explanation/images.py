"""Photographs as the explained network sees them, and the network as the explainers want it.

Everything here works on the picture that the network is shown (224×224, uint8): explaining the original and scoring
the crop would compare two pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from helpers.explanation.predicting import checked, image_classifier
from helpers.models.efficientnet import MEAN, STD

__all__ = ["Array", "Explainer", "predictor", "scorer", "to_input"]

Array = np.ndarray[Any, Any]
Explainer = Callable[[Array], Array]
"""Picture (h, w, 3) uint8 -> heat map (h, w): the larger, the more a pixel speaks for the class."""


def to_input(images: Array) -> Tensor:
    """Pictures (b, h, w, 3) or one (h, w, 3), grey levels 0 to 255 -> (b, 3, h, w) float32, normalised for the network.

    Raises TypeError unless an array of numbers, ValueError for another shape, for NaN, and for floats that all lie in
    0 to 1: those are another scale, and would be explained as a black picture.
    """
    if not isinstance(images, np.ndarray) or images.dtype.kind not in "uif":
        raise TypeError(
            f"images must be a numpy array of numbers, got {getattr(images, 'dtype', type(images).__name__)}"
        )
    batch = images[None] if images.ndim == 3 else images
    if batch.ndim != 4 or batch.shape[-1] != 3:
        raise ValueError(f"images must be (b, h, w, 3) or (h, w, 3), got {images.shape}")
    if batch.dtype.kind == "f":
        if not np.isfinite(batch).all():
            raise ValueError("images must hold numbers, got NaN or infinity")
        if batch.size and batch.min() >= 0 and 0 < batch.max() <= 1:
            raise ValueError(
                f"images must be grey levels 0 to 255, got floats from {batch.min():.3g} to {batch.max():.3g}"
            )
    pixels = torch.from_numpy(np.ascontiguousarray(batch, dtype=np.float32)).permute(0, 3, 1, 2)
    return (pixels - MEAN) / STD


def predictor(model: nn.Module, *, batch_size: int = 32) -> Callable[[Array], Array]:
    """Pictures (b, h, w, 3) -> class probabilities (b, classes), `batch_size` at a time, normalised as `to_input` does.

    Raises ValueError when the model is in training mode (dropout would make every answer another) and, when called,
    for pictures that `to_input` refuses and answers that `checked` refuses.
    """
    if model.training:
        raise ValueError("model must be in evaluation mode: call model.eval() first")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    ask = checked(image_classifier(model, mean=MEAN, std=STD))

    def probabilities(images: Array) -> Array:
        to_input(images[:1])
        parts = [ask(images[first : first + batch_size]) for first in range(0, len(images), batch_size)]
        return np.concatenate(parts)

    return probabilities


def scorer(model: nn.Module, target: int, *, batch_size: int = 32) -> Callable[[Array], Array]:
    """Pictures (b, h, w, 3) -> probability of the class `target` (b,)."""
    probabilities = predictor(model, batch_size=batch_size)

    def score(images: Array) -> Array:
        found = probabilities(images)
        if not 0 <= target < found.shape[1]:
            raise ValueError(f"target must be a class from 0 to {found.shape[1] - 1}, got {target}")
        return found[:, target]

    return score
