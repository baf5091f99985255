"""Products of integers: what an int8 kernel computes, with the terms that the zero points bring."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.quantisation.affine import QParams

__all__ = ["integer_matmul", "quantised_matmul"]


def integer_matmul(a: Tensor, b: Tensor) -> Tensor:
    """Product of 8-bit matrices (m, k) and (k, n) summed in int32, as VNNI and tensor cores do -> (m, n) int32.

    A product of two bytes needs 16 bits, and k of them up to log2(k) more: int32 holds k up to 33,000.
    Raises TypeError unless both hold int8 or uint8, ValueError when the shapes do not fit.
    """
    for name, value in (("a", a), ("b", b)):
        if value.dtype not in (torch.int8, torch.uint8):
            raise TypeError(f"{name} must be int8 or uint8, got {value.dtype}")
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"a and b must be (m, k) and (k, n), got {tuple(a.shape)} and {tuple(b.shape)}")
    return a.to(torch.int32) @ b.to(torch.int32)


def quantised_matmul(a: Tensor, a_params: QParams, b: Tensor, b_params: QParams) -> Tensor:
    """What a quantised linear layer computes: (m, k) activations times (k, n) weights -> (m, n) float32.

        Σ (a - za)(b - zb) = Σ ab - zb Σ a - za Σ b + k za zb

    The first term is the int8 product; Σ a is one number per row, Σ b one per column (of weights: known beforehand).
    `b_params` may have one scale per column (axis 1); `a_params` has one.

    Raises TypeError or ValueError as `integer_matmul` does, and when the scales lie along k.
    """
    if a_params.axis is not None or b_params.axis not in (None, 1) or a_params.group_size or b_params.group_size:
        raise ValueError(
            "a must have one scale and b one, or one per column (axis 1): along k they cannot be taken out"
        )
    product = integer_matmul(a, b)
    rows = a.to(torch.int32).sum(1, keepdim=True, dtype=torch.int32)
    columns = b.to(torch.int32).sum(0, keepdim=True, dtype=torch.int32)
    za, zb = a_params.zero_point, b_params.zero_point
    centred = product - zb * rows - za * columns + a.shape[1] * za * zb
    return centred * (a_params.scale * b_params.scale)
