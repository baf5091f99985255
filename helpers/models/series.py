"""A small network for series of numbers, as MNIST-1D needs one, with the places where regularisation goes in."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import StochasticDepth

__all__ = ["SeriesNet"]


class SeriesNet(nn.Module):
    """Series (b, length) float -> logits (b, classes).

    A convolution, three residual blocks with strided convolutions between them, and one linear layer that sees every
    place by itself: enough freedom to learn 1,000 series by heart. 27,018 parameters with the default width.

    Args:
        length: of a series.
        width: channels.
        dropout: share of the inputs of each block's second convolution, and of the last layer, dropped in training.
        drop_path: share of the samples for which the last residual block is left out in training; earlier blocks are
            left out less often, in proportion to their depth (Huang et al., 2016).

    Raises ValueError for a size below 1 or a share outside [0, 1).
    """

    def __init__(
        self, length: int = 40, classes: int = 10, width: int = 32, dropout: float = 0.0, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        for name, value in (("length", length), ("classes", classes), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name, share in (("dropout", dropout), ("drop_path", drop_path)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {share}")
        self.first = nn.Conv1d(1, width, 5, stride=2, padding=2)
        blocks = 3
        self.blocks = nn.ModuleList(_Block(width, dropout, drop_path * (n + 1) / blocks) for n in range(blocks))
        self.shrink = nn.ModuleList(nn.Conv1d(width, width, 3, stride=2, padding=1) for _ in range(blocks - 1))
        places = length
        for _ in range(blocks):
            places = (places + 1) // 2
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(width * places, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(b, length) -> (b, classes)."""
        x = self.first(x[:, None])
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number < len(self.shrink):
                x = self.shrink[number](x)
        return self.last(self.dropout(x.relu().flatten(1)))


class _Block(nn.Module):
    """Norm, activation and convolution twice, beside a residual path: (b, width, n) -> the same."""

    def __init__(self, width: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.GroupNorm(1, width),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=1),
            nn.GroupNorm(1, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv1d(width, width, 3, padding=1),
        )
        self.drop_path = StochasticDepth(drop_path, mode="row")

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.path(x))
