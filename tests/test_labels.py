"""Wrong labels, found by cleanlab on probabilities of models that had not seen the row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from cleanlab.filter import find_label_issues
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from helpers.datasets import digits
from helpers.training_data import label_errors, out_of_fold_probabilities


@pytest.fixture(scope="module")
def noisy_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, given labels, which of them are wrong, out-of-fold probabilities."""
    x, y = digits()
    x, y = x[:900], y[:900]
    rng = np.random.default_rng(0)
    wrong = rng.random(len(y)) < 0.08
    given = np.where(wrong, (y + rng.integers(1, 10, len(y))) % 10, y)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=0.1))
    return x, given, wrong, out_of_fold_probabilities(model, x, given, seed=0)


def test_flipped_labels_are_found(noisy_digits: tuple[np.ndarray, ...]) -> None:
    _, given, wrong, chances = noisy_digits
    found = label_errors(given, chances)
    right = wrong[found["row"]]
    assert right.mean() > 0.7
    assert right.sum() / wrong.sum() > 0.8
    assert wrong[found["row"][:20]].mean() >= 0.9, "the first ones are those that are shown"


def test_the_rows_are_those_of_cleanlab_and_the_most_doubtful_come_first(noisy_digits: tuple[np.ndarray, ...]) -> None:
    _, given, _, chances = noisy_digits
    found = label_errors(given, chances)
    assert set(found["row"]) == set(np.flatnonzero(find_label_issues(given, chances)))
    np.testing.assert_allclose(found["quality"], chances[found["row"], given[found["row"]]])
    assert found["quality"].is_monotonic_increasing
    np.testing.assert_array_equal(found["given"], given[found["row"]])
    np.testing.assert_array_equal(found["suggested"], chances[found["row"]].argmax(1))


def test_words_as_labels_come_back_as_words(noisy_digits: tuple[np.ndarray, ...]) -> None:
    _, given, _, chances = noisy_digits
    names = np.array([f"digit {d}" for d in range(10)])
    as_words, as_numbers = label_errors(names[given], chances), label_errors(given, chances)
    np.testing.assert_array_equal(as_words["row"], as_numbers["row"])
    assert as_words["suggested"].tolist() == names[as_numbers["suggested"]].tolist()


def test_nothing_wrong_nothing_found() -> None:
    chances = np.tile(np.eye(3) * 0.94 + 0.02, (30, 1))
    found = label_errors(np.tile([0, 1, 2], 30), chances)
    assert found.empty
    assert list(found.columns) == ["row", "given", "suggested", "quality"]


def test_each_row_is_judged_by_a_model_that_did_not_see_it() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 5)), rng.integers(0, 2, 200)
    tree = DecisionTreeClassifier(random_state=0)
    chances = out_of_fold_probabilities(tree, x, y, folds=4, seed=7)
    for train, test in StratifiedKFold(4, shuffle=True, random_state=7).split(x, y):
        theirs = DecisionTreeClassifier(random_state=0).fit(x[train], y[train]).predict_proba(x[test])
        np.testing.assert_array_equal(chances[test], theirs)
    assert (chances.argmax(1) == y).mean() < 0.65, "a tree that saw its rows would be right about all of them"


def test_columns_follow_the_sorted_labels() -> None:
    x = np.repeat([[0.0], [10.0], [20.0]], 20, axis=0)
    y = np.repeat(["zebra", "ant", "mole"], 20)
    chances = out_of_fold_probabilities(LogisticRegression(), pd.DataFrame(x, columns=["a"]), y)
    assert chances[0].argmax() == 2
    assert chances[20].argmax() == 0


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"y": [0] * 10}, ValueError, "one class only"),
        ({"y": [0] * 9}, ValueError, "same number of rows, got 10 and 9"),
        ({"y": [0] * 8 + [1] * 2}, ValueError, "class 1 of y has 2 rows, fewer than folds=5"),
        ({"y": [0.0] * 5 + [np.nan] * 5}, ValueError, "missing in 5 of 10"),
        ({"y": np.zeros((10, 2))}, ValueError, "one dimension"),
        ({"folds": 1}, ValueError, "at least 2, got 1"),
        ({"model": "a tree"}, TypeError, "predict_proba, got str"),
    ],
)
def test_bad_input_is_refused_before_any_model_is_fitted(change: dict, error: type[Exception], reason: str) -> None:
    given = {"model": LogisticRegression(), "x": np.zeros((10, 2)), "y": [0, 1] * 5, **change}
    with pytest.raises(error, match=reason):
        out_of_fold_probabilities(**given)


@pytest.mark.parametrize(
    ("labels", "chances", "reason"),
    [
        ([0, 1], np.full((2, 3), 1 / 3), r"shape \(2, 2\).*got \(2, 3\)"),
        ([0, 1], [[0.9, 0.3], [0.5, 0.5]], "sum to 1"),
        ([0, 1], [[1.2, -0.2], [0.5, 0.5]], "not negative"),
        ([0, 1], [[np.nan, 0.5], [0.5, 0.5]], "finite"),
        ([0, 0], np.full((2, 1), 1.0), "one class only"),
        ([], np.zeros((0, 2)), "empty"),
    ],
)
def test_what_are_no_probabilities_is_refused(labels: list, chances: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        label_errors(labels, chances)  # type: ignore[arg-type]
