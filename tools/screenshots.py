"""Open a notebook in JupyterLab in a real Chromium, run it, photograph it: `python tools/screenshots.py NOTEBOOK …`.

The server, its settings, its kernels' folders and the learner's record are temporary; the notebook is a copy.
The browser tests use the same functions. What this does not catch: what other browsers do differently.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tools.build_notebooks import kernel_environment
from tools.ensure_chromium import find

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage")  # fmt: skip
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
START_S = 90
PART_PX = 2400  # a picture higher than this is hard to look at, and beyond 16,384 px Chromium cuts it off
KERNEL_STATUS = "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status"
CELLS = """() => jupyterapp.shell.currentWidget.content.model.toJSON().cells"""


class ScreenshotError(RuntimeError):
    """JupyterLab or the browser did not do what was asked; says which step."""


@dataclass(frozen=True)
class Server:
    """A running JupyterLab: its address, its token and its folder."""

    address: str
    token: str
    folder: Path

    def link(self, name: str) -> str:
        """The address that opens the notebook `name` of the server's folder."""
        return f"{self.address}/lab/tree/{name}?token={self.token}&reset"


# --- the server ----------------------------------------------------------------------------------------------


@contextmanager
def jupyterlab(folder: Path, *, theme: str = "light") -> Iterator[Server]:
    """JupyterLab on a free port of 127.0.0.1, with `folder` as its root and nothing of the user's own settings."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lab-", ignore_cleanup_errors=True)))
        environment = stack.enter_context(kernel_environment()) | _folders(home)
        _write_settings(home / "settings", theme)
        server = Server(f"http://127.0.0.1:{_free_port()}", secrets.token_hex(16), folder)
        log = stack.enter_context((home / "log.txt").open("w+"))
        process = subprocess.Popen(_command(server), cwd=folder, env=environment, stdout=log, stderr=log)
        stack.callback(_stop, process)
        _wait_until_up(server, process, home / "log.txt")
        yield server


def _command(server: Server) -> list[str]:
    port = server.address.rsplit(":", 1)[1]
    options = [f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={server.token}"]
    exposed = ["--LabApp.expose_app_in_browser=True", "--allow-root", "--no-browser", "--ip=127.0.0.1"]
    return [sys.executable, "-m", "jupyterlab", *exposed, *options, f"--ServerApp.root_dir={server.folder}"]


def _folders(home: Path) -> dict[str, str]:
    names = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    return {name: str(home / folder) for name, folder in names.items()} | {"JUPYTER_NO_CONFIG": "1"}


def _write_settings(folder: Path, theme: str) -> None:
    settings: dict[str, dict[str, Any]] = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "apputils-extension/themes": {"theme": THEMES[theme]},
        # all cells in the page at once, not only those in view
        "notebook-extension/tracker": {"windowingMode": "none"},
        "docmanager-extension/plugin": {"autosave": False},
    }
    for name, content in settings.items():
        path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_until_up(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    request = urllib.request.Request(f"{server.address}/api/status?token={server.token}")
    # a proxy of the machine knows nothing of its localhost
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise ScreenshotError(f"JupyterLab ended with status {process.returncode}:\n{log.read_text()[-2000:]}")
        try:
            opener.open(request, timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise ScreenshotError(f"JupyterLab did not answer within {START_S} s:\n{log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C lets the server end its kernels; only when it does not, it is killed."""
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --- the browser ---------------------------------------------------------------------------------------------


@contextmanager
def browser_page(*, width: int = 1280, height: int = 900, theme: str = "light") -> Iterator[Page]:
    """A page in a fresh Chromium; ScreenshotError when there is none on this machine."""
    executable = find()
    if executable is None:
        raise ScreenshotError("no Chromium found: install one, or set CHROMIUM to its path")
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=list(FLAGS), env=dict(environment))
        scheme: Any = theme
        page = launched.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        try:
            yield page
        finally:
            launched.close()


def open_notebook(page: Page, server: Server, name: str) -> None:
    """Open a notebook and wait until its kernel is ready."""
    page.goto(server.link(name), wait_until="domcontentloaded", timeout=START_S * 1000)
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=START_S * 1000)
    page.wait_for_function(f"() => {KERNEL_STATUS} === 'idle'", timeout=START_S * 1000)


def run_all(page: Page, *, timeout_s: float = 600) -> None:
    """Choose Run → Run All Cells, as a learner does, and wait until the last cell is done or one has failed."""
    page.evaluate("jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    page.click(".lm-MenuBar-itemLabel:text-is('Run')")
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
    done = f"""() => {{
        const cells = jupyterapp.shell.currentWidget.content.model.toJSON().cells
            .filter(cell => cell.cell_type === 'code' && [].concat(cell.source).join('').trim());
        const failed = cells.some(cell => cell.outputs.some(output => output.output_type === 'error'));
        return {KERNEL_STATUS} === 'idle' && (failed || cells.every(cell => cell.execution_count));
    }}"""
    page.wait_for_function(done, timeout=timeout_s * 1000, polling=1000)


def write_cell(page: Page, cell_id: str, source: str) -> None:
    """Put `source` into the cell, as if a learner had typed it."""
    page.evaluate(
        """([id, source]) => [...jupyterapp.shell.currentWidget.content.model.cells]
            .find(cell => cell.sharedModel.id === id).sharedModel.setSource(source)""",
        [cell_id, source],
    )


def run_cell(page: Page, cell_id: str, *, timeout_s: float = 120) -> None:
    """Run one cell and wait until the kernel is idle again."""
    index = [cell["id"] for cell in cells(page)].index(cell_id)
    page.evaluate(
        """async index => {
            jupyterapp.shell.currentWidget.content.activeCellIndex = index;
            await jupyterapp.commands.execute('notebook:run-cell');
        }""",
        index,
    )
    page.wait_for_function(f"() => {KERNEL_STATUS} === 'idle'", timeout=timeout_s * 1000)


def cells(page: Page) -> list[dict[str, Any]]:
    """The cells of the open notebook as they are now, outputs included."""
    found: list[dict[str, Any]] = page.evaluate(CELLS)
    return found


def pictures(page: Page) -> list[tuple[int, int]]:
    """The natural size (width, height) of every picture among the outputs; (0, 0) for one that did not load."""
    found = page.evaluate(
        """() => [...document.querySelectorAll('.jp-OutputArea img')].map(i => [i.naturalWidth, i.naturalHeight])"""
    )
    return [(int(width), int(height)) for width, height in found]


def set_theme(page: Page, theme: str) -> None:
    """Change JupyterLab's look to "light" or "dark" while a notebook is open."""
    page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", THEMES[theme])
    page.wait_for_selector(f"body[data-jp-theme-name='{THEMES[theme]}']", state="attached", timeout=START_S * 1000)


def _tidy(page: Page, height: int) -> None:
    """Nothing but the notebook: no side bar, no toolbar on the cell that happens to be active."""
    page.evaluate("jupyterapp.shell.collapseLeft()")
    page.evaluate("document.activeElement?.blur()")
    page.add_style_tag(content=".jp-cell-toolbar, .jp-Collapser-child { display: none !important }")
    page.set_viewport_size({"width": page.viewport_size["width"] if page.viewport_size else 1280, "height": height})
    page.wait_for_timeout(500)


def photograph(page: Page, target: Path, *, part_px: int = PART_PX) -> list[Path]:
    """Save the whole notebook as `target`, or as `target-01.png`, `target-02.png` … when it is high."""
    _tidy(page, part_px)
    scroller = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer").first
    scroller.evaluate("e => e.scrollTo(0, 0)")
    box, last = (
        scroller.bounding_box(),
        page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").last.bounding_box(),
    )
    if box is None or last is None:
        raise ScreenshotError("the notebook is not in view")
    target.parent.mkdir(parents=True, exist_ok=True)
    total = int(last["y"] + last["height"] - box["y"]) + 10  # below the last cell the page is empty
    step = int(box["height"])
    saved = []
    for n, top in enumerate(range(0, total, step), 1):
        scroller.evaluate("(e, top) => e.scrollTo(0, top)", top)
        page.wait_for_timeout(250)
        there = int(scroller.evaluate("e => e.scrollTop"))
        skip = top - there  # the last part cannot scroll that far: leave out what the one before has shown
        path = target if total <= step else target.with_name(f"{target.stem}-{n:02}{target.suffix}")
        height = min(step - skip, total - top)
        page.screenshot(
            path=str(path), clip={"x": box["x"], "y": box["y"] + skip, "width": box["width"], "height": height}
        )
        saved.append(path)
    return saved


def photograph_cells(page: Page, target: Path, first: str, last: str) -> Path:
    """Save the cells from id `first` to id `last` as one picture: for the README."""
    ids = [cell["id"] for cell in cells(page)]
    if first not in ids or last not in ids or ids.index(first) > ids.index(last):
        raise ScreenshotError(f"cells {first!r} to {last!r} are not in the notebook in this order")
    _tidy(page, 6000)
    found = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell")
    start, end = found.nth(ids.index(first)), found.nth(ids.index(last))
    start.evaluate("e => e.scrollIntoView()")
    page.wait_for_timeout(400)
    top, bottom = start.bounding_box(), end.bounding_box()
    if top is None or bottom is None:
        raise ScreenshotError("the cells are not in view")
    height = bottom["y"] + bottom["height"] - top["y"]
    target.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(target), clip={"x": top["x"], "y": top["y"], "width": top["width"], "height": height})
    return target


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; gives the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("reports/screenshots"), help="folder for the pictures")
    parser.add_argument("--theme", choices=[*THEMES, "both"], default="both")
    parser.add_argument(
        "--run", action="store_true", help="run all cells first; otherwise the stored outputs are shown"
    )
    parser.add_argument("--width", type=int, default=1100, help="of the window, in pixels")
    parser.add_argument("--part", type=int, default=PART_PX, help="height of one picture, in pixels")
    parser.add_argument("--cells", nargs=2, metavar=("FIRST", "LAST"), help="only the cells between these ids")
    arguments = parser.parse_args(argv)
    try:
        for theme in THEMES if arguments.theme == "both" else [arguments.theme]:
            for path in _take(arguments, theme):
                print(path)
    except ScreenshotError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def _take(arguments: argparse.Namespace, theme: str) -> Iterator[Path]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lab-")))
        server = stack.enter_context(jupyterlab(folder, theme=theme))
        page = stack.enter_context(browser_page(width=arguments.width, theme=theme))
        for notebook in arguments.notebooks:
            name = f"{notebook.resolve().parent.name}-{notebook.stem}"
            shutil.copy(notebook, folder / f"{name}.ipynb")
            open_notebook(page, server, f"{name}.ipynb")
            if arguments.run:
                run_all(page)
            target = arguments.out / f"{name}-{theme}.png"
            if arguments.cells:
                yield photograph_cells(page, target, *arguments.cells)
            else:
                yield from photograph(page, target, part_px=arguments.part)


if __name__ == "__main__":
    sys.exit(main())
