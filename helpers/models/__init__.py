"""The few models that several notebooks share: a back-off n-gram model, a small GPT, ResNet-18,
EfficientNet-Lite0 with ImageNet weights, a network for series.

The modules are imported when one of their names is first used: the n-gram model needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.lazy import names_of

if TYPE_CHECKING:
    from helpers.models.efficientnet import (
        IMAGENET_LABELS,
        EfficientNetLite0,
        efficientnet_lite0,
        efficientnet_preprocess,
    )
    from helpers.models.gpt import GPT, Block, GPTConfig
    from helpers.models.ngram import BackoffNgram
    from helpers.models.resnet import resnet18
    from helpers.models.series import SeriesNet

__getattr__, __dir__ = names_of(
    __name__,
    {
        "efficientnet": ("IMAGENET_LABELS", "EfficientNetLite0", "efficientnet_lite0", "efficientnet_preprocess"),
        "gpt": ("GPT", "Block", "GPTConfig"),
        "ngram": ("BackoffNgram",),
        "resnet": ("resnet18",),
        "series": ("SeriesNet",),
    },
)

__all__ = [
    "GPT",
    "IMAGENET_LABELS",
    "BackoffNgram",
    "Block",
    "EfficientNetLite0",
    "GPTConfig",
    "SeriesNet",
    "efficientnet_lite0",
    "efficientnet_preprocess",
    "resnet18",
]
