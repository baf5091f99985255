"""Which range should the integers cover? Observers watch calibration data and answer."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from helpers.quantisation.affine import UINT8, IntegerType, QParams, choose_params, fake_quantise

__all__ = ["MSE", "MinMax", "Observer", "Percentile"]


class Observer(Protocol):
    """Watches batches, then gives scale and zero point of the whole tensor."""

    def observe(self, x: Tensor) -> None:
        """Look at one batch."""

    def params(self) -> QParams:
        """Scale and zero point for what was seen. Raises RuntimeError before the first batch."""


class MinMax:
    """The smallest and the largest value: nothing is clipped, one outlier widens every step."""

    def __init__(self, type: IntegerType = UINT8, *, symmetric: bool = False) -> None:
        self.type, self.symmetric = type, symmetric
        self.low: Tensor | None = None
        self.high: Tensor | None = None

    def observe(self, x: Tensor) -> None:
        """Look at one batch. Raises ValueError for an empty one, NaN or infinities."""
        low, high = _bounds(x)
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)

    def params(self) -> QParams:
        """Scale and zero point. Raises RuntimeError before the first batch."""
        if self.low is None or self.high is None:
            raise RuntimeError("no batch was observed yet: call observe(x) with calibration data first")
        return QParams(*choose_params(self.low, self.high, self.type, symmetric=self.symmetric), self.type)


class Percentile:
    """Leaves out a share of the values at each end, which then saturate.

    Args:
        share: percent of the values kept, for example 99.9: half of the rest goes at each end.
        sample: values kept of each batch, drawn with a fixed seed.
    """

    def __init__(
        self, share: float = 99.9, type: IntegerType = UINT8, *, symmetric: bool = False, sample: int = 1 << 18
    ) -> None:
        if not 50 < share <= 100:
            raise ValueError(f"share must be above 50 and at most 100 percent, got {share}")
        self.share, self.type, self.symmetric = share, type, symmetric
        self._seen = _Sample(sample)

    def observe(self, x: Tensor) -> None:
        """Look at one batch. Raises ValueError for an empty one, NaN or infinities."""
        self._seen.add(x)

    def params(self) -> QParams:
        """Scale and zero point. Raises RuntimeError before the first batch."""
        values = self._seen.values().sort().values
        cut = int(len(values) * (100 - self.share) / 200)
        low, high = values[cut], values[len(values) - 1 - cut]
        return QParams(*choose_params(low, high, self.type, symmetric=self.symmetric), self.type)


class MSE:
    """The range with the smallest mean squared error: shrinks the observed one step by step and takes the best.

    Args:
        steps: how many shrunken ranges are tried, from the whole one down to a fifth of it.
    """

    def __init__(
        self, type: IntegerType = UINT8, *, symmetric: bool = False, steps: int = 40, sample: int = 1 << 16
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.type, self.symmetric, self.steps = type, symmetric, steps
        self._seen = _Sample(sample)

    def observe(self, x: Tensor) -> None:
        """Look at one batch. Raises ValueError for an empty one, NaN or infinities."""
        self._seen.add(x)

    def params(self) -> QParams:
        """Scale and zero point. Raises RuntimeError before the first batch."""
        values = self._seen.values()
        ranges = [self._range(values, share) for share in torch.linspace(1, 0.2, self.steps).tolist()]
        return min(ranges, key=lambda one: float((fake_quantise(values, one) - values).square().mean()))

    def _range(self, values: Tensor, share: float) -> QParams:
        scale, zero = choose_params(values.min() * share, values.max() * share, self.type, symmetric=self.symmetric)
        return QParams(scale, zero, self.type)


class _Sample:
    """At most `size` values of each batch, with the batch's extremes, at the same places in each run."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._parts: list[Tensor] = []
        self._generator = torch.Generator().manual_seed(0)

    def add(self, x: Tensor) -> None:
        low, high = _bounds(x)
        values = x.detach().flatten().float().cpu()
        if len(values) > self.size:
            chosen = torch.randint(len(values), (self.size,), generator=self._generator)
            values = torch.cat([values[chosen], low[None].cpu(), high[None].cpu()])
        self._parts.append(values)

    def values(self) -> Tensor:
        if not self._parts:
            raise RuntimeError("no batch was observed yet: call observe(x) with calibration data first")
        return torch.cat(self._parts)


def _bounds(x: Tensor) -> tuple[Tensor, Tensor]:
    if x.numel() == 0:
        raise ValueError(f"x must hold at least one value, got shape {tuple(x.shape)}")
    low, high = x.detach().aminmax()
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise ValueError("x must be finite: NaN or an infinity has no place on a grid; look for where it comes from")
    return low.float(), high.float()
