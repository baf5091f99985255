"""FLOPs, hours, days and money of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from helpers.estimates.quantities import human, positive, share, whole


def training_flops(parameters: float, tokens: float, *, layers: int = 0, width: int = 0, context: int = 0) -> float:
    """Floating-point operations of a training run: 6 per parameter and token.

    Two in the forward pass (a multiplication and an addition), four in the backward pass, which needs the gradient
    of the inputs and of the weights. With `layers`, `width` and `context` the products of attention are added:
    12 layers·width·context per token, which matters when the context is long against the width. Work that is done
    twice (activation checkpointing) is left out: it is time spent, not training done.
    Kaplan et al., "Scaling laws for neural language models", 2020; Chowdhery et al. (PaLM), 2022, appendix B.
    """
    positive("parameters", parameters)
    positive("tokens", tokens)
    for name, value in {"layers": layers, "width": width, "context": context}.items():
        whole(name, value, least=0)
    if 0 < sum(value > 0 for value in (layers, width, context)) < 3:
        raise ValueError(
            "the attention term needs layers, width and context together, "
            f"got layers={layers}, width={width}, context={context}"
        )
    return (6 * parameters + 12 * layers * width * context) * tokens


def compute_optimal_tokens(parameters: float, tokens_per_parameter: float = 20.0) -> float:
    """Tokens for which a model of this size is the best that its training compute can buy: about 20 a parameter.

    Chinchilla's 70 billion parameters saw 1.4 trillion tokens. It is the optimum of the training bill alone: a model
    that will answer many questions is trained on far more (Llama 3 8B: 15 trillion tokens, 1,900 a parameter).
    Hoffmann et al., "Training compute-optimal large language models", 2022, table 3.
    """
    positive("parameters", parameters)
    positive("tokens_per_parameter", tokens_per_parameter)
    return parameters * tokens_per_parameter


def compute_optimal_parameters(flops: float, tokens_per_parameter: float = 20.0) -> float:
    """Parameters of the best model that `flops` can train: √(C / (6·20)), from C = 6ND and D = 20N.

    Ten times the compute is 3.2 times the model on 3.2 times the tokens. Hoffmann et al., 2022, table 3.
    """
    positive("flops", flops)
    positive("tokens_per_parameter", tokens_per_parameter)
    return sqrt(flops / (6 * tokens_per_parameter))


def gpu_hours(flops: float, peak_flops: float, utilisation: float) -> float:
    """Hours on one GPU, summed over all GPUs of the run.

    Args:
        peak_flops: of one GPU, per second and without sparsity (`GPUS["H100"].peak_flops`).
        utilisation: share of the peak that the run reaches; 0.3 to 0.5 for a tuned run of a large model.
    """
    positive("flops", flops)
    positive("peak_flops", peak_flops)
    share("utilisation", utilisation)
    return flops / (peak_flops * utilisation) / 3600


def utilisation(flops: float, gpu_hours: float, peak_flops: float) -> float:
    """Model FLOPs utilisation of a finished run: what it needed to compute over what its GPUs could have computed.

    Above 1 means that an argument is wrong, most often a peak with or without sparsity. Chowdhery et al., 2022.
    """
    positive("flops", flops)
    positive("gpu_hours", gpu_hours)
    positive("peak_flops", peak_flops)
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
    whole("gpus", gpus)
    positive("price", price, zero=True)
    flops = training_flops(parameters, tokens)
    hours = gpu_hours(flops, peak_flops, utilisation)
    return TrainingCost(flops=flops, gpu_hours=hours, days=hours / gpus / 24, money=hours * price)
