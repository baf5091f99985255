"""The checks and hints of notebook 01: what is asked of the ten answers about training data.

Each check computes what it expects in another way than the reference solution does (Python integers, sets, pairs),
and lays a trap for each usual mistake. What they do not catch: an answer that is right but too slow for real data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np

from helpers.exercises.registry import exercise
from helpers.exercises.trial import Mistake, Trial

Answer = Callable[..., Any]
Array = np.ndarray[Any, Any]

PRIME = 2**31 - 1


# ---------------------------------------------------------------------------------------------------- 1.1 leak


@exercise(
    "1.1",
    title="A feature that knows the answer",
    parts=("leak_score",),
    difficulty=3,
    minutes=15,
    asked_as="Your model has an AUC of 0.99 on the first day. What do you check?",
    hints=(
        "Write one inner function for the folded AUC of any score, and use it twice: for the present values, "
        "and for 'is missing'.",
        "The AUC needs only ranks: add up the ranks of the positives, take off the smallest sum they could have, "
        "n1 * (n1 + 1) / 2, and divide by the number of pairs.",
        "Tied values share their mean rank: `scipy.stats.rankdata` does that; `argsort` twice does not. "
        "Before dividing: is one of the classes empty among these rows?",
        "`rank_sum = rankdata(score)[positive].sum()`; `auc = (rank_sum - n1 * (n1 + 1) / 2) / (n1 * n0)`; "
        "`max(auc, 1 - auc)`; "
        "then the larger of `folded(x[~missing], y[~missing])` and `folded(missing, y)`.",
    ),
)
def leak(trial: Trial, leak_score: Answer) -> None:
    for what, x, y, mistakes, otherwise in _leak_cases(trial.rng):
        with trial.forbid(
            "sklearn.metrics.roc_auc_score", "sklearn.metrics.roc_curve", why="the AUC from ranks or pairs"
        ):
            got = trial.call(leak_score, x, y)
        trial.is_type(got, (int, float), what="the score", otherwise="one number, the larger of the two folded AUCs")
        trial.close(got, _leak(x, y), what=what, mistakes=mistakes, otherwise=otherwise)
    trial.raises(
        ValueError,
        leak_score,
        x,
        np.ones_like(y),
        what="a target of one class is refused",
        otherwise="without both classes there is no pair to rank: raise ValueError rather than return NaN or 0.5",
    )


LeakCase = tuple[str, Array, Array, Sequence[Mistake], str]


def _leak_cases(rng: np.random.Generator) -> Iterator[LeakCase]:
    n = 2 * int(rng.integers(30, 60))
    y = rng.permutation(np.repeat([0, 1], [n // 2 + 6, n // 2 - 6]))
    noise = rng.normal(size=n)
    missing = np.zeros(n, dtype=bool)
    for c in (0, 1):
        missing[np.flatnonzero(y == c)[:6]] = True
    tied = _tied_feature(rng, y, missing)
    yield (
        "the AUC of a good feature with ties and gaps",
        tied,
        y,
        _auc_mistakes(tied, y),
        "ties count one half, gaps stay out of the ranking",
    )
    yield (
        "a feature that ranks the classes the wrong way round",
        -tied,
        y,
        (),
        "fold the AUC, max(auc, 1 - auc): 0.1 tells as much as 0.9",
    )
    yield (
        "a constant feature",
        np.ones(n),
        np.sort(y),
        (),
        "ties count one half (tied values share their mean rank): the order of the rows must not matter, and "
        "a constant knows nothing",
    )
    for reverse in (False, True):
        x = noise.copy()
        x[(y == 0 if reverse else y == 1) & (rng.random(n) < 0.8)] = np.nan
        x[np.flatnonzero(y == (0 if reverse else 1))[:3]] = (-0.5, 0.0, 0.5)  # both classes stay present
        yield (
            f"noise that is missing mostly in class {0 if reverse else 1}",
            x,
            y,
            (),
            "fold each of the two AUCs before taking the larger: few gaps among the positives tell as much as many"
            if reverse
            else "that a value is missing can be the leak: score the indicator np.isnan(x) on all rows as well",
        )
    yield (
        "a feature without values",
        np.full(n, np.nan),
        y,
        (),
        "no present row and no difference in missingness: 0.5, nothing is known",
    )
    yield (
        "a feature present in one class only",
        np.where((y == 1) & (np.arange(n) % 2 == 0), noise, np.nan),
        y,
        (),
        "among the present rows there is one class only: that AUC counts as 0.5, the indicator's decides",
    )


def _tied_feature(rng: np.random.Generator, y: Array, missing: Array) -> Array:
    """Powers of 3, higher in class 1 and missing where told, drawn so that every usual mistake has its own value."""
    while True:
        x = 3.0 ** np.round(1.5 * y + rng.normal(size=len(y)))
        x[missing] = np.nan
        values = [_leak(x, y), *(mistake.value for mistake in _auc_mistakes(x, y))]
        if len({round(value, 6) for value in values}) == len(values):
            return x


def _leak(x: Array, y: Array) -> float:
    gap = np.isnan(x)
    return max(_folded(x[~gap], y[~gap]), _folded(gap.astype(float), y))


def _folded(score: Array, y: Array, tie: float = 0.5) -> float:
    auc = _pair_auc(score, y, tie)
    return max(auc, 1 - auc)


def _pair_auc(score: Array, y: Array, tie: float = 0.5) -> float:
    """The AUC by its definition: over all pairs of a positive and a negative row."""
    pairs = np.subtract.outer(score[y == 1], score[y == 0])
    return float(np.mean((pairs > 0) + tie * (pairs == 0))) if pairs.size else 0.5


def _auc_mistakes(x: Array, y: Array) -> tuple[Mistake, ...]:
    gap = np.isnan(x)
    known, of = x[~gap], y[~gap]
    n1, n0 = int(of.sum()), int((1 - of).sum())
    ranks = np.empty(len(known))
    ranks[np.argsort(known, kind="stable")] = np.arange(1, len(known) + 1)
    by_place = float((ranks[of == 1].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))
    filled = {"0": 0.0, "the median": np.median(known), "the mean": np.mean(known)}
    found = [
        (_folded(known, of, tie=0.0), "tied pairs count nothing here: they count one half"),
        (_folded(known, of, tie=1.0), "tied pairs count as won here: they count one half"),
        (by_place, "ties are ranked by their place in the array: tied values share their mean rank"),
        (
            _folded(np.where(gap, known.max() + 1, x), y),
            "gaps were ranked as the largest values: rank the present rows only",
        ),
        *(
            (_folded(np.where(gap, filler, x), y), f"gaps were filled with {name}: rank the present rows only")
            for name, filler in filled.items()
        ),
        (
            abs(float(np.corrcoef(known, of)[0, 1])),
            "this is a correlation: an AUC needs ranks only, and 0.5 means nothing is known",
        ),
    ]
    return tuple(Mistake(max(value, _folded(gap.astype(float), y)), text) for value, text in found)


# ---------------------------------------------------------------------------------------------------- 1.2 preprocessing


@exercise(
    "1.2",
    title="Preprocessing that does not leak",
    parts=("prepare",),
    difficulty=2,
    minutes=12,
    asked_as="Where do you fit the imputer and the scaler, and what happens if you fit them before the split?",
    hints=(
        "Separate the two steps that libraries call fit and transform: what is estimated (from what?), and "
        "to what is it applied?",
        "Estimated from train alone: the medians, and then, on the filled training part, mean and standard deviation. "
        "Applied to both parts with the same numbers.",
        "`np.nanmedian(train, axis=0)` and `np.where(np.isnan(part), median, part)` fill without touching the input. "
        "Which divisor does a constant column need? What is the median of a column without values?",
        "`filled = np.where(np.isnan(train), median, train)`; `mean = filled.mean(axis=0)`; `scale = "
        "filled.std(axis=0)`; "
        "set scale to 1 where the column is constant; return `(filled - mean) / scale` and the same for test with the "
        "same median, mean and scale; last, set the columns where `np.isnan(train).all(axis=0)` to 0 in both.",
    ),
)
def preprocessing(trial: Trial, prepare: Answer) -> None:
    for what, train, test, otherwise in _parts_to_prepare(trial.rng):
        got = trial.call(prepare, train, test)
        trial.is_type(got, (tuple, list), what="the result", otherwise="return both parts: (train_ready, test_ready)")
        want, mistakes = _prepared(train, test), _preparing_mistakes(train, test)
        for i, name in enumerate(("train_ready", "test_ready")):
            trial.is_array(
                got[i],
                want[i].shape,
                kind="f",
                what=name,
                otherwise="a float array of the same shape as the input: convert integers first, and drop no column",
            )
            trial.close(
                got[i],
                want[i],
                what=f"{name} with {what}",
                mistakes=[Mistake(value[i], text) for value, text in mistakes],
                otherwise=otherwise,
            )


def _parts_to_prepare(rng: np.random.Generator) -> Iterator[tuple[str, Array, Array, str]]:
    # 18 rows and more: with 16 and 17 equal numbers no rounding error is left, see _decimal_without_zero_spread
    n, m, d = int(rng.integers(18, 30)), int(rng.integers(5, 12)), int(rng.integers(2, 5))
    train, test = rng.lognormal(size=(n, d)), 3 + 2 * rng.lognormal(size=(m, d))  # skewed: the mean is not the median
    for part, gaps in ((train, n // 4), (test, 2)):
        for column in part.T:
            column[rng.permutation(len(column))[:gaps]] = np.nan
    usual = (
        "fill with the training medians, then subtract the mean and divide by the standard deviation of the "
        "filled training part"
    )
    yield "gaps in both parts", train, test, usual
    yield "one test row", train, test[:1], "a test part of one row gets the training part's statistics like any other"
    whole = rng.integers(0, 50, (n, d)), rng.integers(0, 50, (m, d))
    yield "whole numbers", *whole, usual
    for name, constant, otherwise in (
        (
            "a constant column",
            float(rng.integers(2, 9)),
            "the standard deviation of a constant column is 0: divide by 1 there instead (a tiny number added to "
            "it blows up what differs in the test part)",
        ),
        (
            "a constant column of a decimal fraction",
            _decimal_without_zero_spread(rng, n, d),
            "in floating point the standard deviation of a constant column need not be exactly 0, so `std == 0` "
            "misses it: compare minimum and maximum, or the standard deviation with a tiny share of the mean",
        ),
    ):
        fixed = train.copy()
        fixed[:, 0] = constant
        yield name, fixed, test, otherwise
    void, some = train.copy(), test.copy()
    void[:, -1] = np.nan
    yield (
        "a column without a training value",
        void,
        some,
        "nothing is known about a column without training values: 0 in both parts, whatever the test part holds",
    )


def _decimal_without_zero_spread(rng: np.random.Generator, n: int, d: int) -> float:
    """A number like 98.6: n times the same, and rounding leaves a standard deviation of some 1e-14."""
    while True:
        value = round(float(rng.uniform(20, 100)), 1)
        # row after row, as numpy adds up the columns of a table, and pairwise, as it adds up a single column
        if np.full((n, d), value).std(axis=0)[0] and np.full(n, value).std():
            return value


def _prepared(
    train: Array, test: Array, fill: str = "median", ddof: int = 0, before: bool = False
) -> tuple[Array, Array]:
    """Column by column, value by value: what `prepare` should give, and with options what usual mistakes give."""
    ready = [np.zeros(train.shape), np.zeros(test.shape)]
    for j in range(train.shape[1]):
        known = train[:, j][~np.isnan(train[:, j])]
        if not len(known):
            continue
        filler = {"median": np.median(known), "mean": np.mean(known), "zero": 0.0}[fill]
        filled = known if before else np.append(known, [filler] * (len(train) - len(known)))
        centre, spread = np.mean(filled), np.std(filled, ddof=ddof) if np.ptp(filled) else 1.0
        for out, part in zip(ready, (train, test), strict=True):
            out[:, j] = [((filler if np.isnan(v) else v) - centre) / spread for v in part[:, j]]
    return ready[0], ready[1]


def _preparing_mistakes(train: Array, test: Array) -> list[tuple[tuple[Array, Array], str]]:
    both, n = np.vstack([train, test]), len(train)
    together = _prepared(both, both)[0]
    alone = _prepared(train, train)[0], _prepared(test, test)[0]
    return [
        (
            (together[:n], together[n:]),
            "the statistics come from both parts together, so test rows shape the training features: use train only",
        ),
        (alone, "the test part was prepared with its own statistics: use those of the training part"),
        (_prepared(train, test, ddof=1), "this divides by n - 1 (ddof=1, the default of pandas): ddof=0 is asked"),
        (_prepared(train, test, fill="mean"), "gaps were filled with the mean: the median is asked"),
        (
            _prepared(train, test, fill="zero"),
            "gaps were filled with 0 before standardising: fill with the training median",
        ),
        (
            _prepared(train, test, before=True),
            "mean and standard deviation were taken before the gaps were filled: fill first",
        ),
    ]


# ---------------------------------------------------------------------------------------------------- 1.3 split


@exercise(
    "1.3",
    title="A split that nothing straddles",
    parts=("grouped_split",),
    difficulty=4,
    minutes=20,
    asked_as="The same patients appear several times and some rows are near-duplicates. How do you split?",
    hints=(
        "First find the blocks that cannot be taken apart, then draw blocks. Rows are linked by a shared "
        "group or a shared cluster, "
        "and links chain: this is a graph.",
        "Let groups and clusters be the nodes, and each row an edge between its group and its cluster. "
        "A block is a connected component (`scipy.sparse.csgraph.connected_components`, or union-find).",
        "Shuffle the blocks with `np.random.default_rng(seed).permutation(...)` and fill the test part with "
        "them in that order. "
        "The cumulative sum of the block sizes says how many rows it holds after each; stop nearest to test_share * n.",
        "Leave the last block of the shuffled order out, so that the training part is never empty: "
        "`filled = np.cumsum(sizes[order])[:-1]`; `cut = np.argmin(np.abs(filled - test_share * n)) + 1`; "
        "`in_test = np.isin(block_of_row, order[:cut])`; return `np.flatnonzero(~in_test), np.flatnonzero(in_test)`.",
    ),
)
def split(trial: Trial, grouped_split: Answer) -> None:
    rng = trial.rng
    seed = int(rng.integers(1000))
    groups, clusters, joined = _equal_labels(rng)
    got = _two_parts(trial, grouped_split, groups, clusters, seed)
    trial.that(
        bool(np.intersect1d(joined[got[0]], joined[got[1]]).size),
        what="the rows of group 3 and those of cluster 3 may come apart",
        want="some of 40 such pairs with one label in each part",
        got="all 40 pairs on one side",
        otherwise="group 3 and cluster 3 are different things, an equal label in the two arrays is no link: "
        'name the nodes ("group", 3) and ("cluster", 3), or number the clusters after the groups',
    )
    for groups, clusters, otherwise in _linked_rows(rng):
        got = _two_parts(trial, grouped_split, groups, clusters, seed)
        both = [
            f"{kind} {values[0]!r}"
            for kind, of in (("group", groups), ("cluster", clusters))
            if (values := np.intersect1d(of[got[0]], of[got[1]]).tolist())
        ]
        trial.that(
            not both,
            what="no group and no cluster is in both parts",
            want="none",
            got=", ".join(both),
            otherwise=otherwise,
        )

    again = trial.call(grouped_split, groups, clusters, 0.3, seed)
    trial.that(
        np.array_equal(again[1], got[1]),
        what="the same seed gives the same split",
        want=got[1],
        got=again[1],
        otherwise="all randomness comes from np.random.default_rng(seed), made inside the function",
    )
    others = [trial.call(grouped_split, groups, clusters, 0.3, seed + i)[1] for i in range(1, 6)]
    trial.that(
        not all(np.array_equal(other, got[1]) for other in others),
        what="another seed gives another split",
        want="different test rows",
        got="the same test rows for 6 seeds",
        otherwise="the seed is not used: shuffle the blocks with np.random.default_rng(seed)",
    )

    sizes = rng.permutation(np.repeat([10, 1], 40))
    groups = np.repeat(np.arange(80), sizes)
    held_out = []
    for seed in range(80):
        part = trial.call(grouped_split, groups, np.arange(440), 0.3, seed)
        share = len(part[1]) / 440
        trial.that(
            abs(share - 0.3) <= 10.000001 / 440,
            what="the share of rows in the test part, with a largest block of 10 of 440 rows",
            want="0.3 ± 0.023",
            got=f"{share:.3f}",
            otherwise="test_share is a share of the rows, not of the blocks: add "
            "whole blocks until their rows come near it"
            if abs(share - 0.7) > 0.05
            else "the parts have changed places: (train_rows, test_rows)",
        )
        held_out.append(np.isin(np.arange(80), groups[part[1]]))
    _must_be_drawn(trial, np.array(held_out), sizes)
    for groups, share in ((np.repeat([0, 1], [9, 1]), 0.5), (np.repeat([0, 1], 5), 0.2), (np.repeat([0, 1], 5), 0.8)):
        for seed in range(30):
            part = trial.call(grouped_split, groups, np.arange(10), share, seed)
            trial.that(
                len(part[0]) > 0 and len(part[1]) > 0,
                what="both parts hold at least one block",
                want="two parts with rows",
                got=f"{len(part[0])} training rows, {len(part[1])} test rows",
                otherwise="the first block always goes in the test part and the last one never, whatever their size",
            )
    trial.raises(
        ValueError,
        grouped_split,
        np.array(["a", "a", "b", "b"]),
        np.array([0, 1, 1, 2]),
        0.5,
        0,
        what="rows that all hang together in one block are refused",
        otherwise="one block cannot be on both sides: raise ValueError rather than return an empty part",
    )


def _two_parts(trial: Trial, grouped_split: Answer, groups: Array, clusters: Array, seed: int) -> Any:
    """The answer's (train_rows, test_rows), once they are sorted positions that hold every row once."""
    got = trial.call(grouped_split, groups, clusters, 0.3, seed)
    trial.that(
        isinstance(got, tuple | list) and len(got) == 2,
        what="the split has two parts",
        want="(train_rows, test_rows)",
        got=got,
        otherwise="return two arrays of row positions, the training rows first",
    )
    for rows in got:
        trial.is_array(
            rows,
            (None,),
            kind="iu",
            what="each part",
            otherwise="positions of rows as an int array: np.flatnonzero turns a mask into positions",
        )
        trial.equal(
            rows,
            np.sort(rows),
            what="the positions are sorted",
            otherwise="sort each part: np.sort, or np.flatnonzero of a mask",
        )
    trial.equal(
        np.sort(np.concatenate(got)),
        np.arange(len(groups)),
        what="every row is in exactly one part",
        otherwise="no row may get lost or appear twice: the parts complete each other, and hold positions 0 … "
        "n-1, not "
        "labels",
    )
    return got


def _must_be_drawn(trial: Trial, held_out: Array, sizes: Array) -> None:
    """held_out (seeds, blocks): is the draw of the blocks random, as far as two simple statistics show?

    A right answer holds out each block with a probability of 0.28 to 0.6, whether it stops at, before or nearest to
    the share, or goes on with smaller blocks: that one of 80 blocks is never (or always) held out in 80 seeds has a
    probability below 1e-9. Two blocks are then on the same side in at most 60 % of the seeds; that half of the blocks
    have another that goes with them in 95 % of 80 seeds is rarer still.
    """
    often = held_out.mean(axis=0)
    stuck = np.flatnonzero((often == 0) | (often == 1))
    trial.that(
        not len(stuck),
        what=f"each of {len(sizes)} blocks is held out with some of {len(held_out)} seeds, and not with others",
        want="no block that is always on the same side",
        got=f"{len(stuck)} such blocks, of sizes {np.unique(sizes[stuck]).tolist()}",
        otherwise="blocks must be drawn at random whatever their size, not the largest or the smallest first: "
        "a test part of large blocks stands for large blocks only",
    )
    side = 2.0 * held_out - 1
    together = (1 + side.T @ side / len(side)) / 2
    np.fill_diagonal(together, 0)
    trial.that(
        float(np.median(together.max(axis=1))) < 0.95,
        what="the blocks are drawn independently of each other",
        want="no two blocks that go together with nearly every seed",
        got=f"{np.sum(together.max(axis=1) >= 0.95)} of {len(sizes)} blocks have another that goes with them",
        otherwise="the seed only moves the starting point in a fixed order, so neighbours stay together: "
        "shuffle the blocks, np.random.default_rng(seed).permutation",
    )


def _equal_labels(rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """(groups, clusters, joined): 80 blocks that only equal labels in the two arrays would join, to the 40 `joined`."""
    order = np.argsort(rng.random(80))  # not rng.permutation: an answer with the same seed would draw the very same one
    partner, pair = np.empty(80, dtype=int), np.empty(80, dtype=int)
    partner[order] = order.reshape(40, 2)[:, ::-1].ravel()
    pair[order] = np.repeat(np.arange(40), 2)
    groups = np.repeat(np.arange(80), 3)
    clusters = np.arange(240) + 80
    clusters[::3] = partner  # the first row of group g is in the cluster that is named like its partner
    return groups, clusters, pair[groups]


def _linked_rows(rng: np.random.Generator) -> Iterator[tuple[Array, Array, str]]:
    """(groups, clusters, what went wrong if they straddle): groups alone, clusters alone, then chains of both."""
    sizes = rng.integers(2, 7, 30)
    names = rng.permutation(np.repeat(_words(rng, 30), sizes))
    alone = rng.permutation(len(names))
    yield names, alone, "rows of one group came apart: draw whole groups, not rows and not (group, cluster) pairs"
    yield alone, names, "duplicates came apart: rows that share a cluster belong together whatever their group"
    yield (
        *_chains(rng, rng.integers(5, 9, 25)),
        "links chain (A and B share a group, B and C a cluster, so A, B and C are one block): one pass over "
        "groups and clusters "
        "is not enough, use connected components",
    )
    yield (
        *_chains(rng, np.full(20, 40)),
        "a chain can be long, here 40 rows: no fixed number of rounds is enough, spread the labels until "
        "nothing changes, or use connected components",
    )


def _chains(rng: np.random.Generator, lengths: Array) -> tuple[Array, Array]:
    """Shuffled rows g0-c0, g1-c0, g1-c1, g2-c1, …: each shares its group or its cluster with the next of its chain."""
    groups, clusters = [], []
    fresh = count()
    for links in lengths:
        g, c = next(fresh), next(fresh)
        for step in range(links):
            groups.append(g)
            clusters.append(c)
            g, c = (next(fresh), c) if step % 2 else (g, next(fresh))
    order = rng.permutation(len(groups))
    return np.array(groups)[order], np.array(clusters)[order]


# ---------------------------------------------------------------------------------------------------- 1.4 class weights


@exercise(
    "1.4",
    title="Balanced class weights",
    parts=("balanced_class_weights",),
    difficulty=1,
    minutes=8,
    asked_as="Your positive class is 2 % of the data. What weights do you give the loss?",
    hints=(
        "Two demands fix the weights: every class has the same total weight, and all rows together weigh n.",
        "So each of the k classes weighs n / k in total; its rows share that equally.",
        "`np.unique(y, return_counts=True)` gives the labels that occur (integers or strings) with their counts.",
        "`labels, counts = np.unique(y, return_counts=True)`; "
        "`{label: len(y) / (len(labels) * count) for label, count in zip(labels, counts)}`",
    ),
)
def class_weights(trial: Trial, balanced_class_weights: Answer) -> None:
    rng = trial.rng
    names = np.array(_words(rng, 4))
    for labels in (np.array([0, 1, 2]), np.array([2, 5, 9]), names, names[:1]):
        counts = rng.integers((41, 17, 5, 2), (60, 25, 9, 4))[: len(labels)]
        y = rng.permutation(np.repeat(labels, counts[: len(labels)]))
        by = "sklearn.utils.class_weight"
        with trial.forbid(f"{by}.compute_class_weight", f"{by}.compute_sample_weight", why="the formula written out"):
            got = trial.call(balanced_class_weights, y)
        trial.is_type(got, dict, what="the weights", otherwise="a dictionary: label → weight of a row with that label")
        found = Counter(y.tolist())
        trial.close(
            got,
            {c: len(y) / (len(found) * m) for c, m in found.items()},
            what="the weight of each label",
            mistakes=_weight_mistakes(found, len(y)),
            otherwise="n / (k * count); the keys are the labels that occur, as they are (2, 5, 9 or texts)",
        )


def _weight_mistakes(found: Counter[Any], n: int) -> tuple[Mistake, ...]:
    def weights(of: Callable[[int], float]) -> dict[Any, float]:
        return {label: of(m) for label, m in found.items()}

    k, most, inverse = len(found), max(found.values()), sum(1 / m for m in found.values())
    return (
        Mistake(weights(lambda m: 1 / m), "this is 1 / count, which makes the whole loss tiny: multiply by n / k"),
        Mistake(
            weights(lambda m: n / m),
            "this is n / count: divide by the number of classes k as well, so that the weights sum to n",
        ),
        Mistake(
            weights(lambda m: m / n), "this is the frequency, which favours the common class even more: turn it round"
        ),
        Mistake(
            weights(lambda m: 1 - m / n),
            "1 - frequency is not balanced with unequal counts: each class must weigh n / k in total",
        ),
        Mistake(
            weights(lambda m: most / m),
            "the largest class gets weight 1 here, so the weights sum to more than n: use n / k, not the largest count",
        ),
        Mistake(
            weights(lambda m: 1 / m / inverse), "normalised to sum 1 over the classes: over the rows they must sum to n"
        ),
        Mistake(weights(lambda m: n / (2 * m)), "k is fixed at 2 here: count the classes"),
        Mistake(weights(lambda m: n // (k * m)), "`//` rounds down to a whole number: divide with `/`"),
        Mistake(
            lambda: weights(lambda m: n / ((max(found) + 1) * m)),
            "k is the number of classes that occur, not the largest label plus 1",
        ),
    )


# ---------------------------------------------------------------------------------------------------- 1.5 label errors


@exercise(
    "1.5",
    title="Label errors by confident learning",
    parts=("confident_issues",),
    difficulty=4,
    minutes=20,
    asked_as="How would you find mislabelled rows without relabelling everything?",
    hints=(
        "Three steps: a threshold for each class, a guess for each row, a comparison with the label. Each is "
        "one or two lines.",
        "Thresholds: `probabilities[labels == k, k].mean()`: the rows labelled k, their column k. "
        "A class without rows gets infinity, so that nobody reaches it.",
        "`confident = probabilities >= threshold` has the shape (n, k). The guess is the most probable of "
        "the confident classes: "
        "put -inf (or 0) where not confident and take the argmax; rows without any confident class are never issues.",
        "`guess = np.where(confident, probabilities, -np.inf).argmax(axis=1)`; "
        "`return confident.any(axis=1) & (guess != labels) & (probabilities.argmax(axis=1) != labels)`",
    ),
)
def label_errors(trial: Trial, confident_issues: Answer) -> None:
    for what, (labels, probabilities, clear), otherwise in _label_cases(trial.rng):
        library = ("filter.find_label_issues", "count.compute_confident_joint", "count.get_confident_thresholds")
        with trial.forbid(*(f"cleanlab.{name}" for name in library), why="the three steps written out"):
            got = trial.call(confident_issues, labels, probabilities)
        trial.is_array(
            got,
            labels.shape,
            kind="b",
            what="the mask",
            otherwise="a bool for every row, True where the label is probably wrong (not the positions of those rows)",
        )
        want = _issues(labels, probabilities)
        trial.equal(
            np.where(clear, got, want),
            want,
            what=f"the issues of {len(labels)} rows{what}",
            mistakes=[
                Mistake(np.where(clear, value, want), text) for value, text in _issue_mistakes(labels, probabilities)
            ],
            otherwise=otherwise,
        )


Labelled = tuple[Array, Array, Array]


def _label_cases(rng: np.random.Generator) -> Iterator[tuple[str, Labelled, str]]:
    usual = (
        "an issue is a row with a guess (the most probable of the classes whose threshold it reaches) "
        "that differs from the label, and whose label is not the most probable class"
    )
    yield "", _labelled(rng), usual
    for place in ("last", "other"):
        where = "the last one" if place == "last" else "not the last one"
        yield f" when a class labels no row ({where})", _labelled(rng, place), usual
    yield (
        " when all rows of a class have the same probability",
        _alike(rng),
        "a row that just reaches the threshold is confident, p >= t: in a class of equal rows all are",
    )


def _alike(rng: np.random.Generator) -> Labelled:
    """Every row labelled with one class reaches its threshold exactly: quarters and eighths leave no rounding error."""
    labels = np.repeat([0, 1, 2], 8)
    p = np.repeat([[6, 1, 1], [1, 6, 1], [1, 1, 6]], 8, axis=0) / 8
    p[:2] = p[8]  # labelled 0, and like every row of class 1
    names, order = rng.permutation(3), rng.permutation(24)
    return names[labels][order], p[:, np.argsort(names)][order], np.ones(24, dtype=bool)


def _thresholds(labels: Array, p: Array) -> list[float]:
    """Mean probability of each class over the rows labelled so; infinity for a class without rows."""
    own = [[p[i, k] for i in range(len(p)) if labels[i] == k] for k in range(p.shape[1])]
    return [float(np.mean(values)) if values else np.inf for values in own]


def _issues(labels: Array, p: Array, thresholds: list[float] | None = None, spare_top: bool = True) -> Array:
    """Row by row, as the paper says (Northcutt et al. 2021), with cleanlab's last step."""
    bars = _thresholds(labels, p) if thresholds is None else thresholds
    found = []
    for label, row in zip(labels, p, strict=True):
        confident = [k for k, bar in enumerate(bars) if row[k] >= bar]
        guess = max(confident, key=lambda k: row[k], default=label)
        found.append(guess != label and not (spare_top and row.argmax() == label))
    return np.array(found, dtype=bool)


def _labelled(rng: np.random.Generator, absent: str | None = None) -> Labelled:
    """(labels, probabilities, clear): rows in which every usual mistake shows, without the "last" or an "other" class.

    `clear` leaves out rows that rounding decides, or on which the paper and cleanlab differ (several classes confident,
    another one more probable).
    """
    while True:
        n, k = int(rng.integers(240, 320)), int(rng.integers(4, 6))
        gone = {None: None, "last": k - 1, "other": int(rng.integers(k - 1))}[absent]
        classes = np.array([c for c in range(k) if c != gone])
        true = rng.choice(classes, n)
        labels = np.where(rng.random(n) < 0.2, rng.choice(classes, n), true)
        sharp = np.linspace(0.4, 5, k)[rng.permutation(k)]  # the model is surer of some classes than of others
        alpha = np.full((n, k), 0.5)
        alpha[np.arange(n), true] += sharp[true]
        p = np.array([rng.dirichlet(row) for row in alpha])
        bars = np.array(_thresholds(labels, p))
        confident = p >= bars
        elsewhere = ~confident[np.arange(n), p.argmax(axis=1)]
        clear = (np.abs(p - bars).min(axis=1) > 1e-5) & ~((confident.sum(axis=1) > 1) & elsewhere)
        want = _issues(labels, p)
        masks = [np.where(clear, value, want) for value, _ in _issue_mistakes(labels, p)]
        differ = all((mask != want).sum() > 1 for mask in masks)
        if differ and len({mask.tobytes() for mask in masks}) >= len(masks) - 1:  # argmax and means over all rows agree
            return labels, p, clear


def _issue_mistakes(labels: Array, p: Array) -> list[tuple[Array, str]]:
    rows, classes = np.arange(len(p)), range(p.shape[1])
    top, own, bars = p.argmax(axis=1), p[rows, labels], np.array(_thresholds(labels, p))
    other = np.arange(p.shape[1]) != labels[:, None]
    medians = [float(np.median(p[labels == k, k])) if (labels == k).any() else np.inf for k in classes]
    guessed = [float(p[top == k, k].mean()) if (top == k).any() else np.inf for k in classes]
    found = [
        (
            top != labels,
            "every disagreement with the most probable class is flagged: the guess must reach the threshold of "
            "its class (a mean over all rows is far too low)",
        ),
        (_issues(labels, p, [0.5] * len(bars)), "a fixed threshold of 0.5 is not the class's own mean confidence"),
        (_issues(labels, p, [float(own.mean())] * len(bars)), "one threshold for all classes: each class has its own"),
        (
            _issues(labels, p, p.mean(axis=0).tolist()),
            "the thresholds are means over all rows: take only the rows labelled with the class",
        ),
        (_issues(labels, p, medians), "the thresholds are medians: the mean is asked"),
        (
            _issues(labels, p, guessed),
            "the thresholds are means over the rows predicted as the class: take the rows labelled with it",
        ),
        (
            own < bars[labels],
            "low confidence in the label alone is not an issue: another class must reach its threshold",
        ),
        (
            _issues(labels, p, spare_top=False),
            "the last step is missing: a row whose label is the most probable class of all is no issue",
        ),
        (
            ((p >= bars) & other).any(axis=1),
            "any confident other class counts here: only the most probable one is the guess",
        ),
        (
            (p[rows, top] >= bars[top]) & (top != labels),
            "only the most probable class of all is asked whether it is confident: a less probable class may be "
            "the only one that reaches its threshold, and is then the guess",
        ),
        (
            (p - bars).argmax(axis=1) != labels,
            "the guess is the class with the largest p - threshold here, reached or not: "
            "take the most probable of the classes that reach theirs",
        ),
    ]
    if np.isinf(bars).any():
        found.append(
            (
                _issues(labels, p, np.where(np.isinf(bars), 0, bars).tolist()),
                "a class that labels no row got the threshold 0, so everybody is in it: nobody is",
            )
        )
    if np.isinf(bars[:-1]).any():
        by_place = [*bars[np.isfinite(bars)].tolist(), np.inf]
        found.append(
            (
                _issues(labels, p, by_place),
                "the thresholds are numbered by their place among the labels that occur: threshold k belongs to "
                "class k, also when a class before it labels no row",
            )
        )
    return found


# ---------------------------------------------------------------------------------------------------- 1.6 MinHash


@exercise(
    "1.6",
    title="MinHash signature",
    parts=("minhash_signature", "estimate_jaccard"),
    difficulty=2,
    minutes=15,
    asked_as="You have a billion documents. How do you find the near-duplicates without comparing all pairs?",
    hints=(
        "Draw a table: one row per hash function, one column per shingle. What is asked for is one number per row.",
        "Broadcasting builds the table at once: `a[:, None] * shingles + b[:, None]`, then the modulo. "
        "The products need 62 bits: what happens to them in int32, and in float64?",
        "Which axis of the table runs over the shingles? The minimum goes over that one. "
        "The estimate compares position by position: value i of one signature only ever meets value i of the other.",
        "`x, a, b = (np.asarray(v, dtype=np.int64) for v in (shingles, a, b))`, then "
        "`((a[:, None] * x + b[:, None]) % PRIME).min(axis=1)`; the estimate is `np.mean(first == second)` "
        "after a test that both have the same length.",
    ),
)
def minhash(trial: Trial, minhash_signature: Answer, estimate_jaccard: Answer) -> None:
    rng = trial.rng
    for n, k, dtype in ((40, 9, np.int64), (int(rng.integers(2, 30)), 33, np.int64), (50, 12, np.int32)):
        x, a, b = (rng.integers(PRIME // 2, PRIME, size).astype(dtype) for size in (n, k, k))
        got = trial.call(minhash_signature, x, a, b)
        trial.is_array(
            got,
            (k,),
            np.int64,
            what="the signature",
            otherwise="k whole numbers in int64, one for each hash function: make the inputs int64 first, "
            "then take the minimum over the shingles (axis 1 of the k × n table)",
        )
        want = [min((i * s + j) % PRIME for s in x.tolist()) for i, j in zip(a.tolist(), b.tolist(), strict=True)]
        trial.equal(
            got,
            np.array(want),
            what=f"the signature of {n} shingles in {np.dtype(dtype)}",
            mistakes=_signature_mistakes(*(part.astype(np.int64) for part in (x, a, b))),
            otherwise="entry i is the smallest (a[i] * x + b[i]) % PRIME over all shingles x",
        )
    trial.raises(
        ValueError,
        minhash_signature,
        x[:0],
        a,
        b,
        what="an empty document is refused",
        otherwise="a placeholder would make all empty documents look like duplicates of each other",
    )

    k = 4 * int(rng.integers(8, 20))
    first, second = _half_equal(rng, k)
    got = trial.call(estimate_jaccard, first, second)
    trial.is_type(
        got,
        (int, float),
        what="the estimate",
        otherwise="one number, the share of equal positions: take the mean of the comparison",
    )
    trial.close(
        got,
        0.5,
        what="the share of equal positions",
        mistakes=(
            Mistake(k // 2, "this is the number of equal positions: divide by the length"),
            Mistake(0.75, "values are looked up anywhere in the other signature: position i only meets position i"),
            Mistake(0.6, "this treats the signatures as sets: position i only meets position i"),
            Mistake(
                1 / 3,
                "equal / (2k - equal) is the Jaccard formula for sets; the share of equal positions is it already",
            ),
        ),
        otherwise="the number of equal positions divided by their number: np.mean(first == second)",
    )
    for short in (first[:1], first[:-1]):
        trial.raises(
            ValueError,
            estimate_jaccard,
            short,
            second,
            what="signatures of different lengths are refused",
            otherwise="zip cuts and broadcasting stretches without a word: compare the lengths first",
        )


def _signature_mistakes(x: Array, a: Array, b: Array) -> tuple[Mistake, ...]:
    table = (a[:, None] * x + b[:, None]) % PRIME
    short = [part.astype(np.int32) for part in (a, x, b)]
    wrapped = ((short[0][:, None] * short[1] + short[2][:, None]) % PRIME).min(axis=1)
    inexact = ((a[:, None].astype(float) * x + b[:, None]) % PRIME).min(axis=1)
    return (
        Mistake(
            (a * x.min() + b) % PRIME, "this hashes the smallest shingle: hash all shingles, then take the minimum"
        ),
        Mistake(table.max(axis=1), "this is the largest hash, not the smallest"),
        Mistake(table.argmin(axis=1), "this is the position of the smallest hash: argmin, where min is asked"),
        Mistake((a[:, None] * x + b[:, None]).min(axis=1), "the modulo is missing: % PRIME comes before the minimum"),
        Mistake(
            (a[:, None] * x % PRIME + b[:, None]).min(axis=1), "the modulo comes after adding b: (a * x + b) % PRIME"
        ),
        Mistake(inexact.astype(np.int64), "float64 holds 53 bits exactly and the products need 62: compute in int64"),
        Mistake(wrapped, "int32 products overflow without a word: convert to int64 before multiplying"),
        Mistake(
            np.sort(table[0])[: len(a)],
            "these are the smallest values of one hash function; k functions give one minimum each",
        ),
    )


def _half_equal(rng: np.random.Generator, k: int) -> tuple[Array, Array]:
    """Two signatures: half of the positions agree, a quarter holds the same values elsewhere, a quarter others."""
    values = rng.choice(PRIME, size=k + k // 4, replace=False)
    first, quarter = values[:k], k // 4
    second = np.concatenate([first[: 2 * quarter], np.roll(first[2 * quarter : 3 * quarter], 1), values[k:]])
    order = rng.permutation(k)
    return first[order], second[order]


# ---------------------------------------------------------------------------------------------------- 1.7 bands


@exercise(
    "1.7",
    title="Bands and rows",
    parts=("collision_probability", "choose_bands"),
    difficulty=2,
    minutes=10,
    asked_as="How do you choose the bands and rows of an LSH index for a similarity threshold of 0.8?",
    hints=(
        "Build it up: one row agrees with probability s. All rows of one band? That band not? No band at "
        "all? At least one?",
        "All r rows: s**r. 'At least one' is one minus 'none': none of b bands is (1 - s**r)**b.",
        "More rows always lower the probability: start with all hashes in one band and take rows away "
        "until the probability at the threshold reaches the recall.",
        "`for rows in range(num_hashes, 0, -1):` `bands = num_hashes // rows`; return `(bands, rows)` as soon as "
        "`collision_probability(threshold, bands, rows) >= recall`; after the loop raise ValueError.",
    ),
)
def bands(trial: Trial, collision_probability: Answer, choose_bands: Answer) -> None:
    rng = trial.rng
    b, r = 2 * int(rng.integers(6, 12)) + 1, int(rng.integers(3, 9))
    steep = (1 / b) ** (1 / r)
    for s in (steep, np.array([[0.0, 0.6 * steep, 0.9 * steep], [steep, 1.1 * steep, 1.0]])):
        trial.close(
            trial.call(collision_probability, s, b, r),
            1 - (1 - s**r) ** b,
            what="the probability of sharing a band",
            mistakes=(
                Mistake((1 - (1 - s) ** r) ** b, "any row of every band: it is all rows of at least one band"),
                Mistake(1 - (1 - s**b) ** r, "bands and rows have changed places: a band has `rows` rows"),
                Mistake((1 - s**r) ** b, "this is the probability that no band agrees: take one minus it"),
                Mistake(s**r, "this is the probability for one band: there are several chances"),
                Mistake(b * s**r, "probabilities of bands do not add up (this exceeds 1): one minus 'no band agrees'"),
                Mistake(s ** (r * b), "all bands at once: one band is enough"),
            ),
            otherwise="1 - (1 - s**rows)**bands, elementwise: a number for a number, an array for an array of the same "
            "shape",
        )

    for num_hashes, threshold, options in _band_cases(rng):
        recall = options.get("recall", 0.9)
        got = trial.call(choose_bands, num_hashes, threshold, **options)
        trial.is_type(got, (tuple, list), what="the choice", otherwise="return both: (bands, rows)")
        trial.that(
            all(isinstance(v, int | np.integer) for v in got),
            what="bands and rows are whole numbers",
            want="two ints",
            got=", ".join(map(repr, got)),
            otherwise="bands = num_hashes // rows: the division rounds down, `/` gives a float",
        )
        want = _most_rows(num_hashes, threshold, recall)
        trial.equal(
            tuple(got),
            want,
            what=f"(bands, rows) for {num_hashes} hashes, threshold {threshold:.2f}, recall {recall:.2f}",
            mistakes=(
                Mistake(want[::-1], "this is (rows, bands): bands come first"),
                Mistake(
                    lambda n=num_hashes, t=threshold, q=recall: _most_rows(n, t, q, divisors=True),
                    "only divisors of num_hashes were tried: bands = num_hashes // rows may leave hashes unused",
                ),
                Mistake(
                    lambda n=num_hashes, t=threshold: _nearest_step(n, t),
                    "the rule (1/bands)**(1/rows) puts the middle of the curve at the threshold, "
                    "where about 63 % are found: ask for the recall",
                ),
                Mistake(
                    (num_hashes, 1), "one row per band finds nearly all, with most false candidates: take the most rows"
                ),
                Mistake(
                    lambda n=num_hashes, t=threshold: _most_rows(n, t, 0.9),
                    "the recall is an argument: 0.9 is only its default",
                ),
            ),
            otherwise="the largest rows with collision_probability(threshold, num_hashes // rows, rows) >= recall",
        )
    trial.raises(
        ValueError,
        choose_bands,
        int(rng.integers(2, 6)),
        0.05,
        0.99,
        what="a recall that cannot be reached is refused",
        otherwise="when even rows = 1 falls short, say so: a silent fallback would lose pairs that were promised",
    )


def _most_rows(num_hashes: int, threshold: float, recall: float, divisors: bool = False) -> tuple[int, int]:
    rows = max(
        r
        for r in range(1, num_hashes + 1)
        if _found(threshold, num_hashes // r, r) >= recall and not (divisors and num_hashes % r)
    )
    return num_hashes // rows, rows


def _found(s: float, bands: int, rows: int) -> float:
    return float(-np.expm1(bands * np.log1p(-(s**rows))))


def _nearest_step(num_hashes: int, threshold: float) -> tuple[int, int]:
    rows = min(range(1, num_hashes + 1), key=lambda r: abs((1 / (num_hashes // r)) ** (1 / r) - threshold))
    return num_hashes // rows, rows


def _band_cases(rng: np.random.Generator) -> Iterator[tuple[int, float, dict[str, float]]]:
    """The shown case, then random ones in which every usual mistake shows and rounding decides nothing."""
    yield 128, 0.8, {}
    for wanted in ((0.95, 0.995), (0.5, 0.8), (0.95, 0.995)):
        while True:
            n, t, q = int(rng.integers(60, 300)), float(rng.uniform(0.4, 0.9)), float(rng.uniform(*wanted))
            best = _most_rows(n, t, q)
            others = _most_rows(n, t, q, divisors=True), _nearest_step(n, t), _most_rows(n, t, 0.9)
            if len({best, best[::-1], *others}) < 5:
                continue
            edges = (_found(t, n // r, r) for r in (best[1], best[1] + 1))
            if best[1] > 1 and all(abs(edge - q) > 1e-6 for edge in edges):
                break
        yield n, t, {"recall": q}


# ---------------------------------------------------------------------------------------------------- 1.8 contamination


@exercise(
    "1.8",
    title="Benchmark contamination",
    parts=("ngram_overlap",),
    difficulty=2,
    minutes=15,
    asked_as="How would you find out whether your benchmark leaked into the training set?",
    hints=(
        "One small function does most of the work: a text in, the list of its n-grams out. How many are "
        "there in a text of t tokens?",
        "t - n + 1, or none when t < n. Make them tuples, so that they can be looked up in a set. "
        "A list keeps an n-gram that occurs twice, a set does not: which do you need on which side?",
        "Collect the training n-grams document by document in one set (nothing then runs over a border), "
        "and count, for each item, how many of its n-grams are in it.",
        "`tokens = tokenise(text)`; `[tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]`; "
        "`seen = {gram for document in training for gram in ngrams(document)}`; the share is "
        "`sum(gram in seen for gram in grams) / len(grams)`, or `np.nan` where there are no grams.",
    ),
)
def contamination(trial: Trial, ngram_overlap: Answer) -> None:
    for what, training, benchmark, n, want, mistakes, otherwise in _overlap_cases(trial.rng):
        got = trial.call(ngram_overlap, training, benchmark, n)
        trial.is_array(
            got,
            (len(benchmark),),
            kind="f",
            what="the shares",
            otherwise="a float array with one share for each benchmark item: np.array(shares, dtype=float)",
        )
        trial.close(got, want, what=what, mistakes=mistakes, otherwise=otherwise)


OverlapCase = tuple[str, list[str], list[str], int, list[float], tuple[Mistake, ...], str]


def _overlap_cases(rng: np.random.Generator) -> Iterator[OverlapCase]:
    n = int(rng.integers(3, 7))
    words = _words(rng, 80)
    first, second, fresh = words[:20], words[20:40], words[40:]
    text = " ".join
    training = [text(first), text(second)]
    half = text(first[: n + 2] + fresh[: n + 3])  # n + 6 n-grams, of which 3 are copied
    yield (
        "an item of which 3 n-grams are copied",
        training,
        [half],
        n,
        [3 / (n + 6)],
        (
            Mistake([1.0], "one match counts as everything here: the share of the item's n-grams is asked"),
            Mistake([3.0], "this is the number of matches: divide by the number of the item's n-grams"),
            Mistake([3 / (n + 5)], "the last n-gram is missing: there are len(tokens) - n + 1 of them"),
            Mistake([3 / (2 * (21 - n))], "this is the share of the training n-grams: divide by the item's"),
            Mistake([3 / (2 * (21 - n) + n + 3)], "this divides by the union (Jaccard): divide by the item's n-grams"),
            Mistake([(n + 2) / (2 * n + 5)], "single tokens were compared: compare runs of n tokens"),
            Mistake(
                [0.0], "nothing was found: runs of n tokens are compared, and n is an argument, 13 only its default"
            ),
            Mistake(
                [np.nan],
                "the item has more than n tokens, so its share is a number: n is an argument, 13 only its default",
            ),
        ),
        "the number of the item's n-grams that occur in a training document, divided by their number",
    )
    yield (
        "an item copied with other capitals and commas",
        [". ".join(first).title()],
        [", ".join(first[3 : n + 7]).upper()],
        n,
        [1.0],
        (),
        "case and punctuation must not hide a copy: tokenise both sides, the training documents and the items",
    )
    yield (
        "an item that runs from the end of one document into the next",
        training,
        [text(first[-(n - 1) :] + second[: n - 1])],
        n,
        [0.0],
        (),
        "n-grams run over the border between two training documents: collect them document by document",
    )
    yield (
        "an item with the words of a document in reverse order",
        training,
        [text(first[: n + 3][::-1])],
        n,
        [0.0],
        (),
        "the order of the tokens counts: keep each n-gram as a tuple, not as a set and not sorted",
    )
    yield (
        "an item that repeats a copied n-gram",
        training,
        [text(first[:n] * 2)],
        n,
        [2 / (n + 1)],
        (Mistake([1 / n], "each n-gram counts once here (a set): by position the repeated one counts twice"),),
        "every position of the item counts, also when its n-gram has come before",
    )
    yield (
        "an item of exactly n tokens, copied",
        training,
        [text(first[5 : 5 + n])],
        n,
        [1.0],
        (),
        "n tokens make one n-gram: range(len(tokens) - n + 1), and too short is fewer than n",
    )
    yield (
        "an item of n - 1 tokens",
        training,
        [text(first[: n - 1]), text(fresh[: n - 1])],
        n,
        [np.nan, np.nan],
        (Mistake([0.0, 0.0], "0 says 'clean', but an item without n-grams cannot be tested: NaN"),),
        "an item of fewer than n tokens has no n-grams: NaN",
    )
    cut = [first[4][1:], *first[5 : n + 3], first[n + 3][:-1]]
    yield (
        "an item whose first and last word are only parts of words",
        training,
        [text(cut)],
        n,
        [0.0],
        (),
        "a piece of a word was found inside a longer one: compare whole tokens, not text",
    )
    yield (
        "no training documents",
        [],
        [half, text(first[:1])],
        n,
        [0.0, np.nan],
        (),
        "nothing can be contaminated by nothing: 0 for an item with n-grams, NaN for one that is too short",
    )
    many, items = _many_items(rng, words[:5])
    yield (
        "ten items at once",
        many,
        items,
        3,
        _shares(many, items, 3),
        (),
        "each item is compared with all training documents, and keeps its place",
    )


def _many_items(rng: np.random.Generator, vocabulary: list[str]) -> tuple[list[str], list[str]]:
    """Four documents and ten items of random words, drawn so that every document matters."""
    while True:
        drawn = [" ".join(rng.choice(vocabulary, size=size)) for size in (9, 8, 9, 8, *rng.integers(1, 12, 10))]
        training, items = drawn[:4], drawn[4:]
        want = _shares(training, items, 3)
        fewer = [_shares(training[:i] + training[i + 1 :], items, 3) for i in range(4)]
        if not any(np.array_equal(want, shares, equal_nan=True) for shares in fewer):
            return training, items


def _shares(training: list[str], benchmark: list[str], n: int) -> list[float]:
    """By search in text: the tokens are made-up words with single spaces between them."""
    padded = [f" {document} " for document in training]  # spaces at the ends: whole words only
    shares = []
    for tokens in map(str.split, benchmark):
        runs = [" ".join(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        hits = [any(f" {run} " in document for document in padded) for run in runs]
        shares.append(float(np.mean(hits)) if hits else float("nan"))
    return shares


def _words(rng: np.random.Generator, number: int) -> list[str]:
    """Different made-up words of three syllables."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    found: dict[str, None] = {}
    while len(found) < number:
        found["".join(rng.choice(syllables, size=3))] = None
    return list(found)


# ---------------------------------------------------------------------------------------------------- 1.9 Vendi


@exercise(
    "1.9",
    title="Vendi score",
    parts=("vendi_from_similarity",),
    difficulty=3,
    minutes=10,
    asked_as="You have a million samples. How many *different* ones is that?",
    hints=(
        "The eigenvalues of K / n are a probability distribution: why do they sum to 1? Then it is an "
        "entropy, and one more step.",
        "The matrix is symmetric: which function of np.linalg gives real eigenvalues for such a matrix?",
        "Entropy is -sum(p * log(p)) over the eigenvalues above 0 (rounding leaves some at -1e-17), with the "
        "natural logarithm; "
        "its exponential turns it into a number of items.",
        "`w = np.linalg.eigvalsh(similarity / len(similarity))`; `w = w[w > 0]`; `np.exp(-np.sum(w * np.log(w)))`; "
        "first a ValueError unless `np.allclose(np.diagonal(similarity), 1)`.",
    ),
)
def vendi(trial: Trial, vendi_from_similarity: Answer) -> None:
    for what, similarity, want in _similarities(trial.rng):
        with trial.forbid(
            "vendi_score.vendi.score_K", "vendi_score.vendi.score", why="eigenvalues and entropy written out"
        ):
            got = trial.call(vendi_from_similarity, similarity)
        trial.is_type(
            got,
            (int, float),
            what="the score",
            otherwise="one real number: a symmetric matrix has real eigenvalues, np.linalg.eigvalsh gives them as such",
        )
        trial.close(
            got,
            want,
            what=f"the score of {what}",
            mistakes=_vendi_mistakes(similarity, want),
            otherwise="the exponential of -sum(p * log(p)) over the eigenvalues p of K / n",
        )
    for what, refused, otherwise in _wrong_diagonals(trial.rng, similarity):
        trial.raises(ValueError, vendi_from_similarity, refused, what=what, otherwise=otherwise)


def _wrong_diagonals(rng: np.random.Generator, similarity: Array) -> Iterator[tuple[str, Array, str]]:
    """(what, matrix, what went wrong if it is accepted): each has another way to look right at a quick glance."""
    yield (
        "a matrix without ones on its diagonal is refused",
        similarity * float(rng.uniform(0.5, 0.8)),
        "the eigenvalues of K / n sum to 1 only if the diagonal is 1: test it, a wrong scale gives a plausible number",
    )
    diagonal = np.ones(int(rng.integers(3, 8)))
    diagonal[rng.permutation(np.arange(1, len(diagonal)))[:2]] = 1.5, 0.5
    yield (
        "a diagonal with 1.5 and 0.5 beside the ones is refused",
        np.diag(diagonal),
        "the trace is n here, and still not every item has similarity 1 to itself: test each entry of the diagonal",
    )
    diagonal = np.ones(len(diagonal))
    diagonal[-1] = 1.2
    yield (
        "a diagonal with a single 1.2 is refused",
        np.diag(diagonal),
        "more than 1 on the diagonal is wrong as well: test each entry, in both directions",
    )


def _similarities(rng: np.random.Generator) -> Iterator[tuple[str, Array, float]]:
    """Matrices whose score is known without their eigenvalues: by singular values of the vectors, or by counting."""
    n = int(rng.integers(5, 12))
    yield f"{n} different items", np.eye(n), float(n)
    vectors = rng.normal(size=(3 * n, 4)) + 0.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    energy = np.linalg.svd(vectors, compute_uv=False) ** 2 / len(vectors)
    similarity = vectors @ vectors.T
    yield f"{3 * n} items in 4 dimensions", (similarity + similarity.T) / 2, float(np.prod(energy**-energy))
    sizes = np.append(rng.integers(1, 4, 3), rng.integers(5, 9))
    kind = rng.permutation(np.repeat(np.arange(4), sizes))
    shares = sizes / sizes.sum()
    yield "copies of 4 items", (kind[:, None] == kind).astype(float), float(np.prod(shares**-shares))
    yield f"{n} copies of one item", np.ones((n, n)), 1.0


def _vendi_mistakes(similarity: Array, want: float) -> tuple[Mistake, ...]:
    n, entropy = len(similarity), float(np.log(want))

    def order_two() -> float:
        return float(n**2 / np.sum(similarity**2))  # 1 / sum of squared eigenvalues of K / n

    def unscaled() -> float:  # eigenvalues n * p: -sum(n p log(n p)) = n * (entropy - log n)
        return float(np.exp(n * (entropy - np.log(n))))

    return (
        Mistake(unscaled, "the eigenvalues of K itself sum to n, not to 1: divide by n first"),
        Mistake(entropy, "this is the entropy: its exponential is the number of items"),
        Mistake(
            entropy / np.log(2),
            "this is the entropy in bits: the exponential of the one with the natural logarithm is asked",
        ),
        Mistake(
            np.exp(entropy / np.log(2)), "logarithm to base 2 under an exponential to base e: use the natural logarithm"
        ),
        Mistake(1 / want, "the sign is missing: the entropy is minus the sum of p * log(p)"),
        Mistake(
            np.nan, "the logarithm of 0, or of an eigenvalue a hair below 0, gave NaN: use the eigenvalues above 0 only"
        ),
        Mistake(
            lambda: float(np.linalg.matrix_rank(similarity)),
            "this is the rank: it counts rare kinds like frequent ones",
        ),
        Mistake(order_two, "this is 1 / sum(p**2), the effective number of order 2: the entropy is asked"),
        Mistake(
            lambda: float(n / np.mean(similarity.sum(axis=1))),
            "this is n over the mean row sum: the eigenvalues are asked",
        ),
    )


# --------------------------------------------------------------------------------------------------- 1.10 fix this code


@exercise(
    "1.10",
    title="Fix this code",
    parts=("train_and_score",),
    difficulty=4,
    minutes=25,
    asked_as="Review this training script. What is wrong with it, and what does each mistake do to the score?",
    hints=(
        "Follow one test row through the script: which numbers that it helped to compute reach the model "
        "before it is scored?",
        "Then follow the labels: what happens to them in preprocess? And which of the script's results is "
        "never used again?",
        "Split positions first: `train_test_split(np.arange(len(table)), test_size=0.25, stratify=y, "
        "random_state=seed)`. "
        "Everything that is fitted goes in one Pipeline, fitted on the training rows only; the labels stay "
        "as they are.",
        '`make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), '
        'LogisticRegression(class_weight="balanced", max_iter=1000))`',
        "The rarest class is `labels[counts.argmin()]` from `np.unique(y, return_counts=True)`; its recall is "
        "`np.mean(model.predict(features.iloc[rare_rows]) == rarest)` over the test rows that carry that label.",
    ),
)
def fix_this_code(trial: Trial, train_and_score: Answer) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    rng = trial.rng
    names = _words(rng, 3)
    for counts in (dict(zip(names, (1210, 90), strict=False)), dict(zip(names, (500, 80, 220), strict=True))):
        table, target = _imbalanced(rng, counts), "kind"
        features, y = table.drop(columns=target), table[target].to_numpy()
        rarest = min(counts, key=lambda label: counts[label])
        for seed in rng.permutation(1000)[:5].tolist():
            got = trial.call(train_and_score, table, target, seed)
            trial.is_type(
                got, dict, what="the result", otherwise="a dictionary: model, train_rows, test_rows, minority_recall"
            )
            wanted = {"model", "train_rows", "test_rows", "minority_recall"}
            trial.that(
                wanted <= got.keys(),
                what="the result has all its entries",
                want=", ".join(sorted(wanted)),
                got=", ".join(map(str, got)),
                otherwise="keep the rows and the model with the score: without them nobody can check it",
            )
            model, train_rows, test_rows = got["model"], got["train_rows"], got["test_rows"]
            trial.is_type(
                model,
                Pipeline,
                what="the model",
                otherwise="imputer, scaler and classifier travel together in one "
                "Pipeline, so that raw rows can be predicted",
            )
            for rows in (train_rows, test_rows):
                trial.is_array(
                    rows,
                    (None,),
                    kind="iu",
                    what="the rows of a part",
                    otherwise="positions as an int array: split np.arange(len(table))",
                )
            trial.equal(
                np.sort(np.concatenate([train_rows, test_rows])),
                np.arange(len(table)),
                what="every row is in exactly one part",
                otherwise="row positions 0 … n-1 are asked (for iloc), not the "
                "table's index labels, and no row may be dropped",
            )
            held_out = {label: int(np.sum(y[test_rows] == label)) for label in counts}
            trial.that(
                all(abs(held_out[label] - counts[label] / 4) <= 1 for label in counts),
                what="a quarter of each class is held out, to within one row",
                want={label: round(counts[label] / 4, 1) for label in counts},
                got=held_out,
                otherwise="stratify=y with test_size=0.25: otherwise chance "
                "decides how many rare rows the score rests on",
            )
            try:
                predicted = model.predict(features)
            except Exception as error:
                trial.fail(
                    "the model predicts raw rows",
                    expected=f"labels from model.predict(table.drop(columns={target!r}))",
                    got=f"{type(error).__name__}: {str(error)[:90]}",
                    otherwise="raw rows with gaps must go in: imputer and scaler are the first steps of the Pipeline",
                )
            trial.that(
                set(np.unique(predicted).tolist()) <= set(counts),
                what="the model answers with the original labels",
                want=", ".join(counts),
                got=np.unique(predicted),
                otherwise="the target is not preprocessed: scikit-learn takes "
                "labels as they are, and decodes what it encodes",
            )
            hit = predicted == y
            rare_test, rare_train = (rows[y[rows] == rarest] for rows in (test_rows, train_rows))
            said_rare = test_rows[predicted[test_rows] == rarest]
            trial.close(
                got["minority_recall"],
                hit[rare_test].mean(),
                what="the recall of the rarest class on the test rows",
                mistakes=(
                    Mistake(hit[test_rows].mean(), "this is the accuracy over all classes, which hides the rare one"),
                    Mistake(
                        hit[said_rare].mean() if len(said_rare) else 0.0,
                        "this is the precision: divide by the rows that are of the class",
                    ),
                    Mistake(
                        np.mean([hit[test_rows[y[test_rows] == label]].mean() for label in counts]),
                        "this is the mean recall over all classes: the rarest one's is asked",
                    ),
                    Mistake(hit[rare_train].mean(), "this is the recall on the training rows: score the test rows"),
                    Mistake(
                        hit[y == rarest].mean(),
                        "this is the recall over all rows, training rows included: score the test rows",
                    ),
                ),
                otherwise="among the test rows of the rarest class, the share that the model predicts as that class",
            )

        trial.that(
            isinstance(_last_step(model), LogisticRegression),
            what="the last step of the Pipeline",
            want="LogisticRegression",
            got=type(_last_step(model)).__name__,
            otherwise="keep the logistic regression: a mended script that also changes the model cannot be compared "
            "with the old one",
        )
        says = _says(model, features.iloc[train_rows], y[train_rows])
        heavy = max(says, key=lambda label: says[label])
        trial.that(
            max(abs(say - 1 / len(counts)) for say in says.values()) < 0.1,
            what="each class has the same say in the loss",
            want=f"a predicted probability of about {1 / len(counts):.2f} for each, averaged over equal classes",
            got=", ".join(f"{label} ({counts[label]} rows): {say:.2f}" for label, say in says.items()),
            otherwise="the weights of the classes are not balanced, the rare class has the largest say now: "
            'n / (k * count) for each, which is class_weight="balanced"'
            if heavy == rarest
            else 'the class weights are not used: class_weight="balanced" (or sample weights) in the fit',
        )
        spoilt = table.copy()
        spoilt.loc[spoilt.index[test_rows], features.columns] = features.iloc[test_rows].fillna(0) * 40 + 300
        other = trial.call(train_and_score, spoilt, target, seed)
        trial.that(
            np.array_equal(other["test_rows"], test_rows),
            what="the same seed holds out the same rows",
            want=test_rows,
            got=other["test_rows"],
            otherwise="random_state=seed in the split: a score that nobody can repeat cannot be checked",
        )
        trial.close(
            other["model"].predict_proba(features.iloc[train_rows]),
            model.predict_proba(features.iloc[train_rows]),
            what="the model stays the same when only the test rows' features change",
            otherwise="test rows reach the model: something (imputer, scaler or classifier) was fitted on all rows; "
            "split first, then fit the Pipeline on the training rows",
        )
        another = trial.call(train_and_score, table, target, seed + 1)
        trial.that(
            not np.array_equal(another["test_rows"], test_rows),
            what="another seed holds out other rows",
            want="other test rows",
            got="the same test rows",
            otherwise="the seed is fixed inside the function: random_state=seed",
        )


def _last_step(model: Any) -> Any:
    """The classifier at the end of a Pipeline, of a Pipeline in a Pipeline too."""
    return _last_step(model[-1]) if hasattr(model, "steps") else model


def _says(model: Any, features: Any, y: Array) -> dict[str, float]:
    """Label → its mean predicted probability, over the training rows with each class weighing the same.

    Where a logistic regression with a free intercept has reached its minimum, this is the class's share of the weights
    it was fitted with, whatever the penalty: 1 / k with balanced weights. Leaving out common rows at random instead
    spreads it by 0.014 (one standard deviation in these tables), hence the wide tolerance of the check.
    """
    probability = model.predict_proba(features)
    means = np.mean([probability[y == label].mean(axis=0) for label in model.classes_], axis=0)
    return dict(zip(model.classes_.tolist(), means.tolist(), strict=True))


def _rows_of(rng: np.random.Generator, place: int, number: int) -> Any:
    """Feature rows of the class at this place: four overlapping clouds, one unit out along an axis each."""
    import pandas as pd

    values = rng.normal(size=(number, 4))
    values[:, place] += 1
    return pd.DataFrame(10 * values + 50, columns=["length", "width", "height", "weight"])


def _imbalanced(rng: np.random.Generator, counts: dict[str, int]) -> Any:
    """A shuffled table of these classes (column "kind"), with gaps and an index that is not 0 … n-1."""
    import pandas as pd

    features = pd.concat([_rows_of(rng, place, number) for place, number in enumerate(counts.values())])
    features = features.mask(rng.random(features.shape) < 0.05)
    features.insert(1, "kind", np.repeat(list(counts), list(counts.values())))
    order = rng.permutation(len(features))
    return features.iloc[order].set_index(order + 1000)
