"""What a training step costs here: time, memory, floating-point operations, and how much of the processor it uses.

What this does not do: make the machine quiet. Other programs, laptops that grow warm and shared cores move every time;
compare medians of runs that alternate, and say which machine it was.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from helpers.estimates import MemoryEstimate

__all__ = [
    "Throughput",
    "peak_flops",
    "peak_memory",
    "saved_bytes",
    "state_bytes",
    "throughput",
    "training_flops_of",
    "utilisation",
]

# ---------------------------------------------------------------------------------------------------------- time


@dataclass(frozen=True)
class Throughput:
    """Times of a repeated step: each run in seconds, and the samples that one step works on."""

    runs: tuple[float, ...]
    samples: int

    @property
    def seconds(self) -> float:
        """Median time of a step."""
        return median(self.runs)

    @property
    def per_second(self) -> float:
        """Samples per second, at the median."""
        return self.samples / self.seconds

    def __repr__(self) -> str:
        low, high = min(self.runs) * 1e3, max(self.runs) * 1e3
        return (
            f"Throughput({self.seconds * 1e3:.4g} ms a step, {self.per_second:,.4g} samples/s; "
            f"{len(self.runs)} steps between {low:.4g} and {high:.4g} ms)"
        )


def throughput(step: Callable[[], object], *, samples: int = 1, warm_up: int = 3, repeats: int = 10) -> Throughput:
    """Time `step()`, after some runs that do not count.

    Args:
        samples: how many samples (or tokens) one step works on.
        warm_up: the first steps allocate, compile and fill caches.

    A GPU works on while Python goes on, so each step is timed until the GPU has finished.
    """
    _check_callable("step", step)
    _check_counts(samples=(samples, 1), warm_up=(warm_up, 0), repeats=(repeats, 1))
    for _ in range(warm_up):
        step()
    runs = []
    for _ in range(repeats):
        _finish_gpu()
        start = time.perf_counter()
        step()
        _finish_gpu()
        runs.append(time.perf_counter() - start)
    return Throughput(tuple(runs), samples)


def _finish_gpu() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _check_callable(name: str, value: object) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be a function to call, got {type(value).__name__}")


def _check_counts(**counts: tuple[int, int]) -> None:
    """Each value is a whole number of at least its least."""
    for name, (value, least) in counts.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be a whole number, got {type(value).__name__}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


# -------------------------------------------------------------------------------------------------------- memory


def state_bytes(model: nn.Module, optimiser: torch.optim.Optimizer | None = None) -> MemoryEstimate:
    """Bytes of what stays between two steps in this process, measured: to be set beside `training_memory`.

    Weights are parameters and buffers. Gradients are those that exist now: ask before `zero_grad`, after a step.
    Of a sharded model (`fully_shard`) the shard of this rank is counted.
    """
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    states = optimiser.state.values() if optimiser is not None else ()
    return MemoryEstimate(
        weights=_bytes([*model.parameters(), *model.buffers()]),
        gradients=_bytes(gradients),
        optimiser=_bytes(value for state in states for value in state.values() if isinstance(value, Tensor)),
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    local = [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]
    return sum(tensor.numel() * tensor.element_size() for tensor in local)


def saved_bytes(function: Callable[[], object]) -> int:
    """Bytes that `function()`, a forward pass, keeps for the backward pass: the activations.

    Each piece of memory counts once, however many operations saved it; parameters do not count, because they are
    there anyway. Under `autocast` their 16-bit copies do. Without the backward pass in it: what that frees would
    count as well.
    """
    _check_callable("function", function)
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        # the weight of a linear layer is saved as its transpose, a view
        owner = tensor if tensor._base is None else tensor._base
        if not (owner.is_leaf and owner.requires_grad):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage  # held, so that its address is not given to the next one
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    total = sum(storage.nbytes() for storage in kept.values())
    del result  # until here the graph was alive
    return total


def peak_memory(function: Callable[..., object], *arguments: Any, device: str = "cpu", timeout: float = 300.0) -> int:
    """Bytes that `function(*arguments)` takes at its worst moment, over what was there before it.

    On "cpu" it runs once in a fresh process, because a process that has used memory before seldom gives it back, and
    the growth of its resident memory is measured (exact on Linux, an estimate elsewhere); some MB are torch's own.
    The function may stand in a notebook cell. On "cuda" it runs here, and torch's count of allocated memory is used.

    Raises ValueError for another device, RuntimeError with the end of its output when the function fails, and
    `subprocess.TimeoutExpired` after `timeout` seconds.
    """
    _check_callable("function", function)
    if device == "cuda":
        return _peak_on_gpu(function, arguments)
    if device != "cpu":
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}")
    from helpers.pickling import dumps

    done = subprocess.run(
        [sys.executable, "-m", "helpers.efficiency.peak"],
        input=dumps((function, arguments)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"function failed (status {done.returncode}):\n{done.stderr.decode(errors='replace')[-2000:]}"
        )
    return int(done.stdout)


def _peak_on_gpu(function: Callable[..., object], arguments: tuple[Any, ...]) -> int:
    if not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but torch finds no GPU here")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function(*arguments)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


# --------------------------------------------------------------------------------------------- floating point


def training_flops_of(model: nn.Module, batch: Tensor | tuple[Tensor, ...]) -> int:
    """Floating-point operations of one forward and backward pass of this batch, counted operation by operation.

    Nothing is computed: a copy of the model without data runs on torch's "meta" device, so the model, its gradients
    and the random state stay as they are. Counted are matrix products and convolutions, two operations for each
    multiplication and addition. What activation checkpointing does twice counts once, as in model FLOPs utilisation
    (Chowdhery et al., "PaLM", 2022, appendix B).

    Args:
        batch: the model's input, or a tuple of its inputs; the first dimension is the batch.
    """
    inputs = batch if isinstance(batch, tuple) else (batch,)
    if not all(isinstance(one, Tensor) for one in inputs):
        raise TypeError(f"batch must be a tensor or a tuple of tensors, got {type(batch).__name__}")
    twin = copy.deepcopy(model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model).to("meta")
    for module in twin.modules():
        vars(module).pop("forward", None)  # a checkpointed block hides its own forward pass behind this
    with FlopCounterMode(display=False) as counter:
        result = twin(*(one.to("meta") for one in inputs))
        result.sum().backward()
    return int(counter.get_total_flops())


def peak_flops(dtype: torch.dtype = torch.float32, *, device: str = "cpu", size: int = 0, repeats: int = 10) -> float:
    """Floating-point operations per second that this machine reaches in its best product of two square matrices.

    Args:
        size: rows of the matrices; 0 takes 1,024, and 8,192 on a GPU.

    The measured stand-in for a data sheet's peak, with the threads that torch uses now.
    """
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point type, got {dtype}")
    _check_counts(size=(size, 0), repeats=(repeats, 1))
    size = size or (8192 if device.startswith("cuda") else 1024)
    left, right = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    product = torch.empty_like(left)
    best = min(throughput(lambda: torch.mm(left, right, out=product), warm_up=2, repeats=repeats).runs)
    return 2 * size**3 / best


def utilisation(flops: float, seconds: float, peak: float) -> float:
    """Share of the peak that a step reaches: its floating-point operations over what the time would have allowed.

    Args:
        flops: of the step on this processor, as `training_flops_of` counts them.
        seconds: of the step.
        peak: floating-point operations per second, as `peak_flops` measures or a data sheet says.
    """
    for name, value in {"flops": flops, "seconds": seconds, "peak": peak}.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")
    return flops / (seconds * peak)
