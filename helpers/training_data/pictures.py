"""Three small pictures for the audit report, as SVG text: no plotting library, no script, any theme."""

from __future__ import annotations

from markupsafe import Markup

from helpers.training_data.report import Picture

BLUE, ORANGE = "#3b8bc4", "#D55E00"
ROW = 18
LABEL = 132
BAR = 110
MAP = 180


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12, weight: str = "normal") -> Markup:
    return Markup(
        '<text x="{}" y="{}" text-anchor="{}" font-size="{}" font-weight="{}" fill="currentColor">{}</text>'
    ).format(round(x, 1), round(y, 1), anchor, size, weight, text)


def _svg(title: str, width: int, height: int, parts: list[Markup]) -> Markup:
    return Markup(
        '<svg role="img" aria-label="{}" width="{}" height="{}" viewBox="0 0 {} {}" '
        'style="max-width:100%;font-family:inherit">{}{}</svg>'
    ).format(title, width, height, width, height, _text(0, 14, title, weight="bold"), Markup("").join(parts))


def _cut(text: str, length: int = 20) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def missing_map(picture: Picture) -> Markup:
    """Where values are missing: a line per column, a cell per slice of rows in file order."""
    if not picture.missing:
        return Markup("")
    cells = len(picture.missing[0][1])
    width = LABEL + MAP
    step = MAP / cells
    parts = []
    for i, (name, shares) in enumerate(picture.missing):
        y = 24 + i * ROW
        parts.append(_text(LABEL - 6, y + 13, _cut(name), "end"))
        parts.append(
            Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="currentColor" opacity=".09"/>').format(
                LABEL, y, MAP, ROW - 3
            )
        )
        parts += [
            Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="{}" opacity="{}"/>').format(
                round(LABEL + j * step, 2), y, round(step + 0.3, 2), ROW - 3, ORANGE, round(0.25 + 0.75 * share, 2)
            )
            for j, share in enumerate(shares)
            if share > 0
        ]
    height = 24 + len(picture.missing) * ROW + 18
    parts.append(_text(LABEL, height - 5, "first row", size=11))
    parts.append(_text(width, height - 5, "last row", "end", size=11))
    return _svg("Where values are missing", width, height, parts)


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
    parts = []
    for i, (name, share, label, colour) in enumerate(bars):
        y = 24 + i * ROW
        parts.append(_text(LABEL - 6, y + 13, _cut(name), "end"))
        parts.append(
            Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="{}" rx="2"/>').format(
                LABEL, y, round(max(1.0, BAR * share), 1), ROW - 3, colour
            )
        )
        parts.append(_text(LABEL + max(1.0, BAR * share) + 5, y + 13, label, size=11))
    return _svg(title, LABEL + BAR + 80, 30 + len(bars) * ROW, parts)
