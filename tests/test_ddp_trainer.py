"""The trainer in real processes: what is counted, what accumulation and fp16 give, and faults around a checkpoint."""

import os
import resource
import signal

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import TensorDataset

from helpers import ddp
from helpers.efficiency import cross_entropy


def network(seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))


def samples(count):
    drawn = torch.Generator().manual_seed(2)
    return TensorDataset(torch.randn(count, 8, generator=drawn), torch.randint(3, (count,), generator=drawn))


def trained(count, config, held_out=0):
    model = network()
    history = ddp.train(model, samples(count), config, valid=samples(held_out) if held_out else None)
    return history, nn.utils.parameters_to_vector(model.parameters()).detach()


def weights_by_hand(count, config, share):
    """One process, plain PyTorch: each step on all samples that the ranks see together."""
    model, data = network(), samples(count)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(config.seed))  # DistributedSampler's first
    for chosen in order.split(share):
        x, y = data[chosen]
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize("accumulate", [1, 3])
def test_two_ranks_end_where_one_process_ends_that_sees_all_their_samples(accumulate):
    config = ddp.TrainConfig(batch_size=4, accumulate=accumulate, lr=0.01, clip_norm=None)
    (history, weights), (_, other) = ddp.launch(trained, 2, 48, config, echo=False)
    assert torch.equal(weights, other)
    torch.testing.assert_close(weights, weights_by_hand(48, config, 2 * 4 * accumulate), rtol=1e-4, atol=1e-6)
    assert (history.steps, history.samples) == (48 // (8 * accumulate), 48)


def test_samples_that_the_sampler_repeats_are_counted_and_the_held_out_ones_once():
    config = ddp.TrainConfig(epochs=2, batch_size=4, lr=0.01)
    history, weights = ddp.launch(trained, 2, 21, config, held_out=13, echo=False)[0]
    assert history.samples == 2 * 22  # 11 on each rank, in each epoch
    assert len(history.losses) == history.steps == 2 * 3
    model = network()
    nn.utils.vector_to_parameters(weights, model.parameters())
    x, y = samples(13)[:]
    assert history.valid[-1] == pytest.approx(nn.functional.cross_entropy(model(x), y).item(), rel=1e-5)


def test_fp16_learns_what_fp32_learns():
    means = {}
    for precision in ("fp32", "fp16"):
        config = ddp.TrainConfig(epochs=30, batch_size=8, lr=0.02, precision=precision)
        losses = ddp.launch(trained, 2, 64, config, echo=False)[0][0].losses
        means[precision] = sum(losses[:4]) / 4, sum(losses[-4:]) / 4  # of the first and the last epoch
    assert means["fp32"][1] < means["fp32"][0] - 0.1
    # while the scaler searches for its scale it may skip steps, so the curves are close, not equal
    assert means["fp16"][1] == pytest.approx(means["fp32"][1], abs=0.1)


# --- faults around a checkpoint --------------------------------------------------------------------------------------


def save(path, value, fault=None):
    """Runs in every rank: a checkpoint in which every weight has this value."""
    model = nn.Linear(300, 300)
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    if fault == "full disk":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # the file needs more than 360 kB
    if fault == "killed" and dist.get_rank() == 0:
        write = os.fsync

        def die(number):
            write(number)
            os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = die  # everything is written, and nothing has its name yet
    ddp.save_checkpoint(path, model, optimiser, position={"value": value})


def load(path):
    model = nn.Linear(300, 300)
    position = ddp.load_checkpoint(path, model, torch.optim.SGD(model.parameters(), lr=0.1))
    return position["value"], model.weight.unique().tolist()


def test_a_full_disk_is_told_by_every_rank_and_the_previous_checkpoint_stays(tmp_path):
    path = str(tmp_path / "run.pt")
    ddp.launch(save, 2, path, 1.0)
    with pytest.raises(
        ddp.WorkerError, match=r"rank 0 could not write the checkpoint .*run\.pt.*[Ff]ile too large"
    ) as caught:
        ddp.launch(save, 2, path, 2.0, "full disk", timeout=60)
    assert caught.value.kind == "raised"
    assert ddp.launch(load, 2, path) == [(1.0, [1.0])] * 2
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


def test_rank_0_killed_in_the_middle_of_writing_leaves_the_previous_checkpoint(tmp_path):
    path = str(tmp_path / "run.pt")
    ddp.launch(save, 2, path, 1.0)
    with pytest.raises(ddp.WorkerError, match=r"rank 0 of 2 .*SIGKILL") as caught:
        ddp.launch(save, 2, path, 2.0, "killed", timeout=60)
    assert (caught.value.rank, caught.value.kind) == (0, "killed")
    assert ddp.launch(load, 2, path) == [(1.0, [1.0])] * 2
    ddp.launch(save, 2, path, 3.0)  # and the half-written one does not stand in the way
    assert ddp.launch(load, 2, path) == [(3.0, [3.0])] * 2
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


def test_an_unknown_precision_is_refused_before_anything_starts():
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16, fp16, got 'fp8'"):
        ddp.TrainConfig(precision="fp8")


def test_the_loss_on_the_held_out_data_is_that_of_all_of_it():
    def measured():
        return ddp.evaluate(network(), samples(13), cross_entropy, batch_size=4)

    x, y = samples(13)[:]
    want = nn.functional.cross_entropy(network()(x), y).item()
    assert ddp.launch(measured, 3) == pytest.approx([want] * 3, rel=1e-5)
