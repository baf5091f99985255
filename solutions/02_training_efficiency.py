# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] id="title"
# # 02 · Training efficiency
#
# **Why is training slow and dear, and what makes it faster?**
#
# Read and run from top to bottom: about an hour and a half. Every process, gradient, byte and second here is real: worker processes are started from this notebook, on this machine,
# and the same code goes to many machines at the end. Nothing is downloaded. The exercises of this notebook are still being written. The solved notebook, with what one says about each result, is in `solutions/`.

# %% [markdown] id="why"
# ## Why this decides a company
#
# Compute is the largest bill of a company that trains large models, and it is due before the first customer pays. Stability AI is the running case of this course.
#
# | what happened | status | source, date |
# |---|---|---|
# | In 2023 compute cost about 99M dollars, against about 11M dollars of revenue and 54M dollars of wages and operations; less than 4M dollars of cash was left in October. | press, on internal documents seen by Forbes | The Register, 3 April 2024 |
# | The bill to Amazon's cloud was underpaid by 1M dollars in July and not paid (7M dollars) in August 2023; compute had been given to outsiders for free. | press, on the same documents | The Register, 3 April 2024 |
# | Stable Diffusion v1 took 150,000 hours of A100 GPUs. | company | model card of Stable Diffusion v1, 2022 |
# | A round of 80M dollars and a new chief executive, after the founder had resigned in March. | press | thewrap.com, June 2024 |
#
# A model that trains at 20 % of what its hardware can do costs twice one that trains at 40 %. At the end of this notebook you will estimate such bills from first principles, and hold them against published ones.

# %% [markdown] id="asked"
# ## What interviewers ask
#
# *How is the training of a large model made efficient, and which methods are usual?*
# A weak answer lists names. A strong one says of each method **which resource it saves, which one it spends, and when it does not help**. Each row is a section of this notebook.
#
# | method | saves | spends | section |
# |---|---|---|---|
# | profiling | guesswork | a minute | 1 |
# | data parallelism | wall-clock time | communication, a larger batch | 2 |
# | gradient accumulation | activation memory, communication | wall-clock time | 3 |
# | mixed precision | time, memory, bandwidth | range or precision | 4 |
# | activation checkpointing | activation memory | one more forward pass | 5 |
# | compilation | memory traffic, launch overhead | minutes of compiling | 5 |
# | sharding (ZeRO, FSDP) | memory of weights, gradients, optimiser | communication | 6 |
# | overlap, buckets, compression | waiting for the network | precision, complexity | 7 |
# | checkpoints and elastic restart | work lost to a fault | disk, a pause | 8 |
# | an estimate before the run | money | an hour of your time | 9 |
#
# Models that do not fit on one GPU even when sharded are also cut along their layers (pipeline parallelism) or inside them (tensor parallelism); fused attention kernels save memory traffic. Name them; the first two are not in this notebook, the third is what `scaled_dot_product_attention` does in the model below.
# Better data and a smaller model save more than any of these; notebook 01 is about the first, notebook 04 about the second.

# %% id="imports"
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler, TensorDataset

from helpers import datasets, ddp, efficiency, estimates, models, plots
from helpers.exercises import predict

# %% [markdown] id="parameters-text"
# `QUICK = True` takes few steps and finishes in about two minutes on two cores. `QUICK = False` takes more steps, more batch sizes and more repetitions; it takes longer.
# Seconds, ratios of seconds and process numbers will differ on your machine.

# %% id="parameters" tags=["parameters"]
QUICK = True
SEED = 0

# %% id="machine" tags=["nbval-ignore-output"]
print("measured here:", efficiency.machine())

# %% [markdown] id="look-text"
# ## 1 · Look before you optimise
#
# Two models serve this notebook: a small GPT that reads the source of Python's standard library byte by byte, and ResNet-18 on handwritten digits enlarged to 32×32.
# Before making a step faster, find out where its time and its memory go.

# %% id="small-gpt"
config = models.GPTConfig(context=128, layers=4, heads=4, width=128)
blocks = datasets.code_blocks(config.context, 2_048 if QUICK else 16_384, seed=SEED)
tokens = torch.from_numpy(blocks.astype(np.int64))
code = TensorDataset(tokens[:, :-1], tokens[:, 1:])  # 128 bytes, and the byte that follows each
torch.manual_seed(SEED)
gpt = models.GPT(config)
print(f"{sum(p.numel() for p in gpt.parameters()):,} parameters; {len(code):,} blocks of {config.context} bytes")
print(bytes(blocks[3][:80]))

# %% [markdown] id="predict-backward-text"
# **Predict before you run.** The forward pass of this model takes one unit of time. How many does the backward pass take? Write a number for `guess`.

# %% id="one-step"
def train_step(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """Forward, backward, new weights."""
    loss = efficiency.cross_entropy(model(x), y)
    loss.backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


x, y = code[:16]
optimiser = torch.optim.AdamW(gpt.parameters(), lr=1e-3)
profile = efficiency.profile_step(lambda: train_step(gpt, optimiser, x, y), warm_up=3, steps=5)

# %% id="predict-backward" tags=["nbval-ignore-output"]
guess = None
shares = profile.shares()
predict("time of backward / time of forward", guess=guess, measured=round(shares["backward"] / shares["forward"], 1))

# %% id="timeline" tags=["nbval-ignore-output"]
profile.timeline();

# %% id="operators" tags=["nbval-ignore-output"]
profile.table(8)

# %% [markdown] id="profile-read" tags=["solution"]
# **What to say out loud.** Backward computes two products for each product of the forward pass, one for the gradient of the input and one for that of the weights: about twice the time, so a training step costs three forward passes, $6$ floating-point operations per parameter and token instead of $2$.
# Most of the time is in a few matrix products (`addmm`, `mm`, attention): that is what mixed precision and better kernels attack. The optimiser reads and writes every weight and both moments and computes almost nothing: it is bound by memory bandwidth, and fusing its kernels helps, faster arithmetic does not.
# *Follow-up: the profile shows gaps on a GPU, what are they?* Waiting: for the data loader, for the host that launches kernels, or for another rank. Each has another cure (more loader workers, `torch.compile` or CUDA graphs, balanced work), so I look before I choose.

# %% [markdown] id="memory-text"
# Time is half of it; memory decides what can be run at all. Four things fill it: weights, gradients, the optimiser's state, and the **activations** that forward keeps for backward. Only the last grows with the batch.

# %% id="memory-run"
state = efficiency.state_bytes(gpt, optimiser)  # after a step: AdamW has its two moments
held = {"weights": state.weights, "gradients": state.weights, "AdamW's two moments": state.optimiser}
for batch in (4, 16, 64):
    held[f"activations, batch {batch}"] = efficiency.saved_bytes(lambda: efficiency.cross_entropy(gpt(x.repeat(4, 1)[:batch]), y.repeat(4, 1)[:batch]))
plots.bars(
    {name: size / 1e6 for name, size in held.items()},
    title="A small model, a large batch: the activations fill the memory",
    xlabel="megabytes (10⁶ bytes), float32",
    highlight=[name for name in held if "activations" in name],
    form="{:.0f}",
);

# %% [markdown] id="memory-read" tags=["solution"]
# **What to say out loud.** In float32 with AdamW a parameter needs 16 bytes: 4 for itself, 4 for its gradient, 8 for the two moments. With mixed precision it is 16 again, 2 + 2 and 12 for the float32 copy and the moments; so "training takes three to four times the memory of inference" is wrong: against 2 bytes of a half-precision weight it is eight times, before a single activation.
# Activations grow with batch × context × width × layers. So for a small model with a large batch accumulate or checkpoint activations (sections 3 and 5); for a large model shard the states (section 6). Clipping gradients, by the way, saves no memory at all.

# %% [markdown] id="parallel-text"
# ## 2 · Data parallelism, with real processes
#
# Each of $n$ processes (**ranks**) holds a copy of the model and a share of every batch. After backward the gradients are averaged, $\bar g = \frac1n \sum_r g_r$, so that all copies take the same step. One process per GPU; here one per core.
# It is *not* `DataParallel`, which had one process, many threads, and collected the gradients on GPU 0.
#
# `ddp.launch(worker, n)` starts the processes, sets up communication (`nccl` with enough GPUs, else `gloo`) and returns what each rank returns. The function may be defined here, in a cell.

# %% id="who-am-i" tags=["nbval-ignore-output"]
def who_am_i() -> dict:
    """What a worker knows about itself."""
    return {
        "rank": dist.get_rank(),
        "world size": dist.get_world_size(),
        "backend": dist.get_backend(),
        "process": os.getpid(),
        "threads": torch.get_num_threads(),
    }


print("this kernel is process", os.getpid())
pd.DataFrame(ddp.launch(who_am_i, 2)).set_index("rank")

# %% [markdown] id="shards-text"
# ### 2.1 Who sees which sample
#
# Before any gradient, each rank must know its share of the data. `DistributedSampler` shuffles with the same seed on every rank and deals the samples out in turn. Two things are forgotten most often: the sampler itself, and `set_epoch`.
# Below, 16 samples, 2 ranks, 2 epochs: each mark is a rank reading a sample.

# %% id="visits"
def visits(variant: str) -> list[list[int]]:
    """The samples that this rank reads, epoch by epoch."""
    numbers = TensorDataset(torch.arange(16))
    sampler = None if variant == "no sampler" else DistributedSampler(numbers, seed=SEED)
    torch.manual_seed(SEED)  # "for reproducibility": the same on every rank
    loader = DataLoader(numbers, batch_size=1, shuffle=sampler is None, sampler=sampler)
    epochs = []
    for epoch in range(2):
        if variant == "right":
            sampler.set_epoch(epoch)
        epochs.append([int(number) for (number,) in loader])
    return epochs


seen = {variant: ddp.launch(visits, 2, variant) for variant in ("right", "no set_epoch", "no sampler")}

# %% id="visits-picture"
titles = ["Right: shared out, a new order", "No set_epoch: the same order again", "No sampler: both read everything"]
for axis, (variant, ranks) in zip(plots.panels(titles, width=4.4), seen.items()):
    for rank, epochs in enumerate(ranks):
        order = [sample for epoch in epochs for sample in epoch]
        size = 60 if rank == 0 else 22
        axis.scatter(range(len(order)), order, s=size, marker="os"[rank], color=plots.COLOURS[rank], label=f"rank {rank}")
    axis.axvline(len(order) / 2 - 0.5, color="#333333", linestyle="--", linewidth=1)
    axis.set_xlabel("step (dashed: next epoch)")
    axis.set_ylabel("sample")
axis.legend(loc="upper right", framealpha=0.9, frameon=True);

# %% id="visits-count"
for variant, ranks in seen.items():
    first = [set(epochs[0]) for epochs in ranks]
    again = [epochs[0] == epochs[1] for epochs in ranks]
    print(f"{variant:13} {len(first[0] | first[1])} samples seen in epoch 1, {len(first[0] & first[1])} of them by both ranks; "
          f"second epoch in the same order: {'yes' if all(again) else 'no'}")

# %% [markdown] id="mistakes-text"
# ### 2.2 What each mistake costs
#
# Pictures of indices are one thing, what happens to the model another. The same small network is trained on 1,437 digits by two ranks, correctly and with one mistake at a time, with plain SGD. Which of these do you expect to see in the loss curve?

# %% id="mistakes-data"
pixels, labels = datasets.digits()
order = np.random.default_rng(SEED).permutation(len(labels))
digits_x, digits_y = torch.tensor(pixels[order] / 16, dtype=torch.float32), torch.tensor(labels[order])
train_digits = TensorDataset(digits_x[:1437], digits_y[:1437], torch.arange(1437))
held_out_x, held_out_y = digits_x[1437:], digits_y[1437:]

# %% id="mistakes-worker"
def train_with(mistake: str, epochs: int, rate: float) -> dict:
    """Data-parallel training by hand, with one thing forgotten."""
    torch.manual_seed(SEED)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimiser = torch.optim.SGD(model.parameters(), lr=rate)
    sampler = None if mistake == "no sampler" else DistributedSampler(train_digits, seed=SEED)
    loader = DataLoader(train_digits, batch_size=32, shuffle=sampler is None, sampler=sampler)
    read, losses = [], []
    for epoch in range(epochs):
        if sampler and mistake != "no set_epoch":
            sampler.set_epoch(epoch)
        for x, y, index in loader:
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            for p in model.parameters() if mistake != "no all-reduce" else ():
                dist.all_reduce(p.grad)
                p.grad /= 1 if mistake == "sum, not mean" else dist.get_world_size()
            optimiser.step()
            optimiser.zero_grad()
            read += index.tolist()
            losses.append(loss.item())
    right = (model(held_out_x).argmax(1) == held_out_y).double().mean().item()
    return {"read": read, "losses": losses, "accuracy": right, "weights": nn.utils.parameters_to_vector(model.parameters()).detach()}

# %% id="mistakes-run"
mistakes = ("none", "no set_epoch", "no sampler", "sum, not mean", "no all-reduce")
runs = {mistake: ddp.launch(train_with, 2, mistake, 4, 0.5) for mistake in mistakes}

# %% id="mistakes-table" tags=["nbval-ignore-output"]
def row(ranks: list[dict]) -> dict:
    """What one would like to have known."""
    return {
        "samples computed": sum(len(rank["read"]) for rank in ranks),
        "steps": len(ranks[0]["losses"]),
        "distinct samples": len({sample for rank in ranks for sample in rank["read"]}),
        "loss, last 10 steps": round(float(np.mean([rank["losses"][-10:] for rank in ranks])), 2),
        "test accuracy": " / ".join(f"{rank['accuracy']:.2f}" for rank in ranks),
        "copies agree": "yes" if torch.equal(ranks[0]["weights"], ranks[1]["weights"]) else "no",
    }


pd.DataFrame({mistake: row(ranks) for mistake, ranks in runs.items()}).T

# %% [markdown] id="mistakes-read" tags=["solution"]
# **What to say out loud.** Two of these mistakes show in no loss curve. Without the sampler both ranks compute *the same* gradients: everything converges, the copies agree, and half of the machine is heating the room; the number of samples computed gives it away.
# Without the all-reduce each rank trains a model of its own on half of the data; every rank looks healthy, and only comparing the weights shows it. Summing instead of averaging multiplies the learning rate by the number of ranks: with SGD it may even look better, as long as the larger rate is still a stable one; Adam hides it, because it divides the scale out again.
# Forgetting `set_epoch` repeats the order: here it costs nothing that one run could show. One run per row is printed, so differences of a few hundredths in accuracy are chance; the *counts* and *copies agree* are not. I would assert both in the training script.

# %% [markdown] id="reduce-text"
# ### 2.3 All-reduce: how gradients are added up
#
# Every rank has a vector of $S$ bytes and wants the sum of all. If everybody sent everything to rank 0, that rank would receive $(n-1)S$ and the time would grow with $n$.
# The **ring** cuts the vector into $n$ chunks. In $n-1$ steps each rank passes a partial sum to its neighbour (*reduce-scatter*), until each holds one finished chunk; in $n-1$ more steps the finished chunks go round (*all-gather*).
# Each rank sends $2\frac{n-1}{n}S$ bytes: less than $2S$ **for any number of ranks**, and all links work at once (Patarasuk and Yuan 2009).

# %% id="ring-run" tags=["nbval-ignore-output"]
def reduce_both(megabytes: int, repeats: int) -> dict:
    """Median seconds of gloo's all-reduce and of the ring in helpers.ddp, which is written in Python."""
    values = torch.randn(megabytes * 250_000, generator=torch.Generator().manual_seed(dist.get_rank()))
    ours, theirs, seconds = values.clone(), values.clone(), {"gloo": [], "ring in Python": []}
    for _ in range(repeats):
        for name, reduce, vector in (("gloo", dist.all_reduce, theirs), ("ring in Python", ddp.ring_all_reduce, ours)):
            vector.copy_(values)
            dist.barrier()
            start = time.perf_counter()
            reduce(vector)
            seconds[name].append(time.perf_counter() - start)
    torch.testing.assert_close(ours, theirs)
    return {name: np.median(taken) for name, taken in seconds.items()}


sizes = (1, 10, 50)
taken = [ddp.launch(reduce_both, 2, size, 7 if QUICK else 30)[0] for size in sizes]
bandwidth = pd.DataFrame(taken, index=pd.Index(sizes, name="megabytes")).rdiv(np.array(sizes) / 1e3, axis=0)
bandwidth.rename(columns="{}, GB/s".format).round(2)

# %% [markdown] id="ring-read" tags=["solution"]
# **What to say out loud.** The ring written in Python is the same algorithm as gloo's in C++, so how far behind it falls is the price of the loop around the messages: large for small tensors, small for large ones on an idle machine.
# The ring is optimal in bytes but needs $2(n-1)$ messages one after another, so for small tensors and many ranks its *latency* loses to trees, which need about $2\log_2 n$; NCCL chooses between them by size. That is also why gradients are reduced in buckets of some 25 MB and not one tensor at a time.

# %% [markdown] id="agree-text"
# ### 2.4 The gradients agree
#
# The promise of data parallelism is exact: two ranks with 8 blocks each give the gradient of one process with all 16. It holds because the loss is a **mean** and the shares are **equal**: the mean of two means of 8 is the mean of 16.

# %% [markdown] id="predict-agree-text"
# **Predict before you run.** How large is the relative difference between the two gradients in float32? Write a power of ten such as `1e-3` for `guess`; in float64?

# %% id="agree-run"
def gradient(kind: torch.dtype) -> Tensor:
    """The gradient of the mean loss over 16 blocks, computed by however many ranks there are."""
    torch.manual_seed(SEED)
    model = models.GPT(config).to(kind)
    rank, world = dist.get_rank(), dist.get_world_size()
    x, y = (part.chunk(world)[rank] for part in code[:16])
    parallel = DistributedDataParallel(model)  # averages as long as it lives: keep it until after backward
    efficiency.cross_entropy(parallel(x), y).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


difference = {}
for kind in (torch.float32, torch.float64):
    (alone,), (first, second) = ddp.launch(gradient, 1, kind), ddp.launch(gradient, 2, kind)
    assert torch.equal(first, second), "the ranks hold different gradients"
    difference[kind] = float((alone - first).norm() / alone.norm())
    print(f"{str(kind):14} the ranks hold the same bits; relative difference to one process below {10 ** math.ceil(math.log10(difference[kind])):.0e}")

# %% id="predict-agree" tags=["nbval-ignore-output"]
guess = None
predict("relative difference in float32", guess=guess, measured=float(f"{difference[torch.float32]:.0e}"))

# %% [markdown] id="agree-read" tags=["solution"]
# **What to say out loud.** Not the same bits as one process, because floating-point addition is not associative and the sums are formed in another order; but the same to rounding. Between the *ranks* the bits are the same, because each receives the finished sum: so the copies never drift apart.
# *When does it not hold?* With BatchNorm each rank normalises by its own share (use `SyncBatchNorm` on GPUs); with shares of different size the mean of means is not the mean; with a loss that looks at the whole batch (contrastive) the negatives of other ranks are missing; and dropout draws other masks.

# %% [markdown] id="uneven-text"
# ### 2.5 Metrics over uneven shares
#
# Training pads so that every rank has the same number of batches. Evaluation must not pad: a sample counted twice makes the metric wrong. 1,797 samples on 2 ranks are 899 and 898, and a rank may even have none.

# %% id="uneven-run"
def two_means(values: Tensor) -> tuple[float, float]:
    """The mean of the ranks' means, and the mean over all values, of an uneven share-out."""
    mine = values[:90] if dist.get_rank() == 0 else values[90:]
    of_means = torch.tensor([mine.mean()], dtype=torch.float64)
    sums = torch.tensor([mine.sum(), len(mine)], dtype=torch.float64)
    dist.all_reduce(of_means)
    dist.all_reduce(sums)
    return of_means.item() / dist.get_world_size(), (sums[0] / sums[1]).item()


errors = torch.linspace(0, 1, 100) ** 2
for rank, (of_means, overall) in enumerate(ddp.launch(two_means, 2, errors)):
    print(f"rank {rank}: mean of the means {of_means:.3f}, mean of all {overall:.3f}; in one process {errors.mean():.3f}")

# %% [markdown] id="accumulate-text"
# ## 3 · Gradient accumulation: a larger batch than fits
#
# Gradients add up: four backward passes over 4 blocks each leave the same gradient as one over 16, **if each loss is divided by four**. Only the activations of 4 blocks are alive at any time.

# %% id="accumulate-run"
def accumulated(model: nn.Module, x: Tensor, y: Tensor, parts: int, scaled: bool = True) -> Tensor:
    """The gradient after `parts` backward passes."""
    model.zero_grad(set_to_none=True)
    for some_x, some_y in zip(x.chunk(parts), y.chunk(parts)):
        loss = efficiency.cross_entropy(model(some_x), some_y)
        (loss / parts if scaled else loss).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


torch.manual_seed(SEED)
images, classes = (torch.from_numpy(array[:32]) for array in datasets.digit_images())
candidates = {"GPT": (models.GPT(config), *code[:16]), "ResNet-18, which has BatchNorm": (models.resnet18(), images, classes)}
for name, (model, x, y) in candidates.items():
    whole = accumulated(model, x, y, 1)
    same, forgotten = relative(accumulated(model, x, y, 4), whole), relative(accumulated(model, x, y, 4, scaled=False), whole)
    print(f"{name:31} four parts against one: {'the same to rounding' if same < 1e-5 else f'{same:.0%} off'}; not divided: {forgotten:.0%} off")

# %% [markdown] id="no-sync-text"
# DDP averages gradients in *every* backward pass. Of four passes that make one step only the last needs it: the others go inside `no_sync()`. Counted here by a communication hook, on two ranks:

# %% id="no-sync-run"
def communicated(skip: bool) -> tuple[int, float]:
    """All-reduces and megabytes that this rank started for one optimiser step of four micro-batches."""
    torch.manual_seed(SEED)
    model, sent = DistributedDataParallel(models.GPT(config), bucket_cap_mb=1), []

    def counting(state, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        sent.append(bucket.buffer().nbytes)
        mean = bucket.buffer() / dist.get_world_size()
        return dist.all_reduce(mean, async_op=True).get_future().then(lambda done: done.value()[0])

    model.register_comm_hook(None, counting)
    x, y = (part.chunk(2)[dist.get_rank()] for part in code[:16])
    for number, (some_x, some_y) in enumerate(zip(x.chunk(4), y.chunk(4))):
        model.require_backward_grad_sync = not skip or number == 3  # what no_sync() sets
        (efficiency.cross_entropy(model(some_x), some_y) / 4).backward()
    return len(sent), sum(sent) / 1e6


for skip in (False, True):
    count, megabytes = ddp.launch(communicated, 2, skip)[0]
    print(f"{'with' if skip else 'without'} no_sync: {count} all-reduces, {megabytes:.1f} MB for one step")

# %% [markdown] id="precision-text"
# ## 4 · Mixed precision
#
# Half as many bits are half the memory traffic, and matrix units compute them at least twice as fast. What is given up differs: **fp16** has enough precision and too little range, **bf16** the range of float32 and little precision.

# %% id="formats"
def described(kind: torch.dtype) -> dict:
    limits = torch.finfo(kind)
    return {"bits": limits.bits, "largest": f"{limits.max:.1e}", "smallest normal": f"{limits.tiny:.1e}", "smallest step at 1": f"{limits.eps:.1e}"}


pd.DataFrame({str(kind): described(kind) for kind in (torch.float32, torch.bfloat16, torch.float16)}).T

# %% [markdown] id="predict-underflow-text"
# **Predict before you run.** Of the gradients of this GPT (mean loss over 16 blocks) that are not zero, which share becomes zero when it is stored in fp16? Write a per cent number for `guess`.

# %% id="underflow-run"
grads = accumulated(candidates["GPT"][0], *code[:16], 1)
alive = grads != 0


def lost(kind: torch.dtype, scale: float) -> float:
    """Share of the non-zero gradients that are zero after scaling and storing, in per cent."""
    return 100 * float(((grads * scale).to(kind)[alive] == 0).double().mean())


shares = {f"{name}, loss × {scale:,}": lost(kind, scale) for name, kind in (("fp16", torch.float16), ("bf16", torch.bfloat16)) for scale in (1, 2**16)}

# %% id="predict-underflow" tags=["nbval-ignore-output"]
guess = None
predict("gradients lost in fp16", guess=guess, measured=round(shares["fp16, loss × 1"], 1), unit="%")

# %% id="underflow-picture" tags=["nbval-ignore-output"]
size = grads[alive].abs().log10().numpy()
axis = plots.panels(["A loss scale moves the gradients away from fp16's lower end"], width=6.4)[0]
axis.hist(size, bins=60, color=plots.COLOURS[0])
axis.axvline(math.log10(2**-25), color=plots.COLOURS[5], linestyle="--", label="becomes 0 in fp16")
axis.axvline(math.log10(2**-25 / 2**16), color="#333333", linestyle=":", label="… with the loss × 65,536")
axis.set_xlabel("log₁₀ of the gradient's size")
axis.set_ylabel("number of weights")
axis.legend(loc="upper left")
print(", ".join(f"{name}: {share:.1f} % lost" for name, share in shares.items()))

# %% [markdown] id="precision-run-text"
# So fp16 needs a **loss scale**: multiply the loss, divide the gradients before they are used. The scale is found by trial: when a gradient overflows, the step is skipped and the scale halved. bf16 needs none, which is why it has replaced fp16 where the hardware has it.
# The weights stay in float32: `autocast` casts inputs of matrix products on the fly and keeps sums, norms and losses in float32.

# %% id="precision-run"
def precision_run(precision: str) -> dict:
    """Train the small GPT for a few steps in one process; losses and median seconds of a step."""
    torch.manual_seed(SEED)
    steps = 12 if QUICK else 150
    model, settings = models.GPT(config), ddp.TrainConfig(batch_size=16, precision=precision, max_steps=steps, seed=SEED)
    start = time.perf_counter()
    history = ddp.train(model, code, settings)
    seconds = (time.perf_counter() - start) / steps
    with efficiency.autocast(precision):
        held = efficiency.saved_bytes(lambda: efficiency.cross_entropy(model(x), y))
    return {"losses": history.losses, "seconds": seconds, "activations": held / 1e6}


x, y = code[:16]
by_precision = {precision: ddp.launch(precision_run, 1, precision)[0] for precision in ("fp32", "bf16", "fp16")}

# %% id="precision-table" tags=["nbval-ignore-output"]
base = by_precision["fp32"]
pd.DataFrame({
    name: {
        "loss, last 3 steps": round(float(np.mean(run["losses"][-3:])), 3),
        "time of a step, fp32 = 1": round(run["seconds"] / base["seconds"], 2),
        "activations, MB": round(run["activations"], 1),
    }
    for name, run in by_precision.items()
}).T

# %% [markdown] id="precision-read" tags=["solution"]
# **What to say out loud.** The loss is the same within the noise of so few steps; what changes is time and memory. On this CPU half precision gains little or nothing (it depends on whether the processor has matrix instructions for the format); on a GPU with tensor cores it is the first thing to switch on. The activations shrink by less than half, because sums, norms and the residual path stay in float32.
# In this small model with a mean over 2,048 tokens hardly any weight gradient underflows: the loss scale is insurance. The *activation* gradients are the ones at risk, since they are divided by the number of tokens, and a large batch divides by more.

# %% [markdown] id="recompute-text"
# ## 5 · Less memory or less time: checkpointing and compiling
#
# **Activation checkpointing** keeps only the input of each block and computes the block again during backward: one more forward pass, a third more time at most (Chen et al. 2016), for activations that no longer grow with all that happens inside a block.

# %% [markdown] id="predict-recompute-text"
# **Predict before you run.** By which factor do the activations of this 4-layer GPT shrink? Write a number for `guess`.

# %% id="recompute-run" tags=["nbval-ignore-output"]
def recompute_run(checkpointed: bool) -> dict:
    """Saved activations, loss and gradient, and the seconds of a step, with or without checkpointing."""
    torch.manual_seed(SEED)
    model = models.GPT(config)
    if checkpointed:
        efficiency.checkpoint_activations(model)
    x, y = code[:16]
    held = efficiency.saved_bytes(lambda: efficiency.cross_entropy(model(x), y))
    grads = accumulated(model, x, y, 1)
    taken = efficiency.throughput(lambda: accumulated(model, x, y, 1), warm_up=1, repeats=3 if QUICK else 20)
    return {"activations": held / 1e6, "gradient": grads, "seconds": taken.seconds}


plain, recomputed = (ddp.launch(recompute_run, 1, checkpointed)[0] for checkpointed in (False, True))
assert relative(recomputed["gradient"], plain["gradient"]) < 1e-6
print(f"activations {plain['activations']:.1f} MB → {recomputed['activations']:.1f} MB; the gradient is the same")

# %% id="predict-recompute" tags=["nbval-ignore-output"]
guess = None
predict("activations, without / with checkpointing", guess=guess, measured=round(plain["activations"] / recomputed["activations"], 1))

# %% id="recompute-time" tags=["nbval-ignore-output"]
print(f"time of a step: {recomputed['seconds'] / plain['seconds']:.2f} times that without checkpointing")

# %% [markdown] id="recompute-read" tags=["solution"]
# **What to say out loud.** What is kept is the input of each block, so the factor grows with what happens inside a block; the extra forward pass costs about a third of a step, measured here too. It pays when the memory it frees buys something: a larger batch per GPU, or a model that otherwise does not fit. *Selective* recomputation repeats only what is cheap to compute and large to keep (Korthikanti et al. 2022); fused attention already is that for the attention matrix.
# *Does the random state matter?* Yes: dropout must draw the same mask in the second forward pass; PyTorch's `checkpoint` restores it.

# %% [markdown] id="compile-text"
# **Compilation** (`torch.compile`) traces the model once and writes fused kernels for it: element-wise operations no longer go through memory one by one. It costs seconds to minutes at the start and again for each new shape,
# so it pays for long runs of steps of one shape. It needs a C++ compiler on this machine and some patience, so it runs in the full setting only.

# %% id="compile-run" tags=["nbval-ignore-output"]
if QUICK:
    print("QUICK: not run")
else:
    torch.manual_seed(SEED)
    model = models.GPT(config)
    compiled, (x, y) = torch.compile(model), code[:16]
    start = time.perf_counter()
    accumulated(compiled, x, y, 1)
    first = time.perf_counter() - start
    eager, fused = (efficiency.throughput(lambda: accumulated(m, x, y, 1), warm_up=2, repeats=20).seconds for m in (model, compiled))
    print(f"first step {first:.0f} s; then {fused / eager:.2f} of the eager step: repaid after {first / (eager - fused):,.0f} steps" if fused < eager
          else f"first step {first:.0f} s; then {fused / eager:.2f} of the eager step: it does not pay here")

# %% [markdown] id="zero-text"
# ## 6 · Sharding: why every rank should not hold everything
#
# Data parallelism keeps $n$ copies of weights, gradients and optimiser state. **ZeRO** (Rajbhandari et al. 2020) cuts them up: stage 1 the optimiser's state, stage 2 the gradients too, stage 3 the weights too; each rank fetches what it needs just before it needs it.
# `fully_shard` (FSDP2) is stage 3 in PyTorch. First the arithmetic, for the 7.5B parameters on 64 GPUs of the paper:

# %% id="zero-estimate"
for stage in range(4):
    memory = estimates.training_memory(7_500_000_000, world_size=64, zero_stage=stage)
    print(f"ZeRO {stage}: {memory.total / 1e9:6.1f} GB a GPU  (weights {memory.weights / 1e9:.1f}, gradients {memory.gradients / 1e9:.1f}, optimiser {memory.optimiser / 1e9:.1f})")

# %% [markdown] id="shard-text"
# Now really, with two ranks and the small GPT: five steps with everything copied, with the optimiser sharded (`ddp.Zero1`) and with everything sharded (`fully_shard`). Do they end at the same weights, and what does each rank hold?

# %% id="shard-run"
def sharded_run(how: str) -> dict:
    """Five AdamW steps; bytes that this rank keeps between steps, and a digest of the weights."""
    torch.manual_seed(SEED)
    model = models.GPT(config)
    wrapped = ddp.shard(model) if how == "fully sharded" else DistributedDataParallel(model)
    rate = {"lr": 1e-3, "weight_decay": 0.1}
    sharded = how == "optimiser sharded"
    optimiser = ddp.Zero1(model.parameters(), torch.optim.AdamW, **rate) if sharded else torch.optim.AdamW(model.parameters(), **rate)
    x, y = (part.chunk(2)[dist.get_rank()] for part in code[:16])
    for _ in range(5):
        efficiency.cross_entropy(wrapped(x), y).backward()
        optimiser.step()
        optimiser.zero_grad()
    kept = efficiency.state_bytes(model, optimiser.optimiser if sharded else optimiser)
    whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
    return {"weights kept": kept.weights, "optimiser kept": kept.optimiser, "vector": nn.utils.parameters_to_vector(whole).detach()}


kinds = ("all copied", "optimiser sharded", "fully sharded")
sharded = {how: ddp.launch(sharded_run, 2, how)[0] for how in kinds}

# %% id="shard-table"
target = sharded["all copied"]["vector"]
pd.DataFrame({
    how: {
        "weights kept, MB a rank": round(run["weights kept"] / 1e6, 2),
        "optimiser kept, MB a rank": round(run["optimiser kept"] / 1e6, 2),
        "same weights after 5 steps": "to rounding" if relative(run["vector"], target) < 1e-5 else f"no: {relative(run['vector'], target):.0e}",
    }
    for how, run in sharded.items()
}).T

# %% [markdown] id="shard-read" tags=["solution"]
# **What to say out loud.** Stages 1 and 2 send no more than plain data parallelism: a reduce-scatter and an all-gather *are* an all-reduce, so sharding the optimiser is nearly free, and is the first thing to switch on.
# Stage 3 sends half as much again, because the weights are gathered twice, for forward and for backward; in return nothing is held whole, and a model need not fit on one GPU. It helps when the gathering of the next block overlaps with the computing of this one, so it wants large blocks and a fast network.
# *Data parallelism suits models too big for one GPU?* Plain data parallelism does not: every rank holds the whole model. Sharded data parallelism does, as long as one block and its activations fit.

# %% [markdown] id="network-text"
# ## 7 · The network: how much, how fast, and how to hide it
#
# Every step, every rank sends about twice the gradients' bytes, whatever the batch. Whether that hurts depends on the ratio of computing to sending. An estimate for a 7B model with fp16 gradients on 64 ranks:

# %% id="network-estimate"
payload = 7e9 * 2
links = {"1 Gbit/s Ethernet": 0.125e9, "25 Gbit/s Ethernet": 3.1e9, "400 Gbit/s InfiniBand": 50e9, "NVLink of an H100, 450 GB/s one way": 450e9}
for name, bandwidth_of in links.items():
    seconds = estimates.all_reduce_seconds(payload, 64, bandwidth_of)
    print(f"{name:36} {seconds:8.2f} s for {estimates.all_reduce_bytes(payload, 64) / 1e9:.1f} GB a rank")

# %% [markdown] id="overlap-text"
# DDP does not wait for backward to end: gradients are put into **buckets** (25 MB each by default), and a bucket is sent as soon as its last gradient is there, while backward goes on. `ddp.BucketedAverager` is that mechanism in one screen.
# On one machine the "network" is memory, and little of this can be seen; it shows on a slow link between two hosts.

# %% [markdown] id="compression-text"
# Compression is not free: fp16 halves the bytes and rounds; PowerSGD (Vogels et al. 2019) sends two thin matrices in place of one large, and keeps what it left out for the next step (*error feedback*); *top-k* sends the largest numbers only, with the same feedback (Lin et al. 2018). What does it do to the loss? Two ranks, the same steps, three ways of sending: everything, fp16, the largest 1 %:

# %% id="compression-run"
def compressed_run(name: str, options: dict) -> dict:
    """Losses of the small GPT on two ranks, and how many times fewer bytes were sent."""
    torch.manual_seed(SEED)
    model = DistributedDataParallel(models.GPT(config))
    traffic = ddp.compression.register(model, name, **options)
    optimiser, losses = torch.optim.AdamW(model.parameters(), lr=2e-3), []
    for number in range(30 if QUICK else 300):
        first = 16 * number % len(code)
        x, y = (part.chunk(2)[dist.get_rank()] for part in code[first : first + 16])
        loss = efficiency.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        dist.all_reduce(loss.detach_())
        losses.append(loss.item() / 2)
    return {"losses": losses, "saving": traffic.saving}


methods = {"none": {}, "fp16": {}, "top_k": {"share": 0.01}}
compressed = {name: ddp.launch(compressed_run, 2, name, options)[0] for name, options in methods.items()}

# %% id="compression-picture" tags=["nbval-ignore-output"]
plots.lines(
    {f"{name}, {run['saving']:.0f} × fewer bytes" if name != "none" else name: (range(len(run["losses"])), run["losses"]) for name, run in compressed.items()},
    title="What compression of the gradients does to the loss",
    xlabel="step",
    ylabel="loss, nats per byte",
);

# %% [markdown] id="compression-read" tags=["solution"]
# **What to say out loud.** fp16 halves the bytes, and its curve stays close to the plain one. Sending only the largest 1 % of the numbers saves far more bytes, and its curve is a little higher at first: what was held back is added to the next gradient (error feedback), so it arrives late, not never.
# Compression trades computing and accuracy for bandwidth: I measure the share of a step that waits for the network first (the profile of section 1, taken in a worker, shows it), try larger or smaller buckets, which cost nothing, then fp16 or bf16, and only then the lossy methods, with the loss curve beside the speed.

# %% [markdown] id="faults-text"
# ## 8 · Faults: save, resume, restart
#
# Meta counted 419 unexpected interruptions in 54 days of pre-training Llama 3 405B on 16,384 GPUs, one every three hours (Dubey et al., July 2024). At that size a run without checkpoints does not end. First: what does it look like here when one rank fails?

# %% id="raise-run"
def divide_on_rank_1(by: int) -> float:
    return 1 / (by if dist.get_rank() == 1 else 1)


try:
    ddp.launch(divide_on_rank_1, 2, 0)
except ddp.WorkerError as error:
    print(f"rank {error.rank} {error.kind}: {error.traceback.strip().splitlines()[-1]}")

# %% id="hang-run"
def wait_for_nobody() -> None:
    """Rank 0 calls a collective that rank 1 never joins: the classic deadlock."""
    if dist.get_rank() == 0:
        dist.all_reduce(torch.ones(1))
    else:
        time.sleep(60)


try:
    ddp.launch(wait_for_nobody, 2, timeout=3)
except ddp.WorkerError as error:
    print(f"{error.kind}: the stacks show rank 0 in all_reduce: {'all_reduce' in str(error)}, rank 1 asleep: {'time.sleep(60)' in str(error) or 'wait_for_nobody' in str(error)}")

# %% [markdown] id="restart-text"
# Now the real thing. The same training is started twice with PyTorch's own launcher, `torchrun`, each with two ranks and a checkpoint every four steps. In one of them rank 1 is killed with SIGKILL in the middle of the run; `--max-restarts=1` starts both ranks again, and they go on from the last checkpoint.
# The digest is the SHA-256 of the final weights: does a run that died end where an undisturbed one does?

# %% id="restart-run"
def torchrun(*options: str) -> dict:
    """Train with two ranks under PyTorch's own launcher; what rank 0 reported at the end."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1", "-m", "helpers.ddp"]
        training = ["--max-steps=12", f"--checkpoint={folder}/run.pt", "--checkpoint-every=4", "--resume", f"--out={folder}/result.json"]
        command = [sys.executable, "-m", *launcher, *training, *options]
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return json.loads(Path(folder, "result.json").read_text())


undisturbed = torchrun()
killed = torchrun("--die-at-step=7", "--die-rank=1")
for name, run in {"undisturbed": undisturbed, "killed in step 7": killed}.items():
    print(f"{name:17} {run['restarts']} restarts, {run['steps']} steps, last loss {run['losses'][-1]:.3f}")
print("the same final weights, bit for bit:", undisturbed["checksum"] == killed["checksum"])

# %% [markdown] id="restart-read" tags=["solution"]
# **What to say out loud.** The restarted run ends at the same bits, because the checkpoint holds everything the next step depends on: weights, the optimiser's moments, the position in the data, the seed of its order, and *every rank's* random state (the model has dropout). Leave one out and the run goes on, slightly different, and nobody notices.
# The work lost is what was done since the last checkpoint. How often to save? The classic estimate is $\sqrt{2 C M}$ for a checkpoint that costs $C$ and a mean time $M$ between faults (Young 1974): with 30 s and 3 hours, every 13 minutes.

# %% [markdown] id="scaling-text"
# ## 9 · Scaling and money
#
# ### 9.1 One process against two
#
# Two ranks do twice the work per step. If communication cost nothing, throughput would double; how close does it come? Each rank has one thread, the batch *per rank* stays the same (weak scaling).

# %% [markdown] id="predict-scaling-text"
# **Predict before you run.** How many times faster are two processes than one, for the GPT with 1 block per rank? And with 16?

# %% id="scaling-run"
def blocks_per_second(batch: int, repeats: int) -> dict:
    """Blocks that this rank trains on in a second, with averaged gradients and without."""
    torch.manual_seed(SEED)
    model = DistributedDataParallel(models.GPT(config), gradient_as_bucket_view=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, y = code[:batch]
    seconds = {"with": [], "without": []}
    for number in range(2 * repeats + 4):
        how = ("with", "without")[number % 2]
        model.require_backward_grad_sync = how == "with"
        start = time.perf_counter()
        train_step(model, optimiser, x, y)
        if number >= 4:
            seconds[how].append(time.perf_counter() - start)
    return {how: batch / float(np.median(taken)) for how, taken in seconds.items()}


batches = (1, 2, 4, 8, 16, 32) if not QUICK else (1, 4, 16)
repeats = 8 if QUICK else 40
measured = {batch: [ddp.launch(blocks_per_second, world, batch, repeats, threads=1) for world in (1, 2)] for batch in batches}

# %% id="predict-scaling" tags=["nbval-ignore-output"]
guess = None
speed_up = {batch: sum(rank["with"] for rank in two) / one["with"] for batch, ((one,), two) in measured.items()}
ideal = {batch: sum(rank["without"] for rank in two) / one["without"] for batch, ((one,), two) in measured.items()}
predict(f"two processes against one, {batches[-1]} blocks per rank", guess=guess, measured=round(speed_up[batches[-1]], 2))

# %% id="scaling-picture" tags=["nbval-ignore-output"]
axis = plots.lines(
    {"averaging gradients": (batches, list(speed_up.values())), "each for itself": (batches, list(ideal.values()))},
    title="Small batches wait for the network (measured here)",
    xlabel="blocks of 128 bytes per rank and step",
    ylabel="throughput, one process = 1",
    log="x",
)
axis.axhline(2, color="#333333", linestyle="--", linewidth=1)
axis.set_xticks(batches, batches)
axis.minorticks_off()
axis.annotate("ideal", (batches[0], 2), (0, 4), textcoords="offset points", fontsize=9);

# %% [markdown] id="scaling-read" tags=["solution"]
# **What to say out loud.** The bytes per step do not depend on the batch, the computing does: so the larger the batch per rank, the closer to two. The line without communication is the honest ceiling, not two: two processes share memory bandwidth, caches and the clock of one chip.
# On a cluster it is the same picture with another axis: keep the work per GPU large, overlap, and watch the ratio of compute to communication. The limit is statistical: beyond a critical batch size more ranks only average away noise that no longer matters (McCandlish et al. 2018), and the learning rate has to be tuned again (Goyal et al. 2017).

# %% [markdown] id="estimate-text"
# ### 9.2 The bill, before the run
#
# A dense transformer needs about $6ND$ floating-point operations for $N$ parameters and $D$ tokens (Kaplan et al. 2020): 2 forward, 4 backward per parameter and token. Divide by what the hardware really delivers, peak × **model FLOPs utilisation** (MFU), and you have GPU-hours.
# How good is that? Hold it against runs whose GPU-hours were published:

# %% id="published"
def against(run: estimates.Run) -> dict:
    """6ND at 40 % of the dense bf16 peak, beside the published hours."""
    flops, peak = estimates.training_flops(run.parameters, run.tokens), estimates.GPUS[run.gpu].peak_flops
    hours = estimates.gpu_hours(flops, peak, 0.40)
    return {
        "GPU": run.gpu,
        "FLOP": estimates.human(flops, "FLOP"),
        "estimated hours, 40 % of peak": f"{hours:,.0f}",
        "published hours": f"{run.gpu_hours:,.0f}",
        "estimate / published": round(hours / run.gpu_hours, 2),
        "implied utilisation": f"{run.utilisation:.0%}",
        "source": run.source,
    }


pd.DataFrame({run.name: against(run) for run in estimates.RUNS}).T

# %% [markdown] id="published-read" tags=["solution"]
# **What to say out loud.** For five of the six runs one multiplication and two divisions give the GPU-hours within a fifth: LLaMA 7B and 65B, MPT-7B, Llama 2 7B and 70B imply 35 to 48 % of the peak.
# Llama 3 8B took 2.6 times the estimate: 15T tokens are far more than its size would call for (it is trained for cheap inference), but that is in $6ND$ already; the implied 16 % is not explained by what was published, so I say "not reproduced", and not why. The formula leaves out attention, which counts for more the longer the context is; the published number is rounded.
# Two traps: data sheets print the peak *with sparsity* (H100: 1,979 TFLOP/s; dense 989), and newer GPUs are harder to keep busy. MFU counts the useful $6ND$ only: work done twice, as with checkpointing, does not raise it (PaLM, 2022).

# %% [markdown] id="bill-text"
# ### 9.3 A bill set beside a bill
#
# Stability AI's compute for 2023 was reported at 99M dollars (The Register, 3 April 2024, on documents seen by Forbes). What would that have bought, if it had all been training?

# %% id="bill-run"
reported, price = 99e6, estimates.PRICES[0]
print(f"{price.gpu}: ${price.dollars:.2f} an hour ({price.source})")
bills = {"Llama 2 7B, 184,320 hours": 184_320 * price.dollars, "Stable Diffusion 1, 150,000 hours": 150_000 * price.dollars}
for name, bill in bills.items():
    print(f"{name}: ${bill:,.0f}; the reported bill is {reported / bill:.0f} of these")
fleet = reported / price.dollars / (365 * 24)
print(f"$99M at that price are {reported / price.dollars / 1e6:.1f} million hours: {fleet:,.0f} GPUs, day and night, for a year")
print(f"and {reported / 11e6:.0f} times the reported revenue")

# %% [markdown] id="bill-read" tags=["solution"]
# **What to say out loud.** A published model is a small part of a compute bill. At the list price the whole reported year would have paid for more than a hundred runs of a 7B language model: the rest is experiments, failed runs, a fleet that is rented whether it is used or not, and, as the report says, compute given to outsiders.
# So the first questions to such a company are not about kernels: what share of the rented hours ran a job, what share of those jobs ended in something that was used, and what utilisation did they reach? Each is a factor; two of them at one half are a factor of four.
# *What is weak in this estimate?* The list price: large customers pay less, long contracts fix a fleet, and prices fall (an H100 at AWS on demand: 12.29 dollars in July 2023, about 3.90 dollars in March 2026, both as reported). The number is reported by the press from internal documents, not audited.

# %% [markdown] id="nodes-text"
# ## 10 · From one laptop to many nodes
#
# The worker does not change; only who starts it does. `python -m helpers.ddp` is the trainer of this notebook as a program. `torchrun` starts it once per GPU and sets `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR` and `MASTER_PORT`; `launch` sets the same variables, which is why the same code runs under both.
#
# | where | command |
# |---|---|
# | one node, all its GPUs | `torchrun --standalone --nproc-per-node=gpu -m helpers.ddp --model gpt` |
# | two nodes, run on each with its own `--node-rank` | `torchrun --nnodes=2 --node-rank=0 --nproc-per-node=8 --master-addr=node0 --master-port=29500 -m helpers.ddp --model gpt` |
# | two to four nodes that may come and go | `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --nnodes=2:4 --max-restarts=3 --rdzv-backend=c10d --rdzv-endpoint=node0:29400 --rdzv-id=job1 --nproc-per-node=8 -m helpers.ddp --model gpt --checkpoint run.pt --checkpoint-every 100 --resume` |
#
# A batch file for Slurm stands in the module's documentation: `python -m pydoc helpers.ddp.__main__`.

# %% [markdown] id="rehearse"
# ## Rehearse
#
# Say each answer aloud, two minutes on the clock, before you look at the section again.
#
# 1. How do you make the training of a large model efficient? Which methods are usual?
#    *如何优化大模型的训练效率？有哪些常见的加速训练的方法？* (all sections)
# 2. What happens between `backward()` and `step()` in DDP? Which bits are equal on all ranks, and why? (2.3, 2.4)
# 3. You forgot `set_epoch`. Or the sampler. Who notices, and how? (2.1, 2.2)
# 4. How many bytes does each rank send in a ring all-reduce, and why does the number not grow with the ranks? When is a ring the wrong choice? (2.3)
# 5. Batch 32 on one GPU against 4 × 8 accumulated: when is the gradient not the same? (3)
# 6. Order these: clip, step, unscale, backward, update, zero. What breaks for each wrong order? (4)
# 7. bf16 or fp16, and why does only one of them need a loss scale? (4)
# 8. A 7B model with AdamW does not fit on an 80 GB GPU. Walk through what you try, in which order, and what each step costs. (5, 6)
# 9. Two ranks are 1.3 times as fast as one. What do you measure, and what do you change? (1, 7, 9)
# 10. A rank hangs after three hours. How do you find out which, and what do you do so that the next time costs minutes? (8)
# 11. Estimate the GPU-hours and the bill of 7B parameters on 2T tokens, aloud, without a calculator. What would make you wrong by a factor of two? (9)
# 12. Your start-up spends nine times its revenue on compute. Which three numbers do you want to see first? (9)

# %% [markdown] id="further"
# ## Go further
#
# - Shen Li et al., *PyTorch Distributed: experiences on accelerating data parallel training*, VLDB 2020: what DDP does and why.
# - Pitch Patarasuk, Xin Yuan, *Bandwidth optimal all-reduce algorithms for clusters of workstations*, JPDC 2009.
# - Priya Goyal et al., *Accurate, large minibatch SGD*, 2017: the learning rate that goes with a larger batch.
# - Paulius Micikevicius et al., *Mixed precision training*, ICLR 2018.
# - Tianqi Chen et al., *Training deep nets with sublinear memory cost*, 2016; Vijay Korthikanti et al., *Reducing activation recomputation in large transformer models*, 2022.
# - Samyam Rajbhandari et al., *ZeRO*, SC 2020; Yanli Zhao et al., *PyTorch FSDP*, VLDB 2023.
# - Thijs Vogels et al., *PowerSGD*, NeurIPS 2019; Yujun Lin et al., *Deep gradient compression*, ICLR 2018.
# - Jared Kaplan et al., *Scaling laws for neural language models*, 2020; Jordan Hoffmann et al., *Training compute-optimal large language models*, 2022.
# - Aakanksha Chowdhery et al., *PaLM*, 2022: where model FLOPs utilisation is defined.
# - Abhimanyu Dubey et al., *The Llama 3 herd of models*, 2024, section 3.3: a training run as a reliability problem.
