"""The checks and hints of notebook 02: what is asked of the answers about distributed training, 2.1 to 2.5.

Where ranks talk to each other, the answers run in real worker processes, and what they should have given is computed
here in one process, from all the ranks' data. The checks of 2.6 to 2.10 are in `training_efficiency_steps`.
What they do not catch: an answer that is right but slow, and one that is right on gloo and wrong on NCCL.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.exercises import ranks
from helpers.exercises.describing import describe
from helpers.exercises.registry import exercise
from helpers.exercises.trial import Mistake, Trial

if TYPE_CHECKING:
    from torch import Tensor, nn

Answer = Callable[..., Any]
Shards = list[list[int]]


# ------------------------------------------------------------------------------------------------------ 2.1 sampler


@exercise(
    "2.1",
    title="The sampler's shards",
    parts=("shard_indices",),
    difficulty=2,
    minutes=12,
    asked_as="How does each rank know which samples are its own, and what goes wrong if you forget set_epoch?",
    hints=(
        "The ranks never talk about this. Each draws the permutation of the whole data set by itself: what must be the "
        "same on all of them so that it is the same permutation, and what must change from epoch to epoch?",
        "A generator of its own, `torch.Generator().manual_seed(seed + epoch)`, leaves the global random state alone. "
        "The rank plays no part in the draw; it only chooses from the result.",
        "Every rank must get equally many: ceil(length / world_size). Repeat the permutation from its beginning until "
        "there are enough; a data set smaller than world_size is repeated more than once.",
        "`order = torch.randperm(length, generator=generator).tolist()`; `total = math.ceil(length / world_size) * "
        "world_size`; `padded = (order * math.ceil(total / length))[:total]`; return `padded[rank::world_size]`.",
    ),
)
def sampler_shards(trial: Trial, shard_indices: Answer) -> None:
    rng = trial.rng
    for what, length, world_size in _data_sets(rng):
        epoch, seed = (int(number) for number in rng.integers(0, 1000, 2))
        before = _random_states()
        shards = [trial.call(shard_indices, length, world_size, rank, epoch, seed) for rank in range(world_size)]
        untouched = _random_states() == before
        trial.is_type(shards[0], list, what="the result", otherwise="a list of ints: .tolist() turns a tensor into one")
        trial.that(
            all(isinstance(index, int | np.integer) for shard in shards for index in shard),
            what="the result holds ints",
            got=describe(shards[0]),
            otherwise="a list of ints: list() of a tensor gives a list of tensors, .tolist() gives ints",
        )
        trial.input = f"length = {length}, world_size = {world_size}, epoch = {epoch}, seed = {seed}, every rank"
        trial.equal(
            [len(shard) for shard in shards],
            [math.ceil(length / world_size)] * world_size,
            what=f"indices per rank with {what}",
            otherwise=_uneven(shards, length, world_size),
        )
        dealt = [shards[place % world_size][place // world_size] for place in range(len(shards[0]) * world_size)]
        order, padding = dealt[:length], dealt[length:]
        trial.that(
            sorted(order) == list(range(length)) and padding == (order * world_size)[: len(padding)],
            what="dealt out in turn, the ranks' indices are one permutation, and then its beginning again",
            want=f"{length} different indices" + (f", then the first {len(padding)} again" if padding else ""),
            got=f"{len(set(order))} different indices, then {describe(padding)}; the first are {describe(order[:4])}",
            otherwise=_badly_dealt(shards, length),
        )
        trial.that(
            untouched,
            what="the global random states stay as they were",
            otherwise="seeding the global generator makes dropout and augmentation repeat themselves in every epoch, "
            "alike on all ranks: draw from a generator of your own",
        )
    steps = np.diff(order) % length
    trial.that(
        np.mean(steps == 1) < 0.5,
        what="the order is shuffled",
        got=describe(order),
        otherwise="the indices come in the data set's order: neighbours (of one class, of one file) stay together in "
        "every batch; draw a permutation",
    )
    for name, other in (("epoch", (epoch + 1, seed)), ("seed", (epoch, seed + 1))):
        again = trial.call(shard_indices, length, world_size, 0, *other)
        trial.that(
            list(again) != shards[0],
            what=f"another {name} gives another order",
            want="other indices",
            got=f"the same indices for {name} = {other[name == 'seed'] - 1} and the next",
            otherwise=f"the {name} is not used"
            + (": this is what forgetting set_epoch does, every epoch has the same batches" if name == "epoch" else ""),
        )
    for rank in (-1, world_size):
        trial.raises(
            ValueError,
            shard_indices,
            length,
            world_size,
            rank,
            epoch,
            seed,
            what=f"rank {rank} of {world_size} is refused",
            otherwise="ranks are 0 … world_size - 1; another one would silently get some other rank's samples",
        )


def _data_sets(rng: np.random.Generator) -> Iterator[tuple[str, int, int]]:
    """(what, length, world_size); the last is large enough to see whether it is shuffled."""
    n = int(rng.integers(3, 6))
    yield "a length that is no multiple of world_size", n * int(rng.integers(4, 9)) + int(rng.integers(1, n - 1)), n
    yield "fewer samples than ranks", int(rng.integers(2, 4)), 2 * n + 1
    yield "one sample", 1, n
    yield "one rank", int(rng.integers(9, 20)), 1
    yield "a length that is a multiple of world_size", n * int(rng.integers(8, 12)), n


def _random_states() -> tuple[Any, ...]:
    import torch

    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global state is the point
    return random.getstate(), (name, np.asarray(keys).tolist(), *rest), torch.get_rng_state().tolist()


def _uneven(shards: Shards, length: int, world_size: int) -> str:
    counts = {len(shard) for shard in shards}
    if counts == {length}:
        return "every rank gets the whole data set: take every world_size-th index, starting at the rank"
    if counts == {length // world_size}:
        return "the tail is dropped, some samples are never seen in this epoch: pad instead"
    if length < world_size:
        return "one copy of the permutation's beginning is not enough here: repeat it until every rank has an index"
    return (
        "without padding some ranks make a step more than the others and wait for them for ever: repeat the beginning"
    )


def _badly_dealt(shards: Shards, length: int) -> str:
    joined = [index for shard in shards for index in shard]
    if all(shard == shards[0] for shard in shards):
        return "the rank is not used: all ranks train on the same samples"
    if len(set(joined)) < length:
        return (
            "the ranks drew different permutations: some samples are seen twice, others never; the rank must not "
            "play a part in the draw"
        )
    if joined == (joined[:length] * len(shards))[: len(joined)]:
        return "each rank has a block of the permutation here: it takes every world_size-th index, starting at the rank"
    return "the padding is the beginning of the permutation, in its order: not one index many times, not a new draw"


# ------------------------------------------------------------------------------------------------ 2.2 ring all-reduce

COLLECTIVES = (
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "all_to_all",
    "all_to_all_single",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "gather_object",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
)


@exercise(
    "2.2",
    title="Ring all-reduce",
    parts=("ring_all_reduce",),
    difficulty=4,
    minutes=30,
    asked_as="How does all-reduce work, and how many bytes does each GPU send for a gradient of B bytes?",
    hints=(
        "Cut the tensor into world_size chunks. In each step every rank sends one chunk to its right neighbour and "
        "receives another from its left one: which chunk must it be so that sums grow as they travel?",
        "First half, reduce-scatter: in step s rank r sends chunk (r - s) and adds what it receives to chunk (r - s - "
        "1), all modulo n. After n - 1 steps rank r holds the complete sum of chunk (r + 1). Second half, all-gather: "
        "the complete chunks travel once round, overwriting.",
        "`chunks = flat.tensor_split(n)` also works where n does not divide the length, and for a length below n. Its "
        "chunks are views of `flat`, so adding to them fills the result.",
        "If all ranks first send and then receive, all wait: start both, `requests = [dist.isend(chunks[send], right), "
        "dist.irecv(incoming, left)]`, then wait for both before either buffer is touched.",
        "Reduce-scatter: `send, receive = (rank - step) % n, (rank - step - 1) % n`, `chunks[receive] += incoming`. "
        "All-gather: `send, receive = (rank + 1 - step) % n, (rank - step) % n`, `chunks[receive].copy_(incoming)`. "
        "Begin with `flat = tensor.flatten().clone()`, end with `flat.view(tensor.shape)`.",
    ),
)
def ring_all_reduce(trial: Trial, answer: Answer) -> None:
    for world_size in (3, 4, int(trial.rng.integers(1, 3))):
        inputs = _tensors_to_sum(trial.rng, world_size)
        with trial.forbid(
            *(f"torch.distributed.{name}" for name in COLLECTIVES),
            why="point-to-point messages only: isend and irecv, send and recv, or batch_isend_irecv",
        ):
            results = trial.on_ranks(
                _ring_on_a_rank,
                world_size,
                answer,
                inputs=inputs,
                otherwise="every rank sends before any receives, or receives before any sends: start both with isend "
                "and irecv, then wait for both; and every rank must make as many of each",
            )
        for case, shares in enumerate(inputs):
            for rank, outcomes in enumerate(results):
                trial.input = f"rank {rank} of {world_size}, a {describe(shares[rank])}"
                _judge_ring(trial, outcomes[case], shares, rank)


def _tensors_to_sum(rng: np.random.Generator, world_size: int) -> list[list[Tensor]]:
    """For each case one tensor per rank: whole numbers, so that every order of adding gives the same sum."""
    import torch

    def numbers(*shape: int) -> list[Tensor]:
        return [torch.from_numpy(rng.integers(-50, 50, shape)).float() for _ in range(world_size)]

    n = int(rng.integers(300, 500))
    return [
        numbers(world_size * n),
        numbers(world_size * 10 + 1, 7),
        [share.double() for share in numbers(n, 2, 3)],
        [share.t() for share in numbers(5, 9)],  # not contiguous, as gradients in channels-last layout are
        numbers(world_size - 1),
        numbers(),
        numbers(2**16),  # more than the system keeps for a receiver that is not there yet
    ]


def _ring_on_a_rank(answer: Answer, inputs: list[list[Tensor]]) -> list[dict[str, Any]]:
    """Runs in each rank: for each case the result, whether the input changed, and what was sent to whom."""
    import torch.distributed as dist

    outcomes = []
    for shares in inputs:
        mine = shares[dist.get_rank()]
        given = mine.clone()  # keeps the strides
        ranks.working_on(describe(mine))
        sent: dict[int, int] = {}
        with _counted_messages(sent):
            result = answer(given)
        outcomes.append({"result": result, "unchanged": bool((given == mine).all()), "sent": sent})
    return outcomes


class _counted_messages:
    """Inside, the bytes that this rank sends by point-to-point messages are added up by receiver."""

    def __init__(self, sent: dict[int, int]) -> None:
        import torch.distributed as dist

        self.group: Any = dist.ProcessGroup
        self.sent, self.send = sent, dist.ProcessGroup.send

    def __enter__(self) -> None:
        def counting(group: Any, tensors: list[Any], receiver: int, *rest: Any) -> Any:
            size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            self.sent[receiver] = self.sent.get(receiver, 0) + size
            return self.send(group, tensors, receiver, *rest)

        self.group.send = counting

    def __exit__(self, *_: object) -> None:
        self.group.send = self.send


def _judge_ring(trial: Trial, outcome: dict[str, Any], shares: Sequence[Tensor], rank: int) -> None:
    import torch

    n, mine = len(shares), shares[rank]
    want = torch.stack(list(shares)).sum(0)
    trial.is_tensor(
        outcome["result"],
        tuple(mine.shape),
        mine.dtype,
        what="the result",
        otherwise="a tensor of the shape and dtype that came in, on every rank",
    )
    trial.equal(
        outcome["result"],
        want,
        what="the sum over all ranks",
        mistakes=_ring_mistakes(shares, rank),
        otherwise="follow one chunk on paper, with three ranks: who adds what to it in which step, and who has it "
        "complete when the second half begins?",
    )
    trial.that(
        outcome["unchanged"],
        what="the input stays as it was",
        otherwise="the sums were added to the caller's tensor: flatten() and view() do not copy, clone() does",
    )
    sent, itemsize = sum(outcome["sent"].values()), mine.element_size()
    least, most = (2 * (n - 1) * round_(mine.numel() / n) * itemsize for round_ in (math.floor, math.ceil))
    trial.that(
        least <= sent <= most,
        what="each rank sends 2 (n - 1) / n of the tensor",
        want=f"{least:,} bytes" if least == most else f"{least:,} to {most:,} bytes",
        got=f"{sent:,} bytes ({sent / max(1, mine.numel() * itemsize):.2f} of the tensor)",
        otherwise="whole tensors travel, or all go through one rank: with n ranks the busiest then sends n - 1 times "
        "the tensor; cut it into n chunks and let the chunks go round"
        if sent > most
        else "this rank sends nothing, or too little: something else than send, isend and batch_isend_irecv carried it",
    )
    strangers = set(outcome["sent"]) - {(rank + 1) % n, (rank - 1) % n}
    trial.that(
        not strangers,
        what="messages go to the neighbours in the ring only",
        want=f"to rank {(rank + 1) % n}, or {(rank - 1) % n}",
        got="also to rank " + ", ".join(map(str, sorted(strangers))),
        otherwise="the volume is right, but this is no ring: every pair of ranks needs a link of its own",
    )


def _ring_mistakes(shares: Sequence[Tensor], rank: int) -> tuple[Mistake, ...]:
    import torch

    n, mine = len(shares), shares[rank]
    total = torch.stack(list(shares)).sum(0)
    mistakes = [
        (mine, "this is the rank's own tensor: nothing that another rank has sent is in it"),
        (total / n, "this is the mean: the sum is asked, the caller divides"),
        (
            mine * n,
            "this is the rank's own tensor times the world size, which is right only if all ranks hold the same",
        ),
    ]
    return tuple(Mistake(value, text) for value, text in mistakes) + _half_done(shares, rank, total)


def _half_done(shares: Sequence[Tensor], rank: int, total: Tensor) -> tuple[Mistake, ...]:
    """What the reduce-scatter alone leaves behind, for a ring to the right that ends with chunk rank + 1 complete."""
    import torch

    n = len(shares)
    chunks = [share.flatten().tensor_split(n) for share in shares]

    def after(step_of_chunk: Callable[[int], int]) -> Tensor:
        parts = [sum(chunks[(rank - i) % n][c] for i in range(step_of_chunk(c) + 1)) for c in range(n)]
        return torch.cat([torch.as_tensor(part) for part in parts]).view(total.shape)

    text = "only one of the chunks is complete here: the second half, in which the sums go round, is missing"
    return (Mistake(functools.partial(after, lambda c: (rank - c) % n)(), text),)


# -------------------------------------------------------------------------------------------- 2.3 average the gradients

SHARE = 4  # samples per rank


@exercise(
    "2.3",
    title="Average the gradients",
    parts=("average_gradients",),
    difficulty=2,
    minutes=10,
    asked_as="What does DDP do between backward and step?",
    hints=(
        "The loss of the global batch is the mean over ranks of the ranks' losses (equal shares). Differentiate that "
        "sentence.",
        "One `dist.all_reduce` for each parameter's gradient, in the same order on every rank. Which parameters have "
        "no gradient?",
        "`dist.all_reduce` adds up in place: the gradient itself must go in, not a copy; then divide in place by "
        "`dist.get_world_size()`.",
        "`for parameter in model.parameters(): if parameter.grad is not None: dist.all_reduce(parameter.grad); "
        "parameter.grad /= dist.get_world_size()`",
    ),
)
def average_gradients(trial: Trial, answer: Answer) -> None:
    seed, n = int(trial.rng.integers(2**31)), 3
    results = trial.on_ranks(
        _averaging_on_a_rank,
        n,
        answer,
        seed=seed,
        otherwise="a collective call waits for all ranks: every rank makes the same calls in the same order, none is "
        "left to rank 0",
    )
    own = [_gradients(seed, range(rank, rank + 1)) for rank in range(n)]
    want = _gradients(seed, range(n))
    for rank, got in reversed([*enumerate(results)]):  # rank 0 last: its gradient can be its own and a broadcast one
        trial.input = f"rank {rank} of {n}, a model after the backward pass of its own {SHARE} samples"
        trial.equal(
            [name for name, gradient in got.items() if gradient is None],
            [name for name, gradient in want.items() if gradient is None],
            what="parameters without a gradient stay without one",
            otherwise="no rank has a gradient there (the parameter is frozen or unused): with zeros in its place "
            "weight decay and momentum would still move it",
        )
        for name, gradient in want.items():
            if gradient is not None:
                trial.close(
                    got[name],
                    gradient,
                    what=f"the gradient of {name} is that of the global batch",
                    mistakes=_averaging_mistakes([each[name] for each in own], rank),
                    otherwise="the sum over all ranks, divided by their number, in parameter.grad itself",
                    atol=1e-12,
                )


def _regression(seed: int) -> nn.Module:
    """A small network in double precision with a frozen and an unused parameter, the same for the same seed."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    model.register_parameter("unused", nn.Parameter(torch.zeros(3).double()))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    model[0].bias.requires_grad_(False)
    return model


def _samples(seed: int, parts: range) -> tuple[Tensor, Tensor]:
    """The inputs and targets with these numbers, SHARE to a part; the scale differs from part to part."""
    import torch

    generators = [torch.Generator().manual_seed((seed + part) % 2**31) for part in parts]
    draws = [torch.randn(SHARE, 5, generator=generator).double() for generator in generators]
    data = torch.cat([(1 + part) * draw for part, draw in zip(parts, draws, strict=True)])
    return data[:, :4], data[:, 4:]


def _gradients(seed: int, parts: range) -> dict[str, Tensor | None]:
    """The gradients of the mean squared error over these parts, by parameter."""
    from torch.nn.functional import mse_loss

    model = _regression(seed)
    inputs, targets = _samples(seed, parts)
    mse_loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def _averaging_on_a_rank(answer: Answer, seed: int) -> dict[str, Tensor | None]:
    """Runs in each rank: the gradients by parameter, after its own backward pass and the answer."""
    import torch.distributed as dist
    from torch.nn.functional import mse_loss

    model, rank = _regression(seed), dist.get_rank()
    inputs, targets = _samples(seed, range(rank, rank + 1))
    mse_loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
    ranks.working_on("a model after its backward pass")
    answer(model)
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def _averaging_mistakes(own: Sequence[Any], rank: int) -> tuple[Mistake, ...]:
    n, total = len(own), sum(own)
    mistakes = [
        (total, "the gradient is the sum over ranks, not the mean: divide by the world size"),
        (own[rank], "this is the rank's own gradient: nothing was communicated, or the result was not written back"),
        (own[rank] / n, "this is the rank's own gradient over the world size: the sum over ranks is missing"),
        (total / n**2, "divided by the world size twice"),
        (total / 2, "divided by 2, but there are 3 ranks: ask dist.get_world_size()"),
        (own[0], "this is rank 0's gradient: a broadcast throws the other ranks' work away"),
        (functools.reduce(_larger, own), "this is the largest over ranks: the mean is asked"),
    ]
    return tuple(Mistake(value, text) for value, text in mistakes)


def _larger(first: Tensor, second: Tensor) -> Tensor:
    return first.maximum(second)


# --------------------------------------------------------------------------------------- 2.4 a mean over uneven ranks


@exercise(
    "2.4",
    title="A mean over uneven ranks",
    parts=("global_mean",),
    difficulty=3,
    minutes=12,
    asked_as="Each rank evaluates its part of the validation set. How do you report one accuracy?",
    hints=(
        "With 7, 2 and 0 values on three ranks, what is wrong with the mean of the three means?",
        "Two numbers per rank are enough, and both can be added up over ranks. A rank without values has them too.",
        "A sum of many float16 numbers overflows at 65,504, one in float32 forgets small values beside a large one: "
        "convert before adding up. `.mean()` of nothing is NaN, `.sum()` of nothing is 0.",
        "`pair = torch.tensor([values.double().sum(), values.numel()], dtype=torch.float64)`; `dist.all_reduce(pair)`; "
        "`total, count = pair.tolist()`; return `total / count if count else math.nan`.",
    ),
)
def global_mean(trial: Trial, answer: Answer) -> None:
    cases = _uneven_values(trial.rng)
    results = trial.on_ranks(
        _mean_on_a_rank,
        3,
        answer,
        cases=[shares for _, shares, _ in cases],
        otherwise="a rank without values must still take part: the others wait for its call, with the shape they use",
    )
    for case, (what, shares, otherwise) in enumerate(cases):
        values = [value for share in shares for value in share.double().tolist()]
        want = math.fsum(values) / len(values) if values else math.nan
        for rank, (got, unchanged) in enumerate(outcomes[case] for outcomes in results):
            sizes = ", ".join(str(len(share)) for share in shares)
            trial.input = f"rank {rank} of 3 with {sizes} values, its own: {describe(shares[rank])}"
            trial.is_type(
                got, float, what="the result", otherwise="a Python float: .item() of a tensor, or from .tolist()"
            )
            trial.close(
                got,
                want,
                what=f"the mean of all values: {what}",
                mistakes=_mean_mistakes(shares, rank),
                otherwise=otherwise,
                rtol=1e-12,
            )
            trial.that(
                unchanged,
                what="the values stay as they were",
                otherwise="all_reduce works in place, here on the caller's tensor: give it one of your own",
            )


def _uneven_values(rng: np.random.Generator) -> list[tuple[str, list[Tensor], str]]:
    """(what, a tensor per rank, the usual mistake). The empty rank comes last: one that leaves early is then found."""
    import torch

    def drawn(*sizes: int, scale: float = 1.0) -> list[Tensor]:
        return [torch.from_numpy(scale * (rng.normal(size=size) + 1 + rank)) for rank, size in enumerate(sizes)]

    first, second = (int(size) for size in rng.integers(5, 12, 2))
    usual = "the sum of all values over the number of all values: add up both over the ranks, then divide once"
    large = torch.cat([torch.tensor([2.0**24]), torch.ones(9)])
    return [
        ("different numbers of values", drawn(first, 2 * second, 3), usual),
        ("one value each", drawn(1, 1, 1), usual),
        (
            "float16 values whose sum is beyond its range",
            [share.half() for share in drawn(first, 300, 200, scale=300)],
            "the sum is taken in float16, which ends at 65,504 and keeps three digits: convert to double first",
        ),
        (
            "a large float32 value among small ones",
            [large, large[1:], large[:3]],
            "the sum is taken in float32, where 2**24 + 1 is 2**24: convert to double first",
        ),
        ("hits and misses", [share > 1 for share in drawn(second, 4, 20)], usual),
        (
            "nobody has a value",
            drawn(0, 0, 0),
            "the mean of nothing is NaN on every rank, and no error: test the count before dividing",
        ),
        (
            "a rank without values",
            drawn(first, second, 0),
            "a rank without values adds 0 to the sum and 0 to the count; the mean of its values is NaN",
        ),
    ]


def _mean_on_a_rank(answer: Answer, cases: list[list[Tensor]]) -> list[tuple[Any, bool]]:
    """Runs in each rank: for each case the answer's result, and whether its argument stayed as it was."""
    import torch
    import torch.distributed as dist

    outcomes = []
    for shares in cases:
        mine = shares[dist.get_rank()]
        given = mine.clone()
        ranks.working_on(f"its own: {describe(mine)}")
        result = answer(given)
        outcomes.append((result, torch.equal(given, mine)))
    return outcomes


def _mean_mistakes(shares: Sequence[Tensor], rank: int) -> tuple[Mistake, ...]:
    values = [share.double() for share in shares]
    means = [float(value.mean()) for value in values if len(value)]
    total, count = sum(float(value.sum()) for value in values), sum(map(len, values))
    mean_of_means = sum(means) / len(means) if means else math.nan
    wrong = [
        (float(values[rank].mean()), "this is the mean of this rank's values alone: nothing was communicated"),
        (
            mean_of_means,
            "this is the mean of the ranks' means: a rank with 2 values counts as much as one with 2,000; add up sums "
            "and counts",
        ),
        (sum(means) / len(shares), "this is the mean of the ranks' means, an empty rank's counted as 0"),
        (total, "this is the sum: divide by the number of values"),
        (total / len(shares), "this is the sum over the number of ranks: divide by the number of values"),
        (
            total / (len(shares) * max(map(len, values)) or 1),
            "the ranks were filled up to the same length and the filling counts: divide by the number of true values",
        ),
    ]
    return tuple(Mistake(value, text) for value, text in wrong if count and not math.isnan(value))


# --------------------------------------------------------------------------------------------------- 2.5 accumulation

Batch = tuple["Tensor", "Tensor"]
RATE, MOMENTUM = 0.05, 0.9


@exercise(
    "2.5",
    title="Accumulate, and communicate once",
    parts=("accumulate_step",),
    difficulty=3,
    minutes=15,
    asked_as="The batch you want does not fit. How do you accumulate gradients under DDP, and what does no_sync save?",
    hints=(
        "backward() adds to .grad. So what must be done once before the first, and what once after the last "
        "micro-batch?",
        "The mean over the large batch is the mean over micro-batches of their means: each loss is divided by their "
        "number before its backward pass.",
        "DDP decides in the forward pass whether the backward pass will communicate: both must be inside `with "
        "model.no_sync():`, for all micro-batches but the last.",
        "Take the last one off the list: `*early, last = micro_batches`. The early ones go through one `with "
        "model.no_sync():`, the last one comes after it.",
        "`optimiser.zero_grad()`; for each micro-batch `loss = loss_fn(model(x), y) / len(micro_batches)`, "
        "`loss.backward()`, `total += loss.item()`, the early ones inside no_sync; then `optimiser.step()` and "
        "`return total`.",
    ),
)
def accumulate(trial: Trial, answer: Answer) -> None:
    n, seed = 2, int(trial.rng.integers(2**31))
    counts = [int(trial.rng.integers(3, 5)), 1]
    results = trial.on_ranks(
        _accumulating_on_a_rank,
        n,
        answer,
        seed=seed,
        counts=counts,
        otherwise="the ranks do not communicate equally often: all of them leave no_sync at the same micro-batch",
    )
    for call, count in enumerate(counts):
        what = f"{count} micro-batch{'es' if count > 1 else ''}"
        for rank, outcomes in enumerate(results):
            got = outcomes[call]
            trial.input = f"rank {rank} of {n}, {what} of {SHARE} samples" + (", after an earlier call" if call else "")
            trial.that(
                got["communications"] == 1,
                what=f"the gradients are communicated once for {what}",
                want="1",
                got=str(got["communications"]),
                otherwise=_communication_mistake(got["communications"], count),
            )
            trial.that(
                got["steps"] == 1,
                what="the optimiser makes one step",
                want="1",
                got=str(got["steps"]),
                otherwise="one step after the last micro-batch: a step for each is training with small batches"
                if got["steps"]
                else "optimiser.step() is missing: the gradients are there, the weights do not move",
            )
            trial.close(
                got["weights"],
                _weights_after(seed, n, counts[: call + 1]),
                what=f"the weights after one step on the batch of {n} × {count * SHARE} samples",
                mistakes=_accumulation_mistakes(seed, n, counts[: call + 1]),
                otherwise="one step with the gradient of the mean loss over all micro-batches of all ranks",
                atol=1e-12,
            )
            trial.is_type(
                got["loss"], float, what="the loss", otherwise="a Python float: a tensor would keep the graph alive"
            )
            losses = _losses(seed, n, counts[: call + 1], rank)
            trial.close(
                got["loss"],
                np.mean(losses),
                what=f"the mean loss over {what}",
                mistakes=(
                    Mistake(sum(losses), "this is the sum of the losses: divide by the number of micro-batches"),
                    Mistake(losses[-1], "this is the last micro-batch's loss: the mean over all is asked"),
                    Mistake(losses[-1] / count, "this is the last micro-batch's share of the loss: add up all shares"),
                    Mistake(np.mean(losses) / count, "divided by the number of micro-batches twice"),
                ),
                otherwise="the mean of this rank's losses, each before the step",
            )


def _micro_batches(seed: int, rank: int, call: int, count: int) -> list[Batch]:
    """Of a rank in a call: batches that are the larger, the later they come."""
    return [_samples(seed, range(part, part + 1)) for part in (10 * call + 4 * rank + i for i in range(count))]


def _accumulating_on_a_rank(answer: Answer, seed: int, counts: list[int]) -> list[dict[str, Any]]:
    """Runs in each rank: for each call what it returned, the weights after it, and what was counted."""
    import torch
    import torch.distributed as dist
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
    from torch.nn.functional import mse_loss
    from torch.nn.parallel import DistributedDataParallel

    seen = {"communications": 0, "steps": 0}

    def averaged(state: Any, bucket: Any) -> Any:
        seen["communications"] += 1
        return allreduce_hook(state, bucket)

    def stepped(*_: Any) -> None:
        seen["steps"] += 1

    net = _without_unused(_regression(seed))
    model = DistributedDataParallel(net)
    # a lambda: DDP looks at a hook's annotations, which are texts in this module
    model.register_comm_hook(None, lambda state, bucket: averaged(state, bucket))
    optimiser = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
    optimiser.register_step_post_hook(stepped)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)  # left over from something earlier
    outcomes = []
    for call, number in enumerate(counts):
        seen.update(communications=0, steps=0)
        ranks.working_on(f"{number} micro-batches")
        loss = answer(model, _micro_batches(seed, dist.get_rank(), call, number), mse_loss, optimiser)
        outcomes.append({"loss": loss, "weights": _flat(net), **seen})
    return outcomes


def _without_unused(model: nn.Module) -> nn.Module:
    """All parameters take part: DDP waits for the gradient of each."""
    model.unused = None  # type: ignore[assignment]
    return model.requires_grad_(True)


def _flat(model: nn.Module) -> Tensor:
    import torch

    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def _losses(seed: int, n: int, counts: Sequence[int], rank: int) -> list[float]:
    """The losses of a rank's micro-batches in the last of these calls, with the weights that the earlier ones left."""
    import torch
    from torch.nn.functional import mse_loss

    model = _without_unused(_regression(seed))
    torch.nn.utils.vector_to_parameters(_weights_after(seed, n, counts[:-1]), model.parameters())
    batches = _micro_batches(seed, rank, len(counts) - 1, counts[-1])
    with torch.no_grad():
        return [float(mse_loss(model(x), y)) for x, y in batches]


def _weights_after(
    seed: int, n: int, counts: Sequence[int], scaled: bool = True, stale: bool = False, last: bool = False
) -> Tensor:
    """The weights after a call for each of `counts`, by one process with all the data; with options, wrong ones.

    Not scaled: the sum over micro-batches; stale: with the gradient that was there before; last: of the last
    micro-batch only.
    """
    import torch
    from torch.nn.functional import mse_loss

    model = _without_unused(_regression(seed))
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    for call, count in enumerate(counts):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, float(stale))
        for rank in range(n):
            batches = _micro_batches(seed, rank, call, count)
            for x, y in batches[-1:] if last else batches:
                loss = mse_loss(model(x), y) / (n * count if scaled else n)
                loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return _flat(model)


def _communication_mistake(communications: int, count: int) -> str:
    if communications == 0:
        return (
            "nothing is communicated: the last micro-batch must run outside no_sync, and through the DDP model itself "
            "(model.module knows nothing of the other ranks); the replicas drift apart"
        )
    if communications == count:
        return (
            "every micro-batch communicates: all but the last belong inside model.no_sync(), the forward pass as well "
            "as the backward pass, because DDP decides in the forward pass"
        )
    return "only the last micro-batch communicates: no_sync holds for all of the others"


def _accumulation_mistakes(seed: int, n: int, counts: Sequence[int]) -> tuple[Mistake, ...]:
    def weights(**wrong: bool) -> Callable[[], Tensor]:
        return lambda: _weights_after(seed, n, counts, **wrong)

    last = "only the last micro-batch is in the gradient: zero_grad() belongs before the first, not before each"
    return (
        Mistake(
            weights(scaled=False),
            "the losses are not scaled: the gradient is the sum over micro-batches, so divide each loss by their "
            "number",
        ),
        Mistake(
            weights(stale=True),
            "gradients of an earlier batch are still in: optimiser.zero_grad() belongs before the first micro-batch",
        ),
        Mistake(weights(last=True), last),
        Mistake(weights(last=True, scaled=False), last),
    )


from helpers.exercises import training_efficiency_steps  # noqa: E402, F401 - registers 2.6 to 2.10
