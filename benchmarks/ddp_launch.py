"""`launch`: how long a launch of two ranks takes once the first has been, and a whole short job against torchrun's.

The job is the same function of this module: twenty steps of a small GPT in two processes with one thread each. By
torchrun it is a command, whose launcher and workers import torch one after the other. By `launch` it is measured
twice: as a notebook has it, in a process that has launched before, from the call to the result; and as a script has
it, from the start of a fresh interpreter to its end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness import ONE_THREAD, REPOSITORY, Bar, Benchmark, Figure, Settings, figure, ratios, run_side

MODULE = "benchmarks.ddp_launch"
LAUNCHED = """
from benchmarks.ddp_launch import job, tell
from helpers.ddp import launch
tell(launch(job, 2, {steps}, backend="gloo", threads=1)[0])
"""


def job(steps: int) -> float:
    """Runs in every rank: the last loss of a small GPT, trained on the standard library's source."""
    import torch
    import torch.nn.functional as F
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader, DistributedSampler

    from helpers.datasets import code_blocks
    from helpers.models.gpt import GPT, GPTConfig

    torch.manual_seed(0)
    blocks = torch.from_numpy(code_blocks(64, 16 * steps)).long()
    model = DistributedDataParallel(GPT(GPTConfig(context=64, layers=2, width=64)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for batch in DataLoader(blocks, batch_size=8, sampler=DistributedSampler(blocks)):  # type: ignore[arg-type]
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.item()


def tell(loss: float) -> None:
    """The job's answer as a line for the benchmark."""
    print(json.dumps({"loss": loss}), flush=True)


def under_torchrun() -> None:
    """What each worker of torchrun does."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    loss = job(int(sys.argv[1]))
    if dist.get_rank() == 0:
        tell(loss)
    dist.destroy_process_group()


def again(jobs: int, steps: int) -> Callable[[], Any]:
    """Seconds and last loss of each job after the first."""
    from helpers.ddp import launch

    def one() -> tuple[float, float]:
        start = time.perf_counter()
        loss = launch(job, 2, steps, backend="gloo", threads=1)[0]
        return time.perf_counter() - start, loss

    return lambda: [one() for _ in range(jobs + 1)][1:]


def nothing() -> None:
    """The worker whose launch is timed."""


def many(launches: int) -> Callable[[], Any]:
    """Seconds of the first launch and of each later one; None for one that failed."""
    from helpers.ddp import WorkerError, launch

    def one() -> float | None:
        start = time.perf_counter()
        try:
            launch(nothing, 2, backend="gloo")
        except WorkerError:
            return None
        return time.perf_counter() - start

    return lambda: [one() for _ in range(launches + 1)]


def _whole_job(command: list[str]) -> tuple[float, float]:
    """Seconds from the start of the interpreter to its end, and the loss."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{command[:4]} failed with status {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds, json.loads(done.stdout.splitlines()[-1])["loss"]


def run(settings: Settings) -> list[Figure]:
    launches, steps = (10, 5) if settings.quick else (200, 20)
    first, *later = run_side("benchmarks.ddp_launch:many", launches=launches).result
    good = [seconds for seconds in later if seconds is not None]
    commands = {
        "script": ["-c", LAUNCHED.format(steps=steps)],
        "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", MODULE, str(steps)],
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for pair in range(settings.pairs):
        for name in list(commands) if pair % 2 == 0 else list(commands)[::-1]:
            found[name].append(_whole_job(commands[name]))
            settings.say(f"pair {pair + 1} of {settings.pairs}: {name} {found[name][-1][0]:.3g} s")
    found["notebook"] = run_side(f"{MODULE}:again", jobs=settings.pairs, steps=steps).result
    seconds = {name: [one[0] for one in runs] for name, runs in found.items()}
    losses = [one[1] for runs in found.values() for one in runs]
    return [
        figure(f"seconds of a later launch of two ranks, median of {launches}", good, Bar("<=", 0.5)),
        figure(f"launches of {launches} in a row that failed", [float(launches - len(good))], Bar("<=", 0)),
        figure(
            f"whole job of {steps} steps by launch in a running notebook, torchrun = 1",
            ratios(seconds["notebook"], seconds["torchrun"]),
            Bar("<=", 0.5),
        ),
        figure(
            f"whole job of {steps} steps by a script that calls launch, torchrun = 1",
            ratios(seconds["script"], seconds["torchrun"]),  # no bar: both import torch twice, one after the other
        ),
        figure("largest difference between two jobs' last losses", [max(losses) - min(losses)], Bar("<=", 0)),
        figure("seconds of the slowest later launch", [max(good)]),
        figure("seconds of the first launch", [float("nan") if first is None else first]),
        *(figure(f"seconds of the whole job, {name}", runs) for name, runs in seconds.items()),
    ]


BENCHMARK = Benchmark(
    name="ddp_launch",
    question="Starting two processes: a later launch, 200 in a row, and a whole short job against torchrun",
    minutes=4,
    pairs=7,
    peers=("torch",),
    run=run,
)

if __name__ == "__main__":
    under_torchrun()
