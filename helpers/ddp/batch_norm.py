"""Batch normalisation over the batch of all ranks.

DDP averages gradients, not statistics: each rank normalises with the mean and variance of its own samples, so two
ranks with 16 samples each are not one process with 32. `torch.nn.SyncBatchNorm` mends that, on GPUs only; this does
on any device, in a form that can be read.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as collectives
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["GlobalBatchNorm", "synchronise_batch_norm"]


class GlobalBatchNorm(_BatchNorm):
    """A BatchNorm layer whose statistics are those of all ranks' samples together; x is (b, c) or (b, c, …).

    Ranks may have different numbers of samples. In evaluation, and in a process without a group, it is as the others.
    Ioffe and Szegedy, "Batch normalization", 2015; over ranks as in Peng et al., "MegDet", 2018.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise; every rank has to call it as often, for it communicates."""
        if not (self.training and dist.is_initialized()):
            return super().forward(x)
        per_channel = [0, *range(2, x.dim())]
        shape = (1, -1, *[1] * (x.dim() - 2))
        total = sum_over_ranks(torch.stack([x.sum(per_channel), torch.ones_like(x).sum(per_channel)]))
        mean, count = total[0] / total[1], total[1]
        centred = x - mean.view(shape)
        variance = sum_over_ranks(centred.square().sum(per_channel)) / count
        self._remember(mean, variance * count / (count - 1).clamp(min=1))
        out = centred * (variance + self.eps).rsqrt().view(shape)
        return out * self.weight.view(shape) + self.bias.view(shape) if self.affine else out

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Move the running statistics towards this batch's (or, without a momentum, average over all batches)."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)

    def _check_input_dim(self, x: torch.Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"x must have a batch and a channel dimension, got shape {tuple(x.shape)}")


def sum_over_ranks(x: torch.Tensor) -> torch.Tensor:
    """All-reduce that gradients flow through: each rank's x gets the sum of all ranks' gradients."""
    return collectives.all_reduce(x, "sum", dist.group.WORLD)  # type: ignore[arg-type]


def synchronise_batch_norm(model: nn.Module) -> nn.Module:
    """Replace every BatchNorm layer of `model` by a `GlobalBatchNorm` with the same parameters and statistics.

    Returns the model (another object only if it is such a layer itself). Call it before DDP and the optimiser.
    """
    if isinstance(model, _BatchNorm) and not isinstance(model, GlobalBatchNorm):
        new = GlobalBatchNorm(model.num_features, model.eps, model.momentum, model.affine, model.track_running_stats)
        new.weight, new.bias = model.weight, model.bias
        new.running_mean, new.running_var = model.running_mean, model.running_var
        new.num_batches_tracked = model.num_batches_tracked
        return new.train(model.training)
    for name, child in model.named_children():
        setattr(model, name, synchronise_batch_norm(child))
    return model
