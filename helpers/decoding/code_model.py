"""A small GPT that has read the standard library's source for some seconds: enough to measure decoding on.

What it is not: a good model. It knows indentation, keywords and frequent words, and its perplexity says how little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import datasets
from helpers.models.gpt import GPT, GPTConfig
from helpers.randomness import random_states_kept

__all__ = ["CodeModel", "code_tokens", "train_code_gpt"]


@dataclass(frozen=True)
class CodeModel:
    """A trained model and the loss of each of its steps, in nats per byte."""

    model: GPT
    losses: tuple[float, ...]


def code_tokens(length: int, blocks: int) -> tuple[Tensor, Tensor]:
    """Blocks (n, length + 1) int64 of the library's source to train on, and those of later files to judge by.

    An eighth is kept for judging. It begins with a new file, so that nothing judged stands near what was learned.
    """
    if blocks < 8:
        raise ValueError(f"blocks must be at least 8, got {blocks}")
    held_out = blocks // 8
    training, judged = datasets.code_parts(length, (blocks - held_out, held_out))
    return torch.from_numpy(training.astype(np.int64)), torch.from_numpy(judged.astype(np.int64))


def train_code_gpt(
    config: GPTConfig, blocks: Tensor, *, steps: int, batch_size: int = 16, lr: float = 1e-3, seed: int = 0
) -> CodeModel:
    """Train a GPT on blocks of bytes: AdamW, the learning rate rises for a tenth of the steps and falls to zero.

    Args:
        blocks: (n, t + 1) int64, drawn anew for each step; t is at most the context.
        steps: of `batch_size` blocks each.

    A context longer than t has positions that were never trained; keep t = context where the text will be long.
    The global random states are kept. Raises ValueError when the blocks are longer than the context.
    """
    if blocks.dim() != 2 or not 2 <= blocks.shape[1] <= config.context + 1:
        raise ValueError(f"blocks must have 2 to {config.context + 1} tokens a row, got shape {tuple(blocks.shape)}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    with random_states_kept():
        torch.manual_seed(seed)
        model = GPT(config)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps + 1, pct_start=0.1)
    losses = []
    for _ in range(steps):
        batch = blocks[torch.randint(len(blocks), (batch_size,), generator=generator)]
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
        losses.append(loss.item())
    return CodeModel(model.eval(), tuple(losses))
