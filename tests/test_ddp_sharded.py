"""Sharded training and its checkpoints: equal to the whole model's, at any number of ranks, in real processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint import filesystem
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from helpers.ddp import launch, load_sharded, save_sharded, shard, sharded
from helpers.ddp.checkpoints import CheckpointError
from helpers.ddp.launcher import WorkerError
from helpers.models import GPT, Block, GPTConfig

CONFIG = GPTConfig(vocabulary=64, context=16, layers=2, heads=2, width=32)
BATCH = 6


def parts(seed: int) -> tuple[GPT, Any]:
    torch.manual_seed(seed)
    model = GPT(CONFIG)
    return model, partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1)


def advance(model: nn.Module, optimiser: Any, steps: range) -> list[float]:
    """Steps over the same global batches at every number of ranks; the global losses."""
    rank, n = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    losses = []
    for step in steps:
        tokens = torch.randint(0, 64, (BATCH, 17), generator=torch.Generator().manual_seed(step))[rank::n]
        logits = model(tokens[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        mean = loss.detach().clone()
        if n > 1:
            dist.all_reduce(mean)
        losses.append(mean.item() / n)
    return losses


def whole(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every weight in full."""
    return {
        name: one.full_tensor() if isinstance(one, DTensor) else one.detach().clone()
        for name, one in model.named_parameters()
    }


def farthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


# --------------------------------------------------------------------------------------------------------- training


def train_sharded(kinds: Any, steps: int) -> dict[str, Any]:
    model, adam = parts(seed=dist.get_rank())  # other weights on every rank
    everything = sum(one.numel() for one in model.parameters())
    shard(model, kinds)
    optimiser = adam(model.parameters())
    losses = advance(model, optimiser, range(steps))
    local = [one.to_local().numel() for one in model.parameters()]
    state = [v.to_local().numel() for s in optimiser.state.values() for v in s.values() if isinstance(v, DTensor)]
    blocks = [hasattr(block, "unshard") for block in model.blocks]
    return {
        "losses": losses,
        "weights": whole(model),
        "share": sum(local) / everything,
        "states": sum(state) / everything,
        "blocks": blocks,
    }


def train_whole(steps: int) -> dict[str, Any]:
    model, adam = parts(seed=0)
    replica = DistributedDataParallel(model)
    losses = advance(replica, adam(model.parameters()), range(steps))
    return {"losses": losses, "weights": whole(model)}


@pytest.mark.parametrize("kinds", [(Block,), None])
def test_sharded_training_is_that_of_ddp_from_rank_0s_weights_with_half_the_memory_each(kinds):
    expected = launch(train_whole, 2, 4)[0]
    for found in launch(train_sharded, 2, kinds, 4):
        assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5)
        assert farthest(found["weights"], expected["weights"]) < 1e-4  # Adam makes much of a tiny gradient
        assert found["share"] == pytest.approx(0.5, abs=0.01)
        assert found["states"] == pytest.approx(1.0, abs=0.02)  # two numbers a weight, divided by two
        assert found["blocks"] == [True, True]


def shard_odd() -> tuple[str, bool, list[float]]:
    """Kinds that are not there; a model without lists; a list that also holds layers without weights."""
    try:
        shard(nn.Linear(3, 3), (Block,))
    except ValueError as error:
        message = str(error)
    single = shard(nn.Linear(3, 3))
    mixed = shard(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1)))
    x = torch.ones(2, 3)
    return message, isinstance(single.weight, DTensor), mixed(x).flatten().tolist()


def test_models_without_blocks_are_sharded_as_one_and_a_wrong_kind_is_named():
    for message, is_sharded, out in launch(shard_odd, 2):
        assert "model must hold a Block" in message
        assert is_sharded
        assert len(out) == 2


# ------------------------------------------------------------------------------------------------------ checkpoints


def run_part(folder: str, steps: range, *, save: bool = True, sharding: bool = True) -> dict[str, Any]:
    """Load what is there, go on, save: one part of a run."""
    model, adam = parts(seed=7 + dist.get_rank() if dist.is_initialized() else 7)
    if sharding:
        shard(model)
    optimiser = adam(model.parameters())
    extra = load_sharded(folder, model, optimiser) if sharded.is_saved(folder) else {"step": 0}
    losses = advance(model, optimiser, steps)
    if save:
        state = {"step": steps.stop, "random": torch.get_rng_state(), "seen": [steps.start]}
        save_sharded(folder, model, optimiser, state)
    return {"losses": losses, "weights": whole(model), "extra": extra}


def test_a_run_that_goes_from_two_ranks_to_one_to_three_to_two_ends_as_one_that_never_stopped(tmp_path: Path):
    straight = launch(run_part, 2, str(tmp_path / "straight"), range(8))[0]
    losses, folder = [], str(tmp_path / "moved")
    for world_size, steps in ((2, range(2)), (1, range(2, 4)), (3, range(4, 6)), (2, range(6, 8))):
        found = launch(run_part, world_size, folder, steps)
        assert all(one["extra"]["step"] == steps.start for one in found)
        losses += found[0]["losses"]
    assert losses == pytest.approx(straight["losses"], rel=1e-5)
    assert farthest(found[0]["weights"], straight["weights"]) < 1e-4


def test_at_the_same_number_of_ranks_a_resumed_run_is_equal_bit_for_bit(tmp_path: Path):
    straight = launch(run_part, 2, str(tmp_path / "straight"), range(6))[0]
    launch(run_part, 2, str(tmp_path / "cut"), range(3))
    resumed = launch(run_part, 2, str(tmp_path / "cut"), range(3, 6))[0]
    assert resumed["losses"] == straight["losses"][3:]
    assert farthest(resumed["weights"], straight["weights"]) == 0
    assert resumed["extra"]["seen"] == [0]
    assert resumed["extra"]["random"].dtype == torch.uint8


@pytest.mark.filterwarnings("error", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_sharded_checkpoint_loads_into_a_whole_model_in_a_plain_process_and_back(tmp_path: Path):
    folder = str(tmp_path / "checkpoint")
    wrote = launch(run_part, 2, folder, range(3))[0]
    alone = run_part(folder, range(3, 3), sharding=False)  # loads, and saves it again
    assert farthest(alone["weights"], wrote["weights"]) == 0
    again = launch(run_part, 2, folder, range(3, 4))[0]
    assert again["extra"]["step"] == 3
    reference = launch(run_part, 2, str(tmp_path / "straight"), range(4))[0]
    assert again["losses"] == pytest.approx(reference["losses"][3:], rel=1e-6)


def die_while_writing(folder: str, where: str) -> None:
    """Go on, and write a second checkpoint, during which rank 0 is killed: with its part written, or all parts."""
    model, adam = parts(seed=7)
    shard(model)
    optimiser = adam(model.parameters())
    advance(model, optimiser, range(2))
    if dist.get_rank() == 0:
        real = getattr(sharded, where)

        def killed(*args: Any, **kwargs: Any) -> None:
            if where == "_run":
                real(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(sharded, where, killed)
    save_sharded(folder, model, optimiser)


@pytest.mark.parametrize("where", ["_run", "replacing"])
def test_the_previous_checkpoint_stays_whole_when_rank_0_is_killed_while_writing(tmp_path: Path, where: str):
    folder = tmp_path / "checkpoint"
    first = launch(run_part, 2, str(folder), range(2))[0]
    with pytest.raises(WorkerError) as failed:
        launch(die_while_writing, 2, str(folder), where)
    assert (failed.value.rank, failed.value.kind) == (0, "killed")
    assert len(list(folder.glob("parts-*"))) == 2
    found = launch(run_part, 2, str(folder), range(2, 2))[0]
    assert found["extra"]["step"] == 2
    assert farthest(found["weights"], first["weights"]) == 0
    assert len(list(folder.glob("parts-*"))) == 1, "what the killed run left behind is cleared away"


def fail_to_write(folder: str, what: str) -> str:
    """Rank 1's disk is full, or the folder cannot be made."""
    if what == "disk" and dist.get_rank() == 1:

        def full(*args: Any, **kwargs: Any) -> None:
            raise OSError(28, "No space left on device")

        filesystem._write_item = full
    try:
        run_part(folder if what == "disk" else f"{folder}/no/parent", range(1))
    except CheckpointError as error:
        return str(error)
    return "no error"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("disk", r"rank 1 could not write the checkpoint .*No space left on device"),
        ("folder", r"rank 0 could not write the checkpoint .*No such file or directory"),
    ],
)
def test_a_failed_write_is_told_on_every_rank_with_the_rank_and_the_cause(tmp_path: Path, what: str, message: str):
    for found in launch(fail_to_write, 2, str(tmp_path / "checkpoint"), what):
        assert re.match(message, found)
        assert "\n" not in found, "not a list of tracebacks"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint of two ranks."""
    folder = tmp_path_factory.mktemp("written") / "checkpoint"
    launch(run_part, 2, str(folder), range(1))
    return folder


def damage(folder: Path, how: str) -> None:
    if how == "none":
        (folder / sharded.INDEX).unlink()
    elif how == "index":
        os.truncate(folder / sharded.INDEX, 100)
    else:
        for part in (folder / "parts-1").glob("*.distcp"):
            if how == "short":
                os.truncate(part, part.stat().st_size // 2)
            elif how == "lost":
                part.unlink()


def refuse_to_load(folder: str, width: int) -> str:
    model = GPT(GPTConfig(vocabulary=64, context=16, layers=2, heads=2, width=width))
    shard(model)
    try:
        load_sharded(folder, model, torch.optim.AdamW(model.parameters()))
    except CheckpointError as error:
        return str(error)
    return "no error"


@pytest.mark.parametrize(
    ("how", "width", "message"),
    [
        ("none", 32, "there is none"),
        ("index", 32, "is damaged or cut short"),
        ("short", 32, "rank 0 could not load"),
        ("lost", 32, "No such file"),
        ("whole", 48, "Size mismatch"),
    ],
)
def test_a_damaged_checkpoint_or_one_of_another_model_is_refused_by_name(written, tmp_path, how, width, message):
    folder = tmp_path / "checkpoint"
    shutil.copytree(written, folder)
    damage(folder, how)
    for found in launch(refuse_to_load, 2, str(folder), width):
        assert message in found
        assert "could not load the checkpoint" in found
