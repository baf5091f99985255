"""Pictures of LIME's answers for photographs: the classic view, and the top labels side by side.

lime's own `show_in_notebook` exists for texts and tables only; for pictures it has never been there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from helpers.explanation.lime_image import ImageExplanation

__all__ = ["draw_explanation", "draw_labels"]

Array = np.ndarray[Any, Any]
COLOURS = "PuOr_r"  # orange speaks for the class, violet against it: safe for colour-blindness


def draw_explanation(
    explanation: ImageExplanation, names: Sequence[str], *, label: int | None = None, count: int = 5, note: str = ""
) -> list[Axes]:
    """Four views of one explanation: photograph, superpixels, weights, and the `count` superpixels that speak for it.

    Args:
        names: of the classes, by number.
        label: an explained class; None for the most probable one.
        note: a short remark under the weights, for example how stable they are.
    """
    chosen = explanation.labels[0] if label is None else label
    heat = explanation.heat_map(chosen)
    p = float(explanation.probabilities[chosen])
    _, mask = explanation.image_and_mask(chosen, positive_only=True, num_features=count)
    titles = [
        f"{names[chosen]}, probability {p:.2f}",
        f"cut into {len(explanation.weights[chosen])} superpixels",
        "orange: speaks for it",
        f"the {count} strongest for it",
    ]
    axes = plots.panels(titles, width=2.4, height=2.8)
    axes[0].imshow(explanation.image)
    axes[1].imshow(_with_borders(explanation.image, explanation.segments))
    _draw_heat(axes[2], explanation.image, heat)
    if note:
        axes[2].set_xlabel(note)
    grey = np.full_like(explanation.image, 235 if explanation.image.dtype == np.uint8 else 0.92)
    axes[3].imshow(np.where(mask[..., None] > 0, explanation.image, grey))
    _bare(axes)
    return axes


def draw_labels(explanation: ImageExplanation, names: Sequence[str]) -> list[Axes]:
    """The explained classes side by side, on one scale of colours, most probable first."""
    top = max(float(abs(weights).max()) for weights in explanation.weights.values()) or 1.0
    titles = [f"{names[label]}, {explanation.probabilities[label]:.2f}" for label in explanation.labels]
    axes = plots.panels(titles, width=2.6, height=2.7)
    drawn = None
    for axis, label in zip(axes, explanation.labels, strict=True):
        drawn = _draw_heat(axis, explanation.image, explanation.heat_map(label), top)
    _bare(axes)
    if drawn is not None:
        bar = axes[-1].figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.01)
        bar.set_label("weight: change of the probability", fontsize=9)
    return axes


def _draw_heat(axis: Axes, image: Array, heat: Array, top: float | None = None) -> Any:
    scale = 255 if image.dtype == np.uint8 else 1
    axis.imshow(image.mean(2) / scale, cmap="gray", vmin=-0.25, vmax=1.25)
    limit = top or float(abs(heat).max()) or 1.0
    return axis.imshow(heat, cmap=COLOURS, vmin=-limit, vmax=limit, alpha=0.65)


def _with_borders(image: Array, segments: Array) -> Array:
    from skimage.segmentation import mark_boundaries

    return mark_boundaries(image, segments, color=(1, 0.85, 0), mode="inner")


def _bare(axes: Sequence[Axes]) -> None:
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.grid(visible=False)
        for spine in axis.spines.values():
            spine.set_visible(False)
