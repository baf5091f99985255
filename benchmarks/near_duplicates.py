"""Near-duplicates among Python functions: against datasketch, against exact Jaccard, and as the corpus grows.

Both sides read the same file one function at a time, use the same words (`tokenise`), 5-grams, 128 hashes and 16
bands of 8 rows. datasketch (its batch generator with default hash, then its LSH index) only lists candidates: it is
not made to verify them, for which it would have to keep the sets. Ours verifies every pair and builds the clusters.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks import corpus
from benchmarks.harness import Bar, Benchmark, Figure, Settings, Side, figure, ratios, run_pairs, run_side

THRESHOLD = 0.8
SHINGLE = 5


def ours(path: str, documents: int) -> Callable[[], Any]:
    from helpers.training_data.near_duplicates import near_duplicates

    def work() -> dict[str, int]:
        found = near_duplicates(corpus.read_functions(path, documents), threshold=THRESHOLD, shingle=SHINGLE)
        return {"documents": found.n_documents, "removable": found.n_removed, "pairs": len(found.pairs)}

    return work


def datasketch_batch(path: str, documents: int) -> Callable[[], Any]:
    from datasketch import MinHash, MinHashLSH

    def work() -> dict[str, int]:
        index = MinHashLSH(threshold=THRESHOLD, num_perm=128, params=(16, 8))
        shingles = ([" ".join(s).encode() for s in word_set(t)] for t in corpus.read_functions(path, documents))
        candidates = count = 0
        for number, minhash in enumerate(MinHash.generator(shingles, num_perm=128)):
            candidates += len(index.query(minhash))
            index.insert(number, minhash, check_duplication=False)
            count += 1
        return {"documents": count, "candidates": candidates}

    return work


def quality(path: str, documents: int, seeds: int) -> Callable[[], Any]:
    """Recall and precision of all pairs, and recall of those that are not copies, for each seed."""
    from helpers.training_data.near_duplicates import near_duplicates

    def work() -> list[dict[str, float]]:
        texts = list(corpus.read_functions(path, documents))
        sets = [word_set(text) for text in texts]
        truth = exact_pairs(sets, THRESHOLD)
        not_copies = {(i, j) for i, j in truth if sets[i] != sets[j]}
        found = []
        for seed in range(seeds):
            pairs = set(near_duplicates(texts, threshold=THRESHOLD, shingle=SHINGLE, seed=seed).all_pairs())
            found.append(
                {
                    "recall": len(pairs & truth) / len(truth),
                    "precision": len(pairs & truth) / len(pairs),
                    "recall_not_copies": len(pairs & not_copies) / max(len(not_copies), 1),
                    "not_copies": len(not_copies),
                }
            )
        return found

    return work


def word_set(text: str) -> set[tuple[str, ...]]:
    """The 5-grams of a text as Python tuples; of a shorter text all its words."""
    from helpers.training_data.text import tokenise

    words = tokenise(text)
    return {tuple(words[i : i + SHINGLE]) for i in range(max(len(words) - SHINGLE + 1, bool(words)))}


def exact_pairs(sets: list[set[tuple[str, ...]]], threshold: float) -> set[tuple[int, int]]:
    """All pairs at or above the threshold, without hashing and without chance.

    Prefix filter (Bayardo et al., "Scaling up all pairs similarity search", 2007): with shingles ordered from rare to
    common, two similar sets share one among their first |A| - ⌈t·|A|⌉ + 1; only such pairs are compared.
    """
    frequency = Counter(shingle for one in sets for shingle in one)
    holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    found = set()
    for number, one in enumerate(sets):
        rare_first = sorted(one, key=lambda shingle: (frequency[shingle], shingle))
        prefix = rare_first[: len(one) - ceil(threshold * len(one)) + 1] if one else []
        others = set()
        for shingle in prefix:
            others.update(holders[shingle])
            holders[shingle].append(number)
        found |= {(other, number) for other in others if _jaccard(one, sets[other]) >= threshold}
    return found


def _jaccard(one: set[Any], other: set[Any]) -> float:
    common = len(one & other)
    return common / (len(one) + len(other) - common)


def run(settings: Settings) -> list[Figure]:
    documents = 3_000 if settings.quick else 100_000
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "functions.jsonl")
        count = run_side("benchmarks.corpus:write_functions", path=path, limit=documents).result
        corpus.need(count, documents)
        sides = _sides(path, documents)
        found = run_pairs(settings, sides)
        settings.say("recall and precision against exact Jaccard")
        checked = run_side(
            "benchmarks.near_duplicates:quality", path=path, documents=documents // 10, seeds=max(settings.pairs, 3)
        ).result
    return list(_figures(found, checked, documents))


def _sides(path: str, documents: int) -> dict[str, Callable[[], Side]]:
    """Ours at three sizes, datasketch at the largest."""

    def ours_at(size: int) -> Callable[[], Side]:
        return lambda: run_side("benchmarks.near_duplicates:ours", path=path, documents=size)

    return {
        "ours": ours_at(documents),
        "ours on a tenth": ours_at(documents // 10),
        "ours on a thousandth": ours_at(documents // 1000),
        "datasketch": lambda: run_side("benchmarks.near_duplicates:datasketch_batch", path=path, documents=documents),
    }


def _figures(found: dict[str, list[Side]], checked: list[dict[str, float]], documents: int) -> Iterator[Figure]:
    seconds = {name: [side.seconds for side in sides] for name, sides in found.items()}
    peaks = {name: [side.peak_bytes for side in sides] for name, sides in found.items()}
    small = documents // 10
    yield figure(
        f"speed on {documents:,} functions, datasketch = 1",
        ratios(seconds["datasketch"], seconds["ours"]),
        Bar(">=", 3),
    )
    yield figure("peak memory, datasketch = 1", ratios(peaks["ours"], peaks["datasketch"]), Bar("<=", 0.5))
    yield figure(
        f"time from {small:,} to {documents:,} functions, ×",
        ratios(seconds["ours"], seconds["ours on a tenth"]),
        Bar("<=", 12),
    )
    above = {
        name: [one - base for one, base in zip(peaks[name], peaks["ours on a thousandth"], strict=True)]
        for name in ("ours", "ours on a tenth")
    }
    yield figure(
        f"memory above that of {documents // 1000:,} functions, from {small:,} to {documents:,}, ×",
        ratios(above["ours"], [max(one, 1) for one in above["ours on a tenth"]]),
        Bar("<=", 12),
    )
    yield figure(f"recall on {small:,} functions", [one["recall"] for one in checked], Bar(">=", 0.99))
    yield figure(f"precision on {small:,} functions", [one["precision"] for one in checked], Bar(">=", 1))
    yield figure(
        f"recall of the {checked[0]['not_copies']:.0f} pairs that are not copies",
        [one["recall_not_copies"] for one in checked],
    )
    for name in ("ours", "datasketch"):
        yield figure(f"documents a second, {name}", [documents / one for one in seconds[name]])
        yield figure(f"peak memory, MB, {name}", [one / 1e6 for one in peaks[name]])


BENCHMARK = Benchmark(
    name="near_duplicates",
    question="Near-duplicates among 100,000 functions, verified: speed and memory against datasketch, recall, growth",
    minutes=8,
    pairs=3,
    peers=("datasketch",),
    run=run,
)
