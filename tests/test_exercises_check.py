# ruff: noqa: NPY002 - the global random state that learners use is the point
"""`check` tells passed, not attempted and not yet apart, records them, and leaves the session as it found it."""

import dataclasses
import io
import os
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest

from helpers.exercises import CheckFailed, cards, check, checking, log, registry
from helpers.exercises.checking import Result, judge
from helpers.exercises.registry import Exercise, exercise, exercises, find
from helpers.exercises.trial import Mistake, NotAttempted, Trial

ABOUT = {"title": "Double it", "difficulty": 1, "minutes": 5, "asked_as": "Double?", "hints": ("a", "b", "c")}


@pytest.fixture(autouse=True)
def lab(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(registry, "MODULES", {})
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(checking, "_passed_here", set())

    @exercise("1.2", parts=("double",), **ABOUT)
    def check_double(trial: Trial, answer) -> None:
        x = trial.rng.integers(2, 99, 5)
        trial.close(trial.call(answer, x), 2 * x, what="twice x", mistakes=(Mistake(x, "x came back as it was"),))

    @exercise("1.10", parts=("first", "second"), **ABOUT)
    def check_two(trial: Trial, first, second) -> None:
        trial.equal(trial.call(first), 1, what="first")
        trial.equal(trial.call(second), 2, what="second")


def double(x):
    return 2 * x


def same(x):
    return x


def stub(x):
    """To be written."""
    raise NotImplementedError


def events():
    return [(e.exercise, e.event) for e in log.read().events]


# --- the three states ---------------------------------------------------------------------------------------------


def test_a_right_answer_passes_and_is_recorded(capsys):
    result = check("1.2", double)
    assert isinstance(result, Result)
    assert (result.exercise, result.state, result.passed) == ("1.2", "passed", True)
    assert repr(result) == '✓ 1.2 passed: Double it\n  compare: `solution("1.2")`'
    assert capsys.readouterr().out == repr(result) + "\n"
    assert events() == [("1.2", "pass")]


def test_an_unwritten_answer_is_no_error_and_no_attempt(capsys):
    for answer in (stub, ...):
        result = check("1.2", answer)
        assert (result.state, result.passed) == ("not attempted yet", False)
        assert repr(result) == '○ 1.2 not attempted yet: Double it\n  stuck? `hint("1.2")`'
        assert capsys.readouterr().out == repr(result) + "\n"
    assert events() == []


def test_a_wrong_answer_raises_with_its_mistake_and_is_recorded(capsys):
    with pytest.raises(CheckFailed) as caught:
        check("1.2", same, seed=3)
    lines = str(caught.value).split("\n")
    assert lines[0] == "✗ 1.2 not yet: twice x"
    assert "  usually   x came back as it was" in lines
    assert lines[-1] == '  repeat    check("1.2", double, seed=3)'
    assert capsys.readouterr().out == ""  # the exception says it
    assert events() == [("1.2", "attempt")]
    assert log.read().events[0].detail == "twice x (seed 3)"


def test_the_named_seed_repeats_the_failure_and_another_seed_does_not():
    def input_of(seed):
        with pytest.raises(CheckFailed) as caught:
            check("1.2", same, seed=seed)
        return caught.value.input

    assert input_of(5) == input_of(5) == input_of(np.int64(5))
    assert input_of(5) != input_of(6)
    assert input_of(None) != input_of(None)


def test_outputs_of_passed_and_open_checks_never_change():
    assert {repr(check("1.2", double)) for _ in range(5)} == {repr(check("1.2", double, seed=9))}
    assert len({repr(check("1.2", stub)) for _ in range(5)}) == 1


def test_the_second_part_alone_may_still_be_open():
    result = check("1.10", lambda: 1, stub)
    assert result.state == "not attempted yet"
    assert "still to write: `stub`; stuck?" in repr(result)
    assert check("1.10", lambda: 1, ...).state == "not attempted yet"
    assert "`second`" in repr(check("1.10", lambda: 1, ...))
    assert "still to write: `first`" in repr(check("1.10", stub, stub))
    assert check("1.10", lambda: 1, lambda: 2).passed
    with pytest.raises(CheckFailed, match="not yet: first"):
        check("1.10", lambda: 3, stub)


def test_a_check_that_trips_over_an_odd_answer_tells_the_learner_and_not_a_traceback():
    @exercise("1.3", parts=("f",), **ABOUT)
    def check_f(trial, answer):
        got = trial.call(answer)
        trial.that(got["key"] > 0, what="p")

    with pytest.raises(CheckFailed) as caught:
        check("1.3", lambda: [1])
    assert caught.value.property == "the answer has the form that was asked for"
    assert caught.value.got == "[1]"
    assert "TypeError (list indices must be integers or slices, not str)" in caught.value.mistake
    assert isinstance(caught.value.__cause__, TypeError)


def test_an_interrupt_passes_through_and_is_not_recorded():
    def forever(x):
        raise KeyboardInterrupt

    state = np.random.get_state()[1].tolist()
    with pytest.raises(KeyboardInterrupt):
        check("1.2", forever)
    assert events() == []
    assert np.random.get_state()[1].tolist() == state


# --- what was typed -------------------------------------------------------------------------------------------------


def test_an_unknown_id_lists_the_known_ones_in_their_order():
    with pytest.raises(ValueError, match=r"id '9\.9' is not an exercise; there are: 1\.2, 1\.10$"):
        check("9.9", double)
    for odd in ("", "1", "x", "1.2 ", "²"):
        with pytest.raises(ValueError, match=r"there are: 1\.2, 1\.10"):
            check(odd, double)


def test_a_number_for_an_id_is_refused_since_1_10_is_1_1():
    with pytest.raises(TypeError, match=r'id must be a text such as "1\.1".*got 1\.1'):
        check(1.10, double)


@pytest.mark.parametrize("answers", [(), (double,), (double, double, double)])
def test_the_wrong_number_of_answers_shows_the_line_to_write(answers):
    with pytest.raises(TypeError, match=rf'1\.10 takes 2, got {len(answers)}: check\("1\.10", first, second\)$'):
        check("1.10", *answers)
    assert events() == []


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(ValueError, match="seed must be a whole number from 0"):
        check("1.2", double, seed=seed)
    assert check("1.2", double, seed=0).passed


# --- the session is left as it was ------------------------------------------------------------------------------------


def disturb(x):
    random.seed(1)
    np.random.seed(1)
    np.random.rand(3)
    np.seterr(all="raise")
    warnings.simplefilter("error")
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(1)
    return 2 * x


@pytest.mark.parametrize("fails", [False, True])
def test_random_states_error_handling_and_warning_filters_are_restored(fails):
    random.seed(5)
    np.random.seed(5)
    expected = (random.random(), np.random.rand())
    random.seed(5)
    np.random.seed(5)
    old, filters = np.geterr(), list(warnings.filters)
    answer = (lambda x: disturb(x) / 3) if fails else disturb
    if fails:
        with pytest.raises(CheckFailed):
            check("1.2", answer)
    else:
        check("1.2", answer)
    assert (random.random(), np.random.rand()) == expected
    assert np.geterr() == old
    assert warnings.filters == filters


class FakeTorch:
    """Stands for torch in sys.modules: the calls that are made on it, without its seconds of import."""

    def __init__(self, cuda):
        self.calls = []
        self.cuda = self
        self.has_cuda = cuda

    def is_initialized(self):
        return self.has_cuda

    def get_rng_state(self):
        return "cpu"

    def get_rng_state_all(self):
        return ["gpu 0", "gpu 1"]

    def set_rng_state(self, state):
        self.calls.append(state)

    def set_rng_state_all(self, states):
        self.calls.append(states)

    def manual_seed(self, seed):
        pass

    def is_grad_enabled(self):
        return True

    def get_default_dtype(self):
        return "float32"

    def set_grad_enabled(self, mode):
        assert mode is True

    def set_default_dtype(self, dtype):
        assert dtype == "float32"


@pytest.mark.parametrize(("cuda", "calls"), [(False, ["cpu"]), (True, ["cpu", ["gpu 0", "gpu 1"]])])
def test_the_random_states_of_all_devices_are_restored(monkeypatch, cuda, calls):
    fake = FakeTorch(cuda)
    monkeypatch.setitem(sys.modules, "torch", fake)
    check("1.2", disturb)
    assert fake.calls == calls


def test_torch_s_own_random_state_is_restored():
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    expected = torch.rand(3).tolist()
    torch.manual_seed(5)
    check("1.2", disturb)
    assert torch.rand(3).tolist() == expected


def test_an_answer_that_leaves_gradients_off_does_not_spoil_the_next_one():
    torch = pytest.importorskip("torch")

    def careless(x):
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        return double(x)

    check("1.2", careless)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


def test_judging_alone_neither_records_nor_shows(capsys):
    found = find("1.2")
    assert judge(found, (double,), 0) is None
    with pytest.raises(NotAttempted):
        judge(found, (stub,), 0)
    with pytest.raises(CheckFailed):
        judge(found, (same,), 0)
    assert events() == []
    assert capsys.readouterr().out == ""


# --- a record that cannot be kept -----------------------------------------------------------------------------------


def test_a_log_that_cannot_be_written_costs_one_quiet_line_and_not_the_check(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "file"))
    result = check("1.2", double)
    assert result.passed
    assert repr(result).split("\n")[-1].startswith("  (not recorded: ")
    assert repr(result).count("\n") == 2
    with pytest.raises(CheckFailed) as caught:
        check("1.2", same)
    assert str(caught.value).split("\n")[-1].startswith("  (not recorded: ")


# --- outside a notebook -----------------------------------------------------------------------------------------------

SCRIPT = """
from helpers.exercises import check, registry
from helpers.exercises.registry import exercise
registry.MODULES = {}
@exercise("1.2", parts=("f",), title="T", difficulty=1, minutes=1, asked_as="?", hints=("h",))
def check_f(trial, f):
    trial.equal(trial.call(f), 1, what="one")
"""


def run(code, tmp_path, **env):
    environment = {**os.environ, "LAB_HOME": str(tmp_path), "PYTHONIOENCODING": "utf-8", **env}
    return subprocess.run([sys.executable, "-c", SCRIPT + code], env=environment, capture_output=True, check=False)


def test_a_script_sees_the_text_and_a_failure_ends_it_with_the_message(tmp_path):
    done = run('check("1.2", lambda: 1)\ncheck("1.2", lambda: 2)', tmp_path)
    assert done.stdout.decode() == '✓ 1.2 passed: T\n  compare: `solution("1.2")`\n'
    assert done.returncode == 1
    error = done.stderr.decode()
    assert "CheckFailed: ✗ 1.2 not yet: one" in error
    assert "During handling" not in error
    assert "direct cause" not in error


def test_the_learner_s_own_traceback_is_kept_in_a_terminal(tmp_path):
    error = run('check("1.2", lambda: 1 / 0)', tmp_path).stderr.decode()
    assert "ZeroDivisionError" in error
    assert "direct cause" in error


def test_a_terminal_without_our_signs_gets_the_text_all_the_same(tmp_path):
    done = run('check("1.2", lambda: 1)', tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout == b'? 1.2 passed: T\n  compare: `solution("1.2")`\n'


def test_at_a_prompt_the_card_is_seen_once(tmp_path):
    done = subprocess.run(
        [sys.executable, "-i", "-q"],
        input=(SCRIPT + '\n\ncheck("1.2", lambda: 1)\n').encode(),
        env={**os.environ, "LAB_HOME": str(tmp_path), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode().count("✓ 1.2 passed") == 1


def test_without_a_terminal_encoding_the_text_is_still_written(monkeypatch):
    class Narrow(io.StringIO):
        encoding = None

        def write(self, text):
            if not text.isascii():
                raise UnicodeEncodeError("ascii", text, 0, 1, "narrow")
            return super().write(text)

    out = Narrow()
    monkeypatch.setattr(sys, "stdout", out)
    check("1.2", double)
    assert out.getvalue().startswith("? 1.2 passed")


# --- in IPython (the real kernel is in test_exercises_kernel.py) ------------------------------------------------------


class Shell:
    execution_count = 3


@pytest.fixture
def displayed(monkeypatch):
    import IPython
    from IPython import display as module

    shown = []
    monkeypatch.setattr(IPython, "get_ipython", Shell)
    monkeypatch.setattr(module, "display", lambda data, raw: shown.append(data))
    return shown


def test_in_a_notebook_a_card_is_displayed_once(displayed, monkeypatch, capsys):
    result = check("1.2", double)
    assert [d["text/plain"] for d in displayed] == [repr(result)]
    assert "passed" in displayed[0]["text/html"]
    result._ipython_display_()  # as the last line of the same cell
    assert len(displayed) == 1
    monkeypatch.setattr(Shell, "execution_count", 4)
    result._ipython_display_()  # a later cell asks for it
    assert len(displayed) == 2
    assert capsys.readouterr().out == ""


def test_in_a_notebook_a_failure_is_a_card_and_one_line(displayed):
    with pytest.raises(CheckFailed) as caught:
        check("1.2", same)
    assert [d["text/plain"] for d in displayed] == [str(caught.value)]
    assert caught.value._render_traceback_() == ["✗ 1.2 not yet: twice x"]


def test_a_failure_that_no_card_showed_is_rendered_whole():
    with pytest.raises(CheckFailed) as caught:
        check("1.2", same)
    assert "\n".join(caught.value._render_traceback_()) == str(caught.value)
    assert not cards.in_ipython() or cards.cell_number() is not None


# --- the register ---------------------------------------------------------------------------------------------------


def test_exercises_come_in_the_order_of_their_numbers_and_by_notebook(monkeypatch):
    @exercise("2.1", parts=("f",), **ABOUT)
    def other(trial, f): ...

    assert [e.id for e in exercises()] == ["1.2", "1.10", "2.1"]
    monkeypatch.setattr(registry, "MODULES", {1: "cards", 2: "log"})  # any module that imports
    assert [e.id for e in exercises(1)] == ["1.2", "1.10"]
    assert [e.id for e in exercises(2)] == ["2.1"]
    with pytest.raises(ValueError, match="notebook must be one of 1, 2, got 3"):
        exercises(3)


def test_a_module_of_checks_is_imported_when_its_first_exercise_is_asked_for(monkeypatch):
    imported = []

    def import_module(name):
        imported.append(name)
        if name.endswith(".seventh") and "7.3" not in registry._registered:
            exercise("7.3", parts=("f",), **ABOUT)(lambda trial, f: None)

    monkeypatch.setattr(registry, "MODULES", {7: "seventh", 3: "third"})
    monkeypatch.setattr(registry.importlib, "import_module", import_module)
    find("1.2")
    assert imported == []
    assert find("7.3").id == "7.3"
    assert imported == ["helpers.exercises.seventh"]
    imported.clear()
    registry._registered.pop("7.3")
    assert [e.id for e in exercises(7)] == ["7.3"]
    assert imported == ["helpers.exercises.seventh"]
    exercises()
    assert imported[1:] == ["helpers.exercises.seventh", "helpers.exercises.third"]


def test_a_registered_exercise_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        find("1.2").title = "another"


def test_the_fields_of_an_exercise_must_be_named():
    with pytest.raises(TypeError, match="positional"):
        exercise("3.1", "title")


def test_registering_keeps_the_function_and_its_fields():
    def check_it(trial, f): ...

    assert exercise("3.1", parts=("f", "g"), **ABOUT)(check_it) is check_it
    found = find("3.1")
    assert (found.id, found.title, found.parts, found.difficulty, found.minutes) == (
        "3.1",
        "Double it",
        ("f", "g"),
        1,
        5,
    )
    assert (found.asked_as, found.hints, found.check) == ("Double?", ("a", "b", "c"), check_it)
    assert found.call == 'check("3.1", f, g)'


def test_two_checks_with_one_id_are_refused_but_a_reload_is_not():
    def make(name):
        def check_it(trial, f): ...

        check_it.__qualname__ = name
        return check_it

    exercise("3.1", parts=("f",), **ABOUT)(make("check_it"))
    again = make("check_it")
    exercise("3.1", parts=("f",), **ABOUT)(again)
    assert find("3.1").check is again
    with pytest.raises(ValueError, match=r"exercise 3\.1 is registered twice: .*check_it and .*other"):
        exercise("3.1", parts=("f",), **ABOUT)(make("other"))
    assert find("3.1").check is again


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("id", "1", ValueError),
        ("id", "1.0", ValueError),
        ("id", "01.1", ValueError),
        ("id", "1.1.1", ValueError),
        ("id", 1.1, ValueError),
        ("parts", ("f", ""), TypeError),
        ("parts", "f", TypeError),
        ("parts", (), TypeError),
        ("hints", "a hint", TypeError),
        ("hints", ["a", "b"], TypeError),
        ("hints", ("a", 1), TypeError),
        ("difficulty", 0, ValueError),
        ("difficulty", 6, ValueError),
        ("difficulty", True, ValueError),
        ("minutes", 0, ValueError),
        ("minutes", 2.5, ValueError),
        ("minutes", True, ValueError),
        ("title", " ", ValueError),
        ("title", None, ValueError),
        ("asked_as", "", ValueError),
    ],
)
def test_an_exercise_with_an_odd_field_is_refused_when_it_is_registered(field, value, error):
    fields = {"id": "1.1", "parts": ("f",), "check": print, **ABOUT, field: value}
    with pytest.raises(error, match=field):
        Exercise(**fields)


@pytest.mark.parametrize("difficulty", [1, 5])
def test_the_ends_of_the_scale_are_allowed(difficulty):
    assert Exercise(**{"id": "1.1", "parts": ("f",), "check": print, **ABOUT, "difficulty": difficulty, "minutes": 1})
