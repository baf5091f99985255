"""Where the time of a training step goes: a table of its operators, and a picture of its phases, rank by rank.

What this does not see: the work of a GPU. There the times are those of the processor that hands out the work, and the
phases are only right when each ends in a synchronisation. Profiling itself slows small operations down.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile, schedule

from helpers import plots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["Operator", "Profile", "Span", "Step", "profile_step"]

PHASES = ("forward", "backward", "optimiser", "communication")

HATCHES = {"forward": "", "backward": "///", "optimiser": "...", "communication": "xxx"}
"""So that the phases can be told apart in grey as well."""

GAP_MS = 1.0
"""Operators of one phase this near to each other are drawn as one bar: between them Python runs."""


@dataclass(frozen=True)
class Span:
    """A stretch of one phase, in milliseconds since its step began."""

    phase: str
    start: float
    end: float


@dataclass(frozen=True)
class Step:
    """One step of one rank: when it began (seconds since 1970), how long it took, and what ran when.

    `compute` has the spans of the main thread, which do not overlap; `transfers` those of the network, which may.
    """

    began: float
    milliseconds: float
    compute: tuple[Span, ...]
    transfers: tuple[Span, ...]

    @property
    def exposed_ms(self) -> float:
        """Milliseconds in which something was transferred and nothing was computed."""
        busy = _union((span.start, span.end) for span in self.compute if span.phase != "communication")
        sending = [(span.start, span.end) for span in self.transfers]
        waiting = [(span.start, span.end) for span in self.compute if span.phase == "communication"]
        return _length(_union([*busy, *sending, *waiting])) - _length(busy)


@dataclass(frozen=True)
class Operator:
    """An operator of torch: how often it ran in a step, and its own time without the operators that it called."""

    name: str
    calls: float
    self_ms: float


@dataclass(frozen=True)
class Profile:
    """What `profile_step` found. Plain data: a worker process can return it, and the notebook draws it."""

    rank: int
    steps: tuple[Step, ...]
    operators: tuple[Operator, ...]

    def table(self, n: int = 10) -> pd.DataFrame:
        """The `n` operators with the most time of their own: calls and milliseconds per step, share of all."""
        import pandas as pd

        total = sum(one.self_ms for one in self.operators)
        rows = [(one.name, one.calls, one.self_ms, one.self_ms / total) for one in self.operators[:n]]
        return pd.DataFrame(rows, columns=["operator", "calls", "self ms", "share"])

    def shares(self) -> dict[str, float]:
        """Share of the steps' time by phase; together 1.

        "communication" is only what is waited for: a transfer beside the backward pass costs nothing. "other" is
        Python and loading data, between the operators.
        """
        whole = sum(step.milliseconds for step in self.steps)
        spent = {
            phase: sum(span.end - span.start for step in self.steps for span in step.compute if span.phase == phase)
            for phase in PHASES
        }
        spent["communication"] = sum(step.exposed_ms for step in self.steps)
        shares = {phase: value / whole for phase, value in spent.items()}
        return {**shares, "other": max(0.0, 1 - sum(shares.values()))}

    def overlap(self) -> float:
        """Share of the transfers' time that hides behind computing; 0 when nothing was transferred."""
        sending = sum(_length(_union((one.start, one.end) for one in step.transfers)) for step in self.steps)
        return max(0.0, 1 - sum(step.exposed_ms for step in self.steps) / sending) if sending else 0.0

    def timeline(self, *others: Profile, title: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw the last step: one row per rank for what it computes, and one for what it transfers.

        Args:
            others: profiles of the other ranks, drawn below on the same clock.
            title: the finding; by default the shares of this rank.
        """
        found = (self, *others)
        rows = [(one, kind) for one in found for kind in _kinds(one.steps[-1])]
        axis = (
            ax
            or plots.panels([self._finding() if title is None else title], width=8.6, height=1.5 + 0.42 * len(rows))[0]
        )
        began = min(one.steps[-1].began for one in found)
        for row, (one, kind) in enumerate(rows):
            step = one.steps[-1]
            _draw(axis, row, getattr(step, kind), offset=(step.began - began) * 1e3)
        many = len(found) > 1 or any(one.steps[-1].transfers for one in found)
        names = {"compute": "computes", "transfers": "transfers"}
        labels = [f"rank {one.rank} {names[kind]}" if many else names[kind] for one, kind in rows]
        axis.set_yticks(range(len(rows)), labels)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("time since the step began, ms")
        _legend(axis, [span.phase for one, kind in rows for span in getattr(one.steps[-1], kind)])
        return axis

    def _finding(self) -> str:
        shares = self.shares()
        words = [f"{shares[phase]:.0%} {phase}" for phase in PHASES[:3]]
        if any(step.transfers for step in self.steps):
            words.append(f"{shares['communication']:.0%} waiting for other ranks")
        return f"A step of {self.steps[-1].milliseconds:.0f} ms: " + ", ".join(words)


def profile_step(step: Callable[[], object], *, warm_up: int = 2, steps: int = 3) -> Profile:
    """Run `step()` under torch's profiler and sort what it did into phases.

    A step is forward, backward and update, as often as it likes: backward is what autograd runs, the optimiser's part
    goes from the last backward to the end of its `step` (with unscaling and clipping), and what leads to a backward
    is forward. Works in a worker of `ddp.launch`, where all ranks must call it; the result can be returned.

    Args:
        warm_up: steps that are run before, at least one.
        steps: steps that are recorded; `Profile.timeline` shows the last.
    """
    if not callable(step):
        raise TypeError(f"step must be a function to call, got {type(step).__name__}")
    for name, value in {"warm_up": warm_up, "steps": steps}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    recorded: list[tuple[Any, float]] = []

    def ready(profiler: Any) -> None:
        recorded.append((profiler.events(), profiler.profiler.kineto_results.trace_start_ns() / 1e9))

    plan = schedule(wait=0, warmup=warm_up, active=steps, repeat=1)
    with _quiet(), profile(activities=activities, schedule=plan, on_trace_ready=ready) as profiler:
        for _ in range(warm_up + steps):
            step()
            profiler.step()
    events, began = recorded[0]
    return Profile(
        rank=dist.get_rank() if dist.is_initialized() else 0,
        steps=tuple(_steps(events, began)),
        operators=tuple(_operators(events, steps)),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the profiler's own messages, such as an error for every machine that has no GPU. Read at its start."""
    name = "KINETO_LOG_LEVEL"
    before = os.environ.get(name)
    os.environ.setdefault(name, "6")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)


# ------------------------------------------------------------------------------------------- events into phases


def _is_step(event: Any) -> bool:
    return event.name.startswith("ProfilerStep")


def _is_transfer(name: str) -> bool:
    return name.startswith(("gloo:", "nccl:"))


def _operators(events: Any, steps: int) -> list[Operator]:
    averages = [one for one in events.key_averages() if not one.key.startswith("ProfilerStep")]
    found = [Operator(one.key, one.count / steps, one.self_cpu_time_total / 1e3 / steps) for one in averages]
    return sorted(found, key=lambda one: -one.self_ms)


def _steps(events: Any, trace_began: float) -> Iterator[Step]:
    windows = sorted((event for event in events if _is_step(event)), key=lambda event: event.time_range.start)
    for window in windows:
        start, end = window.time_range.start, window.time_range.end
        inside = [event for event in events if start <= event.time_range.start < end and not _is_step(event)]

        def span(phase: str, first: float, last: float, start: float = start) -> Span:
            return Span(phase, (first - start) / 1e3, (last - start) / 1e3)

        transfers = [span("communication", *_times(event)) for event in inside if _is_transfer(event.name)]
        outermost = [event for event in inside if _is_outermost(event, window.thread)]
        outermost.sort(key=lambda event: event.time_range.start)
        phases = _phases([event.name for event in outermost])
        compute = [span(phase, *_times(event)) for phase, event in zip(phases, outermost, strict=True)]
        yield Step(
            began=trace_began + start / 1e6,
            milliseconds=(end - start) / 1e3,
            compute=tuple(_merged(compute)),
            transfers=tuple(sorted(transfers, key=lambda one: one.start)),
        )


def _times(event: Any) -> tuple[float, float]:
    return event.time_range.start, event.time_range.end


def _is_outermost(event: Any, thread: int) -> bool:
    """Called by no other operator; on the step's own thread, or autograd's (of its own when there is a GPU)."""
    if event.is_async or event.device_type != torch.autograd.DeviceType.CPU or _is_transfer(event.name):
        return False
    parent = event.cpu_parent
    return (parent is None or _is_step(parent)) and (event.thread == thread or _is_backward(event.name))


def _is_backward(name: str) -> bool:
    return name.startswith("autograd::engine::evaluate_function")


def _phases(names: Sequence[str]) -> list[str]:
    """The phase of each outermost operator, in order of time: known by its name, or by what comes before and after."""
    known = ["backward" if _is_backward(n) else "optimiser" if n.startswith("Optimizer.step") else "" for n in names]
    after = _last_known(known[::-1])[::-1]
    before = _last_known(known)
    return [_phase(*one) for one in zip(names, before, after, strict=True)]


def _last_known(known: Sequence[str]) -> list[str]:
    """The latest entry that is not empty, up to and including each place."""
    found, latest = [], ""
    for one in known:
        latest = one or latest
        found.append(latest)
    return found


def _phase(name: str, before: str, after: str) -> str:
    if name.startswith("c10d::"):
        return "communication"
    if name.startswith("Optimizer."):
        return "optimiser"
    if after == "backward":
        return "backward" if _is_backward(name) else "forward"
    # between backward and step gradients are unscaled and clipped; after the step the scaler is updated
    if after == "optimiser" or before == "optimiser":
        return "optimiser"
    return "other" if before == "backward" else "forward"


def _merged(spans: Sequence[Span]) -> Iterator[Span]:
    """Neighbours of one phase as one span."""
    current: Span | None = None
    for span in spans:
        if current and span.phase == current.phase and span.start - current.end <= GAP_MS:
            current = Span(current.phase, current.start, max(current.end, span.end))
        else:
            if current:
                yield current
            current = span
    if current:
        yield current


def _union(stretches: Any) -> list[tuple[float, float]]:
    """Stretches that do not overlap and cover the same time."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(stretches):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _length(stretches: Sequence[tuple[float, float]]) -> float:
    return sum(end - start for start, end in stretches)


# ------------------------------------------------------------------------------------------------------- picture


def _kinds(step: Step) -> tuple[str, ...]:
    return ("compute", "transfers") if step.transfers else ("compute",)


def _look(phase: str) -> dict[str, Any]:
    colour = plots.COLOURS[PHASES.index(phase)] if phase in PHASES else "#999999"
    return {"facecolor": colour, "hatch": HATCHES.get(phase, ""), "edgecolor": "white", "linewidth": 0.5}


def _draw(axis: Axes, row: int, spans: Sequence[Span], offset: float) -> None:
    with plots.house_style():
        for span in spans:
            axis.broken_barh([(span.start + offset, span.end - span.start)], (row - 0.34, 0.68), **_look(span.phase))


def _legend(axis: Axes, phases: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    shown = [phase for phase in (*PHASES, "other") if phase in phases]
    with plots.house_style():
        handles = [Patch(label=phase, **_look(phase)) for phase in shown]
        axis.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(shown))
