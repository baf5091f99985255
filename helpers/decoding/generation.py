"""One token after the other, from a model that reads (b, t) tokens and gives logits, with a key-value cache or without.

What this does not do: nucleus or top-k sampling, beams, a stop token.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.models.gpt import KVCache

__all__ = ["generate", "perplexity", "probabilities", "stream"]


def probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """The distribution that the next token is drawn from: softmax of logits / temperature, over the last dimension.

    Temperature 0 is greedy: all weight on the largest logit (the first one of equals). float32 at least.
    Raises ValueError when `temperature` is below 0 or not finite.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be at least 0 and finite, got {temperature}")
    if temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(torch.float32)
    return torch.softmax(logits.float() / temperature, -1)


def new_cache(model: nn.Module, batch: int = 1) -> KVCache:
    """An empty cache that fits the model's context, type and device."""
    weight = next(model.parameters())
    config: Any = model.config
    return KVCache(config, batch, dtype=weight.dtype, device=weight.device)


def checked_prompt(model: nn.Module, prompt: Tensor, new_tokens: int) -> None:
    """Raises TypeError or ValueError unless `prompt` (t,) int64 and `new_tokens` fit in the model's context."""
    if not isinstance(prompt, Tensor) or prompt.dtype != torch.int64:
        raise TypeError(f"prompt must be an int64 tensor, got {getattr(prompt, 'dtype', type(prompt).__name__)}")
    if prompt.dim() != 1 or len(prompt) < 1:
        raise ValueError(f"prompt must have one dimension and at least one token, got shape {tuple(prompt.shape)}")
    if isinstance(new_tokens, bool) or not isinstance(new_tokens, int):
        raise TypeError(f"new_tokens must be a whole number, got {type(new_tokens).__name__}")
    config: Any = model.config
    if new_tokens < 1 or len(prompt) + new_tokens > config.context:
        raise ValueError(
            f"new_tokens must be at least 1 and fit: a context of {config.context} holds "
            f"{max(config.context - len(prompt), 0)} after this prompt, got {new_tokens}"
        )


def stream(
    model: nn.Module,
    prompt: Tensor,
    new_tokens: int,
    *,
    temperature: float = 0.0,
    cache: bool = True,
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    """Yield each new token as soon as it is there, so that a reader does not wait for the last one.

    Args:
        prompt: (t,) int64, at least one token.
        temperature: 0 takes the likeliest token.
        cache: False computes the whole text again for every token, which is what one gets without thinking.

    The model is put in eval mode while a token is computed, and back; it may be stopped at any token.
    Raises TypeError or ValueError, at the call, when the arguments do not fit.
    """
    checked_prompt(model, prompt, new_tokens)
    probabilities(torch.zeros(1), temperature)  # a bad temperature is refused here, not at the first token
    return _stream(model, prompt, new_tokens, temperature, cache, generator)


def _stream(
    model: nn.Module,
    prompt: Tensor,
    new_tokens: int,
    temperature: float,
    cached: bool,
    generator: torch.Generator | None,
) -> Iterator[int]:
    cache = new_cache(model) if cached else None
    text = unread = prompt[None]
    for _ in range(new_tokens):
        with torch.inference_mode(), evaluating(model):
            logits = model(unread, cache) if cached else model(text)
            following = draw(probabilities(logits[0, -1], temperature), generator)
        yield int(following)
        unread = following.view(1, 1)
        text = torch.cat([text, unread], 1)


def draw(distribution: Tensor, generator: torch.Generator | None) -> Tensor:
    """One token of each distribution (…, vocabulary). A certain one takes no random number."""
    if bool((distribution.amax(-1) == 1).all()):
        return distribution.argmax(-1)
    return torch.multinomial(distribution, 1, generator=generator)[..., 0]


class evaluating:
    """Inside, the model is in eval mode; afterwards each of its modules is as it was."""

    def __init__(self, *models: nn.Module) -> None:
        self.training = [module for model in models for module in model.modules() if module.training]

    def __enter__(self) -> None:
        for module in self.training:
            module.training = False

    def __exit__(self, *error: object) -> None:
        for module in self.training:
            module.training = True


def generate(
    model: nn.Module,
    prompt: Tensor,
    new_tokens: int,
    *,
    temperature: float = 0.0,
    cache: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The new tokens (new_tokens,) int64 after `prompt` (t,) int64. Arguments and errors as of `stream`."""
    tokens = stream(model, prompt, new_tokens, temperature=temperature, cache=cache, generator=generator)
    return torch.tensor(list(tokens), dtype=torch.int64, device=prompt.device)


def perplexity(model: nn.Module, blocks: Tensor, *, batch_size: int = 16) -> float:
    """exp of the mean cross-entropy of each block's next tokens: as many equally likely choices it is unsure between.

    Args:
        blocks: (n, t + 1) int64; each block's first t tokens are read and its last t are predicted.
    """
    if blocks.dim() != 2 or blocks.shape[1] < 2 or not len(blocks):
        raise ValueError(f"blocks must have shape (n, t + 1) with n and t at least 1, got {tuple(blocks.shape)}")
    total = 0.0
    with torch.inference_mode(), evaluating(model):
        for some in blocks.split(batch_size):
            logits = model(some[:, :-1]).flatten(0, 1).float()
            total += F.cross_entropy(logits, some[:, 1:].flatten(), reduction="sum").item()
    return math.exp(total / blocks[:, 1:].numel())
