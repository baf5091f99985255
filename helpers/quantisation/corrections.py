"""GPTQ, AWQ and SmoothQuant in small: three ways to make one linear layer lose less than rounding to nearest does."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.quantisation.affine import INT4, INT8, IntegerType, QParams, fake_quantise, params_of

__all__ = ["awq", "gptq", "output_sqnr", "round_to_nearest", "smooth"]


def round_to_nearest(weight: Tensor, *, type: IntegerType = INT4, group_size: int = 32) -> Tensor:
    """The weight (out, in) on its grid, each group of `group_size` columns with its own scale; float32."""
    return fake_quantise(weight, params_of(weight, type, group_size=group_size))


def gptq(
    weight: Tensor, inputs: Tensor, *, type: IntegerType = INT4, group_size: int = 32, damping: float = 0.01
) -> Tensor:
    """Rounds column by column and lets the columns still to come make up for the error; -> (out, in) on the grid.

    Minimises the error of the *output* on `inputs`, which the Hessian H = 2XᵀX describes. Source: Frantar et al.,
    GPTQ, ICLR 2023 (without its blocking, which changes the speed and not the result).

    Args:
        weight: (out, in).
        inputs: (n, in) real activations.
        damping: share of H's mean diagonal that is added to it.
    """
    _check(weight, inputs)
    w = weight.detach().double().clone()
    x = inputs.detach().double()
    hessian = 2 * x.T @ x
    hessian += damping * hessian.diagonal().mean().clamp(min=1e-12) * torch.eye(len(hessian), dtype=torch.double)
    # row i of this factor says how an error in column i is spread over the later columns
    spread = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
    done = torch.zeros_like(w)
    params = params_of(weight, type, axis=0)
    for column in range(w.shape[1]):
        if column % group_size == 0:
            params = params_of(w[:, column : column + group_size].float(), type, axis=0)
        done[:, column] = _column(w[:, column], params)
        error = (w[:, column] - done[:, column]) / spread[column, column]
        w[:, column:] -= error[:, None] * spread[column, column:]
    return done.float()


def _column(values: Tensor, params: QParams) -> Tensor:
    return fake_quantise(values[:, None].float(), params)[:, 0].double()


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
    """Moves outliers from activations to weights: returns the weight times s and s, by which inputs are divided.

    s = max|x|^α / max|w|^(1-α) for each input channel; the product stays the same, both factors become easier to
    quantise. Source: Xiao et al., SmoothQuant, ICML 2023.

    Args:
        strength: α, 0 leaves the activations alone, 1 the weights.
    """
    _check(weight, inputs)
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be between 0 and 1, got {strength}")
    highest = inputs.abs().amax(0).clamp(min=1e-5)
    heaviest = weight.abs().amax(0).clamp(min=1e-5)
    scale = (highest**strength / heaviest ** (1 - strength)).clamp(min=1e-5)
    return weight * scale, scale


def output_sqnr(weight: Tensor, approximate: Tensor, inputs: Tensor, *, quantise_inputs: bool = False) -> float:
    """SQNR in dB of a linear layer's output on `inputs`; with the inputs in int8, one scale for all, if asked."""
    from helpers.quantisation.affine import sqnr

    seen = fake_quantise(inputs, params_of(inputs, INT8)) if quantise_inputs else inputs
    return sqnr(inputs @ weight.T, seen @ approximate.T)


def _check(weight: Tensor, inputs: Tensor) -> None:
    if weight.dim() != 2 or inputs.dim() != 2 or weight.shape[1] != inputs.shape[1]:
        raise ValueError(
            f"weight and inputs must be (out, in) and (n, in), got {tuple(weight.shape)} and {tuple(inputs.shape)}"
        )
