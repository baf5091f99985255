"""The debugging round: marks are sorted into found, missed and fine, and a bad file is named with its field."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.rehearsal.debugging import ROUNDS, read_round

BILL = ROUNDS["training-bill"]
SPLIT = ROUNDS["split-after-scaling"]


def test_there_are_ten_rounds_or_more_with_one_in_every_area_and_two_bugs_in_each():
    assert len(ROUNDS) >= 10
    areas = {one.area for one in ROUNDS.values()}
    assert areas == {"data", "efficiency", "overfitting", "inference", "interpretability", "start-up"}
    assert all(len(one.bugs) >= 2 for one in ROUNDS.values())
    assert next(iter(ROUNDS)) == "duplicates-across-splits"
    with pytest.raises(KeyError):
        ROUNDS["nothing"]


@pytest.mark.parametrize("id", list(ROUNDS))
def test_every_text_is_there_in_both_languages_and_every_name_names_its_bug(id):
    one = ROUNDS[id]
    texts = [one.title, one.story, *(text for bug in one.bugs for text in (bug.name, bug.why, bug.mend))]
    for text in texts[:2] + [bug.name for bug in one.bugs] + [bug.why for bug in one.bugs]:
        assert re.search("[一-鿿]", text.zh), text
        assert not re.search("[一-鿿]", text.en), text
    for bug in one.bugs:
        assert bug.named_by(bug.name.en), bug.id
        assert bug.named_by(bug.name.zh), bug.id
        assert bug.lines
        assert all(word == word.lower() for word in bug.words)


@pytest.mark.parametrize("id", list(ROUNDS))
def test_all_bugs_marked_and_named_are_all_found(id):
    one = ROUNDS[id]
    for language in ("en", "zh"):
        marking = one.mark([(bug.lines[0], bug.name[language]) for bug in one.bugs])
        assert marking.found == one.bugs
        assert not marking.missed
        assert not marking.unnamed
        assert not marking.fine


@pytest.mark.parametrize("id", list(ROUNDS))
def test_the_mended_code_holds_what_each_bug_is_mended_to_and_none_of_what_it_was(id):
    one = ROUNDS[id]
    for bug in one.bugs:
        assert all(old in one.code for old, _ in bug.changes)
        assert one.with_only(bug.id) != one.mended
        compile(one.with_only(bug.id), bug.id, "exec")
    compile(one.mended, id, "exec")
    compile(one.code, id, "exec")
    assert one.with_only(*(bug.id for bug in one.bugs)) == one.code


def test_marks_are_sorted_into_found_unnamed_missed_and_fine():
    marking = BILL.mark({1: "that is the peak with sparsity", 6: "wrong", 7: "eight is wrong"})
    assert [bug.id for bug in marking.found] == ["peak-with-sparsity"]
    assert [bug.id for bug in marking.unnamed] == ["forward-only"]
    assert [bug.id for bug in marking.missed] == ["price-of-a-node-times-gpus"]
    assert [mark.line for mark in marking.fine] == [7]
    assert marking.summary.en == (
        "1 of 3 bugs found, 1 marked but not recognised by its name, 1 missed; nothing is wrong on line 7."
    )
    assert marking.summary.zh == "3 个 bug 找到了 1 个，1 个标对了行但没认出说法，漏了 1 个；第 7 行没有问题。"


def test_nothing_marked_is_all_missed_and_everything_found_says_only_so():
    assert BILL.mark([]).missed == BILL.bugs
    assert BILL.mark([]).summary.en == "0 of 3 bugs found, 3 missed."
    done = BILL.mark([(1, "sparsity"), (6, "6ND"), (10, "price per node")])
    assert done.summary.en == "3 of 3 bugs found."
    assert done.summary.zh == "3 个 bug 找到了 3 个。"


def test_two_bugs_on_one_line_are_told_apart_by_what_is_said():
    # line 8 scales the label and leaks as well
    leak = SPLIT.mark([(8, "fitted on the test rows: a leak")])
    assert [bug.id for bug in leak.found] == ["fitted-before-the-split"]
    assert "target-scaled" in [bug.id for bug in leak.missed]
    both = SPLIT.mark([(8, "leak"), (8, "the label is scaled too")])
    assert [bug.id for bug in both.found] == ["fitted-before-the-split", "target-scaled"]
    silent = SPLIT.mark([(8, "")])
    assert [bug.id for bug in silent.unnamed] == ["fitted-before-the-split", "target-scaled"]


def test_a_bug_may_be_named_at_another_marked_line_but_its_own_must_be_marked():
    assert [bug.id for bug in BILL.mark([(1, "sparsity, and 2ND is forward only"), (6, "")]).found] == [
        "peak-with-sparsity",
        "forward-only",
    ]
    assert [bug.id for bug in BILL.mark([(1, "sparsity, and 2ND is forward only")]).found] == ["peak-with-sparsity"]


def test_a_short_english_word_must_stand_alone():
    no_eval = ROUNDS["regularised-mlp"].bug("no-eval")
    assert no_eval.named_by("model.EVAL() is missing")
    assert no_eval.named_by("没有切到评估模式")
    assert not no_eval.named_by("medieval code")


@pytest.mark.parametrize(
    ("answers", "error", "message"),
    [
        ([(0, "")], ValueError, "line must be between 1 and 10, got 0"),
        ([(11, "")], ValueError, "line must be between 1 and 10, got 11"),
        ([("3", "")], TypeError, "line must be a whole number, got str '3'"),
        ([(True, "")], TypeError, "line must be a whole number, got bool"),
        ([(3, None)], TypeError, "the name of a bug must be a text, got NoneType at line 3"),
    ],
)
def test_a_wrong_mark_is_named(answers, error, message):
    with pytest.raises(error, match=message):
        BILL.mark(answers)


def test_an_unknown_bug_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"id must be one of peak-with-sparsity, forward-only, .* got 'typo'"):
        BILL.with_only("typo")


@settings(deadline=None)
@given(st.sampled_from(list(ROUNDS)), st.data())
def test_whatever_is_marked_every_bug_is_in_exactly_one_place(id, data):
    one = ROUNDS[id]
    lines = st.integers(1, len(one.code.splitlines()))
    words = st.sampled_from(["", "?", *(word for bug in one.bugs for word in bug.words)])
    marking = one.mark(data.draw(st.lists(st.tuples(lines, words), max_size=8)))
    sorted_bugs = [*marking.found, *marking.unnamed, *marking.missed]
    assert sorted(bug.id for bug in sorted_bugs) == sorted(bug.id for bug in one.bugs)
    assert all(not mark.bugs for mark in marking.fine)


def test_the_numbered_snippet_shows_every_line_with_its_number():
    lines = BILL.numbered.splitlines()
    assert lines[0].startswith("  1  H100_PEAK = 1979e12")
    assert len(lines) == 10


# -------------------------------------------------------------------------------------------------------- files

GOOD = {
    "id": "tiny",
    "area": "data",
    "level": "junior",
    "minutes": 3,
    "title": {"en": "a", "zh": "甲"},
    "story": {"en": "a", "zh": "甲"},
    "code": "x = 1\ny = 2\n",
    "bugs": [
        {
            "id": f"bug-{name}",
            "at": [f"{name} ="],
            "name": {"en": "a", "zh": "甲"},
            "words": ["one", "一"],
            "why": {"en": "a", "zh": "甲"},
            "mend": {"en": "a", "zh": "甲"},
            "change": [{"from": f"{name} = ", "to": f"{name} = 1 + "}],
        }
        for name in ("x", "y")
    ],
}


def written(**changes) -> str:
    return yaml.safe_dump(GOOD | changes, allow_unicode=True)


def bug(**changes) -> list[dict]:
    return [GOOD["bugs"][0] | changes, GOOD["bugs"][1]]


def test_a_good_file_is_read():
    one = read_round(written(), "tiny.yaml")
    assert one.mended == "x = 1 + 1\ny = 1 + 2\n"
    assert [bug.lines for bug in one.bugs] == [(1,), (2,)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "tiny.yaml: not YAML"),
        ("\t- a", "tiny.yaml: not YAML"),
        ("- a", "tiny.yaml: must be a mapping of id, area, .* got list"),
        ("", "tiny.yaml: must be a mapping .* got NoneType"),
        (written(extra=1), r"tiny.yaml: missing \[\], unknown \['extra'\]"),
        (yaml.safe_dump({"id": "tiny"}), r"tiny.yaml: missing \['area', 'bugs'"),
        (written(area="dates"), "tiny.yaml: area must be one of data, .* got 'dates'"),
        (written(level="boss"), "tiny.yaml: level must be one of junior, senior, staff, got 'boss'"),
        (written(minutes=0), "tiny.yaml: minutes must be a whole number of at least 1, got 0"),
        (written(minutes="five"), "tiny.yaml: minutes must be a whole number .* got 'five'"),
        (written(title={"en": "a"}), r"tiny.yaml: title: missing \['zh'\]"),
        (written(story={"en": "a", "zh": " "}), "tiny.yaml: story: both languages must be texts"),
        (written(code=3), "tiny.yaml: code must be a text"),
        (written(bugs=GOOD["bugs"][:1]), "bugs a list of at least two"),
        (written(bugs=[GOOD["bugs"][0]] * 2), "tiny.yaml: bugs have the same id twice"),
        (written(bugs=bug(at=["z ="])), r"tiny.yaml: bugs\[0\].at: must be in one line .* in lines \[\]: 'z ='"),
        (written(bugs=bug(at=["="])), r"tiny.yaml: bugs\[0\].at: must be in one line .* in lines \[1, 2\]: '='"),
        (written(bugs=bug(change=[{"from": "z", "to": ""}])), r"bugs\[0\].change: must be once in the code, found 0"),
        (written(bugs=bug(name={"en": "a", "zh": None})), r"bugs\[0\].name: both languages must be texts"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_the_field(text, message):
    with pytest.raises(ValueError, match=message):
        read_round(text, "tiny.yaml")


def test_a_round_of_one_minute_is_read_and_a_round_stands_in_the_file_of_its_name():
    assert read_round(written(minutes=1), "tiny.yaml").minutes == 1
    folder = files("helpers.rehearsal").joinpath("rounds")
    assert {one.name for one in folder.iterdir()} == {f"{id}.yaml" for id in ROUNDS}


def test_changes_that_undo_each_other_are_noticed():
    overlapping = bug(change=[{"from": "x = 1\ny", "to": "x = 1\nz"}])
    one = read_round(written(bugs=overlapping), "tiny.yaml")
    with pytest.raises(ValueError, match="tiny: the change of bug-y no longer fits: 'y = '"):
        one.mended


def test_the_rounds_load_no_large_library():
    code = (
        "import sys; from helpers.rehearsal.debugging import ROUNDS; len(ROUNDS); "
        "print(sorted({'torch', 'numpy', 'pandas', 'sklearn', 'lime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
