"""How varied is a data set? Three numbers that see different things.

`vendi_score`: how many *different* rows there are in effect (Friedman and Dieng, "The Vendi score", 2023): the
    exponential of the entropy of the eigenvalues of K/n, K the (n, n) matrix of similarities. n rows without
    anything in common give n, n equal rows give 1.
`distinct_n`: the share of word n-grams that are different (Li et al., 2016).
`coverage`: how much of a reference the data reaches (Naeem et al., "Reliable fidelity and diversity metrics", 2020).

What they do not see: Vendi is the same when every row is copied ten times, so count duplicates separately.
distinct-n falls as the sample grows: compare equal numbers of n-grams (`limit`). Features that are all positive (word
counts, pixels, activations after a ReLU) all point into one corner, so their cosines are high and Vendi is low for any
data: centre them (`centre=True`), or compare only scores of the same features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.training_data.text import check_documents, hash_tokens, in_chunks, ngram_spans, span_hashes

Floats = NDArray[np.float64]
Kernel = Literal["cosine", "linear", "rbf", "precomputed"]

TEXT_DIMENSIONS = 512
"""Length of the vectors that `text_vectors` makes."""


@dataclass(frozen=True)
class Diversity:
    """What `diversity` measured.

    `n`: rows measured. `vendi`: effective number of different rows, between 1 and n. `distinct_n`: n → share of
    different word n-grams (empty for vectors). `coverage`: share of the reference that is reached (None without one).
    """

    n: int
    vendi: float
    distinct_n: dict[int, float]
    coverage: float | None

    @property
    def vendi_share(self) -> float:
        """`vendi` / n: 1 where no two rows have anything in common."""
        return self.vendi / self.n


# ---------------------------------------------------------------------------------------------------- Vendi score


def vendi_score(
    vectors: ArrayLike,
    *,
    kernel: Kernel = "cosine",
    centre: bool = False,
    order: float = 1.0,
    gamma: float | None = None,
) -> float:
    """Effective number of different rows, between 1 and n.

    With the cosine or linear kernel K = X·Xᵀ, and X·Xᵀ has the same non-zero eigenvalues as Xᵀ·X. The smaller of
    the two is taken apart: for d columns, d much below n, that is d³ work instead of n³.

    Args:
        vectors: (n, d) numbers, one row per example; or with kernel "precomputed" (n, n) similarities, symmetric,
            ones on the diagonal, without negative eigenvalues.
        kernel: "cosine": rows are scaled to length 1. "linear": K is divided by its trace, so long rows weigh more.
            "rbf": exp(-gamma·|x - y|²), an (n, n) matrix. "precomputed".
        centre: subtract the mean row first (not for "precomputed"; nothing changes for "rbf").
        order: order of the Rényi entropy; 1 is Shannon's. Above 1 rare kinds count less, `np.inf` looks at the
            commonest alone (Pasarkar and Dieng, "Cousins of the Vendi score", 2024).
        gamma: of "rbf"; None: 1 / (d · variance of all numbers).
    Raises:
        TypeError, ValueError: wrong shape, no rows, missing or infinite numbers, a row of zeros where a direction is
            needed, an unknown kernel, an order below 0.
    """
    if kernel not in ("cosine", "linear", "rbf", "precomputed"):
        raise ValueError(f"kernel is {kernel!r}; it must be 'cosine', 'linear', 'rbf' or 'precomputed'")
    if not order >= 0:
        raise ValueError(f"order is {order}; it must be at least 0")
    rows = _matrix(vectors, "vectors")
    if kernel == "precomputed":
        return effective_number(np.linalg.eigvalsh(_similarity(rows) / len(rows)), order)
    if kernel == "rbf":
        return effective_number(np.linalg.eigvalsh(_rbf(rows, gamma) / len(rows)), order)
    if centre:
        rows = rows - rows.mean(axis=0)
    if kernel == "cosine":
        rows = _unit_rows(rows, centre)
    gram = rows.T @ rows if rows.shape[1] < len(rows) else rows @ rows.T
    total = np.trace(gram)
    if total == 0:
        raise ValueError("vectors are all zeros" + (" after centring: every row is the same" if centre else ""))
    return effective_number(np.linalg.eigvalsh(gram / total), order)


def effective_number(eigenvalues: ArrayLike, order: float = 1.0) -> float:
    """exp(Rényi entropy) of shares that add up to 1: how many equal shares would be as mixed (Hill, 1973).

    Shares at or below zero, which rounding leaves of an eigenvalue 0, count as absent.
    """
    shares = np.asarray(eigenvalues, dtype=float)
    shares = shares[shares > len(shares) * np.finfo(float).eps]
    if order == 1:
        return float(np.exp(-np.sum(shares * np.log(shares))))
    if np.isinf(order):
        return float(1 / shares.max())
    return float(np.sum(shares**order) ** (1 / (1 - order)))


def _matrix(values: ArrayLike, name: str) -> Floats:
    """(n, d) float64 with at least one row and column and no missing number."""
    try:
        rows = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must hold numbers only: {error}") from error
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"{name} has the shape {rows.shape}; give (rows, columns), at least one of each")
    if not np.isfinite(rows).all():
        first = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise ValueError(f"{name} holds missing or infinite numbers, first in row {first}; fill or drop them")
    return rows


def _unit_rows(rows: Floats, centred: bool) -> Floats:
    """Rows scaled to length 1; a row that is zero up to rounding has no direction: ValueError."""
    lengths = np.linalg.norm(rows, axis=1)
    zero = np.flatnonzero(lengths <= 1e-12 * max(lengths.max(), np.finfo(float).tiny))
    if len(zero) or lengths.max() == 0:
        why = "equals the mean row, so centring leaves zeros" if centred else "is all zeros"
        raise ValueError(
            f"row {int(zero[0])} of vectors {why}, and has no direction for the cosine; "
            "drop such rows or use kernel='linear'"
        )
    return rows / lengths[:, None]


def _rbf(rows: Floats, gamma: float | None) -> Floats:
    """(n, n) Gaussian similarities."""
    if gamma is None:
        gamma = 1 / (rows.shape[1] * max(rows.var(), np.finfo(float).tiny))
    if not gamma > 0:
        raise ValueError(f"gamma is {gamma}; it must be above 0")
    squares = np.sum(rows**2, axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)
    np.fill_diagonal(distances, 0)
    return np.exp(-gamma * distances)


def _similarity(matrix: Floats) -> Floats:
    """Check a similarity matrix."""
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"vectors has the shape {matrix.shape}; kernel='precomputed' needs a square matrix")
    if not np.allclose(matrix, matrix.T):
        raise ValueError("vectors is not symmetric, as kernel='precomputed' needs it")
    if not np.allclose(np.diag(matrix), 1):
        raise ValueError("vectors does not have ones on its diagonal, as kernel='precomputed' needs them")
    return matrix


# ----------------------------------------------------------------------------------------------------- distinct-n


def distinct_n(texts: Iterable[str], n: int = 2, *, limit: int | None = None) -> float:
    """Different word n-grams divided by all word n-grams of the texts; NaN where there is none.

    Args:
        texts: read once; an n-gram never crosses from one into the next. 8 bytes are held for each n-gram.
        n: words in an n-gram.
        limit: count only so many n-grams, the first; the way to compare collections of different sizes.
    Raises:
        TypeError, ValueError: `texts` is one string or holds something else; n or limit below 1.
    """
    check_documents(texts, "texts")
    for name, value in (("n", n), ("limit", 1 if limit is None else limit)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{name} is of type {type(value).__name__}; give a positive integer")
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    found = []
    total = 0
    for chunk in in_chunks(texts):
        tokens = hash_tokens(chunk)
        starts, ends, _ = ngram_spans(tokens.offsets, n, short=False)
        found.append(span_hashes(tokens.hashes, starts, ends)[: None if limit is None else limit - total])
        total += len(found[-1])
        if total == limit:
            break
    return len(np.unique(np.concatenate(found))) / total if total else float("nan")


# ------------------------------------------------------------------------------------------------------- coverage


def coverage(reference: ArrayLike, vectors: ArrayLike, *, k: int = 5) -> float:
    """Share of the reference rows that have one of `vectors` nearer than their k-th nearest fellow.

    Args:
        reference: (m, d), what should be covered. vectors: (n, d), the data. k: below m.
    Raises:
        ValueError: shapes do not fit, or k is not between 1 and m - 1.
    """
    from sklearn.neighbors import NearestNeighbors

    whole, rows = _matrix(reference, "reference"), _matrix(vectors, "vectors")
    _same_columns(whole, rows)
    if not 1 <= k < len(whole):
        raise ValueError(f"k is {k}; with {len(whole)} reference rows it must be between 1 and {len(whole) - 1}")
    # without an argument, kneighbors leaves each row out of its own neighbours
    radius = NearestNeighbors(n_neighbors=k).fit(whole).kneighbors()[0][:, -1]
    nearest = NearestNeighbors(n_neighbors=1).fit(rows).kneighbors(whole)[0][:, 0]
    return float(np.mean(nearest <= radius))


def cluster_coverage(
    reference: ArrayLike, vectors: ArrayLike, *, n_clusters: int = 10, at_least: int = 1, seed: int = 0
) -> float:
    """Share of the reference's k-means clusters that `vectors` reach with `at_least` rows.

    Raises ValueError where shapes do not fit, or n_clusters is not between 1 and the number of reference rows.
    """
    from sklearn.cluster import KMeans

    whole, rows = _matrix(reference, "reference"), _matrix(vectors, "vectors")
    _same_columns(whole, rows)
    if not 1 <= n_clusters <= len(whole):
        raise ValueError(f"n_clusters is {n_clusters}; it must be between 1 and the {len(whole)} reference rows")
    model = KMeans(n_clusters, n_init=4, random_state=seed).fit(whole)
    return float(np.mean(np.bincount(model.predict(rows), minlength=n_clusters) >= at_least))


def _same_columns(reference: Floats, vectors: Floats) -> None:
    if reference.shape[1] != vectors.shape[1]:
        raise ValueError(f"reference has {reference.shape[1]} columns and vectors {vectors.shape[1]}")


# -------------------------------------------------------------------------------------------------- all in one


def text_vectors(texts: Sequence[str], *, dimensions: int = TEXT_DIMENSIONS) -> Floats:
    """(texts, dimensions) float64: words weighted by tf-idf, hashed into columns with random signs.

    The signs keep the products of two texts right on average (Weinberger et al., "Feature hashing for large scale
    multitask learning", 2009), and make the features centred. No model is needed; meaning is not seen.
    """
    check_documents(texts, "texts")
    tokens = [hash_tokens(chunk) for chunk in in_chunks(texts)]
    hashes = np.concatenate([np.empty(0, dtype=np.uint64), *(part.hashes for part in tokens)])
    lengths = np.concatenate([np.empty(0, dtype=np.int64), *(np.diff(part.offsets) for part in tokens)])
    _, word = np.unique(hashes, return_inverse=True)
    text = np.repeat(np.arange(len(lengths)), lengths)
    _, first, counts = np.unique(text * (word.max(initial=0) + 1) + word, return_index=True, return_counts=True)
    text, word, hashes = text[first], word[first], hashes[first]
    in_texts = np.bincount(word)
    weights = (1 + np.log(counts)) * (1 + np.log(len(lengths) / in_texts[word]))
    vectors = np.zeros((len(lengths), dimensions))
    sign = 1 - 2 * (hashes >> np.uint64(63)).astype(float)
    np.add.at(vectors, (text, (hashes % np.uint64(dimensions)).astype(np.int64)), sign * weights)
    return vectors


def diversity(
    data: Iterable[str] | ArrayLike,
    *,
    reference: Any = None,
    kernel: Kernel = "cosine",
    centre: bool = False,
    ngrams: Sequence[int] = (1, 2, 3),
    k: int = 5,
    sample: int | None = 5_000,
    seed: int | np.random.Generator = 0,
) -> Diversity:
    """Vendi score, distinct-n and coverage of texts (as `text_vectors`) or of vectors (n, d).

    Args:
        data: texts, or an (n, d) array. reference: of the same kind; None: no coverage.
        kernel, centre: of `vendi_score`. ngrams: of `distinct_n`. k: of `coverage`.
        sample: measure at most so many rows, drawn by `seed` (of the reference too); None: all.
    Raises:
        TypeError, ValueError: as the single functions do; texts without a word are named.
    """
    if sample is not None and sample < 2:
        raise ValueError(f"sample is {sample}; it must be at least 2, or None for all rows")
    rng = np.random.default_rng(seed)
    rows, texts = _rows(data, "data", sample, rng)
    reached = None
    if reference is not None:
        whole, _ = _rows(reference, "reference", sample, rng)
        reached = coverage(whole, rows, k=k)
    return Diversity(
        n=len(rows),
        vendi=vendi_score(rows, kernel=kernel, centre=centre),
        distinct_n={n: distinct_n(texts, n) for n in ngrams} if texts else {},
        coverage=reached,
    )


def _rows(data: Any, name: str, sample: int | None, rng: np.random.Generator) -> tuple[Floats, list[str]]:
    """A sample of `data` as vectors, and the texts of the sample if it is text."""
    if isinstance(data, str | bytes):
        check_documents(data, name)
    values: Any = data if hasattr(data, "shape") else list(data)
    chosen = np.arange(len(values))
    if sample is not None and len(values) > sample:
        chosen = np.sort(rng.choice(len(values), sample, replace=False))
    if len(values) and isinstance(values[0] if isinstance(values, list) else None, str):
        texts = [values[row] for row in chosen]
        vectors = text_vectors(texts)
        empty = np.flatnonzero(~vectors.any(axis=1))
        if len(empty):
            raise ValueError(f"{name} holds texts without a word, first at {int(chosen[empty[0]])}; drop them")
        return vectors, texts
    return _matrix(values, name)[chosen], []
