"""A slow link: what the size of the buckets and compression gain, and what compression does to the loss.

Two nodes as two network namespaces, a virtual cable of 500 Mbit/s between them, a process with one thread on each. All
ways train the same GPT on the same batches, a step of each in turn; the loss curves are those of a second run, from
the same weights. Both are in the results: a faster step that learns less is no gain.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any

from benchmarks.harness import ONE_THREAD, REPOSITORY, Bar, Benchmark, Figure, Settings, figure, ratios

MEGABITS = 500
PORT = 29500  # in a namespace of its own
BATCH, LAYERS, WIDTH, CONTEXT, RATE = 8, 4, 256, 128, 1e-3
DEFAULT = "default"

WAYS: dict[str, tuple[float | None, str, dict[str, Any]]] = {
    # bucket in MB (None: PyTorch's 25, the first 1), method, its options
    DEFAULT: (None, "none", {}),
    "buckets of 5 MB": (5, "none", {}),
    "buckets of 1 MB": (1, "none", {}),
    "fp16": (None, "fp16", {}),
    "fp16, buckets of 1 MB": (1, "fp16", {}),
    "bf16, buckets of 1 MB": (1, "bf16", {}),
    "PowerSGD of rank 4": (None, "powersgd", {"rank": 4, "start": 2}),
    "largest 1 %": (None, "top_k", {"share": 0.01}),
}


def work(rounds: int, steps: int, curve: int) -> dict[str, Any]:
    """Runs on every node: seconds of a step (median of `steps`) by way and round, and the losses of `curve` steps."""
    import numpy as np
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    from helpers.datasets import code_blocks
    from helpers.ddp import compression
    from helpers.efficiency import cross_entropy
    from helpers.models import GPT, GPTConfig

    rank, n = dist.get_rank(), dist.get_world_size()
    blocks = torch.from_numpy(code_blocks(CONTEXT, n * BATCH * 64).astype(np.int64))

    class Runner:
        """A way to send the gradients, with a model of its own."""

        def __init__(self, name: str) -> None:
            bucket, method, options = WAYS[name]
            torch.manual_seed(0)
            model = GPT(GPTConfig(context=CONTEXT, layers=LAYERS, heads=4, width=WIDTH))
            self.replica = DistributedDataParallel(model, bucket_cap_mb=bucket, gradient_as_bucket_view=True)
            if method != "none":
                compression.register(self.replica, method, **options)
            self.optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
            self.number = 0

        def step(self) -> torch.Tensor:
            first = (self.number * n + rank) * BATCH % len(blocks)
            batch = blocks[first : first + BATCH]
            self.number += 1
            loss = cross_entropy(self.replica(batch[:, :-1]), batch[:, 1:])
            loss.backward()
            self.optimiser.step()
            self.optimiser.zero_grad()
            return loss.detach()

    def timed(runner: Runner, step: int) -> float:
        runner.replica.require_backward_grad_sync = step >= 0
        dist.barrier()
        start = time.perf_counter()
        runner.step()
        dist.barrier()
        return time.perf_counter() - start

    runners = {name: Runner(name) for name in WAYS}
    for runner in runners.values():  # buckets are arranged anew after the first step; some methods begin with the third
        for _ in range(4):
            runner.step()
    seconds: dict[str, list[float]] = {name: [] for name in (*WAYS, "no communication")}
    for _ in range(rounds):
        for name, runner in runners.items():
            seconds[name].append(statistics.median(timed(runner, step) for step in range(steps)))
        alone = [timed(runners[DEFAULT], -1) for _ in range(steps)]
        seconds["no communication"].append(statistics.median(alone))
    del runners
    losses = {}
    for name in WAYS:
        runner = Runner(name)
        means = torch.stack([runner.step() for _ in range(curve)])
        dist.all_reduce(means)
        losses[name] = (means / n).tolist()
    return {"seconds": seconds, "losses": losses}


def under_torchrun() -> None:
    """What the worker on each node does."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found = work(*(int(number) for number in sys.argv[1:]))
    if dist.get_rank() == 0:
        print(json.dumps(found), flush=True)
    dist.destroy_process_group()


def on_two_nodes(rounds: int, steps: int, curve: int) -> Any:
    """What rank 0 reports. Raises Unavailable without namespaces, RuntimeError when the run fails."""
    from benchmarks.network import two_nodes

    with ExitStack() as stack:
        nodes = stack.enter_context(two_nodes(MEGABITS))
        processes = []
        for rank, node in enumerate(nodes):
            where = {"MASTER_ADDR": nodes[0].address, "MASTER_PORT": str(PORT), "RANK": str(rank), "WORLD_SIZE": "2"}
            numbers = [str(number) for number in (rounds, steps, curve)]
            process = subprocess.Popen(
                node.command(sys.executable, "-m", "benchmarks.ddp_slow_link", *numbers),
                cwd=REPOSITORY,
                env=node.environment(**ONE_THREAD, **where),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.kill)
            processes.append(process)
        told = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, told, strict=True):
        if process.returncode:
            raise RuntimeError(f"a node failed with status {process.returncode}:\n{errors[-2000:]}")
    return json.loads(told[0][0].splitlines()[-1])


def run(settings: Settings) -> list[Figure]:
    steps, curve = (2, 4) if settings.quick else (5, 60)
    found = on_two_nodes(settings.pairs, steps, curve)
    seconds, losses = found["seconds"], found["losses"]
    faster = {name: ratios(seconds[DEFAULT], runs) for name, runs in seconds.items() if name != DEFAULT}
    best = max(WAYS.keys() - {DEFAULT}, key=lambda name: statistics.median(faster[name]))
    return [
        figure(f"best of the ways below, default = 1: {best}", faster[best], Bar(">=", 1.4)),
        *(figure(f"times as fast as the default: {name}", runs) for name, runs in faster.items()),
        *(figure(f"milliseconds a step: {name}", [1e3 * one for one in runs]) for name, runs in seconds.items()),
        # the runs of these are the loss after each step; the value is their median
        *(figure(f"loss curve, nats per byte: {name}", curve) for name, curve in losses.items()),
    ]


BENCHMARK = Benchmark(
    name="ddp_slow_link",
    question="Two nodes on a link of 500 Mbit/s: buckets and compression against PyTorch's default, with loss curves",
    minutes=4,
    pairs=7,
    peers=("torch",),
    run=run,
)

if __name__ == "__main__":
    under_torchrun()
