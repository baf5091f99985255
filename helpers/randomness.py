"""The global random states of Python, numpy and torch, which belong to whoever called."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["random_states_kept"]


@contextmanager
def random_states_kept() -> Iterator[None]:
    """When the block ends, the global random states are what they were before it. torch is never imported for this."""
    torch = sys.modules.get("torch")  # importing it takes seconds
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the caller's state is the point
    torch_state = torch.get_rng_state() if torch is not None else None
    cuda_states = torch.cuda.get_rng_state_all() if torch is not None and torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(torch_state)
        if torch is not None and cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)
