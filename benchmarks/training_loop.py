"""`helpers.regularisation.train` against the plainest loop that trains the same model in the same way.

Both train the same weights from the same start with the same order of batches, one after the other in one process, and
end with the same bits. The time is that of the training steps; neither evaluates in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness import Bar, Benchmark, Figure, Settings, figure, ratios, run_side

EPOCHS = {"SeriesNet": 20, "GPT": 1}


def _task(name: str) -> tuple[Any, Any, Any, int]:
    """Model, inputs, targets, batch size."""
    import numpy as np
    import torch

    from helpers import datasets, models

    torch.manual_seed(0)
    if name == "SeriesNet":
        x, y = map(torch.from_numpy, datasets.mnist1d(1_000))
        return models.SeriesNet(), x, y, 100
    tokens = torch.from_numpy(datasets.code_blocks(64, 1_600).astype(np.int64))
    return models.GPT(models.GPTConfig(context=64, layers=2, width=96)), tokens[:, :-1], tokens[:, 1:], 32


def ours(name: str) -> tuple[float, Any]:
    """Seconds of all steps, and the model."""
    from helpers import regularisation as reg

    model, x, y, batch_size = _task(name)
    config = reg.TrainConfig(epochs=EPOCHS[name], batch_size=batch_size, evaluate_every=EPOCHS[name])
    return reg.train(model, reg.Data(x, y), config).seconds, model


def by_hand(name: str) -> tuple[float, Any]:
    import torch
    import torch.nn.functional as F

    model, x, y, batch_size = _task(name)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    for _ in range(EPOCHS[name]):
        order: Any = torch.randperm(len(x), generator=generator)
        for rows in order.split(batch_size):
            loss: Any = F.cross_entropy(model(x[rows]).flatten(0, -2), y[rows].flatten())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return time.perf_counter() - start, model


def pairs(count: int) -> Callable[[], Any]:
    """By model: seconds of both loops in each pair, the order turned from pair to pair, and how far weights differ."""
    import torch

    torch.set_num_threads(1)

    def one(name: str, turned: bool) -> tuple[float, float, float]:
        loops = (by_hand, ours) if turned else (ours, by_hand)
        found = {loop.__name__: loop(name) for loop in loops}
        both = zip(found["ours"][1].parameters(), found["by_hand"][1].parameters(), strict=True)
        return found["ours"][0], found["by_hand"][0], max(float((a - b).detach().abs().max()) for a, b in both)

    def work() -> dict[str, list[tuple[float, float, float]]]:
        return {name: [one(name, bool(n % 2)) for n in range(count + 1)][1:] for name in EPOCHS}

    return work


def run(settings: Settings) -> list[Figure]:
    found = run_side("benchmarks.training_loop:pairs", count=settings.pairs).result
    figures = []
    for name, runs in found.items():
        mine, theirs, differences = (list(part) for part in zip(*runs, strict=True))
        figures += [
            figure(f"time of all steps, loop by hand = 1: {name}", ratios(mine, theirs), Bar("<=", 1.05)),
            figure(f"largest difference of the weights at the end: {name}", differences, Bar("<=", 1e-6)),
            figure(f"seconds of all steps by hand: {name}", theirs),
        ]
    return figures


BENCHMARK = Benchmark(
    name="training_loop",
    question="The training loop of notebook 03 against one written by hand",
    minutes=2,
    pairs=9,
    peers=("torch",),
    run=run,
)
