"""Many requests at once: a batch that waits for its longest text, and one whose free rows are filled at every step.

Continuous batching: Yu et al., "Orca: a distributed serving system for transformer-based generative models" (2022).
What this does not do: arrivals over time, paged memory (each row keeps a whole context), or long prompts in pieces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helpers.decoding.generation import checked_prompt, evaluating, new_cache
from helpers.models.gpt import KVCache

__all__ = ["Request", "Served", "serve_continuously", "serve_padded"]


@dataclass(frozen=True)
class Request:
    """One question: its prompt (t,) int64, and how many tokens the answer has."""

    prompt: Tensor
    new_tokens: int


@dataclass(frozen=True)
class Served:
    """The answers in the order of the requests, and what they cost."""

    tokens: tuple[Tensor, ...]
    steps: int
    """Decoding steps of the whole batch; reading the prompts is not counted."""
    rows: int
    """Rows of the batch, busy or not."""
    finished: tuple[int, ...]
    """Step after which each request had its last token."""

    @property
    def utilisation(self) -> float:
        """Share of rows × steps that made a token somebody had asked for."""
        wanted = sum(len(tokens) - 1 for tokens in self.tokens)  # the first comes from reading the prompt
        return wanted / (self.steps * self.rows) if self.steps else 1.0


def serve_padded(model: nn.Module, requests: Sequence[Request], rows: int) -> Served:
    """Greedy answers, `rows` requests at a time: each group waits for its longest answer (static batching)."""
    _check(model, requests, rows)
    answers: list[list[int]] = [[] for _ in requests]
    finished = [0] * len(requests)
    steps = 0
    with torch.inference_mode(), evaluating(model):
        for first in range(0, len(requests), rows):
            group = list(requests[first : first + rows])
            made, taken = _one_group(model, group)
            for number, tokens in enumerate(made):
                answers[first + number] = tokens
                finished[first + number] = steps + len(tokens) - 1
            steps += taken
    return Served(_tensors(answers, requests), steps, rows, tuple(finished))


def _one_group(model: nn.Module, group: list[Request]) -> tuple[list[list[int]], int]:
    """Tokens of each request, and the decoding steps it took."""
    longest = max(len(request.prompt) for request in group)
    lengths = [len(request.prompt) for request in group]
    # padding stands on the right: the causal mask hides it, and the first new tokens are written over it
    prompts = torch.stack([torch.cat([r.prompt, r.prompt.new_zeros(longest - len(r.prompt))]) for r in group])
    cache = new_cache(model, len(group))
    logits = model(prompts, cache)
    cache.lengths = lengths
    last = logits[torch.arange(len(group)), torch.tensor(lengths) - 1].argmax(-1)
    made = [[int(token)] for token in last]
    steps = max(request.new_tokens for request in group) - 1
    for _ in range(steps):
        last = model(last[:, None], cache)[:, -1].argmax(-1)
        for row, token in enumerate(last.tolist()):
            if len(made[row]) < group[row].new_tokens:
                made[row].append(token)
            else:  # the answer is complete, the row goes round idle
                cache.lengths[row] -= 1
    return made, steps


def serve_continuously(model: nn.Module, requests: Sequence[Request], rows: int) -> Served:
    """Greedy answers; as soon as a row has finished, the next request takes its place (continuous batching)."""
    _check(model, requests, rows)
    waiting = deque(range(len(requests)))
    answers: list[list[int]] = [[] for _ in requests]
    finished = [0] * len(requests)
    serving: list[int | None] = [None] * rows
    steps = 0
    with torch.inference_mode(), evaluating(model):
        cache = new_cache(model, rows)
        last = torch.zeros(rows, dtype=torch.int64, device=cache.keys.device)
        while True:
            for row in range(rows):
                while serving[row] is None and waiting:
                    number = waiting.popleft()
                    last[row] = token = _read(model, requests[number].prompt, cache, row)
                    answers[number].append(int(token))
                    if requests[number].new_tokens > 1:
                        serving[row] = number
                    else:
                        finished[number] = steps
            if all(number is None for number in serving):
                break
            last = model(last[:, None], cache)[:, -1].argmax(-1)
            steps += 1
            for row, served in enumerate(serving):
                if served is not None:
                    answers[served].append(int(last[row]))
                    if len(answers[served]) == requests[served].new_tokens:
                        serving[row], finished[served] = None, steps
                if serving[row] is None:
                    cache.lengths[row] = 0  # an idle row reads one token again and again
    return Served(_tensors(answers, requests), steps, rows, tuple(finished))


def _read(model: nn.Module, prompt: Tensor, cache: KVCache, row: int) -> Tensor:
    """Read a prompt into one row of the batch's cache; returns the first new token."""
    own = new_cache(model)
    logits = model(prompt[None], own)
    cache.keys[:, row] = own.keys[:, 0]
    cache.values[:, row] = own.values[:, 0]
    cache.lengths[row] = len(prompt)
    return logits[0, -1].argmax(-1)


def _check(model: nn.Module, requests: Sequence[Request], rows: int) -> None:
    if not requests:
        raise ValueError("requests must hold at least one request, got none")
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise ValueError(f"rows must be a whole number of at least 1, got {rows!r}")
    for request in requests:
        checked_prompt(model, request.prompt, request.new_tokens)


def _tensors(answers: list[list[int]], requests: Sequence[Request]) -> tuple[Tensor, ...]:
    return tuple(
        torch.tensor(tokens, dtype=torch.int64, device=request.prompt.device)
        for tokens, request in zip(answers, requests, strict=True)
    )
