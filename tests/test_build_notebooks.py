"""A broken script or a notebook changed by hand is refused with the file, the line and the cell that are wrong."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest

from tools import build_notebooks as build
from tools import notebook_source as source

SCRIPT = '''\
# %% [markdown] id="why"
# # A sample

# %% id="imports"
import matplotlib.pyplot as plt
from tqdm.auto import tqdm


def check(exercise, answer):
    try:
        print(exercise, "passed", answer([1.0, 2.0]))
    except NotImplementedError:
        print(exercise, "not attempted yet")


# %% id="parameters" tags=["parameters"]
QUICK = True

# %% id="picture"
for step in tqdm(range(2)):
    print("step", step)
fig, ax = plt.subplots(figsize=(2, 1))
ax.plot([1, 4, 9])
plt.show()

# %% [markdown] id="ask-1-1"
# ### Exercise 1.1 · The mean
# difficulty 1/5 · 3 min · asked as: "What is a mean?"
#
# Write it.

# %% id="exercise-1-1" tags=["exercise"]
LIMIT = 2**31 - 1


def mean(x):
    """The mean of the numbers in `x`."""
    ### BEGIN SOLUTION
    # every number counts once
    return sum(float(v) for v in x) / len(x)
    ### END SOLUTION


# %% id="check-1-1"
check("1.1", mean)

# %% [markdown] id="said-1-1" tags=["solution"]
# The mean is not robust.

# %% id="after"
"the end"
'''
BEGIN, END = "    ### BEGIN SOLUTION\n", "    ### END SOLUTION\n"
ANSWER = "    return sum(float(v) for v in x) / len(x)\n"


@pytest.fixture
def course(tmp_path):
    """An empty course folder with one good script."""
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "01_sample.py").write_text(SCRIPT)
    return tmp_path


@pytest.fixture(scope="module")
def executed_once(tmp_path_factory):
    """The good script built and executed, by the command line, twice."""
    root = tmp_path_factory.mktemp("executed")
    (root / "solutions").mkdir()
    (root / "solutions" / "01_sample.py").write_text(SCRIPT)
    assert build.main(["--root", str(root), "--execute", "--twice", "--quiet"]) == 0
    return root


@pytest.fixture
def executed(executed_once, tmp_path):
    """A copy of the executed course, to be damaged."""
    shutil.copytree(executed_once, tmp_path / "course")
    return tmp_path / "course"


def script_with(root, *changes):
    path = root / "solutions" / "01_sample.py"
    text = SCRIPT
    for old, new in changes:
        assert text.count(old) == 1, f"the test's own change does not fit: {old!r}"
        text = text.replace(old, new)
    path.write_text(text)
    return path


def line_of(path, text):
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def read(path):
    return nbformat.read(path, as_version=4)


def source_of(path, cell_id):
    return next(cell.source for cell in read(path).cells if cell.id == cell_id)


# --- what a good script gives --------------------------------------------------------------------------------


def test_the_stub_has_the_docstring_and_nothing_of_the_answer(course):
    build.main(["--root", str(course)])
    stub = source_of(course / "notebooks" / "01_sample.ipynb", "exercise-1-1")
    assert '"""The mean of the numbers in `x`."""\n    raise NotImplementedError' in stub
    text = (course / "notebooks" / "01_sample.ipynb").read_text()
    for secret in ("sum(", "every number counts", "not robust", "SOLUTION"):
        assert secret not in text


def test_the_solved_notebook_has_the_answer_without_markers(course):
    build.main(["--root", str(course)])
    solved = source_of(course / "solutions" / "01_sample.ipynb", "exercise-1-1")
    assert solved.endswith("    # every number counts once\n" + ANSWER.rstrip())
    assert "SOLUTION" not in (course / "solutions" / "01_sample.ipynb").read_text()


def test_ids_and_metadata_are_the_scripts_and_nothing_else(course):
    build.main(["--root", str(course)])
    notebook = json.loads((course / "notebooks" / "01_sample.ipynb").read_text())
    assert [cell["id"] for cell in notebook["cells"]] == [
        "why", "imports", "parameters", "picture", "ask-1-1", "exercise-1-1", "check-1-1", "after"
    ]  # fmt: skip
    assert [cell["metadata"] for cell in notebook["cells"] if cell["metadata"]] == [
        {"tags": ["parameters"]},
        {"tags": ["exercise"]},
    ]
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


def test_a_jupytext_header_and_magics_do_not_matter(course):
    path = script_with(course, ('"the end"', "# %matplotlib inline\n1"))
    path.write_text("# ---\n# jupyter:\n#   kernelspec:\n#     name: other\n# ---\n\n" + path.read_text())
    assert build.main(["--root", str(course)]) == 0
    notebook = read(course / "notebooks" / "01_sample.ipynb")
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.cells[-1].source == "%matplotlib inline\n1"


# --- broken scripts ------------------------------------------------------------------------------------------

EXERCISE_LINE = '# %% id="exercise-1-1" tags=["exercise"]'
BROKEN = {
    "missing id": ([('# %% id="after"', "# %%")], "# %%\n", "missing id", "(no id)"),
    "missing id of prose": ([('[markdown] id="why"', "[markdown]")], "# %% [markdown]\n", "missing id", "(no id)"),
    "code before the first cell": ([('# %% [markdown] id="why"', 'x = 1\n\n# %% [markdown] id="why"')],
                                   None, "missing id", "(no id)"),
    "duplicate id": ([('id="after"', 'id="picture"')], '"the end"', "duplicate id", "picture"),
    "bad id": ([('id="after"', 'id="after all"')], '"after all"', "an id is 1 to 64", "after all"),
    "unknown tag": ([('id="after"', 'id="after" tags=["hidden"]')], '"after"', "unknown tag 'hidden'", "after"),
    "unknown metadata": ([('id="after"', 'id="after" hidden=true')], '"after"', "unknown cell metadata hidden",
                         "after"),
    "unclosed region": ([(END, "")], BEGIN, "unclosed region", "exercise-1-1"),
    "nested region": ([(ANSWER, BEGIN + ANSWER)], "nested", "nested region", "exercise-1-1"),
    "end without begin": ([(BEGIN, "")], END, "'### END SOLUTION' without '### BEGIN SOLUTION'", "exercise-1-1"),
    "end before begin": ([(BEGIN, END.replace("END", "XXX")), (END, BEGIN), ("### XXX", "### END")],
                         END, "without", "exercise-1-1"),
    "misspelt marker": ([(BEGIN, "    # BEGIN SOLUTION\n")], "# BEGIN", "misspelt marker", "exercise-1-1"),
    "empty region": ([("    # every number counts once\n" + ANSWER, "    pass\n")], BEGIN, "empty region",
                     "exercise-1-1"),
    "region elsewhere": ([('"the end"', '### BEGIN SOLUTION\n"the end"\n### END SOLUTION')], None,
                         "region outside an exercise cell", "after"),
    "region in prose": ([("# The mean is not robust.", "# ### BEGIN SOLUTION")], None,
                        "region outside an exercise cell", "said-1-1"),
    "region in a module": ([('    """The mean of the numbers in `x`."""\n',
                             '    """The mean."""\n    return 0\n\n\nif 1:\n')], None, "leaks the answer",
                           "exercise-1-1"),
    "exercise without region": ([(BEGIN + "    # every number counts once\n" + ANSWER + END, "    return 0\n")],
                                EXERCISE_LINE, "needs a region", "exercise-1-1"),
    "a line of the answer above the region": ([(BEGIN, "    n = len(x)\n" + BEGIN)], "    n = len(x)",
                                              "leaks the answer: mean keeps 'n = len(x)'", "exercise-1-1"),
    "a function without a region": ([("LIMIT = 2**31 - 1", 'def f(x):\n    """Half."""\n    return x / 2')],
                                    "    return x / 2", "leaks the answer: f keeps", "exercise-1-1"),
    "a statement beside the function": ([("LIMIT = 2**31 - 1", "print(mean)")], "print(mean)",
                                        "leaks the answer", "exercise-1-1"),
    "a computed constant": ([("LIMIT = 2**31 - 1", "LIMIT = max(1, 2)")], "LIMIT", "leaks the answer", "exercise-1-1"),
    "no docstring": ([('    """The mean of the numbers in `x`."""\n', "")], "def mean", "no docstring", "exercise-1-1"),
    "the answer in another cell": ([('"the end"', "y = sum( float(v) for v in x ) / len(x)")], None,
                                   "leaks the answer of exercise 1.1", "after"),
    "the answer in prose": ([("# Write it.", "# Write `sum(float(v) for v in x) / len(x)`.")], None,
                            "leaks the answer of exercise 1.1", "ask-1-1"),
    "the answer in the docstring": ([("The mean of the numbers in `x`.", "Is sum(float(v) for v in x) / len(x).")],
                                    None, "leaks the answer", "exercise-1-1"),
    "wrong exercise id": ([("exercise-1-1", "exercise-one")], None, "called exercise-N-M", "exercise-one"),
    "exercise without its tag": ([(EXERCISE_LINE, '# %% id="exercise-1-1"'), (BEGIN, ""), (END, "")], None,
                                 'needs tags=["exercise"]', "exercise-1-1"),
    "exercise and solution": ([('tags=["exercise"]', 'tags=["exercise", "solution"]')], None, "both", "exercise-1-1"),
    "prose tagged as code": ([('id="why"', 'id="why" tags=["parameters"]')], None, "can only be tagged solution",
                             "why"),
    "no heading": ([("### Exercise 1.1 · The mean", "### The mean")], EXERCISE_LINE, "no heading", "exercise-1-1"),
    "no difficulty": ([("difficulty 1/5", "level 1/5")], "ask-1-1", "needs the line 'difficulty", "ask-1-1"),
    "no check": ([('check("1.1", mean)', "mean")], EXERCISE_LINE, "no check cell", "exercise-1-1"),
    "a check of nothing": ([('"the end"', 'check("1.7", mean)')], None, 'check("1.7", …) without', "after"),
    "another notebook's exercise": ([("exercise-1-1", "exercise-2-1"), ("Exercise 1.1", "Exercise 2.1")],
                                    None, "exercise 2.1 in notebook 01", "exercise-2-1"),
    "not Python": ([('"the end"', "if True")], "if True", "not Python", "after"),
    "too long": ([('"the end"', "x = 1\n" * 26)], '"after"', "26 lines of code, at most 25", "after"),
    "empty cell": ([('"the end"', "# nothing here")], '"after"', "empty cell", "after"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_script_is_refused_with_its_place(course, capsys, name):
    changes, place, message, cell = BROKEN[name]
    path = script_with(course, *changes)
    assert build.main(["--root", str(course)]) == 1
    said = capsys.readouterr().err.strip()
    assert message in said
    assert f"cell {cell!r}" in said
    assert said.startswith(f"{path}:")
    if place and name not in ("nested region", "end before begin"):
        lines = [n for n, line in enumerate(path.read_text().splitlines(), 1) if place.rstrip("\n") in line]
        assert int(said[len(str(path)) + 1 :].split(":")[0]) in range(min(lines) - 1, max(lines) + 1)
    assert not (course / "notebooks").exists(), "nothing is written from a broken script"


def test_the_line_of_an_error_is_exact_below_a_header(course, capsys):
    path = script_with(course, (BEGIN, "    n = len(x)\n" + BEGIN))
    path.write_text("# ---\n# jupyter:\n#   jupytext: {}\n# ---\n\n" + path.read_text())
    build.main(["--root", str(course)])
    assert capsys.readouterr().err.startswith(f"{path}:{line_of(path, '    n = len(x)')}: ")


def test_an_empty_script_is_refused(course, capsys):
    (course / "solutions" / "01_sample.py").write_text("")
    assert build.main(["--root", str(course)]) == 1
    assert "no cell" in capsys.readouterr().err


def test_the_broken_version_of_fix_this_code_may_repeat_right_lines(course):
    script_with(
        course,
        ("# # A sample", '# # A sample\n\n# %% [markdown] id="broken-1-1"\n# `sum(float(v) for v in x) / len(x)`'),
    )
    assert build.main(["--root", str(course)]) == 0


def test_common_idioms_are_no_leak(course):
    idiom = "rng = np.random.default_rng(seed)"
    script_with(course, (ANSWER, f"    {idiom}\n{ANSWER}"), ('"the end"', idiom))
    assert build.main(["--root", str(course)]) == 0


def test_an_unknown_name_says_what_there_is(course, capsys):
    assert build.main(["--root", str(course), "02_other"]) == 1
    assert "no script solutions/02_other.py; there are: 01_sample" in capsys.readouterr().err


def test_the_longest_cell_can_be_chosen(course):
    path = script_with(course, ('"the end"', "x = 1\n" * 30))
    with pytest.raises(source.SourceError, match="at most 25"):
        source.read_source(path)
    assert len(source.read_source(path, max_lines=30)) == 9


# --- executed ------------------------------------------------------------------------------------------------


def test_both_are_executed_in_order_and_a_second_run_gives_the_same_bytes(executed):
    for folder, said in (("notebooks", "1.1 not attempted yet"), ("solutions", "1.1 passed 1.5")):
        notebook = read(executed / folder / "01_sample.ipynb")
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
        outputs = {cell.id: cell.outputs for cell in cells}
        assert outputs["check-1-1"][0].text.strip() == said
        assert [o.output_type for o in outputs["picture"]] == ["stream", "display_data"]
        assert "image/png" in outputs["picture"][1].data
    assert build.main(["--root", str(executed), "--check"]) == 0


def test_no_widget_no_timing_no_path_in_what_is_stored(executed):
    for path in executed.rglob("*.ipynb"):
        text = path.read_text()
        for unwanted in ("widget", '"execution":', "iopub", "it/s", str(Path.home()), "/tmp"):
            assert unwanted not in text, unwanted


def test_building_again_keeps_all_outputs(executed):
    before = {path: path.read_bytes() for path in executed.rglob("*.ipynb")}
    assert build.main(["--root", str(executed)]) == 0
    assert {path: path.read_bytes() for path in executed.rglob("*.ipynb")} == before


def test_prose_can_be_changed_without_running_again(executed):
    script_with(executed, ("# # A sample", "# # Another title"))
    assert build.main(["--root", str(executed)]) == 0
    assert build.main(["--root", str(executed), "--check"]) == 0


def test_outputs_below_a_changed_cell_are_cleared(executed, capsys):
    script_with(executed, ('print("step", step)', 'print("stage", step)'))
    assert build.main(["--root", str(executed)]) == 0
    cells = {c.id: c for c in read(executed / "notebooks" / "01_sample.ipynb").cells if c.cell_type == "code"}
    assert cells["imports"].execution_count == 1
    assert cells["parameters"].execution_count == 2
    assert all(cells[name].execution_count is None for name in ("picture", "check-1-1", "after"))
    assert not cells["check-1-1"].outputs
    assert build.main(["--root", str(executed), "--check"]) == 1
    assert "notebooks/01_sample.ipynb: cell 'picture' was not executed" in capsys.readouterr().err


def test_a_failing_cell_is_named_and_nothing_is_written(executed, capsys):
    before = {path: path.read_bytes() for path in executed.rglob("*.ipynb")}
    script_with(executed, ('"the end"', 'values = {}\nvalues["gone"]'))
    assert build.main(["--root", str(executed), "--execute", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert """solutions/01_sample.ipynb: cell 'after' fails at `values["gone"]`: KeyError: 'gone'""" in said
    assert {path: path.read_bytes() for path in executed.rglob("*.ipynb")} == before
    assert not list(executed.rglob(".*")), "no half-written file stays"


def test_a_warning_is_not_written(executed, capsys):
    before = (executed / "notebooks" / "01_sample.ipynb").read_bytes()
    script_with(executed, ('"the end"', 'import warnings\nwarnings.warn("too old")'))
    assert build.main(["--root", str(executed), "--execute", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "solutions/01_sample.ipynb: cell 'after': stderr: " in said
    assert "too old" in said
    assert (executed / "notebooks" / "01_sample.ipynb").read_bytes() == before


def test_outputs_that_differ_from_run_to_run_are_found(executed, capsys):
    script_with(executed, ('"the end"', "import uuid\nprint(uuid.uuid4())"))
    assert build.main(["--root", str(executed), "--execute", "--twice", "--quiet"]) == 1
    assert "solutions/01_sample.ipynb: a second run gives other bytes in: after" in capsys.readouterr().err


def test_an_output_that_is_said_to_depend_on_the_machine_may_differ_and_no_other(executed, capsys):
    measured = '# %% id="measured" tags=["nbval-ignore-output"]\nimport uuid\nprint(uuid.uuid4())\n'
    script = script_with(executed, ('"the end"', f'"the end"\n\n{measured}'))
    assert build.main(["--root", str(executed), "--execute", "--twice", "--quiet"]) == 0, capsys.readouterr().err
    script.write_text(script.read_text() + '\n# %% id="last"\nprint(uuid.uuid4())\n')
    assert build.main(["--root", str(executed), "--execute", "--twice", "--quiet"]) == 1
    assert "solutions/01_sample.ipynb: a second run gives other bytes in: last" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<x>:3: FutureWarning: soon gone", "a warning: FutureWarning: soon gone"),
        ("read /tmp/lab-x/data.csv", "a path in the temporary folder: /tmp/lab-x/data.csv"),
        ("read /home/ada/data.csv", "a path in somebody's home: /home/ada/data.csv"),
        ("read /root/data.csv", "a path in somebody's home: /root/data.csv"),
        ("<function f at 0x7f3a5c1d2e50>", "a memory address: at 0x7f3a5c1d2e50"),
        ("Wall time: 3.2 s", "a timing: Wall time: 3.2 s"),
        ("100%|██| 3/3 [00:01<00:00, 2.04it/s]", "a timing: 2.04it/s]"),
        ("{prefix}/lib/x.py", "a path of this machine: {prefix}/lib/x.py"),
    ],
)
@pytest.mark.parametrize("kind", ["stream", "html"])
def test_what_only_holds_on_this_machine_is_refused(tmp_path, text, message, kind):
    text, message = (t.replace("{prefix}", str(tmp_path)) for t in (text, message))
    if kind == "stream":
        output = nbformat.v4.new_output("stream", text=text)
    else:
        output = nbformat.v4.new_output("display_data", {"text/html": text, "text/plain": "<a table>"})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", id="one", outputs=[output])])
    assert f"cell 'one': {message}" in build.unfit(notebook, tmp_path)


def test_ordinary_results_are_not_refused(tmp_path):
    text = "delay 12.5 min, n/tmp = 3, ratio 1/root, 0x7f, at 3 of 4, wall"
    output = nbformat.v4.new_output("stream", text=text)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", id="one", outputs=[output])])
    assert build.unfit(notebook, tmp_path) == []


# --- notebooks changed by hand -------------------------------------------------------------------------------


def damage(root, change, name="notebooks/01_sample.ipynb"):
    path = root / name
    notebook = json.loads(path.read_text())
    cells = {cell.get("id"): cell for cell in notebook["cells"]}
    change(notebook, cells)
    path.write_text(json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


DAMAGE = {
    "source edited": (lambda nb, c: c["after"].update(source=["'The end'"]),
                      "cell 'after' differs from the script at line 1 (script '\"the end\"', notebook \"'The end'\")"),
    "prose edited": (lambda nb, c: c["why"].update(source=["# Mine"]), "cell 'why' differs from the script at line 1"),
    "id removed": (lambda nb, c: c["picture"].pop("id"), "cell 4 has no id"),
    "id changed": (lambda nb, c: c["after"].update(id="later"), "missing 'after', unknown 'later'"),
    "cell removed": (lambda nb, c: nb["cells"].pop(), "missing 'after'"),
    "cell added": (lambda nb, c: nb["cells"].append({**c["after"], "id": "mine"}), "unknown 'mine'"),
    "cells swapped": (lambda nb, c: nb["cells"].insert(1, nb["cells"].pop(2)), "in another order"),
    "cell's kind": (lambda nb, c: (c["after"].update(cell_type="markdown"), c["after"].pop("outputs"),
                                   c["after"].pop("execution_count")), "is markdown here and code in the script"),
    "tag removed": (lambda nb, c: c["parameters"]["metadata"].clear(), "cell 'parameters' has metadata {}"),
    "metadata added": (lambda nb, c: c["after"]["metadata"].update(collapsed=True), "cell 'after' has metadata"),
    "kernel changed": (lambda nb, c: nb["metadata"]["kernelspec"].update(name="mine"), "metadata (kernelspec)"),
    "old format": (lambda nb, c: nb.update(nbformat_minor=4), "format 4.4, not 4.5"),
    "run again, one cell": (lambda nb, c: c["picture"].update(execution_count=9),
                            "executed out of order, as [9], not [3]"),
    "counts swapped": (lambda nb, c: (c["imports"].update(execution_count=2),
                                      c["parameters"].update(execution_count=1)),
                       "cell 'imports' was executed out of order, as [2], not [1]"),
    "not run": (lambda nb, c: c["after"].update(execution_count=None, outputs=[]), "cell 'after' was not executed"),
    "outputs stripped": (lambda nb, c: [x.update(outputs=[]) for x in nb["cells"] if "outputs" in x], "no outputs"),
    "output edited": (lambda nb, c: c["check-1-1"]["outputs"][0].update(text=["1.1 passed\n"]), "stale outputs"),
    "output removed": (lambda nb, c: c["picture"]["outputs"].pop(), "stale outputs"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_a_notebook_changed_by_hand_is_found(executed, capsys, name):
    change, message = DAMAGE[name]
    damage(executed, change)
    assert build.main(["--root", str(executed), "--check"]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert all(line.startswith("notebooks/01_sample.ipynb: ") for line in said.splitlines())


def test_outputs_that_belong_to_other_code_are_stale(executed, capsys):
    """Somebody changes a line in the script and in both notebooks, and forgets to run them."""
    script_with(executed, ('"the end"', '"no end"'))
    for folder in ("notebooks", "solutions"):
        damage(executed, lambda nb, c: c["after"].update(source=['"no end"']), f"{folder}/01_sample.ipynb")
    assert build.main(["--root", str(executed), "--check"]) == 1
    assert "notebooks/01_sample.ipynb: stale outputs" in capsys.readouterr().err


def test_a_changed_script_without_a_build_is_found(executed, capsys):
    script_with(executed, ("len(x)\n", "max(1, len(x))\n"))
    assert build.main(["--root", str(executed), "--check"]) == 1
    said = capsys.readouterr().err
    assert "solutions/01_sample.ipynb: cell 'exercise-1-1' differs from the script" in said
    assert "notebooks/01_sample.ipynb" not in said, "the stub does not show the answer, so it is still right"


def test_other_bytes_for_the_same_notebook_are_found(executed, capsys):
    path = executed / "notebooks" / "01_sample.ipynb"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2))
    assert build.main(["--root", str(executed), "--check"]) == 1
    assert "written by another program" in capsys.readouterr().err


def test_a_missing_notebook_and_one_without_a_script_are_found(executed, capsys):
    (executed / "notebooks" / "01_sample.ipynb").rename(executed / "notebooks" / "07_old.ipynb")
    assert build.main(["--root", str(executed), "--check"]) == 1
    said = capsys.readouterr().err
    assert "notebooks/01_sample.ipynb: not there" in said
    assert "notebooks/07_old.ipynb: no script solutions/07_old.py" in said


def test_a_file_that_is_no_notebook_is_found(executed, capsys):
    (executed / "notebooks" / "01_sample.ipynb").write_text("<<<<<<< HEAD")
    assert build.main(["--root", str(executed), "--check"]) == 1
    assert "notebooks/01_sample.ipynb: no notebook" in capsys.readouterr().err


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.ipynb"
    path.write_text("old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build.write(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.ipynb"]
