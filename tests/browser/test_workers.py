"""Notebook 02 in JupyterLab: real worker processes while it runs, the stop button, and what it leaves.

In a real Chromium. In a file of its own, so that it runs beside the tests of notebook 01.
"""

import time

import learner
import pytest

from tools import screenshots

pytestmark = [pytest.mark.browser, pytest.mark.notebooks, pytest.mark.timeout(1200)]
NAME = "02_training_efficiency"
LONG = """
def long_work() -> None:
    print("at work", flush=True)
    while True:
        dist.all_reduce(torch.ones(1))


ddp.launch(long_work, 2)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with learner.open_lab(tmp_path_factory.mktemp("course"), NAME) as opened:
        yield opened


@pytest.mark.parametrize(("kind", "state"), [("notebooks", "not attempted yet"), ("solutions", "passed")])
def test_run_all_starts_two_worker_processes_and_ends_without_an_error(lab, kind, state):
    with learner.watched_ranks() as together:
        learner.demand_that_run_all_works(lab, NAME, kind, state)
    assert {"rank 0", "rank 1"} in together
    assert learner.ranks() == {}


def test_a_learner_is_told_that_an_answer_is_wrong_and_then_that_it_is_right(lab):
    """With an exercise whose check starts ranks."""
    learner.demand_that_the_check_tells_wrong_from_right(lab, learner.answers(NAME)[3])


def test_the_stop_button_leaves_no_worker_and_the_next_launch_works(lab):
    server, page = lab
    screenshots.open_notebook(page, server, "notebooks.ipynb")
    screenshots.run_cell(page, "imports")
    screenshots.write_cell(page, "who-am-i", LONG)
    start_cell(page, "who-am-i")
    wait_until(lambda: sorted(learner.ranks().values()) == ["rank 0", "rank 1"] and "at work" in output(page), 60)
    workers = learner.ranks()
    page.click(".jp-NotebookPanel:not(.lm-mod-hidden) [data-command='notebook:interrupt-kernel']")
    wait_until(lambda: not set(workers) & set(learner.ranks()), 60)
    wait_until(lambda: "KeyboardInterrupt" in output(page), 60)

    screenshots.write_cell(page, "who-am-i", "sorted(ddp.launch(dist.get_rank, 2))")
    screenshots.run_cell(page, "who-am-i")
    assert output(page).strip() == "[0, 1]"
    assert learner.ranks() == {}


def start_cell(page, cell_id):
    """Run a cell without waiting for its end."""
    index = [cell["id"] for cell in screenshots.cells(page)].index(cell_id)
    page.evaluate(
        """index => {
            jupyterapp.shell.currentWidget.content.activeCellIndex = index;
            jupyterapp.commands.execute('notebook:run-cell');
        }""",
        index,
    )


def output(page):
    """What the kernel has sent for the cell, as text."""
    (cell,) = (cell for cell in screenshots.cells(page) if cell["id"] == "who-am-i")
    parts = []
    for one in cell["outputs"]:
        text = one.get("text") or one.get("data", {}).get("text/plain") or one.get("ename", "")
        parts.append("".join(text))
    return "".join(parts)


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
