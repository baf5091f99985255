"""Diversity, against vendi-score, closed forms and counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from vendi_score import vendi

from helpers.datasets import digits
from helpers.training_data.diversity import (
    cluster_coverage,
    coverage,
    distinct_n,
    diversity,
    effective_number,
    text_vectors,
    vendi_score,
)
from helpers.training_data.text import tokenise


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# ---------------------------------------------------------------------------------------------------- Vendi score


@pytest.mark.parametrize("shape", [(200, 5), (30, 80), (50, 50), (1, 3)])
def test_vendi_is_that_of_the_vendi_score_package(rng, shape):
    rows = rng.normal(size=shape)
    assert vendi_score(rows) == pytest.approx(vendi.score_X(rows), rel=1e-9)
    assert vendi_score(rows) == pytest.approx(vendi.score_dual(rows), rel=1e-6)
    assert vendi_score(rows, centre=shape[0] > 1) == pytest.approx(
        vendi.score_X(rows - rows.mean(axis=0) * (shape[0] > 1)), rel=1e-9
    )


def test_vendi_of_the_digits_is_that_of_the_package_to_three_decimals():
    pixels, _ = digits()
    assert vendi_score(pixels) == pytest.approx(vendi.score_X(pixels), abs=1e-3)


def test_a_similarity_matrix_can_be_given(rng):
    rows = rng.normal(size=(40, 6))
    similarity = np.exp(-np.abs(rows[:, None] - rows).sum(axis=2))
    assert vendi_score(similarity, kernel="precomputed") == pytest.approx(vendi.score_K(similarity), rel=1e-9)


def test_the_gaussian_kernel_is_what_scikit_learn_computes(rng):
    from sklearn.metrics.pairwise import rbf_kernel

    rows = rng.normal(size=(60, 4))
    assert vendi_score(rows, kernel="rbf", gamma=0.7) == pytest.approx(vendi.score_K(rbf_kernel(rows, gamma=0.7)))
    default = vendi.score_K(rbf_kernel(rows, gamma=1 / (4 * rows.var())))
    assert vendi_score(rows, kernel="rbf") == pytest.approx(default)


@pytest.mark.parametrize("order", [0.5, 2, math.inf])
def test_other_orders_are_those_of_the_package(rng, order):
    rows = rng.normal(size=(30, 4))
    similarity = np.corrcoef(rows)
    theirs = vendi.score_K(similarity, q="inf" if order == math.inf else order)
    assert vendi_score(similarity, kernel="precomputed", order=order) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("kernel", ["cosine", "linear"])
def test_unrelated_rows_count_each_and_equal_rows_count_once(kernel):
    assert vendi_score(np.eye(7), kernel=kernel) == pytest.approx(7)
    assert vendi_score(np.ones((9, 4)), kernel=kernel) == pytest.approx(1)
    assert vendi_score(np.repeat(np.eye(3), 5, axis=0), kernel=kernel) == pytest.approx(3)


def test_both_ways_to_the_eigenvalues_agree(rng):
    wide = rng.normal(size=(6, 40))
    tall = np.vstack([wide] * 10)  # copies change nothing, but the matrix is now taller than wide
    assert vendi_score(tall) == pytest.approx(vendi_score(wide), rel=1e-9)


def test_positive_features_look_alike_until_they_are_centred(rng):
    positive = np.abs(rng.normal(size=(500, 20)))
    assert vendi_score(positive) < 10 < 19 < vendi_score(positive, centre=True) <= 20


def test_long_rows_weigh_more_in_the_linear_kernel():
    rows = np.diag([1.0, 1.0, 10.0])
    assert vendi_score(rows, kernel="linear") < 1.2 < vendi_score(rows) == pytest.approx(3)


def test_effective_number_of_equal_shares_is_their_count():
    for order in (0, 0.5, 1, 2, math.inf):
        assert effective_number([0.25] * 4 + [0.0, -1e-18], order) == pytest.approx(4)


@pytest.mark.parametrize(
    ("vectors", "options", "error", "message"),
    [
        ([1.0, 2.0], {}, ValueError, r"vectors has the shape \(2,\)"),
        (np.empty((0, 3)), {}, ValueError, r"vectors has the shape \(0, 3\)"),
        ([["a", "b"]], {}, TypeError, "numbers only"),
        ([[1.0, np.nan]], {}, ValueError, "first in row 0"),
        ([[1.0, 1.0], [0.0, 0.0]], {}, ValueError, "row 1 of vectors is all zeros"),
        (np.ones((4, 2)), {"centre": True}, ValueError, "centring leaves zeros"),
        (np.ones((4, 2)), {"centre": True, "kernel": "linear"}, ValueError, "every row is the same"),
        (np.eye(3), {"kernel": "poly"}, ValueError, "kernel is 'poly'"),
        (np.eye(3), {"order": -1}, ValueError, "order is -1"),
        (np.eye(3), {"kernel": "rbf", "gamma": 0}, ValueError, "gamma is 0"),
        (np.ones((3, 2)), {"kernel": "precomputed"}, ValueError, "square"),
        (np.triu(np.ones((3, 3))), {"kernel": "precomputed"}, ValueError, "not symmetric"),
        (2 * np.eye(3), {"kernel": "precomputed"}, ValueError, "ones on its diagonal"),
    ],
)
def test_vectors_that_have_no_score_are_refused(vectors, options, error, message):
    with pytest.raises(error, match=message):
        vendi_score(vectors, **options)


# ----------------------------------------------------------------------------------------------------- distinct-n


@pytest.mark.parametrize("n", [1, 2, 3])
def test_distinct_n_is_what_counting_gives(n):
    texts = ["The cat, the cat and THE cat", "the cat and a dog π", "", "dog"]
    grams = [tuple(words[i : i + n]) for words in map(tokenise, texts) for i in range(len(words) - n + 1)]
    assert distinct_n(texts, n) == len(set(grams)) / len(grams)
    assert distinct_n(iter(texts), n, limit=4) == len(set(grams[:4])) / 4


def test_distinct_n_of_too_little_text_is_unknown():
    assert math.isnan(distinct_n(["one", "", "two"], 2))
    assert math.isnan(distinct_n([], 1))


def test_distinct_n_refuses_bad_arguments():
    with pytest.raises(TypeError, match="texts is one str"):
        distinct_n("text")
    with pytest.raises(ValueError, match="n is 0"):
        distinct_n(["a"], 0)
    with pytest.raises(ValueError, match="limit is 0"):
        distinct_n(["a"], 1, limit=0)
    with pytest.raises(TypeError, match="n is of type float"):
        distinct_n(["a"], 1.5)


# ------------------------------------------------------------------------------------------------------- coverage


def test_coverage_is_what_the_definition_gives(rng):
    reference, rows = rng.normal(size=(60, 3)), rng.normal(size=(25, 3)) * 0.6
    covered = 0
    for i, point in enumerate(reference):
        others = np.sort(np.linalg.norm(np.delete(reference, i, axis=0) - point, axis=1))
        covered += np.linalg.norm(rows - point, axis=1).min() <= others[3]
    assert coverage(reference, rows, k=4) == covered / 60


def test_data_that_miss_a_mode_cover_half():
    rng = np.random.default_rng(1)
    reference = np.vstack([rng.normal(0, 1, (200, 2)), rng.normal(50, 1, (200, 2))])
    assert coverage(reference, reference) == 1
    assert coverage(reference, rng.normal(0, 1, (400, 2))) == pytest.approx(0.5, abs=0.03)
    assert cluster_coverage(reference, rng.normal(0, 1, (400, 2)), n_clusters=2) == 0.5
    assert cluster_coverage(reference, reference, n_clusters=2, at_least=201) == 0


def test_coverage_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="reference has 2 columns and vectors 3"):
        coverage(np.ones((9, 2)), np.ones((9, 3)))
    with pytest.raises(ValueError, match="k is 9; with 9 reference rows"):
        coverage(np.ones((9, 2)), np.ones((9, 2)), k=9)
    with pytest.raises(ValueError, match="n_clusters is 10"):
        cluster_coverage(np.ones((9, 2)), np.ones((9, 2)))


# -------------------------------------------------------------------------------------------------- all in one

SENTENCES = [
    f"{a} {b} {c}" for a in ("red", "blue", "green") for b in ("cats", "dogs") for c in ("sleep", "run", "eat")
]


def test_text_vectors_keep_the_cosines_of_tf_idf():
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [*SENTENCES, "red red red cats"]
    exact = TfidfVectorizer(tokenizer=tokenise, token_pattern=None, sublinear_tf=True, smooth_idf=False)
    theirs = exact.fit_transform(texts).toarray()
    ours = text_vectors(texts, dimensions=1 << 14)  # wide enough for no two of the words to share a column
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-9)


def test_varied_texts_score_above_repetitive_ones():
    varied, same = diversity(SENTENCES), diversity(["red cats sleep", "red cats run"] * 9)
    assert varied.vendi > 2 * same.vendi
    assert all(varied.distinct_n[n] > same.distinct_n[n] for n in (1, 2, 3))
    assert same.vendi_share < 0.2
    assert same.coverage is None


def test_vectors_and_texts_are_both_measured_against_a_reference(rng):
    rows = rng.normal(size=(80, 3))
    measured = diversity(rows, reference=rows, sample=None)
    assert measured == diversity(rows.tolist(), reference=rows, sample=None)
    assert (measured.n, measured.coverage, measured.distinct_n) == (80, 1.0, {})
    assert measured.vendi == vendi_score(rows)
    assert diversity(SENTENCES, reference=SENTENCES).coverage == 1.0


def test_a_sample_is_drawn_by_the_seed(rng):
    rows = rng.normal(size=(300, 3))
    assert diversity(rows, sample=50, seed=1) == diversity(rows, sample=50, seed=1)
    assert diversity(rows, sample=50, seed=1) != diversity(rows, sample=50, seed=2)
    assert diversity(rows, sample=50).n == 50


def test_diversity_refuses_what_it_cannot_measure():
    with pytest.raises(TypeError, match="data is one str"):
        diversity("text")
    with pytest.raises(ValueError, match="data holds texts without a word, first at 1"):
        diversity(["a b", "..."])
    with pytest.raises(ValueError, match="sample is 1"):
        diversity(np.eye(3), sample=1)
    with pytest.raises(ValueError, match="data has the shape"):
        diversity([])
