"""Our ring all-reduce in Python against gloo's all-reduce in C++: two processes with one thread each, on loopback.

Both are called in turn in the same pair of processes. A pair of the benchmark is a round of calls at one size, of
which the medians are compared: a single call of a few milliseconds says more about the scheduler.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness import Bar, Benchmark, Figure, Settings, figure, ratios, run_side

CALLS = {1: 60, 10: 20, 50: 7}
"""Megabytes of the tensor, and calls of each side in a round."""


def measure(sizes: dict[int, int], pairs: int) -> dict[int, dict[str, list[float]]]:
    """Runs in every rank: seconds a call, the median of each round, and how far the results are apart."""
    import torch
    import torch.distributed as dist

    from helpers.ddp import ring_all_reduce

    sides: dict[str, Callable[[torch.Tensor], Any]] = {"gloo": dist.all_reduce, "ring": ring_all_reduce}

    def one_call(reduce: Callable[[torch.Tensor], Any], tensor: torch.Tensor) -> float:
        dist.barrier()  # the ranks begin together
        start = time.perf_counter()
        reduce(tensor)
        return time.perf_counter() - start

    found: dict[int, dict[str, list[float]]] = {}
    for megabytes, calls in sizes.items():
        original = torch.randn(megabytes * 250_000, generator=torch.Generator().manual_seed(dist.get_rank()))
        tensors = {name: torch.empty_like(original) for name in sides}
        found[megabytes] = {"gloo": [], "ring": [], "difference": []}
        for _ in range(pairs + 1):  # the first round warms up
            seconds: dict[str, list[float]] = {name: [] for name in sides}
            for _ in range(calls):
                for name, reduce in sides.items():
                    tensors[name].copy_(original)
                    seconds[name].append(one_call(reduce, tensors[name]))
            for name in sides:
                found[megabytes][name].append(statistics.median(seconds[name]))
            found[megabytes]["difference"].append((tensors["ring"] - tensors["gloo"]).abs().max().item())
        found[megabytes] = {name: runs[1:] for name, runs in found[megabytes].items()}
    return found


def both(sizes: list[int], pairs: int) -> Callable[[], Any]:
    """Two ranks, started once; what rank 0 measured."""
    from helpers.ddp import launch

    return lambda: launch(measure, 2, {size: CALLS[size] for size in sizes}, pairs, backend="gloo", threads=1)[0]


def run(settings: Settings) -> list[Figure]:
    sizes = [1] if settings.quick else list(CALLS)
    # JSON makes the sizes strings
    found = {
        int(size): one
        for size, one in run_side("benchmarks.ddp_ring:both", sizes=sizes, pairs=settings.pairs).result.items()
    }
    return [
        *(
            figure(f"bandwidth of the ring at {size} MB, gloo = 1", ratios(one["gloo"], one["ring"]), Bar(">=", 0.8))
            for size, one in found.items()
        ),
        figure("largest difference from gloo's sum", [max(one["difference"]) for one in found.values()], Bar("<=", 0)),
        *(
            figure(f"milliseconds at {size} MB, {name}", [seconds * 1e3 for seconds in one[name]])
            for size, one in found.items()
            for name in ("ring", "gloo")
        ),
    ]


BENCHMARK = Benchmark(
    name="ddp_ring",
    question="Ring all-reduce in Python, 1, 10 and 50 MB on two processes: bandwidth against gloo's",
    minutes=0.6,
    pairs=7,
    peers=("torch",),
    run=run,
)
