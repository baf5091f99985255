"""Three small pictures for the audit report, as HTML with inline styles: no plotting library, no script, any theme.

Plain blocks instead of SVG, because JupyterLab removes SVG from the stored outputs of a notebook that is not trusted
yet, which is every freshly cloned one.
"""

from __future__ import annotations

from markupsafe import Markup

from helpers.training_data.report import Picture

BLUE, ORANGE = "#3b8bc4", "#D55E00"
LABEL = 130
BAR = 110
MAP = 180
LINE = "font-size:12px;line-height:18px;white-space:nowrap"


def _block(width: float, colour: str, opacity: float = 1.0) -> Markup:
    """A filled rectangle, `width` pixels wide."""
    style = f"display:inline-block;width:{width:.1f}px;height:12px;vertical-align:middle;background:{colour}"
    return Markup('<span style="{};opacity:{:.2f}"></span>').format(style, opacity)


def _line(name: str, drawing: Markup, text: str = "") -> Markup:
    label = f"display:inline-block;width:{LABEL}px;text-align:right;margin-right:6px"
    body = Markup('<span style="{}">{}</span>{} {}').format(label, _cut(name), drawing, text)
    return Markup('<div style="{}">{}</div>').format(LINE, body)


def _picture(title: str, lines: list[Markup]) -> Markup:
    heading = Markup('<div style="{};font-weight:600">{}</div>').format(LINE, title)
    return Markup("<div>{}{}</div>").format(heading, Markup("").join(lines))


def _cut(text: str, length: int = 20) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def missing_map(picture: Picture) -> Markup:
    """Where values are missing: a line per column, a cell per slice of rows in file order."""
    if not picture.missing:
        return Markup("")
    lines = []
    for name, shares in picture.missing:
        step = MAP / len(shares)
        cells = [
            _block(step, ORANGE, 0.25 + 0.75 * share) if share > 0 else _block(step, "gray", 0.15) for share in shares
        ]
        lines.append(_line(name, Markup("").join(cells)))
    ends = Markup('<span style="opacity:.75">first row … last row</span>')
    return _picture("Where values are missing", [*lines, _line("", ends)])


def class_bars(picture: Picture) -> Markup:
    """Rows per class."""
    if not picture.classes:
        return Markup("")
    total = sum(count for _, count in picture.classes)
    most = max(count for _, count in picture.classes)
    bars = [(name, count / most, f"{count:,} ({count / total:.1%})", BLUE) for name, count in picture.classes]
    return _bars("Rows of each class", bars)


def score_bars(picture: Picture) -> Markup:
    """What each column alone says about the target."""
    if not picture.scores:
        return Markup("")
    floor = picture.score_floor
    bars = [
        (name, max(0.0, (value - floor) / (1 - floor)), f"{value:.2f}", ORANGE if name in picture.suspects else BLUE)
        for name, value in picture.scores
    ]
    return _bars(f"{picture.score_name} of one column alone ({floor:g} is chance)", bars)


def _bars(title: str, bars: list[tuple[str, float, str, str]]) -> Markup:
    lines = [_line(name, _block(max(1.0, BAR * share), colour), text) for name, share, text, colour in bars]
    return _picture(title, lines)
