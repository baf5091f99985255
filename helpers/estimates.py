"""Back-of-envelope formulas of a training run: memory, communication, FLOPs, hours and money.

Plain Python: no torch, no NumPy, so that it starts at once. All sizes are in bytes and decimal (1 GB = 10⁹ bytes),
as the papers and the price lists have them; all times are in seconds unless a name says hours or days.

What this does not know: pipelines, tensor parallelism, memory that is lost to fragmentation, failed nodes, and the
experiments before the run that is published. An estimate within a third of the truth is a good one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from types import MappingProxyType

__all__ = [
    "GPU",
    "GPUS",
    "PRICES",
    "RUNS",
    "MemoryEstimate",
    "Price",
    "Run",
    "TrainingCost",
    "activation_bytes",
    "all_reduce_bytes",
    "all_reduce_seconds",
    "data_parallel_efficiency",
    "gpt_parameters",
    "gpu_hours",
    "human",
    "training_cost",
    "training_flops",
    "training_memory",
    "utilisation",
]

# ------------------------------------------------------------------------------------------------------- numbers


def human(value: float, unit: str = "B") -> str:
    """A quantity with three digits and a decimal prefix: 120 GB, 1.88 GB, 84.0 ZFLOP, 312 TFLOP/s, -5.00 MB.

    Raises ValueError for infinity and not-a-number.
    """
    if not isfinite(value):
        raise ValueError(f"value must be finite, got {value}")
    size, prefixes = abs(value), ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
    step = 0
    # 999.5 would be shown as "1000": it belongs to the next prefix
    while size >= 999.5 and step < len(prefixes) - 1:
        size, step = size / 1000, step + 1
    whole = step == 0 and size == int(size)
    digits = 0 if whole or size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{'-' if value < 0 else ''}{size:.{digits}f} {prefixes[step]}{unit}"


def _positive(name: str, value: float, *, zero: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name} must be finite and {'at least' if zero else 'above'} 0, got {value}")


def _whole(name: str, value: int, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, got {type(value).__name__} {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _one_of(name: str, value: str, accepted: Mapping[str, object] | tuple[str, ...]) -> None:
    if value not in accepted:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, accepted))}, got {value!r}")


def _share(name: str, value: float) -> None:
    _positive(name, value)
    if value > 1:
        raise ValueError(f"{name} must be a share, above 0 and at most 1, got {value}")


# -------------------------------------------------------------------------------------------------------- memory


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
        _whole(name, value)
    _whole("context", context, least=0)
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
    _positive("parameters", parameters)
    _whole("world_size", world_size)
    _whole("zero_stage", zero_stage, least=0)
    if zero_stage > 3:
        raise ValueError(f"zero_stage must be 0, 1, 2 or 3, got {zero_stage}")
    _one_of("optimiser", optimiser, OPTIMISER_STATES)
    _one_of("precision", precision, PRECISIONS)
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
        _whole(name, value)
    _whole("vocabulary", vocabulary, least=0)
    _one_of("recompute", recompute, RECOMPUTE)
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


# ------------------------------------------------------------------------------------------------- communication


def all_reduce_bytes(payload: float, world_size: int) -> float:
    """Bytes that each rank sends (and receives) in a ring all-reduce of `payload` bytes: 2 (n-1)/n of it.

    It is nearly independent of the number of ranks, which is why data parallelism scales.
    Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009.
    """
    _positive("payload", payload, zero=True)
    _whole("world_size", world_size)
    return 2 * (world_size - 1) / world_size * payload


def all_reduce_seconds(payload: float, world_size: int, bandwidth: float, latency: float = 0.0) -> float:
    """Seconds of a ring all-reduce of `payload` bytes: its 2 (n-1) rounds each wait once and send a share.

    Args:
        bandwidth: of the slowest link, bytes per second in one direction (500 Mbit/s are 62.5e6).
        latency: seconds until a message arrives, without its bytes.
    """
    _positive("bandwidth", bandwidth)
    _positive("latency", latency, zero=True)
    return 2 * (world_size - 1) * latency + all_reduce_bytes(payload, world_size) / bandwidth


def data_parallel_efficiency(compute_s: float, communication_s: float, overlap: float = 0.0) -> float:
    """Share of the ideal speed-up that is left when each step also communicates, between 0 and 1.

    Args:
        compute_s: seconds of a step without communication.
        communication_s: seconds of its communication alone.
        overlap: share of the communication that hides behind the backward pass; no more than `compute_s` can hide.
    """
    _positive("compute_s", compute_s)
    _positive("communication_s", communication_s, zero=True)
    _positive("overlap", overlap, zero=True)
    if overlap > 1:
        raise ValueError(f"overlap must be a share between 0 and 1, got {overlap}")
    exposed = communication_s - min(overlap * communication_s, compute_s)
    return compute_s / (compute_s + exposed)


# --------------------------------------------------------------------------------------------- FLOPs, hours, money


def training_flops(parameters: float, tokens: float, *, layers: int = 0, width: int = 0, context: int = 0) -> float:
    """Floating-point operations of a training run: 6 per parameter and token.

    Two in the forward pass (a multiplication and an addition), four in the backward pass, which needs the gradient
    of the inputs and of the weights. With `layers`, `width` and `context` the products of attention are added:
    12 layers·width·context per token, which matters when the context is long against the width. Work that is done
    twice (activation checkpointing) is left out: it is time spent, not training done.
    Kaplan et al., "Scaling laws for neural language models", 2020; Chowdhery et al. (PaLM), 2022, appendix B.
    """
    _positive("parameters", parameters)
    _positive("tokens", tokens)
    for name, value in {"layers": layers, "width": width, "context": context}.items():
        _whole(name, value, least=0)
    if 0 < sum(value > 0 for value in (layers, width, context)) < 3:
        raise ValueError(
            "the attention term needs layers, width and context together, "
            f"got layers={layers}, width={width}, context={context}"
        )
    return (6 * parameters + 12 * layers * width * context) * tokens


def gpu_hours(flops: float, peak_flops: float, utilisation: float) -> float:
    """Hours on one GPU, summed over all GPUs of the run.

    Args:
        peak_flops: of one GPU, per second and without sparsity (`GPUS["H100"].peak_flops`).
        utilisation: share of the peak that the run reaches; 0.3 to 0.5 for a tuned run of a large model.
    """
    _positive("flops", flops)
    _positive("peak_flops", peak_flops)
    _share("utilisation", utilisation)
    return flops / (peak_flops * utilisation) / 3600


def utilisation(flops: float, gpu_hours: float, peak_flops: float) -> float:
    """Model FLOPs utilisation of a finished run: what it needed to compute over what its GPUs could have computed.

    Above 1 means that an argument is wrong, most often a peak with or without sparsity. Chowdhery et al., 2022.
    """
    _positive("flops", flops)
    _positive("gpu_hours", gpu_hours)
    _positive("peak_flops", peak_flops)
    return flops / (gpu_hours * 3600 * peak_flops)


@dataclass(frozen=True)
class TrainingCost:
    """What one run takes: floating-point operations, hours on one GPU, days on all of them, money."""

    flops: float
    gpu_hours: float
    days: float
    money: float

    def __repr__(self) -> str:
        return (
            f"TrainingCost({human(self.flops, 'FLOP')}, {self.gpu_hours:,.0f} GPU-hours, "
            f"{self.days:,.1f} days, {self.money:,.0f} in the currency of the price)"
        )


def training_cost(
    parameters: float, tokens: float, peak_flops: float, utilisation: float, gpus: int, price: float
) -> TrainingCost:
    """Hours, days and money of one training run of 6ND operations.

    Args:
        peak_flops: of one GPU, per second, without sparsity.
        utilisation: share of the peak that the run reaches, above 0 and at most 1.
        gpus: how many work at the same time.
        price: of one GPU for one hour; the money is in the same currency.

    The bill of the run alone: experiments, failures, storage, people and serving come on top.
    """
    _whole("gpus", gpus)
    _positive("price", price, zero=True)
    flops = training_flops(parameters, tokens)
    hours = gpu_hours(flops, peak_flops, utilisation)
    return TrainingCost(flops=flops, gpu_hours=hours, days=hours / gpus / 24, money=hours * price)


# -------------------------------------------------------------------------------------------- what was published


@dataclass(frozen=True)
class GPU:
    """One accelerator: FLOP/s in bf16 without sparsity, bytes, bytes/s of its memory and of its link one way."""

    name: str
    peak_flops: float
    memory: float
    memory_bandwidth: float
    link_bandwidth: float
    source: str

    def __repr__(self) -> str:
        return (
            f"GPU({self.name}: {human(self.peak_flops, 'FLOP/s')} bf16, {human(self.memory)}, "
            f"{human(self.memory_bandwidth, 'B/s')} memory, {human(self.link_bandwidth, 'B/s')} link; {self.source})"
        )


GPUS: Mapping[str, GPU] = MappingProxyType(
    {
        gpu.name: gpu
        for gpu in (
            GPU("A100-40GB", 312e12, 40e9, 1.555e12, 300e9, "NVIDIA A100 datasheet, SXM, 2020"),
            GPU("A100", 312e12, 80e9, 2.039e12, 300e9, "NVIDIA A100 datasheet, 80 GB SXM, 2021"),
            GPU("H100", 989.4e12, 80e9, 3.35e12, 450e9, "NVIDIA H100 datasheet, SXM, 2023"),
            GPU("H200", 989.4e12, 141e9, 4.8e12, 450e9, "NVIDIA H200 datasheet, SXM, 2024"),
            GPU("B200", 2250e12, 180e9, 7.7e12, 900e9, "NVIDIA HGX B200 datasheet, 2025"),
        )
    }
)
"""Data sheets print the peak with 2:4 sparsity in large type (H100: 1,979); dense training reaches half of that."""


@dataclass(frozen=True)
class Run:
    """A training run whose GPU-hours were published: a check of the formulas above."""

    name: str
    parameters: float
    tokens: float
    gpu: str
    gpu_hours: float
    source: str

    @property
    def utilisation(self) -> float:
        """Share of the peak that the published hours and 6ND imply."""
        return utilisation(training_flops(self.parameters, self.tokens), self.gpu_hours, GPUS[self.gpu].peak_flops)


RUNS: tuple[Run, ...] = (
    Run("LLaMA 7B", 6.738e9, 1.0e12, "A100", 82_432, "Touvron et al., February 2023, tables 2 and 15"),
    Run("LLaMA 65B", 65.2e9, 1.4e12, "A100", 1_022_362, "Touvron et al., February 2023, tables 2 and 15"),
    Run("MPT-7B", 6.65e9, 1.0e12, "A100-40GB", 440 * 9.5 * 24, "MosaicML, May 2023: 440 GPUs for 9.5 days"),
    Run("Llama 2 7B", 6.738e9, 2.0e12, "A100", 184_320, "Touvron et al., July 2023, table 2"),
    Run("Llama 2 70B", 68.98e9, 2.0e12, "A100", 1_720_320, "Touvron et al., July 2023, table 2"),
    Run("Llama 3 8B", 8.03e9, 15.0e12, "H100", 1_300_000, "Meta, model card, April 2024"),
)


@dataclass(frozen=True)
class Price:
    """US dollars for one GPU for one hour, as somebody paid or listed it at a time. Prices fall: keep the date."""

    gpu: str
    dollars: float
    source: str


PRICES: tuple[Price, ...] = (
    Price("A100-40GB", 32.77 / 8, "AWS p4d.24xlarge on demand, as reported in 2024"),
    Price("A100-40GB", 200_000 / (440 * 9.5 * 24), "MosaicML, May 2023: about $200,000 for MPT-7B"),
    Price("H100", 98.32 / 8, "AWS p5.48xlarge on demand, July 2023, as reported"),
    Price("H100", 3.90, "AWS p5 on demand, March 2026, as reported after the cut of June 2025"),
)
