"""Make `.venv`, install the lock with hashes, register the kernel: what `make lab` and `make test` do first.

Standard library only, and readable by an old Python, so that it can say what is wrong before anything is installed.
Run again it takes a fraction of a second; it installs again when the lock, pyproject.toml or Python changes.
What this does not catch: packages that somebody changed by hand inside `.venv` (`make clean` starts afresh).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "lab-stamp.json"
GPU_ONLY = re.compile(r"^(nvidia-|cuda-|triton\b)")
TORCH = re.compile(r"^(torch|torchvision)==(\S+)")
NEEDED_GB = {"default": 9, "cpu": 4}


class SetUpError(Exception):
    """A step failed; the text says what to do."""


def fail(what: str, remedy: str) -> None:
    raise SetUpError(f"set-up stopped: {what}\n  what to do: {remedy}")


def use_a_suitable_python() -> None:
    """Start again under a Python of the right version when this one is not and another is on the PATH."""
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return
    for name in ("python3.13", "python3.12", "python3.11"):
        path = shutil.which(name)
        if path and not subprocess.run([path, "-c", ""], capture_output=True).returncode:
            os.execv(path, [path, *sys.argv])


def check_machine(torch: str) -> None:
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        fail(
            f"this is Python {sys.version.split()[0]}, the course needs 3.11, 3.12 or 3.13",
            "install one of them and name it: make lab PYTHON=python3.12",
        )
    free = shutil.disk_usage(ROOT).free / 1e9
    if not STAMP.exists() and free < NEEDED_GB[torch]:
        fail(
            f"{free:.1f} GB free on this disk, about {NEEDED_GB[torch]} GB are needed",
            "free some space, or choose the smaller CPU build: make lab TORCH=cpu",
        )


def run(step: str, command: list[str], remedy: str, env: dict[str, str] | None = None) -> None:
    """Run one step with its output shown; stop with the remedy when it fails."""
    print(f"· {step}", flush=True)
    try:
        code = subprocess.run(command, cwd=ROOT, env=env).returncode
    except OSError as error:
        fail(f"{step}: {error}", remedy)
    if code:
        fail(f"{step} (exit status {code})", remedy)


def venv_python() -> Path:
    return VENV / ("Scripts" if os.name == "nt" else "bin") / "python"


def wanted(torch: str) -> dict[str, str]:
    """What the environment is made from; when it equals the stamp there is nothing to do."""
    digest = hashlib.sha256()
    for path in (LOCK, ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    return {
        "inputs": digest.hexdigest(),
        "python": sys.version.split()[0],
        "torch": torch,
        "root": hashlib.sha256(str(ROOT).encode()).hexdigest(),
    }


def is_current(torch: str) -> bool:
    try:
        return json.loads(STAMP.read_text()) == wanted(torch) and venv_python().exists()
    except (OSError, ValueError):
        return False


def lock_blocks(text: str) -> list[str]:
    """The lock's requirements, each with its hash lines (a line that starts in column 0 opens one)."""
    return [b for b in re.split(r"(?m)^(?=[A-Za-z0-9])", text) if not b.startswith("#") and b.strip()]


def installer_environment() -> dict[str, str]:
    """uv does not read pip's configuration: hand on the index that somebody chose there (a company's mirror)."""
    env = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    env.setdefault("UV_SYSTEM_CERTS", "1")  # a company's own certificate authority is known to the system, not to uv
    if "UV_DEFAULT_INDEX" not in env and "UV_INDEX_URL" not in env:
        question = [str(venv_python()), "-m", "pip", "config", "get", "global.index-url"]
        answer = subprocess.run(question, capture_output=True, text=True)
        index = os.environ.get("PIP_INDEX_URL") or (answer.stdout.strip() if not answer.returncode else "")
        if index:
            env["UV_DEFAULT_INDEX"] = index
    return env


def make_venv() -> None:
    if VENV.exists():
        STAMP.unlink(missing_ok=True)
    remedy = "on Debian or Ubuntu: apt-get install python3-venv; elsewhere install a complete Python"
    clear = ["--clear"] if VENV.exists() and not (VENV / "bin" / "pip").exists() else []
    run("creating .venv", [sys.executable, "-m", "venv", *clear, str(VENV)], remedy)


def install(requirements: Path, env: dict[str, str], *, deps: bool) -> None:
    """uv first (three times as fast), pip when uv fails: pip knows this machine's proxy and certificates."""
    extra = [] if deps else ["--no-deps"]
    python = str(venv_python())
    uv = [python, "-m", "uv", "pip", "install", "--python", python, "--require-hashes", *extra, "-r", str(requirements)]
    pip = [python, "-m", "pip", "install", "--require-hashes", *extra, "-r", str(requirements)]
    remedy = "check the network and free disk space, then run the same command again: what is there is kept"
    try:
        run("installing the locked packages with uv", uv, remedy, env)
    except SetUpError as error:
        print(f"{error}\n  trying pip instead")
        run("installing the locked packages with pip", pip, remedy, env)


def install_lock(torch: str) -> None:
    env = installer_environment()
    python = str(venv_python())
    blocks = lock_blocks(LOCK.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        bootstrap, chosen = Path(folder, "uv.txt"), Path(folder, "chosen.txt")
        bootstrap.write_text("".join(b for b in blocks if b.startswith("uv==")), encoding="utf-8")
        pip = [python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(bootstrap)]
        run("installing uv", pip, "check the network (pip must reach a package index), then run the same again", env)
        if torch == "default":
            install(LOCK, env, deps=True)
            return
        kept = [b for b in blocks if not GPU_ONLY.match(b) and not TORCH.match(b)]
        chosen.write_text("".join(kept), encoding="utf-8")
        install(chosen, env, deps=False)
        versions = [TORCH.match(b).group(0) for b in blocks if TORCH.match(b)]  # type: ignore[union-attr]
        uv = [python, "-m", "uv", "pip", "install", "--python", python, f"--torch-backend={torch}", *versions]
        run("installing PyTorch's CPU build", uv, "is PyTorch's own index reachable? Otherwise: make lab", env)


def keep_jupyterlab_offline() -> None:
    """Nothing touches the network after the set-up: no news, no look for updates (a reader can turn both on again)."""
    settings = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
    path = VENV / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=2), encoding="utf-8")


def finish(torch: str) -> None:
    python = str(venv_python())
    editable = ["-m", "uv", "pip", "install", "--python", python, "--quiet", "--no-deps", "--no-build-isolation"]
    run("installing this project", [python, *editable, "--editable", "."], "report this with the lines above")
    kernel = [python, "-m", "ipykernel", "install", "--sys-prefix", "--name", "python3"]
    title = ["--display-name", "Python 3 (interview lab)"]
    run("registering the kernel", [*kernel, *title], "is .venv writable? make clean, then again")
    keep_jupyterlab_offline()
    temporary = STAMP.with_suffix(".tmp")
    temporary.write_text(json.dumps(wanted(torch)), encoding="utf-8")
    temporary.replace(STAMP)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", choices=["default", "cpu"], default="default", help="which build of PyTorch")
    torch = parser.parse_args().torch
    if is_current(torch):
        return 0
    start = time.monotonic()
    try:
        use_a_suitable_python()
        check_machine(torch)
        make_venv()
        install_lock(torch)
        finish(torch)
    except SetUpError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("set-up interrupted: run the same command again, what is there is kept", file=sys.stderr)
        return 130
    print(f"· ready in {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
