"""Text to tokens, and tokens to numbers that every process computes alike.

Near-duplicate search and contamination both compare runs of words. Comparing strings one by one in Python is
slow and keeps them all in memory, so the words of many documents are turned at once into 64-bit hashes with
prefix sums (Karp and Rabin, "Efficient randomized pattern-matching algorithms", 1987):

    hash(codes[s:e]) = mix( codes[s] + codes[s+1]·R + … + codes[e-1]·R^(e-1-s) )   modulo 2^64

With the running sum P[i] = Σ_{j<i} codes[j]·R^j every run costs one subtraction, whatever its length:
(P[e] - P[s])·R^(-s). The same function makes tokens of bytes and n-grams of tokens.

Python's own `hash()` of a string is not used: it is salted and differs between two processes.

What this does not promise: two different runs may share a hash (probability about 2^-64 a pair), so a caller
that needs certainty compares the tokens themselves, as `contamination` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

UInts = NDArray[np.uint64]
Ints = NDArray[np.int64]

CHUNK_CHARACTERS = 1 << 18
"""Documents are worked on in lists of about this many characters: large enough for NumPy, small enough for a
processor's cache."""

_WORD = re.compile(r"\w+")
_BASE = 0x9E3779B97F4A7C15 | 1  # odd, so that its powers can be divided by, modulo 2^64


def tokenise(text: str) -> list[str]:
    r"""The words of `text`: lower case, runs of `\w` (letters, digits and the underscore, of any script).

    >>> tokenise("def Area(r):  # π·r²")
    ['def', 'area', 'r', 'π', 'r²']
    """
    return _WORD.findall(text.lower())


def check_documents(documents: object, name: str = "documents") -> None:
    """Raise TypeError unless `documents` can be a collection of texts: one string is not (it would be taken
    letter by letter)."""
    if isinstance(documents, str | bytes):
        raise TypeError(f"{name} is one {type(documents).__name__}; give an iterable of strings, such as [text]")
    if not isinstance(documents, Iterable):
        raise TypeError(f"{name} is of type {type(documents).__name__}; give an iterable of strings")


def in_chunks(documents: Iterable[str], characters: int = CHUNK_CHARACTERS) -> Iterator[list[str]]:
    """Lists of consecutive documents with about `characters` characters together (a longer one stands alone).

    Raises TypeError for a document that is not a string, naming its position.
    """
    chunk: list[str] = []
    size = 0
    for position, document in enumerate(documents):
        if not isinstance(document, str):
            raise TypeError(f"document {position} is of type {type(document).__name__}; every document is a string")
        if chunk and size + len(document) > characters:
            yield chunk
            chunk, size = [], 0
        chunk.append(document)
        size += len(document)
    if chunk:
        yield chunk


@dataclass(frozen=True)
class HashedTokens:
    """The tokens of several documents, end to end.

    `hashes`: (tokens,) uint64, equal for equal tokens. `offsets`: (documents + 1,) int64; document d owns
    `hashes[offsets[d]:offsets[d + 1]]`.
    """

    hashes: UInts
    offsets: Ints


def hash_tokens(documents: Sequence[str]) -> HashedTokens:
    """What `tokenise` finds in each document, as 64-bit hashes; no Python object is made per token."""
    encoded = [_bytes_of_words(document) for document in documents]
    letters = b"\n".join([b"", *encoded, b""]).translate(_LETTERS)
    codes = np.frombuffer(letters, dtype=np.uint8)
    in_word = codes != 0
    borders = np.flatnonzero(in_word[1:] != in_word[:-1]) + 1
    starts, ends = borders[0::2], borders[1::2]
    first_bytes = np.cumsum([1, *(len(part) + 1 for part in encoded)])
    return HashedTokens(hashes=span_hashes(codes, starts, ends), offsets=np.searchsorted(starts, first_bytes))


def span_hashes(codes: NDArray[np.unsignedinteger], starts: Ints, ends: Ints) -> UInts:
    """Hash of every run `codes[starts[i]:ends[i]]` (see the module's text): (runs,) uint64."""
    powers, inverses = _powers(len(codes))
    prefix = np.empty(len(codes) + 1, dtype=np.uint64)
    prefix[0] = 0
    np.cumsum(codes * powers[: len(codes)], out=prefix[1:])
    hashes = prefix[ends]
    hashes -= prefix[starts]
    hashes *= inverses[starts]
    return mix(hashes)


def ngram_spans(offsets: Ints, n: int, *, short: bool) -> tuple[Ints, Ints, Ints]:
    """Where the n-grams of each document lie, never across a document's border.

    Returns (starts, ends, n-grams per document). A document with fewer than n tokens has none, or with
    `short=True` one that is all its tokens (an empty document has none either way).
    """
    lengths = np.diff(offsets)
    counts = np.maximum(lengths - n + 1, 0)
    if short:
        counts = np.where((counts == 0) & (lengths > 0), 1, counts)
    firsts = np.concatenate([[0], np.cumsum(counts)])
    starts = np.arange(firsts[-1]) + np.repeat(offsets[:-1] - firsts[:-1], counts)
    ends = np.minimum(starts + n, np.repeat(offsets[1:], counts)) if short else starts + n
    return starts, ends, counts


def mix(values: UInts) -> UInts:
    """Scramble 64-bit values, one to one, in place (the finaliser of SplitMix64: Steele et al., 2014)."""
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _bytes_of_words(text: str) -> bytes:
    """Bytes whose words are those of `tokenise(text)`: ASCII needs no work, since the byte table folds its case."""
    if text.isascii():
        return text.encode("ascii")
    return " ".join(tokenise(text)).encode("utf-8")


# What `bytes.translate` makes of each byte: a word's byte in lower case, anything else 0. Bytes from 128 on occur
# only in what `tokenise` has prepared, so they belong to a word.
_LETTERS = bytes(
    byte if byte >= 128 else ord(chr(byte).lower()) if _WORD.match(chr(byte)) else 0 for byte in range(256)
)


def _powers(length: int) -> tuple[UInts, UInts]:
    """R^0, R^1, … and their inverses modulo 2^64, at least `length` + 1 of each."""
    return _power_tables(1 << int(length).bit_length())


@lru_cache(maxsize=4)
def _power_tables(length: int) -> tuple[UInts, UInts]:
    def table(base: int) -> UInts:
        factors = np.full(length, base, dtype=np.uint64)
        factors[0] = 1
        return np.cumprod(factors)

    return table(_BASE), table(pow(_BASE, -1, 1 << 64))
