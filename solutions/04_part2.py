# needs of the imports cell: copy, functools, math, time, Path, np, pd, torch, F, Tensor, nn; datasets, efficiency, estimates, models, plots from helpers; compression as co, decoding from helpers; compare_latency, measure_latency; check, hint, predict, progress, solution

# %% [markdown] id="exercise-4-6-text"
# ### Exercise 4.6 · Pruning masks, global against per layer
#
# difficulty 2/5 · 15 min · asked as: "Prune half of a network's weights. Per layer or globally, and how much faster does it get?"
#
# `pruning_masks(weights, share, scope)` returns a list of bool tensors of the weights' shapes: True stays, False goes. With scope `"global"` all weights stand in one ranking, with `"layer"` each has its own; of the `n` weights of a ranking the `int(share * n)` smallest magnitudes go, and of equal ones the first. `ValueError` unless 0 ≤ share < 1 and the scope is one of the two. The weights stay as they are.

# %% id="exercise-4-6" tags=["exercise"]
def pruning_masks(weights: list[Tensor], share: float, scope: str) -> list[Tensor]:
    """One mask for each weight: True where it stays."""
    ### BEGIN SOLUTION
    if not 0 <= share < 1 or scope not in ("global", "layer"):
        raise ValueError(f"share must be from 0 to below 1 and scope 'global' or 'layer', got {share} and {scope!r}")
    if scope == "layer":
        return [pruning_masks([weight], share, "global")[0] for weight in weights]
    sizes = torch.cat([weight.abs().flatten() for weight in weights])
    keep = torch.ones(len(sizes), dtype=torch.bool)
    keep[sizes.argsort(stable=True)[: int(share * len(sizes))]] = False  # exact also for equal weights
    parts = keep.split([weight.numel() for weight in weights])
    return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]
    ### END SOLUTION

# %% id="check-4-6"
check("4.6", pruning_masks)

# %% [markdown] id="exercise-4-7-text"
# ### Exercise 4.7 · The distillation loss
#
# difficulty 3/5 · 15 min · asked as: "Write the distillation loss. Why is there a T², and whose gradient must not flow?"
#
# `distillation_loss(student, teacher, targets, temperature, weight)`: logits (n, classes) twice, targets (n,) int64. Returns a scalar tensor, `weight · T² · KL(teacher ‖ student)` at temperature T plus `(1 - weight) · cross-entropy` with the targets at temperature 1; both are means over the batch. The student gets a gradient, the teacher none. Logits may be in the thousands.

# %% id="exercise-4-7" tags=["exercise"]
def distillation_loss(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, weight: float) -> Tensor:
    """Hinton, Vinyals and Dean (2015): soft answers of a teacher, and the hard labels."""
    ### BEGIN SOLUTION
    log_q = F.log_softmax(student / temperature, -1)
    log_p = F.log_softmax(teacher.detach() / temperature, -1)
    soft = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    return weight * temperature**2 * soft + (1 - weight) * F.cross_entropy(student, targets)
    ### END SOLUTION

# %% id="check-4-7"
check("4.7", distillation_loss)

# %% [markdown] id="exercise-4-8-text"
# ### Exercise 4.8 · One attention step with a key-value cache
#
# difficulty 3/5 · 20 min · asked as: "Write one decoding step of attention with a KV cache. What is stored, where, and what may it look at?"
#
# `attention_step(query, key, value, keys, values, position)`: the first three are (b, heads, d), of the one new token. `keys` and `values` are the cache, (b, heads, capacity, d); the first `position` places are filled, what stands behind them is left from another text. Write the new key and value into the cache **in place**, then return the attention's output (b, heads, d). No `scaled_dot_product_attention`.

# %% id="exercise-4-8" tags=["exercise"]
def attention_step(query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, position: int) -> Tensor:
    """Attention of one new token over the cache and itself."""
    ### BEGIN SOLUTION
    keys[:, :, position] = key
    values[:, :, position] = value
    seen_keys, seen_values = keys[:, :, : position + 1], values[:, :, : position + 1]
    scores = torch.einsum("bhd,bhtd->bht", query, seen_keys) / query.shape[-1] ** 0.5
    return torch.einsum("bht,bhtd->bhd", scores.softmax(-1), seen_values)
    ### END SOLUTION

# %% id="check-4-8"
check("4.8", attention_step)

# %% [markdown] id="exercise-4-9-text"
# ### Exercise 4.9 · Speculative acceptance
#
# difficulty 4/5 · 25 min · asked as: "Speculative decoding: when is a drafted token kept, and why does the distribution stay the target's?"
#
# `accept_drafted(drafted, draft, target, chance)`: γ drafted tokens (γ,) int64, the distributions they were drawn from (γ, v), those of the large model (γ + 1, v), and γ numbers drawn evenly from [0, 1). Returns how many tokens are kept (an int), and the distribution (v,) that the next token is to be drawn from: after a rejection the renormalised residual, after γ kept tokens the last target row.

# %% id="exercise-4-9" tags=["exercise"]
def accept_drafted(drafted: Tensor, draft: Tensor, target: Tensor, chance: Tensor) -> tuple[int, Tensor]:
    """How many drafted tokens stay, and the distribution of the token behind them."""
    ### BEGIN SOLUTION
    for i, token in enumerate(drafted.tolist()):
        # chance < p / q, written so that nothing is divided
        if chance[i] * draft[i, token] >= target[i, token]:
            residual = (target[i] - draft[i]).clamp(min=0)
            return i, residual / residual.sum()
    return len(drafted), target[-1]
    ### END SOLUTION

# %% id="check-4-9"
check("4.9", accept_drafted)

# %% [markdown] id="exercise-4-11-text"
# ### Exercise 4.11 · Decode speed from bandwidth
#
# difficulty 2/5 · 10 min · asked as: "How many tokens per second can a 7B model decode on this GPU, at batch 1 and at batch 64?"
#
# `decode_speed(parameters, weight_bits, cache_bytes, batch, bandwidth, peak_flops)` returns the upper limit of tokens per second, all sequences of the batch together. `cache_bytes` is that of one sequence, `bandwidth` in bytes per second. A step reads all weights once and every sequence's cache, and computes two operations for each parameter and sequence; reading and computing overlap. `ValueError` for a batch below 1.

# %% id="exercise-4-11" tags=["exercise"]
def decode_speed(parameters: float, weight_bits: float, cache_bytes: float, batch: int, bandwidth: float, peak_flops: float) -> float:
    """Tokens per second, over all sequences."""
    ### BEGIN SOLUTION
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    reading = (parameters * weight_bits / 8 + batch * cache_bytes) / bandwidth
    computing = 2 * parameters * batch / peak_flops
    return batch / max(reading, computing)
    ### END SOLUTION

# %% id="check-4-11"
check("4.11", decode_speed)
