"""LIME for texts, through the library `lime`: which words speak for an answer, which against.

A sample leaves out some words everywhere they occur; the model's answers are then fitted by a weighted ridge regression
on "word is there". What this does not do: see an order of words, or a word that is not in the text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from helpers.explanation.predicting import checked

__all__ = ["FeatureExplanation", "explain_text", "highlighted"]

Array = np.ndarray[Any, Any]

BATCH = 500  # texts in one call of the model


@dataclass(frozen=True)
class FeatureExplanation:
    """Weights of a local linear model: (name, weight), largest by size first.

    `probabilities` are the model's for the original, `label` the explained class. `lime` is lime's own object.
    """

    label: int
    probabilities: Array
    weights: tuple[tuple[str, float], ...]
    intercept: float
    samples: int
    seed: int
    lime: Any = field(repr=False)

    def named(self) -> dict[str, float]:
        """name → weight, for a picture with `plots.bars`."""
        return dict(self.weights)


def explain_text(
    text: str,
    predict: Callable[[list[str]], Any],
    *,
    label: int | None = None,
    words: int = 10,
    samples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> FeatureExplanation:
    """Explain one answer of a text classifier by its words.

    Args:
        text: at least one word (letters, digits or _ in a row).
        predict: list of n texts -> probabilities (n, classes).
        label: the class to explain; None for the most probable one. (lime's own default is class 1.)
        words: how many of them to name, the heaviest.
        samples: texts shown to the model, at least 10.
        seed: of the sampling.
        progress: show a bar while it runs.

    Same seed: the coefficients of `lime.lime_text.LimeTextExplainer` with its defaults. A text with one word, however
    often, has nothing to fit (lime's penalty would shrink its weight to nearly 0): its weight is the fall of the
    probability when it is left out, and `lime` is None.
    Raises TypeError or ValueError, naming the argument; also when `predict` gives no probabilities.
    """
    from lime.lime_text import LimeTextExplainer

    if not isinstance(text, str):
        raise TypeError(f"text must be a text, got {type(text).__name__}")
    if not any(c.isalnum() or c == "_" for c in text):
        raise ValueError(f"text must have at least one word, got {text!r}")
    must_be_counts(words=words, samples=samples)
    if samples < 10:
        raise ValueError(f"samples must be at least 10, got {samples}")
    ask = checked(predict)
    whole = ask([text])[0]
    chosen = wanted_label(label, whole)
    if len(known := set(re.findall(r"\w+", text))) == 1:
        without = float(ask([re.sub(r"\w+", "", text)])[0, chosen])
        weight = (known.pop(), float(whole[chosen]) - without)
        return FeatureExplanation(chosen, whole, (weight,), without, 2, seed, None)

    def in_batches(texts: list[str]) -> Array:
        starts = tqdm(range(0, len(texts), BATCH), desc="LIME", leave=False, disable=not progress)
        return np.concatenate([ask(texts[start : start + BATCH]) for start in starts])

    found = LimeTextExplainer(random_state=seed).explain_instance(
        text, in_batches, labels=(chosen,), num_features=words, num_samples=samples
    )
    weights = tuple((str(word), float(weight)) for word, weight in found.as_list(label=chosen))
    return FeatureExplanation(
        chosen, found.predict_proba, weights, float(found.intercept[chosen]), samples, seed, found
    )


def highlighted(text: str, explanation: FeatureExplanation) -> str:
    """The text as HTML: words for the answer orange and underlined, words against it violet and struck, by weight.

    Readable in light and dark themes and without colour; no script.
    """
    weights = explanation.named()
    largest = max((abs(w) for w in weights.values()), default=0.0) or 1.0
    parts = []
    for piece in re.split(r"(\W+)", text):
        shown = html.escape(piece)
        weight = weights.get(piece)
        if weight:
            strength = 0.15 + 0.45 * abs(weight) / largest
            colour, line = ("230, 159, 0", "underline") if weight > 0 else ("128, 96, 200", "line-through")
            shown = (
                f'<span title="{weight:+.3f}" style="background: rgba({colour}, {strength:.2f}); '
                f'text-decoration: {line}">{shown}</span>'
            )
        parts.append(shown)
    return f'<div style="line-height: 1.6; white-space: pre-wrap">{"".join(parts)}</div>'


def wanted_label(label: Any, probabilities: Array) -> int:
    """The class to explain: `label`, or the most probable one."""
    if label is None:
        return int(probabilities.argmax())
    if isinstance(label, bool) or not isinstance(label, int | np.integer) or not 0 <= label < len(probabilities):
        raise ValueError(f"label must be None or a class from 0 to {len(probabilities) - 1}, got {label!r}")
    return int(label)


def must_be_counts(**values: Any) -> None:
    """ValueError unless each is a whole number from 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a whole number from 1, got {value!r}")


def must_be_names(name: str, values: Sequence[Any], count: int) -> tuple[str, ...]:
    """The values as texts; ValueError unless there are `count` of them."""
    if len(values) != count:
        raise ValueError(f"{name} must have {count} names, got {len(values)}")
    return tuple(str(value) for value in values)
