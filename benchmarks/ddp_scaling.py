"""Two processes against one, a thread each: how much faster, and how much of the loss is communication.

The batch of a process stays the same, so two do twice the work in a step. The run without communication is the same
two processes, step by step in turn with the other, whose gradients stay where they are: the honest ceiling, since two
processes share the memory, the last cache and the clock of one chip.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness import Bar, Benchmark, Figure, Settings, figure, run_side

BATCH = {"GPT": 32, "ResNet-18": 128}
BARS = {"GPT": (1.8, 0.92), "ResNet-18": (1.7, 0.85)}
"""Of the speed-up, and of its share in that without communication."""


def measure(name: str, steps: int) -> dict[str, float]:
    """Runs in every rank: samples per second of this rank, with its gradients averaged and without."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    from helpers.efficiency import cross_entropy

    model, x, y = _model_and_batch(name)
    replica = DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(2 * steps + 4):  # the first four warm up
        how = ("with", "without")[number % 2]
        replica.require_backward_grad_sync = how == "with"
        start = time.perf_counter()
        cross_entropy(replica(x), y).backward()
        optimiser.step()
        optimiser.zero_grad()
        if number >= 4:
            seconds[how].append(time.perf_counter() - start)
    return {how: BATCH[name] / statistics.median(taken) for how, taken in seconds.items()}


def _model_and_batch(name: str) -> tuple[Any, Any, Any]:
    import numpy as np
    import torch

    from helpers import datasets, models

    torch.manual_seed(0)
    if name == "GPT":
        config = models.GPTConfig(context=128, layers=4, heads=4, width=128)
        tokens = torch.from_numpy(datasets.code_blocks(config.context, BATCH[name]).astype(np.int64))
        return models.GPT(config), tokens[:, :-1], tokens[:, 1:]
    images, labels = (torch.from_numpy(part[: BATCH[name]]) for part in datasets.digit_images())
    return models.resnet18(), images, labels


def one_and_two(rounds: int, steps: int, names: list[str]) -> Callable[[], Any]:
    """For each model and round: by world size the samples per second of all its ranks, with and without."""
    from helpers.ddp import launch

    def one(name: str, world_size: int) -> dict[str, float]:
        ranks = launch(measure, world_size, name, steps, backend="gloo", threads=1)
        return {how: sum(rank[how] for rank in ranks) for how in ("with", "without")}

    def work() -> dict[str, list[list[dict[str, float]]]]:
        found: dict[str, list[list[dict[str, float]]]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                found[name].append([one(name, 1), one(name, 2)])
        return found

    return work


def run(settings: Settings) -> list[Figure]:
    steps = 2 if settings.quick else 8
    found = run_side("benchmarks.ddp_scaling:one_and_two", rounds=settings.pairs, steps=steps, names=list(BATCH)).result
    figures = []
    for name, rounds in found.items():
        faster, share = BARS[name]
        figures += [
            # one process communicates with nobody: its two kinds of step are the same
            figure(
                f"two processes, one = 1: {name}",
                [two["with"] / one["without"] for one, two in rounds],
                Bar(">=", faster),
            ),
            figure(
                f"two processes, the same without communication = 1: {name}",
                [two["with"] / two["without"] for _, two in rounds],
                Bar(">=", share),
            ),
            figure(
                f"two without communication, one = 1: {name}", [two["without"] / one["without"] for one, two in rounds]
            ),
            figure(f"samples per second of one process: {name}", [one["without"] for one, _ in rounds]),
        ]
    return figures


BENCHMARK = Benchmark(
    name="ddp_scaling",
    question="Training in two processes against one, one thread each, with and without communication",
    minutes=4,
    pairs=7,
    peers=("torch", "torchvision"),
    run=run,
)
