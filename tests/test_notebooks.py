"""Every notebook runs from top to bottom, and gives what the reader of the committed one sees, pictures included.

Each is executed once, by papermill: set PAPERMILL_KEEP to a folder to keep what came out.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from tools.build_notebooks import ROOT, code_cells, failed_line, kernel_environment, scripts
from tools.compare_notebooks import compare, exercise_states
from tools.notebook_source import exercises, read_source

pytestmark = pytest.mark.notebooks
NOTEBOOKS = sorted(path for folder in ("notebooks", "solutions") for path in (ROOT / folder).glob("*.ipynb"))


def run(path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> nbformat.NotebookNode:
    """Execute a notebook in its own folder; a failing cell ends the test with notebook, cell id, line and error."""
    with kernel_environment() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        try:
            return papermill.execute_notebook(
                path,
                target,
                cwd=path.parent,
                kernel_name="python3",
                progress_bar={"desc": f"{path.parent.name}/{path.name}", "mininterval": 1},
                request_save_on_cell_execute=False,
                autosave_cell_every=0,
                execution_timeout=600,
                extra_arguments=["--log-level=ERROR"],
            )
        except PapermillExecutionError as problem:
            failed = told(path, problem)
    pytest.fail(failed, pytrace=False)


def told(path: Path, problem: PapermillExecutionError) -> str:
    """A failed cell in words: notebook, cell id, the learner's line, the error."""
    cells = code_cells(nbformat.read(path, as_version=4))
    cell = next(cell for n, cell in enumerate(cells, 1) if n == problem.exec_count)
    line = failed_line("\n".join(problem.traceback))
    place = f"{path.parent.name}/{path.name}: cell {cell.id!r} fails"
    return f"{place}{f' at `{line}`' if line else ''}: {problem.ename}: {problem.evalue}"


def kept(path: Path, tmp_path: Path) -> Path:
    folder = Path(os.environ.get("PAPERMILL_KEEP") or tmp_path)
    (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
    return folder / path.parent.name / path.name


def test_there_are_two_notebooks_for_each_script():
    assert len(NOTEBOOKS) == 2 * len(scripts(ROOT)) > 0


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_run_gives_what_is_committed(path, tmp_path, monkeypatch):
    committed = nbformat.read(path, as_version=4)
    fresh = run(path, kept(path, tmp_path), monkeypatch)
    differences = compare(committed, fresh)
    if differences:
        listed = "\n  ".join(differences)
        pytest.fail(f"{path.parent.name}/{path.name} differs from a fresh run:\n  {listed}", pytrace=False)
    assert_every_exercise(path, fresh)


def assert_every_exercise(path: Path, fresh: nbformat.NotebookNode) -> None:
    """The stub has every exercise "not attempted yet", the solved notebook every one passed."""
    wanted = "passed" if path.parent.name == "solutions" else "not attempted yet"
    ids = exercises(read_source(ROOT / "solutions" / f"{path.stem}.py"))
    states = exercise_states(fresh)
    assert states == dict.fromkeys(ids, wanted), f"{len(ids)} exercises, cards say: {states}"


# --- the runner itself ---------------------------------------------------------------------------------------


def written(tmp_path, *sources):
    cells = [nbformat.v4.new_code_cell(s, id=f"cell-{n}", execution_count=n) for n, s in enumerate(sources, 1)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = tmp_path / "notebooks" / "x.ipynb"
    path.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def test_a_failing_notebook_is_told_with_its_cell_and_line(tmp_path, monkeypatch):
    path = written(tmp_path, "import os", "def half(n):\n    return n / 0\n\nprint('a')\nhalf(1)")
    message = "notebooks/x.ipynb: cell 'cell-2' fails at `half(1)`: ZeroDivisionError: division by zero"
    with pytest.raises(pytest.fail.Exception, match=f"^{re.escape(message)}$"):
        run(path, tmp_path / "out.ipynb", monkeypatch)


def test_a_run_leaves_the_learners_log_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_HOME", "mine")
    fresh = run(written(tmp_path, "import os; print(os.environ['LAB_HOME'])"), tmp_path / "out.ipynb", monkeypatch)
    assert fresh.cells[0].outputs[0].text.strip() not in ("", "mine")


@pytest.mark.parametrize(("text", "failures"), [("a\n", 0), ("b\n", 1)], ids=["as it was", "tampered with"])
def test_nbval_sees_what_changed_and_nothing_else(tmp_path, text, failures):
    """A closing semicolon and a progress bar are no difference; another text is."""
    path = written(tmp_path, "print('a')", "[1, 2];", "from tqdm.auto import tqdm\nfor n in tqdm(range(2)):\n    pass")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text=text)]
    nbformat.write(notebook, path)
    shutil.copy(ROOT / "conftest.py", tmp_path)
    rules = ROOT / "tests" / "nbval_sanitise.cfg"
    options = [f"--rootdir={tmp_path}", "-q", "-p", "no:cacheprovider", "--nbval", "--nbval-sanitize-with", str(rules)]
    command = [sys.executable, "-m", "pytest", *options, "notebooks"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    summary = done.stdout.strip().splitlines()[-1]
    assert re.match(f"{failures} failed, 2 passed" if failures else "3 passed", summary), done.stdout
