"""A mock interview: its order, its minutes, its follow-ups, resuming it, and the report. The Anki package."""

import random
import re
import sqlite3
import xml.etree.ElementTree as ET
import zipfile
from datetime import timedelta

import pytest
import rehearsing
from rehearsing import NOON, review

from helpers.rehearsal import anki, mock, report, state
from helpers.rehearsal.questions import FOLDER, open_bank
from helpers.rehearsal.sitting import Sitting

REAL = open_bank(FOLDER)


@pytest.fixture
def bank(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    return open_bank(rehearsing.small_bank(tmp_path / "bank"))


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def compose(bank, **options):
    return mock.compose(bank, (), **{"level": "senior", "minutes": 30, "rng": random.Random(3)} | options)


def begin(bank, **options):
    slots = compose(bank, **options)
    return mock.begin(slots, level="senior", minutes=options.get("minutes", 30), language="en")


def reread(held):
    return next(one for one in mock.interviews(state.read()) if one.id == held.id)


def answer(held, bank, slot, ticked, *, seconds=60.0, mistakes=()):
    clock = Clock()
    one = Sitting(bank.question(slot.question), level="senior", mock=held.id, slot=slot.name, clock=clock)
    clock.now = seconds
    one.keep("an answer")
    one.record(ticked, mistakes)
    return reread(held)


ALL = ["bytes", "parts", "zero", "activations"]


# --- the order -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("minutes", [20, 30, 60])
def test_it_goes_from_a_warm_up_over_depth_estimation_and_debugging_to_a_start_up_question(minutes, seed):
    slots = compose(REAL, minutes=minutes, rng=random.Random(seed))
    names = [slot.name for slot in slots]
    heads = [REAL[slot.question] for slot in slots]
    assert names == sorted(names, key=mock.ORDER.index)
    assert names[-1] == "start-up"
    assert heads[-1].area == "start-up"
    assert len({slot.question for slot in slots}) == len(slots)
    assert all("senior" in head.levels for head in heads)
    assert all(head.kind in mock.KINDS[slot.name] for head, slot in zip(heads, slots, strict=True))
    assert 0.5 * minutes <= sum(head.minutes for head in heads) <= 0.8 * minutes
    if minutes >= 30:
        assert {"warm-up", "depth", "estimation", "debugging", "start-up"} <= set(names)


def test_it_keeps_to_its_areas_and_closes_with_a_start_up_question_all_the_same():
    slots = compose(REAL, areas=["inference"])
    assert {REAL[slot.question].area for slot in slots[:-1]} == {"inference"}
    assert REAL[slots[-1].question].area == "start-up"


def test_what_was_asked_least_comes_first(bank):
    asked = [review(name, NOON) for name in bank if not name.endswith("-explain")]
    slots = mock.compose(bank, asked, level="senior", minutes=30, rng=random.Random(0))
    assert all(slot.question.endswith("-explain") for slot in slots if slot.name in ("warm-up", "depth"))


@pytest.mark.parametrize("minutes", [9, 0, -1, 121])
def test_minutes_outside_ten_to_a_hundred_and_twenty_are_refused(bank, minutes):
    with pytest.raises(ValueError, match=f"minutes must be 10 to 120, got {minutes}"):
        compose(bank, minutes=minutes)


def test_a_level_without_questions_is_refused(bank):
    with pytest.raises(ValueError, match="no question for level staff"):
        compose(bank, level="staff")


# --- going through it ----------------------------------------------------------------------------------------


def test_a_follow_up_is_about_what_was_missed_and_only_one_is_asked(bank):
    held = begin(bank)
    first = mock.next_slot(held, bank)
    assert first == held.slots[0]
    held = answer(held, bank, first, ["parts", "zero", "activations"])  # the must is missing
    follow = mock.next_slot(held, bank)
    wanted = [one.id for one in bank.question(first.question).follow_ups if one.point == "bytes"]
    if wanted[0] in [slot.question for slot in held.slots]:
        assert follow == held.slots[1]
    else:
        assert (follow.name, follow.question) == ("follow-up", wanted[0])
        held = answer(held, bank, follow, [])
        assert mock.next_slot(held, bank) == held.slots[1]


@pytest.mark.parametrize("seconds", [30.0, 150.0, 240.0, 400.0])
def test_it_ends_with_the_start_up_question_within_its_minutes_however_slow_one_is(bank, seconds):
    held = begin(bank)
    while (slot := mock.next_slot(held, bank)) is not None:
        held = answer(held, bank, slot, ALL, seconds=seconds)
        assert len(held.reviews) <= 20
    asked = [one for one in held.reviews if one.slot != "follow-up"]
    assert asked[-1].slot == "start-up"
    assert len({one.question for one in held.reviews}) == len(held.reviews)
    assert sum(one.seconds for one in held.reviews) <= 30 * 60 + seconds
    assert len(held.reviews) >= 4


def test_somebody_who_is_quick_gets_more_depth(bank):
    held = begin(bank)
    while (slot := mock.next_slot(held, bank)) is not None:
        held = answer(held, bank, slot, [], seconds=45.0)
    assert sum(one.slot == "depth" for one in held.reviews) > sum(slot.name == "depth" for slot in held.slots)


def test_interrupted_in_the_middle_of_an_answer_it_goes_on_there(bank):
    held = begin(bank)
    held = answer(held, bank, held.slots[0], ALL)
    other = held.slots[2]
    Sitting(bank.question(other.question), mock=held.id, slot=other.name).keep("half of it")
    again = mock.unfinished(state.read())
    assert again.id == held.id
    assert mock.next_slot(again, bank) == other
    resumed = Sitting(bank.question(other.question), mock=held.id, slot=other.name)
    assert resumed.answer == "half of it"


def test_an_answer_of_the_interview_is_not_mixed_up_with_a_daily_one(bank):
    held = begin(bank)
    Sitting(bank.question("data-explain")).keep("a daily answer")
    assert mock.next_slot(held, bank) == held.slots[0]
    sitting = Sitting(bank.question("data-explain"), mock=held.id)
    assert sitting.answer == ""
    sitting.keep("in the interview")
    sitting.record([], [])
    assert Sitting(bank.question("data-explain")).answer == "a daily answer"


def test_an_interview_that_has_ended_is_not_resumed(bank):
    held = begin(bank)
    mock.end(held, "finished")
    assert mock.unfinished(state.read()) is None


# --- the report ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["en", "zh"])
def finished(request, bank, tmp_path):
    slots = compose(bank)
    held = mock.begin(slots, level="senior", minutes=30, language=request.param)
    held = answer(held, bank, slots[0], ALL, seconds=90.0)
    held = answer(held, bank, slots[1], ["bytes"], seconds=400.0, mistakes=["three-times"])
    page = report.write_report(held, bank, tmp_path / "report")
    return held, page


def test_the_report_says_time_points_mistakes_and_what_to_do_next(finished, bank):
    held, page = finished
    first, second = [bank.question(slot.question) for slot in held.slots[:2]]
    question = second
    for text in (page.read_text(encoding="utf-8"), (page.parent / "report.md").read_text(encoding="utf-8")):
        assert f"1.5 / {first.minutes:g}" in text
        assert f"6.7 / {second.minutes:g}" in text
        for point in question.rubric:
            assert point.text.in_(held.language) in text
        assert question.mistakes[0].text.in_(held.language) in text
        assert question.mistakes[0].why.in_(held.language) in text
        assert question.mistakes[1].why.in_(held.language) not in text
        assert f"rehearse show {second.id}" in text
        assert f"rehearse show {first.id}" not in text
        assert "notebooks/02_training_efficiency.ipynb#A-heading" in text
        assert "2.6" in text


def test_the_report_has_a_picture_for_each_area(finished, bank):
    held, page = finished
    areas = {bank[one.question].area for one in held.reviews}
    assert {path.stem for path in page.parent.glob("*.svg")} == areas
    text = (page.parent / "report.md").read_text(encoding="utf-8")
    for area in areas:
        drawn = (page.parent / f"{area}.svg").read_text(encoding="utf-8")
        assert drawn in page.read_text(encoding="utf-8")
        assert f"]({area}.svg)" in text
        blue = [e for e in ET.fromstring(drawn).iter() if e.get("fill") == report.BLUE and e.get("height") == "14"]
        scores = [one.score for one in held.reviews if bank[one.question].area == area]
        assert [float(e.get("width")) for e in blue] == pytest.approx([s * report.BAR_WIDTH for s in scores], abs=0.1)


def test_what_is_in_a_question_cannot_break_the_page(bank, tmp_path):
    fields = rehearsing.question(id="data-explain", prompt={"en": "<script>alert(1)</script> & | ?", "zh": "问<b>"})
    rehearsing.write(tmp_path / "bank", fields)
    bank = open_bank(tmp_path / "bank")
    held = mock.begin([mock.Slot("depth", "data-explain")], level="senior", minutes=30, language="en")
    held = answer(held, bank, held.slots[0], [])
    page = report.write_report(held, bank, tmp_path / "report")
    assert "<script>" not in page.read_text()
    assert "&lt;script&gt;" in page.read_text()
    row = next(line for line in (page.parent / "report.md").read_text().splitlines() if "alert" in line)
    assert "\\|" in row


def test_an_interview_without_an_answer_has_no_report(bank, tmp_path):
    with pytest.raises(ValueError, match="nothing to report"):
        report.write_report(begin(bank), bank, tmp_path)


# --- Anki ----------------------------------------------------------------------------------------------------


def read_package(path):
    """The notes and cards of an .apkg, from its SQLite."""
    with zipfile.ZipFile(path) as archive:
        database = path.with_suffix(".sqlite")
        database.write_bytes(archive.read("collection.anki2"))
    connection = sqlite3.connect(database)
    try:
        notes = connection.execute("SELECT guid, mid, mod, tags, flds, id FROM notes").fetchall()
        cards = connection.execute("SELECT nid, ord, did FROM cards").fetchall()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()
        database.unlink()
    return {note[4].split("\x1f")[0]: note for note in notes}, cards


def test_the_package_holds_every_question_in_both_languages(tmp_path):
    target = tmp_path / "a.apkg"
    assert anki.export(REAL, target) == len(REAL)
    notes, cards = read_package(target)
    assert set(notes) == set(REAL)
    assert len({note[0] for note in notes.values()}) == len(REAL)
    assert sorted((nid, ord) for nid, ord, _ in cards) == sorted((n[5], ord) for n in notes.values() for ord in (0, 1))
    for name in REAL:
        question, fields = REAL.question(name), notes[name][4].split("\x1f")
        plain = [re.sub(r"<[^>]+>", "", field).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
                 for field in fields]  # fmt: skip
        assert plain[1] == question.prompt.en.replace("\n", "")
        assert plain[3] == question.prompt.zh.replace("\n", "")
        for point in question.rubric:
            assert point.text.en.replace("\n", "") in plain[2]
            assert point.text.zh.replace("\n", "") in plain[4]
        assert {f"area::{question.area}", f"kind::{question.kind}"} <= set(notes[name][3].split())
        assert {f"level::{level}" for level in question.levels} <= set(notes[name][3].split())


def test_a_second_export_gives_the_same_bytes(tmp_path, monkeypatch):
    anki.export(REAL, tmp_path / "a.apkg")
    monkeypatch.setattr("time.time", lambda: 2e9)
    anki.export(REAL, tmp_path / "b.apkg")
    assert (tmp_path / "a.apkg").read_bytes() == (tmp_path / "b.apkg").read_bytes()


def test_an_edited_question_is_the_same_note_and_a_raised_rev_is_newer(bank, tmp_path):
    anki.export(bank, tmp_path / "a.apkg")
    for rev in (1, 2):
        fields = rehearsing.question(id="data-explain", prompt={"en": "In other words?", "zh": "换句话说？"}, rev=rev)
        rehearsing.write(tmp_path / "bank", fields)
        anki.export(open_bank(tmp_path / "bank"), tmp_path / f"{rev}.apkg")
    before, after, raised = [read_package(tmp_path / f"{name}.apkg")[0] for name in ("a", "1", "2")]
    assert {name: (note[0], note[1]) for name, note in before.items()} == {
        name: (note[0], note[1]) for name, note in raised.items()}  # fmt: skip
    assert "In other words?" in after["data-explain"][4]
    assert raised["data-explain"][2] > before["data-explain"][2]


def test_a_wrong_ending_is_refused_and_a_full_folder_keeps_the_old_package(bank, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"must end in \.apkg, got 'a\.zip'"):
        anki.export(bank, tmp_path / "a.zip")
    target = tmp_path / "a.apkg"
    anki.export(bank, target)
    before = target.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(anki, "_pack", full)
    with pytest.raises(OSError, match="No space left"):
        anki.export(bank, target)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.glob(".a*")] == []


def test_the_time_of_an_interview_is_kept_in_utc(bank):
    held = begin(bank)
    assert held.begun.utcoffset() == timedelta(0)
