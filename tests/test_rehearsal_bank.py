"""The question bank: what is in it, its numbers recomputed, and what a bad file is told."""

import json
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
import rehearsing
import yaml

from helpers.rehearsal import checks, questions
from helpers.rehearsal.questions import FOLDER, BankError, open_bank, read_question, validate
from helpers.rehearsal.schema import AREAS, KINDS, LEVELS, json_schema

ROOT = Path(__file__).resolve().parents[1]
BANK = open_bank(FOLDER)
SEEDS = {
    "data": "如何评估大模型训练数据的质量？在数据来源选择上有哪些常见的问题？",
    "efficiency": "如何优化大模型的训练效率？有哪些常见的加速训练的方法？",
    "overfitting": "如何防止大模型出现过拟合现象？有哪些常见的正则化方法？",
    "inference": "如何优化大模型的推理速度？有哪些常见的加速推理的方法？",
    "interpretability": "如何提升大模型的可解释性？有哪些方法可以帮助理解模型的决策过程？",
}


def test_the_whole_bank_has_no_fault_and_names_only_headings_and_exercises_that_exist():
    assert validate(FOLDER, notebooks=ROOT / "solutions") == []


def test_there_are_a_hundred_questions_and_sixteen_an_area_over_all_kinds_and_levels():
    areas = Counter(head.area for head in BANK.values())
    assert sum(areas.values()) >= 100
    assert set(areas) == set(AREAS)
    assert min(areas.values()) >= 16
    assert {head.kind for head in BANK.values()} == set(KINDS)
    assert {level for head in BANK.values() for level in head.levels} == set(LEVELS)


@pytest.mark.parametrize("area", SEEDS)
def test_the_five_questions_that_are_always_asked_are_there_word_for_word(area):
    found = [BANK.question(name) for name in BANK if name.endswith("-seed") and BANK[name].area == area]
    assert [question.prompt.zh for question in found] == [SEEDS[area]]


@pytest.mark.parametrize("name", list(BANK))
def test_every_number_of_an_answer_is_what_its_formula_gives(name):
    for check in BANK.question(name).check:
        checks.verify(check.model_dump(exclude_defaults=True))


def test_many_answers_have_a_number_that_is_recomputed():
    estimates = [BANK.question(name) for name, head in BANK.items() if head.kind == "estimate"]
    assert [question.id for question in estimates if not question.check] == []


# --- the JSON Schema -----------------------------------------------------------------------------------------


def test_the_committed_json_schema_is_the_one_that_the_models_give():
    committed = json.loads((FOLDER / "question.schema.json").read_text(encoding="utf-8"))
    assert committed == json_schema(), "write it again: python -m tools.question_schema"


def test_another_validator_accepts_the_bank_by_the_json_schema_and_refuses_a_bad_question():
    validator = jsonschema.Draft202012Validator(json_schema())
    for file in questions.files(FOLDER):
        fields = json.loads(json.dumps(yaml.safe_load(file.read_text(encoding="utf-8")), default=str))
        assert [error.message for error in validator.iter_errors(fields)] == [], file.name
    bad = rehearsing.question(kind="essay")
    assert [list(error.path) for error in validator.iter_errors(bad)] == [["kind"]]


# --- what a bad file is told ---------------------------------------------------------------------------------


def without(name):
    fields = rehearsing.question()
    del fields[name]
    return fields


def changed(path, value):
    fields = rehearsing.question()
    part = fields
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    return fields


POINTS, MISTAKES = rehearsing.QUESTION["rubric"], rehearsing.QUESTION["mistakes"]
BAD = {
    "no minutes": (without("minutes"), r"missing above prompt|minutes: Field required"),
    "an unknown field": (rehearsing.question(mood="good"), r":\d+: mood: Extra inputs are not permitted"),
    "an unknown kind": (rehearsing.question(kind="essay"), r":\d+: kind: Input should be 'explain'.*got 'essay'"),
    "no Chinese": (changed(["prompt", "zh"], "What?"), r":\d+: prompt\.zh: .*no Chinese character"),
    "Chinese as English": (changed(["prompt", "en"], "什么？"), r":\d+: prompt\.en: .*Chinese characters"),
    "an empty text": (changed(["hints", 0, "en"], "  "), r":\d+: hints\.0\.en: .*at least 1 character"),
    "a weight of nine": (changed(["rubric", 1, "weight"], 9), r":\d+: rubric\.1\.weight: .*equal to 5, got 9"),
    "words for a number": (rehearsing.question(minutes="four"), r":\d+: minutes: Input should be a .*number.*'four'"),
    "yes for a number": (rehearsing.question(minutes=True), r":\d+: minutes: .*yes or no"),
    "three points": (rehearsing.question(rubric=POINTS[:3]), r":\d+: rubric: List .* at least 4"),
    "no must": (changed(["rubric", 0, "must"], False), r"no rubric point is a must at level junior"),
    "a must too high": (changed(["rubric", 0, "level"], "senior"), r"no rubric point is a must at level junior"),
    "a point above all": (changed(["rubric", 3, "level"], "staff"), r"activations is expected from staff"),
    "a mistake about nothing": (changed(["mistakes", 0, "contradicts"], "nope"), r"contradicts 'nope', which is no"),
    "one mistake": (rehearsing.question(mistakes=MISTAKES[:1]), r":\d+: mistakes: List .* least 2"),
    "the same point twice": (changed(["rubric", 1, "id"], "bytes"), r"the same rubric id twice: bytes"),
    "a follow-up of itself": (changed(["follow_ups", 0, "id"], "some-question"), r"no follow-up of itself"),
    "no point that was missed": (changed(["follow_ups", 0, "when"], "missing"), r"follow_ups\.0: .*needs the point"),
    "no reference": (rehearsing.question(references=[]), r":\d+: references: List .* at least 1"),
    "a bad address": (changed(["references", 0, "address"], "arxiv"), r":\d+: references\.0\.address: .*https://"),
    "a bad date": (changed(["references", 0, "date"], "last year"), r":\d+: references\.0\.date: .*'last year'"),
    "no notebook": (rehearsing.question(notebook=None), r"null only for a start-up question"),
    "another's exercise": (changed(["notebook", "exercise"], "1.2"), r":\d+: notebook: exercise 1\.2 is not one of"),
    "a number nobody says": (changed(["check", 0, "says"], "113 GB"), r"check '113 GB': these words are nowhere"),
    "two ways to compute": (changed(["check", 0, "call"], "training_memory"), r":\d+: check\.0: give either call or"),
    "schema 2": (rehearsing.question(schema=2), r":\d+: schema: Input should be 1, got 2"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_question_is_told_with_file_line_and_field(what, tmp_path):
    fields, expected = BAD[what]
    file = rehearsing.write(tmp_path, fields)
    with pytest.raises(BankError, match=expected) as caught:
        read_question(file)
    assert str(caught.value).startswith("data/some-question.yaml:")


def test_the_line_is_that_of_the_field(tmp_path):
    file = rehearsing.write(tmp_path, changed(["rubric", 1, "weight"], 9))
    with pytest.raises(BankError) as caught:
        read_question(file)
    line = caught.value.problems[0].line
    assert file.read_text().splitlines()[line - 1].strip() == "weight: 9"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"id: [1, 2\nrev: 1\n", r"x\.yaml:2: is not YAML"),
        (b"just words", r"x\.yaml:1: holds no fields"),
        (b"", r"x\.yaml:1: holds no fields"),
        (b"id: \xff\xfe", r"x\.yaml:1: is not UTF-8"),
        (b"id: x\ndate: 2024-02-31\n", r"x\.yaml:1: is not YAML: day"),
    ],
)
def test_a_file_that_is_no_question_is_told_and_the_others_are_still_asked(text, expected, tmp_path):
    rehearsing.write(tmp_path, rehearsing.question())
    (tmp_path / "data" / "x.yaml").write_bytes(text)
    bank = open_bank(tmp_path)
    assert list(bank) == ["some-question"]
    with pytest.raises(BankError, match=expected):
        raise BankError(bank.problems)


def test_an_unreadable_file_is_told(tmp_path):
    rehearsing.write(tmp_path, rehearsing.question())
    (tmp_path / "data" / "x.yaml").mkdir()
    assert str(open_bank(tmp_path).problems[0]) == "data/x.yaml:1: cannot be read: Is a directory"


def test_a_field_given_twice_is_told_because_yaml_takes_the_last_one(tmp_path):
    file = rehearsing.write(tmp_path, rehearsing.question())
    file.write_text(file.read_text().replace("rev: 1\n", "rev: 1\nrev: 2\n"))
    with pytest.raises(BankError, match=r"some-question\.yaml:4: rev: is given twice"):
        read_question(file)


def test_a_head_below_the_prompt_is_told(tmp_path):
    fields = rehearsing.question()
    fields["minutes"] = fields.pop("minutes")
    with pytest.raises(BankError, match="prompt: comes below schema"):
        read_question(rehearsing.write(tmp_path, fields))


def test_a_wrong_file_name_and_a_wrong_folder_are_told(tmp_path):
    file = rehearsing.write(tmp_path, rehearsing.question())
    other = file.rename(file.with_name("another.yaml"))
    with pytest.raises(BankError, match=r"another\.yaml:2: id: 'some-question' is not the file's name"):
        read_question(other)
    (tmp_path / "inference").mkdir()
    with pytest.raises(BankError, match=r"some-question\.yaml:4: area: 'data' is not the folder's name"):
        read_question(other.rename(tmp_path / "inference" / "some-question.yaml"))


def test_an_unknown_follow_up_and_a_dead_end_are_told(tmp_path):
    follow = [{"id": "b", "when": "strong"}]
    prompt = {"en": "Another?", "zh": "另一个？"}
    rehearsing.write(tmp_path, rehearsing.question(follow_ups=[*follow, {"id": "nope", "when": "strong"}]))
    back = [{"id": "some-question", "when": "strong"}]
    rehearsing.write(tmp_path, rehearsing.question(id="b", prompt=prompt, follow_ups=back))
    told = [str(problem) for problem in validate(tmp_path)]
    assert any("follow_ups.1.id: no question 'nope'" in text for text in told)
    assert any("b.yaml" in text and "a dead end" in text for text in told)


def test_the_same_prompt_twice_is_told_even_with_other_punctuation(tmp_path):
    prompt = {"en": "how much memory does Adam need", "zh": "另一个？"}
    rehearsing.write(tmp_path, rehearsing.question(follow_ups=[{"id": "b", "when": "strong"}]))
    back = [{"id": "some-question", "when": "strong"}]
    rehearsing.write(tmp_path, rehearsing.question(id="b", prompt=prompt, follow_ups=back))
    assert any("prompt.en: is the prompt of b too" in str(problem) for problem in validate(tmp_path))


def test_a_heading_and_an_exercise_that_are_not_there_are_told(tmp_path):
    solutions = tmp_path / "solutions"
    solutions.mkdir()
    script = solutions / "02_training_efficiency.py"
    script.write_text('# %% [markdown] id="x"\n# ## A heading\n# ### Exercise 2.6 · Title\n')
    bank = rehearsing.small_bank(tmp_path / "bank")
    assert validate(bank, notebooks=solutions) == []
    script.write_text('# %% [markdown] id="x"\n# ## Another heading\n')
    told = [str(problem) for problem in validate(bank, notebooks=solutions)]
    assert any("notebook.section: 02_training_efficiency has no heading 'A heading'" in text for text in told)
    assert any("notebook.exercise: 02_training_efficiency has no exercise 2.6" in text for text in told)
    script.unlink()
    assert "no notebook 02_training_efficiency" in str(validate(bank, notebooks=solutions)[0])


def test_opening_reads_only_the_heads_so_that_a_broken_body_is_found_when_it_is_asked(tmp_path):
    file = rehearsing.write(tmp_path, changed(["rubric", 1, "weight"], 9))
    rehearsing.write(tmp_path, rehearsing.question(id="b"))
    bank = open_bank(tmp_path)
    assert len(bank) == 2
    assert bank.usable(file.stem) is None
    assert list(bank) == ["b"]
    assert "rubric.1.weight" in str(bank.problems[0])


def test_an_unknown_id_names_the_nearest(tmp_path):
    bank = open_bank(rehearsing.small_bank(tmp_path))
    with pytest.raises(KeyError, match="did you mean data-explain"):
        bank.question("data-explian")


def test_a_bank_without_questions_is_an_error(tmp_path):
    with pytest.raises(BankError, match="no question file"):
        open_bank(tmp_path)
