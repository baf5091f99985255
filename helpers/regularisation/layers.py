"""Regularisers that change the forward pass, written out: dropout, stochastic depth, label smoothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["dropout", "smoothed_cross_entropy", "smoothed_targets", "stochastic_depth"]


def dropout(x: Tensor, p: float, training: bool, generator: torch.Generator | None = None) -> Tensor:
    """Inverted dropout: in training each number is 0 with probability `p`, the others are divided by 1 - p.

    The division keeps the expected value, so that nothing has to be done in evaluation. Raises ValueError when `p` is
    not in [0, 1]. Source: Srivastava et al., Dropout (2014), section 10.
    """
    _check_share(p, "p")
    if not training or p == 0:
        return x
    keep = _mask(x.shape, 1 - p, x, generator)
    return x * keep / (1 - p) if p < 1 else torch.zeros_like(x)


def stochastic_depth(path: Tensor, p: float, training: bool, generator: torch.Generator | None = None) -> Tensor:
    """The residual path (b, ...) is left out for a share `p` of the samples; add the result to the other path.

    Divided by 1 - p like dropout. Raises ValueError when `p` is not in [0, 1].
    Source: Huang et al., Deep Networks with Stochastic Depth (2016).
    """
    _check_share(p, "p")
    if not training or p == 0:
        return path
    keep = _mask((len(path), *[1] * (path.dim() - 1)), 1 - p, path, generator)
    return path * keep / (1 - p) if p < 1 else torch.zeros_like(path)


def smoothed_targets(y: Tensor, classes: int, smoothing: float) -> Tensor:
    """Class numbers (b,) -> probabilities (b, classes): `smoothing` spread over all classes, the right one included.

    Raises ValueError when `smoothing` is not in [0, 1]. Source: Szegedy et al. (2016), section 7.
    """
    _check_share(smoothing, "smoothing")
    return F.one_hot(y, classes) * (1 - smoothing) + smoothing / classes


def smoothed_cross_entropy(logits: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy in nats of logits (b, classes) against smoothed class numbers (b,)."""
    log_probabilities = logits - logits.logsumexp(-1, keepdim=True)
    return -(smoothed_targets(y, logits.shape[-1], smoothing) * log_probabilities).sum(-1).mean()


def _mask(shape: torch.Size | tuple[int, ...], keep: float, like: Tensor, generator: torch.Generator | None) -> Tensor:
    return (torch.rand(shape, generator=generator, device=like.device) < keep).to(like.dtype)


def _check_share(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be at least 0 and at most 1, got {value}")
