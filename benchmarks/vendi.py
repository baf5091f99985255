"""Vendi score of the 1,797 digits (64 pixels) against the package vendi-score.

The peer's bar is against `score_X`, what the package gives for vectors. It also has `score_dual`, which has to be
chosen by name and works as ours does; that comparison is shown without a bar.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness import Bar, Benchmark, Figure, Settings, figure, ratios, run_side

REPEATS = 20
"""Ours takes under a millisecond: the mean of so many calls is taken."""


def both(rows: int, pairs: int) -> Callable[[], Any]:
    """Seconds and scores of each, in one process, interleaved."""
    import warnings

    import numpy as np
    from vendi_score import vendi

    from helpers.datasets import digits
    from helpers.training_data.diversity import vendi_score

    warnings.simplefilter("ignore", DeprecationWarning)  # of the peer's import of scipy.sparse.csr
    pixels = np.asarray(digits()[0], dtype=float)[:rows]
    sides: dict[str, tuple[Callable[[Any], float], int]] = {
        "ours": (vendi_score, REPEATS),
        "score_X": (vendi.score_X, 1),
        "score_dual": (vendi.score_dual, REPEATS),
    }

    def timed(function: Callable[[Any], float], repeats: int) -> tuple[float, float]:
        start = time.perf_counter()
        for _ in range(repeats):
            score = float(function(pixels))
        return (time.perf_counter() - start) / repeats, score

    def work() -> dict[str, list[tuple[float, float]]]:
        for function, _ in sides.values():
            function(pixels)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(pairs):
            for name, (function, repeats) in sides.items():
                found[name].append(timed(function, repeats))
        return found

    return work


def run(settings: Settings) -> list[Figure]:
    rows = 600 if settings.quick else 1797
    found = run_side("benchmarks.vendi:both", rows=rows, pairs=settings.pairs).result
    seconds = {name: [one[0] for one in runs] for name, runs in found.items()}
    scores = {name: [one[1] for one in runs] for name, runs in found.items()}
    differences = [abs(ours - theirs) for ours, theirs in zip(scores["ours"], scores["score_X"], strict=True)]
    return [
        figure(
            f"speed on {rows:,}×64, vendi-score's score_X = 1",
            ratios(seconds["score_X"], seconds["ours"]),
            Bar(">=", 50),
        ),
        figure("difference from score_X", differences, Bar("<=", 1e-3)),
        figure("speed, vendi-score's score_dual = 1", ratios(seconds["score_dual"], seconds["ours"])),
        figure("Vendi score", scores["ours"]),
        *(figure(f"milliseconds, {name}", [one * 1e3 for one in runs]) for name, runs in seconds.items()),
    ]


BENCHMARK = Benchmark(
    name="vendi",
    question="Vendi score of the digits, 1,797×64: speed against vendi-score, equal to three decimals",
    minutes=0.3,
    pairs=7,
    peers=("vendi-score",),
    run=run,
)
