"""Checkpoints that bring a run back bit for bit: weights, optimiser, scaler, position, every rank's random state.

What this does not do: checkpoints of sharded models, or for another number of ranks; see `helpers.ddp.sharded`.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from helpers.files import leftovers, replacing

__all__ = ["CheckpointError", "load_checkpoint", "random_state", "random_states", "save_checkpoint", "set_random_state"]

PARTS = {"model", "optimiser", "scaler", "position", "random"}


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, read or used here; the message names the rank, the file and the cause."""


def rank_and_size() -> tuple[int, int]:
    """This process's rank and how many there are; (0, 1) in a process that is alone."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def random_state() -> dict[str, Any]:
    """Where this process's random generators stand: torch's, CUDA's, NumPy's and Python's own."""
    numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002  # what other people's augmentations draw from
    numpy["state"]["key"] = numpy["state"]["key"].tolist()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "numpy": numpy,
        "python": random.getstate(),
    }


def random_states() -> list[dict[str, Any]]:
    """`random_state` of every rank, in their order; every rank calls it."""
    world_size = rank_and_size()[1]
    if world_size == 1:
        return [random_state()]
    states: list[dict[str, Any]] = [{} for _ in range(world_size)]
    dist.all_gather_object(states, random_state())
    return states


def set_random_state(state: dict[str, Any]) -> None:
    """Put this process's random generators back to what `random_state` gave."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    scaler: torch.amp.GradScaler | None = None,
    position: dict[str, Any] | None = None,
) -> None:
    """Every rank calls it, rank 0 writes: the new checkpoint is whole, or the previous one stays.

    Args:
        path: of the file; its folder must exist.
        model: the bare module, not the DDP around it, so that the names of its weights are its own.
        position: where the run is, as plain numbers, strings, lists and dicts.

    Raises CheckpointError on every rank, naming rank 0, the file and the cause, when it cannot be written.
    """
    states = random_states()
    failed = None
    if rank_and_size()[0] == 0:
        checkpoint = {
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "scaler": scaler.state_dict() if scaler else {},
            "position": position or {},
            "random": states,
        }
        failed = _write(Path(path), checkpoint)
    failed = agreed(failed)  # or the others would train on beside a rank that has stopped
    if failed:
        raise CheckpointError(f"rank 0 could not write the checkpoint {str(path)!r}: {failed}; what was there stays")


def _write(path: Path, checkpoint: dict[str, Any]) -> str | None:
    """Write the file; returns the reason when that fails."""
    try:
        for part in leftovers(path):
            part.unlink(missing_ok=True)  # of a rank 0 that was killed: nobody else writes here
        with replacing(path) as part, part.open("wb") as file:
            torch.save(checkpoint, file)
    except OSError as error:
        return error.strerror or str(error)
    except RuntimeError as error:  # torch's own writer, when the file under it cannot be written
        return str(error.__context__ or error)
    return None


def agreed(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    if rank_and_size()[1] == 1:
        return value
    told = [value]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def load_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    *,
    scaler: torch.amp.GradScaler | None = None,
) -> dict[str, Any]:
    """Every rank calls it: weights, optimiser, scaler and this rank's random state are as when it was saved.

    Returns the position. The file is read with `weights_only=True`: nothing in it can run code.
    Raises CheckpointError, naming rank and file, when there is none, when it is cut short or something else, and
    when another number of ranks wrote it: each rank would see other samples, and bit equality would be lost.
    The weights alone are in `torch.load(path, weights_only=True)["model"]`.
    """
    rank, world_size = rank_and_size()
    checkpoint = _read(Path(path), f"rank {rank} cannot resume from {str(path)!r}")
    if (wrote := len(checkpoint["random"])) != world_size:
        raise CheckpointError(
            f"rank {rank} cannot resume from {str(path)!r}: {wrote} rank(s) wrote it, and {world_size} would go on "
            f"with it, which gives other numbers; start {wrote}, or use save_sharded and load_sharded"
        )
    model.load_state_dict(checkpoint["model"])
    optimiser.load_state_dict(checkpoint["optimiser"])
    if scaler and checkpoint["scaler"]:
        scaler.load_state_dict(checkpoint["scaler"])
    set_random_state(checkpoint["random"][rank])
    return checkpoint["position"]


def _read(path: Path, doing: str) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{doing}: there is no such file") from None
    except Exception as error:  # a file of another kind makes the unpickler stumble over anything
        reason = (str(error) or type(error).__name__).split("\n", 1)[0]
        raise CheckpointError(f"{doing}: it is damaged, cut short or no checkpoint ({reason})") from error
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= PARTS:
        raise CheckpointError(f"{doing}: it holds no {', '.join(sorted(PARTS))}: save_checkpoint did not write it")
    return checkpoint
