"""What a learner does: open notebook 01 in JupyterLab, Run All, look at the pictures, write an answer.

In a real Chromium.
"""

import learner
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.notebooks, pytest.mark.timeout(1200)]
NAME = "01_training_data"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with learner.open_lab(tmp_path_factory.mktemp("course"), NAME) as opened:
        yield opened


@pytest.mark.parametrize(("kind", "state"), [("notebooks", "not attempted yet"), ("solutions", "passed")])
def test_run_all_ends_without_an_error_and_shows_every_picture(lab, kind, state):
    learner.demand_that_run_all_works(lab, NAME, kind, state)


def test_a_learner_is_told_that_an_answer_is_wrong_and_then_that_it_is_right(lab):
    learner.demand_that_the_check_tells_wrong_from_right(lab, learner.answers(NAME)[0])
