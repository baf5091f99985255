"""Back-of-envelope formulas: memory, communication, FLOPs, hours and money of training, and what answering costs.

Plain Python: no torch, no NumPy, so that it starts at once; the modules are imported when one of their names is first
used. All sizes are in bytes and decimal (1 GB = 10⁹ bytes), as the papers and the price lists have them; all times are
in seconds unless a name says hours, days or months.

Memory: `training_memory`, `activation_bytes`, `gpt_parameters`, `model_bytes`. Communication: `all_reduce_bytes`,
`all_gather_bytes`, their seconds, `pipeline_bubble`, `data_parallel_efficiency`. Training: `training_flops`,
`compute_optimal_tokens`, `gpu_hours`, `utilisation`, `training_cost`. Serving: `kv_cache_bytes`,
`decode_tokens_per_second`, `prefill_seconds`, `compute_bound_batch`, `cost_per_million_tokens`, `speculative_speedup`.
Data: `minhash_collision`, `balanced_class_weights`, `accuracy_standard_error`. Explanation:
`exact_shapley_evaluations`. Company: `runway_months`. Published: `GPUS`, `RUNS`, `PRICES`.

What this does not know: memory that is lost to fragmentation, failed nodes, and the experiments before the run that is
published. An estimate within a third of the truth is a good one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.lazy import names_of

if TYPE_CHECKING:
    from helpers.estimates.communication import (
        all_gather_bytes,
        all_gather_seconds,
        all_reduce_bytes,
        all_reduce_seconds,
        data_parallel_efficiency,
        pipeline_bubble,
    )
    from helpers.estimates.company import runway_months
    from helpers.estimates.data import (
        accuracy_standard_error,
        balanced_class_weights,
        minhash_collision,
        minhash_threshold,
    )
    from helpers.estimates.explanation import exact_shapley_evaluations
    from helpers.estimates.memory import (
        OPTIMISER_STATES,
        PRECISIONS,
        RECOMPUTE,
        MemoryEstimate,
        activation_bytes,
        gpt_parameters,
        model_bytes,
        training_memory,
    )
    from helpers.estimates.published import GPU, GPUS, PRICES, RUNS, Price, Run
    from helpers.estimates.quantities import human
    from helpers.estimates.serving import (
        compute_bound_batch,
        cost_per_million_tokens,
        decode_tokens_per_second,
        kv_cache_bytes,
        prefill_seconds,
        speculative_speedup,
        speculative_tokens,
    )
    from helpers.estimates.training import (
        TrainingCost,
        compute_optimal_parameters,
        compute_optimal_tokens,
        gpu_hours,
        training_cost,
        training_flops,
        utilisation,
    )

_MODULES = {
    "communication": (
        "all_gather_bytes",
        "all_gather_seconds",
        "all_reduce_bytes",
        "all_reduce_seconds",
        "data_parallel_efficiency",
        "pipeline_bubble",
    ),
    "company": ("runway_months",),
    "data": (
        "accuracy_standard_error",
        "balanced_class_weights",
        "minhash_collision",
        "minhash_threshold",
    ),
    "explanation": ("exact_shapley_evaluations",),
    "memory": (
        "OPTIMISER_STATES",
        "PRECISIONS",
        "RECOMPUTE",
        "MemoryEstimate",
        "activation_bytes",
        "gpt_parameters",
        "model_bytes",
        "training_memory",
    ),
    "published": (
        "GPU",
        "GPUS",
        "PRICES",
        "RUNS",
        "Price",
        "Run",
    ),
    "quantities": ("human",),
    "serving": (
        "compute_bound_batch",
        "cost_per_million_tokens",
        "decode_tokens_per_second",
        "kv_cache_bytes",
        "prefill_seconds",
        "speculative_speedup",
        "speculative_tokens",
    ),
    "training": (
        "TrainingCost",
        "compute_optimal_parameters",
        "compute_optimal_tokens",
        "gpu_hours",
        "training_cost",
        "training_flops",
        "utilisation",
    ),
}
__getattr__, __dir__ = names_of(__name__, _MODULES)

__all__ = [
    "GPU",
    "GPUS",
    "OPTIMISER_STATES",
    "PRECISIONS",
    "PRICES",
    "RECOMPUTE",
    "RUNS",
    "MemoryEstimate",
    "Price",
    "Run",
    "TrainingCost",
    "accuracy_standard_error",
    "activation_bytes",
    "all_gather_bytes",
    "all_gather_seconds",
    "all_reduce_bytes",
    "all_reduce_seconds",
    "balanced_class_weights",
    "compute_bound_batch",
    "compute_optimal_parameters",
    "compute_optimal_tokens",
    "cost_per_million_tokens",
    "data_parallel_efficiency",
    "decode_tokens_per_second",
    "exact_shapley_evaluations",
    "gpt_parameters",
    "gpu_hours",
    "human",
    "kv_cache_bytes",
    "minhash_collision",
    "minhash_threshold",
    "model_bytes",
    "pipeline_bubble",
    "prefill_seconds",
    "runway_months",
    "speculative_speedup",
    "speculative_tokens",
    "training_cost",
    "training_flops",
    "training_memory",
    "utilisation",
]
