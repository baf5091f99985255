"""Folding BatchNorm into the convolution before it: in evaluation both are linear, so one convolution does for both."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

__all__ = ["fold_conv_bn", "fold_model"]

ACTIVATIONS = {nn.ReLU: F.relu, nn.ReLU6: F.relu6}


def fold_conv_bn(
    weight: Tensor, bias: Tensor | None, mean: Tensor, variance: Tensor, gain: Tensor, shift: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that computes BatchNorm(convolution(x)) in evaluation mode.

        w' = w · γ / √(σ² + ε)        b' = β + (b - μ) · γ / √(σ² + ε)

    Args:
        weight: (out, in / groups, *kernel).
        bias: (out,) or None.
        mean, variance, gain, shift: (out,) of the BatchNorm: running mean and variance, weight γ and bias β.
        epsilon: what the BatchNorm adds to the variance; layers and libraries differ in it.
    """
    if weight.dim() < 2 or any(one.shape != weight.shape[:1] for one in (mean, variance, gain, shift)):
        raise ValueError(f"mean, variance, gain and shift must be ({weight.shape[0]},), one per output channel")
    factor = gain / torch.sqrt(variance + epsilon)
    start = torch.zeros_like(mean) if bias is None else bias
    return weight * factor.reshape(-1, *[1] * (weight.dim() - 1)), shift + (start - mean) * factor


def fold_model(model: nn.Module) -> fx.GraphModule:
    """A copy in evaluation mode, in which each BatchNorm that follows a Conv2d has become a part of it.

    Activations become function calls: a ReLU object that two layers share keeps libraries from seeing either pattern.

    Found by symbolic tracing (torch.fx), so in any model whose forward pass does not depend on the data. Raises
    ValueError when the model is in training mode: the statistics would still move.
    """
    if model.training:
        raise ValueError("model must be in evaluation mode, call model.eval() first: folding freezes its statistics")
    graph = fx.symbolic_trace(copy.deepcopy(model))
    modules: dict[Any, Any] = dict(graph.named_modules())
    node: Any
    for node in list(graph.graph.nodes):
        before: Any = node.args[0] if node.args else None
        layer: Any = modules.get(node.target)
        if node.op == "call_module" and type(layer) in ACTIVATIONS:
            with graph.graph.inserting_after(node):
                node.replace_all_uses_with(graph.graph.call_function(ACTIVATIONS[type(layer)], node.args))
            graph.graph.erase_node(node)
            continue
        previous: Any = modules.get(getattr(before, "target", None))
        follows = isinstance(layer, nn.BatchNorm2d) and isinstance(previous, nn.Conv2d)
        if node.op != "call_module" or not follows or len(before.users) > 1:
            continue  # what the convolution alone gave is used elsewhere as well
        weight, bias = fold_conv_bn(
            previous.weight.data,
            None if previous.bias is None else previous.bias.data,
            layer.running_mean,
            layer.running_var,
            layer.weight.data,
            layer.bias.data,
            layer.eps,
        )
        previous.weight, previous.bias = nn.Parameter(weight), nn.Parameter(bias)
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    graph.eval()
    return graph
