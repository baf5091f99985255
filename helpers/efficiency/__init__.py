"""What makes one training step cheaper, and how to measure it. Nothing here is about several processes.

Steps: `autocast`, `grad_scaler`, `optimiser_step`, `checkpoint_activations`, `blocks_of`, `cross_entropy`.
Measuring: `throughput`, `peak_memory`, `saved_bytes`, `state_bytes`, `training_flops_of`, `peak_flops`,
`utilisation`, `profile_step`. The modules are imported when one of their names is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.lazy import names_of

if TYPE_CHECKING:
    from helpers.efficiency.hardware import machine
    from helpers.efficiency.measuring import (
        Throughput,
        peak_flops,
        peak_memory,
        saved_bytes,
        state_bytes,
        throughput,
        training_flops_of,
        utilisation,
    )
    from helpers.efficiency.profiling import Profile, profile_step
    from helpers.efficiency.steps import (
        autocast,
        blocks_of,
        checkpoint_activations,
        cross_entropy,
        grad_scaler,
        optimiser_step,
    )

__getattr__, __dir__ = names_of(
    __name__,
    {
        "hardware": ("machine",),
        "measuring": (
            "Throughput",
            "peak_flops",
            "peak_memory",
            "saved_bytes",
            "state_bytes",
            "throughput",
            "training_flops_of",
            "utilisation",
        ),
        "profiling": ("Profile", "profile_step"),
        "steps": (
            "autocast",
            "blocks_of",
            "checkpoint_activations",
            "cross_entropy",
            "grad_scaler",
            "optimiser_step",
        ),
    },
)

__all__ = [
    "Profile",
    "Throughput",
    "autocast",
    "blocks_of",
    "checkpoint_activations",
    "cross_entropy",
    "grad_scaler",
    "machine",
    "optimiser_step",
    "peak_flops",
    "peak_memory",
    "profile_step",
    "saved_bytes",
    "state_bytes",
    "throughput",
    "training_flops_of",
    "utilisation",
]
