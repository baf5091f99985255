"""Shapley values equal shap's, the surrogate's numbers scikit-learn's; bad input is refused by name."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import shap
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, cohen_kappa_score
from sklearn.tree import DecisionTreeClassifier

from helpers import datasets
from helpers import explanation as ex


@pytest.fixture(scope="module")
def wine():
    table = datasets.wine()
    return table.drop(columns="cultivar").to_numpy(), table["cultivar"].to_numpy()


# ------------------------------------------------------------------------------------------------------ Shapley values


@pytest.mark.parametrize("m", [1, 2, 3, 6])
def test_the_shapley_values_are_the_mean_over_all_orders(m):
    values = np.random.default_rng(m).normal(size=2**m)
    total = np.zeros(m)
    for order in itertools.permutations(range(m)):
        coalition = 0
        for player in order:
            total[player] += values[coalition | 1 << player] - values[coalition]
            coalition |= 1 << player
    np.testing.assert_allclose(ex.shapley_from_values(values), total / math.factorial(m), atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_they_equal_those_of_shap_when_it_asks_all_coalitions(wine, seed):
    x, y = wine[0][:, :6], wine[1]
    model = GradientBoostingClassifier(n_estimators=20, random_state=seed).fit(x, y)

    def score(rows):
        return model.predict_proba(rows)[:, 1]

    background, row = x[seed::9], x[seed + 3]
    mine, base = ex.exact_shapley(score, row, background)
    kernel, kernel_base = ex.shap_values(score, row[None], background, method="kernel", rounds=10)
    np.testing.assert_allclose(mine, kernel[0], atol=1e-8)
    assert base == pytest.approx(kernel_base[0], abs=1e-12)
    assert base + mine.sum() == pytest.approx(score(row[None])[0], abs=1e-12)  # efficiency
    many, _ = ex.shap_values(score, row[None], background, method="permutation", rounds=200, seed=seed)
    np.testing.assert_allclose(many[0], mine, atol=0.02)


def test_they_equal_those_of_shaps_trees(wine):
    x, y = wine[0][:, :5].astype(np.float32).astype(float), wine[1]  # trees compare in float32
    forest = RandomForestClassifier(20, max_depth=3, random_state=0).fit(x, y)
    background = x[::10]
    values, base = ex.shap_values(forest, x[:3], background, method="tree", output=2)
    for row, found, start in zip(x[:3], values, base, strict=True):
        mine, mean = ex.exact_shapley(lambda rows: forest.predict_proba(rows)[:, 2], row, background)
        np.testing.assert_allclose(mine, found, atol=1e-3)
        assert mean == pytest.approx(start, abs=1e-3)


def test_for_a_linear_model_they_have_a_closed_form(wine):
    x, y = wine[0][:, :4], (wine[1] == 0).astype(int)
    model = LogisticRegression(max_iter=5000).fit(x, y)
    shares, base = ex.exact_shapley(model.decision_function, x[5], x[::7])
    np.testing.assert_allclose(shares, model.coef_[0] * (x[5] - x[::7].mean(0)), atol=1e-9)
    assert base == pytest.approx(model.decision_function(x[::7]).mean())


def test_the_permutation_values_are_shaps_own_for_the_same_seed(wine):
    x, background = wine[0][:3, :4], wine[0][::30, :4]

    def score(rows):
        return np.tanh(rows[:, 0] - rows[:, 1] * rows[:, 2] / 10)

    masker = shap.maskers.Independent(background, max_samples=len(background))
    want = shap.explainers.PermutationExplainer(score, masker, seed=3)(x, max_evals=5 * 9, silent=True)
    got, _ = ex.shap_values(score, x, background, rounds=5, seed=3)
    np.testing.assert_allclose(got, want.values)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ex.shapley_from_values(np.zeros(3)), ValueError, "2\\*\\*m entries"),
        (lambda: ex.shapley_from_values(np.array([0, np.nan])), ValueError, "values must be finite"),
        (lambda: ex.exact_shapley(lambda r: r[:, 0], np.zeros(17), np.zeros((2, 17))), ValueError, "at most 16"),
        (lambda: ex.exact_shapley(lambda r: r, np.zeros(2), np.zeros((2, 2))), ValueError, "choose the class"),
        (
            lambda: ex.exact_shapley(lambda r: r[:, 0] * np.nan, np.zeros(2), np.zeros((2, 2))),
            ValueError,
            "finite scores",
        ),
        (lambda: ex.exact_shapley(5, np.zeros(2), np.zeros((2, 2))), TypeError, "predict must be a function"),
        (lambda: ex.exact_shapley(len, np.zeros(2), np.zeros((0, 2))), ValueError, "background must be"),
        (lambda: ex.exact_shapley(len, np.array([1, np.nan]), np.zeros((2, 2))), ValueError, "row must be finite"),
        (lambda: ex.shap_values(len, np.zeros((2, 3)), np.zeros((2, 2))), ValueError, "background must have the 3"),
        (lambda: ex.shap_values(len, np.zeros((2, 2)), np.zeros((2, 2)), method="deep"), ValueError, "method must be"),
        (
            lambda: ex.shap_values(len, np.zeros((2, 2)), np.zeros((2, 2)), method="tree"),
            TypeError,
            "fitted tree model",
        ),
    ],
)
def test_what_cannot_be_shared_out_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_model_with_several_classes_wants_to_know_which(wine):
    x, y = wine
    model = RandomForestClassifier(5, random_state=0).fit(x[:, :3], y)
    with pytest.raises(ValueError, match="output must name one of the 3 classes"):
        ex.shap_values(model.predict_proba, x[:2, :3], x[::20, :3])


# ------------------------------------------------------------------------------------------------------- the surrogate


@pytest.mark.parametrize("seed", range(5))
def test_the_fidelity_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    model = rng.integers(0, 4, 80)
    imitation = np.where(rng.random(80) < 0.6, model, rng.integers(0, 3, 80))
    found = ex.fidelity(model, imitation)
    assert found.agreement == pytest.approx(accuracy_score(model, imitation))
    assert found.kappa == pytest.approx(cohen_kappa_score(model, imitation))
    assert found.baseline == pytest.approx(np.bincount(model).max() / 80)


def test_a_constant_answer_has_no_agreement_beyond_chance():
    assert ex.fidelity(np.ones(9), np.ones(9)).kappa == 0
    assert ex.fidelity(np.array([0, 0, 1]), np.zeros(3)).kappa == pytest.approx(0)


def test_the_tree_is_scikit_learns_fitted_to_the_models_answers(wine):
    x, y = wine
    forest = RandomForestClassifier(30, random_state=0).fit(x, y)
    found = ex.surrogate_tree(forest.predict_proba, x, depth=2, seed=4)
    order = np.random.default_rng(4).permutation(len(x))
    test, train = order[: round(0.3 * len(x))], order[round(0.3 * len(x)) :]
    want = DecisionTreeClassifier(max_depth=2, random_state=4).fit(x[train], forest.predict(x[train]))
    np.testing.assert_array_equal(found.predict(x), want.predict(x))
    assert found.fidelity.agreement == pytest.approx((want.predict(x[test]) == forest.predict(x[test])).mean())
    assert found.fidelity.rows == len(test)


def test_the_path_of_a_row_leads_to_its_answer(wine):
    x, y = wine
    forest = RandomForestClassifier(30, random_state=0).fit(x, y)
    names = [f"f{n}" for n in range(x.shape[1])]
    found = ex.surrogate_tree(forest.predict, x, depth=3, features=names, classes=("first", "second", "third"))
    inner = found.tree.tree_
    for row in x[::20]:
        steps, answer = found.path(row)
        node = 0
        for step in steps:
            assert step.feature == names[inner.feature[node]]
            assert step.below == (np.float32(row[inner.feature[node]]) <= inner.threshold[node])
            node = inner.children_left[node] if step.below else inner.children_right[node]
        assert inner.children_left[node] == -1
        assert answer == ("first", "second", "third")[int(found.predict(row[None])[0])]
    assert found.plot(title="a tree").texts


def test_the_columns_of_a_table_name_the_questions(wine):
    x, y = wine
    frame = pd.DataFrame(x, columns=[f"column {n}" for n in range(x.shape[1])])
    found = ex.surrogate_tree(RandomForestClassifier(5, random_state=0).fit(x, y).predict, frame)
    assert found.path(x[0])[0][0].feature.startswith("column ")


ROWS = np.random.default_rng(0).normal(size=(40, 2))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ex.surrogate_tree(lambda r: np.zeros(len(r)), ROWS), ValueError, "at least two different answers"),
        (lambda: ex.surrogate_tree(lambda r: np.ones((len(r), 1)), ROWS), ValueError, "at least two classes"),
        (lambda: ex.surrogate_tree(lambda r: r[:, 0], ROWS), ValueError, "a score"),
        (lambda: ex.surrogate_tree(lambda r: np.zeros(3), ROWS), ValueError, "must give answers"),
        (lambda: ex.surrogate_tree(lambda r: r[:, 0] > 0, ROWS[:9]), ValueError, "at least 20 rows"),
        (lambda: ex.surrogate_tree(lambda r: r[:, 0] > 0, ROWS * np.nan), ValueError, "rows must be finite"),
        (lambda: ex.surrogate_tree(lambda r: r[:, 0] > 0, ROWS, depth=0), ValueError, "depth must be"),
        (lambda: ex.surrogate_tree(lambda r: r[:, 0] > 0, ROWS, features=["a"]), ValueError, "features must name"),
        (lambda: ex.surrogate_tree(lambda r: r[:, 0] > 0, ROWS, test_share=1.0), ValueError, "test_share must be"),
        (lambda: ex.surrogate_tree(RandomForestClassifier(), ROWS), TypeError, "predict must be a function"),
        (lambda: ex.fidelity(np.zeros(3), np.zeros(4)), ValueError, "same length"),
        (lambda: ex.fidelity(np.zeros(0), np.zeros(0)), ValueError, "same length"),
    ],
)
def test_what_cannot_be_imitated_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
