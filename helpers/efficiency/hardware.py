"""What a number was measured on, in one line: no host name, no path."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["cores", "cpu_model", "machine"]


def cpu_model() -> str:
    """The processor's name."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Processor or GPUs, cores, system, and the versions of Python and torch."""
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    kind = " + ".join(gpus) if gpus else "no GPU"
    return (
        f"{cpu_model()}, {cores()} cores, {kind}, {platform.system()}, "
        f"Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}"
    )
