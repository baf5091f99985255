"""int8 weights for decoding: one byte a weight is read from memory in place of four; the sums stay in floating point.

What this does not do: quantise activations, or choose by measuring. That is `helpers.quantisation`.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["Int8Linear", "int8_weights", "weight_bytes"]


class Int8Linear(nn.Module):
    """A Linear layer with int8 weights and one scale for each output; its input is rounded to bfloat16.

    The product is torch's own kernel for int8 weights (`_weight_int8pack_mm`), which reads the weights as they are.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(1) / 127
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))  # a row of zeros stays one
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale.to(torch.bfloat16))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) -> (…, out), of x's dtype."""
        rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
        product = torch.ops.aten._weight_int8pack_mm(rows, self.weight, self.scale)
        result = product.view(*x.shape[:-1], -1).to(x.dtype)
        return result if self.bias is None else result + self.bias


def int8_weights(model: nn.Module) -> nn.Module:
    """A copy of the model with every Linear layer's weights in int8; embeddings, norms and a tied output stay.

    Raises ValueError when there is no Linear layer.
    """
    twin = copy.deepcopy(model).eval().requires_grad_(False)
    found = [
        (parent, name, child)
        for parent in twin.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]
    if not found:
        raise ValueError(f"model must have a Linear layer inside, got a {type(model).__name__} without one")
    for parent, name, child in found:
        setattr(parent, name, Int8Linear(child))
    return twin


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers; a shared one counts once."""
    return sum(tensor.nbytes for tensor in {id(t): t for t in [*model.parameters(), *model.buffers()]}.values())
