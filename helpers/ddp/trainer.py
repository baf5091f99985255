"""A data-parallel trainer: everything that a training loop on several processes needs, in one screen (`train`).

What this is not: a framework. It has one optimiser (AdamW) with a constant learning rate, and no callbacks.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler, default_collate

from helpers.ddp.checkpoints import (
    CheckpointError,
    agreed,
    load_checkpoint,
    random_state,
    random_states,
    rank_and_size,
    save_checkpoint,
    set_random_state,
)
from helpers.ddp.worker import progress
from helpers.efficiency.steps import autocast, checkpoint_activations, cross_entropy, grad_scaler, optimiser_step

__all__ = ["History", "TrainConfig", "evaluate", "train"]

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Raises ValueError or TypeError, naming the field, for a value that makes no sense."""

    epochs: int = 1
    batch_size: int = 32
    """Samples per rank and micro-batch: a step sees `batch_size × accumulate × world size` of them."""
    accumulate: int = 1
    """Micro-batches per optimiser step."""
    lr: float = 1e-3
    weight_decay: float = 0.01
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    clip_norm: float | None = 1.0
    """Largest norm of all gradients together; None: no clipping."""
    activation_checkpointing: bool = False
    compile: bool = False
    compression: Literal["none", "fp16", "bf16", "powersgd"] = "none"
    """Of the gradients on their way between ranks."""
    bucket_mb: float = 25.0
    """Megabytes of gradients that are sent together."""
    sharded: bool = False
    """Shard weights, gradients and optimiser state over the ranks (`fully_shard`) instead of copying them."""
    seed: int = 0
    max_steps: int | None = None
    """Stop after so many optimiser steps, counted from the first start."""
    checkpoint: str | None = None
    """File (a folder when `sharded`) for checkpoints: one after each epoch and one at the end."""
    checkpoint_every: int = 0
    """And one after so many optimiser steps; 0: none in mid-epoch."""
    loader_workers: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("accumulate", 1), ("max_steps", 1)):
            self._whole(name, least)
        for name in ("checkpoint_every", "loader_workers", "seed"):
            self._whole(name, 0)
        for name, zero in (("lr", False), ("weight_decay", True), ("clip_norm", False), ("bucket_mb", False)):
            self._positive(name, or_zero=zero)
        self._one_of("precision", ("fp32", "bf16", "fp16"))
        self._one_of("compression", ("none", "fp16", "bf16", "powersgd"))
        if self.checkpoint_every and self.checkpoint is None:
            raise ValueError(f"checkpoint must name a file when checkpoint_every is {self.checkpoint_every}, got None")
        if self.sharded and self.compression != "none":
            raise ValueError(f"compression must be 'none' when sharded (its hooks are DDP's), got {self.compression!r}")
        if self.sharded and self.precision == "fp16":
            raise ValueError("precision must be 'fp32' or 'bf16' when sharded, got 'fp16'")

    def _whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value is None and name == "max_steps":
            return
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")

    def _positive(self, name: str, *, or_zero: bool) -> None:
        value = getattr(self, name)
        if value is None and name == "clip_norm":
            return
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"{name} must be a number, got {value!r}")
        if not (0 < value < float("inf") or (or_zero and value == 0)):
            raise ValueError(f"{name} must be finite and {'at least' if or_zero else 'above'} 0, got {value}")

    def _one_of(self, name: str, accepted: tuple[str, ...]) -> None:
        if getattr(self, name) not in accepted:
            raise ValueError(f"{name} must be one of {', '.join(accepted)}, got {getattr(self, name)!r}")


@dataclass
class History:
    """What happened in training; the same on every rank. A resumed run's history begins with the first start."""

    losses: list[float] = field(default_factory=list)
    """Per optimiser step: the mean over its samples on all ranks."""
    valid: list[float] = field(default_factory=list)
    """Per epoch, and after the last step: the mean loss on the validation data."""
    steps: int = 0
    samples: int = 0
    """Seen by all ranks together. The sampler repeats some so that all ranks have as many: they count each time."""
    seconds: float = 0.0
    """In the loop, with validation and checkpoints, without setting up."""
    gradient_norms: list[float] = field(default_factory=list)
    """Per optimiser step, before clipping; empty without clipping."""


def train(
    model: nn.Module,
    data: Dataset[Any],
    config: TrainConfig,
    *,
    valid: Dataset[Any] | None = None,
    loss: Loss = cross_entropy,
    resume: bool = False,
) -> History:
    """Train `model` in place; every rank calls this with the same arguments. Alone, a process is a world of one.

    Args:
        data: samples (x, y) of tensors; each rank gets its share of them, in another order every epoch.
        valid: samples to measure the loss on after every epoch, each counted once.
        loss: (model's output, y) -> the mean over the samples of the batch.
        resume: go on from `config.checkpoint` if it is there (else begin: so a restarted job needs no other command).
            The numbers are those of a run that was never interrupted, bit for bit.

    Seeds torch's random state, differently on every rank. Raises ValueError when there is nothing to train on, and
    CheckpointError when a checkpoint cannot be written, or read, or belongs to another run.
    """
    _check(data, valid, config, resume)
    device = device_of_rank()
    torch.manual_seed(config.seed + rank_and_size()[0])  # every rank draws its own dropout masks
    replica = replicate(model.to(device), config, device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    scaler = grad_scaler(config.precision, device.type)
    sampler, loader = rank_loader(data, config, device)
    run = _Run(model, optimiser, scaler, config, samples=len(data))  # type: ignore[arg-type]
    if resume:
        run.restore()

    history, steps_per_epoch = run.history, math.ceil(len(loader) / config.accumulate)
    last = min(config.epochs * steps_per_epoch, config.max_steps or sys.maxsize)
    model.train()
    while history.steps < last:
        epoch, done = divmod(history.steps, steps_per_epoch)
        end = min(history.steps - done + steps_per_epoch, last)
        sampler.set_epoch(epoch)  # without it every epoch has the same order
        groups = islice(micro_batches(loader, config, epoch, done), end - history.steps)
        for group in progress(groups, total=end - history.steps, label=f"epoch {epoch + 1} of {config.epochs}"):
            run.note(step(replica, group, loss, optimiser, scaler, config), group)
            if config.checkpoint_every and history.steps % config.checkpoint_every == 0 and history.steps < end:
                run.save()
        same_buffers(model)
        if valid is not None:
            history.valid.append(evaluate(model, valid, loss, config.batch_size))
        run.save()
    return history


def step(
    replica: nn.Module,
    group: list[tuple[Tensor, Tensor]],
    loss: Loss,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    config: TrainConfig,
) -> tuple[Tensor, Tensor | None]:
    """One optimiser step over a list of micro-batches: this rank's mean loss, and the norm of the gradients."""
    device = next(replica.parameters()).device
    samples = sum(len(y) for _, y in group)
    total = torch.zeros((), device=device)
    for number, (x, y) in enumerate(group, start=1):
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        # the gradients of all micro-batches travel once, with the last
        with nullcontext() if number == len(group) else without_communication(replica):
            with autocast(config.precision, device.type):
                share = loss(replica(x), y) * (len(y) / samples)
            scaler.scale(share).backward()
        total += share.detach()  # no .item(): a step does not wait for a number that nobody reads yet
    return total, optimiser_step(optimiser, scaler, replica.parameters(), config.clip_norm)


def evaluate(model: nn.Module, data: Dataset[Any], loss: Loss = cross_entropy, batch_size: int = 32) -> float:
    """Mean loss over `data`, each sample counted once, the same number on every rank; every rank calls it.

    Give the bare module, with the same weights and buffers everywhere. Its mode (train or eval) is kept.
    Raises ValueError for an empty data set or a batch size below 1.
    """
    _check_data("data", data)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    rank, world_size = rank_and_size()
    device = next(model.parameters()).device
    count = len(data)  # type: ignore[arg-type]
    # not DistributedSampler: that repeats samples until every rank has as many, which changes the mean
    mine = np.arange(rank, count, world_size)
    batches = math.ceil(math.ceil(count / world_size) / batch_size)  # as many on every rank: sharding needs that
    total = torch.zeros(2, dtype=torch.float64, device=device)  # sum of the losses, number of samples
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for chosen in np.array_split(mine, batches):
            x, y = default_collate([data[int(i)] for i in (chosen if len(chosen) else [0])])
            value = loss(model(x.to(device)), y.to(device)).double()
            if len(chosen):
                total += torch.stack([value * len(chosen), torch.full_like(value, len(chosen))])
    model.train(was_training)
    if world_size > 1:
        dist.all_reduce(total)
    return (total[0] / total[1]).item()


class _Run:
    """Keeps the history of a run, and brings it to disk and back."""

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        config: TrainConfig,
        samples: int,
    ) -> None:
        self.model, self.optimiser, self.scaler, self.config = model, optimiser, scaler, config
        self.history = History()
        self._unread: list[tuple[Tensor, Tensor | None]] = []
        self._clock = time.perf_counter()
        # what decides which rank sees which sample when
        self._plan = {
            "samples": samples,
            "world_size": rank_and_size()[1],
            "batch_size": config.batch_size,
            "accumulate": config.accumulate,
            "seed": config.seed,
        }

    def note(self, measured: tuple[Tensor, Tensor | None], group: list[tuple[Tensor, Tensor]]) -> None:
        """Count a step; its loss and norm are read later."""
        self._unread.append(measured)
        self.history.steps += 1
        self.history.samples += sum(len(y) for _, y in group) * rank_and_size()[1]

    def settle(self) -> None:
        """Bring the history up to date: one message between ranks for the losses of many steps."""
        if self._unread:
            losses = torch.stack([loss for loss, _ in self._unread])
            if dist.is_initialized():
                dist.all_reduce(losses)
            self.history.losses += (losses / rank_and_size()[1]).tolist()
            norms = [norm for _, norm in self._unread if norm is not None]
            self.history.gradient_norms += [_whole(norm).item() for norm in norms]
            self._unread.clear()
        self.history.seconds += time.perf_counter() - self._clock
        self._clock = time.perf_counter()

    def save(self) -> None:
        """Settle, and write a checkpoint if one is wanted."""
        self.settle()
        if self.config.checkpoint is not None:
            position = {"plan": self._plan, "history": asdict(self.history)}
            if self.config.sharded:
                extra = {"position": position, "random": random_states()}
                _sharded().save_sharded(self.config.checkpoint, self.model, self.optimiser, extra)
            else:
                save_checkpoint(
                    self.config.checkpoint, self.model, self.optimiser, scaler=self.scaler, position=position
                )

    def restore(self) -> None:
        """Go back to the checkpoint, if there is one. Raises CheckpointError when it is of another run."""
        path, sharded = self.config.checkpoint, self.config.sharded
        if path is not None and agreed(_sharded().is_saved(path) if sharded else Path(path).exists()):
            if sharded:
                extra = _sharded().load_sharded(path, self.model, self.optimiser)
                position = extra.get("position", {})
            else:
                position = load_checkpoint(path, self.model, self.optimiser, scaler=self.scaler)
            _check_plan(path, position.get("plan"), self._plan)
            if sharded:
                set_random_state(extra["random"][rank_and_size()[0]])
            self.history = History(**position["history"])
        self._clock = time.perf_counter()


def _sharded() -> ModuleType:
    """Imported when it is used: distributed checkpoints take seconds to import."""
    from helpers.ddp import sharded

    return sharded


def _whole(norm: Tensor) -> Tensor:
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of a sharded model


def _check_plan(path: str, wrote: dict[str, int] | None, here: dict[str, int]) -> None:
    if wrote is None:
        raise CheckpointError(f"cannot resume from {path!r}: train did not write it")
    changed = [f"{name} was {wrote[name]}, is {value}" for name, value in here.items() if wrote[name] != value]
    if changed:
        raise CheckpointError(f"cannot resume from {path!r}: it belongs to another run ({'; '.join(changed)})")


# --------------------------------------------------------------------------------------------- what train is made of


def device_of_rank() -> torch.device:
    """The GPU with this process's local rank; the CPU where there is none, or where gloo connects the processes."""
    if not torch.cuda.is_available() or (dist.is_initialized() and dist.get_backend() == "gloo"):
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def replicate(model: nn.Module, config: TrainConfig, device: torch.device) -> nn.Module:
    """The model as `config` wants it: its gradients averaged over the ranks (DDP), or its parts spread over them."""
    if config.activation_checkpointing:
        checkpoint_activations(model)
    replica = model
    if dist.is_initialized() and config.sharded:
        replica = _sharded().shard(model)
    elif dist.is_initialized():
        replica = DistributedDataParallel(
            model,
            device_ids=None if device.type == "cpu" else [device.index],
            bucket_cap_mb=config.bucket_mb,
            gradient_as_bucket_view=True,  # gradients live where they are sent from: no copy
        )
        if config.compression != "none":
            from helpers.ddp import compression

            compression.register(replica, config.compression)
    if config.compile:
        replica.compile()
    return replica


def without_communication(replica: nn.Module) -> AbstractContextManager[object]:
    """Gradients stay on their rank and add up."""
    if isinstance(replica, DistributedDataParallel):
        return replica.no_sync()
    return _sharded_without_communication(replica) if hasattr(replica, "set_requires_gradient_sync") else nullcontext()


@contextmanager
def _sharded_without_communication(replica: Any) -> Iterator[None]:
    replica.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        replica.set_requires_gradient_sync(True)


def rank_loader(
    data: Dataset[Any], config: TrainConfig, device: torch.device
) -> tuple[DistributedSampler[Any], DataLoader[Any]]:
    """What chooses this rank's share of the data, and what loads it in batches."""
    rank, world_size = rank_and_size()
    sampler: DistributedSampler[Any] = DistributedSampler(data, world_size, rank, shuffle=True, seed=config.seed)
    loader = DataLoader(
        data,
        batch_size=config.batch_size,
        sampler=sampler,
        num_workers=config.loader_workers,
        multiprocessing_context="fork" if config.loader_workers else None,  # sees data sets defined in a notebook
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # or it draws from the random state that dropout uses, and a resume differs
    )
    return sampler, loader


def micro_batches(
    loader: DataLoader[Any], config: TrainConfig, epoch: int, done: int = 0
) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """A list of `accumulate` batches for each step of an epoch (the last may be shorter), without the first `done`."""
    rank, world_size = rank_and_size()
    loader.generator.manual_seed(config.seed + epoch * world_size + rank)  # random augmentations in loader workers
    batches = iter(loader)
    before = random_state() if done else None
    for _ in range(done * config.accumulate):
        next(batches)  # loaded again, not skipped: so a random augmentation stands where it stood
    if before:
        set_random_state(before)
    while group := list(islice(batches, config.accumulate)):
        yield group


def same_buffers(model: nn.Module) -> None:
    """Give every rank the buffers of rank 0: each has its own running statistics after a forward pass."""
    if rank_and_size()[1] > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def _check(data: Dataset[Any], valid: Dataset[Any] | None, config: TrainConfig, resume: bool) -> None:
    _check_data("data", data)
    if valid is not None:
        _check_data("valid", valid)
    if resume and config.checkpoint is None:
        raise ValueError("config.checkpoint must name a file to resume from, got None")
    if config.sharded and not dist.is_initialized():
        raise ValueError("config.sharded needs several processes to shard over: use helpers.ddp.launch or torchrun")


def _check_data(name: str, data: Dataset[Any]) -> None:
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise TypeError(f"{name} must be a data set with a length and an index, got {type(data).__name__}")
    if not len(data):
        raise ValueError(f"{name} must hold at least one sample, got none")
