"""The checks and hints of exercises 5.1 to 5.3, 5.5 and 5.10: LIME's regression, Shapley values, permutation
importance, the fidelity of a surrogate tree, and a script to mend.

What they do not catch: an answer that is right and needlessly slow.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from helpers.exercises.describing import describe
from helpers.exercises.overfitting import gradients_are_on, itself, seed_of, without
from helpers.exercises.registry import exercise
from helpers.exercises.trial import Mistake, Trial

Answer = Callable[..., Any]
Array = np.ndarray[Any, Any]

# ----------------------------------------------------------------------------------------- 5.1 LIME's kernel and ridge


@exercise(
    "5.1",
    title="LIME's kernel and ridge regression",
    parts=("lime_coefficients",),
    difficulty=3,
    minutes=20,
    asked_as="How does LIME get from masked pictures to weights? Write the regression.",
    hints=(
        "Three steps: a distance of each mask from the picture with everything shown (a mask of ones), a weight from "
        "each distance, and a regression with these weights.",
        "Cosine distance of a mask with s ones out of k from the mask of ones: `1 - s / (sqrt(s) * sqrt(k))`, and 1 "
        "for a mask of zeros. The weight is `sqrt(exp(-distance**2 / kernel_width**2))`.",
        "Weighted ridge: minimise Σ wᵢ (yᵢ - intercept - xᵢ·β)² + alpha · |β|². The intercept is not penalised: take "
        "the weighted means out of x and y first.",
        "`xc = x - w @ x / w.sum()`, `yc = y - w @ y / w.sum()`, "
        "`beta = solve(xc.T * w @ xc + alpha * eye(k), xc.T * w @ yc)`, then the intercept from the means.",
    ),
)
def lime_check(trial: Trial, lime_coefficients: Answer) -> None:
    wants = [_lime_case(trial.rng, case) for case in range(5)]
    with trial.forbid(
        "sklearn.linear_model.Ridge.fit",
        "sklearn.linear_model.RidgeCV.fit",
        "sklearn.linear_model.ridge_regression",
        "sklearn.linear_model.LinearRegression.fit",
        "lime.lime_base.LimeBase.explain_instance_with_data",
        why="the weighted ridge regression is what is asked: write it out",
    ):
        for given, want, mistakes in wants:
            got = trial.call(lime_coefficients, *given.values())  # by place: its parameters may have other names
            trial.that(
                isinstance(got, tuple | list) and len(got) == 2,
                what="the result has two parts",
                want="coefficients, intercept",
                got=describe(got),
                otherwise="return coefficients, intercept",
            )
            trial.is_array(got[0], (given["masks"].shape[1],), kind="f", what="the coefficients")
            trial.close(
                got[0],
                want[0],
                what="the coefficients",
                mistakes=[Mistake(value[0], text) for value, text in mistakes],
                otherwise="weights sqrt(exp(-distance² / kernel_width²)) of the cosine distances, then ridge "
                "regression with an intercept that is not penalised, on all rows",
                rtol=1e-6,
                atol=1e-9,
            )
            trial.is_type(got[1], float, what="the intercept", otherwise="a number: float(…)")
            trial.close(
                got[1],
                want[1],
                what="the intercept",
                mistakes=[
                    Mistake(0.0, "there is an intercept: what the model answers when everything is hidden"),
                    Mistake(
                        float(given["answers"].mean() - given["masks"].mean(0) @ want[0]),
                        "the means in the intercept are weighted ones as well",
                    ),
                ],
                otherwise="the weighted mean of the answers minus the weighted means of the columns times β",
                rtol=1e-6,
                atol=1e-9,
            )


LIME_SLIPS = {
    "distance": "the distance is squared in the kernel: exp(-d² / width²)",
    "width": "the kernel width is ignored or not squared: exp(-d² / width²)",
    "no root": "the square root of the exponential is missing (or the rows were scaled by the weight itself, "
    "which squares it): weight = sqrt(exp(-d² / width²))",
    "no weights": "all samples count the same here: near ones (few superpixels hidden) must count more",
    "no first": "the first sample, the picture with everything shown, is left out: it has the largest weight",
    "penalised": "the intercept is penalised: only the coefficients are shrunk",
    "no ridge": "the penalty alpha · |β|² is missing",
    "alpha per sample": "alpha is multiplied by the number of samples: the sum of squares is no mean",
    "no intercept": "the regression has no intercept",
    "euclidean": "the distance is the cosine distance, not the Euclidean one",
    "hamming": "the distance is the cosine distance, not the share of hidden superpixels",
}


def _lime_case(rng: np.random.Generator, case: int) -> tuple[dict[str, Any], Any, list[tuple[Any, str]]]:
    samples, parts = int(rng.integers(20, 40)), int(rng.integers(3, 7))
    masks = rng.integers(0, 2, (samples, parts))
    masks[0] = 1
    if case == 1:
        masks[3] = 0  # everything hidden: the cosine distance has no value of its own there
    truth = rng.normal(0, 0.3, parts)
    answers = 0.4 + masks @ truth + rng.normal(0, 0.1, samples) + 0.2 * masks[:, 0] * masks[:, 1]
    width, alpha = (0.25, 1.0) if case == 0 else (float(rng.uniform(0.15, 0.6)), float(rng.uniform(0.3, 4.0)))
    given: dict[str, Any] = {"masks": masks, "answers": answers, "kernel_width": width, "alpha": alpha}
    return given, _lime(**given), [(_lime(**given, slip=slip), text) for slip, text in LIME_SLIPS.items()]


def _lime(masks: Array, answers: Array, kernel_width: float, alpha: float, slip: str = "") -> tuple[Array, float]:
    """scikit-learn's distances and ridge regression, with one slip or none."""
    from sklearn.linear_model import LinearRegression, Ridge
    from sklearn.metrics import pairwise_distances

    if slip == "hamming":
        distance = 1 - masks.mean(1)
    else:
        metric = "euclidean" if slip == "euclidean" else "cosine"
        distance = pairwise_distances(masks, masks[:1], metric=metric).ravel()
    power = distance if slip == "distance" else distance**2
    weight = np.exp(-power / {"width": 1.0}.get(slip, kernel_width**2))
    weight = weight if slip == "no root" else np.sqrt(weight)
    if slip == "no weights":
        weight = np.ones(len(masks))
    keep = slice(1 if slip == "no first" else 0, None)
    x, y, weight = masks[keep], answers[keep], weight[keep]
    if slip == "penalised":
        x = np.column_stack([x, np.ones(len(x))])
    alpha *= len(x) if slip == "alpha per sample" else 1
    model: Any = (
        LinearRegression()
        if slip == "no ridge"
        else Ridge(alpha=alpha, fit_intercept=slip not in {"penalised", "no intercept"})
    )
    model.fit(x, y, sample_weight=weight)
    if slip == "penalised":
        return model.coef_[:-1], float(model.coef_[-1])
    return model.coef_, float(model.intercept_)


# -------------------------------------------------------------------------------------------------- 5.2 Shapley values


@exercise(
    "5.2",
    title="Exact Shapley values",
    parts=("shapley",),
    difficulty=3,
    minutes=20,
    asked_as="What is a Shapley value? Compute it for a handful of features.",
    hints=(
        "Let the players come in one after another. What a player adds depends on who is there already; the Shapley "
        "value is the mean over all m! orders.",
        "Many orders have the same players before i. With a set S of s players before, there are s! (m - s - 1)! "
        "orders.",
        "For each i and each S without i: weight s! (m - s - 1)! / m! times value(S ∪ {i}) - value(S). "
        "`itertools.combinations(others, s)` gives the sets.",
        "Ask for each value once: `values = {S: value(S) for … in combinations(range(m), size)}` with `frozenset` "
        "keys.",
    ),
)
def shapley_check(trial: Trial, shapley: Answer) -> None:
    for m in (3, 1, 2, 4, 5):
        game = _Game(m, trial.rng)
        got = trial.call(shapley, game, m)
        trial.input = f"m = {m}, value(∅) = {game.of(()):.3g}, value(all) = {game.of(range(m)):.3g}"
        trial.is_array(got, (m,), kind="f", what="the Shapley values")
        trial.close(
            got,
            _by_orders(game, m),
            what="the Shapley values",
            mistakes=[Mistake(value, text) for value, text in _shapley_slips(game, m)],
            otherwise="the mean over all orders of what player i adds to those who are there: weights "
            "s! (m - s - 1)! / m!",
            rtol=1e-6,
            atol=1e-9,
        )
        trial.that(
            game.asked <= 2**m,
            what="each coalition is asked for at most once",
            want=f"at most {2**m} calls of value",
            got=f"{game.asked} calls",
            otherwise="a value is a run of the model over a background set: keep what was asked in a dictionary",
        )


class _Game:
    """A game with interactions, whose empty coalition is worth something. It counts how often it is asked."""

    def __init__(self, m: int, rng: np.random.Generator) -> None:
        sets = [frozenset(c) for size in range(m + 1) for c in itertools.combinations(range(m), size)]
        self.values = {s: float(v) for s, v in zip(sets, rng.normal(1.0, 1.0, len(sets)), strict=True)}
        self.asked = 0

    def __deepcopy__(self, memo: Any) -> _Game:
        return self

    def __call__(self, coalition: Any) -> float:
        self.asked += 1
        return self.of(coalition)

    def of(self, coalition: Any) -> float:
        return self.values[frozenset(int(player) for player in coalition)]


def _by_orders(game: _Game, m: int) -> Array:
    """The definition by orders of arrival: another way than the sum over coalitions."""
    total = np.zeros(m)
    for order in itertools.permutations(range(m)):
        for place, player in enumerate(order):
            total[player] += game.of(order[: place + 1]) - game.of(order[:place])
    return total / math.factorial(m)


def _shapley_slips(game: _Game, m: int) -> list[tuple[Array, str]]:
    def weighted(weight: Callable[[int], float], base: float = 1.0) -> Array:
        found = np.zeros(m)
        for i in range(m):
            others = [p for p in range(m) if p != i]
            for s in range(m):
                for c in itertools.combinations(others, s):
                    found[i] += weight(s) * (game.of((*c, i)) - base * game.of(c))
        return found

    right = weighted(lambda s: math.factorial(s) * math.factorial(m - s - 1) / math.factorial(m))
    alone = np.array([game.of((i,)) - game.of(()) for i in range(m)])
    last = np.array([game.of(range(m)) - game.of([p for p in range(m) if p != i]) for i in range(m)])
    spread = game.of(range(m)) - game.of(())
    order = np.array([game.of(range(i + 1)) - game.of(range(i)) for i in range(m)])
    return [
        (weighted(lambda s: 1 / 2 ** (m - 1)), "all coalitions weigh the same here (Banzhaf's value): the factorials "
         "are missing"),
        (weighted(lambda s: 1.0), "the weights s! (m - s - 1)! / m! are missing"),
        (weighted(lambda s: 1 / math.comb(m, s) / m), "the number of sets of size s without i is C(m - 1, s), not "
         "C(m, s)"),
        (weighted(lambda s: math.factorial(s) * math.factorial(m - s) / math.factorial(m)), "the weight is "
         "s! (m - s - 1)! / m!: player i itself does not count among those who come later"),
        (weighted(lambda s: math.factorial(s) * math.factorial(m - s - 1)), "divide by m!, the number of orders"),
        (weighted(lambda s: math.factorial(s) * math.factorial(m - s - 1) / math.factorial(m), 0.0), "take away what "
         "the coalition is worth without player i"),
        (alone, "this is what each adds to nobody: all coalitions of the others count"),
        (alone + game.of(()), "this is what each is worth alone, the empty coalition not even taken away"),
        (last, "this is what is lost when each leaves the full coalition (leave-one-out): all coalitions count"),
        (order, "this is one order of arrival: the mean over all orders is asked"),
        (right + game.of(()) / m, "the values sum to value(all) - value(∅): the baseline is not shared out"),
        (right / spread, "the values are not normalised: they sum to value(all) - value(∅)"),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------ 5.3 permutation importance


@exercise(
    "5.3",
    title="Permutation importance",
    parts=("permutation_importance",),
    difficulty=2,
    minutes=15,
    asked_as="Which features does this model use? Answer without opening it.",
    hints=(
        "Break the tie between one column and everything else without changing how the column looks by itself. What "
        "happens to the score?",
        "`x = rows.copy()`, then `x[:, j] = rng.permutation(rows[:, j])`: one column at a time, from the original "
        "rows.",
        "The importance is the score on the rows as they are, minus the score on the shuffled ones; the score of the "
        "rows as they are is computed once.",
    ),
)
def permutation_check(trial: Trial, permutation_importance: Answer) -> None:
    for case in range(3):
        m, repeats = int(trial.rng.integers(3, 6)), int(trial.rng.integers(4, 7))
        rows = trial.rng.normal(size=(int(trial.rng.integers(60, 90)), m))
        model = _Watched(trial.rng.permutation(m), trial.rng)
        y = model.of(rows) + trial.rng.normal(0, 0.3, len(rows))
        if case == 2:
            y -= 1.5 * model.strongest(rows)  # the model has its sign wrong: the score is better without it
        score = _minus_squared_error if case else _share_explained
        seed = seed_of(trial)
        answer, with_another = (
            without(
                permutation_importance, "predict", "rows", "y", "score", "repeats", after=[functools.partial(_rng, s)]
            )
            for s in (seed, seed + 1)
        )
        got = trial.call(answer, model, rows, y, score, repeats)
        trial.is_array(got, (m, repeats), kind="f", what="the importances")
        blocks = model.blocks(len(rows))
        changed = [tuple(int(j) for j in np.flatnonzero((block != rows).any(0))) for block in blocks]
        trial.that(
            all(len(columns) <= 1 for columns in changed),
            what="one column is shuffled at a time",
            want="every column but one as in rows",
            got=f"columns {max(changed, key=len, default=())} differ from rows in one call of predict",
            otherwise="start from a fresh copy of rows each time, and leave the other columns where they are",
        )
        trial.that(
            all(np.array_equal(np.sort(block, axis=0), np.sort(rows, axis=0)) for block in blocks),
            what="a shuffled column keeps its values",
            want="the same values in another order",
            got="other values in the column",
            otherwise="permute the column; zeros, noise or drawing with replacement show the model what it never sees",
        )
        shuffled = {j: [b for b, c in zip(blocks, changed, strict=True) if c == (j,)] for j in range(m)}
        trial.that(
            all(len(shuffled[j]) == repeats for j in range(m)),
            what="each column is shuffled `repeats` times",
            want=f"{repeats} shuffles of each of the {m} columns",
            got=f"{[len(shuffled[j]) for j in range(m)]} shuffles by column",
            otherwise="shuffle in each repeat anew; it is the column of rows that is shuffled, not y",
        )
        trial.that(
            all(len({block[:, j].tobytes() for block in shuffled[j]}) == repeats for j in range(m)),
            what="each repeat has its own shuffle",
            want=f"{repeats} different orders of each column",
            got="the same order again",
            otherwise="draw a new permutation in each repeat, from the one generator that is given",
        )
        model.seen.clear()
        trial.call(with_another, model, rows, y, score, repeats)
        first, second = ({b.tobytes() for b in run if (b != rows).any()} for run in (blocks, model.blocks(len(rows))))
        trial.that(
            not first & second,
            what="another generator gives other shuffles",
            want="no shuffle of the first run in a run with another generator",
            got=f"{len(first & second)} of {len(first)} shuffles again",
            otherwise="draw from the generator that is given: with a seed of your own, or without chance, every run "
            "repeats the same shuffles, and their spread over runs cannot be seen",
        )
        orders = {_order(rows[:, j], block[:, j]) for j in range(m) for block in shuffled[j]}
        trial.that(
            len(orders) == m * repeats,
            what="each column is shuffled anew",
            want=f"{m} × {repeats} different orders",
            got=f"{len(orders)} different orders: columns share them",
            otherwise="one permutation for all columns ties their falls together: draw anew for each column and repeat",
        )
        base = score(y, model.of(rows))
        scores = np.array([[score(y, model.of(block)) for block in shuffled[j]] for j in range(m)])
        trial.close(
            np.sort(got, axis=1),
            np.sort(base - scores, axis=1),
            what="the importances (each column's sorted)",
            mistakes=[
                Mistake(np.sort(scores, axis=1), "these are the scores themselves: the drop from the score is asked"),
                Mistake(np.sort(scores - base, axis=1), "the sign is turned: score as it is minus score when shuffled"),
                Mistake(np.sort(1 - scores / base, axis=1), "the drop is a difference, not a share of the score"),
                Mistake(np.sort(np.abs(base - scores), axis=1), NEGATIVE_FALL),
                Mistake(np.sort(np.maximum(base - scores, 0), axis=1), NEGATIVE_FALL),
                Mistake(np.sort(base - scores, axis=1) - (base - scores).min(), NEGATIVE_FALL),
            ],
            otherwise="score(y, predict(rows)) - score(y, predict(shuffled rows)), one row of the result per column",
            rtol=1e-6,
            atol=1e-9,
        )
        trial.close(
            trial.call(answer, model, rows, y, score, repeats),
            got,
            what="the importances with the same generator once more",
            otherwise="take every random number from the generator that is given",
        )


NEGATIVE_FALL = (
    "a fall can be negative: the score is better without a column that misleads; leave the numbers as they are"
)


class _Watched:
    """A model that notes what it was shown. Its last feature is not used, its interactions are strong."""

    def __init__(self, order: Array, rng: np.random.Generator) -> None:
        self.weights = rng.uniform(0.5, 2.0, len(order)) * (order > 0)
        self.seen: list[Array] = []

    def __deepcopy__(self, memo: Any) -> _Watched:
        return self

    def __call__(self, rows: Any) -> Array:
        self.seen.append(np.array(rows, dtype=float))
        return self.of(rows)

    def of(self, rows: Any) -> Array:
        x = np.asarray(rows, dtype=float)
        return np.asarray(np.tanh(x) @ self.weights)

    def strongest(self, rows: Array) -> Array:
        """What the column with the largest weight contributes."""
        column = int(self.weights.argmax())
        return np.asarray(np.tanh(rows[:, column]) * self.weights[column])

    def blocks(self, count: int) -> list[Array]:
        """What was shown, in pieces of `count` rows: an answer may ask about several shuffles at once."""
        whole = [seen for seen in self.seen if seen.ndim == 2 and len(seen) % count == 0]
        return [block for seen in whole for block in seen.reshape(-1, count, seen.shape[1])]


def _share_explained(y: Array, answers: Array) -> float:
    return float(1 - ((y - answers) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def _minus_squared_error(y: Array, answers: Array) -> float:
    return float(-((y - answers) ** 2).mean())


def _order(column: Array, shuffled: Array) -> bytes:
    """Which element of the column stands at each place of the shuffled one; no value comes twice."""
    return np.argsort(column)[np.searchsorted(np.sort(column), shuffled)].tobytes()


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


# -------------------------------------------------------------------------------------------------- 5.5 surrogate tree


@exercise(
    "5.5",
    title="Fidelity of a surrogate tree",
    parts=("surrogate_fidelity",),
    difficulty=3,
    minutes=20,
    asked_as="We replaced the model by a decision tree for the auditor. How do you know that it says the same?",
    hints=(
        "The tree imitates the model. Which y is it fitted to, and which y is it judged by?",
        "`tree.fit(x_train, predict(x_train))`, and on the test rows compare `tree.predict(x_test)` with "
        "`predict(x_test)`. The labels are used for the accuracy alone.",
        "The baseline is the share of the model's most frequent answer on the test rows: what an imitation reaches "
        "that never looks at its input.",
        "κ = (agreement - chance) / (1 - chance), where chance is the sum over the classes of the model's share times "
        "the tree's share on the test rows; 0 when chance is 1.",
    ),
)
def surrogate_check(trial: Trial, surrogate_fidelity: Answer) -> None:
    cases = [_surrogate_case(trial.rng, case) for case in range(4)]
    with trial.forbid(
        "sklearn.metrics.cohen_kappa_score", why="κ is what is asked: write it out, from the shares of the classes"
    ):
        for given, right, slips in cases:
            got = trial.call(surrogate_fidelity, *given.values())  # by place: its parameters may have other names
            trial.that(
                isinstance(got, dict) and {"agreement", "baseline", "kappa", "accuracy"} <= set(got),
                what="the result has all its entries",
                want="a dictionary with agreement, baseline, kappa and accuracy",
                got=describe(got),
                otherwise="return all four",
            )
            for name in ("agreement", "baseline", "kappa", "accuracy"):
                trial.is_type(got[name], (float, int), what=f"the {name}", otherwise="a number: float(…)")
                trial.close(
                    got[name],
                    right[name],
                    what=f"the {name}",
                    mistakes=[Mistake(value, text) for of, value, text in slips if of == name],
                    otherwise=SURROGATE_MEANS[name],
                    rtol=1e-9,
                    atol=1e-9,
                )


SURROGATE_MEANS = {
    "agreement": "a DecisionTreeClassifier(max_depth=depth, random_state=0) fitted on the model's answers to x_train; "
    "then the share of test rows on which tree and model agree",
    "baseline": "the share of the model's most frequent answer on the test rows",
    "kappa": "(agreement - chance) / (1 - chance), chance = Σ over classes of the model's share × the tree's share",
    "accuracy": "the share of test rows on which the tree agrees with the labels",
}


MAJORITY = "the most frequent answer on the training rows is another one than on the test rows: judge on the test rows"
ALIGNED = (
    "the shares that are multiplied are not of the same class: the tree may never give one of the model's answers, so "
    "count both over the same list of classes"
)
CHANCE_IS_1 = "when chance is 1, nothing can be better than chance: return 0"
CLASSES = "a regression tree averages the numbers of the classes: a DecisionTreeClassifier is asked"
TOLD_APART = {1: {ALIGNED, CLASSES}, 2: {MAJORITY}}  # in these cases a slip must show, whatever is drawn


def _surrogate_case(rng: np.random.Generator, case: int) -> tuple[dict[str, Any], dict[str, float], list[Any]]:
    while True:
        given, right, slips = _surrogate_drawn(rng, case)
        apart = [abs(value - right[name]) for name, value, text in slips if text in TOLD_APART.get(case, set())]
        if not apart or (min(apart) > 0.005 and right["kappa"] > 0.05):
            return given, right, slips


def _surrogate_drawn(rng: np.random.Generator, case: int) -> tuple[dict[str, Any], dict[str, float], list[Any]]:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    classes, depth = 2 + case % 2, 1 if case == 1 else int(rng.integers(1, 4))  # depth 1: no leaf for the third class
    weights = rng.normal(size=(4, classes))
    offset = np.zeros(classes)
    offset[int(rng.integers(classes))] = 50.0 if case == 3 else 0.7

    def predict(rows: Any) -> Array:
        x = np.asarray(rows, dtype=float)
        return np.asarray((x @ weights + np.sin(3 * x) @ weights + offset).argmax(1))

    x_train, x_test = rng.normal(size=(120, 4)), rng.normal(size=(197, 4))  # a prime: no share is 1/2 or 1/3
    if case == 2:  # the customers of tomorrow are others: another answer is the most frequent one
        way = 0.5 * (weights[:, 1] - weights[:, 0]) / np.linalg.norm(weights[:, 1] - weights[:, 0])
        x_train, x_test = x_train + way, x_test - way
    noisy = [
        np.where(rng.random(len(x)) < 0.25, rng.integers(0, classes, len(x)), predict(x)) for x in (x_train, x_test)
    ]
    given = {"predict": predict, "x_train": x_train, "x_test": x_test, "y_test": noisy[1], "depth": depth}

    def grown(y: Array, **changes: Any) -> Any:
        return DecisionTreeClassifier(**{"max_depth": depth, "random_state": 0, **changes}).fit(x_train, y)

    model, labels = predict(x_test), noisy[1]
    tree = grown(predict(x_train))
    right = _agreement(model, tree.predict(x_test), labels)
    a, b = right["agreement"], right["baseline"]
    on_training = _agreement(predict(x_train), tree.predict(x_train), noisy[0])
    deep = _agreement(model, grown(predict(x_train), max_depth=None).predict(x_test), labels)
    share = max((labels == c).mean() for c in range(classes))
    usual = np.bincount(predict(x_train)).argmax()
    numbers = DecisionTreeRegressor(max_depth=depth, random_state=0).fit(x_train, predict(x_train)).predict(x_test)
    counts = [np.unique(answers, return_counts=True)[1] for answers in (model, tree.predict(x_test))]
    crossed = sum(float(p * q) for p, q in zip(*counts, strict=False)) / len(model) ** 2
    tree_share = max((tree.predict(x_test) == c).mean() for c in range(classes))
    seen = "this is on the rows that the tree was grown on: judge it on the test rows"
    slips = [
        (
            "agreement",
            right["accuracy"],
            "this is the accuracy against the labels: fidelity is agreement with the model",
        ),
        ("agreement", on_training["agreement"], seen),
        ("agreement", _agreement(model, numbers.round().astype(int), labels)["agreement"], CLASSES),
        *(
            (n, deep[n], "the depth is ignored: a tree without a limit explains nothing")
            for n in ("agreement", "kappa")
        ),
        ("baseline", share, "this is the most frequent label: it is the model's answers that are imitated"),
        ("baseline", tree_share, "this is the tree's most frequent answer: the baseline is the model's"),
        ("baseline", float((model == usual).mean()), MAJORITY),
        ("baseline", 1 / classes, "a coin is no baseline: one answer is more frequent than the others"),
        ("baseline", on_training["baseline"], "this is on the training rows: judge on the test rows"),
        (
            "kappa",
            (a - b) / (1 - b) if b < 1 else 0.0,
            "chance is not the baseline: Σ of the model's share × the tree's",
        ),
        ("kappa", (a - crossed) / (1 - crossed) if crossed < 1 else 0.0, ALIGNED),
        ("kappa", math.nan, CHANCE_IS_1),
        ("kappa", 1.0 if b == 1 else math.nan, CHANCE_IS_1),
        ("kappa", a - b, "this is the difference from the baseline"),
        ("kappa", a, "this is the agreement itself: take away what chance reaches"),
        ("accuracy", a, "this is the agreement with the model: accuracy is against the labels"),
    ]
    return given, right, slips


def _agreement(model: Array, imitation: Array, labels: Array) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, cohen_kappa_score

    constant = len({*model.tolist(), *imitation.tolist()}) == 1
    return {
        "agreement": float(accuracy_score(model, imitation)),
        "baseline": float(np.unique(model, return_counts=True)[1].max() / len(model)),
        "kappa": 0.0 if constant else float(cohen_kappa_score(model, imitation)),
        "accuracy": float(accuracy_score(labels, imitation)),
    }


# -------------------------------------------------------------------------------------------------- 5.10 fix this code


@exercise(
    "5.10",
    title="Fix this code",
    parts=("explain_picture",),
    difficulty=4,
    minutes=30,
    asked_as="This explanation looks odd. Review the script: what is wrong with it?",
    hints=(
        "Follow one picture: which shape and which range does the network want, which does lime give? In which mode is "
        "the network? What does lime want back?",
        "lime gives (n, h, w, 3) uint8. `torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255`, then minus "
        "mean, divided by std, each (3, 1, 1).",
        "`model.eval()` and `torch.no_grad()`; `.softmax(1).numpy()` at the end, because lime's regression is on "
        "probabilities.",
        "`top_labels=1` and `labels=()` explain the predicted class; `num_samples=max(samples, 10 * superpixels)`; the "
        "mask is the second value of `get_image_and_mask(label, positive_only=True, num_features=3)`.",
        "`local_exp[label]` is a list of (superpixel, weight) sorted by size: write it into an array by number.",
    ),
)
def fix_this_code(trial: Trial, explain_picture: Answer) -> None:
    import torch

    for samples in (50, 200):
        case = _PictureCase(trial.rng, samples)
        notes: list[dict[str, Any]] = []
        model = case.model(notes)
        answer = without(
            explain_picture,
            *("picture", "segments", "mean", "std", "samples", "seed"),
            before=[functools.partial(itself, model)],
        )
        with torch.enable_grad():  # and as it was afterwards, whatever the answer leaves behind
            got = trial.call(answer, *case.arguments)
            trial.input = f"a picture of 24×24, {case.superpixels} superpixels, samples = {samples}"
            gradients_are_on(trial)
        trial.that(
            all(parameter.requires_grad for parameter in model.parameters()),
            what="the model's parameters still require gradients",
            want="requires_grad as before: True",
            got="requires_grad = False",
            otherwise="the model is the caller's, who may go on training it: `with torch.no_grad():` is enough",
        )
        _what_the_model_saw(trial, case, notes)
        keys = {"label", "probability", "weights", "mask"}
        trial.that(
            isinstance(got, dict) and keys <= set(got),
            what="the result has all its entries",
            want="a dictionary with label, probability, weights and mask",
            got=describe(got),
            otherwise="return all four",
        )
        want = case.explained()
        trial.is_type(got["label"], int, what="the label", otherwise="the number of the class: int(…)")
        trial.equal(
            int(got["label"]),
            want["label"],
            what="the label that is explained",
            mistakes=[Mistake(1, "this is lime's default, class 1: explain what the model predicts, top_labels=1")],
            otherwise="the class with the largest probability for the picture as it is",
        )
        trial.is_type(got["probability"], float, what="the probability", otherwise="a number: float(…)")
        trial.close(
            got["probability"],
            want["probability"],
            what="the probability of the label",
            mistakes=[Mistake(case.explained(slip="logits")["probability"], LOGITS)],
            otherwise="the model's for the picture with nothing hidden",
            rtol=1e-4,
        )
        trial.is_array(got["weights"], (case.superpixels,), kind="f", what="the weights, one per superpixel")
        trial.close(
            got["weights"],
            want["weights"],
            what="the weights",
            mistakes=[
                Mistake(case.explained(slip="logits")["weights"], LOGITS),
                Mistake(case.explained(slip="order")["weights"], "these are in lime's order: put each at its number"),
                Mistake(case.explained(slip="few")["weights"], "too few samples: at least 10 for each superpixel"),
                Mistake(case.explained(slip="label 1")["weights"], "these are the weights of class 1, not the label's"),
            ],
            otherwise="LimeImageExplainer(random_state=seed), hidden superpixels in their mean colour (lime's own); "
            "max(samples, 10 per superpixel) samples, the weight of superpixel n at place n",
            rtol=1e-3,
            atol=1e-6,
        )  # fmt: skip
        trial.is_array(
            got["mask"],
            case.segments.shape,
            what="the mask",
            otherwise="get_image_and_mask returns two things, picture and mask: the second value",
        )
        trial.equal(
            got["mask"].astype(int),
            want["mask"].astype(int),
            what="the mask",
            otherwise="get_image_and_mask(label, positive_only=True, num_features=3): the second value",
        )


LOGITS = "lime was given logits: give it probabilities, softmax(1)"


def _what_the_model_saw(trial: Trial, case: _PictureCase, notes: list[dict[str, Any]]) -> None:
    trial.that(
        bool(notes),
        what="the model is asked",
        want="calls of the model",
        got="none",
        otherwise="model(x) is how a torch module answers; it has no predict",
    )
    shapes = {note["shape"][1:] for note in notes}
    trial.that(
        shapes == {(3, 24, 24)},
        what="the shape that the model is given",
        want="(n, 3, 24, 24)",
        got=" and ".join(f"(n, {', '.join(map(str, shape))})" for shape in sorted(shapes)),
        otherwise="lime has the channels last, torch first: permute(0, 3, 1, 2)",
    )
    trial.that(
        not any(note["training"] for note in notes),
        what="the mode of the model",
        want="evaluation",
        got="training: dropout draws anew for each answer",
        otherwise="model.eval() before the first question",
    )
    trial.that(
        not any(note["grad"] for note in notes),
        what="no gradients are recorded",
        want="torch.no_grad() or torch.inference_mode()",
        got="a graph for each of the answers",
        otherwise="nothing is trained here: without the graph it is faster and needs less memory",
    )
    whole = [note["first"] for note in notes]
    trial.that(
        any(np.allclose(first, case.normalised, atol=1e-3) for first in whole),
        what="the values that the model is given",
        want=f"(pixels / 255 - mean) / std: {case.normalised.min():.2f} to {case.normalised.max():.2f}",
        got=f"{whole[0].min():.4g} to {whole[0].max():.4g}, and never the normalised picture as it is",
        otherwise="0–255 against 0–1: divide by 255, then take the mean off and divide by std, channel by channel; "
        "the channels move by permute, not by reshape",
    )


class _PictureCase:
    """A picture, its superpixels and a small network, whose answer is not class 1."""

    size, grid, classes = 24, 4, 4

    def __init__(self, rng: np.random.Generator, samples: int) -> None:
        self.seed, self.samples = int(rng.integers(1000)), samples
        coarse = rng.integers(0, 256, (self.grid, self.grid, 3))
        step = self.size // self.grid
        flat = np.repeat(np.repeat(coarse, step, 0), step, 1)
        self.picture = np.clip(flat + rng.integers(-20, 20, flat.shape), 0, 255).astype(np.uint8)
        numbers = np.arange(self.grid**2).reshape(self.grid, self.grid)
        self.segments = np.repeat(np.repeat(numbers, step, 0), step, 1)
        self.mean, self.std = rng.uniform(0.4, 0.5, 3), rng.uniform(0.2, 0.3, 3)
        self.filters = rng.normal(0, 1, (8, 3, 6, 6)).astype(np.float32)
        self.weights = rng.normal(0, 1, (self.classes, 8)).astype(np.float32)
        self.superpixels = self.grid**2
        self.bias = np.zeros(self.classes, np.float32)
        logits = self._logits(self.normalised[None])[0]
        self.weights *= 1.5 / logits.std()  # neither sure nor indifferent
        self.weights[[1, int(logits.argmax())]] = self.weights[[int(logits.argmax()), 1]]
        self.weights[[1, 2]] = self.weights[[2, 1]]  # the answer is class 2, class 1 is another one

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.picture, self.segments, self.mean, self.std, self.samples, self.seed

    @property
    def normalised(self) -> Array:
        """(3, h, w) as the network wants it."""
        return np.asarray((self.picture / 255 - self.mean) / self.std, dtype=np.float32).transpose(2, 0, 1)

    def _logits(self, x: Array) -> Array:
        import torch
        import torch.nn.functional as F

        maps = F.conv2d(torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(self.filters) / 10, stride=6).relu()
        return (maps.mean((2, 3)) @ torch.from_numpy(self.weights).T).numpy()

    def model(self, notes: list[dict[str, Any]]) -> Any:
        """A torch module in training mode, which notes how it is called."""
        import torch
        import torch.nn.functional as F
        from torch import nn

        filters, weights = torch.from_numpy(self.filters) / 10, torch.from_numpy(self.weights)

        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.convolution = nn.Conv2d(3, 8, 6, stride=6, bias=False)
                self.dropout = nn.Dropout(0.5)
                self.head = nn.Linear(8, len(weights), bias=False)
                with torch.no_grad():
                    self.convolution.weight.copy_(filters)
                    self.head.weight.copy_(weights)

            def forward(self, x: Any) -> Any:
                first = x[0].detach().float().numpy()
                shape, grad = tuple(x.shape), torch.is_grad_enabled()
                notes.append({"shape": shape, "training": self.training, "grad": grad, "first": first})
                if x.shape[1] != 3:  # channels last: answer anyway, as a network with adaptive layers would
                    x = F.interpolate(x[:, :3].mean(1, keepdim=True).expand(-1, 3, -1, -1), (24, 24))
                return self.head(self.dropout(self.convolution(x).relu().mean((2, 3))))

        return Net().train()

    def explained(self, slip: str = "") -> dict[str, Any]:
        """By lime, with one slip or none."""
        from helpers.explanation.lime_image import FastLimeImageExplainer

        def predict(pictures: Array) -> Array:
            x = ((pictures / 255 - self.mean) / self.std).transpose(0, 3, 1, 2).astype(np.float32)
            logits = self._logits(x)
            if slip == "logits":
                return logits
            powers = np.exp(logits - logits.max(1, keepdims=True))
            return np.asarray(powers / powers.sum(1, keepdims=True))

        samples = self.samples if slip == "few" else max(self.samples, 10 * self.superpixels)
        explainer = FastLimeImageExplainer(random_state=self.seed, progress=False)
        found = explainer.explain_instance(
            self.picture,
            predict,
            top_labels=self.classes,
            num_samples=samples,
            batch_size=64,
            segmentation_fn=lambda _: self.segments,
        )
        label = int(found.top_labels[0])
        pairs = found.local_exp[1 if slip == "label 1" else label]
        weights = np.array([w for _, w in (pairs if slip == "order" else sorted(pairs))])
        mask = found.get_image_and_mask(label, positive_only=True, num_features=3)[1]
        return {"label": label, "probability": predict(self.picture[None])[0, label], "weights": weights, "mask": mask}


from helpers.exercises import interpretability_trust  # noqa: E402, F401 - registers 5.4 and 5.6 to 5.9
