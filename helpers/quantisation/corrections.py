"""GPTQ, AWQ and SmoothQuant in small: three ways to make one linear layer lose less than rounding to nearest does."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.quantisation.affine import INT4, INT8, IntegerType, fake_quantise, params_of, sqnr

__all__ = ["awq", "gptq", "output_sqnr", "round_to_nearest", "rounded_with_compensation", "smooth", "w8a8"]

BLOCK = 64  # columns between two updates of all that is to the right


def round_to_nearest(weight: Tensor, *, type: IntegerType = INT4, group_size: int = 32) -> Tensor:
    """The weight (out, in) on its grid, each group of `group_size` columns with its own scale; float32."""
    return fake_quantise(weight, params_of(weight, type, group_size=group_size))


def gptq(
    weight: Tensor, inputs: Tensor, *, type: IntegerType = INT4, group_size: int = 32, damping: float = 0.01
) -> Tensor:
    """Rounds column by column and lets the columns still to come make up for the error; -> (out, in) on the grid.

    Minimises the error of the *output* on `inputs`, which the Hessian H = 2XᵀX describes. Source: Frantar et al.,
    GPTQ, ICLR 2023 (in the order of the columns, with scales of the original weight: "static groups").

    Args:
        weight: (out, in).
        inputs: (n, in) real activations.
        damping: share of H's mean diagonal that is added to it.
    """
    _check(weight, inputs)
    params = params_of(weight, type, group_size=group_size)
    scale = params.scale.repeat_interleave(group_size, dim=1)
    x = inputs.detach().double()
    return rounded_with_compensation(weight, 2 * x.T @ x, scale, (type.low, type.high), damping=damping)


def rounded_with_compensation(
    weight: Tensor, hessian: Tensor, scale: Tensor, bounds: tuple[int, int], *, damping: float = 0.01
) -> Tensor:
    """The step of GPTQ, for one matrix or a stack of them.

    Args:
        weight: (…, out, in).
        hessian: (…, in, in), 2XᵀX of the inputs.
        scale: (…, out, in), the step of the grid at each weight.
        bounds: smallest and largest integer.

    The largest weight of a row stays on its integer, so that a library that reads the scale off the largest weight
    finds this same grid again.
    """
    w, scale, hessian = weight.detach().double().clone(), scale.double(), hessian.double()
    mean = hessian.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=1e-12)
    hessian = hessian + damping * mean[..., None, None] * torch.eye(hessian.shape[-1], dtype=torch.double)
    # row i of this factor says how an error in column i is spread over the columns after it
    spread = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
    largest = weight.abs().argmax(-1)
    done = torch.zeros_like(w)
    for start in range(0, w.shape[-1], BLOCK):
        end = min(start + BLOCK, w.shape[-1])
        errors = torch.zeros_like(w[..., start:end])
        for column in range(start, end):
            step = scale[..., column]
            nearest = torch.where(largest == column, weight[..., column].double(), w[..., column])
            done[..., column] = torch.round(nearest / step).clamp(*bounds) * step
            error = (w[..., column] - done[..., column]) / spread[..., column, column].unsqueeze(-1)
            w[..., column:end] -= error.unsqueeze(-1) * spread[..., column, column:end].unsqueeze(-2)
            errors[..., column - start] = error
        w[..., end:] -= errors @ spread[..., start:end, end:]  # the columns further right, once a block
    return done.float()


def awq(weight: Tensor, inputs: Tensor, *, type: IntegerType = INT4, group_size: int = 32, steps: int = 20) -> Tensor:
    """Scales up the columns that see large activations before rounding, and down after; -> (out, in).

    The exponent of the scaling is searched on `inputs`; at 0 it is rounding to nearest, so it never does worse there.
    Source: Lin et al., AWQ, MLSys 2024.
    """
    _check(weight, inputs)
    size = inputs.abs().mean(0).clamp(min=1e-8)
    exact = inputs @ weight.T
    best, least = round_to_nearest(weight, type=type, group_size=group_size), float("inf")
    for step in range(steps):
        scale = size ** (step / steps)
        scale = scale / (scale.max() * scale.min()).sqrt()
        candidate = round_to_nearest(weight * scale, type=type, group_size=group_size) / scale
        error = float((inputs @ candidate.T - exact).square().mean())
        if error < least:
            best, least = candidate, error
    return best


def smooth(weight: Tensor, inputs: Tensor, *, strength: float = 0.5) -> tuple[Tensor, Tensor]:
    """Moves outliers from activations to weights: returns the weight times s, and s, by which inputs are divided.

    s = max|x|^α / max|w|^(1-α) for each input channel; the product stays the same, both factors become easier to
    quantise. Source: Xiao et al., SmoothQuant, ICML 2023.

    Args:
        strength: α, 0 leaves the activations as they are apart from the weights' size, 1 makes them all equally large.
    """
    _check(weight, inputs)
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be between 0 and 1, got {strength}")
    highest = inputs.abs().amax(0).clamp(min=1e-5)
    heaviest = weight.abs().amax(0).clamp(min=1e-5)
    scale = (highest**strength / heaviest ** (1 - strength)).clamp(min=1e-5)
    return weight * scale, scale


def output_sqnr(weight: Tensor, approximate: Tensor, inputs: Tensor) -> float:
    """SQNR in dB of a linear layer's output on `inputs` when its weight (out, in) is replaced."""
    return sqnr(inputs @ weight.T, inputs @ approximate.T)


def w8a8(weight: Tensor, inputs: Tensor) -> Tensor:
    """The layer's output with an int8 weight (a scale per row) and int8 inputs (one scale for all)."""
    return fake_quantise(inputs, params_of(inputs, INT8)) @ fake_quantise(weight, params_of(weight, INT8, axis=0)).T


def _check(weight: Tensor, inputs: Tensor) -> None:
    if weight.dim() != 2 or inputs.dim() != 2 or weight.shape[1] != inputs.shape[1]:
        raise ValueError(
            f"weight and inputs must be (out, in) and (n, in), got {tuple(weight.shape)} and {tuple(inputs.shape)}"
        )
