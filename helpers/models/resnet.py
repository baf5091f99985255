"""ResNet-18 (He et al., 2016) as torchvision has it, with random weights."""

from __future__ import annotations

import torchvision
from torch import nn

__all__ = ["resnet18"]


def resnet18(classes: int = 10) -> nn.Module:
    """Images (b, 3, 32, 32) float -> logits (b, classes); larger images work as well.

    The stem is the original one, made for 224×224: it shrinks 32×32 to 8×8 before the first block, which makes the
    network quick here and costs accuracy. Raises ValueError when `classes` is below 1.
    """
    if classes < 1:
        raise ValueError(f"classes must be at least 1, got {classes}")
    return torchvision.models.resnet18(weights=None, num_classes=classes)
