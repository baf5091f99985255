"""The fresh process of `peak_memory`: reads a pickled call from its input, runs it, prints the bytes it took."""

from __future__ import annotations

import gc
import os
import pickle
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def resident_bytes(field: str) -> int:
    """`VmRSS`, the resident memory now, or `VmHWM`, its highest; without /proc the highest for both."""
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """Let the highest resident memory start again at what there is now."""
    if CLEAR.exists():
        CLEAR.write_text("5")


def warm_up() -> None:
    """Take a small training step, so that what torch loads at its first one does not count as the function's."""
    if "torch" not in sys.modules:
        return
    import torch

    layer = torch.nn.Linear(64, 64)
    optimiser = torch.optim.AdamW(layer.parameters())
    torch.nn.functional.cross_entropy(layer(torch.ones(64, 64)), torch.zeros(64, dtype=torch.int64)).backward()
    optimiser.step()


def main() -> None:
    answer = os.dup(1)
    os.dup2(2, 1)  # what the function prints must not come between
    function, arguments = pickle.load(sys.stdin.buffer)
    warm_up()
    gc.collect()
    forget_peak()
    before = resident_bytes("VmRSS")
    function(*arguments)
    os.write(answer, str(max(0, resident_bytes("VmHWM") - before)).encode())


if __name__ == "__main__":
    main()
