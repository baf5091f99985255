"""A notebook whose output changed is noticed, whatever the change; what only the fonts changed is not."""

import base64
import copy
import io

import matplotlib
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tools.compare_notebooks import compare, compare_pictures, exercise_states, sanitise_rules

matplotlib.use("agg")
output = nbformat.v4.new_output


def picture(points=(1, 4, 9), title="It grows", size=(4, 3), *, shift=0.0, transparent=False):
    figure = Figure(figsize=size)
    axes = figure.subplots()
    axes.plot(np.asarray(points) + shift)
    axes.set_title(title)
    axes.set_ylim(0, 10)
    file = io.BytesIO()
    figure.savefig(file, format="png", transparent=transparent)
    return file.getvalue()


def encoded(data):
    return base64.b64encode(data).decode()


@pytest.fixture
def notebook():
    """A notebook with one output of each kind."""
    outputs = {
        "text": [output("stream", text="one\ntwo\n")],
        "table": [output("display_data", {"text/html": "<b>1</b>", "text/plain": "1"})],
        "plot": [
            output("display_data", {"image/png": encoded(picture()), "text/plain": "<Figure size 400x300 with 1 Axes>"})
        ],
        "result": [output("execute_result", {"text/plain": "42"}, execution_count=4)],
        "changing": [output("stream", text="8,420 functions\n")],
        "nothing": [],
    }
    cells = [
        nbformat.v4.new_code_cell(f"{name}()", id=name, outputs=outputs[name], execution_count=n)
        for n, name in enumerate(outputs, 1)
    ]
    cells[4].metadata["tags"] = ["nbval-ignore-output"]
    return nbformat.v4.new_notebook(cells=cells)


def changed(notebook, cell_id, change):
    other = copy.deepcopy(notebook)
    change(next(cell for cell in other.cells if cell.id == cell_id))
    return other


def test_the_same_run_is_no_difference(notebook):
    assert compare(notebook, copy.deepcopy(notebook)) == []


STDERR = output("stream", name="stderr", text="careful\n")
ERROR = output("error", ename="ValueError", evalue="no", traceback=["ValueError: no"])
CHANGES = {
    "text": ("text", lambda c: c.outputs[0].update(text="one\ntvo\n"),
             "stdout differs in line 2: 'two' committed, 'tvo' now"),
    "a line more": ("text", lambda c: c.outputs[0].update(text="one\ntwo\nthree\n"), "differs in line 3"),
    "a blank": ("text", lambda c: c.outputs[0].update(text="one\ntwo \n"), "differs in line 2"),
    "html": ("table", lambda c: c.outputs[0].data.update({"text/html": "<b>2</b>"}), "text/html differs in line 1"),
    "plain twin": ("table", lambda c: c.outputs[0].data.update({"text/plain": "2"}), "text/plain differs"),
    "html removed": ("table", lambda c: c.outputs[0].data.pop("text/html"), "outputs of another kind"),
    "picture": ("plot", lambda c: c.outputs[0].data.update({"image/png": encoded(picture((9, 4, 1)))}), "grey levels"),
    "picture's title": ("plot", lambda c: c.outputs[0].data.update({"image/png": encoded(picture(title="It grew"))}),
                        "grey levels"),
    "picture's size": ("plot", lambda c: c.outputs[0].data.update({"image/png": encoded(picture(size=(4, 4)))}),
                       "400×300 pixels committed, 400×400 now"),
    "picture removed": ("plot", lambda c: c.outputs.clear(), "missing output: display_data image/png text/plain"),
    "result": ("result", lambda c: c.outputs[0].data.update({"text/plain": "43"}), "'42' committed, '43' now"),
    "result is printed": ("result", lambda c: c.update(outputs=[output("stream", text="42")]),
                          "outputs of another kind"),
    "output removed": ("text", lambda c: c.outputs.clear(), "missing output: stdout (1 committed, 0 now)"),
    "output added": ("nothing", lambda c: c.outputs.append(output("stream", text="x")), "extra output: stdout"),
    "a second picture": ("plot", lambda c: c.outputs.append(c.outputs[0]), "extra output: display_data"),
    "stderr": ("text", lambda c: c.outputs.append(STDERR), "extra output: stderr (1 committed, 2 now): careful"),
    "stderr in an ignored cell": ("changing", lambda c: c.outputs.append(STDERR), "extra output: stderr"),
    "ignored cell says nothing": ("changing", lambda c: c.outputs.clear(), "missing output: stdout"),
    "error": ("nothing", lambda c: c.outputs.append(ERROR), "extra output: error"),
    "error in an ignored cell": ("changing", lambda c: c.update(outputs=[ERROR]), "another kind"),
    "order": ("text", lambda c: c.update(execution_count=7), "number [1] is committed, not [7]"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_caught_in_its_cell(notebook, name):
    cell, change, message = CHANGES[name]
    (said,) = compare(notebook, changed(notebook, cell, change))
    assert said.startswith(f"cell {cell!r}: ")
    assert message in said


@pytest.mark.parametrize("name", [name for name in CHANGES if name.endswith(("removed", "added"))])
def test_a_tampered_committed_notebook_is_caught_too(notebook, name):
    cell, change, _ = CHANGES[name]
    assert compare(changed(notebook, cell, change), notebook)


def test_an_error_that_was_committed_stays_an_error(notebook):
    wrong = changed(notebook, "changing", lambda c: c.update(outputs=[ERROR]))
    assert compare(wrong, copy.deepcopy(wrong)) == ["cell 'changing': error ValueError: no"]


def test_a_cell_that_went_missing_is_caught(notebook):
    shorter = copy.deepcopy(notebook)
    shorter.cells.pop()
    assert compare(notebook, shorter) == ["the cells differ: 'nothing' is committed, None was run"]


def test_an_ignored_cell_may_say_something_else(notebook):
    assert compare(notebook, changed(notebook, "changing", lambda c: c.outputs[0].update(text="7 functions\n"))) == []


def test_a_stream_in_pieces_and_a_progress_bar_are_no_difference(notebook):
    pieces = [output("stream", text="one\n"), output("stream", text="two\n")]
    bar = output("display_data", {"text/plain": "0%", "application/vnd.jupyter.widget-view+json": {"model_id": "a"}})
    assert compare(notebook, changed(notebook, "text", lambda c: c.update(outputs=[bar, *pieces]))) == []


def test_names_that_pandas_invents_are_no_difference(notebook):
    def styled(name):
        html = f'<table id="T_{name}"><td id="T_{name}_row0_col0">1</td></table>'
        return changed(notebook, "table", lambda c: c.outputs[0].data.update({"text/html": html}))

    assert compare(styled("1a2b3"), styled("c4d5e")) == []
    assert compare(styled("1a2b3"), notebook)


def test_the_replacements_are_read_from_the_file_that_nbval_reads():
    assert len(sanitise_rules()) == 2


# --- pictures ------------------------------------------------------------------------------------------------


def test_a_picture_equal_to_the_eye_passes():
    assert compare_pictures(picture(), picture(shift=0.005)) is None
    data = np.asarray(Image.open(io.BytesIO(picture())).convert("RGB"), dtype=int)
    noisy = np.clip(data + np.random.default_rng(0).integers(-3, 4, data.shape), 0, 255).astype("uint8")
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, format="png")
    assert compare_pictures(picture(), file.getvalue()) is None


def test_a_transparent_background_counts_as_white():
    assert compare_pictures(picture(), picture(transparent=True)) is None


@pytest.mark.parametrize(
    "other",
    [picture(points=(1, 4, 8)), picture(points=(1, 4, 9, 9)), picture(title="It grows."), picture(points=[])],
    ids=["a point moved", "a point more", "a full stop", "no line"],
)
def test_a_small_change_in_a_picture_is_caught(other):
    assert "grey levels" in compare_pictures(picture(), other)


def test_two_swapped_colours_of_equal_grey_are_told_as_a_limit():
    """Grey levels do not see a change of hue alone; the course's pictures must hold in greyscale anyway."""
    red, green = (Image.new("RGB", (64, 64), colour) for colour in ((117, 0, 0), (0, 60, 0)))
    files = []
    for image in (red, green):
        file = io.BytesIO()
        image.save(file, format="png")
        files.append(file.getvalue())
    assert compare_pictures(*files) is None


# --- counting ------------------------------------------------------------------------------------------------


def test_the_state_of_every_exercise_is_read_from_its_card():
    card = {"text/html": "<div>…</div>", "text/plain": "✓ 1.1 passed: MinHash\n  next 1.2"}
    cells = [
        nbformat.v4.new_code_cell("", outputs=[output("display_data", card)]),
        nbformat.v4.new_code_cell("", outputs=[output("stream", text="○ 1.10 not attempted yet: x\n")]),
        nbformat.v4.new_code_cell("", outputs=[output("stream", text="✗ 1.3 not yet: y\n")]),
        nbformat.v4.new_code_cell("", outputs=[output("stream", text="exercise 1.4 passed\n")]),
    ]
    states = exercise_states(nbformat.v4.new_notebook(cells=cells))
    assert states == {"1.1": "passed", "1.10": "not attempted yet", "1.3": "not yet"}
