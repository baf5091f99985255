"""What the learner did: one line of JSON an event, only ever appended, and the answer that is being typed.

The log `rehearsal.jsonl` lies in the user's data folder, or in the folder that LAB_HOME names; nothing leaves the
machine. It is the only truth: schedule, statistics and an interrupted interview are computed from it. A line that
cannot be read is told and left where it is, and the next one starts on a line of its own.

Schema 1 (before the first release) wrote ratings as words, and neither revision nor language; it is still read.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from helpers.files import append_locked, leftovers, replacing, user_folder

SCHEMA = 2
FILE = "rehearsal.jsonl"
EVENTS = ("review", "undo", "plan", "mock", "mock-end", "drill", "round")
RATINGS = {"again": 1, "hard": 2, "good": 3, "easy": 4}
LOCK_SECONDS = 5.0


class StateError(Exception):
    """The record cannot be kept or read here; says why."""


@dataclass(frozen=True)
class Event:
    """One line of the log. `id` is unique; `data` holds what belongs to the kind of event."""

    event: str
    id: str
    time: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Fault:
    """A line of the log that could not be read, counted from 1."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line} of {FILE} is left out: {self.reason}"


@dataclass(frozen=True)
class Review:
    """One answered question. `seconds` of `planned`; `score` is the share of the weight; ratings are 1 to 4."""

    id: str
    time: datetime
    question: str
    rating: int
    rev: int = 1
    language: str = "en"
    level: str = ""
    answer: str = ""
    ticked: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    hints: int = 0
    seconds: float = 0.0
    planned: float = 0.0
    score: float = 0.0
    suggested: int = 0
    mock: str = ""
    slot: str = ""


@dataclass(frozen=True)
class Plan:
    """The interview's date, if there is one, and the minutes a day."""

    date: date | None = None
    minutes_a_day: float = 20.0


@dataclass(frozen=True)
class History:
    """All that could be read, oldest first, and the lines that could not."""

    events: tuple[Event, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def reviews(self) -> list[Review]:
        """The reviews that were not undone, oldest first."""
        undone = {event.data.get("of") for event in self.events if event.event == "undo"}
        kept = [_review(event) for event in self.events if event.event == "review" and event.id not in undone]
        return sorted(kept, key=lambda review: review.time)

    @property
    def plan(self) -> Plan:
        """The plan that was made last."""
        made = [event for event in self.events if event.event == "plan"]
        return _plan(made[-1]) if made else Plan()

    def of(self, event: str) -> list[Event]:
        """The events of one kind."""
        return [one for one in self.events if one.event == event]


# --- the log -------------------------------------------------------------------------------------------------


def path() -> Path:
    """Where the log lies."""
    return user_folder() / FILE


def append(event: str, *, now: datetime | None = None, **data: Any) -> Event:
    """Write one event; it is on the disk when this returns.

    Raises ValueError for an unknown kind of event, StateError when it cannot be written (nothing written before is
    lost, and it may be tried again).
    """
    if event not in EVENTS:
        raise ValueError(f"event must be one of {', '.join(EVENTS)}, got {event!r}")
    made = Event(event, secrets.token_hex(6), (now or datetime.now(UTC)).astimezone(UTC), data)
    written = {"schema": SCHEMA, "event": event, "id": made.id, "time": made.time.isoformat(timespec="milliseconds")}
    line = json.dumps(written | data, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"
    _guarded(lambda: append_locked(path(), line, seconds=LOCK_SECONDS, sync=True))
    return made


def read() -> History:
    """The log as it stands. Lines that are torn, damaged or of a later version are told in `faults`, never fatal."""
    try:
        content = path().read_bytes()
    except FileNotFoundError:
        return History()
    except OSError as error:
        raise StateError(f"{path()} cannot be read: {error.strerror}") from error
    events: list[Event] = []
    faults: list[Fault] = []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            events.append(_event(line))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            torn = number == len(lines)
            faults.append(Fault(number, "it ends in the middle (its writer was stopped)" if torn else _why(error)))
    return History(tuple(events), tuple(faults))


def _guarded(write: Callable[[], object]) -> None:
    try:
        write()
    except (OSError, NotImplementedError) as error:  # the second: a file system that knows no locks
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise StateError(f"{user_folder()} cannot be written: {reason}") from error


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return "it is not whole or not JSON"
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)


def _event(line: bytes) -> Event:
    told = json.loads(line)
    if not isinstance(told, dict):
        raise ValueError("it is no event")
    schema = told.get("schema")
    if not isinstance(schema, int) or schema < 1:
        raise ValueError("it has no schema number")
    if schema > SCHEMA:
        raise ValueError(f"it is of schema {schema}, written by a later version of this program (this one: {SCHEMA})")
    if schema == 1:
        told = _from_schema_1(told)
    data = {name: value for name, value in told.items() if name not in ("schema", "event", "id", "time")}
    event = Event(told["event"], str(told["id"]), datetime.fromisoformat(told["time"]), data)
    if event.event not in EVENTS:
        raise ValueError(f"{event.event!r} is no known kind of event")
    if event.time.tzinfo is None:
        raise ValueError("its time has no time zone")
    {"review": _review, "plan": _plan}.get(event.event, lambda _: None)(event)  # a broken one is told here, not later
    return event


def _from_schema_1(told: dict[str, Any]) -> dict[str, Any]:
    """Ratings were words; there was one revision and one language."""
    told = {"id": f"1-{told['time']}-{told.get('question', '')}", **told}
    if told["event"] == "review":
        told = {"rev": 1, "language": "en", **told, "rating": RATINGS[told["rating"]]}
    return told


_REVIEW_FIELDS = frozenset(field.name for field in fields(Review))


def _review(event: Event) -> Review:
    data = {name: value for name, value in event.data.items() if name in _REVIEW_FIELDS}
    for name in ("ticked", "mistakes", "missed"):
        data[name] = tuple(data.get(name, ()))
    review = Review(id=event.id, time=event.time.astimezone(UTC), **data)
    if review.rating not in RATINGS.values() or isinstance(review.rating, bool):
        raise ValueError(f"its rating is {review.rating!r}, not 1 to 4")
    if not isinstance(review.question, str) or not isinstance(review.rev, int):
        raise ValueError("its question or revision is of a wrong type")
    return review


def _plan(event: Event) -> Plan:
    day = event.data["date"]
    return Plan(date.fromisoformat(day) if day else None, float(event.data["minutes_a_day"]))


# --- the answer that is being typed --------------------------------------------------------------------------


@dataclass(frozen=True)
class Draft:
    """An answer as far as it was typed, and the seconds that it has taken so far."""

    question: str
    text: str
    seconds: float = 0.0
    hints: int = 0
    mock: str = ""


def _draft_file(question: str, mock: str) -> Path:
    """An answer in an interview has a file of its own: a daily one to the same question stays."""
    return user_folder() / "drafts" / (f"{question}@{mock}.json" if mock else f"{question}.json")


def save_draft(draft: Draft) -> None:
    """Keep the answer so far, whole or as it was before. Raises StateError when it cannot be written."""
    file = _draft_file(draft.question, draft.mock)
    text = json.dumps(draft.__dict__, ensure_ascii=False)

    def write() -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            part.write_text(text, encoding="utf-8", errors="replace")

    _guarded(write)


def draft_of(question: str, mock: str = "") -> Draft | None:
    """The answer that was begun and not finished; None when there is none that can be read."""
    return _draft(_draft_file(question, mock))


def drop_draft(question: str, mock: str = "") -> None:
    """The answer is in the log now: its draft goes, and what killed writers left of it."""
    file = _draft_file(question, mock)
    if file.parent.is_dir():
        for one in (file, *leftovers(file)):
            try:
                one.unlink(missing_ok=True)
            except OSError:
                continue  # the answer is safe; a stale draft is only offered once more


def drafts() -> list[Draft]:
    """All answers that were begun and not finished, the latest first."""
    try:
        found = sorted((user_folder() / "drafts").glob("[!.]*.json"), key=os.path.getmtime, reverse=True)
    except OSError:
        return []
    return [draft for file in found if (draft := _draft(file)) is not None]


def _draft(file: Path) -> Draft | None:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return Draft(
            str(told["question"]), str(told["text"]), float(told["seconds"]), int(told["hints"]), str(told["mock"])
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
