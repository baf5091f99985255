"""The harness itself, on checks that are weak on purpose: it must see what a weak check lets through."""

import importlib.util
import sys

import pytest
import wrong_answers as harness

from helpers.exercises import registry
from helpers.exercises.registry import find
from helpers.exercises.trial import Trial

WEAK = """
from helpers.exercises.registry import exercise
from helpers.exercises.trial import Mistake

ABOUT = dict(title="t", difficulty=1, minutes=1, asked_as="?", hints=("a", "b", "c"))


def positive(trial, got):
    trial.that(got > 0, what="a positive sum")


def unused(trial, got):
    trial.that(got > 0, what="nobody calls this")


@exercise("9.1", parts=("total",), **ABOUT)
def check_total(trial, answer):
    x = trial.rng.integers(1, 9, 4)
    with trial.forbid("numpy.cumsum", why="add them up"):
        got = trial.call(answer, x)
    trial.is_type(got, (int, float), what="the sum")
    positive(trial, got)
    trial.close(
        got,
        x.sum(),
        what="the sum",
        mistakes=(Mistake(x.mean(), "this is the mean"),),
    )
    for size in (1, 2):
        y = trial.rng.integers(1, 9, size)
        trial.close(trial.call(answer, y), y.sum(), what="a short list")


@exercise("9.2", parts=("a", "b"), **ABOUT)
def check_nothing(trial, a, b):
    trial.call(a)
    trial.call(b)
"""


@pytest.fixture(autouse=True)
def weak(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "MODULES", {})
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(harness, "ANSWERS", [])
    path = tmp_path / "weak_checks.py"
    path.write_text(WEAK, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("weak_checks", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "weak_checks", module)
    spec.loader.exec_module(module)


def mean(x):
    return float(x.mean())


def as_text(x):
    return str(x.sum())


def right_only_for_four(x):
    return int(x.sum()) if len(x) == 4 else 0


def by_cumsum(x):
    import numpy

    return int(numpy.cumsum(x)[-1])


def negative(x):
    return -int(x.sum())


ALL = [
    ((mean,), "this is the mean"),
    ((as_text,), "the sum: its type"),
    ((right_only_for_four,), "a short list"),
    ((by_cumsum,), "written without"),
    ((negative,), "a positive sum"),
]


def spare(wrongs):
    return harness.spare_assertions(find("9.1"), wrongs)


def test_a_check_whose_assertions_are_all_needed_has_none_to_spare():
    assert spare(ALL) == []


@pytest.mark.parametrize(
    ("left_out", "start", "text"),
    [
        (0, "    trial.close(\n", "trial.close(got, x.sum(), what='the sum'"),
        (1, "    trial.is_type(", "trial.is_type(got, (int, float), what='the sum')"),
        (2, "        trial.close(trial.call", "trial.close(trial.call(answer, y), y.sum(), what='a short list')"),
        (3, "    with trial.forbid", "trial.forbid('numpy.cumsum', why='add them up')"),
        (4, "    trial.that(", "trial.that(got > 0, what='a positive sum')"),
    ],
)
def test_an_assertion_that_no_wrong_answer_needs_is_named_with_its_line(left_out, start, text):
    (found,) = spare(ALL[:left_out] + ALL[left_out + 1 :])
    line = WEAK[: WEAK.index(start)].count("\n") + 1
    assert found.startswith(f"weak_checks.py:{line}: {text}")


def test_without_wrong_answers_every_assertion_is_spare():
    assert len(spare([])) == 5


def test_the_check_itself_stays_whole():
    before = find("9.1")
    spare(ALL)
    assert find("9.1") is before
    assert harness.complaint(before, *ALL[4]) is None


def test_a_wrong_answer_that_is_accepted_is_complained_about():
    assert harness.complaint(find("9.1"), (lambda x: int(x.sum()),), "any") == "passed with seed 0"
    assert harness.complaint(find("9.2"), (lambda: 1, lambda: 2), "any") == "passed with seed 0"


def test_a_wrong_answer_that_is_taken_for_a_stub_is_complained_about():
    assert harness.complaint(find("9.1"), (lambda x: None,), "any") == "not attempted with seed 0"


def test_a_wrong_answer_rejected_for_another_reason_is_complained_about():
    text = harness.complaint(find("9.1"), (as_text,), "this is the mean")
    assert text.startswith("rejected with seed 0, but the message does not match 'this is the mean':\n✗ 9.1 not yet")


def test_every_seed_counts():
    def wrong_on_the_last_seed(x):
        return int(x.sum()) - (x.tolist() == last)

    last = Trial("9.1", 2).rng.integers(1, 9, 4).tolist()
    assert harness.complaint(find("9.1"), (wrong_on_the_last_seed,), "the sum", seeds=(2,)) is None
    assert harness.complaint(find("9.1"), (wrong_on_the_last_seed,), "the sum") == "passed with seed 0"


def test_answers_are_registered_for_their_parts():
    @harness.wrong("9.1", names="mean", reason="mean")
    def any_name(x): ...

    @harness.right("9.2", names="by its name")
    def b(): ...

    @harness.wrong("9.2", part="a", names="by part", reason="r")
    def other(): ...

    harness.wrong("9.2", parts={"a": 1, "b": 2}, names="both", reason="r")
    parts = [(a.exercise, a.names, a.parts, a.reason) for a in harness.ANSWERS]
    assert parts == [
        ("9.1", "mean", {"total": any_name}, "mean"),
        ("9.2", "by its name", {"b": b}, None),
        ("9.2", "by part", {"a": other}, "r"),
        ("9.2", "both", {"a": 1, "b": 2}, "r"),
    ]
    assert harness.completed(harness.ANSWERS[3]) == (1, 2)


def test_a_slip_in_registering_an_answer_is_told():
    def nothing(): ...

    with pytest.raises(ValueError, match=r"say which part of 9\.2 this replaces: a, b"):
        harness.wrong("9.2", names="n", reason="r")(nothing)
    with pytest.raises(ValueError, match=r"9\.2 has no \['c'\]"):
        harness.wrong("9.2", parts={"c": 1}, names="n", reason="r")
    with pytest.raises(ValueError, match="must be a regex"):
        harness.wrong("9.1", names="n", reason="")
    with pytest.raises(ValueError, match=r"there are: 9\.1, 9\.2"):
        harness.wrong("9.3", names="n", reason="r")(nothing)
    harness.wrong("9.1", names="n", reason="r")(nothing)
    with pytest.raises(ValueError, match=r"9\.1 has 'n' already"):
        harness.right("9.1", names="n")(nothing)
