"""How a benchmark is measured: in pairs, interleaved, each side in a fresh process with one thread.

A side is a function `prepare(**arguments) -> work`, where `work()` does what is timed and returns something that
JSON can hold. It is named "module:function", and runs as `python -m benchmarks.child` so that neither side warms
caches, heap or imports for the other, and its peak memory is its own. What is imported and loaded in `prepare` is
not timed, but counts in the memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

REPOSITORY = Path(__file__).resolve().parents[1]

ONE_THREAD = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM", "POLARS_MAX")
}


class Unavailable(Exception):
    """A benchmark cannot run here; says what is missing."""


@dataclass(frozen=True)
class Bar:
    """What a figure has to reach."""

    sense: Literal[">=", "<="]
    value: float

    def holds(self, value: float) -> bool:
        """Whether `value` reaches the bar (a NaN never does)."""
        return value >= self.value if self.sense == ">=" else value <= self.value

    def __str__(self) -> str:
        return f"{self.sense} {self.value:g}"


@dataclass(frozen=True)
class Figure:
    """One measured number: the median over `runs`, and its bar. Without a bar it is for information."""

    figure: str
    value: float
    bar: str | None
    holds: bool | None
    runs: list[float]


def figure(name: str, runs: Sequence[float], bar: Bar | None = None) -> Figure:
    """The median of `runs`, held against the bar."""
    value = median(runs)
    return Figure(name, value, str(bar) if bar else None, bar.holds(value) if bar else None, list(runs))


@dataclass(frozen=True)
class Side:
    """One run of one side: seconds of work, peak resident memory of its process in bytes, and what it returned."""

    seconds: float
    peak_bytes: int
    result: Any


@dataclass(frozen=True)
class Settings:
    """How to run: how many pairs, small sizes for a trial, and where messages go."""

    pairs: int
    quick: bool = False
    say: Callable[[str], None] = field(default=lambda message: None)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: what it asks, how long it takes at full size on two idle cores, which peers it needs."""

    name: str
    question: str
    minutes: float
    pairs: int
    peers: tuple[str, ...]
    run: Callable[[Settings], list[Figure]]


def run_side(target: str, threads: dict[str, str] | None = None, **arguments: Any) -> Side:
    """Run one side in a fresh process.

    Raises RuntimeError with the end of its error output when it fails, Unavailable when a package is missing.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", target, json.dumps(arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **(ONE_THREAD if threads is None else threads), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        if last[0].startswith("ModuleNotFoundError"):
            raise Unavailable(f"{target}: {last[0]}; install the extra: pip install -e '.[bench]'")
        raise RuntimeError(f"{target} failed with status {done.returncode}:\n{done.stderr[-2000:]}")
    return Side(**json.loads(done.stdout.splitlines()[-1]))


def run_pairs(settings: Settings, sides: dict[str, Callable[[], Side]]) -> dict[str, list[Side]]:
    """Run all sides `settings.pairs` times, interleaved, in turning order so that none is always first."""
    found: dict[str, list[Side]] = {name: [] for name in sides}
    for pair in range(settings.pairs):
        names = list(sides) if pair % 2 == 0 else list(sides)[::-1]
        for name in names:
            side = sides[name]()
            found[name].append(side)
            settings.say(
                f"pair {pair + 1} of {settings.pairs}: {name} {side.seconds:.3g} s, {side.peak_bytes / 1e6:.0f} MB"
            )
    return found


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Pair by pair."""
    return [one / other for one, other in zip(over, under, strict=True)]


def to_json(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Figures as plain data."""
    return [asdict(one) for one in figures]
