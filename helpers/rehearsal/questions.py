"""The bank on the disk: opened fast, a question read when it is asked, every fault told with file, line and field.

Opening reads only the head of each file (everything above `prompt:`), which is what choosing a question needs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from helpers.rehearsal.schema import Question

FOLDER = Path(__file__).parent / "bank"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times faster and not always there
_BODY = re.compile(r"^prompt:", re.MULTILINE)


@dataclass(frozen=True)
class Problem:
    """What is wrong, and where: `line` counts from 1, `field` is a path such as `rubric.2.weight`."""

    file: Path
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        return f"{_short(self.file)}:{self.line}: {field}{self.message}"


class BankError(ValueError):
    """The bank, or one file of it, cannot be used; `problems` says where."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True)
class Head:
    """What choosing a question needs, from the lines above its prompt."""

    id: str
    rev: int
    area: str
    kind: str
    levels: tuple[str, ...]
    minutes: float
    tags: tuple[str, ...]
    file: Path


class Bank(Mapping[str, Head]):
    """The questions by id; `bank.question(id)` reads one whole."""

    def __init__(self, heads: Mapping[str, Head], problems: Iterable[Problem] = ()):
        self._heads = dict(heads)
        self._read: dict[str, Question] = {}
        self.problems = tuple(problems)

    def __getitem__(self, name: str) -> Head:
        return self._heads[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._heads)

    def __len__(self) -> int:
        return len(self._heads)

    def question(self, name: str) -> Question:
        """The whole question. KeyError for an unknown id, with the nearest known ones; BankError for a bad file."""
        if name not in self._heads:
            raise KeyError(f"no question {name!r} in the bank{self._nearest(name)}")
        if name not in self._read:
            self._read[name] = read_question(self._heads[name].file)
        return self._read[name]

    def usable(self, name: str) -> Question | None:
        """The question, or None when its file has a fault: then it is left out from now on and told in `problems`."""
        try:
            return self.question(name)
        except BankError as error:
            del self._heads[name]
            self.problems += error.problems
            return None

    def _nearest(self, name: str) -> str:
        import difflib

        near = difflib.get_close_matches(name, self._heads, n=3)
        return f"; did you mean {', '.join(near)}?" if near else f": it has {len(self)}; `rehearse search` finds them"


def bank_folder() -> Path:
    """Where the questions lie: in the folder that LAB_BANK names, for a bank of one's own, else in this package."""
    return Path(os.environ.get("LAB_BANK") or FOLDER)


def open_bank(folder: Path | None = None) -> Bank:
    """The bank in `folder`, or in `bank_folder()`. A file that cannot be used is left out and told in `problems`.

    Raises BankError when no question is left.
    """
    folder = folder or bank_folder()
    heads: dict[str, Head] = {}
    problems: list[Problem] = []
    for file in files(folder):
        try:
            heads[file.stem] = read_head(file)
        except BankError as error:
            problems += error.problems
    if not heads:
        raise BankError(problems or [Problem(folder, 1, "", "no question file <area>/<id>.yaml in this folder")])
    return Bank(heads, problems)


def files(folder: Path) -> list[Path]:
    """All question files, in a stable order."""
    return sorted(folder.glob("*/*.yaml"))


def read_head(file: Path) -> Head:
    """The fields above `prompt:`. Raises BankError when they are not all there or not of the right type."""
    text = _text(file)
    body = _BODY.search(text)
    fields = _mapping(file, text[: body.start()] if body else text)
    try:
        given = {name: fields[name] for name in ("id", "rev", "area", "kind", "minutes")}
        head = Head(**given, levels=tuple(fields["levels"]), tags=tuple(fields["tags"]), file=file)
    except (KeyError, TypeError) as error:
        said = f"{error.args[0]} is missing above prompt" if isinstance(error, KeyError) else str(error)
        raise BankError([Problem(file, 1, str(error.args[0]), said)]) from None
    if head.id != file.stem:
        raise BankError([Problem(file, _line(text, ("id",)), "id", f"{head.id!r} is not the file's name")])
    return head


def read_question(file: Path) -> Question:
    """The question in `file`, all rules of the schema checked. Raises BankError with file, line and field."""
    from pydantic import ValidationError

    from helpers.rehearsal.schema import Question

    text = _text(file)
    fields = _mapping(file, text)
    try:
        question = Question.model_validate(fields)
    except ValidationError as error:
        raise BankError([_told(file, text, one) for one in _own(error.errors())]) from None
    if wrong := list(_misplaced(file, text, question)):
        raise BankError(wrong)
    return question


def validate(folder: Path, *, notebooks: Path | None = None) -> list[Problem]:
    """Everything that is wrong in the bank: each file, and what only several files together show.

    Args:
        notebooks: the folder of the notebooks' scripts (`solutions`); with it the sections and exercises that the
            questions name must be there.
    """
    questions: list[Question] = []
    problems: list[Problem] = []
    where: dict[str, Path] = {}
    for file in files(folder):
        try:
            questions.append(read_question(file))
            where[questions[-1].id] = file
        except BankError as error:
            problems += error.problems
    problems += _between(questions, where, complete=not problems)
    if notebooks is not None:
        problems += [problem for question in questions for problem in _no_place(question, where, notebooks)]
    return problems


# --- reading -------------------------------------------------------------------------------------------------


def _short(file: Path) -> str:
    """Area and name: what tells a question file from the others."""
    return "/".join(file.parts[-2:])


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise BankError([Problem(file, 1, "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise BankError([Problem(file, 1, "", f"is not UTF-8 text (byte {error.start})")]) from None


def _mapping(file: Path, text: str) -> dict[str, Any]:
    try:
        fields = yaml.load(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise BankError([Problem(file, line, "", f"is not YAML: {error.problem or error.context}")]) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-02-31
        raise BankError([Problem(file, 1, "", f"is not YAML: {str(error).splitlines()[0]}")]) from None
    if not isinstance(fields, dict):
        raise BankError([Problem(file, 1, "", "holds no fields: a question is a mapping such as `id: adam-memory`")])
    return fields


def _own(errors: list[Any]) -> list[Any]:
    """Without what only follows: a list whose items are wrong counts as too short, a number is told once."""
    wrong = [error["loc"] for error in errors]
    own = [e for e in errors if not any(loc != e["loc"] and loc[: len(e["loc"])] == e["loc"] for loc in wrong)]
    return [error for error in own if error["loc"][-1:] != ("float",)]


def _told(file: Path, text: str, error: Any) -> Problem:
    path = tuple("schema" if part == "schema_" else part for part in error["loc"] if part != "int")
    message = error["msg"].removeprefix("Value error, ").replace("Tuple", "List").replace("valid integer", "number")
    if error["type"] != "missing" and not isinstance(error["input"], dict | list) and "Value error" not in error["msg"]:
        message += f", got {error['input']!r}"
    return Problem(file, _line(text, path), ".".join(str(part) for part in path), message)


def _line(text: str, path: tuple[str | int, ...]) -> int:
    """The line of the field at `path`, or of the deepest part of it that is there."""
    node = yaml.compose(text, Loader=_LOADER)
    line = 1
    for part in path:
        child = _child(node, part)
        if child is None:
            break
        line, node = child
    return line


def _child(node: Any, part: str | int) -> tuple[int, Any] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    return None


# --- rules ---------------------------------------------------------------------------------------------------


def _misplaced(file: Path, text: str, question: Question) -> Iterator[Problem]:
    """What only the file's own name and text show."""
    if question.id != file.stem:
        yield Problem(file, _line(text, ("id",)), "id", f"{question.id!r} is not the file's name")
    if question.area != file.parent.name:
        yield Problem(file, _line(text, ("area",)), "area", f"{question.area!r} is not the folder's name")
    root = yaml.compose(text, Loader=_LOADER)
    names = [key.value for key, _ in root.value]
    if names.index("prompt") < max(names.index(n) for n in ("schema", "id", "rev", "area", "tags", "kind", "levels",
                                                            "minutes")):  # fmt: skip
        yield Problem(
            file, _line(text, ("prompt",)), "prompt", "comes below schema, id … minutes: opening reads no more"
        )
    yield from _repeated(file, root, ())


def _repeated(file: Path, node: Any, path: tuple[str, ...]) -> Iterator[Problem]:
    """A field given twice: YAML would silently take the last one."""
    seen: set[str] = set()
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value in seen:
                yield Problem(file, key.start_mark.line + 1, ".".join((*path, key.value)), "is given twice")
            seen.add(key.value)
            yield from _repeated(file, value, (*path, key.value))
    if isinstance(node, yaml.SequenceNode):
        for n, value in enumerate(node.value):
            yield from _repeated(file, value, (*path, str(n)))


def _between(questions: list[Question], where: Mapping[str, Path], *, complete: bool) -> Iterator[Problem]:
    known = {question.id: question for question in questions}
    prompts: dict[str, str] = {}
    for question in questions:
        file = where[question.id]
        text = _Lines(file)
        for n, follow in enumerate(question.follow_ups):
            if complete and follow.id not in known:  # else it may be one of the files that could not be read
                yield Problem(file, text.line("follow_ups", n), f"follow_ups.{n}.id", f"no question {follow.id!r}")
        for language in ("en", "zh"):
            prompt = re.sub(r"\W+", "", question.prompt.in_(language)).lower()
            if prompt in prompts:
                field = f"prompt.{language}"
                yield Problem(file, text.line("prompt", language), field, f"is the prompt of {prompts[prompt]} too")
            prompts[prompt] = question.id
    if complete:
        yield from _dead_ends(known, where)


def _dead_ends(known: Mapping[str, Question], where: Mapping[str, Path]) -> Iterator[Problem]:
    """An interviewer goes on at least twice without asking the same question again."""
    for question in known.values():
        reached, new = {question.id}, [question.id]
        while new and len(reached) < 3:
            further = {f.id for name in new for f in known[name].follow_ups if f.id in known}
            new = sorted(further - reached)
            reached |= further
        if len(reached) < 3:
            line = _Lines(where[question.id]).line("follow_ups")
            yield Problem(where[question.id], line, "follow_ups", "a dead end: fewer than two other questions follow")


class _Lines:
    """Lines of a file's fields, read only when something is wrong with it."""

    def __init__(self, file: Path):
        self._file = file

    @cached_property
    def _content(self) -> str:
        return _text(self._file)

    def line(self, *path: str | int) -> int:
        return _line(self._content, path)


def _no_place(question: Question, where: Mapping[str, Path], notebooks: Path) -> Iterator[Problem]:
    if question.notebook is None:
        return
    file, place = where[question.id], question.notebook
    script = notebooks / f"{place.file}.py"
    if not script.exists():
        yield Problem(file, _Lines(file).line("notebook"), "notebook.file", f"no notebook {place.file}")
        return
    text = script.read_text(encoding="utf-8")
    if place.section not in headings(text):
        line = _Lines(file).line("notebook")
        yield Problem(file, line, "notebook.section", f"{place.file} has no heading {place.section!r}")
    if place.exercise and f"### Exercise {place.exercise} · " not in text:
        line = _Lines(file).line("notebook")
        yield Problem(file, line, "notebook.exercise", f"{place.file} has no exercise {place.exercise}")


def headings(script: str) -> list[str]:
    """The texts of the headings in a notebook's script, without their `#`."""
    return [found[1].strip() for found in re.finditer(r"^# #{1,4} (.+)$", script, re.MULTILINE)]
