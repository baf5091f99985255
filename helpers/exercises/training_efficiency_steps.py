"""The checks and hints of exercises 2.6 to 2.10: a training step, memory, checkpoints, money, and a script to mend.

The checks of 2.8 and 2.10 run the answers in real worker processes and judge what came out of them: files, random
states, weights, and which rank has read which sample. What they do not catch: an answer that is right on the CPU and
wrong on a GPU.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helpers.exercises.describing import describe
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


# ---------------------------------------------------------------------------------------------------- 2.8 checkpoints


@exercise(
    "2.8",
    title="Checkpoint and resume exactly",
    parts=("save_checkpoint", "load_checkpoint"),
    difficulty=4,
    minutes=25,
    asked_as="How do you checkpoint a distributed run so that it resumes as if nothing had happened?",
    hints=(
        "List everything that the next training step reads and that the last one has changed. Which of it is the same "
        "on all ranks, and which does each rank have for itself?",
        "Dropout draws from torch's random numbers, on each rank from its own: collect `torch.get_rng_state()` of all "
        "ranks with `dist.all_gather` (every rank calls it), and let rank 0 write the list.",
        'Atomic: write to another name in the same folder, then rename: `Path(f"{path}.unfinished").replace(path)`. '
        "After that all ranks meet at a barrier, outside of `if rank == 0`.",
        "`torch.load(path, weights_only=True)` fails with EOFError, OSError, RuntimeError or UnpicklingError, as it "
        "happens: let FileNotFoundError through, and turn every other exception into a ValueError with the path.",
        "Loading: `model.load_state_dict(…)`, `optimiser.load_state_dict(…)`, "
        '`torch.set_rng_state(saved["random"][dist.get_rank()])`, then return epoch and step.',
    ),
)
def checkpoints(trial: Trial, save_checkpoint: Answer, load_checkpoint: Answer) -> None:
    answers, seed = (save_checkpoint, load_checkpoint), int(trial.rng.integers(2**31))
    epoch, step = (int(n) for n in trial.rng.integers(1, 1000, 2))
    with tempfile.TemporaryDirectory() as folder:
        ranks = trial.on_ranks(
            _saved_and_resumed, 2, *answers, otherwise=ALL_RANKS_CALL, folder=folder, seed=seed, position=(epoch, step)
        )
    trial.input = "2 ranks, each with a folder of its own; 2 steps, save, 2 steps; then load and the same 2 steps"
    for rank, seen in enumerate(ranks):
        trial.equal(
            seen["files"],
            [] if rank else [CHECKPOINT],
            what=f"the files that rank {rank} has written",
            otherwise="rank 0 alone writes, one file: on a shared disk several ranks would write into the same file"
            if rank
            else "one file, at the path that was given, and nothing left beside it",
        )
        trial.that(
            seen["there"],
            what="the file is complete when save_checkpoint returns",
            want=f"{CHECKPOINT} is there when rank {rank} goes on",
            got="rank 0 was still writing it",
            otherwise="all ranks wait for rank 0 at the end: dist.barrier() on every rank, after the writing",
        )
        trial.equal(
            seen["position"],
            {"epoch": epoch, "step": step},
            what=f"what load_checkpoint returns on rank {rank}",
            otherwise="the position in the run is a part of its state: save it and return it",
        )
        trial.that(
            np.array_equal(seen["resumed"], seen["straight"]),
            what=f"the resumed run ends with the same weights (seen by rank {rank})",
            want=f"bit for bit those of the run that was not stopped: {describe(seen['straight'])}",
            got=seen["resumed"],
            otherwise=_lost([each["same"] for each in ranks]),
        )
    with tempfile.TemporaryDirectory() as folder:
        (alone,) = trial.on_ranks(_faulty_disk, 1, *answers, folder=folder, seed=seed)
    trial.input = "1 rank, and a disk that is full after 2 kB when the second checkpoint is written"
    trial.that(
        alone["whole"],
        what="a checkpoint that could not be written leaves the previous one whole",
        want="the file as it was before",
        got=alone["left"],
        otherwise="write to another name in the same folder and rename it when it is complete: never write over, "
        "remove or rename the only good checkpoint first",
    )
    for what, outcome, wanted, otherwise in (
        ("a checkpoint cut in half", alone["half"], "ValueError", NOT_WHOLE),
        ("an empty file", alone["empty"], "ValueError", NOT_WHOLE),
        ("a pickle that runs code", alone["code"], "ValueError", "weights_only=True refuses it before anything runs"),
        ("a missing file", alone["missing"], "FileNotFoundError", "a wrong path must not look like a fresh start"),
    ):
        trial.input = f"1 rank, load_checkpoint of {what}"
        trial.that(
            outcome.kind == wanted and CHECKPOINT in outcome.text,
            what=f"{what} is refused",
            want=f"{wanted} with the path in its message",
            got=f"{outcome.kind}: {outcome.text}",
            otherwise=otherwise,
        )
    trial.that(
        not alone["ran"],
        what="loading never runs code from the file",
        want="nothing happens on the disk",
        got="the folder that the file's code makes",
        otherwise="torch.load(…, weights_only=True): a plain pickle may do anything when it is read",
    )


CHECKPOINT = "checkpoint.pt"
ALL_RANKS_CALL = "a barrier or a gather that stands inside `if rank == 0` waits for ever: every rank has to call it"
NOT_WHOLE = (
    "torch.load raises EOFError, OSError, RuntimeError or UnpicklingError, as it happens: turn them into a ValueError "
    "with the path, so that the caller can fall back on an older checkpoint"
)


@dataclass(frozen=True)
class Outcome:
    """How a call ended: the name of the exception, or "no exception", and its message or result."""

    kind: str
    text: str


def _saved_and_resumed(
    save_checkpoint: Answer, load_checkpoint: Answer, *, folder: str, seed: int, position: tuple[int, int]
) -> dict[str, Any]:
    """Runs in every rank: train, save, train on; then load into new objects, and train on from there."""
    import torch
    import torch.distributed as dist

    rank = dist.get_rank()
    disks = [Path(folder) / f"disk-{number}" for number in range(dist.get_world_size())]
    disks[rank].mkdir()
    model, optimiser = _network(seed)
    torch.manual_seed(seed + 1 + rank)  # the same weights everywhere, other inputs and dropout masks on each rank
    _train(model, optimiser)
    if rank == 0:  # as if the model were large: a rank that does not wait is away before the file is there
        model.register_state_dict_post_hook(lambda *given: time.sleep(0.3))
    at_save = _state(model, optimiser)
    save_checkpoint(str(disks[rank] / CHECKPOINT), model, optimiser, *position)
    there = (disks[0] / CHECKPOINT).exists()
    _train(model, optimiser)
    straight = _state(model, optimiser)

    model, optimiser = _network(seed + 10 + rank)
    dist.barrier()
    returned = load_checkpoint(str(disks[0] / CHECKPOINT), model, optimiser)
    loaded = _state(model, optimiser)
    _train(model, optimiser)
    return {
        "files": sorted(file.name for file in disks[rank].iterdir()),
        "there": there,
        "position": returned,
        "straight": straight["weights"],
        "resumed": _state(model, optimiser)["weights"],
        "same": {part: np.array_equal(at_save[part], loaded[part]) for part in at_save},
    }


def _faulty_disk(save_checkpoint: Answer, load_checkpoint: Answer, *, folder: str, seed: int) -> dict[str, Any]:
    """Runs in the one rank: a disk that fills up while a checkpoint is written, and files that are none."""
    import torch

    path, code_ran = Path(folder) / CHECKPOINT, Path(folder) / "made-by-the-file"
    model, optimiser = _network(seed)
    _train(model, optimiser)
    save_checkpoint(str(path), model, optimiser, 1, 1)
    before = path.read_bytes()
    _train(model, optimiser)
    with _full_disk(2_000):
        _outcome(save_checkpoint, str(path), model, optimiser, 1, 2)
    after = path.read_bytes() if path.exists() else None

    outcomes = {}
    for name, content in (("half", before[: len(before) // 2]), ("empty", b"")):
        path.write_bytes(content)
        outcomes[name] = _outcome(load_checkpoint, str(path), model, optimiser)
    torch.save({"model": _RunsCode(str(code_ran))}, path)
    outcomes["code"] = _outcome(load_checkpoint, str(path), model, optimiser)
    path.unlink()
    outcomes["missing"] = _outcome(load_checkpoint, str(path), model, optimiser)
    left = "no file" if after is None else f"{len(after)} bytes of {len(before)}"
    return {"whole": after == before, "left": left, "ran": code_ran.exists(), **outcomes}


def _network(seed: int) -> tuple[Any, Any]:
    """A small network with dropout, and an optimiser that has a memory."""
    import torch

    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 2))
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


def _train(model: Any, optimiser: Any) -> None:
    """Two steps of data parallelism, each rank on random inputs of its own."""
    import torch
    import torch.distributed as dist

    for _ in range(2):
        optimiser.zero_grad()
        model(torch.randn(8, 6)).square().mean().backward()
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()
        optimiser.step()


def _state(model: Any, optimiser: Any) -> dict[str, Array]:
    """What the next step reads, as one row of numbers each."""
    import torch

    moments = [value for state in optimiser.state.values() for value in state.values()]
    return {
        "weights": np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]),
        "the optimiser's state": np.concatenate([np.ravel(m) for m in moments]) if moments else np.zeros(0),
        "the random state": torch.get_rng_state().numpy(),
    }


def _lost(same: list[dict[str, bool]]) -> str:
    """What the ranks did not get back, said to whoever wrote the checkpoint."""
    lost = [part for part in same[0] if not all(rank[part] for rank in same)]
    if lost == ["the random state"] and same[0]["the random state"]:
        return (
            "rank 0 has its random state again and the others have not: each draws its own dropout masks, so gather "
            "the states of all ranks, and give each rank its own"
        )
    if not lost:
        return "saving has changed something, or the file holds a later state than that of the call"
    return f"not as it was when it was saved: {', '.join(lost)}"


@contextmanager
def _full_disk(size: int) -> Iterator[None]:
    """Inside, no file can grow beyond this many bytes: what is written after them fails."""
    import resource
    import signal

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # else the process ends instead of the write failing
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def _outcome(answer: Answer, *given: Any) -> Outcome:
    try:
        return Outcome("no exception", describe(answer(*given)))
    except NotImplementedError:
        raise
    except Exception as error:
        return Outcome(type(error).__name__, str(error))


class _RunsCode:
    """An object that makes a folder when it is unpickled, as a stranger's checkpoint might do worse."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


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


# -------------------------------------------------------------------------------------------------- 2.10 fix this code


@exercise(
    "2.10",
    title="Fix this code",
    parts=("train_worker",),
    difficulty=4,
    minutes=30,
    asked_as="This script shall train on two machines. Review it: what fails, and what is wrong without failing?",
    hints=(
        "Go through it three times: as the interpreter (which names are unknown?), as rank 1 (what do I do that rank 0 "
        "does as well?), and as the reader of the log (is each number true of all ranks?).",
        'The process group: `dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")` first, '
        '`dist.destroy_process_group()` in a `finally`. `int(os.environ["LOCAL_RANK"])` is the number of the GPU; '
        "who shares the data and who saves is decided by `dist.get_rank()`.",
        "`sampler = DistributedSampler(data, seed=seed)` goes into the DataLoader instead of `shuffle=True`; "
        "`sampler.set_epoch(epoch)` stands at the beginning of each epoch.",
        "Add up `loss.detach() * len(x)` and `len(x)` in one tensor, `dist.all_reduce` it once an epoch, divide: that "
        "is the mean over all samples of all ranks, and their number.",
        '`weights = {name: value.cpu() for name, value in model.module.state_dict().items()}` has no "module." in its '
        "names; `if dist.get_rank() == 0: torch.save(weights, …)`, after the last epoch.",
    ),
)
def fix_this_code(trial: Trial, train_worker: Answer) -> None:
    rng, count = trial.rng, 2 * int(trial.rng.integers(10, 14)) + 1  # the last batch of 5 is never a full one
    x = rng.normal(size=(count, FEATURES)).astype(np.float32)
    y = rng.integers(CLASSES, size=count)
    seed = int(rng.integers(2**20))
    orders = []
    for epochs, batch_size, this_seed in ((3, 5, seed), (1, 4, seed + 1)):
        with tempfile.TemporaryDirectory() as folder:
            given = {"epochs": epochs, "batch_size": batch_size, "seed": this_seed}
            ranks = trial.on_ranks(
                _watched,
                RANKS,
                train_worker,
                initialise=False,
                otherwise=ALL_RANKS_CALL,
                x=x,
                y=y,
                folder=folder,
                given=given,
            )
        trial.input = f"{RANKS} ranks, LOCAL_RANK 0 on each, {count} samples, " + ", ".join(
            f"{name}={value}" for name, value in given.items()
        )
        read = [_by_epoch(rank["batches"], epochs) for rank in ranks]  # [rank][epoch][step][place in the batch]
        for epoch in range(epochs):
            parts = [[i for batch in of_rank[epoch] for i in batch] for of_rank in read]
            problem = _shared_badly(parts, count)
            trial.that(
                not problem,
                what=f"in epoch {epoch} the ranks share out the samples",
                want=f"{math.ceil(count / RANKS)} samples on each of {RANKS} ranks, and none left out",
                got=", ".join(f"rank {rank}: {describe(sorted(part), 60)}" for rank, part in enumerate(parts)),
                otherwise=problem,
            )
            orders.append(parts[0])
        replay = _replay(read, x, y, this_seed)
        for rank, done in enumerate(ranks):
            result, name = done["result"], f"on rank {rank}"
            trial.that(
                isinstance(result, dict) and {"weights", "losses", "samples"} <= result.keys(),
                what=f"the result {name} has all its entries",
                want="a dictionary with weights, losses and samples",
                got=describe(list(result)) if isinstance(result, dict) else describe(result),
                otherwise="every rank returns all three, not only rank 0",
            )
            weights = result["weights"]
            trial.that(
                isinstance(weights, dict) and set(weights) == {"weight", "bias"},
                what=f"the names of the weights {name}",
                want="weight and bias, as nn.Linear has them",
                got=", ".join(map(str, weights)) if isinstance(weights, dict) else describe(weights),
                otherwise='the wrapper puts "module." before each name: take model.module.state_dict()',
            )
            trial.close(
                _row(weights),
                replay.weights,
                what=f"the weights at the end {name}",
                mistakes=_weight_mistakes(read, x, y, this_seed),
                otherwise="nn.Linear(6, 3) after torch.manual_seed(seed), SGD with lr=0.1, cross-entropy, and in each "
                "step the mean of all ranks' gradients (DistributedDataParallel)",
                rtol=1e-3,
                atol=1e-5,
            )
            trial.close(
                result["losses"],
                replay.losses(),
                what=f"the losses {name}",
                mistakes=_loss_mistakes(replay, rank),
                otherwise="for each epoch the sum of the losses of all samples on all ranks, divided by their number",
                rtol=1e-3,
            )
            trial.close(
                result["samples"],
                sum(len(part) for part in _flat(read)),
                what=f"the number of samples {name}",
                mistakes=(
                    Mistake(epochs * count, "this counts the data set, not what was read: the padding is missing"),
                    Mistake(RANKS * epochs * count, "each rank has read a part of the data, not all of it"),
                    Mistake(
                        sum(len(part) for part in _flat(read[rank : rank + 1])), "this is one rank's share: all_reduce"
                    ),
                    Mistake(sum(len(part) for part in _flat(read)) // epochs, "this is one epoch's number"),
                ),
                otherwise="the samples of all batches, on all ranks and in all epochs",
            )
            trial.equal(
                done["files"],
                [] if rank else ["model.pt"],
                what=f"the files in the folder of rank {rank}",
                otherwise="one process of all saves, the one with rank 0: there is a LOCAL_RANK 0 on each machine"
                if rank
                else "one file, model.pt, in the folder that was given",
            )
            trial.that(
                not done["open"],
                what=f"no process group is left {name}",
                want="dist.is_initialized() is False afterwards",
                got="it is still there",
                otherwise="dist.destroy_process_group() in a `finally`, so that it also happens after an exception",
            )
        trial.close(
            ranks[0]["file"],
            replay.named(),
            what="what model.pt holds",
            otherwise='the state_dict of the bare model: of model.module, or each name would begin with "module."',
            rtol=1e-3,
            atol=1e-5,
        )
    for first, second, otherwise in (
        (0, 1, "the same order in each epoch: sampler.set_epoch(epoch) before each, and shuffle"),
        (0, 3, "another seed gives the same order: DistributedSampler(data, seed=seed)"),
    ):
        trial.that(
            orders[first] != orders[second],
            what="the order changes from epoch to epoch" if second == 1 else "the order depends on the seed",
            want="rank 0 reads its samples in another order",
            got=orders[first],
            otherwise=otherwise,
        )


RANKS = 2
FEATURES, CLASSES = 6, 3
LEARNING_RATE = 0.1

Steps = list[list[list[list[int]]]]  # the samples of each batch, by rank, epoch and step


class _Data:
    """A data set that writes down the batches which a DataLoader takes; a look at one sample is no batch."""

    def __init__(self, x: Array, y: Array) -> None:
        import torch

        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        self.batches: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.x[index], self.y[index]

    def __getitems__(self, indices: list[int]) -> list[tuple[Any, Any]]:
        self.batches.append([int(index) for index in indices])
        return [self[index] for index in indices]


def _watched(train_worker: Answer, *, x: Array, y: Array, folder: str, given: dict[str, int]) -> dict[str, Any]:
    """Runs in every rank: the answer's result, what it has read and written, and whether it has cleaned up."""
    import torch
    import torch.distributed as dist

    rank, data = int(os.environ["RANK"]), _Data(x, y)
    os.environ["LOCAL_RANK"] = "0"  # as on two machines: whoever takes it for the rank is found out
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the same on every learner's machine, and no GPU for two ranks
    own = Path(folder) / f"disk-{rank}"
    own.mkdir()
    result = train_worker(data, given["epochs"], given["batch_size"], given["seed"], str(own))
    file = own / "model.pt"
    saved = torch.load(file, weights_only=True) if file.exists() else None
    return {
        "result": result,
        "batches": data.batches,
        "files": sorted(path.name for path in own.iterdir()),
        "file": {name: value.numpy() for name, value in saved.items()} if isinstance(saved, dict) else saved,
        "open": dist.is_initialized(),
    }


def _by_epoch(batches: list[list[int]], epochs: int) -> list[list[list[int]]]:
    steps = len(batches) // epochs
    return [batches[epoch * steps : (epoch + 1) * steps] for epoch in range(epochs)]


def _flat(read: Steps) -> list[list[int]]:
    return [batch for of_rank in read for epoch in of_rank for batch in epoch]


def _shared_badly(parts: list[list[int]], count: int) -> str:
    """What is wrong with the samples that the ranks have read in an epoch; empty when all is well."""
    missing = count - len(set().union(*parts))
    if not any(parts):
        return "no batch was read: take the samples through a DataLoader, in each epoch"
    if all(len(part) == count for part in parts):
        return (
            "every rank reads everything: n processes do the work of one, and the loss looks perfect. Give the "
            "DataLoader a DistributedSampler"
        )
    if all(sorted(part) == sorted(parts[0]) for part in parts):
        return "both ranks read the same part: share out by RANK (dist.get_rank()); LOCAL_RANK is 0 on each machine"
    if missing:
        return f"{missing} samples are read by nobody: leave nothing out (drop_last), and shuffle alike on all ranks"
    if any(len(part) != math.ceil(count / len(parts)) for part in parts):
        return "each rank reads as many as the others, or the last step waits for a rank that has no batch left"
    return ""


@dataclass(frozen=True)
class Replay:
    """A training run computed again: the weights at the end, and the losses of each batch by epoch and rank."""

    weights: Array
    batch_losses: list[list[list[tuple[float, int]]]]  # [epoch][rank][step]: mean loss, number of samples

    def named(self) -> dict[str, Array]:
        split = FEATURES * CLASSES
        return {"weight": self.weights[:split].reshape(CLASSES, FEATURES), "bias": self.weights[split:]}

    def losses(self, ranks: slice = slice(None), by_batch: bool = False) -> list[float]:
        """For each epoch the mean over the samples of these ranks, or over their batches."""
        chosen = [[pair for rank in epoch[ranks] for pair in rank] for epoch in self.batch_losses]
        return [
            float(np.average([loss for loss, _ in pairs], weights=None if by_batch else [n for _, n in pairs]))
            for pairs in chosen
        ]


def _replay(read: Steps, x: Array, y: Array, seed: int, together: Callable[..., Array] = np.mean) -> Replay:
    """Softmax regression by its own formulas, in 64 bits, on the batches that were read.

    `together` makes one gradient of those of all ranks, along the first axis: their mean unless told otherwise.
    """
    import torch

    torch.manual_seed(seed)
    start = torch.nn.Linear(FEATURES, CLASSES)
    weights = np.vstack([start.weight.detach().numpy().T, start.bias.detach().numpy()]).astype(float)
    inputs, targets = np.column_stack([x, np.ones(len(x))]), np.eye(CLASSES)[y]
    losses: list[list[list[tuple[float, int]]]] = []
    for epoch in zip(*read, strict=True):
        losses.append([[] for _ in epoch])
        for batches in zip(*epoch, strict=True):
            gradients = []
            for rank, batch in enumerate(batches):
                scores = inputs[batch] @ weights
                shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
                loss = -np.log((shares * targets[batch]).sum(axis=1)).mean()
                losses[-1][rank].append((float(loss), len(batch)))
                gradients.append(inputs[batch].T @ (shares - targets[batch]) / len(batch))
            weights -= LEARNING_RATE * together(np.array(gradients), axis=0)
    return Replay(np.concatenate([weights[:-1].T.ravel(), weights[-1]]), losses)


def _row(weights: Any) -> Array:
    """Weight and bias of the bare model in one row."""
    return np.concatenate(
        [np.asarray(weights[name].detach().cpu(), dtype=float).ravel() for name in ("weight", "bias")]
    )


def _weight_mistakes(read: Steps, x: Array, y: Array, seed: int) -> tuple[Mistake, ...]:
    def alone(rank: int) -> Callable[[], Array]:
        return lambda: _replay(read[rank : rank + 1], x, y, seed).weights

    def summed() -> Array:
        return _replay(read, x, y, seed, together=np.sum).weights

    only = "these are the weights of a rank that has trained alone: DistributedDataParallel averages the gradients"
    return (
        *(Mistake(alone(rank), only) for rank in range(len(read))),
        Mistake(summed, "the gradients were summed over the ranks: their mean is that of the large batch"),
    )


def _loss_mistakes(replay: Replay, rank: int) -> tuple[Mistake, ...]:
    own = slice(rank, rank + 1)
    return (
        Mistake(replay.losses(own), "this is the mean over one rank's samples: reduce sum and number over all ranks"),
        Mistake(
            replay.losses(own, by_batch=True),
            "this is the mean over the batches of one rank: weigh each by its samples, and reduce over all ranks",
        ),
        Mistake(
            replay.losses(by_batch=True),
            "this is the mean over batches: the last, smaller one weighs as much as a full one",
        ),
        Mistake(
            [RANKS * loss for loss in replay.losses()], "this is the sum of the ranks' means: divide by their number"
        ),
    )
