"""Build the notebooks from their scripts: `python tools/build_notebooks.py [NN_name …] [--execute | --check]`.

From `solutions/NN_name.py` come `solutions/NN_name.ipynb` (solved) and `notebooks/NN_name.ipynb` (stub: what a
learner opens). Without an option the outputs of cells are kept as far as neither they nor a cell above changed.

    --execute   runs both from top to bottom and stores their outputs; `--twice` does it again and compares bytes
    --check     changes nothing; fails when a notebook is not what its script gives, or was not run in order

What this does not catch: an output that is out of date because a helper changed. `tests/test_notebooks.py` runs
every notebook and compares.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

from helpers.files import replacing
from tools.notebook_source import IGNORE, MAX_LINES, Cell, SourceError, read_source, solved, stub

ROOT = Path(__file__).resolve().parents[1]
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python", "pygments_lexer": "ipython3"}
KEY = "large_model_lab"  # our own entry in a notebook's metadata
WIDGET = "application/vnd.jupyter.widget-view+json"
CELL_TIMEOUT_S = 900


class BuildError(RuntimeError):
    """A notebook cannot be built, or is not what its script gives; the message says where and what to do."""


# --- from script to notebook ---------------------------------------------------------------------------------


def scripts(root: Path, names: Sequence[str] = ()) -> list[Path]:
    """The scripts called `names` under `root/solutions`, or all of them. Raises BuildError for an unknown name."""
    found = {path.stem: path for path in sorted((root / "solutions").glob("*.py"))}
    wanted = [Path(name).stem for name in names] or list(found)
    for name in wanted:
        if name not in found:
            raise BuildError(f"no script solutions/{name}.py; there are: {', '.join(found) or 'none'}")
    if not wanted:
        raise BuildError(f"no script in {root / 'solutions'}")
    return [found[name] for name in wanted]


def targets(root: Path, script: Path) -> dict[str, Path]:
    """The two notebooks of a script: `{"solved": solutions/x.ipynb, "stub": notebooks/x.ipynb}`."""
    return {
        "solved": root / "solutions" / f"{script.stem}.ipynb",
        "stub": root / "notebooks" / f"{script.stem}.ipynb",
    }


def make(cells: Sequence[Cell], kind: str) -> NotebookNode:
    """The notebook without outputs; `kind` is "solved" or "stub"."""
    notebook = nbformat.v4.new_notebook()
    notebook.nbformat_minor = 5
    for cell in cells:
        source = solved(cell) if kind == "solved" else stub(cell)
        if source is None:
            continue
        new = nbformat.v4.new_markdown_cell if cell.kind == "markdown" else nbformat.v4.new_code_cell
        made = new(source, id=cell.id)
        if cell.tags:
            made.metadata["tags"] = list(cell.tags)
        notebook.cells.append(made)
    notebook.metadata = nbformat.from_dict(_metadata(cells[0].path, kind))
    return notebook


def _metadata(script: Path, kind: str) -> dict[str, Any]:
    return {"kernelspec": dict(KERNEL), "language_info": dict(LANGUAGE), KEY: {"source": script.name, "kind": kind}}


def serialise(notebook: NotebookNode) -> str:
    """The one way in which these notebooks are written as text."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n"


def write(path: Path, text: str) -> None:
    """Write the whole file or nothing: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


# --- outputs -------------------------------------------------------------------------------------------------


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that a kernel runs."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def clean_outputs(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """Outputs as they are stored: stream chunks joined, and no widget (a progress bar is nothing to read later)."""
    kept: list[NotebookNode] = []
    for raw in outputs:
        output = nbformat.from_dict(json.loads(json.dumps(raw)))
        if WIDGET in output.get("data", {}):
            del output["data"][WIDGET]
            if set(output["data"]) <= {"text/plain"}:
                continue
        last = kept[-1] if kept else None
        if output.output_type == "stream" and last and last.output_type == "stream" and last.name == output.name:
            last.text += output.text
        else:
            kept.append(output)
    return kept


def digest(notebook: NotebookNode) -> str:
    """Changes when a code cell or an output does: shows that the outputs belong to these sources."""
    told = [[c.id, c.source, c.execution_count, c.outputs] for c in code_cells(notebook)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def carry_over(made: NotebookNode, path: Path) -> None:
    """Take outputs from the notebook at `path` for the cells up to the first whose code changed."""
    try:
        old = nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError):
        return
    before = code_cells(old)
    for n, cell in enumerate(code_cells(made)):
        if n >= len(before) or (before[n].get("id"), before[n].source) != (cell.id, cell.source):
            return
        cell.outputs, cell.execution_count = before[n].outputs, before[n].execution_count
    if len(before) == len(code_cells(made)) and "executed" in old.metadata.get(KEY, {}):
        made.metadata[KEY]["executed"] = old.metadata[KEY]["executed"]


# --- running -------------------------------------------------------------------------------------------------


@contextmanager
def kernel_environment() -> Iterator[dict[str, str]]:
    """Variables under which a notebook runs the same on every machine, and leaves the learner's own log alone."""
    with tempfile.TemporaryDirectory(prefix="lab-", ignore_cleanup_errors=True) as folder:
        changed = {
            "LAB_HOME": str(Path(folder) / "home"),
            "IPYTHONDIR": str(Path(folder) / "ipython"),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "PYTHONHASHSEED": "0",
            # sums in one order on every machine; and two busy kernels with two threads each wait for one another
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",
            "LINES": "40",
        }
        unwanted = {"FORCE_COLOR", "CLICOLOR_FORCE", "MATPLOTLIBRC", "PYTHONWARNINGS"}
        yield {k: v for k, v in os.environ.items() if k not in unwanted} | changed


def execute(notebook: NotebookNode, path: Path, *, progress: bool = True) -> None:
    """Run the cells in a fresh kernel in the folder of `path`, storing outputs in `notebook`.

    Raises BuildError naming the notebook, the cell and the error.
    """
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name=KERNEL["name"],
        store_widget_state=False,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    where = f"{path.parent.name}/{path.name}"
    metadata = json.loads(json.dumps(notebook.metadata))
    path.parent.mkdir(parents=True, exist_ok=True)
    with kernel_environment() as env, client.setup_kernel(env=env):
        bar = tqdm(notebook.cells, desc=where, unit="cell", disable=not progress, mininterval=1)
        for n, cell in enumerate(bar):
            bar.set_postfix_str(cell.id, refresh=False)
            try:
                client.execute_cell(cell, n)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as problem:
                raise BuildError(failure(where, cell, problem)) from None
    for cell in code_cells(notebook):
        cell.outputs = clean_outputs(cell.outputs)
        cell.metadata.pop("execution", None)
    notebook.metadata = nbformat.from_dict(metadata)


def failure(where: str, cell: NotebookNode, problem: Exception) -> str:
    """One paragraph about a failed cell: notebook, cell, the line that failed, the error."""
    if not isinstance(problem, CellExecutionError):
        return f"{where}: cell {cell.id!r}: {type(problem).__name__}: {str(problem).strip().splitlines()[0]}"
    line = failed_line(str(problem))
    return f"{where}: cell {cell.id!r} fails{f' at `{line}`' if line else ''}: {problem.ename}: {problem.evalue}"


def failed_line(traceback: str) -> str:
    """The first line that IPython's traceback points at: the notebook's own."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", traceback)
    arrow = re.search(r"^-+> *\d+ (.*)$", plain, re.MULTILINE)
    return arrow[1].strip() if arrow else ""


_UNFIT = (
    ("a warning", re.compile(r"\b[A-Z]\w+Warning: .*")),
    ("a path in the temporary folder", re.compile(r"(?<![\w.])/(?:tmp|var/folders)/\S*")),
    ("a path in somebody's home", re.compile(r"(?<![\w./])/(?:root|(?:home|Users)/\w+)/\S*")),
    ("a memory address", re.compile(r"\bat 0x[0-9a-fA-F]{6,}")),
    ("a timing", re.compile(r"Wall time:.*|CPU times:.*|\d+(?:\.\d+)?(?:it/s|s/it)\b.*")),
)


def unfit(notebook: NotebookNode, root: Path) -> list[str]:
    """What in the outputs would be different, or wrong, on another machine; one line each."""
    here = {str(root), str(Path.home()), sys.prefix, sys.base_prefix, tempfile.gettempdir()} - {"/", "/usr", ""}
    either = "|".join(re.escape(p) for p in sorted(here, key=len, reverse=True))
    paths = re.compile(rf"(?<![\w./])(?:{either})(?![\w-])\S*")
    rules = (*_UNFIT, ("a path of this machine", paths))
    found = []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            found += [f"cell {cell.id!r}: {text}" for text in _unfit_output(output, rules)]
    return found


def _unfit_output(output: NotebookNode, rules: Sequence[tuple[str, re.Pattern[str]]]) -> Iterator[str]:
    if output.output_type == "error":
        yield f"an error: {output.ename}: {output.evalue}"
    elif output.output_type == "stream" and output.name == "stderr":
        yield f"stderr: {output.text.strip()[:200]}"
    else:
        texts = [output.text] if output.output_type == "stream" else list(_texts(output))
        for text in texts:
            for what, pattern in rules:
                match = pattern.search(text)
                if match:
                    yield f"{what}: {match[0][:200]}"


def _texts(output: NotebookNode) -> Iterator[str]:
    for mime, value in output.get("data", {}).items():
        if mime.startswith("text/") or mime.endswith(("+xml", "json")):
            yield value if isinstance(value, str) else json.dumps(value)


# --- the three uses ------------------------------------------------------------------------------------------


def build(root: Path, script: Path, *, run: bool = False, progress: bool = True, max_lines: int = MAX_LINES) -> None:
    """Write both notebooks of a script; nothing is written when either cannot be built."""
    texts = _texts_of(root, script, run=run, progress=progress, max_lines=max_lines)
    for path, text in texts.items():
        write(path, text)


def _texts_of(root: Path, script: Path, *, run: bool, progress: bool, max_lines: int) -> dict[Path, str]:
    cells = read_source(script, max_lines=max_lines)
    texts, problems = {}, []
    for kind, path in targets(root, script).items():
        notebook = make(cells, kind)
        if run:
            execute(notebook, path, progress=progress)
            where = f"{path.parent.name}/{path.name}"
            problems += [f"{where}: {text} (not written)" for text in unfit(notebook, root)]
            notebook.metadata[KEY]["executed"] = digest(notebook)
        else:
            carry_over(notebook, path)
        texts[path] = serialise(notebook)
    if problems:
        raise BuildError("\n".join(problems))
    return texts


def compare_twice(root: Path, script: Path, *, progress: bool = True, max_lines: int = MAX_LINES) -> None:
    """Run a script's notebooks again; raises BuildError naming the cells that came out differently."""
    again = _texts_of(root, script, run=True, progress=progress, max_lines=max_lines)
    for path, text in again.items():
        first = path.read_text(encoding="utf-8")
        before, after = _steady(first), _steady(text)
        if before != after if IGNORE in text else first != text:
            pairs = zip(before["cells"], after["cells"], strict=True)
            changed = ", ".join(a["id"] for a, b in pairs if a != b) or "(metadata)"
            raise BuildError(f"{path.parent.name}/{path.name}: a second run gives other bytes in: {changed}")


def _steady(text: str) -> dict:
    """The notebook without the outputs that are known to depend on the machine: a measured time, a process number."""
    notebook = json.loads(text)
    notebook["metadata"][KEY].pop("executed", None)  # the digest counts those outputs too
    for cell in notebook["cells"]:
        if IGNORE in cell["metadata"].get("tags", []):
            cell["outputs"] = []
    return notebook


def check(root: Path, script: Path, *, max_lines: int = MAX_LINES) -> list[str]:
    """What is wrong with the committed notebooks of a script; empty when they are what it gives."""
    cells = read_source(script, max_lines=max_lines)
    found = []
    for kind, path in targets(root, script).items():
        found += [f"{path.parent.name}/{path.name}: {text}" for text in _differences(make(cells, kind), path)]
    return found


REBUILD = "run `make notebooks`"


def _differences(made: NotebookNode, path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text)
    except OSError:
        yield f"not there: {REBUILD}"
        return
    except ValueError as problem:
        yield f"no notebook ({problem}): {REBUILD}"
        return
    if (raw.get("nbformat"), raw.get("nbformat_minor")) != (4, 5):
        yield f"format {raw.get('nbformat')}.{raw.get('nbformat_minor')}, not 4.5: {REBUILD}"
        return
    # nbformat would give such a cell an id while reading
    without = [n for n, cell in enumerate(raw.get("cells", []), 1) if not cell.get("id")]
    if without:
        yield f"cell {without[0]} has no id: {REBUILD}"
        return
    there = nbformat.reads(text, as_version=nbformat.NO_CONVERT)
    differences = [*_different_cells(made, there), *_different_metadata(made, there)]
    yield from differences or _different_outputs(there)
    if not differences and text != serialise(there):
        yield f"written by another program: {REBUILD}"


def _different_cells(made: NotebookNode, there: NotebookNode) -> Iterator[str]:
    wanted, got = [c.id for c in made.cells], [c.id for c in there.cells]
    if wanted != got:
        missing = [f"missing {i!r}" for i in wanted if i not in got]
        extra = [f"unknown {i!r}" for i in got if i not in wanted]
        told = ", ".join(missing + extra) or "in another order"
        yield f"its cells are not those of the script ({told}): edit the script, then {REBUILD}"
        return
    for new, old in zip(made.cells, there.cells, strict=True):
        if new.cell_type != old.cell_type:
            yield f"cell {new.id!r} is {old.cell_type} here and {new.cell_type} in the script: {REBUILD}"
        elif new.source != old.source:
            line = _first_difference(new.source, old.source)
            yield f"cell {new.id!r} differs from the script at {line}: edit the script, then {REBUILD}"
        if new.metadata != old.metadata:
            yield f"cell {new.id!r} has metadata {dict(old.metadata)}, the script gives {dict(new.metadata)}: {REBUILD}"
        if old.get("attachments"):
            yield f"cell {new.id!r} has attachments: {REBUILD}"


def _first_difference(wanted: str, got: str) -> str:
    first, second = wanted.splitlines(), got.splitlines()
    for n in range(max(len(first), len(second))):
        a = first[n] if n < len(first) else "(nothing)"
        b = second[n] if n < len(second) else "(nothing)"
        if a != b:
            return f"line {n + 1} (script {a.strip()[:60]!r}, notebook {b.strip()[:60]!r})"
    return "its line ends"


def _different_metadata(made: NotebookNode, there: NotebookNode) -> Iterator[str]:
    old = json.loads(json.dumps(there.metadata))
    if isinstance(old.get(KEY), dict):
        old[KEY].pop("executed", None)
    if old != json.loads(json.dumps(made.metadata)):
        keys = sorted(k for k in {*old, *made.metadata} if old.get(k) != made.metadata.get(k))
        yield f"other notebook metadata ({', '.join(keys)}): {REBUILD}"


def _different_outputs(there: NotebookNode) -> Iterator[str]:
    ran = code_cells(there)
    for n, cell in enumerate(ran, 1):
        if cell.execution_count is None:
            yield f"cell {cell.id!r} was not executed: {REBUILD}"
            return
        if cell.execution_count != n:
            yield f"cell {cell.id!r} was executed out of order, as [{cell.execution_count}], not [{n}]: {REBUILD}"
            return
    if ran and not any(cell.outputs for cell in ran):
        yield f"no outputs: {REBUILD}"
    elif there.metadata[KEY].get("executed") != digest(there):
        yield f"stale outputs: they were edited, or come from other code than this: {REBUILD}"


def orphans(root: Path) -> list[str]:
    """Notebooks that no script gives."""
    known = {path.stem for path in (root / "solutions").glob("*.py")}
    folders = [root / "notebooks", root / "solutions"]
    found = [path for folder in folders for path in sorted(folder.glob("*.ipynb")) if path.stem not in known]
    return [f"{p.parent.name}/{p.name}: no script solutions/{p.stem}.py gives this notebook" for p in found]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; gives the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NN_name", help="which notebooks (default: all)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--execute", action="store_true", help="run the notebooks and store their outputs")
    mode.add_argument("--check", action="store_true", help="change nothing, fail when a notebook is out of date")
    parser.add_argument("--twice", action="store_true", help="with --execute: run again and compare the bytes")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder with solutions/ and notebooks/")
    parser.add_argument("--max-lines", type=int, default=MAX_LINES, help="longest cell, in lines of code")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(argv)
    if args.twice and not args.execute:
        parser.error("--twice goes with --execute")
    try:
        return _run(args)
    except (BuildError, SourceError) as problem:
        print(problem, file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    root = args.root.resolve()
    found = [] if args.names or not args.check else orphans(root)
    for script in scripts(root, args.names):
        if args.check:
            found += check(root, script, max_lines=args.max_lines)
            continue
        build(root, script, run=args.execute, progress=not args.quiet, max_lines=args.max_lines)
        if args.twice:
            compare_twice(root, script, progress=not args.quiet, max_lines=args.max_lines)
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
