"""What a question of the bank is made of: the fields of `bank/<area>/<id>.yaml`, and the rules between them.

What this does not check: whether an answer is right. The numbers in it are recomputed from its `check` entries, and
the rules that need other files (ids of follow-ups, headings of notebooks) are in `helpers.rehearsal.questions`.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    StrictBool,
    StrictFloat,
    StrictInt,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
    field_validator,
    model_validator,
)

SCHEMA = 1
AREAS = ("data", "efficiency", "overfitting", "inference", "interpretability", "start-up")
KINDS = ("explain", "compare", "estimate", "design", "debug", "code", "ethics")
LEVELS = ("junior", "senior", "staff")
LANGUAGES = ("en", "zh")

Area = Literal["data", "efficiency", "overfitting", "inference", "interpretability", "start-up"]
Kind = Literal["explain", "compare", "estimate", "design", "debug", "code", "ethics"]
Level = Literal["junior", "senior", "staff"]
Language = Literal["en", "zh"]

_HAN = re.compile(r"[\u3400-\u9fff]")
_SCIENTIFIC = re.compile(r"^[+-]?\d+(\.\d*)?[eE][+-]?\d+$")
_URL: TypeAdapter[HttpUrl] = TypeAdapter(HttpUrl)

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def _date_text(value: Any) -> Any:
    """YAML reads 2019-10-04 as a date and 2019 as a number; both are kept as the text that was written."""
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_DATE = r"^\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?$"
DateText = Annotated[
    str,
    BeforeValidator(_date_text),
    StringConstraints(pattern=_DATE),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": _DATE}, {"type": "integer"}]}),  # a year alone
]


def _number(value: Any) -> Any:
    """YAML 1.1 reads 7.0e9 without a sign as text; people write it all the same, and it means a number."""
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not yes or no")
    return float(value) if isinstance(value, str) and _SCIENTIFIC.match(value) else value


def _read_number(value: Any) -> Any:
    return value if isinstance(value, bool) else _number(value)


Number = Annotated[
    StrictInt | StrictFloat,
    BeforeValidator(_number),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": _SCIENTIFIC.pattern}]}),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Both(_Part):
    """The same text in both languages, each written natively."""

    en: Words
    zh: Words

    @field_validator("en")
    @classmethod
    def _english(cls, text: str) -> str:
        if _HAN.search(text):
            raise ValueError("the English text has Chinese characters in it")
        return text

    @field_validator("zh")
    @classmethod
    def _chinese(cls, text: str) -> str:
        if not _HAN.search(text):
            raise ValueError("the Chinese text has no Chinese character in it")
        return text

    def in_(self, language: str) -> str:
        """The text in "en" or "zh"."""
        return self.zh if language == "zh" else self.en


class Point(_Part):
    """One thing that a good answer says. `level`: from which level on it is expected; `must`: without it one fails."""

    id: Id
    text: Both
    weight: Annotated[StrictInt, Field(ge=1, le=5)]
    must: StrictBool = False
    level: Level = "junior"


class Mistake(_Part):
    """A wrong thing that candidates say, the rubric point that it contradicts, and why it is wrong."""

    id: Id
    text: Both
    contradicts: Id
    why: Both


class FollowUp(_Part):
    """The question that comes next: after a strong answer, or when `point` was missing."""

    id: Id
    when: Literal["strong", "missing"]
    point: Id | None = None

    @model_validator(mode="after")
    def _case(self) -> Self:
        if self.when == "missing" and self.point is None:
            raise ValueError("when: missing needs the point that was missed")
        if self.when == "strong" and self.point is not None:
            raise ValueError("when: strong is asked after a good answer and takes no point")
        return self


class Reference(_Part):
    """A paper or document with its date (YYYY, YYYY-MM or YYYY-MM-DD)."""

    title: Words
    address: Words
    date: DateText

    @field_validator("address")
    @classmethod
    def _web(cls, text: str) -> str:
        if not text.startswith(("https://", "http://")):
            raise ValueError("an address starts with https:// or http://")
        _URL.validate_python(text)
        return text


class Place(_Part):
    """Where the notebooks show it with a measured number: `section` is the exact text of a heading."""

    file: Annotated[str, StringConstraints(pattern=r"^\d{2}_[a-z0-9_]+$")]
    section: Words
    exercise: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+$")] | None = None

    @model_validator(mode="after")
    def _number(self) -> Self:
        if self.exercise and int(self.exercise.split(".")[0]) != int(self.file[:2]):
            raise ValueError(f"exercise {self.exercise} is not one of notebook {self.file}")
        return self


class Check(_Part):
    """A number in the answer that is recomputed: by a call of `helpers.estimates`, or by plain arithmetic."""

    says: Words
    value: Number
    unit: str = ""
    rel: Annotated[Number, Field(ge=0, le=1)]
    call: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*$")] | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    field: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*$")] | None = None
    arithmetic: Words | None = None

    @field_validator("args", mode="before")
    @classmethod
    def _numbers(cls, given: Any) -> Any:
        return {name: _read_number(value) for name, value in given.items()} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.call is None) == (self.arithmetic is None):
            raise ValueError("give either call or arithmetic, and not both")
        if self.call is None and (self.args or self.field):
            raise ValueError("args and field belong to a call")
        return self


class Question(_Part):
    """One question with everything that a rehearsal of it needs."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    id: Id
    rev: Annotated[StrictInt, Field(ge=1)]
    area: Area
    tags: Annotated[tuple[Id, ...], Field(min_length=1)]
    kind: Kind
    levels: Annotated[tuple[Level, ...], Field(min_length=1)]
    minutes: Annotated[Number, Field(ge=1, le=30)]
    prompt: Both
    model_answer: Both
    rubric: Annotated[tuple[Point, ...], Field(min_length=4, max_length=7)]
    mistakes: Annotated[tuple[Mistake, ...], Field(min_length=2)]
    hints: Annotated[tuple[Both, ...], Field(min_length=1)]
    follow_ups: Annotated[tuple[FollowUp, ...], Field(min_length=1)]
    references: Annotated[tuple[Reference, ...], Field(min_length=1)]
    notebook: Place | None
    check: tuple[Check, ...] = ()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for rule in (_distinct_ids, _musts, _known_points, _follows_others, _has_a_place, _numbers_are_said):
            rule(self)
        return self

    def point(self, name: str) -> Point:
        """The rubric point called `name`; KeyError when there is none."""
        return {point.id: point for point in self.rubric}[name]


def json_schema() -> dict[str, Any]:
    """What editors need to complete and check a question file."""
    schema = Question.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "A question of the bank"}


# --- rules between the fields --------------------------------------------------------------------------------


def _twice(names: Iterable[str]) -> list[str]:
    names = list(names)
    return sorted({name for name in names if names.count(name) > 1})


def _refuse_twice(names: Iterable[str], what: str) -> None:
    if found := _twice(names):
        raise ValueError(f"{what} twice: {', '.join(found)}")


def _distinct_ids(question: Question) -> None:
    _refuse_twice((point.id for point in question.rubric), "the same rubric id")
    _refuse_twice((mistake.id for mistake in question.mistakes), "the same mistake id")
    _refuse_twice(question.tags, "the same tag")
    _refuse_twice(question.levels, "the same level")
    _refuse_twice((f"{f.id} ({f.when} {f.point or ''})".replace(" )", ")") for f in question.follow_ups), "a follow-up")


def rank(level: str) -> int:
    """0 for junior, 1 for senior, 2 for staff."""
    return LEVELS.index(level)


def _highest(levels: Sequence[str]) -> str:
    return max(levels, key=rank)


def _musts(question: Question) -> None:
    lowest, highest = min(question.levels, key=rank), _highest(question.levels)
    if not any(point.must and rank(point.level) <= rank(lowest) for point in question.rubric):
        raise ValueError(f"no rubric point is a must at level {lowest}: then nobody can fail the question there")
    for point in question.rubric:
        if rank(point.level) > rank(highest):
            raise ValueError(
                f"point {point.id} is expected from {point.level} on, the question is for {highest} at most"
            )


def _known_points(question: Question) -> None:
    known = {point.id for point in question.rubric}
    for mistake in question.mistakes:
        if mistake.contradicts not in known:
            raise ValueError(f"mistake {mistake.id} contradicts {mistake.contradicts!r}, which is no rubric point")
    for follow in question.follow_ups:
        if follow.point is not None and follow.point not in known:
            raise ValueError(f"follow-up {follow.id} is asked for {follow.point!r}, which is no rubric point")


def _follows_others(question: Question) -> None:
    if any(follow.id == question.id for follow in question.follow_ups):
        raise ValueError("a question is no follow-up of itself")


def _has_a_place(question: Question) -> None:
    if question.notebook is None and question.area != "start-up":
        raise ValueError("notebook may be null only for a start-up question")


def _numbers_are_said(question: Question) -> None:
    texts = [question.prompt, question.model_answer, *(p.text for p in question.rubric), *question.hints]
    texts += [text for m in question.mistakes for text in (m.text, m.why)]
    said = " ".join(f"{text.en} {text.zh}" for text in texts)
    for check in question.check:
        if check.says not in said:
            raise ValueError(f"check {check.says!r}: these words are nowhere in the question")
