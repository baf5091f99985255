"""Wrong and other right answers to exercises 3.7 to 3.10, as candidates give them."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import right, wrong

# --- 3.7 learning curves ------------------------------------------------------------------------------------------


def _read(train, valid, train_accuracy, valid_accuracy, slip=""):
    train, valid = np.array(train), np.array(valid)
    finite = np.isfinite(train).all() and (slip == "validation may be infinite" or np.isfinite(valid).all())
    if slip == "NaN at the end alone":
        finite = np.isfinite(train[-1]) and np.isfinite(valid[-1])
    exploded = {
        "above its start alone": train[-1] > train[0],
        "above its minimum alone": train[-1] > 1.5 * train.min(),
        "ever above its start": train.max() > 1.01 * train[0],
    }.get(slip, train[-1] > 1.5 * train.min() and train[-1] > train[0])
    if (slip != "no check for NaN" and not finite) or (slip != "explosion" and exploded):
        return "diverged" if slip != "capital" else "Diverged"
    best = int(np.nanargmin(valid))
    falls_on = train[-1] < train[0 if slip == "training fell since its start" else best]
    rises = valid[-1] > 1.1 * valid[best] and (slip == "rise alone" or falls_on)
    if slip == "rise by 0.1 nats":
        rises = valid[-1] > valid[best] + 0.1 and falls_on
    a, b = np.array(train_accuracy), np.array(valid_accuracy)
    gap = {
        "gap of the best": a.max() - b.max(),
        "mean gap": (a - b).mean(),
        "largest gap": (a - b).max(),
        "gap without its sign": abs(a[-1] - b[-1]),
    }.get(slip, a[-1] - b[-1]) > 0.1
    overfit = {"gap only": gap, "rise only": rises, "both signs": gap and rises}.get(slip, gap or rises)
    quarter = len(train) // 4
    fall = [1 - np.median(c[-2:]) / np.median(c[-quarter - 2 : -quarter]) for c in (train, valid)]
    if slip == "last number":
        fall = [1 - c[-1] / c[-quarter] for c in (train, valid)]
    if slip == "falls by 0.05 nats":
        fall = [np.median(c[-quarter - 2 : -quarter]) - np.median(c[-2:]) for c in (train, valid)]
    short = max(fall) > 0.05 if slip == "either falls" else min(fall) > 0.05
    if slip == "too short by validation alone":
        short = fall[1] > 0.05
    if slip == "too short below 0.9 alone":
        short = short and train_accuracy[-1] < 0.9
    if slip == "too short first" and short:
        return "too short"
    if overfit:
        return "overfit"
    if short and slip != "never too short":
        return "too short"
    judged = {"underfit by validation": b[-1], "underfit by the best": a.max()}.get(slip, a[-1])
    if judged < (0.5 if slip == "underfit below 0.5" else 0.9) and slip != "never underfit":
        return "underfit"
    return "fine"


for _slip, _reason in {
    "no check for NaN": "NaN or infinite",
    "validation may be infinite": "NaN or infinite",
    "explosion": "above its beginning",
    "gap only": "sure and wrong",
    "rise only": "more than 0.1 above",
    "both signs": "more than 0.1 above|sure and wrong",
    "either falls": "both",
    "last number": "one number is not a trend|still falling",
    "too short first": "more than 0.1 above",
    "never too short": "still falling",
    "never underfit": "its own training data",
    "capital": "NaN or infinite",
    "NaN at the end alone": "a NaN anywhere",
    "above its start alone": "a hair above its start",
    "above its minimum alone": "both: clearly above",
    "ever above its start": "how high it once was",
    "gap of the best": "the best of each series",
    "mean gap": "mean hides the end|the mean one",
    "largest gap": "not the largest",
    "gap without its sign": "the gap has a sign",
    "rise alone": "it rises too",
    "rise by 0.1 nats": "the rise is relative",
    "training fell since its start": "it rises too",
    "falls by 0.05 nats": "not 0.05 nats",
    "too short by validation alone": "training has settled",
    "too short below 0.9 alone": "a high accuracy does not end that",
    "underfit by validation": r"the \*training\* accuracy",
    "underfit by the best": r"at the \*end\* counts, not its best",
    "underfit below 0.5": "0.7 is below 0.9",
}.items():
    wrong("3.7", names=_slip, reason=_reason, parts={"read_curves": lambda *a, _slip=_slip: _read(*a, slip=_slip)})


@right("3.7", names="means of three and a straight line")
def read_by_line(train_loss, valid_loss, train_accuracy, valid_accuracy):
    if not all(map(math.isfinite, [*train_loss, *valid_loss])):
        return "diverged"
    if train_loss[-1] > max(1.5 * min(train_loss), train_loss[0]):
        return "diverged"
    low = min(range(len(valid_loss)), key=valid_loss.__getitem__)
    if train_accuracy[-1] - valid_accuracy[-1] > 0.1:
        return "overfit"
    if valid_loss[-1] / valid_loss[low] > 1.1 and train_loss[-1] < train_loss[low]:
        return "overfit"

    def falls(losses):
        q = len(losses) // 4
        return float(np.median(losses[-2:])) < 0.95 * float(np.mean(losses[-q - 2 : -q]))

    if falls(train_loss) and falls(valid_loss):
        return "too short"
    return "fine" if train_accuracy[-1] >= 0.9 else "underfit"


@right("3.7", names="a least-squares line through the last quarter")
def read_by_least_squares(train_loss, valid_loss, train_accuracy, valid_accuracy):
    t, v = np.array(train_loss), np.array(valid_loss)
    if not np.isfinite([*t, *v]).all() or (t[-1] > 1.3 * t.min() and t[-1] > t[0]):
        return "diverged"
    if train_accuracy[-1] - valid_accuracy[-1] > 0.1 or (v[-1] > 1.1 * v.min() and t[-1] < t[v.argmin()]):
        return "overfit"

    def falls(losses):
        last = losses[-(len(losses) // 4) - 1 :]
        slope, start = np.polyfit(np.arange(len(last)), last, 1)
        return -slope * (len(last) - 1) > 0.05 * start

    if falls(t) and falls(v):
        return "too short"
    return "underfit" if train_accuracy[-1] < 0.9 else "fine"


# --- 3.8 exposure -------------------------------------------------------------------------------------------------


def _exposed(canary_loss, other_losses, slip=""):
    others = np.asarray(other_losses, dtype=float)
    if others.size == 0 and slip != "empty":
        raise ValueError("no others")
    if (math.isnan(canary_loss) and slip != "NaN canary") or (np.isnan(others).any() and slip != "NaN others"):
        raise ValueError("NaN")
    if slip == "infinite losses refused" and np.isinf(others).any():
        raise ValueError("infinite")
    if slip in ("rank among distinct losses", "all of it among distinct losses"):
        distinct = np.unique(others)
        count = len(distinct) if slip.startswith("all") else len(others)
        return float(np.log2(count + 1) - np.log2(1 + (distinct <= canary_loss).sum()))
    ahead = others < canary_loss if slip == "ties" else others <= canary_loss
    if slip == "equal by isclose":
        ahead |= np.isclose(others, canary_loss)
    if slip == "upside down":
        ahead = others >= canary_loss
    rank = ahead.sum() + (slip != "from 0")
    count = others.size + (slip != "not a candidate")
    log = np.log if slip == "nats" else np.log2
    value = {"sign": log(rank) - log(count), "rank only": log(rank)}.get(slip, log(count) - log(rank))
    return np.array([value]) if slip == "array" else float(value)


for _slip, _reason in {
    "ties": "<=, not <",
    "upside down": "upside down",
    "from 0": "begin at 1|log2",
    "not a candidate": r"n \+ 1",
    "nats": "base 2",
    "sign": "sign|rank",
    "rank only": "logarithm of the rank|upside|nats",
    "array": "a Python float",
    "rank among distinct losses": "not among the distinct",
    "all of it among distinct losses": "not among the distinct",
    "equal by isclose": "no isclose",
    "infinite losses refused": "probability 0",
    "empty": "no other strings: refused",
    "NaN canary": "canary whose loss is NaN",
    "NaN others": "NaN among",
}.items():
    wrong("3.8", names=_slip, reason=_reason, parts={"exposure": lambda *a, _slip=_slip: _exposed(*a, slip=_slip)})


@right("3.8", names="by sorting")
def exposed_by_sorting(canary_loss, other_losses):
    losses = sorted(float(one) for one in other_losses)
    if not losses or any(math.isnan(one) for one in [canary_loss, *losses]):
        raise ValueError("losses must be numbers, at least one")
    rank = 1
    for one in losses:
        rank += one <= canary_loss
    return math.log2((len(losses) + 1) / rank)


# --- 3.9 calibration ----------------------------------------------------------------------------------------------


def _error(probabilities, y, bins, slip=""):
    confidence = probabilities.max(1)
    if slip == "first column":
        confidence = probabilities[:, 0]
    if slip == "true class":
        confidence = probabilities[np.arange(len(y)), y]
    good = probabilities.argmax(1) == y
    place = np.ceil(confidence * bins).astype(int) - 1
    if slip == "left edges":
        place = np.minimum((confidence * bins).astype(int), bins - 1)
    if slip == "left edges, 1 in no bin":
        place = (confidence * bins).astype(int)
    if slip == "edges added up":
        edges = np.cumsum(np.full(bins, 1 / bins))  # the last is 0.9999999999999999 with ten bins
        place = np.searchsorted(edges, confidence)
    terms = []
    for k in range(bins):
        inside = place == k
        if not inside.any() and slip != "empty bins counted":
            continue
        sure = (k + 0.5) / bins if slip == "middle" else confidence[inside].mean()
        distance = good[inside].mean() - sure
        if slip != "signed":
            distance = distance**2 if slip == "squared" else abs(distance)
        weight = {"unweighted": 1.0, "counts": inside.sum(), "largest": 1.0}.get(slip, inside.mean())
        terms.append(weight * distance)
    total = np.mean(terms) if slip == "unweighted" else max(terms) if slip == "largest" else abs(sum(terms))
    return np.array([total]) if slip == "array" else float(total)


for _slip, _reason in {
    "empty bins counted": "empty bins",
    "unweighted": "weight by its share",
    "signed": "without its sign",
    "middle": "not the middle",
    "squared": "not its square",
    "first column": "whatever its class",
    "true class": "not that of the true class",
    "left edges": "lower bin",
    "left edges, 1 in no bin": "here 1 falls out",
    "edges added up": "exactly 1 belongs to the last bin",
    "largest": "largest distance",
    "counts": "divide by n",
    "array": "a Python float",
}.items():
    wrong(
        "3.9",
        names=_slip,
        reason=_reason,
        parts={"expected_calibration_error": lambda *a, _slip=_slip: _error(*a, slip=_slip)},
    )


@right("3.9", names="with digitize and bincount")
def error_by_bincount(probabilities, y, bins):
    confidence, good = probabilities.max(1), (probabilities.argmax(1) == y).astype(float)
    place = np.digitize(confidence * bins, np.arange(1, bins), right=True)
    sums = [np.bincount(place, weights, minlength=bins) for weights in (good, confidence)]
    return float(np.abs(sums[0] - sums[1]).sum() / len(y))


# --- 3.10 fix this code -------------------------------------------------------------------------------------------


def _choose(splits, rates, *, hidden, epochs, patience, batch_size, lr, weight_decay, seed, slip=""):
    (x, y), (x_valid, y_valid), (x_test, y_test) = splits["train"], splits["valid"], splits["test"]
    if slip == "judged on test":
        x_valid, y_valid = x_test, y_test
    if slip == "judged on training data":
        x_valid, y_valid = x, y
    valid_losses, train_losses, lowest, models, tested = {}, {}, {}, {}, {}

    def test(model):
        with torch.no_grad():
            return (model.eval()(x_test).argmax(1) == y_test).float().mean()

    for rate in rates:
        if slip != "no seed":
            torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Dropout(rate), nn.Linear(hidden, int(y.max()) + 1)
        )
        groups = [
            {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": weight_decay},
            {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0},
        ]
        if slip == "decay on everything":
            groups = [{"params": list(model.parameters()), "weight_decay": weight_decay}]
        if slip == "a group for each parameter":  # right
            groups = [{"params": [p], "weight_decay": weight_decay * (p.dim() > 1)} for p in model.parameters()]
        optimiser = torch.optim.AdamW(groups, lr=lr)
        order = torch.randperm(len(x)) if slip == "shuffled once" else None
        valid, train, best, waited, kept = [], [], math.inf, 0, None
        watched = math.inf
        while len(valid) < epochs and (waited < patience or slip == "never stops"):
            if slip not in ("eval for ever", "train mode forgotten") or (slip == "eval for ever" and not valid):
                model.train()
            if slip == "train mode forgotten":
                model.eval()
            if slip != "shuffled once":
                order = torch.arange(len(x)) if slip == "never shuffled" else torch.randperm(len(x))
            total, batches = 0.0, order.split(batch_size)
            if slip == "drops the last batch":
                batches = [rows for rows in batches if len(rows) == batch_size]
            for rows in batches:
                loss = F.cross_entropy(model(x[rows]), y[rows])
                if slip != "no zero_grad":
                    optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item() * (1 if slip in ("mean of batches", "sum over n") else len(rows))
            train.append(total / (len(batches) if slip == "mean of batches" else len(x)))
            if slip != "no eval":
                model.eval()
            if slip == "gradients off for good":
                torch.set_grad_enabled(False)
            with torch.set_grad_enabled(slip == "validation with gradients"):
                loss = F.cross_entropy(model(x_valid), y_valid)
                valid.append(loss if slip == "losses are tensors" else loss.item())
            waited += 1
            score = train[-1] if slip == "stops on the training loss" else valid[-1]
            if score < watched:
                watched, waited = score, 0
            if valid[-1] < best:
                best = valid[-1]
                state = model.state_dict()
                kept = state if slip == "aliased" else {name: value.clone() for name, value in state.items()}
        if slip != "last weights":
            model.load_state_dict(kept)
        if slip in ("every rate is tested", "chosen by the test set"):
            tested[rate] = test(model).item()
        if slip == "losses end at the best epoch":
            valid, train = valid[: -waited or None], train[: -waited or None]
        valid_losses[rate], train_losses[rate], lowest[rate], models[rate] = valid, train, best, model
    chosen = min(lowest, key=lowest.get)
    if slip == "largest rate":
        chosen = max(lowest)
    if slip == "chosen by the test set":
        chosen = max(tested, key=tested.get)
    if slip == "the last of equal rates":
        chosen = min(lowest, key=lambda rate: (lowest[rate], -rates.index(rate)))
    accuracy = tested[chosen] if tested else test(models[chosen])
    if slip != "test accuracy is a tensor":
        accuracy = float(accuracy)
    if slip == "gradients off for the test":
        torch.set_grad_enabled(False)
    models[chosen].train(slip == "returned in training mode")
    result = {"model": models[chosen], "rate": chosen, "valid_losses": valid_losses, "train_losses": train_losses}
    if slip == "the first loss again and again":
        result["train_losses"] = {rate: [losses[0]] * len(losses) for rate, losses in train_losses.items()}
    if slip == "the number of the rate":
        result["rate"] = rates.index(chosen) + 10
    if slip == "in per cent":
        accuracy *= 100
    return result if slip == "no test accuracy" else {**result, "test_accuracy": accuracy}


for _slip, _reason in {
    "judged on test": "loss on the test set",
    "judged on training data": "loss on the training set",
    "no seed": "after torch.manual_seed",
    "decay on everything": "none on the two biases",
    "never stops": "never stops early",
    "eval for ever": r"model\.train\(\)",
    "train mode forgotten": "dropout is off in training",
    "never shuffled": "randperm",
    "shuffled once": "drawn once",
    "losses end at the best epoch": "end at the best epoch",
    "losses are tensors": "a loss in valid_losses",
    "validation with gradients": "validation keeps no gradients",
    "gradients off for good": "set_grad_enabled",
    "gradients off for the test": "gradients are on again",
    "every rate is tested": "test set is used once",
    "chosen by the test set": "choose by validation|largest rate|test set is used once",
    "the last of equal rates": "first of equal rates",
    "returned in training mode": "model that is returned is in evaluation mode",
    "test accuracy is a tensor": "the test accuracy: its type",
    "drops the last batch": "mean over the samples|randperm",
    "no zero_grad": "added up",
    "mean of batches": "weigh each by its samples",
    "sum over n": "too small by the batch size",
    "no eval": "in evaluation mode",
    "stops on the training loss": "without a lower validation loss|never stops",
    "aliased": "last epoch's weights|copied when they were the best",
    "last weights": "last epoch's weights|copied when they were the best",
    "largest rate": "largest rate, not",
    "the first loss again and again": "losses of all epochs",
    "the number of the rate": r"the rate that wins\n",
    "no test accuracy": "return all five",
    "in per cent": "the test accuracy",
}.items():
    wrong(
        "3.10",
        names=_slip,
        reason=_reason,
        parts={"choose_dropout": lambda splits, rates, _slip=_slip, **k: _choose(splits, rates, **k, slip=_slip)},
    )


@right("3.10", names="the test set at the end, everything else in a loop")
def choose_plainly(splits, rates, **given):
    return _choose(splits, rates, **given)


@right("3.10", names="one group of AdamW for each parameter")
def choose_with_four_groups(splits, rates, **given):
    return _choose(splits, rates, **given, slip="a group for each parameter")
