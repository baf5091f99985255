"""How long one answer takes: latency of a call in percentiles, throughput, peak memory, and comparisons in pairs.

What this does not do: make the machine quiet, or measure a server. No queue, no network; see p99 under load for that.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

__all__ = ["Latency", "LatencyComparison", "compare_latency", "measure_latency"]

SHORTEST = 200e-6  # seconds: a run below is mostly the timer's own work


@dataclass(frozen=True)
class Latency:
    """Times of a repeated call, each run in seconds a call."""

    runs: tuple[float, ...]
    batch: int
    """How many samples (or tokens) one call answers."""
    threads: int
    calls_per_run: int = 1
    """More than 1 for very short calls: a run is then the mean over so many."""
    peak_bytes: int | None = None
    """What torch held at the worst moment of a call over what it held before; None when not asked for."""

    def percentile(self, share: float) -> float:
        """Seconds that `share` percent of the runs stay within (nearest rank: always a time that was measured)."""
        if not 0 < share <= 100:
            raise ValueError(f"share must be above 0 and at most 100, got {share}")
        return sorted(self.runs)[math.ceil(share / 100 * len(self.runs)) - 1]

    @property
    def p50(self) -> float:
        """Median seconds of a call."""
        return self.percentile(50)

    @property
    def p95(self) -> float:
        """Seconds that 95 % of the runs stay within."""
        return self.percentile(95)

    @property
    def p99(self) -> float:
        """Seconds that 99 % of the runs stay within; with fewer than 100 runs this is the slowest one."""
        return self.percentile(99)

    @property
    def per_second(self) -> float:
        """Samples per second, one call after the other, at the median."""
        return self.batch / self.p50

    def __repr__(self) -> str:
        return (
            f"Latency(p50 {self.p50 * 1e3:.4g} ms, p95 {self.p95 * 1e3:.4g}, p99 {self.p99 * 1e3:.4g}; "
            f"{self.per_second:,.4g} samples/s; batch {self.batch}, threads {self.threads}, {len(self.runs)} runs)"
        )


@dataclass(frozen=True)
class LatencyComparison:
    """Latencies of several functions that were called in turns, so that run n of each belongs to the same moment."""

    latencies: Mapping[str, Latency] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Latency:
        return self.latencies[name]

    def speed_ups(self, name: str, over: str) -> list[float]:
        """How many times faster `name` is than `over`, pair by pair: above 1 is faster."""
        pairs = zip(self.latencies[over].runs, self.latencies[name].runs, strict=True)
        return [slow / fast for slow, fast in pairs]

    def speed_up(self, name: str, over: str) -> float:
        """The median over the pairs."""
        return median(self.speed_ups(name, over))


def measure_latency(
    function: Callable[[], Any],
    *,
    batch: int = 1,
    warm_up: int = 5,
    repeats: int = 50,
    threads: int | None = None,
    memory: bool = False,
) -> Latency:
    """Time `function()` by torch.utils.benchmark, after `warm_up` calls that do not count.

    Args:
        batch: how many samples (or tokens) one call answers, for the throughput.
        warm_up: the first calls compile, allocate and fill caches.
        repeats: timed runs. For a p99 that means something take at least 100.
        threads: of torch while measuring; None for as many as it uses now. It is put back afterwards.
        memory: also call it once under torch's profiler for the peak of what torch allocates. On a CPU this does not
            see what ONNX Runtime or a compiled library allocate by themselves.

    Each timed run comes right after two calls that do not count (the Timer's own), so that the processor's caches hold
    this function's data. A GPU is waited for. Raises TypeError or ValueError before anything runs.
    """
    return compare_latency(
        {"it": function}, batch=batch, warm_up=warm_up, pairs=repeats, threads=threads, memory=memory
    )["it"]


def compare_latency(
    functions: Mapping[str, Callable[[], Any]],
    *,
    batch: int = 1,
    warm_up: int = 5,
    pairs: int = 30,
    threads: int | None = None,
    memory: bool = False,
) -> LatencyComparison:
    """Time several functions in turns (the order turned round each time), so that a busy moment hits all of them.

    The arguments are those of `measure_latency`; `pairs` is how often each is timed.
    """
    if not functions:
        raise ValueError("functions must name at least one function, got none")
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"functions must be functions to call, got {type(function).__name__} for {name!r}")
    threads = torch.get_num_threads() if threads is None else threads
    for what, value, least in (
        ("batch", batch, 1),
        ("warm_up", warm_up, 0),
        ("pairs", pairs, 1),
        ("threads", threads, 1),
    ):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{what} must be a whole number, got {type(value).__name__}")
        if value < least:
            raise ValueError(f"{what} must be at least {least}, got {value}")
    timers = {name: timer_of(function, threads) for name, function in functions.items()}
    peaks = {name: _peak(function) if memory else None for name, function in functions.items()}
    calls = {name: _calls_per_run(timer, warm_up) for name, timer in timers.items()}
    runs: dict[str, list[float]] = {name: [] for name in timers}
    for turn in range(pairs):
        for name in list(timers) if turn % 2 == 0 else reversed(timers):
            runs[name].append(timers[name].timeit(calls[name]).median)
    return LatencyComparison({n: Latency(tuple(runs[n]), batch, threads, calls[n], peaks[n]) for n in timers})


def timer_of(function: Callable[[], Any], threads: int) -> Any:
    """torch's Timer of a call, without what it says at its import."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # at its import this tells that there is no CUDA, which is no news here
    try:
        from torch.utils.benchmark import Timer
    finally:
        logging.disable(before)
    return Timer("f()", globals={"f": function}, num_threads=threads)


def _calls_per_run(timer: Any, warm_up: int) -> int:
    for _ in range(warm_up):
        timer.timeit(1)
    seconds = timer.timeit(1).median
    return 1 if seconds >= SHORTEST else math.ceil(SHORTEST / max(seconds, 1e-8))


def _peak(function: Callable[[], Any]) -> int:
    """Bytes that torch allocates at the worst moment of one call, over what it held before."""
    function()  # caches that stay are no part of a call
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        result = function()
    del result
    kineto = profile.profiler.kineto_results if profile.profiler else None
    events = [event for event in kineto.events() if event.name() == "[memory]"] if kineto else []
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
