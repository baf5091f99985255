"""Cards, hints, solutions, progress and predictions: safe HTML, a plain twin, and nothing that changes between runs."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from helpers.exercises import (
    CheckFailed,
    cards,
    check,
    checking,
    hint,
    hinting,
    log,
    predict,
    progress,
    reference,
    registry,
    solution,
)
from helpers.exercises.cards import Card, Displayed
from helpers.exercises.registry import exercise

EVIL = "<script>alert(\"1\")</script><img src=x onerror=alert(2)> & 'quoted' <!--"
ABOUT = {"difficulty": 1, "minutes": 5, "asked_as": "Double?"}
SCRIPT = '''# %% [markdown] id="text"
# exercise-1-2 is mentioned here

# %% id="exercise-1-20" tags=["exercise"]
def other(): ...

# %% id="exercise-1-2" tags=["exercise"]
def double(x):
    """Twice x."""
    ### BEGIN SOLUTION
    if x is None:
        raise ValueError("x < 0 & none")
    return 2 * x
    ### END SOLUTION

# %% id="exercise-1-10" tags=["exercise"]
SCALE = 3


def first(x):
    """One."""
    ### BEGIN SOLUTION
    def helper(y):
        return y

    return helper(x)
    ### END SOLUTION


class Second:
    """Two."""

    ### BEGIN SOLUTION
    def call(self):
        return 2
    ### END SOLUTION
'''


@pytest.fixture(autouse=True)
def lab(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    modules = {1: "zz_made_for_tests"}
    monkeypatch.setattr(registry, "MODULES", modules)
    monkeypatch.setattr(reference, "MODULES", modules)
    monkeypatch.setattr(registry, "_load", lambda number: None)
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(checking, "_passed_here", set())
    monkeypatch.setattr(hinting, "_opened_here", {})

    @exercise("1.2", title=f"Double {EVIL}", parts=("double",), hints=(f"a `nudge` {EVIL}", "two\nlines", "c"), **ABOUT)
    def check_double(trial, answer):
        trial.equal(trial.call(answer, 2), 4, what=f"twice {EVIL}", otherwise=f"usual `x*2` {EVIL}")

    @exercise("1.10", title="Two", parts=("first", "Second"), hints=("a", "b", "c", "d"), **ABOUT)
    def check_two(trial, first, second):
        trial.equal(1, 1, what="one")

    folder = tmp_path / "course"
    (folder / "solutions").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    (folder / "solutions" / "01_zz_made_for_tests.py").write_text(SCRIPT, encoding="utf-8")
    monkeypatch.chdir(folder / "notebooks")


@pytest.fixture
def shown(monkeypatch):
    collected = []
    monkeypatch.setattr(cards, "show", collected.append)
    return collected


def double(x):
    return 2 * x


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.attributes, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.attributes += attrs
        if tag not in ("br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


ALLOWED = {"div", "span", "strong", "code", "pre", "details", "summary", "table", "tbody", "tr", "td", "br"}


def assert_safe(html):
    tags = Tags()
    tags.feed(html)
    tags.close()
    assert tags.open == []
    assert set(tags.found) <= ALLOWED, set(tags.found) - ALLOWED
    assert {name for name, _ in tags.attributes} <= {"style", "open", "role", "aria-label"}
    # the text takes the theme's colour, and nothing is painted over its background
    for name, value in tags.attributes:
        if name == "style":
            colours = re.findall(r"(?:^|;)(?:color|background):([^;]+)", value)
            grey = {"inherit", "none", "rgba(127,127,127,.09)"}
            assert set(colours) <= {*cards.COLOURS.values(), *grey}, colours


# --- cards ---------------------------------------------------------------------------------------------------------


class Evil:
    def __repr__(self):
        return EVIL


def test_a_learner_s_repr_full_of_html_is_shown_and_not_run(shown):
    with pytest.raises(CheckFailed) as caught:
        check("1.2", lambda x: Evil())
    html = caught.value.card.html()
    assert_safe(html)
    assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;" in html
    assert EVIL in str(caught.value)


def test_every_card_is_safe_html_with_inline_style(shown):
    check("1.2", double)
    check("1.2", ...)
    for _ in range(3):
        hint("1.2")
    solution("1.2")
    solution("1.10")
    solution("1.10", reveal=True)
    progress()
    predict(EVIL, 3, measured=4, unit=EVIL)
    predict(EVIL, measured=4, unit=EVIL)
    assert len(shown) == 11
    for card in shown:
        assert_safe(card.html())
        assert "class=" not in card.html()
        assert card.text()


def test_a_card_s_html_and_text_say_the_same():
    card = Card("not yet", "1.1 not yet: p", (("got", "1"), ("usually", "use `x`\nnot y")), ("see `hint`",))
    assert card.text() == "✗ 1.1 not yet: p\n  got       1\n  usually   use `x`\n            not y\n  see `hint`"
    visible = re.sub(r"<[^>]+>", " ", card.html().replace("<br>", " "))
    assert " ".join(visible.split()) == "✗ 1.1 not yet: p got 1 usually use x not y see hint"


def test_each_mood_has_its_sign_and_colour():
    for mood, sign in (("passed", "✓"), ("not yet", "✗"), ("open", "○"), ("info", "·")):
        card = Card(mood, "h")
        assert card.text() == f"{sign} h"
        assert sign in card.html()
        assert cards.COLOURS[mood] in card.html()
    assert len(set(cards.COLOURS.values())) == 4


@pytest.mark.parametrize("background", [(255, 255, 255), (17, 17, 17)], ids=["light", "dark"])
@pytest.mark.parametrize("mood", list(cards.COLOURS))
def test_the_signs_can_be_seen_on_white_and_on_jupyterlab_s_dark(mood, background):
    def luminance(rgb):
        parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    colour = [int(cards.COLOURS[mood][i : i + 2], 16) for i in (1, 3, 5)]
    high, low = sorted((luminance(colour), luminance(background)), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 3  # WCAG 2.1, 1.4.11: signs and graphics


def test_long_labels_stay_in_one_column():
    text = Card("info", "h", (("a", "1"), ("your long guess", "2"))).text()
    assert text == "· h\n  a               1\n  your long guess 2"


def test_code_marks_and_line_breaks_are_set():
    assert cards.prose("`a<b` and\n`c") == f'<code style="{cards.MONO}">a&lt;b</code> and<br>`c'


# --- hints ---------------------------------------------------------------------------------------------------------


def hints_logged():
    return [(e.exercise, e.detail) for e in log.read().events if e.event == "hint"]


def test_hints_open_one_after_another_and_each_is_recorded_once():
    assert repr(hint("1.10")) == '· 1.10 hint 1 of 4\n  hint 1    a\n  the next one: `hint("1.10")` again'
    assert repr(hint("1.10")).startswith("· 1.10 hint 2 of 4\n  hint 1    a\n  hint 2    b\n  the next")
    hint("1.10")
    last = repr(hint("1.10"))
    assert last.split("\n")[0] == "· 1.10 hint 4 of 4"
    assert last.endswith('that was the last one; `solution("1.10", reveal=True)` shows the answer')
    assert repr(hint("1.10")) == last
    assert hints_logged() == [("1.10", "1"), ("1.10", "2"), ("1.10", "3"), ("1.10", "4")]


def test_hints_nest_so_that_the_second_is_inside_the_first(shown):
    hint("1.2")
    hint("1.2")
    html = shown[-1].html()
    first, second = html.index("Hint 1"), html.index("Hint 2")
    assert first < second < html.index("</details>")
    assert html.count("<details open") == 2
    assert html.rstrip().count("</details></details>") == 1
    assert "two<br>lines" in html
    assert "c</div>" not in html


def test_hints_go_on_after_a_restart_where_they_were(monkeypatch):
    hint("1.10")
    monkeypatch.setattr(hinting, "_opened_here", {})
    assert repr(hint("1.10")).startswith("· 1.10 hint 2 of 4")
    assert repr(hint("1.2")).startswith("· 1.2 hint 1 of 3")


def test_hints_open_in_order_without_a_log_too(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "file" / "home"))
    for number in (1, 2, 3, 4, 4):
        text = repr(hint("1.10"))
        assert text.startswith(f"· 1.10 hint {number} of 4")
    assert "(not recorded: " in repr(hint("1.2"))


def test_an_exercise_whose_hints_became_fewer_still_shows_them():
    for _ in range(9):
        log.record("1.2", "hint")
    assert repr(hint("1.2")).startswith("· 1.2 hint 3 of 3")


def test_a_hint_for_an_unknown_exercise_lists_the_known_ones():
    for function in (hint, solution):
        with pytest.raises(ValueError, match=r"there are: 1\.2, 1\.10"):
            function("1.1")


# --- solutions -----------------------------------------------------------------------------------------------------

DOUBLE = '    if x is None:\n        raise ValueError("x < 0 & none")\n    return 2 * x'


def reveals():
    return log.read().count("1.2", "reveal")


def test_a_solution_stays_closed_until_the_check_has_passed(shown):
    solution("1.2")
    assert shown[-1].text().startswith("○ 1.2 solution is still closed")
    assert 'solution("1.2", reveal=True)' in shown[-1].text()
    assert "2 * x" not in shown[-1].html()
    assert reveals() == 0
    check("1.2", double)
    solution("1.2")
    assert shown[-1].text() == f"· 1.2 solution: Double {EVIL}\n{DOUBLE}"
    assert "x &lt; 0 &amp; none" in shown[-1].html()
    assert reveals() == 0


def test_a_solution_shown_on_request_is_recorded_unless_it_was_earned(shown):
    solution("1.2", reveal=True)
    assert DOUBLE in shown[-1].text()
    assert reveals() == 1
    check("1.2", double)
    solution("1.2", reveal=True)
    assert reveals() == 1


def test_a_pass_of_another_day_opens_the_solution_and_a_failed_attempt_does_not(shown):
    log.record("1.2", "attempt")
    log.record("1.10", "pass")
    solution("1.2")
    assert "still closed" in shown[-1].text()
    log.record("1.2", "pass")
    solution("1.2")
    assert DOUBLE in shown[-1].text()


def test_a_pass_counts_in_this_session_even_without_a_log(tmp_path, monkeypatch, shown):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "file" / "home"))
    solution("1.2")
    assert "still closed" in shown[-1].text()
    check("1.2", double)
    solution("1.2")
    assert DOUBLE in shown[-1].text()


def test_several_answers_of_one_cell_are_told_apart(shown):
    solution("1.10", reveal=True)
    body = shown[-1].body_text
    assert body == (
        "    # first\n    def helper(y):\n        return y\n\n    return helper(x)\n\n"
        "    # Second\n    def call(self):\n        return 2"
    )


def test_the_script_is_found_from_any_folder_of_the_clone(tmp_path, monkeypatch):
    assert reference.source("1.2") == tmp_path / "course" / "solutions" / "01_zz_made_for_tests.py"
    monkeypatch.chdir(tmp_path / "course")
    assert reference.source("1.2").is_file()


def test_outside_a_clone_a_solution_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"solutions/01_zz_made_for_tests\.py is not on this machine"):
        solution("1.2", reveal=True)
    assert reveals() == 0


def test_a_script_without_the_cell_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"01_zz_made_for_tests\.py has no cell 'exercise-1-3'"):
        reference.cell(reference.source("1.3"), reference.cell_id("1.3"))


def test_a_cell_is_found_by_its_whole_id():
    cell = reference.cell(reference.source("1.2"), "exercise-1-2")
    assert cell.startswith("def double(x):\n")
    assert cell.endswith("    ### END SOLUTION\n")


@pytest.mark.parametrize("reveal", [1, "yes", None])
def test_reveal_must_be_said_plainly(reveal):
    with pytest.raises(TypeError, match="reveal must be True or False"):
        solution("1.2", reveal=reveal)


# --- progress ------------------------------------------------------------------------------------------------------


def test_progress_draws_attempts_hints_and_passes_in_their_order(shown):
    for event in ("attempt", "hint", "attempt", "reveal", "pass"):
        log.record("1.10", event)
    log.record("1.2", "attempt")
    log.record("9.9", "pass")
    progress()
    lines = shown[-1].text().split("\n")
    assert lines[0] == "· 1 of 2 exercises passed"
    assert re.fullmatch(r"  ✗ 1\.2   Double .* 1 try     ✗", lines[1])
    assert re.fullmatch(r"  ✓ 1\.10  Two +3 tries   ✗ \? ✗ ! ✓", lines[2])
    assert lines[3] == "  ✗ not yet · ✓ passed · ? hint · ! solution opened before a pass"
    assert len(lines) == 4
    html = shown[-1].html()
    assert html.count("<tr ") == 2
    assert "width:50%" in html
    assert html.index(">1.2<") < html.index(">1.10<")


def test_progress_before_the_first_attempt_is_a_table_of_what_there_is(shown):
    progress()
    assert shown[-1].text().startswith("· 0 of 2 exercises passed\n  ○ 1.2 ")
    assert "width:0%" in shown[-1].html()
    assert "tries" not in shown[-1].text()


def test_progress_says_when_all_is_passed(shown):
    for id in ("1.2", "1.10"):
        log.record(id, "pass")
    progress(1)
    assert shown[-1].text().startswith("✓ 2 of 2 exercises passed")


def test_progress_of_a_long_struggle_keeps_the_latest_events(shown):
    for _ in range(60):
        log.record("1.10", "attempt")
    log.record("1.10", "pass")
    progress()
    row = next(line for line in shown[-1].text().split("\n") if " 1.10 " in line)
    assert "61 tries" in row
    assert row.endswith("✗ ✓")
    assert row.count("✗") == 23


def test_progress_counts_damaged_lines_and_tells_of_a_log_that_cannot_be_read(tmp_path, monkeypatch, shown):
    log.record("1.2", "pass")
    with log.path().open("a") as file:
        file.write("torn")
    progress()
    assert "(1 damaged lines of the record were skipped)" in shown[-1].text()
    assert "1 of 2" in shown[-1].text()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "file" / "home"))
    progress()
    assert "0 of 2" in shown[-1].text()
    assert "cannot be read: Not a directory)" in shown[-1].text()


def test_progress_of_a_notebook_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="notebook must be one of 1, got 2"):
        progress(2)


# --- predict before you run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guess", "measured", "headline"),
    [
        (0.2, 0.084, "· n: a factor of 2.4 too high"),
        (0.035, 0.084, "· n: a factor of 2.4 too low"),
        (-4, -2, "· n: a factor of 2 too low"),
        (1e6, 1, "· n: a factor of 1,000,000 too high"),
        (0.084, 0.084, "✓ n: exactly right"),
        (0, 0, "✓ n: exactly right"),
        (1.05, 1, "✓ n: close, 5 % too high"),
        (0.95, 1, "✓ n: close, 5 % too low"),
        (1.1, 1, "✓ n: close, 10 % too high"),
        (1.2, 1, "· n: a factor of 1.2 too high"),
        (0, 3, "· n: 3 too low"),
        (3, 0, "· n: 3 too high"),
        (-1, 2, "· n: 3 too low"),
        (np.int64(4), np.float32(2), "· n: a factor of 2 too high"),
    ],
)
def test_a_prediction_says_how_far_off_it_was(guess, measured, headline):
    assert repr(predict("n", guess, measured=measured)).split("\n")[0] == headline


@pytest.mark.parametrize("guess", [None, ...])
def test_no_guess_yet_is_no_error_and_shows_what_was_measured(guess):
    text = repr(predict("share of doubles", guess, measured=0.08412, unit="%"))
    assert text.startswith("○ no guess yet: share of doubles\n  measured  0.0841 %\n  write your number as `guess`")
    assert repr(predict("share of doubles", measured=0.08412, unit="%")) == text


def test_a_prediction_shows_both_numbers_with_their_unit():
    text = repr(predict("time", 12345.6, measured=0.00001234, unit="s"))
    assert text.split("\n")[1:] == ["  your guess 12,346 s", "  measured   1.23e-05 s"]
    assert repr(predict("n", 999.4, measured=1e16)).split("\n")[1:] == ["  your guess 999", "  measured   1e+16"]


@pytest.mark.parametrize("odd", ["3", True, [3], 1j])
def test_a_guess_that_is_no_number_is_refused(odd):
    with pytest.raises(TypeError, match="guess must be a number"):
        predict("n", odd, measured=1)
    with pytest.raises(TypeError, match="measured must be a number"):
        predict("n", 1, measured=odd)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_a_guess_that_is_not_finite_is_refused(odd):
    with pytest.raises(ValueError, match="guess must be finite"):
        predict("n", odd, measured=1)
    with pytest.raises(ValueError, match="measured must be finite"):
        predict("n", measured=odd)


def test_what_the_functions_return_shows_its_text():
    assert isinstance(predict("n", 1, measured=1), Displayed)
    assert repr(Displayed(Card("info", "h"))) == "· h"
