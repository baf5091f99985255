"""The reference solutions of exercises 5.1, 5.2, 5.3 and 5.5 agree with lime, shap and scikit-learn."""

import itertools
from functools import partial

import numpy as np
import pytest
import shap
import wrong_answers as harness
from lime.lime_base import LimeBase
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import accuracy_score, cohen_kappa_score, pairwise_distances
from sklearn.tree import DecisionTreeClassifier

SEEDS = range(5)


def answer(exercise):
    return harness.reference(exercise)[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_coefficients_are_those_of_limes_own_regression(seed):
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, 2, (200, 12))
    masks[0] = 1
    y = rng.random((200, 2))

    def kernel(d, kernel_width):
        return np.sqrt(np.exp(-(d**2) / kernel_width**2))

    base = LimeBase(partial(kernel, kernel_width=0.25), random_state=0)
    distances = pairwise_distances(masks, masks[:1], metric="cosine").ravel()
    intercept, pairs, _, _ = base.explain_instance_with_data(masks, y, distances, 1, 12, feature_selection="none")
    got = answer("5.1")(masks, y[:, 1])
    np.testing.assert_allclose(got[0], [weight for _, weight in sorted(pairs)], atol=1e-10)
    assert got[1] == pytest.approx(intercept, abs=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_shapley_values_are_those_of_shap(seed):
    rng = np.random.default_rng(seed)
    row, background = rng.normal(size=5), rng.normal(size=(7, 5))

    def score(rows):
        return rows[:, 0] * rows[:, 1] + np.sin(rows[:, 2]) * rows[:, 3] + rows[:, 4]

    def value(coalition):
        rows = background.copy()
        rows[:, list(coalition)] = row[list(coalition)]
        return score(rows).mean()

    want = shap.KernelExplainer(score, background).shap_values(row[None], silent=True)[0]
    np.testing.assert_allclose(answer("5.2")(value, 5), want, atol=1e-8)


def test_the_permutation_importance_is_that_of_scikit_learn_on_average():
    x, y = load_breast_cancer(return_X_y=True)
    x = x[:, :6]
    forest = RandomForestClassifier(20, max_depth=3, random_state=0).fit(x[:300], y[:300])
    want = permutation_importance(forest, x[300:], y[300:], n_repeats=40, random_state=0)
    got = answer("5.3")(forest.predict, x[300:], y[300:], accuracy_score, 40, np.random.default_rng(1))
    error = np.sqrt((want.importances_std**2 + got.var(1)) / 40)
    assert (abs(got.mean(1) - want.importances_mean) < 4 * error + 1e-9).all()


@pytest.mark.parametrize(("seed", "depth"), list(itertools.product(range(3), (1, 3))))
def test_the_fidelity_is_that_of_scikit_learn(seed, depth):
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[:350], order[350:]
    forest = RandomForestClassifier(20, random_state=seed).fit(x[train], y[train])
    got = answer("5.5")(forest.predict, x[train], x[test], y[test], depth)
    tree = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(x[train], forest.predict(x[train]))
    model, imitation = forest.predict(x[test]), tree.predict(x[test])
    assert got["agreement"] == pytest.approx(accuracy_score(model, imitation))
    assert got["kappa"] == pytest.approx(cohen_kappa_score(model, imitation))
    assert got["accuracy"] == pytest.approx(accuracy_score(y[test], imitation))
