"""What the browser tests do with a notebook in JupyterLab, as a learner would: run all of it, answer an exercise.

With LAB_SCREENSHOTS set to a folder, light and dark pictures of the whole notebooks are kept there.
"""

import os
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import nbformat
import psutil

from tools import screenshots
from tools.build_notebooks import ROOT
from tools.compare_notebooks import exercise_states
from tools.notebook_source import exercises, read_source, solved


@contextmanager
def open_lab(folder, name):
    """JupyterLab on copies of both versions of the notebook, and a page in Chromium."""
    for kind in ("notebooks", "solutions"):
        shutil.copy(ROOT / kind / f"{name}.ipynb", folder / f"{kind}.ipynb")
    with screenshots.jupyterlab(folder) as server, screenshots.browser_page(width=1100) as page:
        yield server, page


def answers(name):
    """The exercise cells of the notebook's source."""
    return [cell for cell in read_source(ROOT / "solutions" / f"{name}.py") if cell.exercise]


def demand_that_run_all_works(lab, name, kind, state):
    """No error, every cell run once and in order, every picture loaded, and every exercise in the state asked for."""
    server, page = lab
    screenshots.open_notebook(page, server, f"{kind}.ipynb")
    screenshots.run_all(page)
    cells = screenshots.cells(page)
    assert errors(cells) == []
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    drawn = sum("image/png" in output.get("data", {}) for cell in code for output in cell["outputs"])
    shown = screenshots.pictures(page)
    assert len(shown) >= drawn > 0
    assert min(min(size) for size in shown) > 0, "a picture did not load"
    ids = exercises(read_source(ROOT / "solutions" / f"{name}.py"))
    assert exercise_states(nbformat.from_dict({"cells": cells})) == dict.fromkeys(ids, state)
    keep_pictures(page, f"{name}-{'stub' if kind == 'notebooks' else 'solved'}")


def demand_that_the_check_tells_wrong_from_right(lab, answer):
    """Write a wrong and then the right answer of an exercise into the stub, and look at what the check's cell says."""
    server, page = lab
    check = answer.id.replace("exercise", "check")
    screenshots.open_notebook(page, server, "notebooks.ipynb")
    screenshots.run_cell(page, "imports")
    right = solved(answer)
    wrong = "\n".join(line if not line.strip().startswith("return ") else
                      line[: len(line) - len(line.lstrip())] + "return 0" for line in right.splitlines())  # fmt: skip
    for source, sign in ((wrong, "✗"), (right, "✓")):
        screenshots.write_cell(page, answer.id, source)
        screenshots.run_cell(page, answer.id)
        screenshots.run_cell(page, check)
        assert below(page, check).strip().startswith(f"{sign} {answer.exercise} "), below(page, check)


def below(page, cell_id):
    """What the reader sees below a cell."""
    index = [cell["id"] for cell in screenshots.cells(page)].index(cell_id)
    return (
        page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").nth(index).locator(".jp-OutputArea").inner_text()
    )


def errors(cells):
    return [
        f"cell {cell['id']!r}: {output['ename']}: {output['evalue']}"
        for cell in cells
        for output in cell.get("outputs", [])
        if output["output_type"] == "error"
    ]


def keep_pictures(page, name):
    folder = os.environ.get("LAB_SCREENSHOTS")
    if not folder:
        return
    for theme in ("light", "dark"):
        screenshots.set_theme(page, theme)
        screenshots.photograph(page, Path(folder) / f"{name}-{theme}.png")
    screenshots.set_theme(page, "light")


def ranks():
    """The worker processes below this one, as `ps` has them: {pid: name}."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name().startswith("rank ") and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process.name()
        except psutil.NoSuchProcess:
            pass
    return found


@contextmanager
def watched_ranks():
    """Look at the processes all the time while the block runs; yields the sets of names seen at one moment."""
    together, ended = set(), threading.Event()

    def look():
        while not ended.wait(0.05):
            together.add(frozenset(ranks().values()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield together
    finally:
        ended.set()
        thread.join()
