"""Wrong and other right answers to the exercises of notebook 01, as candidates give them."""

import math
import re
from collections import Counter

import numpy as np
import pandas as pd
import scipy.linalg
from cleanlab.filter import find_label_issues
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import mannwhitneyu, rankdata
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score, roc_curve
from sklearn.model_selection import GroupShuffleSplit, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import LabelEncoder, StandardScaler
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from . import right, wrong

PRIME = 2**31 - 1


def tokenise(text):
    return re.findall(r"\w+", text.lower())


# --- 1.1 leak ---------------------------------------------------------------------------------------------------


def _auc(score, y, ranks=rankdata):
    n1, n0 = int((y == 1).sum()), int((y == 0).sum())
    if n1 == 0 or n0 == 0:
        return 0.5
    return float((ranks(score)[y == 1].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def _fold(auc):
    return max(auc, 1 - auc)


def _both_classes(y):
    if len(np.unique(y)) < 2:
        raise ValueError("one class only")


def _score(x, y, auc=_auc, value=None, fill=None):
    _both_classes(y)
    gap = np.isnan(x)
    if fill is not None and not gap.all():
        values = _fold(auc(np.where(gap, fill(x[~gap]), x), y))
    else:
        values = _fold(auc(x[~gap], y[~gap])) if value is None else value(x[~gap], y[~gap])
    return max(values, _fold(_auc(gap, y)))


def _place_in_array(score):
    ranks = np.empty(len(score))
    ranks[np.argsort(score, kind="stable")] = np.arange(1, len(score) + 1)
    return ranks


@wrong("1.1", names="not folded", reason=r"fold the AUC")
def leak_unfolded(x, y):
    gap = np.isnan(x)
    _both_classes(y)
    return max(_auc(x[~gap], y[~gap]), _auc(gap, y))


@wrong("1.1", names="folded after the larger one was taken", reason=r"fold the AUC")
def leak_folded_late(x, y):
    gap = np.isnan(x)
    _both_classes(y)
    return _fold(max(_auc(x[~gap], y[~gap]), _auc(gap, y)))


@wrong("1.1", names="the indicator not folded", reason=r"fold each of the two AUCs")
def leak_indicator_unfolded(x, y):
    gap = np.isnan(x)
    _both_classes(y)
    return max(_fold(_auc(x[~gap], y[~gap])), _auc(gap, y))


@wrong("1.1", names="tied pairs count nothing", reason=r"tied pairs count nothing here")
def leak_ties_lost(x, y):
    def strict(score, of):
        return float(np.mean(np.subtract.outer(score[of == 1], score[of == 0]) > 0)) if len(set(of)) == 2 else 0.5

    return _score(x, y, auc=strict)


@wrong("1.1", names="ranks by argsort twice", reason=r"tied values share their mean rank")
def leak_argsort(x, y):
    return _score(x, y, auc=lambda s, of: _auc(s, of, ranks=_place_in_array))


@wrong("1.1", names="gaps ranked as the largest", reason=r"ranked as the largest values")
def leak_gaps_largest(x, y):
    return _score(x, y, fill=lambda known: known.max() + 1)


@wrong("1.1", names="gaps filled with 0", reason=r"gaps were filled with 0")
def leak_gaps_zero(x, y):
    return _score(x, y, fill=lambda known: 0.0)


@wrong("1.1", names="gaps filled with the median", reason=r"gaps were filled with the median")
def leak_gaps_median(x, y):
    return _score(x, y, fill=np.median)


@wrong("1.1", names="gaps filled with the mean", reason=r"gaps were filled with the mean")
def leak_gaps_mean(x, y):
    return _score(x, y, fill=np.mean)


@wrong("1.1", names="gaps left in the ranking", reason=r"gaps stay out of the ranking")
def leak_gaps_left(x, y):
    _both_classes(y)
    return max(_fold(_auc(x, y)), _fold(_auc(np.isnan(x), y)))


@wrong("1.1", names="correlation", reason=r"this is a correlation")
def leak_correlation(x, y):
    return _score(x, y, value=lambda known, of: abs(float(np.corrcoef(known, of)[0, 1])))


@wrong("1.1", names="missingness ignored", reason=r"score the indicator np\.isnan\(x\)")
def leak_no_indicator(x, y):
    gap = np.isnan(x)
    _both_classes(y)
    return _fold(_auc(x[~gap], y[~gap]))


@wrong("1.1", names="divides by zero pairs", reason=r"no present row and no difference in missingness")
def leak_zero_pairs(x, y):
    def careless(score, of):
        positive = of == 1
        n1, n0 = np.int64(positive.sum()), np.int64((~positive).sum())
        with np.errstate(all="ignore"):
            return (rankdata(score)[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0)

    return _score(x, y, auc=careless)


@wrong("1.1", names="one class present is a perfect leak", reason=r"that AUC counts as 0\.5")
def leak_one_class_present(x, y):
    return _score(x, y, auc=lambda s, of: 1.0 if len(of) and len(set(of)) == 1 else _auc(s, of))


@wrong("1.1", names="both scores", reason=r"one number, the larger")
def leak_both(x, y):
    gap = np.isnan(x)
    _both_classes(y)
    return _fold(_auc(x[~gap], y[~gap])), _fold(_auc(gap, y))


@wrong("1.1", names="roc_auc_score", reason=r"written without sklearn.metrics.roc_auc_score")
def leak_library(x, y):
    gap = np.isnan(x)
    return max(_fold(roc_auc_score(y[~gap], x[~gap])), _fold(roc_auc_score(y, gap)))


@wrong("1.1", names="roc_curve", reason=r"written without sklearn.metrics.roc_curve")
def leak_curve(x, y):
    return _score(x, y, auc=lambda s, of: float(np.trapezoid(*roc_curve(of, s)[1::-1])))


@wrong("1.1", names="one class gives 0.5", reason=r"there is no pair to rank")
def leak_one_class(x, y):
    gap = np.isnan(x)
    return max(_fold(_auc(x[~gap], y[~gap])), _fold(_auc(gap, y)))


@right("1.1", names="all pairs in a loop")
def leak_pairs(x, y):
    def auc(score, of):
        wins = [(p > q) + (p == q) / 2 for p in score[of == 1] for q in score[of == 0]]
        return sum(wins) / len(wins) if wins else 0.5

    return _score(x, y, auc=auc)


@right("1.1", names="the Mann-Whitney statistic, float32")
def leak_mann_whitney(x, y):
    def auc(score, of):
        one, two = score[of == 1], score[of == 0]
        return mannwhitneyu(one, two).statistic / (len(one) * len(two)) if len(one) and len(two) else 0.5

    return np.float64(_score(x, y, auc=auc))


@right("1.1", names="mean ranks by np.unique")
def leak_unique(x, y):
    def mean_ranks(score):
        _, at, counts = np.unique(score, return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[at]

    return _score(x, y, auc=lambda s, of: _auc(s, of, ranks=mean_ranks))


# --- 1.2 preprocessing ------------------------------------------------------------------------------------------


def _ready(train, test, fit=None, fill=np.nanmedian, **std):
    """The reference in other words, with the places to go wrong as arguments."""
    train, test = np.array(train, dtype=float), np.array(test, dtype=float)
    fit = train if fit is None else np.array(fit, dtype=float)
    empty = np.isnan(train).all(axis=0)
    fit = np.where(empty, 0.0, fit)
    filler = fill(fit, axis=0)
    filled = np.where(np.isnan(fit), filler, fit)
    scale = filled.std(axis=0, **std)
    scale[scale < 1e-12] = 1
    return tuple(
        np.where(empty, 0.0, (np.where(np.isnan(p), filler, p) - filled.mean(axis=0)) / scale) for p in (train, test)
    )


@wrong("1.2", names="statistics of both parts", reason=r"come from both parts together")
def prepare_together(train, test):
    return _ready(train, test, fit=np.vstack([train, test]))


@wrong("1.2", names="each part by itself", reason=r"prepared with its own statistics")
def prepare_alone(train, test):
    return _ready(train, train)[0], _ready(test, test)[0]


@wrong("1.2", names="n - 1", reason=r"ddof=0 is asked")
def prepare_ddof(train, test):
    return _ready(train, test, ddof=1)


@wrong("1.2", names="filled with the mean", reason=r"filled with the mean: the median is asked")
def prepare_mean(train, test):
    return _ready(train, test, fill=np.nanmean)


@wrong("1.2", names="filled with 0", reason=r"filled with 0 before standardising")
def prepare_zero(train, test):
    return _ready(train, test, fill=lambda part, axis: np.zeros(part.shape[1]))


@wrong("1.2", names="scaled before filling", reason=r"before the gaps were filled: fill first")
def prepare_scaled_first(train, test):
    mean, scale = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
    filler = np.nanmedian(train, axis=0)
    return tuple((np.where(np.isnan(p), filler, p) - mean) / scale for p in (train, test))


@wrong("1.2", names="gaps left in", reason=r"fill with the training medians")
def prepare_gaps_left(train, test):
    mean, scale = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
    return (train - mean) / scale, (test - mean) / scale


@wrong("1.2", names="training part only", reason=r"return both parts")
def prepare_train_only(train, test):
    return {"train": _ready(train, test)[0]}


@wrong(
    "1.2", names="own statistics when there is one row", reason=r"its own statistics: use those of the training part"
)
def prepare_one_row(train, test):
    if len(test) == 1:
        return _ready(train, test)[0], np.zeros_like(test)
    return _ready(train, test)


@wrong("1.2", names="whole numbers stay whole", reason=r"convert integers first")
def prepare_integers(train, test):
    ready = _ready(train, test)
    out = train.copy(), test.copy()
    for mine, right_one in zip(out, ready, strict=True):
        mine[:] = right_one
    return out


@wrong("1.2", names="constant column divided by 0", reason=r"divide by 1 there instead")
def prepare_constant(train, test):
    empty = np.isnan(train).all(axis=0)
    base = np.where(empty, 0.0, train)
    filler = np.nanmedian(base, axis=0)
    filled = np.where(np.isnan(base), filler, base)
    with np.errstate(all="ignore"):
        return tuple(
            np.where(empty, 0.0, (np.where(np.isnan(p), filler, p) - filled.mean(axis=0)) / filled.std(axis=0))
            for p in (train, test)
        )


@wrong("1.2", names="a tiny number added to every scale", reason=r"a tiny number added to it blows up")
def prepare_epsilon(train, test):
    filler = np.where(np.isnan(train).all(axis=0), 0.0, np.nanmedian(train, axis=0))
    filled = np.where(np.isnan(train), filler, train)
    return tuple(
        (np.where(np.isnan(p), filler, p) - filled.mean(axis=0)) / (filled.std(axis=0) + 1e-8) for p in (train, test)
    )


@wrong("1.2", names="constant column found by std == 0", reason=r"need not be exactly 0, so `std == 0` misses it")
def prepare_exact_zero(train, test):
    empty = np.isnan(train).all(axis=0)
    base = np.where(empty, 0.0, train)
    filler = np.nanmedian(base, axis=0)
    filled = np.where(np.isnan(base), filler, base)
    scale = filled.std(axis=0)
    scale[scale == 0] = 1
    return tuple(
        np.where(empty, 0.0, (np.where(np.isnan(p), filler, p) - filled.mean(axis=0)) / scale) for p in (train, test)
    )


@wrong("1.2", names="constant column found by std == 0, by pandas", reason=r"need not be exactly 0")
def prepare_exact_zero_pandas(train, test):
    train, test = pd.DataFrame(train, dtype=float), pd.DataFrame(test, dtype=float)
    filled = train.fillna(train.median())
    scale = filled.std(ddof=0).replace(0, 1)
    out = [((part.fillna(train.median()) - filled.mean()) / scale).to_numpy() for part in (train, test)]
    return tuple(np.where(train.isna().all(), 0.0, part) for part in out)


@wrong("1.2", names="empty column dropped", reason=r"drop no column")
def prepare_dropped(train, test):
    pipeline = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    return pipeline.fit_transform(train), pipeline.transform(test)


@wrong("1.2", names="empty column keeps its test values", reason=r"0 in both parts, whatever the test part holds")
def prepare_empty_kept(train, test):
    pipeline = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    return pipeline.fit_transform(train), pipeline.transform(test)


@wrong("1.2", names="in place", reason=r"works in place: work on a copy")
def prepare_in_place(train, test):
    ready = _ready(train, test)
    train[:], test[:] = ready
    return train, test


@right("1.2", names="scikit-learn's pipeline, the empty columns set to 0")
def prepare_pipeline(train, test):
    pipeline = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    out = pipeline.fit_transform(train), pipeline.transform(test)
    for part in out:
        part[:, np.isnan(train).all(axis=0)] = 0
    return out


@right("1.2", names="constant where the standard deviation is a tiny share of the mean")
def prepare_tiny_share(train, test):
    train, test = np.asarray(train, dtype=float), np.asarray(test, dtype=float)
    empty = np.isnan(train).all(axis=0)
    filler = np.nanmedian(np.where(empty, 0.0, train), axis=0)
    filled = np.where(np.isnan(train), filler, train)
    mean, scale = filled.mean(axis=0), filled.std(axis=0)
    scale[scale <= 1e-12 * np.abs(mean)] = 1
    return tuple(np.where(empty, 0.0, (np.where(np.isnan(p), filler, p) - mean) / scale) for p in (train, test))


@right("1.2", names="column by column, a list of Fortran arrays")
def prepare_columns(train, test):
    out = [np.zeros(part.shape, order="F") for part in (train, test)]
    for j in range(train.shape[1]):
        column = pd.Series(train[:, j], dtype=float)
        if column.notna().any():
            filled = column.fillna(column.median())
            scale = filled.std(ddof=0) if filled.nunique() > 1 else 1.0
            for ready, part in zip(out, (train, test), strict=True):
                ready[:, j] = (pd.Series(part[:, j], dtype=float).fillna(column.median()) - filled.mean()) / scale
    return out


# --- 1.3 split --------------------------------------------------------------------------------------------------


def _blocks(groups, clusters):
    _, g = np.unique(groups, return_inverse=True)
    _, c = np.unique(clusters, return_inverse=True)
    size = g.max() + c.max() + 2
    links = coo_array((np.ones(len(g)), (g, c + g.max() + 1)), shape=(size, size))
    return connected_components(links, directed=False)[1][g]


def _drawn(block, share, seed):
    """Whole blocks in random order until the test rows come nearest to the share."""
    names, sizes = np.unique(block, return_counts=True)
    if len(names) < 2:
        raise ValueError("one block only")
    order = np.random.default_rng(seed).permutation(len(names))
    filled = np.cumsum(sizes[order])[:-1]
    return np.isin(block, names[order[: np.argmin(np.abs(filled - share * len(block))) + 1]])


def _parts(test):
    return np.flatnonzero(~test), np.flatnonzero(test)


@wrong("1.3", names="test rows only", reason=r"return two arrays of row positions")
def split_test_only(groups, clusters, test_share, seed):
    return np.flatnonzero(_drawn(_blocks(groups, clusters), test_share, seed))


@wrong("1.3", names="masks", reason=r"np\.flatnonzero turns a mask into positions")
def split_masks(groups, clusters, test_share, seed):
    test = _drawn(_blocks(groups, clusters), test_share, seed)
    return ~test, test


@wrong("1.3", names="unsorted", reason=r"sort each part")
def split_unsorted(groups, clusters, test_share, seed):
    train, test = _parts(_drawn(_blocks(groups, clusters), test_share, seed))
    return train, test[::-1]


@wrong("1.3", names="one row per block, the rest dropped", reason=r"no row may get lost")
def split_dropped(groups, clusters, test_share, seed):
    block = _blocks(groups, clusters)
    train, test = _parts(_drawn(block, test_share, seed))
    return np.intersect1d(train, np.unique(block, return_index=True)[1]), test


@wrong("1.3", names="test rows stay in the training part", reason=r"no row may get lost or appear twice")
def split_overlapping(groups, clusters, test_share, seed):
    return np.arange(len(groups)), _parts(_drawn(_blocks(groups, clusters), test_share, seed))[1]


@wrong("1.3", names="random rows", reason=r"draw whole groups, not rows")
def split_rows(groups, clusters, test_share, seed):
    return _parts(_drawn(np.arange(len(groups)), test_share, seed))


@wrong("1.3", names="(group, cluster) pairs", reason=r"not \(group, cluster\) pairs")
def split_pairs(groups, clusters, test_share, seed):
    return _parts(_drawn(np.array([f"{g}/{c}" for g, c in zip(groups, clusters, strict=True)]), test_share, seed))


@wrong("1.3", names="clusters ignored", reason=r"rows that share a cluster belong together")
def split_groups_only(groups, clusters, test_share, seed):
    return _parts(_drawn(groups, test_share, seed))


@wrong("1.3", names="groups ignored", reason=r"draw whole groups, not rows")
def split_clusters_only(groups, clusters, test_share, seed):
    return _parts(_drawn(clusters, test_share, seed))


@wrong("1.3", names="one pass over groups and clusters", reason=r"use connected components")
def split_one_pass(groups, clusters, test_share, seed):
    block = np.arange(len(groups))
    for labels in (groups, clusters):
        for label in np.unique(labels):
            block[labels == label] = block[labels == label].min()
    return _parts(_drawn(block, test_share, seed))


def _spread(groups, clusters, rounds):
    """Rows take over the least label of their group, then of their cluster, so many times."""
    block = np.arange(len(groups))
    for _ in range(rounds):
        for labels in (groups, clusters):
            _, at = np.unique(labels, return_inverse=True)
            least = np.full(at.max() + 1, len(groups))
            np.minimum.at(least, at, block)
            block = least[at]
    return np.unique(block, return_inverse=True)[1]


@wrong("1.3", names="six rounds of spreading labels", reason=r"no fixed number of rounds is enough")
def split_six_rounds(groups, clusters, test_share, seed):
    return _parts(_drawn(_spread(groups, clusters, 6), test_share, seed))


@wrong("1.3", names="groups and clusters are the same nodes", reason=r"group 3 and cluster 3 are different things")
def split_same_nodes(groups, clusters, test_share, seed):
    parent = {}

    def root(node):
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for g, c in zip(groups.tolist(), clusters.tolist(), strict=True):
        parent[root(g)] = root(c)
    return _parts(_drawn(np.array([str(root(g)) for g in groups.tolist()]), test_share, seed))


def _first_blocks(block, order, share):
    """The blocks in this order until the test rows come nearest to the share."""
    sizes = np.bincount(block)
    if len(sizes) < 2:
        raise ValueError("one block only")
    filled = np.cumsum(sizes[order])[:-1]
    return _parts(np.isin(block, order[: np.argmin(np.abs(filled - share * len(block))) + 1]))


@wrong("1.3", names="largest blocks first", reason=r"not the largest or the smallest first")
def split_largest_first(groups, clusters, test_share, seed):
    block = _blocks(groups, clusters)
    shuffled = np.random.default_rng(seed).permutation(block.max() + 1)
    order = shuffled[np.argsort(-np.bincount(block)[shuffled], kind="stable")]
    return _first_blocks(block, order, test_share)


@wrong("1.3", names="smallest blocks first", reason=r"not the largest or the smallest first")
def split_smallest_first(groups, clusters, test_share, seed):
    block = _blocks(groups, clusters)
    shuffled = np.random.default_rng(seed).permutation(block.max() + 1)
    order = shuffled[np.argsort(np.bincount(block)[shuffled], kind="stable")]
    return _first_blocks(block, order, test_share)


@wrong("1.3", names="a fixed order rotated by the seed", reason=r"only moves the starting point in a fixed order")
def split_rotated(groups, clusters, test_share, seed):
    block = _blocks(groups, clusters)
    return _first_blocks(block, np.roll(np.arange(block.max() + 1), seed), test_share)


@wrong("1.3", names="a random stretch of a fixed order", reason=r"only moves the starting point in a fixed order")
def split_random_stretch(groups, clusters, test_share, seed):
    block = _blocks(groups, clusters)
    start = int(np.random.default_rng(seed).integers(block.max() + 1))
    return _first_blocks(block, np.roll(np.arange(block.max() + 1), start), test_share)


@wrong("1.3", names="no seed", reason=r"all randomness comes from np\.random\.default_rng\(seed\)")
def split_unseeded(groups, clusters, test_share, seed):
    return _parts(_drawn(_blocks(groups, clusters), test_share, None))


@wrong("1.3", names="fixed seed", reason=r"the seed is not used")
def split_fixed_seed(groups, clusters, test_share, seed):
    return _parts(_drawn(_blocks(groups, clusters), test_share, 0))


@wrong("1.3", names="share of the blocks", reason=r"a share of the rows, not of the blocks")
def split_share_of_blocks(groups, clusters, test_share, seed):
    block = _blocks(groups, clusters)
    if block.max() == 0:
        raise ValueError("one block only")
    splitter = GroupShuffleSplit(n_splits=1, test_size=test_share, random_state=seed)
    train, test = next(splitter.split(block, groups=block))
    return np.sort(train), np.sort(test)


@wrong("1.3", names="(test, train)", reason=r"the parts have changed places")
def split_swapped(groups, clusters, test_share, seed):
    return _parts(_drawn(_blocks(groups, clusters), test_share, seed))[::-1]


@wrong("1.3", names="fills until the share is reached", reason=r"the first block always goes in the test part")
def split_may_take_all(groups, clusters, test_share, seed):
    block = _blocks(groups, clusters)
    sizes = np.bincount(block)
    if len(sizes) < 2:
        raise ValueError("one block only")
    chosen, rows = [], 0
    for b in np.random.default_rng(seed).permutation(len(sizes)):
        if rows >= test_share * len(block):
            break
        chosen.append(b)
        rows += sizes[b]
    return _parts(np.isin(block, chosen))


@wrong("1.3", names="takes only blocks that fit", reason=r"the first block always goes in the test part")
def split_may_take_none(groups, clusters, test_share, seed):
    block = _blocks(groups, clusters)
    sizes = np.bincount(block)
    if len(sizes) < 2:
        raise ValueError("one block only")
    chosen, rows = [], 0
    for b in np.random.default_rng(seed).permutation(len(sizes)):
        if rows + sizes[b] <= test_share * len(block):
            chosen.append(b)
            rows += sizes[b]
    return _parts(np.isin(block, chosen))


@wrong("1.3", names="a single block goes to training", reason=r"rather than return an empty part")
def split_single_block(groups, clusters, test_share, seed):
    block = _blocks(groups, clusters)
    if block.max() == 0:
        return np.arange(len(block)), np.arange(0)
    return _parts(_drawn(block, test_share, seed))


@right("1.3", names="union-find and a loop")
def split_union_find(groups, clusters, test_share, seed):
    parent = {}

    def root(node):
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for g, c in zip(groups.tolist(), clusters.tolist(), strict=True):
        parent[root(("g", g))] = root(("c", c))
    members = {}
    for row, g in enumerate(groups.tolist()):
        members.setdefault(root(("g", g)), []).append(row)
    blocks = list(members.values())
    if len(blocks) == 1:
        raise ValueError("one block only")
    np.random.default_rng(seed).shuffle(blocks)
    test = list(blocks[0])
    for block in blocks[1:-1]:
        if len(test) >= test_share * len(groups):
            break
        test += block
    return [np.array(sorted(set(range(len(groups))) - set(test))), np.array(sorted(test))]


@right("1.3", names="labels spread until nothing changes, only fitting blocks, int32")
def split_spreading(groups, clusters, test_share, seed):
    block = np.arange(len(groups))
    while True:
        before = block.copy()
        for labels in (groups, clusters):
            _, at = np.unique(labels, return_inverse=True)
            least = np.full(at.max() + 1, len(groups))
            np.minimum.at(least, at, block)
            block = least[at]
        if (block == before).all():
            break
    names, sizes = np.unique(block, return_counts=True)
    if len(names) == 1:
        raise ValueError("one block only")
    order = np.random.RandomState(seed).permutation(len(names))
    test = np.zeros(len(groups), dtype=bool)
    for i in order:
        if test.sum() + sizes[i] <= test_share * len(groups):
            test |= block == names[i]
    if not test.any():
        test = block == names[np.argmin(sizes)]
    return tuple(rows.astype(np.int32) for rows in _parts(test))


@right("1.3", names="each block in random order, where it brings the share nearer")
def split_nearer(groups, clusters, test_share, seed):
    block = _blocks(groups, clusters)
    sizes = np.bincount(block)
    if len(sizes) < 2:
        raise ValueError("one block only")
    first, *others = np.random.default_rng(seed).permutation(len(sizes)).tolist()
    chosen, rows, wanted = [first], sizes[first], test_share * len(block)
    for b in others:
        if len(chosen) < len(sizes) - 1 and abs(rows + sizes[b] - wanted) < abs(rows - wanted):
            chosen.append(b)
            rows += sizes[b]
    return _parts(np.isin(block, chosen))


# --- 1.4 class weights ------------------------------------------------------------------------------------------


def _weights(y, of):
    counts = Counter(np.asarray(y).tolist())
    return {label: of(len(y), len(counts), m) for label, m in counts.items()}


@wrong("1.4", names="1/count", reason=r"multiply by n / k")
def weights_inverse(y):
    return _weights(y, lambda n, k, m: 1 / m)


@wrong("1.4", names="n/count", reason=r"divide by the number of classes k as well")
def weights_without_k(y):
    return _weights(y, lambda n, k, m: n / m)


@wrong("1.4", names="the frequency", reason=r"favours the common class")
def weights_frequency(y):
    return _weights(y, lambda n, k, m: m / n)


@wrong("1.4", names="1 - frequency", reason=r"each class must weigh n / k in total")
def weights_one_minus(y):
    return _weights(y, lambda n, k, m: 1 - m / n)


@wrong("1.4", names="largest count over count", reason=r"not the largest count")
def weights_largest(y):
    most = max(Counter(y.tolist()).values())
    return _weights(y, lambda n, k, m: most / m)


@wrong("1.4", names="normalised over the classes", reason=r"over the rows they must sum to n")
def weights_normalised(y):
    raw = _weights(y, lambda n, k, m: 1 / m)
    return {label: w / sum(raw.values()) for label, w in raw.items()}


@wrong("1.4", names="two classes assumed", reason=r"k is fixed at 2")
def weights_two(y):
    return _weights(y, lambda n, k, m: n / (2 * m))


@wrong("1.4", names="whole numbers", reason=r"`//` rounds down")
def weights_floor(y):
    return _weights(y, lambda n, k, m: n // (k * m))


@wrong("1.4", names="k from the largest label", reason=r"not the largest label plus 1")
def weights_largest_label(y):
    return _weights(y, lambda n, k, m: n / ((max(y) + 1) * m))


@wrong("1.4", names="bincount with every label up to the largest", reason=r"the keys are the labels that occur")
def weights_bincount(y):
    counts = np.bincount(y)
    return {label: len(y) / (np.sum(counts > 0) * max(m, 1)) for label, m in enumerate(counts)}


@wrong("1.4", names="keys 0 … k-1", reason=r"the keys are the labels that occur")
def weights_numbered(y):
    _, counts = np.unique(y, return_counts=True)
    return dict(enumerate(len(y) / (len(counts) * counts)))


@wrong("1.4", names="labels turned into numbers", reason=r"ValueError: invalid literal")
def weights_int_labels(y):
    return _weights([int(label) for label in y], lambda n, k, m: n / (k * m))


@wrong("1.4", names="an array", reason=r"a dictionary: label → weight")
def weights_array(y):
    _, counts = np.unique(y, return_counts=True)
    return len(y) / (len(counts) * counts)


@wrong("1.4", names="compute_class_weight", reason=r"written without sklearn.utils.class_weight.compute_class_weight")
def weights_library(y):
    labels = np.unique(y)
    return dict(zip(labels, compute_class_weight("balanced", classes=labels, y=y), strict=True))


@wrong("1.4", names="compute_sample_weight", reason=r"written without sklearn.utils.class_weight.compute_sample_weight")
def weights_sample_library(y):
    return dict(zip(y.tolist(), compute_sample_weight("balanced", y), strict=True))


@right("1.4", names="numpy scalars")
def weights_numpy(y):
    labels, counts = np.unique(y, return_counts=True)
    return dict(zip(labels, len(y) / (len(labels) * counts), strict=True))


@right("1.4", names="a loop in order of appearance")
def weights_loop(y):
    y = y.tolist()
    return {label: len(y) / (len(set(y)) * y.count(label)) for label in y}


@right("1.4", names="pandas")
def weights_pandas(y):
    counts = pd.Series(y).value_counts()
    return (len(y) / (len(counts) * counts)).to_dict()


# --- 1.5 label errors -------------------------------------------------------------------------------------------


def _bars(labels, p, of=None):
    bars = np.full(p.shape[1], np.inf)
    for k in np.unique(labels):
        bars[k] = p[labels == k, k].mean()
    return bars


def _flagged(labels, p, bars, spare_top=True):
    confident = p >= bars
    guess = np.where(confident, p, -1).argmax(axis=1)
    found = confident.any(axis=1) & (guess != labels)
    return found & (p.argmax(axis=1) != labels) if spare_top else found


@wrong("1.5", names="argmax differs", reason=r"every disagreement with the most probable class")
def issues_argmax(labels, probabilities):
    return probabilities.argmax(axis=1) != labels


@wrong("1.5", names="threshold 0.5", reason=r"a fixed threshold of 0\.5")
def issues_half(labels, probabilities):
    return _flagged(labels, probabilities, 0.5)


@wrong("1.5", names="one threshold for all", reason=r"each class has its own")
def issues_one_threshold(labels, probabilities):
    return _flagged(labels, probabilities, probabilities[np.arange(len(labels)), labels].mean())


@wrong("1.5", names="thresholds over all rows", reason=r"over all rows")
def issues_all_rows(labels, probabilities):
    return _flagged(labels, probabilities, probabilities.mean(axis=0))


@wrong("1.5", names="medians", reason=r"the thresholds are medians")
def issues_medians(labels, probabilities):
    bars = np.full(probabilities.shape[1], np.inf)
    for k in np.unique(labels):
        bars[k] = np.median(probabilities[labels == k, k])
    return _flagged(labels, probabilities, bars)


@wrong("1.5", names="rows predicted as the class", reason=r"rows predicted as the class")
def issues_predicted(labels, probabilities):
    return _flagged(labels, probabilities, _bars(probabilities.argmax(axis=1), probabilities))


@wrong("1.5", names="low confidence in the label", reason=r"another class must reach its threshold")
def issues_low(labels, probabilities):
    return probabilities[np.arange(len(labels)), labels] < _bars(labels, probabilities)[labels]


@wrong("1.5", names="any other confident class", reason=r"only the most probable one is the guess")
def issues_any(labels, probabilities):
    confident = probabilities >= _bars(labels, probabilities)
    confident[np.arange(len(labels)), labels] = False
    return confident.any(axis=1)


@wrong("1.5", names="only the most probable class of all", reason=r"only the most probable class of all is asked")
def issues_top_only(labels, probabilities):
    top = probabilities.argmax(axis=1)
    return (probabilities.max(axis=1) >= _bars(labels, probabilities)[top]) & (top != labels)


@wrong("1.5", names="largest margin over the threshold", reason=r"largest p - threshold")
def issues_margin(labels, probabilities):
    return (probabilities - _bars(labels, probabilities)).argmax(axis=1) != labels


@wrong("1.5", names="last step missing", reason=r"the last step is missing")
def issues_no_last_step(labels, probabilities):
    return _flagged(labels, probabilities, _bars(labels, probabilities), spare_top=False)


@wrong("1.5", names="absent class with threshold 0", reason=r"got the threshold 0")
def issues_absent_zero(labels, probabilities):
    bars = _bars(labels, probabilities)
    return _flagged(labels, probabilities, np.where(np.isinf(bars), 0, bars))


@wrong("1.5", names="thresholds by place among the labels", reason=r"threshold k belongs to class k")
def issues_by_place(labels, probabilities):
    bars = np.full(probabilities.shape[1], np.inf)
    for i, k in enumerate(np.unique(labels)):
        bars[i] = probabilities[labels == k, k].mean()
    return _flagged(labels, probabilities, bars)


@wrong("1.5", names="as many thresholds as the largest label says", reason=r"could not be broadcast")
def issues_bincount(labels, probabilities):
    own = probabilities[np.arange(len(labels)), labels]
    counts = np.bincount(labels)
    bars = np.where(counts > 0, np.bincount(labels, own) / np.maximum(counts, 1), np.inf)
    return _flagged(labels, probabilities, bars)


@wrong("1.5", names="above the threshold, not at it", reason=r"just reaches the threshold is confident, p >= t")
def issues_strictly_above(labels, probabilities):
    return _flagged(labels, probabilities, np.nextafter(_bars(labels, probabilities), np.inf))


@wrong("1.5", names="rows without a guess flagged", reason=r"an issue is a row with a guess")
def issues_no_guess(labels, probabilities):
    confident = probabilities >= _bars(labels, probabilities)
    return np.where(confident, probabilities, -1).argmax(axis=1) != labels


@wrong("1.5", names="positions", reason=r"not the positions of those rows")
def issues_positions(labels, probabilities):
    return np.flatnonzero(_flagged(labels, probabilities, _bars(labels, probabilities)))


@wrong("1.5", names="a mask of 0 and 1", reason=r"a bool for every row")
def issues_numbers(labels, probabilities):
    return _flagged(labels, probabilities, _bars(labels, probabilities)).astype(int)


@wrong("1.5", names="cleanlab", reason=r"written without cleanlab.filter.find_label_issues")
def issues_library(labels, probabilities):
    return find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)


@right("1.5", names="row by row")
def issues_loop(labels, probabilities):
    bars, out = _bars(labels, probabilities), []
    for label, row in zip(labels.tolist(), probabilities.tolist(), strict=True):
        best = max((p, k) for k, p in enumerate(row))[1]
        confident = [(p, k) for k, p in enumerate(row) if p >= bars[k]]
        out.append(bool(confident) and max(confident)[1] != label and best != label)
    return np.array(out)


@right("1.5", names="thresholds by pandas, NaN for an absent class, the paper's guess")
def issues_nan(labels, probabilities):
    means = pd.DataFrame(probabilities).groupby(labels).mean().reindex(range(probabilities.shape[1]))
    return _flagged(labels, probabilities, np.diag(means.to_numpy()))


@right("1.5", names="cleanlab's guess, the most probable class of all")
def issues_cleanlab_guess(labels, probabilities):
    confident = probabilities >= _bars(labels, probabilities) - 1e-6
    top = probabilities.argmax(axis=1)
    guess = np.where(confident.sum(axis=1) > 1, top, confident.argmax(axis=1))
    return confident.any(axis=1) & (guess != labels) & (top != labels)


# --- 1.6 MinHash ------------------------------------------------------------------------------------------------


def _hashes(shingles, a, b):
    x, a, b = (np.asarray(v, dtype=np.int64) for v in (shingles, a, b))
    return (a[:, None] * x + b[:, None]) % PRIME


def _refuse_empty(shingles):
    if len(shingles) == 0:
        raise ValueError("no shingles")


@wrong("1.6", part="minhash_signature", names="minimum over the hash functions", reason=r"axis 1 of the k × n table")
def minimum_over_functions(shingles, a, b):
    _refuse_empty(shingles)
    return _hashes(shingles, a, b).min(axis=0)


@wrong("1.6", part="minhash_signature", names="one number for the document", reason=r"k whole numbers in int64")
def one_number(shingles, a, b):
    _refuse_empty(shingles)
    return _hashes(shingles, a, b).min()


@wrong("1.6", part="minhash_signature", names="int32 stays int32", reason=r"make the inputs int64 first")
def int32_kept(shingles, a, b):
    _refuse_empty(shingles)
    return ((a[:, None] * shingles + b[:, None]) % PRIME).min(axis=1)


@wrong("1.6", part="minhash_signature", names="int64 after the multiplication", reason=r"int32 products overflow")
def int64_too_late(shingles, a, b):
    _refuse_empty(shingles)
    return ((a[:, None] * shingles + b[:, None]) % PRIME).min(axis=1).astype(np.int64)


@wrong("1.6", part="minhash_signature", names="float arithmetic", reason=r"float64 holds 53 bits")
def float_arithmetic(shingles, a, b):
    _refuse_empty(shingles)
    x = np.asarray(shingles, dtype=float)
    return ((a[:, None] * x + b[:, None]) % PRIME).min(axis=1).astype(np.int64)


@wrong("1.6", part="minhash_signature", names="hash of the smallest shingle", reason=r"hash all shingles, then")
def hash_of_the_smallest(shingles, a, b):
    return (np.asarray(a, dtype=np.int64) * np.int64(min(shingles)) + b) % PRIME


@wrong("1.6", part="minhash_signature", names="largest hash", reason=r"largest hash, not the smallest")
def largest(shingles, a, b):
    return _hashes(shingles, a, b).max(axis=1)


@wrong("1.6", part="minhash_signature", names="position of the smallest", reason=r"argmin, where min is asked")
def position(shingles, a, b):
    return _hashes(shingles, a, b).argmin(axis=1)


@wrong("1.6", part="minhash_signature", names="no modulo", reason=r"the modulo is missing")
def no_modulo(shingles, a, b):
    x, a, b = (np.asarray(v, dtype=np.int64) for v in (shingles, a, b))
    return (a[:, None] * x + b[:, None]).min(axis=1)


@wrong("1.6", part="minhash_signature", names="modulo binds before the sum", reason=r"modulo comes after adding b")
def modulo_too_early(shingles, a, b):
    x, a, b = (np.asarray(v, dtype=np.int64) for v in (shingles, a, b))
    return (a[:, None] * x % PRIME + b[:, None]).min(axis=1)


@wrong(
    "1.6", part="minhash_signature", names="bottom-k of one function", reason=r"smallest values of one hash function"
)
def bottom_k(shingles, a, b):
    return np.sort(_hashes(shingles, a, b)[0])[: len(a)]


@wrong(
    "1.6",
    part="minhash_signature",
    names="random permutations of its own",
    reason=r"smallest \(a\[i\] \* x \+ b\[i\]\)",
)
def own_permutations(shingles, a, b):
    _refuse_empty(shingles)
    rng = np.random.default_rng(0)
    return _hashes(shingles, rng.integers(1, PRIME, len(a)), rng.integers(0, PRIME, len(a))).min(axis=1)


@wrong(
    "1.6",
    part="minhash_signature",
    names="placeholder for an empty document",
    reason=r"empty documents look like duplicates",
)
def placeholder(shingles, a, b):
    if len(shingles) == 0:
        return np.full(len(a), PRIME)
    return _hashes(shingles, a, b).min(axis=1)


@wrong("1.6", part="minhash_signature", names="sorts the shingles in place", reason=r"works in place: work on a copy")
def sorts_in_place(shingles, a, b):
    shingles.sort()
    return _hashes(shingles, a, b).min(axis=1)


def _same_length(first, second):
    if len(first) != len(second):
        raise ValueError("lengths differ")


@wrong("1.6", part="estimate_jaccard", names="comparison without the mean", reason=r"take the mean of the comparison")
def no_mean(first, second):
    _same_length(first, second)
    return first == second


@wrong("1.6", part="estimate_jaccard", names="number of equal positions", reason=r"divide by the length")
def number_of_equal(first, second):
    _same_length(first, second)
    return int(np.sum(first == second))


@wrong(
    "1.6", part="estimate_jaccard", names="Jaccard of the two sets of values", reason=r"treats the signatures as sets"
)
def jaccard_of_sets(first, second):
    _same_length(first, second)
    one, two = set(first.tolist()), set(second.tolist())
    return len(one & two) / len(one | two)


@wrong("1.6", part="estimate_jaccard", names="values looked up anywhere", reason=r"looked up anywhere")
def looked_up_anywhere(first, second):
    _same_length(first, second)
    return float(np.isin(first, second).mean())


@wrong("1.6", part="estimate_jaccard", names="equal over union", reason=r"Jaccard formula for sets")
def equal_over_union(first, second):
    _same_length(first, second)
    equal = np.sum(first == second)
    return float(equal / (2 * len(first) - equal))


@wrong("1.6", part="estimate_jaccard", names="zip cuts the longer one", reason=r"compare the lengths first")
def zip_cuts(first, second):
    return sum(i == j for i, j in zip(first.tolist(), second.tolist(), strict=False)) / len(second)


@wrong(
    "1.6", part="estimate_jaccard", names="broadcasting stretches the shorter one", reason=r"compare the lengths first"
)
def broadcasting(first, second):
    return float(np.mean(first == second))


@right("1.6", part="minhash_signature", names="a loop over Python integers")
def signature_loop(shingles, a, b):
    return np.array(
        [min((i * x + j) % PRIME for x in shingles.tolist()) for i, j in zip(a.tolist(), b.tolist(), strict=True)]
    )


@right("1.6", part="minhash_signature", names="unsigned arithmetic, one function at a time, a non-contiguous result")
def signature_unsigned(shingles, a, b):
    x = np.unique(shingles).astype(np.uint64)
    out = np.empty((len(a), 2), dtype=np.int64)
    for i in range(len(a)):
        out[i, 0] = ((np.uint64(a[i]) * x + np.uint64(b[i])) % np.uint64(PRIME)).min()
    return out[:, 0]


@right("1.6", part="estimate_jaccard", names="a count with a strict zip")
def estimate_strict_zip(first, second):
    return np.float32(sum(i == j for i, j in zip(first, second, strict=True)) / len(first))


# --- 1.7 bands --------------------------------------------------------------------------------------------------


@wrong("1.7", part="collision_probability", names="and/or swapped", reason=r"all rows of at least one band")
def and_or_swapped(jaccard, bands, rows):
    return (1 - (1 - jaccard) ** rows) ** bands


@wrong("1.7", part="collision_probability", names="bands and rows swapped", reason=r"have changed places")
def places_changed(jaccard, bands, rows):
    return 1 - (1 - jaccard**bands) ** rows


@wrong("1.7", part="collision_probability", names="complement forgotten", reason=r"take one minus it")
def complement(jaccard, bands, rows):
    return (1 - jaccard**rows) ** bands


@wrong("1.7", part="collision_probability", names="one band only", reason=r"there are several chances")
def one_band(jaccard, bands, rows):
    return jaccard**rows


@wrong("1.7", part="collision_probability", names="probabilities added up", reason=r"do not add up")
def added_up(jaccard, bands, rows):
    return bands * jaccard**rows


@wrong("1.7", part="collision_probability", names="no arrays", reason=r"TypeError")
def no_arrays(jaccard, bands, rows):
    return 1 - math.pow(1 - math.pow(jaccard, rows), bands)


@wrong("1.7", part="collision_probability", names="one number for an array", reason=r"an array of the same shape")
def averaged(jaccard, bands, rows):
    return float(np.mean(1 - (1 - jaccard**rows) ** bands))


def _probability(s, b, r):
    return 1 - (1 - s**r) ** b


@wrong("1.7", part="choose_bands", names="rows only", reason=r"return both")
def rows_only(num_hashes, threshold, recall=0.9):
    for rows in range(num_hashes, 0, -1):
        if _probability(threshold, num_hashes // rows, rows) >= recall:
            return rows
    raise ValueError


@wrong("1.7", part="choose_bands", names="float division", reason=r"`/` gives a float")
def float_division(num_hashes, threshold, recall=0.9):
    for rows in range(num_hashes, 0, -1):
        if _probability(threshold, num_hashes / rows, rows) >= recall:
            return num_hashes / rows, rows
    raise ValueError


@wrong("1.7", part="choose_bands", names="(rows, bands)", reason=r"bands come first")
def rows_first(num_hashes, threshold, recall=0.9):
    for rows in range(num_hashes, 0, -1):
        if _probability(threshold, num_hashes // rows, rows) >= recall:
            return rows, num_hashes // rows
    raise ValueError


@wrong("1.7", part="choose_bands", names="divisors only", reason=r"may leave hashes unused")
def divisors_only(num_hashes, threshold, recall=0.9):
    for rows in range(num_hashes, 0, -1):
        if num_hashes % rows == 0 and _probability(threshold, num_hashes // rows, rows) >= recall:
            return num_hashes // rows, rows
    raise ValueError


@wrong("1.7", part="choose_bands", names="fewest rows", reason=r"one row per band finds nearly all")
def fewest_rows(num_hashes, threshold, recall=0.9):
    for rows in range(1, num_hashes + 1):
        if _probability(threshold, num_hashes // rows, rows) >= recall:
            return num_hashes // rows, rows
    raise ValueError


@wrong("1.7", part="choose_bands", names="recall fixed at 0.9", reason=r"0\.9 is only its default")
def recall_fixed(num_hashes, threshold, recall=0.9):
    for rows in range(num_hashes, 0, -1):
        if _probability(threshold, num_hashes // rows, rows) >= 0.9:
            return num_hashes // rows, rows
    raise ValueError


@wrong("1.7", part="choose_bands", names="the (1/b)^(1/r) rule", reason=r"about 63 % are found")
def rule_of_thumb(num_hashes, threshold, recall=0.9):
    rows = min(range(1, num_hashes + 1), key=lambda r: abs((1 / (num_hashes // r)) ** (1 / r) - threshold))
    return num_hashes // rows, rows


@wrong("1.7", part="choose_bands", names="hard-coded answer", reason=r"the largest rows with collision_probability")
def hard_coded(num_hashes, threshold, recall=0.9):
    return 16, 8


@wrong("1.7", part="choose_bands", names="silent fallback", reason=r"a silent fallback would lose pairs")
def silent_fallback(num_hashes, threshold, recall=0.9):
    for rows in range(num_hashes, 0, -1):
        if _probability(threshold, num_hashes // rows, rows) >= recall:
            return num_hashes // rows, rows
    return num_hashes, 1


@right("1.7", part="collision_probability", names="by logarithms, always an array")
def by_logarithms(jaccard, bands, rows):
    with np.errstate(divide="ignore"):
        return -np.expm1(bands * np.log1p(-np.power(np.asarray(jaccard, dtype=float), rows)))


@right("1.7", part="choose_bands", names="all rows at once, numpy integers, a list")
def all_rows_at_once(num_hashes, threshold, recall=0.9):
    rows = np.arange(1, num_hashes + 1)
    good = rows[_probability(threshold, num_hashes // rows, rows) >= recall]
    if not len(good):
        raise ValueError("not reachable")
    return [num_hashes // good[-1], good[-1]]


@right("1.7", part="choose_bands", names="upwards until it fails")
def upwards(num_hashes, threshold, recall=0.9):
    rows = 0
    while rows < num_hashes and _probability(threshold, num_hashes // (rows + 1), rows + 1) >= recall:
        rows += 1
    if rows == 0:
        raise ValueError("not reachable")
    return num_hashes // rows, rows


# --- 1.8 contamination ------------------------------------------------------------------------------------------


def _grams(tokens, n):
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def _overlap(training, benchmark, n, split=tokenise, grams=_grams, score=None, short=np.nan):
    seen = {g for document in training for g in grams(split(document), n)}
    score = score or (lambda found: sum(g in seen for g in found) / len(found))
    found = [grams(split(item), n) for item in benchmark]
    return np.array([score(f) if f else short for f in found], dtype=float)


@wrong("1.8", names="a list", reason=r"np\.array\(shares, dtype=float\)")
def overlap_list(training, benchmark, n=13):
    return _overlap(training, benchmark, n).tolist()


@wrong("1.8", names="the mean over all items", reason=r"one share for each benchmark item")
def overlap_mean(training, benchmark, n=13):
    return float(np.nanmean(_overlap(training, benchmark, n)))


@wrong("1.8", names="contaminated yes or no", reason=r"one match counts as everything")
def overlap_any(training, benchmark, n=13):
    seen = {g for document in training for g in _grams(tokenise(document), n)}
    return _overlap(training, benchmark, n, score=lambda found: float(any(g in seen for g in found)))


@wrong("1.8", names="number of matches", reason=r"divide by the number of the item's n-grams")
def overlap_count(training, benchmark, n=13):
    seen = {g for document in training for g in _grams(tokenise(document), n)}
    return _overlap(training, benchmark, n, score=lambda found: sum(g in seen for g in found))


@wrong("1.8", names="the last n-gram missing", reason=r"the last n-gram is missing")
def overlap_last_missing(training, benchmark, n=13):
    return _overlap(training, benchmark, n, grams=lambda t, m: [tuple(t[i : i + m]) for i in range(len(t) - m)])


@wrong("1.8", names="share of the training n-grams", reason=r"share of the training n-grams")
def overlap_of_training(training, benchmark, n=13):
    seen = {g for document in training for g in _grams(tokenise(document), n)}
    return _overlap(training, benchmark, n, score=lambda found: len(seen.intersection(found)) / len(seen))


@wrong("1.8", names="Jaccard", reason=r"divides by the union")
def overlap_jaccard(training, benchmark, n=13):
    seen = {g for document in training for g in _grams(tokenise(document), n)}
    return _overlap(training, benchmark, n, score=lambda found: len(seen & set(found)) / len(seen | set(found)))


@wrong("1.8", names="single tokens", reason=r"single tokens were compared")
def overlap_tokens(training, benchmark, n=13):
    return _overlap(training, benchmark, 1)


@wrong("1.8", names="n fixed at 13", reason=r"13 only its default")
def overlap_thirteen(training, benchmark, n=13):
    return _overlap(training, benchmark, 13)


@wrong("1.8", names="split at spaces", reason=r"tokenise both sides")
def overlap_split(training, benchmark, n=13):
    return _overlap(training, benchmark, n, split=str.split)


@wrong("1.8", names="all documents joined", reason=r"run over the border")
def overlap_joined(training, benchmark, n=13):
    return _overlap([" ".join(training)], benchmark, n)


@wrong("1.8", names="a set of the item's n-grams", reason=r"by position the repeated one counts twice")
def overlap_set(training, benchmark, n=13):
    return _overlap(training, benchmark, n, grams=lambda t, m: set(_grams(t, m)))


@wrong("1.8", names="n tokens are too few", reason=r"n tokens make one n-gram")
def overlap_strict(training, benchmark, n=13):
    return _overlap(training, benchmark, n, grams=lambda t, m: _grams(t, m) if len(t) > m else [])


@wrong("1.8", names="too short is clean", reason=r"0 says 'clean'")
def overlap_short_clean(training, benchmark, n=13):
    return _overlap(training, benchmark, n, short=0.0)


@wrong("1.8", names="divides by zero for short items", reason=r"ZeroDivisionError")
def overlap_division(training, benchmark, n=13):
    seen = {g for document in training for g in _grams(tokenise(document), n)}
    found = [_grams(tokenise(item), n) for item in benchmark]
    return np.array([sum(g in seen for g in f) / len(f) for f in found])


@wrong("1.8", names="order of the tokens lost", reason=r"order of the tokens counts")
def overlap_unordered(training, benchmark, n=13):
    return _overlap(training, benchmark, n, grams=lambda t, m: [tuple(sorted(g)) for g in _grams(t, m)])


@wrong("1.8", names="text found inside text", reason=r"compare whole tokens, not text")
def overlap_substring(training, benchmark, n=13):
    texts = [" ".join(tokenise(document)) for document in training]
    inside = lambda found: float(np.mean([any(" ".join(g) in t for t in texts) for g in found]))  # noqa: E731
    return _overlap(training, benchmark, n, score=inside)


@wrong("1.8", names="only the first two documents", reason=r"compared with all training documents")
def overlap_two_documents(training, benchmark, n=13):
    return _overlap(training[:2], benchmark, n)


@wrong("1.8", names="fails without training documents", reason=r"IndexError")
def overlap_needs_training(training, benchmark, n=13):
    _ = training[0]
    return _overlap(training, benchmark, n)


@right("1.8", names="joined by a mark that no token has")
def overlap_marked(training, benchmark, n=13):
    text = "".join("|" + "|".join(tokenise(document)) + "|\n" for document in training)
    out = np.full(len(benchmark), np.nan)
    for i, item in enumerate(benchmark):
        tokens = tokenise(item)
        hits = [f"|{'|'.join(tokens[j : j + n])}|" in text for j in range(len(tokens) - n + 1)]
        if hits:
            out[i] = np.mean(hits)
    return out


@right("1.8", names="benchmark indexed, training streamed, float32")
def overlap_streamed(training, benchmark, n=13):
    found = [Counter(_grams(tokenise(item), n)) for item in benchmark]
    hit = {g for document in training for g in _grams(tokenise(document), n)}
    shares = [sum(m for g, m in f.items() if g in hit) / sum(f.values()) if f else np.nan for f in found]
    return np.asarray(shares, dtype=np.float32)


# --- 1.9 Vendi --------------------------------------------------------------------------------------------------


def _unit_diagonal(similarity):
    if not np.allclose(np.diagonal(similarity), 1):
        raise ValueError("diagonal")


def _eigenvalues(similarity, scale=None):
    _unit_diagonal(similarity)
    w = np.linalg.eigvalsh(similarity / (len(similarity) if scale is None else scale))
    return w[w > 1e-15]


@wrong("1.9", names="not divided by n", reason=r"divide by n first")
def vendi_unscaled(similarity):
    w = _eigenvalues(similarity, scale=1)
    return float(np.exp(-np.sum(w * np.log(w))))


@wrong("1.9", names="the entropy", reason=r"its exponential is the number of items")
def vendi_entropy(similarity):
    w = _eigenvalues(similarity)
    return float(-np.sum(w * np.log(w)))


@wrong("1.9", names="base 2 under e", reason=r"base 2 under an exponential to base e")
def vendi_base_two(similarity):
    w = _eigenvalues(similarity)
    return float(np.exp(-np.sum(w * np.log2(w))))


@wrong("1.9", names="entropy in bits", reason=r"entropy in bits")
def vendi_bits(similarity):
    w = _eigenvalues(similarity)
    return float(-np.sum(w * np.log2(w)))


@wrong("1.9", names="sign forgotten", reason=r"the sign is missing")
def vendi_sign(similarity):
    w = _eigenvalues(similarity)
    return float(np.exp(np.sum(w * np.log(w))))


@wrong("1.9", names="log of 0 or below", reason=r"gave NaN: use the eigenvalues above 0 only")
def vendi_nan(similarity):
    _unit_diagonal(similarity)
    w = np.linalg.eigvalsh(similarity / len(similarity))
    with np.errstate(all="ignore"):
        return float(np.exp(-np.sum(w * np.log(w))))


@wrong("1.9", names="the rank", reason=r"this is the rank")
def vendi_rank(similarity):
    _unit_diagonal(similarity)
    return int(np.linalg.matrix_rank(similarity))


@wrong("1.9", names="order two", reason=r"effective number of order 2")
def vendi_order_two(similarity):
    return float(1 / np.sum(_eigenvalues(similarity) ** 2))


@wrong("1.9", names="n over the mean row sum", reason=r"n over the mean row sum")
def vendi_row_sum(similarity):
    _unit_diagonal(similarity)
    return float(len(similarity) / np.mean(similarity.sum(axis=1)))


@wrong("1.9", names="complex eigenvalues", reason=r"a symmetric matrix has real eigenvalues")
def vendi_complex(similarity):
    _unit_diagonal(similarity)
    w = scipy.linalg.eigvals(similarity / len(similarity))
    w = w[w.real > 1e-15]
    return np.exp(-np.sum(w * np.log(w)))


@wrong("1.9", names="the library", reason=r"written without vendi_score\.vendi\.score_K")
def vendi_library(similarity):
    from vendi_score import vendi

    return float(vendi.score_K(similarity))


@wrong("1.9", names="diagonal not tested", reason=r"a wrong scale gives a plausible number")
def vendi_any_diagonal(similarity):
    w = np.linalg.eigvalsh(similarity / len(similarity))
    w = w[w > 1e-15]
    return float(np.exp(-np.sum(w * np.log(w))))


@wrong("1.9", names="only the trace tested", reason=r"the trace is n here")
def vendi_trace(similarity):
    if not np.isclose(np.trace(similarity), len(similarity)):
        raise ValueError("diagonal")
    return vendi_any_diagonal(similarity)


@wrong("1.9", names="only the first entry tested", reason=r"test each entry of the diagonal")
def vendi_first_entry(similarity):
    if not np.isclose(similarity[0, 0], 1):
        raise ValueError("diagonal")
    return vendi_any_diagonal(similarity)


@wrong("1.9", names="only entries below 1 refused", reason=r"more than 1 on the diagonal is wrong as well")
def vendi_below_one(similarity):
    if np.any(np.diagonal(similarity) < 1 - 1e-9):
        raise ValueError("diagonal")
    return vendi_any_diagonal(similarity)


@right("1.9", names="a loop with math, eigh")
def vendi_loop(similarity):
    _unit_diagonal(similarity)
    return math.exp(
        -sum(p * math.log(p) for p in np.linalg.eigh(similarity)[0].tolist() / np.float64(len(similarity)) if p > 0)
    )


@right("1.9", names="singular values and a small constant")
def vendi_singular(similarity):
    if not all(abs(similarity[i, i] - 1) < 1e-9 for i in range(len(similarity))):
        raise ValueError("diagonal")
    s = np.linalg.svd(similarity, compute_uv=False) / len(similarity)
    return np.exp(-(s * np.log(s + 1e-15)).sum())


# --- 1.10 fix this code -----------------------------------------------------------------------------------------


def _pipeline(**options):
    options = {"class_weight": "balanced", "max_iter": 1000, **options}
    return make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(**options))


def _rarest(y):
    labels, counts = np.unique(y, return_counts=True)
    return labels[counts.argmin()]


def _split_rows(table, target, seed, **options):
    y = table[target].to_numpy()
    options = {"test_size": 0.25, "stratify": y, "random_state": seed, **options}
    return train_test_split(np.arange(len(table)), **options)


def _recall(model, x, y, rows, rare):
    at = rows[y[rows] == rare]
    return float(np.mean(model.predict(x.iloc[at]) == rare)) if len(at) else 0.0


def _trained(table, target, seed, split=None, model=None, fit_on=None, score=None):
    """The reference in other words, with the places to go wrong as arguments."""
    x, y = table.drop(columns=target), table[target].to_numpy()
    train, test = _split_rows(table, target, seed, **(split or {}))
    model = model or _pipeline()
    rows = train if fit_on is None else fit_on(train, test)
    model.fit(x.iloc[rows], y[rows])
    recall = (score or _recall)(model, x, y, test, _rarest(y))
    return {"model": model, "train_rows": train, "test_rows": test, "minority_recall": recall}


@wrong("1.10", names="only the score", reason=r"a dictionary: model, train_rows")
def fix_score_only(table, target, seed=0):
    return _trained(table, target, seed)["minority_recall"]


@wrong("1.10", names="the rows left out", reason=r"keep the rows and the model with the score")
def fix_no_rows(table, target, seed=0):
    return {key: value for key, value in _trained(table, target, seed).items() if not key.endswith("rows")}


@wrong("1.10", names="preprocessing outside the model", reason=r"travel together in one Pipeline")
def fix_bare_model(table, target, seed=0):
    done = _trained(table, target, seed)
    return {**done, "model": done["model"][-1]}


@wrong("1.10", names="a pipeline without the imputer", reason=r"raw rows with gaps must go in")
def fix_gaps(table, target, seed=0):
    x = table.drop(columns=target)
    return _trained(table.fillna(x.median()), target, seed, model=_pipeline_without_imputer())


def _pipeline_without_imputer():
    return make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))


@wrong("1.10", names="index labels", reason=r"not the table's index labels")
def fix_index_labels(table, target, seed=0):
    done = _trained(table, target, seed)
    return {**done, **{key: table.index.to_numpy()[done[key]] for key in ("train_rows", "test_rows")}}


@wrong("1.10", names="rows as a list", reason=r"positions as an int array")
def fix_lists(table, target, seed=0):
    done = _trained(table, target, seed)
    return {**done, "train_rows": done["train_rows"].tolist(), "test_rows": done["test_rows"].tolist()}


@wrong("1.10", names="rows with gaps dropped", reason=r"no row may be dropped")
def fix_dropped(table, target, seed=0):
    whole = np.flatnonzero(table.notna().all(axis=1).to_numpy())
    done = _trained(table.iloc[whole], target, seed)
    return {**done, "train_rows": whole[done["train_rows"]], "test_rows": whole[done["test_rows"]]}


@wrong("1.10", names="not stratified", reason=r"stratify=y with test_size=0\.25")
def fix_unstratified(table, target, seed=0):
    return _trained(table, target, seed, split={"stratify": None})


@wrong("1.10", names="a fifth held out", reason=r"stratify=y with test_size=0\.25")
def fix_fifth(table, target, seed=0):
    return _trained(table, target, seed, split={"test_size": 0.2})


@wrong("1.10", names="labels encoded", reason=r"the target is not preprocessed")
def fix_encoded(table, target, seed=0):
    coded = table.copy()
    coded[target] = LabelEncoder().fit_transform(table[target])
    return _trained(coded, target, seed)


@wrong("1.10", names="accuracy", reason=r"accuracy over all classes")
def fix_accuracy(table, target, seed=0):
    return _trained(
        table, target, seed, score=lambda m, x, y, rows, rare: accuracy_score(y[rows], m.predict(x.iloc[rows]))
    )


@wrong("1.10", names="precision", reason=r"this is the precision")
def fix_precision(table, target, seed=0):
    def score(m, x, y, rows, rare):
        return precision_score(y[rows] == rare, m.predict(x.iloc[rows]) == rare)

    return _trained(table, target, seed, score=score)


@wrong("1.10", names="mean recall", reason=r"mean recall over all classes")
def fix_mean_recall(table, target, seed=0):
    def score(m, x, y, rows, rare):
        return recall_score(y[rows], m.predict(x.iloc[rows]), average="macro")

    return _trained(table, target, seed, score=score)


@wrong("1.10", names="recall on the training rows", reason=r"recall on the training rows")
def fix_train_recall(table, target, seed=0):
    done = _trained(table, target, seed)
    y = table[target].to_numpy()
    recall = _recall(done["model"], table.drop(columns=target), y, done["train_rows"], _rarest(y))
    return {**done, "minority_recall": recall}


@wrong("1.10", names="recall of the commonest class", reason=r"among the test rows of the rarest class")
def fix_common_recall(table, target, seed=0):
    def score(m, x, y, rows, rare):
        return _recall(m, x, y, rows, Counter(y.tolist()).most_common(1)[0][0])

    return _trained(table, target, seed, score=score)


@wrong("1.10", names="weights computed, never used", reason=r"the class weights are not used")
def fix_unweighted(table, target, seed=0):
    labels = np.unique(table[target])
    _ = compute_class_weight("balanced", classes=labels, y=table[target])
    return _trained(table, target, seed, model=_pipeline(class_weight=None))


@wrong("1.10", names="the rare class weighs 1000", reason=r"the rare class has the largest say now")
def fix_thousandfold(table, target, seed=0):
    return _trained(table, target, seed, model=_pipeline(class_weight={_rarest(table[target].to_numpy()): 1000}))


@wrong("1.10", names="a random forest", reason=r"keep the logistic regression")
def fix_forest(table, target, seed=0):
    forest = RandomForestClassifier(10, class_weight="balanced", random_state=seed)
    return _trained(table, target, seed, model=make_pipeline(SimpleImputer(strategy="median"), forest))


@wrong("1.10", names="no random_state", reason=r"a score that nobody can repeat")
def fix_unseeded(table, target, seed=0):
    return _trained(table, target, seed, split={"random_state": None})


@wrong("1.10", names="fixed random_state", reason=r"the seed is fixed inside the function")
def fix_fixed_seed(table, target, seed=0):
    return _trained(table, target, seed, split={"random_state": 42})


@wrong("1.10", names="the whole pipeline fitted on all rows", reason=r"test rows reach the model")
def fix_fitted_on_all(table, target, seed=0):
    return _trained(table, target, seed, fit_on=lambda train, test: np.sort(np.concatenate([train, test])))


@wrong("1.10", names="imputer and scaler fitted on all rows", reason=r"test rows reach the model")
def fix_leaky_scaler(table, target, seed=0):
    x, y = table.drop(columns=target), table[target].to_numpy()
    train, test = _split_rows(table, target, seed)
    before = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()).fit(x)
    classifier = LogisticRegression(class_weight="balanced", max_iter=1000).fit(before.transform(x)[train], y[train])
    model = Pipeline([("before", before), ("classifier", classifier)])
    return {
        "model": model,
        "train_rows": train,
        "test_rows": test,
        "minority_recall": _recall(model, x, y, test, _rarest(y)),
    }


@wrong("1.10", names="the table changed", reason=r"works in place: work on a copy")
def fix_in_place(table, target, seed=0):
    done = _trained(table, target, seed)
    numeric = table.columns.drop(target)
    table[numeric] = table[numeric].fillna(table[numeric].median())
    return done


@right("1.10", names="strong penalty chosen by cross-validation, a pipeline in a pipeline")
def fix_penalty(table, target, seed=0):
    classifier = LogisticRegressionCV(Cs=[1e-3, 1e-1], cv=2, class_weight="balanced", max_iter=500)
    inner = make_pipeline(StandardScaler(), classifier)
    return _trained(table, target, seed, model=make_pipeline(SimpleImputer(strategy="median"), inner))


@right("1.10", names="common rows left out until the classes are equal")
def fix_undersampled(table, target, seed=0):
    y, rng = table[target].to_numpy(), np.random.default_rng(seed)

    def fewer(train, test):
        counts = Counter(y[train].tolist())
        return np.concatenate([rng.permutation(train[y[train] == c])[: min(counts.values())] for c in counts])

    return _trained(table, target, seed, model=_pipeline(class_weight=None), fit_on=fewer)


@right("1.10", names="sample weights and Python types")
def fix_sample_weights(table, target, seed=0):
    x, y = table.drop(columns=target), table[target]
    train, test = _split_rows(table, target, seed)
    model = Pipeline(
        [("fill", SimpleImputer(strategy="mean")), ("scale", StandardScaler()), ("model", LogisticRegression(C=10.0))]
    )
    weights = compute_sample_weight("balanced", y.iloc[train])
    model.fit(x.iloc[train].to_numpy(), y.iloc[train].tolist(), model__sample_weight=weights)
    rare = y.value_counts().idxmin()
    at = [i for i in test.tolist() if y.iloc[i] == rare]
    recall = sum(p == rare for p in model.predict(x.iloc[at].to_numpy())) / len(at)
    return {"model": model, "train_rows": np.sort(train), "test_rows": np.sort(test), "minority_recall": recall}


@right("1.10", names="a stratified fold, rare rows repeated, one entry more")
def fix_oversampled(table, target, seed=0):
    x, y = table.drop(columns=target), table[target].to_numpy()
    train, test = next(StratifiedKFold(4, shuffle=True, random_state=seed).split(x, y))
    counts = Counter(y[train].tolist())
    rng, most = np.random.default_rng(seed), max(counts.values())
    rows = np.concatenate([rng.choice(train[y[train] == c], most) for c in counts])
    model = _pipeline(class_weight=None).fit(x.iloc[rows], y[rows])
    recall = recall_score(y[test], model.predict(x.iloc[test]), labels=[_rarest(y)], average=None)[0]
    return {"model": model, "train_rows": train, "test_rows": test, "minority_recall": recall, "accuracy": 0.0}
