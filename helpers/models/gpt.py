"""A small GPT: the decoder-only transformer of GPT-2 (Radford et al., 2019), and the key-value cache to generate with.

What this is not: a server. Generating, batching and drafting are in `helpers.decoding`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GPT", "Block", "GPTConfig", "KVCache"]


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


class KVCache:
    """Keys and values of the tokens that a GPT has read, so that the next step computes those of new tokens only.

    Allocated once for `capacity` tokens a row: a step writes into it and no tensor grows. Each row has its own length,
    so that rows may be at different places of their texts.

    Args:
        config: of the model that will fill it.
        batch: rows.
        capacity: tokens a row; None for the model's context.

    Raises ValueError when `batch` or `capacity` is below 1, or `capacity` above the context.
    """

    def __init__(
        self,
        config: GPTConfig,
        batch: int = 1,
        *,
        capacity: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        capacity = config.context if capacity is None else capacity
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        if not 1 <= capacity <= config.context:
            raise ValueError(f"capacity must be between 1 and {config.context} (the context), got {capacity}")
        shape = (config.layers, batch, config.heads, capacity, config.width // config.heads)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = [0] * batch
        """Tokens that count, by row. Shorten one to forget what came after; what lies behind is overwritten."""

    @property
    def capacity(self) -> int:
        """Tokens that fit in a row."""
        return self.keys.shape[3]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, filled or not."""
        return self.keys.nbytes + self.values.nbytes

    def positions(self, batch: int, time: int) -> Tensor:
        """Where `time` new tokens of each row will stand: (batch, time) int64, or (1, time) when rows agree.

        Raises ValueError when the batch is another one, or a row would overflow.
        """
        if batch != len(self.lengths):
            raise ValueError(f"tokens must have as many rows as the cache, {len(self.lengths)}, got {batch}")
        if max(self.lengths) + time > self.capacity:
            raise ValueError(
                f"tokens: the cache holds {self.capacity} a row; {max(self.lengths)} are there and {time} are new"
            )
        starts = self.lengths[:1] if len(set(self.lengths)) == 1 else self.lengths
        start = torch.tensor(starts, device=self.keys.device)
        return start[:, None] + torch.arange(time, device=self.keys.device)

    def write(self, layer: int, positions: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (b, heads, t, d) of one layer; returns all of that layer so far (views)."""
        time = key.shape[2]
        if len(positions) == 1:
            start = self.lengths[0]
            self.keys[layer, :, :, start : start + time] = key
            self.values[layer, :, :, start : start + time] = value
        else:
            rows = torch.arange(len(positions), device=positions.device)[:, None]
            self.keys[layer].transpose(1, 2)[rows, positions] = key.transpose(1, 2)
            self.values[layer].transpose(1, 2)[rows, positions] = value.transpose(1, 2)
        end = max(self.lengths) + time
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


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

    def forward(
        self, x: Tensor, cache: KVCache | None = None, layer: int = 0, positions: Tensor | None = None
    ) -> Tensor:
        """(b, t, width) -> (b, t, width). With a cache, x are the new tokens and `positions` their places."""
        normed = self.attention_norm(x)
        if cache is None or positions is None:
            mixed = self.attention(normed)
        else:
            mixed = self.cached_attention(normed, cache, layer, positions)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.mlp(self.mlp_norm(x)))

    def cached_attention(self, x: Tensor, cache: KVCache, layer: int, positions: Tensor) -> Tensor:
        """The new tokens look at themselves and all that the cache holds before them: (b, t, width), no dropout."""
        batch, time, width = x.shape
        split = self.query_key_value(x).view(batch, time, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        keys, values = cache.write(layer, positions, key, value)
        mask = None
        if time > 1 or len(positions) > 1:  # one new token at the end of every row sees everything
            mask = (torch.arange(keys.shape[2], device=x.device) <= positions[..., None])[:, None]
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return self.attention_out(mixed.transpose(1, 2).reshape(batch, time, width))

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

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits for the token after each position. Raises ValueError when there are more than `context` tokens.

        With a cache, `tokens` are only those that it does not hold yet; they are added to it.
        """
        time = tokens.shape[1]
        if cache is not None:
            return self._continue(tokens, cache)
        if time > self.config.context:
            raise ValueError(f"tokens must have at most {self.config.context} positions (the context), got {time}")
        x = self.dropout(self.tokens(tokens) + self.positions(torch.arange(time, device=tokens.device)))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.tokens.weight)

    def _continue(self, tokens: Tensor, cache: KVCache) -> Tensor:
        batch, time = tokens.shape
        positions = cache.positions(batch, time)
        x = self.tokens(tokens) + self.positions(positions)
        for layer, block in enumerate(self.blocks):
            x = block(x, cache, layer, positions)
        cache.lengths = [length + time for length in cache.lengths]
        return F.linear(self.norm(x), self.tokens.weight)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
