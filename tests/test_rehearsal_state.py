"""The record of the rehearsal: killed at any moment, two processes, torn lines, old and later schemas, a full disk.

With real processes and real files.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import rehearsing

from helpers.rehearsal import schedule, state
from helpers.rehearsal.questions import open_bank
from helpers.rehearsal.sitting import Sitting, undo

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAB_BANK", str(rehearsing.small_bank(tmp_path / "bank")))
    return tmp_path / "home"


def python(source, *arguments, **options):
    command = [sys.executable, "-c", source, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)


def answered(name="data-explain", text="16 bytes.", ticked=("bytes",), **options):
    sitting = Sitting(open_bank().question(name), **options)
    sitting.keep(text)
    return sitting.record(ticked, ())


# --- what is written is there --------------------------------------------------------------------------------


def test_an_answer_and_what_was_decided_are_read_back_whole(home):
    answered(text="每个参数 16 字节。\nSecond line.", language="zh", level="senior")
    (review,) = state.read().reviews
    assert (review.question, review.rev, review.language, review.level) == ("data-explain", 1, "zh", "senior")
    assert (review.answer, review.ticked) == ("每个参数 16 字节。\nSecond line.", ("bytes",))
    assert (review.score, review.rating, review.suggested) == (0.4, 1, 1)
    assert review.missed == ("parts", "zero", "activations")
    assert not (home / "drafts" / "data-explain.json").exists()


def test_an_undone_review_does_not_count_and_its_line_stays(home):
    first, second = answered(), answered("data-compare")
    undo(first.id)
    history = state.read()
    assert [review.id for review in history.reviews] == [second.id]
    assert len(history.of("review")) == 2
    with pytest.raises(ValueError, match="no review"):
        undo(first.id)


def test_the_plan_that_was_made_last_counts(home):
    assert state.read().plan == state.Plan(None, 20.0)
    state.append("plan", date="2027-01-15", minutes_a_day=30)
    state.append("plan", date="2027-02-01", minutes_a_day=25.5)
    assert state.read().plan == state.Plan(date(2027, 2, 1), 25.5)


def test_an_unknown_event_is_refused_before_anything_is_written(home):
    with pytest.raises(ValueError, match="must be one of review, undo"):
        state.append("answer")
    assert not home.exists()


# --- killed --------------------------------------------------------------------------------------------------

WRITER = """
import sys
from helpers.rehearsal.questions import open_bank
from helpers.rehearsal.sitting import Sitting
bank = open_bank()
for n, name in enumerate(list(bank) * 100):
    sitting = Sitting(bank.question(name))
    text = ""
    for letter in "an answer":
        text += letter
        sitting.keep(text)
        print(f"kept {name} {len(text)}", flush=True)
    sitting.record(["bytes"], [])
    print(f"recorded {name} {n + 1}", flush=True)
"""


@pytest.mark.parametrize("seed", range(8))
def test_killed_at_any_moment_nothing_that_was_confirmed_is_lost(home, seed):
    """What the process had said was kept or recorded is there; the log and the drafts can be read and go on."""
    process = python(WRITER)
    confirmed = process.stdout.readline()
    time.sleep(random.Random(seed).uniform(0.0, 0.4))
    process.send_signal(signal.SIGKILL)
    lines = (confirmed + process.communicate(timeout=30)[0]).splitlines(keepends=True)
    whole = [line.split() for line in lines if line.endswith("\n")]
    recorded = sum(line[0] == "recorded" for line in whole)
    history = state.read()
    assert len(history.reviews) in (recorded, recorded + 1)
    assert len(history.faults) <= 1
    if whole[-1][0] == "kept" and len(history.reviews) == recorded:
        draft = state.draft_of(whole[-1][1])
        assert draft is not None
        assert len(draft.text) >= int(whole[-1][2])
    answered("inference-design", "goes on")
    assert state.read().reviews[-1].answer == "goes on"
    assert len(state.read().reviews) == len(history.reviews) + 1


HALF = """
import os, signal
from helpers.rehearsal import state
write = os.write
def half(file, line):
    write(file, line[: len(line) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
os.write = half
state.append("review", question="data-compare", rating=3)
"""


def test_killed_inside_the_write_the_torn_line_is_told_and_set_aside_and_the_next_one_is_whole(home):
    answered()
    assert python(HALF).wait(30) == -signal.SIGKILL
    torn = state.path().read_bytes()
    assert not torn.endswith(b"\n")
    history = state.read()
    assert [str(fault) for fault in history.faults] == [
        "line 2 of rehearsal.jsonl is left out: it ends in the middle (its writer was stopped)"
    ]
    answered("data-design")
    after = state.read()
    assert [review.question for review in after.reviews] == ["data-explain", "data-design"]
    assert [fault.line for fault in after.faults] == [2]
    assert state.path().read_bytes().startswith(torn), "the log is only appended to"


TYPIST = """
import sys, time
from helpers.rehearsal.questions import open_bank
from helpers.rehearsal.sitting import Sitting
sitting = Sitting(open_bank().question("data-explain"))
sitting.keep("half an answer")
sitting.hint()
sitting.keep("half an answer, and a hint")
print("kept", flush=True)
time.sleep(60)
"""


def test_an_answer_that_was_begun_goes_on_with_its_text_its_time_and_its_hints(home):
    process = python(TYPIST)
    assert process.stdout.readline() == "kept\n"
    process.kill()
    process.communicate()
    sitting = Sitting(open_bank().question("data-explain"))
    assert sitting.taken_up
    assert sitting.answer == "half an answer, and a hint"
    assert sitting.hints_used == 1
    assert sitting.seconds > 0


def test_a_draft_that_cannot_be_read_is_no_reason_to_fail(home):
    (home / "drafts").mkdir(parents=True)
    for n, content in enumerate((b"", b"{", b"[]", b'{"text": 3}', b"\xff")):
        (home / "drafts" / "data-explain.json").write_bytes(content)
        assert state.draft_of("data-explain") is None, n
    assert state.drafts() == []


# --- two processes -------------------------------------------------------------------------------------------

MANY = """
import sys
from helpers.rehearsal import state
state.LOCK_SECONDS = 100.0  # this is about loss, not about patience with a slow disk
for n in range(200):
    state.append("review", question=sys.argv[1], rating=3, answer="x" * 3000, seconds=float(n))
"""


def test_two_processes_lose_none_of_each_others_answers(home):
    processes = [python(MANY, name) for name in ("data-explain", "data-compare")]
    assert [process.wait(120) for process in processes] == [0, 0]
    history = state.read()
    assert history.faults == ()
    for name in ("data-explain", "data-compare"):
        assert [r.seconds for r in history.reviews if r.question == name] == [float(n) for n in range(200)]


HOLDER = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_that_holds_the_lock_for_good_costs_seconds_and_an_error_and_no_answer(home, monkeypatch):
    answered()
    monkeypatch.setattr(state, "LOCK_SECONDS", 0.3)
    holder = python(HOLDER, f"{state.path()}.lock")
    try:
        assert holder.stdout.readline() == "held\n"
        sitting = Sitting(open_bank().question("data-compare"))
        sitting.keep("an answer")
        with pytest.raises(state.StateError, match="cannot be written"):
            sitting.record(["bytes"], [])
    finally:
        holder.kill()
        holder.communicate()
    assert sitting.answer == "an answer"
    assert state.draft_of("data-compare").text == "an answer"
    sitting.record(["bytes"], [])
    assert [review.question for review in state.read().reviews] == ["data-explain", "data-compare"]


# --- schemas -------------------------------------------------------------------------------------------------

OLD = [
    {"schema": 1, "time": "2026-03-01T10:00:00+00:00", "event": "review", "question": "data-explain", "rating": "good"},
    {
        "schema": 1,
        "time": "2026-03-02T10:00:00+00:00",
        "event": "review",
        "question": "data-compare",
        "rating": "again",
    },
    {"schema": 1, "time": "2026-03-02T11:00:00+00:00", "event": "plan", "date": "2026-04-01", "minutes_a_day": 15},
]


def write_log(lines):
    state.path().parent.mkdir(parents=True, exist_ok=True)
    state.path().write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_log_of_the_older_schema_still_loads_and_new_answers_follow_it(home):
    write_log(OLD)
    answered("data-design")
    history = state.read()
    assert history.faults == ()
    assert [(review.question, review.rating) for review in history.reviews[:2]] == [
        ("data-explain", 3), ("data-compare", 1)]  # fmt: skip
    assert history.plan == state.Plan(date(2026, 4, 1), 15.0)
    undo(history.reviews[0].id)
    assert [review.question for review in state.read().reviews] == ["data-compare", "data-design"]


def test_a_line_of_a_later_version_is_told_and_left_where_it_is(home):
    write_log([{"schema": 99, "time": "2027-01-01T00:00:00+00:00", "event": "review", "question": "x", "rating": 3}])
    before = state.path().read_bytes()
    answered()
    assert "written by a later version" in str(state.read().faults[0])
    assert len(state.read().reviews) == 1
    assert state.path().read_bytes().startswith(before)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "not whole or not JSON"),
        (b"\xff\xfe\x00", "not whole or not JSON"),
        (b"[1, 2]", "no event"),
        (b'{"event": "review"}', "no schema number"),
        (b'{"schema": 2, "event": "review", "id": "a", "time": "2026-01-01T00:00:00+00:00", "question": "x"}',
         "rating"),
        (b'{"schema": 2, "event": "review", "id": "a", "time": "2026-01-01T00:00:00+00:00", "question": "x", '
         b'"rating": 7}', "its rating is 7"),
        (b'{"schema": 2, "event": "dance", "id": "a", "time": "2026-01-01T00:00:00+00:00"}', "no known kind"),
        (b'{"schema": 2, "event": "undo", "id": "a", "time": "2026-01-01T00:00:00"}', "no time zone"),
        (b'{"schema": 2, "event": "plan", "id": "a", "time": "2026-01-01T00:00:00+00:00", "date": "soon", '
         b'"minutes_a_day": 3}', "soon"),
        (b"[" * 100_000, "not whole"),
    ],
)  # fmt: skip
def test_a_damaged_line_in_the_middle_is_told_and_everything_else_counts(home, line, reason):
    answered()
    with state.path().open("ab") as log:
        log.write(line + b"\n")
    answered("data-compare")
    history = state.read()
    assert [review.question for review in history.reviews] == ["data-explain", "data-compare"]
    assert len(history.faults) == 1
    assert history.faults[0].line == 2
    assert reason in str(history.faults[0])


# --- the question changes ------------------------------------------------------------------------------------


def edited(name, **changes):
    bank = open_bank()
    fields = rehearsing.question(**rehearsing_fields(bank, name) | changes)
    rehearsing.write(bank[name].file.parents[1], fields)
    return open_bank()


def rehearsing_fields(bank, name):
    head = bank[name]
    prompt = bank.question(name).prompt
    return {"id": name, "area": head.area, "kind": head.kind, "minutes": head.minutes,
            "prompt": {"en": prompt.en, "zh": prompt.zh}}  # fmt: skip


def test_an_edited_question_keeps_its_history(home):
    answered(ticked=("bytes", "parts"))
    bank = edited("data-explain", prompt={"en": "Better words?", "zh": "换个说法？"})
    history = state.read()
    due = [one.question for one in schedule.waiting(bank, history.reviews, history.plan, now=datetime.now(UTC))]
    assert bank.question("data-explain").prompt.en == "Better words?"
    assert len(history.reviews) == 1
    assert "data-explain" not in due


def test_a_raised_rev_is_offered_again_first_and_keeps_its_history(home):
    answered(ticked=("bytes", "parts"))
    bank = edited("data-explain", rev=2)
    history = state.read()
    waiting = schedule.waiting(bank, history.reviews, history.plan, now=datetime.now(UTC))
    assert (waiting[0].question, waiting[0].why) == ("data-explain", "changed")
    assert [review.rev for review in history.reviews] == [1]
    answered(ticked=("bytes", "parts"))
    waiting = schedule.waiting(bank, state.read().reviews, history.plan, now=datetime.now(UTC))
    assert "data-explain" not in [one.question for one in waiting]


def test_a_review_of_a_question_that_was_removed_stays_and_is_not_asked(home):
    answered()
    bank = open_bank()
    bank["data-explain"].file.unlink()
    history = state.read()
    later = datetime.now(UTC) + timedelta(days=100)
    waiting = schedule.waiting(open_bank(), history.reviews, history.plan, now=later)
    assert len(history.reviews) == 1
    assert "data-explain" not in [one.question for one in waiting]


# --- the disk ------------------------------------------------------------------------------------------------

FULL = """
import resource, sys
from helpers.rehearsal import state
from helpers.rehearsal.questions import open_bank
from helpers.rehearsal.sitting import Sitting
size = state.path().stat().st_size
sitting = Sitting(open_bank().question("data-compare"))
sitting.keep("an answer " * 20)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
for attempt in range(3):
    try:
        sitting.record(["bytes"], [])
    except state.StateError as error:
        print(error)
try:
    sitting.keep("an answer " * 2000)
except state.StateError as error:
    print(error)
print(len(sitting.answer))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sitting.record(["bytes"], [])
"""


def test_a_full_disk_is_an_error_that_says_so_loses_nothing_and_the_answer_is_saved_when_there_is_room(home):
    """A limit on the size of files stands for the full disk: the kernel writes a part and refuses the rest."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    answered()
    process = python(FULL)
    out = process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == 0
    assert all("cannot be written: " in line for line in out[:4]), out
    assert any("full" in line or "too large" in line for line in out[:3]), out
    assert out[4] == str(len("an answer ") * 2000)
    history = state.read()
    assert [review.question for review in history.reviews] == ["data-explain", "data-compare"]
    assert history.reviews[1].answer == "an answer " * 2000
    assert len(history.faults) <= 1


def test_a_folder_that_is_a_file_is_an_error_that_names_it(home):
    home.parent.mkdir(exist_ok=True)
    home.write_text("in the way")
    with pytest.raises(state.StateError, match="home cannot be written"):
        answered()
    with pytest.raises(state.StateError, match="cannot be read"):
        state.read()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_error(home):
    home.mkdir()
    home.chmod(0o500)
    with pytest.raises(state.StateError, match="Permission denied"):
        state.append("plan", date=None, minutes_a_day=20)
