"""Exact and near-duplicate documents: MinHash, locality-sensitive hashing and an exact check, in NumPy.

A near-duplicate is a pair whose sets of word 5-grams ("shingles") have a Jaccard similarity |A∩B| / |A∪B| of at
least a threshold. Comparing all pairs costs n²; this costs about n:

1. `sketch`: each document becomes a sorted set of 64-bit shingle hashes; documents with an equal set are one from
   here on, so that a text copied 10,000 times counts once.
2. MinHash (Broder, "On the resemblance and containment of documents", 1997): under a random order of all shingles
   two sets have the same smallest shingle with probability J. 128 such orders give 128 numbers, the signature.
3. Banding (Indyk and Motwani, 1998; Leskovec et al., "Mining of Massive Datasets", 2020, section 3.4): a
   signature is cut into bands of rows, and two documents equal in a whole band become candidates, with probability
   1 - (1 - J^rows)^bands.
4. Every candidate's Jaccard similarity is computed from the two sets, so what is returned has no false pairs
   (short of a collision of two 64-bit hashes); what is missed is what no band brought together.
5. Pairs become clusters by union-find, and one document of each cluster is kept.

Memory: the texts are read in pieces and not held. Per distinct document there stay 8 bytes for each different
shingle, 8 bytes for each band and some 200 bytes besides; twice that for a moment, when the pieces are joined.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from helpers.training_data.text import (
    Ints,
    UInts,
    check_documents,
    hash_tokens,
    in_chunks,
    mix,
    ngram_spans,
    span_hashes,
)

if TYPE_CHECKING:
    import pandas as pd
    from dask.distributed import Client

CROWD = 64
"""In a bucket with more members than this not all pairs are compared: see `candidate_pairs`."""

NEIGHBOURS = 8
"""How many successors each member of a crowd is compared with."""

VERIFY_AT_ONCE = 1 << 12
"""Candidate pairs whose shingles are looked at together."""


# ------------------------------------------------------------------------------------------------ what comes back


@dataclass(frozen=True)
class Deduplicated:
    """Which documents (or rows) are the first of their kind.

    `keep`: (n,) bool. `clusters`: one sorted int64 array of positions for each text that occurs more than once.
    """

    keep: NDArray[np.bool_]
    clusters: tuple[Ints, ...]

    @property
    def n_removed(self) -> int:
        """How many documents a clean copy would lose."""
        return int(np.sum(~self.keep))


@dataclass(frozen=True)
class NearDuplicates:
    """What `near_duplicates` found.

    `pairs`: (m, 2) int64, first < second, sorted; every verified pair of *distinct* shingle sets (each stands for
    its first document), and each further copy paired with the first document of its set. 10,000 copies of one
    text are thus 9,999 pairs; `all_pairs` lists all 49,995,000 of them.
    `jaccard`: (m,) float64, exact, at least the threshold.
    `clusters`: connected documents, each a sorted int64 array of two or more positions, ordered by their first.
    `keep`: (n_documents,) bool; one of each cluster, and every document outside the clusters.
    `empty`: positions of documents without a single word: they are never near-duplicates, and are kept; look at them.
    `copy_of`: (n_documents,) int64, the first document with the same shingle set (its own position if it is that).
    `n_candidates`: pairs that were compared exactly. `bands`, `rows`: how the signature was cut.
    """

    pairs: Ints
    jaccard: NDArray[np.float64]
    clusters: tuple[Ints, ...]
    keep: NDArray[np.bool_]
    n_documents: int
    n_candidates: int
    empty: Ints
    copy_of: Ints
    bands: int
    rows: int

    @property
    def n_removed(self) -> int:
        """How many documents are dropped if only `keep` stays."""
        return int(np.sum(~self.keep))

    def all_pairs(self) -> Iterator[tuple[int, int]]:
        """Every pair of documents at or above the threshold, copies written out: quadratic in their number."""
        copies: dict[int, list[int]] = {}
        for document, first in enumerate(self.copy_of.tolist()):
            copies.setdefault(first, []).append(document)
        for first in np.setdiff1d(self.copy_of, self.empty).tolist():
            yield from combinations(copies[first], 2)
        for one, other in self.pairs.tolist():
            if self.copy_of[one] != self.copy_of[other]:
                yield from ((min(a, b), max(a, b)) for a in copies[one] for b in copies[other])

    def __repr__(self) -> str:
        return (
            f"NearDuplicates({self.n_documents:,} documents, {len(self.clusters):,} clusters, "
            f"{self.n_removed:,} removable, {len(self.pairs):,} pairs of {self.n_candidates:,} candidates)"
        )


# -------------------------------------------------------------------------------------------------- exact copies


def normalise(text: str) -> str:
    """`text` for exact comparison: Unicode NFC, lower case, each run of white space one blank. Punctuation stays
    (in code it is the meaning)."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def deduplicate(
    documents: Iterable[str] | pd.DataFrame, *, normalise: Callable[[str], str] | None = normalise
) -> Deduplicated:
    """Exact copies: which documents are the first of their kind.

    Args:
        documents: texts, compared after `normalise` (None: as they are), of which a 128-bit digest is held, or
            a DataFrame, whose rows are compared column by column without its index (missing equals missing).
    Raises:
        TypeError: `documents` is one string, no iterable, or holds something else than strings.
    """
    if hasattr(documents, "columns"):
        return _deduplicated(_row_groups(cast("pd.DataFrame", documents)))
    check_documents(documents)
    seen: dict[bytes, int] = {}
    groups: list[int] = []
    for chunk in in_chunks(documents):
        for text in chunk:
            text = normalise(text) if normalise else text
            digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            groups.append(seen.setdefault(digest, len(seen)))
    return _deduplicated(np.array(groups, dtype=np.int64))


def _row_groups(table: pd.DataFrame) -> Ints:
    """A number for each row, equal for equal rows."""
    if not len(table.columns):
        return np.zeros(len(table), dtype=np.int64)
    columns = [table.iloc[:, column] for column in range(len(table.columns))]
    return table.groupby(columns, dropna=False, sort=False, observed=True).ngroup().to_numpy()


def _deduplicated(groups: Ints) -> Deduplicated:
    """From a group number for each row."""
    clusters = group_positions(groups)
    keep = np.ones(len(groups), dtype=bool)
    for cluster in clusters:
        keep[cluster[1:]] = False
    return Deduplicated(keep, clusters)


def group_positions(groups: ArrayLike) -> tuple[Ints, ...]:
    """Positions that share a group number, for groups of two or more, ordered by their first position."""
    groups = np.asarray(groups)
    order = np.argsort(groups, kind="stable")
    borders = np.flatnonzero(np.diff(groups[order])) + 1
    found = [part for part in np.split(order, borders) if len(part) > 1]
    return tuple(sorted(found, key=lambda part: int(part[0])))


# --------------------------------------------------------------------------------------------------- small pieces


def jaccard(first: Iterable[Any], second: Iterable[Any]) -> float:
    """|A∩B| / |A∪B| of two sets; two empty sets have nothing in common: 0."""
    one, other = set(first), set(second)
    return len(one & other) / len(one | other) if one or other else 0.0


def collision_probability(jaccard: ArrayLike, bands: int, rows: int) -> Any:
    """Chance that two documents of similarity `jaccard` agree in at least one whole band: 1 - (1 - J^rows)^bands."""
    return 1 - (1 - np.asarray(jaccard, dtype=float) ** rows) ** bands


def choose_bands(num_hashes: int, threshold: float, recall: float = 0.9) -> tuple[int, int]:
    """(bands, rows): the longest bands, hence the fewest false candidates, with which a pair exactly at the
    threshold is still found with probability `recall`. 128 hashes and 0.8 give 16 bands of 8 rows.

    Raises ValueError where even bands of one row find too few.
    """
    for rows in range(num_hashes, 0, -1):
        bands = num_hashes // rows
        if collision_probability(threshold, bands, rows) >= recall:
            return bands, rows
    raise ValueError(
        f"threshold {threshold} is too low for num_hashes={num_hashes}: fewer than {recall:.0%} of the pairs "
        "would be found; raise one of them"
    )


@dataclass(frozen=True)
class Permutations:
    """Random orders of all shingles: x → a·x + b modulo 2^32, a odd; and how signatures are cut into bands.

    `a`, `b`: (num_hashes,) uint32. `fold`: (rows,) uint64, odd numbers that turn a band into one key.
    The modulo is what 32-bit integers do anyway, so no division is needed.
    """

    a: NDArray[np.uint32]
    b: NDArray[np.uint32]
    bands: int
    fold: UInts


def random_permutations(
    num_hashes: int, threshold: float, seed: int | np.random.Generator, recall: float = 0.9
) -> Permutations:
    """Permutations for a seed, cut for a threshold and a recall."""
    bands, rows = choose_bands(num_hashes, threshold, recall)
    if seed is None or isinstance(seed, bool):
        raise TypeError(f"seed is {seed}; give an integer from 0 on or a numpy Generator")
    try:
        rng = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(f"seed is {seed!r}; give an integer from 0 on or a numpy Generator") from error
    a = rng.integers(0, 1 << 32, num_hashes, dtype=np.uint32) | np.uint32(1)
    b = rng.integers(0, 1 << 32, num_hashes, dtype=np.uint32)
    fold = rng.integers(0, 1 << 64, rows, dtype=np.uint64) | np.uint64(1)
    return Permutations(a, b, bands, fold)


@dataclass(frozen=True)
class Sets:
    """Several sets of shingle hashes end to end: set i is `members[offsets[i]:offsets[i + 1]]`, sorted, without
    repeats. `members`: uint64; `offsets`: (sets + 1,) int64."""

    members: UInts
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, which: Ints) -> Sets:
        """The chosen sets, in the order of `which`."""
        sizes = np.diff(self.offsets)[which]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        positions = np.arange(offsets[-1]) + np.repeat(self.offsets[which] - offsets[:-1], sizes)
        return Sets(self.members[positions], offsets)


def shingle_sets(documents: Sequence[str], shingle: int = 5) -> Sets:
    """The set of hashed word n-grams of every document. A document of fewer words has one shingle, all its
    words; one without words has none."""
    tokens = hash_tokens(documents)
    starts, ends, counts = ngram_spans(tokens.offsets, shingle, short=True)
    return sorted_sets(span_hashes(tokens.hashes, starts, ends), np.concatenate([[0], np.cumsum(counts)]))


def sorted_sets(values: UInts, offsets: Ints) -> Sets:
    """Sort each part of `values`, in place, and drop its repeats."""
    borders = offsets.tolist()
    for start, end in pairwise(borders):
        values[start:end].sort()
    new = np.empty(len(values), dtype=bool)
    new[:1] = True
    np.not_equal(values[1:], values[:-1], out=new[1:])
    new[offsets[:-1][np.diff(offsets) > 0]] = True
    kept_before = np.concatenate([[0], np.cumsum(new)])
    return Sets(values[new], kept_before[offsets])


def minhash_signatures(sets: Sets, permutations: Permutations) -> NDArray[np.uint32]:
    """(num_hashes, sets) uint32: for every random order the smallest shingle of each (non-empty) set."""
    shingles = (sets.members >> np.uint64(32)).astype(np.uint32)
    signatures = np.empty((len(permutations.a), len(sets)), dtype=np.uint32)
    permuted = np.empty_like(shingles)
    for row, a, b in zip(signatures, permutations.a, permutations.b, strict=True):
        np.multiply(shingles, a, out=permuted)
        np.add(permuted, b, out=permuted)
        np.minimum.reduceat(permuted, sets.offsets[:-1], out=row)
    return signatures


def band_keys(signatures: NDArray[np.uint32], permutations: Permutations) -> UInts:
    """(sets, bands) uint64: equal where two signatures agree in all rows of a band."""
    rows = len(permutations.fold)
    used = signatures[: permutations.bands * rows].reshape(permutations.bands, rows, -1)
    return mix(np.einsum("brn,r->nb", used.astype(np.uint64), permutations.fold))


def candidate_pairs(keys: UInts, crowd: int = CROWD, neighbours: int = NEIGHBOURS) -> Ints:
    """Pairs of sets that share a bucket in some band: (m, 2) int64, first < second, sorted, each once.

    In a bucket of up to `crowd` members all pairs are candidates. In a larger one each member meets its next
    `neighbours` members and the bucket's first, so that the work stays linear. Members are ordered by their keys in
    the next band: those that agree twice stand side by side, and every band has another order. What is lost are
    direct pairs inside crowds; their clusters hold together by the members between, but a member that only one
    such pair ties to its cluster may be left out.
    """
    n, bands = keys.shape
    found = [np.empty(0, dtype=np.int64)]
    for band in range(bands):
        first, second = _pairs_of_band(keys[:, band], keys[:, (band + 1) % bands], crowd, neighbours)
        found.append(np.minimum(first, second) * n + np.maximum(first, second))
    codes = np.sort(np.concatenate(found))  # np.unique takes ten times as long here
    codes = codes[np.diff(codes, prepend=-1) > 0]
    return np.column_stack(np.divmod(codes, max(n, 1)))


def _pairs_of_band(keys: UInts, next_keys: UInts, crowd: int, neighbours: int) -> tuple[Ints, Ints]:
    """Candidate pairs of one band (see `candidate_pairs`)."""
    order = np.lexsort((next_keys, keys))
    borders = np.flatnonzero(np.diff(keys[order])) + 1
    sizes = np.diff(borders, prepend=0, append=len(keys))
    place = np.arange(len(keys))
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)  # where the member's bucket begins, and ends
    last = first + np.repeat(sizes, sizes) - 1
    crowded = last - first >= crowd
    reach = np.where(crowded, np.minimum(last, place + neighbours), last)
    pairs = [(first[crowded], place[crowded])]
    for step in range(1, max(crowd, neighbours + 1)):
        place = place[place + step <= reach[place]]
        if not len(place):
            break
        pairs.append((place, place + step))
    one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
    real = one != other
    return order[one[real]], order[other[real]]


def exact_jaccard(first: Sets, second: Sets) -> NDArray[np.float64]:
    """Jaccard similarity of the i-th (non-empty) set of `first` and the i-th of `second`: (pairs,) float64.

    The two are sorted together; what stands there twice is in both.
    """
    sizes = np.diff(first.offsets) + np.diff(second.offsets)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    values = np.empty(offsets[-1], dtype=np.uint64)
    values[_shifted(first.offsets, offsets[:-1])] = first.members
    values[_shifted(second.offsets, offsets[1:] - np.diff(second.offsets))] = second.members
    union = np.diff(sorted_sets(values, offsets).offsets)
    return (sizes - union) / union


def _shifted(offsets: Ints, to: Ints) -> Ints:
    """For each value of `Sets` with these offsets its place when set i starts at `to[i]`."""
    return np.arange(offsets[-1]) + np.repeat(to - offsets[:-1], np.diff(offsets))


class UnionFind:
    """Who is connected with whom (Tarjan, 1975). The root of a cluster is its smallest member."""

    def __init__(self, n: int) -> None:
        self.parent = list(range(n))

    def find(self, member: int) -> int:
        parent = self.parent
        while parent[member] != member:
            parent[member] = parent[parent[member]]
            member = parent[member]
        return member

    def union(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self.parent[high] = low

    def roots(self) -> Ints:
        return np.array([self.find(member) for member in range(len(self.parent))], dtype=np.int64)


# -------------------------------------------------------------------------------------------------- the pipeline


@dataclass(frozen=True)
class Sketch:
    """What is kept of some documents.

    `fingerprints`: (documents,) 16-byte digest of the shingle set (all zero: no words). `characters`: (documents,)
    int64. `sets`, `keys`: shingle sets and (sets, bands) uint64 band keys of the distinct non-empty documents, which
    are at the positions `distinct` among the documents.
    """

    fingerprints: list[bytes]
    characters: Ints
    distinct: Ints
    sets: Sets
    keys: UInts


def fingerprints(sets: Sets) -> list[bytes]:
    """A 128-bit digest of every set, which does not depend on order: two sums of scrambled members."""
    digests = np.zeros((len(sets), 2), dtype=np.uint64)
    some = np.flatnonzero(np.diff(sets.offsets) > 0)
    if len(some):
        for column, salt in enumerate((0x5851F42D4C957F2D, 0x14057B7EF767814F)):
            scrambled = mix(sets.members ^ np.uint64(salt))
            digests[some, column] = np.add.reduceat(scrambled, sets.offsets[some])
    return [row.tobytes() for row in digests]


NO_WORDS = bytes(16)


def sketch(documents: Sequence[str], shingle: int, permutations: Permutations, seen: set[bytes]) -> Sketch:
    """Sketch documents; those whose fingerprint is in `seen` need no signature. Adds the new ones to `seen`."""
    sets = shingle_sets(documents, shingle)
    prints = fingerprints(sets)
    distinct = []
    for position, fingerprint in enumerate(prints):
        if fingerprint != NO_WORDS and fingerprint not in seen:
            seen.add(fingerprint)
            distinct.append(position)
    chosen = np.array(distinct, dtype=np.int64)
    sets = sets.take(chosen)
    keys = band_keys(minhash_signatures(sets, permutations), permutations)
    characters = np.array([len(document) for document in documents], dtype=np.int64)
    return Sketch(prints, characters, chosen, sets, keys)


def near_duplicates(
    documents: Iterable[str],
    *,
    threshold: float = 0.8,
    num_hashes: int = 128,
    shingle: int = 5,
    recall: float = 0.9,
    keep: Literal["first", "longest"] = "first",
    seed: int | np.random.Generator = 0,
    progress: bool = False,
    client: Client | None = None,
) -> NearDuplicates:
    """Pairs and clusters of documents whose word n-gram sets overlap by at least `threshold` (see the module).

    Args:
        documents: texts; read once, in pieces, and not held (one string is refused).
        threshold: Jaccard similarity in (0, 1].
        num_hashes: length of the MinHash signature; `choose_bands` cuts it.
        shingle: words in an n-gram. A shorter document has one shingle, all its words.
        recall: in (0, 1), the chance of finding a pair that lies exactly at the threshold (more similar ones are
            found more surely). More means shorter bands and more candidates to compare.
        keep: which of a cluster stays, the `first` or the `longest` (in characters; of equals the first).
        seed: of the random orders; the same seed gives the same answer in every process.
        progress: show bars.
        client: a Dask client; then the work is done by its cluster (`documents` may be a Dask bag).
    Raises:
        TypeError, ValueError: an argument is not what is listed here, or a document is not a string.
    """
    check_documents(documents)
    _check_options(threshold, num_hashes, shingle, recall, keep)
    permutations = random_permutations(num_hashes, threshold, seed, recall)
    if client is not None:
        from helpers.training_data.near_duplicates_cluster import near_duplicates_on_cluster

        return near_duplicates_on_cluster(
            documents,
            client,
            threshold=threshold,
            shingle=shingle,
            permutations=permutations,
            keep=keep,
            progress=progress,
        )
    seen: set[bytes] = set()
    bar = tqdm(documents, desc="sketching", unit=" documents", disable=not progress)
    sketches = [sketch(chunk, shingle, permutations, seen) for chunk in in_chunks(bar)]
    merged = merge_sketches(sketches, permutations.bands)
    del sketches
    candidates = candidate_pairs(merged.keys)
    similarity = compare(merged.sets, merged.sets, candidates, progress)
    good = similarity >= threshold
    return assemble(merged, candidates[good], similarity[good], len(candidates), permutations, keep)


def _check_options(threshold: float, num_hashes: int, shingle: int, recall: float, keep: str) -> None:
    """Raise TypeError or ValueError naming the option, before any work."""
    for option, number in (("threshold", threshold), ("recall", recall)):
        if isinstance(number, bool) or not isinstance(number, int | float | np.number):
            raise TypeError(f"{option} is of type {type(number).__name__}; give a number between 0 and 1")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}; it must be above 0 and at most 1")
    if not 0 < recall < 1:
        raise ValueError(f"recall is {recall}; it must be above 0 and below 1")
    for name, value in (("num_hashes", num_hashes), ("shingle", shingle)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{name} is of type {type(value).__name__}; give a positive integer")
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if keep not in ("first", "longest"):
        raise ValueError(f"keep is {keep!r}; it must be 'first' or 'longest'")


def merge_sketches(sketches: Sequence[Sketch], bands: int) -> Sketch:
    """One sketch of all documents."""
    counts = [len(part.fingerprints) for part in sketches]
    before = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    sizes = [np.diff(part.sets.offsets) for part in sketches]
    none = np.empty(0, dtype=np.int64)
    return Sketch(
        fingerprints=[fingerprint for part in sketches for fingerprint in part.fingerprints],
        characters=np.concatenate([none, *(part.characters for part in sketches)]),
        distinct=np.concatenate([none, *(part.distinct + at for part, at in zip(sketches, before, strict=False))]),
        sets=Sets(
            np.concatenate([none.astype(np.uint64), *(part.sets.members for part in sketches)]),
            np.concatenate([[0], np.cumsum(np.concatenate([none, *sizes]))]).astype(np.int64),
        ),
        keys=np.concatenate([np.empty((0, bands), dtype=np.uint64), *(part.keys for part in sketches)]),
    )


def compare(one: Sets, other: Sets, rows: Ints, progress: bool = False) -> NDArray[np.float64]:
    """Exact Jaccard similarity of set `rows[i, 0]` of `one` and set `rows[i, 1]` of `other`: (rows,) float64."""
    similarity = np.empty(len(rows))
    blocks = range(0, len(rows), VERIFY_AT_ONCE)
    for start in tqdm(blocks, desc="verifying", unit=" blocks", disable=not progress):
        part = rows[start : start + VERIFY_AT_ONCE]
        similarity[start : start + VERIFY_AT_ONCE] = exact_jaccard(one.take(part[:, 0]), other.take(part[:, 1]))
    return similarity


def assemble(
    merged: Sketch, pairs: Ints, similarity: NDArray[np.float64], n_candidates: int, how: Permutations, keep: str
) -> NearDuplicates:
    """Copies and verified pairs (of distinct sets) to pairs and clusters of documents."""
    n = len(merged.fingerprints)
    first_with: dict[bytes, int] = {}
    copy_of = np.array([first_with.setdefault(f, i) for i, f in enumerate(merged.fingerprints)], dtype=np.int64)
    empty = np.flatnonzero([f == NO_WORDS for f in merged.fingerprints])
    copy_of[empty] = empty
    copies = np.flatnonzero(copy_of != np.arange(n))
    pairs = np.concatenate([merged.distinct[pairs], np.column_stack([copy_of[copies], copies])])
    similarity = np.concatenate([similarity, np.ones(len(copies))])
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    connected = UnionFind(n)
    for one, other in pairs.tolist():
        connected.union(one, other)
    clusters = group_positions(connected.roots())
    return NearDuplicates(
        pairs=pairs[order],
        jaccard=similarity[order],
        clusters=clusters,
        keep=_kept(n, clusters, merged.characters if keep == "longest" else None),
        n_documents=n,
        n_candidates=n_candidates,
        empty=empty,
        copy_of=copy_of,
        bands=how.bands,
        rows=len(how.fold),
    )


def _kept(n: int, clusters: tuple[Ints, ...], characters: Ints | None) -> NDArray[np.bool_]:
    """One of each cluster: its first, or its longest where lengths are given."""
    kept = np.ones(n, dtype=bool)
    for cluster in clusters:
        kept[cluster] = False
        kept[cluster[0 if characters is None else np.argmax(characters[cluster])]] = True
    return kept
