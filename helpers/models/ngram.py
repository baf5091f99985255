"""A back-off n-gram language model, small enough to read.

What this is not: a good language model. It shows what memory alone can do, which is the point where it is used.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

__all__ = ["BackoffNgram"]

START = "<s>"


class BackoffNgram:
    """Predict the token that followed most often after the longest known context (back-off after Katz, 1987).

    No smoothing: only the most frequent continuation of each context is kept, ties go to the one seen first.

    Args:
        context: the longest context in tokens; 0 predicts the most frequent token everywhere.
    """

    def __init__(self, context: int = 5) -> None:
        if context < 0:
            raise ValueError(f"context must be at least 0 tokens, got {context}")
        self.context = context
        self.best: list[dict[tuple[str, ...], str]] = []

    def fit(self, documents: Iterable[Sequence[str]]) -> BackoffNgram:
        """Count continuations in documents (each a sequence of tokens); returns self."""
        counts: list[dict[tuple[str, ...], Counter[str]]] = [defaultdict(Counter) for _ in range(self.context + 1)]
        for document in documents:
            tokens = (START,) * self.context + tuple(document)
            for position in range(self.context, len(tokens)):
                for length, table in enumerate(counts):
                    table[tokens[position - length : position]][tokens[position]] += 1
        self.best = [{context: c.most_common(1)[0][0] for context, c in table.items()} for table in counts]
        if () not in self.best[0]:
            raise ValueError("documents hold no token: nothing to learn from")
        return self

    def predict(self, before: Sequence[str]) -> str:
        """The most likely next token after `before` (any length)."""
        if not self.best:
            raise RuntimeError("fit the model first")
        padded = (START,) * self.context + tuple(before)
        for length in range(self.context, 0, -1):
            found = self.best[length].get(padded[len(padded) - length :])
            if found is not None:
                return found
        return self.best[0][()]

    def hits(self, document: Sequence[str]) -> int:
        """How many tokens of the document the model predicts from the tokens before them."""
        tokens = (START,) * self.context + tuple(document)
        starts = range(len(document))
        return sum(self.predict(tokens[i : i + self.context]) == document[i] for i in starts)

    def accuracy(self, documents: Iterable[Sequence[str]]) -> float:
        """Next-token accuracy over all tokens of the documents, 0 to 1. No token: ValueError."""
        hits = total = 0
        for document in documents:
            hits += self.hits(document)
            total += len(document)
        if not total:
            raise ValueError("documents hold no token: nothing to score")
        return hits / total
