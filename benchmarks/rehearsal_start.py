"""How long a learner waits: `rehearse --help`, the first question out of a bank of 2,000, the closest sentences.

Each pair starts Python to do nothing and then the command, from the start of the process. The large bank is made of
the real questions under other ids; its first question counts when it is on the screen of a (pseudo-)terminal, in a
folder of the learner's that is empty.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median

from benchmarks.harness import REPOSITORY, Bar, Benchmark, Figure, Settings, figure, ratios
from helpers.rehearsal.closest import closest
from helpers.rehearsal.questions import FOLDER, files, open_bank

QUESTIONS = 2_000
COMMAND = [sys.executable, "-m", "helpers.rehearsal"]
HEAVY = """
import sys
from helpers.rehearsal import cli
try:
    cli.app(["--help"], prog_name="rehearse")
except SystemExit:
    pass
print(sum(name in sys.modules for name in ("torch", "pandas", "sklearn")))
"""


def seconds(command: Sequence[str]) -> float:
    """Wall time of a command from its start to its end."""
    start = time.perf_counter()
    subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def large_bank(folder: Path, number: int = QUESTIONS) -> None:
    """The real questions again and again under other ids, until there are `number`."""
    real = files(FOLDER)
    for n in range(number):
        file = real[n % len(real)]
        name = f"{file.stem}-{n // len(real)}"
        target = folder / file.parent.name / f"{name}.yaml"
        target.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text(encoding="utf-8")
        target.write_text(re.sub(r"^id: .*$", f"id: {name}", text, count=1, flags=re.MULTILINE), encoding="utf-8")


def first_question(bank: Path) -> float:
    """Seconds from the start of `rehearse` until its first question is on the screen."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"LAB_HOME": home, "LAB_BANK": str(bank), "COLUMNS": "100", "TERM": "xterm"}
        ours, theirs = pty.openpty()
        start = time.perf_counter()
        process = subprocess.Popen(COMMAND, cwd=REPOSITORY, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        try:
            return _until_shown(ours, start)
        finally:
            process.kill()
            process.wait()
            os.close(ours)


def _until_shown(terminal: int, start: float) -> float:
    shown = b""
    with suppress(OSError):  # the terminal is closed when the command ends
        while "╯".encode() not in shown:  # the last corner of the panel that holds the question
            shown += os.read(terminal, 65536)
        return time.perf_counter() - start
    raise RuntimeError(f"no question was shown:\n{shown.decode(errors='replace')}")


def closest_ms() -> list[float]:
    """Milliseconds of the step for each real question, with its own model answer, in both languages."""
    bank = open_bank(FOLDER)
    found = []
    for name in bank:
        question = bank.question(name)
        for language in ("en", "zh"):
            points = [point.text.in_(language) for point in question.rubric]
            start = time.perf_counter()
            closest(question.model_answer.in_(language), points)
            found.append((time.perf_counter() - start) * 1e3)
    return found


def run(settings: Settings) -> list[Figure]:
    bare: list[float] = []
    helped: list[float] = []
    opened: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        large_bank(Path(folder), 200 if settings.quick else QUESTIONS)
        seconds([*COMMAND, "--help"])  # the first import compiles the modules, and only that one
        first_question(Path(folder))
        for pair in range(settings.pairs):
            sides = [lambda: bare.append(seconds([sys.executable, "-c", "pass"])),
                     lambda: helped.append(seconds([*COMMAND, "--help"])),
                     lambda: opened.append(first_question(Path(folder)))]  # fmt: skip
            for side in sides if pair % 2 == 0 else sides[::-1]:
                side()
            settings.say(
                f"pair {pair + 1} of {settings.pairs}: bare {bare[-1] * 1e3:.0f} ms, help {helped[-1] * 1e3:.0f} ms, "
                f"first question {opened[-1] * 1e3:.0f} ms"
            )
    heavy = float(subprocess.run([sys.executable, "-c", HEAVY], cwd=REPOSITORY, check=True, capture_output=True,
                                 text=True).stdout.split()[-1])  # fmt: skip
    step = closest_ms()
    return [
        figure("rehearse --help, times a bare interpreter", ratios(helped, bare), Bar("<=", 12)),
        figure("torch, pandas and sklearn loaded for --help", [heavy], Bar("<=", 0)),
        figure(f"first question out of {QUESTIONS:,}, seconds", opened, Bar("<=", 1)),
        figure("first question, times a bare interpreter", ratios(opened, bare)),
        figure("closest sentences, milliseconds an answer", step, Bar("<=", 30)),
        figure("closest sentences, milliseconds, the slowest answer", [max(step)], Bar("<=", 30)),
        figure("milliseconds, bare interpreter", [median(bare) * 1e3]),
    ]


BENCHMARK = Benchmark(
    name="rehearsal_start",
    question="rehearse: --help over a bare interpreter, the first question out of 2,000, the closest sentences",
    minutes=1,
    pairs=15,
    peers=(),
    run=run,
)
