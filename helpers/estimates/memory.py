"""Bytes on a GPU: parameters, what an optimiser keeps, activations, quantised weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from helpers.estimates.quantities import human, one_of, positive, whole


def gpt_parameters(
    layers: int,
    width: int,
    vocabulary: int,
    *,
    context: int = 0,
    hidden: int | None = None,
    gated: bool = False,
    biases: bool = True,
    tied: bool = True,
    key_value_width: int | None = None,
) -> int:
    """Number of parameters of a decoder-only transformer. The defaults are those of GPT-2.

    Args:
        context: rows of a learned table of positions; 0 where there is none (rotary embedding, ALiBi).
        hidden: inner width of the feed-forward part; 4 × width when None.
        gated: the feed-forward part has three matrices (SwiGLU, as in Llama), not two.
        biases: linear layers and norms have biases.
        tied: the output layer is the embedding table again.
        key_value_width: narrower keys and values (grouped-query attention); width when None.

    With the defaults that is 12 layers·width² and a little. Raises TypeError or ValueError for anything but whole
    numbers of at least 1. Radford et al. (GPT-2), 2019; Touvron et al. (LLaMA), 2023.
    """
    hidden = 4 * width if hidden is None else hidden
    kv_width = width if key_value_width is None else key_value_width
    sizes = {"layers": layers, "width": width, "vocabulary": vocabulary, "hidden": hidden, "key_value_width": kv_width}
    for name, value in sizes.items():
        whole(name, value)
    whole("context", context, least=0)
    # queries and output, keys and values; then the feed-forward matrices
    matrices = 2 * width * width + 2 * width * kv_width + (3 if gated else 2) * width * hidden
    bias_vectors = (2 * width + 2 * kv_width + (2 if gated else 1) * hidden + width) if biases else 0
    norm = 2 * width if biases else width
    tables = vocabulary * width * (1 if tied else 2) + context * width
    return layers * (matrices + bias_vectors + 2 * norm) + norm + tables


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one GPU of what stays there between two steps. Activations come on top."""

    weights: float
    gradients: float
    optimiser: float

    @property
    def total(self) -> float:
        """Bytes of all three."""
        return self.weights + self.gradients + self.optimiser

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {human(getattr(self, name))}" for name in ("weights", "gradients", "optimiser"))
        return f"MemoryEstimate({human(self.total)} a GPU: {parts})"


PRECISIONS: Mapping[str, tuple[int, int, int, int]] = MappingProxyType(
    {
        # bytes per parameter: weight, gradient, fp32 master weight, each state of the optimiser
        "mixed": (2, 2, 4, 4),
        "fp32": (4, 4, 0, 4),
        "bf16": (2, 2, 0, 2),
    }
)

OPTIMISER_STATES: Mapping[str, int] = MappingProxyType({"adamw": 2, "adam": 2, "momentum": 1, "sgd": 0})
"""Values that the optimiser keeps per parameter: Adam a mean and a variance."""


def training_memory(
    parameters: float, *, world_size: int = 1, zero_stage: int = 0, optimiser: str = "adamw", precision: str = "mixed"
) -> MemoryEstimate:
    """Bytes per GPU of weights, gradients and optimiser state: 2 + 2 + 12 per parameter for mixed-precision Adam.

    Args:
        zero_stage: what is divided among the GPUs: 0 nothing (DDP), 1 the optimiser state, 2 the gradients too,
            3 the weights too (FSDP, `fully_shard`).
        optimiser: "adamw", "adam", "momentum" or "sgd".
        precision: "mixed" keeps 16-bit weights and gradients with an fp32 master copy, which counts as optimiser
            state; "fp32" is also what `torch.autocast` keeps (4 + 4 + 8: the same 16 bytes with Adam); "bf16" has
            everything in 16 bits.

    Raises TypeError or ValueError for an argument outside of these.
    Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models", 2020, figure 1.
    """
    positive("parameters", parameters)
    whole("world_size", world_size)
    whole("zero_stage", zero_stage, least=0)
    if zero_stage > 3:
        raise ValueError(f"zero_stage must be 0, 1, 2 or 3, got {zero_stage}")
    one_of("optimiser", optimiser, OPTIMISER_STATES)
    one_of("precision", precision, PRECISIONS)
    weight, gradient, master, state = PRECISIONS[precision]
    return MemoryEstimate(
        weights=weight * parameters / (world_size if zero_stage >= 3 else 1),
        gradients=gradient * parameters / (world_size if zero_stage >= 2 else 1),
        optimiser=(master + state * OPTIMISER_STATES[optimiser]) * parameters / (world_size if zero_stage >= 1 else 1),
    )


RECOMPUTE = ("none", "selective", "full")


def activation_bytes(
    layers: int,
    width: int,
    context: int,
    batch: int,
    heads: int,
    recompute: str = "none",
    *,
    value_bytes: int = 2,
    dropout: bool = True,
    vocabulary: int = 0,
) -> int:
    """Bytes that the forward pass of a GPT keeps for its backward pass, on one GPU.

    Per layer and in the paper's letters (s context, b batch, h width, a heads): sbh·(34 + 5as/h) with everything kept
    in 16 bits; sbh·34 when the s×s attention matrices are not kept ("selective"; fused attention such as
    FlashAttention does the same); 2sbh, the input of the layer alone, when each layer is computed again ("full").
    A layer that is being computed again needs its own activations for that moment, on top of this. `torch.autocast`
    keeps the residual path in fp32 and 16-bit copies of the weights, so it needs about a quarter more than 16 bits say.

    Args:
        value_bytes: of one activation: 2 for 16 bits, 4 for fp32.
        dropout: its masks are kept, a byte a value (as on a GPU).
        vocabulary: adds the last norm, the output layer's input and its fp32 logits; 0 leaves them out.

    Raises TypeError or ValueError for anything but positive whole numbers, or for an unknown `recompute`.
    Korthikanti et al., "Reducing activation recomputation in large transformer models", 2022, sections 4 and 5.
    """
    sizes = {"layers": layers, "width": width, "context": context, "batch": batch, "heads": heads}
    for name, value in sizes.items() | {"value_bytes": value_bytes}.items():
        whole(name, value)
    whole("vocabulary", vocabulary, least=0)
    one_of("recompute", recompute, RECOMPUTE)
    values = context * batch * width
    # inputs of the two norms; of the query-key-value, output and two feed-forward matrices (1, 1, 1, 4); queries,
    # keys and values; and what goes into the GELU (4)
    per_layer = values * (16 * value_bytes + 2 * dropout)
    if recompute == "none":
        # the softmax, and where there is dropout also its mask and what is left of the softmax after it
        per_layer += heads * context * context * batch * (2 * value_bytes + 1 if dropout else value_bytes)
    elif recompute == "full":
        per_layer = values * value_bytes
    ends = (2 * value_bytes * values + 4 * context * batch * vocabulary) if vocabulary else 0
    return layers * per_layer + ends


# --------------------------------------------------------------------------------------------- quantised weights


def model_bytes(
    parameters: float,
    bits: float = 16,
    *,
    group_size: int = 0,
    scale_bits: float = 16,
    zero_point_bits: float = 0,
    unquantised: float = 0,
) -> float:
    """Bytes of a model's weights at `bits` each, with the scales that quantised groups of weights carry.

    Args:
        parameters: all of them.
        bits: of one quantised weight: 32, 16, 8, 4, ...
        group_size: weights that share a scale; 0 leaves the scales out (one per channel is a thousandth and less).
        scale_bits: of a group's scale; 16 as GPTQ and AWQ store it, 32 for fp32.
        zero_point_bits: of a group's zero point; 0 for symmetric quantisation, `bits` as GPTQ and AWQ store it.
        unquantised: how many of the parameters stay in 16 bits (embeddings, norms, the output layer).

    int4 in groups of 128 with 16-bit scales is 4 + 16/128 = 4.125 bits a weight; with 4-bit zero points 4.156.
    Raises TypeError or ValueError for what is not a positive number, and for more unquantised than parameters.
    Frantar et al. (GPTQ), 2022; Dettmers and Zettlemoyer, "The case for 4-bit precision", 2022.
    """
    positive("parameters", parameters)
    positive("bits", bits)
    whole("group_size", group_size, least=0)
    positive("scale_bits", scale_bits, zero=True)
    positive("zero_point_bits", zero_point_bits, zero=True)
    positive("unquantised", unquantised, zero=True)
    if unquantised > parameters:
        raise ValueError(f"unquantised must be at most the {parameters} parameters, got {unquantised}")
    per_weight = bits + ((scale_bits + zero_point_bits) / group_size if group_size else 0)
    return ((parameters - unquantised) * per_weight + unquantised * 16) / 8
