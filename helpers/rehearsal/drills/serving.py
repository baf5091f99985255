"""Drills about answering: KV cache, roofline, quantised sizes, speculative decoding, explanations."""

from __future__ import annotations

import random
from dataclasses import dataclass

from helpers import estimates
from helpers.rehearsal.drills.problem import Drill, Problem, number, step
from helpers.rehearsal.text import Text

__all__ = ["DRILLS"]


@dataclass(frozen=True)
class Shape:
    """What the cache of a published model depends on."""

    name: str
    parameters: float
    layers: int
    heads: int
    head_width: int
    kind: str


SHAPES = (
    Shape("Llama 2 7B", 6.74e9, 32, 32, 128, "MHA"),
    Shape("Llama 2 13B", 13.0e9, 40, 40, 128, "MHA"),
    Shape("Llama 2 70B", 69.0e9, 80, 8, 128, "GQA"),
    Shape("Llama 3 8B", 8.03e9, 32, 8, 128, "GQA"),
    Shape("Falcon-7B", 7.22e9, 32, 1, 64, "MQA"),
)
"""Touvron et al. (Llama 2), 2023; Meta (Llama 3), 2024; TII (Falcon-7B, its config.json), 2023."""

MODELS = {"3B": 3e9, "7B": 7e9, "13B": 13e9, "34B": 34e9, "70B": 70e9}
GPUS = {"A100": (312e12, 2.04e12), "H100": (989e12, 3.35e12), "H200": (989e12, 4.8e12)}
"""FLOP/s in bf16 without sparsity and bytes/s of memory; see `estimates.GPUS`."""


def _gpu(name: str) -> str:
    peak, bandwidth = GPUS[name]
    return f"{peak / 1e12:.0f} TFLOP/s, {number(bandwidth / 1e12)} TB/s"


def _heads(shape: Shape) -> str:
    return f"{shape.heads} key-value head{'s' if shape.heads > 1 else ''}"


def kv_cache(rng: random.Random) -> Problem:
    shape, context, batch = rng.choice(SHAPES), rng.choice((2048, 4096, 8192, 32768)), rng.choice((1, 8, 32))
    total = estimates.kv_cache_bytes(
        shape.layers, context, batch, key_value_heads=shape.heads, head_width=shape.head_width
    )
    token = f"2 * {shape.layers} * {shape.heads} * {shape.head_width} * 2"
    return Problem(
        "kv-cache",
        Text(
            f"{shape.name} has {shape.layers} layers and {_heads(shape)} of width {shape.head_width} "
            f"({shape.kind}). How large is the KV cache in 16 bits at batch {batch} with {context} tokens each? (GB)",
            f"{shape.name} 有 {shape.layers} 层，{shape.heads} 个 KV 头，每个头 {shape.head_width} 维（{shape.kind}）。"
            f"16 位精度下，{batch} 条长 {context} 的序列，KV cache 有多大？（GB）",
        ),
        total / 1e9,
        "GB",
        1.1,
        (
            step(
                "Per token: keys and values × layers × heads × width × 2 bytes",
                "每个 token：K 和 V × 层数 × KV 头数 × 头宽 × 2 字节",
                f"{token} / 1e3",
                "kB",
            ),
            step("Times tokens and sequences", "乘以 token 数和序列数", f"{token} * {context} * {batch} / 1e9", "GB"),
        ),
        {"model": shape.name, "context": context, "batch": batch},
    )


def latent_cache(rng: random.Random) -> Problem:
    layers, latent, rotary = rng.choice(((60, 512, 64), (61, 512, 64), (27, 512, 64)))
    context, batch = rng.choice((4096, 32768, 131072)), rng.choice((1, 8, 32))
    total = estimates.kv_cache_bytes(layers, context, batch, latent_width=latent, rotary_width=rotary)
    return Problem(
        "kv-cache-latent",
        Text(
            f"Multi-head latent attention (MLA): {layers} layers, a latent of {latent} and a shared rotary key "
            f"of {rotary}, "
            f"16 bits. How large is the cache at batch {batch} with {context} tokens each? (GB)",
            f"MLA：{layers} 层，潜向量 {latent} 维，共享的 RoPE key {rotary} 维，16 位精度。{batch} 条长 "
            f"{context} 的序列，缓存有多大？（GB）",
        ),
        total / 1e9,
        "GB",
        1.1,
        (
            step(
                "Numbers per token and layer: no heads, no factor of two",
                "每层每个 token 存多少个数：不分头，也不乘 2",
                f"{latent} + {rotary}",
            ),
            step(
                "Times layers, tokens, sequences and 2 bytes",
                "乘以层数、token 数、序列数和 2 字节",
                f"({latent} + {rotary}) * {layers} * {context} * {batch} * 2 / 1e9",
                "GB",
            ),
        ),
        {"layers": layers, "context": context, "batch": batch},
    )


def sequences(rng: random.Random) -> Problem:
    shape = rng.choice([one for one in SHAPES if one.parameters < 20e9])
    memory, context = rng.choice((40, 80)), rng.choice((2048, 4096, 8192))
    cache = estimates.kv_cache_bytes(shape.layers, context, key_value_heads=shape.heads, head_width=shape.head_width)
    one = f"2 * {shape.layers} * {shape.heads} * {shape.head_width} * 2 * {context}"
    free = f"({memory}e9 - 2 * {number(shape.parameters)})"
    return Problem(
        "sequences-in-memory",
        Text(
            f"{shape.name} ({shape.parameters / 1e9:g}B parameters, {shape.layers} layers, "
            f"{_heads(shape)} of "
            f"{shape.head_width}) in 16 bits on a GPU of {memory} GB. How many sequences of {context} tokens fit, with "
            "nothing else in memory?",
            f"{shape.name}（{shape.parameters / 1e9:g}B 参数，{shape.layers} 层，{shape.heads} 个 KV 头，每头 "
            f"{shape.head_width} 维），"
            f"16 位，{memory} GB 的卡，不算其他开销，能放下多少条长 {context} 的序列？",
        ),
        (memory * 1e9 - estimates.model_bytes(shape.parameters)) / cache,
        "sequences",
        1.25,
        (
            step("Free after the weights", "放下权重后剩余", f"{free} / 1e9", "GB"),
            step("Cache of one sequence", "一条序列的 KV cache", f"{one} / 1e9", "GB"),
            step("Divide (and round down)", "相除（向下取整）", f"{free} / ({one})", "sequences"),
        ),
        {"model": shape.name, "memory": memory, "context": context},
    )


def decode_speed(rng: random.Random) -> Problem:
    model, bits, gpu = rng.choice(list(MODELS)), rng.choice((16, 8, 4)), rng.choice(list(GPUS))
    n, bandwidth = MODELS[model], GPUS[gpu][1]
    return Problem(
        "decode-speed",
        Text(
            f"What is the upper limit of tokens per second when a {model} model with {bits}-bit weights "
            "answers one user on "
            f"one {gpu} ({_gpu(gpu)}), the cache left out?",
            f"{model} 的模型，权重 {bits} 位，一张 {gpu}（{_gpu(gpu)}）只服务一个用户，不算 KV cache，"
            "每秒最多生成多少个 token？",
        ),
        estimates.decode_tokens_per_second(estimates.model_bytes(n, bits), bandwidth),
        "tokens/s",
        1.2,
        (
            step(
                "Bytes of the weights, read once for each token",
                "权重字节数，每个 token 都要读一遍",
                f"{number(n)} * {bits} / 8 / 1e9",
                "GB",
            ),
            step(
                "Bandwidth over bytes",
                "带宽除以字节数",
                f"{number(bandwidth)} / ({number(n)} * {bits} / 8)",
                "tokens/s",
            ),
        ),
        {"model": model, "bits": bits, "gpu": gpu},
    )


def prefill(rng: random.Random) -> Problem:
    model, tokens, gpu, used = (
        rng.choice(list(MODELS)),
        rng.choice((1000, 2000, 8000)),
        rng.choice(list(GPUS)),
        rng.choice((40, 50, 60)),
    )
    n, peak = MODELS[model], GPUS[gpu][0]
    work = f"2 * {number(n)} * {tokens}"
    return Problem(
        "prefill-time",
        Text(
            f"A prompt of {tokens} tokens, a {model} model in bf16, an {gpu} ({_gpu(gpu)}) at {used} % "
            "utilisation. How long is "
            "the time to the first token, attention's own products left out? (ms)",
            f"prompt 长 {tokens} token，{model} 的模型，bf16，{gpu}（{_gpu(gpu)}），利用率 {used} %。"
            "不算注意力矩阵本身的乘法，首 token 延迟是多少？（ms）",
        ),
        1e3 * estimates.prefill_seconds(n, tokens, peak, used / 100),
        "ms",
        1.3,
        (
            step("Operations: 2 per parameter and token", "运算量：每参数每 token 2 次", work, "FLOP"),
            step(
                "Over what the GPU reaches",
                "除以实际算力",
                f"{work} / ({number(peak)} * {number(used / 100)}) * 1e3",
                "ms",
            ),
        ),
        {"model": model, "tokens": tokens, "gpu": gpu, "utilisation": used},
    )


def turning_batch(rng: random.Random) -> Problem:
    gpu, bits = rng.choice(list(GPUS)), rng.choice((16, 8, 4))
    peak, bandwidth = GPUS[gpu]
    return Problem(
        "compute-bound-batch",
        Text(
            f"At about which batch does decoding turn from memory-bound to compute-bound on an {gpu} "
            f"({_gpu(gpu)}), with "
            f"{bits}-bit weights, bf16 arithmetic and the cache left out?",
            f"在 {gpu}（{_gpu(gpu)}）上，权重 {bits} 位，用 bf16 计算，不算 KV cache，batch 大约到多少时 "
            "decode 从访存受限变成计算受限？",
        ),
        estimates.compute_bound_batch(peak, bandwidth, bits),
        "sequences",
        1.3,
        (
            step("Seconds to read one weight", "读一个权重的时间", f"{bits} / 8 / {number(bandwidth)}", "s"),
            step(
                "Seconds to use it for one sequence (2 operations)",
                "为一条序列用它一次（2 次运算）的时间",
                f"2 / {number(peak)}",
                "s",
            ),
            step("Divide", "相除", f"{bits} / 8 / {number(bandwidth)} / (2 / {number(peak)})", "sequences"),
        ),
        {"gpu": gpu, "bits": bits},
    )


def quantised(rng: random.Random) -> Problem:
    model, bits, group = rng.choice(list(MODELS)), rng.choice((8, 4)), rng.choice((32, 64, 128))
    n = MODELS[model]
    each = f"({bits} + 16 / {group})"
    return Problem(
        "quantised-size",
        Text(
            f"How large are the weights of a {model} model in int{bits}, in groups of {group} with one 16-bit "
            "scale each? (GB)",
            f"{model} 的模型量化成 int{bits}，每 {group} 个权重一组，每组一个 16 位 scale，权重有多大？（GB）",
        ),
        estimates.model_bytes(n, bits, group_size=group) / 1e9,
        "GB",
        1.05,
        (
            step("Bits per weight with its part of the scale", "算上 scale，每个权重的位数", each, ""),
            step("Times the weights, in bytes", "乘以权重数，换成字节", f"{number(n)} * {each} / 8 / 1e9", "GB"),
        ),
        {"model": model, "bits": bits, "group": group},
    )


def speculative(rng: random.Random) -> Problem:
    accepted, draft, cost = rng.choice((60, 70, 80, 90)), rng.choice((2, 3, 4, 5)), rng.choice((0.05, 0.1, 0.2))
    alpha = accepted / 100
    tokens = f"(1 - {number(alpha)} ** {draft + 1}) / (1 - {number(alpha)})"
    return Problem(
        "speculative-speed-up",
        Text(
            f"Speculative decoding: the draft model proposes {draft} tokens at a time, each is accepted with "
            f"{accepted} %, "
            f"and one draft step costs {number(cost)} of a step of the large model. What is the expected speed-up? (×)",
            f"投机解码：草稿模型每次猜 {draft} 个 token，每个的接受率 {accepted} %，"
            f"草稿一步的开销是大模型一步的 {number(cost)}。"
            "期望加速多少倍？",
        ),
        estimates.speculative_speedup(alpha, draft, cost),
        "×",
        1.1,
        (
            step(
                "Tokens per step of the large model: 1 + α + … + α^γ",
                "大模型每步期望得到的 token 数：1 + α + … + α^γ",
                tokens,
            ),
            step("Cost of that step with its drafts", "这一步连同草稿的开销", f"{draft} * {number(cost)} + 1"),
            step("Divide", "相除", f"{tokens} / ({draft} * {number(cost)} + 1)", "×"),
        ),
        {"acceptance": accepted, "draft_tokens": draft, "draft_cost": cost},
    )


def token_price(rng: random.Random) -> Problem:
    price, gpus, speed, busy = (
        rng.choice((2, 3, 4)),
        rng.choice((1, 2, 8)),
        rng.choice((500, 1000, 2500, 6000)),
        rng.choice((30, 50, 80)),
    )
    per_hour = f"{speed} * 3600 * {number(busy / 100)}"
    return Problem(
        "token-price",
        Text(
            f"{gpus} GPUs at ${price} per GPU-hour make {speed} tokens per second together when busy, and are "
            f"busy {busy} % of "
            "the time. What do a million tokens cost? ($)",
            f"{gpus} 张卡，每卡时 {price} 美元，忙的时候一共每秒 {speed} 个 token，{busy} % 的时间在忙。一百万 "
            "token 的成本是多少？（美元）",
        ),
        estimates.cost_per_million_tokens(price, speed, gpus, busy / 100),
        "$",
        1.15,
        (
            step("Tokens per paid hour", "每付费小时的 token 数", per_hour, "tokens"),
            step("Money per hour", "每小时的钱", f"{gpus} * {price}", "$"),
            step("Per million tokens", "每百万 token", f"{gpus} * {price} / ({per_hour}) * 1e6", "$"),
        ),
        {"price": price, "gpus": gpus, "speed": speed, "busy": busy},
    )


def coalitions(rng: random.Random) -> Problem:
    features, milliseconds = rng.choice((10, 16, 20, 24, 30)), rng.choice((1, 5, 20))
    runs = estimates.exact_shapley_evaluations(features)
    return Problem(
        "exact-shapley",
        Text(
            f"Exact Shapley values of one prediction with {features} features, by running the model once for every "
            f"coalition at {milliseconds} ms. How long does it take? (h)",
            f"精确计算一次预测的 Shapley 值：{features} 个特征，每个子集跑一次模型，每次 {milliseconds} ms。"
            "要多久？（小时）",
        ),
        runs * milliseconds / 1e3 / 3600,
        "h",
        2.0,
        (
            step(
                "Coalitions: each feature is in or out", "子集个数：每个特征要么在要么不在", f"2 ** {features}", "calls"
            ),
            step("Times the time of one run", "乘以单次耗时", f"2 ** {features} * {milliseconds} / 1e3 / 3600", "h"),
        ),
        {"features": features, "milliseconds": milliseconds},
    )


DRILLS = (
    Drill("kv-cache", "inference", Text("Size of a KV cache", "KV cache 的大小"), kv_cache),
    Drill("kv-cache-latent", "inference", Text("Size of an MLA cache", "MLA 缓存的大小"), latent_cache),
    Drill("sequences-in-memory", "inference", Text("Sequences that fit on a GPU", "一张卡放得下多少条序列"), sequences),
    Drill("decode-speed", "inference", Text("Speed limit of decoding", "decode 的速度上限"), decode_speed),
    Drill("prefill-time", "inference", Text("Time to the first token", "首 token 延迟"), prefill),
    Drill(
        "compute-bound-batch", "inference", Text("Batch that turns compute-bound", "计算受限的 batch"), turning_batch
    ),
    Drill("quantised-size", "inference", Text("Size of a quantised model", "量化模型的大小"), quantised),
    Drill("speculative-speed-up", "inference", Text("Gain of speculative decoding", "投机解码的加速"), speculative),
    Drill("token-price", "start-up", Text("Price of a million tokens", "百万 token 的成本"), token_price),
    Drill(
        "exact-shapley", "interpretability", Text("Time of exact Shapley values", "精确 Shapley 值的耗时"), coalitions
    ),
)
