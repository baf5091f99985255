"""Weight decay: which parameters it is for, and why L2 in Adam is not the same as decay beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["AdamState", "adam_step", "parameter_groups"]

NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,  # BatchNorm and InstanceNorm of every dimension
    nn.LocalResponseNorm,
)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimiser: parameters with decay, and biases, normalisations and embeddings without.

    A bias or the gain of a norm is a handful of numbers that cannot memorise anything; pulled towards 0 they only shift
    or shrink the activations. The row of an embedding gets a gradient when its token occurs, but would decay in
    every step: rare tokens would vanish. A weight that is used twice (tied to an embedding) is listed once, with the
    embedding. Frozen parameters are left out; an empty group is left out too.

    Raises ValueError when `weight_decay` is below 0.
    """
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
    without: dict[int, nn.Parameter] = {}
    for module in model.modules():
        exempt = isinstance(module, (*NORMS, nn.Embedding, nn.EmbeddingBag))
        for name, parameter in module.named_parameters(recurse=False):
            if exempt or name.split("_")[0] == "bias" or name.endswith("bias"):
                without[id(parameter)] = parameter
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]  # each once
    groups = [
        {"params": [p for p in trained if id(p) not in without], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) in without], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


@dataclass(frozen=True)
class AdamState:
    """Adam's memory of one parameter: running means of the gradient and of its square, and the number of steps."""

    mean: Tensor
    square: Tensor
    step: int = 0

    @classmethod
    def zeros_like(cls, weight: Tensor) -> AdamState:
        return cls(torch.zeros_like(weight), torch.zeros_like(weight))


def adam_step(
    weight: Tensor,
    gradient: Tensor,
    state: AdamState,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = True,
) -> tuple[Tensor, AdamState]:
    r"""One step of AdamW (`decoupled`), or of Adam with L2 in the loss; returns the new weight and state.

    Coupled, the decay is part of the gradient and is divided by its size like the rest of it: a weight with large
    gradients hardly decays. Decoupled, every weight shrinks by the same share `lr` × `weight_decay`.

    Source: Kingma and Ba, Adam (2015); Loshchilov and Hutter, Decoupled Weight Decay Regularization (2019).
    """
    step = state.step + 1
    if decoupled:
        weight = weight * (1 - lr * weight_decay)
    else:
        gradient = gradient + weight_decay * weight
    mean = betas[0] * state.mean + (1 - betas[0]) * gradient
    square = betas[1] * state.square + (1 - betas[1]) * gradient**2
    unbiased_mean = mean / (1 - betas[0] ** step)
    unbiased_square = square / (1 - betas[1] ** step)
    return weight - lr * unbiased_mean / (unbiased_square.sqrt() + eps), AdamState(mean, square, step)
