"""Near-duplicates and exact copies, against brute force over Python sets and against datasketch."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.datasets import python_functions
from helpers.training_data.near_duplicates import (
    UnionFind,
    band_keys,
    candidate_pairs,
    choose_bands,
    collision_probability,
    deduplicate,
    exact_jaccard,
    jaccard,
    minhash_signatures,
    near_duplicates,
    random_permutations,
    shingle_sets,
)
from helpers.training_data.text import hash_tokens, in_chunks, tokenise

# ---------------------------------------------------------------------------------------------- references


def word_set(text: str, n: int = 5) -> set[tuple[str, ...]]:
    words = tokenise(text)
    if 0 < len(words) < n:
        return {tuple(words)}
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def brute_force(documents: list[str], threshold: float) -> dict[tuple[int, int], float]:
    sets = [word_set(text) for text in documents]
    found = {}
    for i, j in combinations(range(len(sets)), 2):
        if min(len(sets[i]), len(sets[j])) >= max(threshold * max(len(sets[i]), len(sets[j])), 1):
            similarity = len(sets[i] & sets[j]) / len(sets[i] | sets[j])
            if similarity >= threshold:
                found[i, j] = similarity
    return found


def components(n: int, pairs: set[tuple[int, int]]) -> set[frozenset[int]]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = np.array(sorted(pairs)).T
    labels = connected_components(coo_array((np.ones(len(one)), (one, other)), shape=(n, n)), directed=False)[1]
    parts = (frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels))
    return {part for part in parts if len(part) > 1}


def as_sets(clusters: tuple[np.ndarray, ...]) -> set[frozenset[int]]:
    return {frozenset(cluster.tolist()) for cluster in clusters}


def same(one, other) -> bool:
    arrays = ("pairs", "jaccard", "keep", "empty", "copy_of")
    return (
        all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
        and [c.tolist() for c in one.clusters] == [c.tolist() for c in other.clusters]
        and one.n_candidates == other.n_candidates
    )


def edited_corpus(families: int, seed: int, members: int = 4, words: int = 60) -> list[str]:
    """Families of texts that differ in a few words each, shuffled; some are copied outright."""
    rng = random.Random(seed)
    documents = []
    for _ in range(families):
        base = [f"w{rng.randrange(5000)}" for _ in range(words)]
        for _ in range(members):
            text = list(base)
            for _ in range(rng.randrange(4)):
                text[rng.randrange(words)] = f"x{rng.randrange(5000)}"
            documents.append(" ".join(text))
    rng.shuffle(documents)
    return documents


@pytest.fixture(scope="module")
def functions() -> list[str]:
    """Real functions of the standard library, with real near-duplicates among them."""
    return [source for _, source in python_functions(limit=1200)]


# ---------------------------------------------------------------------------------------------- words and hashes


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=8))
def test_hashed_words_are_exactly_the_words_of_tokenise(documents: list[str]):
    hashed = hash_tokens(documents)
    words = [tokenise(text) for text in documents]
    assert np.diff(hashed.offsets).tolist() == [len(part) for part in words]
    flat = [word for part in words for word in part]
    numbers = hashed.hashes.tolist()
    assert len(set(zip(flat, numbers, strict=True))) == len(set(flat)) == len(set(numbers))


@pytest.mark.parametrize(
    "text", ["ÄPFEL und Straße", "İstanbul K", "snake_case x² π", "数据 质量", "a\x00b\n\tC", "\ud800 x"]
)
def test_hashes_of_a_text_do_not_depend_on_its_neighbours(text: str):
    alone = hash_tokens([text]).hashes
    among = hash_tokens(["before it", text, "Größe"])
    assert np.array_equal(among.hashes[among.offsets[1] : among.offsets[2]], alone)


def test_ascii_and_unicode_texts_agree_on_shared_words():
    ascii_only, mixed = hash_tokens(["Hello World_1"]).hashes, hash_tokens(["hello world_1 π"]).hashes
    assert np.array_equal(ascii_only, mixed[:2])


def test_no_two_words_of_a_real_corpus_share_a_hash(functions: list[str]):
    numbers = dict(zip(tokenise(" ".join(functions)), hash_tokens(functions).hashes.tolist(), strict=True))
    assert len(set(numbers.values())) == len(numbers) > 3000


def test_shingle_sets_have_the_sizes_of_python_sets(functions: list[str]):
    documents = [*functions[:300], "", "one", "one two", "a a a a a a a a a", "..."]
    sizes = np.diff(shingle_sets(documents).offsets)
    assert sizes.tolist() == [len(word_set(text)) for text in documents]


def test_exact_similarity_is_that_of_python_sets():
    documents = edited_corpus(8, seed=3)
    pairs = np.array(list(combinations(range(len(documents)), 2)))
    sets = shingle_sets(documents)
    got = exact_jaccard(sets.take(pairs[:, 0]), sets.take(pairs[:, 1]))
    assert got.tolist() == [jaccard(word_set(documents[i]), word_set(documents[j])) for i, j in pairs]


# ---------------------------------------------------------------------------------------------- signatures, bands


def test_signatures_estimate_the_similarity_as_well_as_the_theory_allows():
    documents = edited_corpus(60, seed=0, members=2, words=80)
    truth = brute_force(documents, 0.05)
    signatures = minhash_signatures(shingle_sets(documents), random_permutations(1024, 0.8, 1))
    errors = [np.mean(signatures[:, i] == signatures[:, j]) - similarity for (i, j), similarity in truth.items()]
    expected = [similarity * (1 - similarity) / 1024 for similarity in truth.values()]
    assert abs(np.mean(errors)) < 4 * np.sqrt(np.mean(expected) / len(errors))
    assert 0.6 < np.mean(np.square(errors)) / np.mean(expected) < 1.6


def test_collision_probability_is_what_a_simulation_sees():
    rng = np.random.default_rng(0)
    for similarity, bands, rows in [(0.8, 16, 8), (0.5, 16, 8), (0.7, 5, 3)]:
        agree = rng.random((20_000, bands, rows)) < similarity
        seen = agree.all(axis=2).any(axis=1).mean()
        assert collision_probability(similarity, bands, rows) == pytest.approx(seen, abs=0.015)
    assert collision_probability([0.0, 1.0], 4, 2).tolist() == [0.0, 1.0]


def test_bands_are_chosen_from_the_threshold():
    assert choose_bands(128, 0.8) == (16, 8)
    assert choose_bands(128, 1.0) == (1, 128)
    for threshold in (0.3, 0.5, 0.7, 0.9):
        bands, rows = choose_bands(128, threshold)
        assert bands * rows <= 128
        assert collision_probability(threshold, bands, rows) >= 0.9
        assert collision_probability(threshold, 128 // (rows + 1), rows + 1) < 0.9
    with pytest.raises(ValueError, match=r"threshold 0\.01 is too low for num_hashes=128"):
        choose_bands(128, 0.01)


def test_candidates_are_the_pairs_that_share_a_band():
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 30, (60, 4)).astype(np.uint64)
    want = [pair for pair in combinations(range(60), 2) if (keys[pair[0]] == keys[pair[1]]).any()]
    assert candidate_pairs(keys).tolist() == [list(pair) for pair in want]


def test_bands_agree_exactly_where_all_their_rows_do():
    permutations = random_permutations(128, 0.8, 0)
    signatures = minhash_signatures(shingle_sets(edited_corpus(10, seed=5)), permutations)
    keys = band_keys(signatures, permutations)
    rows = signatures.reshape(16, 8, -1)
    for i, j in combinations(range(20), 2):
        assert (keys[i] == keys[j]).tolist() == (rows[:, :, i] == rows[:, :, j]).all(axis=1).tolist()


def test_union_find_connects_like_networkx():
    rng = random.Random(0)
    pairs = {(rng.randrange(200), rng.randrange(200)) for _ in range(120)}
    connected = UnionFind(200)
    for one, other in pairs:
        connected.union(one, other)
    roots = connected.roots()
    got = {frozenset(np.flatnonzero(roots == root).tolist()) for root in set(roots.tolist())}
    assert {part for part in got if len(part) > 1} == components(200, pairs)


# ---------------------------------------------------------------------------------------------- the whole search


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_every_pair_found_is_right_and_nearly_all_are_found(threshold: float):
    documents = [*edited_corpus(60, seed=1), "", "short", "short", "!!"]
    truth = brute_force(documents, threshold)
    found = near_duplicates(documents, threshold=threshold)
    pairs = set(found.all_pairs())
    assert pairs <= set(truth)
    assert len(pairs) >= 0.95 * len(truth)
    listed = {tuple(pair): similarity for pair, similarity in zip(found.pairs.tolist(), found.jaccard, strict=True)}
    assert listed == {pair: truth[pair] for pair in listed}


def test_real_functions_agree_with_brute_force_and_with_datasketch(functions: list[str]):
    from datasketch import MinHash, MinHashLSH

    truth = set(brute_force(functions, 0.8))
    found = near_duplicates(functions)
    ours = set(found.all_pairs())
    assert ours <= truth
    shingles = [[" ".join(gram).encode() for gram in word_set(text)] for text in functions]
    sketches = MinHash.bulk(shingles, num_perm=128)
    index = MinHashLSH(num_perm=128, params=(16, 8))
    theirs = set()
    for number, minhash in enumerate(sketches):
        theirs |= {(other, number) for other in index.query(minhash)} & truth
        index.insert(number, minhash)
    assert min(len(ours), len(theirs)) >= 0.95 * len(truth) > 10


def test_more_recall_loses_nothing_and_costs_more_candidates():
    documents = edited_corpus(100, seed=11)
    truth = set(brute_force(documents, 0.8))
    usual, careful = near_duplicates(documents), near_duplicates(documents, recall=0.995)
    assert (careful.bands, careful.rows) == (21, 6)
    assert set(usual.all_pairs()) <= truth
    assert len(truth) * 0.99 <= len(set(careful.all_pairs()) & truth)
    assert set(usual.all_pairs()) <= set(careful.all_pairs())
    assert usual.n_candidates < careful.n_candidates


def test_clusters_are_the_connected_components_of_the_pairs():
    documents = edited_corpus(80, seed=2)
    found = near_duplicates(documents)
    assert as_sets(found.clusters) == components(len(documents), set(found.all_pairs()))
    firsts = [cluster[0] for cluster in found.clusters]
    assert firsts == sorted(firsts)
    assert all((np.diff(cluster) > 0).all() for cluster in found.clusters)


def test_one_of_each_cluster_is_kept_the_first_or_the_longest():
    base = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    documents = [base, "something else altogether", base + " ", base.upper() + "  !", base + " !!", ""]
    first = near_duplicates(documents)
    assert first.keep.tolist() == [True, True, False, False, False, True]
    longest = near_duplicates(documents, keep="longest")
    assert longest.keep.tolist() == [False, True, False, True, False, True]  # of equals the first
    assert first.n_removed == longest.n_removed == 3


def test_short_documents_match_only_when_all_their_words_do_and_empty_ones_never():
    found = near_duplicates(["a b", "A, b!", "a b c", "b a", "", "  ", "?!", ""])
    assert set(found.all_pairs()) == {(0, 1)}
    assert found.empty.tolist() == [4, 5, 6, 7]
    assert found.keep[4:].all()
    assert found.copy_of.tolist() == [0, 0, 2, 3, 4, 5, 6, 7]


def test_nothing_or_a_single_document_is_no_error():
    for documents in ([], [""], ["one document"]):
        found = near_duplicates(documents)
        assert found.pairs.shape == (0, 2)
        assert found.clusters == ()
        assert found.keep.tolist() == [True] * len(documents)


def test_a_document_repeated_ten_thousand_times_costs_no_fifty_million_pairs():
    documents = ["the same words again and again in one short text"] * 10_000 + edited_corpus(5, seed=0)
    start = time.perf_counter()
    found = near_duplicates(documents)
    assert time.perf_counter() - start < 10
    assert found.n_candidates < 1000
    assert len(found.pairs) < 11_000
    assert len(found.clusters[0]) == 10_000


def test_ten_thousand_versions_of_one_template_stay_one_cluster_at_linear_cost():
    words = [f"word{i}" for i in range(60)]
    documents = [" ".join([*words, f"number{i}"]) for i in range(10_000)]
    found = near_duplicates(documents)
    assert as_sets(found.clusters) == {frozenset(range(10_000))}
    assert found.n_candidates <= 16 * 9 * 10_000


def test_a_crowded_bucket_loses_no_cluster():
    rng = np.random.default_rng(0)
    documents = []
    for family in range(40):  # families share most words, so that many meet in one bucket without being similar
        base = [f"common{i}" for i in range(110)] + [f"f{family}_{i}" for i in range(40)]
        for _ in range(20):
            text = list(base)
            text[int(rng.integers(150))] = f"x{rng.integers(1 << 30)}"
            documents.append(" ".join(text))
    order = rng.permutation(len(documents))
    documents = [documents[i] for i in order]
    permutations = random_permutations(128, 0.8, 0)
    sets = shingle_sets(documents)
    keys = band_keys(minhash_signatures(sets, permutations), permutations)
    everything, some = candidate_pairs(keys, crowd=len(documents)), candidate_pairs(keys, crowd=16, neighbours=4)
    assert len(some) < 0.6 * len(everything)
    clusters = []
    for pairs in (everything, some):
        good = exact_jaccard(sets.take(pairs[:, 0]), sets.take(pairs[:, 1])) >= 0.8
        clusters.append(components(len(documents), {(int(i), int(j)) for i, j in pairs[good]}))
    assert clusters[0] == clusters[1]


def test_the_same_seed_gives_the_same_answer_in_every_process():
    program = (
        "from tests.test_near_duplicates import edited_corpus\n"
        "from helpers.training_data.near_duplicates import near_duplicates\n"
        "r = near_duplicates(edited_corpus(150, seed=4), threshold=.5, num_hashes=32, seed=7)\n"
        "print(r.n_candidates, r.pairs.tolist(), r.keep.tolist())"
    )
    root = Path(__file__).parents[1]
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": str(root)},
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert len(answers) == 1
    documents = edited_corpus(150, seed=4)
    counts = {near_duplicates(documents, threshold=0.5, num_hashes=32, seed=seed).n_candidates for seed in range(4)}
    assert len(counts) > 1


def test_how_the_stream_is_cut_makes_no_difference(monkeypatch: pytest.MonkeyPatch):
    documents = [*edited_corpus(50, seed=6), "", "x", "x"]
    whole = near_duplicates(documents)
    module = sys.modules["helpers.training_data.near_duplicates"]
    monkeypatch.setattr(module, "in_chunks", lambda texts: in_chunks(texts, characters=700))
    assert same(near_duplicates(iter(documents)), whole)


def test_the_texts_are_not_held():
    class Text(str):
        __slots__ = ("__weakref__",)

    alive: weakref.WeakSet[Text] = weakref.WeakSet()
    most = 0

    def stream() -> Iterator[str]:
        nonlocal most
        for number in range(3000):
            text = Text(f"document {number} " + f"word{number} " * 200)
            alive.add(text)
            most = max(most, len(alive))
            yield text
            del text

    near_duplicates(stream())
    assert most < 600


def test_bars_are_shown_only_when_asked_for(capfd: pytest.CaptureFixture[str]):
    near_duplicates(["a b c"] * 3)
    assert capfd.readouterr() == ("", "")
    near_duplicates(edited_corpus(3, seed=0), progress=True)
    assert "sketching" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threshold": 0}, ValueError, "threshold is 0"),
        ({"threshold": 1.5}, ValueError, "threshold is 1.5"),
        ({"threshold": float("nan")}, ValueError, "threshold is nan"),
        ({"threshold": "0.8"}, TypeError, "threshold is of type str"),
        ({"threshold": 0.001}, ValueError, "threshold 0.001 is too low"),
        ({"num_hashes": 0}, ValueError, "num_hashes is 0"),
        ({"num_hashes": 12.0}, TypeError, "num_hashes is of type float"),
        ({"shingle": 0}, ValueError, "shingle is 0"),
        ({"recall": 1}, ValueError, "recall is 1"),
        ({"recall": None}, TypeError, "recall is of type NoneType"),
        ({"shingle": True}, TypeError, "shingle is of type bool"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"seed": "x"}, TypeError, "seed is 'x'"),
        ({"seed": None}, TypeError, "seed is None"),
        ({"keep": "last"}, ValueError, "keep is 'last'"),
        ({"client": "tcp://127.0.0.1:8786"}, TypeError, "client is of type str"),
    ],
)
def test_a_wrong_option_is_named_before_any_document_is_read(options, error, message):
    def stream() -> Iterator[str]:
        raise AssertionError("a document was read")
        yield ""

    with pytest.raises(error, match=message):
        near_duplicates(stream(), **options)


def test_documents_that_are_no_strings_are_named():
    with pytest.raises(TypeError, match="documents is one str"):
        near_duplicates("one text")
    with pytest.raises(TypeError, match="documents is of type int"):
        near_duplicates(5)
    with pytest.raises(TypeError, match="document 2 is of type NoneType"):
        near_duplicates(["a", "b", None])


# ---------------------------------------------------------------------------------------------- exact copies


def test_exact_copies_are_those_that_differ_only_in_case_and_white_space():
    documents = ["x + 1", "X  +\n1 ", "x - 1", "e\u0301", "é", "", " ", "x + 1"]
    found = deduplicate(documents)
    assert found.keep.tolist() == [True, False, True, True, False, True, False, False]
    assert [c.tolist() for c in found.clusters] == [[0, 1, 7], [3, 4], [5, 6]]
    assert found.n_removed == 4
    assert deduplicate(documents, normalise=None).keep.sum() == 7


def test_rows_of_a_table_are_compared_with_missing_equal_to_missing():
    table = pd.DataFrame(
        {"a": [1.0, np.nan, 1.0, np.nan, 2.0], "b": ["x", None, "x", None, "x"]}, index=[9, 9, 1, 0, 5]
    )
    found = deduplicate(table)
    assert found.keep.tolist() == (~table.duplicated()).tolist()
    assert [c.tolist() for c in found.clusters] == [[0, 2], [1, 3]]


def test_a_table_may_repeat_a_column_name_or_have_no_columns():
    table = pd.DataFrame([[1, 2], [1, 3], [1, 2]], columns=["a", "a"])
    assert deduplicate(table).keep.tolist() == [True, True, False]
    assert deduplicate(table.iloc[:, :0]).keep.tolist() == [True, False, False]
    assert deduplicate(table.iloc[:0]).clusters == ()


def test_a_series_of_texts_is_a_collection_of_texts():
    assert deduplicate(pd.Series(["a", "A ", "b"])).keep.tolist() == [True, False, True]
    assert near_duplicates(pd.Series(["a", "A ", "b"], index=[5, 5, 5])).keep.tolist() == [True, False, True]


def test_deduplicate_refuses_what_is_no_collection_of_texts():
    with pytest.raises(TypeError, match="documents is one str"):
        deduplicate("text")
    with pytest.raises(TypeError, match="document 1 is of type float"):
        deduplicate(["a", 1.0])
    assert deduplicate([]).keep.tolist() == []


# ---------------------------------------------------------------------------------------------- on a cluster


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie that its parent has not yet collected has)."""
    import psutil

    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def load_partition(number: int, partitions: int, folder: str, victim: str | None) -> list[str]:
    """A partition of the corpus; leaves a note of each time it is loaded, and on the way kills a worker once.

    "self": the worker that loads the partition in the middle dies while it does so. "other": when all other
    partitions are done, the other worker, which holds finished ones, dies while this one is loaded.
    """
    place = Path(folder)
    (place / f"loaded-{number}-{os.getpid()}-{time.time_ns()}").touch()
    order = place / "killed"
    if victim == "self" and number == partitions // 2 and not order.exists():
        order.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    if victim == "other" and number == partitions - 1 and not order.exists():
        others: list[int] = []
        deadline = time.monotonic() + 60
        while not others or len({p.name.split("-")[1] for p in place.glob("loaded-*")}) < partitions:
            assert time.monotonic() < deadline, "the other worker has loaded nothing"
            time.sleep(0.05)
            others = [int(p.name.split("-")[2]) for p in place.glob("loaded-*")]
            others = [pid for pid in others if pid != os.getpid()]
        time.sleep(1)  # the other worker has finished sketching what it loaded
        order.write_text(str(others[0]))
        os.kill(others[0], signal.SIGKILL)
        while not gone(others[0]):
            assert time.monotonic() < deadline, "the other worker did not die"
            time.sleep(0.05)
    return edited_corpus(400, seed=8)[number::partitions]


@pytest.fixture
def client():
    """Two worker processes of one thread, fresh for each test: a killed worker need not come back in time."""
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster) as connected,
    ):
        yield connected


@pytest.mark.parametrize("victim", [None, "self", "other"])
def test_a_cluster_finds_the_same_even_when_a_worker_is_killed(client, tmp_path: Path, victim: str | None):
    import dask.bag
    from dask import delayed

    partitions = 8
    local = near_duplicates(
        [text for number in range(partitions) for text in edited_corpus(400, seed=8)[number::partitions]]
    )
    client.wait_for_workers(2, timeout=120)
    before = set(client.run(os.getpid).values())
    bag = dask.bag.from_delayed(
        [delayed(load_partition, pure=False)(number, partitions, str(tmp_path), victim) for number in range(partitions)]
    )
    found = near_duplicates(bag, client=client)

    assert same(found, local)
    assert len(found.clusters) > 200
    loads = [path.name.split("-")[1] for path in tmp_path.glob("loaded-*")]
    assert set(loads) == {str(number) for number in range(partitions)}
    if victim is None:
        assert len(loads) == partitions
    else:
        killed = int((tmp_path / "killed").read_text())
        assert killed in before  # it was one of the two workers when the search began,
        assert gone(killed)  # it is dead,
        assert len(loads) > partitions  # and work that was lost with it was done again


def test_a_cluster_takes_a_list_and_names_a_bad_document(client):
    client.wait_for_workers(2, timeout=120)
    documents = [*edited_corpus(40, seed=9), "", "x", "x"]
    options = {"threshold": 0.6, "keep": "longest", "seed": 3, "shingle": 3}
    assert same(near_duplicates(documents, client=client, **options), near_duplicates(documents, **options))
    assert near_duplicates([], client=client).n_documents == 0
    with pytest.raises(TypeError, match=r"partition \d: document \d is of type int"):
        near_duplicates(["a", 3], client=client)
