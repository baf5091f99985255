"""In a real Jupyter kernel: each card once, a failure without a wall of traceback, the learner's line quoted."""

import nbformat
import pytest
from nbclient import NotebookClient

SETUP = """
from helpers.exercises import check, hint, predict, progress, registry, solution
from helpers.exercises.registry import exercise
registry.MODULES = {}
@exercise("1.2", parts=("double",), title="Double", difficulty=1, minutes=1, asked_as="?", hints=("a", "b", "c"))
def check_double(trial, answer):
    with trial.forbid("numpy.linalg.eigvalsh", why="write it out"):
        trial.equal(trial.call(answer, [2]), [4], what="twice")
"""
CELLS = {
    "stub": "def double(x):\n    '''To be written.'''\n    raise NotImplementedError\ncheck('1.2', double)",
    "right": "check('1.2', lambda x: [2 * v for v in x])",
    "assigned": "result = check('1.2', lambda x: [2 * v for v in x])",
    "later": "result",
    "wrong": "check('1.2', lambda x: x)",
    "broken": "def double(x):\n    y = 1\n    return x['no']\n\ncheck('1.2', double)",
    "imported": "from numpy.linalg import eigvalsh\ncheck('1.2', lambda x: eigvalsh([x]))",
    "middle": "check('1.2', lambda x: [4])\nNone",
    "others": "hint('1.2'); hint('1.2')\npredict('n', 1, measured=2)",
    "interrupt": "def double(x):\n    raise KeyboardInterrupt\ncheck('1.2', double)",
    "progress": "progress()",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The outputs of each cell, run in one kernel with a record of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(tmp_path_factory.mktemp("home")))
        cells = [nbformat.v4.new_code_cell(source) for source in (SETUP, *CELLS.values())]
        notebook = nbformat.v4.new_notebook(cells=cells)
        NotebookClient(notebook, timeout=60, kernel_name="python3", allow_errors=True).execute()
    assert notebook.cells[0].outputs == []
    return dict(zip(CELLS, (cell.outputs for cell in notebook.cells[1:]), strict=True))


def texts(cell):
    return [output["data"]["text/plain"] for output in cell if output.output_type == "display_data"]


@pytest.mark.parametrize("name", ["right", "assigned", "later", "middle"])
def test_a_passed_card_is_shown_once_with_both_faces(outputs, name):
    (output,) = outputs[name]
    assert output.output_type == "display_data"
    assert set(output["data"]) == {"text/html", "text/plain"}
    assert output["data"]["text/plain"].startswith("✓ 1.2 passed: Double")
    assert "<script" not in output["data"]["text/html"]


def test_a_stub_is_a_card_and_no_error(outputs):
    assert len(outputs["stub"]) == 1
    assert texts(outputs["stub"]) == ['○ 1.2 not attempted yet: Double\n  stuck? `hint("1.2")`']


def test_a_failure_is_a_card_and_an_error_of_one_line(outputs):
    card, error = outputs["wrong"]
    assert texts([card])[0].startswith(
        "✗ 1.2 not yet: twice\n  input     x = [2]\n  expected  4 at [0]\n  got       2 at [0]"
    )
    assert (error.output_type, error.ename) == ("error", "CheckFailed")
    assert error.traceback == ["✗ 1.2 not yet: twice"]
    assert error.evalue == texts([card])[0]


def test_an_exception_quotes_the_line_of_the_cell(outputs):
    text = texts(outputs["broken"])[0]
    assert "TypeError: list indices must be integers or slices, not str, at line 3: return x['no']" in text
    assert len(outputs["broken"][1].traceback) == 1


def test_a_forbidden_function_imported_in_the_notebook_is_found(outputs):
    assert "written without numpy.linalg.eigvalsh" in texts(outputs["imported"])[0]


def test_every_card_of_a_cell_is_shown(outputs):
    heads = [text.split("\n")[0] for text in texts(outputs["others"])]
    assert heads == ["· 1.2 hint 1 of 3", "· 1.2 hint 2 of 3", "· n: a factor of 2 too low"]
    assert len(outputs["others"]) == 3


def test_an_interrupt_stays_an_interrupt(outputs):
    assert [output.ename for output in outputs["interrupt"]] == ["KeyboardInterrupt"]


def test_progress_is_drawn_from_what_happened(outputs):
    (text,) = texts(outputs["progress"])
    assert text.startswith("✓ 1 of 1 exercises passed\n  ✓ 1.2   Double  6 tries   ✓ ✓ ✗ ✗ ✗ ✓ ? ?")
