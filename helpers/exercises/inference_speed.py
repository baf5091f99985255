"""The checks and hints of exercises 4.1 to 4.5: scale and zero point, weights per channel, the integer product,
clipping, folding.

What they do not catch: an answer that is right and slow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from helpers.exercises.registry import exercise
from helpers.exercises.trial import Mistake, Trial

Answer = Callable[..., Any]


def normal(trial: Trial, *shape: int, scale: float = 1.0) -> Any:
    """A float32 tensor of normal numbers."""
    import torch

    return torch.from_numpy(trial.rng.normal(0, scale, shape).astype(np.float32))


# ------------------------------------------------------------------------------------------ 4.1 scale and zero point

SMALLEST = float(np.finfo(np.float32).eps)


@exercise(
    "4.1",
    title="Scale and zero point",
    parts=("scale_and_zero_point", "quantise"),
    difficulty=2,
    minutes=15,
    asked_as="Map a float range to int8. What are the scale and the zero point, and why must zero be exact?",
    hints=(
        "The real number 0 (padding, a ReLU's output) has to be one of the integers. What does that ask of the range?",
        "Widen the range to hold 0 first. The scale is the width of the range over the number of steps, qmax - qmin.",
        "Then low has to become qmin: qmin = round(low / scale) + zero_point. A range of width 0 needs a smallest "
        "scale.",
        "`torch.round` (and Python's `round`) round half to even, as torch's kernels do. Add the zero point after "
        "rounding, clamp last.",
    ),
)
def scale_check(trial: Trial, scale_and_zero_point: Answer, quantise: Answer) -> None:
    rng = trial.rng
    ranges = [
        (-1.0, 3.0, 0, 255),
        (float(-rng.uniform(1, 9)), float(rng.uniform(1, 9)), -128, 127),
        (2.0, 6.0, 0, 255),
        (-7.0, -3.0, -128, 127),
        (-0.99, 2.5, 0, 255),  # low lies 72.3 steps below 0
        (-6.0, 1.0, 0, 255),
        (-1.0, 6.0, -128, 127),
        (-1.0, 3.0, -8, 7),
        (-2.0, 1.5, 0, 15),
        (0.0, 0.0, 0, 255),
    ]
    for low, high, qmin, qmax in ranges:
        got = trial.call(scale_and_zero_point, low, high, qmin, qmax)
        trial.is_type(got, tuple, what="the result", otherwise="return scale, zero_point")
        scale, zero = _affine(low, high, qmin, qmax)
        trial.is_type(got[0], float, what="the scale", otherwise="a Python float: float(…) of a tensor")
        trial.close(
            got[0],
            scale,
            what="the scale",
            mistakes=_scale_mistakes(low, high, qmin, qmax),
            otherwise="(high - low) / (qmax - qmin), after the range was widened to hold 0"
            if low or high
            else "the smallest scale, that of a tensor of zeros, is float32's epsilon",
            rtol=1e-5,
        )
        trial.is_type(
            got[1], int, what="the zero point", otherwise="it is one of the integers: 0.0 must be kept exactly"
        )
        trial.equal(
            got[1],
            zero,
            what="the zero point",
            mistakes=[
                Mistake(
                    qmin - round(low / scale) if low > 0 or high < 0 else None,
                    "the zero point lies outside of qmin..qmax: it has to be one of the integers between qmin and qmax",
                ),
                Mistake(qmin - math.floor(low / scale), "low / scale was rounded down, not to the nearest"),
                Mistake(qmin - math.trunc(low / scale), "the fraction of low / scale was cut off, not rounded"),
                *_clamped_mistakes(np.array(zero), "the zero point"),
                Mistake(-round(low / scale), "low has to become qmin: qmin - round(low / scale)"),
                Mistake(round(low / scale) - qmin, "the sign: qmin - round(low / scale)"),
                Mistake(0, "with zero point 0 half of the integers stay unused when the range is lopsided"),
            ],
            otherwise="qmin - round(low / scale), between qmin and qmax",
        )
    _quantise_check(trial, quantise)


def _quantise_check(trial: Trial, quantise: Answer) -> None:
    import torch

    halves = torch.tensor([-2.5, -1.5, -0.5, 0.0, 0.5, 1.5, 2.5, 3.5]) / 4  # exact ties: scale 1/4
    wide = normal(trial, 3, 5, scale=40.0)
    for x, scale, zero, qmin, qmax in (
        (halves, 0.25, 3, -128, 127),
        (wide, 0.3, 100, 0, 255),
        (wide, 0.3, -20, -128, 127),
        (wide, 0.9, 1, -8, 7),
        (wide, 0.9, 6, 0, 15),
    ):
        got = trial.call(quantise, x, scale, zero, qmin, qmax)
        trial.is_tensor(
            got, tuple(x.shape), "int32", what="the integers", otherwise="int32: the caller picks the 8 bits"
        )
        steps = torch.from_numpy(np.rint(x.numpy() / np.float32(scale)))  # numpy rounds half to even as well
        up = torch.floor(x / scale + 0.5)
        away = torch.sign(x) * torch.floor(x.abs() / scale + 0.5)
        trial.equal(
            got,
            (steps + zero).clamp(qmin, qmax).int(),
            what="the integers",
            mistakes=[
                Mistake((up + zero).clamp(qmin, qmax).int(), "halves were rounded up: torch rounds half to even"),
                Mistake(
                    (away + zero).clamp(qmin, qmax).int(), "halves were rounded away from zero: torch rounds to even"
                ),
                Mistake(
                    (torch.trunc(x / scale) + zero).clamp(qmin, qmax).int(), "the fraction was cut off, not rounded"
                ),
                Mistake(torch.round(x / scale + zero).clamp(qmin, qmax).int(), "round first, then add the zero point"),
                Mistake(
                    (steps + zero).clamp(qmin, qmax).to(torch.int8).int(),
                    "int8 on the way wraps around what is above 127: straight to int32",
                ),
                *_clamped_mistakes((steps + zero).int().numpy(), "the integers"),
                Mistake((steps + zero).int(), "values outside the range have to be clamped, else they wrap around"),
                Mistake((steps.clamp(qmin, qmax) + zero).int(), "clamp after the zero point was added"),
                Mistake(steps.clamp(qmin, qmax).int(), "the zero point is missing"),
            ],
            otherwise="clamp(round(x / scale) + zero_point, qmin, qmax)",
        )


def _affine(low: float, high: float, qmin: int, qmax: int) -> tuple[float, int]:
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / (qmax - qmin), SMALLEST)
    return scale, int(np.clip(qmin - round(low / scale), qmin, qmax))


def _clamped_mistakes(integers: Any, what: str) -> list[Mistake]:
    return [
        Mistake(np.clip(integers, *ends), f"{what} stopped at {ends[0]} and {ends[1]}: qmin and qmax are arguments")
        for ends in ((0, 255), (-128, 127))
    ]


def _scale_mistakes(low: float, high: float, qmin: int, qmax: int) -> list[Mistake]:
    wide = max(high, 0.0) - min(low, 0.0)
    return [
        Mistake((high - low) / (qmax - qmin), "the range has to contain 0 (padding and ReLU give exact zeros)")
        if wide != high - low
        else Mistake(0.0, "a tensor of zeros has scale 0, by which nobody can divide: at least float32's epsilon"),
        Mistake(wide / (qmax - qmin + 1), "between 256 integers lie 255 steps"),
        Mistake(wide / 255, "255 steps whatever qmin and qmax: there are qmax - qmin of them"),
        Mistake(2 * max(abs(low), abs(high)) / (qmax - qmin), "this is the symmetric scale: the range is low to high"),
    ]


# ------------------------------------------------------------------------------------------ 4.2 weights per channel


@exercise(
    "4.2",
    title="Weights, one scale per channel",
    parts=("quantise_per_channel",),
    difficulty=2,
    minutes=12,
    asked_as="Why are weights quantised per output channel, and activations not?",
    hints=(
        "Each output channel has its own largest weight. A scale per output channel can be taken out of the sum over "
        "the inputs; one per input channel cannot.",
        "The largest magnitude over all dimensions but the first: `weight.abs().flatten(1).amax(1)`.",
        "Reshape the scales to (out, 1, 1, …) to divide; a channel of zeros would divide by zero.",
        "`torch.round(weight / scale.view(-1, *[1] * (weight.dim() - 1))).clamp(-127, 127).to(torch.int8)`.",
    ),
)
def per_channel_check(trial: Trial, quantise_per_channel: Answer) -> None:
    import torch

    for shape in ((4, 4), (5, 3, 3, 3), (6, 1, 5, 5), (3, 8, 2)):
        spread = torch.from_numpy(trial.rng.uniform(0.01, 3, (shape[0], *[1] * (len(shape) - 1))).astype(np.float32))
        weight = normal(trial, *shape) * spread
        weight.view(shape[0], -1)[0, 0] = -4 * spread.max()  # the largest weight of the first channel is negative
        weight[1] = 0
        got = trial.call(quantise_per_channel, weight)
        trial.is_type(got, tuple, what="the result", otherwise="return integers, scales")
        want = _channel_scales(weight)
        trial.is_tensor(
            got[1],
            (shape[0],),
            "float32",
            what="the scales",
            otherwise="float32, one scale per output channel: the first dimension",
        )
        trial.close(
            got[1],
            want,
            what="the scales",
            mistakes=_channel_mistakes(weight, want),
            otherwise="max |w| of the channel over 127; 1 for a channel of zeros",
            rtol=1e-5,
        )
        trial.is_tensor(got[0], shape, "int8", what="the integers", otherwise="int8 of the weight's shape")
        spread_scales = want.view(-1, *[1] * (len(shape) - 1))
        exact = (weight / spread_scales).double()
        clear = (exact - exact.floor() - 0.5).abs() > 1e-3  # where dividing and multiplying round the same way
        trial.equal(
            torch.where(clear, got[0], 0),
            torch.where(clear, torch.from_numpy(np.rint(exact.numpy())), 0).to(torch.int8),
            what="the integers",
            mistakes=[
                Mistake(torch.where(clear, exact.trunc(), 0).to(torch.int8), "the fraction was cut off, not rounded"),
                Mistake(
                    torch.where(clear, exact.floor().clamp(-127), 0).to(torch.int8), "rounded down, not to the nearest"
                ),
            ],
            otherwise="round(w / scale of its channel)",
        )


def _channel_scales(weight: Any) -> Any:
    import torch

    highest = torch.from_numpy(np.abs(weight.numpy()).reshape(len(weight), -1).max(1)) / 127
    return torch.where(highest == 0, 1.0, highest)


def _channel_mistakes(weight: Any, want: Any) -> list[Mistake]:
    import torch

    flat = weight.flatten(1)
    return [
        Mistake(
            torch.where(want == 1, 1.0, want * 127 / 128),
            "a scale of max / 128 pushes the largest weight to 128, which is no int8",
        ),
        Mistake(
            torch.where(want == 1, 1.0, want * 127 / 127.5),
            "for -127..127, symmetric around 0, the largest weight is at 127",
        ),
        Mistake(torch.where(want == 1, 0.0, want), "a channel of zeros has scale 0: dividing gives NaN; take 1 there"),
        Mistake(
            torch.where(flat.amax(1) == 0, 1.0, flat.amax(1) / 127), "the largest weight may be negative: abs first"
        ),
        Mistake(flat.abs().max().expand(len(weight)) / 127, "this is one scale for the whole tensor"),
        Mistake(torch.where(want == 1, 1.0, flat.abs().mean(1) / 127), "the largest magnitude, not the mean"),
        Mistake(
            lambda: weight.abs().transpose(0, 1).flatten(1).amax(1) / 127,
            "the wrong axis: the output channels are the first dimension",
        ),
    ]


# -------------------------------------------------------------------------------------------- 4.3 the integer product


@exercise(
    "4.3",
    title="A matrix product in integers",
    parts=("quantised_matmul",),
    difficulty=4,
    minutes=20,
    asked_as="Write the quantised matrix product with zero points. Which terms can be computed beforehand?",
    hints=(
        "Multiply out (a - za)(b - zb) and sum over k. Four terms: which of them depend on both matrices?",
        "Σ ab - zb Σ a - za Σ b + k·za·zb: row sums of a, column sums of b, and the inner size k.",
        "The product of two bytes does not fit a byte: convert both to int32 before you multiply, the sums as well.",
        "`a.int() @ b.int() - b_zero * a.int().sum(1, keepdim=True) - a_zero * b.int().sum(0) + k * a_zero * b_zero`; "
        "sums of int32 are int64 in torch: back to int32 at the end. Then times a_scale * b_scale.",
    ),
)
def matmul_check(trial: Trial, quantised_matmul: Answer) -> None:
    import torch

    rng = trial.rng
    for m, k, n in ((2, 3, 4), (3, 64, 5), (2, 3000, 2)):
        a = torch.from_numpy(rng.integers(0 if k < 1000 else 200, 256, (m, k)).astype(np.uint8))
        b = torch.from_numpy(rng.integers(-128, 128 if k < 1000 else -100, (k, n)).astype(np.int8))
        a_zero = int(rng.integers(1, 120))
        b_zero = torch.from_numpy(rng.integers(1, 9, n).astype(np.int32))
        a_scale = float(rng.uniform(0.01, 0.1))
        b_scale = torch.from_numpy(rng.uniform(0.001, 0.02, n).astype(np.float32))
        got = trial.call(quantised_matmul, a, a_scale, a_zero, b, b_scale, b_zero)
        trial.is_type(got, tuple, what="the result", otherwise="return accumulator, output")
        left, right = a.numpy().astype(np.int64), b.numpy().astype(np.int64)
        exact = (left - a_zero) @ (right - b_zero.numpy())
        trial.is_tensor(
            got[0], (m, n), "int32", what="the accumulator", otherwise="the sums of an int8 kernel are int32"
        )
        trial.equal(
            got[0],
            torch.from_numpy(exact.astype(np.int32)),
            what="the accumulator Σ (a - za)(b - zb)",
            mistakes=_matmul_mistakes(left, right, a_zero, b_zero.numpy()),
            otherwise="Σ ab - zb Σ a - za Σ b + k·za·zb, all in int32",
        )
        trial.is_tensor(got[1], (m, n), "float32", what="the output", otherwise="float32, as the next layer expects it")
        real = exact * a_scale * b_scale.numpy()
        trial.close(
            got[1],
            torch.from_numpy(real.astype(np.float32)),
            what="the output",
            mistakes=[
                Mistake(torch.from_numpy(exact.astype(np.float32)), "integers are not yet numbers: times both scales"),
                Mistake(torch.from_numpy((exact * a_scale).astype(np.float32)), "the scales of b are missing"),
                Mistake(torch.from_numpy((exact * b_scale.numpy()).astype(np.float32)), "the scale of a is missing"),
                Mistake(
                    torch.from_numpy((exact * a_scale * b_scale.numpy()[0]).astype(np.float32)), "one scale a column"
                ),
            ],
            otherwise="the accumulator times a_scale times the scale of the column",
            rtol=1e-4,
        )


def _matmul_mistakes(a: Any, b: Any, za: int, zb: Any) -> list[Mistake]:
    import torch

    product, rows, columns, k = a @ b, a.sum(1, keepdims=True), b.sum(0), a.shape[1]
    wrong = {
        "both zero points are missing: this is Σ ab": product,
        "the cross terms are missing: - zb Σ a - za Σ b": product + k * za * zb,
        "the last term is missing: + k·za·zb": product - zb * rows - za * columns,
        "the last term is k·za·zb: once for each product in the sum": product - zb * rows - za * columns + za * zb,
        "the sign of the last term: minus times minus": product - zb * rows - za * columns - k * za * zb,
        "the zero points are swapped: zb goes with the sum of a": product - za * rows - zb * columns + k * za * zb,
    }
    found = [Mistake(torch.from_numpy(value.astype(np.int32)), text) for text, value in wrong.items()]
    bytes_ = (a.astype(np.uint8).astype(np.int8) * 1) @ b.astype(np.int8)
    return [
        *found,
        Mistake(
            torch.from_numpy((bytes_.astype(np.int64) - zb * rows - za * columns + k * za * zb).astype(np.int32)),
            "the accumulator overflows: products of bytes need int32, convert before multiplying",
        ),
    ]


# ------------------------------------------------------------------------------------------------------ 4.4 clipping


@exercise(
    "4.4",
    title="Choose the clipping range",
    parts=("clipping_threshold",),
    difficulty=3,
    minutes=15,
    asked_as="One outlier makes every step coarse. How do you choose where to clip?",
    hints=(
        "A wide range rounds coarsely, a narrow one cuts off: two errors whose sum has a minimum.",
        "For each candidate t = max|x| · i / steps: scale = t / (2^(bits-1) - 1), quantise, clamp, dequantise.",
        "The error is taken over *all* values of x, those that were clipped too, in real units, after dequantising.",
        "`q = torch.round(x / scale).clamp(-levels, levels) * scale`; `((q - x) ** 2).mean()`; keep the smallest.",
    ),
)
def clipping_check(trial: Trial, clipping_threshold: Answer) -> None:
    import torch

    for bits, outlier in ((4, 30.0), (8, 0.0), (3, 12.0), (4, -25.0), (3, -9.0), (4, 8.0)):
        x = normal(trial, 8, 60)
        x[0, 0] = outlier or x[0, 0]
        if outlier == -9:  # what is large is negative, and there is much of it
            x = torch.where(x > 0, -x, x / 4) - 1
        if outlier == 8:  # near -1, 1 and 7: the error falls and rises as the integers meet these and miss them
            x = torch.sign(x) + x / 32
            x[0, :4] = torch.tensor([8.0, 7.0, 7.0, -7.0])
        steps = int(trial.rng.integers(40, 60))
        errors = _clip_errors(x, bits, steps)
        highest = float(x.abs().max())
        got = trial.call(clipping_threshold, x, bits, steps)
        trial.is_type(got, float, what="the threshold", otherwise="one number: max|x| · i / steps")
        trial.close(
            got,
            highest * (int(np.argmin(errors)) + 1) / steps,
            what="the threshold",
            mistakes=[
                Mistake(highest, "nothing is clipped. Is the error in real units, after dequantising?"),
                *_clip_mistakes(x, bits, steps),
            ],
            otherwise="the candidate whose quantised values are closest to x, squared error over all values",
            rtol=1e-4,
        )
    got = trial.call(clipping_threshold, torch.zeros(4), 8, 10)
    trial.equal(float(got), 0.0, what="the threshold of zeros", otherwise="nothing to clip: 0.0, and no NaN on the way")


def _clip_errors(x: Any, bits: int, steps: int, slip: str = "") -> list[float]:
    values = x.numpy().astype(np.float64)
    levels = 2 ** (bits - 1) - 1 if slip != "levels" else 2**bits - 1
    lowest = -levels - (slip == "below")
    errors = []
    for i in range(1, steps + 1):
        threshold = (np.abs(values).max() if slip != "max" else values.max()) * i / steps
        scale = threshold / levels
        rounded = np.rint(values / scale)
        back = np.clip(rounded, lowest, levels) * scale
        off = np.abs(back - values) ** (1 if slip == "absolute" else 2)
        if slip == "inside":
            off = off[np.abs(values) <= threshold]
        if slip == "no clamp":
            off = (rounded * scale - values) ** 2
        if slip == "integers":
            off = off / scale**2
        errors.append(float(off.mean()))
    return errors


def _clip_mistakes(x: Any, bits: int, steps: int) -> list[Mistake]:
    top, errors = float(x.abs().max()), _clip_errors(x, bits, steps)
    rises = [i for i in range(1, steps) if errors[i] > errors[i - 1]]
    return [
        Mistake(
            top * (int(np.argmin(errors[:-1])) + 1) / steps,
            "the last candidate, max|x| itself, was left out: i goes up to and with `steps`",
        ),
        Mistake(
            top * (rises[0] if rises else steps) / steps,
            "the search stopped where the error rose for the first time: behind it it may fall further, try all",
        ),
        Mistake(
            lambda: float(x.max()) * (int(np.argmin(_clip_errors(x, bits, steps, "max"))) + 1) / steps,
            "the largest value may be negative: max|x|, abs first",
        ),
    ] + [
        Mistake(lambda slip=slip: top * (int(np.argmin(_clip_errors(x, bits, steps, slip))) + 1) / steps, text)
        for slip, text in {
            "inside": "values beyond the threshold are clamped to it, and that error counts: the mean is over all of x",
            "no clamp": "values beyond the threshold are clamped to it, and that error counts",
            "integers": "compare in real units: dequantise before taking the error",
            "below": "-2^(bits-1) is one level too many below: the integers are symmetric around 0",
            "levels": "symmetric in `bits` bits: the largest integer is 2^(bits-1) - 1",
            "absolute": "squared error was asked for, this minimises the absolute one",
        }.items()
    ]


# ------------------------------------------------------------------------------------------------------- 4.5 folding


@exercise(
    "4.5",
    title="Fold BatchNorm into the convolution",
    parts=("fold",),
    difficulty=3,
    minutes=15,
    asked_as="What is conv–BN folding, when is it exact, and why does it come before quantisation?",
    hints=(
        "In evaluation mode BatchNorm is y = γ (x - μ) / √(σ² + ε) + β: a factor and an offset for each channel.",
        "The factor goes into the filters of that *output* channel; the offset becomes a bias.",
        "A bias that the convolution has already passes through BatchNorm as well: it is shifted by -μ and scaled.",
        "`factor = gain / torch.sqrt(variance + epsilon)`; weight times `factor.view(-1, 1, 1, 1)`; "
        "bias `shift + (old - mean) * factor`, old = 0 when there is none.",
    ),
)
def folding_check(trial: Trial, fold: Answer) -> None:
    import torch
    import torch.nn.functional as F

    for out, inner, groups, biased in ((4, 3, 1, True), (6, 1, 6, True), (5, 5, 1, False)):
        weight, mean, shift = normal(trial, out, inner, 3, 3), normal(trial, out), normal(trial, out)
        variance = torch.from_numpy(trial.rng.uniform(0.0005, 0.02, out).astype(np.float32))
        gain = torch.from_numpy(trial.rng.uniform(0.5, 2, out).astype(np.float32))
        bias = normal(trial, out) if biased else None
        epsilon = float(trial.rng.uniform(1e-3, 1e-2))
        got = trial.call(fold, weight, bias, mean, variance, gain, shift, epsilon)
        trial.is_type(got, tuple, what="the result", otherwise="return weight, bias")
        x = normal(trial, 2, inner * groups, 6, 6)
        want = F.batch_norm(
            F.conv2d(x, weight, bias, groups=groups), mean, variance, gain, shift, training=False, eps=epsilon
        )
        trial.is_tensor(
            got[0], tuple(weight.shape), "float32", what="the folded weight", otherwise="the shape of the weight"
        )
        trial.that(
            got[1] is not None,
            what="the folded bias",
            want=f"a tensor of shape ({out},)",
            got="None",
            otherwise="a convolution without a bias gets one: BatchNorm's offset has to go somewhere",
        )
        trial.is_tensor(got[1], (out,), "float32", what="the folded bias", otherwise="one number per output channel")
        folded = F.conv2d(x, got[0], got[1], groups=groups)
        trial.close(
            folded,
            want,
            what="the folded convolution's output",
            mistakes=[
                Mistake(F.conv2d(x, slipped[0], slipped[1], groups=groups), text)
                for text, slipped in _folding_slips(weight, bias, mean, variance, gain, shift, epsilon).items()
            ],
            otherwise="w·γ/√(σ²+ε) and β + (b - μ)·γ/√(σ²+ε), per output channel",
            rtol=1e-3,
            atol=1e-3,
        )


def _folding_slips(
    weight: Any, bias: Any, mean: Any, variance: Any, gain: Any, shift: Any, eps: float
) -> dict[str, Any]:
    import torch

    old = torch.zeros_like(mean) if bias is None else bias
    right = gain / torch.sqrt(variance + eps)

    def folded(factor: Any, offset: Any) -> tuple[Any, Any]:
        return weight * factor.view(-1, 1, 1, 1), offset

    return {
        "epsilon is missing: it is as large as a small variance": folded(
            gain / variance.sqrt(), shift + (old - mean) * gain / variance.sqrt()
        ),
        "epsilon belongs under the root, beside the variance": folded(
            gain / (variance.sqrt() + eps), shift + (old - mean) * gain / (variance.sqrt() + eps)
        ),
        "divide by the standard deviation: the root is missing": folded(
            gain / (variance + eps), shift + (old - mean) * gain / (variance + eps)
        ),
        "γ is missing": folded(right / gain, shift + (old - mean) * right / gain),
        "the convolution's own bias is lost": folded(right, shift - mean * right),
        "the old bias passes through BatchNorm as well: scale it": folded(right, shift + old - mean * right),
        "the mean is subtracted, not added": folded(right, shift + (old + mean) * right),
        "the mean is missing in the bias": folded(right, shift + old * right),
    }


from helpers.exercises import inference_decoding, inference_formats  # noqa: E402, F401 - registers 4.6 to 4.12
