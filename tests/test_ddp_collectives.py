"""Ring all-reduce, bucketed averaging and ZeRO-1 against torch.distributed, in real processes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from helpers.ddp import BucketedAverager, Zero1, launch, ring_all_reduce
from helpers.ddp.collectives import PIECE_BYTES

SHAPES = [(), (0,), (1,), (2,), (3,), (7, 3), (2, 5, 11)]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.complex64]


def made(shape: tuple[int, ...], dtype: torch.dtype, rank: int) -> torch.Tensor:
    """Small whole numbers: their sum is exact in every dtype, in any order."""
    generator = torch.Generator().manual_seed(100 * rank + len(shape))
    return torch.randint(0, 10, shape, generator=generator).to(dtype)


# ------------------------------------------------------------------------------------------------------- all-reduce


def reduce_all_kinds() -> dict[str, bool]:
    """Which cases came out as the plain sum of all ranks' tensors; also in the given tensor itself."""
    n, rank = dist.get_world_size(), dist.get_rank()
    right = {}
    for shape in SHAPES:
        for dtype in DTYPES:
            tensor = made(shape, dtype, rank)
            returned = ring_all_reduce(tensor)
            expected = torch.stack([made(shape, dtype, other) for other in range(n)]).sum(0).to(dtype)
            right[f"{shape} {dtype}"] = returned is tensor and torch.equal(tensor, expected)
    return right


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ring_all_reduce_is_the_sum_for_every_shape_and_dtype_also_shorter_than_the_ring(world_size: int):
    for rank, right in enumerate(launch(reduce_all_kinds, world_size)):
        assert len(right) == len(SHAPES) * len(DTYPES)
        assert [case for case, ok in right.items() if not ok] == [], f"rank {rank} of {world_size}"


def reduce_beside_the_library(elements: int) -> dict[str, Any]:
    rank = dist.get_rank()
    tensor = torch.randn(elements, generator=torch.Generator().manual_seed(rank))
    theirs, ours, mean = tensor.clone(), tensor.clone(), tensor.clone()
    dist.all_reduce(theirs)
    ring_all_reduce(ours)
    ring_all_reduce(mean, op="mean")
    gathered = [torch.empty_like(ours) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, ours)
    return {
        "difference": (ours - theirs).abs().max().item(),
        "mean": (mean - theirs / dist.get_world_size()).abs().max().item(),
        "alike": all(torch.equal(ours, other) for other in gathered),
    }


@pytest.mark.parametrize("world_size", [2, 3])
def test_a_tensor_of_many_pieces_neither_deadlocks_nor_differs_from_the_library(world_size: int):
    elements = 5 * world_size * PIECE_BYTES // 8 + 1  # chunks of 2½ pieces, which do not all have the same length
    for found in launch(reduce_beside_the_library, world_size, elements):
        assert found["difference"] < 1e-5
        assert found["mean"] < 1e-5
        assert found["alike"], "ranks that add in different orders drift apart"


def reduce_odd_tensors() -> dict[str, bool]:
    n, rank = dist.get_world_size(), dist.get_rank()
    transposed = torch.arange(12.0).view(3, 4).t() + rank
    expected = torch.arange(12.0).view(3, 4).t() * n + sum(range(n))
    every_second = torch.full((10,), float(rank))
    ring_all_reduce(every_second[::2])
    weight = nn.Parameter(torch.ones(3))
    ring_all_reduce(weight)
    return {
        "transposed": torch.equal(ring_all_reduce(transposed), expected),
        "strided": every_second.tolist() == [float(sum(range(n))), float(rank)] * 5,
        "parameter": weight.tolist() == [n, n, n],
    }


def test_tensors_that_are_not_contiguous_or_need_gradients_are_changed_in_place_like_any_other():
    assert launch(reduce_odd_tensors, 3) == [{"transposed": True, "strided": True, "parameter": True}] * 3


def reduce_and_count() -> tuple[int, set[Any]]:
    """Bytes that this rank sent, and to which ranks."""
    counted, receivers = 0, set()
    send = dist.isend

    def isend(tensor: torch.Tensor, *args: Any, group_dst: int, **kwargs: Any) -> Any:
        nonlocal counted
        counted += tensor.nbytes
        receivers.add(group_dst)
        return send(tensor, *args, group_dst=group_dst, **kwargs)

    dist.isend = isend
    ring_all_reduce(torch.zeros(12_000))
    return counted, receivers


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_each_rank_sends_no_more_than_the_lower_bound_and_only_to_its_neighbour(world_size: int):
    for rank, (sent, receivers) in enumerate(launch(reduce_and_count, world_size)):
        assert sent == 2 * (world_size - 1) / world_size * 48_000
        assert receivers == {(rank + 1) % world_size}


def reduce_in_group() -> Any:
    group = dist.new_group([0, 2])
    tensor = torch.tensor([1.0 + dist.get_rank()])
    try:
        return ring_all_reduce(tensor, group=group).item()
    except ValueError as error:
        return str(error)


def test_a_group_reduces_among_its_members_and_tells_others_that_they_are_not_in_it():
    inside, outside, inside_too = launch(reduce_in_group, 3)
    assert (inside, inside_too) == (4.0, 4.0)
    assert "rank 1 is not in the group" in outside


@pytest.mark.parametrize(
    ("tensor", "op", "error", "message"),
    [
        ([1.0], "sum", TypeError, "tensor must be a torch.Tensor, got list"),
        (torch.zeros(2), "max", ValueError, "op must be 'sum' or 'mean', got 'max'"),
        (torch.zeros(2, dtype=torch.int64), "mean", ValueError, "needs a tensor of floats, got torch.int64"),
        (torch.zeros(2, device="meta"), "sum", ValueError, "must be in main memory"),
    ],
)
def test_what_cannot_be_reduced_is_refused_before_anything_is_sent(tensor, op, error, message):
    with pytest.raises(error, match=message):
        ring_all_reduce(tensor, op=op)  # there is no process group here to send over


# ------------------------------------------------------------------------------------------------ bucketed averaging


class Net(nn.Module):
    """Weights of two dtypes; the same layer used twice; a part that may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.twice = nn.Linear(8, 8)
        self.precise = nn.Linear(8, 4).double()
        self.sometimes = nn.Linear(4, 4).double()
        self.last = nn.Linear(4, 2).double()

    def forward(self, x: torch.Tensor, *, all_layers: bool = True) -> torch.Tensor:
        x = self.twice(torch.tanh(self.twice(self.first(x))))
        x = self.precise(x.double())
        return self.last(self.sometimes(x) if all_layers else x)


def average_beside_ddp(bucket_mb: float, steps: int = 3) -> dict[str, Any]:
    """Three steps of two micro-batches each, with DDP and with the averager, on this rank's own data."""
    rank = dist.get_rank()
    torch.manual_seed(rank)  # other weights on every rank: both have to start from rank 0's
    ours = Net()
    theirs = DistributedDataParallel(copy.deepcopy(ours))
    averager = BucketedAverager(ours, bucket_mb)
    sgd = [torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9) for model in (ours, theirs)]
    gradients = weights = 0.0
    for _ in range(steps):
        x = torch.randn(2, 5, 6)
        with averager.no_sync(), theirs.no_sync():
            ours(x[0]).square().mean().backward()
            theirs(x[0]).square().mean().backward()
        ours(x[1]).square().mean().backward()
        theirs(x[1]).square().mean().backward()
        averager.wait()
        gradients = max(gradients, farthest(ours, theirs, "grad"))
        for optimiser in sgd:
            optimiser.step()
            optimiser.zero_grad()
        weights = max(weights, farthest(ours, theirs, "data"))
    sizes = [sum(one.nbytes for one in bucket.parameters) for bucket in averager.buckets]
    names = {parameter: name for name, parameter in ours.named_parameters()}
    order = [names[one] for bucket in averager.buckets for one in bucket.parameters]
    return {"gradients": gradients, "weights": weights, "sizes": sizes, "order": order}


def farthest(one: nn.Module, other: nn.Module, what: str) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((getattr(a, what) - getattr(b, what)).abs().max().item() for a, b in pairs)


@pytest.mark.parametrize("bucket_mb", [1e-6, 2e-4, 25.0], ids=["one parameter each", "several", "one bucket a dtype"])
def test_averaged_gradients_and_training_are_those_of_ddp_at_any_bucket_size(bucket_mb: float):
    for found in launch(average_beside_ddp, 3, bucket_mb):
        assert found["gradients"] < 1e-6
        assert found["weights"] < 1e-6
        assert found["order"] == [name for name, _ in Net().named_parameters()][::-1]
        if bucket_mb == 1e-6:
            assert len(found["sizes"]) == 10
        elif bucket_mb == 25.0:
            assert len(found["sizes"]) == 2
        else:
            assert 2 < len(found["sizes"]) < 10


def average_left_out() -> dict[str, Any]:
    """Rank 0 leaves a layer out, then everyone does."""
    rank = dist.get_rank()
    torch.manual_seed(0)
    model = Net()
    averager = BucketedAverager(model, 1e-6)
    x = torch.randn(4, 6)
    model(x, all_layers=rank > 0).sum().backward()
    alone = None if model.sometimes.weight.grad is None else model.sometimes.weight.grad.clone()
    averager.wait()
    shared = model.sometimes.weight.grad.clone()
    model.zero_grad()
    model(x, all_layers=False).sum().backward()
    averager.wait()
    return {"alone": alone, "shared": shared, "nobody": model.sometimes.weight.grad}


def test_a_parameter_that_one_rank_did_not_use_counts_as_zeros_there_and_nobody_waits_for_ever():
    zero, one = launch(average_left_out, 2)
    assert zero["alone"] is None
    assert torch.allclose(zero["shared"], one["alone"] / 2)
    assert torch.equal(zero["shared"], one["shared"])
    assert not zero["nobody"].any()


class Branches(nn.Module):
    """Two equal layers whose gradients come in the order in which they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor, *, a_first: bool) -> torch.Tensor:
        return self.b(self.a(x)) if a_first else self.a(self.b(x))


def average_in_other_orders() -> list[torch.Tensor]:
    """Each rank runs the layers in its own order: this rank's gradients, and the averaged ones."""
    torch.manual_seed(0)
    model = Branches()
    averager = BucketedAverager(model, 1e-6)
    with averager.no_sync():
        model(torch.ones(2, 3), a_first=dist.get_rank() == 0).sum().backward()
    own = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model(torch.ones(2, 3), a_first=dist.get_rank() == 0).sum().backward()
    averager.wait()
    return [*own, *(parameter.grad for parameter in model.parameters())]


def test_ranks_whose_gradients_come_in_different_orders_do_not_add_unlike_buckets():
    zero, one = launch(average_in_other_orders, 2)
    for own, other, mean, mean_too in zip(zero[:4], one[:4], zero[4:], one[4:], strict=True):
        assert torch.allclose(mean, (own + other) / 2)
        assert torch.equal(mean, mean_too)


def watch_messages() -> dict[str, Any]:
    """In which order gradients and all-reduces come, what no_sync sends, and a forgotten wait."""
    events: list[str] = []
    reduce = dist.all_reduce

    def all_reduce(*args: Any, **kwargs: Any) -> Any:
        events.append("all-reduce")
        return reduce(*args, **kwargs)

    dist.all_reduce = all_reduce
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    averager = BucketedAverager(model, 1e-6)
    model[0].weight.register_post_accumulate_grad_hook(lambda _: events.append("first layer"))
    model(torch.ones(2, 4)).sum().backward()
    averager.wait()
    found: dict[str, Any] = {"events": events.copy()}

    events.clear()
    with averager.no_sync():
        model(torch.ones(2, 4)).sum().backward()
    found["under no_sync"] = events.count("all-reduce")

    model(torch.ones(2, 4)).sum().backward()
    try:
        model(torch.ones(2, 4)).sum().backward()
    except RuntimeError as error:
        found["forgotten"] = str(error)
    averager.wait()

    averager.remove()
    events.clear()
    model(torch.ones(2, 4)).sum().backward()
    found["after remove"] = events.count("all-reduce")
    return found


def test_the_last_layers_travel_while_the_first_still_wait_for_their_gradients():
    for found in launch(watch_messages, 2):
        assert found["events"].count("all-reduce") == 4
        assert found["events"].index("all-reduce") < found["events"].index("first layer")
        assert found["under no_sync"] == found["after remove"] == 0
        assert "two backward passes without wait()" in found["forgotten"]


def test_an_averager_without_parameters_or_with_a_senseless_bucket_is_refused():
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        BucketedAverager(nn.ReLU())
    with pytest.raises(ValueError, match="bucket_mb must be a positive number of MiB, got 0"):
        BucketedAverager(nn.Linear(2, 2), 0)


# ------------------------------------------------------------------------------------------------------------ ZeRO-1


def small_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(4, 2))


def step_sharded(name: str, options: dict[str, Any], steps: int = 4) -> dict[str, Any]:
    """Three optimisers on three copies: whole, the library's sharded, ours."""
    rank = dist.get_rank()
    torch.manual_seed(0)
    models = [small_net() for _ in range(3)]
    for model in models:
        model.load_state_dict(models[0].state_dict())
        model[0].bias.requires_grad_(False)
    kind = getattr(torch.optim, name)
    ours = Zero1(models[2].parameters(), kind, **options)
    optimisers: list[Any] = [
        kind([one for one in models[0].parameters() if one.requires_grad], **options),
        ZeroRedundancyOptimizer([one for one in models[1].parameters() if one.requires_grad], kind, **options),
        ours,
    ]
    schedules = [torch.optim.lr_scheduler.ExponentialLR(one, 0.5) for one in (*optimisers[:2], ours.optimiser)]
    generator = torch.Generator().manual_seed(7)  # the same gradients on every rank, as after averaging
    for _ in range(steps):
        x = torch.randn(5, 6, generator=generator)
        for model, optimiser, schedule in zip(models, optimisers, schedules, strict=True):
            model(x).square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, models[2].state_dict())
    return {
        "to whole": farthest(models[0], models[2], "data"),
        "to library": farthest(models[1], models[2], "data"),
        "alike": all(torch.equal(gathered[0][key], value) for key, value in gathered[rank].items()),
        "held": sum(one.numel() for one in ours.optimiser.param_groups[0]["params"]),
        "states": sum(tensor.numel() for state in ours.optimiser.state.values() for tensor in state.values()),
        "gradients left": sum(one.grad is not None for one in models[2].parameters()),
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [("AdamW", {"lr": 0.05, "weight_decay": 0.1}), ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True})],
)
@pytest.mark.parametrize("world_size", [2, 3])
def test_a_sharded_step_is_that_of_the_whole_optimiser_and_of_the_librarys(name, options, world_size: int):
    found = launch(step_sharded, world_size, name, options)
    for one in found:
        assert one["to whole"] < 1e-7
        assert one["to library"] < 1e-7
        assert one["alike"]
        assert one["gradients left"] == 0
    trained = sum(one.numel() for one in small_net().parameters()) - 8  # the frozen bias
    assert sum(one["held"] for one in found) == trained
    largest = 64  # a whole parameter more or less
    assert all(abs(one["held"] - trained / world_size) <= largest for one in found), "the state is not divided"
    numbers = 2 if name == "AdamW" else 1  # a parameter, and AdamW's step count for each tensor
    assert sum(one["states"] for one in found) - numbers * trained in (0, 7)


def step_with_idle_ranks() -> tuple[int, list[float]]:
    torch.manual_seed(0)
    layer = nn.Linear(2, 1)
    optimiser = Zero1(layer.parameters(), torch.optim.AdamW, lr=0.1)
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    return len(optimiser.optimiser.state), [*layer.weight[0].tolist(), *layer.bias.tolist()]


def test_more_ranks_than_parameters_leaves_some_with_nothing_to_do_and_all_with_the_same_weights():
    states, weights = zip(*launch(step_with_idle_ranks, 3), strict=True)
    assert sorted(states) == [0, 1, 1]
    assert weights[0] == weights[1] == weights[2]


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ([{"params": [nn.Parameter(torch.zeros(2))]}], TypeError, "parameter groups are not divided"),
        ([], ValueError, "no parameter that requires a gradient"),
        ([torch.zeros(2)], ValueError, "no parameter that requires a gradient"),
    ],
)
def test_parameters_that_cannot_be_divided_are_refused(parameters, error, message):
    with pytest.raises(error, match=message):
        Zero1(parameters, torch.optim.AdamW, lr=0.1)
