"""The text that is measured on: Python functions on this disk, written once to a file that both sides read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from benchmarks.harness import Unavailable


def write_functions(path: str, limit: int) -> Callable[[], int]:
    """Write `limit` functions, one JSON string a line; returns how many there were."""
    from helpers.datasets import python_functions

    def work() -> int:
        count = 0
        with Path(path).open("w", encoding="ascii") as file:
            for _, source in python_functions(limit=limit):
                file.write(json.dumps(source) + "\n")
                count += 1
        return count

    return work


def read_functions(path: str, limit: int | None = None) -> Iterator[str]:
    """Stream the functions back, never holding them."""
    with Path(path).open(encoding="ascii") as file:
        yield from (json.loads(line) for line in islice(file, limit))


def need(count: int, wanted: int) -> None:
    """Raise Unavailable where the disk holds fewer functions than the benchmark is about."""
    if count < wanted:
        raise Unavailable(
            f"this machine has {count:,} functions in its Python packages, the benchmark needs {wanted:,}; "
            "install the extras: pip install -e '.[bench,dev]'"
        )
