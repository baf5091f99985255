# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% id="imports"
import copy
import functools
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import datasets, efficiency, models, plots
from helpers import quantisation as quant
from helpers.exercises import check, hint, predict, progress, solution
from helpers.latency import compare_latency, measure_latency

# %% [markdown] id="exercise-4-1-text"
# ### Exercise 4.1 · Scale and zero point
#
# difficulty 2/5 · 15 min · asked as: "Map a float range to int8. What are the scale and the zero point, and why must zero be exact?"
#
# `scale_and_zero_point(low, high, qmin, qmax)` returns a float and an **int**. The range is widened to hold 0 first; then `low` becomes `qmin` and `high` becomes `qmax`, as nearly as rounding allows. The scale is at least `torch.finfo(torch.float32).eps`, so that a tensor of zeros has one.
# `quantise(x, scale, zero_point, qmin, qmax)` returns int32 of the shape of `x`: divided, rounded (half to even), moved by the zero point, clamped.

# %% id="exercise-4-1" tags=["exercise"]
def scale_and_zero_point(low: float, high: float, qmin: int, qmax: int) -> tuple[float, int]:
    """Scale and zero point of the range low..high on the integers qmin..qmax."""
    ### BEGIN SOLUTION
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / (qmax - qmin), torch.finfo(torch.float32).eps)
    zero_point = qmin - round(low / scale)
    return scale, max(qmin, min(qmax, zero_point))
    ### END SOLUTION


def quantise(x: Tensor, scale: float, zero_point: int, qmin: int, qmax: int) -> Tensor:
    """The integers of x, int32."""
    ### BEGIN SOLUTION
    return (torch.round(x / scale) + zero_point).clamp(qmin, qmax).to(torch.int32)
    ### END SOLUTION

# %% id="check-4-1"
check("4.1", scale_and_zero_point, quantise)

# %% [markdown] id="exercise-4-4-text"
# ### Exercise 4.4 · Choose the clipping range
#
# difficulty 3/5 · 15 min · asked as: "One outlier makes every step coarse. How do you choose where to clip?"
#
# Symmetric quantisation in `bits` bits: integers from $-(2^{b-1}-1)$ to $2^{b-1}-1$. Try the thresholds $t_i = \max|x| \cdot i / \text{steps}$ for $i = 1 \dots \text{steps}$: what is larger than $t$ is clipped to it, the rest is rounded to steps of $t / (2^{b-1}-1)$. Return the threshold with the smallest mean squared error over all of `x`, as a float; 0.0 for a tensor of zeros.

# %% id="exercise-4-4" tags=["exercise"]
def clipping_threshold(x: Tensor, bits: int, steps: int) -> float:
    """The threshold max|x| · i / steps with the smallest mean squared error."""
    ### BEGIN SOLUTION
    levels, highest = 2 ** (bits - 1) - 1, float(x.abs().max())
    best, least = 0.0, math.inf
    for i in range(1, steps + 1):
        scale = highest * i / steps / levels
        if scale == 0:
            return 0.0
        back = torch.round(x.double() / scale).clamp(-levels, levels) * scale
        error = float((back - x).square().mean())
        if error < least:
            best, least = highest * i / steps, error
    return best
    ### END SOLUTION

# %% id="check-4-4"
check("4.4", clipping_threshold)

# %% [markdown] id="exercise-4-2-text"
# ### Exercise 4.2 · Weights, one scale per channel
#
# difficulty 2/5 · 12 min · asked as: "Why are weights quantised per output channel, and activations not?"
#
# `weight` is (out, …): of a linear layer (out, in), of a convolution (out, in, kh, kw). Return the integers, int8 in -127..127 of the same shape, and the scales, float32 (out,): the largest magnitude of the channel over 127, and 1 for a channel of zeros.

# %% id="exercise-4-2" tags=["exercise"]
def quantise_per_channel(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Integers (int8) and scales (out,), symmetric."""
    ### BEGIN SOLUTION
    scales = weight.abs().flatten(1).amax(1) / 127
    scales = torch.where(scales == 0, 1.0, scales)
    steps = torch.round(weight / scales.view(-1, *[1] * (weight.dim() - 1)))
    return steps.clamp(-127, 127).to(torch.int8), scales
    ### END SOLUTION

# %% id="check-4-2"
check("4.2", quantise_per_channel)

# %% [markdown] id="exercise-4-3-text"
# ### Exercise 4.3 · A matrix product in integers
#
# difficulty 4/5 · 20 min · asked as: "Write the quantised matrix product with zero points. Which terms can be computed beforehand?"
#
# `a` (m, k) uint8 with one scale and zero point (float, int); `b` (k, n) int8 with a scale and a zero point per column (float32 (n,), int32 (n,)). Return a pair: the accumulator $\sum_k (a - z_a)(b - z_b)$, int32 (m, n), exact; and the output, float32 (m, n), in real numbers.

# %% id="exercise-4-3" tags=["exercise"]
def quantised_matmul(a: Tensor, a_scale: float, a_zero: int, b: Tensor, b_scale: Tensor, b_zero: Tensor) -> tuple[Tensor, Tensor]:
    """The int32 accumulator and the float32 output."""
    ### BEGIN SOLUTION
    product = a.to(torch.int32) @ b.to(torch.int32)
    rows = a.to(torch.int32).sum(1, keepdim=True, dtype=torch.int32)
    columns = b.to(torch.int32).sum(0, dtype=torch.int32)  # of weights: known before the first request
    accumulator = product - b_zero * rows - a_zero * columns + a.shape[1] * a_zero * b_zero
    return accumulator, accumulator * (a_scale * b_scale)
    ### END SOLUTION

# %% id="check-4-3"
check("4.3", quantised_matmul)

# %% [markdown] id="exercise-4-5-text"
# ### Exercise 4.5 · Fold BatchNorm into the convolution
#
# difficulty 3/5 · 15 min · asked as: "What is conv–BN folding, when is it exact, and why does it come before quantisation?"
#
# `weight` (out, in / groups, kh, kw), `bias` (out,) or None; the others (out,): running mean and variance, γ and β of the BatchNorm. Return the weight and the bias of the single convolution that computes `batch_norm(conv(x))` in evaluation mode.

# %% id="exercise-4-5" tags=["exercise"]
def fold(weight: Tensor, bias: Tensor | None, mean: Tensor, variance: Tensor, gain: Tensor, shift: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Weight and bias of the folded convolution."""
    ### BEGIN SOLUTION
    factor = gain / torch.sqrt(variance + epsilon)
    old = torch.zeros_like(mean) if bias is None else bias
    return weight * factor.view(-1, 1, 1, 1), shift + (old - mean) * factor
    ### END SOLUTION

# %% id="check-4-5"
check("4.5", fold)

# %% [markdown] id="exercise-4-10-text"
# ### Exercise 4.10 · Four bits, a scale per group
#
# difficulty 4/5 · 25 min · asked as: "How are int4 weights stored? Why groups, and how many bits does a weight take then?"
#
# `pack_groups(weight, group)`: `weight` (out, in) float32; `group` neighbouring columns of a row share a scale, $\max|w| / 7$, kept as **float16** (out, in / group); 1 for a group of zeros. The integers are in -7..7. Two columns share a byte: the even one (0, 2, …) in the low four bits, the odd one in the high four, negative numbers as two's complement. Return uint8 (out, in / 2) and the scales.
# `unpack_groups(packed, scales, group)` gives float32 (out, in) back.

# %% id="exercise-4-10" tags=["exercise"]
def pack_groups(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Packed integers (out, in / 2) uint8 and scales (out, in / group) float16."""
    ### BEGIN SOLUTION
    cut = weight.reshape(len(weight), -1, group)
    scales = cut.abs().amax(2) / 7
    scales = torch.where(scales == 0, 1.0, scales).half()
    q = torch.round(cut / scales.float()[..., None]).clamp(-7, 7).to(torch.int16).reshape(weight.shape) & 0xF
    return (q[:, 0::2] | (q[:, 1::2] << 4)).to(torch.uint8), scales
    ### END SOLUTION


def unpack_groups(packed: Tensor, scales: Tensor, group: int) -> Tensor:
    """The weights (out, in) float32 that `pack_groups` stored."""
    ### BEGIN SOLUTION
    q = torch.stack([packed & 0xF, packed >> 4], dim=2).flatten(1).to(torch.int16)
    q = torch.where(q > 7, q - 16, q)
    return q * scales.float().repeat_interleave(group, dim=1)
    ### END SOLUTION

# %% id="check-4-10"
check("4.10", pack_groups, unpack_groups)

# %% [markdown] id="fix-text"
# ## 12 · Fix this code
#
# In one form or another this stands in many answer sheets. It reports that int8 is "as accurate and hardly faster". Name the faults before you write.
#
# ```python
# model = torchvision.models.resnet18(pretrained=True)
# quantised = quantize(model, dtype=torch.qint8)          # "makes everything int8"
#
# start = time.time()
# for x, y in calibration_loader:
#     correct += (quantised(x).argmax(1) == y).sum()
# print("latency:", time.time() - start)
# print("accuracy:", correct / len(calibration_loader))
# ```

# %% [markdown] id="exercise-4-12-text"
# ### Exercise 4.12 · Fix this code: a quantisation report
#
# difficulty 4/5 · 30 min · asked as: "Review this script. It says int8 is slower and just as accurate. What would you change first?"
#
# Write the report so that its numbers can be believed. `to_int8(model, inputs)` is given: it returns a new model, quantised with the ranges that it sees on `inputs`, and touches no other. `model` may be in training mode and belongs to the caller. `test` is a pair (inputs, labels). Return a dictionary:
#
# - `"float_accuracy"`, `"int8_accuracy"`: shares between 0 and 1 on the test data;
# - `"float_ms"`, `"int8_ms"`: milliseconds of a call with the first test input alone (a batch of 1): the median of `repeats` calls after `warm_up` calls that do not count; `"speed_up"`: how many times faster int8 is;
# - `"float_layers"`: sorted names of the `nn.Conv2d` and `nn.Linear` modules that are still float in the int8 model.

# %% id="exercise-4-12" tags=["exercise"]
def quantisation_report(model: nn.Module, to_int8, calibration_inputs: Tensor, test: tuple[Tensor, Tensor], warm_up: int, repeats: int) -> dict:
    """Accuracy, latency and what was quantised, of the float and the int8 model."""
    ### BEGIN SOLUTION
    inputs, labels = test
    with torch.inference_mode():
        served = copy.deepcopy(model).eval()
        sides, report = {"float": served, "int8": to_int8(served, calibration_inputs)}, {}
        for name, side in sides.items():
            report[f"{name}_accuracy"] = float((side(inputs).argmax(1) == labels).float().mean())
            times = []
            for _ in range(warm_up + repeats):
                start = time.perf_counter()
                side(inputs[:1])
                times.append(time.perf_counter() - start)
            report[f"{name}_ms"] = 1e3 * statistics.median(times[warm_up:])
    report["speed_up"] = report["float_ms"] / report["int8_ms"]
    report["float_layers"] = sorted(n for n, m in sides["int8"].named_modules() if isinstance(m, nn.Conv2d | nn.Linear))
    return report
    ### END SOLUTION

# %% id="check-4-12"
check("4.12", quantisation_report)
