"""Debugging rounds: a snippet with planted bugs; the learner marks lines and names what is wrong with them.

    one = ROUNDS["split-after-scaling"]
    print(one.numbered)
    marking = one.mark([(8, "the scaler is fitted on the test rows too")])
    marking.found, marking.missed, marking.fine

A round is a file of `rounds/`: the snippet, and for each bug the lines that count, words by which its name is known,
why it is wrong, and the change that mends it. The mended version is the snippet with all changes; the tests run it,
and run the snippet with one bug left at a time to see that bug misbehave. The words only sort the answers: a marked
line whose name was not recognised is shown beside the bug's name, for the learner to decide.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any

import yaml

from helpers.rehearsal.text import Text

__all__ = ["ROUNDS", "Bug", "Mark", "Marking", "Round", "read_round"]

AREAS = ("data", "efficiency", "overfitting", "inference", "interpretability", "start-up")
LEVELS = ("junior", "senior", "staff")


@dataclass(frozen=True)
class Bug:
    """One planted mistake.

    Attributes:
        id: permanent, unique in its round.
        lines: numbers of the lines (from 1) on which a mark finds it; for something that is missing, where it belongs.
        name: what one calls it.
        words: any of these in an answer names it; lower case.
        why: what it does.
        mend: what to write instead, in words.
        changes: pairs of a piece of the snippet and what it becomes.
    """

    id: str
    lines: tuple[int, ...]
    name: Text
    words: tuple[str, ...]
    why: Text
    mend: Text
    changes: tuple[tuple[str, str], ...]

    def named_by(self, said: str) -> bool:
        """Whether an answer in words has one of the bug's words."""
        plain = unicodedata.normalize("NFKC", said).lower()
        return any(
            # a short English word must stand alone: "eval" is not "evaluate it twice"
            re.search(rf"(?<![a-z0-9_]){re.escape(word)}(?![a-z0-9_])", plain) if word.isascii() else word in plain
            for word in self.words
        )


@dataclass(frozen=True)
class Mark:
    """A line that the learner marked, what was said about it, and the bugs that stand there."""

    line: int
    said: str
    bugs: tuple[Bug, ...] = ()


@dataclass(frozen=True)
class Marking:
    """What became of the marks.

    Attributes:
        found: bugs that were marked and named.
        unnamed: bugs whose line was marked, with words that did not tell: the learner decides whether they were meant.
        missed: the other bugs.
        fine: marks on lines that have no bug.
        marks: all of them, by line.
    """

    found: tuple[Bug, ...]
    unnamed: tuple[Bug, ...]
    missed: tuple[Bug, ...]
    fine: tuple[Mark, ...]
    marks: tuple[Mark, ...] = field(default=(), repr=False)

    @property
    def summary(self) -> Text:
        """One sentence: how many of each."""
        all_bugs = len(self.found) + len(self.unnamed) + len(self.missed)
        en = f"{len(self.found)} of {all_bugs} bugs found"
        zh = f"{all_bugs} 个 bug 找到了 {len(self.found)} 个"
        if self.unnamed:
            en += f", {len(self.unnamed)} marked but not recognised by its name"
            zh += f"，{len(self.unnamed)} 个标对了行但没认出说法"
        if self.missed:
            en += f", {len(self.missed)} missed"
            zh += f"，漏了 {len(self.missed)} 个"
        if self.fine:
            lines = ", ".join(str(mark.line) for mark in self.fine)
            en += f"; nothing is wrong on line{'s' if len(self.fine) > 1 else ''} {lines}"
            zh += f"；第 {lines} 行没有问题"
        return Text(f"{en}.", f"{zh}。")


@dataclass(frozen=True)
class Round:
    """A snippet with two or more bugs."""

    id: str
    area: str
    level: str
    minutes: int
    title: Text
    story: Text
    code: str
    bugs: tuple[Bug, ...]

    @cached_property
    def mended(self) -> str:
        """The snippet with every bug mended."""
        return self._changed(self.bugs)

    @property
    def numbered(self) -> str:
        """The snippet with line numbers, as it is shown."""
        return "\n".join(f"{n:>3}  {line}".rstrip() for n, line in enumerate(self.code.splitlines(), 1))

    def bug(self, id: str) -> Bug:
        """The bug of this id. Raises ValueError for an unknown one."""
        for one in self.bugs:
            if one.id == id:
                return one
        raise ValueError(f"id must be one of {', '.join(one.id for one in self.bugs)}, got {id!r}")

    def with_only(self, *ids: str) -> str:
        """The snippet in which only these bugs are left."""
        kept = [self.bug(id) for id in ids]
        return self._changed([one for one in self.bugs if one not in kept])

    def _changed(self, bugs: Iterable[Bug]) -> str:
        code = self.code
        for one in bugs:
            for old, new in one.changes:
                if code.count(old) != 1:
                    raise ValueError(f"{self.id}: the change of {one.id} no longer fits: {old!r}")
                code = code.replace(old, new)
        return code

    def mark(self, answers: Mapping[int, str] | Iterable[tuple[int, str]]) -> Marking:
        """Sort the learner's marks: pairs of a line number and what is wrong there, in words (may be empty).

        A bug is found when one of its lines is marked and the words name it; the words may stand at any mark, so
        that somebody who names two bugs at one line is understood. Raises TypeError for a line that is no whole
        number or words that are no text, ValueError for a line that the snippet does not have.
        """
        pairs = list(answers.items() if isinstance(answers, Mapping) else answers)
        last = len(self.code.splitlines())
        for line, said in pairs:
            if isinstance(line, bool) or not isinstance(line, int):
                raise TypeError(f"line must be a whole number, got {type(line).__name__} {line!r}")
            if not 1 <= line <= last:
                raise ValueError(f"line must be between 1 and {last}, got {line}")
            if not isinstance(said, str):
                raise TypeError(f"the name of a bug must be a text, got {type(said).__name__} at line {line}")
        marks = tuple(
            Mark(line, said, tuple(one for one in self.bugs if line in one.lines)) for line, said in sorted(pairs)
        )
        hit = [one for one in self.bugs if any(one in mark.bugs for mark in marks)]
        named = [one for one in hit if any(one.named_by(mark.said) for mark in marks)]
        # on a line with two bugs, words that name the one say nothing about the other
        open_marks = [mark for mark in marks if not any(one.named_by(mark.said) for one in mark.bugs)]
        unnamed = [one for one in hit if one not in named and any(one in mark.bugs for mark in open_marks)]
        return Marking(
            found=tuple(named),
            unnamed=tuple(unnamed),
            missed=tuple(one for one in self.bugs if one not in named and one not in unnamed),
            fine=tuple(mark for mark in marks if not mark.bugs),
            marks=marks,
        )


# -------------------------------------------------------------------------------------------------------- files


def read_round(text: str, name: str) -> Round:
    """The round that a YAML text describes. Raises ValueError with the file's name and the field that is wrong."""
    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(f"{name}: not YAML: {error}") from error
    raw = _fields(content, name, ["id", "area", "level", "minutes", "title", "story", "code", "bugs"])
    _one_of(f"{name}: area", raw["area"], AREAS)
    _one_of(f"{name}: level", raw["level"], LEVELS)
    if not isinstance(raw["code"], str) or not isinstance(raw["bugs"], list) or len(raw["bugs"]) < 2:
        raise ValueError(f"{name}: code must be a text and bugs a list of at least two")
    if isinstance(raw["minutes"], bool) or not isinstance(raw["minutes"], int) or raw["minutes"] < 1:
        raise ValueError(f"{name}: minutes must be a whole number of at least 1, got {raw['minutes']!r}")
    bugs = tuple(_bug(one, raw["code"], f"{name}: bugs[{i}]") for i, one in enumerate(raw["bugs"]))
    if len({one.id for one in bugs}) < len(bugs):
        raise ValueError(f"{name}: bugs have the same id twice")
    texts = {key: _text(raw[key], f"{name}: {key}") for key in ("title", "story")}
    return Round(str(raw["id"]), raw["area"], raw["level"], raw["minutes"], **texts, code=raw["code"], bugs=bugs)


def _bug(content: Any, code: str, where: str) -> Bug:
    raw = _fields(content, where, ["id", "at", "name", "words", "why", "mend", "change"])
    changes = tuple((str(one.get("from")), str(one.get("to", ""))) for one in raw["change"])
    for old, _ in changes:
        if code.count(old) != 1:
            raise ValueError(f"{where}.change: must be once in the code, found {code.count(old)} times: {old!r}")
    return Bug(
        id=str(raw["id"]),
        lines=tuple(_line(code, part, f"{where}.at") for part in raw["at"]),
        name=_text(raw["name"], f"{where}.name"),
        words=tuple(str(word).lower() for word in raw["words"]),
        why=_text(raw["why"], f"{where}.why"),
        mend=_text(raw["mend"], f"{where}.mend"),
        changes=changes,
    )


def _line(code: str, part: str, where: str) -> int:
    """Number of the one line that contains `part`."""
    found = [n for n, line in enumerate(code.splitlines(), 1) if part in line]
    if len(found) != 1:
        raise ValueError(f"{where}: must be in one line of the code, found in lines {found}: {part!r}")
    return found[0]


def _fields(content: Any, where: str, names: list[str]) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{where}: must be a mapping of {', '.join(names)}, got {type(content).__name__}")
    if set(content) != set(names):
        missing, extra = sorted(set(names) - set(content)), sorted(map(str, set(content) - set(names)))
        raise ValueError(f"{where}: missing {missing}, unknown {extra}; accepted are {', '.join(names)}")
    return content


def _text(content: Any, where: str) -> Text:
    raw = _fields(content, where, ["en", "zh"])
    if not all(isinstance(one, str) and one.strip() for one in raw.values()):
        raise ValueError(f"{where}: both languages must be texts, got {raw!r}")
    return Text(raw["en"].strip(), raw["zh"].strip())


def _one_of(what: str, value: Any, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ValueError(f"{what} must be one of {', '.join(accepted)}, got {value!r}")


class _Rounds(Mapping[str, Round]):
    """All rounds by id, read from their files when first asked for."""

    @cached_property
    def _all(self) -> dict[str, Round]:
        folder = files("helpers.rehearsal").joinpath("rounds")
        names = sorted(one.name for one in folder.iterdir() if one.name.endswith(".yaml"))
        rounds = [read_round(folder.joinpath(name).read_text(encoding="utf-8"), name) for name in names]
        for name, one in zip(names, rounds, strict=True):
            if name != f"{one.id}.yaml":
                raise ValueError(f"{name}: id must be the file's name, got {one.id!r}")
        return {one.id: one for one in sorted(rounds, key=lambda one: (AREAS.index(one.area), one.id))}

    def __getitem__(self, id: str) -> Round:
        return self._all[id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


ROUNDS: Mapping[str, Round] = _Rounds()
"""Id → round, in the order of the areas."""
