"""Contamination, against sets of tuples of strings."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.datasets import python_functions
from helpers.training_data.contamination import contamination
from helpers.training_data.text import in_chunks, tokenise


def grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = tokenise(text)
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def reference(training: list[str], benchmark: list[str], n: int):
    """(shares, matches, training documents) by brute force."""
    first: dict[tuple[str, ...], int] = {}
    for number, text in enumerate(training):
        for gram in grams(text, n):
            first.setdefault(gram, number)
    shares, matches = [], []
    for item, text in enumerate(benchmark):
        mine = grams(text, n)
        shares.append(sum(gram in first for gram in mine) / len(mine) if mine else math.nan)
        matches += [[item, position, first[gram]] for position, gram in enumerate(mine) if gram in first]
    wanted = {gram for text in benchmark for gram in grams(text, n)}
    documents = [number for number, text in enumerate(training) if wanted & set(grams(text, n))]
    return np.array(shares), matches, documents


def assert_equals_reference(training: list[str], benchmark: list[str], n: int) -> None:
    found = contamination(training, benchmark, n=n)
    shares, matches, documents = reference(training, benchmark, n)
    np.testing.assert_array_equal(found.share, shares)
    assert found.matches.tolist() == matches
    assert found.training_documents.tolist() == documents
    assert (found.n_training, found.n) == (len(training), n)


WORDS = st.sampled_from(["a", "B", "b,", "c", "İ", "π", "-", "x_1"])
TEXTS = st.lists(st.lists(WORDS, max_size=12).map(" ".join), max_size=6)


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS, st.integers(1, 4))
def test_shares_and_places_are_those_of_sets_of_tuples(training, benchmark, n):
    assert_equals_reference(training, benchmark, n)


def test_real_functions_give_what_sets_of_tuples_give():
    functions = [source for _, source in python_functions(limit=900)]
    rng = random.Random(0)
    benchmark = [*functions[600:], "def f(x):\n    return x"]
    for text in functions[:100]:  # part of the benchmark is copied, part of it out of the middle and disguised
        words = text.split()
        benchmark.append("#! " + "   ".join(words[rng.randrange(5) : len(words) - rng.randrange(5)]).upper())
    assert_equals_reference(functions[:600], benchmark, 13)
    assert len(contamination(functions[:600], benchmark).matches) > 100


def test_an_ngram_does_not_reach_from_one_document_into_the_next():
    words = [f"w{i}" for i in range(13)]
    found = contamination([" ".join(words[:7]), " ".join(words[7:])], [" ".join(words)])
    assert found.share.tolist() == [0.0]
    assert contamination([" ".join(words)], [" ".join(words)]).share.tolist() == [1.0]


def test_an_item_too_short_to_test_is_not_called_clean():
    found = contamination(["one two three " * 9], ["one two three", "", "four " * 13])
    assert np.isnan(found.share).tolist() == [True, True, False]
    assert found.too_short.tolist() == [0, 1]
    assert found.contaminated().tolist() == []
    assert "2 too short" in repr(found)


def test_case_and_punctuation_hide_nothing():
    text = "the quick brown fox jumps over the lazy dog and runs away from it"
    found = contamination([text.upper().replace(" ", " -- ")], [text])
    assert found.share.tolist() == [1.0]
    assert found.contaminated(above=0.5).tolist() == [0]


def test_the_place_named_holds_the_words():
    rng = random.Random(1)
    training = [" ".join(rng.choices("abcdefgh", k=30)) for _ in range(50)]
    benchmark = [" ".join(rng.choices("abcdefgh", k=30)) for _ in range(20)]
    found = contamination(training, benchmark, n=4)
    assert len(found.matches) > 20
    for item, position, document in found.matches.tolist():
        words = tokenise(benchmark[item])[position : position + 4]
        assert tuple(words) in grams(training[document], 4)
        assert all(tuple(words) not in grams(earlier, 4) for earlier in training[:document])


def test_colliding_hashes_change_nothing(monkeypatch: pytest.MonkeyPatch):
    """With hashes of 6 bits nearly everything collides: the answer must come from the words."""
    module = sys.modules["helpers.training_data.contamination"]
    real = module.span_hashes

    def poor(codes, starts, ends):
        return (real(codes, starts, ends) >> np.uint64(58)) << np.uint64(58)

    monkeypatch.setattr(module, "span_hashes", poor)
    rng = random.Random(2)
    training = [" ".join(rng.choices("abcd", k=20)) for _ in range(40)]
    benchmark = [" ".join(rng.choices("abcd", k=15)) for _ in range(30)]
    assert_equals_reference(training, benchmark, 4)


def test_how_the_stream_is_cut_makes_no_difference(monkeypatch: pytest.MonkeyPatch):
    module = sys.modules["helpers.training_data.contamination"]
    monkeypatch.setattr(module, "in_chunks", lambda texts: in_chunks(texts, characters=50))
    rng = random.Random(3)
    training = [" ".join(rng.choices("abcd", k=rng.randrange(30))) for _ in range(40)]
    benchmark = [" ".join(rng.choices("abcd", k=rng.randrange(30))) for _ in range(30)]
    assert_equals_reference(training, benchmark, 4)


def test_the_training_text_is_read_once_and_not_held():
    def stream() -> Iterator[str]:
        for number in range(20_000):
            yield f"{number} " * 200

    import tracemalloc

    contamination(iter(["warm up " * 20]), ["warm up " * 20])
    tracemalloc.start()
    found = contamination(stream(), ["5 " * 20, "x " * 20])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.share.tolist() == [1.0, 0.0]
    assert peak < 40e6  # the text is 22 MB, its words as Python objects several hundred


def test_nothing_against_nothing_is_no_error():
    assert contamination([], []).share.tolist() == []
    assert contamination([], ["word " * 20]).share.tolist() == [0.0]
    assert contamination(["word " * 20], []).matches.shape == (0, 3)
    assert np.isnan(contamination(["word " * 20], ["", "short"]).share).all()


def test_bars_are_shown_only_when_asked_for(capfd: pytest.CaptureFixture[str]):
    contamination(["a b c"] * 3, ["a b c"], n=2)
    assert capfd.readouterr() == ("", "")
    contamination(["a b c"] * 3, ["a b c"], n=2, progress=True)
    assert "searching" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("training", "benchmark", "n", "error", "message"),
    [
        ("text", ["a"], 13, TypeError, "training is one str"),
        (["a"], "text", 13, TypeError, "benchmark is one str"),
        (3, ["a"], 13, TypeError, "training is of type int"),
        (["a"], None, 13, TypeError, "benchmark is of type NoneType"),
        (["a"], ["a"], 0, ValueError, "n is 0"),
        (["a"], ["a"], 2.0, TypeError, "n is of type float"),
        (["a", 5], ["a"], 13, TypeError, "document 1 is of type int"),
        (["a"], ["a", b"b"], 13, TypeError, "document 1 is of type bytes"),
    ],
)
def test_a_wrong_argument_is_named(training, benchmark, n, error, message):
    with pytest.raises(error, match=message):
        contamination(training, benchmark, n=n)
