"""The parts of one training step: precision, the optimiser's step in the right order, activation checkpointing."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint, noop_context_fn

__all__ = ["autocast", "blocks_of", "checkpoint_activations", "cross_entropy", "grad_scaler", "optimiser_step"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def _dtype(precision: str) -> torch.dtype:
    if precision not in DTYPES:
        raise ValueError(f"precision must be one of {', '.join(DTYPES)}, got {precision!r}")
    return DTYPES[precision]


def autocast(precision: str, device_type: str = "cpu") -> AbstractContextManager[object]:
    """Run the forward pass in it: matrix products in `precision`, what needs the range (sums, norms, losses) in fp32.

    `precision` is "fp32" (does nothing), "bf16" or "fp16"; anything else is a ValueError. The weights stay fp32.
    Follows "Mixed precision training", Micikevicius et al., 2018. The backward pass belongs outside.
    """
    dtype = _dtype(precision)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device_type, dtype=dtype)


def grad_scaler(precision: str, device_type: str = "cpu") -> torch.amp.GradScaler:
    """Scales the loss so that small gradients do not vanish in fp16; for fp32 and bf16 it lets everything through."""
    return torch.amp.GradScaler(device_type, enabled=_dtype(precision) == torch.float16)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats: logits (b, c) with targets (b,), or (b, t, c) with (b, t); targets are int64.

    Raises ValueError when the shapes do not fit.
    """
    if logits.shape[:-1] != targets.shape:
        raise ValueError(f"targets must have shape {tuple(logits.shape[:-1])}, got {tuple(targets.shape)}")
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


def optimiser_step(
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    parameters: Iterable[Tensor],
    clip_norm: float | None = None,
) -> Tensor | None:
    """From gradients to new weights, in the only order that is right.

    1. unscale: until then the gradients are too large by the scaler's factor, and a limit would mean nothing;
    2. clip their global norm to `clip_norm` (None: do not);
    3. step, which the scaler leaves out when a gradient is infinite or not a number;
    4. update the scaler's factor for the next step;
    5. zero the gradients.

    Returns the norm before clipping in true units (a scalar tensor, left where it is: reading it would make a GPU
    wait), or None without clipping.
    """
    norm = None
    if clip_norm is not None:
        scaler.unscale_(optimiser)
        norm = nn.utils.clip_grad_norm_(parameters, clip_norm)
    scaler.step(optimiser)
    scaler.update()
    optimiser.zero_grad()
    return norm


def blocks_of(model: nn.Module, kinds: tuple[type[nn.Module], ...] | None = None) -> list[nn.Module]:
    """The repeated parts of a model, outermost only: modules of these classes, or by default the elements of its lists.

    A GPT keeps its blocks in a ModuleList, a ResNet in Sequentials: `kinds` is only needed where neither holds.
    Raises ValueError when there is none.
    """
    found = list(_outermost(model, kinds))
    if not found:
        wanted = " or ".join(kind.__name__ for kind in kinds) if kinds else "ModuleList or Sequential with a block"
        raise ValueError(f"model must hold a {wanted}, {type(model).__name__} has none")
    return found


def _outermost(module: nn.Module, kinds: tuple[type[nn.Module], ...] | None) -> Iterator[nn.Module]:
    listed = kinds is None and isinstance(module, nn.ModuleList | nn.Sequential)
    for child in module.children():
        if listed or (kinds is not None and isinstance(child, kinds)):
            yield child
        else:
            yield from _outermost(child, kinds)


def checkpoint_activations(model: nn.Module, kinds: tuple[type[nn.Module], ...] | None = None) -> nn.Module:
    """Keep only the input of each block for the backward pass, and compute the rest again when it is needed.

    Memory for time: about a third more compute ("Training deep nets with sublinear memory cost", Chen et al., 2016).
    Changes the model in place, without renaming a parameter, and returns it; blocks as in `blocks_of`. Dropout gives
    the same masks the second time, and batch normalisation counts each batch once.
    """
    for block in blocks_of(model, kinds):
        if "forward" not in vars(block):  # else it was done before
            again = functools.partial(_contexts, norms) if (norms := _batch_norms(block)) else noop_context_fn
            run = functools.partial(checkpoint, block.forward, use_reentrant=False, context_fn=again)
            block.forward = run
    return model


def _batch_norms(block: nn.Module) -> list[_BatchNorm]:
    return [module for module in block.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


def _contexts(norms: list[_BatchNorm]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For the first run of a block and for the second."""
    return nullcontext(), _untracked(norms)


@contextmanager
def _untracked(norms: list[_BatchNorm]) -> Iterator[None]:
    """Normalise with the batch's statistics, as before, but do not add them to the running ones once more."""
    before = [(norm.momentum, norm.get_buffer("num_batches_tracked").clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.get_buffer("num_batches_tracked").copy_(count)
