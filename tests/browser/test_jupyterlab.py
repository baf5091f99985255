"""What a learner does: open notebook 01 in JupyterLab, Run All, look at the pictures, write an answer.

In a real Chromium. With LAB_SCREENSHOTS set to a folder, light and dark pictures of the whole notebooks are kept there.
"""

import os
import shutil
from pathlib import Path

import nbformat
import pytest

from tools import screenshots
from tools.build_notebooks import ROOT
from tools.compare_notebooks import exercise_states
from tools.notebook_source import exercises, read_source, solved

pytestmark = [pytest.mark.browser, pytest.mark.notebooks, pytest.mark.timeout(1200)]
NAME = "01_training_data"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on copies of both versions of the notebook, and a page in Chromium."""
    folder = tmp_path_factory.mktemp("course")
    for kind in ("notebooks", "solutions"):
        shutil.copy(ROOT / kind / f"{NAME}.ipynb", folder / f"{kind}.ipynb")
    with screenshots.jupyterlab(folder) as server, screenshots.browser_page(width=1100) as page:
        yield server, page


def keep_pictures(page, name):
    folder = os.environ.get("LAB_SCREENSHOTS")
    if not folder:
        return
    for theme in ("light", "dark"):
        screenshots.set_theme(page, theme)
        screenshots.photograph(page, Path(folder) / f"{name}-{theme}.png")
    screenshots.set_theme(page, "light")


def errors(cells):
    return [
        f"cell {cell['id']!r}: {output['ename']}: {output['evalue']}"
        for cell in cells
        for output in cell.get("outputs", [])
        if output["output_type"] == "error"
    ]


@pytest.mark.parametrize(("kind", "state"), [("notebooks", "not attempted yet"), ("solutions", "passed")])
def test_run_all_ends_without_an_error_and_shows_every_picture(lab, kind, state):
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
    ids = exercises(read_source(ROOT / "solutions" / f"{NAME}.py"))
    assert exercise_states(nbformat.from_dict({"cells": cells})) == dict.fromkeys(ids, state)
    keep_pictures(page, f"{NAME}-{'stub' if kind == 'notebooks' else 'solved'}")


def card(page, cell_id):
    """What the reader sees below a cell."""
    index = [cell["id"] for cell in screenshots.cells(page)].index(cell_id)
    return (
        page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").nth(index).locator(".jp-OutputArea").inner_text()
    )


def test_a_learner_is_told_that_an_answer_is_wrong_and_then_that_it_is_right(lab):
    """Depends on the stub having been run by the test above, or runs what the first exercise needs."""
    server, page = lab
    answer = next(c for c in read_source(ROOT / "solutions" / f"{NAME}.py") if c.exercise)
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
        assert card(page, check).strip().startswith(f"{sign} {answer.exercise} "), card(page, check)
