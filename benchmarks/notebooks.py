"""How long notebooks run at their quick setting, stub and solved, and notebook 03 in full; papermill, all cores.

Every run has an empty home and no compiled code in a cache, as on a machine that sees the course for the first time.
The bars are the course's own: what a learner waits for, and what CI pays.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import REPOSITORY, Bar, Benchmark, Figure, Settings, Unavailable, figure, run_side

NOTEBOOKS: dict[str, Bar | None] = {
    "01_training_data": Bar("<=", 240),
    "03_overfitting": None,
    "04_inference_speed": Bar("<=", 360),
    "05_interpretability": Bar("<=", 300),
}
"""Name → what stub and solved may take together, in seconds, at the quick setting."""
SOLVED_QUICK = {"03_overfitting": Bar("<=", 120)}
FULL = {"03_overfitting": Bar("<=", 900)}


def execute(notebook: str, quick: bool) -> Callable[[], Any]:
    """Execute one notebook in a temporary home; returns its number of cells."""
    import papermill

    def work() -> int:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["LAB_HOME"] = str(Path(folder) / "home")
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder) / "compiled")
            done = papermill.execute_notebook(
                REPOSITORY / notebook,
                Path(folder) / "out.ipynb",
                parameters={} if quick else {"QUICK": False},
                kernel_name="python3",
                progress_bar=False,
            )
        return len(done.cells)

    return work


def run(settings: Settings) -> list[Figure]:
    names = list(NOTEBOOKS)[:1] if settings.quick else list(NOTEBOOKS)
    for name in names:
        for folder in ("notebooks", "solutions"):
            if not (REPOSITORY / folder / f"{name}.ipynb").exists():
                raise Unavailable(f"{folder}/{name}.ipynb is not there; build it with make notebooks")
    figures: list[Figure] = []
    for name in names:
        both = [[_seconds(f"{f}/{name}", settings) for f in ("notebooks", "solutions")] for _ in range(settings.pairs)]
        figures += [
            figure(f"seconds, quick, stub and solved together: {name}", [sum(pair) for pair in both], NOTEBOOKS[name]),
            figure(f"seconds, quick, stub: {name}", [pair[0] for pair in both]),
            figure(f"seconds, quick, solved: {name}", [pair[1] for pair in both], SOLVED_QUICK.get(name)),
        ]
    for name, bar in FULL.items() if not settings.quick else ():
        full = [_seconds(f"solutions/{name}", settings, quick=False) for _ in range(settings.pairs)]
        figures.append(figure(f"seconds, full setting, solved: {name}", full, bar))
    return figures


def _seconds(notebook: str, settings: Settings, *, quick: bool = True) -> float:
    side = run_side("benchmarks.notebooks:execute", threads={}, notebook=f"{notebook}.ipynb", quick=quick)
    settings.say(f"{notebook}, {'quick' if quick else 'full'}: {side.seconds:.0f} s")
    return side.seconds


BENCHMARK = Benchmark(
    name="notebooks",
    question="How long the notebooks run: quick, stub and solved, and notebook 03 at its full setting",
    minutes=30,
    pairs=1,
    peers=("papermill",),
    run=run,
)
