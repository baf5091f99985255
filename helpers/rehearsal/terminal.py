"""The terminal front end: a question on the screen, an answer of several lines under a clock, ticks, rating, next.

Rich draws, prompt_toolkit reads; without a terminal (a pipe) plain lines are read, so that it can be scripted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from helpers.rehearsal import state
from helpers.rehearsal.sitting import PAUSE_S, Sitting, Verdict, clock, follow_up, undo
from helpers.rehearsal.words import reason_in, word

if TYPE_CHECKING:
    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    from helpers.rehearsal.questions import Bank
    from helpers.rehearsal.schema import Both, Mistake, Point, Question

LONGEST_UNSAVED_S = 3.0  # for somebody who types without any pause
COLOURS = {1: "red", 2: "yellow", 3: "green", 4: "bright_green"}


class Stop(Exception):
    """The learner wants to stop; everything so far is kept."""


@dataclass(frozen=True)
class Outcome:
    """How a question went: the recorded review, the verdict, and the follow-up that the learner asked for."""

    review: str
    verdict: Verdict
    follow: str = ""


def parse_numbers(text: str, highest: int) -> list[int]:
    """Positions from 0 of what people type: "1 3", "1,3", "2-4", "a" for all, "" for none.

    Raises ValueError for anything else, and for a number outside 1 to `highest`.
    """
    text = text.strip().lower().replace("，", ",").replace("、", ",").replace("–", "-")
    if text in ("a", "all", "全部"):
        return list(range(highest))
    found: set[int] = set()
    for part in re.split(r"[,\s]+", text):
        if not part or part in ("-", "0", "none"):
            continue
        span = re.fullmatch(r"(\d+)(?:-(\d+))?", part, re.ASCII)
        first, last = (int(span[1]), int(span[2] or span[1])) if span else (0, 0)
        if not 1 <= first <= last <= highest:
            raise ValueError(part)
        found.update(range(first - 1, last))
    return sorted(found)


class Screen:
    """Where questions are asked; `language` is that of the questions and of what the program says."""

    def __init__(self, language: str, console: Console | None = None):
        self.language = language
        self.console = console or Console(highlight=False)
        self.typed = sys.stdin.isatty() and self.console.is_terminal

    def say(self, key: str, style: str = "", **values: object) -> None:
        """One of the program's own sentences."""
        self.console.print(Text(word(self.language, key, **values), style=style))

    def line(self, prompt: str) -> str:
        """One line from the learner. Raises Stop on Ctrl-C, Ctrl-D and the end of a pipe."""
        try:
            if not self.typed:
                return input(prompt)
            from prompt_toolkit import prompt as ask

            return ask(prompt)
        except (KeyboardInterrupt, EOFError):
            raise Stop from None

    def choose(self, prompt: str, accepted: str, read: Callable[[str], object]) -> object:
        """Ask until `read` accepts the line; a refusal says what is accepted."""
        while True:
            text = self.line(prompt)
            try:
                return read(text)
            except ValueError:
                said = f"{text.strip()!r} ✗ → {accepted}"
                self.console.print(Text(said, style="red"))

    def left_out(self, bank: Bank) -> None:
        """Say which question file was found faulty just now."""
        self.console.print(Text(f"left out: {bank.problems[-1]}", style="yellow"))

    # --- the steps of a question

    def ask(
        self, sitting: Sitting, bank: Bank, *, asked: Sequence[str] = (), title: str = "", follow_ups: bool = True
    ) -> Outcome:
        """A whole question, from its prompt to what comes next. Raises Stop when the learner stops.

        Args:
            asked: ids of questions that are no follow-up any more.
            follow_ups: offer one; in an interview the interviewer decides.
        """
        self.show_prompt(sitting, title)
        self.answer(sitting)
        while True:
            outcome = self.judge(sitting)
            self.show_answer(sitting.question, outcome.verdict.missed)
            follow = follow_up(sitting.question, outcome.verdict.missed, outcome.verdict.score, asked=asked)
            offered = bank.usable(follow.id) if follow_ups and follow and follow.id in bank else None
            wanted = self._next(offered)
            if wanted == "u":
                undo(outcome.review)
                self.say("undone", "yellow")
                continue
            if wanted == "q":
                raise Stop
            return Outcome(outcome.review, outcome.verdict, follow.id if follow and wanted == "f" else "")

    def show_prompt(self, sitting: Sitting, title: str = "") -> None:
        """The question, before anything slow is loaded."""
        question = sitting.question
        minutes = f"{question.minutes:g} {self._w('minutes')}"
        told = f"{self._w('area-' + question.area)} · {question.kind} · {sitting.level} · {minutes}"
        head = f"{title} · {told}" if title else told
        prompt = Text(question.prompt.in_(self.language), style="bold")
        self.console.print(Panel(prompt, title=head, title_align="left", subtitle=question.id, subtitle_align="right"))
        self.say("aloud", "dim")
        if sitting.taken_up:
            self.say("taken_up", "yellow")

    def answer(self, sitting: Sitting) -> None:
        """Let the learner answer; the text is kept at each pause. Raises Stop with the answer kept."""
        text = _Answering(self, sitting).run() if self.typed else self._plain_answer(sitting)
        sitting.stop_clock()
        self._keep(sitting, text)

    def judge(self, sitting: Sitting) -> Outcome:
        """Ticks, rating and the record of it."""
        while True:
            ticked = self._tick_points(sitting)
            mistakes = self._tick_mistakes(sitting)
            verdict = sitting.verdict(ticked, mistakes)
            rating = self._rate(verdict)
            if rating is not None:
                break
        event = self._until_saved(lambda: sitting.record(ticked, mistakes, rating=rating))
        return Outcome(event.id, verdict)

    def save(self, event: str, **data: Any) -> state.Event:
        """Write an event to the log; when that fails, say why and try again until the learner gives it up (Stop)."""
        return self._until_saved(lambda: state.append(event, **data))

    def _until_saved(self, write: Callable[[], state.Event]) -> state.Event:
        while True:
            try:
                return write()
            except state.StateError as error:
                self.say("not_saved", "bold red", why=error)
                if self.line(self._w("try_again")).strip().lower() == "q":
                    raise Stop from None

    def show_answer(self, question: Question, missed: Sequence[str] = ()) -> None:
        """What was missed, the model answer, and where to read on."""
        if missed:
            points = "\n".join(f"• {question.point(name).text.in_(self.language)}" for name in missed)
            self.console.print(Panel(Text(points), title=self._w("missed"), title_align="left", border_style="yellow"))
        model = Text(question.model_answer.in_(self.language))
        self.console.print(Panel(model, title=self._w("model"), title_align="left", border_style="green"))
        for reference in question.references:
            self.console.print(Text(f"{reference.title} ({reference.date}) {reference.address}", style="dim"))
        if question.notebook:
            place = f"{self._w('notebook')} {question.notebook.file} · {question.notebook.section}"
            exercise = question.notebook.exercise
            self.console.print(Text(place + (f" · {self._w('exercise')} {exercise}" if exercise else ""), style="dim"))

    # --- pieces

    def _w(self, key: str, **values: object) -> str:
        return word(self.language, key, **values)

    def _plain_answer(self, sitting: Sitting) -> str:
        self.say("plain_end", "dim")
        lines = [sitting.answer] if sitting.answer else []
        while (line := self.line("")).strip() != ".":
            lines.append(line)
            self._keep(sitting, "\n".join(lines))
        return "\n".join(lines)

    def _keep(self, sitting: Sitting, text: str) -> None:
        try:
            sitting.keep(text)
        except state.StateError as error:
            self.say("not_saved", "bold red", why=error)

    def _tick_points(self, sitting: Sitting) -> list[str]:
        table = Table(title=self._w("points"), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        table.add_column("")
        for key in ("point", "closest"):
            table.add_column(self._w(key), ratio=1, overflow="fold")  # Chinese has no spaces to break at
        for number, (point, near) in enumerate(sitting.beside_points(), 1):
            told = Text(point.text.in_(self.language))
            if note := self._note(point, sitting.level):
                told.append(f" [{note}]", style="bold")
            beside = Text(f"“{near.sentence}”" if near.sentence else "—", style="dim" if near.similarity < 0.1 else "")
            table.add_row(str(number), told, beside)
        if not sitting.answer.strip():
            self.say("empty", "yellow")
        self.console.print(table)
        return self._numbers("which_points", [point.id for point in sitting.question.rubric])

    def _note(self, point: Point, level: str) -> str:
        from helpers.rehearsal.schema import rank

        if rank(point.level) > rank(level):
            return self._w("bonus")
        return self._w("must") if point.must else ""

    def _tick_mistakes(self, sitting: Sitting) -> list[str]:
        self.console.print(Text(self._w("mistakes"), style="bold"))
        mistakes = sitting.question.mistakes
        for number, mistake in enumerate(mistakes, 1):
            self.console.print(Text(f" {number}  {mistake.text.in_(self.language)}"))
        made = self._numbers("which_mistakes", [mistake.id for mistake in mistakes])
        for mistake in mistakes:
            if mistake.id in made:
                self._why_wrong(mistake)
        return made

    def _why_wrong(self, mistake: Mistake) -> None:
        why: Both = mistake.why
        title = f"{self._w('why')}: {mistake.text.in_(self.language)}"
        self.console.print(
            Panel(Text(why.in_(self.language)), title=Text(title), title_align="left", border_style="red")
        )

    def _numbers(self, prompt: str, names: Sequence[str]) -> list[str]:
        accepted = self._w("numbers", n=len(names))
        chosen = self.choose(self._w(prompt), accepted, lambda text: parse_numbers(text, len(names)))
        assert isinstance(chosen, list)
        return [names[n] for n in chosen]

    def _rate(self, verdict: Verdict) -> int | None:
        """The rating, 0 for the rubric's own, None to tick again."""
        reason = reason_in(self.language, verdict.reason)
        told = word(self.language, "rating", name=self._w(verdict.name), reason=reason)
        self.console.print(Text(told, style=f"bold {COLOURS[verdict.rating]}"))
        known: dict[str, int | None] = {"": 0, "u": None, **state.RATINGS, **{str(n): n for n in (1, 2, 3, 4)}}

        def read(text: str) -> int | None:
            if text.strip().lower() not in known:
                raise ValueError(text)
            return known[text.strip().lower()]

        chosen = self.choose(self._w("rate"), self._w("ratings"), read)
        assert chosen is None or isinstance(chosen, int)
        return chosen

    def _next(self, follow: Question | None) -> str:
        known = ("", "u", "q", "f") if follow else ("", "u", "q")

        def read(text: str) -> str:
            if text.strip().lower() not in known:
                raise ValueError(text)
            return text.strip().lower()

        accepted = self._w("nexts_follow" if follow else "nexts")
        prompt = self._w("next_follow", prompt=follow.prompt.in_(self.language)) if follow else self._w("next")
        return str(self.choose(prompt, accepted, read))


class _Answering:
    """An answer of several lines under a running clock, kept at each pause of the keys."""

    def __init__(self, screen: Screen, sitting: Sitting):
        self.screen, self.sitting = screen, sitting
        self.fault = ""
        self._timer: object | None = None
        self._unsaved_since: float | None = None

    def run(self) -> str:
        from prompt_toolkit import PromptSession

        session: PromptSession[str] = PromptSession(
            multiline=True,
            key_bindings=self._keys(),
            bottom_toolbar=self._toolbar,
            refresh_interval=0.5,
            prompt_continuation="  ",
        )
        session.default_buffer.on_text_changed += self._changed
        try:
            return session.prompt("> ", default=self.sitting.answer)
        except (KeyboardInterrupt, EOFError):
            self._save(session.default_buffer.text or self.sitting.answer)
            raise Stop from None

    def _keys(self) -> KeyBindings:
        from prompt_toolkit.key_binding import KeyBindings

        keys = KeyBindings()

        @keys.add("c-d")
        def _done(event: KeyPressEvent) -> None:
            event.current_buffer.validate_and_handle()

        @keys.add("f1")
        def _hint(event: KeyPressEvent) -> None:
            from prompt_toolkit.application import run_in_terminal

            hint = self.sitting.hint()
            self._save(event.current_buffer.text)
            run_in_terminal(lambda: self._show_hint(hint))

        return keys

    def _show_hint(self, hint: str | None) -> None:
        if hint is None:
            self.screen.say("no_hint", "yellow")
        else:
            self.screen.console.print(Text(f"{word(self.screen.language, 'hint')}: {hint}", style="yellow"))

    def _toolbar(self) -> str:
        left = self.sitting.seconds_left
        word_ = word(self.screen.language, "left" if left >= 0 else "over")
        fault = f" · {word(self.screen.language, 'not_kept')}: {self.fault}" if self.fault else ""
        return f" {clock(left)} {word_} · {word(self.screen.language, 'answer_keys')}{fault}"

    def _changed(self, buffer: Buffer) -> None:
        import asyncio
        import time

        now = time.monotonic()
        if self._timer is not None:
            self._timer.cancel()  # type: ignore[attr-defined]
        if self._unsaved_since is None:
            self._unsaved_since = now
        wait = min(PAUSE_S, max(0.0, self._unsaved_since + LONGEST_UNSAVED_S - now))
        self._timer = asyncio.get_running_loop().call_later(wait, lambda: self._save(buffer.text))

    def _save(self, text: str) -> None:
        self._unsaved_since = None
        try:
            self.sitting.keep(text)
            self.fault = ""
        except state.StateError as error:
            self.fault = str(error)
