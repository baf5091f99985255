"""Where a GPT looks, what follows from it, and what does not: attention maps, rollout, and ablation as the judge.

The ground truth is a task whose only solution is known: in a random sequence that is then repeated, the next token can
be foretold by finding the current one in the first half and copying what followed it ("induction", Olsson et al.,
2022). A network of two layers learns to do that with two kinds of heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from helpers.explanation.images import Array
from helpers.models.gpt import GPT, Block, GPTConfig

__all__ = [
    "Induction",
    "attention_maps",
    "group_ablation",
    "head_ablation",
    "head_scores",
    "heads_off",
    "loss_by_source",
    "repeated",
    "rollout",
    "rollout_to",
    "source_ranks",
    "train_induction",
]

Head = tuple[int, int]
"""(layer, head), both from 0."""


# --- maps and rollout -----------------------------------------------------------------------------------------------


def attention_maps(model: GPT, tokens: Tensor) -> Tensor:
    """Attention of every head: (layers, b, heads, t, t) float32; row i says where position i looks, and sums to 1.

    Computed again from queries and keys: the fused kernel that the model uses never has the weights in memory.
    Raises ValueError for tokens that are not (b, t) of int64 or a model in training mode.
    """
    _must_be_tokens(model, tokens)
    maps: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        batch, time, width = inputs[0].shape
        heads = width // size
        query, key, _ = output.view(batch, time, 3, heads, size).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) / size**0.5
        later = torch.ones(time, time, dtype=torch.bool).triu(1)
        maps.append(scores.masked_fill(later, -torch.inf).softmax(-1))

    size = model.config.width // model.config.heads
    handles = [block.query_key_value.register_forward_hook(keep) for block in _blocks(model)]
    try:
        with torch.no_grad():
            model(tokens)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(maps)


def rollout(maps: Tensor) -> Tensor:
    """Attention rollout (Abnar and Zuidema, 2020): (layers, …, heads, t, t) -> (…, t, t), rows sum to 1.

    Heads are averaged, half of each layer is the residual path, and layers multiply, the later one on the left: row i
    of the product says from which inputs position i is made, if values were passed on as they are.
    """
    if maps.dim() < 4 or maps.shape[-1] != maps.shape[-2]:
        raise ValueError(f"maps must be (layers, …, heads, t, t), got {tuple(maps.shape)}")
    mean = maps.mean(-3)
    mixed = 0.5 * mean + 0.5 * torch.eye(maps.shape[-1], dtype=maps.dtype)
    product = mixed[0]
    for layer in mixed[1:]:
        product = layer @ product
    return product


# --- heads switched off -----------------------------------------------------------------------------------------------


@contextmanager
def heads_off(model: GPT, heads: Iterable[Head]) -> Iterator[None]:
    """Inside, the output of these heads is replaced by its mean over batch and positions (mean ablation).

    The mean and not zero: zero is an input that the following layers have never met.
    Raises ValueError for a head that the model does not have.
    """
    chosen = sorted(set(heads))
    layers, count = model.config.layers, model.config.heads
    for layer, head in chosen:
        if not (0 <= layer < layers and 0 <= head < count):
            raise ValueError(f"heads must be (layer, head) below ({layers}, {count}), got {(layer, head)}")
    size = model.config.width // count

    def silence(own: list[int]) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
        def hook(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            mixed = inputs[0].clone()
            for head in own:
                part = mixed[..., head * size : (head + 1) * size]
                part[:] = part.mean((0, 1), keepdim=True)
            return (mixed,)

        return hook

    handles = [
        block.attention_out.register_forward_pre_hook(silence([head for at, head in chosen if at == layer]))
        for layer, block in enumerate(_blocks(model))
        if any(at == layer for at, _ in chosen)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def head_ablation(model: GPT, tokens: Tensor, period: int) -> Array:
    """Rise of the loss (nats a token, where it can be copied) when one head is switched off: (layers, heads)."""
    rise = np.zeros((model.config.layers, model.config.heads))
    for head in np.ndindex(rise.shape):
        rise[head] = group_ablation(model, tokens, period, [(head[0], head[1])])
    return rise


def group_ablation(model: GPT, tokens: Tensor, period: int, heads: Iterable[Head]) -> float:
    """Rise of the loss (nats a token, where it can be copied) when these heads are switched off together."""
    _must_be_tokens(model, tokens)
    usual = _loss(model, tokens, period)
    with heads_off(model, heads):
        return _loss(model, tokens, period) - usual


# --- the task whose solution is known -----------------------------------------------------------------------------


def repeated(
    count: int, length: int, vocabulary: int, *, periods: tuple[int, int] = (6, 12), seed: int | torch.Generator = 0
) -> tuple[Tensor, Tensor]:
    """Random tokens, repeated until the sequence is full: tokens (count, length) and periods (count,), both int64.

    The period is drawn anew for each sequence: with a fixed one the place to copy from is always as far away, and a
    network learns the distance and never looks at a token. No token occurs twice in a period, so that there is one
    place to look. Raises ValueError unless 2 <= shortest <= longest period <= vocabulary and longest < length.
    """
    low, high = periods
    if not 2 <= low <= high <= vocabulary or high >= length:
        raise ValueError(
            f"periods must be 2 <= shortest <= longest <= vocabulary ({vocabulary}) and below length ({length}), "
            f"got {periods}"
        )
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    period = torch.randint(low, high + 1, (count,), generator=generator)
    first = torch.rand(count, vocabulary, generator=generator).argsort(1)
    return first.gather(1, torch.arange(length) % period[:, None]), period


@dataclass(frozen=True)
class Induction:
    """A GPT that has learned to copy, and how well it does on sequences that it has not seen."""

    model: GPT
    length: int
    vocabulary: int
    steps: int
    accuracy: float

    def sequences(self, count: int, *, period: int, seed: int) -> Tensor:
        """New sequences (count, length) that repeat after `period` tokens."""
        return repeated(count, self.length, self.vocabulary, periods=(period, period), seed=seed)[0]


def train_induction(
    *,
    length: int = 24,
    vocabulary: int = 32,
    periods: tuple[int, int] = (6, 12),
    width: int = 64,
    heads: int = 4,
    layers: int = 2,
    steps: int = 1000,
    batch_size: int = 64,
    lr: float = 3e-3,
    until: float = 0.995,
    seed: int = 0,
    progress: bool = True,
) -> Induction:
    """Train a small GPT on repeated sequences until it copies a share `until` of what can be copied, or the steps are
    over; about 5 s on one core. The same seed gives the same model on the same machine.

    Accuracy is measured on 256 sequences made with another seed, from the second occurrence of the first token on.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT(GPTConfig(vocabulary=vocabulary, context=length, layers=layers, heads=heads, width=width))
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    fresh = repeated(256, length, vocabulary, periods=periods, seed=10_000 + seed)
    accuracy, done = 0.0, 0
    for step in tqdm(range(1, steps + 1), desc="induction", leave=False, disable=not progress):
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, step / 50)
        logits, wanted = _copied(model, *repeated(batch_size, length, vocabulary, periods=periods, seed=generator))
        loss = F.cross_entropy(logits, wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        done = step
        if step % 50 == 0:
            accuracy = _accuracy(model, *fresh)
            if accuracy >= until:
                break
    return Induction(model.eval(), length, vocabulary, done, accuracy)


def head_scores(maps: Tensor, period: int) -> tuple[Array, Array]:
    """How much every head does of the two jobs, 0 … 1: previous-token and induction scores, each (layers, heads).

    The first is the mean attention from a position to the one before it; the second, from a position of the first
    repetition to the place after the same token's first occurrence, that is to the token that has to be copied.
    """
    time = maps.shape[-1]
    if not 2 <= period < time:
        raise ValueError(f"period must be from 2 to below the {time} tokens of the maps, got {period}")
    previous = maps.diagonal(-1, -2, -1).mean(-1)
    copied = maps.diagonal(-(period - 1), -2, -1)[..., 1 : period + 1].mean(
        -1
    )  # position `period` is the first to know
    return previous.mean(1).numpy(), copied.mean(1).numpy()


# --- does attention explain the prediction? ---------------------------------------------------------------------


def loss_by_source(
    model: GPT, tokens: Tensor, position: int, vocabulary: int, *, draws: int = 8, seed: int = 0
) -> Array:
    """How much the log-probability of the right next token falls when one earlier token is replaced: (b, position + 1).

    The judge of attention: the input is changed and the model asked again; the mean of `draws` random replacements.
    `position` is where the next token is foretold; entry j belongs to input j. Position itself is replaced as well.
    """
    _must_be_tokens(model, tokens)
    generator = torch.Generator().manual_seed(seed)
    wanted = tokens[:, position + 1]
    with torch.no_grad():
        usual = _log_probability(model, tokens, position, wanted)
        falls = torch.zeros(len(tokens), position + 1)
        for place in range(position + 1):
            for _ in range(draws):
                changed = tokens.clone()
                shift = torch.randint(1, vocabulary, (len(tokens),), generator=generator)
                changed[:, place] = (tokens[:, place] + shift) % vocabulary
                falls[:, place] += usual - _log_probability(model, changed, position, wanted)
    return (falls / draws).numpy()


def rollout_to(maps: Tensor, position: int) -> Array:
    """Rollout from `position` to the inputs up to it: (b, position + 1)."""
    return rollout(maps)[:, position, : position + 1].numpy()


def source_ranks(weights: Array, sources: Iterable[int]) -> dict[int, float]:
    """Mean rank (1: the largest) that weights (b, places) give to each of these places."""
    order = (-weights).argsort(1).argsort(1) + 1
    return {place: float(order[:, place].mean()) for place in sources}


def _log_probability(model: GPT, tokens: Tensor, position: int, wanted: Tensor) -> Tensor:
    logits = model(tokens[:, : position + 1])[:, position]
    return logits.log_softmax(-1).gather(1, wanted[:, None])[:, 0]


def _copied(model: GPT, tokens: Tensor, period: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, vocabulary) and right tokens (n,) at all places where the next token can be copied."""
    known = torch.arange(tokens.shape[1] - 1) >= period[:, None]
    return model(tokens[:, :-1])[known], tokens[:, 1:][known]


def _loss(model: GPT, tokens: Tensor, period: int) -> float:
    with torch.no_grad():
        return F.cross_entropy(*_copied(model, tokens, torch.full((len(tokens),), period))).item()


def _accuracy(model: GPT, tokens: Tensor, period: Tensor) -> float:
    with torch.no_grad():
        logits, wanted = _copied(model, tokens, period)
    return (logits.argmax(-1) == wanted).float().mean().item()


def _blocks(model: GPT) -> list[Block]:
    return [block for block in model.blocks if isinstance(block, Block)]


def _must_be_tokens(model: GPT, tokens: Tensor) -> None:
    if model.training:
        raise ValueError("model must be in evaluation mode: call model.eval() first")
    if tokens.dim() != 2 or tokens.dtype != torch.int64 or tokens.numel() == 0:
        raise ValueError(f"tokens must be (b, t) of int64, got {tuple(tokens.shape)} of {tokens.dtype}")
