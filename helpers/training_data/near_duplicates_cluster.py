"""`near_duplicates` on a Dask cluster: the same steps, the same answer, the text spread over machines.

    partitions of text ──sketch──▶ shingle sets stay on the workers
                                   fingerprints and band keys ──▶ here: copies, candidate pairs
    two partitions' sets ──compare──▶ similarities ──▶ here: pairs, clusters

What travels to the caller is about 200 bytes a document; shingles travel only between two workers whose partitions
share a candidate. Everything is a pure function of the partitions, so when a worker dies Dask computes what it held
again, from the source (a file that `dask.bag.read_text` can read again, say), and the answer does not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from helpers.training_data.near_duplicates import (
    NearDuplicates,
    Permutations,
    Sets,
    Sketch,
    assemble,
    candidate_pairs,
    compare,
    merge_sketches,
    sketch,
)
from helpers.training_data.text import Ints, in_chunks

if TYPE_CHECKING:
    from dask.distributed import Client

PARTITIONS_PER_WORKER = 4


def near_duplicates_on_cluster(
    documents: Iterable[str],
    client: Client,
    *,
    threshold: float,
    shingle: int,
    permutations: Permutations,
    keep: str,
    progress: bool,
) -> NearDuplicates:
    """What `near_duplicates` finds in a Dask bag of texts, or in an iterable, which is then held and sent to the
    cluster whole (beyond some 10 MB give a bag, which the workers load themselves).

    Raises TypeError, also for a document that is not a string (naming its partition).
    """
    _check_client(client)
    partitions = _partitions(documents, client)
    parts = [
        client.compute(_task(partition, number, shingle, permutations)) for number, partition in enumerate(partitions)
    ]
    heads = _results(client, client.map(_without_sets, parts, pure=False), "sketching", progress)
    merged = _drop_copies(merge_sketches(heads, permutations.bands))
    candidates = candidate_pairs(merged.keys)
    similarity = _compare_on_workers(client, parts, heads, merged.distinct[candidates], progress)
    good = similarity >= threshold
    return assemble(merged, candidates[good], similarity[good], len(candidates), permutations, keep)


def _check_client(client: Any) -> None:
    from dask.distributed import Client

    if not isinstance(client, Client):
        raise TypeError(f"client is of type {type(client).__name__}; give a dask.distributed.Client")
    if client.asynchronous:
        raise TypeError("client is asynchronous; give one made with asynchronous=False")


def _partitions(documents: Any, client: Client) -> list[Any]:
    """The delayed partitions of a bag; an iterable becomes one."""
    if hasattr(documents, "to_delayed"):
        return list(documents.to_delayed())
    from dask.bag import from_sequence

    texts = list(documents)
    if not texts:
        return []
    workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    return list(from_sequence(texts, npartitions=min(len(texts), PARTITIONS_PER_WORKER * workers)).to_delayed())


def _task(partition: Any, number: int, shingle: int, permutations: Permutations) -> Any:
    from dask import delayed

    return delayed(_sketch_partition)(partition, number, shingle, permutations)


def _sketch_partition(texts: Iterable[str], number: int, shingle: int, permutations: Permutations) -> Sketch:
    """The sketch of one partition; runs on a worker."""
    seen: set[bytes] = set()
    try:
        parts = [sketch(chunk, shingle, permutations, seen) for chunk in in_chunks(texts)]
    except TypeError as error:
        raise TypeError(f"partition {number}: {error}") from error
    return merge_sketches(parts, permutations.bands)


def _without_sets(part: Sketch) -> Sketch:
    """What the caller needs of a sketch: all but the shingles."""
    return replace(part, sets=Sets(np.empty(0, dtype=np.uint64), np.zeros(1, dtype=np.int64)))


def _drop_copies(merged: Sketch) -> Sketch:
    """Of a set that several partitions hold only the first stays."""
    first: dict[bytes, int] = {}
    for row, position in enumerate(merged.distinct.tolist()):
        first.setdefault(merged.fingerprints[position], row)
    rows = np.array(list(first.values()), dtype=np.int64)
    return replace(merged, distinct=merged.distinct[rows], keys=merged.keys[rows])


def _compare_on_workers(
    client: Client, parts: Sequence[Any], heads: Sequence[Sketch], pairs: Ints, progress: bool
) -> NDArray[np.float64]:
    """Exact similarity of pairs of documents (by position among all), one task for each two partitions that meet."""
    ends = np.cumsum([len(head.fingerprints) for head in heads])
    partition = np.searchsorted(ends, pairs, side="right")
    row = np.empty_like(pairs)
    for number, head in enumerate(heads):
        inside = partition == number
        row[inside] = np.searchsorted(head.distinct, pairs[inside] - (ends[number] - len(head.fingerprints)))
    similarity = np.empty(len(pairs))
    meetings, which = np.unique(partition, axis=0, return_inverse=True)
    chosen = [np.flatnonzero(which.ravel() == meeting) for meeting in range(len(meetings))]
    tasks = [
        client.submit(_compare_partitions, parts[one], parts[other], row[here], pure=False)
        for (one, other), here in zip(meetings.tolist(), chosen, strict=True)
    ]
    for here, result in zip(chosen, _results(client, tasks, "verifying", progress), strict=True):
        similarity[here] = result
    return similarity


def _compare_partitions(one: Sketch, other: Sketch, rows: Ints) -> NDArray[np.float64]:
    """Similarity of set rows[i, 0] of one partition and rows[i, 1] of another; runs on a worker."""
    return compare(one.sets, other.sets, rows)


def _results(client: Client, tasks: Sequence[Any], what: str, progress: bool) -> list[Any]:
    """Results in the order of `tasks`; cancels the rest when one fails or the user interrupts."""
    from dask.distributed import as_completed

    try:
        for _ in tqdm(as_completed(tasks), total=len(tasks), desc=what, unit=" tasks", disable=not progress):
            pass
        return list(client.gather(tasks))
    except BaseException:
        client.cancel(tasks)
        raise
