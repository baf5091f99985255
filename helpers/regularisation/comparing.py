"""A fair comparison of methods: the same data, start and budget for each, several seeds, differences with intervals.

What it does not do: choose settings. A method that is tried with ten settings has ten chances; choose by validation
before, or say so.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from helpers.files import append_line
from helpers.regularisation.calibration import expected_calibration_error
from helpers.regularisation.training import Callback, Data, Score, TrainConfig, evaluate, train

__all__ = ["Budget", "Comparison", "Method", "compare"]

Sample = tuple[Data, Tensor, Tensor]
"""Training and validation data, and test inputs and targets."""


@dataclass(frozen=True)
class Method:
    """What a method changes. Nothing by default: the plain model.

    `config`: other values of `TrainConfig`; `model`: keyword arguments of the model; `callbacks`: makes new callbacks
    for each run (best dataclasses, whose settings are then part of the cache's key); `data`: in place of the budget's.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    callbacks: Callable[[], Sequence[Callback]] = tuple
    data: Callable[[int], Sample] | None = None


@dataclass(frozen=True)
class Budget:
    """What is the same for all methods: `data(seed)` draws the samples, `model(**changes)` builds, `config` trains."""

    data: Callable[[int], Sample]
    model: Callable[..., nn.Module]
    config: TrainConfig


@dataclass(frozen=True)
class Comparison:
    """`runs`: one row per method and seed. The columns are named in `compare`."""

    runs: pd.DataFrame
    baseline: str
    done_before: int
    """How many of the runs came from the cache."""
    notes: tuple[str, ...] = ()
    """The different notes of the runs."""

    def table(self, metric: str = "test_accuracy", confidence: float = 0.95) -> pd.DataFrame:
        """Per method: mean of the metric, its difference to the baseline with the interval, and the cost.

        `low` and `high` bound the mean difference (Student's t on the differences by seed, scipy.stats.ttest_rel) at
        this confidence for each method alone; `clear` says whether the interval still excludes 0 when the risk is
        divided by the number of methods compared (Bonferroni), so that one of many is not found by chance.
        `time` is the median over the seeds of the run's training time, baseline = 1; `steps` likewise in steps.

        Raises ValueError for fewer than two seeds, an unknown metric, or a confidence that is not in (0, 1).
        """
        if metric not in self.runs:
            raise ValueError(f"metric must be one of {', '.join(self.runs.columns[2:])}, got {metric!r}")
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must be above 0 and below 1, got {confidence}")
        by_method = {name: rows.set_index("seed") for name, rows in self.runs.groupby("method", sort=False)}
        base = by_method[self.baseline]
        if len(base) < 2:
            raise ValueError("at least two seeds are needed for an interval, got one")
        others = max(1, len(by_method) - 1)
        rows = {}
        for name, runs in by_method.items():
            low, high, clear = _interval(runs[metric], base[metric], confidence, others)
            rows[name] = {
                metric: runs[metric].mean(),
                "difference": (runs[metric] - base[metric]).mean(),
                "low": low,
                "high": high,
                "clear": clear,
                "time": (runs["seconds"] / base["seconds"]).median(),
                "steps": (runs["steps"] / base["steps"]).median(),
            }
        return pd.DataFrame.from_dict(rows, orient="index")


def _interval(values: pd.Series, base: pd.Series, confidence: float, comparisons: int) -> tuple[float, float, bool]:
    from scipy.stats import ttest_rel

    if np.ptp((values - base).to_numpy()) == 0:  # the baseline itself: no spread, no test
        difference = float((values - base).iloc[0])
        return difference, difference, difference != 0
    test = ttest_rel(values, base.loc[values.index])
    interval = test.confidence_interval(confidence)
    return float(interval.low), float(interval.high), bool(test.pvalue < (1 - confidence) / comparisons)


def compare(
    methods: Mapping[str, Method],
    seeds: Iterable[int],
    budget: Budget,
    *,
    cache: str | os.PathLike[str] | None = None,
    workers: int = 1,
    note: str = "",
) -> Comparison:
    """Train each method once per seed. The first method is the baseline.

    A seed stands for the draw of the data, the weights at the start and the order of the batches, so that methods are
    compared pair by pair. Each run has one thread of its own and gives the same numbers whatever ran before it.

    Args:
        methods: name → what it changes.
        budget: data, model and training settings of all.
        cache: file with one JSON line per finished run, which is appended to. Runs that are in it are not repeated:
            after an interruption, call again. It knows a run by its settings and by the source of the functions that
            are given; after a change deeper inside, delete the file.
        workers: processes that train at the same time.
        note: kept with each new run, for example the machine's name and the date.

    Returns a `Comparison` whose runs have the columns method, seed, train_accuracy, train_loss, valid_accuracy,
    valid_loss, test_accuracy, test_loss, test_ece, diverged, steps, seconds. Losses are in nats.

    Raises ValueError for no methods, no or repeated seeds, or fewer than 1 worker; an error in a run is raised with a
    note that names method and seed, and the runs finished before are kept.
    """
    seeds = list(seeds)
    if not methods:
        raise ValueError("methods must name at least one method, got none")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different whole numbers, at least one, got {seeds}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    wanted = {_key(method, seed, budget): (name, seed) for name, method in methods.items() for seed in seeds}
    if len(wanted) < len(methods) * len(seeds):
        raise ValueError("two methods are the same: give each its own settings")
    found = {key: run for key, run in _read(cache).items() if key in wanted}
    done_before = len(found)
    missing = [key for key in wanted if key not in found]
    with tqdm(total=len(wanted), initial=done_before, desc="runs", leave=False) as bar:
        jobs = [(key, methods[wanted[key][0]], *wanted[key], budget) for key in missing]
        for key, run in _results(jobs, workers):
            run["note"] = note
            if cache is not None:
                append_line(cache, json.dumps({"key": key, **run}).encode() + b"\n", sync=True)
            found[key] = run
            bar.update()
    rows = [{"method": name, "seed": seed, **_measures(found[key])} for key, (name, seed) in wanted.items()]
    notes = tuple(sorted({found[key].get("note", "") for key in wanted} - {""}))
    return Comparison(pd.DataFrame(rows), next(iter(methods)), done_before, notes)


def _results(jobs: Sequence[tuple], workers: int) -> Iterable[tuple[str, dict[str, Any]]]:
    if workers == 1 or len(jobs) < 2:
        return (_one_run(*job) for job in jobs)
    from joblib import Parallel, delayed

    return Parallel(n_jobs=workers, return_as="generator_unordered")(delayed(_one_run)(*job) for job in jobs)


def _one_run(key: str, method: Method, name: str, seed: int, budget: Budget) -> tuple[str, dict[str, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            return key, {"method": name, "seed": seed, **_train_and_test(method, seed, budget)}
    except Exception as error:
        error.add_note(f"in the run of method {name!r} with seed {seed}")
        raise
    finally:
        torch.set_num_threads(threads)


def _train_and_test(method: Method, seed: int, budget: Budget) -> dict[str, Any]:
    data, x_test, y_test = (method.data or budget.data)(seed)
    torch.manual_seed(seed)
    model = budget.model(**method.model)
    config = replace(budget.config, **{"seed": seed, **method.config})
    history = train(model, data, config, method.callbacks())
    scores: dict[str, Score] = {"train": evaluate(model, data.x, data.y)}
    if data.x_valid is not None and data.y_valid is not None:
        scores["valid"] = evaluate(model, data.x_valid, data.y_valid)
    scores["test"] = evaluate(model, x_test, y_test)
    measured = {f"{part}_{what}": getattr(s, what) for part, s in scores.items() for what in ("accuracy", "loss")}
    return {
        **measured,
        "test_ece": _ece(model, x_test, y_test),
        "diverged": history.diverged,
        "steps": history.steps,
        "seconds": history.seconds,
    }


@torch.no_grad()
def _ece(model: nn.Module, x: Tensor, y: Tensor) -> float:
    if y.dim() > 1:
        return math.nan
    model.eval()
    logits = torch.cat([model(part) for part in x.split(512)])
    if not bool(logits.isfinite().all()):
        return math.nan
    return expected_calibration_error(logits.double().softmax(-1).numpy(), y.numpy())


# ------------------------------------------------------------------------------------------------- cache


def _measures(run: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name not in ("key", "method", "seed", "note")}


def _key(method: Method, seed: int, budget: Budget) -> str:
    """A digest of everything that the call tells about a run."""
    parts = {
        "config": repr(replace(budget.config, **{"seed": seed, **method.config})),
        "model": [_described(budget.model), sorted((name, repr(value)) for name, value in method.model.items())],
        "callbacks": [repr(one) for one in method.callbacks()],
        "data": _described(method.data or budget.data),
        "seed": seed,
    }
    text = json.dumps(parts, sort_keys=True)
    if " at 0x" in text:  # another run would have another address
        raise ValueError(f"a callback or argument does not show its settings; make it a dataclass: {text}")
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _described(function: Any) -> Any:
    if isinstance(function, functools.partial):
        return [_described(function.func), repr(function.args), sorted(map(repr, function.keywords.items()))]
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))}"


def _read(cache: str | os.PathLike[str] | None) -> dict[str, dict[str, Any]]:
    """The finished runs in the file by key; a line that was cut off is passed over."""
    if cache is None or not Path(cache).exists():
        return {}
    runs = {}
    for line in Path(cache).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            run = json.loads(line)
            runs[run["key"]] = run
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return runs
