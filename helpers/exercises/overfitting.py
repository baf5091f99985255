"""The checks and hints of exercises 3.1 to 3.6: dropout, AdamW, early stopping, parameter groups, mixup, smoothing.

What they do not catch: an answer that is right on the CPU and wrong on a GPU.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from helpers.exercises.describing import describe
from helpers.exercises.registry import exercise
from helpers.exercises.trial import Mistake, Trial

Answer = Callable[..., Any]


def without(
    answer: Answer,
    *names: str,
    before: Sequence[Callable[[], Any]] = (),
    after: Sequence[Callable[[], Any]] = (),
) -> Answer:
    """The answer with its first and last arguments made anew for each call, because it may change them.

    `names` are those of the arguments in between, which the check gives and shows.
    """

    @functools.wraps(answer)
    def call(*args: Any, **kwargs: Any) -> Any:
        return answer(*[make() for make in before], *args, *[make() for make in after], **kwargs)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    call.__dict__["__signature__"] = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    return call


def seed_of(trial: Trial) -> int:
    return int(trial.rng.integers(2**31))


def itself(value: Any) -> Any:
    """For `without`: an argument that is to be the same object, whatever the answer does to it."""
    return value


GRADIENTS_OFF = (
    "gradients were switched off for everything that follows: torch.set_grad_enabled(False) as a statement stays, and "
    "the next training learns nothing; `with torch.no_grad():` ends by itself"
)


def gradients_are_on(trial: Trial) -> None:
    """Demand that the answer, called just before, has not left gradients switched off (`check` puts them back)."""
    import torch

    trial.that(
        torch.is_grad_enabled(),
        what="gradients are on again afterwards",
        want="as before the call",
        got="torch.is_grad_enabled() is False",
        otherwise=GRADIENTS_OFF,
    )


def _with_gradient(trial: Trial, call: Callable[[Any], Any], at: Any) -> tuple[Any, Any]:
    """What `call` gives at this tensor, and the gradient of its sum there: zeros when it has none."""
    import torch

    shown, leaf = trial.input, at.detach().clone().requires_grad_()
    got = call(leaf)
    trial.input = shown  # with the tensor, which this call does not show
    found = torch.autograd.grad(got.sum(), leaf, allow_unused=True)[0] if got.requires_grad else None
    return got.detach(), torch.zeros_like(at) if found is None else found


# ---------------------------------------------------------------------------------------------------------- 3.1 dropout


@exercise(
    "3.1",
    title="Inverted dropout",
    parts=("dropout",),
    difficulty=2,
    minutes=10,
    asked_as="Write dropout. What happens at test time, and why divide by 1 − p?",
    hints=(
        "Which elements stay is drawn for each one by itself. What happens to the mean of the output when a share p of "
        "it is set to zero?",
        "`torch.rand(x.shape, generator=generator) >= p` is true with probability 1 - p. Divide what stays by 1 - p.",
        "Check p first, also in evaluation. p = 1 would divide by zero: return zeros there.",
        "`if not training: return x`, `if p == 1: return torch.zeros_like(x)`, then `x * keep / (1 - p)`.",
    ),
)
def dropout_check(trial: Trial, dropout: Answer) -> None:
    import torch

    seed = seed_of(trial)
    answer = without(dropout, "x", "p", "training", after=[functools.partial(_generator, seed)])
    with trial.forbid(*DROPOUTS, why="this is the function that the exercise asks for: draw the mask yourself"):
        for p in (0.5, float(trial.rng.uniform(0.1, 0.4)), float(trial.rng.uniform(0.6, 0.9))):
            _dropout_in_training(trial, answer, p)
        for shape, dtype in (((7,), "float64"), ((2, 3, 4, 5), "float32"), ((3, 0), "float32")):
            given = torch.from_numpy(trial.rng.normal(size=shape).astype(dtype))
            got = trial.call(answer, given, 0.5, True)
            trial.is_tensor(got, shape, dtype, what="the output", otherwise="x may have any shape and float dtype")
        x = torch.from_numpy(trial.rng.normal(size=(4, 3, 5)).astype(np.float32))
        for p in (0.5, 1.0):
            trial.close(
                trial.call(answer, x, p, False),
                x,
                what=f"the output in evaluation for p = {p:g}",
                mistakes=[Mistake(x * 0.5, "the scaling belongs into training: evaluation changes nothing")],
                otherwise="in evaluation nothing is dropped and nothing is scaled, whatever p is",
            )
        trial.close(trial.call(answer, x, 0.0, True), x, what="the output for p = 0", otherwise="p is what is dropped")
        trial.close(
            trial.call(answer, x, 1.0, True),
            torch.zeros_like(x),
            what="the output for p = 1",
            otherwise="everything is dropped; 0 divided by 0 is NaN: return zeros",
        )
        for p, training in ((-0.1, True), (1.5, True), (1.5, False)):
            trial.raises(
                ValueError,
                answer,
                x,
                p,
                training,
                what=f"p = {p} is refused " + ("in training" if training else "in evaluation"),
                otherwise="p is a probability: check it before anything else, in evaluation too",
            )
        _dropout_randomness(trial, dropout, x, seed)
        got, gradient = _with_gradient(trial, functools.partial(_dropped, trial, dropout, seed), x)
        trial.close(
            gradient,
            got / x,
            what="the gradient of the output with respect to x",
            otherwise="what stays has the gradient 1 / (1 - p): the layers below learn through dropout, "
            "so no numpy and no detach() on the way",
        )


DROPOUTS = (
    *(f"torch.{name}{end}" for name in ("dropout", "feature_dropout", "alpha_dropout") for end in ("", "_")),
    "torch.native_dropout",
    "torch.feature_alpha_dropout",
    *(f"torch.nn.functional.{name}dropout" for name in ("", "alpha_", "feature_alpha_")),
    *(f"torch.nn.functional.dropout{n}d" for n in (1, 2, 3)),
)


def _dropout_randomness(trial: Trial, dropout: Answer, x: Any, seed: int) -> None:
    import torch

    again = [dropout(x, 0.5, True, _generator(seed + n)) for n in (0, 0, 1)]
    trial.that(
        torch.equal(again[0], again[1]) and not torch.equal(again[0], again[2]),
        what="the generator decides what is dropped",
        want="the same mask for the same generator, another one for another",
        got="a mask that does not follow the generator",
        otherwise="give it to torch.rand: torch.rand(x.shape, generator=generator)",
    )
    generator = _generator(seed)
    trial.that(
        not torch.equal(dropout(x, 0.5, True, generator), dropout(x, 0.5, True, generator)),
        what="two calls with one generator draw two masks",
        want="the second call goes on where the first one left the generator",
        got="the same mask again",
        otherwise="draw from the generator itself: a new one with its initial_seed() begins anew in each step",
    )
    kept = {int((dropout(torch.ones(40), 0.5, True, _generator(seed + n)) != 0).sum()) for n in range(20)}
    trial.that(
        len(kept) > 3,
        what="how many elements stay differs from call to call",
        want="about 20 of 40, with a standard deviation of 3.2",
        got=f"in 20 calls only {sorted(kept)} of 40",
        otherwise="each element is drawn independently: do not choose a fixed number of them",
    )


def _dropped(trial: Trial, dropout: Answer, seed: int, x: Any) -> Any:
    around = {"before": [functools.partial(itself, x)], "after": [functools.partial(_generator, seed)]}
    return trial.call(without(dropout, "p", "training", **around), 0.5, True)


def _generator(seed: int) -> Any:
    import torch

    return torch.Generator().manual_seed(seed)


def _dropout_in_training(trial: Trial, answer: Answer, p: float) -> None:
    import torch

    shape = (40, int(trial.rng.integers(200, 300)), 3)
    x = torch.from_numpy(trial.rng.uniform(1, 2, shape).astype(np.float32))
    got = trial.call(answer, x, p, True)
    trial.is_tensor(got, shape, "float32", what="the output in training", otherwise="a tensor like x")
    kept = got != 0
    share = kept.float().mean().item()
    spread = min(kept.float().mean(axis).std().item() for axis in ((1, 2), (0, 2)))
    alike = bool((kept == kept[:1]).all() or (kept == kept[:, :1]).all() or (kept == kept[..., :1]).all())
    trial.that(  # before the share: that of a mask for whole rows is now and then too far from 1 - p
        share in (0.0, 1.0) or (not alike and spread > 0),
        what="each element is drawn by itself",
        want="another mask in each row, column and channel",
        got="whole rows or channels are dropped together",
        otherwise="draw a mask of x's full shape",
    )
    trial.close(
        share,
        1 - p,
        what="the share of elements that stay",
        mistakes=[
            Mistake(1.0, "nothing was dropped in training"),
            Mistake(p, "p is the probability to be dropped, not to be kept"),
        ],
        otherwise="each element is dropped with probability p",
        rtol=0,
        atol=0.02,
    )
    trial.close(
        got[kept] / x[kept],
        torch.full((int(kept.sum()),), 1 / (1 - p)),
        what="by how much the elements that stay are multiplied",
        mistakes=[
            Mistake(torch.ones(int(kept.sum())), "the output is too small on average: divide what stays by 1 - p"),
            Mistake(torch.full((int(kept.sum()),), 1 / p), "divide by the probability to be kept, 1 - p"),
            Mistake(torch.full((int(kept.sum()),), 1 - p), "divide by 1 - p; this multiplies by it"),
        ],
        otherwise="x / (1 - p), so that the expected output is x",
        rtol=1e-4,
    )


# ------------------------------------------------------------------------------------------------------------ 3.2 AdamW


@exercise(
    "3.2",
    title="One step of AdamW, and of Adam with L2",
    parts=("adam_step",),
    difficulty=3,
    minutes=15,
    asked_as="What is the W in AdamW, and why does it matter?",
    hints=(
        "Two places for the decay: in the gradient, before the moments, or at the weight, beside them.",
        "mean ← β₁·mean + (1 - β₁)·g and square ← β₂·square + (1 - β₂)·g². Both begin at 0, so divide each by 1 - βᵗ, "
        "with t = step.",
        "Decoupled: `weight * (1 - lr * weight_decay)`. Coupled: `gradient + weight_decay * weight`, before the means.",
        "At the end `weight - lr * mean_hat / (square_hat.sqrt() + eps)`, with the corrected means; return the means "
        "that are not corrected.",
    ),
)
def adamw_check(trial: Trial, adam_step: Answer) -> None:
    for case in range(6):
        # step 1 is not the first case: its means are 0, and an answer that uses the old ones takes no step at all
        given = _adam_case(trial.rng, step=(2, 1, 10)[case % 3], decoupled=case >= 3)
        with trial.forbid(*ADAMS, why="the step of the optimiser is what is asked: write it out"):
            got = trial.call(adam_step, *given.values())
        trial.is_type(got, tuple, what="the result", otherwise="three tensors: return weight, mean, square")
        trial.that(
            len(got) == 3,
            what="the result has three parts",
            want="weight, mean, square",
            got=describe(got),
            otherwise="return weight, mean, square",
        )
        kind = "AdamW" if given["decoupled"] else "Adam with L2"
        names = ("weight", "mean of the gradients", "mean of their squares")
        want = _adam(**given)
        for place in (1, 2, 0):
            trial.is_tensor(
                got[place],
                tuple(want[place].shape),
                "float64",
                what=f"the {names[place]} ({kind})",
                otherwise="it has the shape and the dtype of the weight",
            )
            trial.close(
                got[place].detach(),
                want[place],
                what=f"the {names[place]} ({kind}, step {given['step']})",
                mistakes=[Mistake(_adam(**given, slip=slip)[place], text) for slip, text in ADAM_SLIPS.items()],
                otherwise="Adam (Kingma and Ba 2015) with bias correction; AdamW shrinks the weight by "
                "1 - lr × weight_decay and keeps the decay out of the gradient",
                rtol=1e-6,
                atol=1e-9,
            )


ADAMS = tuple(
    f"torch.optim.{name}" for name in ("AdamW", "Adam", "adamw.AdamW", "adam.Adam", "adamw.adamw", "adam.adam")
)

ADAM_SLIPS = {
    "other kind": "the decay is missing here, or at the other place: decoupled=True shrinks the weight beside the "
    "step, decoupled=False adds weight_decay × weight to the gradient",
    "decay over the root": "the decay was divided by the root of the second moment, like the gradient: keep it out",
    "decay without lr": "the decoupled decay is lr × weight_decay",
    "no decay": "the weight decay is missing",
    "decay added": "the weight has to shrink: the decay has the wrong sign",
    "no correction": "the bias correction is missing: both means begin at 0, divide by 1 - beta^step",
    "correction kept": "return the running means themselves, not the corrected ones",
    "step from 0": "the correction counts steps from 1: with step 1 the first mean is divided by 1 - beta",
    "eps inside": "eps is added to the root, not inside of it",
    "eps early": "eps is added after the bias correction of the root",
    "no square": "the second mean is of the squared gradients",
    "swapped": "the two betas are swapped",
    "old mean": "the step was taken with the mean from before it: update the means first",
    "old square": "the step was taken with the mean of squares from before it: update the means first",
    "old both": "the step was taken with the means from before it: update them first",
    "no step": "the weight did not take a step",
}


def _adam_case(rng: np.random.Generator, step: int, decoupled: bool) -> dict[str, Any]:
    import torch

    shape = tuple(int(n) for n in rng.integers(2, 6, int(rng.integers(1, 4))))

    def tensor(scale: float) -> Any:
        return torch.from_numpy(rng.normal(0, scale, shape))

    first = step == 1
    return {
        "weight": tensor(1.0),
        "gradient": tensor(0.5),
        "mean": torch.zeros(shape, dtype=torch.float64) if first else tensor(0.3),
        "square": torch.zeros(shape, dtype=torch.float64) if first else tensor(0.3).square(),
        "step": step,
        "lr": float(rng.uniform(0.05, 0.2)),
        "betas": (float(rng.uniform(0.8, 0.92)), float(rng.uniform(0.95, 0.99))),
        "eps": float(rng.uniform(1e-3, 1e-2)),  # large: its place is seen
        "weight_decay": float(rng.uniform(0.1, 0.5)),
        "decoupled": decoupled,
    }


def _adam(
    weight: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
    slip: str = "",
) -> tuple[Any, Any, Any]:
    """torch's optimiser for what is right; by hand, with one slip, for what is not."""
    import torch

    if not slip:
        parameter = torch.nn.Parameter(weight.clone())
        with_decay: dict[str, Any] = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": False,
        }
        optimiser = (torch.optim.AdamW if decoupled else torch.optim.Adam)([parameter], **with_decay)
        state = {"step": torch.tensor(float(step - 1)), "exp_avg": mean.clone(), "exp_avg_sq": square.clone()}
        optimiser.state[parameter] = state
        parameter.grad = gradient.clone()
        optimiser.step()
        return parameter.detach(), state["exp_avg"], state["exp_avg_sq"]
    decoupled ^= slip == "other kind"
    decay = {"no decay": 0.0, "decay added": -weight_decay}.get(slip, weight_decay)
    if slip == "swapped":
        betas = betas[::-1]
    before = weight
    if not decoupled:
        gradient = gradient + decay * weight
    elif slip != "decay over the root":
        weight = weight * (1 - (1 if slip == "decay without lr" else lr) * decay)
    old = mean, square
    mean = betas[0] * mean + (1 - betas[0]) * gradient
    square = betas[1] * square + (1 - betas[1]) * (gradient if slip == "no square" else gradient**2)
    count = step - (slip == "step from 0")
    correct = [1.0, 1.0] if slip == "no correction" or count == 0 else [1 - beta**count for beta in betas]
    first, second = mean / correct[0], square / correct[1]
    if slip in ("old mean", "old both"):
        first = old[0] / correct[0]
    if slip in ("old square", "old both"):
        second = old[1] / correct[1]
    update = first + (decay * before if slip == "decay over the root" and decoupled else 0)
    if slip == "eps inside":
        root = (second + eps).sqrt()
    elif slip == "eps early":
        root = (square.sqrt() + eps) / math.sqrt(correct[1])
    else:
        root = second.sqrt() + eps
    after = before if slip == "no step" else weight - lr * update / root
    return (after, first, second) if slip == "correction kept" else (after, mean, square)


# --------------------------------------------------------------------------------------------------- 3.3 early stopping


@exercise(
    "3.3",
    title="Early stopping with restore",
    parts=("fit_with_early_stopping",),
    difficulty=3,
    minutes=20,
    asked_as="Implement early stopping. What do you keep, and when do you stop?",
    hints=(
        "Three things change from epoch to epoch: the best loss, a copy of its weights, and how many epochs you have "
        "waited since.",
        "`state_dict()` holds the live tensors. Copy them: `{name: value.clone() for name, value in …}`.",
        "Improvement: `loss < best - min_delta`. Written this way a NaN is never one. Else waited += 1, and stop when "
        "waited == patience.",
        "Restore after the loop, whether it ended by patience or by max_epochs; when no epoch was an improvement there "
        "is nothing to restore.",
    ),
)
def early_stopping_check(trial: Trial, fit_with_early_stopping: Answer) -> None:
    nan, inf = math.nan, math.inf
    for what, losses, patience, min_delta, epochs in (
        ("a usual run", [3.0, 2.0, 1.0, 1.5, 1.2, 1.1, 0.5], 3, 0.0, 100),
        ("a run that improves again in time", [3.0, 2.0, 2.5, 1.0, 1.1, 0.9, 1.0, 1.0, 1.0, 0.1], 3, 0.0, 100),
        ("patience 1", [2.0, 1.0, 1.0, 0.5], 1, 0.0, 100),
        ("no epoch at all", [1.0, 2.0], 2, 0.0, 0),
        ("losses around 10", [10.0, 9.7, 9.4, 9.1, 9.2, 9.3, 8.0], 2, 0.2, 100),
        ("improvements below min_delta", [2.0, 1.95, 1.9, 1.85, 1.0], 2, 0.2, 100),
        ("small improvements that add up", [2.0, 1.9, 1.79, 1.5, 1.6, 1.45, 1.4, 1.0], 3, 0.2, 100),
        ("a run that ends before patience does", [3.0, 1.0, 2.0, 2.0, 2.0], 5, 0.0, 4),
        ("NaN in between", [3.0, nan, 1.0, nan, nan, 0.5], 2, 0.0, 100),
        ("NaN from the start", [nan, nan, nan, 1.0], 3, 0.0, 100),
        ("infinity at first", [inf, 3.0, 4.0, 4.0, 1.0], 2, 0.0, 100),
    ):
        factor = float(trial.rng.uniform(0.5, 2))
        script, min_delta = _Script([loss * factor for loss in losses]), min_delta * factor
        answer = without(
            fit_with_early_stopping,
            "patience",
            "min_delta",
            "max_epochs",
            before=script.given,
        )
        got = trial.call(answer, patience, min_delta, epochs)
        trial.input = (
            f"{what}: validation losses {describe(script.losses)}, patience {patience}, min_delta {min_delta:g}, "
            f"max_epochs {epochs}"
        )
        stop, best = _stops(script.losses, patience, min_delta, epochs)
        trial.equal(
            script.trained,
            stop,
            what="the number of epochs that were trained",
            mistakes=_stop_mistakes(script.losses, patience, min_delta, epochs),
            otherwise=f"stop after {patience} epochs in a row without an improvement; each improvement starts the "
            "count anew",
        )
        trial.that(
            script.validated == script.trained,
            what="the model is validated once after each epoch",
            want=f"{script.trained} validations",
            got=f"{script.validated}",
            otherwise="validate costs time and is asked once per epoch: keep its result",
        )
        trial.close(got, script.losses[:stop], what="the losses that are returned", otherwise="one for each epoch")
        kept = stop if best is None else best
        trial.equal(
            (script.weight, script.buffer),
            (float(kept), float(kept)),
            what=f"the weights and buffers at the end are those of epoch {kept} (epoch n leaves the number n there)",
            mistakes=[
                Mistake(
                    (float(stop), float(stop)),
                    "these are the last epoch's: state_dict() holds the live tensors, "
                    "copy them with clone(), and load the copy at the end",
                ),
                Mistake(
                    (float(kept), float(stop)),
                    "the buffers are the last epoch's: copy state_dict(), not only the parameters",
                ),
                Mistake((0.0, 0.0), "these are the weights from before training"),
            ],
            otherwise="load the copy of the best epoch's state_dict() when training ends",
        )
    for patience in (0, -1):
        script = _Script([1.0, 2.0, 3.0])
        answer = without(
            fit_with_early_stopping,
            "patience",
            before=script.given,
        )
        trial.raises(ValueError, answer, patience, what=f"patience {patience} is refused", otherwise="say so at once")
        trial.that(
            script.trained == 0,
            what="a bad patience is refused before anything is trained",
            want="no epoch",
            got=f"{script.trained} epochs",
            otherwise="check the arguments first: training costs hours",
        )


class _Script:
    """A model whose epochs are a play: epoch n leaves n in its weight and buffer, and has a loss that is given."""

    def __init__(self, losses: list[float]) -> None:
        self.losses, self.trained, self.validated = losses, 0, 0
        self.model: Any = None

    @property
    def given(self) -> list[Callable[[], Any]]:
        """Makers of the first three arguments."""
        return [self.fresh, lambda: self.train_epoch, lambda: self.validate]

    def fresh(self) -> Any:
        import torch

        self.model = torch.nn.BatchNorm1d(1)
        with torch.no_grad():
            self.model.weight.fill_(0)
            self.model.running_mean.fill_(0)
        return self.model

    def train_epoch(self, model: Any) -> None:
        import torch

        if self.trained >= len(self.losses):
            raise RuntimeError(f"epoch {self.trained + 1} was begun: training goes on for too long")
        self.trained += 1
        with torch.no_grad():
            model.weight.fill_(self.trained)
            model.running_mean.fill_(self.trained)

    def validate(self, model: Any) -> float:
        self.validated += 1
        return self.losses[self.trained - 1]

    @property
    def weight(self) -> float:
        return float(self.model.weight.detach()[0])

    @property
    def buffer(self) -> float:
        return float(self.model.running_mean[0])


def _stops(losses: list[float], patience: int, min_delta: float, epochs: int) -> tuple[int, int | None]:
    """Epochs that are trained, and the best one's number (None: no improvement)."""
    best, place = math.inf, None
    for number, loss in enumerate(losses[:epochs], start=1):
        if best - loss > min_delta:
            best, place = loss, number
        elif number - (place or 0) >= patience:
            return number, place
    return min(len(losses), epochs), place


def _stop_mistakes(losses: list[float], patience: int, min_delta: float, epochs: int) -> list[Mistake]:
    special = []
    if epochs < len(losses):
        special = [
            Mistake(epochs + 1, f"train at most max_epochs = {epochs} epochs: this is one too many"),
            Mistake(epochs - 1, f"max_epochs = {epochs} epochs are allowed: this is one too few"),
        ]
    nan = next((number for number, loss in enumerate(losses, start=1) if math.isnan(loss)), None)
    if nan is not None:
        special.append(Mistake(nan, "a NaN is an epoch without an improvement, but not the end: patience goes on"))
    if nan == 1:
        text = "a NaN at first became the best loss, and nothing is below it: begin with infinity"
        special.append(Mistake(min(1 + patience, len(losses), epochs), text))
    return [
        *special,
        Mistake(_with_share(losses, patience, min_delta, epochs), "min_delta is a difference, not a share of the best"),
        Mistake(_stops(losses, patience + 1, min_delta, epochs)[0], "patience is off by one: one epoch too many"),
        Mistake(_stops(losses, max(1, patience - 1), min_delta, epochs)[0], "patience is off by one: one too few"),
        Mistake(_stops(losses, patience, 0.0, epochs)[0], "an improvement has to be larger than min_delta"),
        Mistake(_against_the_last(losses, patience, epochs), "compare with the best loss so far, not with the last"),
        Mistake(min(len(losses), epochs), "it never stops early here"),
    ]


def _with_share(losses: list[float], patience: int, min_delta: float, epochs: int) -> int | None:
    """Where it stops when min_delta is a share; None without one, where it makes no difference."""
    best, waited = math.inf, 0
    for number, loss in enumerate(losses[:epochs], start=1):
        better = loss < best * (1 - min_delta)
        best, waited = (loss, 0) if better else (best, waited + 1)
        if waited == patience and min_delta:
            return number
    return None


def _against_the_last(losses: list[float], patience: int, epochs: int) -> int:
    waited = 0
    for number in range(1, min(len(losses), epochs)):
        waited = 0 if losses[number] < losses[number - 1] else waited + 1
        if waited == patience:
            return number + 1
    return min(len(losses), epochs)


# ------------------------------------------------------------------------------------------------- 3.4 parameter groups


@exercise(
    "3.4",
    title="Parameter groups",
    parts=("parameter_groups",),
    difficulty=2,
    minutes=12,
    asked_as="Which parameters do you exclude from weight decay, and why?",
    hints=(
        "What decides is the module that owns a parameter, and the parameter's name in it. A test of the number of "
        "dimensions gets embeddings wrong.",
        "`for module in model.modules(): for name, p in module.named_parameters(recurse=False)` gives each owner.",
        "Collect the parameters without decay in a set first (tensors hash by identity); then go through "
        "`model.parameters()`, which gives a shared one once.",
        "`isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.Embedding)) or "
        '"bias" in name` belongs into the second group; leave out those with requires_grad=False.',
    ),
)
def groups_check(trial: Trial, parameter_groups: Answer) -> None:
    for build in (_classifier, _language_model, _tied, _frozen, _pictures, _attention):
        model = build(trial.rng)
        decay = float(trial.rng.uniform(0.01, 0.2))
        # before the call, which may change the model
        want, mistakes, trained = _grouped(model), _group_mistakes(model), _trained(model)
        answer = without(parameter_groups, "weight_decay", before=[functools.partial(itself, model)])
        groups = trial.call(answer, decay)
        trial.input = f"{build.__doc__}, weight_decay {decay:.3g}"
        usable = (
            isinstance(groups, list)
            and len(groups) == 2
            and all(isinstance(group, dict) and {"params", "weight_decay"} <= set(group) for group in groups)
        )
        trial.that(
            usable,
            what="the result is two groups",
            want='[{"params": [...], "weight_decay": …}, {"params": [...], "weight_decay": 0.0}]',
            got=describe(groups),
            otherwise="a list of two dictionaries, as optimisers take them",
        )
        trial.equal(
            [group["weight_decay"] for group in groups],
            [decay, 0.0],
            what="the decay of the two groups",
            otherwise="the group with decay comes first",
        )
        trial.equal(
            _trained(model),
            trained,
            what="the parameters that are trained (requires_grad) after the call",
            otherwise="it changes the model: what is frozen stays frozen, only the groups are asked",
        )
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        members = [list(group["params"]) for group in groups]
        got = [sorted(names.get(id(p), "?") for p in group) for group in members]
        for place, which in enumerate(("with", "without")):
            trial.equal(
                got[place],
                want[place],
                what=f"the parameters {which} decay",
                mistakes=[Mistake(value[place], text) for value, text in mistakes],
                otherwise="no decay for biases, norms (LayerNorm, GroupNorm, BatchNorm1d to 3d) and embeddings; "
                "each trainable parameter once",
            )
        refusal = _refusal(groups, members)
        trial.that(
            refusal is None,
            what="torch.optim.AdamW takes the groups",
            want="an optimiser",
            got=refusal,
            otherwise='"params" is a list: a set has no order, and an optimiser keeps its state by place',
        )


def _trained(model: Any) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def _refusal(groups: list[dict[str, Any]], members: list[list[Any]]) -> str | None:
    """What torch's optimiser has against the groups. An iterator has been read: its members stand in for it."""
    import torch

    fresh = [
        {**group, "params": own if isinstance(group["params"], Iterator) else group["params"]}
        for group, own in zip(groups, members, strict=True)
    ]
    try:
        torch.optim.AdamW(fresh, lr=1e-3)
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _classifier(rng: np.random.Generator) -> Any:
    """a convolutional network with BatchNorm and GroupNorm"""
    from torch import nn

    width = int(rng.integers(2, 5)) * 2
    return nn.Sequential(
        nn.Conv1d(3, width, 3), nn.BatchNorm1d(width), nn.Conv1d(width, width, 3, bias=False), nn.GroupNorm(2, width)
    )


def _language_model(rng: np.random.Generator) -> Any:
    """a small GPT, whose embedding is its output layer too"""
    from helpers.models import GPT, GPTConfig

    return GPT(GPTConfig(vocabulary=11, context=8, layers=int(rng.integers(1, 3)), heads=2, width=8))


def _tied(rng: np.random.Generator) -> Any:
    """a model in which a Linear layer before the embedding shares its weight"""
    from torch import nn

    size = int(rng.integers(3, 6))
    model = nn.ModuleDict({"out": nn.Linear(size, 7), "table": nn.Embedding(7, size), "norm": nn.LayerNorm(size)})
    model["table"].weight = model["out"].weight
    return model


def _frozen(rng: np.random.Generator) -> Any:
    """a model with a frozen first layer"""
    from torch import nn

    size = int(rng.integers(3, 6))
    model = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 2))
    model[0].requires_grad_(False)
    return model


def _attention(rng: np.random.Generator) -> Any:
    """a model with attention and an LSTM, whose biases have longer names"""
    from torch import nn

    return nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2), "memory": nn.LSTM(4, int(rng.integers(2, 5)))})


def _pictures(rng: np.random.Generator) -> Any:
    """a model with Conv2d, BatchNorm2d, BatchNorm3d, LayerNorm and PReLU, whose slopes are a weight of no norm"""
    from torch import nn

    size = int(rng.integers(3, 6))
    return nn.ModuleDict(
        {
            "convolution": nn.Conv2d(3, size, 3),
            "normal2": nn.BatchNorm2d(size),
            "normal3": nn.BatchNorm3d(size),
            "normal": nn.LayerNorm(size),
            "slopes": nn.PReLU(size),
        }
    )


def _grouped(model: Any, slip: str = "") -> list[list[str]]:
    """Names with and without decay, by the parameter's own name and owner (so not by the reference's sets)."""
    from torch import nn

    owners: dict[int, list[tuple[Any, str]]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            owners.setdefault(id(parameter), []).append((module, name))
    groups: list[list[str]] = [[], []]
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad and slip != "frozen":
            continue
        held = owners[id(parameter)]
        bias = any("bias" in own for _, own in held)  # in_proj_bias and bias_ih_l0 are biases too
        norm = any("Norm" in type(module).__name__ for module, _ in held)
        table = any(isinstance(module, nn.Embedding) for module, _ in held)
        free = {
            "dimensions": parameter.dim() < 2,
            "dimensions and tables": parameter.dim() < 2 or table,
            "flat norms": bias
            or table
            or (norm and not any(type(module).__name__ in ("BatchNorm2d", "BatchNorm3d") for module, _ in held)),
            "norms": bias or table,
            "biases": norm or table,
            "short names": any(own == "bias" for _, own in held) or norm or table,
            "nothing": False,
            "first owner": bias or norm or isinstance(held[0][0], nn.Embedding),
        }.get(slip, bias or norm or table)
        groups[free].append(name)
    return [sorted(group) for group in groups]


def _group_mistakes(model: Any) -> list[tuple[list[list[str]], str]]:
    """The groups that well-known mistakes give, and what to tell their makers."""
    names = {id(p): name for name, p in model.named_parameters()}
    every = [names[id(p)] for _, p in model.named_parameters(remove_duplicate=False)]
    doubled = [sorted(name for name in every if name in group) for group in _grouped(model)]
    return [
        (_grouped(model, slip), text)
        for slip, text in {
            "nothing": "everything decays: biases, norms and embeddings belong into the second group",
            "dimensions and tables": "a weight of one dimension decays unless it is a norm's: go by the module that "
            "owns it",
            "dimensions": "embeddings have two dimensions as well: go by the module that owns the parameter",
            "norms": "the gain of a norm is called weight: go by the module that owns it",
            "flat norms": "BatchNorm2d and BatchNorm3d are normalisation layers too",
            "biases": "biases have no decay",
            "short names": "in_proj_bias and bias_ih_l0 are biases too: look for bias in the parameter's own name",
            "frozen": "a parameter with requires_grad=False belongs into no group",
            "first owner": "the shared weight is an embedding as well: it has no decay, whichever module comes first",
        }.items()
    ] + [(doubled, "a shared parameter is listed once")]


# ------------------------------------------------------------------------------------------------------------ 3.5 mixup


@exercise(
    "3.5",
    title="Mixup and its loss",
    parts=("mixup", "mixup_loss"),
    difficulty=3,
    minutes=15,
    asked_as="Implement mixup. What happens to the labels, and how do you compute the loss?",
    hints=(
        "What is the label of a picture that is 70 % a 3 and 30 % a 7?",
        "Make the labels one-hot (`F.one_hot(y, classes)`, as floats), then do to them what you do to the inputs.",
        "`share * x + (1 - share) * x[order]`, and the same for the targets.",
        "The loss: `-(targets * logits.log_softmax(1)).sum(1).mean()`.",
    ),
)
def mixup_check(trial: Trial, mixup: Answer, mixup_loss: Answer) -> None:
    import torch
    import torch.nn.functional as F

    for shape, shares in (((6,), (0.55, 0.9)), ((4, 5), (0.1, 0.45)), ((3, 2, 2), (0.1, 0.9))):
        count, classes = int(trial.rng.integers(5, 9)), int(trial.rng.integers(3, 6))
        x = torch.from_numpy(trial.rng.normal(size=(count, *shape)).astype(np.float32))
        y = torch.from_numpy(trial.rng.integers(0, classes - 1, count))  # the last class does not occur
        order = torch.from_numpy(trial.rng.permutation(np.roll(np.arange(count), 1)))
        share = float(trial.rng.uniform(*shares))
        smaller = ", also when it is below a half" if share < 0.5 else ""
        got = trial.call(mixup, x, y, classes, share, order)
        trial.is_type(got, tuple, what="the result of mixup", otherwise="two tensors: return inputs, targets")
        trial.is_tensor(got[0], tuple(x.shape), "float32", what="the blended inputs", otherwise="a tensor like x")
        trial.close(
            got[0],
            torch.lerp(x[order], x, share),
            what="the blended inputs",
            mistakes=[
                Mistake(torch.lerp(x, x[order], share), "share is the sample's own part, not the other's" + smaller),
                Mistake(x, "the inputs were not blended"),
            ],
            otherwise="share × x + (1 - share) × x[order]",
            rtol=1e-4,
            atol=1e-6,
        )
        hot = F.one_hot(y, classes).float()
        trial.is_tensor(
            got[1],
            (count, classes),
            "float32",
            what="the targets",
            otherwise="one row of probabilities per sample, in the dtype of x",
        )
        trial.close(
            got[1],
            torch.lerp(hot[order], hot, share),
            what="the targets",
            mistakes=[
                Mistake(hot, "the labels are not mixed: a blend of a 3 and a 7 is taught to be a 3"),
                Mistake(torch.lerp(hot, hot[order], share), "share belongs to the sample's own label" + smaller),
                Mistake((hot + hot[order]) / 2, "the labels are mixed in the inputs' proportion, not half and half"),
            ],
            otherwise="share × one-hot(y) + (1 - share) × one-hot(y[order])",
            rtol=1e-4,
            atol=1e-6,
        )
        logits = torch.from_numpy(trial.rng.normal(0, 2, (count, classes)).astype(np.float32))
        _mixup_loss(trial, mixup_loss, logits, torch.lerp(hot[order], hot, share))
    _mixup_loss(trial, mixup_loss, torch.tensor([[1000.0, -1000.0, 0.0]]), torch.tensor([[0.5, 0.5, 0.0]]))


def _mixup_loss(trial: Trial, mixup_loss: Answer, logits: Any, targets: Any) -> None:
    import torch.nn.functional as F

    loss = trial.call(mixup_loss, logits.clone().requires_grad_(), targets)
    trial.is_tensor(loss, (), what="the loss", otherwise="one number, as a tensor")
    want, slope = _with_gradient(trial, lambda leaf: F.cross_entropy(leaf, targets), logits)
    each, large = -(targets * logits.log_softmax(1)).sum(1), bool(logits.abs().max() > 100)
    trial.close(
        loss.detach(),
        want,
        what="the loss" + (" for large logits" if large else ""),
        mistakes=[
            Mistake(each.sum(), "this is the sum over the batch: take the mean"),
            Mistake(each.mean() / logits.shape[1], "sum over the classes, mean over the batch"),
            Mistake(F.cross_entropy(logits, targets.argmax(1)), "the second label is lost: no argmax"),
            Mistake(-each.mean(), "the sign: a cross-entropy is positive"),
            Mistake(-(targets * logits).sum(1).mean(), "log_softmax of the logits is missing"),
            Mistake(F.cross_entropy(logits.softmax(1), targets), "the softmax is taken twice"),
        ],
        otherwise="a softmax rounds small probabilities to 0 and exp overflows: take log_softmax of the logits"
        if large
        else "-Σ target × log_softmax(logits) over the classes, mean over the batch",
        rtol=1e-4,
    )
    _same_gradient(trial, _with_gradient(trial, lambda leaf: mixup_loss(leaf, targets), logits)[1], slope)


def _same_gradient(trial: Trial, got: Any, want: Any) -> None:
    import torch

    trial.close(
        got,
        want,
        what="the gradient of the loss with respect to the logits",
        mistakes=[Mistake(torch.zeros_like(want), "the loss has no gradient: no .item(), .detach() or numpy in it")],
        otherwise="the value is right, its gradient (probabilities - targets) / batch is not: a part of the loss is "
        "cut off by .detach() or no_grad",
        rtol=1e-4,
        atol=1e-6,
    )


# -------------------------------------------------------------------------------------------------- 3.6 label smoothing


@exercise(
    "3.6",
    title="Cross-entropy with label smoothing",
    parts=("smoothed_cross_entropy",),
    difficulty=2,
    minutes=12,
    asked_as="What is label smoothing? What does it do to the probabilities?",
    hints=(
        "Write down the target of three classes with smoothing 0.3. It adds up to 1, and the right class gets a part "
        "of what is spread, too.",
        "Cross-entropy is linear in the target: (1 - s) × that of the right class + s × the mean over all classes.",
        "`logits - logits.logsumexp(1, keepdim=True)` are the log-probabilities, safe for large logits.",
        "`-((1 - s) * log_p.gather(1, y[:, None]).squeeze(1) + s * log_p.mean(1)).mean()`.",
    ),
)
def smoothing_check(trial: Trial, smoothed_cross_entropy: Answer) -> None:
    import torch
    import torch.nn.functional as F

    count, classes = int(trial.rng.integers(4, 9)), int(trial.rng.integers(3, 7))
    usual, floor = torch.from_numpy(trial.rng.normal(size=(count, classes))), torch.zeros(count, 1)
    floor[::2] = 3000.0
    for smoothing, logits, otherwise in (
        (0.1, usual, ""),
        (float(trial.rng.uniform(0.2, 0.6)), usual * 2, ""),
        (0.0, usual, ""),
        (0.1, usual + 3000, "exp of a large logit is infinite: subtract logsumexp, or use log_softmax"),
        (
            0.1,
            usual + floor,
            "rows around 0 and around 3000: subtract each row's own maximum or logsumexp, not the batch's",
        ),
        (
            0.1,
            usual * 1000,
            "probabilities are rounded to 0 here, and a clamp or + 1e-12 puts a floor under them: take log_softmax, "
            "not log of softmax",
        ),
    ):
        y = torch.from_numpy(trial.rng.integers(0, classes, count))
        call = functools.partial(F.cross_entropy, target=y, label_smoothing=smoothing)
        want, slope = _with_gradient(trial, call, logits)
        log_p = logits.log_softmax(1)
        right = log_p.gather(1, y[:, None])[:, 0]
        others = (log_p.sum(1) - right) / (classes - 1)
        with trial.forbid(
            "torch.nn.functional.cross_entropy",
            "torch.nn.functional.nll_loss",
            "torch.nn.functional.kl_div",
            "torch.kl_div",
            why="the cross-entropy is what is asked: write it out",
        ):
            got = trial.call(smoothed_cross_entropy, logits.clone().requires_grad_(), y, smoothing)
        trial.is_tensor(
            got,
            (),
            "float64",
            what="the loss",
            otherwise="one number in the dtype of the logits, as a tensor: the mean over the batch",
        )
        trial.close(
            got.detach(),
            want,
            what="the loss" + (" for large logits" if otherwise else ""),
            mistakes=[
                Mistake(
                    -((1 - smoothing) * right + smoothing * others).mean(),
                    "the mass was spread over the K - 1 wrong classes: it is spread over all K",
                ),
                Mistake(-right.mean(), "this is the plain cross-entropy: the smoothing is missing"),
                Mistake(-((1 - smoothing) * right + smoothing * log_p.sum(1)).mean(), "each class gets smoothing / K"),
                Mistake(-(smoothing * right + (1 - smoothing) * log_p.mean(1)).mean(), "1 - s goes to the right class"),
                Mistake(want * count, "this is the sum over the batch: take the mean"),
            ],
            otherwise=otherwise or "target: 1 - s on the right class, plus s / K on each of the K classes",
            rtol=1e-5,
        )
        of = functools.partial(_smoothed_at, smoothed_cross_entropy, y, smoothing)
        _same_gradient(trial, _with_gradient(trial, of, logits)[1], slope)


def _smoothed_at(answer: Answer, y: Any, smoothing: float, logits: Any) -> Any:
    return answer(logits, y, smoothing)


from helpers.exercises import overfitting_measures  # noqa: E402, F401 - registers 3.7 to 3.10
