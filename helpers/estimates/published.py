"""What was published: accelerators, runs with their GPU-hours, prices. Each with its source and year."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from helpers.estimates.quantities import human
from helpers.estimates.training import training_flops, utilisation


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
