"""`python -m helpers.training_data audit`: exit status, one-line errors, and files that are whole or not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.training_data import audit
from helpers.training_data.__main__ import main
from helpers.training_data.report import AuditReport, Finding, write_atomically

MODULE = [sys.executable, "-m", "helpers.training_data"]
ROOT = Path(__file__).parents[1]


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(200, 4)), columns=list("abcd"))
    table["label"] = np.where(table["a"] + rng.normal(size=200) > 0, "yes", "no")
    path = tmp_path / "clean.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture
def leaky(clean: Path) -> Path:
    table = pd.read_csv(clean)
    table["copy"] = (table["label"] == "yes").astype(int)
    path = clean.with_name("leaky.csv")
    table.to_csv(path, index=False)
    return path


def test_nothing_severe_is_status_0(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(clean), "--target", "label"]) == 0
    assert capsys.readouterr().out.startswith("200 rows × 5 columns, target 'label': 0 severe")


def test_severe_findings_are_status_1_and_both_files_are_written(
    leaky: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html, data = leaky.with_suffix(".html"), leaky.with_suffix(".json")
    assert main(["audit", str(leaky), "--target", "label", "--html", str(html), "--json", str(data)]) == 1
    assert "'copy' alone says all there is to know" in capsys.readouterr().out
    assert html.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert "Audit of leaky.csv" in html.read_text(encoding="utf-8")
    assert json.loads(data.read_text(encoding="utf-8"))["counts"]["severe"] == 1
    assert sorted(p.name for p in leaky.parent.iterdir()) == ["clean.csv", "leaky.csv", "leaky.html", "leaky.json"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing.csv"], "missing.csv: no such file"),
        (["clean.csv", "--target", "labl"], "did you mean 'label'?"),
        (["clean.csv", "--group", "who"], "group='who' is not a column"),
        (["clean.csv", "--time", "label"], "must hold dates or numbers"),
        (["clean.csv", "--delimiter", ";;"], "one character"),
        (["clean.csv", "--seed", "-1"], "seed must be a whole number"),
        (["clean.csv", "--html", "nowhere/report.html"], "there is no folder 'nowhere'"),
        (["clean.csv", "--json", "."], "it is a folder"),
    ],
)
def test_bad_input_is_status_2_with_one_line(
    clean: Path, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clean.parent)
    assert main(["audit", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert reason in said.err


def test_quiet_says_nothing(leaky: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(leaky), "--target", "label", "--quiet"]) == 1
    assert capsys.readouterr().out == ""


def test_help_shows_an_example_and_answers_at_once() -> None:
    started = time.perf_counter()
    done = subprocess.run([*MODULE, "audit", "--help"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0
    assert "audit my.csv --target label" in done.stdout
    assert "exit status: 0" in done.stdout
    assert time.perf_counter() - started < 5


def test_no_command_is_status_2() -> None:
    done = subprocess.run(MODULE, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_a_terminal_without_unicode_and_a_closed_pipe_are_no_error(leaky: Path) -> None:
    command = [*MODULE, "audit", str(leaky), "--target", "label"]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, env=ascii_only, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert b"200 rows ? 6 columns" in done.stdout
    piped = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert piped.stdout is not None
    assert piped.stderr is not None
    piped.stdout.close()
    errors = piped.stderr.read()
    piped.stderr.close()
    assert piped.wait() == 1
    assert errors == b""


# ------------------------------------------------------------------------------------------- whole or not there

SLOW_WRITER = """
import sys, time
from helpers.training_data import report
target = sys.argv[1]
real = report.os.fsync
def slow(handle):
    print("half way", flush=True)
    time.sleep(60)
    real(handle)
report.os.fsync = slow
report.AuditReport((), {"rows": 1, "columns": 1, "target": None}).to_html(target)
"""


@pytest.mark.parametrize(("blow", "leaves_nothing"), [(signal.SIGKILL, False), (signal.SIGINT, True)])
@pytest.mark.parametrize("before", [None, "<html>the old report</html>"])
def test_a_report_interrupted_while_it_is_written_leaves_the_old_one(
    tmp_path: Path, blow: signal.Signals, leaves_nothing: bool, before: str | None
) -> None:
    target = tmp_path / "report.html"
    if before is not None:
        target.write_text(before)
    command = [sys.executable, "-c", SLOW_WRITER, str(target)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half way\n"
    writer.send_signal(blow)
    writer.wait(timeout=20)
    writer.stdout.close()
    assert (target.read_text() if target.exists() else None) == before
    if leaves_nothing:
        assert [p.name for p in tmp_path.iterdir()] == (["report.html"] if before else [])
    # and the next one is written as if nothing had happened
    AuditReport((), {"rows": 1, "columns": 1, "target": None}).to_html(target)
    assert target.read_text().rstrip().endswith("</html>")


def test_the_whole_command_killed_at_any_moment_leaves_no_half_report(leaky: Path) -> None:
    target = leaky.with_suffix(".html")
    command = [*MODULE, "audit", str(leaky), "--target", "label", "--html", str(target), "--quiet"]
    for seconds in (0.5, 1.5, 2.5, 3.5):
        running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            running.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        if target.exists():
            assert target.read_text(encoding="utf-8").rstrip().endswith("</html>")


def test_ctrl_c_ends_with_one_line_and_status_130(
    clean: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> AuditReport:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["helpers.training_data.audit"], "audit", interrupted)
    assert main(["audit", str(clean), "--html", str(clean.with_suffix(".html"))]) == 130
    assert capsys.readouterr().err == "interrupted: nothing was written\n"
    assert not clean.with_suffix(".html").exists()


def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    write_atomically(tmp_path / "ours", "text")
    (tmp_path / "theirs").write_text("text")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        audit(pd.DataFrame({"a": [1, 2, 3]})).to_json(tmp_path / "report.json")
    assert not list(tmp_path.iterdir())


def test_a_finding_refuses_a_severity_or_dimension_that_does_not_exist() -> None:
    words = {"message": "m", "consequence": "c", "remedy": "r"}
    with pytest.raises(ValueError, match="severity must be one of"):
        Finding("code", "leakage", "awful", **words)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dimension must be one of"):
        Finding("code", "beauty", "note", **words)  # type: ignore[arg-type]
