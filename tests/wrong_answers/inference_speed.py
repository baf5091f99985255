"""Wrong and other right answers to exercises 4.1 to 4.5, as candidates give them."""

import math

import numpy as np
import torch

from . import right, wrong

EPS = torch.finfo(torch.float32).eps


def _scale(low, high, qmin, qmax):
    low, high = min(low, 0.0), max(high, 0.0)
    return low, max((high - low) / (qmax - qmin), EPS)


# --- 4.1 scale and zero point -------------------------------------------------------------------------------------


@wrong("4.1", part="scale_and_zero_point", names="range not containing zero", reason=r"contain 0")
def scale_not_widened(low, high, qmin, qmax):
    scale = max((high - low) / (qmax - qmin), EPS)
    return scale, max(qmin, min(qmax, qmin - round(low / scale)))


@wrong("4.1", part="scale_and_zero_point", names="zero point not clamped, range not widened", reason=r"contain 0")
def scale_not_clamped(low, high, qmin, qmax):
    scale = max((high - low) / (qmax - qmin), EPS)
    return scale, qmin - round(low / scale)


@wrong("4.1", part="scale_and_zero_point", names="zero point outside the integers", reason=r"between qmin and qmax")
def zero_outside(low, high, qmin, qmax):
    scale = _scale(low, high, qmin, qmax)[1]
    return scale, qmin - round(low / scale)


@wrong("4.1", part="scale_and_zero_point", names="zero point not an integer", reason=r"one of the integers")
def zero_float(low, high, qmin, qmax):
    low, scale = _scale(low, high, qmin, qmax)
    return scale, qmin - low / scale


@wrong("4.1", part="scale_and_zero_point", names="scale zero for a constant tensor", reason=r"tensor of zeros")
def scale_zero(low, high, qmin, qmax):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (qmax - qmin)
    return scale, qmin - round(low / scale) if scale else qmin


@wrong("4.1", part="scale_and_zero_point", names="division by zero", reason=r"ZeroDivisionError")
def scale_divides(low, high, qmin, qmax):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (qmax - qmin)
    return scale, qmin - round(low / scale)


@wrong("4.1", part="scale_and_zero_point", names="256 steps", reason=r"255 steps")
def scale_256(low, high, qmin, qmax):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / (qmax - qmin + 1), EPS)
    return scale, qmin - round(low / scale)


@wrong("4.1", part="scale_and_zero_point", names="symmetric", reason=r"symmetric scale")
def scale_symmetric(low, high, qmin, qmax):
    return max(2 * max(abs(low), abs(high)) / (qmax - qmin), EPS), 0


@wrong("4.1", part="scale_and_zero_point", names="qmin forgotten", reason=r"low has to become qmin")
def zero_without_qmin(low, high, qmin, qmax):
    low, scale = _scale(low, high, qmin, qmax)
    return scale, -round(low / scale)


@wrong("4.1", part="scale_and_zero_point", names="only the scale", reason=r"return scale, zero_point")
def scale_alone(low, high, qmin, qmax):
    return _scale(low, high, qmin, qmax)[1]


def _scaling(name, reason, *, scale=None, zero=None, result=float):
    def answer(low, high, qmin, qmax):
        low, high = min(low, 0.0), max(high, 0.0)
        found = scale(low, high, qmin, qmax) if scale else max((high - low) / (qmax - qmin), EPS)
        point = zero(low / found, qmin, qmax) if zero else max(qmin, min(qmax, qmin - round(low / found)))
        return result(found), point

    wrong("4.1", parts={"scale_and_zero_point": answer}, names=name, reason=reason)


_scaling("always 255 steps", r"255 steps whatever", scale=lambda low, high, a, b: max((high - low) / 255, EPS))
_scaling("1e-8 for zeros", r"float32's epsilon", scale=lambda low, high, a, b: max((high - low) / (b - a), 1e-8))
_scaling("1 for zeros", r"float32's epsilon", scale=lambda low, high, a, b: (high - low) / (b - a) or 1.0)
_scaling("clamped to uint8", r"stopped at 0 and 255", zero=lambda steps, a, b: max(0, min(255, a - round(steps))))
_scaling("clamped to int8", r"stopped at -128 and 127", zero=lambda steps, a, b: max(-128, min(127, a - round(steps))))
_scaling("zero point rounded down", r"rounded down", zero=lambda steps, a, b: a - math.floor(steps))
_scaling("zero point cut off", r"was cut off", zero=lambda steps, a, b: a - int(steps))
_scaling("scale as a tensor", r"the scale: its type", result=torch.tensor)


@wrong("4.1", part="quantise", names="half rounded up", reason=r"half to even")
def half_up(x, scale, zero_point, qmin, qmax):
    return (torch.floor(x / scale + 0.5) + zero_point).clamp(qmin, qmax).to(torch.int32)


@wrong("4.1", part="quantise", names="truncated", reason=r"cut off")
def truncated(x, scale, zero_point, qmin, qmax):
    return ((x / scale).to(torch.int32) + zero_point).clamp(qmin, qmax)


@wrong("4.1", part="quantise", names="zero point added before rounding", reason=r"round first")
def zero_before(x, scale, zero_point, qmin, qmax):
    return torch.round(x / scale + zero_point).clamp(qmin, qmax).to(torch.int32)


@wrong("4.1", part="quantise", names="not clamped", reason=r"have to be clamped")
def unclamped(x, scale, zero_point, qmin, qmax):
    return (torch.round(x / scale) + zero_point).to(torch.int32)


@wrong("4.1", part="quantise", names="clamped too early", reason=r"clamp after")
def clamped_early(x, scale, zero_point, qmin, qmax):
    return (torch.round(x / scale).clamp(qmin, qmax) + zero_point).to(torch.int32)


@wrong("4.1", part="quantise", names="no zero point", reason=r"zero point is missing")
def no_zero(x, scale, zero_point, qmin, qmax):
    return torch.round(x / scale).clamp(qmin, qmax).to(torch.int32)


@wrong("4.1", part="quantise", names="half away from zero", reason=r"away from zero")
def half_away(x, scale, zero_point, qmin, qmax):
    steps = x.sign() * torch.floor(x.abs() / scale + 0.5)
    return (steps + zero_point).clamp(qmin, qmax).to(torch.int32)


@wrong("4.1", part="quantise", names="int8 first", reason=r"straight to int32")
def int8_first(x, scale, zero_point, qmin, qmax):
    return (torch.round(x / scale) + zero_point).clamp(qmin, qmax).to(torch.int8).to(torch.int32)


@wrong("4.1", part="quantise", names="integers of uint8", reason=r"stopped at 0 and 255")
def always_uint8(x, scale, zero_point, qmin, qmax):
    return (torch.round(x / scale) + zero_point).clamp(0, 255).to(torch.int32)


@wrong("4.1", part="quantise", names="integers of 8 bits", reason=r"stopped at (0 and 255|-128 and 127)")
def always_8_bits(x, scale, zero_point, qmin, qmax):
    low = 0 if qmin == 0 else -128
    return (torch.round(x / scale) + zero_point).clamp(low, low + 255).to(torch.int32)


@wrong("4.1", part="quantise", names="floats", reason=r"int32")
def as_floats(x, scale, zero_point, qmin, qmax):
    return (torch.round(x / scale) + zero_point).clamp(qmin, qmax)


@right("4.1", part="quantise", names="in double precision by numpy")
def by_numpy(x, scale, zero_point, qmin, qmax):
    steps = np.rint(x.numpy().astype(np.float64) / scale) + zero_point
    return torch.from_numpy(np.clip(steps, qmin, qmax).astype(np.int32))


@right("4.1", part="scale_and_zero_point", names="from the upper end")
def from_above(low, high, qmin, qmax):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (qmax - qmin)
    if scale < EPS:
        return EPS, qmin
    return scale, qmax - math.ceil(high / scale - 0.5)


# --- 4.2 weights per channel --------------------------------------------------------------------------------------


def _integers(weight, scales):
    return torch.round(weight / scales.view(-1, *[1] * (weight.dim() - 1))).clamp(-127, 127).to(torch.int8)


def _safe(scales):
    return torch.where(scales == 0, 1.0, scales)


def _highest(weight):
    return weight.abs().flatten(1).amax(1)


@wrong("4.2", names="one scale for all", reason=r"one scale for the whole tensor")
def per_tensor(weight):
    scales = (weight.abs().max() / 127).expand(len(weight))
    return _integers(weight, scales), scales


@wrong("4.2", names="a single number", reason=r"one scale per output channel")
def per_tensor_number(weight):
    scale = weight.abs().max() / 127
    return torch.round(weight / scale).to(torch.int8), scale


@wrong("4.2", names="the wrong axis", reason=r"wrong axis|first dimension")
def wrong_axis(weight):
    scales = weight.abs().transpose(0, 1).flatten(1).amax(1) / 127
    shape = [1, -1, *[1] * (weight.dim() - 2)]
    return torch.round(weight / scales.view(shape)).clamp(-127, 127).to(torch.int8), scales


@wrong("4.2", names="128", reason=r"pushes the largest weight to 128")
def by_128(weight):
    scales = _safe(_highest(weight) / 128)
    return _integers(weight, scales), scales


@wrong("4.2", names="127.5", reason=r"largest weight is at 127")
def by_half(weight):
    scales = _safe(_highest(weight) / 127.5)
    return _integers(weight, scales), scales


@wrong("4.2", names="zero scale", reason=r"channel of zeros")
def zero_scale(weight):
    scales = _highest(weight) / 127
    return _integers(weight, scales), scales


@wrong("4.2", names="no abs", reason=r"may be negative")
def no_abs(weight):
    scales = _safe(weight.flatten(1).amax(1) / 127)
    return _integers(weight, scales), scales


@wrong("4.2", names="the mean", reason=r"not the mean")
def by_mean(weight):
    scales = _safe(weight.abs().flatten(1).mean(1) / 127)
    return _integers(weight, scales), scales


@wrong("4.2", names="cut off", reason=r"cut off")
def cut_off(weight):
    scales = _safe(_highest(weight) / 127)
    return (weight / scales.view(-1, *[1] * (weight.dim() - 1))).to(torch.int8), scales


@wrong("4.2", names="rounded down", reason=r"rounded down")
def rounded_down(weight):
    scales = _safe(_highest(weight) / 127)
    return torch.floor(weight / scales.view(-1, *[1] * (weight.dim() - 1))).clamp(-127, 127).to(torch.int8), scales


@wrong("4.2", names="floats", reason=r"int8 of the weight's shape")
def float_integers(weight):
    scales = _safe(_highest(weight) / 127)
    return _integers(weight, scales).float(), scales


@wrong("4.2", names="scales in double precision", reason=r"the scales: its dtype")
def double_scales(weight):
    scales = _safe(_highest(weight.double()) / 127)
    return _integers(weight, scales), scales


@wrong("4.2", names="integers alone", reason=r"return integers, scales")
def integers_alone(weight):
    return _integers(weight, _safe(_highest(weight) / 127))


@right("4.2", names="a loop over the channels")
def channel_loop(weight):
    integers, scales = torch.zeros(weight.shape, dtype=torch.int8), torch.ones(len(weight))
    for i, channel in enumerate(weight):
        if channel.abs().max() > 0:
            scales[i] = channel.abs().max() / 127
            integers[i] = torch.round(channel / scales[i]).to(torch.int8)
    return integers, scales


# --- 4.3 the integer product --------------------------------------------------------------------------------------


def _terms(a, b):
    a, b = a.to(torch.int32), b.to(torch.int32)
    return a @ b, a.sum(1, keepdim=True, dtype=torch.int32), b.sum(0, dtype=torch.int32), a.shape[1]


def _product(name, reason, combine):
    def answer(a, a_scale, a_zero, b, b_scale, b_zero):
        accumulator = combine(*_terms(a, b), a_zero, b_zero)
        return accumulator, accumulator * (a_scale * b_scale)

    wrong("4.3", parts={"quantised_matmul": answer}, names=name, reason=reason)


_product("no zero points", r"both zero points are missing", lambda p, r, c, k, za, zb: p)
_product("no cross terms", r"cross terms", lambda p, r, c, k, za, zb: p + k * za * zb)
_product("no last term", r"last term is missing", lambda p, r, c, k, za, zb: p - zb * r - za * c)
_product("last term without k", r"k·za·zb", lambda p, r, c, k, za, zb: p - zb * r - za * c + za * zb)
_product("last term subtracted", r"minus times minus", lambda p, r, c, k, za, zb: p - zb * r - za * c - k * za * zb)
_product("zero points swapped", r"swapped", lambda p, r, c, k, za, zb: p - za * r - zb * c + k * za * zb)


@wrong("4.3", names="int8 accumulator", reason=r"overflows")
def int8_sum(a, a_scale, a_zero, b, b_scale, b_zero):
    _, rows, columns, k = _terms(a, b)
    product = (a.to(torch.int8) @ b.to(torch.int8)).to(torch.int32)
    accumulator = product - b_zero * rows - a_zero * columns + k * a_zero * b_zero
    return accumulator, accumulator * (a_scale * b_scale)


@wrong("4.3", names="float accumulator", reason=r"Σ ab - zb Σ a - za Σ b")
def float_sum(a, a_scale, a_zero, b, b_scale, b_zero):
    product = ((a.float() - a_zero).half().float() @ (b.float() - b_zero)).to(torch.int32)
    return product + 1, product * (a_scale * b_scale)


@wrong("4.3", names="int64", reason=r"int32")
def int64_sum(a, a_scale, a_zero, b, b_scale, b_zero):
    accumulator = (a.long() - a_zero) @ (b.long() - b_zero)
    return accumulator, (accumulator * (a_scale * b_scale)).float()


@wrong("4.3", names="only the output", reason=r"return accumulator, output")
def output_alone(a, a_scale, a_zero, b, b_scale, b_zero):
    return ((a.float() - a_zero) * a_scale) @ ((b.float() - b_zero) * b_scale)


def _output(name, reason, scale):
    def answer(a, a_scale, a_zero, b, b_scale, b_zero):
        accumulator = (a.to(torch.int32) - a_zero) @ (b.to(torch.int32) - b_zero)
        return accumulator, scale(accumulator, a_scale, b_scale)

    wrong("4.3", parts={"quantised_matmul": answer}, names=name, reason=reason)


_output("output not scaled", r"times both scales", lambda q, sa, sb: q.float())
_output("b's scale forgotten", r"scales of b", lambda q, sa, sb: q * sa)
_output("a's scale forgotten", r"scale of a", lambda q, sa, sb: q * sb)
_output("the first column's scale", r"one scale a column", lambda q, sa, sb: q * (sa * sb[0]))
_output("output in double", r"float32", lambda q, sa, sb: q.double() * (sa * sb))


@right("4.3", names="subtract first, then multiply")
def subtracted_first(a, a_scale, a_zero, b, b_scale, b_zero):
    accumulator = (a.to(torch.int32) - a_zero) @ (b.to(torch.int32) - b_zero)
    return accumulator, accumulator * (a_scale * b_scale)


@right("4.3", names="a loop over k")
def loop_over_k(a, a_scale, a_zero, b, b_scale, b_zero):
    accumulator = torch.zeros(a.shape[0], b.shape[1], dtype=torch.int32)
    for i in range(a.shape[1]):
        accumulator += (a[:, i : i + 1].to(torch.int32) - a_zero) * (b[i : i + 1].to(torch.int32) - b_zero)
    return accumulator, accumulator.float() * a_scale * b_scale


# --- 4.4 clipping -------------------------------------------------------------------------------------------------


def _clip(name, reason, *, error=None, levels=None, result=None):
    def answer(x, bits, steps):
        top, best, least = float(x.abs().max()), 0.0, math.inf
        n = levels(bits) if levels else 2 ** (bits - 1) - 1
        for i in range(1, steps + 1):
            t = top * i / steps
            if t == 0:
                return 0.0
            q = torch.round(x.double() / (t / n))
            found = float(error(x, q, t, n) if error else (q.clamp(-n, n) * t / n - x).square().mean())
            if found < least:
                best, least = t, found
        return result(best) if result else best

    wrong("4.4", parts={"clipping_threshold": answer}, names=name, reason=reason)


_clip(
    "only the values inside",
    r"that error counts",
    error=lambda x, q, t, n: (
        (q.clamp(-n, n) * t / n - x)[x.abs() <= t].square().mean() if (x.abs() <= t).any() else 9e9
    ),
)
_clip("no clamp", r"that error counts", error=lambda x, q, t, n: (q * t / n - x).square().mean())
_clip("error of the integers", r"real units", error=lambda x, q, t, n: (q.clamp(-n, n) - x * n / t).square().mean())
_clip("absolute error", r"squared error", error=lambda x, q, t, n: (q.clamp(-n, n) * t / n - x).abs().mean())
_clip("all bits for one side", r"2\^\(bits-1\)", levels=lambda bits: 2**bits - 1)
_clip("a tensor", r"one number", result=torch.tensor)


@wrong("4.4", names="nothing clipped", reason=r"nothing is clipped")
def never_clip(x, bits, steps):
    return float(x.abs().max())


def _every(x, bits, steps, top=None, below=0):
    n, top = 2 ** (bits - 1) - 1, float(x.abs().max()) if top is None else top
    t = [top * i / steps for i in range(1, steps + 1)]
    if top == 0:
        return [0.0], [0.0]
    return t, [
        float(((x.double() * n / c).round().clamp(-n - below, n) * c / n - x).square().mean()) if c else math.inf
        for c in t
    ]


@wrong("4.4", names="one level more below", reason=r"one level too many below")
def clip_below(x, bits, steps):
    t, errors = _every(x, bits, steps, below=1)
    return t[int(np.argmin(errors))]


@wrong("4.4", names="stopped at the first rise", reason=r"rose for the first time")
def clip_first_rise(x, bits, steps):
    t, errors = _every(x, bits, steps)
    return next((t[i - 1] for i in range(1, len(t)) if errors[i] > errors[i - 1]), t[-1])


@wrong("4.4", names="max without abs", reason=r"may be negative")
def clip_max(x, bits, steps):
    t, errors = _every(x, bits, steps, top=float(x.max()))
    return t[int(np.argmin(errors))]


@wrong("4.4", names="the last candidate left out", reason=r"last candidate")
def clip_range(x, bits, steps):
    t, errors = _every(x, bits, steps)
    return t[int(np.argmin(errors[:-1] or errors))]


@wrong("4.4", names="NaN for zeros", reason=r"zeros")
def nan_for_zeros(x, bits, steps):
    top, n = float(x.abs().max()), 2 ** (bits - 1) - 1
    thresholds = [top * i / steps for i in range(1, steps + 1)]
    errors = [
        float(((x.double() / max(t / n, 1e-30)).round().clamp(-n, n) * t / n - x).square().mean()) for t in thresholds
    ]
    return thresholds[int(np.argmin(errors))] if top else math.nan


@right("4.4", names="all candidates at once")
def all_at_once(x, bits, steps):
    top, n = x.abs().max().double(), 2 ** (bits - 1) - 1
    if top == 0:
        return 0.0
    t = top * torch.arange(1, steps + 1) / steps
    scale = (t / n)[:, None]
    flat = x.flatten().double()
    errors = ((flat / scale).round().clamp(-n, n) * scale - flat).square().mean(1)
    return float(t[errors.argmin()])


# --- 4.5 folding --------------------------------------------------------------------------------------------------


def _folded(name, reason, factor=None, offset=None):
    def answer(weight, bias, mean, variance, gain, shift, epsilon):
        f = factor(variance, gain, epsilon) if factor else gain / torch.sqrt(variance + epsilon)
        old = torch.zeros_like(mean) if bias is None else bias
        new = offset(old, mean, f, shift) if offset else shift + (old - mean) * f
        return weight * f.view(-1, 1, 1, 1), new

    wrong("4.5", parts={"fold": answer}, names=name, reason=reason)


_folded("without epsilon", r"epsilon is missing", factor=lambda v, g, e: g / v.sqrt())
_folded("epsilon outside the root", r"under the root", factor=lambda v, g, e: g / (v.sqrt() + e))
_folded("without the root", r"root is missing", factor=lambda v, g, e: g / (v + e))
_folded("without gamma", r"γ is missing", factor=lambda v, g, e: 1 / torch.sqrt(v + e))
_folded("old bias lost", r"own bias is lost", offset=lambda old, m, f, s: s - m * f)
_folded("old bias not scaled", r"scale it", offset=lambda old, m, f, s: s + old - m * f)
_folded("mean added", r"subtracted, not added", offset=lambda old, m, f, s: s + (old + m) * f)
_folded("mean forgotten", r"mean is missing", offset=lambda old, m, f, s: s + old * f)


@wrong("4.5", names="along the input channels", reason=r"RuntimeError|per output channel")
def along_inputs(weight, bias, mean, variance, gain, shift, epsilon):
    factor = gain / torch.sqrt(variance + epsilon)
    old = torch.zeros_like(mean) if bias is None else bias
    return weight * factor.view(1, -1, 1, 1), shift + (old - mean) * factor


@wrong("4.5", names="bias None forgotten", reason=r"TypeError")
def bias_needed(weight, bias, mean, variance, gain, shift, epsilon):
    factor = gain / torch.sqrt(variance + epsilon)
    return weight * factor.view(-1, 1, 1, 1), shift + (bias - mean) * factor


@wrong("4.5", names="weight alone", reason=r"return weight, bias")
def weight_alone(weight, bias, mean, variance, gain, shift, epsilon):
    return weight * (gain / torch.sqrt(variance + epsilon)).view(-1, 1, 1, 1)


@wrong("4.5", names="a flat weight", reason=r"shape of the weight")
def flat_weight(weight, bias, mean, variance, gain, shift, epsilon):
    factor = gain / torch.sqrt(variance + epsilon)
    return weight.flatten(1) * factor[:, None], shift - mean * factor


@wrong("4.5", names="a bias of four dimensions", reason=r"one number per output channel")
def bias_4d(weight, bias, mean, variance, gain, shift, epsilon):
    factor = (gain / torch.sqrt(variance + epsilon)).view(-1, 1, 1, 1)
    return weight * factor, (shift - mean * factor.flatten()).view(-1, 1, 1)


def _folded_as(name, reason, change):
    def answer(weight, bias, mean, variance, gain, shift, epsilon):
        factor = gain / torch.sqrt(variance + epsilon)
        old = torch.zeros_like(mean) if bias is None else bias
        return change(weight * factor.view(-1, 1, 1, 1), shift + (old - mean) * factor, bias)

    wrong("4.5", parts={"fold": answer}, names=name, reason=reason)


_folded_as("no bias stays no bias", r"without a bias gets one", lambda w, b, old: (w, None if old is None else b))
_folded_as("in double precision", r"folded weight: its dtype", lambda w, b, old: (w.double(), b.double()))
_folded_as("bias in half precision", r"folded bias: its dtype", lambda w, b, old: (w, b.half()))


@right("4.5", names="channel by channel")
def by_channel(weight, bias, mean, variance, gain, shift, epsilon):
    weights, biases = [], []
    for i in range(len(weight)):
        factor = float(gain[i]) / math.sqrt(float(variance[i]) + epsilon)
        weights.append(weight[i] * factor)
        biases.append(float(shift[i]) + ((0.0 if bias is None else float(bias[i])) - float(mean[i])) * factor)
    return torch.stack(weights), torch.tensor(biases)


from . import inference_decoding, inference_formats  # noqa: E402, F401 - those of 4.6 to 4.12
