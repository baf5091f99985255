"""Other inputs for the same answer: augmentation of pictures, series and code, mixup and CutMix."""

from __future__ import annotations

import ast
import keyword
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.regularisation.training import Callback, Run

__all__ = [
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
]


def mixup(x: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend each sample of a batch with another one of it, inputs and targets in the same proportion.

    Args:
        x: (b, ...) float.
        targets: (b, classes) probabilities, for example one-hot.
        alpha: of the distribution Beta(alpha, alpha) from which one proportion is drawn for the batch.

    Raises ValueError when `alpha` is not above 0. Source: Zhang et al., mixup (2018), Algorithm 1.
    """
    share = _beta(alpha, generator)
    other = torch.randperm(len(x), generator=generator)
    return share * x + (1 - share) * x[other], share * targets + (1 - share) * targets[other]


def cutmix(x: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paste a piece of another sample into each one; the targets are mixed by the piece's share of the size.

    `x` is (b, ..., height, width), of which a rectangle of one place for the whole batch is taken, or (b, length).
    Raises ValueError when `alpha` is not above 0. Source: Yun et al., CutMix (2019).
    """
    share = _beta(alpha, generator)
    other = torch.randperm(len(x), generator=generator)
    dimensions = list(range(max(1, x.dim() - 2), x.dim()))  # the last one or two, never the batch
    inside: list[Any] = [slice(None)] * x.dim()
    for dimension in dimensions:
        size = x.shape[dimension]
        length = round(size * (1 - share) ** (1 / len(dimensions)))
        centre = int(torch.randint(size, (), generator=generator))
        inside[dimension] = slice(max(0, centre - length // 2), min(size, centre - length // 2 + length))
    mixed = x.clone()
    mixed[tuple(inside)] = x[other][tuple(inside)]
    pasted = mixed[0][tuple(inside[1:])].numel() / x[0].numel()  # the edge may have cut it
    return mixed, (1 - pasted) * targets + pasted * targets[other]


def _beta(alpha: float, generator: torch.Generator) -> float:
    if not alpha > 0:
        raise ValueError(f"alpha must be above 0, got {alpha}")
    seed = int(torch.randint(2**31, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


@dataclass
class Mixup(Callback):
    """`mixup` of every batch; the model then never sees a target of one class alone."""

    classes: int
    alpha: float = 0.2

    def change_batch(self, run: Run, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return mixup(x, _probabilities(y, self.classes), self.alpha, run.generator)


@dataclass
class CutMix(Callback):
    """`cutmix` of every batch."""

    classes: int
    alpha: float = 1.0

    def change_batch(self, run: Run, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return cutmix(x, _probabilities(y, self.classes), self.alpha, run.generator)


def _probabilities(y: Tensor, classes: int) -> Tensor:
    return y if y.is_floating_point() else F.one_hot(y, classes).float()


@dataclass
class Augment(Callback):
    """Any change of the inputs that keeps the answer: `change(x, generator)` -> other inputs of the same shape."""

    change: Callable[[Tensor, torch.Generator], Tensor]

    def change_batch(self, run: Run, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.change(x, run.generator), y


@dataclass(frozen=True)
class shift_and_scale:
    """For series (b, length): each rolled by up to `shift` places and multiplied by 1 ± `scale`.

    A guess about the world: that the class does not depend on place and size. It holds for MNIST-1D, whose generator
    moves and scales its templates; it would be wrong for a series in which the hour of the day matters.
    """

    shift: int = 6
    scale: float = 0.2

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        count, length = x.shape
        shifts = torch.randint(-self.shift, self.shift + 1, (count, 1), generator=generator)
        places = (torch.arange(length) - shifts) % length
        factor = 1 + self.scale * (2 * torch.rand((count, 1), generator=generator) - 1)
        return x.gather(1, places) * factor


@dataclass(frozen=True)
class mirror:
    """For series (b, length): a share of them read backwards. Wrong where direction matters: a mirrored 2 is a 5."""

    share: float = 0.5

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        chosen = torch.rand((len(x), 1), generator=generator) < self.share
        return torch.where(chosen, x.flip(1), x)


@dataclass(frozen=True)
class transform_each:
    """A torchvision transform for each picture of a batch by itself; x is (b, ...) and a picture has `shape`.

    A transform called on a batch would turn all its pictures by the same angle. Draws from torch's own generator.
    """

    transform: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return torch.stack([self.transform(picture) for picture in x.reshape(-1, *self.shape)]).reshape(x.shape)


def picture_transforms(degrees: float = 10, shift: float = 0.1, erase: float = 0.25) -> Callable[[Tensor], Tensor]:
    """torchvision's transforms (v2) for pictures (..., height, width) of digits: turn, shift, erase a piece.

    No flips: a mirrored 2 is no digit. They act on one picture, or in the same way on all pictures of a batch.
    """
    from torchvision.transforms import v2

    return v2.Compose(
        [v2.RandomAffine(degrees, translate=(shift, shift)), v2.RandomErasing(erase, scale=(0.02, 0.15), value=0)]
    )


@dataclass
class MaskTokens(Callback):
    """For text: a share of the input tokens is replaced by random ones; the targets stay (word dropout).

    Source: for language models Xie et al., Data Noising as Smoothing in Neural Network Language Models (2017).
    """

    share: float = 0.1
    vocabulary: int = 256

    def change_batch(self, run: Run, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randint(self.vocabulary, x.shape, generator=run.generator)
        return torch.where(torch.rand(x.shape, generator=run.generator) < self.share, noise, x), y


def renamed(source: str, rng: np.random.Generator) -> str:
    """For code: the same Python function with its arguments and local variables under other names.

    What it computes stays, for callers that pass arguments by position. Comments and layout are lost (the text comes
    from the syntax tree). Source that is not one function, or has functions inside it, is returned as it is.
    """
    try:
        module = ast.parse(textwrap.dedent(source))
    except (SyntaxError, ValueError):
        return source
    function = module.body[0] if len(module.body) == 1 else None
    nodes = [] if function is None else list(ast.walk(function))
    nested = [node for node in nodes if isinstance(node, SCOPES)]
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or len(nested) > 1:
        return source
    arguments = [node for node in ast.walk(function.args) if isinstance(node, ast.arg)]
    names = [node for part in function.body for node in ast.walk(part) if isinstance(node, ast.Name)]
    bound = {node.arg for node in arguments} | {node.id for node in names if isinstance(node.ctx, ast.Store)}
    bound -= {"self", "cls", *_bound_otherwise(nodes)}
    used = {node.id for node in nodes if isinstance(node, ast.Name)} | bound | set(keyword.kwlist)
    fresh = [name for number in range(3 * len(used)) if (name := f"v{number}") not in used][: len(bound)]
    table = dict(zip(sorted(bound), rng.permutation(fresh).tolist(), strict=True)) if bound else {}
    for argument in arguments:
        argument.arg = table.get(argument.arg, argument.arg)
    for node in names:
        node.id = table.get(node.id, node.id)
    return ast.unparse(module)


SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def _bound_otherwise(nodes: Sequence[ast.AST]) -> set[str]:
    """Names that stand in the tree as text and not as names: imports, `except … as`, patterns, global, nonlocal."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.Global | ast.Nonlocal):
            found.update(node.names)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            found.add(node.name or "")
        elif isinstance(node, ast.MatchMapping):
            found.add(node.rest or "")
    return found
