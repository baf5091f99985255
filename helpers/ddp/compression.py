"""Fewer bytes on a slow link: what DistributedDataParallel sends in place of the gradients.

`register(ddp_model, "fp16")` puts one of the methods to work and counts its bytes. Between processes of one machine
this gains nothing; on a link of 500 Mbit/s it does. All but "none" change the gradients a little: look at the loss.
"""

# Without `from __future__ import annotations`: DDP compares the annotations of a hook, which must not be strings.

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

__all__ = ["METHODS", "TopKState", "Traffic", "register", "top_k_hook"]

Averaged = torch.futures.Future[torch.Tensor]


@dataclass
class Traffic:
    """Bytes that this rank has sent for its gradients since `register`, counted as they go round a ring.

    An all-reduce of B bytes over n ranks sends 2(n-1)/n · B from each, an all-gather (n-1) · B.
    """

    plain: float = 0.0
    """What the gradients would have taken as they are."""
    sent: float = 0.0
    """What was sent."""

    @property
    def saving(self) -> float:
        """How many times fewer bytes; 1 before anything was sent."""
        return self.plain / self.sent if self.sent else 1.0


@dataclass
class TopKState:
    """What `top_k_hook` remembers between steps, and its settings."""

    share: float = 0.01
    """Of the numbers of a bucket, how many are sent: those furthest from zero."""
    start: int = 2
    """Steps with all gradients before that; at least 2, because DDP rearranges its buckets after the first."""
    group: dist.ProcessGroup | None = None
    held_back: dict[int, torch.Tensor] = field(default_factory=dict)
    """Per bucket: what was never sent, and is added to the next gradient (error feedback)."""
    step: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share!r}")
        if self.start < 2:
            raise ValueError(f"start must be at least 2, got {self.start!r}")


def top_k_hook(state: TopKState, bucket: dist.GradBucket) -> Averaged:
    """Send the largest gradients now and the others when they have added up.

    Every rank chooses its own, so positions travel beside the values and all is gathered instead of summed on the
    way: each rank receives n lists, which is why this does not grow to many ranks.
    Lin et al., "Deep gradient compression: reducing the communication bandwidth for distributed training", 2018
    (without its momentum correction, clipping and warm-up).
    """
    if state.step < state.start:
        state.step += bucket.is_last()
        return default_hooks.allreduce_hook(state.group, bucket)  # type: ignore[arg-type]  # None: all ranks
    gradient = bucket.buffer()
    pending = state.held_back.setdefault(bucket.index(), torch.zeros_like(gradient))
    pending += gradient
    chosen = pending.abs().topk(_count(state, gradient), sorted=False).indices
    values = pending[chosen]
    pending[chosen] = 0

    n = dist.get_world_size(state.group)
    positions = chosen.to(torch.int32)
    all_values = [torch.empty_like(values) for _ in range(n)]
    all_positions = [torch.empty_like(positions) for _ in range(n)]
    sending: list[Any] = [
        dist.all_gather(all_values, values, group=state.group, async_op=True),
        dist.all_gather(all_positions, positions, group=state.group, async_op=True),
    ]

    def mean(_: object) -> torch.Tensor:
        gradient.zero_()
        for theirs, where in zip(all_values, all_positions, strict=True):
            gradient.index_add_(0, where, theirs, alpha=1 / n)
        return gradient

    return torch.futures.collect_all([work.get_future() for work in sending]).then(mean)


def _count(state: TopKState, gradient: torch.Tensor) -> int:
    return max(1, round(state.share * gradient.numel()))


@dataclass(frozen=True)
class Method:
    """A hook, its state, and how many times its size a bucket takes on a ring of n ranks, in bytes."""

    hook: Callable[[Any, dist.GradBucket], Averaged]
    state: Any
    sent: Callable[[dist.GradBucket, int], float]


def _ring(payload: float, n: int) -> float:
    return 2 * (n - 1) / n * payload


def _none(group: dist.ProcessGroup) -> Method:
    return Method(default_hooks.allreduce_hook, group, lambda bucket, n: _ring(bucket.buffer().nbytes, n))


def _fp16(group: dist.ProcessGroup) -> Method:
    return Method(default_hooks.fp16_compress_hook, group, lambda bucket, n: _ring(2 * bucket.buffer().numel(), n))


def _bf16(group: dist.ProcessGroup) -> Method:
    return Method(default_hooks.bf16_compress_hook, group, lambda bucket, n: _ring(2 * bucket.buffer().numel(), n))


def _powersgd(group: dist.ProcessGroup, *, rank: int = 4, start: int = 10) -> Method:
    """Each matrix as the product of two thin ones of `rank` columns (Vogels et al., 2019), after `start` steps."""
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank!r}")
    if start < 2:
        raise ValueError(f"start must be at least 2, got {start!r}")
    state = powerSGD_hook.PowerSGDState(
        group,
        matrix_approximation_rank=rank,
        start_powerSGD_iter=start,
        orthogonalization_epsilon=1e-8,  # or, with one or two columns, a gradient of zero becomes NaN
    )
    before = 0

    def sent(bucket: dist.GradBucket, n: int) -> float:
        nonlocal before
        now = state.total_numel_after_compression  # the library counts what it sends, once it compresses
        numbers = now - before if now > before else bucket.buffer().numel()
        before = now
        return _ring(numbers * bucket.buffer().element_size(), n)

    ordered = dist.get_backend(group) != "gloo"
    return Method(powerSGD_hook.powerSGD_hook if ordered else _powersgd_in_turn, state, sent)


def _powersgd_in_turn(state: powerSGD_hook.PowerSGDState, bucket: dist.GradBucket) -> Averaged:
    """One bucket after the other, without overlap with backward.

    The hook's messages follow one another in call-backs. On gloo these run on any thread, so that with several buckets
    the ranks would send in different orders, and unlike tensors would meet; nccl has one stream and keeps the order.
    """
    future = powerSGD_hook.powerSGD_hook(state, bucket)
    future.wait()
    return future


def _top_k(group: dist.ProcessGroup, *, share: float = 0.01, start: int = 2) -> Method:
    state = TopKState(share=share, start=start, group=group)

    def sent(bucket: dist.GradBucket, n: int) -> float:
        gradient = bucket.buffer()
        if bucket.index() not in state.held_back:
            return _ring(gradient.nbytes, n)
        return (n - 1) * _count(state, gradient) * (gradient.element_size() + 4)

    return Method(top_k_hook, state, sent)


METHODS: dict[str, Callable[..., Method]] = {
    "none": _none,
    "fp16": _fp16,
    "bf16": _bf16,
    "powersgd": _powersgd,
    "top_k": _top_k,
}


def register(model: DistributedDataParallel, name: str, **options: Any) -> Traffic:
    """Let `model` send its gradients by the method `name`, and count the bytes; once, before the first step.

    - "none": as they are. Without `register` it is the same, faster by the call of a Python function a bucket.
    - "fp16", "bf16": half the bytes. fp16 overflows above 65,504, bf16 keeps the range and has fewer digits.
    - "powersgd": `rank` (4) columns, from step `start` (10) on; vectors and small matrices travel as they are.
      Vogels et al., "PowerSGD: practical low-rank gradient compression for distributed optimization", 2019.
    - "top_k": the `share` (0.01) of largest numbers, from step `start` (2) on; see `top_k_hook`.

    Returns the running count. Raises TypeError when `model` is not a DDP model or an option is unknown, ValueError
    for an unknown name or an option out of range, RuntimeError when the model has a hook already.
    """
    if not isinstance(model, DistributedDataParallel):
        raise TypeError(f"model must be a DistributedDataParallel, got {type(model).__name__}: only that has hooks")
    if name not in METHODS:
        raise ValueError(f"name must be one of {', '.join(METHODS)}, got {name!r}")
    method = METHODS[name](model.process_group, **options)
    n, traffic = dist.get_world_size(model.process_group), Traffic()

    def counted(state: Any, bucket: dist.GradBucket) -> Averaged:
        traffic.plain += _ring(bucket.buffer().nbytes, n)
        future = method.hook(state, bucket)
        traffic.sent += method.sent(bucket, n)
        return future

    model.register_comm_hook(method.state, counted)
    return traffic
