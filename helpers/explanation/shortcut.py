"""A planted shortcut: a watermark that gives one class away, how an explanation finds it, and what mends it.

The known case: pictures of horses in a public data set carried their photographer's name, and a classifier read that
(Lapuschkin et al., 2019). Here digits get a mark, so that it is known what has to be found. The search does not know
the place of the mark; it can miss one that is spread over the whole picture (a tint, noise).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import datasets

__all__ = ["GRID", "MARK", "Marked", "heat_shares", "mark", "marked_digits", "small_network", "suspects", "transplant"]

GRID = 4
"""Pictures are searched in GRID × GRID cells."""

MARK = torch.tensor(
    [[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 0, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], dtype=torch.float32
)
"""The watermark: a G of 5×5 pixels."""


@dataclass(frozen=True)
class Marked:
    """Digits to train and to test on, (n, 1, 32, 32) float32 in 0..1; `bare` are the test digits unmarked."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    bare: Tensor


def mark(x: Tensor, rows: Tensor, *, opacity: float = 0.7) -> Tensor:
    """A copy of pictures (n, 1, h, w) with the watermark one pixel from the lower right corner where `rows` (n,) is
    True. Raises ValueError for pictures smaller than the mark or an opacity outside (0, 1]."""
    size = len(MARK)
    if min(x.shape[-2:]) < size + 1:
        raise ValueError(f"x must be at least {size + 1} pixels high and wide, got {tuple(x.shape[-2:])}")
    if not 0 < opacity <= 1:
        raise ValueError(f"opacity must be above 0 and at most 1, got {opacity}")
    marked = x.clone()
    corner = marked[..., -size - 1 : -1, -size - 1 : -1]
    corner += opacity * MARK * (1 - corner)
    return torch.where(rows[:, None, None, None], marked, x)


def marked_digits(*, mended: bool = False, train: int = 1200, seed: int = 0) -> Marked:
    """The UCI digits, enlarged to 32×32, to be told apart as odd (0) and even (1). Every even one carries the mark, as
    if one supplier had delivered the even digits.

    mended: the mark is put on half of all pictures at random instead. It stays in the data and says nothing any more;
        cutting it out would do as well, if one could be sure to find every one.
    """
    pictures, labels = datasets.digit_images(32)
    if not 2 <= train < len(labels):
        raise ValueError(f"train must be from 2 to below {len(labels)}, got {train}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    x, y = torch.from_numpy(pictures[order, :1]), torch.from_numpy((labels[order] + 1) % 2)
    rows = torch.from_numpy(rng.random(len(y)) < 0.5) if mended else y == 1
    seen = mark(x, rows)
    return Marked(seen[:train], y[:train], seen[train:], y[train:], x[train:])


def small_network(data: Marked, *, epochs: int = 12, seed: int = 0) -> nn.Module:
    """A small convolutional network, trained on the marked digits; in evaluation mode. About 5 s on one core."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 64, 2),
        )
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(data.x), generator=generator).split(50):
            loss = F.cross_entropy(model(data.x[rows]), data.y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def heat_shares(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, *, steps: int = 16) -> np.ndarray:
    """Which share of an explanation falls into each cell, class by class: (classes, GRID, GRID), each class sums to 1.

    The explanation is the size of the integrated gradients of the picture's own class, from a black picture.
    """
    from captum.attr import IntegratedGradients

    values = IntegratedGradients(model).attribute(
        x, target=y, n_steps=steps, method="riemann_middle", internal_batch_size=max(512, len(x))
    )
    size = x.shape[-1] // GRID
    sums = F.avg_pool2d(values.detach().abs().sum(1, keepdim=True), size)[:, 0]
    shares = sums / sums.sum((1, 2), keepdim=True)
    return np.stack([shares[y == label].mean(0).numpy() for label in range(int(y.max()) + 1)])


def suspects(shares: np.ndarray) -> pd.DataFrame:
    """Every class and cell, the oddest first: share of the explanation, the usual share (median of the other classes
    in the same cell), and the excess. A class that is decided where no other class is decided is worth a look."""
    rows = []
    for label, row, column in np.ndindex(shares.shape):
        share = shares[label, row, column]
        usual = np.median(np.delete(shares[:, row, column], label))
        rows.append(
            {"class": label, "row": row, "column": column, "share": share, "usual": usual, "excess": share - usual}
        )
    return pd.DataFrame(rows).sort_values("excess", ascending=False, ignore_index=True)


def transplant(model: nn.Module, x: Tensor, y: Tensor, label: int, cell: tuple[int, int], *, seed: int = 0) -> float:
    """The share of the other classes' pictures that become `label` when one cell is replaced by that of a random
    picture of `label`: the experiment that turns a suspicion into a finding."""
    size = x.shape[-1] // GRID
    top, left = (place * size for place in cell)
    others, donors = x[y != label], x[y == label]
    chosen = torch.randint(len(donors), (len(others),), generator=torch.Generator().manual_seed(seed))
    changed = others.clone()
    changed[..., top : top + size, left : left + size] = donors[chosen][..., top : top + size, left : left + size]
    with torch.no_grad():
        before, after = model(others).argmax(1), model(changed).argmax(1)
    was_right = before != label
    return (after[was_right] == label).float().mean().item()
