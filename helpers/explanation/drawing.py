"""Pictures of explanations: heat maps beside their photograph, and matrices of attention, in the course's look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from helpers import plots
from helpers.explanation.images import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_heats", "draw_matrix"]


def draw_heats(
    image: Array, heats: Mapping[str, Array], *, title: str = "photograph", width: float = 2.5
) -> list[Axes]:
    """The photograph (h, w, 3) uint8 and, beside it, each heat map (h, w) over its grey version, under its own title.

    Orange speaks for the class, blue against it, each map scaled to its own largest size: colours compare places
    within a map, not between maps. Raises ValueError when a map does not fit the photograph.
    """
    for name, heat in heats.items():
        if heat.shape != image.shape[:2]:
            raise ValueError(f"heats must be of the picture's size {image.shape[:2]}, got {name!r}: {heat.shape}")
    axes = plots.panels([title, *heats], width=width, height=width + 0.35)
    axes[0].imshow(image)
    for axis, heat in zip(axes[1:], heats.values(), strict=True):
        axis.imshow(image.mean(2), cmap="gray", vmin=-60, vmax=315)
        top = float(np.quantile(np.abs(heat), 0.995)) or 1.0
        axis.imshow(heat, cmap="PuOr_r", vmin=-top, vmax=top, alpha=0.65)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.grid(visible=False)
    return axes


def draw_matrix(matrix: Array, *, ax: Axes, xlabel: str, ylabel: str, top: float | None = None) -> Axes:
    """A matrix of numbers from 0 as shades, white for 0, row 0 on top; `top` is the number that is darkest."""
    ax.imshow(matrix, cmap="Blues", vmin=0, vmax=top if top is not None else float(matrix.max()), aspect="auto")
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(visible=False)
    if max(matrix.shape) <= 8:  # every row and column by its number
        ax.set_xticks(range(matrix.shape[1]))
        ax.set_yticks(range(matrix.shape[0]))
    return ax
