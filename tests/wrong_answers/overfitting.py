"""Wrong and other right answers to the exercises of notebook 03, as candidates give them."""

import copy
import importlib
import math

import torch
import torch.nn.functional as F
from torch import nn

from . import right, wrong

# --- 3.1 dropout --------------------------------------------------------------------------------------------------


def _checked(p):
    if not 0 <= p <= 1:
        raise ValueError(p)


@wrong("3.1", names="no scaling", reason=r"too small on average")
def dropout_unscaled(x, p, training, generator):
    _checked(p)
    return x * (torch.rand(x.shape, generator=generator) >= p) if training else x


@wrong("3.1", names="scaled in evaluation instead", reason=r"too small on average|inverted|evaluation changes nothing")
def dropout_classic(x, p, training, generator):
    _checked(p)
    return x * (torch.rand(x.shape, generator=generator) >= p) if training else x * (1 - p)


@wrong("3.1", names="scaled in both modes", reason=r"evaluation")
def dropout_twice(x, p, training, generator):
    _checked(p)
    if p == 1:
        return torch.zeros_like(x) if training else x
    return x * (torch.rand(x.shape, generator=generator) >= p) / (1 - p) if training else x * (1 - p)


@wrong("3.1", names="active in evaluation", reason=r"evaluation")
def dropout_always(x, p, training, generator):
    _checked(p)
    if p == 1:
        return torch.zeros_like(x)
    return x * (torch.rand(x.shape, generator=generator) >= p) / (1 - p)


@wrong("3.1", names="p is the share that stays", reason=r"probability to be dropped")
def dropout_kept(x, p, training, generator):
    _checked(p)
    return x * (torch.rand(x.shape, generator=generator) < p) / p if training and p else x


@wrong("3.1", names="divided by p", reason=r"probability to be kept")
def dropout_by_p(x, p, training, generator):
    _checked(p)
    return x * (torch.rand(x.shape, generator=generator) >= p) / p if training and p else x


@wrong("3.1", names="multiplied by 1 - p", reason=r"this multiplies")
def dropout_times(x, p, training, generator):
    _checked(p)
    return x * (torch.rand(x.shape, generator=generator) >= p) * (1 - p) if training else x


@wrong("3.1", names="one mask for the batch", reason=r"drawn by itself|full shape")
def dropout_rows(x, p, training, generator):
    _checked(p)
    if not training or p == 1:
        return torch.zeros_like(x) if training else x
    return x * (torch.rand(x.shape[1:], generator=generator) >= p) / (1 - p)


@wrong("3.1", names="channels", reason=r"drawn by itself|full shape")
def dropout_channels(x, p, training, generator):
    _checked(p)
    if not training or p == 1:
        return torch.zeros_like(x) if training else x
    return x * (torch.rand((*x.shape[:-1], 1), generator=generator) >= p) / (1 - p)


@wrong("3.1", names="NaN for p = 1", reason=r"p = 1|NaN")
def dropout_nan(x, p, training, generator):
    _checked(p)
    return x * (torch.rand(x.shape, generator=generator) >= p) / (1 - p) if training else x


@wrong("3.1", names="p = 0 drops a tenth", reason=r"for p = 0")
def dropout_zero(x, p, training, generator):
    _checked(p)
    if not training or p == 1:
        return torch.zeros_like(x) if training else x
    return x * (torch.rand(x.shape, generator=generator) >= max(p, 0.1)) / (1 - p)


@wrong("3.1", names="p not checked", reason=r"is refused")
def dropout_unchecked(x, p, training, generator):
    if not training:
        return x
    return torch.zeros_like(x) if p == 1 else x * (torch.rand(x.shape, generator=generator) >= p) / (1 - p)


@wrong("3.1", names="p checked in training only", reason=r"in evaluation too")
def dropout_checked_late(x, p, training, generator):
    if not training:
        return x
    _checked(p)
    return torch.zeros_like(x) if p == 1 else x * (torch.rand(x.shape, generator=generator) >= p) / (1 - p)


@wrong("3.1", names="its own randomness", reason=r"generator")
def dropout_global(x, p, training, generator):
    _checked(p)
    if not training:
        return x
    return torch.zeros_like(x) if p == 1 else x * (torch.rand(x.shape) >= p) / (1 - p)


@wrong("3.1", names="always the same mask", reason=r"generator")
def dropout_fixed(x, p, training, generator):
    return _good_dropout(x, p, training, torch.Generator().manual_seed(0))


@wrong("3.1", names="torch's dropout", reason=r"asks for")
def dropout_library(x, p, training, generator):
    _checked(p)
    return F.dropout(x, p, training)


@wrong("3.1", names="an array", reason=r"a tensor")
def dropout_numpy(x, p, training, generator):
    return _good_dropout(x, p, training, generator).numpy()


@wrong("3.1", names="nothing is dropped", reason=r"nothing was dropped")
def dropout_nothing(x, p, training, generator):
    _checked(p)
    return x * 1


@wrong("3.1", names="p = 1 in evaluation as well", reason=r"in evaluation for p = 1")
def dropout_one_first(x, p, training, generator):
    _checked(p)
    return torch.zeros_like(x) if p == 1 else _good_dropout(x, p, training, generator)


@wrong("3.1", names="three dimensions only", reason=r"dropout_three_dimensions runs")
def dropout_three_dimensions(x, p, training, generator):
    _batch, _length, _channels = x.shape
    return _good_dropout(x, p, training, generator)


@wrong("3.1", names="float32 whatever comes", reason=r"its dtype(.|\n)*any shape and float dtype")
def dropout_float(x, p, training, generator):
    return _good_dropout(x, p, training, generator).float()


@wrong("3.1", names="a fixed number is dropped", reason=r"drawn independently")
def dropout_fixed_number(x, p, training, generator):
    _checked(p)
    if not training or p == 1:
        return torch.zeros_like(x) if training else x
    keep = torch.ones(x.numel())
    keep[torch.randperm(x.numel(), generator=generator)[: round(p * x.numel())]] = 0
    return x * keep.reshape(x.shape).to(x.dtype) / (1 - p)


@wrong("3.1", names="begins anew from the seed", reason=r"initial_seed\(\) begins anew")
def dropout_reseeded(x, p, training, generator):
    return _good_dropout(x, p, training, torch.Generator().manual_seed(generator.initial_seed()))


@wrong("3.1", names="by way of numpy", reason=r"no numpy and no detach")
def dropout_through_numpy(x, p, training, generator):
    return torch.from_numpy(_good_dropout(x.detach(), p, training, generator).numpy().copy())


def _seeded_dropout(function):
    def dropout(x, p, training, generator):
        _checked(p)
        if not training:
            return x
        if p == 1:
            return torch.zeros_like(x)
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        return function(x, p)

    return dropout


for _name, _function in {
    "torch.dropout_": lambda x, p: torch.dropout_(x.clone(), p, True),
    "torch.native_dropout": lambda x, p: torch.native_dropout(x, p, True)[0],
    "torch.feature_dropout": lambda x, p: torch.feature_dropout(x.reshape(1, -1, 1), p, True).reshape(x.shape),
}.items():
    wrong("3.1", names=_name, reason=rf"written without {_name}", parts={"dropout": _seeded_dropout(_function)})


def _good_dropout(x, p, training, generator):
    _checked(p)
    if not training:
        return x
    return torch.zeros_like(x) if p == 1 else x * (torch.rand(x.shape, generator=generator) >= p) / (1 - p)


@right("3.1", names="bernoulli and where")
def dropout_bernoulli(x, p, training, generator):
    _checked(p)
    if not training or p == 0:
        return x.clone()
    keep = torch.bernoulli(torch.full_like(x, 1 - p), generator=generator).bool()
    return torch.where(keep, x / max(1 - p, 1e-12), torch.zeros(()))


# --- 3.2 AdamW ----------------------------------------------------------------------------------------------------


def _adam(weight, gradient, mean, square, step, lr, betas, eps, weight_decay, decoupled, slip=""):
    before, old = weight, (mean, square)
    if slip == "mixed up":
        decoupled = not decoupled
    if decoupled:
        rate = 1 if slip == "no lr" else -lr if slip == "grows" else lr
        if slip not in ("in the update", "forgotten"):
            weight = weight * (1 - rate * weight_decay)
    elif slip != "forgotten":
        gradient = gradient + weight_decay * weight
    if slip == "swapped":
        betas = betas[::-1]
    mean = betas[0] * mean + (1 - betas[0]) * gradient
    square = betas[1] * square + (1 - betas[1]) * (gradient.abs() if slip == "absolute" else gradient**2)
    count = step + (slip == "count")
    m, v = mean / (1 - betas[0] ** count), square / (1 - betas[1] ** count)
    if slip == "uncorrected":
        m, v = mean, square
    if slip in ("the old mean", "the old means"):
        m = old[0] / (1 - betas[0] ** count)
    if slip in ("the old square", "the old means"):
        v = old[1] / (1 - betas[1] ** count)
    if slip == "in the update" and decoupled:
        m = m + weight_decay * before
    root = (v + eps).sqrt() if slip == "inside" else v.sqrt() + eps
    if slip == "early":
        root = (square.sqrt() + eps) / math.sqrt(1 - betas[1] ** count)
    weight = before if slip == "stays" else weight - lr * m / root
    if slip.startswith("float32"):
        weight, mean, square = (
            part.float() if slip in ("float32", f"float32 {name}") else part
            for name, part in (("weight", weight), ("mean", mean), ("square", square))
        )
    return (weight, m, v) if slip == "returns corrected" else (weight, mean, square)


for _slip, _reason in {
    "mixed up": "at the other place",
    "in the update": "divided by the root of the second moment",
    "no lr": r"lr × weight_decay",
    "grows": r"wrong sign|shrinks",
    "forgotten": "decay is missing",
    "swapped": "swapped|running|bias correction|squares",
    "absolute": "squared|squares",
    "uncorrected": "bias correction is missing",
    "inside": "not inside",
    "early": "after the bias correction",
    "stays": "did not take a step",
    "returns corrected": "not the corrected",
    "the old mean": r"with the mean from before",
    "the old square": r"with the mean of squares from before",
    "the old means": r"with the means from before",
    "float32": r"the dtype of the weight",
    "float32 weight": r"the weight \(.*its dtype(.|\n)*the dtype of the weight",
}.items():
    wrong(
        "3.2",
        names=_slip,
        reason=_reason,
        parts={"adam_step": lambda *a, _slip=_slip, **k: _adam(*a, **k, slip=_slip)},
    )


@wrong("3.2", names="only the weight", reason=r"three tensors")
def adam_weight_only(*given):
    return _adam(*given)[0]


@wrong("3.2", names="without the squares", reason=r"three parts")
def adam_two(*given):
    return _adam(*given)[:2]


@wrong("3.2", names="arrays", reason=r"a tensor")
def adam_arrays(*given):
    return tuple(part.numpy() for part in _adam(*given))


@wrong("3.2", names="torch's optimiser", reason=r"write it out")
def adam_library(weight, gradient, mean, square, step, lr, betas, eps, weight_decay, decoupled):
    p = nn.Parameter(weight.clone())
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimiser = kind([p], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    optimiser.state[p] = {"step": torch.tensor(step - 1.0), "exp_avg": mean.clone(), "exp_avg_sq": square.clone()}
    p.grad = gradient.clone()
    optimiser.step()
    return p.detach(), optimiser.state[p]["exp_avg"], optimiser.state[p]["exp_avg_sq"]


def _functional(kind):
    def adam_step(weight, gradient, mean, square, step, lr, betas, eps, weight_decay, decoupled):
        new = weight.clone(), mean.clone(), square.clone()
        if decoupled and kind == "adam":
            new[0].mul_(1 - lr * weight_decay)
        name = kind if decoupled else "adam"
        function = getattr(importlib.import_module(f"torch.optim.{name}"), name)
        function(
            [new[0]],
            [gradient],
            [new[1]],
            [new[2]],
            [],
            [torch.tensor(step - 1.0)],
            amsgrad=False,
            beta1=betas[0],
            beta2=betas[1],
            lr=lr,
            weight_decay=0.0 if decoupled and kind == "adam" else weight_decay,
            eps=eps,
            maximize=False,
            foreach=False,
        )
        return new

    return adam_step


wrong("3.2", names="torch's function adam", reason=r"written without", parts={"adam_step": _functional("adam")})


@wrong("3.2", names="torch's function adamw", reason=r"written without torch\.optim\.adamw\.adamw")
def adam_functional(weight, gradient, mean, square, step, lr, betas, eps, weight_decay, decoupled):
    own = _functional("adamw") if decoupled else _adam
    return own(weight, gradient, mean, square, step, lr, betas, eps, weight_decay, decoupled)


@wrong("3.2", names="in place", reason=r"works in place")
def adam_in_place(weight, gradient, mean, square, step, lr, betas, eps, weight_decay, decoupled):
    new = _adam(weight, gradient, mean, square, step, lr, betas, eps, weight_decay, decoupled)
    weight.copy_(new[0])
    return new


@right("3.2", names="other names of the parameters")
def adam_renamed(w, g, m, v, t, eta, both, epsilon, decay, apart):
    return _adam(w, g, m, v, t, eta, both, epsilon, decay, apart)


@right("3.2", names="lerp and addcmul")
def adam_lerp(weight, gradient, mean, square, step, lr, betas, eps, weight_decay, decoupled):
    if not decoupled:
        gradient = torch.add(gradient, weight, alpha=weight_decay)
    else:
        weight = weight - lr * weight_decay * weight
    mean = torch.lerp(gradient, mean, betas[0])
    square = torch.lerp(gradient.square(), square, betas[1])
    rate = lr * math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)
    return weight - rate * mean / (square.sqrt() + eps * math.sqrt(1 - betas[1] ** step)), mean, square


# --- 3.3 early stopping -------------------------------------------------------------------------------------------


def _fit(model, train_epoch, validate, patience, min_delta=0.0, max_epochs=100, slip=""):
    if patience < 1 and slip != "unchecked":
        raise ValueError(patience)
    best, kept, waited, losses = math.inf, None, 0, []
    max_epochs += {"one epoch too few": -1, "one epoch too many": 1}.get(slip, 0)
    if slip == "always one epoch":
        max_epochs = max(1, max_epochs)
    limit = patience + 1 if slip == "late" else max(1, patience - 1) if slip == "soon" else patience
    while len(losses) < max_epochs and (waited < limit or slip == "never"):
        train_epoch(model)
        loss = validate(model)
        if slip == "validates twice":
            validate(model)
        losses.append(loss)
        better = loss < best - (0 if slip == "no min_delta" else min_delta)
        if slip == "nan":
            better = not loss >= best - min_delta
        if slip == "nan first":
            better = len(losses) == 1 or better
        if slip == "share":
            better = loss < best * (1 - min_delta)
        if slip == "last":
            better = len(losses) < 2 or loss < losses[-2] - min_delta
        if slip == "reached":
            better = loss <= best - min_delta and not math.isinf(loss)
        if slip == "ends at nan" and math.isnan(loss):
            break
        if better:
            best = loss
            waited = waited if slip == "never reset" else 0
            state = model.state_dict()
            if slip == "parameters only":
                state = dict(model.named_parameters())
            kept = state if slip == "aliased" else {name: value.detach().clone() for name, value in state.items()}
        else:
            waited += 1
    if slip == "restores when stopped" and waited < patience:
        return losses
    if kept is not None and slip != "last weights":
        model.load_state_dict(kept, strict=slip != "parameters only")
    if slip == "best only":
        return losses[: losses.index(best) + 1] if best in losses else losses
    return losses


for _slip, _reason in {
    "late": "too many|too long",
    "soon": "one too few|off by one",
    "never": "never stops|too long",
    "no min_delta": "min_delta",
    "nan": r"number of epochs|best loss so far|training goes on|in a row",
    "last": "best loss so far|in a row|too long",
    "reached": r"epochs that were trained|in a row|too long",
    "never reset": "starts the count anew|one too few|off by one|in a row",
    "aliased": "live tensors",
    "parameters only": "buffers",
    "last weights": "last epoch's",
    "restores when stopped": "last epoch's",
    "best only": "one for each epoch",
    "validates twice": "once per epoch",
    "unchecked": "is refused",
    "nan first": "became the best loss",
    "ends at nan": "patience goes on",
    "share": "not a share of the best",
    "always one epoch": "max_epochs = 0(.|\\n)*one too many",
    "one epoch too few": "max_epochs = 4(.|\\n)*one too few",
    "one epoch too many": "max_epochs = 0(.|\\n)*one too many",
}.items():
    wrong(
        "3.3",
        names=_slip,
        reason=_reason,
        parts={"fit_with_early_stopping": lambda *a, _slip=_slip, **k: _fit(*a, **k, slip=_slip)},
    )


@wrong("3.3", names="checked after the first epoch", reason=r"before anything is trained")
def fit_checks_late(model, train_epoch, validate, patience, min_delta=0.0, max_epochs=100):
    if patience < 1:
        train_epoch(model)
        raise ValueError(patience)
    return _fit(model, train_epoch, validate, patience, min_delta, max_epochs)


@wrong("3.3", names="goes back to the start", reason=r"before training")
def fit_restores_start(model, train_epoch, validate, patience, min_delta=0.0, max_epochs=100):
    start = copy.deepcopy(model.state_dict())
    losses = _fit(model, train_epoch, validate, patience, min_delta, max_epochs)
    model.load_state_dict(start)
    return losses


@right("3.3", names="other names of the parameters")
def fit_renamed(net, run, measure, wait, threshold=0.0, most=100):
    return _fit(net, run, measure, wait, threshold, most)


@right("3.3", names="a deep copy and a for loop")
def fit_for_loop(model, train_epoch, validate, patience, min_delta=0.0, max_epochs=100):
    if patience < 1:
        raise ValueError("patience must be at least 1")
    losses, best, since, kept = [], math.inf, 0, None
    for _ in range(max_epochs):
        train_epoch(model)
        losses.append(validate(model))
        since += 1
        if losses[-1] + min_delta < best:
            best, since, kept = losses[-1], 0, copy.deepcopy(model.state_dict())
        if since >= patience:
            break
    if kept:
        model.load_state_dict(kept)
    return losses


# --- 3.4 parameter groups -----------------------------------------------------------------------------------------

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def _groups(model, weight_decay, slip=""):
    without = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            exempt = (
                isinstance(module, NORMS) and slip != "norms decay",
                isinstance(module, nn.Embedding) and slip != "embeddings decay",
                (name == "bias" if slip == "short names" else "bias" in name) and slip != "biases decay",
            )
            if any(exempt):
                without.add(parameter)
            elif slip == "last owner wins":
                without.discard(parameter)
    if slip == "dimensions and embeddings":
        tables = {p for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
        without = {p for p in model.parameters() if p.dim() < 2} | tables
    if slip == "BatchNorm1d only":
        deep = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)]
        without -= {m.weight for m in deep}
    if slip == "trains everything":
        model.requires_grad_(True)
    if slip == "dimensions":
        without = {p for p in model.parameters() if p.dim() < 2}
    if slip == "all decay":
        without = set()
    trained = [p for p in model.parameters() if p.requires_grad or slip == "frozen too"]
    if slip == "doubled":
        trained = [p for _, p in model.named_parameters(remove_duplicate=False) if p.requires_grad]
    first = {"params": [p for p in trained if p not in without], "weight_decay": weight_decay}
    second = {"params": [p for p in trained if p in without], "weight_decay": 0.0}
    if slip == "sets":
        first["params"], second["params"] = set(first["params"]), set(second["params"])
    return [second, first] if slip == "other order" else [first, second]


for _slip, _reason in {
    "norms decay": "gain of a norm",
    "embeddings decay": "parameters with decay",
    "biases decay": "biases have no decay",
    "dimensions": "embeddings have two dimensions",
    "all decay": "everything decays",
    "frozen too": "requires_grad=False",
    "doubled": "listed once",
    "other order": "comes first",
    "dimensions and embeddings": "one dimension decays unless it is a norm's",
    "BatchNorm1d only": "BatchNorm2d and BatchNorm3d",
    "short names": "in_proj_bias",
    "trains everything": "what is frozen stays frozen",
    "sets": "AdamW takes the groups(.|\\n)*a set has no order",
}.items():
    wrong(
        "3.4",
        names=_slip,
        reason=_reason,
        parts={"parameter_groups": lambda model, weight_decay, _slip=_slip: _groups(model, weight_decay, _slip)},
    )


@wrong("3.4", names="the second group is forgotten", reason=r"a list of two dictionaries")
def groups_one(model, weight_decay):
    return _groups(model, weight_decay)[:1]


@right("3.4", names="by the names of the modules")
def groups_by_name(model, weight_decay):
    free, seen = [], {}
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            exempt = "Norm" in type(module).__name__ or "Embedding" in type(module).__name__ or "bias" in name
            seen[id(p)] = (p, exempt or seen.get(id(p), (p, False))[1])
    decayed = [p for p, exempt in seen.values() if p.requires_grad and not exempt]
    free = [p for p, exempt in seen.values() if p.requires_grad and exempt]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


# --- 3.5 mixup ----------------------------------------------------------------------------------------------------


def _one_hot(y, classes):
    return F.one_hot(y, classes).float()


def _mixed(x, y, classes, share, order, slip=""):
    hot = _one_hot(y, classes)
    inputs = share * x + (1 - share) * x[order]
    targets = share * hot + (1 - share) * hot[order]
    if slip == "labels not mixed":
        targets = hot
    if slip == "inputs not mixed":
        inputs = x.clone()
    if slip == "share of the other":
        inputs = (1 - share) * x + share * x[order]
    if slip == "labels the other way":
        targets = (1 - share) * hot + share * hot[order]
    if slip == "labels half and half":
        targets = (hot + hot[order]) / 2
    if slip == "classes from the labels":
        targets = targets[:, : int(y.max()) + 1]
    if slip == "the larger share":
        larger = max(share, 1 - share)
        inputs, targets = larger * x + (1 - larger) * x[order], larger * hot + (1 - larger) * hot[order]
    if slip == "inputs as an array":
        inputs = inputs.numpy()
    if slip == "inputs in float64":
        inputs = inputs.double()
    if slip == "targets in float64":
        targets = targets.double()
    if slip == "targets as an array":
        targets = targets.numpy()
    return [inputs, targets] if slip == "a list" else (inputs, targets)


for _slip, _reason in {
    "labels not mixed": "labels are not mixed",
    "inputs not mixed": "inputs were not blended",
    "share of the other": "sample's own part",
    "labels the other way": "sample's own label",
    "labels half and half": "half and half",
    "classes from the labels": "shape",
    "targets as an array": "a tensor",
    "the larger share": "below a half",
    "inputs as an array": r"blended inputs: its type",
    "inputs in float64": r"blended inputs: its dtype",
    "targets in float64": r"targets: its dtype",
    "a list": "two tensors",
}.items():
    wrong("3.5", names=_slip, reason=_reason, parts={"mixup": lambda *a, _slip=_slip: _mixed(*a, slip=_slip)})

_LOSSES = {
    "sum over the batch": (r"sum over the batch", lambda z, t: -(t * z.log_softmax(1)).sum()),
    "mean over everything": (r"sum over the classes", lambda z, t: -(t * z.log_softmax(1)).mean()),
    "argmax of the targets": (r"second label is lost", lambda z, t: F.cross_entropy(z, t.argmax(1))),
    "no softmax": (r"log_softmax", lambda z, t: -(t * z).sum(1).mean()),
    "softmax twice": (r"taken twice", lambda z, t: F.cross_entropy(z.softmax(1), t)),
    "sign": (r"sign", lambda z, t: (t * z.log_softmax(1)).sum(1).mean()),
    "a number": (r"a tensor", lambda z, t: F.cross_entropy(z, t).item()),
    "detached": (r"gradient", lambda z, t: F.cross_entropy(z, t).detach()),
    "log of softmax": (r"take log_softmax", lambda z, t: -(t * z.softmax(1).log()).sum(1).mean()),
    "a floor under softmax": (r"take log_softmax", lambda z, t: -(t * (z.softmax(1) + 1e-9).log()).sum(1).mean()),
    "detached logsumexp": (
        r"cut off by",
        lambda z, t: -(t * (z - z.detach().logsumexp(1, keepdim=True))).sum(1).mean(),
    ),
    "one loss per sample": (r"shape", lambda z, t: F.cross_entropy(z, t, reduction="none")),
}
for _name, (_reason, _loss) in _LOSSES.items():
    wrong("3.5", names=_name, reason=_reason, parts={"mixup_loss": _loss})

right("3.5", names="torch's cross-entropy with probabilities", parts={"mixup_loss": F.cross_entropy})


# --- 3.6 label smoothing ------------------------------------------------------------------------------------------


def _smoothed(logits, y, smoothing, slip=""):
    classes = logits.shape[1]
    log_p = logits.log_softmax(1)
    if slip == "log of softmax":
        log_p = logits.softmax(1).log()
    if slip == "exp":
        log_p = (logits.exp() / logits.exp().sum(1, keepdim=True)).log()
    if slip == "floor":
        log_p = (logits.softmax(1) + 1e-12).log()
    if slip == "clamp":
        log_p = logits.softmax(1).clamp(min=1e-12).log()
    if slip == "batch maximum":
        shifted = logits - logits.max()
        log_p = shifted - shifted.exp().sum(1, keepdim=True).log()
    if slip == "detached logsumexp":
        log_p = logits - logits.detach().logsumexp(1, keepdim=True)
    right_one = log_p.gather(1, y[:, None])[:, 0]
    spread = log_p.mean(1)
    if slip == "smooth part without gradient":
        spread = spread.detach()
    if slip == "over K - 1":
        spread = (log_p.sum(1) - right_one) / (classes - 1)
    if slip == "not divided":
        spread = log_p.sum(1)
    if slip == "turned round":
        smoothing = 1 - smoothing
    if slip == "no smoothing":
        smoothing = 0.0
    loss = -((1 - smoothing) * right_one + smoothing * spread)
    if slip == "float32":
        return loss.mean().float()
    return {"sum": loss.sum(), "each": loss, "detached": loss.mean().detach(), "number": loss.mean().item()}.get(
        slip, loss.mean()
    )


for _slip, _reason in {
    "over K - 1": "over all K",
    "not divided": r"smoothing / K",
    "turned round": "1 - s goes to the right class|plain",
    "no smoothing": "smoothing is missing",
    "log of softmax": r"large logits(.|\n)*not log of softmax",
    "exp": r"large logits(.|\n)*infinite",
    "floor": r"large logits(.|\n)*puts a floor",
    "clamp": r"large logits(.|\n)*puts a floor",
    "batch maximum": r"each row's own maximum",
    "detached logsumexp": "cut off by",
    "smooth part without gradient": "cut off by",
    "float32": "its dtype",
    "sum": "sum over the batch",
    "each": "mean over the batch",
    "detached": "gradient",
    "number": "as a tensor",
}.items():
    wrong(
        "3.6",
        names=_slip,
        reason=_reason,
        parts={"smoothed_cross_entropy": lambda *a, _slip=_slip: _smoothed(*a, slip=_slip)},
    )


@wrong("3.6", names="torch's cross-entropy", reason=r"write it out")
def smoothed_library(logits, y, smoothing):
    return F.cross_entropy(logits, y, label_smoothing=smoothing)


@right("3.6", names="with one-hot targets")
def smoothed_one_hot(logits, y, smoothing):
    targets = torch.full_like(logits, smoothing / logits.shape[1])
    targets[torch.arange(len(y)), y] += 1 - smoothing
    shifted = logits - logits.max(1, keepdim=True).values
    return -(targets * (shifted - shifted.exp().sum(1, keepdim=True).log())).sum(1).mean()


from . import overfitting_measures  # noqa: E402, F401 - those of 3.7 to 3.10
