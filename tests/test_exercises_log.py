"""The learner's record survives crashes, two kernels at once, full disks and older and newer versions of the course."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from helpers.exercises import log


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "new" / "home"))
    return tmp_path / "new" / "home"


def python(code, home):
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "LAB_HOME": str(home)})


def test_an_event_is_one_line_with_its_schema_and_utc_time(home):
    before = datetime.now(UTC).replace(microsecond=0)
    log.record("1.4", "attempt", "weight of class 0 — Ü\nsecond line")
    log.record("1.10", "pass")
    first, second = (home / "exercises.jsonl").read_text(encoding="utf-8").splitlines()
    fields = json.loads(first)
    assert list(fields) == ["schema", "time", "exercise", "event", "detail"]
    assert (fields["schema"], fields["exercise"], fields["event"]) == (1, "1.4", "attempt")
    assert fields["detail"] == "weight of class 0 — Ü\nsecond line"
    assert before <= datetime.fromisoformat(fields["time"]) <= datetime.now(UTC)
    assert json.loads(second)["detail"] == ""


def test_what_was_recorded_is_read_back_in_order_and_counted():
    for event in ("attempt", "hint", "hint", "reveal", "pass"):
        log.record("1.1", event)
    log.record("1.2", "pass", "d")
    history = log.read()
    assert [e.event for e in history.events] == ["attempt", "hint", "hint", "reveal", "pass", "pass"]
    assert history.skipped == 0
    assert (history.count("1.1", "hint"), history.count("1.2", "pass"), history.count("1.2", "hint")) == (2, 1, 0)
    assert history.events[-1].detail == "d"


def test_no_log_yet_is_an_empty_history_and_reading_makes_no_folder(home):
    assert log.read() == log.History((), 0)
    assert not home.exists()


def test_an_unknown_event_is_refused_before_anything_is_written(home):
    with pytest.raises(ValueError, match="event must be one of attempt, pass, hint, reveal, got 'cheat'"):
        log.record("1.1", "cheat")
    assert not home.exists()


def test_a_long_detail_is_cut_so_that_a_line_stays_a_line(home):
    log.record("1.1", "attempt", "x" * 10**6)
    assert log.read().events[0].detail == "x" * 300


def test_a_lone_surrogate_in_a_learner_s_text_does_not_stop_the_record():
    log.record("1.1", "attempt", "\ud800")
    assert log.read().count("1.1", "attempt") == 1


def test_without_lab_home_the_log_lies_in_the_user_s_data_folder(monkeypatch):
    monkeypatch.delenv("LAB_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert log.path().parts[-2:] == ("large-model-interview-lab", "exercises.jsonl")
    monkeypatch.setenv("LAB_HOME", "")
    assert log.path().parts[-2:] == ("large-model-interview-lab", "exercises.jsonl")
    monkeypatch.setenv("LAB_HOME", "elsewhere")
    assert log.path() == Path("elsewhere/exercises.jsonl")


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_torn_last_line_is_skipped_with_a_count_and_the_next_event_starts_a_line_of_its_own(home):
    log.record("1.1", "attempt")
    whole = log.path().read_bytes()
    for cut in range(1, len(whole) - 1):
        log.path().write_bytes(whole + whole[:cut])
        assert log.read().skipped == 1
        log.record("1.2", "pass")
        history = log.read()
        assert [e.exercise for e in history.events] == ["1.1", "1.2"]
        assert history.skipped == 1


def test_a_last_line_that_lacks_only_its_end_is_kept():
    log.record("1.1", "attempt")
    log.path().write_bytes(log.path().read_bytes().rstrip(b"\n"))
    log.record("1.1", "pass")
    assert [e.event for e in log.read().events] == ["attempt", "pass"]
    assert log.path().read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[1, 2]",
        b'"text"',
        b"null",
        b"{}",
        b"\x00\x00\x00",
        b"\xff\xfe\xfa",
        b'{"schema": 2, "time": "t", "exercise": "1.1", "event": "pass", "detail": ""}',
        b'{"schema": "1", "time": "t", "exercise": "1.1", "event": "pass"}',
        b'{"schema": 1, "time": "t", "exercise": "1.1", "event": "dance"}',
        b'{"schema": 1, "time": "t", "exercise": 1.1, "event": "pass"}',
        b'{"schema": 1, "exercise": "1.1", "event": "pass"}',
        b'{"schema": 1, "time": "t", "event": "pass"}',
        b'{"schema": 1, "time": "t", "exercise": "1.1"}',
        b'{"schema": 1, "time": "t", "exercise": "1.1", "event": ["pass"]}',
        b'{"schema": 1, "time": "t", "exercise": "1.1", "event": "pass", "detail": 3}',
        b"[" * 100_000,
    ],
    ids=lambda line: line[:60].decode("latin-1"),
)
def test_a_damaged_or_later_line_is_skipped_counted_and_kept_in_the_file(line):
    log.record("1.1", "attempt")
    with log.path().open("ab") as file:
        file.write(line + b"\n\n  \n")
    log.record("1.2", "pass")
    history = log.read()
    assert [e.exercise for e in history.events] == ["1.1", "1.2"]
    assert history.skipped == 1
    assert line in log.path().read_bytes()


def test_a_line_of_an_older_schema_is_read():
    log.record("1.1", "attempt")
    with log.path().open("ab") as file:
        file.write(b'{"time": "2026-01-01T00:00:00+00:00", "exercise": "1.3", "event": "pass"}\n')
    history = log.read()
    assert history.events[1] == log.Event(0, "2026-01-01T00:00:00+00:00", "1.3", "pass", "")
    assert history.skipped == 0


# --- several processes ------------------------------------------------------------------------------------------------

WRITER = """
from helpers.exercises import log
for i in range({count}):
    log.record("1.{name}", "attempt", str(i) + "x" * 200)
"""


def test_two_kernels_that_write_at_once_lose_nothing_and_tear_nothing(home):
    writers = [python(WRITER.format(count=150, name=name), home) for name in (1, 2, 3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    history = log.read()
    assert history.skipped == 0
    for name in (1, 2, 3):
        details = [e.detail for e in history.events if e.exercise == f"1.{name}"]
        assert [int(d.rstrip("x")) for d in details] == list(range(150))


@pytest.mark.parametrize("attempt", range(3))
def test_a_kernel_killed_in_the_middle_of_writing_loses_nothing_that_was_written_before(home, attempt):
    log.record("1.9", "pass")
    writer = python(WRITER.format(count=10**6, name=1), home)
    deadline = time.monotonic() + 30
    while log.path().stat().st_size < 20_000 * (attempt + 1) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(writer.pid, signal.SIGKILL)
    assert writer.wait(10) == -signal.SIGKILL
    log.record("1.2", "pass")  # no lock is left behind
    history = log.read()
    numbers = [int(e.detail.rstrip("x")) for e in history.events if e.exercise == "1.1"]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 50
    assert history.skipped <= 1
    assert (history.events[0].exercise, history.events[-1].exercise) == ("1.9", "1.2")


KILLED_INSIDE = """
import os, signal
from helpers.exercises import log
write = os.write
def half(file, line):
    write(file, line[: len(line) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
os.write = half
log.record("1.1", "attempt", "torn")
"""


def test_a_kernel_killed_inside_the_write_itself_leaves_a_torn_line_that_harms_nobody(home):
    log.record("1.9", "pass")
    assert python(KILLED_INSIDE, home).wait(30) == -signal.SIGKILL
    assert not log.path().read_bytes().endswith(b"\n")
    log.record("1.2", "pass")
    history = log.read()
    assert [e.exercise for e in history.events] == ["1.9", "1.2"]
    assert history.skipped == 1


HOLDER = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_that_is_never_released_costs_seconds_and_not_the_notebook(home, monkeypatch):
    log.record("1.1", "pass")
    monkeypatch.setattr(log, "LOCK_SECONDS", 0.2)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, f"{log.path()}.lock"], stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        start = time.monotonic()
        with pytest.raises(log.LogError, match=r"cannot be written"):
            log.record("1.2", "pass")
        assert time.monotonic() - start < 5
        assert [e.exercise for e in log.read().events] == ["1.1"]  # reading needs no lock
    finally:
        holder.kill()
        holder.wait()
    log.record("1.2", "pass")


# --- places that cannot be written --------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made_is_a_log_error_that_says_why(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(log.LogError, match="cannot be written: Not a directory"):
        log.record("1.1", "pass")
    with pytest.raises(log.LogError, match="cannot be read: Not a directory"):
        log.read()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_log_error(home):
    home.mkdir(parents=True)
    home.chmod(0o500)
    with pytest.raises(log.LogError, match="Permission denied"):
        log.record("1.1", "pass")


def test_a_log_that_may_not_be_opened_is_a_log_error(home):
    (home / "exercises.jsonl").mkdir(parents=True)
    with pytest.raises(log.LogError, match="cannot be written: Is a directory"):
        log.record("1.1", "pass")
    with pytest.raises(log.LogError, match="cannot be read: Is a directory"):
        log.read()


def test_a_full_disk_is_a_log_error_and_the_torn_line_is_mended_later(home, monkeypatch):
    log.record("1.1", "pass")
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:20]))
    with pytest.raises(log.LogError, match="the disk is full"):
        log.record("1.2", "pass")
    monkeypatch.undo()
    monkeypatch.setenv("LAB_HOME", str(home))
    log.record("1.3", "pass")
    assert [e.exercise for e in log.read().events] == ["1.1", "1.3"]
    assert log.read().skipped == 1


def test_a_file_system_without_locks_is_a_log_error(monkeypatch):
    import filelock

    def unsupported(*args, **kwargs):
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(filelock, "FileLock", unsupported)
    with pytest.raises(log.LogError, match="cannot be written: no flock here"):
        log.record("1.1", "pass")
