"""What the abstraction costs: `helpers.ddp.train` against a loop written by hand, and against Hugging Face accelerate.

All three train the same small GPT from the same weights, with clipping, in turn, in the same two processes with one
thread each. What is timed is the loop, with the loading of data and the mean loss over the ranks at its end, without
building the model. Ours also draws its progress bar.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness import Bar, Benchmark, Figure, Settings, figure, ratios, run_side

BATCH, RATE, DECAY, CLIP = 8, 1e-3, 0.01, 1.0


def ours(model: Any, data: Any, steps: int) -> tuple[float, float]:
    """Seconds of the loop, and the last loss."""
    from helpers.ddp import TrainConfig, train

    config = TrainConfig(batch_size=BATCH, lr=RATE, weight_decay=DECAY, clip_norm=CLIP, max_steps=steps)
    history = train(model, data, config)
    return history.seconds, history.losses[-1]


def by_hand(model: Any, data: Any, steps: int) -> tuple[float, float]:
    """The loop that one writes when one knows how."""
    import torch
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader, DistributedSampler

    replica = DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    loader = DataLoader(data, batch_size=BATCH, sampler=DistributedSampler(data))

    def backward(loss: torch.Tensor) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)

    return _loop(replica, optimiser, loader, backward, steps)


def by_accelerate(model: Any, data: Any, steps: int) -> tuple[float, float]:
    """The same with accelerate, as its documentation has it."""
    import torch
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs
    from torch.utils.data import DataLoader

    accelerator = Accelerator(cpu=True, kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)])
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    replica, optimiser, loader = accelerator.prepare(model, optimiser, DataLoader(data, BATCH, shuffle=True))

    def backward(loss: torch.Tensor) -> None:
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(replica.parameters(), CLIP)

    return _loop(replica, optimiser, loader, backward, steps)


def _loop(
    replica: Any, optimiser: Any, loader: Any, backward: Callable[[Any], None], steps: int
) -> tuple[float, float]:
    import torch
    import torch.distributed as dist
    import torch.nn.functional as F

    losses: list[torch.Tensor] = []
    start = time.perf_counter()
    for x, y in loader:
        if len(losses) == steps:
            break
        loss = F.cross_entropy(replica(x).flatten(0, 1), y.flatten())
        backward(loss)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.detach())
    means = torch.stack(losses)
    dist.all_reduce(means)
    last = means[-1].item() / dist.get_world_size()
    return time.perf_counter() - start, last


SIDES = {"ours": ours, "by hand": by_hand, "accelerate": by_accelerate}


def measure(pairs: int, steps: int) -> dict[str, list[tuple[float, float]]]:
    """Runs in every rank: for each side and round the seconds of the loop, and the last loss."""
    import numpy as np
    import torch
    import torch.distributed as dist
    from torch.utils.data import TensorDataset

    from helpers.datasets import code_blocks
    from helpers.models import GPT, GPTConfig

    config = GPTConfig(context=128, layers=4, heads=4, width=128)
    tokens = torch.from_numpy(code_blocks(config.context, 2 * BATCH * (steps + 1)).astype(np.int64))
    data = TensorDataset(tokens[:, :-1], tokens[:, 1:])
    torch.manual_seed(0)
    original = GPT(config)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for number in range(pairs + 1):  # the first round warms up
        names = list(SIDES)[number % 3 :] + list(SIDES)[: number % 3]
        for name in names:
            dist.barrier()
            found[name].append(SIDES[name](copy.deepcopy(original), data, steps))
    return {name: rounds[1:] for name, rounds in found.items()}


def all_sides(pairs: int, steps: int) -> Callable[[], Any]:
    """Two ranks, started once; what rank 0 measured."""
    from helpers.ddp import launch

    return lambda: launch(measure, 2, pairs, steps, backend="gloo", threads=1, echo=False)[0]


def run(settings: Settings) -> list[Figure]:
    steps = 5 if settings.quick else 40
    found = run_side("benchmarks.ddp_step:all_sides", pairs=settings.pairs, steps=steps).result
    seconds = {name: [one[0] for one in rounds] for name, rounds in found.items()}
    losses = {name: [one[1] for one in rounds] for name, rounds in found.items()}
    return [
        figure("our step, loop written by hand = 1", ratios(seconds["ours"], seconds["by hand"]), Bar("<=", 1.02)),
        figure("our step, accelerate = 1", ratios(seconds["ours"], seconds["accelerate"]), Bar("<=", 1.0)),
        figure(
            "difference of the last loss from the loop by hand",
            [abs(one - other) for one, other in zip(losses["ours"], losses["by hand"], strict=True)],
            Bar("<=", 1e-5),
        ),
        *(
            figure(f"milliseconds a step, {name}", [1e3 * one / steps for one in runs])
            for name, runs in seconds.items()
        ),
    ]


BENCHMARK = Benchmark(
    name="ddp_step",
    question="A step of our trainer against a loop written by hand and against accelerate, two processes, small GPT",
    minutes=2,
    pairs=9,
    peers=("torch", "accelerate"),
    run=run,
)
