"""Drills about training: memory, communication, FLOPs, days and money."""

from __future__ import annotations

import random

from helpers import estimates
from helpers.rehearsal.drills.problem import Drill, Problem, number, step
from helpers.rehearsal.text import Text

__all__ = ["DRILLS"]

MODELS = {"1.3B": 1.3e9, "3B": 3e9, "7B": 7e9, "8B": 8e9, "13B": 13e9, "34B": 34e9, "70B": 70e9}
TOKENS = {"20B": 20e9, "100B": 100e9, "300B": 300e9, "1T": 1e12, "2T": 2e12}
SHAPES = {"7B": (32, 4096), "13B": (40, 5120), "70B": (80, 8192)}
"""Layers and width of Llama 2 (Touvron et al., 2023)."""
PEAKS = {"A100": 312e12, "H100": 989e12}
"""FLOP/s in bf16 without sparsity, as the data sheets have it; see `estimates.GPUS`."""


def adam_memory(rng: random.Random) -> Problem:
    model = rng.choice(list(MODELS))
    parameters = MODELS[model]
    return Problem(
        "adam-memory",
        Text(
            f"You train a {model} model with Adam in mixed precision on one GPU. How much memory do weights, gradients "
            "and optimiser state take, before activations? (GB)",
            f"用混合精度加 Adam 训练一个 {model} 的模型，不做切分，不算激活值，权重、"
            "梯度加优化器状态一共占多少显存？（GB）",
        ),
        estimates.training_memory(parameters).total / 1e9,
        "GB",
        1.1,
        (
            step(
                "Bytes per parameter: bf16 weight, bf16 gradient, fp32 master weight, Adam's mean and variance",
                "每个参数的字节数：bf16 权重、bf16 梯度、fp32 主权重、Adam 的一阶和二阶动量",
                "2 + 2 + 4 + 4 + 4",
                "B",
            ),
            step("Times the parameters", "乘以参数量", f"16 * {number(parameters)} / 1e9", "GB"),
        ),
        {"model": model},
    )


def zero_memory(rng: random.Random) -> Problem:
    model, stage, world = rng.choice(list(MODELS)), rng.choice((1, 2, 3)), rng.choice((8, 16, 64))
    parameters = MODELS[model]
    kept = {1: "2 + 2 + 12 / {n}", 2: "2 + (2 + 12) / {n}", 3: "(2 + 2 + 12) / {n}"}[stage].format(n=world)
    divided = {
        1: ("the optimiser state is divided", "切分优化器状态"),
        2: ("gradients and optimiser state are divided", "切分梯度和优化器状态"),
        3: ("weights, gradients and optimiser state are divided", "权重、梯度、优化器状态全切分"),
    }[stage]
    return Problem(
        "zero-memory",
        Text(
            f"A {model} model, mixed-precision Adam, ZeRO stage {stage} on {world} GPUs. How much memory do weights, "
            "gradients and optimiser state take on each GPU? (GB)",
            f"{model} 的模型，混合精度加 Adam，{world} 张卡上用 ZeRO-{stage}。权重、梯度、"
            "优化器状态每张卡占多少显存？（GB）",
        ),
        estimates.training_memory(parameters, world_size=world, zero_stage=stage).total / 1e9,
        "GB",
        1.1,
        (
            step(
                f"Bytes per parameter on each GPU, stage {stage}: {divided[0]}",
                f"每个参数在每张卡上的字节数，ZeRO-{stage} {divided[1]}",
                kept,
                "B",
            ),
            step("Times the parameters", "乘以参数量", f"({kept}) * {number(parameters)} / 1e9", "GB"),
        ),
        {"model": model, "stage": stage, "world_size": world},
    )


def activation_memory(rng: random.Random) -> Problem:
    model, context, batch = rng.choice(list(SHAPES)), rng.choice((2048, 4096, 8192)), rng.choice((1, 2, 4))
    layers, width = SHAPES[model]
    return Problem(
        "activation-memory",
        Text(
            f"A transformer with {layers} layers and width {width}, batch {batch} per GPU, {context} tokens "
            "each, 16-bit "
            "activations, FlashAttention, no checkpointing. About how much memory do the activations take? (GB)",
            f"一个 {layers} 层、宽度 {width} 的 transformer，每张卡 {batch} 条长 {context} 的序列，16 位激活，"
            "用 FlashAttention，"
            "不做重计算。激活值大约占多少显存？（GB）",
        ),
        estimates.activation_bytes(layers, width, context, batch, 32, "selective") / 1e9,
        "GB",
        1.5,
        (
            step(
                "Kept per layer and value of the residual stream, without the attention matrices (Korthikanti "
                "et al., 2022)",
                "每层每个残差流数值要保留的字节数，不含注意力矩阵（Korthikanti 等，2022）",
                "34",
                "B",
            ),
            step(
                "Values of the residual stream: batch × context × width",
                "残差流的数值个数：batch × 序列长 × 宽度",
                f"{batch} * {context} * {width}",
            ),
            step("Times the layers", "乘以层数", f"34 * {batch} * {context} * {width} * {layers} / 1e9", "GB"),
        ),
        {"layers": layers, "width": width, "context": context, "batch": batch},
    )


def gpt_size(rng: random.Random) -> Problem:
    layers, width = rng.choice(((12, 768), (24, 1024), (24, 2048), (32, 2560), (32, 4096), (40, 5120), (96, 12288)))
    vocabulary = 50257
    return Problem(
        "gpt-parameters",
        Text(
            f"How many parameters has a GPT with {layers} layers, width {width} and a vocabulary of "
            f"{vocabulary} (tied)?",
            f"一个 {layers} 层、宽度 {width}、词表 {vocabulary}（输入输出共享）的 GPT 有多少参数？",
        ),
        float(estimates.gpt_parameters(layers, width, vocabulary)),
        "parameters",
        1.2,
        (
            step(
                "Per layer 4 width² for attention and 8 width² for the feed-forward part",
                "每层注意力 4 倍宽度平方，前馈 8 倍宽度平方",
                f"12 * {width} ** 2",
            ),
            step("Times the layers", "乘以层数", f"12 * {width} ** 2 * {layers}"),
            step("Plus the token table", "加上词嵌入表", f"12 * {width} ** 2 * {layers} + {vocabulary} * {width}"),
            step(
                "Plus biases and norms, 13 width a layer and one last norm",
                "再加偏置和 LayerNorm，每层 13 倍宽度，最后还有一个 LayerNorm",
                f"12 * {width} ** 2 * {layers} + {vocabulary} * {width} + 13 * {width} * {layers} + 2 * {width}",
                "parameters",
            ),
        ),
        {"layers": layers, "width": width},
    )


def flops(rng: random.Random) -> Problem:
    model, tokens = rng.choice(list(MODELS)), rng.choice(list(TOKENS))
    n, d = MODELS[model], TOKENS[tokens]
    return Problem(
        "training-flops",
        Text(
            f"How many FLOPs does it take to train a {model} model on {tokens} tokens?",
            f"用 {tokens} token 训练一个 {model} 的模型，要多少 FLOPs？",
        ),
        estimates.training_flops(n, d),
        "FLOP",
        1.2,
        (
            step(
                "Per parameter and token: 2 forward, 4 backward",
                "每个参数每个 token：前向 2 次，反向 4 次运算",
                "2 + 4",
                "FLOP",
            ),
            step("Times parameters and tokens", "乘以参数量和 token 数", f"6 * {number(n)} * {number(d)}", "FLOP"),
        ),
        {"model": model, "tokens": tokens},
    )


def days(rng: random.Random) -> Problem:
    model, tokens = rng.choice(list(MODELS)), rng.choice(("100B", "300B", "1T", "2T"))
    gpu, gpus, used = rng.choice(list(PEAKS)), rng.choice((64, 256, 512, 1024)), rng.choice((30, 40, 50))
    n, d, peak = MODELS[model], TOKENS[tokens], PEAKS[gpu]
    cost = estimates.training_cost(n, d, peak, used / 100, gpus, 1.0)
    total = f"6 * {number(n)} * {number(d)}"
    rate = f"{gpus} * {number(peak)} * {number(used / 100)}"
    return Problem(
        "training-days",
        Text(
            f"A {model} model on {tokens} tokens, {gpus} {gpu}s ({short_peak(peak)} each) at {used} % utilisation. "
            "How many days does it train?",
            f"用 {tokens} token 训练 {model} 的模型，{gpus} 张 {gpu}（每张 {short_peak(peak)}），利用率 {used} "
            "%，要训练多少天？",
        ),
        cost.days,
        "days",
        1.3,
        (
            step("Operations, 6ND", "总计算量 6ND", total, "FLOP"),
            step("What all GPUs reach together", "所有卡实际达到的算力", rate, "FLOP/s"),
            step("Divide, in days", "相除，换成天", f"{total} / ({rate}) / 86400", "days"),
        ),
        {"model": model, "tokens": tokens, "gpu": gpu, "gpus": gpus, "utilisation": used},
    )


def short_peak(peak: float) -> str:
    """312 TFLOP/s."""
    return f"{peak / 1e12:.0f} TFLOP/s"


def bill(rng: random.Random) -> Problem:
    model, tokens, price = rng.choice(("3B", "7B", "13B", "70B")), rng.choice(list(TOKENS)), rng.choice((1.5, 2.0, 4.0))
    gpu, used = rng.choice(list(PEAKS)), rng.choice((30, 40, 50))
    n, d, peak = MODELS[model], TOKENS[tokens], PEAKS[gpu]
    hours = f"6 * {number(n)} * {number(d)} / ({number(peak)} * {number(used / 100)}) / 3600"
    return Problem(
        "training-bill",
        Text(
            f"What do the GPUs cost for one run of a {model} model on {tokens} tokens, on {gpu}s "
            f"({short_peak(peak)}) at "
            f"{used} % utilisation and ${number(price)} per GPU-hour? ($)",
            f"用 {tokens} token 训练一次 {model} 的模型，{gpu}（{short_peak(peak)}），利用率 {used} %，每卡时 "
            f"{number(price)} 美元，"
            "GPU 账单是多少？（美元）",
        ),
        estimates.training_cost(n, d, peak, used / 100, 1, price).money,
        "$",
        1.3,
        (
            step("Operations, 6ND", "总计算量 6ND", f"6 * {number(n)} * {number(d)}", "FLOP"),
            step("Over what one GPU reaches, in hours", "除以单卡实际算力，换成卡时", hours, "GPU-hours"),
            step("Times the price", "乘以单价", f"{hours} * {number(price)}", "$"),
        ),
        {"model": model, "tokens": tokens, "gpu": gpu, "utilisation": used, "price": price},
    )


def mfu(rng: random.Random) -> Problem:
    model, used = rng.choice(("7B", "13B", "70B")), rng.uniform(0.2, 0.55)
    gpu = rng.choice(list(PEAKS))
    n, peak = MODELS[model], PEAKS[gpu]
    rate = float(f"{used * peak / (6 * n):.3g}")
    return Problem(
        "utilisation",
        Text(
            f"Training a {model} model you see {number(rate)} tokens per second on each {gpu} (peak "
            f"{short_peak(peak)}). "
            "What is the model FLOPs utilisation? (%)",
            f"训练 {model} 的模型，每张 {gpu}（峰值 {short_peak(peak)}）每秒 {number(rate)} 个 token。MFU "
            "是多少？（%）",
        ),
        100 * estimates.utilisation(estimates.training_flops(n, rate * 3600), 1.0, peak),
        "%",
        1.15,
        (
            step(
                "Operations per second: 6 per parameter and token",
                "每秒运算量：每参数每 token 6 次",
                f"6 * {number(n)} * {number(rate)}",
                "FLOP/s",
            ),
            step("Over the peak", "除以峰值", f"6 * {number(n)} * {number(rate)} / {number(peak)} * 100", "%"),
        ),
        {"model": model, "gpu": gpu, "tokens_per_second": rate},
    )


def optimal_tokens(rng: random.Random) -> Problem:
    model = rng.choice(list(MODELS))
    n = MODELS[model]
    return Problem(
        "compute-optimal-tokens",
        Text(
            f"On how many tokens is a {model} model trained compute-optimally, after Chinchilla?",
            f"按 Chinchilla 的结论，{model} 的模型训练多少 token 是计算最优？",
        ),
        estimates.compute_optimal_tokens(n),
        "tokens",
        1.3,
        (step("About 20 tokens per parameter", "每个参数大约 20 个 token", f"20 * {number(n)}", "tokens"),),
        {"model": model},
    )


def optimal_model(rng: random.Random) -> Problem:
    budget = rng.choice((1e20, 1e21, 1e22, 1e23, 6e23, 1e24, 1e25))
    return Problem(
        "compute-optimal-model",
        Text(
            f"You can spend {number(budget)} FLOPs on one run. How many parameters should the model have, "
            "after Chinchilla?",
            f"一次训练的预算是 {number(budget)} FLOPs，按 Chinchilla，模型该有多少参数？",
        ),
        estimates.compute_optimal_parameters(budget),
        "parameters",
        1.5,
        (
            step(
                "C = 6ND with D = 20N is 120 N²; N² is",
                "C = 6ND，D = 20N，所以 C = 120 N²，N² 为",
                f"{number(budget)} / (6 * 20)",
            ),
            step("The root of it", "开平方", f"({number(budget)} / 120) ** 0.5", "parameters"),
        ),
        {"flops": budget},
    )


def all_reduce(rng: random.Random) -> Problem:
    model, world, gbits = (
        rng.choice(("1.3B", "3B", "7B", "13B")),
        rng.choice((2, 4, 8, 16, 64)),
        rng.choice((25, 100, 400)),
    )
    n = MODELS[model]
    share = f"2 * ({world} - 1) / {world} * {number(2 * n)}"
    return Problem(
        "all-reduce-time",
        Text(
            f"Data parallel, {world} GPUs in a ring, a {model} model with bf16 gradients, {gbits} Gbit/s per "
            "link. How long "
            "does the all-reduce of one step take, without overlap? (s)",
            f"数据并行，{world} 张卡组成环，{model} 的模型，梯度 bf16，每条链路 {gbits} Gbit/s。一步的 "
            "all-reduce 不做重叠要多久？（秒）",
        ),
        estimates.all_reduce_seconds(2 * n, world, gbits * 1e9 / 8),
        "s",
        1.2,
        (
            step("Gradients", "梯度大小", f"2 * {number(n)} / 1e9", "GB"),
            step("A ring sends 2 (n-1)/n of it per GPU", "环形算法每卡发送 2(n-1)/n 倍", f"{share} / 1e9", "GB"),
            step("A link carries", "链路带宽", f"{gbits} / 8", "GB/s"),
            step("Divide", "相除", f"{share} / ({gbits}e9 / 8)", "s"),
        ),
        {"model": model, "world_size": world, "gbits": gbits},
    )


def sharded_traffic(rng: random.Random) -> Problem:
    model, world = rng.choice(("7B", "13B", "34B", "70B")), rng.choice((8, 16, 64))
    n = MODELS[model]
    once = f"({world} - 1) / {world} * {number(2 * n)}"
    return Problem(
        "sharded-traffic",
        Text(
            f"FSDP (ZeRO stage 3) over {world} GPUs, a {model} model, everything sent in bf16, weights "
            "resharded after the "
            "forward pass. How many bytes does each GPU send per step? (GB)",
            f"{world} 张卡上跑 FSDP（ZeRO-3），{model} 的模型，通信都用 bf16，前向之后重新切分权重。"
            "每张卡每步发送多少数据？（GB）",
        ),
        3 * estimates.all_gather_bytes(2 * n, world) / 1e9,
        "GB",
        1.15,
        (
            step(
                "One all-gather of the weights sends (n-1)/n of them",
                "一次权重 all-gather 发送 (n-1)/n",
                f"{once} / 1e9",
                "GB",
            ),
            step(
                "Gather in forward, gather in backward, reduce-scatter the gradients",
                "前向一次 all-gather，反向一次 all-gather，梯度一次 reduce-scatter",
                f"3 * {once} / 1e9",
                "GB",
            ),
        ),
        {"model": model, "world_size": world},
    )


def bubble(rng: random.Random) -> Problem:
    stages, microbatches = rng.choice((2, 4, 8, 16)), rng.choice((4, 8, 16, 32, 64))
    return Problem(
        "pipeline-bubble",
        Text(
            f"A pipeline of {stages} stages with {microbatches} micro-batches per step (GPipe or 1F1B). What "
            "share of the "
            "step does each GPU stand idle? (%)",
            f"{stages} 级流水线，每步 {microbatches} 个 micro-batch（GPipe 或 1F1B）。"
            "每张卡有多大比例的时间在空等？（%）",
        ),
        100 * estimates.pipeline_bubble(stages, microbatches),
        "%",
        1.1,
        (
            step(
                "Slots until the last stage has work, and after the first has none",
                "填满和排空流水线的时间片",
                f"{stages} - 1",
            ),
            step("All slots", "总时间片", f"{microbatches} + {stages} - 1"),
            step("Idle share", "空闲比例", f"({stages} - 1) / ({microbatches} + {stages} - 1) * 100", "%"),
        ),
        {"stages": stages, "microbatches": microbatches},
    )


def scaling(rng: random.Random) -> Problem:
    # no more can hide than is computed, so the computing is the longer one
    compute, communication = rng.choice((200, 300, 400, 500)), rng.choice((40, 80, 120, 200))
    overlap = rng.choice((0, 25, 50, 75))
    exposed = f"{communication} * (1 - {number(overlap / 100)})"
    return Problem(
        "scaling-efficiency",
        Text(
            f"A step computes for {compute} ms; its all-reduce alone lasts {communication} ms, of which "
            f"{overlap} % hides "
            "behind the backward pass. What is the scaling efficiency? (%)",
            f"一步计算 {compute} ms，all-reduce 单独要 {communication} ms，其中 {overlap} % 被反向计算盖住。"
            "扩展效率是多少？（%）",
        ),
        100 * estimates.data_parallel_efficiency(compute / 1e3, communication / 1e3, overlap / 100),
        "%",
        1.05,
        (
            step("Communication that shows", "没盖住的通信时间", exposed, "ms"),
            step("Compute over the whole step", "计算占整步的比例", f"{compute} / ({compute} + {exposed}) * 100", "%"),
        ),
        {"compute": compute, "communication": communication, "overlap": overlap},
    )


DRILLS = (
    Drill("adam-memory", "efficiency", Text("Memory of training with Adam", "Adam 训练的显存"), adam_memory),
    Drill("zero-memory", "efficiency", Text("Memory per GPU under ZeRO", "ZeRO 下每张卡的显存"), zero_memory),
    Drill("activation-memory", "efficiency", Text("Memory of activations", "激活值的显存"), activation_memory),
    Drill("gpt-parameters", "efficiency", Text("Parameters of a GPT", "GPT 的参数量"), gpt_size),
    Drill("training-flops", "efficiency", Text("FLOPs of a training run", "训练的计算量"), flops),
    Drill("training-days", "efficiency", Text("Days of a training run", "训练要多少天"), days),
    Drill("training-bill", "start-up", Text("The bill of a training run", "训练账单"), bill),
    Drill("utilisation", "efficiency", Text("Model FLOPs utilisation", "MFU"), mfu),
    Drill("compute-optimal-tokens", "overfitting", Text("Tokens for a model", "计算最优的 token 数"), optimal_tokens),
    Drill("compute-optimal-model", "overfitting", Text("Model for a budget", "给定预算的模型大小"), optimal_model),
    Drill("all-reduce-time", "efficiency", Text("Time of an all-reduce", "all-reduce 的时间"), all_reduce),
    Drill("sharded-traffic", "efficiency", Text("Traffic of sharded training", "切分训练的通信量"), sharded_traffic),
    Drill("pipeline-bubble", "efficiency", Text("The bubble of a pipeline", "流水线气泡"), bubble),
    Drill("scaling-efficiency", "efficiency", Text("Scaling efficiency", "扩展效率"), scaling),
)
