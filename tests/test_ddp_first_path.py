"""The shortest way through helpers.ddp, in real processes: launch, a failure, a trained model, a resumed run."""

import os
import signal
import time

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import TensorDataset

from helpers import ddp
from helpers.efficiency import cross_entropy

config = 3  # a usual name, which cloudpickle takes for torch.distributed.config when `dist` stands beside it


def rank_and_sum():
    total = torch.tensor([float(config + dist.get_rank())])
    dist.all_reduce(total)
    return dist.get_rank(), total.item(), os.getpid()


def test_each_rank_is_a_process_of_its_own_and_they_talk():
    torch.randn(300, 300) @ torch.randn(300, 300)  # this process has used its threads
    for _ in range(20):
        results = ddp.launch(rank_and_sum, 2, echo=False)
        assert [(rank, total) for rank, total, _ in results] == [(0, 7.0), (1, 7.0)]
        assert len({os.getpid(), *(process for _, _, process in results)}) == 3


def fail(how):
    if dist.get_rank() == 1:
        if how == "raised":
            raise KeyError("no such shard")
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    dist.all_reduce(torch.ones(1))


@pytest.mark.parametrize(
    ("how", "says"), [("raised", "KeyError: 'no such shard'"), ("killed", "SIGKILL"), ("timeout", "time.sleep\\(60\\)")]
)
def test_a_failure_names_its_kind_and_cause_and_the_next_launch_works(how, says):
    ddp.launch(rank_and_sum, 2, echo=False)  # the server's own start does not count
    began = time.monotonic()
    with pytest.raises(ddp.WorkerError, match=says) as caught:
        ddp.launch(fail, 2, how, timeout=8 if how == "timeout" else 60, echo=False)
    assert caught.value.kind == how
    assert how == "timeout" or caught.value.rank == 1
    assert time.monotonic() - began < 20
    assert len(ddp.launch(rank_and_sum, 2, echo=False)) == 2


def nested():
    ddp.launch(rank_and_sum, 1)


def test_what_cannot_work_is_refused():
    with pytest.raises(ValueError, match="world_size"):
        ddp.launch(rank_and_sum, 0)
    with pytest.raises(TypeError, match="sent to another process"):
        ddp.launch(lambda stream: None, 2, (n for n in range(3)))
    with pytest.raises(ddp.WorkerError, match="rank 0"):
        ddp.launch(nested, 1, echo=False)


def trained(settings, resume=False):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
    drawn = torch.Generator().manual_seed(2)
    data = TensorDataset(torch.randn(61, 8, generator=drawn), torch.randint(3, (61,), generator=drawn))
    history = ddp.train(model, data, settings, resume=resume)
    return history.losses, nn.utils.parameters_to_vector(model.parameters()).detach()


def test_a_resumed_run_ends_at_the_same_bits_on_both_ranks(tmp_path):
    whole = ddp.TrainConfig(epochs=3, batch_size=4, lr=0.01)
    losses, weights = ddp.launch(trained, 2, whole, echo=False)[0]
    path = str(tmp_path / "run.pt")
    first = ddp.TrainConfig(epochs=3, batch_size=4, lr=0.01, checkpoint=path, checkpoint_every=5, max_steps=11)
    ddp.launch(trained, 2, first, echo=False)
    rest = ddp.TrainConfig(epochs=3, batch_size=4, lr=0.01, checkpoint=path, checkpoint_every=5)
    resumed = ddp.launch(trained, 2, rest, True, echo=False)
    assert resumed[0][0] == losses
    assert torch.equal(resumed[0][1], weights)
    assert torch.equal(resumed[1][1], weights)


def trained_in_shards(settings, resume=False):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
    drawn = torch.Generator().manual_seed(2)
    data = TensorDataset(torch.randn(61, 8, generator=drawn), torch.randint(3, (61,), generator=drawn))
    history = ddp.train(model, data, settings, resume=resume)
    return history.losses, torch.cat([p.full_tensor().flatten() for p in model.parameters()]).detach()


def test_a_resumed_sharded_run_ends_at_the_same_bits(tmp_path):
    common = {"epochs": 2, "batch_size": 4, "lr": 0.01, "sharded": True}
    losses, weights = ddp.launch(trained_in_shards, 2, ddp.TrainConfig(**common), echo=False)[0]
    folder = {"checkpoint": str(tmp_path / "run"), "checkpoint_every": 3}
    ddp.launch(trained_in_shards, 2, ddp.TrainConfig(**common, **folder, max_steps=7), echo=False)
    resumed = ddp.launch(trained_in_shards, 2, ddp.TrainConfig(**common, **folder), True, echo=False)
    for rank in resumed:
        assert rank[0] == losses
        assert torch.equal(rank[1], weights)


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path):
    path = tmp_path / "run.pt"
    path.write_bytes(b"half a check")
    settings = ddp.TrainConfig(batch_size=4, checkpoint=str(path))
    with pytest.raises(ddp.WorkerError, match=r"run\.pt.*damaged"):
        ddp.launch(trained, 2, settings, True, echo=False)


def one_step(x, y):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    parallel = nn.parallel.DistributedDataParallel(model)
    mine, targets = (part.chunk(dist.get_world_size())[dist.get_rank()] for part in (x, y))
    cross_entropy(parallel(mine), targets).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_two_ranks_have_the_gradient_of_one_process():
    x, y = torch.randn(32, 8, dtype=torch.float64), torch.randint(3, (32,))
    alone = ddp.launch(one_step, 1, x, y, echo=False)[0]
    first, second = ddp.launch(one_step, 2, x, y, echo=False)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, alone, rtol=1e-12, atol=1e-14)
