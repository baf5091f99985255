"""The learner's own record: one line of JSON per attempt, hint, pass or reveal, only ever appended.

Kept in the user's data folder, or in the folder that LAB_HOME names. Nothing leaves the machine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from helpers.files import append_locked, user_folder

SCHEMA = 1
EVENTS = ("attempt", "pass", "hint", "reveal")
FILE = "exercises.jsonl"
LOCK_SECONDS = 3.0  # another kernel holds the lock for microseconds; a lost one must not hang the notebook
DETAIL_LIMIT = 300


class LogError(Exception):
    """The record cannot be kept here; says why."""


@dataclass(frozen=True)
class Event:
    """One line of the log: `time` is UTC in ISO format, `event` one of attempt, pass, hint, reveal."""

    schema: int
    time: str
    exercise: str
    event: str
    detail: str = ""


@dataclass(frozen=True)
class History:
    """All events that could be read, oldest first, and the number of lines that could not."""

    events: tuple[Event, ...] = ()
    skipped: int = 0

    def count(self, exercise: str, event: str) -> int:
        return sum(e.exercise == exercise and e.event == event for e in self.events)


def path() -> Path:
    """Where the log lies: in LAB_HOME when that is set, else in the user's data folder."""
    return user_folder() / FILE


def record(exercise: str, event: str, detail: str = "") -> None:
    """Append one event. ValueError for an unknown event, LogError when the folder cannot be written."""
    if event not in EVENTS:
        raise ValueError(f"event must be one of {', '.join(EVENTS)}, got {event!r}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps(asdict(Event(SCHEMA, now, exercise, event, detail[:DETAIL_LIMIT])), ensure_ascii=False)
    _append(path(), line.encode("utf-8", "replace") + b"\n")


def read() -> History:
    """The log as it stands. Lines that are torn, damaged or of a later schema are counted, never fatal."""
    try:
        content = path().read_bytes()
    except FileNotFoundError:
        return History()
    except OSError as error:
        raise LogError(f"{path()} cannot be read: {error.strerror}") from error
    lines = [line for line in content.split(b"\n") if line.strip()]
    events = [_event(line) for line in lines]
    return History(tuple(e for e in events if e is not None), sum(e is None for e in events))


def _append(file: Path, line: bytes) -> None:
    try:
        append_locked(file, line, seconds=LOCK_SECONDS)
    except (OSError, NotImplementedError) as error:  # the second: a file system that knows no locks
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise LogError(f"{file.parent} cannot be written: {reason}") from error


def _event(line: bytes) -> Event | None:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):  # bad JSON, bad UTF-8, a thousand brackets
        return None
    if not isinstance(fields, dict):
        return None
    schema, detail = fields.get("schema", 0), fields.get("detail", "")
    texts = [fields.get(name) for name in ("time", "exercise", "event")]
    known = isinstance(schema, int) and schema <= SCHEMA and texts[2] in EVENTS
    if not known or not all(isinstance(text, str) for text in (*texts, detail)):
        return None
    return Event(schema, str(texts[0]), str(texts[1]), str(texts[2]), detail)
