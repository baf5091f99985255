"""Find a Chromium for the browser tests, or install one: prints its path, says what to do when there is none.

What this does not catch: a Chromium that is there but cannot start.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATIONS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def find() -> str | None:
    """The path of a Chromium on this machine ($CHROMIUM first), or None."""
    chosen = os.environ.get("CHROMIUM")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    installed = next((path for path in APPLICATIONS if Path(path).exists()), None)
    return chosen or found or installed


def install() -> None:
    """With root rights on Debian or Ubuntu, install the distribution's package."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]):
        subprocess.run(command, env=env, check=False, stdout=sys.stderr)


def main() -> int:
    if find() is None:
        install()
    path = find()
    if path is None:
        print(
            "no Chromium found: the browser tests need one.\n"
            "  what to do: install Chromium or Google Chrome, or name one: make test CHROMIUM=/path/to/chrome",
            file=sys.stderr,
        )
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
