"""`python -m benchmarks [NAME … | all] [--quick] [--pairs N] [--json] [--save]`.

Exit status: 0 every bar holds, 1 one falls short, 2 a benchmark could not run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import Benchmark, Figure, Settings, Unavailable, to_json
from benchmarks.machine import describe
from benchmarks.registry import BENCHMARKS
from helpers.files import replacing

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _options(arguments)
    if not options.names:
        print(_listing())
        return 0
    names = list(BENCHMARKS) if options.names == ["all"] else options.names
    status = 0
    everything: list[Figure] = []
    for name in names:
        benchmark = BENCHMARKS[name]
        settings = Settings(options.pairs or (1 if options.quick else benchmark.pairs), options.quick, _say)
        _say(f"{name}: {benchmark.question}" + (" (quick: smaller than what the bars are for)" * options.quick))
        try:
            figures = benchmark.run(settings)
        except Unavailable as missing:
            print(f"{name} could not run: {missing}", file=sys.stderr)
            status = 2
            continue
        everything += figures
        status = max(status, int(any(one.holds is False for one in figures)))
        if options.save:
            save(benchmark, figures, settings)
        if not options.json:
            print(table(name, figures))
    if options.json:
        print(json.dumps(to_json(everything), indent=2))
    return status


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Paired benchmarks. No name: list them.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run, or all")
    parser.add_argument("--quick", action="store_true", help="small sizes, one pair: does it work at all?")
    parser.add_argument("--pairs", type=int, help="how many pairs of runs to take the median of")
    parser.add_argument("--json", action="store_true", help="print a list of {figure, value, bar, holds, runs}")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/NAME.json with the machine")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS and options.names != ["all"]]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)} and all")
    if options.pairs is not None and options.pairs < 1:
        parser.error(f"--pairs is {options.pairs}; it must be at least 1")
    if options.save and options.quick:
        parser.error("--save keeps results of the full size only: leave out --quick")
    return options


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _listing() -> str:
    lines = [f"{one.name:16} {one.minutes:4g} min  {one.question}" for one in BENCHMARKS.values()]
    return "\n".join([*lines, "", "python -m benchmarks NAME runs one; the machine should be idle."])


def table(name: str, figures: Sequence[Figure]) -> str:
    """The figures as text, one a line."""
    width = max(len(one.figure) for one in figures)
    verdict = {True: "✓ holds", False: "✗ falls short", None: ""}
    lines = [
        f"  {one.figure:{width}}  {_number(one.value):>9}  {one.bar or '':9} {verdict[one.holds]}".rstrip()
        for one in figures
    ]
    return "\n".join([name, *lines])


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def save(benchmark: Benchmark, figures: Sequence[Figure], settings: Settings, folder: Path | None = None) -> Path:
    """Write the result with the machine's description, whole or not at all."""
    place = folder or RESULTS
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{benchmark.name}.json"
    result = {
        "benchmark": benchmark.name,
        "question": benchmark.question,
        "date": datetime.now(UTC).date().isoformat(),
        "pairs": settings.pairs,
        "machine": describe(benchmark.peers),
        "figures": to_json(figures),
    }
    with replacing(path) as part:
        part.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
