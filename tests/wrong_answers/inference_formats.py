"""Wrong and other right answers to exercises 4.10 and 4.12, as candidates give them."""

import copy
import statistics
import time

import torch
from torch import nn

from . import right, wrong

# --- 4.10 four bits -----------------------------------------------------------------------------------------------


def _pack(weight, group, *, scales=None, top=7, combine=None, shift=0, whole=torch.round):
    cut = weight.reshape(len(weight), -1, group)
    if scales is None:
        scales = cut.abs().amax(2) / 7
        scales = torch.where(scales == 0, 1.0, scales).half()
    q = whole(cut / scales.float()[..., None]).clamp(-top, top).to(torch.int16).reshape(weight.shape) + shift
    if combine is not None:
        return combine(q).to(torch.uint8), scales
    q = q & 0xF
    return (q[:, 0::2] | (q[:, 1::2] << 4)).to(torch.uint8), scales


def _packing(name, reason, **change):
    wrong(
        "4.10", parts={"pack_groups": lambda weight, group: _pack(weight, group, **change)}, names=name, reason=reason
    )


_packing("nibbles swapped", r"nibbles are swapped", combine=lambda q: (q[:, 1::2] & 15) | ((q[:, 0::2] & 15) << 4))
_packing("sign bits not masked", r"mask it with 0xF", combine=lambda q: q[:, 0::2] | (q[:, 1::2] << 4))
_packing("offset by 8", r"two's complement", shift=8)
_packing("cut off", r"was cut off", whole=torch.trunc)
_packing("rounded down", r"rounded down", whole=torch.floor)
_packing("one weight a byte", r"two weights a byte", combine=lambda q: q & 15)
_packing(
    "the halves of a row",
    r"neighbouring columns",
    combine=lambda q: (q[:, : q.shape[1] // 2] & 15) | ((q[:, q.shape[1] // 2 :] & 15) << 4),
)


def _scaling(name, reason, scales):
    wrong(
        "4.10",
        parts={"pack_groups": lambda w, g: _pack(w, g, scales=scales(w, w.reshape(len(w), -1, g)))},
        names=name,
        reason=reason,
    )


def _one(scales):
    return torch.where(scales == 0, 1.0, scales).half()


_scaling("zero scale", r"group of zeros", lambda w, cut: (cut.abs().amax(2) / 7).half())
_scaling("max / 8", r"largest integer is 7", lambda w, cut: _one(cut.abs().amax(2) / 8))
_scaling("max / 7.5", r"max / 7", lambda w, cut: _one(cut.abs().amax(2) / 7.5))
_scaling("max / 127", r"not to 127", lambda w, cut: _one(cut.abs().amax(2) / 127))
_scaling("one scale a row", r"whole row", lambda w, cut: _one(w.abs().amax(1, True).expand(cut.shape[:2]) / 7))
_scaling("no abs", r"abs first", lambda w, cut: _one(cut.amax(2) / 7))
_scaling("float32 scales", r"float16", lambda w, cut: _one(cut.abs().amax(2) / 7).float())


@wrong("4.10", part="pack_groups", names="packed alone", reason=r"return packed, scales")
def packed_alone(weight, group):
    return _pack(weight, group)[0]


def _nibbles(packed):
    return torch.stack([packed & 0xF, packed >> 4], dim=2).flatten(1).to(torch.int16)


def _signed(q):
    return torch.where(q > 7, q - 16, q)


def _spread(scales, group):
    return scales.float().repeat_interleave(group, dim=1)


def _unpacking(name, reason, unpack):
    wrong("4.10", parts={"unpack_groups": unpack}, names=name, reason=reason)


_unpacking("sign lost", r"sign is lost", lambda p, s, g: _nibbles(p) * _spread(s, g))
_unpacking(
    "high nibble first",
    r"low four bits",
    lambda p, s, g: _signed(torch.stack([p >> 4, p & 15], 2).flatten(1).to(torch.int16)) * _spread(s, g),
)
_unpacking(
    "halves side by side",
    r"interleave",
    lambda p, s, g: _signed(torch.cat([p & 15, p >> 4], 1).to(torch.int16)) * _spread(s, g),
)
_unpacking("scales tiled", r"repeat_interleave", lambda p, s, g: _signed(_nibbles(p)) * s.float().repeat(1, g))
_unpacking("not scaled", r"scales are missing", lambda p, s, g: _signed(_nibbles(p)).float())
_unpacking(
    "half precision", r"unpacked weights: its dtype", lambda p, s, g: (_signed(_nibbles(p)) * _spread(s, g)).half()
)


_unpacking(
    "the product in half precision",
    r"product was taken in float16",
    lambda p, s, g: (_signed(_nibbles(p)).half() * s.repeat_interleave(g, dim=1)).float(),
)


@right("4.10", part="pack_groups", names="byte by byte")
def pack_loop(weight, group):
    out, columns = weight.shape
    scales = torch.ones(out, columns // group, dtype=torch.float16)
    packed = torch.zeros(out, columns // 2, dtype=torch.uint8)
    for r in range(out):
        for c in range(columns):
            part = weight[r, c // group * group : (c // group + 1) * group]
            if part.abs().max() > 0:
                scales[r, c // group] = part.abs().max() / 7
            value = max(-7, min(7, round(float(weight[r, c]) / float(scales[r, c // group])))) % 16
            packed[r, c // 2] += value << (4 * (c % 2))
    return packed, scales


# --- 4.12 fix this code -------------------------------------------------------------------------------------------


def _report(model, to_int8, calibration, test, warm_up, repeats, **change):
    copied = {"in_place": lambda m: m, "shallow": copy.copy}.get(change.get("copied"))
    served = (copied or copy.deepcopy)(model)
    if not change.get("train"):
        served = served.eval() if not change.get("late_eval") else served
    inputs, labels = test
    with torch.set_grad_enabled(bool(change.get("grad"))):
        quantised = to_int8(served, inputs if change.get("calibrated_on_test") else calibration)
        if change.get("late_eval"):
            served.eval(), quantised.eval()
        report = {}
        for name, side in {"float": served, "int8": quantised}.items():
            judged = served if change.get("float_twice") else side
            hits = (judged(inputs).argmax(1) == labels).float()
            report[f"{name}_accuracy"] = float(hits.sum() if change.get("hits") else hits.mean())
            if change.get("percent"):
                report[f"{name}_accuracy"] *= 100
            report[f"{name}_ms"] = _milliseconds(side, inputs, warm_up, repeats, **change)
    report["speed_up"] = report["float_ms"] / report["int8_ms"]
    if change.get("upside_down"):
        report["speed_up"] = 1 / report["speed_up"]
    looked_at = served if change.get("float_layers") else quantised
    kinds = change.get("kinds", nn.Conv2d | nn.Linear)
    modules = looked_at.named_children() if change.get("children") else looked_at.named_modules()
    names = [n for n, m in modules if isinstance(m, kinds)]
    report["float_layers"] = change.get("layers") or change.get("as_", sorted)(names)
    if change.get("back"):
        model.train()
    if change.get("left_off"):
        torch.set_grad_enabled(False)
    return report


def _milliseconds(side, inputs, warm_up, repeats, **change):
    warm_up, repeats = change.get("numbers", (warm_up, repeats))
    if change.get("swapped"):
        warm_up, repeats = repeats, warm_up
    times = []
    for _ in range(repeats if change.get("cold") else warm_up + repeats):
        start = time.perf_counter()
        side(change["of"](inputs) if "of" in change else inputs[:1])
        times.append(time.perf_counter() - start)
    kept = times if change.get("cold") or change.get("all") else times[warm_up:]
    seconds = {"sum": sum, "min": min, "mean": statistics.mean}.get(change.get("by"), statistics.median)(kept)
    return seconds if change.get("seconds") else 1e3 * seconds


def _script(name, reason, **change):
    def answer(model, to_int8, calibration_inputs, test, warm_up, repeats):
        return _report(model, to_int8, calibration_inputs, test, warm_up, repeats, **change)

    wrong("4.12", parts={"quantisation_report": answer}, names=name, reason=reason)


_script("no eval()", r"eval\(\) is missing", train=True)
_script("eval() after quantising", r"too late", late_eval=True)
_script("gradients on", r"gradients are off", grad=True)
_script("the caller's model changed", r"left as it was", copied="in_place")
_script("a shallow copy", r"copy.copy shares the layers", copied="shallow")
_script("train() at the end", r"came in evaluation mode", copied="in_place", back=True)
_script("gradients left off", r"on again afterwards", left_off=True)
_script("calibrated on the test data", r"calibrat", calibrated_on_test=True)
_script("accuracy in percent", r"between 0 and 1", percent=True)
_script("hits, not a share", r"number of hits", hits=True)
_script("int8 accuracy of the float model", r"float model", float_twice=True)
_script("layers of the float model", r"look into the one", float_layers=True)
_script("convolutions taken for int8", r"still an nn.Conv2d", kinds=nn.Linear)
_script("convolutions alone", r"still an nn.Linear", kinds=nn.Conv2d)
_script("the top level alone", r"not named_children", children=True)
_script("names in the order of the modules", r"names are not sorted", as_=list)
_script("a set of names", r"names, sorted, in a list", as_=set)
_script("the number of layers", r"names, sorted, in a list", as_=len)
_script("no warm-up", r"one sample|warm", cold=True)
_script("warm-up counted", r"leave out the warm-up", all=True, by="mean")
_script("3 and 5 whatever is asked for", r"one sample", numbers=(3, 5))
_script("warm-up and repeats swapped", r"leave out the warm-up", swapped=True)
_script("the mean of the calls", r"median of the others", by="mean")
_script("the quickest call", r"median of the others", by="min")
_script("float layers written out", r"layers that are still in float|names of the", layers=["0"])
_script("the sum of all calls", r"milliseconds a call", by="sum")
_script("seconds", r"milliseconds a call", seconds=True)
_script("a whole batch", r"one request", of=lambda inputs: inputs)
_script("another test row", r"first test input was asked for", of=lambda inputs: inputs[7:8])
_script("random numbers", r"first test input was asked for", of=lambda inputs: torch.randn_like(inputs[:1]))


@wrong("4.12", names="timed on a calibration input", reason=r"first test input was asked for")
def timed_on_calibration(model, to_int8, calibration_inputs, test, warm_up, repeats):
    def of(inputs):
        return calibration_inputs[:1]

    return _report(model, to_int8, calibration_inputs, test, warm_up, repeats, of=of)


_script("speed-up upside down", r"upside down", upside_down=True)


@wrong("4.12", names="accuracy on the calibration set", reason=r"on the test data|int8_accuracy|float_accuracy")
def judged_on_calibration(model, to_int8, calibration_inputs, test, warm_up, repeats):
    own = copy.deepcopy(model).eval()
    with torch.no_grad():
        labels = own(calibration_inputs).argmax(1)
    report = _report(model, to_int8, calibration_inputs, test, warm_up, repeats)
    return {**report, "float_accuracy": 1.0, "int8_accuracy": float((labels == labels).float().mean())}


@wrong("4.12", names="milliseconds that look right", reason=r"median of the others")
def milliseconds_made_up(model, to_int8, calibration_inputs, test, warm_up, repeats):
    report = _report(model, to_int8, calibration_inputs, test, warm_up, repeats)
    return {**report, "float_ms": 4.5, "int8_ms": 2.2, "speed_up": 4.5 / 2.2}


@wrong("4.12", names="accuracy alone", reason=r"all six figures")
def accuracy_alone(model, to_int8, calibration_inputs, test, warm_up, repeats):
    return {"int8_accuracy": 0.5}


@right("4.12", names="models one after the other, numpy medians")
def one_after_the_other(model, to_int8, calibration_inputs, test, warm_up, repeats):
    import numpy as np

    with torch.no_grad():
        served = copy.deepcopy(model)
        served.eval()
        quantised = to_int8(served, calibration_inputs)
        found = []
        for side in (served, quantised):
            times = np.zeros(repeats)
            for _ in range(warm_up):
                side(test[0][:1])
            for i in range(repeats):
                begin = time.perf_counter_ns()
                side(test[0][:1])
                times[i] = (time.perf_counter_ns() - begin) / 1e6
            right_ = torch.cat([side(part).argmax(1) for part in test[0].split(20)]) == test[1]
            found.append((float(np.median(times)), right_.float().mean().item()))
    return {
        "float_ms": found[0][0],
        "int8_ms": found[1][0],
        "speed_up": found[0][0] / found[1][0],
        "float_accuracy": found[0][1],
        "int8_accuracy": found[1][1],
        "float_layers": sorted(name for name, m in quantised.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))),
    }
