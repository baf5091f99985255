"""Affine quantisation written out: q = clamp(round(x / scale) + zero_point), x ≈ (q - zero_point) · scale.

Rounding is half to even, and x is multiplied by 1 / scale (float32) before the zero point is added: the order of
torch's own kernels, whose integers these are, bit for bit. Source: Jacob et al., Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "INT4",
    "INT8",
    "UINT4",
    "UINT8",
    "IntegerType",
    "QParams",
    "choose_params",
    "dequantise",
    "fake_quantise",
    "pack_int4",
    "params_of",
    "quantise_tensor",
    "sqnr",
    "unpack_int4",
]

EPSILON = torch.finfo(torch.float32).eps
"""The smallest scale: a tensor of zeros would otherwise have scale 0 (torch's observers take the same)."""


@dataclass(frozen=True)
class IntegerType:
    """The integers that a quantised tensor may hold; 4-bit ones are kept in bytes until they are packed."""

    name: str
    low: int
    high: int
    dtype: torch.dtype


INT8 = IntegerType("int8", -128, 127, torch.int8)
UINT8 = IntegerType("uint8", 0, 255, torch.uint8)
INT4 = IntegerType("int4", -8, 7, torch.int8)
UINT4 = IntegerType("uint4", 0, 15, torch.uint8)


@dataclass(frozen=True)
class QParams:
    """Scale and zero point of a tensor: one of each, one per slice along `axis`, or one per group of a row.

    Attributes:
        scale: float32; (), (slices,), or (rows, groups).
        zero_point: int32 of the same shape, an integer of `type`, so that 0.0 is kept exactly.
        axis: the dimension with a scale of its own for each index (output channels: 0); None for one scale.
        group_size: columns that share a scale, of a matrix (rows, columns); None otherwise.
    """

    scale: Tensor
    zero_point: Tensor
    type: IntegerType
    axis: int | None = None
    group_size: int | None = None


def choose_params(low: Tensor, high: Tensor, type: IntegerType, *, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Scale and zero point for values between `low` and `high`.

    The range is widened to hold 0. Symmetric: scale = max(|low|, |high|) / ((type.high - type.low) / 2), zero point in
    the middle. Asymmetric: scale = (high - low) / (type.high - type.low), zero point = type.low - round(low / scale),
    clamped to the type. The scale is at least float32's epsilon.

    Args:
        low, high: float tensors of one shape.

    Returns scale (float32) and zero point (int32) of that shape.
    Raises ValueError when a bound is not finite, low is above high, or the range is wider than a float32.
    """
    low, high = torch.as_tensor(low, dtype=torch.float32), torch.as_tensor(high, dtype=torch.float32)
    if low.shape != high.shape:
        raise ValueError(f"low and high must have one shape, got {tuple(low.shape)} and {tuple(high.shape)}")
    if not (torch.isfinite(low).all() and torch.isfinite(high).all()):
        raise ValueError(
            f"low and high must be finite, got {_extreme(low)} and {_extreme(high)}: clip or drop such values"
        )
    if (low > high).any():
        raise ValueError("low must be at most high")
    low, high = low.clamp(max=0), high.clamp(min=0)
    if not torch.isfinite(high - low).all():
        raise ValueError("low and high must be no further apart than the largest float32, 3.4e38")
    if symmetric:
        half = float(type.high - type.low) / 2
        scale = (torch.maximum(-low, high) / half).clamp(min=EPSILON)
        middle = 0 if type.low < 0 else (type.low + type.high + 1) // 2
        return scale, torch.full_like(scale, middle, dtype=torch.int32)
    scale = ((high - low) / float(type.high - type.low)).clamp(min=EPSILON)
    zero_point = type.low - torch.round(low / scale).to(torch.int32)
    return scale, zero_point.clamp(type.low, type.high)


def _extreme(values: Tensor) -> float:
    wrong = values[~torch.isfinite(values)]
    return float(wrong[0] if len(wrong) else values.flatten()[0])


def params_of(
    x: Tensor,
    type: IntegerType = INT8,
    *,
    symmetric: bool = True,
    axis: int | None = None,
    group_size: int | None = None,
) -> QParams:
    """Scale and zero point from the smallest and largest value: of the tensor, of each slice, or of each group.

    Raises TypeError for something that is no floating-point tensor, ValueError when it is empty, holds NaN or
    infinities, `axis` does not exist, or a row is not made of whole groups.
    """
    _check_values(x)
    if axis is not None and group_size is not None:
        raise ValueError("axis and group_size exclude each other: groups lie within the rows of a matrix")
    grouped = _grouped(x, axis, group_size)
    low, high = (grouped.amin(-1), grouped.amax(-1)) if grouped.dim() > 1 else (x.min(), x.max())
    scale, zero_point = choose_params(low, high, type, symmetric=symmetric)
    return QParams(scale, zero_point, type, None if axis is None else axis % x.dim(), group_size)


def _check_values(x: Tensor) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a floating-point tensor, got {found}")
    if x.numel() == 0:
        raise ValueError(f"x must hold at least one value, got shape {tuple(x.shape)}")


def _grouped(x: Tensor, axis: int | None, group_size: int | None) -> Tensor:
    """The values that share a scale lie in the last dimension: flat, (slices, rest), or (rows, groups, group)."""
    if group_size is not None:
        if x.dim() != 2:
            raise ValueError(f"x must be a matrix (rows, columns) to have groups, got shape {tuple(x.shape)}")
        if group_size < 1 or x.shape[1] % group_size:
            raise ValueError(f"group_size must divide the {x.shape[1]} columns, got {group_size}")
        return x.reshape(x.shape[0], -1, group_size)
    if axis is None:
        return x.flatten()
    if not -x.dim() <= axis < x.dim():
        raise ValueError(f"axis must be a dimension of x (it has {x.dim()}), got {axis}")
    return x.movedim(axis, 0).reshape(x.shape[axis], -1)


def _spread(values: Tensor, x: Tensor, params: QParams) -> Tensor:
    """A scale or zero point for each value of x, by broadcasting."""
    if params.group_size is not None:
        return values.repeat_interleave(params.group_size, dim=1)
    if params.axis is None:
        return values
    return values.reshape([-1 if d == params.axis else 1 for d in range(x.dim())])


def quantise_tensor(x: Tensor, params: QParams) -> Tensor:
    """The integers of x, in `params.type.dtype`. Values outside the range, infinities too, go to its end.

    Raises TypeError for no floating-point tensor, ValueError for NaN, which is no number to round (torch gives 127 in
    one of its functions and -128 in the other).
    """
    _check_values(x)
    if torch.isnan(x).any():
        raise ValueError("x must not hold NaN: there is no integer for it")
    scale, zero_point = _spread(params.scale, x, params), _spread(params.zero_point, x, params)
    steps = torch.round(x.float() * (1.0 / scale)) + zero_point
    return steps.clamp(params.type.low, params.type.high).to(params.type.dtype)


def dequantise(q: Tensor, params: QParams) -> Tensor:
    """The float32 numbers that the integers stand for: (q - zero_point) · scale."""
    if q.is_floating_point():
        raise TypeError(f"q must hold integers, got {q.dtype}")
    return (q.to(torch.int32) - _spread(params.zero_point, q, params)) * _spread(params.scale, q, params)


def fake_quantise(x: Tensor, params: QParams) -> Tensor:
    """x as it comes back from the integers: float32 on the grid. Its error is at most scale / 2 within the range."""
    return dequantise(quantise_tensor(x, params), params)


def sqnr(exact: Tensor, approximate: Tensor) -> float:
    """Signal-to-quantisation-noise ratio in dB: 10·log10(Σ exact² / Σ (exact - approximate)²); inf when equal.

    6 dB are one bit. Raises ValueError when the shapes differ.
    """
    if exact.shape != approximate.shape:
        raise ValueError(f"exact and approximate must have one shape, got {exact.shape} and {approximate.shape}")
    exact, approximate = exact.detach(), approximate.detach()
    signal = float(exact.double().square().sum())
    noise = float((exact.double() - approximate.double()).square().sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


# --------------------------------------------------------------------------------------------------- four bits


def pack_int4(q: Tensor) -> Tensor:
    """Two 4-bit integers a byte: (…, n) with values -8..7 -> (…, n / 2) uint8, the even places in the low half.

    Negative numbers are stored as two's complement (-1 is 0b1111). Raises TypeError for floats, ValueError when the
    last dimension is odd or a value does not fit.
    """
    if q.is_floating_point():
        raise TypeError(f"q must hold integers, got {q.dtype}")
    if q.dim() == 0 or q.shape[-1] % 2:
        raise ValueError(f"q must have an even last dimension, got shape {tuple(q.shape)}")
    if q.numel() and (int(q.min()) < -8 or int(q.max()) > 7):
        raise ValueError(f"q must hold integers from -8 to 7, got {int(q.min())} to {int(q.max())}")
    nibbles = (q.to(torch.int16) & 0xF).to(torch.uint8)
    return nibbles[..., 0::2] | (nibbles[..., 1::2] << 4)


def unpack_int4(packed: Tensor) -> Tensor:
    """What `pack_int4` packed: (…, n / 2) uint8 -> (…, n) int8 with values -8..7."""
    if packed.dtype != torch.uint8:
        raise TypeError(f"packed must be uint8, got {packed.dtype}")
    nibbles = torch.stack([packed & 0xF, packed >> 4], dim=-1).flatten(-2).to(torch.int8)
    return torch.where(nibbles > 7, nibbles - 16, nibbles)
