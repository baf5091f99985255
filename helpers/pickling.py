"""Functions and their arguments as bytes for another process, notebook cells included."""

from __future__ import annotations

import io
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import cloudpickle

__all__ = ["dumps"]


def dumps(value: Any) -> bytes:
    """Pickled by cloudpickle; `pickle.loads` reads it.

    cloudpickle guesses the submodules that a function needs by the names it uses, so a function with `dist` and a
    variable called `config` is sent with `torch.distributed.config`. That is no plain module, which is all that
    cloudpickle 3.1 knows to send: such modules are sent by name here.
    """
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


class _Pickler(cloudpickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, ModuleType) and type(obj) is not ModuleType:
            name = next((name for name, module in sys.modules.items() if module is obj), None)
            if name is not None:
                return import_module, (name,)
        return super().reducer_override(obj)
