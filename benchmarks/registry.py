"""All benchmarks, by name. A new one: write a module with a `BENCHMARK` and name it here."""

from __future__ import annotations

from benchmarks import (
    audit,
    contamination,
    ddp_launch,
    ddp_ring,
    ddp_scaling,
    ddp_slow_link,
    ddp_step,
    decoding,
    estimates_import,
    lime_image,
    near_duplicates,
    notebooks,
    quantised_inference,
    rehearsal_start,
    training_loop,
    vendi,
)
from benchmarks.harness import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    module.BENCHMARK.name: module.BENCHMARK
    for module in (
        near_duplicates,
        contamination,
        vendi,
        audit,
        notebooks,
        estimates_import,
        rehearsal_start,
        ddp_ring,
        ddp_launch,
        ddp_step,
        ddp_scaling,
        ddp_slow_link,
        training_loop,
        quantised_inference,
        decoding,
        lime_image,
    )
}
