"""All formulas of `helpers.estimates` over a bare interpreter: the interview rehearsal and the exercises start at once.

Each pair starts Python twice, to do nothing and to import every formula, from the start of the process to its end.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.harness import REPOSITORY, Bar, Benchmark, Figure, Settings, figure

# importing the package alone would load none of its modules
IMPORT = "from helpers import estimates; [getattr(estimates, name) for name in estimates.__all__]"
HEAVY = "import sys; print(sum(name in sys.modules for name in ('torch', 'numpy', 'pandas', 'matplotlib')))"


def seconds(code: str) -> float:
    """Wall time of a fresh interpreter that runs `code`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)
    return time.perf_counter() - start


def heavy_modules() -> float:
    """How many of the large libraries are loaded by the import."""
    command = [sys.executable, "-c", f"{IMPORT}; {HEAVY}"]
    return float(subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout)


def run(settings: Settings) -> list[Figure]:
    seconds(IMPORT)  # the first import compiles the module, and only that one
    bare: list[float] = []
    ours: list[float] = []
    for pair in range(settings.pairs):
        sides = [(bare, "pass"), (ours, IMPORT)]
        for found, code in sides if pair % 2 == 0 else sides[::-1]:
            found.append(seconds(code) * 1e3)
        settings.say(f"pair {pair + 1} of {settings.pairs}: bare {bare[-1]:.1f} ms, with the import {ours[-1]:.1f} ms")
    return [
        figure(
            "milliseconds over a bare interpreter",
            [with_import - without for with_import, without in zip(ours, bare, strict=True)],
            Bar("<=", 50),
        ),
        figure("large libraries loaded", [heavy_modules()], Bar("<=", 0)),
        figure("milliseconds, bare interpreter", bare),
    ]


BENCHMARK = Benchmark(
    name="estimates_import",
    question="every formula of helpers.estimates: milliseconds over a bare interpreter, without torch or NumPy",
    minutes=0.1,
    pairs=21,
    peers=(),
    run=run,
)
