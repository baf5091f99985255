"""int8 inference of ResNet-18 and EfficientNet-Lite0 against honest baselines, and what it costs in accuracy.

Latency: each side lives in a process of its own, as a server would, and they are called in turns; a setting is a
network, a batch size and a number of threads. In one process they would share a heap and cores: in a trial (November
2026, batch 16, one thread) the compiled network took 98 ms beside the eager one in place of 75, because its memory went
back to the system after every call.
ResNet-18 has random weights there (its time does not depend on them), 224×224 inputs.
Accuracy: ResNet-18 trained on the digits (32×32), judged on digits that neither training nor calibration has seen;
Lite0 on crops of photographs, calibrated on other crops. Without VNNI the bars of the speed are not meant.
The path that "auto" chooses is timed against ONNX Runtime's int8 with the same layers left in float, its equal in
accuracy; for Lite0 also against ONNX Runtime with every layer in int8, whose output is far worse (14.7 dB).
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.harness import ONE_THREAD, Bar, Benchmark, Figure, Settings, figure, ratios, run_side

# of Lite0: what loses most and costs least (6 % of the arithmetic), and the last layer
KEPT = ("stem.0", "blocks.0.depthwise.0", "blocks.0.project.0", "classifier")


def _model(name: str) -> tuple[Any, tuple[str, ...]]:
    from helpers import models

    if name == "ResNet-18":
        return models.resnet18(classes=1000).eval(), ()
    return models.efficientnet_lite0(turned=True), KEPT


SIDES = ("eager", "compiled", "ONNX Runtime float", "ONNX Runtime int8", "int8")
THROUGHOUT = "ONNX Runtime int8 throughout"


def _side(side: str, name: str, batch: int, threads: int) -> tuple[Callable[[], Any], str]:
    """A call of one side, ready to be timed, and what runs it."""
    import torch

    from helpers import datasets, models
    from helpers import quantisation as quant

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model, kept = _model(name)
    photos = torch.stack([models.efficientnet_preprocess(p) for p in datasets.photographs().values()])
    data = torch.cat([photos, photos[:2]])
    x = data[:batch].clone()
    if side == "eager":
        return functools.partial(torch.no_grad()(model), x), side
    if side == "compiled":
        return functools.partial(quant.compiled(model, x), x), side
    if side == "int8":
        config = quant.QuantiseConfig(keep_float=kept)
        auto = quant.quantise(model, config, calibration=data, backend="auto", batch=batch)
        return functools.partial(auto, x), auto.backend
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        if side == "ONNX Runtime float":
            quant.save_onnx(model, data, file)
        else:
            layers = () if side == THROUGHOUT else kept
            # folded, the layers keep the names by which they are left in float; else ONNX Runtime folds by itself
            quant.onnx_quantised(quant.fold_model(model) if layers else model, data, file, keep_float=layers)
        return functools.partial(quant.onnx_session(file, threads=threads), x), "onnxruntime"


def _serve(line: Connection, *what: Any) -> None:
    """Runs in its own process: builds a side, then times one call after two that do not count, as often as asked."""
    from helpers.latency import timer_of

    call, backend = _side(*what)
    timer = timer_of(call, threads=what[-1])
    line.send(backend)
    while line.recv():
        line.send(timer.timeit(1).median)


def latencies(name: str, batch: int, threads: int, pairs: int) -> tuple[dict[str, list[float]], str]:
    """Seconds of each side in each pair, and what `backend="auto"` chose."""
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection] = {}
    backends = {}
    with contextlib.ExitStack() as stack:
        for side in (*SIDES, THROUGHOUT) if name == "Lite0" else SIDES:
            lines[side], end = context.Pipe()
            process = context.Process(target=_serve, args=(end, side, name, batch, threads), daemon=True)
            process.start()
            end.close()  # so that a process that dies is noticed here
            stack.callback(process.join)
            stack.callback(lines[side].send, False)
            backends[side] = lines[side].recv()
        runs: dict[str, list[float]] = {side: [] for side in lines}
        for turn in range(pairs):
            for side in list(lines)[:: 1 if turn % 2 else -1]:
                lines[side].send(True)
                runs[side].append(lines[side].recv())
    return runs, backends["int8"]


def accuracies(digit_epochs: int, crops: int) -> Callable[[], dict[str, float]]:
    """Accuracy of ResNet-18 in float and int8 on digits; SQNR and agreement of Lite0; sizes on disk."""
    import torch

    from helpers import models
    from helpers import quantisation as quant
    from helpers.quantisation import examples

    torch.set_num_threads(2)

    def work() -> dict[str, float]:
        found: dict[str, float] = {}
        digits = examples.digits()
        model = examples.train_resnet(digits, epochs=digit_epochs)
        small = quant.quantise(model, calibration=digits.x[:64], backend="onnxruntime")
        found["float accuracy"] = examples.accuracy(model, digits.x_test, digits.y_test)
        found["int8 accuracy"] = examples.accuracy(small, digits.x_test, digits.y_test)
        with tempfile.TemporaryDirectory() as folder:
            bytes_ = {
                bits: quant.save_weights(model, Path(folder) / f"{bits}.safetensors", bits=bits).stat().st_size
                for bits in (32, 8, 4)
            }
        found |= {"int8 size": bytes_[8] / bytes_[32], "int4 size": bytes_[4] / bytes_[32]}
        lite0, kept = models.efficientnet_lite0(turned=True), KEPT
        calibration, judged = examples.crops(seed=0, each=3), examples.crops(seed=1, each=crops)
        with torch.no_grad():
            exact = lite0(judged)
        for label, config in {
            "plain": quant.QuantiseConfig(),
            "mended": quant.QuantiseConfig(mended=True, keep_float=kept),
        }.items():
            quantised = quant.quantise(lite0, config, calibration=calibration, backend="onnxruntime")
            got = quantised(judged)
            found[f"{label} dB"] = quant.sqnr(exact, got)
            found[f"{label} agreement"] = float((exact.argmax(1) == got.argmax(1)).float().mean())
        return found

    return work


def run(settings: Settings) -> list[Figure]:
    figures: list[Figure] = []
    for name in ("ResNet-18", "Lite0"):
        for threads in (2,) if settings.quick else (1, 2):
            for batch in (1,) if settings.quick else (1, 16):
                figures += _speed(name, batch, threads, settings)
    target = "benchmarks.quantised_inference:accuracies"
    got = run_side(
        target, _threads(2), digit_epochs=2 if settings.quick else 8, crops=2 if settings.quick else 10
    ).result
    drop = 100 * (got["float accuracy"] - got["int8 accuracy"])
    return [
        *figures,
        figure("accuracy that int8 loses on digits, points: ResNet-18", [drop], Bar("<=", 0.3)),
        figure("accuracy in float on digits: ResNet-18", [got["float accuracy"]]),
        figure("SQNR of the logits, dB: Lite0 mended", [got["mended dB"]], Bar(">=", 22)),
        figure("same top-1 as float on crops: Lite0 mended", [got["mended agreement"]], Bar(">=", 0.95)),
        figure("SQNR of the logits, dB: Lite0 as it is", [got["plain dB"]]),
        figure("same top-1 as float on crops: Lite0 as it is", [got["plain agreement"]]),
        figure("size on disk, float32 = 1: ResNet-18 int8", [got["int8 size"]], Bar("<=", 0.27)),
        figure("size on disk, float32 = 1: ResNet-18 int4 in groups of 32", [got["int4 size"]], Bar("<=", 0.16)),
    ]


def _threads(count: int) -> dict[str, str]:
    return dict.fromkeys(ONE_THREAD, str(count))


def _speed(name: str, batch: int, threads: int, settings: Settings) -> list[Figure]:
    runs, chosen = latencies(name, batch, threads, settings.pairs)
    where = f"{name}, batch {batch}, {threads} thread{'s' * (threads > 1)}"
    settings.say(f"{where}: auto chose {chosen}")
    resnet = name == "ResNet-18"
    over_eager = Bar(">=", 4 if batch == 1 else 5) if resnet else None
    over_compiled = Bar(">=", 2.5 if batch == 1 else 3) if resnet else None
    mine = runs["int8"]
    figures = [
        figure(f"int8 by auto, eager float = 1 (speed): {where}", ratios(runs["eager"], mine), over_eager),
        figure(f"int8 by auto, compiled float = 1 (speed): {where}", ratios(runs["compiled"], mine), over_compiled),
        figure(
            f"time of auto, ONNX Runtime int8 = 1: {where}", ratios(mine, runs["ONNX Runtime int8"]), Bar("<=", 1.05)
        ),
        figure(
            f"ONNX Runtime float, eager float = 1 (speed): {where}", ratios(runs["eager"], runs["ONNX Runtime float"])
        ),
        figure(f"milliseconds of eager float: {where}", [1e3 * one for one in runs["eager"]]),
    ]
    if not resnet:
        all_int8 = ratios(mine, runs[THROUGHOUT])
        figures.append(figure(f"time of auto, ONNX Runtime with every layer in int8 = 1: {where}", all_int8))
    if resnet and batch == 1:
        faster = ratios(runs["ONNX Runtime int8"], mine)
        figures.append(figure(f"int8 by auto, ONNX Runtime int8 = 1 (speed): {where}", faster, Bar(">=", 1.2)))
    return figures


BENCHMARK = Benchmark(
    name="quantised_inference",
    question="int8 inference against eager, compiled and ONNX Runtime, and what it costs in accuracy",
    minutes=10,
    pairs=21,
    peers=("torch", "torchao", "onnxruntime"),
    run=run,
)
