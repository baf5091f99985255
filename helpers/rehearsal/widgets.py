"""The notebook front end: the same questions, clock, ticks and ratings as in the terminal, with ipywidgets.

    panel = rehearse(language="zh", areas=["efficiency"])       # what is due today
    panel = interview(minutes=30, level="senior")               # a mock interview, or the one that was interrupted

Each answer is kept as it is typed. Without a person (papermill, nbval) the first question is shown and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from html import escape
from typing import Any

import ipywidgets as widgets

from helpers.rehearsal import mock as mocks
from helpers.rehearsal import state
from helpers.rehearsal.questions import Bank, open_bank
from helpers.rehearsal.schedule import due_today
from helpers.rehearsal.schema import LANGUAGES, LEVELS, Question, rank
from helpers.rehearsal.sitting import PAUSE_S, RATING_NAMES, Sitting, clock, follow_up, undo
from helpers.rehearsal.words import reason_in, word

__all__ = ["Panel", "card", "interview", "rehearse"]

Turn = tuple[Sitting, str]  # a question to be answered, and the line above it
WIDE = widgets.Layout(width="100%")
COLOURS = {1: "#c0392b", 2: "#b9770e", 3: "#1e8449", 4: "#1e8449"}


def rehearse(
    *, language: str = "en", areas: Sequence[str] = (), level: str = "", minutes: float | None = None
) -> Panel:
    """What is due today, one question after another.

    Raises ValueError for an unknown language, area or level.
    """
    bank = _checked_bank(language, areas, level)
    return Panel(_Today(bank, language, areas, level, minutes), bank, language)


def interview(
    *, language: str = "en", areas: Sequence[str] = (), level: str = "senior", minutes: float = 30, resume: bool = True
) -> Panel:
    """A mock interview with a report at its end; an interrupted one goes on (`resume=False` begins anew).

    Raises ValueError for an unknown language, area or level, and for minutes outside 10 to 120.
    """
    bank = _checked_bank(language, areas, level)
    slots = mocks.compose(bank, state.read().reviews, level=level or "senior", minutes=minutes, areas=areas)
    held = mocks.unfinished(state.read()) if resume else None

    def begin() -> mocks.Mock:
        return mocks.begin(slots, level=level or "senior", minutes=minutes, language=language, areas=areas)

    spoken = held.language if held else language
    opening = _resumed(held) if held else _announced(slots, minutes, language)
    return Panel(_Interview(bank, held, begin, opening), bank, spoken)


def _announced(slots: Sequence[mocks.Slot], minutes: float, language: str) -> str:
    planned = ", ".join(word(language, f"slot-{slot.name}") for slot in slots)
    return word(language, "interview", n=len(slots), minutes=f"{minutes:g}", planned=planned)


def _resumed(held: mocks.Mock) -> str:
    when = f"{held.begun.astimezone():%Y-%m-%d %H:%M}"
    return word(held.language, "resuming", when=when, n=len(held.reviews))


def card(question: Question, language: str = "en") -> widgets.HTML:
    """A question with its rubric, mistakes and model answer, to read."""
    return widgets.HTML(_whole(question, language))


class Panel(widgets.VBox):
    """The widget. `turns` gives the questions; everything that is decided is in the log before the next step."""

    def __init__(self, turns: _Today | _Interview, bank: Bank, language: str):
        super().__init__(layout=widgets.Layout(width="100%", padding="8px"))
        self._turns, self._bank, self._language = turns, bank, language
        self._sitting: Sitting | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._clock = widgets.HTML()
        self._fault = widgets.HTML()
        self._running: asyncio.Task[None] | None = None
        begin = self._button("button-begin", lambda _: self._next_turn(), "primary")
        self.children = [widgets.HTML(turns.opening()), begin]  # the clock starts with the learner, not with Run All

    # --- answering

    def _next_turn(self) -> None:
        turn = self._turns.next()
        if turn is None:
            self._sitting = None
            self.children = [widgets.HTML(self._turns.closing())]
            return
        self._sitting, title = turn
        self._ask(self._sitting, title)

    def _ask(self, sitting: Sitting, title: str) -> None:
        self._text = widgets.Textarea(
            value=sitting.answer, placeholder=self._w("aloud"), layout=widgets.Layout(width="100%", height="180px")
        )
        self._text.observe(self._typed, names="value")
        self._hints = widgets.HTML()
        buttons = widgets.HBox(
            [self._button("button-hint", self._hint), self._button("button-done", self._done, "primary")]
        )
        told = [widgets.HTML(_prompt(sitting, title, self._language)), self._clock]
        if sitting.taken_up:
            told.append(widgets.HTML(f"<em>{escape(self._w('taken_up'))}</em>"))
        self.children = [*told, self._text, self._hints, buttons, self._fault]
        self._tick()
        with suppress(RuntimeError):  # no event loop: a plain Python without a person in front
            self._running = asyncio.get_running_loop().create_task(self._run_clock(sitting))

    async def _run_clock(self, sitting: Sitting) -> None:
        while self._sitting is sitting and self._text in self.children:
            self._tick()
            await asyncio.sleep(1)

    def _tick(self) -> None:
        if self._sitting is None:
            return
        left = self._sitting.seconds_left
        style = "" if left >= 0 else "color: #c0392b; font-weight: bold"
        told = f"{clock(left)} {self._w('left' if left >= 0 else 'over')}"
        self._clock.value = f'<span style="font-size: 120%; {style}">⏱ {told}</span>'

    def _typed(self, change: dict[str, Any]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._timer = asyncio.get_running_loop().call_later(PAUSE_S, self._keep)
        except RuntimeError:
            self._keep()

    def _keep(self) -> None:
        if self._sitting is None or self._text not in self.children:
            return  # the answer is finished: a late timer must not bring its draft back
        try:
            self._sitting.keep(self._text.value)
            self._fault.value = ""
        except state.StateError as error:
            self._fault.value = _red(self._w("not_saved", why=error))

    def _hint(self, _: object) -> None:
        assert self._sitting is not None
        hint = self._sitting.hint()
        told = f"{self._w('hint')}: {hint}" if hint else self._w("no_hint")
        self._hints.value += f"<div>💡 {escape(told)}</div>"
        self._keep()

    def _done(self, _: object) -> None:
        assert self._sitting is not None
        if self._timer is not None:
            self._timer.cancel()
        self._sitting.stop_clock()
        self._keep()
        self._sitting.answer = self._text.value
        self._judge(self._sitting)

    # --- judging

    def _judge(self, sitting: Sitting) -> None:
        question, language = sitting.question, self._language
        rows: list[widgets.Widget] = []
        self._points: dict[str, widgets.Checkbox] = {}
        for point, near in sitting.beside_points():
            note = (
                self._w("bonus") if rank(point.level) > rank(sitting.level) else self._w("must") if point.must else ""
            )
            beside = f"“{escape(near.sentence)}”" if near.sentence else "—"
            text = f"<b>{escape(point.text.in_(language))}</b> {f'[{escape(note)}]' if note else ''}<br><i>{beside}</i>"
            rows.append(self._ticked(self._points, point.id, text))
        self._mistakes: dict[str, widgets.Checkbox] = {}
        wrong = [
            self._ticked(self._mistakes, mistake.id, escape(mistake.text.in_(language)))
            for mistake in question.mistakes
        ]
        names = {number: self._w(name) for number, name in RATING_NAMES.items()}
        options = [(self._w("rubric"), 0), *((name, number) for number, name in names.items())]
        self._rating = widgets.ToggleButtons(options=options, value=0)
        self._verdict = widgets.HTML()
        said = widgets.HTML(f"<blockquote>{_lines(sitting.answer) or escape(self._w('empty'))}</blockquote>")
        self._show_verdict()
        self.children = [
            widgets.HTML(_prompt(sitting, "", language)),
            said,
            widgets.HTML(f"<h4>{escape(self._w('points'))}</h4>"),
            *rows,
            widgets.HTML(f"<h4>{escape(self._w('mistakes'))}</h4>"),
            *wrong,
            self._verdict,
            self._rating,
            self._button("button-save", self._save, "primary"),
            self._fault,
        ]

    def _ticked(self, boxes: dict[str, widgets.Checkbox], name: str, text: str) -> widgets.HBox:
        box = widgets.Checkbox(indent=False, layout=widgets.Layout(width="28px", min_width="28px"))
        box.observe(lambda _: self._show_verdict(), names="value")
        boxes[name] = box
        return widgets.HBox([box, widgets.HTML(f'<div style="line-height: 1.4">{text}</div>', layout=WIDE)])

    def _chosen(self) -> tuple[list[str], list[str]]:
        return tuple([name for name, box in b.items() if box.value] for b in (self._points, self._mistakes))  # type: ignore[return-value]

    def _show_verdict(self) -> None:
        assert self._sitting is not None
        verdict = self._sitting.verdict(*self._chosen())
        reason = reason_in(self._language, verdict.reason)
        told = self._w("rating", name=self._w(verdict.name), reason=reason)
        self._verdict.value = f'<b style="color: {COLOURS[verdict.rating]}">{escape(told)}</b>'

    def _save(self, _: object) -> None:
        assert self._sitting is not None
        ticked, mistakes = self._chosen()
        try:
            event = self._sitting.record(ticked, mistakes, rating=self._rating.value)
        except state.StateError as error:
            self._fault.value = _red(self._w("not_saved", why=error))
            return
        self._fault.value = ""
        verdict = self._sitting.verdict(ticked, mistakes)
        self._after(self._sitting, event.id, verdict.missed, verdict.score, mistakes)

    # --- after it

    def _after(self, sitting: Sitting, review: str, missed: Sequence[str], score: float, made: Sequence[str]) -> None:
        question = sitting.question
        follow = follow_up(question, missed, score, asked=self._turns.asked) if self._turns.offers else None
        buttons = [self._button("button-next", lambda _: self._next_turn(), "primary")]
        told = [widgets.HTML(_answer(question, self._language, missed, made))]
        if follow is not None and (asked := self._bank.usable(follow.id) if follow.id in self._bank else None):
            told.append(widgets.HTML(f"<p>↳ <b>{escape(asked.prompt.in_(self._language))}</b></p>"))
            buttons.append(self._button("button-follow", lambda _: self._follow(follow.id)))
        buttons.append(self._button("button-undo", lambda _: self._undo(sitting, review)))
        self.children = [*told, widgets.HBox(buttons), self._fault]

    def _follow(self, name: str) -> None:
        self._turns.insert(name)
        self._next_turn()

    def _undo(self, sitting: Sitting, review: str) -> None:
        try:
            undo(review)
        except state.StateError as error:
            self._fault.value = _red(str(error))
            return
        self._judge(sitting)

    def _button(self, key: str, action: Callable[[Any], None], style: str = "") -> widgets.Button:
        button = widgets.Button(description=self._w(key), button_style=style, layout=widgets.Layout(width="auto"))
        button.on_click(action)
        return button

    def _w(self, key: str, **values: object) -> str:
        return word(self._language, key, **values)


# --- where the questions come from ---------------------------------------------------------------------------


class _Today:
    """The questions that are due."""

    offers = True

    def __init__(self, bank: Bank, language: str, areas: Sequence[str], level: str, minutes: float | None):
        heads = {name: head for name, head in bank.items() if not areas or head.area in areas}
        history = state.read()
        due = due_today(heads, history.reviews, history.plan, now=datetime.now(UTC), minutes=minutes)
        begun = [draft.question for draft in state.drafts() if not draft.mock and draft.question in heads]
        self._queue = begun + [one.question for one in due if one.question not in begun]
        self._bank, self._language, self._level = bank, language, level
        self.asked: list[str] = []

    def opening(self) -> str:
        minutes = sum(self._bank[name].minutes for name in self._queue)
        told = word(self._language, "today", n=len(self._queue), minutes=f"{minutes:g}")
        return f"<b>{escape(told)}</b>"

    def next(self) -> Turn | None:
        while self._queue:
            name = self._queue.pop(0)
            question = self._bank.usable(name)
            if question is not None:
                self.asked.append(name)
                level = self._level if self._level in question.levels else ""
                title = f"{len(self.asked)}/{len(self.asked) + len(self._queue)}"
                return Sitting(question, language=self._language, level=level), title
        return None

    def insert(self, name: str) -> None:
        self._queue = [name, *(one for one in self._queue if one != name)]

    def closing(self) -> str:
        done = word(self._language, "day_done", n=len(self.asked))
        return f"<b>{escape(done if self.asked else word(self._language, 'nothing_due'))}</b>"


class _Interview:
    """The questions of a mock interview, which begins when its first question is asked for."""

    offers = False

    def __init__(self, bank: Bank, held: mocks.Mock | None, begin: Callable[[], mocks.Mock], opening: str):
        self._bank, self._held, self._begin, self._opening = bank, held, begin, opening
        self.asked: list[str] = []

    def opening(self) -> str:
        return f"<b>{escape(self._opening)}</b>"

    def next(self) -> Turn | None:
        held = self._held or self._begin()
        held = self._held = next(one for one in mocks.interviews(state.read()) if one.id == held.id)
        while (slot := mocks.next_slot(held, self._bank)) is not None:
            question = self._bank.usable(slot.question)
            if question is not None:
                level = held.level if held.level in question.levels else ""
                left = f"{max(0, round(held.seconds_left / 60))} {word(held.language, 'minutes_left')}"
                title = f"{word(held.language, 'slot-' + slot.name)} · {left}"
                return Sitting(question, language=held.language, level=level, mock=held.id, slot=slot.name), title
        if not held.ended:
            mocks.end(held, "finished")
        return None

    def insert(self, name: str) -> None:
        raise NotImplementedError("in an interview the interviewer chooses")

    def closing(self) -> str:
        from helpers.rehearsal.report import body, lines_of

        assert self._held is not None
        lines = lines_of(self._held, self._bank)
        return body(self._held, lines) if lines else escape(word(self._held.language, "stopped"))


def _checked_bank(language: str, areas: Sequence[str], level: str) -> Bank:
    bank = open_bank()
    known = list(dict.fromkeys(head.area for head in bank.values()))
    for what, given, accepted in (
        ("language", [language], LANGUAGES),
        ("areas", areas, known),
        ("level", [level] if level else [], LEVELS),
    ):
        for one in given:
            if one not in accepted:
                raise ValueError(f"{what} must be of {', '.join(accepted)}, got {one!r}")
    return bank


# --- HTML ----------------------------------------------------------------------------------------------------


def _prompt(sitting: Sitting, title: str, language: str) -> str:
    question = sitting.question
    minutes = f"{question.minutes:g} {word(language, 'minutes')}"
    told = [title, word(language, f"area-{question.area}"), question.kind, sitting.level, minutes]
    head = " · ".join(escape(part) for part in told if part)
    prompt = escape(question.prompt.in_(language))
    return f'<div style="opacity: .75">{head}</div><div style="font-size: 130%; line-height: 1.4">{prompt}</div>'


def _answer(question: Question, language: str, missed: Sequence[str], made: Sequence[str]) -> str:
    told = ""
    if missed:
        points = "".join(f"<li>{escape(question.point(name).text.in_(language))}</li>" for name in missed)
        told += f"<h4>{escape(word(language, 'missed'))}</h4><ul>{points}</ul>"
    for mistake in question.mistakes:
        if mistake.id in made:
            why = escape(mistake.why.in_(language))
            told += f"<p>✗ <b>{escape(mistake.text.in_(language))}</b><br>{why}</p>"
    return told + _model(question, language)


def _model(question: Question, language: str) -> str:
    told = f"<h4>{escape(word(language, 'model'))}</h4><p>{_lines(question.model_answer.in_(language))}</p>"
    links = "".join(
        f'<li><a href="{escape(one.address)}" target="_blank">{escape(one.title)}</a> ({one.date})</li>'
        for one in question.references
    )
    place = question.notebook
    if place is not None:
        exercise = f" · {word(language, 'exercise')} {place.exercise}" if place.exercise else ""
        links += f"<li>{escape(word(language, 'notebook'))} {place.file} · {escape(place.section)}{exercise}</li>"
    return f"{told}<ul>{links}</ul>"


def _whole(question: Question, language: str) -> str:
    points = "".join(_point(question, n, language) for n in range(len(question.rubric)))
    mistakes = "".join(
        f"<li>✗ {escape(m.text.in_(language))}<br>{escape(m.why.in_(language))}</li>" for m in question.mistakes
    )
    prompt = f'<div style="font-size: 130%; line-height: 1.4">{escape(question.prompt.in_(language))}</div>'
    return f"{prompt}<ul>{points}</ul><ul>{mistakes}</ul>{_model(question, language)}"


def _point(question: Question, number: int, language: str) -> str:
    point = question.rubric[number]
    notes = f"{word(language, 'must') + ', ' if point.must else ''}{point.level}"
    return f"<li>{escape(point.text.in_(language))} <small>[{escape(notes)}]</small></li>"


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def _red(text: str) -> str:
    return f'<b style="color: #c0392b">{escape(text)}</b>'
