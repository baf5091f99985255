"""Several processes are one: gradients, data, uneven shares, unused parameters and BatchNorm, in real processes.

Also what DistributedDataParallel itself does there: the notebook says so in words, and these tests hold the words.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset, DistributedSampler

from helpers.ddp import TrainConfig, evaluate, launch, train, worker
from helpers.ddp.batch_norm import GlobalBatchNorm, synchronise_batch_norm
from helpers.efficiency.steps import cross_entropy
from helpers.models import GPT, GPTConfig, resnet18

CONFIG = GPTConfig(vocabulary=64, context=32, layers=2, heads=2, width=32)


def mine(batch: torch.Tensor) -> torch.Tensor:
    """This rank's share of a global batch."""
    return batch[dist.get_rank() :: dist.get_world_size()]


def relative(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest relative difference of a tensor, by norms."""
    assert one.keys() == other.keys()
    return max(((one[k] - other[k]).norm() / other[k].norm().clamp(min=1e-30)).item() for k in other)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


# -------------------------------------------------------------------------------------------------------- gradients


def gpt_gradients(dtype: torch.dtype, *, micro_batches: int = 1) -> dict[str, torch.Tensor]:
    """Gradients of one global batch of 12 sequences: this rank's share, or all of it without a group."""
    torch.manual_seed(0)
    model = GPT(CONFIG).to(dtype)
    tokens = torch.randint(0, 64, (12, 33), generator=torch.Generator().manual_seed(1))
    if not dist.is_initialized():
        cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]).backward()
        return gradients(model)
    replica = DistributedDataParallel(model, gradient_as_bucket_view=True, bucket_cap_mb=0.1)
    *first, last = mine(tokens).chunk(micro_batches)
    with replica.no_sync():
        for part in first:
            (cross_entropy(replica(part[:, :-1]), part[:, 1:]) / micro_batches).backward()
    (cross_entropy(replica(last[:, :-1]), last[:, 1:]) / micro_batches).backward()
    return gradients(model)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize(("world_size", "micro_batches"), [(2, 1), (3, 1), (2, 3)])
def test_gradients_of_several_processes_are_those_of_one_with_the_same_global_batch(
    dtype: torch.dtype, tolerance: float, world_size: int, micro_batches: int
):
    expected = gpt_gradients(dtype)
    for found in launch(gpt_gradients, world_size, dtype, micro_batches=micro_batches):
        assert relative(found, expected) < tolerance


class Blocks(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Random sequences; notes which were read."""

    def __init__(self, count: int) -> None:
        self.tokens = torch.randint(0, 64, (count, 33), generator=torch.Generator().manual_seed(2))
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.read.append(index)
        return self.tokens[index, :-1], self.tokens[index, 1:]


def train_blocks(count: int, **options: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    model, data = GPT(CONFIG), Blocks(count)
    history = train(model, data, TrainConfig(**options))
    return {"history": history, "read": data.read, "weights": dict(model.named_parameters())}


def test_training_on_two_processes_is_training_on_one_with_twice_the_batch():
    alone = train_blocks(32, epochs=2, batch_size=8)
    for options in ({"batch_size": 4}, {"batch_size": 2, "accumulate": 2}):
        for found in launch(train_blocks, 2, 32, epochs=2, **options):
            assert found["history"].losses == pytest.approx(alone["history"].losses, rel=1e-5)
            assert found["history"].samples == alone["history"].samples == 64


# ------------------------------------------------------------------------------------------------------------- data


@pytest.mark.parametrize(("count", "world_size"), [(12, 3), (10, 3), (5, 2)])
def test_the_ranks_read_every_sample_and_repeat_only_what_fills_the_last_round(count: int, world_size: int):
    found = launch(train_blocks, world_size, count, epochs=2, batch_size=2)
    each = -(-count // world_size)
    epochs = [[one["read"][:each] for one in found], [one["read"][each:] for one in found]]
    for shares in epochs:
        read = [index for share in shares for index in share]
        assert set(read) == set(range(count))
        assert len(read) == each * world_size  # the true count is less: the rest was seen twice
        assert len(read) - len(set(read)) == each * world_size - count
    assert epochs[0] != epochs[1], "set_epoch was forgotten: the same order in every epoch"


def test_a_distributed_sampler_repeats_its_order_until_set_epoch_is_called():
    sampler = DistributedSampler(range(50), num_replicas=2, rank=1)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first


def uneven_steps(how: str) -> tuple[list[float], float, str]:
    """Rank 1 has a batch more. The gradient is the input: 1, 10, 100, 1000 on rank 0, twice that on rank 1."""
    rank = dist.get_rank()
    replica = DistributedDataParallel(nn.Linear(1, 1, bias=False))
    nn.init.zeros_(replica.module.weight)
    sgd = torch.optim.SGD(replica.parameters(), lr=1.0)
    seen, message = [], ""

    def loop() -> None:
        for step in range(3 + rank):
            sgd.zero_grad()
            replica(torch.full((1, 1), 10.0**step * (rank + 1))).sum().backward()
            seen.append(replica.module.weight.grad.item())
            sgd.step()

    try:
        if how == "nothing":
            loop()
        else:
            with Join([replica], divide_by_initial_world_size=how == "all", throw_on_early_termination=how == "stop"):
                loop()
    except RuntimeError as error:
        message = str(error)
    return seen, replica.module.weight.item(), message


@pytest.mark.parametrize(("how", "last"), [("all", 2000 / 2), ("present", 2000.0)])
def test_join_lets_a_rank_finish_early_and_all_end_with_the_weights_of_the_last(how: str, last: float):
    zero, one = launch(uneven_steps, 2, how)
    assert zero[0] == [1.5, 15.0, 150.0]
    # the default divides by the world size, as if the rank that has finished had a gradient of zero
    assert one[0] == [1.5, 15.0, 150.0, last]
    assert zero[1] == one[1] == -166.5 - last


def test_join_can_instead_stop_all_ranks_at_the_first_that_has_no_more():
    zero, one = launch(uneven_steps, 2, "stop")
    assert zero[0] == one[0] == [1.5, 15.0, 150.0]
    assert "exhausted" in zero[2]
    assert "exhausted" in one[2]


def test_without_join_the_rank_with_more_data_fails_when_the_other_has_left():
    zero, one = launch(uneven_steps, 2, "nothing")
    assert zero == ([1.5, 15.0, 150.0], -166.5, "")
    assert one[0] == [1.5, 15.0, 150.0]
    assert any(words in one[2] for words in worker.CONSEQUENCES), one[2]


def evaluate_uneven(count: int) -> float:
    torch.manual_seed(0)
    return evaluate(GPT(CONFIG), Blocks(count), batch_size=3)


@pytest.mark.parametrize(("count", "world_size"), [(7, 2), (10, 3), (2, 3)])
def test_validation_over_uneven_ranks_counts_each_sample_once(count: int, world_size: int):
    torch.manual_seed(0)
    model, data = GPT(CONFIG).eval(), Blocks(count)
    with torch.no_grad():
        exact = cross_entropy(model(data.tokens[:, :-1]), data.tokens[:, 1:]).item()
    found = launch(evaluate_uneven, world_size, count)
    assert found == pytest.approx([exact] * world_size, rel=1e-6)
    assert len(set(found)) == 1


# ----------------------------------------------------------------------------------------------- unused parameters


class SometimesUnused(nn.Module):
    """`never` is in no loss; `some` only on rank 0 when asked."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.some, self.never, self.b = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        return self.b(self.some(x) if dist.get_rank() == 0 else x)


def step_unused(*, find: bool, steps: int = 2, debug: bool = False) -> dict[str, Any]:
    if debug:
        dist.set_debug_level(dist.DebugLevel.INFO)  # what TORCH_DISTRIBUTED_DEBUG=INFO does for a fresh process
    torch.manual_seed(0)
    replica = DistributedDataParallel(SometimesUnused(), find_unused_parameters=find)
    found: dict[str, Any] = {"gradients": [], "error": ""}
    try:
        for step in range(steps):
            replica.zero_grad()
            x = torch.randn(5, 4, generator=torch.Generator().manual_seed(10 * step + dist.get_rank()))
            replica(x).square().sum().backward()
            found["gradients"].append(gradients(replica.module))
    except RuntimeError as error:
        found["error"] = str(error)
    return found


def test_an_unused_parameter_stops_the_second_step_and_the_first_was_wrong_without_a_word():
    zero, one = launch(step_unused, 2, find=False)
    for found in (zero, one):
        assert len(found["gradients"]) == 1, "the error comes with the next forward pass, not with backward"
        assert "Expected to have finished reduction in the prior iteration" in found["error"]
        assert "find_unused_parameters=True" in found["error"]
    assert "Parameter indices which did not receive grad for rank 0: 4 5" in zero["error"]
    assert "Parameter indices which did not receive grad for rank 1: 2 3 4 5" in one["error"]
    differ = [not torch.equal(zero["gradients"][0][k], one["gradients"][0][k]) for k in ("a.weight", "b.weight")]
    assert any(differ), "if DDP has averaged all the same, the notebook's warning is out of date"


def test_the_debug_level_names_the_unused_parameters():
    zero, _ = launch(step_unused, 2, find=False, debug=True)
    assert "never.weight" in zero["error"]


def test_find_unused_parameters_averages_what_some_ranks_use_and_leaves_alone_what_none_does():
    zero, one = launch(step_unused, 2, find=True)
    for step in range(2):
        assert zero["error"] == one["error"] == ""
        ours, theirs = zero["gradients"][step], one["gradients"][step]
        assert ours.keys() == theirs.keys() == {"a.weight", "a.bias", "some.weight", "some.bias", "b.weight", "b.bias"}
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert ours["some.weight"].any()


# -------------------------------------------------------------------------------------------------------- BatchNorm


def watch_buffers() -> list[tuple[str, float]]:
    """Rank r's inputs are about 10·(r+1): the running mean, read on this rank, after each of these calls."""
    norm = nn.BatchNorm1d(1, momentum=0.5)
    replica = DistributedDataParallel(norm)
    x = torch.tensor([[9.0], [11.0]]) * (dist.get_rank() + 1)
    seen = []

    def note(what: str) -> None:
        seen.append((what, norm.running_mean.item()))

    replica(x).sum().backward()
    note("after a step")
    replica(x).sum().backward()
    note("after another")
    replica.eval()
    with torch.no_grad():
        norm(x)
        note("the bare module evaluated")
        replica(x)
        note("DDP evaluated")
    return seen


def test_ddp_does_not_average_running_statistics_but_copies_rank_0s_before_the_next_forward_pass():
    zero, one = (dict(found) for found in launch(watch_buffers, 2))
    assert zero == pytest.approx(
        {"after a step": 5, "after another": 7.5, "the bare module evaluated": 7.5, "DDP evaluated": 7.5}
    )
    # rank 1: 0 → 10; then rank 0's 5 is copied over it, → 12.5; and only a forward pass of DDP copies again
    assert one == pytest.approx(
        {"after a step": 10, "after another": 12.5, "the bare module evaluated": 12.5, "DDP evaluated": 7.5}
    )


def train_pictures() -> list[torch.Tensor]:
    torch.manual_seed(0)
    pictures = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    data = torch.utils.data.TensorDataset(pictures, torch.arange(16) % 10)
    model = resnet18(10)
    train(model, data, TrainConfig(batch_size=4))
    return [buffer.clone() for buffer in model.buffers()]


def test_after_training_every_rank_has_the_same_running_statistics():
    zero, one = launch(train_pictures, 2)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(zero, one, strict=True))


def resnet_gradients(*, synchronised: bool) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Gradients and buffers after one global batch of 8 pictures."""
    torch.manual_seed(0)
    model = resnet18(10).double()
    generator = torch.Generator().manual_seed(4)
    x, y = torch.randn(8, 3, 32, 32, generator=generator, dtype=torch.float64), torch.arange(8)
    replica: nn.Module = model
    if dist.is_initialized():
        if synchronised:
            synchronise_batch_norm(model)
        replica, x, y = DistributedDataParallel(model), mine(x), mine(y)
    F.cross_entropy(replica(x), y).backward()
    return gradients(model), {name: buffer.double() for name, buffer in model.named_buffers()}


def test_batch_norm_alone_makes_two_ranks_differ_from_one_and_statistics_of_all_ranks_mend_it():
    expected = resnet_gradients(synchronised=False)
    for plain in launch(resnet_gradients, 2, synchronised=False):
        assert relative(plain[0], expected[0]) > 0.01
        assert relative(plain[1], expected[1]) > 0.001
    for mended in launch(resnet_gradients, 2, synchronised=True):
        assert relative(mended[0], expected[0]) < 1e-11
        assert relative(mended[1], expected[1]) < 1e-12


def normalise_uneven(momentum: float | None, affine: bool) -> dict[str, torch.Tensor]:
    """Three batches, of which rank 0 has one sample and the last rank most."""
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(3, momentum=momentum, affine=affine).double()
    if affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    grouped = dist.is_initialized()
    if grouped:
        layer = synchronise_batch_norm(layer)
        assert isinstance(layer, GlobalBatchNorm)
    out = {}
    for step in range(3):
        x = torch.randn(7, 3, 2, 2, generator=torch.Generator().manual_seed(step), dtype=torch.float64) + step
        share = x.requires_grad_()
        rows = slice(None)
        if grouped:
            rows = (slice(0, 1), slice(1, 3), slice(3, 7))[dist.get_rank()]
        y = layer(share[rows])
        # a loss that is a sum over samples, so that its gradient by x does not depend on who holds which
        (y * torch.arange(28.0, dtype=torch.float64).view(7, 1, 2, 2)[rows]).sum().backward()
        out[f"y{step}"], out[f"dx{step}"] = y.detach(), x.grad[rows]
    layer.eval()
    return out | {"eval": layer(x.detach()).detach(), **{k: v.double() for k, v in layer.named_buffers()}}


@pytest.mark.parametrize(("momentum", "affine"), [(0.1, True), (None, False)])
def test_statistics_of_all_ranks_are_those_of_the_joint_batch_also_with_unlike_shares(momentum, affine):
    whole = normalise_uneven(momentum, affine)
    shares = launch(normalise_uneven, 3, momentum, affine)
    for step in range(3):
        for what in (f"y{step}", f"dx{step}"):
            assert torch.allclose(torch.cat([share[what] for share in shares]), whole[what], atol=1e-12), what
    for share in shares:
        for what in ("eval", "running_mean", "running_var", "num_batches_tracked"):
            assert torch.allclose(share[what], whole[what], atol=1e-12), what


def test_the_replaced_layers_keep_their_weights_and_a_process_alone_notices_nothing():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.Sequential(nn.BatchNorm1d(4, eps=1e-2)))
    before = copy.deepcopy(model)
    weights = list(model.parameters())
    changed = synchronise_batch_norm(model)
    assert changed is model
    assert sum(isinstance(layer, GlobalBatchNorm) for layer in model.modules()) == 2
    assert all(ours is theirs for ours, theirs in zip(model.parameters(), weights, strict=True))
    x = torch.randn(6, 3)
    for _ in range(2):
        assert torch.equal(model(x), before(x))
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.state_dict().items())
    first = model[1]
    synchronise_batch_norm(model)
    assert model[1] is first
    with pytest.raises(ValueError, match=r"x must have a batch and a channel dimension, got shape \(4,\)"):
        GlobalBatchNorm(4)(torch.zeros(4))
