"""What answering costs: the cache of keys and values, the speed limits of prefill and decode, money per token."""

from __future__ import annotations

from helpers.estimates.quantities import positive, share, whole


def kv_cache_bytes(
    layers: int,
    context: int,
    batch: int = 1,
    *,
    key_value_heads: int = 0,
    head_width: int = 0,
    latent_width: int = 0,
    rotary_width: int = 0,
    value_bytes: float = 2,
) -> float:
    """Bytes of the keys and values that decoding keeps: 2 · layers · heads · head width · tokens · bytes.

    The variants differ in what a layer keeps of a token:

    - multi-head attention (MHA): `key_value_heads` is the number of heads;
    - grouped-query (GQA): fewer, each shared by a group of query heads; multi-query (MQA): 1;
    - multi-head latent attention (MLA): no heads but one vector of `latent_width` from which keys and values are
      rebuilt, and a rotary key of `rotary_width` that all heads share (DeepSeek-V2: 512 and 64).

    Args:
        context: tokens in the cache of one sequence, prompt and answer.
        batch: sequences.
        value_bytes: of one number: 2 in 16 bits, 1 in 8 bits, 0.5 in 4 bits (the scales not counted).

    Give either both of `key_value_heads` and `head_width`, or `latent_width`. Raises TypeError or ValueError else.
    Shazeer (MQA), 2019; Ainslie et al. (GQA), 2023; DeepSeek-AI, "DeepSeek-V2", 2024, table 1.
    """
    for name, value in {"layers": layers, "context": context, "batch": batch}.items():
        whole(name, value)
    heads = {"key_value_heads": key_value_heads, "head_width": head_width}
    latent = {"latent_width": latent_width, "rotary_width": rotary_width}
    for name, value in {**heads, **latent}.items():
        whole(name, value, least=0)
    positive("value_bytes", value_bytes)
    with_heads = key_value_heads > 0 and head_width > 0 and not any(latent.values())
    with_latent = latent_width > 0 and not any(heads.values())
    if with_heads == with_latent:
        found = ", ".join(f"{name}={value}" for name, value in {**heads, **latent}.items())
        raise ValueError(f"give key_value_heads and head_width, or latent_width (with rotary_width), got {found}")
    per_token = 2 * key_value_heads * head_width + latent_width + rotary_width
    return layers * context * batch * per_token * value_bytes


def decode_tokens_per_second(
    weight_bytes: float,
    memory_bandwidth: float,
    batch: int = 1,
    *,
    cache_bytes: float = 0.0,
    parameters: float = 0.0,
    peak_flops: float = 0.0,
) -> float:
    """Upper limit of the tokens per second of decoding, over all sequences of the batch (roofline).

    Every step reads all weights once, and each sequence's cache: the step lasts at least those bytes over the
    memory's bandwidth. With `parameters` and `peak_flops` also at least 2 · parameters · batch operations over the
    peak, and the longer one counts. A real server stays below it.

    Args:
        weight_bytes: bytes read per step, `model_bytes(...)`; for a mixture of experts those that the batch touches.
        memory_bandwidth: bytes per second.
        cache_bytes: of one sequence, `kv_cache_bytes(..., batch=1)`.
        parameters: that one token passes through.
        peak_flops: operations per second, without sparsity.

    Raises TypeError or ValueError for bad numbers, or for only one of `parameters` and `peak_flops`.
    Williams et al., "Roofline", 2009; Pope et al., "Efficiently scaling transformer inference", 2022, section 2.
    """
    positive("weight_bytes", weight_bytes)
    positive("memory_bandwidth", memory_bandwidth)
    whole("batch", batch)
    for name, value in {"cache_bytes": cache_bytes, "parameters": parameters, "peak_flops": peak_flops}.items():
        positive(name, value, zero=True)
    if (parameters > 0) != (peak_flops > 0):
        raise ValueError(f"give both parameters and peak_flops or neither, got {parameters} and {peak_flops}")
    reading = (weight_bytes + batch * cache_bytes) / memory_bandwidth
    computing = 2 * parameters * batch / peak_flops if peak_flops else 0.0
    return batch / max(reading, computing)


def prefill_seconds(
    parameters: float,
    tokens: int,
    peak_flops: float,
    utilisation: float = 0.5,
    batch: int = 1,
    *,
    layers: int = 0,
    width: int = 0,
) -> float:
    """Seconds until the prompt is read: 2 operations per parameter and token, over what the GPU reaches.

    Args:
        tokens: of one prompt.
        peak_flops: operations per second, without sparsity.
        utilisation: share of the peak that is reached, above 0 and at most 1.
        batch: prompts of this length.
        layers, width: add the products of attention, 4 · layers · width · tokens per token (no saving by the causal
            mask, which fused kernels make: half of it); they matter once tokens come near to 6 · width.

    This is the time to the first token of an idle server; waiting in a queue comes on top. Raises TypeError or
    ValueError for bad numbers, or for only one of `layers` and `width`.
    Kaplan et al., 2020, table 1; Pope et al., 2022, section 2.
    """
    positive("parameters", parameters)
    whole("tokens", tokens)
    positive("peak_flops", peak_flops)
    share("utilisation", utilisation)
    whole("batch", batch)
    whole("layers", layers, least=0)
    whole("width", width, least=0)
    if (layers > 0) != (width > 0):
        raise ValueError(f"give both layers and width or neither, got layers={layers} and width={width}")
    flops = (2 * parameters + 4 * layers * width * tokens) * tokens * batch
    return flops / (peak_flops * utilisation)


def compute_bound_batch(peak_flops: float, memory_bandwidth: float, weight_bits: float = 16) -> float:
    """Batch at which a decoding step computes as long as it reads weights: peak · bytes / (2 · bandwidth).

    Below it a larger batch is free: the same weights are read for more tokens. An H100 in bf16 turns at about 295, with
    int8 weights that are computed in bf16 at about 148. The cache is left out: each sequence reads its own, so with a
    long context attention stays bound by memory at any batch.

    Args:
        peak_flops: operations per second in the type that is computed in, without sparsity.
        memory_bandwidth: bytes per second.
        weight_bits: of one weight as it is stored and read.

    Williams et al. (roofline), 2009; Pope et al., 2022, section 2.
    """
    positive("peak_flops", peak_flops)
    positive("memory_bandwidth", memory_bandwidth)
    positive("weight_bits", weight_bits)
    return peak_flops * weight_bits / 8 / (2 * memory_bandwidth)


def cost_per_million_tokens(price: float, tokens_per_second: float, gpus: int = 1, utilisation: float = 1.0) -> float:
    """Money for a million tokens, in the currency of the price.

    Args:
        price: of one GPU for one hour.
        tokens_per_second: of all `gpus` together when they are busy.
        utilisation: share of the paid hours in which they are busy: traffic has nights.

    Raises TypeError or ValueError for bad numbers.
    """
    positive("price", price, zero=True)
    positive("tokens_per_second", tokens_per_second)
    whole("gpus", gpus)
    share("utilisation", utilisation)
    return price * gpus / (3600 * tokens_per_second * utilisation) * 1e6


def speculative_tokens(acceptance: float, draft_tokens: int) -> float:
    """Expected tokens per step of the large model: (1 - α^(γ+1)) / (1 - α) = 1 + α + … + α^γ.

    At least 1: after the first rejection (or after all γ) the large model's own distribution gives one more.

    Args:
        acceptance: α, chance that a drafted token is kept, between 0 and 1, taken to be independent of the others.
        draft_tokens: γ, tokens that the small model drafts at a time.

    Leviathan et al., "Fast inference from transformers via speculative decoding", 2023, equation 1.
    """
    positive("acceptance", acceptance, zero=True)
    if acceptance > 1:
        raise ValueError(f"acceptance must be a share between 0 and 1, got {acceptance}")
    whole("draft_tokens", draft_tokens, least=0)
    return float(sum(acceptance**kept for kept in range(draft_tokens + 1)))


def speculative_speedup(acceptance: float, draft_tokens: int, draft_cost: float) -> float:
    """Expected speed-up of speculative decoding: (1 - α^(γ+1)) / ((1 - α)(γc + 1)). Below 1 it is slower.

    Args:
        acceptance: α, chance that a drafted token is kept, between 0 and 1.
        draft_tokens: γ, tokens that are drafted at a time.
        draft_cost: c, time of one step of the small model over one of the large model.

    It takes checking γ + 1 tokens to last as long as making one, which holds while decoding is bound by memory: at a
    large batch it does not. Leviathan et al., 2023, theorem 3.8.
    """
    positive("draft_cost", draft_cost, zero=True)
    return speculative_tokens(acceptance, draft_tokens) / (draft_tokens * draft_cost + 1)
