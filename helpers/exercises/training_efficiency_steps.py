"""The checks and hints of exercises 2.6 to 2.10: a training step, memory, checkpoints, money, and a script to mend.

The checks of 2.8 and 2.10 run the answers in real worker processes and judge what came out of them: files, random
states, weights, and which rank has read which sample. What they do not catch: an answer that is right on the CPU and
wrong on a GPU.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from helpers.exercises.registry import exercise
from helpers.exercises.trial import Mistake, Trial

Answer = Callable[..., Any]
Array = np.ndarray[Any, Any]


# ------------------------------------------------------------------------------------------------ 2.6 mixed precision


@exercise(
    "2.6",
    title="One mixed-precision step in the right order",
    parts=("mixed_step",),
    difficulty=3,
    minutes=15,
    asked_as="Write a training step with float16 autocast, a gradient scaler and gradient clipping. In which order, "
    "and why?",
    hints=(
        "Who needs the gradients in true units, and who may see them multiplied by the scale? Put the steps in the "
        "order that follows.",
        "Only forward pass and loss stand under `torch.autocast(x.device.type, dtype=torch.float16)`. The backward "
        "pass starts from `scaler.scale(loss)`.",
        "Clipping needs true units: `scaler.unscale_(optimiser)` comes before it. `scaler.step(optimiser)` skips the "
        "step when a gradient is inf or NaN, and `scaler.update()` then lowers the scale.",
        "zero_grad; autocast: loss; `scaler.scale(loss).backward()`; `scaler.unscale_(optimiser)`; "
        "`norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)`; `scaler.step(optimiser)`; "
        "`scaler.update()`; return `loss.item(), norm.item()`.",
    ),
)
def mixed_precision(trial: Trial, mixed_step: Answer) -> None:
    import torch

    for what, batch, scale, limit in _batches(trial.rng):
        true = batch.true_step()
        max_norm = limit * true.norm
        got, model, scaler = trial.call(batch.stepping(mixed_step, scale), batch.x, batch.y, max_norm)
        trial.input = f"{what}: scale {scale:g}, norm of the gradients {true.norm:.3g}, max_norm {max_norm:.3g}"
        trial.is_type(got, tuple, what="the result", otherwise="two numbers are asked: return loss, norm")
        for name, number in zip(("loss", "norm"), got, strict=True):
            trial.is_type(number, float, what=f"the {name}", otherwise="a Python float is asked: .item() gives it")
        trial.that(
            set(batch.seen) == {torch.float16},
            what="the forward pass runs in float16",
            want="outputs of the layers in float16",
            got=", ".join(sorted({str(dtype).removeprefix("torch.") for dtype in batch.seen})) or "no forward pass",
            otherwise="model and loss stand under torch.autocast(x.device.type, dtype=torch.float16): another type of "
            "device than that of x changes nothing, and the CPU's default dtype is bfloat16",
        )
        trial.close(
            got[0],
            true.loss,
            what="the loss",
            mistakes=[Mistake(true.loss * scale, "this is the loss times the scale: return the true one")],
            otherwise="the loss of this batch, before the step",
            rtol=ROUNDING,
        )
        used, overflow = batch.used(model), scale == TOO_LARGE
        if overflow:
            trial.that(
                not used.any(),
                what="a step whose gradients overflow is skipped",
                want="the weights as they were",
                got="NaN in the weights" if np.isnan(used).any() else "other weights",
                otherwise="scaler.step(optimiser) looks for inf and NaN before it steps: do not call "
                "optimiser.step() yourself, and do not repair such gradients",
            )
        else:
            trial.close(
                got[1],
                true.norm,
                what="the norm of the gradients before clipping",
                mistakes=_norm_mistakes(true, scale, max_norm),
                otherwise="clip_grad_norm_ returns the total norm over all parameters as it was before clipping",
                rtol=ROUNDING,
            )
            factor = min(1.0, limit)
            trial.close(
                used,
                true.gradient * factor,
                what="the gradients that the optimiser used",
                mistakes=_used_mistakes(true, scale, max_norm),
                otherwise=f"every gradient times {factor:.2g} here: max_norm / norm where the norm is above max_norm",
                rtol=0,
                atol=ROUNDING * float(np.abs(true.gradient).max()) * factor,
            )
        trial.close(
            scaler.get_scale() / scale,
            0.5 if overflow else 2.0,
            what="how the scale changes after " + ("an overflow" if overflow else "a good step (growth_interval=1)"),
            mistakes=[Mistake(1.0, "the scale never changes: scaler.update() ends every step, also a skipped one")],
            otherwise="scaler.update() once: it halves the scale after an overflow, and raises it after "
            "growth_interval good steps",
        )


ROUNDING = 0.03  # float16 has 11 bits, a few operations lose some more; the usual mistakes are far larger
TOO_LARGE = 2.0**40  # a scale with which every gradient overflows in float16
STALE = 0.3  # every gradient that an earlier batch has left behind


@dataclass(frozen=True)
class TrueStep:
    """The step's loss, gradient (all parameters in one row, and each alone) and its norm, in 64 bits."""

    loss: float
    gradients: list[Array]

    @property
    def gradient(self) -> Array:
        return np.concatenate([g.ravel() for g in self.gradients])

    @property
    def norm(self) -> float:
        return float(np.linalg.norm(self.gradient))


class _Batch:
    """A small network with gradients left over from before, and a batch; `seen` are the dtypes of its outputs."""

    def __init__(self, rng: np.random.Generator, size: float = 1.0, decay: float = 0.0) -> None:
        import torch

        torch.manual_seed(int(rng.integers(2**31)))
        inputs, outputs = int(rng.integers(3, 8)), int(rng.integers(2, 5))
        self.model = torch.nn.Sequential(torch.nn.Linear(inputs, 9), torch.nn.Tanh(), torch.nn.Linear(9, outputs))
        self.x, self.y = torch.randn(16, inputs), torch.randn(16, outputs) + 1
        self.size, self.decay, self.rate = size, decay, 0.5 / size
        self.seen: list[Any] = []
        self.model[-1].register_forward_hook(lambda module, given, output: self.seen.append(output.dtype))

    def loss(self, output: Any, y: Any) -> Any:
        return self.size * (output - y).square().mean()

    def true_step(self) -> TrueStep:
        """In 64 bits, without scale and autocast, on a copy."""
        model = copy.deepcopy(self.model).double()
        model.zero_grad()
        loss = self.loss(model(self.x.double()), self.y.double())
        loss.backward()
        self.seen.clear()
        return TrueStep(loss.item(), [p.grad.numpy() for p in model.parameters() if p.grad is not None])

    def stepping(self, mixed_step: Answer, scale: float) -> Answer:
        """The answer as a function of x, y and max_norm that gives (its result, model and scaler afterwards).

        Model, optimiser and scaler are made for the call: the answer works on them in place, and copies of parameters
        would lack the gradients of an earlier batch, which are there on purpose.
        """
        import torch

        @functools.wraps(mixed_step)
        def step(x: Any, y: Any, max_norm: float) -> Any:
            model = copy.deepcopy(self.model)
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, STALE)
            optimiser = torch.optim.SGD(model.parameters(), lr=self.rate, weight_decay=self.decay)
            scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1)
            return mixed_step(model, x, y, self.loss, optimiser, scaler, max_norm), model, scaler

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        named = [inspect.Parameter(name, kind) for name in ("x", "y", "max_norm")]
        step.__dict__["__signature__"] = inspect.Signature(named)
        return step

    def used(self, after: Any) -> Array:
        """The gradient that plain SGD has used, all parameters in one row: what the weights moved by / the rate."""
        pairs = zip(self.model.parameters(), after.parameters(), strict=True)
        return np.concatenate([((old - new).detach().double().numpy() / self.rate).ravel() for old, new in pairs])


def _batches(rng: np.random.Generator) -> Iterator[tuple[str, _Batch, float, float]]:
    """(what, batch, scale, max_norm as a multiple of the true norm)."""
    scale = float(rng.choice([4, 8]))  # small: clipping before unscaling then leaves a step that is seen
    yield "a usual batch", _Batch(rng), scale, float(rng.uniform(0.3, 0.6))
    yield "a batch with gradients below max_norm", _Batch(rng), scale, float(rng.uniform(2, 4))
    # clip_grad_norm_ adds 1e-6 to the norm that it divides by: far from max_norm, that does not matter
    yield "a batch with tiny gradients", _Batch(rng, size=1e-7), 2.0**20, float(rng.uniform(30, 60))
    # the decay would move the weights even when such gradients are replaced by zeros
    yield "a batch whose gradients overflow", _Batch(rng, decay=0.1), TOO_LARGE, 1.0


def _norm_mistakes(true: TrueStep, scale: float, max_norm: float) -> tuple[Mistake, ...]:
    return (
        Mistake(true.norm * scale, "this is the norm of the scaled gradients: scaler.unscale_(optimiser) comes first"),
        Mistake(true.norm / scale, "the gradients were divided by the scale twice, or never multiplied by it"),
        Mistake(min(true.norm, max_norm), "this is the norm after clipping: clip_grad_norm_ returns the one before"),
        Mistake(0.0, "in float16 gradients this small are 0: the backward pass starts from scaler.scale(loss)"),
        Mistake(
            float(np.linalg.norm(true.gradient + STALE)),
            "gradients of an earlier batch are counted as well: optimiser.zero_grad() comes before the backward pass",
        ),
    )


def _used_mistakes(true: TrueStep, scale: float, max_norm: float) -> tuple[Mistake, ...]:
    gradient, factor = true.gradient, min(1.0, max_norm / true.norm)
    each = [g * min(1.0, max_norm / float(np.linalg.norm(g))) for g in true.gradients]
    return (
        Mistake(
            np.zeros_like(gradient),
            "the weights did not move: scaler.step(optimiser) is missing, or the gradients are gone",
        ),
        Mistake(gradient, "the gradients were not clipped before the step"),
        Mistake(
            gradient * min(1.0, max_norm / (scale * true.norm)),
            "max_norm was compared with the scaled gradients: scaler.unscale_(optimiser) comes before clipping",
        ),
        Mistake(gradient * factor * scale, "the step was taken with the scaled gradients: scaler.step unscales them"),
        Mistake(gradient * factor * 2, "the optimiser stepped twice: scaler.step(optimiser) calls it already"),
        Mistake(gradient * max_norm / true.norm, "gradients below max_norm stay as they are: they are not stretched"),
        Mistake(np.clip(gradient, -max_norm, max_norm), "each number was cut off: the norm of all together is meant"),
        Mistake(
            np.concatenate([g.ravel() for g in each]),
            "each parameter was clipped by itself, which turns the step's direction: clip the norm over all of them",
        ),
    )


# ------------------------------------------------------------------------------------------------------- 2.7 memory

HALF = 2  # bytes of a number in 16 bits
FULL = 4  # … in 32 bits
PARTS = {"weights": HALF, "gradients": HALF, "optimiser": 3 * FULL}  # bytes of each part per parameter
SHARDED_FROM = {"weights": 3, "gradients": 2, "optimiser": 1}  # the first stage that cuts the part


@exercise(
    "2.7",
    title="Memory under ZeRO",
    parts=("zero_memory",),
    difficulty=2,
    minutes=12,
    asked_as="Will this model fit for training on eight 80 GB GPUs? What does each ZeRO stage buy?",
    hints=(
        "Three parts, each of so many bytes per parameter. A stage only decides which of them are cut into world_size "
        "equal shards.",
        "2 bytes for the weight, 2 for its gradient, 12 for the optimiser: the 32-bit copy of the weight, the momentum "
        "and the variance, 4 bytes each.",
        "Stage 1 cuts the optimiser state, stage 2 the gradients as well, stage 3 the weights as well. What a stage "
        "does not cut is whole on every GPU.",
        '`share = parameters / world_size`, then `"gradients": 2 * (share if stage >= 2 else parameters)` and the '
        "other two likewise, with 3 for the weights and 1 for the optimiser.",
    ),
)
def memory(trial: Trial, zero_memory: Answer) -> None:
    for world_size in (1, 8, int(_between(trial.rng, 20, 1000))):
        parameters = int(_between(trial.rng, 1e9, 1e11))
        for stage in range(4):
            trial.close(
                trial.call(zero_memory, parameters, world_size, stage),
                _held(parameters, world_size, stage),
                what=f"the bytes on one of {world_size} GPUs at stage {stage}",
                mistakes=_memory_mistakes(parameters, world_size, stage),
                otherwise="bytes per parameter: weights 2, gradients 2, optimiser 12; stage 1 shards the optimiser "
                "state, stage 2 the gradients as well, stage 3 the weights as well",
                rtol=1e-5,  # a share rounded up to whole parameters is right too
            )
    for what, refused, otherwise in (
        ("stage 4 is refused", (10**9, 8, 4), "there are the stages 0 to 3: anything else is a slip of the caller"),
        ("stage -1 is refused", (10**9, 8, -1), "there are the stages 0 to 3: anything else is a slip of the caller"),
        ("no GPU is refused", (10**9, 0, 0), "a world size below 1 is a slip: say so at every stage, with ValueError"),
        ("no parameter is refused", (0, 8, 1), "a model without parameters is a slip: say so, with ValueError"),
    ):
        trial.raises(ValueError, zero_memory, *refused, what=what, otherwise=otherwise)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between the two, each order of magnitude being as likely as the next."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _held(parameters: int, world_size: int, stage: int, sizes: dict[str, int] = PARTS) -> dict[str, float]:
    """What one GPU holds, counted as what all hold together divided by the number of GPUs."""
    copies = {part: 1 if stage >= first else world_size for part, first in SHARDED_FROM.items()}
    return {part: size * parameters * copies[part] / world_size for part, size in sizes.items()}


def _memory_mistakes(parameters: int, world_size: int, stage: int) -> tuple[Mistake, ...]:
    held = functools.partial(_held, parameters, world_size, stage)
    want = held()
    early = {**want, "weights": want["gradients"], "gradients": want["weights"]}
    return (
        *(
            Mistake(_held(parameters, world_size, other), f"these are the bytes of stage {other}, not of stage {stage}")
            for other in range(4)
        ),
        Mistake(early, "stage 2 shards the gradients and stage 3 the weights, not the other way round"),
        Mistake(
            held({**PARTS, "optimiser": 8}),
            "momentum and variance are 8 bytes; the 32-bit copy of the weights that the optimiser updates is 4 more",
        ),
        Mistake(
            held({"weights": FULL, "gradients": FULL, "optimiser": 2 * FULL}),
            "this is training in 32 bits; in mixed precision weights and gradients are in 16 bits, and the optimiser "
            "keeps three numbers in 32",
        ),
        Mistake(held({**PARTS, "gradients": FULL}), "the gradients are in 16 bits here: 2 bytes each"),
        Mistake(
            held({**PARTS, "optimiser": 2 * HALF}),
            "the optimiser state is in 32 bits (small updates would be lost in 16): 3 numbers of 4 bytes",
        ),
        *(
            Mistake(
                {part: size / unit for part, size in want.items()}, f"these are {name}: the answer is asked in bytes"
            )
            for unit, name in ((1e9, "gigabytes"), (2**30, "gibibytes"))
        ),
        Mistake(
            {part: size * world_size for part, size in want.items()},
            "this is the sum over all GPUs: what one GPU holds is asked",
        ),
    )


# --------------------------------------------------------------------------------------------------------- 2.9 money


@exercise(
    "2.9",
    title="GPU-hours and money",
    parts=("training_cost",),
    difficulty=2,
    minutes=10,
    asked_as="Estimate the cost of pretraining a 7B model on 2 trillion tokens. You have two minutes.",
    hints=(
        "Three steps: how many operations, how many seconds of one GPU is that, and what do these seconds cost?",
        "Operations: 6 * parameters * tokens. One GPU does peak_flops * utilisation of them in a second.",
        "GPU-hours are seconds of one GPU / 3600. Sharing them out over more GPUs shortens the days, and leaves the "
        "hours, and so the bill, as they are.",
        "`gpu_hours = 6 * parameters * tokens / (peak_flops * utilisation) / 3600`; `days = gpu_hours / gpus / 24`; "
        "`money = gpu_hours * price`. Look at the input first: 40 is no share.",
    ),
)
def cost(trial: Trial, training_cost: Answer) -> None:
    for given in _runs(trial.rng):
        got, want = trial.call(training_cost, **given), _cost(**given)
        trial.that(
            isinstance(got, dict) and want.keys() <= got.keys(),
            what="the result has its three entries",
            want="a dictionary with gpu_hours, days and money",
            got=f"{type(got).__name__}: {got}",
            otherwise="the three numbers have different units: return them by name",
        )
        for entry, value in want.items():
            trial.close(
                got[entry],
                value,
                what=f"{entry} at {given['utilisation']:.0%} utilisation",
                mistakes=[Mistake(wrong, text) for key, wrong, text in _cost_mistakes(want, **given) if key == entry],
                otherwise="gpu_hours = 6 * parameters * tokens / (peak_flops * utilisation) / 3600; days = gpu_hours / "
                "gpus / 24; money = gpu_hours * price",
            )
    for what, change, otherwise in (
        ("a utilisation of 40", {"utilisation": 40}, "40 % is 0.4: a share above 1 makes the run 100 times too cheap"),
        ("a utilisation of 0", {"utilisation": 0.0}, "a GPU that does nothing never ends: refuse 0 by name"),
        ("no GPU", {"gpus": 0}, "without a GPU there is no number of days: refuse 0 by name"),
        ("a negative price", {"price": -1.0}, "a negative price is a slip of the caller"),
        ("no tokens", {"tokens": 0}, "a run without tokens (or parameters, or a peak) is a slip: not a free one"),
        ("a negative model", {"parameters": -7e9}, "a negative number gives a negative bill: refuse it"),
        ("no peak", {"peak_flops": 0.0}, "a GPU of 0 operations per second is a slip: refuse it by name"),
    ):
        trial.raises(ValueError, training_cost, **{**given, **change}, what=f"{what} is refused", otherwise=otherwise)


def _runs(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Runs of a usual kind, and the two that a strict look at the input refuses although they are right."""
    for utilisation, price in ((rng.uniform(0.2, 0.6), rng.uniform(1, 5)), (1.0, 2.5), (0.4, 0)):
        yield {
            "parameters": _between(rng, 1e9, 1e11),
            "tokens": _between(rng, 1e11, 1e13),
            "peak_flops": float(rng.uniform(1e14, 1e15)),
            "utilisation": float(utilisation),
            "gpus": int(rng.integers(8, 2000)),
            "price": float(price),
        }


def _cost(
    parameters: float, tokens: float, peak_flops: float, utilisation: float, gpus: int, price: float
) -> dict[str, float]:
    """By the tokens that the whole cluster reads in a day, instead of by the operations."""
    tokens_a_day = 24 * 60 * 60 * gpus * utilisation * peak_flops / (2 * parameters + 4 * parameters)
    days = tokens / tokens_a_day
    return {"gpu_hours": 24 * gpus * days, "days": days, "money": 24 * gpus * days * price}


def _cost_mistakes(
    want: dict[str, float],
    *,
    parameters: float,
    tokens: float,
    peak_flops: float,
    utilisation: float,
    gpus: int,
    price: float,
) -> Iterator[tuple[str, float, str]]:
    hours, days, money = want.values()
    yield "gpu_hours", hours / 3, "2 operations per parameter and token are the forward pass alone: backward takes 4"
    yield "gpu_hours", hours * 4 / 3, "8 counts a second forward pass (activation checkpointing): 6 is asked"
    yield "gpu_hours", hours * 2 / 3, "4 operations are the backward pass alone: forward takes 2 more"
    yield "gpu_hours", hours * utilisation, "the utilisation is left out: no GPU reaches its peak"
    yield "gpu_hours", hours * utilisation**2, "the operations are multiplied by the utilisation: divide by it"
    yield "gpu_hours", hours * 3600, "these are seconds: 3600 of them are an hour"
    yield "gpu_hours", hours * 60, "these are minutes: divide the seconds by 3600"
    yield "gpu_hours", hours / gpus, "these are the hours on the clock: GPU-hours are summed over all GPUs"
    yield "gpu_hours", hours / parameters, "the parameters are missing: each token passes through all of them"
    yield "days", days * gpus, "all GPUs work at once: divide the GPU-hours by their number"
    yield "days", days * gpus**2, "all GPUs work at once: divide the GPU-hours by their number, not multiply"
    yield "days", days * 24, "these are hours: 24 of them are a day"
    yield "money", money * gpus, "the GPU-hours count every GPU already: the number of GPUs is multiplied in twice"
    yield "money", money / gpus, "this is the bill of one GPU: the price is per GPU-hour, and the hours are of all"
    yield "money", days * price, "the price is per GPU-hour, not per day"
