"""The checks and hints of exercises 5.4 and 5.6 to 5.9: gradients, attention, and whether to believe an explanation.

What they do not catch: an answer that is right and slow (one picture at a time, one path step at a time).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from helpers.exercises.registry import exercise
from helpers.exercises.trial import Mistake, Trial

Answer = Callable[..., Any]
Array = np.ndarray[Any, Any]

# --------------------------------------------------------------------------------------------- 5.4 integrated gradients


@exercise(
    "5.4",
    title="Integrated gradients, and whether they add up",
    parts=("integrated_gradients", "completeness_gap"),
    difficulty=3,
    minutes=20,
    asked_as="Explain integrated gradients. How do you know that you took enough steps?",
    hints=(
        "Walk on a straight line from the baseline to x. At each of the points take the gradient of the score there.",
        "The points are `baseline + (k + 0.5) / steps * (x - baseline)`, k = 0 … steps - 1: the middle of each piece.",
        "`here = point.detach().requires_grad_()`, then `torch.autograd.grad(score(here[None]).sum(), here)[0]`. "
        "`backward()` would also write into the gradients of the model's weights.",
        "Attributions: `(x - baseline) * mean of the gradients`. Gap: `attributions.sum() - (score(x) - "
        "score(baseline))`, each score of a batch of one.",
    ),
)
def integrated_gradients_check(trial: Trial, integrated_gradients: Answer, completeness_gap: Answer) -> None:
    import torch

    with trial.forbid("captum.attr.IntegratedGradients.attribute", why="gradients taken on the path by yourself"):
        for shape, steps, dtype in (((5,), 7, "float64"), ((2, 3), 1, "float64"), ((1, 4, 2), 20, "float32")):
            score = _Cubic(trial.rng, math.prod(shape), dtype)
            x, baseline = trial.rng.normal(size=(2, *shape))
            given = torch.tensor(x, dtype=getattr(torch, dtype)), torch.tensor(baseline, dtype=getattr(torch, dtype))
            received: list[Any] = []
            written = torch.from_numpy(trial.rng.normal(size=score.w.shape)).to(given[0].dtype)
            score.layer.weight.grad = written.clone()  # of the training that goes on around
            got = trial.call(_noting(integrated_gradients, received), score, *given, steps)
            trial.is_tensor(
                got, shape, dtype, what="the attributions", otherwise="one number for each input, in x's dtype"
            )
            trial.that(
                not any(tensor.requires_grad for tensor in received),
                what="x and baseline are left as they were",
                want="requires_grad as before: False",
                got="requires_grad = True on the caller's tensor",
                otherwise="requires_grad_() works in place: call it on a tensor of your own, point.detach()",
            )
            trial.that(
                not got.requires_grad,
                what="the attributions are plain numbers",
                want="a tensor without a graph",
                got="a result that requires gradients",
                otherwise="the result still hangs on the graph: no create_graph, and detach() what comes out",
            )
            want = score.path(x, baseline, steps)
            scale = float(np.abs(want).max())  # one of them may be nearly 0, where terms cancel
            trial.close(
                got,
                want,
                what=f"the attributions with {steps} step{'s' if steps > 1 else ''}",
                mistakes=[
                    Mistake(lambda slip=slip, s=score, x=x, b=baseline, n=steps: s.path(x, b, n, slip), text)
                    for slip, text in PATH_SLIPS.items()
                ],
                otherwise="(x - baseline) × the mean of the gradients at baseline + (k + ½)/steps · (x - baseline)",
                rtol=1e-4 if dtype == "float64" else 1e-3,
                atol=(1e-5 if dtype == "float64" else 1e-3) * scale,
            )
            left = score.layer.weight.grad
            trial.that(
                left is not None and torch.equal(left, written),
                what="the gradients of the model's own weights are left alone",
                want="weight.grad as before",
                got="no weight.grad any more" if left is None else "other numbers in weight.grad",
                otherwise="backward() adds to the gradients of all weights, and clearing them afterwards loses those "
                "that were there: torch.autograd.grad(score, here) does not touch them",
            )
            _gap(trial, completeness_gap, score, given, x, baseline)


def _noting(answer: Answer, received: list[Any]) -> Answer:
    """The answer, which puts the tensors that it was given into `received`."""

    @functools.wraps(answer)
    def call(score: Any, x: Any, baseline: Any, steps: int) -> Any:
        received[:] = [x, baseline]
        return answer(score, x, baseline, steps)

    return call


def _gap(trial: Trial, answer: Answer, score: Any, given: Any, x: Array, baseline: Array) -> None:
    import torch

    full, nothing = score.value(x), score.value(baseline)
    for gap in trial.rng.uniform(0.5, 2.0, 2) * [1, -1]:
        size = 1 + abs(full - nothing)
        drawn = np.asarray(trial.rng.normal(size=x.shape)) * size
        drawn.flat[0] = -5 * size  # so that the signs differ, whatever is drawn
        attributions = drawn + (full - nothing + gap - drawn.sum()) / drawn.size
        got = trial.call(answer, score, *given, torch.tensor(attributions, dtype=given[0].dtype))
        trial.is_type(got, float, what="the gap", otherwise="a Python float: .item()")
        total = attributions.sum()
        trial.close(
            got,
            gap,
            what="the completeness gap",
            mistakes=[
                Mistake(
                    total - full, "the score of the baseline is missing: the sum explains a *difference* of scores"
                ),
                Mistake(
                    total - full + score.value(np.zeros_like(x)),
                    "the difference is to the baseline that was given, not to zeros",
                ),
                Mistake(abs(gap), "keep the sign: too much and too little are two messages"),
                Mistake(-gap, "the sign is turned: sum of the attributions minus the difference of scores"),
                Mistake(gap / (full - nothing), "this is relative; the gap itself is asked"),
                Mistake(np.abs(attributions).sum() - full + nothing, "sum the attributions with their signs"),
            ],
            otherwise="the sum of the attributions minus (score(x) - score(baseline))",
            rtol=1e-3 if given[0].dtype == torch.float32 else 1e-6,
            atol=(1e-6 if given[0].dtype == torch.float32 else 1e-12)
            * float(np.abs([full, nothing, *attributions.flat]).sum()),
        )


PATH_SLIPS = {
    "left": "these are gradients at the left ends (k/steps): take the middle of each piece, (k + ½)/steps",
    "right": "these are gradients at the right ends: take the middle of each piece, (k + ½)/steps",
    "x only": "the baseline is not subtracted: multiply by (x - baseline), the way that was walked",
    "from zero": "the path starts at 0 and not at the baseline that was given",
    "gradient only": "this is gradient × input at the input alone: it has flattened out there; average along the path",
    "sum": "this is a sum over the steps: divide by their number",
    "mean": "this is the mean gradient; multiply it by (x - baseline)",
    "size": "keep the sign of each attribution: the sum must give the difference of the scores",
}


class _Cubic:
    """A score with a known gradient, built on a real layer: Σ a (Wz)³ + b·z + a product + c: (b, …) -> (b,).

    The gradient is written out in numpy, so that what the check expects owes nothing to autograd.
    """

    def __init__(self, rng: np.random.Generator, size: int, dtype: str) -> None:
        import torch

        self.w, self.a, self.b = rng.normal(size=(3, size)), rng.normal(size=3), rng.normal(size=size)
        self.c = float(rng.uniform(2.0, 4.0))  # so that the score of zeros is not zero
        self.layer = torch.nn.Linear(size, 3, bias=False, dtype=getattr(torch, dtype))
        with torch.no_grad():
            self.layer.weight.copy_(torch.from_numpy(self.w))

    def __deepcopy__(self, memo: dict[int, Any]) -> _Cubic:
        return self  # a caller's model is not copied: what happens to its weights must be seen

    def __call__(self, z: Any) -> Any:
        flat = z.reshape(len(z), -1)
        if flat.shape[1] != len(self.b):
            raise ValueError(f"score takes a batch (b, …) of inputs with {len(self.b)} numbers, got {tuple(z.shape)}")
        inner = self.layer(flat)
        return (
            inner**3 @ inner.new_tensor(self.a) + flat @ flat.new_tensor(self.b) + flat[:, 0] * flat[:, -1] * 2 + self.c
        )

    def value(self, z: Array) -> float:
        flat = z.ravel()
        return float(self.a @ (self.w @ flat) ** 3 + self.b @ flat + 2 * flat[0] * flat[-1] + self.c)

    def gradient(self, z: Array) -> Array:
        flat = z.ravel()
        found = np.asarray(self.w.T @ (3 * self.a * (self.w @ flat) ** 2) + self.b)
        found[0] += 2 * flat[-1]
        found[-1] += 2 * flat[0]
        shaped: Array = found.reshape(z.shape)
        return shaped

    def path(self, x: Array, baseline: Array, steps: int, slip: str = "") -> Array:
        start = np.zeros_like(x) if slip == "from zero" else baseline
        shift = {"left": 0.0, "right": 1.0}.get(slip, 0.5)
        points = [start + (k + shift) / steps * (x - start) for k in range(steps)]
        if slip == "gradient only":
            return np.asarray(self.gradient(x) * (x - baseline))
        mean = np.mean([self.gradient(point) for point in points], axis=0)
        found = mean * {"x only": x, "mean": np.ones_like(x)}.get(slip, x - start)
        return np.asarray(np.abs(found) if slip == "size" else found * (steps if slip == "sum" else 1))


# ------------------------------------------------------------------------------------------------ 5.6 attention rollout


@exercise(
    "5.6",
    title="Attention rollout",
    parts=("attention_rollout",),
    difficulty=2,
    minutes=12,
    asked_as="Can you use attention weights as an explanation? What is rollout, and what does it assume?",
    hints=(
        "One matrix a layer: average the heads first. Each row says how a position is mixed from those below.",
        "Half of what leaves a layer is the residual path: position i from itself. As a matrix that is the identity.",
        "`mixed = 0.5 * maps.mean(1) + 0.5 * torch.eye(t)`, (layers, t, t).",
        "The first layer acts on the inputs: `product = mixed[0]`, then `product = mixed[k] @ product` for the later "
        "ones. Rows sum to 1 in the wrong order too, so that is no proof.",
    ),
)
def rollout_check(trial: Trial, attention_rollout: Answer) -> None:
    import torch

    for layers, heads, time, causal, dtype in (
        (1, 1, 3, False, "float64"),
        (2, 3, 4, True, "float64"),
        (3, 2, 4, False, "float32"),
        (4, 4, 5, True, "float64"),
    ):
        maps = _maps(trial.rng, layers, heads, time, causal=causal).astype(dtype)
        got = trial.call(attention_rollout, torch.from_numpy(maps))
        trial.input = (
            f"{layers} layer{'s' if layers > 1 else ''}, {heads} heads, {time} positions{', causal' * causal}, {dtype}"
        )
        trial.is_tensor(got, (time, time), dtype, what="the rollout", otherwise="one matrix (t, t) in the maps' dtype")
        trial.close(
            got,
            _by_paths(maps),
            what="the rollout: row i, how much of each input arrives at position i",
            mistakes=[
                Mistake(lambda slip=slip, m=maps: _rolled(m, slip), text) for slip, text in ROLLOUT_SLIPS.items()
            ],
            otherwise="mean over the heads, half identity, then the product with the later layer on the left",
            rtol=1e-6 if dtype == "float64" else 1e-4,
            atol=1e-9 if dtype == "float64" else 1e-6,
        )


ROLLOUT_SLIPS = {
    "order": "the order is turned: the later layer stands on the left (its rows are what is asked for)",
    "no identity": "the residual path is missing: half of each layer is the identity",
    "not halved": "identity and attention are added without halving: rows no longer sum to 1",
    "identity last": "the identity belongs into every layer, not once into the product",
    "last layer": "this is the last layer alone",
    "maximum": "average the heads; the maximum of weights is no mixture (its rows sum to more than 1)",
    "sum": "average the heads: their sum has rows that sum to the number of heads",
    "elementwise": "multiply the layers as matrices (@): paths go through every position in between",
    "transposed": "the result is transposed: row i is the position that receives",
    "average": "layers follow one another: multiply, do not average",
}


def _maps(rng: np.random.Generator, layers: int, heads: int, time: int, *, causal: bool) -> Array:
    scores = rng.normal(0, 2, (layers, heads, time, time))
    if causal:
        scores[..., np.triu(np.ones((time, time), bool), 1)] = -np.inf
    weights = np.exp(scores)
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def _by_paths(maps: Array) -> Array:
    """Every path from an input to a position, one position a layer, added up: no matrix product."""
    layers, _, time, _ = maps.shape
    found = np.zeros((time, time))
    for path in itertools.product(range(time), repeat=layers + 1):
        share = 1.0
        for layer, (below, above) in enumerate(itertools.pairwise(path)):
            heads = [maps[layer, head, above, below] for head in range(maps.shape[1])]
            share *= (sum(heads) / len(heads) + (below == above)) / 2
        found[path[-1], path[0]] += share
    return found


def _rolled(maps: Array, slip: str) -> Array:
    time = maps.shape[-1]
    mean = {"maximum": maps.max(1), "sum": maps.sum(1)}.get(slip, maps.mean(1))
    if slip in ("no identity", "identity last"):
        mixed = mean
    else:
        mixed = (mean + np.eye(time)) / (1 if slip == "not halved" else 2)
    if slip == "last layer":
        return np.asarray(mixed[-1])
    if slip == "average":
        return np.asarray(mixed.mean(0))
    product = mixed[0]
    for layer in mixed[1:]:
        product = {"order": product @ layer, "elementwise": layer * product}.get(slip, layer @ product)
    if slip == "identity last":
        product = (product + np.eye(time)) / 2
    return np.asarray(product.T if slip == "transposed" else product)


# --------------------------------------------------------------------------------------------------------- 5.7 Grad-CAM


@exercise(
    "5.7",
    title="Grad-CAM from activations and gradients",
    parts=("grad_cam",),
    difficulty=2,
    minutes=12,
    asked_as="How does Grad-CAM work? Where does the ReLU belong, and why?",
    hints=(
        "Each channel is a coarse picture of where something was seen. How much does the score want more of it?",
        "The weight of a channel is the mean of its gradient over all places: one number a channel.",
        "Weighted sum of the maps first, ReLU on the sum, enlarging last: "
        "`torch.einsum('c,chw->hw', weights, activations).relu()`.",
        "`F.interpolate(coarse[None, None], size, mode='bilinear', align_corners=False)[0, 0]`; no scaling to 0 … 1, "
        "which would turn a map of zeros into NaN.",
    ),
)
def grad_cam_check(trial: Trial, grad_cam: Answer) -> None:
    import torch

    for what, channels, low, size, dtype in (
        ("usual", 6, (3, 4), (12, 16), "float64"),
        ("one place", 3, (1, 1), (5, 5), "float64"),
        ("another ratio", 4, (5, 2), (11, 9), "float32"),
        ("nothing speaks for the class", 4, (3, 3), (9, 9), "float64"),
    ):
        activations = trial.rng.normal(0.3, 1.0, (channels, *low))
        gradients = trial.rng.normal(size=(channels, *low)) * trial.rng.choice([0.2, 3.0], (channels, 1, 1))
        if what == "one place":
            activations, gradients = np.abs(activations), np.abs(gradients)
        if what.startswith("nothing"):
            activations, gradients = np.abs(activations), -np.abs(gradients)
        activations, gradients = activations.astype(dtype), gradients.astype(dtype)
        got = trial.call(grad_cam, torch.from_numpy(activations), torch.from_numpy(gradients), size)
        trial.input = f"{what}: {channels} maps of {low[0]}×{low[1]} in {dtype}, enlarged to {size[0]}×{size[1]}"
        trial.is_tensor(got, size, dtype, what="the map", otherwise="(height, width) of `size`, in the maps' dtype")
        trial.close(
            got,
            _cam(activations, gradients, size),
            what="the map",
            mistakes=[
                Mistake(lambda slip=slip, a=activations, g=gradients, s=size: _cam(a, g, s, slip), text)
                for slip, text in CAM_SLIPS.items()
            ],
            otherwise="relu(Σ over channels of mean gradient × map), then bilinear to size with align_corners=False",
            rtol=1e-6 if dtype == "float64" else 1e-4,
            atol=1e-9 if dtype == "float64" else 1e-5,
        )


CAM_SLIPS = {
    "no relu": "the ReLU is missing: what speaks against the class shows up as negative heat",
    "relu first": "the ReLU belongs on the weighted sum, not on each channel before it",
    "relu last": "the ReLU comes before enlarging: afterwards negative places have eaten into their neighbours",
    "size": "this is the absolute value: places that speak *against* the class would be shown as for it",
    "product": "this is gradient × activation place by place; average a channel's gradient over all places first",
    "maximum": "the weight of a channel is the mean of its gradient, not the maximum",
    "sum": "the weight is the mean of the gradient over the places, not the sum",
    "no weights": "the channels are added without their weights: that shows what was seen, for whatever class",
    "scaled": "no scaling to 0 … 1 was asked for: it hides how strong the evidence is, and a map of zeros becomes NaN",
    "corners": "enlarge with align_corners=False: pixels are areas, and the corners of the two grids do not coincide",
    "nearest": "enlarge bilinearly, not by repeating pixels",
    "swapped": "activations and gradients are swapped: average the gradients, not the maps",
}


def _cam(activations: Array, gradients: Array, size: tuple[int, int], slip: str = "") -> Array:
    if slip == "swapped":
        activations, gradients = gradients, activations
    weights = {
        "maximum": gradients.max((1, 2)),
        "sum": gradients.sum((1, 2)),
        "no weights": np.ones(len(gradients)),
    }.get(slip, gradients.mean((1, 2)))
    terms = gradients * activations if slip == "product" else weights[:, None, None] * activations
    coarse = np.maximum(terms, 0).sum(0) if slip == "relu first" else terms.sum(0)
    if slip == "size":
        coarse = np.abs(coarse)
    elif slip not in ("no relu", "relu last"):
        coarse = np.maximum(coarse, 0)
    large = _enlarged(coarse, size, slip)
    if slip == "scaled":
        with np.errstate(all="ignore"):
            return np.asarray((large - large.min()) / (large.max() - large.min()))
    return np.maximum(large, 0) if slip == "relu last" else large


def _enlarged(coarse: Array, size: tuple[int, int], slip: str = "") -> Array:
    """Bilinear, written as one matrix for the rows and one for the columns."""
    rows, columns = (_weights(n, m, slip) for n, m in zip(coarse.shape, size, strict=True))
    return np.asarray(rows @ coarse @ columns.T)


def _weights(old: int, new: int, slip: str) -> Array:
    """(new, old): how much of each old pixel is in each new one."""
    centres = np.asarray((np.arange(new) + 0.5) * old / new - 0.5)
    if slip == "corners":
        centres = np.asarray(np.arange(new) * ((old - 1) / max(new - 1, 1)))
    if slip == "nearest":
        centres = np.floor(np.arange(new) * old / new)
    distance = np.abs(np.clip(centres, 0, old - 1)[:, None] - np.arange(old))
    return np.asarray(np.maximum(0, 1 - distance))


# ----------------------------------------------------------------------------------------------------- 5.8 deletion AUC


@exercise(
    "5.8",
    title="Deletion AUC",
    parts=("deletion_auc",),
    difficulty=3,
    minutes=18,
    asked_as="How would you measure whether a heat map is faithful to the model, without asking people?",
    hints=(
        "Sort the pixels by heat, the hottest first. After each step more are replaced, and the score is taken again.",
        "`order = np.argsort(-heat.ravel(), kind='stable')`: of equal pixels the first in reading order goes first.",
        "Step k of 0 … steps replaces the first `k * n // steps` pixels, all three channels, in a copy of the picture: "
        "`flat = image.reshape(n, 3).copy(); flat[order[:count]] = fill.reshape(n, 3)[order[:count]]`.",
        "One call of `score` on the stack of steps + 1 pictures; then trapezoids over the share of pixels replaced: "
        "`np.trapezoid(scores, counts / n)`.",
    ),
)
def deletion_check(trial: Trial, deletion_auc: Answer) -> None:
    for what, shape, steps in (
        ("a usual picture", (6, 5), 6),
        ("steps that do not divide the pixels", (4, 7), 5),
        ("one step", (3, 3), 1),
        ("heat with equal values", (8, 9), 8),
    ):
        image, fill = trial.rng.integers(0, 256, (2, *shape, 3)).astype(np.uint8)
        heat = trial.rng.normal(size=shape)
        if what.startswith("heat"):
            heat = trial.rng.integers(0, 3, shape).astype(float)
        score = _PictureScore(trial.rng, shape)
        got = trial.call(deletion_auc, score, image, heat, fill, steps)
        trial.input = f"{what}: {shape[0]}×{shape[1]} pixels, {steps} step{'s' if steps > 1 else ''}"
        trial.is_type(got, float, what="the area", otherwise="a Python float: float(…)")
        trial.close(
            got,
            _area(score, image, heat, fill, steps),
            what="the area under the deletion curve",
            mistakes=[
                Mistake(lambda slip=slip, s=score, i=image, h=heat, f=fill, n=steps: _area(s, i, h, f, n, slip), text)
                for slip, text in AREA_SLIPS.items()
            ],
            otherwise="scores after 0 … steps steps, hottest pixels first, trapezoids over the share replaced (0 … 1)",
        )


TURNED = (
    "this is insertion, or deletion of the coldest pixels first: begin with the whole picture, take the hottest away"
)
AREA_SLIPS = {
    "coldest": TURNED,
    "insertion": TURNED,
    "black": "replace by `fill`, not by black: black is a strong signal of its own",
    "not cumulative": "what was replaced stays replaced: step k shows the first k parts replaced, not part k alone",
    "size of heat": "sort by the heat itself: what speaks against the class is not to go first",
    "columns": "heat and picture are flattened differently: both in reading order, row by row",
    "ties": "of equally hot pixels the first in reading order goes first: kind='stable' on -heat",
    "unstable": "of equally hot pixels the first in reading order goes first: argsort keeps them in order with "
    "kind='stable' only",
    "share": "the share after step k is (k * n // steps) / n, what was really replaced, and not k / steps",
    "no start": "the curve begins with the untouched picture (step 0)",
    "no end": "the curve ends with every pixel replaced (step = steps)",
    "mean": "trapezoids: the first and the last score count half, and steps need not be equally wide",
    "sum": "the area is over the share of pixels, 0 … 1: weigh each piece by its width",
    "one channel": "a pixel is replaced in all three channels",
}


class _PictureScore:
    """Pictures (b, h, w, 3) -> (b,): a smooth score in 0 … 1 in which pixels have neighbours."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int]) -> None:
        self.weights, self.scale = rng.normal(size=(*shape, 3)), rng.normal(size=shape)

    def __call__(self, pictures: Array) -> Array:
        if np.ndim(pictures) != 4 or np.shape(pictures)[1:] != self.weights.shape:
            raise ValueError(
                f"score takes a batch (b, {', '.join(map(str, self.weights.shape))}), got {np.shape(pictures)}"
            )
        grey = np.asarray(pictures, dtype=float) / 255
        sums = (grey * self.weights).sum((1, 2, 3)) + (grey.mean(3) ** 2 * self.scale).sum((1, 2))
        return np.asarray(1 / (1 + np.exp(-sums / 3)))


def _area(score: Answer, image: Array, heat: Array, fill: Array, steps: int, slip: str = "") -> float:
    """Pixel by pixel, with a sorted list of places; what each well-known slip gives."""
    height, width = heat.shape
    places = list(itertools.product(range(height), range(width)))
    keys = {
        "coldest": lambda p: heat[p],
        "size of heat": lambda p: -abs(heat[p]),
        "ties": lambda p: (-heat[p], -p[0], -p[1]),
    }
    order = sorted(places, key=keys.get(slip, lambda p: -heat[p]))
    if slip == "columns":
        order = [places[c * height + r] for r, c in order]
    if slip == "unstable":
        order = [places[i] for i in np.argsort(-heat.ravel())]
    n = len(order)
    counts = [k * n // steps for k in range(steps + 1)]
    scores = []
    for k, count in enumerate(counts):
        replaced = order[counts[k - 1] if k else 0 : count] if slip == "not cumulative" else order[:count]
        picture = fill.copy() if slip == "insertion" else image.copy()
        for place in replaced:
            new = image[place] if slip == "insertion" else np.zeros(3) if slip == "black" else fill[place]
            picture[place] = [new[0], *picture[place][1:]] if slip == "one channel" else new
        scores.append(float(score(picture[None])[0]))
    if slip == "mean":
        return float(np.mean(scores))
    first, last = (1 if slip == "no start" else 0), (steps - 1 if slip == "no end" else steps)
    pieces = range(first, last)
    width = {"sum": 1.0, "share": 1 / steps}.get(slip)
    widths = [(counts[k + 1] - counts[k]) / n if width is None else width for k in pieces]
    return sum((scores[k] + scores[k + 1]) / 2 * w for k, w in zip(pieces, widths, strict=True))


# --------------------------------------------------------------------------------------------- 5.9 stability over seeds


@exercise(
    "5.9",
    title="Stability over seeds",
    parts=("stability",),
    difficulty=2,
    minutes=12,
    asked_as="You run LIME twice and get two explanations. What do you tell the customer, and what do you measure?",
    hints=(
        "Spearman's correlation is Pearson's correlation of the ranks. Equal weights share the mean of their ranks.",
        "`scipy.stats.rankdata(weights, axis=1)` gives mean ranks; one `argsort` gives an order, not ranks.",
        "`np.corrcoef(ranks)` holds every pair twice and the diagonal of ones: take what is above the diagonal, "
        "`np.triu_indices(len(ranks), k=1)`.",
        "First refuse what has no answer: fewer than two rows, or a row in which all weights are equal "
        "(`np.ptp(row) == 0`), with ValueError. Then `float(np.corrcoef(ranks)[upper].mean())`.",
    ),
)
def stability_check(trial: Trial, stability: Answer) -> None:
    with trial.forbid(
        "scipy.stats.spearmanr",
        "scipy.stats.mstats.spearmanr",
        "pandas.DataFrame.corr",
        why="ranks, and their correlation, by yourself",
    ):
        for what, weights in _weights_over_seeds(trial.rng):
            got = trial.call(stability, weights)
            trial.input = f"{what}: {weights.shape[0]} seeds, {weights.shape[1]} superpixels"
            trial.is_type(got, float, what="the stability", otherwise="a Python float: float(…)")
            trial.close(
                got,
                _mean_spearman(weights),
                what="the mean rank correlation over all pairs of seeds",
                mistakes=[
                    Mistake(lambda slip=slip, w=weights: _mean_spearman(w, slip), text)
                    for slip, text in STABILITY_SLIPS.items()
                ],
                otherwise="Spearman's correlation of each pair of different rows, then their mean",
            )
        for what, weights in (
            ("a single seed", trial.rng.normal(size=(1, 5))),
            ("a seed whose weights are all equal", np.array([[0.2, 0.4, 0.3], [0.1, 0.1, 0.1], [0.2, 0.9, 0.1]])),
        ):
            trial.raises(
                ValueError,
                stability,
                weights,
                what=f"{what}: refused",
                otherwise="there is no ranking to compare; NaN or 1.0 would be read as a result (compare the values: "
                "the std of three times 0.1 is 1e-17, not 0)",
            )


STABILITY_SLIPS = {
    "pearson": "this is Pearson's correlation of the weights: one large weight decides it; correlate the ranks",
    "one argsort": "one argsort gives the order (which is smallest), not each one's rank: argsort twice, or rankdata",
    "ordinal": "equal weights must share the mean of their ranks: many superpixels have weight 0",
    "differences": "1 - 6 Σd² / (n (n² - 1)) is right without equal weights only",
    "diagonal": "each seed agrees with itself perfectly: leave the diagonal out of the mean",
    "first": "every pair counts, not only those with the first seed",
    "consecutive": "every pair counts, not only neighbouring seeds",
    "size": "rank the weights with their sign: for and against the class are not the same",
    "unsigned": "keep the sign of a correlation: two seeds that say the opposite are no agreement",
    "ddof": "covariance and standard deviations must divide by the same number (ddof): np.cov has n - 1, np.std n",
    "flattened": "rank each seed's weights by themselves: rankdata(weights, axis=1)",
    "across": "each weight is ranked among the seeds here: rank along a row, rankdata(weights, axis=1)",
    "columns": "these are correlations of superpixels: one row is one seed, and seeds are compared",
    "median": "the mean over the pairs was asked",
}


def _weights_over_seeds(rng: np.random.Generator) -> Iterator[tuple[str, Array]]:
    true = rng.normal(size=int(rng.integers(12, 30)))
    yield "a noisy explainer", true + rng.normal(0, 0.8, (4, len(true)))
    yield "two seeds", true + rng.normal(0, 0.5, (2, len(true)))
    sparse = np.where(rng.random((3, len(true))) < 0.5, 0.0, true + rng.normal(0, 0.5, (3, len(true))))
    sparse[:, :2] = [0.7, -0.9]
    yield "a sparse explainer with many zeros", sparse
    heavy = true + rng.normal(0, 1.5, (5, len(true)))
    heavy[:, 0] = 40 + rng.normal(size=5)
    yield "one superpixel that outweighs all", heavy
    turned = true + rng.normal(0, 0.3, (3, len(true)))
    turned[2] *= -1
    yield "a seed that says the opposite", turned


def _mean_spearman(weights: Array, slip: str = "") -> float:
    """By counting: a rank is the number of smaller weights plus half of the equal ones."""
    rows = [[abs(w) for w in row] if slip == "size" else list(row) for row in weights.tolist()]
    if slip == "across":
        ranked = _transposed([_ranks(column, slip) for column in _transposed(rows)])
    elif slip == "flattened":
        together = _ranks(list(itertools.chain(*rows)), slip)
        ranked = [together[i : i + len(rows[0])] for i in range(0, len(together), len(rows[0]))]
    else:
        ranked = [_ranks(row, slip) for row in rows]
    ranked = _transposed(ranked) if slip == "columns" else ranked
    count = len(ranked)
    pairs = list(itertools.combinations(range(count), 2))
    if slip == "diagonal":
        pairs = [(i, j) for i in range(count) for j in range(count)]
    if slip in ("first", "consecutive"):
        pairs = [p for p in pairs if p[0] == 0] if slip == "first" else list(itertools.pairwise(range(count)))
    found = [_correlation(ranked[i], ranked[j], slip) for i, j in pairs]
    if slip == "unsigned":
        found = [abs(value) for value in found]
    if slip == "ddof":
        found = [value * len(ranked[0]) / (len(ranked[0]) - 1) for value in found]
    return float(np.median(found)) if slip == "median" else sum(found) / len(found)


def _transposed(rows: list[list[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _ranks(row: list[float], slip: str) -> list[float]:
    if slip == "pearson":
        return row
    order = sorted(range(len(row)), key=row.__getitem__)
    if slip == "one argsort":
        return [float(place) for place in order]
    if slip == "ordinal":
        return [float(order.index(place)) for place in range(len(row))]
    return [sum(other < one for other in row) + (sum(other == one for other in row) + 1) / 2 for one in row]


def _correlation(a: list[float], b: list[float], slip: str) -> float:
    n = len(a)
    if slip == "differences":
        return 1 - 6 * sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / (n * (n**2 - 1))
    mean_a, mean_b = sum(a) / n, sum(b) / n
    cross = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    spread = math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))
    return cross / spread if spread else math.nan
