"""`make lab` as the README has it, opened in a real Chromium.

In a file of its own: the other browser tests keep one Chromium open all the time, and Playwright allows one at a time.
"""

import os
import re
import signal
import socket
import subprocess
import time

import pytest

from tools import screenshots
from tools.build_notebooks import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_make_lab_opens_the_first_notebook_at_the_address_that_it_prints(tmp_path):
    """The very command of the README, with its own settings: no question about news, no look for updates."""
    log = tmp_path / "log"
    make = ["make", "lab", f"LAB_ARGS=--no-browser --port={free_port()}"]
    folders = {"JUPYTER_RUNTIME_DIR": "runtime", "JUPYTER_CONFIG_DIR": "config", "JUPYTERLAB_SETTINGS_DIR": "settings"}
    folders |= {"JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython"}
    env = os.environ | {name: str(tmp_path / folder) for name, folder in folders.items()}
    with log.open("w") as output:
        lab = subprocess.Popen(make, cwd=ROOT, stdout=output, stderr=output, env=env, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not (address := re.search(r"http://127\.0\.0\.1:\d+/\S*token=\w+", log.read_text())):
            assert lab.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        with screenshots.browser_page(width=1100) as page:
            page.goto(address[0])
            page.wait_for_selector(".jp-NotebookPanel h1:has-text('Training data')", timeout=120_000)
            page.wait_for_timeout(2000)  # time for a notification to appear
            assert page.locator("text=Jupyter news").count() == 0
    finally:
        os.killpg(lab.pid, signal.SIGINT)
        os.killpg(lab.pid, signal.SIGINT)  # JupyterLab asks once
        try:
            lab.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(lab.pid, signal.SIGKILL)
