"""The command `rehearse`. Only what a command needs is imported, and only when it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from helpers.rehearsal.questions import Bank
    from helpers.rehearsal.state import History

AREAS = ("data", "efficiency", "overfitting", "inference", "interpretability", "start-up")
LEVELS = ("junior", "senior", "staff")
LANGUAGES = ("en", "zh")

app = typer.Typer(
    rich_markup_mode=None,  # help drawn by Rich takes three times as long to appear
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Rehearse interview questions about large models, offline, in English or Chinese.",
    epilog="Example: rehearse --lang zh --minutes 10",
)
export_app = typer.Typer(rich_markup_mode=None, help="Write the questions for another program.")
app.add_typer(export_app, name="export")


def _one_of(accepted: Sequence[str]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        for one in value if isinstance(value, list) else [value]:
            if one is not None and one not in accepted:
                raise typer.BadParameter(f"{one!r} is not accepted; give one of {', '.join(accepted)}")
        return value

    return check


Lang = Annotated[
    str, typer.Option(metavar="en|zh", envvar="LAB_LANGUAGE", callback=_one_of(LANGUAGES), help="Language.")
]
Area = Annotated[
    list[str] | None,
    typer.Option("--area", metavar="|".join(AREAS), callback=_one_of(AREAS), help="Only this area; may be repeated."),
]
Level = Annotated[
    str | None,
    typer.Option(metavar="|".join(LEVELS), callback=_one_of(LEVELS), help="Points above this level are a bonus."),
]
Minutes = Annotated[float | None, typer.Option(min=1, max=600, help="Time for this, in minutes.")]


def main() -> None:
    """Run the command line; a fault of the files or the disk ends it with one sentence and status 1."""
    try:
        app(prog_name="rehearse")
    except Exception as error:
        from helpers.rehearsal.questions import BankError  # only now: help needs neither
        from helpers.rehearsal.state import StateError

        if not isinstance(error, BankError | StateError):
            raise
        typer.echo(f"rehearse stopped: {error}", err=True)
        sys.exit(1)


def _now() -> datetime:
    return datetime.now(UTC)


def _bank(console: Console) -> Bank:
    from helpers.rehearsal.questions import open_bank

    bank = open_bank()
    for problem in bank.problems:
        console.print(f"left out: {problem}", style="yellow", markup=False)
    return bank


def _history(console: Console) -> History:
    from helpers.rehearsal import state

    history = state.read()
    for fault in history.faults:
        console.print(f"{fault}. Everything else is there.", style="yellow", markup=False)
    return history


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _fail(message: str) -> typer.Exit:
    typer.echo(f"rehearse stopped: {message}", err=True)
    return typer.Exit(1)


@contextmanager
def _stoppable(lang: str) -> Iterator[None]:
    """Ctrl-C, q and the end of a pipe: a sentence instead of a traceback."""
    from helpers.rehearsal.terminal import Stop
    from helpers.rehearsal.words import word

    try:
        yield
    except (Stop, KeyboardInterrupt):
        typer.echo(word(lang, "stopped"))
        raise typer.Exit(130) from None


@app.callback(invoke_without_command=True)
def due(
    context: typer.Context, lang: Lang = "en", area: Area = None, level: Level = None, minutes: Minutes = None
) -> None:
    """What is due today: due questions first, then new ones, as far as the day's minutes go."""
    if context.invoked_subcommand is not None:
        return
    console = _console()
    bank, history = _bank(console), _history(console)
    from helpers.rehearsal.daily import rehearse_today

    with _stoppable(lang):
        rehearse_today(console, bank, history, lang=lang, areas=area, level=level or "", minutes=minutes, now=_now)


@app.command(epilog="Example: rehearse mock --area efficiency --area inference --level senior --minutes 30 --lang zh")
def mock(
    lang: Lang = "en",
    area: Area = None,
    level: Level = "senior",
    minutes: Annotated[float, typer.Option(min=10, max=120, help="Answering time, in minutes.")] = 30,
    resume: Annotated[
        bool | None, typer.Option("--resume/--new", help="Go on with an interrupted interview, or begin a new one.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the report.")] = None,
) -> None:
    """A mock interview: warm-up, depth, estimation, debugging, a start-up question; a report at the end."""
    from helpers.rehearsal.interview import hold

    console = _console()
    bank = _bank(console)
    _history(console)
    with _stoppable(lang):
        try:
            hold(console, bank, level=level or "senior", minutes=minutes, lang=lang, areas=area or (), resume=resume,
                 out=out)  # fmt: skip
        except (ValueError, OSError) as error:
            raise _fail(str(error)) from None


@app.command(epilog="Example: rehearse drill kv-cache --number 3")
def drill(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One drill; any of them without it.")] = None,
    lang: Lang = "en",
    number: Annotated[int, typer.Option(min=1, max=100, help="How many problems.")] = 5,
    seed: Annotated[int | None, typer.Option(help="The same problems again.")] = None,
    names: Annotated[bool, typer.Option("--list", help="List the drills.")] = False,
) -> None:
    """Estimation drills: type a number with its unit, see how far off it was and how it is worked out."""
    from helpers.rehearsal.drills import DRILLS

    console = _console()
    if names:
        return _list(console, [(one.name, one.area, one.title[lang]) for one in DRILLS.values()])
    if name is not None and name not in DRILLS:
        raise _unknown("drill", name, list(DRILLS))
    from helpers.rehearsal import practice

    with _stoppable(lang):
        practice.drill(console, name, lang=lang, number=number, seed=seed)
    return None


@app.command(epilog="Example: rehearse debug --lang zh")
def debug(
    name: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One round; the one least done without it.")
    ] = None,
    lang: Lang = "en",
    names: Annotated[bool, typer.Option("--list", help="List the rounds.")] = False,
) -> None:
    """A debugging round: mark the lines that are wrong and say why; see what you found, missed, and what was fine."""
    from helpers.rehearsal.debugging import ROUNDS

    console = _console()
    if names:
        return _list(console, [(one.id, one.area, one.title[lang]) for one in ROUNDS.values()])
    if name is not None and name not in ROUNDS:
        raise _unknown("round", name, list(ROUNDS))
    from helpers.rehearsal import practice

    done = [event.data.get("name") for event in _history(console).of("round")]
    with _stoppable(lang):
        practice.debug(console, name or min(ROUNDS, key=done.count), lang=lang)
    return None


def _list(console: Console, rows: Sequence[tuple[str, str, str]]) -> None:
    for name, area, title in rows:
        console.print(f"{name:32} {area:18} {title}", markup=False, soft_wrap=True)


def _unknown(what: str, name: str, known: Sequence[str]) -> typer.Exit:
    import difflib

    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else f"`rehearse {_COMMAND[what]} --list` shows them"
    return _fail(f"no {what} {name!r}; {hint}")


_COMMAND = {"drill": "drill", "round": "debug"}


@app.command(epilog="Example: rehearse stats")
def stats(lang: Lang = "en") -> None:
    """How much is retained, what comes due, and which areas are weak."""
    from helpers.rehearsal.listing import show_stats

    console = _console()
    bank, history = _bank(console), _history(console)
    show_stats(console, bank, history, now=_now(), lang=lang)


@export_app.command(epilog="Example: rehearse export anki interview.apkg")
def anki(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="An .apkg file.")] = Path("interview-questions.apkg"),
) -> None:
    """All questions as an Anki package in both languages; importing it again makes no duplicates."""
    from helpers.rehearsal.anki import export

    try:
        number = export(_bank(_console()), file)
    except (ValueError, OSError) as error:
        raise _fail(str(error)) from None
    typer.echo(f"{number} notes in {file}, two cards each")


@export_app.callback(invoke_without_command=True)
def export(context: typer.Context) -> None:
    """Write the questions for another program."""
    if context.invoked_subcommand is None:
        raise _fail("say for which program: rehearse export anki [FILE]")


@app.command(epilog="Example: rehearse show adam-memory --lang zh")
def show(name: Annotated[str, typer.Argument(metavar="ID", help="Id of a question.")], lang: Lang = "en") -> None:
    """A question with its rubric, mistakes and model answer."""
    from helpers.rehearsal.listing import show_question

    console = _console()
    bank = _bank(console)
    try:
        question = bank.question(name)
    except KeyError as error:
        raise _fail(str(error.args[0])) from None
    show_question(console, question, lang)


@app.command(epilog="Example: rehearse search KV cache")
def search(words: Annotated[list[str], typer.Argument(help="Words, all of which the question holds.")]) -> None:
    """The questions that hold all these words, in either language."""
    from helpers.rehearsal.listing import search_bank

    console = _console()
    if not search_bank(console, _bank(console), words):
        raise _fail(f"no question holds all of: {' '.join(words)}")


@app.command(epilog="Example: rehearse validate")
def validate(
    folder: Annotated[Path | None, typer.Argument(help="Folder of the questions; the bank without it.")] = None,
) -> None:
    """Check every question; each fault with file, line and field."""
    from helpers.rehearsal import questions

    where = folder or questions.bank_folder()
    if not where.is_dir():
        raise _fail(f"{where} is not a folder; give one that holds <area>/<id>.yaml")
    scripts = Path(__file__).resolve().parents[2] / "solutions"
    problems = questions.validate(where, notebooks=scripts if scripts.is_dir() else None)
    for problem in problems:
        typer.echo(problem)
    number = len(questions.files(where))
    if problems or not number:
        raise _fail(f"{len(problems)} faults in {number} questions" if number else f"no question in {where}")
    typer.echo(f"{number} questions, no fault")


@app.command(epilog="Example: rehearse plan --date 2027-01-15 --minutes-a-day 20")
def plan(
    on: Annotated[str | None, typer.Option("--date", metavar="YYYY-MM-DD|none", help="Day of the interview.")] = None,
    minutes_a_day: Annotated[float | None, typer.Option(min=1, max=600, help="Minutes a day.")] = None,
) -> None:
    """Set the interview's date and the minutes a day, and show the days ahead."""
    from helpers.rehearsal import state
    from helpers.rehearsal.listing import show_plan

    console = _console()
    bank, history = _bank(console), _history(console)
    made = history.plan
    if on is not None or minutes_a_day is not None:
        day = _day(on) if on is not None else made.date
        made = state.Plan(day, minutes_a_day or made.minutes_a_day)
        state.append("plan", date=day.isoformat() if day else None, minutes_a_day=made.minutes_a_day)
    show_plan(console, bank, history.reviews, made, now=_now())


def _day(text: str) -> date | None:
    if text == "none":
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        said = f"{text!r} is no date; give YYYY-MM-DD such as 2027-01-15, or none"
        raise typer.BadParameter(said, param_hint="--date") from None
    if day < _now().astimezone().date():
        raise typer.BadParameter(f"{day} is over; give a day from today on, or none", param_hint="--date")
    return day
