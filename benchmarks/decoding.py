"""`helpers.decoding` against the plainest way to generate: a key-value cache, int8 weights, and drafts.

Three models of bytes, trained here on the standard library's source. The large one has 38 million weights, 153 MB in
float32 and 40 MB in int8: more than most processors' caches, so that decoding reads them from memory, as it does with
a large model. Trained for so few steps they write poor code; speed does not depend on that, perplexity and acceptance
do, and are those of these models. With DECODING_MODELS=FOLDER they are stored there and found again the next time.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import Bar, Benchmark, Figure, Settings, figure, ratios, run_side

CONTEXT = 576
SHAPES = {
    "large": {"layers": 12, "heads": 8, "width": 512},
    "small": {"layers": 4, "heads": 4, "width": 256},
    "draft": {"layers": 2, "heads": 4, "width": 128},
}
STEPS = {"large": (200, 1, 6e-4), "small": (60, 2, 1e-3), "draft": (80, 2, 2e-3)}
DRAFT_TOKENS = (2, 4)
NEW = 96


def train(folder: str, quick: bool) -> Callable[[], Any]:
    """Train the three models and store them; returns each one's last loss, in nats a byte."""
    import torch
    from safetensors.torch import save_model

    from helpers import decoding
    from helpers.models import GPTConfig

    torch.set_num_threads(1)  # two that share their cores with anything else wait for each other
    training, _ = decoding.code_tokens(CONTEXT, 800)

    def work() -> dict[str, float]:
        losses = {}
        for name, shape in SHAPES.items():
            if (Path(folder) / f"{name}.safetensors").exists():
                continue
            steps, batch, lr = STEPS[name]
            config = GPTConfig(context=CONTEXT, **shape)
            # without the cache: it keeps the first step's weights until the block ends
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                steps = 2 if quick else steps
                made = decoding.train_code_gpt(config, training, steps=steps, batch_size=batch, lr=lr)
            save_model(made.model, str(Path(folder) / f"{name}.safetensors"))
            losses[name] = sum(made.losses[-5:]) / len(made.losses[-5:])
        return losses

    return work


def _model(folder: str, name: str) -> Any:
    from safetensors.torch import load_model

    from helpers.models import GPT, GPTConfig

    model = GPT(GPTConfig(context=CONTEXT, **SHAPES[name])).eval()
    load_model(model, str(Path(folder) / f"{name}.safetensors"))
    return model


def _prompt(length: int) -> Any:
    from helpers import decoding

    return decoding.code_tokens(CONTEXT, 800)[1][0, :length]


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _in_turns(calls: Mapping[str, Callable[[], Any]], count: int) -> dict[str, list[float]]:
    """Seconds of each call, `count` times, after one that does not count; the order turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(count + 1):
        for name in list(calls)[:: 1 if turn % 2 else -1]:
            seconds = _timed(calls[name])
            if turn:
                found[name].append(seconds)
    return found


def cache(folder: str, count: int, new: int) -> Callable[[], Any]:
    """Seconds for `new` greedy tokens with and without a cache, and whether they are the same tokens."""
    import torch

    from helpers import decoding

    torch.set_num_threads(1)
    model, prompt = _model(folder, "small"), _prompt(32)

    def work() -> dict[str, Any]:
        same = torch.equal(*(decoding.generate(model, prompt, new, cache=c) for c in (True, False)))
        calls = {str(c): functools.partial(decoding.generate, model, prompt, new, cache=c) for c in (True, False)}
        return {**_in_turns(calls, count), "same": same}

    return work


def int8(folder: str, count: int, new: int, torch_threads: int, perplexities: bool) -> Callable[[], Any]:
    """Seconds for `new` tokens with float32 and int8 weights, bytes of both, and perplexities."""
    import torch

    from helpers import decoding

    torch.set_num_threads(torch_threads)
    model = _model(folder, "large")
    twin, prompt = decoding.int8_weights(model), _prompt(32)

    def work() -> dict[str, Any]:
        both = {"fp32": model, "int8": twin}
        calls = {name: functools.partial(decoding.generate, m, prompt, new) for name, m in both.items()}
        found: dict[str, Any] = _in_turns(calls, count)
        if perplexities:
            blocks = decoding.code_tokens(CONTEXT, 800)[1][:8]
            found["perplexity"] = {name: decoding.perplexity(m, blocks, batch_size=1) for name, m in both.items()}
        return {**found, "bytes": {name: decoding.weight_bytes(m) for name, m in both.items()}}

    return work


def drafts(folder: str, count: int, new: int) -> Callable[[], Any]:
    """By γ: for each pair the speed-up, the acceptance, and the formula's two predictions from what was measured."""
    import torch

    from helpers import decoding, estimates
    from helpers.models import KVCache

    torch.set_num_threads(1)
    target, draft, prompt = _model(folder, "large"), _model(folder, "draft"), _prompt(32)

    def a_pass(model: Any, tokens: int) -> Callable[[], Any]:
        full = KVCache(model.config)

        @torch.inference_mode()
        def run() -> None:
            full.lengths = [64]
            model(torch.zeros(1, tokens, dtype=torch.int64), full)

        return run

    def one(gamma: int, generator: torch.Generator) -> dict[str, float]:
        def plainly() -> None:
            decoding.generate(target, prompt, new, temperature=1.0, generator=generator)

        made: list[decoding.Speculation] = []

        def drafting() -> None:
            made.append(
                decoding.speculate(target, draft, prompt, new, draft_tokens=gamma, temperature=1.0, generator=generator)
            )

        seconds = _in_turns({"plain": plainly, "drafts": drafting}, 2)
        passes = {"one": a_pass(target, 1), "check": a_pass(target, gamma + 1), "draft": a_pass(draft, 1)}
        cost = {name: median(runs) for name, runs in _in_turns(passes, 10).items()}
        accepted, judged = (sum(getattr(run, field) for run in made) for field in ("accepted", "judged"))
        alpha = accepted / judged
        expected = estimates.speculative_tokens(alpha, gamma)
        return {
            "speed-up": sum(seconds["plain"]) / sum(seconds["drafts"]),
            "acceptance": alpha,
            "draft cost": cost["draft"] / cost["one"],
            "check cost": cost["check"] / cost["one"],
            "predicted": expected / ((gamma * cost["draft"] + cost["check"]) / cost["one"]),
            "predicted, checking for free": estimates.speculative_speedup(alpha, gamma, cost["draft"] / cost["one"]),
        }

    def work() -> dict[str, list[dict[str, float]]]:
        generator = torch.Generator().manual_seed(0)
        return {str(gamma): [one(gamma, generator) for _ in range(count)] for gamma in DRAFT_TOKENS}

    return work


def run(settings: Settings) -> list[Figure]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = os.environ.get("DECODING_MODELS", temporary)
        losses = run_side("benchmarks.decoding:train", folder=folder, quick=settings.quick).result
        settings.say(f"trained; nats a byte at the end: {losses}")
        figures = _cache_figures(settings, folder)
        figures += _int8_figures(settings, folder)
        figures += _draft_figures(settings, folder)
    return figures


def _cache_figures(settings: Settings, folder: str) -> list[Figure]:
    new = 32 if settings.quick else 512
    found = run_side("benchmarks.decoding:cache", folder=folder, count=settings.pairs, new=new).result
    name = f"{new} tokens with a key-value cache, times faster than without"
    return [
        figure(name, ratios(found["False"], found["True"]), Bar(">=", 5)),
        figure("the same greedy tokens with and without a cache (1: yes)", [float(found["same"])], Bar(">=", 1)),
    ]


def _int8_figures(settings: Settings, folder: str) -> list[Figure]:
    figures = []
    for threads in (1, 2):
        found = run_side(
            "benchmarks.decoding:int8",
            threads=None if threads == 1 else {},
            folder=folder,
            count=settings.pairs,
            new=8 if settings.quick else NEW,
            torch_threads=threads,
            perplexities=threads == 1,
        ).result
        name = f"int8 weights, batch 1, {threads} threads, times the tokens a second of float32"
        figures.append(figure(name, ratios(found["fp32"], found["int8"]), Bar(">=", 2)))
        if threads == 1:
            perplexity, sizes = found["perplexity"], found["bytes"]
            change = abs(perplexity["int8"] / perplexity["fp32"] - 1)
            figures += [
                figure("relative change of the perplexity with int8 weights", [change], Bar("<=", 0.01)),
                figure("perplexity per byte in float32", [perplexity["fp32"]]),
                figure("megabytes of the weights in float32", [sizes["fp32"] / 1e6]),
                figure("megabytes of the weights in int8", [sizes["int8"] / 1e6]),
            ]
    return figures


def _draft_figures(settings: Settings, folder: str) -> list[Figure]:
    new = 16 if settings.quick else NEW
    found = run_side("benchmarks.decoding:drafts", folder=folder, count=settings.pairs, new=new).result
    figures = []
    for gamma, runs in found.items():
        away = [abs(one["speed-up"] / one["predicted"] - 1) for one in runs]
        name = f"{gamma} drafted tokens: speed-up, distance from the formula with measured costs"
        figures.append(figure(name, away, Bar("<=", 0.15)))
        figures += [figure(f"{gamma} drafted tokens: {field}", [one[field] for one in runs]) for field in runs[0]]
    return figures


BENCHMARK = Benchmark(
    name="decoding",
    question="Key-value cache, int8 weights and speculative decoding of a small GPT, each against plain decoding",
    minutes=9,
    pairs=5,
    peers=("torch",),
    run=run,
)
