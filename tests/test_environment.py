"""One environment, said in four files: they agree, all is pinned, and no file is tied to a machine or a registry."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tools import set_up

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
PYTHONS = ["3.11", "3.12", "3.13"]


def blocks():
    """The lock's requirements with their continuation lines."""
    lines = "\n".join(line for line in LOCK.splitlines() if not line.lstrip().startswith("#"))
    return re.split(r"\n(?=\S)", lines.strip())


def locked():
    """Every locked requirement: (Requirement, its hashes)."""
    return [(Requirement(block.split("\\")[0].strip()), re.findall(r"--hash=(\S+)", block)) for block in blocks()]


def wanted():
    extras = [text for listed in PROJECT["optional-dependencies"].values() for text in listed]
    return [Requirement(text) for text in PROJECT["dependencies"] + extras]


def applies(requirement, python, platform="linux"):
    environment = {"python_version": python, "python_full_version": f"{python}.5", "sys_platform": platform,
                   "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[platform],
                   "platform_machine": "x86_64", "implementation_name": "cpython",
                   "platform_python_implementation": "CPython", "os_name": "nt" if platform == "win32" else "posix",
                   "extra": ""}  # fmt: skip
    return requirement.marker is None or Marker(str(requirement.marker)).evaluate(environment)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_every_dependency_is_locked_in_a_version_that_fits(python, platform):
    here = {canonicalize_name(r.name): r for r, _ in locked() if applies(r, python, platform)}
    for requirement in wanted():
        name = canonicalize_name(requirement.name)
        assert name in here, f"{requirement} of pyproject.toml is not in the lock: run `make lock`"
        (pin,) = here[name].specifier
        assert requirement.specifier.contains(pin.version), f"lock has {name} {pin.version}, wanted {requirement}"


@pytest.mark.parametrize("python", PYTHONS)
def test_no_package_is_locked_twice(python):
    names = [canonicalize_name(r.name) for r, _ in locked() if applies(r, python)]
    assert sorted(names) == sorted(set(names))


def test_every_line_of_the_lock_is_one_version_with_hashes():
    assert len(locked()) > 100
    for requirement, hashes in locked():
        assert [s.operator for s in requirement.specifier] == ["=="], requirement
        assert requirement.url is None
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes), requirement


def test_all_files_admit_the_same_pythons():
    admitted = SpecifierSet(PROJECT["requires-python"])
    conda = next(Requirement(d) for d in CONDA["dependencies"] if isinstance(d, str) and d.startswith("python"))
    assert conda.specifier == admitted
    every = [f"3.{minor}" for minor in range(8, 17)]
    assert [p for p in every if admitted.contains(f"{p}.1")] == PYTHONS
    source = (ROOT / "tools" / "set_up.py").read_text(encoding="utf-8")
    assert source.count("(3, 11) <= sys.version_info[:2] <= (3, 13)") == 2
    from helpers.doctor import SUPPORTED

    assert SUPPORTED == ((3, 11), (3, 13))


def test_conda_installs_the_same_lock_and_nothing_else():
    assert CONDA["channels"] == ["conda-forge", "nodefaults"]
    plain = [d for d in CONDA["dependencies"] if isinstance(d, str)]
    (nested,) = (d for d in CONDA["dependencies"] if not isinstance(d, str))
    assert [Requirement(d).name for d in plain] == ["python", "pip"]
    assert nested == {"pip": ["-r requirements.lock"]}


def test_set_up_reads_the_whole_lock():
    """The CPU build leaves out only what belongs to the GPU."""
    found = set_up.lock_blocks(LOCK)
    assert len(found) == len(locked())
    assert sum(block.startswith("uv==") for block in found) == 1
    assert {b.split("==")[0] for b in found if set_up.TORCH.match(b)} == {"torch", "torchvision"}


# --- committed files -----------------------------------------------------------------------------------------

# put together, so that this file does not contain what it looks for
REGISTRY = re.compile(
    "|".join(
        [
            r"pypi\." + "org",
            r"pypi\." + "python",
            "python" + r"hosted\.org",
            r"--(?:extra-)?index-" + "url[ =]",
            "file:" + "//[/a-z]",
            r"conda\." + r"anaconda\.org",
            r"repo\." + r"anaconda\.com",
            r"registry\." + r"npmjs",
            r"download\." + r"pytorch\.org",
            r"(?:/|\.)art" + r"ifactory\b",
        ]
    ),
    re.IGNORECASE,
)
MACHINE = re.compile(r"(?<![\w.~/-])/(?:root|work|home/\w+|Users/\w+)(?:/|\b(?=['\"\s]))")
# tests of exactly these refusals have to write such paths down
MAY_NAME_PATHS = {"tests/test_build_notebooks.py", "tests/test_environment.py"}


def committed():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in names.split("\0") if name and (ROOT / name).is_file()]


def hits(pattern, name):
    try:
        text = (ROOT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return []
    lines = enumerate(text.splitlines(), 1)
    return [f"{name}:{n}: {found[0]}" for n, line in lines if (found := pattern.search(line))]


def test_no_committed_file_names_a_registry():
    assert [hit for name in committed() for hit in hits(REGISTRY, name)] == []


def test_no_committed_file_holds_a_path_of_one_machine():
    names = [name for name in committed() if name not in MAY_NAME_PATHS]
    assert [hit for name in names for hit in hits(MACHINE, name)] == []


@pytest.mark.parametrize(
    ("pattern", "text", "seen"),
    [
        (REGISTRY, "see https://py" + "pi.org/simple", True),
        (REGISTRY, "pip install --index-" + "url=https://mirror", True),
        (REGISTRY, "torch @ file:" + "///wheels/torch.whl", True),
        (REGISTRY, "https://files.python" + "hosted.org/x.whl", True),
        (REGISTRY, "https://github.com/a/b, arxiv.org/abs/1", False),
        (MACHINE, 'open("/root/x")', True),
        (MACHINE, "cd /work/main", True),
        (MACHINE, "/home/ada/x", True),
        (MACHINE, "'/Users/ada/x'", True),
        (MACHINE, "https://example.org/home/page", False),
        (MACHINE, "at home/work, and/root/cause", False),
        (MACHINE, "~/work", False),
    ],
)
def test_the_search_finds_what_it_should(pattern, text, seen):
    assert bool(pattern.search(text)) == seen
