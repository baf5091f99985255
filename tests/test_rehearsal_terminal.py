"""Each command of `rehearse` in a real terminal, with real key presses, and what wrong input is told there."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest
import rehearsing

from helpers.rehearsal import mock, state
from helpers.rehearsal.debugging import ROUNDS
from helpers.rehearsal.drills import DRILLS
from helpers.rehearsal.questions import open_bank

ROOT = Path(__file__).resolve().parents[1]
CODES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>]|\r")
F1, ESCAPE, CTRL_C, CTRL_D = "\x1bOP", "\x1b", "\x03", "\x04"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAB_BANK", str(rehearsing.small_bank(tmp_path / "bank")))
    monkeypatch.delenv("LAB_LANGUAGE", raising=False)
    return tmp_path / "home"


class Shell:
    """A terminal of 110 by 50 characters in which `rehearse` runs."""

    def __init__(self, *arguments):
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "110", "LINES": "50"}
        self.child = pexpect.spawn(
            sys.executable, ["-m", "helpers.rehearsal", *arguments], cwd=str(ROOT), env=environment, encoding="utf-8",
            dimensions=(50, 110), timeout=40)  # fmt: skip
        self.seen = 0

    @property
    def screen(self):
        """Everything that was shown so far, without the codes for colours and places."""
        return CODES.sub("", self._raw)

    _raw, _answered = "", 0

    def _read(self):
        """Take what came; like a terminal, answer where the cursor is when that is asked."""
        self._raw += self.child.read_nonblocking(65536, timeout=0.1)
        while self._raw.count("\x1b[6n") > self._answered:
            self._answered += 1
            self.child.send("\x1b[10;1R")

    def see(self, text, seconds=20):
        """Wait until `text` is shown after what was waited for before."""
        end = time.monotonic() + seconds
        wanted = re.sub(r"\s+", "", text)
        while True:
            shown = re.sub(r"[\s│]+", "", self.screen)
            found = shown.find(wanted, self.seen)
            if found >= 0:
                self.seen = found + len(wanted)
                return self
            assert time.monotonic() < end, f"{text!r} was not shown:\n{self.screen[-3000:]}"
            try:
                self._read()
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                end = min(end, time.monotonic())

    def type(self, text):
        """Press the keys of `text`."""
        self.child.send(text)
        return self

    def enter(self, text=""):
        return self.type(text + "\r")

    def end(self):
        """Wait until the command has ended; its exit status."""
        end = time.monotonic() + 40
        while time.monotonic() < end:
            try:
                self._read()
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                break
        self.child.close()
        return self.child.exitstatus


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def kept_within(home, name, text):
    wait_for(lambda: (draft := state.draft_of(name)) is not None and draft.text == text)


# --- rehearse ------------------------------------------------------------------------------------------------


def test_a_question_from_the_prompt_to_the_next_with_hint_ticks_rating_and_model_answer(home):
    shell = Shell("--area", "data", "--minutes", "3")
    shell.see("What about data-compare?").see("left").see("F1")
    shell.type("It takes 16 bytes.").type(F1).see("Hint: Count the copies.")
    shell.type(ESCAPE + "\r").see("Says 16 bytes").see("“It takes 16 bytes.”").see("Which points")
    shell.enter("1 2").see("Three times inference").see("Which of them").enter()
    shell.see("Rating: hard (100% of the weight, with a hint).").enter()
    shell.see("Model answer").see("About 16 bytes a parameter").see("arxiv.org").see("02_training_efficiency")
    shell.see("Enter: next").enter().see("1 asked")
    assert shell.end() == 0
    (review,) = state.read().reviews
    assert (review.question, review.rating, review.hints) == ("data-compare", 2, 1)
    assert review.answer == "It takes 16 bytes."


def test_the_same_in_chinese(home):
    shell = Shell("--area", "data", "--lang", "zh", "--minutes", "3")
    shell.see("data-compare 是怎么回事？").see("剩余").see("F1")
    shell.type("每个参数 16 字节。").type(ESCAPE + "\r").see("说出 16 字节").see("“每个参数 16 字节。”").see("哪些要点")
    shell.enter("a").see("是推理的三倍").see("你犯了哪几条").enter("1").see("其实是八倍。").see("漏了必答要点 1")
    shell.enter("good").see("漏掉的要点").see("参考答案").see("每个参数大约 16 字节").see("下一题").enter()
    assert shell.end() == 0
    (review,) = state.read().reviews
    assert (review.language, review.rating, review.suggested, review.mistakes) == ("zh", 3, 1, ("three-times",))


def test_an_answer_has_several_lines_and_ctrl_d_ends_it_too(home):
    shell = Shell("--area", "data", "--minutes", "3").see("F1")
    shell.enter("first line").type("second line").type(CTRL_D).see("Which points").enter().see("Which of them").enter()
    shell.see("Rating: again").enter().see("You missed").see("Enter: next").enter().see("asked")
    assert shell.end() == 0
    assert state.read().reviews[0].answer == "first line\nsecond line"


def test_the_ticks_can_be_changed_before_and_the_rating_undone_after_it_was_saved(home):
    shell = Shell("--area", "data", "--minutes", "3").see("F1").type("16 bytes").type(CTRL_D)
    shell.see("Which points").enter("1").see("Which of them").enter().see("Rating: hard").enter("u")
    shell.see("Which points").enter("1 2").see("Which of them").enter().see("Rating: easy").enter()
    shell.see("Enter: next").enter("u").see("Undone")
    shell.see("Which points").enter("2").see("Which of them").enter().see("Rating: again").enter("2")
    shell.see("Enter: next").enter().see("asked")
    assert shell.end() == 0
    history = state.read()
    assert [event.event for event in history.events] == ["review", "undo", "review"]
    assert [(review.ticked, review.rating, review.suggested) for review in history.reviews] == [(("parts",), 2, 1)]


def test_a_follow_up_is_offered_and_asked(home):
    shell = Shell("--area", "data", "--minutes", "3").see("F1").type("x").type(CTRL_D)
    shell.see("Which points").enter("2").see("Which of them").enter().see("Rating: again").enter()
    shell.see("f: follow-up").enter("f").see("What about data-estimate?").see("F1").type(CTRL_C).see("Stopped")
    assert shell.end() == 130


def test_wrong_keys_are_told_what_is_accepted_and_nothing_is_lost(home):
    shell = Shell("--area", "data", "--minutes", "3").see("F1").type("16 bytes").type(CTRL_D)
    for wrong in ("9", "one", "1-9", "3-1", "1.5", "-2"):
        shell.see("Which points").enter(wrong).see(f"{wrong!r} ✗ → numbers from 1 to 4")
    shell.see("Which points").enter("1,2").see("Which of them").enter("7").see("numbers from 1 to 2").enter()
    shell.see("Rating: easy").enter("great").see("Enter, again, hard, good, easy or u").enter()
    shell.see("Enter: next").enter("z").see("or q").enter().see("asked")
    assert shell.end() == 0
    assert state.read().reviews[0].answer == "16 bytes"


def test_stopped_with_ctrl_c_the_answer_is_taken_up_next_time(home):
    shell = Shell("--area", "data", "--minutes", "3").see("F1").type("half of it")
    kept_within(home, "data-compare", "half of it")
    shell.type(", more").type(CTRL_C).see("Stopped")
    assert shell.end() == 130
    again = Shell("--area", "data", "--minutes", "3").see("You began this answer before").see("half of it, more")
    again.see("F1").type(" and the rest").type(CTRL_D).see("Which points").type(CTRL_C)
    assert again.end() == 130
    assert state.draft_of("data-compare").text == "half of it, more and the rest"
    assert state.read().reviews == []


def test_killed_while_typing_only_what_followed_the_last_pause_is_lost(home):
    shell = Shell("--area", "data", "--minutes", "3").see("F1").type("kept by a pause")
    kept_within(home, "data-compare", "kept by a pause")
    shell.type(" lost")
    shell.child.kill(signal.SIGKILL)
    shell.end()
    assert state.draft_of("data-compare").text in ("kept by a pause", "kept by a pause lost")
    Shell("--area", "data").see("You began this answer before").see("kept by a pause").type(CTRL_C).end()


@pytest.mark.parametrize("place", ["Which points", "Which of them", "Rating", "Enter: next"])
def test_killed_at_any_question_nothing_that_was_saved_is_lost(home, place):
    shell = Shell("--area", "data", "--minutes", "3").see("F1").type("an answer").type(CTRL_D)
    for step in ("Which points", "Which of them", "Rating", "Enter: next"):
        shell.see(step)
        if step == place:
            break
        shell.enter()
    shell.child.kill(signal.SIGKILL)
    shell.end()
    if place == "Enter: next":
        assert [review.answer for review in state.read().reviews] == ["an answer"]
    else:
        assert state.draft_of("data-compare").text == "an answer"
        assert state.read().reviews == []


def test_somebody_who_types_without_any_pause_is_saved_every_few_seconds(home):
    shell = Shell("--area", "data", "--minutes", "3").see("F1")
    end = time.monotonic() + 30
    while state.draft_of("data-compare") is None:
        assert time.monotonic() < end, "nothing is saved while somebody types"
        shell.type("x")
        time.sleep(0.1)
    shell.type(CTRL_C).see("Stopped")
    shell.end()


def test_a_torn_log_is_told_and_the_rehearsal_goes_on(home):
    home.mkdir()
    (home / "rehearsal.jsonl").write_text('{"schema": 2, "event": "rev')
    shell = Shell("--area", "data").see("line 1 of rehearsal.jsonl is left out").see("What about").see("F1")
    shell.type(CTRL_C).see("Stopped")
    assert shell.end() == 130


def test_a_faulty_question_is_left_out_and_the_others_are_asked(home, tmp_path):
    file = tmp_path / "bank" / "data" / "data-compare.yaml"
    file.write_text(file.read_text().replace("weight: 4", "weight: 44"))
    shell = Shell("--area", "data", "--minutes", "12").see("left out: data/data-compare.yaml").see("rubric.0.weight")
    shell.see("What about data-").see("F1").type(CTRL_C)
    assert shell.end() == 130


def test_when_the_disk_is_full_the_answer_stays_on_the_screen_until_there_is_room(home):
    home.mkdir()
    (home / "rehearsal.jsonl").mkdir()  # what cannot be appended to
    environment = os.environ | {"COLUMNS": "110"}
    failed = subprocess.run([sys.executable, "-m", "helpers.rehearsal"], cwd=ROOT, env=environment, text=True,
                            capture_output=True)  # fmt: skip
    assert failed.returncode == 1
    assert "rehearse stopped:" in failed.stderr
    (home / "rehearsal.jsonl").rmdir()
    shell = Shell("--area", "data", "--minutes", "3").see("F1").type("my answer").type(CTRL_D).see("Which points")
    (home / "rehearsal.jsonl").mkdir()
    shell.enter("1").see("Which of them").enter().see("Rating").enter().see("Not saved").see("still here").enter()
    shell.see("Not saved").see("still here")
    (home / "rehearsal.jsonl").rmdir()
    shell.enter().see("Model answer").see("Enter: next").enter().see("asked")
    assert shell.end() == 0
    assert [review.answer for review in state.read().reviews] == ["my answer"]


# --- the other commands --------------------------------------------------------------------------------------


def answer_here(shell, ticks="a"):
    shell.see("F1").type("16 bytes").type(CTRL_D).see("Which points").enter(ticks).see("Which of them").enter()
    shell.see("Rating").enter().see("Enter: next").enter()


def test_a_mock_interview_is_interrupted_resumed_and_reported(home, tmp_path):
    shell = Shell("mock", "--minutes", "10", "--level", "senior").see("An interview of 10 minutes")
    answer_here(shell)
    shell.see("F1").type("half").type(CTRL_C).see("Stopped")
    assert shell.end() == 130
    held = mock.unfinished(state.read())
    assert len(held.reviews) == 1
    again = Shell("mock", "--out", str(tmp_path / "report")).see("was interrupted after 1 answers").enter("what")
    again.see("Enter or n").enter().see("You began this answer before")
    answered = 1
    while mock.next_slot(mock.interviews(state.read())[-1], open_bank()) is not None:
        answer_here(again)
        answered += 1
        wait_for(lambda: len(state.read().reviews) == answered)  # noqa: B023
    again.see("Report:")
    assert again.end() == 0
    assert mock.unfinished(state.read()) is None
    assert (tmp_path / "report" / "report.html").exists()
    assert state.read().reviews[1].answer == "half16 bytes"


def test_a_new_interview_gives_the_old_one_up(home):
    shell = Shell("mock", "--minutes", "10").see("F1").type(CTRL_C).see("Stopped")
    shell.end()
    first = mock.unfinished(state.read())
    shell = Shell("mock", "--minutes", "10").see("was interrupted").enter("n").see("An interview of").see("F1")
    shell.type(CTRL_C).see("Stopped")
    shell.end()
    ended = {one.id: one.ended for one in mock.interviews(state.read())}
    assert ended[first.id] == "given up"
    assert len(ended) == 2


def test_a_drill_says_how_far_off_one_was_refuses_what_is_no_number_and_shows_the_way(home):
    import random

    problem = DRILLS["kv-cache"].draw(random.Random(5))
    shell = Shell("drill", "kv-cache", "--number", "2", "--seed", "5").see("1/2")
    for wrong in ("many", "", "three weeks and a half of it", "GB"):
        shell.see("Your estimate").enter(wrong)
    shell.see("Your estimate").enter(f"{problem.answer * 10:.6g} {problem.unit}").see("too high")
    shell.see("How it is worked out").see("2/2").see("Your estimate").enter("?").see("How it is worked out")
    shell.see("0 of 2 near enough")
    assert shell.end() == 0
    drills = state.read().of("drill")
    assert [event.data["holds"] for event in drills] == [False, False]
    assert drills[0].data["factor"] == pytest.approx(10, rel=1e-3)


def test_a_right_estimate_holds(home):
    import random

    problem = DRILLS["kv-cache"].draw(random.Random(5))
    shell = Shell("drill", "kv-cache", "--number", "1", "--seed", "5", "--lang", "zh").see("你的估算")
    shell.enter(f"{problem.answer:.6g} {problem.unit}").see("推导过程").see("1 题里有 1 题足够接近")
    assert shell.end() == 0


def test_a_debugging_round_shows_what_was_found_missed_and_fine(home):
    one = ROUNDS["quantise-resnet"]
    bug = one.bugs[0]
    fine = next(n for n in range(1, 100) if not any(n in other.lines for other in one.bugs))
    shell = Shell("debug", "quantise-resnet").see(one.story.en).see("Mark each bug")
    for wrong in ("the scaler", "999 too far", "3", "0 x"):
        shell.see("1>").enter(wrong).see("a line from 1 to")
    shell.see("1>").enter(f"{bug.lines[0]} {bug.words[0]}").see("2>").enter(f"{fine}: looks odd").see("3>").enter()
    shell.see(f"1 of {len(one.bugs)} bugs found").see(f"✓ {', '.join(map(str, bug.lines))}: {bug.name.en}").see("✗")
    assert shell.end() == 0
    (event,) = state.read().of("round")
    assert event.data["found"] == [bug.id]
    assert event.data["fine"] == [fine]
    assert set(event.data["missed"]) == {other.id for other in one.bugs[1:]}


def run(*arguments, **environment):
    return subprocess.run([sys.executable, "-m", "helpers.rehearsal", *arguments], cwd=ROOT, capture_output=True,
                          text=True, env=os.environ | {"COLUMNS": "110"} | environment, timeout=120)  # fmt: skip


def test_show_search_stats_plan_export_and_validate_say_what_they_should(home, tmp_path):
    shown = run("show", "data-explain", "--lang", "zh").stdout
    assert "data-explain 是怎么回事？" in shown
    assert "说出 16 字节" in shown
    assert "其实是八倍。" in shown
    found = run("search", "INFERENCE-compare").stdout
    assert "inference-compare" in found
    assert "data-compare" not in found
    assert "No question was answered yet" in run("stats").stdout
    for name in ("data-explain", "inference-explain"):
        state.append("review", question=name, rating=3, score=0.5, seconds=90.0)
    stats = run("stats").stdout
    assert "2 answers to 2 questions in 3 minutes" in stats
    assert "Areas, the weakest first" in stats
    assert "Questions due on the next days" in stats
    planned = run("plan", "--date", "2099-01-15", "--minutes-a-day", "30").stdout
    assert "Interview on 2099-01-15" in planned
    assert "30 minutes a day" in run("plan").stdout
    assert "no interview date yet" in run("plan", "--date", "none").stdout
    exported = run("export", "anki", str(tmp_path / "a.apkg"))
    assert "36 notes" in exported.stdout
    first = (tmp_path / "a.apkg").read_bytes()
    run("export", "anki", str(tmp_path / "a.apkg"))
    assert (tmp_path / "a.apkg").read_bytes() == first
    assert run("validate", str(tmp_path / "bank")).returncode == 1  # its headings are not in the notebooks
    assert "notebook.section: 02_training_efficiency has no heading 'A heading'" in run("validate").stdout


def test_the_bank_of_the_course_can_be_named_by_its_own_words(home):
    found = run("search", "KV", "cache", LAB_BANK="").stdout
    assert "kv-cache-bytes" in found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lang", "fr"], "'fr' is not accepted; give one of en, zh"),
        (["--area", "cooking"], "'cooking' is not accepted; give one of data, efficiency"),
        (["--level", "boss"], "'boss' is not accepted; give one of junior, senior, staff"),
        (["--minutes", "many"], "Invalid value for '--minutes'"),
        (["--minutes", "0"], "greater than or equal to 1"),
        (["--nonsense"], "No such option: --nonsense"),
        (["dance"], "No such command 'dance'"),
        (["mock", "--minutes", "5"], "greater than or equal to 10"),
        (["mock", "--level", "staff", "--new"], "no question for level staff"),
        (["drill", "kv-cahce"], "no drill 'kv-cahce'; did you mean kv-cache"),
        (["drill", "xyzzy"], "`rehearse drill --list` shows them"),
        (["drill", "--number", "0"], "greater than or equal to 1"),
        (["debug", "resnet-quantise"], "no round 'resnet-quantise'"),
        (["show", "data-explian"], "did you mean data-explain"),
        (["show"], "Missing argument"),
        (["search", "xyzzy"], "no question holds all of: xyzzy"),
        (["plan", "--date", "tomorrow"], "'tomorrow' is no date; give YYYY-MM-DD such as 2027-01-15"),
        (["plan", "--date", "2020-01-01"], "2020-01-01 is over"),
        (["plan", "--minutes-a-day", "-3"], "greater than or equal to 1"),
        (["export"], "rehearse export anki"),
        (["export", "anki", "a.zip"], "must end in .apkg, got 'a.zip'"),
        (["export", "anki", "/proc/a.apkg"], "rehearse stopped:"),
        (["validate", "nowhere"], "nowhere is not a folder"),
    ],
)  # fmt: skip
def test_a_wrong_command_ends_with_a_sentence_and_not_with_a_traceback(home, arguments, said):
    done = run(*arguments)
    assert done.returncode in (1, 2)
    assert said in re.sub(r"\s+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    assert not (home / "rehearsal.jsonl").exists()


def test_a_bank_that_is_not_there_ends_with_a_sentence(home, tmp_path):
    for bank in (tmp_path / "nowhere", home):
        done = run("--area", "data", LAB_BANK=str(bank))
        assert done.returncode == 1
        assert "no question file <area>/<id>.yaml in this folder" in done.stderr


@pytest.mark.parametrize("command", [[], ["mock"], ["drill"], ["debug"], ["show"], ["search"], ["stats"], ["plan"],
                                     ["export", "anki"], ["validate"]])  # fmt: skip
def test_every_command_has_help_and_an_example(command):
    done = run(*command, "--help")
    assert done.returncode == 0
    assert "Usage: rehearse" in done.stdout
    assert f"Example: rehearse {' '.join(command)}".strip() in done.stdout


HEAVY = """
import sys
from helpers.rehearsal import cli
try:
    cli.app(["--help"], prog_name="rehearse")
except SystemExit:
    pass
print([name for name in ("torch", "pandas", "sklearn", "numpy", "rich", "prompt_toolkit", "pydantic", "matplotlib")
       if name in sys.modules], file=sys.stderr)
"""


def test_help_loads_nothing_large():
    done = subprocess.run([sys.executable, "-c", HEAVY], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


ASKED = """
import sys
from helpers.rehearsal import cli, anki, report, interview, practice, widgets
print([name for name in ("torch",) if name in sys.modules])
"""


def test_the_whole_package_loads_no_torch():
    done = subprocess.run([sys.executable, "-c", ASKED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_script_can_answer_through_a_pipe(home):
    lines = "It takes 16 bytes.\nAnd more.\n.\n1 2\n\n\n\n"
    done = subprocess.run([sys.executable, "-m", "helpers.rehearsal", "--area", "data", "--minutes", "3"], cwd=ROOT,
                          input=lines, capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert state.read().reviews[0].answer == "It takes 16 bytes.\nAnd more."
