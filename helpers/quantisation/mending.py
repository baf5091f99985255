"""Making a network lose less in int8 before any library quantises it: weights moved onto their grid one layer after the
other, each making up for the rounding before it.

What this does not do: help where the ranges are wrong. Outliers of the activations need clipping or smoothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from helpers.quantisation.affine import INT8, UINT8, fake_quantise, params_of, sqnr
from helpers.quantisation.corrections import rounded_with_compensation
from helpers.quantisation.folding import fold_model

__all__ = ["LayerError", "layer_errors", "mend"]

ROWS = 8192  # places whose inputs describe a layer well enough


@dataclass(frozen=True)
class LayerError:
    """What int8 does to one layer by itself, its input being exact."""

    name: str
    kind: str
    weights: int
    weight_db: float
    """SQNR of the rounded weight."""
    input_db: float
    """SQNR of its rounded input, one scale for all channels."""
    output_db: float
    """SQNR of its output, both rounded."""


def kind_of(layer: Any) -> str:
    """`depthwise`, `pointwise` (1×1), `convolution` or `linear`."""
    if isinstance(layer, nn.Linear):
        return "linear"
    if layer.groups == layer.in_channels and layer.groups > 1:
        return "depthwise"
    return "pointwise" if layer.kernel_size == (1, 1) else "convolution"


@torch.no_grad()
def layer_errors(model: nn.Module, calibration: Tensor) -> list[LayerError]:
    """SQNR in dB of each convolution and linear layer when it alone is quantised; in the order of the network.

    Args:
        model: in evaluation mode; its BatchNorms are folded first, as every backend does.
        calibration: (b, …) inputs of the model.
    """
    found: list[LayerError] = []

    def measure(name: str, layer: Any, exact: Tensor, _: Tensor, out: Tensor) -> Tensor:
        weight = fake_quantise(layer.weight, params_of(layer.weight, INT8, axis=0))
        rounded = fake_quantise(exact, params_of(exact, UINT8, symmetric=False))
        both = _apply(layer, rounded, weight, layer.bias)
        found.append(
            LayerError(
                name,
                kind_of(layer),
                layer.weight.numel(),
                sqnr(layer.weight, weight),
                sqnr(exact, rounded),
                sqnr(out, both),
            )
        )
        return out

    _walk(fold_model(model), calibration, measure, frozenset())
    return found


@torch.no_grad()
def mend(model: nn.Module, calibration: Tensor, *, keep_float: Collection[str] = ()) -> fx.GraphModule:
    """A folded copy whose weights already lie on their int8 grids, chosen to keep the outputs on `calibration`.

    Layer after layer, with the inputs that the layers before it give once quantised: (1) weights are rounded as GPTQ
    does, so that later weights of a filter make up for earlier ones; depthwise filters each by themselves; (2) the
    bias takes up the mean error that is left (Nagel et al., Data-free quantization, ICCV 2019, section 4.2).
    A backend with symmetric weights in -127..127 per channel then rounds nothing further.

    Args:
        model: in evaluation mode.
        calibration: (b, …) real inputs, a hundred or so.
        keep_float: layers that are not to be quantised.
    """
    folded = fold_model(model)

    def correct(name: str, layer: Any, exact: Tensor, seen: Tensor, out: Tensor) -> Tensor:
        rounded = fake_quantise(seen, params_of(seen, UINT8, symmetric=False))
        layer.weight.data = _compensated(layer, rounded)
        result = _apply(layer, rounded, layer.weight, layer.bias)
        places = [d for d in range(out.dim()) if d != 1] if isinstance(layer, nn.Conv2d) else list(range(out.dim() - 1))
        off = (out - result).mean(places)
        layer.bias = nn.Parameter(off if layer.bias is None else layer.bias + off)
        return result + (off[:, None, None] if isinstance(layer, nn.Conv2d) else off)

    _walk(folded, calibration, correct, frozenset(keep_float))
    return folded


def _walk(graph: fx.GraphModule, x: Tensor, at_layer: Callable[..., Tensor], keep_float: frozenset[str]) -> None:
    """Runs the graph once with pairs of values: as they are in float, and as they are behind what `at_layer` gave."""
    layers = dict(graph.named_modules())
    users = {node: len(node.users) for node in graph.graph.nodes}
    values: dict[Any, tuple] = {}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            values[node] = (x, x)
        elif node.op == "output":
            return
        else:
            both = tuple(_evaluate(graph, node, layers, values, which) for which in (0, 1))
            layer = layers.get(str(node.target)) if node.op == "call_module" else None
            if isinstance(layer, nn.Conv2d | nn.Linear) and str(node.target) not in keep_float:
                exact, seen = values[node.args[0]]
                both = (both[0], at_layer(str(node.target), layer, exact, seen, both[0]))
            values[node] = both
        for before in node.all_input_nodes:  # what nobody needs any more is let go: feature maps are large
            users[before] -= 1
            if not users[before]:
                values.pop(before, None)


def _evaluate(graph: fx.GraphModule, node: Any, layers: dict, values: dict, which: int) -> Any:
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: values[n][which])
    if node.op == "call_module":
        return layers[str(node.target)](*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    if node.op == "get_attr":
        return graph.get_parameter(str(node.target))
    return node.target(*args, **kwargs)


def _apply(layer: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        return layer._conv_forward(x, weight, bias)
    return F.linear(x, weight, bias)


def _compensated(layer: Any, x: Tensor) -> Tensor:
    weight = layer.weight
    rows, groups = _rows(layer, x)
    stacked = weight.reshape(groups, weight.shape[0] // groups, -1)
    hessian = 2 * rows.transpose(1, 2) @ rows
    scale = stacked.abs().amax(-1, keepdim=True).clamp(min=1e-9) / 127
    return rounded_with_compensation(stacked, hessian, scale.expand_as(stacked), (-127, 127)).reshape(weight.shape)


def _rows(layer: Any, x: Tensor) -> tuple[Tensor, int]:
    """Inputs as the layer's weights meet them: (groups, n, weights of a filter), at places spread over the batch."""
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, x.shape[-1])[:, :ROWS], 1
    if layer.kernel_size == (1, 1) and layer.groups == 1:
        rows = x[:, :, :: layer.stride[0], :: layer.stride[1]].permute(0, 2, 3, 1).reshape(1, -1, x.shape[1])
        return rows[:, :: max(1, rows.shape[1] // ROWS)], 1
    needed = math.ceil(ROWS / (x.shape[-1] * x.shape[-2]) * layer.stride[0] * layer.stride[1])
    few = x[:: max(1, len(x) // max(needed, 2))]
    patches = F.unfold(few, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    patches = patches.reshape(len(few), layer.groups, -1, patches.shape[-1]).permute(1, 0, 3, 2)
    rows = patches.reshape(layer.groups, -1, patches.shape[-1])
    return rows[:, :: max(1, rows.shape[1] // (ROWS // 4))], layer.groups
