"""Pictures carry their numbers and titles, and every one of them appears in a notebook."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import pytest
from nbclient import NotebookClient

from helpers import plots


@pytest.fixture(autouse=True)
def _close() -> object:
    mpl.use("Agg")
    yield
    plt.close("all")


def test_every_bar_carries_its_number_and_a_highlight_is_seen_without_colour() -> None:
    axis = plots.bars({"a": 0.25, "b": 0.5}, title="b is twice a", xlabel="share", highlight=["b"])
    assert [text.get_text() for text in axis.texts] == ["0.25", "0.50"]
    assert [patch.get_hatch() for patch in axis.patches] == [None, "//"]
    assert axis.get_xlabel() == "share"
    assert axis.figure.get_suptitle() == "b is twice a"
    assert axis.yaxis_inverted()  # the first bar is on top


def test_lines_differ_in_colour_and_in_marker() -> None:
    axis = plots.lines({"a": ([1, 2], [1, 4]), "b": ([1, 2], [2, 3])}, title="t", xlabel="n", ylabel="s", log="xy")
    first, second = axis.get_lines()
    assert first.get_color() != second.get_color()
    assert first.get_marker() != second.get_marker()
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    assert axis.get_legend() is not None


def test_the_readers_own_settings_are_left_alone() -> None:
    with mpl.rc_context({"axes.grid": False, "font.size": 31.0}):
        plots.bars({"a": 1.0}, title="t", xlabel="x")
        assert mpl.rcParams["font.size"] == 31.0
        assert mpl.rcParams["axes.grid"] is False


@pytest.mark.parametrize("draw", [lambda: plots.bars({}, xlabel="x"), lambda: plots.panels([])])
def test_nothing_to_draw_is_an_error(draw: object) -> None:
    with pytest.raises(ValueError, match="at least one"):
        draw()  # type: ignore[operator]


def test_the_second_picture_of_a_notebook_appears_too() -> None:
    draw = "from helpers import plots\nplots.bars({'a': 1.0}, title='t', xlabel='x');"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(draw) for _ in range(3)])
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    pictures = [[o.data for o in cell.outputs if "image/png" in o.get("data", {})] for cell in notebook.cells]
    assert [len(found) for found in pictures] == [1, 1, 1]


def test_the_number_of_a_negative_bar_stands_outside_of_it():
    axis = plots.bars({"up": 0.2, "down": -0.4}, xlabel="difference", errors={"up": 0.1, "down": 0.1})
    numbers = {text.get_text(): text for text in axis.texts}
    assert numbers["-0.40"].get_position()[0] < -0.5 and numbers["-0.40"].get_ha() == "right"
    assert numbers["0.20"].get_position()[0] > 0.3
    assert axis.get_xlim()[0] < -0.5
