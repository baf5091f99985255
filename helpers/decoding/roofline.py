"""What the machine allows: bytes per second from memory, operations per second, and which of the two bounds a step.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model" (2009).
What this leaves out: caches. A model that fits in the processor's cache is read faster than memory allows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from helpers import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from helpers.models.gpt import GPTConfig

__all__ = ["Roofline", "Work", "decode_work", "memory_bandwidth"]


def memory_bandwidth(*, device: str = "cpu", nbytes: int = 0, repeats: int = 7) -> float:
    """Bytes per second that this machine reads from memory, measured: the best of some sums over a large tensor.

    Args:
        nbytes: of the tensor; 0 takes 256 MB (2 GB on a GPU), well above the caches. At least 1 MB.

    With the threads that torch uses now; one thread often reads no more than half of what all can.
    """
    nbytes = nbytes or (2_000_000_000 if device.startswith("cuda") else 256_000_000)
    if nbytes < 1_000_000:
        raise ValueError(f"nbytes must be 0 or at least 1,000,000, got {nbytes}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    data = torch.ones(nbytes // 4, device=device)
    seconds = []
    for _ in range(repeats + 1):  # the first one does not count
        start = time.perf_counter()
        data.sum().item()  # .item() waits for a GPU
        seconds.append(time.perf_counter() - start)
    return data.nbytes / min(seconds[1:])


@dataclass(frozen=True)
class Work:
    """What a step has to do: floating-point operations, and bytes that it reads from memory."""

    flops: float
    nbytes: float

    def __post_init__(self) -> None:
        for name in ("flops", "nbytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.flops / self.nbytes


def decode_work(
    config: GPTConfig,
    length: int,
    *,
    batch: int = 1,
    new_tokens: int = 1,
    weight_bits: float = 32,
    cache_bits: float = 32,
) -> Work:
    """Operations and bytes of one step of the small GPT: `new_tokens` in each of `batch` rows, after `length` others.

    Two operations for each weight and token, and for attention 4 · layers · width for each earlier token. Read are the
    matrices once, and every row's keys and values. Left out: biases, norms, activations, what is written.

    Args:
        length: tokens in the cache; 0 and `new_tokens` = the prompt's is the reading of a prompt.
        weight_bits, cache_bits: of one stored number.
    """
    least = {"length": (length, 0), "batch": (batch, 1), "new_tokens": (new_tokens, 1)}
    for name, (value, low) in least.items():
        if value < low:
            raise ValueError(f"{name} must be at least {low}, got {value}")
    weights = 12 * config.layers * config.width**2 + config.vocabulary * config.width
    seen = new_tokens * length + new_tokens * (new_tokens + 1) / 2  # pairs of a new token and one it looks at
    flops = batch * (2 * weights * new_tokens + 4 * config.layers * config.width * seen)
    cache = 2 * config.layers * config.width * batch * (length + new_tokens)
    return Work(flops, (weights * weight_bits + cache * cache_bits) / 8)


@dataclass(frozen=True)
class Roofline:
    """A machine's two limits: `peak_flops` in operations per second, `bandwidth` in bytes per second."""

    peak_flops: float
    bandwidth: float

    def __post_init__(self) -> None:
        for name in ("peak_flops", "bandwidth"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    @property
    def ridge(self) -> float:
        """Operations per byte at which the two limits meet: below it memory decides, above it arithmetic."""
        return self.peak_flops / self.bandwidth

    def attainable(self, work: Work) -> float:
        """Highest operations per second for this work."""
        return min(self.peak_flops, work.intensity * self.bandwidth)

    def seconds(self, work: Work) -> float:
        """Shortest time for this work."""
        return max(work.flops / self.peak_flops, work.nbytes / self.bandwidth)

    def bound_by(self, work: Work) -> str:
        """ "memory" or "arithmetic"."""
        return "memory" if work.intensity < self.ridge else "arithmetic"

    def plot(self, measured: Mapping[str, tuple[Work, float]], *, title: str) -> Axes:
        """The roof, and each step under it. `measured`: name → (work, measured seconds)."""
        if not measured:
            raise ValueError("measured must hold at least one step, got none")
        axis = plots.panels([title], width=6.8, height=4.0)[0]
        places = [work.intensity for work, _ in measured.values()] + [self.ridge]
        x = np.geomspace(min(places) / 3, max(places) * 6, 200)
        roof = np.minimum(self.peak_flops, x * self.bandwidth)
        with plots.house_style():
            axis.plot(x, roof / 1e9, color="#000000")
            for number, (name, (work, seconds)) in enumerate(measured.items()):
                colour, marker = plots.COLOURS[number % 6], plots.MARKERS[number % len(plots.MARKERS)]
                label = f"{name}: {self.seconds(work) / seconds:.0%} of the roof"
                axis.plot(
                    [work.intensity], [work.flops / seconds / 1e9], marker, color=colour, label=label, markersize=9
                )
            axis.axvline(self.ridge, color="#333333", linestyle="--", linewidth=1)
            text = f"{self.bandwidth / 1e9:.3g} GB/s | {self.peak_flops / 1e9:.3g} GFLOP/s"
            axis.annotate(text, (self.ridge, 1), (0, 2), xycoords=("data", "axes fraction"),
                          textcoords="offset points", ha="center", fontsize=8.5)  # fmt: skip
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.legend(loc="lower right")
        axis.set_xlabel("operations per byte read")
        axis.set_ylabel("10⁹ operations per second")
        return axis
