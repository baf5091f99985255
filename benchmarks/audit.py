"""`audit` of a table of 100,000 rows × 30 columns against skrub's TableReport.

The table has columns of all kinds, missing values, and three planted faults, which the audit must name: a leak of the
target, duplicated rows, and equal rows with different labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.harness import Bar, Benchmark, Figure, Settings, figure, ratios, run_pairs, run_side

SMALL = ["measured_0", "kind_2", "opened", "target"]


def table(rows: int, seed: int = 0) -> Any:
    """A DataFrame (rows, 30): 16 measurements, 8 categories, 2 dates, a flag, free text, the leak and the target."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    signal = rng.normal(size=rows)
    target = (signal + rng.normal(size=rows) > 1).astype(int)
    columns: dict[str, Any] = {f"measured_{i}": signal * (i < 4) + rng.normal(size=rows) for i in range(16)}
    for i in range(4):
        columns[f"measured_{i}"] = np.where(rng.random(rows) < 0.02 * (i + 1), np.nan, columns[f"measured_{i}"])
    for i, kinds in enumerate((2, 3, 5, 8, 12, 20, 50, 200)):
        columns[f"kind_{i}"] = np.array([f"k{kind}" for kind in range(kinds)])[rng.integers(kinds, size=rows)]
    for name in ("opened", "changed"):
        columns[name] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 700 * 86400, rows), unit="s")
    columns["flag"] = rng.random(rows) < 0.3
    columns["note"] = np.array([f"note number {i}" for i in range(500)])[rng.integers(500, size=rows)]
    columns["leaking"] = target * 10.0 + rng.normal(size=rows)
    columns["target"] = np.array(["no", "yes"])[target]
    made = pd.DataFrame(columns)
    copies = max(rows // 100, 2)
    made.iloc[-copies:] = made.iloc[:copies].to_numpy()
    conflicting = made.columns.get_loc("target")
    made.iloc[-copies // 2 :, conflicting] = made.iloc[-copies // 2 :, conflicting].map({"no": "yes", "yes": "no"})
    return made.astype(pd.DataFrame(columns).dtypes.to_dict())


def ours(rows: int) -> Callable[[], Any]:
    from helpers.training_data.audit import audit

    made = table(rows)
    audit(table(200)[SMALL], target="target")  # what is imported at the first call is not timed, on either side

    def work() -> list[str]:
        report = audit(made, target="target", progress=True)
        return [f"{finding.dimension}: {finding.code}: {finding.message}" for finding in report.findings]

    return work


def table_report(rows: int) -> Callable[[], Any]:
    from skrub import TableReport

    made = table(rows)
    TableReport(table(200)[SMALL], verbose=0).html()

    def work() -> int:
        return len(TableReport(made, verbose=0).html())

    return work


def named(findings: list[str]) -> dict[str, bool]:
    """Which of the planted faults the findings name."""
    text = [finding.lower() for finding in findings]
    return {
        "leak": any(one.startswith("leakage") and "leaking" in one for one in text),
        "duplicates": any(one.startswith("duplicates") for one in text),
        "label conflicts": any("conflict" in one or "different label" in one for one in text),
    }


def run(settings: Settings) -> list[Figure]:
    rows = 2_000 if settings.quick else 100_000
    found = run_pairs(
        settings,
        {
            "ours": lambda: run_side("benchmarks.audit:ours", rows=rows),
            "skrub": lambda: run_side("benchmarks.audit:table_report", rows=rows),
        },
    )
    seconds = {name: [side.seconds for side in sides] for name, sides in found.items()}
    faults = [named(side.result) for side in found["ours"]]
    return [
        figure(f"seconds for {rows:,} rows × 30 columns", seconds["ours"], Bar("<=", 10)),
        figure("time, skrub's TableReport = 1", ratios(seconds["ours"], seconds["skrub"]), Bar("<=", 4)),
        figure("planted faults named, of 3", [float(sum(one.values())) for one in faults], Bar(">=", 3)),
        figure("findings", [float(len(side.result)) for side in found["ours"]]),
        figure("seconds, skrub", seconds["skrub"]),
        *(figure(f"peak memory, MB, {name}", [one.peak_bytes / 1e6 for one in sides]) for name, sides in found.items()),
    ]


BENCHMARK = Benchmark(
    name="audit",
    question="audit of 100,000 rows × 30 columns: seconds, against skrub's TableReport, and what it finds",
    minutes=1.5,
    pairs=3,
    peers=("skrub",),
    run=run,
)
