"""Models that one GPU cannot hold: weights, gradients and optimiser state spread over the ranks, and saved in parts.

`shard` is PyTorch's FSDP2, that is ZeRO stage 3: each rank keeps 1/n of every weight and gathers a block's weights
when the block runs. The checkpoint holds what each rank wrote, and loads at another number of ranks, or at one.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from helpers.ddp.checkpoints import CheckpointError, agreed, rank_and_size
from helpers.efficiency.steps import blocks_of
from helpers.files import replacing

__all__ = ["is_saved", "load_sharded", "save_sharded", "shard"]

INDEX = "checkpoint.pt"
"""The file that makes a folder a checkpoint: which of its parts are the ones, and `extra`. Written last."""


def shard(model: nn.Module, kinds: tuple[type[nn.Module], ...] | None = None) -> nn.Module:
    """Spread `model` over all ranks, block by block; changed in place and returned.

    Give its parameters to the optimiser afterwards: they are other objects then. All ranks start from rank 0's
    weights. What is in no block is gathered once a step, so without blocks the whole model is.

    Args:
        kinds: classes of the blocks, such as (models.Block,); None: the elements of its lists (see `blocks_of`).

    Raises ValueError when `model` has no module of these `kinds`.
    Zhao et al., "PyTorch FSDP: experiences on scaling fully sharded data parallel", 2023.
    """
    try:
        blocks = blocks_of(model, kinds)
    except ValueError:
        if kinds is not None:
            raise
        blocks = []
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), src=0)  # each rank keeps its part of its own weights: they must agree
    mesh = init_device_mesh(next(model.parameters()).device.type, (dist.get_world_size(),))
    for block in blocks:
        if any(True for _ in block.parameters()):
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def save_sharded(
    folder: str | os.PathLike[str],
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    extra: dict[str, Any] | None = None,
) -> None:
    """Every rank calls it and writes its part; the checkpoint before stays until the new one is whole.

    Args:
        folder: on a disk that all ranks see; made if needed. Its parent must exist.
        model: sharded or not.
        extra: rank 0's: numbers, strings, tensors, lists and dicts, such as the step and the random states.

    Raises CheckpointError on every rank, naming the ranks that could not write and the cause.
    Follows PyTorch's distributed checkpoints (torch.distributed.checkpoint).
    """
    folder = Path(folder)
    doing = f"could not write the checkpoint {str(folder)!r}"
    parts = _by_rank_0(lambda: _new_parts(folder), doing)
    weights, states = get_state_dict(model, optimiser)
    _run(dcp.save, {"model": weights, "optimiser": states}, folder / parts, doing)

    def publish() -> None:
        with replacing(folder / INDEX) as file:
            torch.save({"parts": parts, "extra": extra or {}}, file)
        _remove_but(folder, parts)

    _by_rank_0(publish, doing)


def load_sharded(folder: str | os.PathLike[str], model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Every rank calls it: weights and optimiser are as they were saved, at whatever number of ranks.

    `model` may be sharded over any number of ranks, or not at all (also in a process without a group).
    Returns `extra`. Load only what you trust: PyTorch's parts hold pickled objects, which can run code.
    Raises CheckpointError, naming the ranks and the cause: no or half a checkpoint, or one of another model.
    """
    folder = Path(folder)
    doing = f"could not load the checkpoint {str(folder)!r}"
    try:
        index = torch.load(folder / INDEX, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"rank {rank_and_size()[0]} {doing}: there is none") from None
    except Exception as error:  # a file of another kind makes the unpickler stumble over anything
        raise CheckpointError(f"rank {rank_and_size()[0]} {doing}: {INDEX} is damaged or cut short") from error
    weights, states = get_state_dict(model, optimiser)
    state: dict[str, Any] = {"model": weights, "optimiser": states}
    _run(dcp.load, state, folder / index["parts"], doing)
    set_state_dict(model, optimiser, model_state_dict=state["model"], optim_state_dict=state["optimiser"])
    return index["extra"]


def is_saved(folder: str | os.PathLike[str]) -> bool:
    """Whether there is a whole checkpoint in the folder."""
    return (Path(folder) / INDEX).is_file()


def _new_parts(folder: Path) -> str:
    """The name of a folder for the new parts, after removing what a killed run left half written."""
    folder.mkdir(exist_ok=True)
    current = torch.load(folder / INDEX, weights_only=True)["parts"] if is_saved(folder) else "parts-0"
    _remove_but(folder, current)
    return f"parts-{int(current.removeprefix('parts-')) + 1}"


def _remove_but(folder: Path, parts: str) -> None:
    for other in folder.glob("parts-*"):
        if other.name != parts:
            shutil.rmtree(other)


def _by_rank_0(write: Callable[[], Any], doing: str) -> Any:
    """What `write` returns, on every rank; if it fails, all ranks stop, or the others would wait for rank 0."""
    result: Any = None
    failed = None
    if rank_and_size()[0] == 0:
        try:
            result = write()
        except (OSError, RuntimeError) as error:
            failed = str(error) or type(error).__name__
    result, failed = agreed((result, failed))
    if failed:
        raise CheckpointError(f"rank 0 {doing}: {failed}")
    return result


def _run(act: Callable[..., Any], state: dict[str, Any], parts: Path, doing: str) -> None:
    """`dcp.save` or `dcp.load`, with a short error in place of its list of tracebacks."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # a single process is meant
            act(state, checkpoint_id=parts)
    except CheckpointException as error:  # no subclass of Exception
        reasons = [f"rank {rank} {doing}: {failure[0]}" for rank, failure in sorted(error.failures.items())]
        raise CheckpointError("; ".join(reasons)) from None
