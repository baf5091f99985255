"""The checks and hints of exercises 4.10 and 4.12: packing four bits, and a script that measures int8 wrongly.

What they do not catch: a machine so busy that most calls are interrupted between the learner's clock and ours.
"""

from __future__ import annotations

import copy
import functools
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from helpers.exercises.overfitting import gradients_are_on, without
from helpers.exercises.registry import exercise
from helpers.exercises.trial import Mistake, Trial

Answer = Callable[..., Any]

# ------------------------------------------------------------------------------------------------- 4.10 four bits


@exercise(
    "4.10",
    title="Four bits, a scale per group",
    parts=("pack_groups", "unpack_groups"),
    difficulty=4,
    minutes=25,
    asked_as="How are int4 weights stored? Why groups, and how many bits does a weight take then?",
    hints=(
        "16 levels are few: with one scale for a row a single large weight makes the others zero. So 32 to 128 weights "
        "share one.",
        "Reshape to (out, groups, group). scale = max|w| / 7 of each group, 1 for a group of zeros, kept in float16.",
        "Integers are round(w / scale) in -7..7. Two of them make a byte: `(even & 0xF) | ((odd & 0xF) << 4)`.",
        "On the way back a nibble above 7 is negative: subtract 16. Then times the scale of its group.",
    ),
)
def packing_check(trial: Trial, pack_groups: Answer, unpack_groups: Answer) -> None:
    import torch

    for out, columns, group in ((2, 8, 4), (3, 32, 16), (4, 12, 6)):
        weight = torch.from_numpy(trial.rng.normal(size=(out, columns)).astype(np.float32))
        weight[0, :group] = 0
        weight[1, 0] = -9.0
        got = trial.call(pack_groups, weight, group)
        trial.is_type(got, tuple, what="the result of pack_groups", otherwise="return packed, scales")
        integers, scales, clear = _integers(weight, group)
        trial.is_tensor(
            got[1],
            (out, columns // group),
            "float16",
            what="the scales",
            otherwise="float16, one for each group of a row: float32 costs another half bit a weight at group 32",
        )
        trial.close(
            got[1].float(),
            scales.float(),
            what="the scales",
            mistakes=_scale_mistakes(weight, group, scales),
            otherwise="max|w| of the group over 7; 1 for a group of zeros",
            rtol=2e-3,
        )
        trial.is_tensor(
            got[0], (out, columns // 2), "uint8", what="the packed weights", otherwise="two weights a byte: uint8"
        )
        want = torch.from_numpy(_bytes(integers))
        both = clear[:, 0::2] & clear[:, 1::2]  # bytes in which no weight lies on the edge between two integers
        trial.equal(
            torch.where(both, got[0], 0),
            torch.where(both, want, 0),
            what="the packed weights",
            mistakes=[
                Mistake(torch.where(both, value, 0), text)
                for text, value in _byte_mistakes(integers, weight, scales).items()
            ],
            otherwise="even columns in the low four bits, odd ones in the high four, two's complement",
        )
        back = trial.call(unpack_groups, want, scales, group)
        trial.is_tensor(back, (out, columns), "float32", what="the unpacked weights", otherwise="float32, all columns")
        spread = scales.float().repeat_interleave(group, 1)
        trial.close(
            back,
            torch.from_numpy(integers).float() * spread,
            what="the unpacked weights",
            mistakes=_unpack_mistakes(integers, scales, group),
            otherwise="each nibble, with its sign, times the scale of its group",
            rtol=1e-6,
        )


def _integers(weight: Any, group: int) -> tuple[Any, Any, Any]:
    import torch

    values = weight.numpy().astype(np.float64)
    cut = values.reshape(len(values), -1, group)
    highest = np.abs(cut).max(2)
    scales = torch.from_numpy(np.where(highest == 0, 1.0, highest / 7)).half()
    exact = cut / scales.double().numpy()[..., None]
    edge = np.abs(exact - np.floor(exact) - 0.5) < 0.02  # float16's rounding of the scale may decide
    return (
        np.clip(np.rint(exact), -7, 7).astype(np.int64).reshape(values.shape),
        scales,
        torch.from_numpy(~edge.reshape(values.shape)),
    )


def _bytes(integers: Any) -> Any:
    return ((integers[:, 0::2] % 16) + 16 * (integers[:, 1::2] % 16)).astype(np.uint8)


def _byte_mistakes(integers: Any, weight: Any, scales: Any) -> dict[str, Any]:
    import torch

    spread = scales.double().repeat_interleave(weight.shape[1] // scales.shape[1], 1)
    exact = np.clip((weight.double() / spread).numpy(), -7, 7)

    half = integers.shape[1] // 2
    halves = (integers[:, :half] % 16) + 16 * (integers[:, half:] % 16)
    signed = (integers[:, 0::2] % 256) | ((integers[:, 1::2] * 16) % 256)
    wrong = {
        "the nibbles are swapped: the even column goes into the low four bits": _bytes(
            integers.reshape(len(integers), -1, 2)[:, :, ::-1].reshape(integers.shape)
        ),
        "neighbouring columns share a byte, not the two halves of the row": halves,
        "a negative number fills the whole byte with ones: mask it with 0xF before it is combined": signed,
        "the fraction of w / scale was cut off, not rounded": _bytes(np.trunc(exact).astype(np.int64)),
        "w / scale was rounded down, not to the nearest": _bytes(np.floor(exact).astype(np.int64)),
        "stored with an offset of 8: two's complement was asked for": _bytes(integers + 8),
    }
    return {text: torch.from_numpy(np.asarray(value).astype(np.uint8)) for text, value in wrong.items()}


def _scale_mistakes(weight: Any, group: int, scales: Any) -> list[Mistake]:
    import torch

    cut = weight.reshape(len(weight), -1, group)
    one = scales.float() == 1
    down = torch.where(one, scales.float(), cut.amax(2) / 7)
    row = (weight.abs().amax(1, keepdim=True) / 7).expand(scales.shape)
    return [
        Mistake(
            torch.where(one, 0.0, scales.float()), "a group of zeros has scale 0: dividing gives NaN; take 1 there"
        ),
        Mistake(torch.where(one, 1.0, scales.float() * 7 / 8), "the largest integer is 7: max / 7"),
        Mistake(torch.where(one, 1.0, scales.float() * 7 / 7.5), "symmetric, -7..7: max / 7"),
        Mistake(torch.where(one, 1.0, scales.float() * 7 / 127), "four bits reach to 7, not to 127"),
        Mistake(row.half().float(), "this is one scale for the whole row: each group has its own"),
        Mistake(down.half().float(), "the largest magnitude may be negative: abs first"),
    ]


def _unpack_mistakes(integers: Any, scales: Any, group: int) -> list[Mistake]:
    import torch

    spread = scales.float().repeat_interleave(group, 1)
    q = torch.from_numpy(integers)
    swapped = q.reshape(len(q), -1, 2).flip(2).reshape(q.shape)
    halves = torch.cat([q[:, 0::2], q[:, 1::2]], 1)
    tiled = scales.float().repeat(1, group)
    return [
        Mistake((q % 16).float() * spread, "the sign is lost: a nibble above 7 is negative, subtract 16"),
        Mistake(swapped.float() * spread, "the low four bits are the even column"),
        Mistake(halves.float() * spread, "columns lie side by side in a byte: interleave low and high nibbles"),
        Mistake(q.float() * tiled, "a group is made of neighbouring columns: repeat_interleave, not repeat"),
        Mistake(q.float(), "the scales are missing"),
        Mistake(
            (q.half() * spread.half()).float(), "the product was taken in float16: the scales become float32 before it"
        ),
    ]


# ------------------------------------------------------------------------------------------------ 4.12 fix this code


@exercise(
    "4.12",
    title="Fix this code: a quantisation report",
    parts=("quantisation_report",),
    difficulty=4,
    minutes=30,
    asked_as="Review this script. It says int8 is slower and just as accurate. What would you change first?",
    hints=(
        "Ask of each number: of which model, in which mode, on which data, and with what in the timed part?",
        "Put a *copy* in evaluation mode before anything else; quantise that copy with the calibration inputs.",
        "Accuracy on the test data, for both models; latency one sample at a time, `warm_up` calls that do not count, "
        "then the median of `repeats` calls; all of it under torch.inference_mode() or no_grad().",
        "Layers still in float: names of the nn.Conv2d and nn.Linear modules in what `to_int8` gave back.",
    ),
)
def report_check(trial: Trial, quantisation_report: Answer) -> None:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several threads for a network this small wait for each other on a busy machine
    try:
        with torch.enable_grad():  # and as it was afterwards, whatever the answer leaves behind
            _report_check(trial, quantisation_report)
    finally:
        torch.set_num_threads(threads)


def _report_check(trial: Trial, quantisation_report: Answer) -> None:
    # the paces lie so far apart that no figure made up fits both rounds
    for warm_up, repeats, nested, training, slow in ((3, 5, False, True, 0.0), (2, 7, True, False, 0.0035)):
        seed, want = _telling(trial.rng, nested)
        pace = slow + float(trial.rng.uniform(0.003, 0.004))
        calibration, test = _samples(seed, 30), _samples(seed + 1, 41)
        paces = {"float": pace, "int8": pace / float(trial.rng.uniform(1.6, 2.5))}
        log = _Log(warm_up, repeats, nested, training, paces, test[0][:1])
        answer = without(
            quantisation_report,
            "calibration_inputs",
            "test",
            "warm_up",
            "repeats",
            before=[functools.partial(_model, log, seed), functools.partial(functools.partial, _to_int8, log)],
        )
        got = trial.call(answer, calibration[0], test, warm_up, repeats)
        wanted = {"float_accuracy", "int8_accuracy", "float_ms", "int8_ms", "speed_up", "float_layers"}
        trial.that(
            isinstance(got, dict) and wanted <= set(got),
            what="the report",
            want=f"a dictionary with {', '.join(sorted(wanted))}",
            got=", ".join(map(str, got)) if isinstance(got, dict) else type(got).__name__,
            otherwise="return all six figures by name",
        )
        _must_be_honest(trial, log, got, want, calibration, test)
        _layers_must_be(trial, log, got["float_layers"])
        _latency_must_be(trial, log, got)


def _must_be_honest(
    trial: Trial, log: _Log, got: dict[str, Any], want: dict[str, Any], calibration: Any, test: Any
) -> None:
    import torch

    trial.that(
        not any(mode for _, mode, _ in log.calls) and not log.quantised_in_training,
        what="both models are in evaluation mode, before quantising too",
        want="model.eval() on a copy, first of all",
        got="a model in training mode was used",
        otherwise="eval() is missing or too late: dropout drops, and BatchNorm uses the batch and moves its statistics",
    )
    trial.that(
        all(module.training == log.training for module in log.model.modules()),
        what="the caller's model is left as it was",
        want=f"all of its layers still in {'training' if log.training else 'evaluation'} mode, as they came",
        got=f"{'it' if log.model.training != log.training else 'layers of it'} in "
        f"{'evaluation' if log.training else 'training'} mode",
        otherwise="work on copy.deepcopy(model): the caller may go on training it, copy.copy shares the layers, and "
        "train() at the end changes a model that came in evaluation mode",
    )
    gradients_are_on(trial)
    trial.that(
        not any(grad for _, _, grad in log.calls),
        what="gradients are off",
        want="torch.inference_mode() or torch.no_grad() around every call",
        got="a call that records gradients",
        otherwise="recording for a backward pass that never comes costs time and memory",
    )
    trial.that(
        log.calibrated_with is not None and torch.equal(log.calibrated_with, calibration[0]),
        what="to_int8 is calibrated on the calibration inputs",
        want="to_int8(model, calibration_inputs)",
        got="other inputs",
        otherwise="ranges taken from the test data make the test score too good",
    )
    for name in ("float_accuracy", "int8_accuracy"):
        trial.close(
            float(got[name]),
            want[name],
            what=f"{name} on the test data",
            mistakes=[
                Mistake(want["float_accuracy"], "this is the accuracy of the float model"),
                Mistake(100 * want[name], "a share between 0 and 1"),
                Mistake(want[name] * len(test[1]), "this is the number of hits: divide by the number of samples"),
            ],
            otherwise="the share of test samples whose largest output is the label, each model by itself",
            rtol=1e-4,
        )


def _layers_must_be(trial: Trial, log: _Log, got: Any) -> None:
    convolution, middle, head = NESTED if log.nested else FLAT
    trial.is_type(
        got, (list, tuple), what="the layers that are still in float", otherwise="their names, sorted, in a list"
    )
    trial.equal(
        list(got),
        sorted([convolution, middle]),
        what="the layers that are still in float",
        mistakes=[
            Mistake(
                sorted([convolution, middle, head]),
                "these are the layers of the float model: look into the one that to_int8 gave back",
            ),
            Mistake([convolution, middle], "the names are not sorted: this is the order of the modules"),
            Mistake([middle], "a convolution is still an nn.Conv2d: dynamic quantisation does not touch it"),
            Mistake([convolution], "a linear layer is still an nn.Linear: not only convolutions can stay in float"),
            Mistake([], "layers within layers count as well: named_modules(), not named_children()"),
        ],
        otherwise="names of the nn.Conv2d and nn.Linear modules of the int8 model",
    )


def _latency_must_be(trial: Trial, log: _Log, got: dict[str, Any]) -> None:
    kinds = [kind for kind, _, _ in log.calls]
    singles = {kind: kinds.count(f"{kind} 1") for kind in ("float", "int8")}
    others = min(kinds.count(f"{kind} another") for kind in singles)
    trial.that(
        min(singles.values()) >= log.warm_up + log.repeats,
        what="calls with one sample, the first test input",
        want=f"{log.warm_up} to warm up and {log.repeats} that count, of each model",
        got=f"{singles['float']} of the float model, {singles['int8']} of the int8 model",
        otherwise="the calls with one sample had another one: the first test input was asked for, inputs[:1] of test"
        if others >= log.warm_up + log.repeats
        else "for each model warm_up + repeats calls of test inputs[:1]: latency is that of one request",
    )
    for kind in singles:
        took = 1e3 * statistics.median(log.seconds[kind][log.warm_up : log.warm_up + log.repeats])
        trial.that(
            0.9 * took <= float(got[f"{kind}_ms"]) <= 1.25 * took + 0.5,
            what=f"{kind}_ms",
            want=f"about {took:.3g} ms, the median of the calls after warming up",
            got=f"{float(got[f'{kind}_ms']):.4g}",
            otherwise="the first calls are slow, and one that counts: leave out the warm-up, then the median of the "
            "others, in milliseconds a call",
        )
    trial.close(
        float(got["speed_up"]),
        float(got["float_ms"]) / float(got["int8_ms"]),
        what="the speed-up",
        mistakes=[
            Mistake(float(got["int8_ms"]) / float(got["float_ms"]), "upside down: above 1 means that int8 is faster")
        ],
        otherwise="float_ms / int8_ms",
        rtol=1e-3,
    )


class _Log:
    """What the models saw. One for all copies of a model."""

    def __init__(
        self, warm_up: int, repeats: int, nested: bool, training: bool, pace: dict[str, float], first: Any
    ) -> None:
        self.warm_up, self.repeats, self.nested, self.training = warm_up, repeats, nested, training
        self.pace, self.first = pace, first
        self.calls: list[tuple[str, bool, bool]] = []
        self.seconds: dict[str, list[float]] = {"float": [], "int8": []}
        self.quantised_in_training = False
        self.calibrated_with: Any = None
        self.model: Any = None

    def __deepcopy__(self, memory: Any) -> _Log:
        return self


def _samples(seed: int, count: int) -> tuple[Any, Any]:
    import torch

    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3, 6, 6)).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(rng.integers(0, 3, count))


FLAT = "0", "4", "5"  # the convolution, the linear layer that stays in float, the one that does not
NESTED = "features.stem", "classifier.middle", "classifier.head"


def _network(seed: int, nested: bool) -> Any:
    """A small classifier, in training mode, with statistics that differ from any batch's."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        norm = nn.BatchNorm2d(8)
        layers: list[Any] = [nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(128, 16), nn.Linear(16, 3)]
        norm.running_mean.normal_()  # type: ignore[union-attr]
    if not nested:
        return nn.Sequential(*layers)
    features = nn.Sequential(OrderedDict(zip(("stem", "norm", "relu", "flatten"), layers[:4], strict=True)))
    classifier = nn.Sequential(OrderedDict(zip(("middle", "head"), layers[4:], strict=True)))
    return nn.Sequential(OrderedDict(features=features, classifier=classifier))


def _coarse(net: Any, nested: bool) -> Any:
    """The network with its last layer rounded to two bits: the convolution stays, as with dynamic quantisation."""
    import torch
    from torch import nn

    class Rounded(nn.Module):
        def __init__(self, weight: Any, bias: Any) -> None:
            super().__init__()
            self.weight, self.bias = weight, bias

        def forward(self, x: Any) -> Any:
            return x @ self.weight.T + self.bias

    coarse = copy.deepcopy(net)
    end = coarse.classifier if nested else coarse
    step = end[-1].weight.detach().abs().max()
    end[-1] = Rounded(torch.round(end[-1].weight.detach() / step) * step, end[-1].bias.detach())
    return coarse


def _watched(net: Any, log: _Log, kind: str) -> Any:
    """The network, with a note of every call and of how long those with the first test input alone really took.

    They are slow while it warms up. Of those that count the second is quick and the last one slow, so that only the
    median is about `log.pace`. A busy machine makes all of them longer, the learner's figure and the note alike.
    """
    import torch

    begun, seconds = 0.0, log.pace[kind]

    def before(module: Any, args: Any) -> None:
        nonlocal begun
        begun, one = time.perf_counter(), torch.equal(args[0], log.first)
        name = "1" if one else "another" if len(args[0]) == 1 else "many"
        log.calls.append((f"{kind} {name}", module.training, torch.is_grad_enabled()))
        if one:
            counted = len(log.seconds[kind]) + 1 - log.warm_up
            unusual = {2: seconds / 4, log.repeats: 0.09}
            time.sleep(0.03 if counted < 1 else unusual.get(counted, seconds))

    def after(module: Any, args: Any, output: Any) -> None:
        if torch.equal(args[0], log.first):
            log.seconds[kind].append(time.perf_counter() - begun)

    net._forward_pre_hooks.clear()
    net._forward_hooks.clear()
    net.register_forward_pre_hook(before)
    net.register_forward_hook(after)
    return net


def _model(log: _Log, seed: int) -> Any:
    log.model = _watched(_network(seed, log.nested).train(log.training), log, "float")
    return log.model


def _to_int8(log: _Log, model: Any, inputs: Any) -> Any:
    log.quantised_in_training = log.quantised_in_training or model.training
    log.calibrated_with = inputs
    return _watched(_coarse(model, log.nested), log, "int8")


def _telling(rng: np.random.Generator, nested: bool) -> tuple[int, dict[str, float]]:
    """A seed of a network whose accuracy is another one in int8, and both accuracies on the test data."""
    while True:
        seed = int(rng.integers(2**31))
        want = _figures(seed, nested, _samples(seed + 1, 41))
        if want["float_accuracy"] != want["int8_accuracy"]:
            return seed, want


def _figures(seed: int, nested: bool, test: Any) -> dict[str, float]:
    import torch

    net = _network(seed, nested).eval()
    with torch.no_grad():
        accuracy = [float((m(test[0]).argmax(1) == test[1]).float().mean()) for m in (net, _coarse(net, nested))]
    return {"float_accuracy": accuracy[0], "int8_accuracy": accuracy[1]}
