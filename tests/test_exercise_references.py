"""The reference solutions of the exercises agree with the real libraries, or with brute force, on random inputs."""

import numpy as np
import pandas as pd
import pytest
import wrong_answers as harness
from cleanlab.filter import find_label_issues
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import DisjointSet
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score, roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from helpers.exercises import training_data as checks

PRIME = 2**31 - 1
SEEDS = range(8)


def answer(exercise, part=0):
    return harness.reference(exercise)[part]


def random_hashes(rng, k):
    return rng.integers(1, PRIME, k), rng.integers(0, PRIME, k)


# --- 1.1: leak ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_leak_score_is_the_larger_folded_roc_auc(seed):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([0, 1], rng.integers(30, 90, 2)))
    x = np.round(rng.choice([-1, 1]) * y + 2 * rng.normal(size=len(y)))
    x[rng.random(len(y)) < rng.choice([0, 0.1 + 0.6 * y.mean(), 0.5])] = np.nan
    gap = np.isnan(x)
    aucs = roc_auc_score(y[~gap], x[~gap]), roc_auc_score(y, gap)
    assert answer("1.1")(x, y) == pytest.approx(max(max(auc, 1 - auc) for auc in aucs), abs=1e-12)


# --- 1.2: preprocessing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_prepared_parts_are_those_of_a_pipeline_fitted_on_the_training_part(seed):
    rng = np.random.default_rng(seed)
    table = load_breast_cancer().data[rng.permutation(200)]
    table[rng.random(table.shape) < 0.1] = np.nan
    table[:, 3] = 0.1  # its standard deviation is not exactly 0
    train, test = table[:150], table[150:]
    pipeline = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()).fit(train)
    for got, part in zip(answer("1.2")(train, test), (train, test), strict=True):
        np.testing.assert_allclose(got, pipeline.transform(part), rtol=1e-9, atol=1e-9)


# --- 1.3: split ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_no_block_of_a_random_graph_straddles_the_split(seed):
    rng = np.random.default_rng(seed)
    groups, clusters = rng.integers(0, 150, 300), rng.integers(0, 250, 300)
    rows = DisjointSet(range(300))
    for labels in (groups, clusters):
        for label in np.unique(labels):
            first, *others = np.flatnonzero(labels == label).tolist()
            for other in others:
                rows.merge(first, other)
    blocks = rows.subsets()
    train, test = answer("1.3")(groups, clusters, 0.25, seed)
    assert sorted([*train, *test]) == list(range(300))
    assert all(block <= set(train) or block <= set(test) for block in blocks)
    assert abs(len(test) / 300 - 0.25) <= max(map(len, blocks)) / 300


# --- 1.4: class weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[0, 1], [3, 7, 11, 40], ["cat", "dog", "eel"], [True, False]])
def test_the_class_weights_are_those_of_scikit_learn(labels):
    rng = np.random.default_rng(len(labels))
    y = rng.choice(labels, 200, p=rng.dirichlet(np.full(len(labels), 3)))
    known = np.unique(y)
    want = dict(zip(known, compute_class_weight("balanced", classes=known, y=y), strict=True))
    assert answer("1.4")(y) == pytest.approx(want)


# --- 1.5: label errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_label_errors_are_those_of_cleanlab(seed):
    rng = np.random.default_rng(seed)
    for k, absent in ((2, False), (5, False), (5, True), (12, True)):
        labels = rng.integers(0, k - absent, 400)
        alpha = np.full((400, k), 0.4)
        alpha[np.arange(400), np.where(rng.random(400) < 0.3, rng.integers(0, k, 400), labels)] += 3 * rng.random(400)
        p = np.array([rng.dirichlet(row) for row in alpha])
        want = find_label_issues(labels, p, filter_by="confident_learning", n_jobs=1)
        np.testing.assert_array_equal(answer("1.5")(labels, p), want)


def test_the_label_errors_are_those_of_cleanlab_on_digits_with_flipped_labels():
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    noisy = np.where(rng.random(len(y)) < 0.1, rng.integers(0, 10, len(y)), y)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, C=0.05))
    p = cross_val_predict(model, x, noisy, cv=3, method="predict_proba")
    want = find_label_issues(noisy, p, filter_by="confident_learning", n_jobs=1)
    got = answer("1.5")(noisy, p)
    np.testing.assert_array_equal(got, want)
    flipped = noisy != y
    assert (got & flipped).sum() / flipped.sum() > 0.7


def test_equal_probabilities_in_a_class_leave_its_rows_confident():
    labels, p = np.repeat([0, 1], 3), np.repeat([[0.7, 0.3], [0.1, 0.9]], 3, axis=0)
    p[2] = [0.1, 0.9]  # labelled 0, with exactly the probabilities of class 1
    assert np.flatnonzero(answer("1.5")(labels, p)).tolist() == [2]


# --- 1.6, 1.7: MinHash and bands ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [0, 30, 100, 150])
def test_the_minhash_estimate_is_near_the_jaccard_of_the_sets(shared):
    rng = np.random.default_rng(shared)
    values = rng.choice(PRIME, 300 - shared, replace=False)
    first, second = values[:150], values[150 - shared :]
    a, b = random_hashes(rng, 4096)
    estimate = answer("1.6", 1)(answer("1.6")(first, a, b), answer("1.6")(second, a, b))
    jaccard = len(set(first) & set(second)) / len(set(first) | set(second))
    assert estimate == pytest.approx(jaccard, abs=0.04)  # the standard error is at most .008


def test_the_signature_ignores_order_and_repeats_of_the_shingles():
    rng = np.random.default_rng(0)
    shingles, (a, b) = rng.integers(0, PRIME, 50), random_hashes(rng, 64)
    again = rng.permutation(np.concatenate([shingles, shingles[:20]]))
    np.testing.assert_array_equal(answer("1.6")(shingles, a, b), answer("1.6")(again, a, b))


@pytest.mark.parametrize(("bands", "rows", "similarity"), [(16, 8, 0.8), (9, 13, 0.8), (4, 3, 0.5)])
def test_the_collision_probability_is_what_simulated_signatures_give(bands, rows, similarity):
    equal = np.random.default_rng(0).random((20_000, bands, rows)) < similarity
    found = equal.all(axis=2).any(axis=1).mean()
    assert answer("1.7")(similarity, bands, rows) == pytest.approx(found, abs=0.02)


@pytest.mark.parametrize("recall", [0.5, 0.9, 0.99])
def test_the_chosen_bands_reach_the_recall_and_one_more_row_would_not(recall):
    probability, choose = harness.reference("1.7")
    for num_hashes in (64, 100, 128, 250):
        bands, rows = choose(num_hashes, 0.8, recall)
        assert bands * rows <= num_hashes
        assert probability(0.8, bands, rows) >= recall > probability(0.8, num_hashes // (rows + 1), rows + 1)


def test_the_shown_bands_find_more_than_the_default_of_datasketch():
    probability, choose = harness.reference("1.7")
    assert choose(128, 0.8, 0.9) == (16, 8)
    datasketch = pytest.importorskip("datasketch")
    index = datasketch.MinHashLSH(threshold=0.8, num_perm=128)
    bands, rows = index.b, index.r
    assert probability(0.8, 16, 8) > probability(0.8, bands, rows)


# --- 1.8: contamination -------------------------------------------------------------------------------------------

texts = st.lists(st.lists(st.sampled_from(["a", "B", "c,"]), max_size=9).map(" ".join), max_size=5)


@given(texts, texts, st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_the_overlap_is_that_of_position_by_position_search(training, benchmark, n):
    def tokens(text):
        return text.lower().replace(",", "").split()

    got = answer("1.8")(training, benchmark, n)
    assert got.shape == (len(benchmark),)
    for share, item in zip(got, map(tokens, benchmark), strict=True):
        hits = [
            any(
                item[i : i + n] == document[j : j + n]
                for document in map(tokens, training)
                for j in range(len(document))
            )
            for i in range(len(item) - n + 1)
        ]
        assert share == np.mean(hits) if hits else np.isnan(share)


# --- 1.9: Vendi ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_vendi_score_is_that_of_the_authors_library(seed):
    vendi = pytest.importorskip("vendi_score.vendi")
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(40, int(rng.integers(2, 60))))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = vectors @ vectors.T
    assert answer("1.9")(similarity) == pytest.approx(vendi.score_K(similarity), rel=1e-6)


def test_the_vendi_score_does_not_see_copies():
    similarity = np.exp(-np.abs(np.subtract.outer(np.arange(9.0), np.arange(9.0))))
    assert answer("1.9")(np.tile(similarity, (3, 3))) == pytest.approx(answer("1.9")(similarity))


# --- 1.10: fix this code ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mended_script_gives_the_model_that_the_training_rows_alone_give(seed):
    data = load_breast_cancer(as_frame=True)
    rng = np.random.default_rng(seed)
    table = data.data.iloc[:, :8].mask(rng.random((len(data.data), 8)) < 0.05)
    table["diagnosis"] = np.array(["malignant", "benign"], dtype=object)[data.target]
    table.index = rng.permutation(len(table)) + 7
    done = answer("1.10")(table, "diagnosis", seed)
    x, y = table.drop(columns="diagnosis"), table["diagnosis"].to_numpy()
    alone = clone(done["model"]).fit(x.iloc[done["train_rows"]], y[done["train_rows"]])
    np.testing.assert_allclose(done["model"].predict_proba(x), alone.predict_proba(x))
    rows = done["test_rows"]
    want = recall_score(y[rows], alone.predict(x.iloc[rows]), pos_label="malignant")
    assert done["minority_recall"] == pytest.approx(want)
    share = pd.Series(y[rows]).value_counts(normalize=True)
    assert share["malignant"] == pytest.approx((y == "malignant").mean(), abs=0.01)


# --- the checks' own references -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_what_the_checks_expect_is_what_the_libraries_give(seed):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([0, 1], 40))
    x = np.round(y + rng.normal(size=80))
    assert checks._pair_auc(x, y) == pytest.approx(roc_auc_score(y, x))
    for _, (labels, p, clear), _ in checks._label_cases(rng):
        want = find_label_issues(labels, p, filter_by="confident_learning", n_jobs=1)
        np.testing.assert_array_equal(checks._issues(labels, p)[clear], want[clear])
        assert clear.mean() > 0.95
    for _, similarity, want_score in checks._similarities(rng):
        w = np.linalg.eigvalsh(similarity / len(similarity))
        w = w[w > 1e-14]
        assert want_score == pytest.approx(np.exp(-np.sum(w * np.log(w))))
