"""Speculative decoding: a small model drafts, the large one checks several tokens in one pass, the distribution stays.

Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding" (2023), algorithm 1.
What this does not do: batches, trees of drafts, or a draft length that follows the acceptance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from helpers.decoding.generation import checked_prompt, draw, evaluating, new_cache, probabilities
from helpers.models.gpt import KVCache

__all__ = ["Speculation", "accept", "speculate"]


@dataclass(frozen=True)
class Speculation:
    """What came of one speculative run."""

    tokens: Tensor
    """(new_tokens,) int64."""
    rounds: int
    """Passes of the large model, the reading of the prompt included."""
    judged: int
    """Drafted tokens that the large model came to judge: those behind a rejection are never looked at."""
    accepted: int

    @property
    def acceptance(self) -> float:
        """α: the share of judged tokens that were kept. NaN when none was judged."""
        return self.accepted / self.judged if self.judged else float("nan")

    @property
    def tokens_per_round(self) -> float:
        """New tokens for each pass of the large model."""
        return len(self.tokens) / self.rounds


def accept(
    drafted: Tensor, draft: Tensor, target: Tensor, generator: torch.Generator | None = None
) -> tuple[int, Tensor]:
    """How many drafted tokens to keep, and the token that follows them.

    Token i is kept with probability min(1, p_i / q_i). At the first rejection the next token is drawn from the residual
    max(p - q, 0), renormalised; when all are kept, from the last target distribution. Whatever the draft proposes, the
    result is distributed as the target is (Leviathan et al. 2023, appendix A.1).

    Args:
        drafted: (γ,) int64, drawn from `draft`.
        draft: (γ, vocabulary), q. Each row sums to 1.
        target: (γ + 1, vocabulary), p.

    Raises ValueError when the shapes do not belong together.
    """
    count, vocabulary = len(drafted), target.shape[-1]
    if tuple(draft.shape) != (count, vocabulary) or tuple(target.shape) != (count + 1, vocabulary):
        raise ValueError(
            f"draft must have shape ({count}, v) and target ({count + 1}, v) for {count} drafted tokens, "
            f"got {tuple(draft.shape)} and {tuple(target.shape)}"
        )
    each = torch.arange(count, device=drafted.device)
    chance = torch.rand(count, generator=generator, device=drafted.device)
    rejected = (chance * draft[each, drafted] >= target[each, drafted]).nonzero()
    if not len(rejected):
        return count, draw(target[-1], generator)
    first = int(rejected[0])
    residual = (target[first] - draft[first]).clamp(min=0)
    total = residual.sum()
    # equal up to rounding: nothing may be left, and the target itself is what is to be drawn from
    return first, draw(residual / total if total > 0 else target[first], generator)


def speculate(
    target: nn.Module,
    draft: nn.Module,
    prompt: Tensor,
    new_tokens: int,
    *,
    draft_tokens: int = 4,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Speculation:
    """Generate with `target`, helped by `draft`. At temperature 0 exactly the greedy tokens of `target` alone.

    Args:
        target, draft: two models of one vocabulary; both contexts must hold the text.
        prompt: (t,) int64.
        draft_tokens: γ, tokens drafted before each pass of `target`.

    Each keeps its cache; what was rejected is forgotten by setting the cache's length back.
    Raises TypeError or ValueError when an argument does not fit.
    """
    for model in (target, draft):
        checked_prompt(model, prompt, new_tokens)
    configs: list[Any] = [target.config, draft.config]
    if configs[0].vocabulary != configs[1].vocabulary:
        raise ValueError(
            f"draft must have the target's vocabulary, {configs[0].vocabulary}, got {configs[1].vocabulary}"
        )
    if draft_tokens < 1:
        raise ValueError(f"draft_tokens must be at least 1, got {draft_tokens}")
    text = prompt.tolist()
    caches = new_cache(target), new_cache(draft)
    rounds = judged = accepted = 0
    with torch.inference_mode(), evaluating(target, draft):
        while (missing := len(prompt) + new_tokens - len(text)) > 0:
            # the pass gives one token anyway, so the last one needs no draft
            count = min(draft_tokens, missing - 1)
            drafted, q = _draft(draft, text, caches[1], count, temperature, generator)
            unread = torch.tensor([text[caches[0].lengths[0] :] + drafted], device=prompt.device)
            p = probabilities(target(unread, caches[0])[0, -count - 1 :], temperature)
            kept, following = accept(torch.tensor(drafted, dtype=torch.int64, device=p.device), q, p, generator)
            text += [*drafted[:kept], int(following)]
            for cache in caches:
                cache.lengths = [min(cache.lengths[0], len(text) - 1)]
            rounds += 1
            judged += min(kept + 1, count)
            accepted += kept
    new = torch.tensor(text[len(prompt) :], dtype=torch.int64, device=prompt.device)
    return Speculation(new, rounds, judged, accepted)


def _draft(
    model: nn.Module,
    text: list[int],
    cache: KVCache,
    count: int,
    temperature: float,
    generator: torch.Generator | None,
) -> tuple[list[int], Tensor]:
    """`count` tokens drawn one after the other, and the distributions (count, vocabulary) they were drawn from."""
    device = cache.keys.device
    drafted: list[int] = []
    rows = [torch.empty(0, model.config.vocabulary, device=device)]  # type: ignore[union-attr, arg-type]
    for _ in range(count):
        unread = (text + drafted)[cache.lengths[0] :]
        rows.append(probabilities(model(torch.tensor([unread], device=device), cache)[:, -1], temperature))
        drafted.append(int(draw(rows[-1][0], generator)))
    return drafted, torch.cat(rows)
