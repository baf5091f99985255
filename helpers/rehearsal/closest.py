"""Beside each rubric point the sentence of the answer that is closest to it, so that the learner can tick honestly.

Character n-grams weighted by TF-IDF, as in scikit-learn's `TfidfVectorizer(analyzer="char")` (smooth idf, l2 norm).
What this does not do: judge. Closeness of words is not truth: a flat contradiction is often the closest sentence.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_HAN = re.compile(r"[\u3400-\u9fff]")
_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？；])\s*|\n+")
LATIN, CHINESE = (3, 5), (1, 3)  # a Chinese word has two characters or so, an English one five
Vector = dict[str, float]


@dataclass(frozen=True)
class Closest:
    """A sentence of the answer and its cosine similarity; an empty sentence when nothing has anything in common."""

    sentence: str
    similarity: float


def sentences(text: str) -> list[str]:
    """The sentences of an answer in English or Chinese; a line of a list is one."""
    return [found for part in _END.split(text) if (found := part.strip(" \t-*•·"))]


def closest(answer: str, points: Sequence[str]) -> list[Closest]:
    """For each of `points` (texts of a rubric) the closest sentence of `answer`, in the order of the points."""
    found = sentences(answer)
    if not found:
        return [Closest("", 0.0) for _ in points]
    width = CHINESE if _HAN.search(" ".join(points)) else LATIN
    vectors = tf_idf([*found, *points], width)
    spoken, wanted = vectors[: len(found)], vectors[len(found) :]
    return [_best(point, spoken, found) for point in wanted]


def tf_idf(texts: Sequence[str], width: tuple[int, int]) -> list[Vector]:
    """l2-normalised TF-IDF vectors of the character n-grams of `width` (lowest, highest) characters."""
    counts = [_grams(text, width) for text in texts]
    within = Counter(gram for count in counts for gram in count)
    idf = {gram: math.log((1 + len(texts)) / (1 + number)) + 1 for gram, number in within.items()}
    return [_unit({gram: number * idf[gram] for gram, number in count.items()}) for count in counts]


def cosine(one: Vector, other: Vector) -> float:
    """Of two vectors of length one."""
    small, large = (one, other) if len(one) < len(other) else (other, one)
    return sum(value * large[gram] for gram, value in small.items() if gram in large)


def _grams(text: str, width: tuple[int, int]) -> Counter[str]:
    plain = re.sub(r"\s\s+", " ", text.lower())
    return Counter(plain[i : i + n] for n in range(width[0], width[1] + 1) for i in range(len(plain) - n + 1))


def _unit(vector: Vector) -> Vector:
    length = math.sqrt(sum(value * value for value in vector.values()))
    return {gram: value / length for gram, value in vector.items()} if length else {}


def _best(point: Vector, spoken: Sequence[Vector], texts: Sequence[str]) -> Closest:
    scores = [cosine(point, sentence) for sentence in spoken]
    top = max(range(len(scores)), key=scores.__getitem__)
    return Closest(texts[top], scores[top]) if scores[top] > 0 else Closest("", 0.0)
