"""Compressed gradients: how near to the plain ones, and how many bytes, in real processes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from helpers.ddp import compression, launch

WIDTH = 48


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, 4))


def compress(name: str, options: dict[str, Any], steps: int = 4, samples: int = 16) -> dict[str, Any]:
    """Gradients of several steps, plain and compressed; the bytes that went through the collectives themselves."""
    rank, n = dist.get_rank(), dist.get_world_size()
    passed = {"all_reduce": 0, "all_gather": 0}
    for call in passed:
        _count_bytes(call, passed)
    plain, packed = DistributedDataParallel(net()), DistributedDataParallel(net(), bucket_cap_mb=0.02)
    traffic = compression.register(packed, name, **options)
    generator = torch.Generator().manual_seed(rank)
    found: dict[str, Any] = {"plain": [], "packed": [], "bytes": [], "counted": []}
    for _ in range(steps):
        x = torch.randn(samples, WIDTH, generator=generator)
        before, sent = passed.copy(), traffic.sent
        for model in (plain, packed):
            model.zero_grad()
            model(x).square().mean().backward()
        reduced, gathered = (passed[call] - before[call] for call in passed)
        found["bytes"].append(2 * (n - 1) / n * reduced + (n - 1) * gathered)
        found["counted"].append(traffic.sent - sent)
        found["plain"].append(flat(plain))
        found["packed"].append(flat(packed))
    return found | {"saving": traffic.saving, "of which plain": traffic.plain}


def _count_bytes(call: str, passed: dict[str, int]) -> None:
    """Let a collective of torch.distributed count what a rank puts in; DDP without a hook does not come past here."""
    real = getattr(dist, call)

    def counting(*args: Any, **kwargs: Any) -> Any:
        passed[call] += args[0].nbytes if call == "all_reduce" else args[1].nbytes
        return real(*args, **kwargs)

    setattr(dist, call, counting)


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([one.grad.flatten() for one in model.parameters()])


def error(found: dict[str, Any], step: int) -> float:
    plain, packed = found["plain"][step], found["packed"][step]
    return ((packed - plain).norm() / plain.norm()).item()


@pytest.mark.parametrize(
    ("name", "options", "nearer", "farther", "saving"),
    [
        ("none", {}, 1e-6, -1, (1, 1)),
        ("fp16", {}, 1e-3, 1e-6, (2, 2)),
        ("bf16", {}, 1e-2, 1e-4, (2, 2)),
        ("powersgd", {"rank": 4, "start": 2}, 1, 1e-3, (4, 20)),
        ("top_k", {"share": 0.05, "start": 2}, 1, 1e-2, (5, 20)),
    ],
)
def test_each_method_is_as_near_as_it_should_be_and_sends_what_it_says(name, options, nearer, farther, saving):
    world = launch(compress, 2, name, options)
    for found in world:
        assert found["counted"] == pytest.approx(found["bytes"])
        assert farther < error(found, -1) < nearer
        last_saving = found["counted"][0] / found["counted"][-1] * (2 if name in ("fp16", "bf16") else 1)
        assert saving[0] <= last_saving <= saving[1]
        assert found["of which plain"] / sum(found["counted"]) == pytest.approx(found["saving"])
        if "start" in options:
            assert error(found, 0) < 1e-6, "the first steps are sent as they are"
    for ours, theirs in zip(world[0]["packed"], world[1]["packed"], strict=True):
        assert torch.equal(ours, theirs), "ranks that step differently drift apart"


@pytest.mark.parametrize(("name", "options"), [("powersgd", {"rank": 4, "start": 2}), ("top_k", {"share": 1.0})])
def test_what_fits_into_the_message_arrives_whole(name, options):
    # one sample a rank: no gradient matrix has more than rank 2, and four columns hold it
    for found in launch(compress, 2, name, options, samples=1):
        assert all(torch.isfinite(gradient).all() for gradient in found["packed"])
        assert max(error(found, step) for step in range(4)) < 1e-3


def compress_nothing(name: str, options: dict[str, Any]) -> list[bool]:
    """The output layer starts at zero, as in many residual networks: the layers before it get no gradient at first."""
    model = DistributedDataParallel(net())
    nn.init.zeros_(model.module[-1].weight)
    compression.register(model, name, start=2, **options)
    for _ in range(3):
        model.zero_grad()
        model(torch.ones(2, WIDTH)).sum().backward()
    return [bool(one.grad.isfinite().all()) for one in model.parameters()] + [not model.module[0].weight.grad.any()]


@pytest.mark.parametrize(("name", "options"), [("powersgd", {"rank": 1}), ("powersgd", {"rank": 4}), ("top_k", {})])
def test_a_gradient_of_zero_stays_zero_and_does_not_become_nan(name: str, options: dict[str, Any]):
    assert all(launch(compress_nothing, 2, name, options)[0])


def hold_back(steps: int) -> dict[str, Any]:
    rank = dist.get_rank()
    model = DistributedDataParallel(nn.Linear(40, 1, bias=False))
    state = compression.TopKState(share=0.1, start=2)
    model.register_comm_hook(state, compression.top_k_hook)
    own, averaged, numbers = torch.zeros(40), torch.zeros(40), []
    for step in range(steps):
        x = torch.randn(1, 40, generator=torch.Generator().manual_seed(10 * step + rank))
        model.zero_grad()
        model(x).sum().backward()  # its gradient is x
        own, averaged = own + x[0], averaged + model.module.weight.grad[0]
        numbers.append(int(model.module.weight.grad.count_nonzero()))
    return {"own": own, "averaged": averaged, "held back": state.held_back[0], "numbers": numbers}


@pytest.mark.parametrize("world_size", [2, 3])
def test_top_k_loses_nothing_what_is_not_sent_now_is_kept_for_later(world_size: int):
    found = launch(hold_back, world_size, 9)
    for one in found:
        kept = sum(rank["held back"] for rank in found) / world_size
        whole = sum(rank["own"] for rank in found) / world_size
        assert torch.allclose(one["averaged"] + kept, whole, atol=1e-5)
        assert one["held back"].any()
        assert one["numbers"][:2] == [40, 40]
        assert all(4 <= count <= 4 * world_size for count in one["numbers"][2:])


def learn(name: str, options: dict[str, Any]) -> float:
    """Loss after some steps on a fixed problem."""
    generator = torch.Generator().manual_seed(dist.get_rank())
    x = torch.randn(64, WIDTH, generator=generator)
    y = x[:, :4].sin()
    model = DistributedDataParallel(net())
    compression.register(model, name, **options)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(60):
        optimiser.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimiser.step()
    dist.all_reduce(loss.detach())
    return loss.item() / dist.get_world_size()


def test_training_goes_on_under_every_method():
    methods = {"none": {}, "fp16": {}, "bf16": {}, "powersgd": {"start": 2}, "top_k": {"share": 0.05}}
    assert methods.keys() == compression.METHODS.keys()
    losses = {name: launch(learn, 2, name, options)[0] for name, options in methods.items()}
    assert losses["none"] < 0.05
    assert losses["fp16"] == pytest.approx(losses["none"], rel=0.01)
    assert losses["bf16"] == pytest.approx(losses["none"], rel=0.05)
    assert all(loss < 0.15 for loss in losses.values())


def refused() -> list[str]:
    model = DistributedDataParallel(net())
    messages = []
    for args, options in [
        ((net(), "fp16"), {}),
        ((model, "fp8"), {}),
        ((model, "powersgd"), {"rank": 0}),
        ((model, "powersgd"), {"start": 1}),
        ((model, "top_k"), {"share": 0}),
        ((model, "top_k"), {"start": 1}),
        ((model, "fp16"), {"rank": 2}),
    ]:
        try:
            compression.register(*args, **options)
        except (TypeError, ValueError) as reason:
            messages.append(f"{type(reason).__name__}: {reason}")
    compression.register(model, "fp16")  # none of these has left a hook behind
    try:
        compression.register(model, "bf16")
    except RuntimeError as reason:
        messages.append(f"{type(reason).__name__}: {reason}")
    return messages


def test_a_wrong_model_name_or_option_is_named_and_leaves_the_model_as_it_was():
    (messages,) = launch(refused, 1)
    expected = [
        "TypeError: model must be a DistributedDataParallel, got Sequential",
        "ValueError: name must be one of none, fp16, bf16, powersgd, top_k, got 'fp8'",
        "ValueError: rank must be at least 1, got 0",
        "ValueError: start must be at least 2, got 1",
        "ValueError: share must be above 0 and at most 1, got 0",
        "ValueError: start must be at least 2, got 1",
        "TypeError: ",
        "RuntimeError: ",
    ]
    assert len(messages) == len(expected)
    for message, start in zip(messages, expected, strict=True):
        assert message.startswith(start)
    assert "rank" in messages[6]
    assert "register_comm_hook" in messages[7]


def losses_with_many_buckets(name: str, options: dict[str, Any]) -> tuple[float, torch.Tensor]:
    """Enough buckets, of unlike sizes, for their messages to overtake one another."""
    torch.manual_seed(0)
    sizes = (40, 96, 24, 64, 80, 16, 48, 8)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    model = DistributedDataParallel(nn.Sequential(*layers), bucket_cap_mb=0.005)
    compression.register(model, name, **options)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(30):
        loss = model(torch.ones(4, 40)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.item(), nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize(("name", "options"), [("powersgd", {"start": 2}), ("top_k", {"share": 0.1})])
def test_the_messages_of_many_buckets_do_not_mix(name: str, options: dict[str, Any]) -> None:
    (first, weights), (second, others) = launch(losses_with_many_buckets, 2, name, options, timeout=120)
    assert first == second
    assert torch.equal(weights, others)
