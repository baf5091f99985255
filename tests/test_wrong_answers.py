"""Each check accepts what is right, rejects what is wrong for the right reason, and holds nothing that cannot fail."""

import re
import warnings
from pathlib import Path

import pytest
import wrong_answers as harness

from helpers.exercises import registry
from helpers.exercises.reference import cell, source

EXERCISES = registry.exercises()
WRONG = [a for e in EXERCISES for a in harness.answers(e.id) if a.reason is not None]
RIGHT = [a for e in EXERCISES for a in harness.answers(e.id) if a.reason is None]
SCRIPTS = Path(__file__).parents[1] / "solutions"

each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=[e.id for e in EXERCISES])


@each_exercise
def test_the_reference_passes_whatever_the_seed_and_nothing_warns(exercise):
    for seed in range(10):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            said = harness.verdict(exercise, harness.reference(exercise.id), seed)
        assert said.state == "passed", f"seed {seed}: {said.message}"
        assert [str(w.message) for w in warned] == [], f"seed {seed}: a warning would stand in the solved notebook"


@each_exercise
def test_the_stub_is_not_attempted_and_no_error(exercise):
    assert harness.verdict(exercise, harness.stubs(exercise.id), 0).state == "not attempted"


@each_exercise
def test_a_learner_with_one_part_left_to_write_is_not_told_that_it_is_wrong(exercise):
    written, open_ = harness.reference(exercise.id), harness.stubs(exercise.id)
    for i in range(len(written)):
        said = harness.verdict(exercise, (*written[:i], open_[i], *written[i + 1 :]), 0)
        assert said.state == "not attempted", said.message


@pytest.mark.filterwarnings("ignore")  # a wrong answer may warn as well
@pytest.mark.parametrize("answer", WRONG, ids=repr)
def test_a_wrong_answer_is_rejected_with_its_reason(answer):
    assert harness.complaint(registry.find(answer.exercise), harness.completed(answer), answer.reason) is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("answer", RIGHT, ids=repr)
def test_another_right_answer_is_accepted(answer):
    for seed in harness.SEEDS:
        said = harness.verdict(registry.find(answer.exercise), harness.completed(answer), seed)
        assert said.state == "passed", f"seed {seed}: {said.message}"


@pytest.mark.filterwarnings("ignore")
@each_exercise
def test_every_assertion_of_a_check_is_needed_by_some_wrong_answer(exercise):
    wrongs = [(harness.completed(a), a.reason) for a in WRONG if a.exercise == exercise.id]
    assert harness.spare_assertions(exercise, wrongs) == []


@each_exercise
def test_an_exercise_has_five_wrong_answers_and_three_hints(exercise):
    wrong = [a.names for a in WRONG if a.exercise == exercise.id]
    assert len(wrong) >= 5, f"{exercise.id} has {len(wrong)} wrong answers: {wrong}"
    assert len(set(exercise.hints)) >= 3, f"{exercise.id} has {len(set(exercise.hints))} different hints"


@each_exercise
def test_the_notebook_says_the_same_about_an_exercise_as_its_check(exercise):
    text = source(exercise.id).read_text(encoding="utf-8")
    assert f"### Exercise {exercise.id} · {exercise.title}\n" in text
    line = f'difficulty {exercise.difficulty}/5 · {exercise.minutes} min · asked as: "{exercise.asked_as}"'
    assert line in text, f"{source(exercise.id).name} lacks the line {line}"
    assert exercise.call in cell(source(exercise.id), f"check-{exercise.id.replace('.', '-')}")


def test_every_exercise_of_the_scripts_has_a_check_and_every_check_an_exercise():
    scripts = sorted(SCRIPTS.glob("[0-9][0-9]_*.py"))
    cells = [m for s in scripts for m in re.findall(r'^# %%.*\bid="exercise-(\d+-\d+)"', s.read_text(), re.MULTILINE)]
    assert sorted(name.replace("-", ".") for name in cells) == sorted(e.id for e in EXERCISES)
