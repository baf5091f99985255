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
# Read and run from top to bottom: about four hours with the ten exercises, an hour and a half without. Every process, gradient, byte and second here is real: worker processes are started from this notebook, on this machine,
# and the same code goes to many machines at the end. Nothing is downloaded. A check tells what is wrong, on which input and on which rank, and what mistake that usually is; `hint("2.1")` opens the next hint.
# The solved notebook, with what one says about each result, is in `solutions/`.

# %% [markdown] id="why"
# ## Why this decides a company
#
# Compute is the largest bill of a company that trains large models, and it is due before the first customer pays. Stability AI is the running case of this course.
#
# | what happened | status | source, date |
# |---|---|---|
# | Stability AI was on track in 2023 for about 99M dollars of compute and 54M of wages and operations, against about 11M of projected revenue; 4M dollars were left in October. | press, on internal documents seen by Forbes | The Register, 3 April 2024 |
# | It is said to have paid Amazon 1M dollars too little for July 2023, and not to have meant to pay the 7M for August; whether it paid later is not known. Compute had been given to outsiders for free. | press, on the same documents | The Register, 3 April 2024 |
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
from helpers.exercises import check, hint, predict, progress, solution

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

# %% id="guess-backward"
guess = None

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

# %% [markdown] id="exercise-2-1-text"
# ### Exercise 2.1 · The sampler's shards
#
# difficulty 2/5 · 12 min · asked as: "How does each rank know which samples are its own, and what goes wrong if you forget set_epoch?"
#
# Write the heart of `DistributedSampler`: the indices that one rank visits in one epoch, found without a word between the ranks.
# Draw **one permutation** of all samples from `(seed, epoch)`, the same on every rank. **Pad** it by starting again from its beginning until its length is a multiple of `world_size`
# (several times over, when there are fewer samples than ranks). Rank $r$ takes the positions $r, r + n, r + 2n, \dots$
# Any generator will do, as long as the random states of torch, NumPy and `random` are left as they were.

# %% id="exercise-2-1" tags=["exercise"]
def shard_indices(length: int, world_size: int, rank: int, epoch: int, seed: int) -> list[int]:
    """The indices (0 to length - 1) that this rank visits in this epoch, in order: ceil(length / world_size) ints.

    length >= 1: samples in the data set. A rank outside 0 … world_size - 1: ValueError.
    """
    ### BEGIN SOLUTION
    if not 0 <= rank < world_size:
        raise ValueError(f"rank is {rank}; it must be one of 0 to {world_size - 1}")
    generator = torch.Generator().manual_seed(seed + epoch)
    order = torch.randperm(length, generator=generator).tolist()
    total = math.ceil(length / world_size) * world_size
    padded = (order * math.ceil(total / length))[:total]
    return padded[rank::world_size]
    ### END SOLUTION

# %% id="check-2-1"
check("2.1", shard_indices)

# %% [markdown] id="aloud-2-1" tags=["solution"]
# **What to say out loud.** The ranks agree without communicating, because each draws the same permutation from the same seed and then takes every $n$-th entry. The rank chooses from the draw; it must not enter the draw, or some samples are seen twice and others never.
# The padding is there because the ranks must make the same number of steps: a rank with one batch more waits for ever in its all-reduce. The price is that up to $n - 1$ samples count twice in an epoch.
# Without `set_epoch` the epoch number stays 0 and every epoch has the same order, hence the same batches. The loss still falls, so nobody notices; what is lost is the fresh mixture of each batch.
#
# *Follow-up: is the padding harmless in validation?* No: the repeated samples count twice in the metric. Either cut the repeats off or let ranks have different numbers and add up sums and counts (exercise 2.4).
# *What does every rank need besides its indices?* Its own randomness for augmentation and dropout: the permutation has the same seed on all ranks, the rest should not.
# *And when the data set does not fit on one disk?* Shards of files are dealt out instead of samples, and the shuffle has two levels, shards and a buffer: approximate, and usually good enough.

# %% [markdown] id="mistakes-text"
# ### 2.2 What each mistake costs
#
# Pictures of indices are one thing, what happens to the model another. The same small network is trained on 1,437 digits by two ranks, correctly and with one mistake at a time, with plain SGD (`ddp.BucketedAverager` averages the gradients during backward; you will write its heart in exercise 2.3). Which of these do you expect to see in the loss curve?

# %% id="mistakes-data"
pixels, labels = datasets.digits()
order = np.random.default_rng(SEED).permutation(len(labels))
digits_x, digits_y = torch.tensor(pixels[order] / 16, dtype=torch.float32), torch.tensor(labels[order])
train_digits = TensorDataset(digits_x[:1437], digits_y[:1437], torch.arange(1437))
held_out_x, held_out_y = digits_x[1437:], digits_y[1437:]

# %% id="mistakes-worker"
def train_with(mistake: str, seed: int, epochs: int = 4, rate: float = 0.5) -> dict:
    """Data-parallel training by hand, with one thing forgotten."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimiser = torch.optim.SGD(model.parameters(), lr=rate)
    sampler = None if mistake == "no sampler" else DistributedSampler(train_digits, seed=seed)
    loader = DataLoader(train_digits, batch_size=32, shuffle=sampler is None, sampler=sampler)
    averager = ddp.BucketedAverager(model) if mistake != "no all-reduce" else None
    read, losses = [], []
    for epoch in range(epochs):
        if sampler and mistake != "no set_epoch":
            sampler.set_epoch(epoch)
        for x, y, index in loader:
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            if averager:
                averager.wait()
            for p in model.parameters() if mistake == "sum, not mean" else ():
                p.grad *= dist.get_world_size()
            optimiser.step()
            optimiser.zero_grad()
            read += index.tolist()
            losses.append(loss.item())
    right = (model(held_out_x).argmax(1) == held_out_y).double().mean().item()
    return {"read": read, "losses": losses, "accuracy": right, "weights": nn.utils.parameters_to_vector(model.parameters()).detach()}

# %% id="mistakes-run"
mistakes = ("none", "no set_epoch", "no sampler", "sum, not mean", "no all-reduce")
seeds = range(SEED, SEED + (5 if QUICK else 20))


def for_each_seed(mistake: str) -> list[dict]:
    return [train_with(mistake, seed) for seed in seeds]


runs = {mistake: ddp.launch(for_each_seed, 2, mistake) for mistake in mistakes}

# %% id="mistakes-table" tags=["nbval-ignore-output"]
def row(ranks: list[list[dict]]) -> dict:
    """What one would like to have known; counts are those of one run, the last two columns are over all seeds."""
    read = [rank[0]["read"] for rank in ranks]
    right = np.mean([[run["accuracy"] for run in rank] for rank in ranks], axis=0)  # one number a seed
    return {
        "samples computed": sum(map(len, read)),
        "steps": len(ranks[0][0]["losses"]),
        "distinct samples": len({sample for samples in read for sample in samples}),
        "copies agree": "yes" if all(torch.equal(a["weights"], b["weights"]) for a, b in zip(*ranks)) else "no",
        "loss, last 10 steps": round(float(np.mean([run["losses"][-10:] for rank in ranks for run in rank])), 3),
        "test accuracy, mean ± sd": f"{np.mean(right):.3f} ± {np.std(right, ddof=1):.3f}",
    }


print(f"{len(seeds)} seeds for each row, 4 epochs on 2 ranks")
pd.DataFrame({mistake: row(ranks) for mistake, ranks in runs.items()}).T

# %% [markdown] id="mistakes-read" tags=["solution"]
# **What to say out loud.** Two of these mistakes show in no loss curve. Without the sampler both ranks compute *the same* gradients: everything converges, the copies agree, and half of the machine is heating the room. Its row even looks best, because an epoch now has twice as many steps; only the number of samples computed gives it away.
# Without the all-reduce each rank trains a model of its own on half of the data; every rank looks healthy, and only comparing the weights shows it. Summing instead of averaging multiplies the learning rate by the number of ranks: with SGD it may even look better, as long as the larger rate is still a stable one; Adam hides it, because it divides the scale out again.
# Forgetting `set_epoch` repeats the order: on a problem this small it costs nothing that these seeds could show (the difference is within one standard deviation). The accuracies of a row scatter by about two hundredths, so I would not argue from them; the *counts* and *copies agree* are exact. I would assert both in the training script.

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

# %% [markdown] id="exercise-2-2-text"
# ### Exercise 2.2 · Ring all-reduce
#
# difficulty 4/5 · 30 min · asked as: "How does all-reduce work, and how many bytes does each GPU send for a gradient of B bytes?"
#
# Add a tensor up over all ranks so that every rank has the sum, with **point-to-point messages only**: `dist.isend` and `dist.irecv` (or `send`, `recv`, `batch_isend_irecv`), to the neighbours in a ring.
# Cut the tensor into $n$ chunks. In $n - 1$ steps the chunks travel round, each rank adding its own part (*reduce-scatter*): then each rank holds one complete chunk. In $n - 1$ more steps the complete chunks travel round (*all-gather*).
# Each rank sends $2\,(n - 1)/n$ of the tensor; the check counts the bytes. Any shape and dtype, any length (also shorter than $n$), also tensors that are not contiguous, on 1 to 4 ranks. The input stays as it was.

# %% id="exercise-2-2" tags=["exercise"]
def ring_all_reduce(tensor: Tensor) -> Tensor:
    """The sum of all ranks' tensors, on every rank: a new tensor of the same shape and dtype.

    Called by all ranks of the default process group with tensors of one shape and dtype.
    """
    ### BEGIN SOLUTION
    rank, n = dist.get_rank(), dist.get_world_size()
    right, left = (rank + 1) % n, (rank - 1) % n
    flat = tensor.flatten().clone()
    chunks = flat.tensor_split(n)  # views of flat; their lengths differ by one at most

    def pass_on(send: int, receive: int) -> Tensor:
        incoming = torch.empty_like(chunks[receive])
        for message in (dist.isend(chunks[send], right), dist.irecv(incoming, left)):  # both started, then awaited
            message.wait()
        return incoming

    for step in range(n - 1):  # reduce-scatter: a chunk arrives with the parts of all that it has passed
        mine = (rank - step - 1) % n
        chunks[mine].add_(pass_on((rank - step) % n, mine))
    for step in range(n - 1):  # all-gather: complete chunks arrive
        mine = (rank - step) % n
        chunks[mine].copy_(pass_on((rank - step + 1) % n, mine))
    return flat.view(tensor.shape)
    ### END SOLUTION

# %% id="check-2-2"
check("2.2", ring_all_reduce)

# %% [markdown] id="aloud-2-2" tags=["solution"]
# **What to say out loud.** In each of the $2(n-1)$ steps a rank sends and receives one chunk of $B/n$ bytes, so it sends $2B(n-1)/n$ in all: less than $2B$, however many ranks there are.
# That is also the least that is possible: each rank must learn $n - 1$ other chunks' sums, and its own parts of them must have left it (Patarasuk and Yuan 2009). A rank that collects everything and sends the sum back would move $(n-1)B$ each way.
# What does grow with $n$ is the number of steps, so the latency: a ring is best for large tensors. For small ones trees need only about $\log_2 n$ steps; NCCL chooses between the two (its double trees came in version 2.4, 2019).
# The two halves have names of their own, reduce-scatter and all-gather, and sharded training (ZeRO, FSDP) uses them apart: gradients need only the first, weights only the second.
#
# *Follow-up: why does the naive version hang?* If all ranks first send and wait until the message is taken, nobody is left to receive. Start both, then wait for both.
# *Is the sum the same on all ranks, bit for bit?* Yes: each chunk is added up once, in one order, and then copied. Two world sizes differ in the last bits, because floating-point addition is not associative.
# *Is anything gathered on GPU 0?* No. That was the older `DataParallel`, one process for all GPUs.

# %% [markdown] id="agree-text"
# ### 2.4 The gradients agree
#
# The promise of data parallelism is exact: two ranks with 8 blocks each give the gradient of one process with all 16. It holds because the loss is a **mean** and the shares are **equal**: the mean of two means of 8 is the mean of 16.

# %% [markdown] id="predict-agree-text"
# **Predict before you run.** How large is the relative difference between the two gradients in float32? Write a power of ten such as `1e-3` for `guess`; in float64?

# %% id="guess-agree"
guess = None

# %% id="agree-run"
def gradient(kind: torch.dtype) -> Tensor:
    """The gradient of the mean loss over 16 blocks, computed by however many ranks there are."""
    torch.manual_seed(SEED)
    model = models.GPT(config).to(kind)
    world, rank = dist.get_world_size(), dist.get_rank()
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
predict("relative difference in float32", guess=guess, measured=float(f"{difference[torch.float32]:.0e}"))

# %% [markdown] id="agree-read" tags=["solution"]
# **What to say out loud.** Not the same bits as one process, because floating-point addition is not associative and the sums are formed in another order; but the same to rounding. Between the *ranks* the bits are the same, because each receives the finished sum: so the copies never drift apart.
# *When does it not hold?* With BatchNorm each rank normalises by its own share (use `SyncBatchNorm` on GPUs); with shares of different size the mean of means is not the mean; with a loss that looks at the whole batch (contrastive) the negatives of other ranks are missing; and dropout draws other masks.

# %% [markdown] id="exercise-2-3-text"
# ### Exercise 2.3 · Average the gradients
#
# difficulty 2/5 · 10 min · asked as: "What does DDP do between backward and step?"
#
# Every rank has run the backward pass of the same model on its own samples, as many as the others. Make each gradient that of the mean loss over the **global** batch, on all ranks and in place: what is in `parameter.grad` is what the optimiser uses.
# Collective calls are allowed. A parameter whose gradient is `None` (frozen, or not used; the same ones on all ranks) keeps `None`.

# %% id="exercise-2-3" tags=["exercise"]
def average_gradients(model: nn.Module) -> None:
    """Replace the gradient of every parameter that has one by its mean over all ranks, in place.

    Called by all ranks of the default process group after backward() on equal shares of the batch.
    """
    ### BEGIN SOLUTION
    for parameter in model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()
    ### END SOLUTION

# %% id="check-2-3"
check("2.3", average_gradients)

# %% [markdown] id="aloud-2-3" tags=["solution"]
# **What to say out loud.** The replicas start with equal weights, see *different* samples, and average their gradients; so they make the same step and stay equal. With equal shares the mean of the ranks' gradients is exactly the gradient of the large batch's mean loss.
# With the sum instead, the step is $n$ times as long: it looks like a learning rate that depends on the number of GPUs.
# DDP does the same averaging, only faster (Li et al. 2020): gradients are gathered in buckets of about 25 MB, and a bucket's all-reduce starts as soon as its last gradient is ready, while the backward pass goes on. Buckets follow the reverse order of the layers, because the last layers' gradients come first.
# It averages gradients, not weights, and it does not split a model: every rank holds all of it.
#
# *Follow-up: what if a parameter is used on some ranks only?* Then the ranks' calls no longer match and all wait. DDP with `find_unused_parameters=True` finds out after each forward pass and counts the missing ones as zero.
# *And batch normalisation?* Its statistics are those of the local batch; `SyncBatchNorm` averages them as well. So equality with the large batch holds only without it.
# *Does the learning rate change?* The batch has grown $n$-fold. Linear scaling with warm-up worked for ResNet-50 up to 8,192 images (Goyal et al. 2017); it is a rule of thumb, tune it.

# %% [markdown] id="uneven-text"
# ### 2.5 Metrics over uneven shares
#
# Training pads so that every rank has the same number of batches. Evaluation must not pad: a sample counted twice makes the metric wrong. 1,797 samples on 2 ranks are 899 and 898, and a rank may even have none.

# %% id="uneven-run"
def mean_of_means(values: Tensor) -> float:
    """What most scripts report: every rank's own mean, averaged over the ranks."""
    mine = values[:90] if dist.get_rank() == 0 else values[90:]
    mean = mine.mean()
    dist.all_reduce(mean)
    return mean.item() / dist.get_world_size()


errors = torch.linspace(0, 1, 100) ** 2
print(f"the mean over all 100 values: {errors.mean():.3f}; rank 0 holds 90 of them, rank 1 the other 10")
for rank, reported in enumerate(ddp.launch(mean_of_means, 2, errors)):
    print(f"rank {rank} reports {reported:.3f}")

# %% [markdown] id="exercise-2-4-text"
# ### Exercise 2.4 · A mean over uneven ranks
#
# difficulty 3/5 · 12 min · asked as: "Each rank evaluates its part of the validation set. How do you report one accuracy?"
#
# Each rank has the values (losses, or hits and misses) of its own validation samples: not as many as the others, perhaps none. Return the mean over **all values**, the same number on every rank.
# The values may be float16, float32, float64 or bool; add them up in double precision. If nobody has a value, the mean is NaN. The argument stays as it was.

# %% id="exercise-2-4" tags=["exercise"]
def global_mean(values: Tensor) -> float:
    """The mean of all ranks' values, every value counting the same; NaN if there is none on any rank.

    values (k,): this rank's, of any real dtype or bool; k differs between ranks and may be 0. Called by all ranks.
    """
    ### BEGIN SOLUTION
    sum_and_count = torch.tensor([values.double().sum(), values.numel()], dtype=torch.float64)
    dist.all_reduce(sum_and_count)
    total, count = sum_and_count.tolist()
    return total / count if count else math.nan
    ### END SOLUTION

# %% id="check-2-4"
check("2.4", global_mean)

# %% [markdown] id="aloud-2-4" tags=["solution"]
# **What to say out loud.** Means cannot be averaged when the counts differ, sums and counts can. So each rank contributes two numbers, one all-reduce adds them up, and the division comes last.
# With the mean of means a rank with 2 samples weighs as much as one with 2,000, and a rank with none turns everything into NaN.
# Every rank makes the call, also the one that has nothing: a collective call waits for all. The usual "if there is something to report" around it is a hang.
# The same holds for the training loss: what rank 0 prints is its own batch's loss unless somebody reduces it.
#
# *Follow-up: which metrics does this work for?* For those that are a ratio of sums: loss, accuracy, precision, recall (two sums each), perplexity as the exponential of the mean. AUC, BLEU or a median are not: gather the predictions, or count in bins.
# *What does it cost?* One tiny all-reduce, all latency. Once per epoch it is free; once per step it makes the CPU wait for the GPU, so log every so many steps.
# *Why in double?* A float16 sum overflows at 65,504; a float32 sum of 20 million ones, added one by one, stops at $2^{24} = 16{,}777{,}216$.

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

# %% [markdown] id="exercise-2-5-text"
# ### Exercise 2.5 · Accumulate, and communicate once
#
# difficulty 3/5 · 15 min · asked as: "The batch you want does not fit. How do you accumulate gradients under DDP, and what does no_sync save?"
#
# One optimiser step on several micro-batches of the same size, equal to the step on all of them at once. Each rank brings its own list, equally long on all ranks.
# Gradients that were there before must not count; the gradient is that of the **mean** loss; DDP communicates **once**, with the last micro-batch (the check counts). Return the mean of this rank's losses.

# %% id="exercise-2-5" tags=["exercise"]
def accumulate_step(
    model: DistributedDataParallel, micro_batches: list[tuple[Tensor, Tensor]], loss_fn, optimiser
) -> float:
    """One optimiser step on all micro-batches (x, y) together; returns this rank's mean loss.

    loss_fn(model(x), y): the mean loss over a micro-batch, a scalar. micro_batches: at least one, of equal sizes.
    """
    ### BEGIN SOLUTION
    def backward(x: Tensor, y: Tensor) -> float:
        loss = loss_fn(model(x), y) / len(micro_batches)
        loss.backward()
        return loss.item()

    *early, last = micro_batches
    optimiser.zero_grad()
    with model.no_sync():  # around the forward pass too: there DDP decides whether the backward pass communicates
        mean = sum(backward(x, y) for x, y in early)
    mean += backward(*last)
    optimiser.step()
    return mean
    ### END SOLUTION

# %% id="check-2-5"
check("2.5", accumulate_step)

# %% [markdown] id="aloud-2-5" tags=["solution"]
# **What to say out loud.** `backward` adds to `.grad`, so $k$ micro-batches give the gradient of the sum of their losses; divided by $k$ it is that of the mean, and the step equals the large batch's.
# It saves activation memory, which goes with the micro-batch. It does not save time: the same samples go through the same layers, in smaller and so less efficient pieces.
# Under DDP each backward pass would start an all-reduce of all gradients. `no_sync` leaves the local sums alone until the last micro-batch, whose all-reduce carries them all: $1/k$ of the traffic.
# The forward pass belongs inside as well, because there DDP prepares the all-reduce; with only the backward pass inside, everything is still sent and nothing looks wrong but the time.
#
# *Follow-up: what if the micro-batches differ in size, as with padded text?* Then the mean of means is not the mean: divide the sum of the losses by the number of tokens of the whole step, over all ranks. This bug was found in several trainers in October 2024.
# *Where do the scaler and clipping go?* Once, after the last micro-batch: unscale, clip, step, update (exercise 2.6).
# *Is it the same with batch normalisation or dropout?* Not with batch normalisation, whose statistics are those of a micro-batch. With dropout it is the same in distribution only.

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
# What is at risk are not so much the gradients of the weights, which are sums over all positions, as the gradients that travel **back through the activations**: the mean loss divides each by the number of positions in the batch.
# Below, those that arrive at the outputs of all linear layers, for a batch of 64 blocks (8,192 positions).
#
# **Predict before you run.** Of these numbers that are not zero, which share becomes zero when it is stored in fp16? Write a per cent number for `guess`.

# %% id="guess-underflow"
guess = None

# %% id="underflow-run"
arrived = []
torch.manual_seed(SEED)
fresh = models.GPT(config)
for layer in fresh.modules():
    if isinstance(layer, nn.Linear):
        layer.register_full_backward_hook(lambda layer, into, out: arrived.append(out[0].flatten()))
efficiency.cross_entropy(fresh(code[:64][0]), code[:64][1]).backward()
travelling, of_weights = torch.cat(arrived), torch.cat([p.grad.flatten() for p in fresh.parameters()])


def lost(grads: Tensor, kind: torch.dtype, scale: float) -> float:
    """Share of the non-zero gradients that are zero after scaling and storing, in per cent."""
    alive = grads[grads != 0]
    return 100 * float(((alive * scale).to(kind) == 0).double().mean())


shares = {
    (format_, where, scale): lost(grads, kind, scale)
    for format_, kind in (("fp16", torch.float16), ("bf16", torch.bfloat16))
    for where, grads in (("activations", travelling), ("weights", of_weights))
    for scale in (1, 2**16)
}

# %% id="predict-underflow" tags=["nbval-ignore-output"]
predict("gradients of activations lost in fp16", guess=guess, measured=round(shares["fp16", "activations", 1], 1), unit="%")

# %% id="underflow-picture" tags=["nbval-ignore-output"]
axis = plots.panels(["A loss scale moves the gradients away from fp16's lower end"], width=6.4)[0]
sizes = travelling[travelling != 0].abs().log10().numpy()
axis.hist(sizes, bins=80, range=(-11, -2), color=plots.COLOURS[0])
axis.set_xlim(-13, 2)
for limit, style, label in ((2**-25, "--", "below: 0 in fp16"), (2**-14, "-.", "below: fewer digits in fp16"), (2**-25 / 2**16, ":", "below: 0 with the loss × 65,536")):
    axis.axvline(math.log10(limit), color="#333333", linestyle=style, label=label)
axis.set_xlabel("log₁₀ of the gradient's size")
axis.set_ylabel("gradients of activations")
axis.legend(loc="upper right")
pd.DataFrame([
    {"format": format_, "gradients of": where, "loss scale": f"{scale:,}", "become zero": f"{share:.2f} %"}
    for (format_, where, scale), share in shares.items()
])

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
# **What to say out loud.** The loss is the same within the noise of so few steps; what changes is time and memory. On a CPU half precision gains little, and a format that the processor has no instructions for costs a multiple of float32's time, as fp16 does in the table; on a GPU with tensor cores it is the first thing to switch on. The activations shrink by less than half, because sums, norms and the residual path stay in float32.
# Without a loss scale a good tenth of the gradients on their way back became zero in fp16, and most of the rest lost digits; the weights' own gradients, sums over thousands of positions, were hardly touched. So the damage grows with the batch, since the mean divides by it, and it is done *inside* backward, where looking at `.grad` does not show it. bf16 lost nothing, at any scale: it has float32's exponent.

# %% [markdown] id="exercise-2-6-text"
# ### Exercise 2.6 · One mixed-precision step in the right order
#
# difficulty 3/5 · 15 min · asked as: "Write a training step with float16 autocast, a gradient scaler and gradient clipping. In which order, and why?"
#
# One step on one batch: forward pass and loss under `torch.autocast` with `torch.float16` on the device of `x`, backward pass through `scaler`, then the optimiser's step with the gradients clipped to a total norm of `max_norm`.
# Gradients that an earlier batch left behind must not count. Where a gradient overflows, the step is skipped and the scale lowered.
#
# Return the loss and the norm of the gradients **before** clipping, both as Python floats in true units (not multiplied by the scale). The norm of a skipped step may be anything.

# %% id="exercise-2-6" tags=["exercise"]
def mixed_step(model, x, y, loss_fn, optimiser, scaler, max_norm: float) -> tuple[float, float]:
    """One optimiser step in mixed precision; returns (loss, norm of the gradients before clipping).

    x, y: one batch on the model's device. loss_fn(model(x), y): a scalar. scaler: a torch.amp.GradScaler.
    """
    ### BEGIN SOLUTION
    optimiser.zero_grad()
    with torch.autocast(x.device.type, dtype=torch.float16):
        loss = loss_fn(model(x), y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)  # before clipping: max_norm is meant in true units
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    scaler.step(optimiser)  # does nothing when unscale_ has met an inf or NaN
    scaler.update()
    return loss.item(), norm.item()
    ### END SOLUTION

# %% id="check-2-6"
check("2.6", mixed_step)

# %% [markdown] id="aloud-2-6" tags=["solution"]
# **What to say out loud.** float16 has little range: gradients below about $3 \times 10^{-8}$ become 0, and those below $6 \times 10^{-5}$ lose digits. So the loss is multiplied by a large scale before the backward pass, and the gradients are divided by it before anybody looks at them (Micikevicius et al. 2018).
# The order is zero, forward under autocast, scaled backward, **unscale, clip, step, update**. Clipping before unscaling compares `max_norm` with gradients that are, say, 65,536 times too large: every step is cut to almost nothing, and the loss curve only looks like a learning rate that is too low.
# `scaler.step` skips a step whose gradients hold inf or NaN, and `update` then halves the scale; after 2,000 good steps in a row (the default) it doubles it. A skipped step now and then is the search for the largest scale that works, not a bug; many in a row are one.
# The weights stay in float32: an update of a thousandth of a weight would be rounded away in float16. That copy is the first 4 of the optimiser's 12 bytes in exercise 2.7.
#
# *Follow-up: what changes with bfloat16?* It has float32's range and 8 bits of precision, so no scaler is needed: forward, backward, clip, step. It is the usual choice where the hardware has it.
# *With gradient accumulation?* Scale each micro-batch's loss with the same scale; unscale, clip, step and update once, after the last.
# *Why not clip each parameter on its own?* That changes the direction of the step; clipping the total norm only shortens it (Pascanu et al. 2013).

# %% [markdown] id="recompute-text"
# ## 5 · Less memory or less time: checkpointing and compiling
#
# **Activation checkpointing** keeps only the input of each block and computes the block again during backward: one more forward pass, a third more time at most (Chen et al. 2016), for activations that no longer grow with all that happens inside a block.

# %% [markdown] id="predict-recompute-text"
# **Predict before you run.** By which factor do the activations of this 4-layer GPT shrink? Write a number for `guess`.

# %% id="guess-recompute"
guess = None

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

# %% [markdown] id="exercise-2-7-text"
# ### Exercise 2.7 · Memory under ZeRO
#
# difficulty 2/5 · 12 min · asked as: "Will this model fit for training on eight 80 GB GPUs? What does each ZeRO stage buy?"
#
# Mixed-precision training with Adam keeps, for **each parameter**: the 2-byte weight that computes, its 2-byte gradient, and 12 bytes of optimiser state in 32 bits
# (a master copy of the weight, the momentum, the variance). Plain data parallelism (stage 0) keeps all of it on every GPU. ZeRO (Rajbhandari et al. 2020) cuts it into `world_size` equal shards:
# stage 1 the optimiser state, stage 2 the gradients as well, stage 3 the weights as well.
#
# Return the bytes on **one** GPU, as exact shares (no rounding, no padding), without activations. A stage other than 0 to 3, or fewer than one parameter or GPU: `ValueError`.

# %% id="exercise-2-7" tags=["exercise"]
def zero_memory(parameters: int, world_size: int, stage: int) -> dict[str, float]:
    """Bytes on one GPU for mixed-precision Adam: {"weights": …, "gradients": …, "optimiser": …}.

    parameters: of the whole model. world_size: GPUs that share the state. stage: 0 (nothing sharded) to 3.
    """
    ### BEGIN SOLUTION
    if stage not in (0, 1, 2, 3):
        raise ValueError(f"stage must be 0, 1, 2 or 3, got {stage!r}")
    if parameters < 1 or world_size < 1:
        raise ValueError(f"parameters and world_size must be at least 1, got {parameters} and {world_size}")
    share = parameters / world_size
    return {
        "weights": 2 * (share if stage >= 3 else parameters),
        "gradients": 2 * (share if stage >= 2 else parameters),
        "optimiser": 12 * (share if stage >= 1 else parameters),
    }
    ### END SOLUTION

# %% id="check-2-7"
check("2.7", zero_memory)

# %% [markdown] id="aloud-2-7" tags=["solution"]
# **What to say out loud.** Mixed-precision Adam needs 16 bytes per parameter before the first activation: 2 for the weight, 2 for the gradient, 12 for the optimiser. A 7-billion-parameter model is therefore 112 GB of state,
# and does not train on one 80 GB GPU, although its 14 GB of weights run there with ease. "Three to four times the inference memory", as question banks have it, is wrong by a factor of two.
# The optimiser is three quarters of it, so stage 1 already buys most: with 64 GPUs the paper's 7.5-billion model falls from 120 GB to 31.4, 16.6 and 1.9 GB in stages 1, 2 and 3 (Rajbhandari et al. 2020, figure 1).
# Stages 1 and 2 send as many bytes as plain data parallelism, because an all-reduce *is* a reduce-scatter and an all-gather. Stage 3 gathers the weights once more, for the backward pass: one and a half times the bytes.
#
# *Follow-up: what is missing from the sum?* Activations, which the three stages leave alone and which grow with batch and context: checkpoint them. Then temporary buffers, fragmentation and the CUDA context, a few GB.
# *Is fewer bytes per GPU always better?* No: take the lowest stage that fits; stage 3 on a slow network waits for weights.
# *Which stage is `fully_shard`?* Stage 3 (with `reshard_after_forward=False` the weights stay gathered until the backward pass, which is close to stage 2).

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
# On one machine the "network" is memory, and little of this can be seen; on a slow link between two nodes it is the difference, as measured at the end of this section.

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

# %% [markdown] id="slow-link-text"
# ### 7.1 A slow link, measured
#
# Processes of one machine talk through memory, so nothing above got faster. The committed benchmark `ddp_slow_link` puts the two ranks into two network namespaces, joined by a virtual cable that is held to 500 Mbit/s:
# two nodes, as far as the network is concerned. The model is a GPT of 3.3 million parameters, 13 MB of gradients a step. What you see below was measured there, and is read from the file of results; run it again with `python -m benchmarks ddp_slow_link` (Linux, some minutes).
#
# **Predict before you run.** 13 MB over 500 Mbit/s (62.5 MB/s) are 0.2 s. Which helps more: smaller buckets, which hide the sending behind backward, or half the bytes?

# %% id="slow-link"
results = json.loads(Path(estimates.__file__).parents[2].joinpath("benchmarks/results/ddp_slow_link.json").read_text())
runs = {entry["figure"]: entry["runs"] for entry in results["figures"]}
milliseconds = {name.partition(": ")[2]: float(np.median(values)) for name, values in runs.items() if name.startswith("milliseconds")}
machine = results["machine"]
print(f"measured on {results['date']}, {machine['cpu']}, {machine['cores']} cores, a process with one thread on each of two nodes")
plots.bars(
    milliseconds,
    title="On a slow link the way of sending decides (500 Mbit/s)",
    xlabel="milliseconds a step",
    highlight=["default", "no communication"],
    form="{:.0f}",
);

# %% id="slow-link-loss"
curves = {name.partition(": ")[2]: values for name, values in runs.items() if name.startswith("loss curve")}
shown = ("default", "fp16, buckets of 1 MB", "PowerSGD of rank 4", "largest 1 %")
steps = np.arange(0, len(curves["default"]), 3)  # every third: its markers tell the lines apart in grey print
plots.lines(
    {name: ((steps + 1) * milliseconds[name] / 1e3, np.array(curves[name])[steps]) for name in shown},
    title="What counts is the loss after so many seconds",
    xlabel="seconds of training on the slow link",
    ylabel="loss, nats per byte",
)
print("after", len(curves["default"]), "steps:", ", ".join(f"{name} {np.mean(curves[name][-5:]):.2f}" for name in shown))

# %% [markdown] id="slow-link-read" tags=["solution"]
# **What to say out loud.** Without communication a step takes 0.17 s, with PyTorch's default 0.38 s: more than half of the time this node waits. The default puts 13 MB into two buckets, so almost everything is sent after backward has ended. Buckets of 1 MB send the same bytes and win a quarter, for nothing: the sending moves behind the computing.
# Half the bytes (fp16) win a little more; both together 1.8 times, and the loss curve is the default's to three digits. PowerSGD of rank 4 sends $(256 + 256) \cdot 4$ numbers in place of $256 \cdot 256$, a thirtieth, and gains hardly more, since there is little waiting left and it computes instead; so I would take half precision and small buckets, the change that touches the mathematics least.
# The largest 1 % also costs computing (finding them), and its loss is a little behind after 60 steps. *And on NVLink or InfiniBand?* InfiniBand of 400 Gbit/s is 800 times this link, the NVLink of an H100 (900 GB/s, both directions together; NVIDIA's data sheet, 2023) some ten thousand times; then the number of messages counts, so larger buckets are better, and compression loses. It is the ratio of computing to sending that decides, and it has to be measured where one trains.
# *What does this not show?* The delay of real switches, lost packets, many nodes: the cable is virtual, only its rate is real.

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
# Now the real thing. The same training is started twice with PyTorch's own launcher, `torchrun`, each with two ranks and a checkpoint every four steps. In one of them rank 1 is killed with SIGKILL in the middle of the run; `--max-restarts=3` starts both ranks again, up to three times, and they go on from the last checkpoint.
# The digest is the SHA-256 of the final weights: does a run that died end where an undisturbed one does?

# %% id="restart-run"
def torchrun(*options: str) -> dict:
    """Train with two ranks under PyTorch's own launcher; what rank 0 reported at the end."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3", "-m", "helpers.ddp"]
        training = ["--epochs=2", "--max-steps=12", f"--checkpoint={folder}/run.pt", "--checkpoint-every=4", "--resume", f"--out={folder}/result.json"]
        command = [sys.executable, "-m", *launcher, *training, *options]
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return json.loads(Path(folder, "result.json").read_text())


undisturbed = torchrun()
killed = torchrun("--die-at-step=7", "--die-rank=1")
for name, run in {"undisturbed": undisturbed, "killed in step 7": killed}.items():
    print(f"{name:17} {'restarted' if run['restarts'] else 'not restarted'}, {run['steps']} steps, last loss {run['losses'][-1]:.3f}")
print("the same final weights, bit for bit:", undisturbed["checksum"] == killed["checksum"])

# %% [markdown] id="restart-read" tags=["solution"]
# **What to say out loud.** The restarted run ends at the same bits, because the checkpoint holds everything the next step depends on: weights, the optimiser's moments, the position in the data, the seed of its order, and *every rank's* random state (the model has dropout). Leave one out and the run goes on, slightly different, and nobody notices.
# The work lost is what was done since the last checkpoint. How often to save? The classic estimate is $\sqrt{2 C M}$ for a checkpoint that costs $C$ and a mean time $M$ between faults (Young 1974): with 30 s and 3 hours, every 13 minutes.

# %% [markdown] id="exercise-2-8-text"
# ### Exercise 2.8 · Checkpoint and resume exactly
#
# difficulty 4/5 · 25 min · asked as: "How do you checkpoint a distributed run so that it resumes as if nothing had happened?"
#
# Two functions, each called **by every rank** in the same process group, in the middle of training with dropout. A run that is resumed must give the same weights, bit for bit, as one that was never stopped.
#
# - `save_checkpoint`: rank 0 alone writes one file, `path`; no other rank touches the disk. It holds what the run needs, the state of torch's random numbers **on each rank** included. It is atomic: when writing fails half-way (the disk is full), the previous checkpoint is still there, whole. The function returns, on every rank, only when the file is complete.
# - `load_checkpoint`: restores everything on every rank and returns `{"epoch": …, "step": …}`. Loading never runs code from the file. A file that is empty, cut off or no checkpoint: `ValueError` that names the path. A missing file: `FileNotFoundError`.
#
# `model` is the bare module, without the DDP wrapper. (numpy's and Python's random states are saved in the same way; leave them out here.)

# %% id="exercise-2-8" tags=["exercise"]
def save_checkpoint(path: str, model: nn.Module, optimiser: torch.optim.Optimizer, epoch: int, step: int) -> None:
    """Write the state of the run to `path`; called by every rank, written by rank 0, whole or not at all."""
    ### BEGIN SOLUTION
    own = torch.get_rng_state()
    random_states = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(random_states, own)
    if dist.get_rank() == 0:
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "random": random_states}
        unfinished = Path(f"{path}.unfinished")
        with unfinished.open("wb") as file:
            torch.save({**state, "epoch": epoch, "step": step}, file)
            file.flush()
            os.fsync(file.fileno())  # on the disk before it gets its name
        unfinished.replace(path)
    dist.barrier()
    ### END SOLUTION


def load_checkpoint(path: str, model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, int]:
    """Restore model, optimiser and this rank's random state from `path`; returns {"epoch": …, "step": …}."""
    ### BEGIN SOLUTION
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # EOFError, OSError, RuntimeError, UnpicklingError: as it happens
        raise ValueError(f"{path} is not a whole checkpoint: {error}") from error
    model.load_state_dict(saved["model"])
    optimiser.load_state_dict(saved["optimiser"])
    torch.set_rng_state(saved["random"][dist.get_rank()])
    return {"epoch": saved["epoch"], "step": saved["step"]}
    ### END SOLUTION

# %% id="check-2-8"
check("2.8", save_checkpoint, load_checkpoint)

# %% [markdown] id="aloud-2-8" tags=["solution"]
# **What to say out loud.** A checkpoint is everything that the next step reads: weights, optimiser state (Adam's moments are two thirds of the numbers), the scaler and the schedule if there are any, the position in the data, and the random state of **every rank**, because each draws its own dropout masks.
# One rank writes, since all hold the same weights; the others only hand over what is theirs. They wait at a barrier that *every* rank reaches: a barrier inside `if rank == 0` hangs the run.
# Writing beside the file, forcing it to the disk and renaming it is what makes it atomic: a rename within a folder happens or does not. Writing over the only good checkpoint loses the run when the disk fills up, which it does at night.
# `weights_only=True` (the default since torch 2.6, January 2025) matters because a pickle may run any code when it is read; a checkpoint from the internet is somebody else's program.
#
# *Follow-up: how do you test it?* Train 2 + 2 steps without a stop, and 2, save, new objects, load, 2; the weights must be equal, not close. "The loss looks continuous" misses a forgotten optimiser state or mask.
# *How often?* So that the work lost to failures and the time spent writing are about equal: the interval is roughly $\sqrt{2 \times \text{time to write} \times \text{time between failures}}$ (Young 1974).
# *What if rank 0 fails while it writes?* Here the others wait until the group's time-out. *And with sharded weights?* Every rank writes its own shard into a folder (`torch.distributed.checkpoint`), which can then be read by another number of ranks; the random states cannot.

# %% [markdown] id="scaling-text"
# ## 9 · Scaling and money
#
# ### 9.1 One process against two
#
# Two ranks do twice the work per step. If communication cost nothing, throughput would double; how close does it come? Each rank has one thread, the batch *per rank* stays the same (weak scaling).

# %% [markdown] id="predict-scaling-text"
# **Predict before you run.** How many times faster are two processes than one, for the GPT with 1 block per rank? And with 16?

# %% id="guess-scaling"
guess = None

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

# %% [markdown] id="exercise-2-9-text"
# ### Exercise 2.9 · GPU-hours and money
#
# difficulty 2/5 · 10 min · asked as: "Estimate the cost of pretraining a 7B model on 2 trillion tokens. You have two minutes."
#
# Training a dense transformer of $N$ parameters on $D$ tokens takes about $6ND$ floating-point operations: two per parameter and token forward, four backward (Kaplan et al. 2020).
# A GPU delivers `utilisation` (a share, 0.4 for 40 %) of its `peak_flops` (operations per **second**).
#
# Return `gpu_hours` (the sum over all GPUs), `days` (on the calendar, with `gpus` of them at work) and `money` (`price` is per GPU-hour; the result is in its currency).
# `ValueError` unless parameters, tokens and peak are positive, `0 < utilisation <= 1`, there is at least one GPU, and the price is not negative.

# %% id="exercise-2-9" tags=["exercise"]
def training_cost(
    parameters: float, tokens: float, peak_flops: float, utilisation: float, gpus: int, price: float
) -> dict[str, float]:
    """{"gpu_hours": …, "days": …, "money": …} of one training run.

    peak_flops: operations per second of one GPU. utilisation: the share of it that is reached. price: per GPU-hour.
    """
    ### BEGIN SOLUTION
    if not (parameters > 0 and tokens > 0 and peak_flops > 0):
        raise ValueError(f"parameters, tokens and peak_flops must be positive: {parameters}, {tokens}, {peak_flops}")
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation must be a share, above 0 and at most 1, got {utilisation}")
    if gpus < 1 or price < 0:
        raise ValueError(f"gpus must be at least 1 and price not negative, got {gpus} and {price}")
    seconds = 6 * parameters * tokens / (peak_flops * utilisation)
    gpu_hours = seconds / 3600
    return {"gpu_hours": gpu_hours, "days": gpu_hours / gpus / 24, "money": gpu_hours * price}
    ### END SOLUTION

# %% id="check-2-9"
check("2.9", training_cost)

# %% [markdown] id="aloud-2-9" tags=["solution"]
# **What to say out loud.** $6ND$ operations, divided by what a GPU really delivers, are GPU-hours; GPU-hours times the price are the bill; GPU-hours divided by the GPUs are the calendar.
# More GPUs shorten the calendar and leave the bill alone, until communication lowers the utilisation: then they raise it.
# For 7 billion parameters and 2 trillion tokens that is $8.4 \times 10^{22}$ operations; at 40 % of an A100's 312 teraflops about 187,000 GPU-hours. Llama 2 7B was reported with 184,320 (Touvron et al., July 2023), so the estimate is within two per cent,
# and the utilisation that I assumed is the whole uncertainty: 30 % instead of 40 % makes it a third dearer.
#
# *Follow-up: when is $6ND$ too small?* With long contexts (attention adds a term that grows with the context) and with activation checkpointing, which computes the forward pass again: $8ND$ are executed, but the model FLOPs utilisation still counts $6ND$.
# *And a mixture of experts?* $N$ is the parameters that are active per token; memory needs all of them.
# *What else is on the bill?* Failed and repeated runs, experiments on small models, evaluation, storage, people. A budget for the final run only is the classic mistake.

# %% [markdown] id="bill-text"
# ### 9.3 A bill set beside a bill
#
# Stability AI's compute for 2023 was forecast at 99M dollars (The Register, 3 April 2024, on documents seen by Forbes). What would that have bought, if it had all been training?

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
# *What is weak in this estimate?* The list price: large customers pay less, long contracts fix a fleet, and prices fall, by how much depends on whom one asks (an H100 at AWS on demand: 12.29 dollars an hour in July 2023; for early 2026 the reports run from 3.90 to 10 dollars). The number is reported by the press from internal documents, not audited.

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

# %% [markdown] id="fix-text"
# ## 11 · Fix this code

# %% [markdown] id="exercise-2-10-text"
# ### Exercise 2.10 · Fix this code
#
# difficulty 4/5 · 30 min · asked as: "This script shall train on two machines. Review it: what fails, and what is wrong without failing?"
#
# Somebody has made a single-process script distributed, in a hurry. Name its faults (there are more than eight, and most of them raise no error), then write it right.

# %% [markdown] id="broken-2-10"
# ```python
# import torch
# import torch.distributed as dist
# import torch.nn.functional as F
# from torch import nn
# from torch.nn.parallel import DistributedDataParallel
# from torch.utils.data import DataLoader
# from tqdm import tqdm
#
#
# def train_worker(data, epochs, batch_size, seed, folder):
#     init_process_group(backend="nccl")
#     torch.manual_seed(seed)
#
#     model = DistributedDataParallel(nn.Linear(6, 3), device_ids=[local_rank])
#     optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
#     loader = DataLoader(data, batch_size=batch_size, shuffle=True)
#
#     losses, samples = [], 0
#     for epoch in range(epochs):
#         total, progress = 0.0, tqdm(total=len(data))
#         for x, y in loader:
#             loss = F.cross_entropy(model(x), y)
#             optimiser.zero_grad()
#             loss.backward()
#             optimiser.step()
#             total += loss.item()
#             progress.update(len(x))
#         losses.append(total / len(loader))
#         samples += len(data)
#         torch.save(model.state_dict(), f"{folder}/model.pt")
#
#     return {"weights": model.state_dict(), "losses": losses, "samples": samples}
# ```

# %% [markdown] id="exercise-2-10-task"
# Your version is called once in each process, as `torchrun` would call it: the environment variables are set, and there is no process group yet. It leaves none behind either.
#
# - The model is `nn.Linear(6, 3)`, made after `torch.manual_seed(seed)`; plain SGD with `lr=0.1`; cross-entropy; `batch_size` is per rank. An item of `data` is `(x, y)`: 6 numbers and a class. Read it through a `DataLoader` without extra workers: the check writes down what each rank reads.
# - In every epoch all samples are read, each by one rank (or one more, where the number does not divide), in an order that depends on `seed` and on the epoch.
# - It runs on the rank's own GPU where there is one, otherwise on the CPU. **The check runs on the CPU, and plays two machines with one process each**: the ranks are 0 and 1, and both have `LOCAL_RANK` 0.
# - One process of all writes `model.pt` into `folder`, once, at the end: the weights under the names that `nn.Linear` gives them.
#
# Every rank returns a dictionary with `weights` (names → tensors on the CPU), `losses` (for each epoch the mean over all samples that *all* ranks have read, at the moment they were read) and `samples` (how many that were, over all ranks and epochs).

# %% id="exercise-2-10" tags=["exercise"]
def train_worker(data: Dataset, epochs: int, batch_size: int, seed: int, folder: str) -> dict:
    """Train data-parallel from the variables that torchrun sets; returns the keys weights, losses and samples."""
    ### BEGIN SOLUTION
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        torch.manual_seed(seed)
        model = DistributedDataParallel(nn.Linear(6, 3).to(device))
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        sampler = DistributedSampler(data, seed=seed)
        loader = DataLoader(data, batch_size=batch_size, sampler=sampler)

        losses, samples = [], 0
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            count = torch.zeros(2, dtype=torch.float64, device=device)  # the sum of the losses, the samples
            for x, y in loader:
                x, y = x.to(device), y.to(device)
                loss = F.cross_entropy(model(x), y)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                count[0] += loss.detach() * len(x)
                count[1] += len(x)
            dist.all_reduce(count)
            losses.append((count[0] / count[1]).item())
            samples += int(count[1])

        weights = {name: value.cpu() for name, value in model.module.state_dict().items()}
        if dist.get_rank() == 0:
            torch.save(weights, Path(folder) / "model.pt")
        return {"weights": weights, "losses": losses, "samples": samples}
    finally:
        dist.destroy_process_group()
    ### END SOLUTION

# %% id="check-2-10"
check("2.10", train_worker)

# %% [markdown] id="aloud-2-10" tags=["solution"]
# **The faults, and what each does.** The first three stop the script; the others do not, and those are the expensive ones.
#
# 1. **`init_process_group` is not imported** (it is `dist.init_process_group`), and the backend is fixed to `nccl`, which needs a GPU for each rank.
# 2. **`local_rank` is not defined**: `torchrun` gives it as the environment variable `LOCAL_RANK`. It picks the GPU *within* a machine; `RANK` says who one is among all.
# 3. **The model is not moved** to the GPU that `device_ids` names, nor are the batches.
# 4. **There is no `DistributedSampler`.** Every rank reads all the data, and with the same seed in the same order: the gradients that are averaged are equal, so $n$ machines do the work of one and cost $n$ times as much. The loss curve looks perfect.
# 5. **No `set_epoch`**: once the sampler is there, every epoch has the same order.
# 6. **The counts are wrong**: `len(data)` samples per epoch on each rank says nothing about what was read, and each rank draws its own bar.
# 7. **The loss is that of one rank**, and a mean over batches: the last, smaller batch weighs as much as a full one. Sum losses and counts, reduce both, divide.
# 8. **Every rank saves, in every epoch**, into the same file, with `module.` before each name, so that the bare model cannot load it.
# 9. **No clean-up**: the group is never destroyed; with nccl that is a warning at best and a hang at the end at worst. `finally` does it when an epoch fails, too.
# 10. **`total += loss.item()`** makes a GPU wait for each batch. Keep the sum on the device, and read it once an epoch.
#
# *Follow-up: how would you have found number 4?* Write down which rank reads which sample, or compare: two ranks should need half the steps per epoch of one. Nothing else shows it.
# *Twice the ranks at the same batch size per rank: what else changes?* The global batch doubles, so there are half as many steps; scale the learning rate (Goyal et al. 2017: linearly, with a warm-up) or accept another curve.

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

# %% id="progress"
progress(2)
