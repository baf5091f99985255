"""Notebook 01 at its quick setting, stub and solved, executed one after the other by papermill on all cores."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import REPOSITORY, Bar, Benchmark, Figure, Settings, Unavailable, figure, run_side

NOTEBOOKS = {"stub": "notebooks/01_training_data.ipynb", "solved": "solutions/01_training_data.ipynb"}


def execute(notebook: str) -> Callable[[], Any]:
    """Execute one notebook with its own parameters (quick) in a temporary home; returns its number of cells."""
    import papermill

    def work() -> int:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["LAB_HOME"] = str(Path(folder) / "home")
            done = papermill.execute_notebook(
                REPOSITORY / notebook, Path(folder) / "out.ipynb", kernel_name="python3", progress_bar=False
            )
        return len(done.cells)

    return work


def run(settings: Settings) -> list[Figure]:
    missing = [path for path in NOTEBOOKS.values() if not (REPOSITORY / path).exists()]
    if missing:
        raise Unavailable(f"{missing[0]} is not there; build it with make notebooks")
    seconds: dict[str, list[float]] = {name: [] for name in NOTEBOOKS}
    for _ in range(settings.pairs):
        for name, path in NOTEBOOKS.items():
            side = run_side("benchmarks.notebook01:execute", threads={}, notebook=path)
            seconds[name].append(side.seconds)
            settings.say(f"{name}: {side.seconds:.0f} s")
    together = [sum(pair) for pair in zip(*seconds.values(), strict=True)]
    return [
        figure("seconds, stub and solved together, quick", together, Bar("<=", 240)),
        *(figure(f"seconds, {name}", runs) for name, runs in seconds.items()),
    ]


BENCHMARK = Benchmark(
    name="notebook01",
    question="Notebook 01 quick, stub and solved together: under 4 minutes on 2 cores",
    minutes=4,
    pairs=1,
    peers=("papermill",),
    run=run,
)
