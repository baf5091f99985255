"""A smaller model from a large one: pruning, distillation, low-rank factors; and what each does to the time of a step.

What this does not do: sparse kernels. Zeros in a dense matrix are multiplied like other numbers.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "LowRankLinear",
    "distillation_loss",
    "layer_sparsity",
    "low_rank",
    "prunable",
    "prune_hidden",
    "prune_weights",
    "sparsity",
    "train_student",
]


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """Name → weight of every Linear and convolution layer: what pruning usually looks at, no biases and no norms."""
    kinds = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
    return {f"{name}.weight".lstrip("."): m.weight for name, m in model.named_modules() if isinstance(m, kinds)}


def sparsity(model: nn.Module) -> float:
    """Share of zeros in the weights that `prunable` names."""
    weights = prunable(model).values()
    if not weights:
        raise ValueError(f"model must have a Linear or convolution layer, got a {type(model).__name__} without one")
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def prune_weights(model: nn.Module, share: float, *, scope: str = "global") -> nn.Module:
    """A copy in which the smallest weights are zero (magnitude pruning, Han et al., 2015). Its step is no faster.

    Args:
        share: of the weights to set to zero, from 0 to below 1; the count is rounded down.
        scope: "global" ranks all weights together, "layer" takes the share from each layer.

    Of weights of equal size the earlier ones go first. Raises ValueError for another share or scope.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be at least 0 and below 1, got {share}")
    if scope not in ("global", "layer"):
        raise ValueError(f"scope must be 'global' or 'layer', got {scope!r}")
    twin = copy.deepcopy(model)
    weights = list(prunable(twin).values())
    if not weights:
        raise ValueError(f"model must have a Linear or convolution layer, got a {type(model).__name__} without one")
    with torch.no_grad():
        for some in [weights] if scope == "global" else [[weight] for weight in weights]:
            together = torch.cat([weight.flatten() for weight in some])
            gone = together.abs().argsort(stable=True)[: int(share * len(together))]
            together[gone] = 0
            for weight, part in zip(some, together.split([w.numel() for w in some]), strict=True):
                weight.copy_(part.view_as(weight))
    return twin


def prune_hidden(model: nn.Module, share: float) -> nn.Module:
    """A copy whose perceptrons (Linear, activation, Linear) have fewer hidden units: smaller matrices, a faster step.

    A unit's worth is the product of its incoming and outgoing weights' norms; the least go (structured pruning, in the
    manner of Li et al., "Pruning filters for efficient ConvNets", 2017).

    Args:
        share: of the hidden units of each perceptron to take out, from 0 to below 1, rounded down.

    Looks for nn.Sequential modules of Linear, one layer without parameters, Linear. Raises ValueError without one.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be at least 0 and below 1, got {share}")
    twin = copy.deepcopy(model)
    found = [module for module in twin.modules() if _is_perceptron(module)]
    if not found:
        raise ValueError("model must hold an nn.Sequential of Linear, activation, Linear; none was found")
    for module in found:
        first, activation, last = module.children()
        assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
        worth = first.weight.norm(dim=1) * last.weight.norm(dim=0)
        kept = worth.argsort(stable=True)[int(share * len(worth)) :].sort().values
        module[0], module[1] = _part(first, kept, slice(None)), activation  # type: ignore[operator]
        module[2] = _part(last, slice(None), kept)  # type: ignore[operator]
    return twin


def _is_perceptron(module: nn.Module) -> bool:
    parts = list(module.children())
    return (
        isinstance(module, nn.Sequential)
        and len(parts) == 3
        and isinstance(parts[0], nn.Linear)
        and isinstance(parts[2], nn.Linear)
        and not list(parts[1].parameters())
        and parts[0].out_features == parts[2].in_features
    )


def _part(linear: nn.Linear, rows: Tensor | slice, columns: Tensor | slice) -> nn.Linear:
    """A layer of some of its outputs and inputs."""
    weight = linear.weight.detach()[rows][:, columns]
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=linear.bias is not None, device=weight.device)
    made.weight = nn.Parameter(weight.clone())
    if linear.bias is not None:
        made.bias = nn.Parameter(linear.bias.detach()[rows].clone())
    return made


class LowRankLinear(nn.Module):
    """A Linear layer as two thin ones, W ≈ U V with V (rank, in) and U (out, rank): rank · (in + out) weights."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        most = min(linear.weight.shape)
        if not 1 <= rank <= most:
            raise ValueError(f"rank must be between 1 and {most}, got {rank}")
        u, s, vt = torch.linalg.svd(linear.weight.detach().double(), full_matrices=False)
        root = s[:rank].sqrt()  # shared between both, so that neither is large
        dtype = linear.weight.dtype
        self.down = nn.Parameter((root[:, None] * vt[:rank]).to(dtype))
        self.up = nn.Parameter((u[:, :rank] * root).to(dtype))
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        return F.linear(F.linear(x, self.down), self.up, self.bias)


def low_rank(model: nn.Module, share: float, *, smallest: int = 1) -> nn.Module:
    """A copy whose Linear layers are replaced by two factors where that needs at most `share` of the layer's weights.

    The truncated singular value decomposition is the closest matrix of its rank (Eckart and Young, 1936); close to the
    weights is not yet close to the layer's outputs on real inputs.

    Args:
        share: above 0, at most 1. The rank is the largest with rank · (in + out) ≤ share · in · out, at least 1.
        smallest: layers with fewer inputs or outputs stay as they are; a last layer of few classes has no rank to lose.

    Raises ValueError for another share, or when there is no such Linear layer.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    twin = copy.deepcopy(model)
    children = [(m, name, c) for m in twin.modules() for name, c in m.named_children() if isinstance(c, nn.Linear)]
    found = [one for one in children if min(one[2].weight.shape) >= smallest]
    if not found:
        raise ValueError(f"model must have a Linear layer inside, got a {type(model).__name__} without one")
    for parent, name, linear in found:
        rows, columns = linear.weight.shape
        rank = max(1, int(share * rows * columns / (rows + columns)))
        setattr(parent, name, LowRankLinear(linear, rank))
    return twin


def distillation_loss(
    student: Tensor, teacher: Tensor, targets: Tensor, *, temperature: float = 2.0, weight: float = 0.5
) -> Tensor:
    """weight · T² · KL(teacher ‖ student), both softened by T, plus (1 - weight) · cross-entropy with the targets.

    The gradient of the softened part shrinks with 1/T²; the factor T² keeps the two parts in proportion when T changes.

    Args:
        student, teacher: logits (n, classes). The teacher gets no gradient.
        targets: (n,) int64.
        temperature: T, above 0.
        weight: between 0 and 1.

    Returns a scalar, the mean over n. Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (2015).
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must be between 0 and 1, got {weight}")
    if student.shape != teacher.shape:
        raise ValueError(f"teacher must have the student's shape, {tuple(student.shape)}, got {tuple(teacher.shape)}")
    soft = F.kl_div(
        F.log_softmax(student / temperature, -1),
        F.log_softmax(teacher.detach() / temperature, -1),
        reduction="batchmean",
        log_target=True,
    )
    return weight * temperature**2 * soft + (1 - weight) * F.cross_entropy(student, targets)


def train_student(
    student: nn.Module,
    teacher: nn.Module | None,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    temperature: float = 2.0,
    weight: float = 0.5,
    seed: int = 0,
) -> list[float]:
    """Train a classifier on hard labels, and on a teacher's answers where there is one. Returns each epoch's mean loss.

    Args:
        teacher: None for hard labels only.
        x, y: inputs (n, …) and labels (n,) int64.

    The student is changed; the teacher is put in eval mode and left so.
    """
    if epochs < 1 or len(x) != len(y):
        raise ValueError(f"epochs must be at least 1 and x and y equally long, got {epochs}, {len(x)} and {len(y)}")
    answers = None
    if teacher is not None:
        with torch.inference_mode():
            answers = torch.cat([teacher.eval()(part) for part in x.split(256)]).clone()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(student.parameters(), lr=lr)
    student.train()
    means = []
    for _ in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(x), generator=generator).split(batch_size):
            logits = student(x[rows])
            if answers is None:
                loss = F.cross_entropy(logits, y[rows])
            else:
                loss = distillation_loss(logits, answers[rows], y[rows], temperature=temperature, weight=weight)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(rows)
        means.append(total / len(x))
    student.eval()
    return means


def layer_sparsity(model: nn.Module) -> dict[str, float]:
    """Share of zeros of each layer that `prunable` names."""
    return {name: float((weight == 0).float().mean()) for name, weight in prunable(model).items()}
