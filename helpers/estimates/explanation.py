"""How many times an explanation runs the model."""

from __future__ import annotations

from helpers.estimates.quantities import whole


def exact_shapley_evaluations(features: int) -> int:
    """Model evaluations for exact Shapley values of one prediction: one per coalition, 2^features.

    With 20 features a million, with 50 superpixels 10¹⁵: hence sampling (KernelSHAP), or the structure of a tree
    (TreeSHAP). Raises TypeError or ValueError for anything but a whole number of at least 1.
    Shapley, 1953; Lundberg and Lee, "A unified approach to interpreting model predictions", 2017.
    """
    whole("features", features)
    return int(2**features)
