"""13-gram contamination of 1,000 documents in 51 MB of text, against sets of tuples of strings.

The peer is what most scripts do: put every n-gram of the training data into a set. A second one, which indexes the
benchmark and streams the training data past it, as ours does, is shown without a bar.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import corpus
from benchmarks.harness import Bar, Benchmark, Figure, Settings, figure, ratios, run_pairs, run_side

N = 13
Grams = list[tuple[str, ...]]


def ours(path: str, characters: int, items: int) -> Callable[[], Any]:
    from helpers.training_data.contamination import contamination

    benchmark = _benchmark(path, characters, items)

    def work() -> list[float]:
        return contamination(_training(path, characters), benchmark, n=N).share.tolist()

    return work


def training_in_a_set(path: str, characters: int, items: int) -> Callable[[], Any]:
    benchmark = _benchmark(path, characters, items)

    def work() -> list[float]:
        seen: set[tuple[str, ...]] = set()
        for text in _training(path, characters):
            seen.update(_grams(text))
        return [_share(_grams(text), seen) for text in benchmark]

    return work


def benchmark_in_a_set(path: str, characters: int, items: int) -> Callable[[], Any]:
    benchmark = _benchmark(path, characters, items)

    def work() -> list[float]:
        wanted = {gram for text in benchmark for gram in _grams(text)}
        seen: set[tuple[str, ...]] = set()
        for text in _training(path, characters):
            seen |= wanted.intersection(_grams(text))
        return [_share(_grams(text), seen) for text in benchmark]

    return work


def _training(path: str, characters: int) -> Iterator[str]:
    """The first functions, up to so many characters."""
    for text in corpus.read_functions(path):
        characters -= len(text)
        if characters < 0:
            return
        yield text


def _benchmark(path: str, characters: int, items: int) -> list[str]:
    """One tenth from the training text (spread over it), the rest from what follows it."""
    inside = sum(1 for _ in _training(path, characters))
    step = inside // (items // 10)
    chosen: list[str] = []
    for number, text in enumerate(corpus.read_functions(path)):
        if (number < inside and number % step == 0 and len(chosen) < items // 10) or number >= inside:
            chosen.append(text)
        if len(chosen) == items:
            break
    corpus.need(inside + len(chosen), inside + items)
    return chosen


def _grams(text: str) -> Grams:
    from helpers.training_data.text import tokenise

    words = tokenise(text)
    return list(zip(*(words[start:] for start in range(N)), strict=False))


def _share(grams: Grams, seen: set[tuple[str, ...]]) -> float:
    return sum(gram in seen for gram in grams) / len(grams) if grams else float("nan")


def run(settings: Settings) -> list[Figure]:
    characters, items = (500_000, 100) if settings.quick else (51_000_000, 1_000)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "functions.jsonl")
        # functions have 570 characters on average; read until there is enough
        run_side("benchmarks.corpus:write_functions", path=path, limit=items + characters // 300)
        how: dict[str, Any] = {"path": path, "characters": characters, "items": items}
        found = run_pairs(
            settings,
            {
                "ours": lambda: run_side("benchmarks.contamination:ours", **how),
                "training in a set": lambda: run_side("benchmarks.contamination:training_in_a_set", **how),
                "benchmark in a set": lambda: run_side("benchmarks.contamination:benchmark_in_a_set", **how),
            },
        )
    seconds = {name: [side.seconds for side in sides] for name, sides in found.items()}
    peaks = {name: [side.peak_bytes for side in sides] for name, sides in found.items()}
    figures = [
        figure(
            "speed, set of the training n-grams = 1",
            ratios(seconds["training in a set"], seconds["ours"]),
            Bar(">=", 7),
        ),
        figure(
            "peak memory, set of the training n-grams = 1",
            ratios(peaks["ours"], peaks["training in a set"]),
            Bar("<=", 0.2),
        ),
        figure("share of items with the same answer", _same(found), Bar(">=", 1)),
        figure("speed, set of the benchmark n-grams = 1", ratios(seconds["benchmark in a set"], seconds["ours"])),
        figure("share of items that are contaminated", [_contaminated(side.result) for side in found["ours"]]),
    ]
    for name in found:
        figures.append(figure(f"MB a second, {name}", [characters / 1e6 / one for one in seconds[name]]))
        figures.append(figure(f"peak memory, MB, {name}", [one / 1e6 for one in peaks[name]]))
    return figures


def _same(found: dict[str, Any]) -> list[float]:
    """Share of items with an equal answer on all sides, a NaN being equal to a NaN."""
    names = list(found)
    runs = zip(*(found[name] for name in names), strict=True)
    return [
        sum(len({str(value) for value in values}) == 1 for values in zip(*(side.result for side in run), strict=True))
        / len(run[0].result)
        for run in runs
    ]


def _contaminated(shares: list[float]) -> float:
    return sum(share > 0 for share in shares) / len(shares)


BENCHMARK = Benchmark(
    name="contamination",
    question="13-gram overlap of 1,000 documents with 51 MB of text: speed and memory against sets of tuples",
    minutes=4,
    pairs=3,
    peers=(),
    run=run,
)
