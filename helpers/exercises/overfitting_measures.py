"""The checks and hints of exercises 3.7 to 3.10: learning curves, exposure, calibration, and a script to mend.

What they do not catch: thresholds of 3.7 that differ a little from the ones asked; the curves keep away from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from helpers.exercises.describing import describe
from helpers.exercises.overfitting import GRADIENTS_OFF, gradients_are_on, seed_of
from helpers.exercises.registry import exercise
from helpers.exercises.trial import CheckFailed, Mistake, Trial

Answer = Callable[..., Any]
Array = np.ndarray[Any, Any]

# -------------------------------------------------------------------------------------------------- 3.7 learning curves


@exercise(
    "3.7",
    title="Read learning curves",
    parts=("read_curves",),
    difficulty=3,
    minutes=20,
    asked_as="Here are the curves of four runs. What is wrong with each, and what would you do next?",
    hints=(
        "Ask the questions in the order of the list, and return at the first yes. What would a NaN answer to `<`?",
        "Overfitting has two signs, joined by *or*: the gap between the accuracies at the end, and a validation loss "
        "that has risen from its minimum while the training loss fell.",
        "A trend over the last quarter: compare the median of the last two or three losses with the median of two or "
        "three a quarter earlier, so that one noisy number does not decide.",
        "`fall = 1 - np.median(losses[-2:]) / np.median(losses[-q - 2 : -q])` with `q = len(losses) // 4`; too short "
        "when it is above 0.05 for both. What is left is underfit below an accuracy of 0.9, else fine.",
    ),
)
def curves_check(trial: Trial, read_curves: Answer) -> None:
    runs = (run for count in (8, 24, 60) for shapes in (_runs, _near_misses) for run in shapes(trial.rng, count))
    for what, verdict, why, curves in runs:
        got = trial.call(read_curves, *[curve.tolist() for curve in curves])
        trial.input = f"{what}: {_told(curves)}"
        trial.equal(got, verdict, what=f"the verdict on {what}", otherwise=why)


def _told(curves: tuple[Array, ...]) -> str:
    names = ("training loss", "validation loss", "training accuracy", "validation accuracy")
    places = (0, len(curves[0]) // 2, -1)
    return "; ".join(
        f"{name} " + " … ".join(f"{curve[place]:.3g}" for place in places)
        for name, curve in zip(names, curves, strict=True)
    )


def _runs(rng: np.random.Generator, count: int) -> Iterator[tuple[str, str, str, tuple[Array, ...]]]:
    """(what, verdict, why, curves). The shapes are those of real runs, with noise of half a per cent."""
    t = np.linspace(0, 1, count)

    def noise(curve: Array) -> Array:
        return curve * rng.uniform(0.995, 1.005, count)

    down = noise(0.05 + 2.2 * np.exp(-8 * t))
    settled = noise(0.4 + 1.9 * np.exp(-14 * t))
    high = noise(1.6 + 0.7 * np.exp(-14 * t))
    rising = noise(0.9 + 1.4 * np.exp(-10 * t) + 1.2 * np.maximum(0, t - 0.3))
    falling = noise(2.3 * np.exp(-1.5 * t))
    up, flat = 1 - 0.9 * np.exp(-8 * t), np.full(count, 0.97)
    yield "a run whose gap opens", "overfit", GAP, (down, rising, up, np.minimum(up, 0.7))
    yield (
        "a run whose validation loss rises while its accuracy stays near",
        "overfit",
        "the validation loss has risen far above its minimum while the training loss fell: sure and wrong",
        (down, rising, flat, flat - 0.04),
    )
    yield (
        "a run with a gap and a validation loss that is still falling",
        "overfit",
        GAP,
        (falling * 0.5, falling, flat, flat - 0.2),
    )
    yield (
        "a run that has settled well",
        "fine",
        "nothing is wrong here",
        (settled, settled + 0.1, flat, flat - 0.05),
    )
    yield (
        "a run that has settled high",
        "underfit",
        "it is low on its own training data, and has stopped getting better",
        (high, high * 1.02, np.full(count, 0.45), np.full(count, 0.43)),
    )
    yield (
        "a run that is cut off while both losses fall",
        "too short",
        "both losses were still falling by more than 5 % a quarter: it would go on learning",
        (falling, falling * 1.05, 0.5 + 0.2 * t, 0.48 + 0.2 * t),
    )
    only_train = noise(0.8 * np.exp(-2.0 * t))
    yield (
        "a run whose training loss alone still falls",
        "fine",
        "too short asks that *both* losses still fall: validation has settled",
        (only_train + 0.05, settled, flat, flat - 0.05),
    )
    broken = down.copy()
    broken[-2:] = math.nan
    yield "a run that ends in NaN", "diverged", NOT_A_NUMBER, (broken, broken, np.full(count, 0.1), flat * 0 + 0.1)
    infinite = high.copy()
    infinite[-1] = math.inf
    yield "a run whose validation loss is infinite", "diverged", NOT_A_NUMBER, (high, infinite, flat, flat)
    yield (
        "a run whose training loss explodes",
        "diverged",
        "the training loss ends above its beginning and far above its minimum: look there before you look at gaps",
        (noise(2.3 - t + 9 * t**6), noise(2.3 - t + 9 * t**6), 0.3 + 0 * t, 0.15 + 0 * t),
    )
    if count == 60:  # in fewer evaluations one of them bends a straight line too, which is a right measure of a trend
        rough = settled.copy()
        rough[-1] *= 0.9
        yield (
            "a settled run with one lucky evaluation at its end",
            "fine",
            "one number is not a trend: take medians of two or three evaluations",
            (rough, np.where(rough == rough[-1], rough, settled) + 0.1, flat, flat - 0.05),
        )


def _near_misses(rng: np.random.Generator, count: int) -> Iterator[tuple[str, str, str, tuple[Array, ...]]]:
    """Runs that a rule nearly right decides otherwise: another place, another sign, half of a condition."""
    t = np.linspace(0, 1, count)

    def noise(curve: Array) -> Array:
        return curve * rng.uniform(0.995, 1.005, count)

    def settled(level: float = 0.4) -> Array:
        return noise(level + 1.9 * np.exp(-14 * t))

    flat = np.full(count, 0.97)
    middle = settled()
    middle[count // 2] = math.nan
    yield (
        "a run with one NaN in its middle",
        "diverged",
        "a NaN anywhere decides before everything else, also when the last losses are numbers again",
        (middle, settled() + 0.1, flat, flat - 0.05),
    )
    stuck = 2.303 + 0.004 * t
    yield (
        "a run that never leaves ln 10",
        "underfit",
        "it ends a hair above its start: diverged asks for *clearly* above its own minimum as well",
        (stuck, noise(stuck), flat * 0 + 0.1, flat * 0 + 0.1),
    )
    back = noise(0.1 + 2.2 * np.exp(-14 * t))
    back[-max(2, count // 8) :] *= 2.2
    yield (
        "a run whose training loss ends at twice its minimum, far below its start",
        "fine",
        "diverged asks for both: clearly above its own minimum *and* above where it began",
        (back, settled(), flat, flat - 0.05),
    )
    leap = settled()
    leap[1] = 1.3 * leap[0]
    yield (
        "a run whose training loss leaps at its second evaluation and comes back",
        "fine",
        "where the training loss *ends* decides, not how high it once was",
        (leap, settled() + 0.1, flat, flat - 0.05),
    )
    yield (
        "a run whose validation accuracy drops in its second half",
        "overfit",
        GAP + "; the best of each series come from other evaluations, and a mean hides the end",
        (settled(), settled() + 0.1, flat, np.where(t < 0.5, 0.96, 0.80)),
    )
    yield (
        "a run whose gap has closed",
        "fine",
        "the gap at the *end* counts, not the largest or the mean one on the way",
        (settled(), settled() + 0.1, flat, np.where(t < 0.6, 0.6, 0.93)),
    )
    both = noise(0.4 + 1.9 * np.exp(-14 * t) + 0.24 * np.maximum(0, t - 0.5))
    yield (
        "a run whose two losses rise together",
        "fine",
        "the validation loss rises, but the training loss has not gone on falling since: it rises too",
        (both, both + 0.05, flat, flat - 0.05),
    )
    yield (
        "a run whose validation loss rises from 3.0 to 3.2",
        "underfit",
        "0.2 nats are less than a tenth of a minimum of 3: the rise is relative",
        (
            noise(2.5 + np.exp(-14 * t) - 0.1 * t),
            noise(3 + 0.5 * np.exp(-14 * t) + 0.2 * np.maximum(0, t - 0.4) / 0.6),
            flat * 0 + 0.45,
            flat * 0 + 0.43,
        ),
    )
    yield (
        "a run with 0.95 on training and 0.87 on validation",
        "fine",
        "underfit asks for the *training* accuracy, and a gap of 0.08 is not above 0.1",
        (settled(), settled() + 0.1, flat * 0 + 0.95, flat * 0 + 0.87),
    )
    falling, small = noise(2.3 * np.exp(-1.5 * t)), noise(0.2 * np.exp(-t))
    yield (
        "a run with a high accuracy while both losses fall",
        "too short",
        "both losses still fall by more than 5 % a quarter; a high accuracy does not end that",
        (falling, falling * 1.05, flat, flat - 0.04),
    )
    yield (
        "a run whose small losses both fall",
        "too short",
        "5 % of the loss, not 0.05 nats: from 0.2 nats on, both still fall by more than that in a quarter",
        (small, small * 1.05, flat, flat - 0.04),
    )
    yield (
        "a run whose validation loss alone still falls",
        "fine",
        "too short asks that *both* losses still fall: training has settled",
        (settled(), noise(0.8 * np.exp(-2.0 * t)) + 0.1, flat, flat - 0.04),
    )
    yield (
        "a run that has settled at an accuracy of 0.7",
        "underfit",
        "a training accuracy of 0.7 is below 0.9",
        (settled(1.0), settled(1.0) + 0.05, flat * 0 + 0.7, flat * 0 + 0.68),
    )
    drop = np.where(t < 0.5, 0.95, 0.8)
    yield (
        "a run whose training accuracy falls back to 0.8",
        "underfit",
        "the training accuracy at the *end* counts, not its best",
        (settled(), settled() + 0.1, drop, drop - 0.04),
    )
    yield (
        "a run that does better on validation than on training",
        "underfit",
        "the gap has a sign: a validation accuracy *above* that of training is no overfitting",
        (settled(), settled(), flat * 0 + 0.8, flat * 0 + 0.95),
    )


GAP = "at the end the training accuracy is more than 0.1 above the validation accuracy"
NOT_A_NUMBER = "a NaN or infinite loss decides before everything else; comparisons with NaN are all false"


# --------------------------------------------------------------------------------------------------------- 3.8 exposure


@exercise(
    "3.8",
    title="Exposure of a canary",
    parts=("exposure",),
    difficulty=2,
    minutes=10,
    asked_as="How would you find out whether your language model has memorised customer data?",
    hints=(
        "How many bits does it take to name one of so many candidates? How many fewer when you are told it is among "
        "the first few?",
        "The likeliest string has the lowest loss. Rank 1 means: no other string has a loss as low.",
        "`rank = 1 + (others <= canary_loss).sum()`: equal ones rank before it.",
        "`np.log2(len(others) + 1) - np.log2(rank)`; refuse an empty array and NaN first.",
    ),
)
def exposure_check(trial: Trial, exposure: Answer) -> None:
    for what, count, place in (
        ("the likeliest of all", 1023, 0.0),
        ("somewhere", int(trial.rng.integers(50, 500)), float(trial.rng.uniform(0.1, 0.6))),
        ("the unlikeliest of all", int(trial.rng.integers(5, 50)), 1.0),
    ):
        others = np.sort(trial.rng.uniform(10, 30, count))
        canary = float({0.0: 5.0, 1.0: 40.0}.get(place, others[min(int(place * count), count - 1)] + 1e-3))
        _exposure(trial, exposure, what, canary, trial.rng.permutation(others))
    _exposure(trial, exposure, "one of 100 that the model cannot tell apart", 20.0, np.full(99, 20.0))
    _exposure(trial, exposure, "the likeliest of two", 1.0, np.array([2.0]))
    _exposure(trial, exposure, "three equal ones before it", 2.0, np.array([1.0, 1.0, 1.0, 3.0]))
    _exposure(trial, exposure, "one nearly as likely", 2.0, np.array([1.0, 2.0 * (1 + 1e-7), 3, 4, 5, 6]))
    _exposure(trial, exposure, "one that the model holds impossible", 2.0, np.array([1.0, math.inf, 3.0]))
    for what, given in (
        ("no other strings", (3.0, np.array([]))),
        ("a canary whose loss is NaN", (math.nan, np.array([1.0, 2.0]))),
        ("a NaN among the other losses", (3.0, np.array([1.0, math.nan, 5.0]))),
    ):
        trial.raises(
            ValueError, exposure, *given, what=f"{what}: refused", otherwise="a rank among such losses means nothing"
        )


def _exposure(trial: Trial, exposure: Answer, what: str, canary: float, others: Array) -> None:
    from scipy.stats import rankdata

    try:
        got = trial.call(exposure, canary, others)
    except CheckFailed as failure:
        if np.isinf(others).any() and failure.__cause__ is not None:
            failure.mistake = (
                "an infinite loss is a string of probability 0: it ranks last, and is not refused as NaN is"
            )
        raise
    trial.input = f"{what}: loss {canary:.4g} among {len(others)} others, {describe(others)}"
    trial.is_type(got, float, what="the exposure", otherwise="a Python float: float(…)")
    total = len(others) + 1
    rank = float(rankdata(np.append(others, canary), method="max")[-1])
    least = float(rankdata(np.append(others, canary), method="min")[-1])
    distinct = np.unique(others)
    near = 1 + int(((others <= canary) | np.isclose(others, canary)).sum())
    back = float(rankdata(-np.append(others, canary), method="max")[-1])
    trial.close(
        got,
        math.log2(total / rank),
        what="the exposure in bits",
        mistakes=[
            Mistake(math.log2(total / least), "strings of equal loss rank before the canary: <=, not <"),
            Mistake(
                math.log2(total / back), "the ranking is upside down: the likeliest has the lowest loss, and rank 1"
            ),
            Mistake(math.log(total / rank), "this is in nats: take the logarithm to base 2"),
            Mistake(math.log2((total - 1) / rank), "the canary is a candidate too: n + 1"),
            Mistake(lambda: math.log2(total / (rank - 1)), "ranks begin at 1"),
            Mistake(math.log2(rank), "this is the logarithm of the rank: subtract it from that of the candidates"),
            Mistake(math.log2(total / (1 + (distinct <= canary).sum())), DISTINCT),
            Mistake(math.log2((len(distinct) + 1) / (1 + (distinct <= canary).sum())), DISTINCT),
            Mistake(math.log2(total / near), "equal means equal: a loss a little higher ranks behind, so no isclose"),
            Mistake(-math.log2(total / rank), "the sign is turned: log2(candidates) - log2(rank)"),
        ],
        otherwise="log2(n + 1) - log2(rank), with rank = 1 + the number of others whose loss is at most the canary's",
        rtol=1e-6,
        atol=1e-9,
    )


DISTINCT = "strings of the same loss are several candidates: rank among all of them, not among the distinct losses"


# ------------------------------------------------------------------------------------------------------ 3.9 calibration


@exercise(
    "3.9",
    title="Expected calibration error",
    parts=("expected_calibration_error",),
    difficulty=2,
    minutes=12,
    asked_as="Your model says 90 %. How do you find out whether that is true?",
    hints=(
        "Confidence is the largest probability of a row; right is whether its place is the label. Both are one number "
        "per row.",
        "`np.ceil(confidence * bins) - 1` is the number of the bin (k/bins, (k + 1)/bins].",
        "In each bin that holds samples: |mean of right - mean of confidence|, weighted by the bin's share of all "
        "samples. The mean of an empty bin is NaN: leave it out.",
        "`error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())`.",
    ),
)
def calibration_check(trial: Trial, expected_calibration_error: Answer) -> None:
    for what, bins, sharpness in (("usual", 10, 2.0), ("very sure", 15, 8.0), ("one bin", 1, 2.0), ("few", 20, 3.0)):
        count = 12 if what == "few" else int(trial.rng.integers(80, 200))
        classes = int(trial.rng.integers(3, 6))
        logits = trial.rng.normal(0, sharpness, (count, classes))
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        _calibration(trial, expected_calibration_error, p, _labels(trial.rng, p), bins)
    edges = np.array([[0.5, 0.5], [0.75, 0.25], [0.25, 0.75], [1.0, 0.0], [0.0, 1.0], [0.6, 0.4]])
    for bins in (4, 10):  # ten edges that are added up end below 1
        _calibration(trial, expected_calibration_error, edges, np.array([0, 1, 1, 0, 0, 0]), bins)


def _labels(rng: np.random.Generator, p: Array) -> Array:
    """Right in about 60 % of the rows, whatever the confidence."""
    y = p.argmax(1)
    wrong = rng.random(len(y)) < 0.4
    return np.asarray(np.where(wrong, (y + 1) % p.shape[1], y))


def _calibration(trial: Trial, answer: Answer, p: Array, y: Array, bins: int) -> None:
    got = trial.call(answer, p, y, bins)
    trial.is_type(got, float, what="the error", otherwise="a Python float: float(…)")
    trial.close(
        got,
        _ece(p, y, bins),
        what=f"the calibration error with {bins} bins",
        mistakes=[Mistake(lambda slip=slip: _ece(p, y, bins, slip), text) for slip, text in ECE_SLIPS.items()],
        otherwise="Σ (share of the samples in the bin) × |accuracy - mean confidence| over the bins that hold samples",
        rtol=1e-6,
    )


ECE_SLIPS = {
    "lost": "a confidence of exactly 1 belongs to the last bin: here it falls out of all of them",
    "left, lost": "a confidence of exactly 1 belongs to the last bin, and k / bins to the lower bin: here 1 falls out",
    "empty": "empty bins are counted: they hold no samples and have no weight",
    "even": "each bin weighs as much as any other: weight by its share of the samples",
    "signed": "take the distance in each bin, without its sign: too sure and too unsure do not cancel out",
    "middle": "the mean confidence of the samples in the bin is asked, not the middle of the bin",
    "squared": "the distance, not its square",
    "first": "the confidence is the largest probability of the row, whatever its class",
    "label": "the confidence is the largest probability, not that of the true class",
    "left": "a confidence of k / bins belongs to the lower bin: (k/bins, (k + 1)/bins]",
    "largest": "this is the largest distance of a bin; the weighted mean is asked",
    "sum": "weight by the share of the samples in the bin: divide by n",
}


def _ece(p: Array, y: Array, bins: int, slip: str = "") -> float:
    """Counted sample by sample with exact fractions for the edges, so not the way of the reference."""
    confidence = {"first": p[:, 0], "label": p[np.arange(len(y)), y]}.get(slip, p.max(1))
    right = p.argmax(1) == y
    held: dict[int, list[tuple[float, bool]]] = {}
    for sure, good in zip(confidence.tolist(), right.tolist(), strict=True):
        if slip in ("lost", "left, lost") and sure == 1:
            continue
        if slip in ("left", "left, lost"):
            place = min(int(sure * bins), bins - 1)
        else:
            place = next((k for k in range(bins) if sure * bins <= k + 1), bins - 1)
        held.setdefault(place, []).append((sure, good))
    terms = []
    for place, samples in held.items():
        sure = (place + 0.5) / bins if slip == "middle" else sum(s for s, _ in samples) / len(samples)
        distance = sum(g for _, g in samples) / len(samples) - sure
        distance = distance if slip == "signed" else distance**2 if slip == "squared" else abs(distance)
        weight = {"even": 1 / len(held), "sum": len(samples), "largest": 1.0}.get(slip, len(samples) / len(y))
        terms.append(weight * distance)
    if slip == "largest":
        return max(terms)
    if slip == "empty":
        return math.nan if len(held) < bins else math.inf
    return abs(sum(terms))


# --------------------------------------------------------------------------------------------------- 3.10 fix this code

SETTINGS = {"hidden": 12, "batch_size": 7, "lr": 0.03, "weight_decay": 0.5}


@exercise(
    "3.10",
    title="Fix this code",
    parts=("choose_dropout",),
    difficulty=4,
    minutes=35,
    asked_as="Review this training script. What is wrong, and what would you change first?",
    hints=(
        "For each number that the script prints ask: on which data, in which mode, divided by what, and who has looked "
        "at that data before?",
        "Training loss: add `loss.item() * len(rows)` and divide by the number of samples. Validation: `model.eval()` "
        "and `torch.no_grad()`, then `model.train()` again before the next epoch.",
        'Two groups for AdamW: `{"params": matrices, "weight_decay": weight_decay}` and '
        '`{"params": biases, "weight_decay": 0.0}`; `optimiser.zero_grad()` in each step.',
        "Keep `{name: value.clone() for name, value in model.state_dict().items()}` of the best epoch, stop after "
        "`patience` epochs without a lower validation loss, and load it at the end of each rate.",
        "Choose by the lowest validation loss (`<`, so that the first of equals wins); touch the test set after the "
        "loop, once, with the winner in evaluation mode.",
    ),
)
def fix_this_code(trial: Trial, choose_dropout: Answer) -> None:
    import torch

    splits = _splits(trial.rng)
    rates, epochs, patience, seed = [0.7, 0.0, 0.3], 25, 3, seed_of(trial)
    given: dict[str, Any] = {**SETTINGS, "epochs": epochs, "patience": patience, "seed": seed}
    with _recorded_adamw() as optimisers, _recorded_inputs() as seen:
        try:
            got = trial.call(choose_dropout, splits, rates, **given)
        except CheckFailed as failure:
            if not torch.is_grad_enabled():
                failure.mistake = GRADIENTS_OFF
            raise
    trial.input = f"rates {rates}, {describe(given)}; {len(splits['train'][0])} training samples"
    keys = {"model", "rate", "valid_losses", "train_losses", "test_accuracy"}
    trial.that(
        isinstance(got, dict) and keys <= set(got),
        what="the result has all its entries",
        want="a dictionary with model, rate, valid_losses, train_losses and test_accuracy",
        got=describe(got),
        otherwise="return all five",
    )
    gradients_are_on(trial)
    want = _honest(splits, rates, **given)
    decays = [
        sorted((float(group["weight_decay"]), p.dim()) for group in one.param_groups for p in group["params"])
        for one in optimisers[: len(rates)]
    ]
    trial.equal(
        decays,
        [[(0.0, 1)] * 2 + [(SETTINGS["weight_decay"], 2)] * 2] * len(rates),
        what="AdamW's (decay, number of dimensions) of each parameter, for each rate",
        otherwise="weight decay on the two weight matrices and none on the two biases, one AdamW for each rate",
    )
    for rate in rates:
        for name in ("train_losses", "valid_losses"):
            for loss in list(got[name].get(rate, []))[:1]:
                trial.is_type(loss, float, what=f"a loss in {name}", otherwise="a Python float: loss.item()")
        trial.close(
            list(got["train_losses"].get(rate, []))[:1],
            want["train_losses"][rate][:1],
            what=f"the training loss of the first epoch at rate {rate}",
            mistakes=_train_loss_mistakes(splits, rate, given),
            otherwise="after torch.manual_seed(seed): the network, then in each epoch torch.randperm(n), in batches; "
            "the mean over the samples of the loss before each step",
            rtol=1e-4,
        )
        trial.close(
            list(got["valid_losses"].get(rate, []))[:1],
            want["valid_losses"][rate][:1],
            what=f"the validation loss after the first epoch at rate {rate}",
            mistakes=[
                Mistake(
                    lambda rate=rate, slip=slip: _honest(splits, [rate], **given, slip=slip)["valid_losses"][rate][:1],
                    text,
                )
                for slip, text in (
                    ("judge test", "this is the loss on the test set: it is for the end"),
                    ("judge train", "this is the loss on the training set"),
                )
            ],
            otherwise="in evaluation mode (no dropout), over the whole validation set",
            rtol=1e-4,
        )
        trial.equal(
            len(got["valid_losses"][rate]),
            len(want["valid_losses"][rate]),
            what=f"the number of epochs at rate {rate}",
            mistakes=[
                *_epoch_mistakes(splits, rate, given, got["valid_losses"][rate]),
                Mistake(epochs, "it never stops early"),
            ],
            otherwise=f"stop after {patience} epochs in a row without a lower validation loss",
        )
        trial.close(
            [*got["train_losses"][rate], *got["valid_losses"][rate]],
            [*want["train_losses"][rate], *want["valid_losses"][rate]],
            mistakes=_epoch_mistakes(splits, rate, given),
            what=f"the losses of all epochs at rate {rate}",
            otherwise="from the second epoch on: model.train() before the batches, a new order, gradients from zero",
            rtol=1e-3,
        )
    trial.equal(
        got["rate"],
        want["rate"],
        what="the rate that wins",
        mistakes=[
            Mistake(max(rates), "this is the largest rate, not the best one"),
            Mistake(_by_test(splits, rates, given), "this one is best on the test set: choose by validation"),
        ],
        otherwise="the rate whose best epoch has the lowest validation loss",
    )
    trial.that(
        not any(look.gradients for look in _looks(seen, splits["valid"][0])),
        what="validation keeps no gradients",
        want="no gradients while the network sees the validation set",
        got="torch.is_grad_enabled() was True there",
        otherwise="model.eval() switches dropout off, not gradients: with torch.no_grad() around the validation loss",
    )
    tests, count = len(splits["test"][0]), sum(look.count for look in _looks(seen, splits["test"][0]))
    trial.that(
        count <= tests,
        what="the test set is used once",
        want=f"at most {tests} test samples go through a network: those of one pass",
        got=f"{count} did",
        otherwise="the test set is for the winner alone, after the loop over the rates",
    )
    x_valid, y_valid = splits["valid"]
    model = got["model"]
    trial.that(
        not any(module.training for module in model.modules()),
        what="the model that is returned is in evaluation mode",
        want="model.training is False",
        got="True",
        otherwise="model.eval() before you return it: its dropout is still on",
    )
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model.eval()(x_valid), y_valid).item()
    trial.close(
        loss,
        min(want["valid_losses"][want["rate"]]),
        what="the validation loss of the model that is returned",
        mistakes=[
            Mistake(want["valid_losses"][want["rate"]][-1], "these are the last epoch's weights: go back to the best")
        ],
        otherwise="the winner with the weights of its best epoch, copied when they were the best",
        rtol=1e-3,
    )
    trial.is_type(got["test_accuracy"], float, what="the test accuracy", otherwise="a Python float: .item()")
    trial.close(
        got["test_accuracy"],
        want["test_accuracy"],
        what="the test accuracy",
        otherwise="the share of right answers of the winner, in evaluation mode, on the test set",
        rtol=1e-4,
    )
    equals = [2e-12, 1e-12]  # neither drops anything, so that every number of the two is the same
    trial.equal(
        trial.call(choose_dropout, splits, equals, **{**given, "epochs": 2})["rate"],
        equals[0],
        what=f"the rate that wins among {equals}, whose losses are equal",
        otherwise="the first of equal rates wins: `<`, not `<=`, and no comparison of the rates themselves",
    )


EPOCH_SLIPS = {
    "cut": "the losses end at the best epoch: give those of all epochs trained",
    "one order": "the order was drawn once: torch.randperm(n) anew in each epoch",
    "eval for ever": "dropout stays off after the first validation: model.train() again before each epoch",
}


def _epoch_mistakes(
    splits: dict[str, Any], rate: float, given: dict[str, Any], valid: list[float] | None = None
) -> list[Mistake]:
    """What explains all losses of a rate; with `valid`, what explains the number of these, when all agree."""

    def value(slip: str) -> Any:
        run = _honest(splits, [rate], **given, slip=slip)
        losses = run["valid_losses"][rate]
        if valid is None:
            return [*run["train_losses"][rate], *losses]
        return len(losses) if len(losses) == len(valid) and np.allclose(valid, losses, rtol=1e-3) else None

    return [Mistake(lambda slip=slip: value(slip), text) for slip, text in EPOCH_SLIPS.items()]


def _splits(rng: np.random.Generator) -> dict[str, Any]:
    """Few noisy samples, so that the networks overfit; on the test set other rates are best."""
    import torch

    def part(count: int, classes: int = 3) -> Any:
        y = rng.integers(classes, size=count)
        y[:classes] = np.arange(classes)
        x = rng.normal(0, 1.2, (count, 6)) + np.eye(classes, 6)[y]
        return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y)

    return {"train": part(int(rng.integers(5, 8)) * 7 + 3), "valid": part(40), "test": part(60)}


@contextmanager
def _recorded_adamw() -> Iterator[list[Any]]:
    """Inside, every AdamW that is made is noted."""
    import torch

    made: list[Any] = []
    original = torch.optim.AdamW.__init__

    def noted(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made.append(self)

    torch.optim.AdamW.__init__ = noted  # type: ignore[method-assign]
    try:
        yield made
    finally:
        torch.optim.AdamW.__init__ = original  # type: ignore[method-assign]


@dataclass(frozen=True)
class Look:
    """One pass of samples through a linear layer: its first sample, how many, and were gradients kept?"""

    first: bytes
    count: int
    gradients: bool


@contextmanager
def _recorded_inputs() -> Iterator[list[Look]]:
    """Inside, what goes through any linear layer is noted."""
    import torch

    seen: list[Look] = []

    def note(module: Any, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, torch.nn.Linear) and inputs and len(inputs[0]):
            samples = inputs[0].detach().cpu().float()  # wherever and however the answer computes
            seen.append(Look(samples[0].numpy().tobytes(), len(samples), torch.is_grad_enabled()))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield seen
    finally:
        hook.remove()


def _looks(seen: list[Look], samples: Any) -> list[Look]:
    """The passes that begin with one of these samples."""
    known = {sample.numpy().tobytes() for sample in samples}
    return [look for look in seen if look.first in known]


def _honest(splits: dict[str, Any], rates: list[float], *, slip: str = "", **given: Any) -> dict[str, Any]:
    """What the script has to give, or gives with one slip. Plain tensors instead of modules."""
    runs = {rate: _fit(splits, rate, slip, **given) for rate in rates}
    rate = min(runs, key=lambda one: min(runs[one]["valid"]))
    accuracies = {one: run["test"] for one, run in runs.items()}
    return {
        "rate": rate,
        "valid_losses": {one: run["valid"] for one, run in runs.items()},
        "train_losses": {one: run["train"] for one, run in runs.items()},
        "test_accuracy": accuracies[rate],
        "accuracies": accuracies,
    }


def _fit(
    splits: dict[str, Any],
    rate: float,
    slip: str,
    *,
    hidden: int,
    epochs: int,
    patience: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    seed: int,
) -> dict[str, Any]:
    import torch
    import torch.nn.functional as F

    (x, y), (x_test, y_test) = splits["train"], splits["test"]
    x_valid, y_valid = splits[{"judge test": "test", "judge train": "train"}.get(slip, "valid")]
    torch.manual_seed(seed)
    first, second = torch.nn.Linear(x.shape[1], hidden), torch.nn.Linear(hidden, int(y.max()) + 1)
    weights, biases = [first.weight, second.weight], [first.bias, second.bias]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": weight_decay}, {"params": biases}]
    optimiser = torch.optim.AdamW([{"weight_decay": 0.0, **group} for group in groups], lr=lr)

    def logits(inputs: Any, training: bool) -> Any:
        inner = F.relu(F.linear(inputs, weights[0], biases[0]))
        return F.linear(F.dropout(inner, rate, training), weights[1], biases[1])

    train: list[float] = []
    valid: list[float] = []
    kept: list[Any] = []
    while len(valid) < epochs and len(valid) - (valid.index(min(valid)) + 1 if valid else 0) < patience:
        total = 0.0
        if not valid or slip != "one order":
            order: Any = torch.randperm(len(x))
        batches = order.split(batch_size)
        for rows in batches:
            dropped = slip != "no train mode" and not (slip == "eval for ever" and valid)
            loss: Any = F.cross_entropy(logits(x[rows], training=dropped), y[rows])
            if slip != "no zero_grad":
                optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * (1 if slip in ("batches", "batches / n") else len(rows))
        train.append(total / (len(batches) if slip == "batches" else len(x)))
        with torch.no_grad():
            valid.append(F.cross_entropy(logits(x_valid, training=False), y_valid).item())
            if valid[-1] == min(valid):
                kept = [p.clone() for p in (*weights, *biases)]
    if slip == "cut":
        end = valid.index(min(valid)) + 1
        train, valid = train[:end], valid[:end]
    with torch.no_grad():
        for parameter, best in zip((*weights, *biases), kept, strict=True):
            parameter.copy_(best)
        accuracy = (logits(x_test, training=False).argmax(1) == y_test).float().mean().item()
    return {"train": train, "valid": valid, "test": accuracy}


def _train_loss_mistakes(splits: dict[str, Any], rate: float, given: dict[str, Any]) -> list[Mistake]:
    return [
        Mistake(lambda slip=slip: _honest(splits, [rate], **given, slip=slip)["train_losses"][rate][:1], text)
        for slip, text in {
            "batches": "this is the mean over the batches: the last one is smaller, weigh each by its samples",
            "batches / n": "a sum of batch means was divided by the number of samples: too small by the batch size",
            "no zero_grad": "gradients of earlier batches are added up: optimiser.zero_grad() in each step",
            "no train mode": "dropout is off in training: model.train() before the batches",
        }.items()
    ]


def _by_test(splits: dict[str, Any], rates: list[float], given: dict[str, Any]) -> float:
    accuracies: dict[float, float] = _honest(splits, rates, **given)["accuracies"]
    return max(accuracies, key=lambda rate: accuracies[rate])
