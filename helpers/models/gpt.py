"""A small GPT: the decoder-only transformer of GPT-2 (Radford et al., 2019) in one screen.

What this is not: fast at generating text. It has no key-value cache; it is here to be trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GPT", "Block", "GPTConfig"]


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. The default has 0.8 million parameters.

    Raises ValueError when a size is below 1, `width` is no multiple of `heads`, or `dropout` is not in [0, 1).
    """

    vocabulary: int = 256
    """How many tokens there are; 256 for bytes."""
    context: int = 128
    """The longest sequence, in tokens."""
    layers: int = 4
    heads: int = 4
    width: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocabulary", "context", "layers", "heads", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got width {self.width} and {self.heads} heads")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")


class Block(nn.Module):
    """Attention, then a two-layer perceptron; each behind a normalisation and beside a residual path (pre-norm)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(b, t, width) -> (b, t, width)."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))

    def attention(self, x: Tensor) -> Tensor:
        """Every position looks at itself and those before it: (b, t, width) -> (b, t, width)."""
        batch, time, width = x.shape
        split = self.query_key_value(x).view(batch, time, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (b, heads, t, width / heads)
        dropout = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        return self.attention_out(mixed.transpose(1, 2).reshape(batch, time, width))


class GPT(nn.Module):
    """Tokens (b, t) int64 -> logits (b, t, vocabulary) of the next token; t is at most `config.context`.

    The output layer is the token embedding again (tied weights: Press and Wolf, 2017).
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.apply(_initialise)
        for name, weight in self.named_parameters():
            # 2 × layers paths are added up: smaller ones keep the sum's size (GPT-2, section 2.3)
            if name.endswith(("attention_out.weight", "mlp.2.weight")):
                nn.init.normal_(weight, std=0.02 / (2 * config.layers) ** 0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits for the token after each position. Raises ValueError when there are more than `context` tokens."""
        time = tokens.shape[1]
        if time > self.config.context:
            raise ValueError(f"tokens must have at most {self.config.context} positions (the context), got {time}")
        x = self.dropout(self.tokens(tokens) + self.positions(torch.arange(time, device=tokens.device)))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.tokens.weight)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
