"""Wrong and other right answers to exercises 5.4 and 5.6 to 5.9, as candidates give them."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import kendalltau, mstats, pearsonr, rankdata, spearmanr

from . import right, wrong

# --- 5.4 integrated gradients -------------------------------------------------------------------------------------


def _gradient(score, point):
    here = point.detach().requires_grad_()
    return torch.autograd.grad(score(here[None]).sum(), here)[0]


def _attributed(score, x, baseline, steps, slip=""):
    start = torch.zeros_like(x) if slip == "path from zero" else baseline
    if slip == "gradient at the input only":
        return _gradient(score, x) * (x - baseline)
    shift = {"left ends": 0.0, "right ends": 1.0}.get(slip, 0.5)
    total = torch.zeros_like(x)
    for k in range(steps):
        total += _gradient(score, start + (k + shift) / steps * (x - start))
    mean = total if slip == "summed, not averaged" else total / steps
    if slip == "baseline not subtracted":
        return mean * x
    if slip == "average gradient only":
        return mean
    values = mean * (x - start)
    if slip == "absolute":
        return values.abs()
    if slip == "a single number":
        return values.sum()
    return values.double() if slip == "float64" else values


for _slip, _reason in {
    "left ends": "left ends",
    "right ends": "right ends",
    "path from zero": "starts at 0|not subtracted",
    "gradient at the input only": "input alone",
    "summed, not averaged": "divide by their number",
    "baseline not subtracted": "baseline is not subtracted",
    "average gradient only": r"multiply it by \(x - baseline\)",
    "absolute": "keep the sign",
    "a single number": "one number for each input",
    "float64": "dtype",
}.items():
    wrong(
        "5.4",
        names=_slip,
        reason=_reason,
        parts={"integrated_gradients": lambda *a, _slip=_slip: _attributed(*a, slip=_slip)},
    )


@wrong("5.4", part="integrated_gradients", names="backward through the weights", reason="left alone|adds to the grad")
def by_backward(score, x, baseline, steps):
    total = torch.zeros_like(x)
    for k in range(steps):
        here = (baseline + (k + 0.5) / steps * (x - baseline)).detach().requires_grad_()
        score(here[None]).sum().backward()
        total += here.grad
    return (x - baseline) * total / steps


@wrong(
    "5.4", part="integrated_gradients", names="backward, and the weights cleared", reason="loses those that were there"
)
def by_backward_cleared(score, x, baseline, steps):
    found = by_backward(score, x, baseline, steps)
    score.layer.weight.grad = None
    return found


@wrong("5.4", part="integrated_gradients", names="the caller's x requires gradients", reason="works in place")
def on_the_callers_x(score, x, baseline, steps):
    x.requires_grad_()
    total = torch.zeros_like(x)
    for k in range(steps):
        here = baseline + (k + 0.5) / steps * (x - baseline)
        total += torch.autograd.grad(score(here[None]).sum(), here)[0]
    return ((x - baseline) * total / steps).detach()


@wrong("5.4", part="integrated_gradients", names="the result hangs on the graph", reason="hangs on the graph")
def with_a_graph(score, x, baseline, steps):
    total = 0
    for k in range(steps):
        here = (baseline + (k + 0.5) / steps * (x - baseline)).detach().requires_grad_()
        total = total + torch.autograd.grad(score(here[None]).sum(), here, create_graph=True)[0]
    return (x - baseline) * total / steps


@wrong("5.4", part="integrated_gradients", names="captum does it", reason="written without captum")
def by_captum(score, x, baseline, steps):
    from captum.attr import IntegratedGradients

    return IntegratedGradients(score).attribute(x[None], baseline[None], n_steps=steps, method="riemann_middle")[0]


def _gap(score, x, baseline, attributions, slip=""):
    with torch.no_grad():
        start = torch.zeros_like(baseline) if slip == "gap against zeros" else baseline
        full, nothing = score(x[None])[0], score(start[None])[0]
    total = attributions.abs().sum() if slip == "gap of the sizes" else attributions.sum()
    gap = total - (full if slip == "gap without the baseline's score" else full - nothing)
    if slip == "gap without sign":
        gap = gap.abs()
    if slip == "relative gap":
        gap = gap / (full - nothing)
    if slip == "gap, sign turned":
        gap = -gap
    return gap if slip == "gap as a tensor" else gap.item()


for _slip, _reason in {
    "gap without the baseline's score": "score of the baseline is missing",
    "gap against zeros": "not to zeros",
    "gap without sign": "keep the sign",
    "relative gap": "relative",
    "gap, sign turned": "sign is turned",
    "gap as a tensor": "a Python float",
    "gap of the sizes": "with their signs",
}.items():
    wrong("5.4", names=_slip, reason=_reason, parts={"completeness_gap": lambda *a, _slip=_slip: _gap(*a, slip=_slip)})


@right("5.4", part="integrated_gradients", names="all points of the path in one batch")
def in_one_batch(score, x, baseline, steps):
    alphas = (torch.arange(steps, dtype=x.dtype) + 0.5) / steps
    path = baseline + alphas.view(-1, *[1] * x.dim()) * (x - baseline)
    path.requires_grad_()
    (gradients,) = torch.autograd.grad(score(path).sum(), path)
    return (x - baseline) * gradients.mean(0)


@right("5.4", part="integrated_gradients", names="places on the path in float32")
def places_in_float32(score, x, baseline, steps):
    total = torch.zeros_like(x)
    for alpha in (torch.arange(steps) + 0.5) / steps:
        total += _gradient(score, baseline + alpha * (x - baseline))
    return (x - baseline) * total / steps


@right("5.4", part="integrated_gradients", names="the places as one float32 tensor, all in one batch")
def batch_in_float32(score, x, baseline, steps):
    alphas = ((torch.arange(steps) + 0.5) / steps).view(-1, *[1] * x.dim()).to(x.dtype)
    path = (baseline + alphas * (x - baseline)).detach().requires_grad_()
    return (x - baseline) * torch.autograd.grad(score(path).sum(), path)[0].mean(0)


@right("5.4", part="integrated_gradients", names="backward, for the inputs only, on a strided path")
def backward_for_inputs(score, x, baseline, steps):
    total = torch.zeros_like(x)
    for alpha in np.linspace(0, 1, 2 * steps + 1)[1::2]:
        here = torch.lerp(baseline, x, float(alpha)).detach().requires_grad_()
        score(here.unsqueeze(0)).squeeze(0).backward(inputs=[here])
        total = total + here.grad
    return total.div(steps) * x.sub(baseline)


# --- 5.6 attention rollout ------------------------------------------------------------------------------------------


def _rollout(maps, slip=""):
    time = maps.shape[-1]
    eye = torch.eye(time, dtype=torch.float64 if slip == "always float64" else maps.dtype)
    maps = maps.double() if slip == "always float64" else maps
    mean = {"largest head": maps.amax(1), "heads added": maps.sum(1)}.get(slip, maps.mean(1))
    mixed = {"no identity": mean, "identity after the product": mean, "not halved": mean + eye}.get(
        slip, (mean + eye) / 2
    )
    if slip == "last layer only":
        return mixed[-1]
    if slip == "layers averaged":
        return mixed.mean(0)
    product = mixed[0]
    for layer in mixed[1:]:
        product = {"order turned": product @ layer, "elementwise": product * layer}.get(slip, layer @ product)
    if slip == "identity after the product":
        product = (product + eye) / 2
    if slip == "one row":
        return product[-1]
    if slip == "numpy":
        return product.numpy()
    return product.T if slip == "transposed" else product


for _slip, _reason in {
    "order turned": "order is turned",
    "no identity": "residual path is missing",
    "identity after the product": "identity belongs into every layer|residual",
    "not halved": "without halving",
    "last layer only": "last layer alone",
    "layers averaged": "do not average",
    "largest head": "maximum",
    "heads added": "their sum has rows",
    "elementwise": "as matrices",
    "transposed": "transposed",
    "one row": "one matrix",
    "numpy": "a tensor",
    "always float64": "float32",
}.items():
    wrong("5.6", names=_slip, reason=_reason, parts={"attention_rollout": lambda m, _slip=_slip: _rollout(m, _slip)})


@right("5.6", names="from the last layer down, a loop over the heads")
def rollout_from_the_top(maps):
    layers, heads, time, _ = maps.shape
    found = torch.eye(time, dtype=maps.dtype)
    for layer in reversed(range(layers)):
        mean = torch.zeros(time, time, dtype=maps.dtype)
        for head in range(heads):
            mean += maps[layer, head] / heads
        mean.diagonal().add_(1)
        found = found @ (mean / 2)
    return found


@right("5.6", names="multi_dot, and rows scaled to 1")
def rollout_by_multi_dot(maps):
    mixed = maps.mean(dim=1) + torch.eye(maps.shape[-1], dtype=maps.dtype)
    mixed = mixed / mixed.sum(-1, keepdim=True)
    return mixed[0] if len(mixed) == 1 else torch.linalg.multi_dot(list(mixed.flip(0)))


# --- 5.7 Grad-CAM -----------------------------------------------------------------------------------------------------


def _grad_cam(activations, gradients, size, slip=""):
    if slip == "activations and gradients swapped":
        activations, gradients = gradients, activations
    weights = {
        "largest gradient": gradients.amax((1, 2)),
        "summed gradient": gradients.sum((1, 2)),
        "no weights": torch.ones(len(gradients), dtype=gradients.dtype),
    }.get(slip, gradients.mean((1, 2)))
    terms = gradients * activations if slip == "place by place" else weights[:, None, None] * activations
    coarse = terms.relu().sum(0) if slip == "ReLU on each channel" else terms.sum(0)
    if slip == "absolute":
        coarse = coarse.abs()
    elif slip not in ("ReLU forgotten", "ReLU after enlarging"):
        coarse = coarse.relu()
    if slip == "not enlarged":
        return coarse
    if slip == "nearest":
        large = F.interpolate(coarse[None, None], size, mode="nearest")[0, 0]
    else:
        large = F.interpolate(coarse[None, None], size, mode="bilinear", align_corners=slip == "corners aligned")[0, 0]
    if slip == "scaled to 0 … 1":
        large = (large - large.min()) / (large.max() - large.min())
    if slip in ("float32", "always float64"):
        large = large.float() if slip == "float32" else large.double()
    return large.relu() if slip == "ReLU after enlarging" else large


for _slip, _reason in {
    "ReLU forgotten": "ReLU is missing",
    "ReLU on each channel": "weighted sum, not on each",
    "ReLU after enlarging": "before enlarging",
    "absolute": "absolute value",
    "place by place": "place by place",
    "largest gradient": "not the maximum",
    "summed gradient": "not the sum",
    "no weights": "without their weights",
    "scaled to 0 … 1": "no scaling",
    "corners aligned": "align_corners=False",
    "nearest": "bilinearly",
    "activations and gradients swapped": "swapped",
    "not enlarged": "of `size`",
    "float32": "float64",
    "always float64": "float32",
}.items():
    wrong("5.7", names=_slip, reason=_reason, parts={"grad_cam": lambda *a, _slip=_slip: _grad_cam(*a, slip=_slip)})


@right("5.7", names="a loop over the channels, and torchvision's resize")
def cam_by_loop(activations, gradients, size):
    from torchvision.transforms.functional import InterpolationMode, resize

    coarse = torch.zeros(activations.shape[1:], dtype=activations.dtype)
    for activation, gradient in zip(activations, gradients, strict=True):
        coarse = coarse + gradient.sum() / gradient.numel() * activation
    coarse = torch.clamp(coarse, min=0)
    return resize(coarse[None, None], list(size), InterpolationMode.BILINEAR, antialias=False)[0, 0]


# --- 5.8 deletion AUC -------------------------------------------------------------------------------------------------


def _deleted(score, image, heat, fill, steps, slip=""):
    n = heat.size
    flat, start, new = heat.ravel(), image.reshape(n, 3), fill.reshape(n, 3)
    if slip == "heat by columns":
        flat = heat.T.ravel()
    key = {"coldest first": flat, "largest size first": -np.abs(flat)}.get(slip, -flat)
    order = np.argsort(key, kind="stable")
    if slip == "ties from the end":
        order = np.argsort(flat, kind="stable")[::-1]
    if slip == "an unstable sort":
        order = np.argsort(-flat)
    if slip == "insertion":
        start, new = new, start
    if slip == "black":
        new = np.zeros_like(new)
    counts = np.arange(steps + 1) * n // steps
    pictures = np.repeat(start[None], steps + 1, axis=0)
    for k, count in enumerate(counts):
        rows = order[counts[max(k - 1, 0)] : count] if slip == "not cumulative" else order[:count]
        if slip == "one channel":
            pictures[k, rows, 0] = new[rows, 0]
        else:
            pictures[k, rows] = new[rows]
    scores, shares = score(pictures.reshape(steps + 1, *image.shape)), counts / n
    if slip == "share of the steps":
        shares = np.linspace(0, 1, steps + 1)
    if slip == "mean of the scores":
        return float(scores.mean())
    if slip == "width of a piece forgotten":
        return float(np.trapezoid(scores))
    if slip == "curve without its start":
        scores, shares = scores[1:], shares[1:]
    if slip == "curve without its end":
        scores, shares = scores[:-1], shares[:-1]
    if slip == "the curve itself":
        return scores
    return float(np.trapezoid(scores, shares))


for _slip, _reason in {
    "coldest first": "coldest pixels",
    "largest size first": "by the heat itself",
    "ties from the end": "reading order|stable",
    "an unstable sort": "reading order",
    "share of the steps": r"not k / steps",
    "insertion": "insertion",
    "black": "not by black",
    "not cumulative": "stays replaced",
    "one channel": "three channels",
    "heat by columns": "row by row",
    "mean of the scores": "trapezoids",
    "width of a piece forgotten": "by its width",
    "curve without its start": "untouched picture|trapezoids|area",
    "curve without its end": "every pixel replaced|trapezoids|area",
    "the curve itself": "a Python float",
}.items():
    wrong("5.8", names=_slip, reason=_reason, parts={"deletion_auc": lambda *a, _slip=_slip: _deleted(*a, slip=_slip)})


@wrong("5.8", names="works on the caller's picture", reason="leaves its argument image")
def deleted_in_place(score, image, heat, fill, steps):
    n = heat.size
    order = np.argsort(-heat.ravel(), kind="stable")
    flat, scores = image.reshape(n, 3), []
    for k in range(steps + 1):
        flat[order[: k * n // steps]] = fill.reshape(n, 3)[order[: k * n // steps]]
        scores.append(score(image[None])[0])
    return float(np.trapezoid(scores, np.arange(steps + 1) * n // steps / n))


@right("5.8", names="one picture at a time, sklearn's auc, float pictures")
def deleted_one_by_one(score, image, heat, fill, steps):
    from sklearn.metrics import auc

    places = sorted(np.ndindex(heat.shape), key=lambda place: -heat[place])
    picture, shares, scores, done = image.astype(float), [], [], 0
    for k in range(steps + 1):
        count = k * heat.size // steps
        for place in places[done:count]:
            picture[place] = fill[place]
        done = count
        shares.append(count / heat.size)
        scores.append(score(picture[None])[0])
    return float(auc(shares, scores))


# --- 5.9 stability ----------------------------------------------------------------------------------------------------


def _pairs(weights, slip=""):
    count = len(weights)
    if slip == "diagonal in the mean":
        return itertools.product(range(count), repeat=2)
    if slip == "with the first seed only":
        return ((0, j) for j in range(1, count))
    if slip == "neighbours only":
        return itertools.pairwise(range(count))
    return itertools.combinations(range(count), 2)


def _stable(weights, slip=""):
    weights = np.abs(weights) if slip == "sizes ranked" else weights
    if slip != "one seed is accepted" and len(weights) < 2:
        raise ValueError("two seeds")
    constant = np.ptp(weights, axis=1) == 0
    if slip == "constant by the standard deviation":
        constant = weights.std(1) == 0  # of 0.1, 0.1, 0.1 it is 1e-17
    if slip != "constant weights are accepted" and constant.any():
        raise ValueError("constant")
    if slip == "Pearson":
        ranks = weights
    elif slip == "one argsort":
        ranks = weights.argsort(1).astype(float)
    elif slip == "ties broken by place":
        ranks = weights.argsort(1, kind="stable").argsort(1).astype(float)
    elif slip in ("ranked among the seeds", "ranked all together"):
        ranks = rankdata(weights, axis=0 if slip == "ranked among the seeds" else None).reshape(weights.shape)
    else:
        ranks = rankdata(weights, axis=1)
    if slip == "superpixels compared":
        table = np.corrcoef(ranks, rowvar=False)
        return float(table[np.triu_indices(len(table), k=1)].mean())
    n = weights.shape[1]
    with np.errstate(all="ignore"):
        found = []
        for i, j in _pairs(weights, slip):
            if slip == "formula for no ties":
                found.append(1 - 6 * ((ranks[i] - ranks[j]) ** 2).sum() / (n * (n**2 - 1)))
            elif slip == "two denominators":
                found.append(np.cov(ranks[i], ranks[j])[0, 1] / (ranks[i].std() * ranks[j].std()))
            elif slip == "Kendall":
                found.append(kendalltau(weights[i], weights[j]).statistic)
            else:
                found.append(np.corrcoef(ranks[i], ranks[j])[0, 1])
        if slip == "size of the correlations":
            found = np.abs(found)
        value = np.median(found) if slip == "median of the pairs" else np.mean(found) if len(found) else 1.0
    return np.array([value]) if slip == "array" else float(value)


for _slip, _reason in {
    "Pearson": "Pearson's correlation of the weights",
    "one argsort": "one argsort",
    "ties broken by place": "mean of their ranks",
    "formula for no ties": "without equal weights only",
    "diagonal in the mean": "leave the diagonal out",
    "with the first seed only": "not only those with the first",
    "neighbours only": "not only neighbouring|not only those with the first",
    "sizes ranked": "with their sign",
    "median of the pairs": "mean over the pairs",
    "Kendall": "Spearman's correlation of each pair",
    "array": "a Python float",
    "one seed is accepted": "a single seed: refused",
    "constant weights are accepted": "all equal: refused",
    "constant by the standard deviation": "all equal: refused",
    "size of the correlations": "no agreement",
    "two denominators": "ddof",
    "ranked among the seeds": "ranked among the seeds",
    "ranked all together": "by themselves",
    "superpixels compared": "seeds are compared",
}.items():
    wrong("5.9", names=_slip, reason=_reason, parts={"stability": lambda w, _slip=_slip: _stable(w, _slip)})


@wrong("5.9", names="scipy does it", reason="written without scipy.stats.spearmanr")
def stable_by_scipy(weights):
    return float(np.mean([spearmanr(weights[i], weights[j]).statistic for i, j in _pairs(weights)]))


@wrong("5.9", names="scipy's masked statistics do it", reason="written without scipy.stats.mstats")
def stable_by_mstats(weights):
    return float(np.mean([mstats.spearmanr(weights[i], weights[j]).statistic for i, j in _pairs(weights)]))


@wrong("5.9", names="pandas does it", reason="written without pandas")
def stable_by_pandas(weights):
    import pandas as pd

    table = pd.DataFrame(weights.T).corr(method="spearman").to_numpy()
    return float(table[np.triu_indices(len(table), k=1)].mean())


@right("5.9", names="scipy's pearsonr of scipy's ranks, pair by pair")
def stable_by_pearsonr(weights):
    if len(weights) < 2:
        raise ValueError("at least two seeds are needed")
    if any(len(set(row)) == 1 for row in weights.tolist()):
        raise ValueError("a constant explanation has no ranking")
    pairs = list(itertools.combinations([rankdata(row) for row in weights], 2))
    return float(sum(pearsonr(a, b).statistic for a, b in pairs) / len(pairs))


@right("5.9", names="standardised ranks and one matrix product")
def stable_by_product(weights):
    if weights.shape[0] < 2 or np.any(weights.std(1) < 1e-15):
        raise ValueError("nothing to compare")
    less = (weights[:, None, :] < weights[:, :, None]).sum(-1)
    same = (weights[:, None, :] == weights[:, :, None]).sum(-1)
    ranks = less + (same + 1) / 2
    ranks = (ranks - ranks.mean(1, keepdims=True)) / ranks.std(1, keepdims=True)
    table = ranks @ ranks.T / weights.shape[1]
    count = len(weights)
    return float((table.sum() - np.trace(table)) / (count * (count - 1)))
