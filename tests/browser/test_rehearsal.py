"""The rehearsal's notebook in JupyterLab: run all without a person, and a question answered by one.

In a real Chromium. In a file of its own, so that it runs beside the tests of the other notebooks.
"""

import pytest
from playwright.sync_api import expect

from tools import rehearsal_pictures, screenshots
from tools.build_notebooks import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.notebooks, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    with screenshots.jupyterlab(folder) as server, screenshots.browser_page(width=1150, height=1400) as page:
        yield server, page


def panel_of(page, cell):
    index = [one["id"] for one in screenshots.cells(page)].index(cell)
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").nth(index).locator(".jp-OutputArea")


def test_run_all_without_a_person_ends_without_an_error_and_begins_no_clock_and_no_interview(lab):
    server, page = lab
    rehearsal_pictures.open_panel(page, server, "count", "bank = open_bank()\nlen(bank)")
    screenshots.run_all(page)
    cells = [cell for cell in screenshots.cells(page) if cell["cell_type"] == "code"]
    errors = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert errors == []
    assert all(cell["execution_count"] for cell in cells)
    assert "Today:" in panel_of(page, "rehearse").inner_text()
    assert "An interview of 30 minutes" in panel_of(page, "interview").inner_text()
    screenshots.write_cell(page, "stats", "print(state.read().events, state.drafts())")
    screenshots.run_cell(page, "stats")
    assert "() []" in panel_of(page, "stats").inner_text()


def test_a_learner_answers_loses_the_kernel_goes_on_ticks_undoes_and_sees_the_model_answer(lab):
    server, page = lab
    source = 'rehearse(language="en", areas=["data"], minutes=12)'
    rehearsal_pictures.open_panel(page, server, "rehearse", source)
    panel = panel_of(page, "rehearse")
    panel.get_by_role("button", name="Begin").click()
    panel.locator("textarea").click()
    page.keyboard.type("We measure duplicates. ", delay=10)
    first = panel.get_by_text("left").inner_text()
    expect(panel.get_by_text("left")).not_to_have_text(first, timeout=30_000)  # the clock runs
    panel.get_by_role("button", name="Hint").click()
    panel.get_by_text("Hint: ").wait_for()

    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function(f"() => {screenshots.KERNEL_STATUS} === 'idle'", timeout=60_000)
    for cell in ("parameters", "imports", "rehearse"):
        screenshots.run_cell(page, cell)
    panel = panel_of(page, "rehearse")
    panel.get_by_role("button", name="Begin").click()
    panel.get_by_text("You began this answer before").wait_for()
    assert panel.locator("textarea").input_value() == "We measure duplicates. "
    panel.locator("textarea").click()
    page.keyboard.press("End")
    page.keyboard.type("We look for leakage.", delay=10)
    panel.get_by_role("button", name="Done").click()

    panel.get_by_text("What a good answer says").wait_for()
    assert "“We look for leakage.”" in panel.inner_text()
    panel.get_by_text("Rating: again (0% of the weight").wait_for()
    for box in panel.locator("input[type=checkbox]").all()[:3]:
        box.check()
    panel.get_by_text("with a hint").wait_for()
    panel.get_by_role("button", name="Save").click()
    panel.get_by_text("Model answer").wait_for()
    panel.get_by_role("button", name="Undo this rating").click()
    panel.get_by_role("button", name="easy").click()
    panel.get_by_role("button", name="Save").click()
    panel.get_by_text("Model answer").wait_for()

    told = "[(r.question, r.rating, r.answer, r.hints) for r in state.read().reviews], len(state.read().events)"
    screenshots.write_cell(page, "stats", f"print({told})")
    screenshots.run_cell(page, "stats")
    shown = panel_of(page, "stats").inner_text()
    assert "[('data-quality-seed', 4, 'We measure duplicates. We look for leakage.', 1)] 3" in shown
    panel.get_by_role("button", name="Next").click()
    panel.locator("textarea").wait_for()


def test_an_interview_begins_when_it_is_asked_to_in_chinese_too(lab):
    server, page = lab
    source = 'interview(language="zh", minutes=10, resume=False)'
    rehearsal_pictures.open_panel(page, server, "interview", source)
    panel = panel_of(page, "interview")
    panel.get_by_role("button", name="开始").click()
    panel.get_by_text("分钟剩余").wait_for()
    panel.locator("textarea").click()
    page.keyboard.type("先看来源。")
    panel.get_by_role("button", name="答完").click()
    panel.get_by_text("好答案应有的要点").wait_for()
    panel.get_by_role("button", name="保存").click()
    panel.get_by_text("参考答案").wait_for()


def test_the_readme_has_pictures_of_it():
    for name in ("rehearsal-terminal-en", "rehearsal-terminal-zh", "rehearsal-notebook"):
        assert (ROOT / "docs" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
