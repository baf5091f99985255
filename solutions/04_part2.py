# needs of the imports cell: copy, functools, math, time, Path, np, pd, torch, F, Tensor, nn; datasets, efficiency, estimates, models, plots from helpers; compression as co, decoding from helpers; compare_latency, measure_latency; check, hint, predict, progress, solution

# %% [markdown] id="pruning-text"
# ## Fewer weights: pruning
#
# *Magnitude pruning* (Han et al. 2015) sets the smallest weights to zero. Ranked **globally** a layer may lose nearly everything while another keeps most; **per layer** each loses the same share. *Structured* pruning takes whole units, filters or heads out, so that the matrices become smaller.
#
# A network of real digits (1,000 to train on, 797 to judge by), pruned without training it again.

# %% id="digit-networks"
pixels, labels = datasets.digits()
order = torch.from_numpy(np.random.default_rng(SEED).permutation(len(labels)))
x, y = torch.from_numpy(pixels / 16).float()[order], torch.from_numpy(labels).long()[order]
x_train, y_train, x_new, y_new = x[:1000], y[:1000], x[1000:], y[1000:]


def perceptron(hidden: int, seed: int = SEED) -> nn.Sequential:
    """64 pixels, one hidden layer after another of this width, 10 classes."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def accuracy(model: nn.Module) -> float:
    with torch.inference_mode():
        return (model(x_new).argmax(1) == y_new).float().mean().item()


teacher = perceptron(256)
co.train_student(teacher, None, x_train, y_train, epochs=20)
print(f"{sum(p.numel() for p in teacher.parameters()):,} parameters, accuracy on new digits {accuracy(teacher):.3f}")

# %% id="pruning-run"
shares = [0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98]
pruned = {scope: [co.prune_weights(teacher, share, scope=scope) for share in shares] for scope in ("global", "layer")}
plots.lines({{"global": "one ranking", "layer": "each layer by itself"}[scope]: (shares, [accuracy(m) for m in some]) for scope, some in pruned.items()},
    title="Most weights go without a loss; one ranking for all goes further", xlabel="share of weights set to zero", ylabel="accuracy on new digits")  # fmt: skip
pd.DataFrame({scope: co.layer_sparsity(some[5]) for scope, some in pruned.items()}).round(2)

# %% [markdown] id="pruning-read" tags=["solution"]
# **What to say out loud.** More than half of the weights can go before anything happens. With one ranking the large middle layer pays and the first and last, which are small and busy, keep more; the table shows it at a share of 0.9. *Follow-up: what would you do at 95 %?* Prune in steps and train in between: a pruned network recovers much of its accuracy.

# %% [markdown] id="predict-sparse-text"
# **Predict before you run.** 90 % of the weights are zero. How many times faster is the network at batch 1? Write a number for `guess`.

# %% id="sparse-time" tags=["nbval-ignore-output"]
wide = nn.Sequential(nn.Linear(512, 2048), nn.GELU(), nn.Linear(2048, 512)).eval()
row = torch.randn(1, 512)
variants = {"all weights": wide, "90 % zeros": co.prune_weights(wide, 0.9), "90 % of the hidden units out": co.prune_hidden(wide, 0.9)}
with torch.inference_mode():
    timed = compare_latency({name: functools.partial(model, row) for name, model in variants.items()}, pairs=15)
plots.bars({name: timed.speed_up(name, "all weights") for name in variants}, title="Zeros cost what other numbers cost; smaller matrices do not",
    xlabel="times faster than with all weights (batch 1, median of pairs)", highlight=["90 % zeros"])  # fmt: skip

# %% id="predict-sparse" tags=["nbval-ignore-output"]
guess = None
predict("times faster with 90 % zeros", guess=guess, measured=round(timed.speed_up("90 % zeros", "all weights"), 1))

# %% [markdown] id="sparse-read" tags=["solution"]
# **What to say out loud.** A dense kernel multiplies zeros as well: unstructured pruning changes the size of a compressed file, not the time of a step. Time falls when the shape falls (units, heads, layers), or with a kernel made for a pattern, such as 2:4 on GPUs since 2020, where two of four neighbours are zero.

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

# %% [markdown] id="distillation-text"
# ## A smaller model that learns from the large one: distillation
#
# The labels say "a 3". The teacher says "a 3, and a little like an 8 and a 9": more information for each example (Hinton, Vinyals and Dean 2015). Both distributions are softened by a temperature $T$, and the loss is
#
# $$\mathcal{L} = \lambda\, T^2\, \mathrm{KL}\!\left(p^{(T)}_\text{teacher} \,\|\, p^{(T)}_\text{student}\right) + (1-\lambda)\, \mathrm{CE}(y, p_\text{student})$$
#
# A student with 16 hidden units a layer learns from 60 labelled digits. The teacher has seen 1,000; its answers are also there for the other 940, which need no label.

# %% id="distillation-run"
seeds = range(3 if QUICK else 10)


def student_accuracy(seed: int, teacher: nn.Module | None, count: int, temperature: float = 4.0) -> float:
    student = perceptron(16, seed)
    weight = 1.0 if count > 60 else 0.7  # beyond 60 there are no labels
    co.train_student(student, teacher, x_train[:count], y_train[:count], epochs=60_000 // count, lr=3e-3, temperature=temperature, weight=weight, seed=seed)
    return accuracy(student)


found = {
    "60 labels": [student_accuracy(seed, None, 60) for seed in seeds],
    "60 labels and the teacher on them": [student_accuracy(seed, teacher, 60) for seed in seeds],
    "the teacher on 1,000 digits, no label": [student_accuracy(seed, teacher, 1000) for seed in seeds],
}

# %% id="distillation-plot"
means = {name: float(np.mean(runs)) for name, runs in found.items()}
spread = {name: float(np.std(runs, ddof=1) / len(runs) ** 0.5) for name, runs in found.items()}
plots.bars(means, title="The same 60 digits teach more with a teacher's answers", xlabel="accuracy on new digits (± one standard error)",
    errors=spread, reference=(accuracy(teacher), "teacher"), form="{:.3f}")  # fmt: skip
print(f"student {sum(p.numel() for p in perceptron(16).parameters()):,} parameters, teacher {sum(p.numel() for p in teacher.parameters()):,}")

# %% [markdown] id="distillation-read" tags=["solution"]
# **What to say out loud.** On the same 60 digits the student gets from 0.81 to 0.94 when it learns from the teacher's soft answers as well, and to 0.95 when the teacher answers for digits that nobody has labelled; the teacher itself has 0.97 with 57 times the parameters. A soft answer says which digits look alike, a label does not. The student is a small dense network: unlike zeros, its size is speed. *Follow-up: whose answers may you learn from?* Licences of several large models forbid training a competing model on their outputs; read them before the first request.

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

# %% [markdown] id="low-rank-text"
# ## Two thin matrices for a large one: low-rank factors
#
# $W \approx UV$ with $U$ (out × r) and $V$ (r × in) needs $r(\text{in}+\text{out})$ weights. The truncated singular value decomposition is the closest matrix of rank $r$ (Eckart and Young 1936): closest to the *weights*, which is not the same as closest in what the layer answers.

# %% id="low-rank-run"
fractions = [1.0, 0.7, 0.5, 0.3, 0.2, 0.1]
thin = [co.low_rank(teacher, share, smallest=64) for share in fractions]
sizes = [sum(p.numel() for p in model.parameters()) / sum(p.numel() for p in teacher.parameters()) for model in thin]
spectrum = torch.linalg.svdvals(teacher[2].weight.detach())
left, right = plots.panels(["Ten singular values stand out …", "… and a third of the parameters is enough"])
plots.lines({"singular values": (range(len(spectrum)), spectrum.tolist())}, xlabel="number", ylabel="size", ax=left)
plots.lines({"accuracy": (sizes, [accuracy(model) for model in thin])}, xlabel="share of the parameters that is left", ylabel="accuracy on new digits", ax=right)
print({f"{size:.2f}": round(accuracy(model), 3) for size, model in zip(sizes, thin, strict=True)})

# %% [markdown] id="low-rank-read" tags=["solution"]
# **What to say out loud.** About ten directions of the middle layer were learned, one for each class; the long tail is what random initialisation left, and it can go. Do not expect that of a large language model: there the features are nearly of low rank and the weights are not (Yu and Wu, AAAI 2023), so at the same size int8 costs less. What *is* of low rank is the change that fine-tuning makes, which is why LoRA (Hu et al. 2021) trains two thin matrices beside a frozen one. The last layer was left alone: with ten outputs it has no rank to spare.

# %% [markdown] id="decode-text"
# ## Where tokens per second come from
#
# A language model answers one token at a time. Without a cache the whole text is computed again for every token: $n$ tokens cost $1 + 2 + \dots + n$ positions. With a **key-value cache** each step computes one position and looks its predecessors' keys and values up.
#
# A small GPT of bytes, trained here on the standard library's source; it is judged by later files.

# %% id="gpt-train"
config = models.GPTConfig(context=256, layers=4, heads=4, width=128)
training, held_out = decoding.code_tokens(256, 1_600)
made = decoding.train_code_gpt(config, training, steps=120 if QUICK else 1_500, batch_size=4, lr=2e-3, seed=SEED)
gpt = made.model
prompt = held_out[0, :32]
print(f"{sum(p.numel() for p in gpt.parameters()):,} parameters, perplexity on other files {decoding.perplexity(gpt, held_out[:16]):.1f} per byte (256 would be blind)")

# %% id="stream"
text = bytes(prompt.tolist()).decode(errors="replace")
for token in decoding.stream(gpt, prompt, 120, temperature=0.8, generator=torch.Generator().manual_seed(SEED)):
    text += chr(token) if token < 128 else "?"  # a server would send each one as it comes
print(text)

# %% [markdown] id="predict-cache-text"
# `stream` yields every token when it is there. That changes nothing about the last one, and everything about how long a reader waits for the first.
#
# **Predict before you run.** 150 tokens after a prompt of 32. How many times faster with a cache?

# %% id="cache-run" tags=["nbval-ignore-output"]
ways = {"every text again": False, "key-value cache": True}
tokens = {name: decoding.generate(gpt, prompt, 150, cache=cached) for name, cached in ways.items()}
timed = compare_latency({name: functools.partial(decoding.generate, gpt, prompt, 150, cache=cached) for name, cached in ways.items()}, batch=150, warm_up=0, pairs=1)
print("the same greedy tokens:", torch.equal(*tokens.values()))

# %% id="predict-cache" tags=["nbval-ignore-output"]
guess = None
predict("times faster with a cache", guess=guess, measured=round(timed.speed_up("key-value cache", "every text again"), 1))

# %% id="cache-plot" tags=["nbval-ignore-output"]
def step_seconds(length: int) -> dict[str, float]:
    """Median seconds of one token after a text of this length."""
    full, whole = models.KVCache(config), held_out[:1, :length]
    def step() -> None:
        full.lengths = [length - 1]
        gpt(whole[:, -1:], full)
    with torch.inference_mode():
        both = compare_latency({"every text again": lambda: gpt(whole), "key-value cache": step}, pairs=7, warm_up=1)
    return {name: latency.p50 for name, latency in both.latencies.items()}


lengths = [16, 32, 64, 128, 256]
steps = [step_seconds(length) for length in lengths]
plots.lines({name: (lengths, [step[name] * 1e3 for step in steps]) for name in ways}, title="With a cache a token costs the same early and late", xlabel="tokens so far", ylabel="milliseconds a token", log="xy")
cached_bytes = estimates.kv_cache_bytes(config.layers, config.context, key_value_heads=config.heads, head_width=config.width // config.heads, value_bytes=4)
print(f"the price is memory: {cached_bytes / 1e6:.2f} MB by the formula, {models.KVCache(config).nbytes / 1e6:.2f} MB allocated, for one sequence")

# %% [markdown] id="cache-read" tags=["solution"]
# **What to say out loud.** The cache turns quadratic work into linear and gives the same tokens. It is allocated once for the whole context, so that no tensor grows while one generates; only a causal model has it, because earlier positions do not depend on later ones. The price is memory that grows with layers × heads × tokens × sequences, which is what grouped-query and latent attention, 8-bit caches and paging are about.

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

# %% [markdown] id="roofline-text"
# ### The roof
#
# A step needs $F$ operations and reads $B$ bytes. It lasts at least $\max(F/\text{peak},\; B/\text{bandwidth})$ (Williams et al. 2009). What decides is the *intensity* $F/B$: two operations for each weight and token, four bytes for each weight, so a batch of $b$ has $b/2$ in float32. Both limits are measured here: a product of two large matrices, and the sum over a tensor that fits in no cache.

# %% id="roofline-models" tags=["nbval-ignore-output"]
peak, bandwidth = efficiency.peak_flops(), decoding.memory_bandwidth()
roof = decoding.Roofline(peak, bandwidth)
torch.manual_seed(SEED)
big_config = models.GPTConfig(context=256, layers=8, heads=8, width=512)  # 101 MB: fits in few caches, so weights come from memory
big = models.GPT(big_config).eval()


def one_step(new: int, batch: int) -> tuple[decoding.Work, float]:
    """The work of a step after 64 tokens, and its median seconds."""
    full = models.KVCache(big_config, batch)
    def step() -> None:
        full.lengths = [64] * batch
        big(torch.ones(batch, new, dtype=torch.int64), full)
    with torch.inference_mode():
        seconds = measure_latency(step, repeats=5, warm_up=1).p50
    return decoding.decode_work(big_config, 64, batch=batch, new_tokens=new), seconds


measured = {"1 token": one_step(1, 1), "8 sequences": one_step(1, 8), "a prompt of 128": one_step(128, 1)}

# %% id="roofline-plot" tags=["nbval-ignore-output"]
roof.plot(measured, title="One token at a time is bound by memory, a prompt by arithmetic")
print({name: f"bound by {roof.bound_by(work)}, {work.intensity:.1f} operations a byte" for name, (work, _) in measured.items()})

# %% [markdown] id="roofline-read" tags=["solution"]
# **What to say out loud.** Decoding at batch 1 reads every weight to use it once: half an operation a byte in float32, far to the left of the ridge, where the machine's two limits meet. So tokens per second ≈ bandwidth / bytes of the weights; more arithmetic does not help, fewer bytes (int8, int4) and more sequences for each reading (batching) do. Reading the prompt is a product of large matrices and sits under the flat roof. What is missing to the roof is the time of many small operations between the large ones.

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

# %% [markdown] id="int8-decode-text"
# ### Fewer bytes: int8 weights
#
# Only the *weights* are rounded, one scale for each output; the sums stay in floating point. A quarter of the bytes is read, so in the memory-bound step up to four times as many tokens come out. For a model that fits in the cache, or at a large batch, the gain is smaller or none.

# %% id="int8-decode" tags=["nbval-ignore-output"]
pairs_of = {"large": (big, decoding.int8_weights(big)), "small": (gpt, decoding.int8_weights(gpt))}
gain = {}
for name, (plain, int8) in pairs_of.items():
    both = {"fp32": functools.partial(decoding.generate, plain, prompt, 16), "int8": functools.partial(decoding.generate, int8, prompt, 16)}
    ratio = compare_latency(both, pairs=5, warm_up=1).speed_up("int8", "fp32")
    gain[f"{name}: {decoding.weight_bytes(plain) / 1e6:.0f} MB → {decoding.weight_bytes(int8) / 1e6:.1f} MB"] = ratio
plots.bars(gain, title="int8 weights pay where weights come from memory", xlabel="times the tokens per second of float32, batch 1", reference=(1, "no gain"))

# %% id="int8-perplexity"
before, after = (decoding.perplexity(model, held_out[:8]) for model in pairs_of["small"])
print(f"perplexity of the trained model {before:.2f} in float32, {after:.2f} with int8 weights: {after / before - 1:+.2%}")

# %% [markdown] id="int8-decode-read" tags=["solution"]
# **What to say out loud.** The rounding costs next to nothing in perplexity at one scale a row. The gain in speed is a statement about bytes: the small model sits in the cache and its step is mostly the overhead of small operations, so there int8 helps little or hurts. `python -m benchmarks decoding` measures a model of 153 MB, 40 MB in int8: both more than a cache of 32 MB.

# %% [markdown] id="batching-text"
# ### More sequences for each reading: batching
#
# Eight sequences share one reading of the weights. But answers have different lengths: a *padded* batch waits for its longest one, while *continuous* batching (Yu et al., Orca, 2022) puts the next request into a row as soon as it is free.

# %% id="batching-run"
lengths = np.random.default_rng(SEED).geometric(1 / 30, 24).clip(2, 150).tolist()
queue = [decoding.Request(held_out[i, : 16 + i % 5], length) for i, length in enumerate(lengths)]
served = {"padded": decoding.serve_padded(gpt, queue, 4), "continuous": decoding.serve_continuously(gpt, queue, 4)}
same = all(torch.equal(a, b) for a, b in zip(*(run.tokens for run in served.values()), strict=True))
print(f"the same answers: {same}; longest {max(lengths)} tokens, median {np.median(lengths):.0f}")
pd.DataFrame({name: {"steps": run.steps, "share of rows busy": round(run.utilisation, 2), "median step of the last token": np.median(run.finished)} for name, run in served.items()})

# %% id="batching-plot"
for axis, (name, run) in zip(plots.panels([f"{name}: {run.utilisation:.0%} of the work was asked for" for name, run in served.items()]), served.items(), strict=True):
    plots.lines({"answers": (sorted(run.finished), range(1, len(queue) + 1))}, xlabel="decoding step", ylabel="requests answered", ax=axis)
    axis.set_xlim(0, max(run.steps for run in served.values()))

# %% [markdown] id="batching-read" tags=["solution"]
# **What to say out loud.** Both compute the same answers. The padded batch spends its steps on rows that are already done; the continuous one does not, and short answers no longer wait for long ones. A real server adds paged memory for the caches (Kwon et al., PagedAttention, 2023), because each row here reserves a whole context.

# %% [markdown] id="speculative-text"
# ### Several tokens for each reading: speculative decoding
#
# A small model drafts $\gamma$ tokens, the large one checks all of them in **one** pass, which in the memory-bound regime costs about as much as one token. Token $x$ is kept with probability $\min(1, p(x)/q(x))$; at the first rejection the next token is drawn from $\max(p-q, 0)$, renormalised. The result is distributed exactly as the large model's (Leviathan et al. 2023):
#
# $$\underbrace{q(x)\min\!\left(1,\tfrac{p(x)}{q(x)}\right)}_{\text{drafted and kept}} + \underbrace{\left(1-\sum_z \min(p(z), q(z))\right)\frac{\max(p(x)-q(x),0)}{\sum_z \max(p(z)-q(z),0)}}_{\text{rejected, drawn again}} = \min(p,q) + \max(p-q,0) = p(x)$$

# %% id="speculative-exact"
draft_config = models.GPTConfig(context=256, layers=1, heads=4, width=64)
draft = decoding.train_code_gpt(draft_config, training, steps=120 if QUICK else 1_500, batch_size=8, lr=4e-3, seed=SEED).model
run = decoding.speculate(gpt, draft, prompt, 100, draft_tokens=4)
print("greedy: the same tokens as the large model alone:", torch.equal(run.tokens, decoding.generate(gpt, prompt, 100)))
print(f"{run.rounds} passes of the large model for {len(run.tokens)} tokens, acceptance {run.acceptance:.2f}")
sampled = decoding.speculate(gpt, draft, prompt, 200, temperature=1.0, generator=torch.Generator().manual_seed(SEED))
print(f"sampled at temperature 1: acceptance {sampled.acceptance:.2f}, {sampled.tokens_per_round:.1f} tokens a pass")

# %% id="speculative-distribution"
p, q = torch.tensor([0.5, 0.2, 0.2, 0.1]), torch.tensor([0.1, 0.2, 0.3, 0.4])
dice = torch.Generator().manual_seed(SEED)
kept_or_drawn = []
for token in torch.multinomial(q, 50_000, replacement=True, generator=dice):
    kept, following = decoding.accept(token[None], q[None], torch.stack([p, p]), dice)
    kept_or_drawn.append(int(token if kept else following))
counts = np.bincount(kept_or_drawn, minlength=4)
chi2 = ((counts - 50_000 * p.numpy()) ** 2 / (50_000 * p.numpy())).sum()
print(f"50,000 draws: {(counts / 50_000).round(3)}, target {p.numpy()}, draft {q.numpy()}")
print(f"chi-square {chi2:.1f} with 3 degrees of freedom; above 11.3 would be a one-in-a-hundred event")

# %% id="speculative-formula"
accepted = np.linspace(0.05, 0.98, 40)
plots.lines({f"{gamma} drafted": (accepted, [estimates.speculative_speedup(a, gamma, 0.1) for a in accepted]) for gamma in (2, 4, 8)},
    title="More drafts pay only where nearly all are accepted", xlabel="acceptance α", ylabel="speed-up (draft costs 0.1 of a step)").axhline(1, color="#333333", linestyle="--", linewidth=1)  # fmt: skip

# %% id="speculative-time" tags=["nbval-ignore-output"]
full = {model: models.KVCache(model.config) for model in (gpt, draft)}


@torch.inference_mode()
def a_pass(model: models.GPT, tokens: int) -> None:
    full[model].lengths = [64]
    model(torch.ones(1, tokens, dtype=torch.int64), full[model])


cost = compare_latency({"one token": lambda: a_pass(gpt, 1), "checking 5": lambda: a_pass(gpt, 5), "draft": lambda: a_pass(draft, 1)}, pairs=30)
draft_cost, check_cost = (1 / cost.speed_up(name, "one token") for name in ("draft", "checking 5"))
both = compare_latency({"alone": lambda: decoding.generate(gpt, prompt, 100, temperature=1.0), "with drafts": lambda: decoding.speculate(gpt, draft, prompt, 100, temperature=1.0)}, pairs=5, warm_up=1)
predicted = estimates.speculative_tokens(sampled.acceptance, 4) / (4 * draft_cost + check_cost)
print(f"a draft step costs {draft_cost:.2f} of a step, checking five tokens {check_cost:.2f}")
print(f"predicted speed-up {predicted:.2f}, measured {both.speed_up('with drafts', 'alone'):.2f}")

# %% [markdown] id="speculative-read" tags=["solution"]
# **What to say out loud.** The formula has three numbers: acceptance, drafted tokens, and the cost of a draft step. With two models this small a draft step costs a good part of a large one, because both are mostly the overhead of small operations, and checking five tokens costs more than making one: the measured prediction has both costs in it. Where it is below 1, drafting is slower, and the formula says so before anybody has built it. The acceptance of the *greedy* run is high because a model trained for seconds repeats itself; the sampled one is the honest number. At a large batch it stops paying, because checking $\gamma+1$ tokens a sequence is then no longer free.

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
