"""Packages whose modules are imported when one of their names is first used (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

__all__ = ["names_of"]


def names_of(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__`, so that importing the package costs nothing.

        __getattr__, __dir__ = names_of(__name__, {"splits": ("split", "class_weights"), "compression": ()})

    Args:
        package: the package's `__name__`.
        modules: module of the package → the public names that it holds; none when the module itself is the name.
    """
    home = {name: module for module, names in modules.items() for name in names or (module,)}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{home[name]}")
        value = getattr(module, name) if modules[home[name]] else module
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(home)
