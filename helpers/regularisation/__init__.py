"""Is the model learning or memorising, and what helps? Training, regularisers, and measures of what they do.

Training: `train`, `evaluate`, `TrainConfig`, `Data`, `History`, `Callback`, `EarlyStopping`, `parameter_groups`,
`adam_step`. Regularisers: `dropout`, `stochastic_depth`, `smoothed_cross_entropy`, `mixup`, `cutmix`, augmentation,
`EMA`, `SWA`, `GradientNoise`. Judging: `compare`, `learning_curve`, `capacity_curve`, `diagnose`,
`expected_calibration_error`, `temperature`, `exposure`, `extracted`. The modules are imported when one of their names
is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.lazy import names_of

if TYPE_CHECKING:
    from helpers.regularisation.augmentation import (
        Augment,
        CutMix,
        MaskTokens,
        Mixup,
        cutmix,
        mirror,
        mixup,
        picture_transforms,
        renamed,
        shift_and_scale,
        transform_each,
    )
    from helpers.regularisation.averaging import EMA, SWA, GradientNoise, WeightAverage, moving_average, running_mean
    from helpers.regularisation.calibration import expected_calibration_error, reliability, temperature
    from helpers.regularisation.comparing import Budget, Comparison, Method, compare
    from helpers.regularisation.curves import Curve, RandomFeatures, capacity_curve, learning_curve
    from helpers.regularisation.decay import AdamState, adam_step, parameter_groups
    from helpers.regularisation.diagnosis import Diagnosis, diagnose
    from helpers.regularisation.early_stopping import EarlyStopping
    from helpers.regularisation.layers import dropout, smoothed_cross_entropy, smoothed_targets, stochastic_depth
    from helpers.regularisation.memorisation import canaries, exposure, extracted, plant, sequence_losses
    from helpers.regularisation.training import (
        Callback,
        Data,
        History,
        Run,
        Score,
        TrainConfig,
        cross_entropy,
        evaluate,
        train,
    )

_MODULES = {
    "augmentation": (
        "Augment",
        "CutMix",
        "MaskTokens",
        "Mixup",
        "cutmix",
        "mirror",
        "mixup",
        "picture_transforms",
        "renamed",
        "shift_and_scale",
        "transform_each",
    ),
    "averaging": (
        "EMA",
        "GradientNoise",
        "SWA",
        "WeightAverage",
        "moving_average",
        "running_mean",
    ),
    "calibration": (
        "expected_calibration_error",
        "reliability",
        "temperature",
    ),
    "comparing": (
        "Budget",
        "Comparison",
        "Method",
        "compare",
    ),
    "curves": (
        "Curve",
        "RandomFeatures",
        "capacity_curve",
        "learning_curve",
    ),
    "decay": (
        "AdamState",
        "adam_step",
        "parameter_groups",
    ),
    "diagnosis": (
        "Diagnosis",
        "diagnose",
    ),
    "early_stopping": ("EarlyStopping",),
    "layers": (
        "dropout",
        "smoothed_cross_entropy",
        "smoothed_targets",
        "stochastic_depth",
    ),
    "memorisation": (
        "canaries",
        "exposure",
        "extracted",
        "plant",
        "sequence_losses",
    ),
    "training": (
        "Callback",
        "Data",
        "History",
        "Run",
        "Score",
        "TrainConfig",
        "cross_entropy",
        "evaluate",
        "train",
    ),
}
__getattr__, __dir__ = names_of(__name__, _MODULES)

__all__ = [
    "EMA",
    "SWA",
    "AdamState",
    "Augment",
    "Budget",
    "Callback",
    "Comparison",
    "Curve",
    "CutMix",
    "Data",
    "Diagnosis",
    "EarlyStopping",
    "GradientNoise",
    "History",
    "MaskTokens",
    "Method",
    "Mixup",
    "RandomFeatures",
    "Run",
    "Score",
    "TrainConfig",
    "WeightAverage",
    "adam_step",
    "canaries",
    "capacity_curve",
    "compare",
    "cross_entropy",
    "cutmix",
    "diagnose",
    "dropout",
    "evaluate",
    "expected_calibration_error",
    "exposure",
    "extracted",
    "learning_curve",
    "mirror",
    "mixup",
    "moving_average",
    "parameter_groups",
    "picture_transforms",
    "plant",
    "reliability",
    "renamed",
    "running_mean",
    "sequence_losses",
    "shift_and_scale",
    "smoothed_cross_entropy",
    "smoothed_targets",
    "stochastic_depth",
    "temperature",
    "train",
    "transform_each",
]
