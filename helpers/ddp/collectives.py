"""What a data-parallel library does between `backward()` and the next step, written out to be read.

`ring_all_reduce` is `torch.distributed.all_reduce`, `BucketedAverager` is the heart of DistributedDataParallel, and
`Zero1` is ZeroRedundancyOptimizer; the tests compare each with its original. Call them inside `ddp.launch`, or wherever
a process group is initialised. For CPU tensors over gloo: under NCCL, sends and receives would have to be grouped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

PIECE_BYTES = 4 << 20
"""A chunk travels in pieces of this size, so that one piece is added while the next is on its way."""


@torch.no_grad()
def ring_all_reduce(tensor: torch.Tensor, *, op: str = "sum", group: dist.ProcessGroup | None = None) -> torch.Tensor:
    """Replace `tensor` on every rank by the sum (or mean) over all ranks, with messages to the next rank only.

    The tensor is cut into n chunks for n ranks. Reduce-scatter: each chunk goes round the ring once and collects what
    every rank has to add. All-gather: the finished chunk goes round once more and is copied. Each rank sends 2(n-1)
    chunks of 1/n of the tensor, so the time hardly depends on n; with all tensors sent to one rank, it would.

    Args:
        tensor: any shape, dtype, length (also shorter than n) and layout; the same on all ranks. Changed in place.
        op: "sum" or "mean".
        group: ranks that take part; all when None.

    Returns the same tensor. Raises TypeError for anything but a tensor, ValueError for another `op`, the mean of
    whole numbers, a tensor that is not in main memory, and a rank outside the group.
    Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009.
    """
    _check_reducible(tensor, op)
    rank, n = dist.get_rank(group), dist.get_world_size(group)
    if rank < 0:
        raise ValueError(f"rank {dist.get_rank()} is not in the group, so it has nothing to reduce there")
    flat = tensor.contiguous().view(-1)  # a copy only of what is not contiguous
    chunks = [list(_pieces(chunk)) for chunk in flat.tensor_split(n)]
    left, right, last = (rank - 1) % n, (rank + 1) % n, 2 * (n - 1) - 1

    sent: list[Any] = []  # of dist.Work
    if n > 1:
        sent += [dist.isend(piece, group_dst=right, group=group) for piece in chunks[rank]]
    for step in range(last + 1):
        reducing = step < n - 1
        pieces = chunks[(rank - step - 1) % n]
        # A piece that is copied overwrites what this rank sent before: it has long arrived, or it could not be here.
        arriving = [torch.empty_like(piece) if reducing else piece for piece in pieces]
        received: list[Any] = [dist.irecv(piece, group_src=left, group=group) for piece in arriving]
        for piece, arrived, work in zip(pieces, arriving, received, strict=True):
            work.wait()
            if reducing:
                piece += arrived
                if op == "mean" and step == n - 2:
                    piece /= n
            if step < last:
                sent.append(dist.isend(piece, group_dst=right, group=group))
    for work in sent:
        work.wait()

    if flat.data_ptr() != tensor.data_ptr():
        tensor.copy_(flat.view_as(tensor))
    return tensor


def _pieces(chunk: torch.Tensor) -> Iterator[torch.Tensor]:
    """The chunk in pieces; none when it is empty."""
    if chunk.numel():
        yield from chunk.split(max(1, PIECE_BYTES // chunk.element_size()))


def _check_reducible(tensor: torch.Tensor, op: str) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"tensor must be a torch.Tensor, got {type(tensor).__name__}")
    if op not in ("sum", "mean"):
        raise ValueError(f"op must be 'sum' or 'mean', got {op!r}")
    if op == "mean" and not (tensor.is_floating_point() or tensor.is_complex()):
        raise ValueError(f"op='mean' needs a tensor of floats, got {tensor.dtype}")
    if tensor.device.type != "cpu":
        raise ValueError(f"tensor must be in main memory (cpu), got {tensor.device}: use dist.all_reduce there")


@dataclass(eq=False)
class Bucket:
    """Parameters whose gradients travel together, and the flat tensor they travel in."""

    parameters: list[nn.Parameter]
    flat: torch.Tensor
    missing: set[nn.Parameter]  # those without a gradient so far
    work: dist.Work | None = None


class BucketedAverager:
    """Averages gradients over all ranks while backward is still running.

    Backward reaches the last layers first, so the buckets are filled from the last parameter to the first. As soon
    as all gradients of a bucket are there, its all-reduce starts and runs beside the rest of backward.

        averager = BucketedAverager(model)
        loss_fn(model(x), y).backward()
        averager.wait()          # only now are the gradients the mean over all ranks
        optimiser.step()

    All ranks start from rank 0's weights, as with DistributedDataParallel. Unlike there, a parameter without a
    gradient counts as zeros (DDP stops with an error, or searches the graph), and the first bucket is not smaller.
    Li et al., "PyTorch distributed: experiences on accelerating data parallel training", 2020.

    Args:
        model: its parameters must be the same on all ranks, in number, shape and order.
        bucket_mb: size at which a bucket is full, in MiB.

    Raises ValueError when the model has nothing to train or `bucket_mb` is not positive.
    """

    def __init__(self, model: nn.Module, bucket_mb: float = 25.0, *, group: dist.ProcessGroup | None = None) -> None:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not parameters:
            raise ValueError("model has no parameter that requires a gradient")
        if not bucket_mb > 0:
            raise ValueError(f"bucket_mb must be a positive number of MiB, got {bucket_mb!r}")
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor.detach(), group_src=0, group=group)
        self.group = group
        self.buckets = _fill_buckets(parameters[::-1], bucket_mb * 2**20)
        self._bucket_of = {parameter: bucket for bucket in self.buckets for parameter in bucket.parameters}
        self._started = 0  # buckets whose all-reduce is under way
        self._averages = True
        self._hooks = [one.register_post_accumulate_grad_hook(self._gradient_is_ready) for one in parameters]

    def _gradient_is_ready(self, parameter: nn.Parameter) -> None:
        if not self._averages:
            return
        bucket = self._bucket_of[parameter]
        if parameter not in bucket.missing:
            raise RuntimeError("two backward passes without wait() between them: call it, or use no_sync()")
        bucket.missing.remove(parameter)
        # In the same order on every rank, whatever order the gradients come in: else unlike buckets would be added.
        while self._started < len(self.buckets) and not self.buckets[self._started].missing:
            self._start_next()

    @torch.no_grad()
    def _start_next(self) -> None:
        bucket = self.buckets[self._started]
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in bucket.parameters]
        torch.cat([gradient.reshape(-1) for gradient in gradients], out=bucket.flat)
        bucket.flat /= dist.get_world_size(self.group)  # before the sum: it cannot overflow
        bucket.work = dist.all_reduce(bucket.flat, group=self.group, async_op=True)
        self._started += 1

    @torch.no_grad()
    def wait(self) -> None:
        """Call it after backward: every `.grad` is the mean over all ranks when it returns."""
        while self._started < len(self.buckets):  # buckets with a parameter that got no gradient on this rank
            self._start_next()
        for bucket in self.buckets:
            assert bucket.work is not None
            bucket.work.wait()
            for parameter, mean in zip(bucket.parameters, unflatten(bucket.flat, bucket.parameters), strict=True):
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad.copy_(mean)
            bucket.work, bucket.missing = None, set(bucket.parameters)
        self._started = 0

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Gradients of backward passes in here only add up; the next one outside communicates the sum."""
        before, self._averages = self._averages, False
        try:
            yield
        finally:
            self._averages = before

    def remove(self) -> None:
        """Take the hooks off the parameters."""
        for hook in self._hooks:
            hook.remove()


def _fill_buckets(parameters: Sequence[nn.Parameter], size: float) -> list[Bucket]:
    """Buckets of `size` bytes, each of one dtype and device; a parameter is never cut."""
    groups: list[list[nn.Parameter]] = []
    held = size
    for parameter in parameters:
        if held >= size or (parameter.dtype, parameter.device) != (groups[-1][0].dtype, groups[-1][0].device):
            groups.append([])
            held = 0
        groups[-1].append(parameter)
        held += parameter.nbytes
    return [Bucket(one, one[0].new_empty(sum(map(torch.numel, one))), set(one)) for one in groups]


def unflatten(flat: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Views into `flat` (n,) with the shapes of the tensors in `like`, one after the other."""
    parts = flat.split([one.numel() for one in like])
    return [part.view(one.shape) for part, one in zip(parts, like, strict=True)]


class Zero1:
    """An optimiser whose state is divided among the ranks: each updates its own parameters, then all exchange them.

    Adam keeps two numbers a parameter; with n ranks each holds about 1/n of them. The gradients have to be the same
    on every rank before `step()` (DDP, or `BucketedAverager`). Whole parameters are dealt out, the largest first,
    each to the rank that has least; the paper cuts one flat vector instead, and scatters the gradients as well.
    Right for optimisers that treat every number by itself (SGD, Adam, AdamW), not for one that couples parameters.
    Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models", 2020.

    Args:
        parameters: the same on all ranks, in number, shape and order.
        optimiser_class: such as torch.optim.AdamW.
        options: what it takes besides, such as lr.

    `optimiser` is this rank's part: give it to a learning-rate schedule, and save its state from every rank.
    Raises TypeError for parameter groups, ValueError when there is nothing to train.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        optimiser_class: type[torch.optim.Optimizer],
        *,
        group: dist.ProcessGroup | None = None,
        **options: Any,
    ) -> None:
        self.parameters = list(parameters)
        if not all(isinstance(one, torch.Tensor) for one in self.parameters):
            raise TypeError("parameters must be tensors, such as model.parameters(); parameter groups are not divided")
        if not any(one.requires_grad for one in self.parameters):
            raise ValueError("parameters holds no parameter that requires a gradient")
        self.group = group
        self.shards = _deal([one for one in self.parameters if one.requires_grad], dist.get_world_size(group))
        mine = self.shards[dist.get_rank(group)]
        self.optimiser = optimiser_class([{"params": mine}], **options)  # a group may be empty, a list may not

    @torch.no_grad()
    def step(self) -> None:
        """Update this rank's parameters, then send them to all others and receive theirs."""
        self.optimiser.step()
        works: list[Any] = [
            dist.broadcast(parameter.detach(), group_src=owner, group=self.group, async_op=True)
            for owner, shard in enumerate(self.shards)
            for parameter in shard
        ]
        for work in works:
            work.wait()

    def zero_grad(self) -> None:
        """Drop all gradients, also of the parameters that other ranks update."""
        for parameter in self.parameters:
            parameter.grad = None


def _deal(parameters: Sequence[nn.Parameter], world_size: int) -> list[list[nn.Parameter]]:
    """One list of parameters a rank, of about the same size; the same on every rank."""
    shards: list[list[nn.Parameter]] = [[] for _ in range(world_size)]
    held = [0] * world_size
    for parameter in sorted(parameters, key=torch.numel, reverse=True):
        least = held.index(min(held))
        shards[least].append(parameter)
        held[least] += parameter.numel()
    return shards
