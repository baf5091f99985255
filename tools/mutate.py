"""Break the exercises' machinery in one place at a time, and demand that a test notices.

    python -m tools.mutate                                 all modules of tools/mutation.toml
    python -m tools.mutate trial log --minutes 10          two of them, for ten minutes at most
    python -m tools.mutate trial --json survivors.json     with the diffs of the survivors

The mutants are cosmic-ray's, and one of our own: a statement taken out. Each runs in a fork of one warm process, where
an import hook gives the broken source in place of the file: nothing on disk is touched, and a mutant costs a second.
Needs fork (Linux, macOS). What this does not show: a mutant that no test could tell from the original survives too.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.abc
import importlib.util
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

ROOT = Path(__file__).parents[1]
KILLED, SURVIVED, TIMEOUT = "killed", "survived", "timeout"


@dataclass(frozen=True)
class Mutant:
    """A broken version of one module: what was done to it, and the whole source."""

    module: str
    operator: str
    source: str

    def diff(self) -> str:
        """The lines that differ from the file."""
        old = (ROOT / self.module).read_text(encoding="utf-8").splitlines()
        lines = difflib.unified_diff(old, self.source.splitlines(), lineterm="", n=0)
        return "\n".join(line for line in lines if not line.startswith(("---", "+++")))


def mutants(module: str, operators: list[str]) -> Iterator[Mutant]:
    """All mutants of a module, each source once, those that do not compile left out."""
    original = (ROOT / module).read_text(encoding="utf-8")
    seen = {ast.dump(ast.parse(original))}
    for name, source in (*_cosmic_ray(original, operators), *_without_statements(original)):
        try:
            tree = ast.dump(ast.parse(source))
        except SyntaxError:
            continue
        if tree not in seen:
            seen.add(tree)
            yield Mutant(module, name, source)


def _cosmic_ray(source: str, operators: list[str]) -> Iterator[tuple[str, str]]:
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    for name in sorted(operator_names()):
        if any(re.fullmatch(pattern, name) for pattern in operators):
            occurrence = 0
            while (mutated := mutate_code(source, get_operator(name)(), occurrence)) is not None:
                yield name, mutated
                occurrence += 1


def _without_statements(source: str) -> Iterator[tuple[str, str]]:
    """The source with one call, assignment to an attribute, raise or `return value` replaced by `pass`."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        stored = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript)
        if not (call or stored or isinstance(node, ast.Raise | ast.Return)):
            continue
        assert isinstance(node, ast.stmt) and node.end_lineno is not None
        kept = " " * node.col_offset + "pass\n"
        yield "remove statement", "".join([*lines[: node.lineno - 1], kept, *lines[node.end_lineno :]])


# --- running ------------------------------------------------------------------------------------------------------


class _Broken(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Gives the mutant's source when its module is imported."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        spec = importlib.util.spec_from_loader(fullname, self, origin=str(self.path))
        if spec is not None:
            spec.has_location = True  # gives the module its __file__
        return spec

    def get_source(self, fullname: str) -> str:
        return self.source


def start(mutant: Mutant, tests: list[str], without: str) -> int:
    """Fork a process that runs the tests on the mutant; its exit status is 0 when the mutant survives."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        status = _run_tests(mutant, tests, without)
    finally:
        os._exit(status)


def _run_tests(mutant: Mutant, tests: list[str], without: str) -> int:
    import pytest

    name = mutant.module.removesuffix(".py").replace("/", ".")
    sys.meta_path.insert(0, _Broken(name, ROOT / mutant.module, mutant.source))
    with tempfile.TemporaryDirectory() as folder:
        plugins = ["-p", "no:cacheprovider", "-p", "pytest_timeout"]
        options = ["-x", "-q", *plugins, "--basetemp", f"{folder}/tests", "--timeout", "0"]
        return int(pytest.main([*options, *(["-k", f"not ({without})"] if without else []), *tests]))


def _warm_up() -> None:
    """Import what every mutant needs and none changes. The notebook tests' plugins would cost seconds each time."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.path.insert(0, str(ROOT / "tests"))
    for module in ("numpy", "pandas", "pytest", "filelock", "pytest_timeout", "platformdirs", "IPython.display"):
        importlib.import_module(module)


def run(todo: list[Mutant], config: dict[str, Any], *, workers: int, deadline: float) -> Iterator[tuple[Mutant, str]]:
    """Run the mutants, `workers` at a time; yields each with killed, survived or timeout."""
    running: dict[int, tuple[Mutant, float]] = {}
    queue = iter(todo)
    try:
        while True:
            while len(running) < workers and time.monotonic() < deadline and (mutant := next(queue, None)):
                settings = config["modules"][mutant.module]
                process = start(mutant, settings["tests"], settings.get("without", ""))
                running[process] = (mutant, time.monotonic())
            if not running:
                return
            yield from _finished(running, config["seconds_per_mutant"])
            time.sleep(0.02)
    finally:
        for process in running:
            os.killpg(process, signal.SIGKILL)


def _finished(running: dict[int, tuple[Mutant, float]], seconds: float) -> list[tuple[Mutant, str]]:
    found = []
    for process, (mutant, started) in list(running.items()):
        done, status = os.waitpid(process, os.WNOHANG)
        late = time.monotonic() - started > seconds
        if not done and not late:
            continue
        if not done:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
        del running[process]
        found.append((mutant, TIMEOUT if not done else SURVIVED if status == 0 else KILLED))
    return found


def main() -> int:
    """Run, print the survivors and the score of each module. Exit status 1 when the unbroken code fails its tests."""
    config = tomllib.loads((ROOT / "tools" / "mutation.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(prog="python -m tools.mutate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("modules", nargs="*", help="names such as trial or log; all without any")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after this time (60)")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="processes at a time")
    parser.add_argument("--json", type=Path, help="write every mutant's outcome, survivors with their diff")
    asked = parser.parse_args()
    chosen = [m for m in config["modules"] if not asked.modules or Path(m).stem in asked.modules]
    if len(chosen) < len(asked.modules):
        parser.error(f"modules must be among {', '.join(Path(m).stem for m in config['modules'])}")
    os.chdir(ROOT)
    _warm_up()
    return _report(config, chosen, asked)


def _report(config: dict[str, Any], chosen: list[str], asked: argparse.Namespace) -> int:
    whole = [Mutant(module, "none", (ROOT / module).read_text(encoding="utf-8")) for module in chosen]
    failing = [m.module for m, outcome in run(whole, config, workers=1, deadline=float("inf")) if outcome != SURVIVED]
    if failing:
        print(f"the tests fail (or take too long) without any mutation: {', '.join(failing)}", file=sys.stderr)
        return 1
    todo = [mutant for module in chosen for mutant in mutants(module, config["operators"])]
    random.Random(0).shuffle(todo)  # a run that is cut short has seen something of everything
    deadline = time.monotonic() + 60 * asked.minutes
    results = []
    for mutant, outcome in tqdm(run(todo, config, workers=asked.workers, deadline=deadline), total=len(todo)):
        results.append((mutant, outcome))
        if outcome == SURVIVED:
            tqdm.write(f"{mutant.module}: {mutant.operator}\n{mutant.diff()}\n")
    for module in chosen:
        outcomes = [outcome for mutant, outcome in results if mutant.module == module]
        alive, total = outcomes.count(SURVIVED), sum(m.module == module for m in todo)
        print(f"{module}: {len(outcomes) - alive} of {len(outcomes)} killed ({total} mutants in all)")
    if asked.json:
        rows = [{**asdict(m), "source": "", "outcome": o, "diff": m.diff()} for m, o in results]
        asked.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
