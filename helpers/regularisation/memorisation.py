"""Has a language model learned strings by heart? Exposure of planted canaries, and extraction word for word."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["canaries", "exposure", "extracted", "plant", "sequence_losses"]


def canaries(count: int, *, digits: int = 8, prefix: bytes = b"SECRET = ", seed: int = 0) -> list[bytes]:
    """Different strings `prefix` + random digits, drawn evenly from 10^digits: found nowhere but where one plants them.

    Raises ValueError when there are fewer than `count` such strings.
    """
    if not 1 <= count <= 10**digits:
        raise ValueError(f"count must be between 1 and 10^digits = {10**digits:,}, got {count:,}")
    rng = np.random.default_rng(seed)
    numbers: dict[int, None] = {}
    while len(numbers) < count:
        numbers[int(rng.integers(10**digits))] = None
    return [prefix + f"{number:0{digits}d}".encode() for number in numbers]


def plant(blocks: np.ndarray, strings: Sequence[bytes], times: Sequence[int], *, seed: int = 0) -> np.ndarray:
    """A copy of blocks (n, length) uint8 in which some blocks begin with a string and stand there several times.

    For each string a block is chosen, its beginning overwritten, and as many other blocks are replaced by copies of it
    as are needed for it to stand `times` often: whole duplicates, as a crawl has them.

    Raises ValueError when the strings do not fit: longer than a block, or more copies than blocks.
    """
    needed = sum(times)
    if needed > len(blocks):
        raise ValueError(f"{needed} places are needed and there are {len(blocks)} blocks")
    longest = max((len(one) for one in strings), default=0)
    if longest > blocks.shape[1]:
        raise ValueError(f"a string of {longest} bytes does not fit into blocks of {blocks.shape[1]}")
    planted = blocks.copy()
    places = np.random.default_rng(seed).permutation(len(blocks))[:needed]
    for text, rows in zip(strings, np.split(places, np.cumsum(times)[:-1]), strict=True):
        block = blocks[rows[0]].copy()
        block[: len(text)] = np.frombuffer(text, np.uint8)
        planted[rows] = block
    return planted


@torch.no_grad()
def sequence_losses(model: nn.Module, strings: Sequence[bytes], *, skip: int = 0) -> np.ndarray:
    """Sum of the cross-entropies of each string's bytes in nats: minus the log of its probability under the model.

    Args:
        model: tokens (b, t) -> logits (b, t, 256).
        strings: of the same length, at least two bytes.
        skip: the first so many bytes are given, not judged (the first one always is).

    Returns (strings,) float. Raises ValueError for strings of different lengths or none.
    """
    lengths = {len(one) for one in strings}
    if len(lengths) != 1 or lengths.pop() < 2:
        raise ValueError("strings must be at least one, of the same length, two bytes or more")
    tokens = torch.tensor([list(one) for one in strings])
    was_training = model.training
    model.eval()
    losses = []
    for rows in tokens.split(256):
        logits = model(rows[:, :-1])
        each = F.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")
        losses.append(each[:, max(skip - 1, 0) :].sum(1))
    model.train(was_training)
    return torch.cat(losses).numpy()


def exposure(canary_loss: float, other_losses: np.ndarray) -> float:
    """How far a planted string stands out among others of its kind that were not planted, in bits.

    log2(candidates) - log2(rank): the most likely of 1,024 candidates has 10 bits, one in the middle about 1. Strings
    of equal loss rank before the canary, so a model that tells nothing apart has exposure 0.

    Args:
        canary_loss: `sequence_losses` of the planted string.
        other_losses: of strings drawn from the same distribution, none of them planted. Their number is the limit of
            what can be seen: 1,023 others can show 10 bits.

    Raises ValueError when there are no others, or a loss is NaN.

    Source: Carlini et al., The Secret Sharer (2019), with the rank among a sample of candidates.
    """
    others = np.asarray(other_losses, dtype=float)
    if others.size == 0:
        raise ValueError("other_losses must hold at least one loss of a string that was not planted")
    if math.isnan(canary_loss) or np.isnan(others).any():
        raise ValueError("a loss is NaN: the model has diverged")
    rank = 1 + int((others <= canary_loss).sum())
    return math.log2(others.size + 1) - math.log2(rank)


@torch.no_grad()
def extracted(model: nn.Module, blocks: Tensor, *, prompt: int, answer: int) -> np.ndarray:
    """Whether the model, given the first `prompt` bytes, writes the next `answer` bytes word for word (greedily).

    Returns (blocks,) bool. `blocks` is (n, length) int64. Raises ValueError when prompt and answer exceed the length.
    Source: Carlini et al., Quantifying Memorization Across Neural Language Models (2023).
    """
    if prompt < 1 or answer < 1 or prompt + answer > blocks.shape[1]:
        raise ValueError(f"prompt and answer must be at least 1 and fit into {blocks.shape[1]}, got {prompt}, {answer}")
    was_training = model.training
    model.eval()
    written = blocks[:, :prompt]
    for _ in range(answer):
        written = torch.cat([written, model(written)[:, -1:].argmax(-1)], dim=1)
    model.train(was_training)
    return (written == blocks[:, : prompt + answer]).all(1).numpy()
