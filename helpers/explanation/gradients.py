"""What the gradient says about a decision: saliency, integrated gradients, Grad-CAM, and occlusion to compare with.

Integrated gradients and Grad-CAM go through captum, the reference implementation; `path_integral` and
`cam_of` are the same on one screen, to be read. What they do not tell: whether to believe them. That is `trust`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.explanation.images import Array, Explainer, to_input

__all__ = [
    "Attribution",
    "as_explainer",
    "cam_of",
    "grad_cam",
    "heat",
    "integrated_gradients",
    "occlusion",
    "path_integral",
    "saliency",
    "smooth_grad",
]


@dataclass(frozen=True)
class Attribution:
    """Integrated gradients of one input, with what they have to add up to.

    Completeness (Sundararajan, Taly and Yan, 2017): the attributions of all inputs sum to the score of the input minus
    the score of the baseline. `error` is how far they are from it, `relative_error` the same as a share of that
    difference.
    """

    values: Tensor
    score: float
    baseline_score: float

    @property
    def error(self) -> float:
        return abs(float(self.values.double().sum()) - (self.score - self.baseline_score))

    @property
    def relative_error(self) -> float:
        return self.error / abs(self.score - self.baseline_score)


def integrated_gradients(
    model: nn.Module,
    x: Tensor,
    target: int,
    *,
    baseline: Tensor | None = None,
    steps: int = 32,
    batch_size: int = 16,
) -> Attribution:
    """Integrated gradients of the logit of `target` (Sundararajan et al., 2017), by captum, midpoint rule.

    Args:
        model: in evaluation mode; inputs (b, …) -> logits (b, classes).
        x: one input (1, …), normalised as the model wants it.
        baseline: the input that stands for "nothing"; x's shape. None: a black picture for grey levels normalised by
            (value - 127) / 128, which is one choice among many.
        steps: gradients taken on the straight line from baseline to x, at least 2.
        batch_size: of the gradients that are taken at once.

    Raises ValueError for a model in training mode, more than one input, a class that does not exist, NaN, or a
    baseline of another shape.
    """
    from captum.attr import IntegratedGradients

    _must_fit(model, x, target)
    if steps < 2:
        raise ValueError(f"steps must be at least 2 (captum's rule), got {steps}")
    start = to_input(np.zeros((1, *x.shape[2:], 3), np.uint8)) if baseline is None and x.dim() == 4 else baseline
    if start is None or start.shape != x.shape:
        raise ValueError(
            f"baseline must have x's shape {tuple(x.shape)}, got {None if start is None else tuple(start.shape)}"
        )
    values = IntegratedGradients(model).attribute(
        x, start, target=target, n_steps=steps, method="riemann_middle", internal_batch_size=max(batch_size, 1)
    )
    with torch.no_grad():
        scores = model(torch.cat([x, start]))[:, target].tolist()
    return Attribution(values.detach(), *scores)


def path_integral(score: Callable[[Tensor], Tensor], x: Tensor, baseline: Tensor, steps: int) -> Tensor:
    """The same written out, one gradient at a time: (x - baseline) times the mean gradient on the way to x.

    `score` maps (b, …) to (b,); x and baseline are single inputs without the batch axis.
    """
    total = torch.zeros_like(x)
    for step in range(steps):
        here = baseline + (step + 0.5) / steps * (x - baseline)
        here = here.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(score(here[None]).sum(), here)
        total += gradient
    return (x - baseline) * total / steps


def saliency(model: nn.Module, x: Tensor, target: int) -> Tensor:
    """The gradient of the logit of `target` at the input (Simonyan et al., 2014), x's shape, with its sign."""
    _must_fit(model, x, target)
    here = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(here)[:, target].sum(), here)
    return gradient


def smooth_grad(
    model: nn.Module, x: Tensor, target: int, *, noise: float = 0.3, samples: int = 16, seed: int = 0
) -> Tensor:
    """The mean of the gradient at noisy copies of the input (Smilkov et al., 2017); `noise` in x's units."""
    _must_fit(model, x, target)
    generator = torch.Generator().manual_seed(seed)
    copies = x + noise * torch.randn((samples, *x.shape[1:]), generator=generator)
    copies = copies.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model(copies)[:, target].sum(), copies)
    return gradient.mean(0, keepdim=True)


def grad_cam(model: nn.Module, x: Tensor, target: int, layer: nn.Module) -> Tensor:
    """Grad-CAM (Selvaraju et al., 2017) by captum: (h, w) float32 of x's size, 0 where nothing speaks for the class.

    `layer` is the convolutional layer whose maps are weighted, usually the last one.
    """
    from captum.attr import LayerGradCam

    _must_fit(model, x, target)
    if not any(layer is part for part in model.modules()):
        raise ValueError(f"layer must be a module of the model, got a {type(layer).__name__} that is not in it")
    maps: Any = LayerGradCam(model, layer).attribute(x, target=target, relu_attributions=True)
    return F.interpolate(maps.detach(), x.shape[-2:], mode="bilinear", align_corners=False)[0, 0]


def cam_of(activations: Tensor, gradients: Tensor, size: tuple[int, int]) -> Tensor:
    """Grad-CAM written out, from the maps of a layer and the gradient of the score in them, both (channels, h, w)."""
    weights = gradients.mean((1, 2))
    coarse = torch.einsum("c,chw->hw", weights, activations).relu()
    return F.interpolate(coarse[None, None], size, mode="bilinear", align_corners=False)[0, 0]


def occlusion(
    model: nn.Module,
    x: Tensor,
    target: int,
    *,
    patch: int = 32,
    stride: int = 16,
    fill: float = 0.0,
    batch_size: int = 32,
) -> Tensor:
    """How far the logit falls when a patch is covered (Zeiler and Fergus, 2014): (h, w), the mean over the patches
    that cover a pixel. `fill` in x's units: 0 is middle grey. Costs one forward pass a patch."""
    _must_fit(model, x, target)
    height, width = x.shape[-2:]
    if not 1 <= stride <= patch <= min(height, width):
        raise ValueError(
            f"patch and stride must be 1 <= stride <= patch <= {min(height, width)}, got {patch}, {stride}"
        )
    corners = [(top, left) for top in _starts(height, patch, stride) for left in _starts(width, patch, stride)]
    drop, covered = torch.zeros(height, width), torch.zeros(height, width)
    with torch.no_grad():
        whole = model(x)[0, target]
        for first in range(0, len(corners), batch_size):
            part = corners[first : first + batch_size]
            hidden = x.repeat(len(part), 1, 1, 1)
            for row, (top, left) in enumerate(part):
                hidden[row, :, top : top + patch, left : left + patch] = fill
            for (top, left), score in zip(part, model(hidden)[:, target], strict=True):
                drop[top : top + patch, left : left + patch] += whole - score
                covered[top : top + patch, left : left + patch] += 1
    return drop / covered


def heat(values: Tensor, *, absolute: bool = False) -> Array:
    """Attributions (1, channels, h, w) or a map (h, w) -> heat map (h, w) float32, summed over the channels.

    `absolute` takes the size before the sum: it shows where something matters, no longer in which direction.
    """
    if values.dim() == 4:
        values = (values.abs() if absolute else values)[0].sum(0)
    elif absolute:
        values = values.abs()
    return values.detach().cpu().numpy().astype(np.float32)


def as_explainer(
    method: Callable[..., Any], model: nn.Module, target: int, *, absolute: bool = False, **settings: Any
) -> Explainer:
    """One of the methods above as a callable picture (h, w, 3) uint8 -> heat map (h, w), as `trust` wants it."""

    def explain(image: Array) -> Array:
        found = method(model, to_input(image), target, **settings)
        return heat(found.values if isinstance(found, Attribution) else found, absolute=absolute)

    return explain


def _starts(length: int, patch: int, stride: int) -> list[int]:
    """Where patches begin, so that the last one ends at the edge."""
    return [*range(0, length - patch, stride), length - patch]


def _must_fit(model: nn.Module, x: Tensor, target: int) -> None:
    if model.training:
        raise ValueError("model must be in evaluation mode: call model.eval() first")
    if x.shape[0] != 1:
        raise ValueError(f"x must hold one input (1, …), got {tuple(x.shape)}")
    if not x.isfinite().all():
        raise ValueError("x must hold numbers, got NaN or infinity")
    with torch.no_grad():
        classes = model(x).shape[1]
    if not 0 <= target < classes:
        raise ValueError(f"target must be a class from 0 to {classes - 1}, got {target}")
