"""The README's pictures of the rehearsal, of a real terminal and JupyterLab: `python -m tools.rehearsal_pictures`.

The terminal is tmux with real key presses; what it shows is drawn by Chromium. The learner's own record is left alone.
What this does not show: how another terminal's fonts and colours look.
"""

from __future__ import annotations

import argparse
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path

from playwright.sync_api import Page
from rich.terminal_theme import MONOKAI

from tools import screenshots
from tools.build_notebooks import ROOT

COLUMNS, ROWS = 112, 40
FONT = '15px/1.35 "DejaVu Sans Mono", "Noto Sans Mono CJK SC", monospace'
ANSWER = {
    "en": "First whether it fits its purpose, then measured: missing values and wrong labels, duplicates and "
    "near-duplicates, leakage between train and test. For the sources: licences, personal data, and whether they "
    "look like what users will ask.",
    "zh": "先看数据跟用途对不对得上，再逐项量化：缺失值、错误标签、重复和近似重复、训练集和测试集之间的泄漏。"
    "数据来源要看许可证、个人信息，以及和用户真实的提问像不像。",
}
QUESTION = {"area": "data", "id": "data-quality-seed"}


class PictureError(RuntimeError):
    """The terminal or the notebook did not do what was asked; says which step."""


# --- the terminal --------------------------------------------------------------------------------------------


class Terminal:
    """A tmux session of its own server, in which a command runs."""

    def __init__(self, command: str, environment: dict[str, str]):
        self._socket = f"rehearsal-{secrets.token_hex(4)}"  # the server of the one before may still be ending
        variables = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
        size = ["-x", str(COLUMNS), "-y", str(ROWS)]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, *variables, f"{command}; sleep 1000")

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-u", "-L", self._socket, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout

    def press(self, *keys: str) -> None:
        """Keys by their tmux names (`Enter`, `Escape`, `F1`) or text."""
        self._tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        """Text, letter by letter."""
        self._tmux("send-keys", "-l", text)

    def wait_for(self, text: str, *, seconds: float = 30) -> None:
        """Until `text` is on the screen. Raises PictureError when it does not come."""
        end = time.monotonic() + seconds
        while text not in self.screen():
            if time.monotonic() > end:
                raise PictureError(f"{text!r} did not appear within {seconds} s:\n{self.screen()}")
            time.sleep(0.1)

    def screen(self, *, colours: bool = False) -> str:
        """What the terminal shows now."""
        return self._tmux("capture-pane", "-p", *(["-e"] if colours else []))

    def close(self) -> None:
        """End the session and all that runs in it."""
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], check=False, capture_output=True)


@contextmanager
def terminal(command: str, home: Path) -> Iterator[Terminal]:
    """A terminal in which `command` runs with `home` as the learner's folder."""
    opened = Terminal(command, {"LAB_HOME": str(home), "TERM": "xterm-256color", "COLORTERM": "truecolor"})
    try:
        yield opened
    finally:
        opened.close()


def draw(screen: str, target: Path, page: Page) -> Path:
    """Draw what a terminal shows, colours included, and save it as a picture."""
    lines = "\n".join(_line(line) for line in screen.rstrip().splitlines())
    style = f"margin: 0; padding: 14px 18px; width: {COLUMNS}ch; background: #1f2328; color: #d8dee4; font: {FONT}"
    page.set_content(f"<pre style='{style}'>{lines}</pre>")
    page.wait_for_timeout(300)
    target.parent.mkdir(parents=True, exist_ok=True)
    page.locator("pre").screenshot(path=str(target))
    return target


def _line(line: str) -> str:
    """A line with its colours as HTML; a Chinese character is as wide as two others, as in the terminal."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    html = ""
    for segment in Text.from_ansi(line).render(Console()):
        style = segment.style.get_html_style(MONOKAI) if segment.style else ""
        style = re.sub(r"background-color: #0c0c0c;?", "", style)  # its own dark, not the picture's
        shown = "".join(
            f"<i style='display: inline-block; width: 2ch; font-style: normal'>{char}</i>"
            if cell_len(char) == 2
            else escape(char)
            for char in segment.text
        )
        html += f"<span style='{escape(style)}'>{shown}</span>"
    return html


def terminal_picture(target: Path, page: Page, language: str = "en") -> Path:
    """The question after the answer: rubric, closest sentences, ticks and the rating."""
    with tempfile.TemporaryDirectory() as folder:
        command = f"{Path(sys.executable).parent / 'rehearse'} --area {QUESTION['area']} --lang {language} --minutes 6"
        with terminal(command, Path(folder)) as opened:
            opened.wait_for("F1")
            opened.type(ANSWER[language])
            time.sleep(1)
            opened.press("F1")
            time.sleep(1)
            opened.press("Escape", "Enter")
            opened.wait_for("1-4")
            opened.press("1-3", "Enter")
            time.sleep(0.5)
            opened.press("Enter")
            opened.wait_for("again, hard" if language == "en" else "again、hard")
            return draw(opened.screen(colours=True), target, page)


# --- the notebook --------------------------------------------------------------------------------------------


def notebook_picture(target: Path, page: Page, server: screenshots.Server, language: str = "zh") -> Path:
    """The same in JupyterLab: typed, done, two points ticked."""
    cell = "rehearse"
    open_panel(page, server, cell, f'rehearse(language="{language}", areas=["{QUESTION["area"]}"])')
    panel = page.locator(".jp-OutputArea .widget-vbox").first
    panel.locator("button").first.click()
    box = panel.locator("textarea")
    box.wait_for()
    box.click()
    page.keyboard.type(ANSWER[language], delay=5)
    page.wait_for_timeout(1000)
    panel.locator("button").nth(1).click()
    boxes = panel.locator("input[type=checkbox]")
    boxes.first.wait_for()
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.wait_for_timeout(800)
    page.set_viewport_size({"width": 1150, "height": 1800})
    page.wait_for_timeout(500)
    target.parent.mkdir(parents=True, exist_ok=True)
    panel.screenshot(path=str(target))
    return target


def open_panel(page: Page, server: screenshots.Server, cell: str, source: str) -> None:
    """Open the notebook, run its imports, and run one cell with another source."""
    shutil.copy(ROOT / "notebooks" / "interview_rehearsal.ipynb", server.folder / "rehearsal.ipynb")
    screenshots.open_notebook(page, server, "rehearsal.ipynb")
    for name in ("parameters", "imports"):
        screenshots.run_cell(page, name)
    screenshots.write_cell(page, cell, source)
    screenshots.run_cell(page, cell)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; gives the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder for the pictures")
    arguments = parser.parse_args(argv)
    if shutil.which("tmux") is None:
        print("no tmux here: install it (apt install tmux, brew install tmux)", file=sys.stderr)
        return 1
    with screenshots.browser_page(width=1000, height=1400) as page:
        for language in ("en", "zh"):
            print(terminal_picture(arguments.out / f"rehearsal-terminal-{language}.png", page, language))
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        server = screenshots.jupyterlab(Path(folder))
        with server as running, screenshots.browser_page(width=1150, height=1400) as page:
            print(notebook_picture(arguments.out / "rehearsal-notebook.png", page, running))
    return 0


if __name__ == "__main__":
    sys.exit(main())
