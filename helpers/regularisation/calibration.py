"""Is 90 % sure right nine times in ten? Expected calibration error and temperature scaling."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

__all__ = ["expected_calibration_error", "reliability", "temperature"]

Array = np.ndarray


def reliability(probabilities: Array, y: Array, bins: int = 15) -> list[tuple[float, float, int]]:
    """For each bin of equal width that holds samples: mean confidence, accuracy, number of samples.

    Confidence is the largest probability of a row of `probabilities` (n, classes); bin k holds (k, k + 1] / bins.
    Raises ValueError for no samples, fewer than 1 bin, rows that do not add up to 1 or labels of another number.
    """
    probabilities, y = np.asarray(probabilities, dtype=float), np.asarray(y)
    if probabilities.ndim != 2 or len(probabilities) == 0 or len(probabilities) != len(y):
        raise ValueError(f"n × classes probabilities and n labels are needed, got {probabilities.shape} and {y.shape}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    if not np.allclose(probabilities.sum(1), 1, atol=1e-3):
        raise ValueError("each row of probabilities must add up to 1: are these logits?")
    confidence, right = probabilities.max(1), probabilities.argmax(1) == y
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    groups = [number == k for k in range(bins)]
    return [(float(confidence[g].mean()), float(right[g].mean()), int(g.sum())) for g in groups if g.any()]


def expected_calibration_error(probabilities: Array, y: Array, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over the bins, each weighted by its share of the samples.

    It depends on the number of bins, and is above 0 for a perfect model with few samples. Errors as `reliability`.
    Source: Naeini et al. (2015); Guo et al., On Calibration of Modern Neural Networks (2017).
    """
    found = reliability(probabilities, y, bins)
    total = sum(count for _, _, count in found)
    return sum(count * abs(confidence - accuracy) for confidence, accuracy, count in found) / total


def temperature(logits: Array, y: Array) -> float:
    """The number by which to divide logits (n, classes) so that the cross-entropy on `y` is least.

    Fit it on validation data. Above 1: the model was too sure. The most likely class stays the same, so accuracy does
    too. Raises ValueError for no samples. Source: Guo et al. (2017), section 4.2.
    """
    logits, y = np.asarray(logits, dtype=float), np.asarray(y)
    if len(logits) == 0 or len(logits) != len(y):
        raise ValueError(f"as many labels as rows of logits are needed, at least one, got {len(logits)} and {len(y)}")

    def loss(log_t: float) -> float:
        return float(-log_softmax(logits / np.exp(log_t), axis=1)[np.arange(len(y)), y].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.01), np.log(100)), method="bounded").x))
