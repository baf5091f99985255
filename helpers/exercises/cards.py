"""Cards: what a check, a hint or a table of progress looks like, as HTML for a notebook and as plain text."""

from __future__ import annotations

import html
import re
import sys
from dataclasses import dataclass, field
from typing import Any, Protocol

# Colours that hold on white and on JupyterLab's dark grey, and that stay apart for colour-blind readers
# (Okabe and Ito, 2008). Text takes the theme's own colour.
COLOURS = {"passed": "#009e73", "not yet": "#d55e00", "open": "#8a8a8a", "info": "#3f8fd2"}
SIGNS = {"passed": "✓", "not yet": "✗", "open": "○", "info": "·"}

BOX = "border-left:4px solid {colour};background:rgba(127,127,127,.09);padding:.5em .9em;margin:.3em 0;line-height:1.45"
MONO = "font-family:var(--jp-code-font-family,monospace);font-size:.93em;white-space:pre-wrap;overflow-wrap:anywhere"
QUIET = "opacity:.75"


class Shown(Protocol):
    """Anything with the two faces of a card."""

    def text(self) -> str: ...

    def html(self) -> str: ...


@dataclass(frozen=True)
class Card:
    """A headline, labelled rows and a closing note. `mood` is one of passed, not yet, open, info."""

    mood: str
    headline: str
    rows: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    body: str = field(default="", repr=False)  # ready HTML below the rows
    body_text: str = field(default="", repr=False)  # its plain twin

    def text(self) -> str:
        lines = [f"{SIGNS[self.mood]} {self.headline}"]
        width = max((9, *(len(label) for label, _ in self.rows)))
        for label, value in self.rows:
            lines.append(f"  {label:<{width}} " + value.replace("\n", "\n" + " " * (width + 3)))
        lines += [self.body_text] if self.body_text else []
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)

    def html(self) -> str:
        colour = COLOURS[self.mood]
        sign = f'<span style="color:{colour};font-weight:bold">{SIGNS[self.mood]}</span>'
        parts = [f"<div>{sign} <strong>{escape(self.headline)}</strong></div>"]
        if self.rows:
            parts.append(_rows(self.rows))
        parts.append(self.body)
        parts += [f'<div style="{QUIET}">{prose(note)}</div>' for note in self.notes]
        return f'<div style="{BOX.format(colour=colour)}">{"".join(parts)}</div>'


def escape(text: str) -> str:
    """Text that a browser shows as it is, whatever a learner's repr says."""
    return html.escape(text, quote=True)


def prose(text: str) -> str:
    """Escaped text with `code` between backticks set as code and line breaks kept."""
    marked = re.sub(r"`([^`\n]+)`", rf'<code style="{MONO}">\1</code>', escape(text))
    return marked.replace("\n", "<br>")


def code(text: str) -> str:
    """Escaped text as a block of code."""
    return f'<pre style="{MONO};margin:.4em 0;background:none;color:inherit">{escape(text)}</pre>'


def in_ipython() -> bool:
    """True in a notebook or an IPython terminal; IPython is never imported for the question."""
    return _shell() is not None


def show(card: Shown) -> None:
    """Display a card in a notebook; elsewhere write its text, unless a prompt will show the repr anyway."""
    if in_ipython():
        from IPython.display import display

        display({"text/html": card.html(), "text/plain": card.text()}, raw=True)  # type: ignore[no-untyped-call]
    elif not hasattr(sys, "ps1"):
        _write(card.text() + "\n")


def cell_number() -> int | None:
    """The number of the running cell, None outside IPython."""
    shell = _shell()
    return None if shell is None else int(shell.execution_count)


class Displayed:
    """What the public functions return: shown once when made, and again when a later cell asks for it."""

    def __init__(self, card: Card) -> None:
        self._card = card
        show(card)
        self._cell = cell_number()

    def __repr__(self) -> str:
        return self._card.text()

    def _ipython_display_(self) -> None:
        if cell_number() != self._cell:  # as the last line of its own cell it is on the screen already
            show(self._card)


def _rows(rows: tuple[tuple[str, str], ...]) -> str:
    cells = "".join(
        f'<div style="{QUIET}">{escape(label)}</div>'
        + (f"<div>{prose(value)}</div>" if label == "usually" else f'<div style="{MONO}">{escape(value)}</div>')
        for label, value in rows
    )
    return f'<div style="display:grid;grid-template-columns:max-content 1fr;gap:.1em .9em;margin:.3em 0">{cells}</div>'


def _shell() -> Any:
    module = sys.modules.get("IPython")
    return None if module is None else module.get_ipython()


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:  # a terminal that has no ✓
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
