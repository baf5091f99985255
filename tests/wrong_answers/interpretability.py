"""Wrong and other right answers to exercises 5.1 to 5.3, 5.5 and 5.10, as candidates give them."""

import itertools
import math

import numpy as np
import torch
from lime import lime_image
from sklearn.linear_model import Ridge, RidgeCV, ridge_regression
from sklearn.metrics import cohen_kappa_score
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from . import right, wrong

# --- 5.1 LIME's kernel and ridge regression ---------------------------------------------------------------------------


def _distance(masks):
    shown = masks.sum(1)
    return 1 - shown / np.sqrt(np.maximum(shown, 1) * masks.shape[1])


def _ridge(x, y, w, alpha, penalise=False, intercept=True):
    x, y = np.asarray(x, float), np.asarray(y, float)
    if not intercept:
        return np.linalg.solve(x.T * w @ x + alpha * np.eye(x.shape[1]), x.T * w @ y), 0.0
    design = np.column_stack([x, np.ones(len(x))])
    penalty = alpha * np.eye(design.shape[1])
    penalty[-1, -1] = alpha if penalise else 0.0
    beta = np.linalg.solve(design.T * w @ design + penalty, design.T * w @ y)
    return beta[:-1], float(beta[-1])


def _kernel(masks, width):
    return np.sqrt(np.exp(-(_distance(masks) ** 2) / width**2))


@wrong("5.1", names="distances unsquared", reason=r"squared in the kernel")
def lime_unsquared(masks, answers, kernel_width=0.25, alpha=1.0):
    return _ridge(masks, answers, np.sqrt(np.exp(-_distance(masks) / kernel_width**2)), alpha)


@wrong("5.1", names="kernel width ignored", reason=r"width is ignored")
def lime_no_width(masks, answers, kernel_width=0.25, alpha=1.0):
    return _ridge(masks, answers, _kernel(masks, 1.0), alpha)


@wrong("5.1", names="no root", reason=r"square root of the exponential")
def lime_no_root(masks, answers, kernel_width=0.25, alpha=1.0):
    return _ridge(masks, answers, _kernel(masks, kernel_width) ** 2, alpha)


@wrong("5.1", names="unweighted", reason=r"count the same")
def lime_unweighted(masks, answers, kernel_width=0.25, alpha=1.0):
    return _ridge(masks, answers, np.ones(len(masks)), alpha)


@wrong("5.1", names="the all-ones sample left out", reason=r"first sample")
def lime_without_first(masks, answers, kernel_width=0.25, alpha=1.0):
    return _ridge(masks[1:], answers[1:], _kernel(masks, kernel_width)[1:], alpha)


@wrong("5.1", names="intercept penalised", reason=r"intercept is penalised")
def lime_penalised(masks, answers, kernel_width=0.25, alpha=1.0):
    return _ridge(masks, answers, _kernel(masks, kernel_width), alpha, penalise=True)


@wrong("5.1", names="no penalty", reason=r"penalty .* is missing")
def lime_least_squares(masks, answers, kernel_width=0.25, alpha=1.0):
    return _ridge(masks, answers, _kernel(masks, kernel_width), 0.0)


@wrong("5.1", names="penalty times the samples", reason=r"multiplied by the number")
def lime_penalty_per_sample(masks, answers, kernel_width=0.25, alpha=1.0):
    return _ridge(masks, answers, _kernel(masks, kernel_width), alpha * len(masks))


@wrong("5.1", names="no intercept", reason=r"no intercept")
def lime_through_zero(masks, answers, kernel_width=0.25, alpha=1.0):
    return _ridge(masks, answers, _kernel(masks, kernel_width), alpha, intercept=False)


@wrong("5.1", names="Euclidean distance", reason=r"not the Euclidean")
def lime_euclidean(masks, answers, kernel_width=0.25, alpha=1.0):
    w = np.sqrt(np.exp(-((1 - masks).sum(1)) / kernel_width**2))
    return _ridge(masks, answers, w, alpha)


@wrong("5.1", names="share of hidden superpixels", reason=r"share of hidden")
def lime_hamming(masks, answers, kernel_width=0.25, alpha=1.0):
    return _ridge(masks, answers, np.sqrt(np.exp(-((1 - masks.mean(1)) ** 2) / kernel_width**2)), alpha)


@wrong("5.1", names="NaN for a mask of zeros", reason=r"the coefficients")
def lime_nan(masks, answers, kernel_width=0.25, alpha=1.0):
    shown = masks.sum(1)
    d = 1 - shown / (np.sqrt(shown) * math.sqrt(masks.shape[1]))
    return _ridge(masks, answers, np.sqrt(np.exp(-(d**2) / kernel_width**2)), alpha)


@wrong("5.1", names="intercept from plain means", reason=r"weighted ones as well")
def lime_plain_means(masks, answers, kernel_width=0.25, alpha=1.0):
    beta, _ = _ridge(masks, answers, _kernel(masks, kernel_width), alpha)
    return beta, float(answers.mean() - masks.mean(0) @ beta)


@wrong("5.1", names="the intercept forgotten in the result", reason=r"there is an intercept")
def lime_zero_intercept(masks, answers, kernel_width=0.25, alpha=1.0):
    return _ridge(masks, answers, _kernel(masks, kernel_width), alpha)[0], 0.0


@wrong("5.1", names="one array", reason=r"return coefficients, intercept")
def lime_one_array(masks, answers, kernel_width=0.25, alpha=1.0):
    beta, intercept = _ridge(masks, answers, _kernel(masks, kernel_width), alpha)
    return np.append(beta, intercept)


@wrong("5.1", names="weights too", reason=r"two parts")
def lime_three(masks, answers, kernel_width=0.25, alpha=1.0):
    w = _kernel(masks, kernel_width)
    return (*_ridge(masks, answers, w, alpha), w)


@wrong("5.1", names="a list", reason=r"numpy array")
def lime_list(masks, answers, kernel_width=0.25, alpha=1.0):
    beta, intercept = _ridge(masks, answers, _kernel(masks, kernel_width), alpha)
    return beta.tolist(), intercept


@wrong("5.1", names="scikit-learn's ridge", reason=r"write it out")
def lime_library(masks, answers, kernel_width=0.25, alpha=1.0):
    model = Ridge(alpha=alpha).fit(masks, answers, sample_weight=_kernel(masks, kernel_width))
    return model.coef_, float(model.intercept_)


@wrong("5.1", names="scikit-learn's cross-validation over one penalty", reason=r"without sklearn.*RidgeCV")
def lime_cross_validated(masks, answers, kernel_width=0.25, alpha=1.0):
    model = RidgeCV(alphas=[alpha]).fit(masks, answers, sample_weight=_kernel(masks, kernel_width))
    return model.coef_, float(model.intercept_)


@wrong("5.1", names="scikit-learn's function for ridge regression", reason=r"without sklearn.*ridge_regression")
def lime_library_function(masks, answers, kernel_width=0.25, alpha=1.0):
    w = _kernel(masks, kernel_width)
    x_mean, y_mean = w @ masks / w.sum(), w @ answers / w.sum()
    beta = ridge_regression(masks - x_mean, answers - y_mean, alpha, sample_weight=w)
    return beta, float(y_mean - x_mean @ beta)


@wrong("5.1", names="a tensor as intercept", reason=r"the intercept: its type")
def lime_tensor(masks, answers, kernel_width=0.25, alpha=1.0):
    beta, intercept = _ridge(masks, answers, _kernel(masks, kernel_width), alpha)
    return beta, torch.tensor(intercept)


@right("5.1", names="other names for the parameters")
def lime_renamed(z, y, width=0.25, penalty=1.0):
    return _ridge(z, y, _kernel(z, width), penalty)


@right("5.1", names="least squares with rows added for the penalty")
def lime_augmented(masks, answers, kernel_width=0.25, alpha=1.0):
    k = masks.shape[1]
    root = np.sqrt(_kernel(masks, kernel_width))[:, None]
    rows = np.vstack([root * np.column_stack([masks, np.ones(len(masks))]), np.sqrt(alpha) * np.eye(k, k + 1)])
    y = np.append(root[:, 0] * answers, np.zeros(k))
    beta = np.linalg.lstsq(rows, y, rcond=None)[0]
    return beta[:-1], beta[-1]


@right("5.1", names="intercept as an unpenalised column")
def lime_column(masks, answers, kernel_width=0.25, alpha=1.0):
    return _ridge(masks, answers, _kernel(masks, kernel_width), alpha)


# --- 5.2 Shapley values -----------------------------------------------------------------------------------------------


def _sum(value, m, weight):
    sets = [frozenset(c) for size in range(m + 1) for c in itertools.combinations(range(m), size)]
    worth = {s: value(s) for s in sets}
    return np.array([sum(weight(len(s)) * (worth[s | {i}] - worth[s]) for s in sets if i not in s) for i in range(m)])


def _right_weight(m):
    return lambda s: math.factorial(s) * math.factorial(m - s - 1) / math.factorial(m)


@wrong("5.2", names="Banzhaf", reason=r"factorials")
def shapley_banzhaf(value, m):
    return _sum(value, m, lambda s: 1 / 2 ** (m - 1))


@wrong("5.2", names="no weights", reason=r"weights .* missing|factorials")
def shapley_unweighted(value, m):
    return _sum(value, m, lambda s: 1.0)


@wrong("5.2", names="C(m, s)", reason=r"C\(m - 1, s\)")
def shapley_choose(value, m):
    return _sum(value, m, lambda s: 1 / (m * math.comb(m, s)))


@wrong("5.2", names="one factorial off", reason=r"does not count among")
def shapley_off(value, m):
    return _sum(value, m, lambda s: math.factorial(s) * math.factorial(m - s) / math.factorial(m))


@wrong("5.2", names="not divided by m!", reason=r"divide by m!")
def shapley_undivided(value, m):
    return _sum(value, m, lambda s: math.factorial(s) * math.factorial(m - s - 1))


@wrong("5.2", names="alone", reason=r"adds to nobody")
def shapley_alone(value, m):
    empty = value(())
    return np.array([value((i,)) - empty for i in range(m)])


@wrong("5.2", names="baseline not subtracted", reason=r"empty coalition not even")
def shapley_no_baseline(value, m):
    return np.array([value((i,)) for i in range(m)])


@wrong("5.2", names="leave one out", reason=r"leave-one-out")
def shapley_last(value, m):
    full = value(range(m))
    return np.array([full - value([p for p in range(m) if p != i]) for i in range(m)])


@wrong("5.2", names="one order", reason=r"one order of arrival")
def shapley_order(value, m):
    worth = [value(range(i)) for i in range(m + 1)]
    return np.diff(np.array(worth))


@wrong("5.2", names="baseline shared out", reason=r"baseline is not shared")
def shapley_shared(value, m):
    worth = {}

    def asked(s):
        return worth.setdefault(s, None) or worth.update({s: value(s)}) or worth[s]

    return _sum(asked, m, _right_weight(m)) + worth[frozenset()] / m


@wrong("5.2", names="normalised", reason=r"not normalised")
def shapley_normalised(value, m):
    shares = _sum(value, m, _right_weight(m))
    return shares / shares.sum()


@wrong("5.2", names="the model's answer itself", reason=r"what\s+the coalition is worth without|without player i")
def shapley_not_marginal(value, m):
    sets = [frozenset(c) for size in range(m + 1) for c in itertools.combinations(range(m), size)]
    worth = {s: value(s) for s in sets}
    weight = _right_weight(m)
    return np.array([sum(weight(len(s)) * worth[s | {i}] for s in sets if i not in s) for i in range(m)])


@wrong("5.2", names="asked again and again", reason=r"at most once")
def shapley_wasteful(value, m):
    weight, found = _right_weight(m), np.zeros(m)
    for i in range(m):
        others = [p for p in range(m) if p != i]
        for s in range(m):
            for c in itertools.combinations(others, s):
                found[i] += weight(s) * (value((*c, i)) - value(c))
    return found


@wrong("5.2", names="a list", reason=r"numpy array")
def shapley_list(value, m):
    return _sum(value, m, _right_weight(m)).tolist()


@right("5.2", names="all orders, values kept")
def shapley_orders(value, m):
    worth = {}

    def asked(players):
        s = frozenset(players)
        if s not in worth:
            worth[s] = value(s)
        return worth[s]

    total = np.zeros(m)
    for order in itertools.permutations(range(m)):
        for place, player in enumerate(order):
            total[player] += asked(order[: place + 1]) - asked(order[:place])
    return total / math.factorial(m)


@right("5.2", names="bits")
def shapley_bits(value, m):
    v = np.array([value([i for i in range(m) if c >> i & 1]) for c in range(2**m)])
    shares = np.zeros(m)
    for c in range(2**m):
        size = c.bit_count()
        for i in range(m):
            if not c >> i & 1:
                shares[i] += (v[c | 1 << i] - v[c]) / (m * math.comb(m - 1, size))
    return shares


# --- 5.3 permutation importance ---------------------------------------------------------------------------------------


def _falls(predict, rows, y, score, repeats, shuffle):
    base = score(y, predict(rows))
    found = np.empty((rows.shape[1], repeats))
    for column, repeat in itertools.product(range(rows.shape[1]), range(repeats)):
        found[column, repeat] = base - score(y, predict(shuffle(rows.copy(), column)))
    return found


def _shuffled(rng):
    def shuffle(x, column):
        x[:, column] = rng.permutation(x[:, column])
        return x

    return shuffle


@wrong("5.3", names="scores instead of falls", reason=r"scores themselves")
def permutation_scores(predict, rows, y, score, repeats, rng):
    return score(y, predict(rows)) - _falls(predict, rows, y, score, repeats, _shuffled(rng))


@wrong("5.3", names="sign turned", reason=r"sign is turned")
def permutation_sign(predict, rows, y, score, repeats, rng):
    return -_falls(predict, rows, y, score, repeats, _shuffled(rng))


@wrong("5.3", names="a share of the score", reason=r"not a share")
def permutation_share(predict, rows, y, score, repeats, rng):
    return _falls(predict, rows, y, score, repeats, _shuffled(rng)) / score(y, predict(rows))


@wrong("5.3", names="columns stay shuffled", reason=r"fresh copy")
def permutation_piling(predict, rows, y, score, repeats, rng):
    x, base = rows.copy(), score(y, predict(rows))
    shuffle, found = _shuffled(rng), np.empty((rows.shape[1], repeats))
    for column, repeat in itertools.product(range(rows.shape[1]), range(repeats)):
        found[column, repeat] = base - score(y, predict(shuffle(x, column)))
    return found


@wrong("5.3", names="whole rows shuffled", reason=r"one column is shuffled at a time")
def permutation_rows(predict, rows, y, score, repeats, rng):
    return _falls(predict, rows, y, score, repeats, lambda x, column: rng.permutation(x))


@wrong("5.3", names="column set to zero", reason=r"keeps its values")
def permutation_zero(predict, rows, y, score, repeats, rng):
    def zero(x, column):
        x[:, column] = 0
        return x

    return _falls(predict, rows, y, score, repeats, zero)


@wrong("5.3", names="drawn with replacement", reason=r"drawing with replacement")
def permutation_bootstrap(predict, rows, y, score, repeats, rng):
    def draw(x, column):
        x[:, column] = rng.choice(x[:, column], len(x))
        return x

    return _falls(predict, rows, y, score, repeats, draw)


@wrong("5.3", names="y shuffled", reason=r"column of rows that is shuffled")
def permutation_labels(predict, rows, y, score, repeats, rng):
    base = score(y, predict(rows))
    return np.array([[base - score(rng.permutation(y), predict(rows)) for _ in range(repeats)] for _ in rows.T])


@wrong("5.3", names="one shuffle repeated", reason=r"own shuffle")
def permutation_same(predict, rows, y, score, repeats, rng):
    order = rng.permutation(len(rows))

    def reorder(x, column):
        x[:, column] = x[order, column]
        return x

    return _falls(predict, rows, y, score, repeats, reorder)


@wrong("5.3", names="mean over the repeats", reason=r"its shape")
def permutation_mean(predict, rows, y, score, repeats, rng):
    return _falls(predict, rows, y, score, repeats, _shuffled(rng)).mean(1)


@wrong("5.3", names="its own generator", reason=r"generator that is given")
def permutation_own(predict, rows, y, score, repeats, rng):
    return _falls(predict, rows, y, score, repeats, _shuffled(np.random.default_rng()))


def _fixed(names, reason, make):
    """A wrong answer that has its own idea of what to shuffle with: make(repeat) is its generator."""

    def answer(predict, rows, y, score, repeats, rng):
        base, found = score(y, predict(rows)), np.empty((rows.shape[1], repeats))
        generators = [make(repeat) for repeat in range(repeats)]
        for column, repeat in itertools.product(range(rows.shape[1]), range(repeats)):
            x = rows.copy()
            x[:, column] = generators[repeat].permutation(x[:, column])
            found[column, repeat] = base - score(y, predict(x))
        return found

    wrong("5.3", names=names, reason=reason)(answer)


_fixed("a generator for each repeat", r"generator that is given: with a seed", np.random.default_rng)
_fixed("numpy's old generator", r"generator that is given: with a seed", np.random.RandomState)


@wrong("5.3", names="a seed of its own", reason=r"generator that is given: with a seed")
def permutation_seed(predict, rows, y, score, repeats, rng):
    return _falls(predict, rows, y, score, repeats, _shuffled(np.random.default_rng(0)))


@wrong("5.3", names="the global generator, seeded", reason=r"generator that is given: with a seed")
def permutation_global(predict, rows, y, score, repeats, rng):
    np.random.seed(0)
    return _falls(predict, rows, y, score, repeats, _shuffled(np.random))


@wrong("5.3", names="rolled instead of shuffled", reason=r"without chance")
def permutation_rolled(predict, rows, y, score, repeats, rng):
    base, found = score(y, predict(rows)), np.empty((rows.shape[1], repeats))
    for column, repeat in itertools.product(range(rows.shape[1]), range(repeats)):
        x = rows.copy()
        x[:, column] = np.roll(x[:, column], repeat + 1)
        found[column, repeat] = base - score(y, predict(x))
    return found


@wrong("5.3", names="one permutation for all columns of a repeat", reason=r"draw anew for each column")
def permutation_shared(predict, rows, y, score, repeats, rng):
    base, found = score(y, predict(rows)), np.empty((rows.shape[1], repeats))
    for repeat in range(repeats):
        order = rng.permutation(len(rows))
        for column in range(rows.shape[1]):
            x = rows.copy()
            x[:, column] = x[order, column]
            found[column, repeat] = base - score(y, predict(x))
    return found


@wrong("5.3", names="sizes of the falls", reason=r"can be negative")
def permutation_sizes(predict, rows, y, score, repeats, rng):
    return np.abs(_falls(predict, rows, y, score, repeats, _shuffled(rng)))


@wrong("5.3", names="no fall below zero", reason=r"can be negative")
def permutation_clipped(predict, rows, y, score, repeats, rng):
    return np.maximum(_falls(predict, rows, y, score, repeats, _shuffled(rng)), 0)


@wrong("5.3", names="the smallest fall is zero", reason=r"can be negative")
def permutation_shifted(predict, rows, y, score, repeats, rng):
    falls = _falls(predict, rows, y, score, repeats, _shuffled(rng))
    return falls - falls.min()


@wrong("5.3", names="in place", reason=r"as it was")
def permutation_in_place(predict, rows, y, score, repeats, rng):
    base, found = score(y, predict(rows)), np.empty((rows.shape[1], repeats))
    for column, repeat in itertools.product(range(rows.shape[1]), range(repeats)):
        rng.shuffle(rows[:, column])
        found[column, repeat] = base - score(y, predict(rows))
    return found


@right("5.3", names="all repeats of a column in one call")
def permutation_stacked(predict, rows, y, score, repeats, rng):
    n, base = len(rows), score(y, predict(rows))
    found = []
    for column in range(rows.shape[1]):
        x = np.tile(rows, (repeats, 1))
        x[:, column] = np.concatenate([rng.permutation(rows[:, column]) for _ in range(repeats)])
        answers = predict(x)
        found.append([base - score(y, answers[i * n : (i + 1) * n]) for i in range(repeats)])
    return np.array(found)


@right("5.3", names="repeats outside")
def permutation_outside(predict, rows, y, score, repeats, rng):
    base, found = score(y, predict(rows)), np.empty((rows.shape[1], repeats))
    for repeat in range(repeats):
        for column in range(rows.shape[1]):
            x = rows.copy()
            x[:, column] = x[rng.permutation(len(x)), column]
            found[column, repeat] = base - score(y, predict(x))
    return found


# --- 5.5 surrogate fidelity -------------------------------------------------------------------------------------------


def _judged(model, imitation, labels, **changes):
    classes = np.union1d(model, imitation)
    p, q = (np.array([(a == c).mean() for c in classes]) for a in (model, imitation))
    a, chance = float((model == imitation).mean()), float(p @ q)
    right = {
        "agreement": a,
        "baseline": float(p.max()),
        "kappa": (a - chance) / (1 - chance) if chance < 1 else 0.0,
        "accuracy": float((imitation == labels).mean()),
    }
    return {**right, **{name: float(change(right, model, imitation, chance)) for name, change in changes.items()}}


def _grown(predict, x_train, depth):
    return DecisionTreeClassifier(max_depth=depth, random_state=0).fit(x_train, predict(x_train))


@wrong("5.5", names="fidelity against the labels", reason=r"fidelity is agreement with the model")
def surrogate_labels(predict, x_train, x_test, y_test, depth):
    imitation = _grown(predict, x_train, depth).predict(x_test)
    return _judged(predict(x_test), imitation, y_test, agreement=lambda r, m, i, c: (i == y_test).mean())


@wrong("5.5", names="judged on the training rows", reason=r"judge it on the test rows")
def surrogate_training(predict, x_train, x_test, y_test, depth):
    tree = _grown(predict, x_train, depth)
    found = _judged(predict(x_train), tree.predict(x_train), predict(x_train))
    return {**found, "accuracy": float((tree.predict(x_test) == y_test).mean())}


@wrong("5.5", names="no depth", reason=r"depth is ignored")
def surrogate_deep(predict, x_train, x_test, y_test, depth):
    return _judged(predict(x_test), _grown(predict, x_train, None).predict(x_test), y_test)


def _changed(names, reason, **changes):
    def answer(predict, x_train, x_test, y_test, depth):
        with np.errstate(all="ignore"):
            imitation = _grown(predict, x_train, depth).predict(x_test)
            given = {name: lambda r, m, i, c, f=change: f(r, m, i, c, y_test) for name, change in changes.items()}
            return _judged(predict(x_test), imitation, y_test, **given)

    wrong("5.5", names=names, reason=reason)(answer)


def _most(answers):
    return np.unique(answers, return_counts=True)[1].max() / len(answers)


_changed("baseline of the labels", r"most frequent label", baseline=lambda r, m, i, c, y: _most(y))
_changed(
    "baseline of the tree", r"tree's most frequent|baseline is the model's", baseline=lambda r, m, i, c, y: _most(i)
)
_changed("a coin as baseline", r"a coin", baseline=lambda r, m, i, c, y: 1 / len(np.unique(y)))
_changed(
    "κ from the baseline",
    r"chance is not the baseline",
    kappa=lambda r, m, i, c, y: (r["agreement"] - r["baseline"]) / (1 - r["baseline"]) if r["baseline"] < 1 else 0.0,
)
_changed(
    "κ as a difference", r"difference from the baseline", kappa=lambda r, m, i, c, y: r["agreement"] - r["baseline"]
)
_changed("κ is the agreement", r"agreement itself", kappa=lambda r, m, i, c, y: r["agreement"])
_changed(
    "κ NaN for a constant answer",
    r"return 0",
    kappa=lambda r, m, i, c, y: np.float64(r["agreement"] - c) / np.float64(1 - c),
)
_changed("accuracy of the imitation", r"accuracy is against the labels", accuracy=lambda r, m, i, c, y: r["agreement"])


_changed("κ 1 for a constant answer", r"return 0", kappa=lambda r, m, i, c, y: 1.0 if c == 1 else r["kappa"])


def _misaligned(model, imitation, pair):
    p, q = (np.unique(answers, return_counts=True)[1] / len(answers) for answers in (model, imitation))
    a, chance = (model == imitation).mean(), pair(p, q)
    return (a - chance) / (1 - chance) if chance < 1 else 0.0


_changed(
    "κ from the shares of different classes",
    r"same list of classes",
    kappa=lambda r, m, i, c, y: _misaligned(m, i, lambda p, q: sum(a * b for a, b in zip(p, q))),  # noqa: B905
)
_changed(
    "κ from a product of two tables",
    r"ValueError|same list of classes",
    kappa=lambda r, m, i, c, y: _misaligned(m, i, lambda p, q: (p * q).sum()),
)


@wrong("5.5", names="baseline of the training rows' majority", reason=r"on the training rows is another one")
def surrogate_majority(predict, x_train, x_test, y_test, depth):
    model, imitation = predict(x_test), _grown(predict, x_train, depth).predict(x_test)
    usual = np.bincount(predict(x_train)).argmax()
    return {**_judged(model, imitation, y_test), "baseline": float((model == usual).mean())}


@wrong("5.5", names="a regression tree, rounded", reason=r"regression tree averages")
def surrogate_regression(predict, x_train, x_test, y_test, depth):
    tree = DecisionTreeRegressor(max_depth=depth, random_state=0).fit(x_train, predict(x_train))
    return _judged(predict(x_test), tree.predict(x_test).round().astype(int), y_test)


@wrong("5.5", names="arrays of length 1", reason=r"the agreement: its type")
def surrogate_arrays(predict, x_train, x_test, y_test, depth):
    found = _judged(predict(x_test), _grown(predict, x_train, depth).predict(x_test), y_test)
    return {name: np.array([value]) for name, value in found.items()}


@wrong("5.5", names="agreement only", reason=r"return all four")
def surrogate_alone(predict, x_train, x_test, y_test, depth):
    return {"agreement": float((_grown(predict, x_train, depth).predict(x_test) == predict(x_test)).mean())}


@wrong("5.5", names="scikit-learn's κ", reason=r"write it out")
def surrogate_library(predict, x_train, x_test, y_test, depth):
    model, imitation = predict(x_test), _grown(predict, x_train, depth).predict(x_test)
    kappa = cohen_kappa_score(model, imitation)
    return {**_judged(model, imitation, y_test), "kappa": 0.0 if np.isnan(kappa) else float(kappa)}


@right("5.5", names="other names for the parameters")
def surrogate_renamed(f, train, test, labels, limit):
    return _judged(f(test), _grown(f, train, limit).predict(test), labels)


@right("5.5", names="by the table of counts")
def surrogate_counts(predict, x_train, x_test, y_test, depth):
    model, imitation = predict(x_test), _grown(predict, x_train, depth).predict(x_test)
    size = int(max(model.max(), imitation.max())) + 1
    table = np.zeros((size, size))
    np.add.at(table, (model, imitation), 1)
    n = table.sum()
    chance = (table.sum(0) * table.sum(1)).sum() / n**2
    a = np.trace(table) / n
    kappa = 0.0 if chance == 1 else (a - chance) / (1 - chance)
    return {
        "agreement": a,
        "baseline": table.sum(1).max() / n,
        "kappa": kappa,
        "accuracy": np.mean(imitation == y_test),
    }


# --- 5.10 fix this code -----------------------------------------------------------------------------------------------


def _explained(
    model,
    picture,
    segments,
    mean,
    std,
    samples,
    seed,
    *,
    train=False,
    grad=False,
    ask=lambda model, x: model(x),
    to_input=None,
    answer=lambda logits: logits.softmax(1),
    options=None,
    few=False,
    label=None,
    weights=None,
    mask=None,
    kind=lime_image.LimeImageExplainer,
    hide=None,
):
    model.train(train)

    def classify(pictures):
        scaled = (np.asarray(pictures) / 255 - mean) / std
        x = torch.from_numpy(scaled).permute(0, 3, 1, 2).float() if to_input is None else to_input(pictures, mean, std)
        with torch.set_grad_enabled(grad):
            return answer(ask(model, x)).detach().numpy()

    count = int(segments.max()) + 1
    found = kind(random_state=seed).explain_instance(
        picture,
        classify,
        **(options or {"top_labels": 1}),
        hide_color=hide,
        num_samples=samples if few else max(samples, 10 * count),
        batch_size=64,
        segmentation_fn=lambda _: segments,
    )
    chosen = int(found.top_labels[0]) if label is None else label
    values = np.zeros(count)
    for number, weight in found.local_exp[chosen]:
        values[number] = weight
    if weights is not None:
        values = weights(found, chosen, values)
    shown = found.get_image_and_mask(chosen, positive_only=True, num_features=3)[1]
    return {
        "label": chosen,
        "probability": float(classify(picture[None])[0, chosen]),
        "weights": values,
        "mask": shown if mask is None else mask(found, chosen),
    }


def _script(names, reason, **changes):
    def answer(model, picture, segments, mean, std, samples, seed):
        return _explained(model, picture, segments, mean, std, samples, seed, **changes)

    wrong("5.10", names=names, reason=reason)(answer)


def _last(pictures, mean, std):
    return torch.from_numpy((np.asarray(pictures) / 255 - mean) / std).float()


def _levels(pictures, mean, std):
    return torch.from_numpy((np.asarray(pictures) - mean) / std).permute(0, 3, 1, 2).float()


def _unit(pictures, mean, std):
    return torch.from_numpy(np.asarray(pictures) / 255).permute(0, 3, 1, 2).float()


def _reshaped(pictures, mean, std):
    scaled = (np.asarray(pictures) / 255 - mean) / std
    return torch.from_numpy(np.ascontiguousarray(scaled)).reshape(-1, 3, *scaled.shape[1:3]).float()


_script("model.predict", r"predict", ask=lambda model, x: model.predict(x))
_script("channels last", r"channels last", to_input=_last)
_script("logits", r"given logits", answer=lambda logits: logits)
_script("training mode", r"model\.eval", train=True)
_script("0 to 255", r"0–255 against 0–1", to_input=_levels)
_script("not normalised", r"take the mean off", to_input=_unit)
_script("reshaped", r"permute, not by reshape", to_input=_reshaped)
_script("gradients recorded", r"without the graph", grad=True)
_script("50 samples", r"too few samples", few=True)
_script("label 1", r"lime's default, class 1", options={"labels": (1,), "top_labels": None}, label=1)
_script("the label of the class list's end", r"largest probability", options={"top_labels": 4}, label=3)
_script(
    "weights of class 1",
    r"weights of class 1",
    options={"top_labels": 4},
    weights=lambda found, label, values: np.array([w for _, w in sorted(found.local_exp[1])]),
)
_script(
    "weights in lime's order",
    r"in lime's order",
    weights=lambda found, label, values: np.array([w for _, w in found.local_exp[label]]),
)
_script("pairs", r"numpy array|its type", weights=lambda found, label, values: found.local_exp[label])
_script("hidden in black", r"mean colour", hide=0)
_script(
    "both signs in the mask",
    r"positive_only",
    mask=lambda found, label: found.get_image_and_mask(label, positive_only=False, num_features=3)[1],
)
_script("the picture for the mask", r"the mask", mask=lambda found, label: found.get_image_and_mask(label)[0])
_script("show_in_notebook", r"show_in_notebook", mask=lambda found, label: found.show_in_notebook())


_script("picture and mask", r"mask: its type", mask=lambda found, label: found.get_image_and_mask(label))


def _entry(names, reason, entry, change):
    def answer(model, picture, segments, mean, std, samples, seed):
        found = _explained(model, picture, segments, mean, std, samples, seed)
        return {**found, entry: change(found[entry])}

    wrong("5.10", names=names, reason=reason)(answer)


_entry("the label as a text", r"the label: its type", "label", str)
_entry("the label as a float", r"the label: its type", "label", float)
_entry("the label as a tensor", r"the label: its type", "label", torch.tensor)
_entry("the probability as an array", r"the probability: its type", "probability", np.array)


@wrong("5.10", names="the parameters frozen for good", reason=r"caller's, who may go on training")
def picture_frozen(model, picture, segments, mean, std, samples, seed):
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return _explained(model, picture, segments, mean, std, samples, seed)


@wrong("5.10", names="gradients switched off for good", reason=r"set_grad_enabled\(False\) as a statement stays")
def picture_switched_off(model, picture, segments, mean, std, samples, seed):
    found = _explained(model, picture, segments, mean, std, samples, seed)
    torch.set_grad_enabled(False)
    return found


@wrong("5.10", names="the probability left out", reason=r"return all four")
def picture_without_probability(model, picture, segments, mean, std, samples, seed):
    found = _explained(model, picture, segments, mean, std, samples, seed)
    del found["probability"]
    return found


@wrong("5.10", names="the probability of the last masked picture", reason=r"nothing hidden")
def picture_other_probability(model, picture, segments, mean, std, samples, seed):
    found = _explained(model, picture, segments, mean, std, samples, seed)
    return {**found, "probability": found["probability"] * 0.9}


@wrong("5.10", names="the model is never asked", reason=r"has no predict")
def picture_invented(model, picture, segments, mean, std, samples, seed):
    return {"label": 2, "probability": 0.5, "weights": np.zeros(16), "mask": np.zeros((24, 24))}


@right("5.10", names="the course's explainer")
def picture_by_the_course(model, picture, segments, mean, std, samples, seed):
    from helpers import explanation as ex

    predict = ex.image_classifier(model, mean=255 * mean, std=255 * std)
    count = int(segments.max()) + 1
    found = ex.explain_image(
        picture,
        predict,
        labels=1,
        samples=max(samples, 10 * count),
        segmentation=lambda _: segments,
        seed=seed,
        progress=False,
    )
    label = found.labels[0]
    mask = found.image_and_mask(label, num_features=3)[1]
    return {
        "label": label,
        "probability": float(found.probabilities[label]),
        "weights": found.weights[label],
        "mask": mask,
    }


@right("5.10", names="all labels explained, the first taken")
def picture_all_labels(model, picture, segments, mean, std, samples, seed):
    return _explained(model, picture, segments, mean, std, samples, seed, options={"top_labels": 4})


from . import interpretability_trust  # noqa: E402, F401 - those of 5.4 and 5.6 to 5.9
