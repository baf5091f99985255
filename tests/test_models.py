"""The shared models against counts made by hand."""

from __future__ import annotations

import pytest

from helpers.models import BackoffNgram


def test_predicts_the_most_frequent_continuation_of_the_longest_known_context() -> None:
    model = BackoffNgram(context=2).fit([list("abcabcabd")])
    assert model.predict(["a", "b"]) == "c"  # after ab: c twice, d once
    assert model.predict(["x", "b"]) == "c"  # xb is unknown: backs off to b
    assert model.predict(["x", "y"]) == "a"  # nothing known: the most frequent token (a and b tie, a came first)


def test_accuracy_counts_every_token_once_and_a_memorised_document_is_predicted_whole() -> None:
    text = ["to", "be", "or", "not", "to", "be", "that", "is", "the", "question"]
    model = BackoffNgram(context=5).fit([text])
    assert model.accuracy([text]) == 1.0
    assert model.hits(["to", "be", "x"]) == 2
    assert model.accuracy([["to", "be", "x"], []]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("documents", [[], [[]]])
def test_nothing_to_learn_from_is_an_error(documents: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="no token"):
        BackoffNgram().fit(documents)


def test_a_negative_context_and_a_score_before_fit_are_errors() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        BackoffNgram(-1)
    with pytest.raises(RuntimeError, match="fit the model first"):
        BackoffNgram(0).predict([])
