"""What a result was measured on: no host name, no paths."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from helpers.efficiency.hardware import cores, cpu_model

LIBRARIES = ("numpy", "scipy", "pandas", "scikit-learn", "dask", "torch")


def describe(peers: Iterable[str] = ()) -> dict[str, Any]:
    """CPU, cores this process may use, memory, system, Python and the versions of what was measured."""
    import psutil

    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: found for name in (*LIBRARIES, *peers) if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
