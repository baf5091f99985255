"""Has the model seen the exam? Word n-grams that a benchmark shares with the training data.

A benchmark item counts as seen as far as its 13-grams occur in some training document (Brown et al., "Language
models are few-shot learners", 2020, appendix C). The benchmark is small and is indexed; the training data is large
and is streamed past it once:

1. words of text to 64-bit hashes, and n-grams of them by prefix sums (`helpers.training_data.text`);
2. a table of 2^24 flags, by the first 24 bits of the hash, drops nearly every n-gram with one look-up;
3. the rest is searched in the sorted hashes of the benchmark;
4. what is found there is compared word by word, so the answer is that of sets of tuples of strings.

Memory: the index (some 50 bytes an n-gram of the benchmark), 16 MB of flags and one piece of the training data.

What this does not catch: a paraphrase, a translation, a text whose words were renamed. An item shorter than n words
cannot be tested, which is not the same as clean: its share is NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.training_data.text import (
    Ints,
    UInts,
    check_documents,
    hash_tokens,
    in_chunks,
    ngram_spans,
    span_hashes,
    tokenise,
)

FILTER_BITS = 24
NOT_FOUND = -1


@dataclass(frozen=True)
class Contamination:
    """What `contamination` found.

    `share`: (items,) float64, the share of each benchmark item's n-grams (counted by position) that occur in some
    training document; NaN where the item has fewer than n words.
    `matches`: (m, 3) int64, one row (item, token position, training document) for each n-gram of the benchmark that
    was found, with the first training document that holds it; sorted.
    `training_documents`: sorted positions of all training documents that hold an n-gram of the benchmark: those to
    look at, or to drop. `n_training`: documents read. `n`: words in an n-gram.
    """

    share: NDArray[np.float64]
    matches: Ints
    training_documents: Ints
    n_training: int
    n: int

    @property
    def too_short(self) -> Ints:
        """Items that cannot be tested."""
        return np.flatnonzero(np.isnan(self.share))

    def contaminated(self, above: float = 0.0) -> Ints:
        """Items with a share above `above`."""
        return np.flatnonzero(self.share > above)

    def __repr__(self) -> str:
        return (
            f"Contamination({len(self.contaminated()):,} of {len(self.share):,} items share a {self.n}-gram with "
            f"{len(self.training_documents):,} of {self.n_training:,} training documents, "
            f"{len(self.too_short):,} too short to tell)"
        )


def contamination(
    training: Iterable[str], benchmark: Sequence[str], *, n: int = 13, progress: bool = False
) -> Contamination:
    """Share of each benchmark item's word n-grams that occur in the training documents, and where.

    Args:
        training: documents, read once, in pieces, and not held. An n-gram never crosses a document's border.
        benchmark: items (held). Words are those of `tokenise`: lower case, punctuation ignored.
        n: words in an n-gram, at least 1.
        progress: show a bar.
    Raises:
        TypeError, ValueError: an argument is not what is listed here, or a text is not a string.
    """
    check_documents(training, "training")
    check_documents(benchmark, "benchmark")
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise TypeError(f"n is of type {type(n).__name__}; give a positive integer")
    if n < 1:
        raise ValueError(f"n is {n}; an n-gram has at least 1 word")
    index = _Index(list(benchmark), int(n))
    overlapping: list[int] = []
    read = 0
    bar = tqdm(training, desc="searching", unit=" documents", disable=not progress)
    for chunk in in_chunks(bar):
        overlapping += index.search(chunk, read)
        read += len(chunk)
    return index.result(np.array(overlapping, dtype=np.int64), read)


class _Index:
    """The n-grams of the benchmark, and what has been found of them.

    Places, the n-grams by position, are numbered through: `item`, `position` and `document` have one entry for each
    (`document`: the first training document with it, or NOT_FOUND). `order` sorts the places by hash, `hashes` holds
    the distinct hashes, and hash k belongs to the places `order[first[k]:first[k + 1]]`.
    """

    def __init__(self, benchmark: list[str], n: int) -> None:
        self.benchmark = benchmark
        self.n = n
        tokens = [hash_tokens(chunk) for chunk in in_chunks(benchmark)]
        spans = [ngram_spans(part.offsets, n, short=False) for part in tokens]
        none = np.empty(0, dtype=np.int64)
        self.counts: Ints = np.concatenate([none, *(counts for _, _, counts in spans)])
        self.item = np.repeat(np.arange(len(benchmark)), self.counts)
        self.position = np.arange(len(self.item)) - np.repeat(np.cumsum(self.counts) - self.counts, self.counts)
        self.document = np.full(len(self.item), NOT_FOUND)
        hashes = np.concatenate(
            [
                none.astype(np.uint64),
                *(span_hashes(t.hashes, s, e) for t, (s, e, _) in zip(tokens, spans, strict=True)),
            ]
        )
        self.order = np.argsort(hashes, kind="stable")
        self.hashes, first = np.unique(hashes[self.order], return_index=True)
        self.first = np.append(first, len(hashes))
        self.flags = np.zeros(1 << FILTER_BITS, dtype=bool)
        self.flags[_first_bits(self.hashes)] = True
        self.wordings: dict[int, list[_Wording]] = {}
        self.words: dict[int, list[str]] = {}

    def search(self, documents: list[str], number: int) -> list[int]:
        """Look for n-grams in training documents, the first of which has this number; numbers of those with one."""
        tokens = hash_tokens(documents)
        starts, ends, counts = ngram_spans(tokens.offsets, self.n, short=False)
        hashes = span_hashes(tokens.hashes, starts, ends)
        which, known = self._look_up(hashes)
        document = np.searchsorted(np.cumsum(counts), which, side="right")
        position = starts[which] - tokens.offsets[document]
        borders = np.flatnonzero(np.diff(document, prepend=-1))
        return [
            number + doc
            for doc, places, grams in zip(
                document[borders].tolist(), np.split(position, borders[1:]), np.split(known, borders[1:]), strict=False
            )
            if self._compare(tokenise(documents[doc]), places.tolist(), grams.tolist(), number + doc)
        ]

    def _look_up(self, hashes: UInts) -> tuple[Ints, Ints]:
        """(where in `hashes`, which of `self.hashes`) for those that are in both."""
        maybe = np.flatnonzero(self.flags[_first_bits(hashes)])
        at = np.searchsorted(self.hashes, hashes[maybe])
        at[at == len(self.hashes)] = 0
        same = self.hashes[at] == hashes[maybe] if len(self.hashes) else np.zeros(0, dtype=bool)
        return maybe[same], at[same]

    def _compare(self, words: list[str], positions: list[int], grams: list[int], document: int) -> bool:
        """Compare a training document's words with those of the n-grams whose hashes it shares; True if one is the
        same."""
        any_same = False
        for position, gram in zip(positions, grams, strict=True):
            wordings = self._wordings(gram)
            if any_same and all(wording.found for wording in wordings):
                continue
            for wording in wordings:
                if words[position : position + self.n] == wording.words:
                    any_same = True
                    if not wording.found:
                        wording.found = True
                        self.document[wording.places] = document
        return any_same

    def _wordings(self, gram: int) -> list[_Wording]:
        """The different word sequences behind one hash: one, unless two of them collide."""
        if gram not in self.wordings:
            wordings: list[_Wording] = []
            for place in self.order[self.first[gram] : self.first[gram + 1]].tolist():
                start = self.position[place]
                words = self._words(int(self.item[place]))[start : start + self.n]
                same = next((wording for wording in wordings if wording.words == words), None)
                if same is None:
                    wordings.append(_Wording(words, [place]))
                else:
                    same.places.append(place)
            self.wordings[gram] = wordings
        return self.wordings[gram]

    def _words(self, item: int) -> list[str]:
        if item not in self.words:
            self.words[item] = tokenise(self.benchmark[item])
        return self.words[item]

    def result(self, training_documents: Ints, n_training: int) -> Contamination:
        found = np.flatnonzero(self.document != NOT_FOUND)
        seen = np.bincount(self.item[found], minlength=len(self.benchmark)).astype(float)
        share = np.divide(seen, self.counts, out=np.full(len(seen), np.nan), where=self.counts > 0)
        matches = np.column_stack([self.item[found], self.position[found], self.document[found]])
        return Contamination(share, matches, training_documents, n_training, self.n)


@dataclass
class _Wording:
    """An n-gram's words, the places where the benchmark has it, and whether the training data has it."""

    words: list[str]
    places: list[int]
    found: bool = False


def _first_bits(hashes: UInts) -> Ints:
    return (hashes >> np.uint64(64 - FILTER_BITS)).astype(np.int64)
