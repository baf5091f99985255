"""The report of a mock interview: Markdown and HTML, with a picture for each area.

The pictures are SVG, so that Chinese text is drawn with the reader's own fonts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from helpers.files import replacing
from helpers.rehearsal.mock import Mock
from helpers.rehearsal.questions import Bank
from helpers.rehearsal.schema import Place, Question
from helpers.rehearsal.sitting import RATING_NAMES
from helpers.rehearsal.state import Review
from helpers.rehearsal.words import word

BLUE, ORANGE, GREY, INK = "#0072B2", "#E69F00", "#d9d9d9", "#222222"  # Okabe and Ito (2008)
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"

LABELS = {
    "en": {
        "title": "Mock interview",
        "asked": "{n} questions, {used:.0f} of {planned:g} minutes used, level {level}",
        "columns": ("", "Question", "Area", "Time used / planned", "Points", "Rating"),
        "areas": "By area",
        "said": "of the weight",
        "time": "time used, planned = line",
        "missed": "Points missed",
        "none_missed": "No expected point was missed.",
        "mistakes": "Mistakes made",
        "none_made": "No mistake was ticked.",
        "next": "What to do next",
        "nothing": "Nothing stands out: take a harder level, or a longer interview.",
        "exercise": "exercise",
        "again": "rehearse it again: `rehearse show {id}`",
        "minutes": "min",
        "slow": "{n} answers took longer than planned, by {over:.0f} minutes together.",
    },
    "zh": {
        "title": "模拟面试",
        "asked": "共 {n} 题，用时 {used:.0f} 分钟（计划 {planned:g} 分钟），级别 {level}",
        "columns": ("", "题目", "方向", "用时 / 计划", "得分", "评级"),
        "areas": "按方向看",
        "said": "的权重",
        "time": "用时（竖线为计划）",
        "missed": "漏掉的要点",
        "none_missed": "该答的要点都答到了。",
        "mistakes": "犯的错误",
        "none_made": "没有勾选任何错误。",
        "next": "接下来做什么",
        "nothing": "没有明显短板：可以提高级别，或者加长面试。",
        "exercise": "练习",
        "again": "再练一次：`rehearse show {id}`",
        "minutes": "分钟",
        "slow": "有 {n} 个回答超时，合计 {over:.0f} 分钟。",
    },
}


@dataclass(frozen=True)
class Line:
    """One question of the interview, with what was made of it."""

    review: Review
    question: Question


def lines_of(mock: Mock, bank: Bank) -> list[Line]:
    """The answered questions in their order; one that is no longer in the bank is left out."""
    found = [(review, bank.usable(review.question)) for review in mock.reviews if review.question in bank]
    return [Line(review, question) for review, question in found if question is not None]


def write_report(mock: Mock, bank: Bank, folder: Path) -> Path:
    """Write `report.html`, `report.md` and a picture `<area>.svg` per area into `folder`; the path of the HTML.

    Raises ValueError when no question was answered, OSError when the folder cannot be written.
    """
    lines = lines_of(mock, bank)
    if not lines:
        raise ValueError("no question of this interview was answered: there is nothing to report")
    folder.mkdir(parents=True, exist_ok=True)
    for area, some in by_area(lines).items():
        _write(folder / f"{area}.svg", picture(some, mock.language))
    _write(folder / "report.md", markdown(mock, lines))
    _write(folder / "report.html", html(mock, lines))
    return folder / "report.html"


def by_area(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """The lines of each area, in the order in which the areas came."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line.question.area, []).append(line)
    return found


# --- what is said in both forms ------------------------------------------------------------------------------


def _summary(mock: Mock, lines: Sequence[Line]) -> list[str]:
    label = LABELS[mock.language]
    used = sum(line.review.seconds for line in lines) / 60
    told = [str(label["asked"]).format(n=len(lines), used=used, planned=mock.minutes, level=mock.level)]
    over = [line.review.seconds - line.review.planned for line in lines if line.review.seconds > line.review.planned]
    if over:
        told.append(str(label["slow"]).format(n=len(over), over=sum(over) / 60))
    return told


def _row(line: Line, language: str) -> tuple[str, ...]:
    review = line.review
    spent = f"{review.seconds / 60:.1f} / {review.planned / 60:g} {LABELS[language]['minutes']}"
    prompt = line.question.prompt.in_(language)
    slot = word(language, f"slot-{review.slot}")
    return (
        slot,
        prompt,
        word(language, f"area-{line.question.area}"),
        spent,
        f"{review.score:.0%}",
        RATING_NAMES[review.rating],
    )


def _missed(line: Line, language: str) -> list[str]:
    known = {point.id: point for point in line.question.rubric}
    return [known[name].text.in_(language) for name in line.review.missed if name in known]


def _made(line: Line, language: str) -> list[tuple[str, str]]:
    known = {mistake.id: mistake for mistake in line.question.mistakes}
    made = [known[name] for name in line.review.mistakes if name in known]
    return [(mistake.text.in_(language), mistake.why.in_(language)) for mistake in made]


def next_steps(lines: Sequence[Line]) -> list[Line]:
    """The questions to work on, the weakest first: rated again or hard, or a mistake made."""
    weak = [line for line in lines if line.review.rating <= 2 or line.review.mistakes]
    return sorted(weak, key=lambda line: (line.review.rating, line.review.score))


def link(place: Place) -> tuple[str, str]:
    """Address and text of a notebook's section, as JupyterLab makes its anchors."""
    anchor = quote(place.section.replace(" ", "-"))
    return f"{(NOTEBOOKS / f'{place.file}.ipynb').as_uri()}#{anchor}", f"{place.file} · {place.section}"


# --- Markdown ------------------------------------------------------------------------------------------------


def markdown(mock: Mock, lines: Sequence[Line]) -> str:
    """The report as Markdown; its pictures lie beside it."""
    language, label = mock.language, LABELS[mock.language]
    told = [f"# {_title(mock)}", "", *_summary(mock, lines), ""]
    told += ["| " + " | ".join(label["columns"]) + " |", "|---" * len(label["columns"]) + "|"]
    told += ["| " + " | ".join(_cell(text) for text in _row(line, language)) + " |" for line in lines]
    told += ["", f"## {label['areas']}", ""]
    told += [f"![{area}]({area}.svg)\n" for area in by_area(lines)]
    told += [f"## {label['missed']}", ""]
    missed = [(line, _missed(line, language)) for line in lines]
    for line, points in missed:
        if points:
            told += [f"**{line.question.prompt.in_(language)}**", "", *(f"- {point}" for point in points), ""]
    told += [] if any(points for _, points in missed) else [str(label["none_missed"]), ""]
    told += [f"## {label['mistakes']}", ""]
    made = [one for line in lines for one in _made(line, language)]
    told += [f"- **{wrong}** {why}" for wrong, why in made] or [str(label["none_made"])]
    told += ["", f"## {label['next']}", ""]
    steps = [f"{n}. {_step(line, language)}" for n, line in enumerate(next_steps(lines), 1)]
    return "\n".join([*told, *(steps or [str(label["nothing"])]), ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _step(line: Line, language: str) -> str:
    label, place = LABELS[language], line.question.notebook
    again = str(label["again"]).format(id=line.question.id)
    if place is None:
        return again
    address, text = link(place)
    exercise = f", {label['exercise']} {place.exercise}" if place.exercise else ""
    return f"[{text}]({address}){exercise}; {again}"


# --- HTML ----------------------------------------------------------------------------------------------------

STYLE = """
body { font: 16px/1.5 system-ui, "Noto Sans SC", "PingFang SC", "Microsoft YaHei", sans-serif; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
table { border-collapse: collapse; width: 100% } th, td { border-bottom: 1px solid #ccc; padding: .4rem .6rem;
  text-align: left; vertical-align: top }
td:nth-child(n+3) { white-space: nowrap } svg { display: block; margin: 1rem 0; max-width: 100% }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #1b1b1b } a { color: #8cc4f0 } }
"""


def html(mock: Mock, lines: Sequence[Line]) -> str:
    """The report as one page that needs nothing else: style and pictures are in it."""
    lang = "zh-CN" if mock.language == "zh" else "en"
    top = f'<!doctype html><html lang="{lang}"><head><meta charset="utf-8"><title>{escape(_title(mock))}</title>'
    return f"{top}<style>{STYLE}</style></head><body>{body(mock, lines)}</body></html>\n"


def body(mock: Mock, lines: Sequence[Line]) -> str:
    """What stands on the page: a notebook shows this."""
    language, label = mock.language, LABELS[mock.language]
    head = "".join(f"<th>{escape(name)}</th>" for name in label["columns"])
    rows = "".join("<tr>" + "".join(f"<td>{escape(t)}</td>" for t in _row(line, language)) + "</tr>" for line in lines)
    parts = [
        f"<h1>{escape(_title(mock))}</h1>",
        *(f"<p>{escape(told)}</p>" for told in _summary(mock, lines)),
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>",
        f"<h2>{label['areas']}</h2>",
        *(picture(some, language) for some in by_area(lines).values()),
        f"<h2>{label['missed']}</h2>",
        _missed_html(lines, language),
        f"<h2>{label['mistakes']}</h2>",
        _made_html(lines, language),
        f"<h2>{label['next']}</h2>",
        _next_html(lines, language),
    ]
    return "\n".join(parts)


def _title(mock: Mock) -> str:
    return f"{LABELS[mock.language]['title']}, {mock.begun.astimezone():%Y-%m-%d %H:%M}"


def _missed_html(lines: Sequence[Line], language: str) -> str:
    told = ""
    for line in lines:
        if points := _missed(line, language):
            listed = "".join(f"<li>{escape(point)}</li>" for point in points)
            told += f"<p><strong>{escape(line.question.prompt.in_(language))}</strong></p><ul>{listed}</ul>"
    return told or f"<p>{LABELS[language]['none_missed']}</p>"


def _made_html(lines: Sequence[Line], language: str) -> str:
    made = [one for line in lines for one in _made(line, language)]
    listed = "".join(f"<li><strong>{escape(wrong)}</strong> {escape(why)}</li>" for wrong, why in made)
    return f"<ul>{listed}</ul>" if made else f"<p>{LABELS[language]['none_made']}</p>"


def _next_html(lines: Sequence[Line], language: str) -> str:
    steps = ""
    label = LABELS[language]
    for line in next_steps(lines):
        again = escape(str(label["again"]).format(id=line.question.id)).replace("`", "")
        place = line.question.notebook
        if place is None:
            steps += f"<li>{again}</li>"
            continue
        address, text = link(place)
        exercise = f", {label['exercise']} {place.exercise}" if place.exercise else ""
        steps += f'<li><a href="{escape(address)}">{escape(text)}</a>{exercise}; {again}</li>'
    return f"<ol>{steps}</ol>" if steps else f"<p>{label['nothing']}</p>"


# --- the picture of an area ----------------------------------------------------------------------------------

WIDTH, LEFT, ROW = 720, 300, 46
BAR_WIDTH = WIDTH - LEFT - 110


def picture(lines: Sequence[Line], language: str) -> str:
    """An SVG with two bars a question: the share of the points, and the time against the plan."""
    area, label = lines[0].question.area, LABELS[language]
    mean = sum(line.review.score for line in lines) / len(lines)
    title = f"{word(language, f'area-{area}')}: {mean:.0%} {label['said']}"
    height = 44 + ROW * len(lines) + 22
    bars = "".join(_bars(line, 44 + ROW * n, language) for n, line in enumerate(lines))
    legend = _legend(LEFT, height - 6, str(label["columns"][4]), BLUE)
    legend += _legend(LEFT + 90, height - 6, str(label["time"]), ORANGE)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title)}" font-family="system-ui, \'Noto Sans SC\', sans-serif">'
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>'
        f"{_text(12, 26, title, size=16, weight='bold')}{bars}{legend}</svg>"
    )


def _bars(line: Line, top: int, language: str) -> str:
    review = line.review
    longest = max(2.0, review.seconds / max(review.planned, 1))  # the plan is at half the width or before it
    plan = LEFT + BAR_WIDTH / longest
    spent = BAR_WIDTH * review.seconds / max(review.planned, 1) / longest
    prompt = line.question.prompt.in_(language)
    room = 20 if language == "zh" else 40
    shown = prompt if len(prompt) <= room else prompt[: room - 1] + "…"
    minutes = f"{review.seconds / 60:.1f} / {review.planned / 60:g} {LABELS[language]['minutes']}"
    return (
        _text(12, top + 20, shown, size=13)
        + f'<rect x="{LEFT}" y="{top + 2}" width="{BAR_WIDTH}" height="14" fill="{GREY}"/>'
        + f'<rect x="{LEFT}" y="{top + 2}" width="{BAR_WIDTH * review.score:.1f}" height="14" fill="{BLUE}"/>'
        + _text(LEFT + BAR_WIDTH + 8, top + 14, f"{review.score:.0%}", size=12)
        + f'<rect x="{LEFT}" y="{top + 20}" width="{spent:.1f}" height="10" fill="{ORANGE}"/>'
        + f'<line x1="{plan:.1f}" x2="{plan:.1f}" y1="{top + 18}" y2="{top + 32}" stroke="{INK}" stroke-width="2"/>'
        + _text(LEFT + BAR_WIDTH + 8, top + 30, minutes, size=12)
    )


def _legend(x: float, y: float, text: str, fill: str) -> str:
    return f'<rect x="{x}" y="{y - 10}" width="10" height="10" fill="{fill}"/>' + _text(x + 15, y, text, size=12)


def _text(x: float, y: float, text: str, *, size: int, weight: str = "normal", fill: str = INK) -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{fill}">{escape(text)}</text>'


def _write(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
