"""Data: the chance that near-duplicates meet, and the weights of rare classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from helpers.estimates.quantities import positive, whole


def minhash_collision(similarity: float, bands: int, rows: int) -> float:
    """Chance that two documents become candidates of MinHash-LSH: 1 - (1 - J^r)^b.

    Args:
        similarity: J, the Jaccard similarity of their sets of shingles, between 0 and 1.
        bands: b; the signature has bands × rows hashes.
        rows: r, hashes that must all be equal in at least one band.

    Raises TypeError or ValueError for bad numbers. Broder, 1997; Leskovec et al., "Mining of massive datasets",
    section 3.4.
    """
    positive("similarity", similarity, zero=True)
    if similarity > 1:
        raise ValueError(f"similarity must be between 0 and 1, got {similarity}")
    whole("bands", bands)
    whole("rows", rows)
    return 1 - (1 - similarity**rows) ** bands


def minhash_threshold(bands: int, rows: int) -> float:
    """About where the curve of `minhash_collision` rises steepest: (1/b)^(1/r). Not where it is one half."""
    whole("bands", bands)
    whole("rows", rows)
    return float((1 / bands) ** (1 / rows))


def balanced_class_weights(counts: Mapping[Any, int] | Sequence[int]) -> dict[Any, float]:
    """Weight of each class so that all weigh the same in the loss: n / (classes · count).

    Args:
        counts: class → number of examples, or the numbers alone (the classes are then 0, 1, ...).

    The weights average 1 over the examples. Raises TypeError or ValueError for no class or a class without examples:
    it has no weight. King and Zeng, "Logistic regression in rare events data", 2001; scikit-learn's "balanced".
    """
    if isinstance(counts, (str, bytes)) or not isinstance(counts, (Mapping, Sequence)):
        raise TypeError(f"counts must be a mapping or a sequence of whole numbers, got {type(counts).__name__}")
    per_class = dict(counts) if isinstance(counts, Mapping) else dict(enumerate(counts))
    if not per_class:
        raise ValueError("counts must have at least one class, got none")
    for name, count in per_class.items():
        whole(f"counts[{name!r}]", count)
    total = sum(per_class.values())
    return {name: total / (len(per_class) * count) for name, count in per_class.items()}


def accuracy_standard_error(accuracy: float, examples: int) -> float:
    """Standard error of an accuracy measured on independent examples: √(p(1-p)/n). Twice it is about a 95 % interval.

    Two models differ when their difference is large against this, or by a paired test on the same examples, which is
    sharper. Examples of one group (a user, a document) count as fewer. Raises TypeError or ValueError for bad numbers.
    The binomial distribution; Dietterich, "Approximate statistical tests", 1998, for the paired one (McNemar).
    """
    positive("accuracy", accuracy, zero=True)
    if accuracy > 1:
        raise ValueError(f"accuracy must be a share between 0 and 1, got {accuracy}")
    whole("examples", examples)
    return sqrt(accuracy * (1 - accuracy) / examples)
