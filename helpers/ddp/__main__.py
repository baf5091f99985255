"""Data-parallel training from the command line: alone, or as the worker that torchrun starts once per process.

One process:

    python -m helpers.ddp --model gpt --size tiny --max-steps 20

Two on this machine. OMP_NUM_THREADS is named because torchrun would otherwise set it to 1 and print a notice:

    OMP_NUM_THREADS=1 torchrun --standalone --nproc-per-node 2 -m helpers.ddp --model gpt --max-steps 20

Two nodes, the same two lines on any cluster (RANK_OF_NODE is 0 on the first node, 1 on the second). On gloo, which
guesses the network interface, name it (`ip -brief address` lists them); nccl reads NCCL_SOCKET_IFNAME:

    export OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=eth0
    torchrun --nnodes 2 --node-rank $RANK_OF_NODE --master-addr FIRST_NODE --nproc-per-node 8 -m helpers.ddp …

Under Slurm, a batch file. `srun` starts one torchrun per node, `--requeue` puts the job back after a node's death, and
`--resume` goes on from the last checkpoint, which lies on a file system that every node sees:

    #!/bin/bash
    #SBATCH --job-name=ddp --nodes=2 --ntasks-per-node=1 --gpus-per-node=8 --cpus-per-task=64
    #SBATCH --time=12:00:00 --requeue --open-mode=append
    export OMP_NUM_THREADS=8 TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 8 --max-restarts 3 \\
        --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$head:29400" \\
        -m helpers.ddp --model gpt --size small --epochs 10 \\
        --checkpoint /shared/gpt.pt --checkpoint-every 200 --resume --out /shared/gpt.json

Restarts. `torchrun --max-restarts N` starts all workers again when one has died. In torch 2.15 they meet in the same
store as before, where the dead workers' addresses still stand: most restarts on gloo then fail ("Connection refused")
or hang. On one node this module keeps every start's addresses apart, so nothing has to be remembered. On several
nodes the starts cannot be told apart from inside (a node that comes back counts its restarts from 0), and torchrun
must be told to open a new store each time: `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1` and `--rdzv-backend c10d`. Without
them this module refuses to start.

A drill. `--die-at-step 7 --die-rank 1` kills that worker (SIGKILL, as the kernel's out-of-memory killer would) in the
middle of its 7th step, on the first start only. With `--checkpoint`, `--checkpoint-every` and `--resume` the restarted
workers end with the very weights of an undisturbed run: compare `checksum`.

Rank 0 prints one line of JSON, and with `--out` writes it to a file, whole or not at all. Exit status: 0 trained,
1 training failed, 2 an argument cannot be used (one line on standard error, before the workers meet).

torchrun (Elastic Launch), PyTorch 2.15 documentation, 2026; sbatch(1) and srun(1), Slurm 25.05, 2025.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import Dataset

    from helpers.ddp.trainer import TrainConfig

HELD_OUT = 10
"""One sample in so many is kept for validation."""

HELP = {
    "epochs": "times through the training data",
    "batch_size": "samples per rank and micro-batch",
    "accumulate": "micro-batches per optimiser step",
    "lr": "learning rate of AdamW",
    "weight_decay": "of AdamW",
    "precision": "of the forward and backward pass",
    "clip_norm": "largest norm of the gradient; none: no clipping",
    "activation_checkpointing": "compute activations again in the backward pass instead of keeping them",
    "compile": "torch.compile the model",
    "compression": "of the gradients on their way between ranks",
    "bucket_mb": "megabytes of gradients that are sent together",
    "sharded": "shard weights, gradients and optimiser state (fully_shard)",
    "seed": "of the weights, the order of the samples and dropout",
    "max_steps": "stop after so many optimiser steps; none: when the epochs are over",
    "checkpoint": "file to write checkpoints to, on a file system that every node sees",
    "checkpoint_every": "optimiser steps between checkpoints; 0: none in mid-epoch",
    "loader_workers": "processes per rank that load data",
}
"""What each field of TrainConfig means on the command line."""


@dataclass(frozen=True)
class Result:
    """What rank 0 reports."""

    model: str
    size: str
    world_size: int
    parameters: int
    steps: int
    samples: int
    losses: list[float]
    valid: list[float]
    seconds: float
    restarts: int
    checksum: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported: a log file needs no progress bar
    try:
        options, config = parse(arguments)
        check_environment(os.environ)
    except ValueError as error:
        return _refuse(str(error))
    from torch.distributed.elastic.multiprocessing.errors import record

    record(run)(options, config)  # leaves the traceback where torchrun looks for it
    return 0


def run(options: argparse.Namespace, config: TrainConfig) -> None:
    """Train with the other ranks; rank 0 reports."""
    with process_group(options.timeout):
        result = work(options, config)
        if is_first():
            report(result, options.out)


# ------------------------------------------------------------------------------------------------- arguments


def parse(arguments: Sequence[str] | None = None) -> tuple[argparse.Namespace, TrainConfig]:
    """The options and the training configuration.

    Raises ValueError, saying what is accepted, for a value that cannot be used; SystemExit for --help.
    """
    from helpers.ddp.trainer import TrainConfig

    names = [field.name for field in fields(TrainConfig)]
    options = parser(TrainConfig).parse_args(arguments)
    config = TrainConfig(**{name: getattr(options, name) for name in names})
    if options.resume and config.checkpoint is None:
        raise ValueError("--resume needs --checkpoint FILE: where to go on from")
    if options.timeout <= 0:
        raise ValueError(f"--timeout is {options.timeout:g}; it must be above 0 seconds")
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if options.die_at_step is not None and options.die_at_step < 1:
        raise ValueError(f"--die-at-step is {options.die_at_step}; steps are counted from 1")
    if options.die_at_step is not None and not 0 <= options.die_rank < world_size:
        raise ValueError(f"--die-rank is {options.die_rank}; the ranks here are 0 to {world_size - 1}")
    for file in (config.checkpoint, options.out):
        if file is not None and not Path(file).absolute().parent.is_dir():
            raise ValueError(f"{file} cannot be written: there is no folder {Path(file).parent}")
    return options, config


class _Parser(argparse.ArgumentParser):
    """Raises ValueError instead of printing the usage once per rank."""

    def error(self, message: str) -> Any:
        raise ValueError(message)


def parser(configuration: type) -> argparse.ArgumentParser:
    """The command line's arguments: the ones below, and one per field of the dataclass `configuration`."""
    top = _Parser(
        prog="python -m helpers.ddp", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--model", choices=("gpt", "resnet18"), default="gpt", help="gpt: code as bytes; resnet18: digits")
    top.add_argument("--size", choices=("tiny", "small"), default="tiny", help="tiny: seconds; small: minutes")
    top.add_argument("--resume", action="store_true", help="go on from --checkpoint when there is one already")
    top.add_argument("--out", metavar="FILE", help="write the result to this file as well")
    top.add_argument("--timeout", type=float, default=600, metavar="S", help="longest wait of one rank for another")
    drill = top.add_argument_group("drill")
    drill.add_argument("--die-at-step", type=int, metavar="N", help="kill a worker in its N-th step, once")
    drill.add_argument("--die-rank", type=int, default=1, metavar="RANK", help="which one (default 1)")
    group = top.add_argument_group("training")
    hints = get_type_hints(configuration)
    for field in fields(configuration):
        text = HELP.get(field.name, "")
        group.add_argument(
            "--" + field.name.replace("_", "-"),
            default=field.default,
            help=f"{text} (default {str(field.default).lower()})",
            **_kind(hints[field.name]),
        )
    return top


def _kind(hint: Any) -> dict[str, Any]:
    """How argparse reads a field of this type: bool, int, float, str, a Literal of strings, or one of them or None."""
    kinds = [one for one in get_args(hint) if one is not NoneType]
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if kinds:

        def number(text: str) -> Any:
            return None if text == "none" else kinds[0](text)

        number.__name__ = kinds[0].__name__  # what argparse calls it in "invalid float value"
        return {"type": number, "metavar": "FILE" if kinds[0] is str else "N"}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": hint, "metavar": "N" if hint is not str else "TEXT"}


def check_environment(environment: Any) -> None:
    """Raises ValueError when torchrun was started in a way whose restarts are known to fail (torch 2.15)."""
    nodes = int(environment.get("GROUP_WORLD_SIZE", "1"))
    restarts = int(environment.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if nodes > 1 and restarts > 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise ValueError(
            f"--max-restarts {restarts} on {nodes} nodes: restarted workers would find the addresses of the dead ones. "
            "Give torchrun --rdzv-backend c10d, and set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on every node before it"
        )


def _refuse(message: str) -> int:
    """One line on standard error, from the first process of a node only; returns the exit status."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        sys.stderr.write(f"python -m helpers.ddp: error: {message}\n")
    else:
        time.sleep(10)  # torchrun ends all when one has ended: not before the first has spoken
    return 2


# ------------------------------------------------------------------------------------------------- processes


@contextmanager
def process_group(timeout: float) -> Iterator[None]:
    """The default process group of the workers that torchrun started; nothing when there is no torchrun.

    `timeout`: seconds that one rank waits for another before it gives up. On GPUs each rank takes the one of its
    LOCAL_RANK and nccl, otherwise gloo.
    """
    if "RANK" not in os.environ:
        yield
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    gpus = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # a rank that is done at once must not hang up on one that is still connecting
    os.environ.setdefault("TORCH_DIST_INIT_BARRIER", "1")
    limit = timedelta(seconds=timeout)
    store, rank, world_size = next(rendezvous("env://", timeout=limit))
    if int(os.environ.get("GROUP_WORLD_SIZE", "1")) == 1:  # the keys of each start by themselves: see "Restarts" above
        store = dist.PrefixStore(f"start {_restarts()}", store)
    dist.init_process_group("nccl" if gpus else "gloo", store=store, rank=rank, world_size=world_size, timeout=limit)
    try:
        yield
    finally:
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this process is rank 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


# ------------------------------------------------------------------------------------------------- the work


def work(options: argparse.Namespace, config: TrainConfig) -> Result:
    """Train in this rank, with the others."""
    import torch

    from helpers.ddp.trainer import train
    from helpers.efficiency.steps import cross_entropy

    torch.manual_seed(config.seed)
    model, data = task(options.model, options.size)
    kept = len(data) // HELD_OUT  # type: ignore[arg-type]
    rest = range(len(data) - kept)  # type: ignore[arg-type]
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    first_start = _restarts() == 0 and not (options.resume and Path(config.checkpoint or "").exists())
    if options.die_at_step is not None and first_start and int(os.environ.get("RANK", "0")) == options.die_rank:
        loss = dying(loss, options.die_at_step * config.accumulate)
    history = train(
        model,
        torch.utils.data.Subset(data, rest),
        config,
        valid=torch.utils.data.Subset(data, range(rest.stop, len(data))),  # type: ignore[arg-type]
        loss=loss,
        resume=options.resume,  # train finds out whether there is a checkpoint, and all ranks agree on it
    )
    return Result(
        model=options.model,
        size=options.size,
        world_size=int(os.environ.get("WORLD_SIZE", "1")),
        parameters=sum(one.numel() for one in model.parameters()),
        steps=history.steps,
        samples=history.samples,
        losses=history.losses,
        valid=history.valid,
        seconds=history.seconds,
        restarts=_restarts(),
        checksum=checksum(model),
    )


def task(model: str, size: str) -> tuple[nn.Module, Dataset]:
    """A model with random weights, and its data: pairs of (tokens, next tokens) or (image, label)."""
    import torch
    from torch.utils.data import TensorDataset

    from helpers import datasets

    if model == "resnet18":
        from helpers.models.resnet import resnet18

        images, labels = datasets.digit_images()
        count = {"tiny": 320, "small": len(images)}[size]
        return resnet18(), TensorDataset(torch.from_numpy(images[:count]), torch.from_numpy(labels[:count]))
    from helpers.models.gpt import GPT, GPTConfig

    # dropout, so that a run resumed without the random states would be found out
    config, blocks = {
        "tiny": (GPTConfig(context=32, layers=2, heads=2, width=32, dropout=0.1), 640),
        "small": (GPTConfig(dropout=0.1), 8000),
    }[size]
    tokens = torch.from_numpy(datasets.code_blocks(config.context, blocks)).long()
    return GPT(config), TensorDataset(tokens[:, :-1], tokens[:, 1:])


def dying(loss: Callable[[Tensor, Tensor], Tensor], calls: int) -> Callable[[Tensor, Tensor], Tensor]:
    """`loss`, but the process kills itself at the training call of that number: the drill's out-of-memory killer."""
    import torch

    count = 0

    def loss_or_death(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal count
        count += torch.is_grad_enabled()  # validation is not counted
        if count == calls:
            sys.stderr.write(f"drill: rank {os.environ.get('RANK', '0')} dies here\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(outputs, targets)

    return loss_or_death


def checksum(model: nn.Module) -> str:
    """SHA-256 over names and bytes of the model's parameters and buffers: equal only when every bit is."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def report(result: Result, out: str | None) -> None:
    """Print the result as one line of JSON, and write it to the file `out`."""
    line = json.dumps(asdict(result)) + "\n"
    if out is not None:
        from helpers.files import replacing

        with replacing(out) as unfinished:
            Path(unfinished).write_text(line, encoding="utf-8")
    sys.stdout.write(line)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
