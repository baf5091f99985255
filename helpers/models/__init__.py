"""The few models that several notebooks share: a back-off n-gram model, a small GPT, ResNet-18.

The modules are imported when one of their names is first used: the n-gram model needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helpers.models.gpt import GPT, Block, GPTConfig
    from helpers.models.ngram import BackoffNgram
    from helpers.models.resnet import resnet18

_HOME = {"GPT": "gpt", "Block": "gpt", "GPTConfig": "gpt", "BackoffNgram": "ngram", "resnet18": "resnet"}

__all__ = ["GPT", "BackoffNgram", "Block", "GPTConfig", "resnet18"]


def __getattr__(name: str) -> Any:
    """Import the module that holds `name` when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
