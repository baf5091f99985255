"""LIME for pictures: `helpers.explanation` against stock `lime`, with a model that costs nothing and with a real one.

Same pictures, same superpixels, same seed: then the coefficients are compared bit by bit. The whole explanation is
compared with stock lime as its tutorial uses it (quickshift, ten pictures at a time, one by one through a transform).
Its seconds are those of a first call, on either side: the loading of scikit-image and scikit-learn is in them, outside
the model. Stability is the rank correlation of the weights between disjoint seeds, at the default number of samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness import Bar, Benchmark, Figure, Settings, figure, ratios, run_side

PHOTOGRAPHS = ("cat", "coffee", "palace", "camera", "flower")
SAMPLES = 1000
TWO_THREADS = {"OMP_NUM_THREADS": "2"}


def _pictures() -> dict[str, Any]:
    from helpers import datasets
    from helpers import explanation as ex

    photographs = datasets.photographs()
    return {name: ex.centre_crop(photographs[name]) for name in PHOTOGRAPHS}


def _free(pictures: Any) -> Any:
    """A model that costs nothing and looks at nothing."""
    import numpy as np

    return np.tile(np.array([0.2, 0.5, 0.3], dtype=np.float32), (len(pictures), 1))


def _looking(pictures: Any) -> Any:
    """A cheap model whose answer depends on every pixel."""
    import numpy as np

    x = np.asarray(pictures, dtype=np.float64).reshape(len(pictures), -1)
    score = x @ np.linspace(-1, 1, x.shape[1]) / x.shape[1] / 16
    p = 1 / (1 + np.exp(-score))
    return np.stack([1 - p, p], axis=1)


def _stock(picture: Any, predict: Any, segmentation: str, samples: int, batch: int, seed: int = 0) -> Any:
    from lime.lime_image import LimeImageExplainer

    from helpers import explanation as ex

    return LimeImageExplainer(random_state=seed).explain_instance(
        picture,
        predict,
        top_labels=3,
        num_samples=samples,
        batch_size=batch,
        segmentation_fn=lambda image: ex.segment(image, segmentation),
    )


def _ours(picture: Any, predict: Any, segmentation: str, samples: int, batch: int, seed: int = 0) -> Any:
    from helpers import explanation as ex

    return ex.explain_image(
        picture, predict, samples=samples, segmentation=segmentation, batch_size=batch, seed=seed, progress=False
    )


def differences(samples: int) -> Callable[[], Any]:
    """The largest difference of a coefficient from stock lime's: five photographs, three seeds."""
    pictures = _pictures()

    def work() -> list[float]:
        found = []
        for picture in pictures.values():
            for seed in range(3):
                mine = _ours(picture, _looking, "slic", samples, 10, seed)
                theirs = _stock(picture, _looking, "slic", samples, 10, seed)
                found.append(
                    max(abs(mine.weights[label][n] - w) for label in mine.labels for n, w in theirs.local_exp[label])
                )
        return [float(value) for value in found]

    return work


def outside(pairs: int, samples: int) -> Callable[[], Any]:
    """Seconds (ours, stock) of the masking alone and of everything outside the model, interleaved."""
    import os

    os.environ["TQDM_DISABLE"] = "1"  # neither draws a bar
    import numpy as np
    from lime.lime_image import LimeImageExplainer

    from helpers import explanation as ex

    picture = _pictures()["cat"]

    def masking(kind: Any, segmentation: str) -> Callable[[], Any]:
        segments = ex.segment(picture, segmentation)
        hidden = ex.hidden_picture(picture, segments)
        return lambda: kind(random_state=0).data_labels(picture, hidden, segments, _free, samples, 10)

    def explaining(call: Callable[..., Any], segmentation: str) -> Callable[[], Any]:
        return lambda: call(picture, _free, segmentation, samples, 10)

    sides = {
        "masking": (masking(ex.FastLimeImageExplainer, "slic"), masking(LimeImageExplainer, "slic")),
        **{name: (explaining(_ours, name), explaining(_stock, name)) for name in ("slic", "quickshift")},
    }

    def seconds(call: Callable[[], Any]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def work() -> dict[str, Any]:
        found: dict[str, list[list[float]]] = {name: [] for name in sides}
        for pair in range(pairs + 1):
            for name, both in sides.items():
                turned = both if pair % 2 else both[::-1]
                times = {call: seconds(call) for call in turned}
                found[name] += [[times[call] for call in both]] if pair else []  # the first pair warms up
        return {**found, "superpixels": int(np.max(ex.segment(picture))) + 1}

    return work


def whole(side: str, samples: int) -> Callable[[], Any]:
    """One explanation with EfficientNet-Lite0: as the tutorial of lime does it, or as the course does."""
    import torch

    from helpers import explanation as ex
    from helpers import models

    picture, spent = _pictures()["cat"], [0.0]
    classify: Any
    if side == "tutorial":
        model = models.efficientnet_lite0()
        transform = _tutorial_transform()

        def one_by_one(pictures: Any) -> Any:
            batch = torch.stack([transform(one) for one in pictures])
            with torch.no_grad():
                return model(batch).softmax(1).numpy()

        classify = one_by_one
    else:
        ex.keep_freed_memory()
        classify = ex.imagenet_classifier("onnxruntime" if side == "ours, ONNX Runtime" else "torch")

    def timed(pictures: Any) -> Any:
        start = time.perf_counter()
        answers = classify(pictures)
        spent[0] += time.perf_counter() - start
        return answers

    classify(picture[None])

    def work() -> float:
        if side == "tutorial":
            _stock(picture, timed, "quickshift", samples, 10)
        else:
            _ours(picture, timed, "slic", samples, 64)
        return spent[0]

    return work


def _tutorial_transform() -> Callable[[Any], Any]:
    """One picture (224, 224, 3) uint8 -> (3, 224, 224): through PIL, as in lime's PyTorch tutorial."""
    from PIL import Image
    from torchvision import transforms

    steps = [transforms.ToTensor(), transforms.Normalize([127 / 255] * 3, [128 / 255] * 3)]
    composed = transforms.Compose(steps)
    return lambda picture: composed(Image.fromarray(picture))


def stability(seeds: int, photographs: int) -> Callable[[], Any]:
    """Mean rank correlation of the top label's weights over all pairs of seeds, for each photograph."""
    from itertools import combinations

    from scipy.stats import spearmanr

    from helpers import explanation as ex

    ex.keep_freed_memory()
    predict = ex.imagenet_classifier("onnxruntime")
    pictures = dict(list(_pictures().items())[:photographs])

    def work() -> dict[str, Any]:
        found = {}
        for name, picture in pictures.items():
            runs = [ex.explain_image(picture, predict, labels=1, seed=seed, progress=False) for seed in range(seeds)]
            label = runs[0].labels[0]
            both = combinations([run.weights[label] for run in runs], 2)
            ranks = [float(spearmanr(*pair).statistic) for pair in both]
            found[name] = {"rank": sum(ranks) / len(ranks), "superpixels": len(runs[0].weights[label])}
        return found

    return work


def run(settings: Settings) -> list[Figure]:
    samples = 200 if settings.quick else SAMPLES
    apart = run_side("benchmarks.lime_image:differences", samples=samples).result
    loops = run_side("benchmarks.lime_image:outside", pairs=settings.pairs, samples=samples).result
    figures = [
        figure(
            f"largest difference of a coefficient from stock lime's, {samples:,} samples, 5 photographs × 3 seeds",
            [max(apart)],
            Bar("<=", 0),
        )
    ]
    bars = {"masking": 8, "slic": 5, "quickshift": 2.5}
    for name, bar in bars.items():
        mine, theirs = (list(part) for part in zip(*loops[name], strict=True))
        what = "masking (data_labels)" if name == "masking" else f"everything outside the model, {name}"
        figures.append(figure(f"speed of {what}, stock lime = 1", ratios(theirs, mine), Bar(">=", bar)))
        figures.append(figure(f"milliseconds of {what}, ours", [1e3 * one for one in mine]))
    figures += _whole(settings, samples)
    found = run_side(
        "benchmarks.lime_image:stability",
        TWO_THREADS,
        seeds=2 if settings.quick else 3,
        photographs=1 if settings.quick else len(PHOTOGRAPHS),
    ).result
    ranks = {name: one["rank"] for name, one in found.items()}
    figures.append(
        figure("rank correlation over seeds, lowest of the photographs", [min(ranks.values())], Bar(">=", 0.85))
    )
    for name, one in found.items():
        figures.append(figure(f"rank correlation over seeds: {name}, {one['superpixels']} superpixels", [one["rank"]]))
    return figures


def _whole(settings: Settings, samples: int) -> list[Figure]:
    sides = ("tutorial", "ours", "ours, ONNX Runtime")
    found: dict[str, list[Any]] = {name: [] for name in sides}
    for pair in range(1 if settings.quick else 3):
        for name in sides if pair % 2 == 0 else sides[::-1]:
            side = run_side("benchmarks.lime_image:whole", TWO_THREADS, side=name, samples=samples)
            found[name].append(side)
            settings.say(f"{name}: {side.seconds:.1f} s")
    seconds = {name: [one.seconds for one in runs] for name, runs in found.items()}
    return [
        figure(
            f"speed of a whole explanation with EfficientNet-Lite0, {samples:,} samples, lime's tutorial = 1",
            ratios(seconds["tutorial"], seconds["ours"]),
            Bar(">=", 2),
        ),
        figure("the same with ONNX Runtime", ratios(seconds["tutorial"], seconds["ours, ONNX Runtime"])),
        *(figure(f"seconds of a whole explanation: {name}", runs) for name, runs in seconds.items()),
        *(
            figure(f"share of the time in the model: {name}", [one.result / one.seconds for one in runs])
            for name, runs in found.items()
        ),
    ]


BENCHMARK = Benchmark(
    name="lime_image",
    question="LIME for pictures against stock lime: the same coefficients, how much faster, how stable",
    minutes=8,
    pairs=5,
    peers=("lime", "scikit-image", "onnxruntime"),
    run=run,
)
