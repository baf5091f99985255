"""Wrong and other right answers to exercises 2.1 to 2.5, as candidates give them."""

import contextlib
import math
import random

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DistributedSampler

from . import right, wrong

# --- 2.1 the sampler's shards -----------------------------------------------------------------------------------


def _known(world_size, rank):
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size}")


def _order(length, *numbers):
    return np.random.default_rng(numbers).permutation(length).tolist()


def _padded(order, world_size):
    total = math.ceil(len(order) / world_size) * world_size
    return (order * world_size)[:total]


@wrong("2.1", names="no padding", reason=r"without padding some ranks make a step more")
def shard_unpadded(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    return _order(length, epoch, seed)[rank::world_size]


@wrong("2.1", names="the tail dropped", reason=r"the tail is dropped")
def shard_dropped(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    return _order(length, epoch, seed)[: length // world_size * world_size][rank::world_size]


@wrong("2.1", names="padded once, with few samples too", reason=r"repeat it until every rank has an index")
def shard_padded_once(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    order = _order(length, epoch, seed)
    return (order + order[: -length % world_size])[rank::world_size]


@wrong("2.1", names="padded with the last index", reason=r"not one index many times")
def shard_padded_last(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    order = _order(length, epoch, seed)
    return (order + [order[-1]] * (-length % world_size))[rank::world_size]


@wrong("2.1", names="padded with a new draw", reason=r"the padding is the beginning of the permutation")
def shard_padded_anew(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    fill = np.random.default_rng((seed, epoch, 1)).integers(0, length, -length % world_size).tolist()
    return (_order(length, epoch, seed) + fill)[rank::world_size]


@wrong("2.1", names="the rank in the seed", reason=r"the ranks drew different permutations")
def shard_own_draw(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    return _padded(_order(length, epoch, seed, rank), world_size)[rank::world_size]


@wrong("2.1", names="a draw without a seed", reason=r"the ranks drew different permutations")
def shard_unseeded(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    return _padded(torch.randperm(length).tolist(), world_size)[rank::world_size]


@wrong("2.1", names="the rank ignored", reason=r"all ranks train on the same samples")
def shard_same(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    return _padded(_order(length, epoch, seed), world_size)[::world_size]


@wrong("2.1", names="no sharding", reason=r"every rank gets the whole data set")
def shard_everything(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    return _order(length, epoch, seed)


@wrong("2.1", names="blocks", reason=r"a block of the permutation")
def shard_blocks(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    padded = _padded(_order(length, epoch, seed), world_size)
    each = len(padded) // world_size
    return padded[rank * each : (rank + 1) * each]


@wrong("2.1", names="not shuffled", reason=r"draw a permutation")
def shard_in_order(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    return _padded([(index + epoch + seed) % length for index in range(length)], world_size)[rank::world_size]


@wrong("2.1", names="the epoch ignored", reason=r"this is what forgetting set_epoch does")
def shard_no_epoch(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    return _padded(_order(length, seed), world_size)[rank::world_size]


@wrong("2.1", names="the seed ignored", reason=r"the seed is not used")
def shard_no_seed(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    return _padded(_order(length, epoch), world_size)[rank::world_size]


@wrong("2.1", names="torch.manual_seed", reason=r"seeding the global generator")
def shard_manual_seed(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    torch.manual_seed(seed + epoch)
    return _padded(torch.randperm(length).tolist(), world_size)[rank::world_size]


@wrong("2.1", names="random.seed", reason=r"seeding the global generator")
def shard_random_seed(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    random.seed(seed + epoch)
    return _padded(random.sample(range(length), length), world_size)[rank::world_size]


@wrong("2.1", names="np.random.seed", reason=r"seeding the global generator")
def shard_numpy_seed(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    np.random.seed(seed + epoch)
    return _padded(np.random.permutation(length).tolist(), world_size)[rank::world_size]


@wrong("2.1", names="a tensor", reason=r"\.tolist\(\) turns a tensor into one")
def shard_tensor(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    return torch.tensor(_padded(_order(length, epoch, seed), world_size)[rank::world_size])


@wrong("2.1", names="a list of tensors", reason=r"a list of tensors, \.tolist\(\) gives ints")
def shard_tensors(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    return list(torch.tensor(_padded(_order(length, epoch, seed), world_size)[rank::world_size]))


@wrong("2.1", names="any rank taken", reason=r"silently get some other rank's samples")
def shard_any_rank(length, world_size, rank, epoch, seed):
    return _padded(_order(length, epoch, seed), world_size)[rank % world_size :: world_size]


@right("2.1", names="DistributedSampler")
def shard_library(length, world_size, rank, epoch, seed):
    sampler = DistributedSampler(range(length), world_size, rank, seed=seed)
    sampler.set_epoch(epoch)
    return list(sampler)


@right("2.1", names="numpy integers by remainders")
def shard_remainders(length, world_size, rank, epoch, seed):
    _known(world_size, rank)
    order = np.random.default_rng([seed, epoch]).permutation(length)
    return list(order[np.arange(rank, math.ceil(length / world_size) * world_size, world_size) % length])


# --- 2.2 ring all-reduce ----------------------------------------------------------------------------------------


def _swap(outgoing, incoming, receiver, sender):
    for request in (dist.isend(outgoing, receiver), dist.irecv(incoming, sender)):
        request.wait()


def _ring(tensor, gather=True, late=0, swap=_swap, flat=None):
    """The reference in other words, with the places to go wrong as arguments."""
    rank, n = dist.get_rank(), dist.get_world_size()
    flat = tensor.reshape(-1).clone() if flat is None else flat
    chunks = flat.tensor_split(n)
    for step in range(n - 1):
        mine = chunks[(rank - step - 1) % n]
        incoming = torch.empty_like(mine)
        swap(chunks[(rank - step) % n], incoming, (rank + 1) % n, (rank - 1) % n)
        mine += incoming
    for step in range(n - 1) if gather else ():
        incoming = torch.empty_like(chunks[(rank - step - late) % n])
        swap(chunks[(rank - step + 1 - late) % n], incoming, (rank + 1) % n, (rank - 1) % n)
        chunks[(rank - step - late) % n].copy_(incoming)
    return flat.reshape(tensor.shape)


@wrong("2.2", names="communicates nothing", reason=r"this is the rank's own tensor: nothing")
def ring_silent(tensor):
    return tensor.clone()


@wrong("2.2", names="its own tensor times the world size", reason=r"own tensor times the world size")
def ring_multiplied(tensor):
    return tensor * dist.get_world_size()


@wrong("2.2", names="the mean", reason=r"this is the mean")
def ring_mean(tensor):
    return _ring(tensor) / dist.get_world_size()


@wrong("2.2", names="reduce-scatter only", reason=r"the second half, in which the sums go round, is missing")
def ring_half(tensor):
    return _ring(tensor, gather=False)


@wrong("2.2", names="gathers the wrong chunk first", reason=r"who has it complete when the second half begins")
def ring_late(tensor):
    return _ring(tensor, late=1)


@wrong("2.2", names="whole tensors travel", reason=r"whole tensors travel")
def ring_whole(tensor):
    rank, n = dist.get_rank(), dist.get_world_size()
    total, travelling = tensor.clone(), tensor.contiguous()
    for _ in range(n - 1):
        incoming = torch.empty_like(travelling)
        _swap(travelling, incoming, (rank + 1) % n, (rank - 1) % n)
        total, travelling = total + incoming, incoming
    return total


@wrong("2.2", names="rank 0 collects", reason=r"or all go through one rank")
def ring_server(tensor):
    rank, n = dist.get_rank(), dist.get_world_size()
    total = tensor.clone().contiguous()
    if rank:
        dist.send(total, 0)
        dist.recv(total, 0)
        return total
    incoming = torch.empty_like(total)
    for other in range(1, n):
        dist.recv(incoming, other)
        total += incoming
    for other in range(1, n):
        dist.send(total, other)
    return total


@wrong("2.2", names="dist.all_reduce", reason=r"written without torch\.distributed\.all_reduce")
def ring_library(tensor):
    total = tensor.clone()
    dist.all_reduce(total)
    return total


@wrong("2.2", names="all_gather and a sum", reason=r"written without torch\.distributed\.all_gather")
def ring_gathered(tensor):
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor)
    return torch.stack(parts).sum(0)


@wrong("2.2", names="the group's own all-reduce", reason=r"something else than send, isend and batch_isend_irecv")
def ring_by_the_group(tensor):
    total = tensor.clone()
    dist.group.WORLD.allreduce([total]).wait()
    return total


@wrong("2.2", names="sends, then receives", reason=r"start both with isend and irecv")
def ring_blocking(tensor):
    def swap(outgoing, incoming, receiver, sender):
        dist.send(outgoing, receiver)
        dist.recv(incoming, sender)

    return _ring(tensor, swap=swap)


@wrong("2.2", names="every pair of ranks", reason=r"this is no ring")
def ring_pairs(tensor):
    rank, n = dist.get_rank(), dist.get_world_size()
    flat = tensor.flatten().clone()
    chunks = flat.tensor_split(n)
    own = chunks[rank].clone()
    for step in range(1, n):
        incoming = torch.empty_like(own)
        _swap(chunks[(rank + step) % n], incoming, (rank + step) % n, (rank - step) % n)
        chunks[rank].add_(incoming)
    for step in range(1, n):
        incoming = torch.empty_like(chunks[(rank - step) % n])
        _swap(chunks[rank], incoming, (rank + step) % n, (rank - step) % n)
        chunks[(rank - step) % n].copy_(incoming)
    return flat.view(tensor.shape)


@wrong("2.2", names="in place", reason=r"the sums were added to the caller's tensor")
def ring_in_place(tensor):
    return _ring(tensor, flat=tensor.flatten())


@wrong("2.2", names="flat", reason=r"the result: its shape")
def ring_flat(tensor):
    return _ring(tensor).flatten()


@wrong("2.2", names="always float32", reason=r"the result: its dtype")
def ring_float(tensor):
    return _ring(tensor.float())


@wrong("2.2", names="no return", reason=r"ends without `return`")
def ring_returns_nothing(tensor):
    _ring(tensor)


@wrong("2.2", names="only lengths that divide", reason=r"rank \d: RuntimeError.*chunk")
def ring_divisible(tensor):
    n = dist.get_world_size()
    if tensor.numel() % n:
        raise RuntimeError("the length is not a multiple of the number of chunks")
    return _ring(tensor)


@wrong("2.2", names="views of a tensor that is not contiguous", reason=r"rank \d: RuntimeError.*view")
def ring_view(tensor):
    return _ring(tensor, flat=tensor.clone().view(-1))


@right("2.2", names="batch_isend_irecv, padded to a multiple")
def ring_batched(tensor):
    def swap(outgoing, incoming, receiver, sender):
        sends, receives = dist.P2POp(dist.isend, outgoing, receiver), dist.P2POp(dist.irecv, incoming, sender)
        for request in dist.batch_isend_irecv([sends, receives]):
            request.wait()

    flat = tensor.flatten()
    padded = torch.cat([flat, flat.new_zeros(-len(flat) % dist.get_world_size())])
    return _ring(padded, swap=swap)[: len(flat)].view(tensor.shape)


@right("2.2", names="blocking calls, rank 0 receives first")
def ring_alternating(tensor):
    def swap(outgoing, incoming, receiver, sender):
        copy = outgoing.clone()
        if dist.get_rank() == 0:
            dist.recv(incoming, sender)
            dist.send(copy, receiver)
        else:
            dist.send(copy, receiver)
            dist.recv(incoming, sender)

    return _ring(tensor, swap=swap)


@right("2.2", names="to the left")
def ring_leftwards(tensor):
    rank, n = dist.get_rank(), dist.get_world_size()
    flat = tensor.flatten().clone()
    chunks = flat.tensor_split(n)
    for step in range(2 * (n - 1)):
        mine = chunks[(rank + step + 1) % n]
        incoming = torch.empty_like(mine)
        _swap(chunks[(rank + step) % n], incoming, (rank - 1) % n, (rank + 1) % n)
        mine.copy_(mine + incoming if step < n - 1 else incoming)
    return flat.view(tensor.shape)


# --- 2.3 average the gradients ----------------------------------------------------------------------------------


def _with_gradients(model):
    return [parameter for parameter in model.parameters() if parameter.grad is not None]


@wrong("2.3", names="the sum", reason=r"the sum over ranks, not the mean: divide by the world size")
def average_sum(model):
    for parameter in _with_gradients(model):
        dist.all_reduce(parameter.grad)


@wrong("2.3", names="communicates nothing", reason=r"nothing was communicated")
def average_silent(model):
    return model


@wrong("2.3", names="divides only", reason=r"the sum over ranks is missing")
def average_divided(model):
    for parameter in _with_gradients(model):
        parameter.grad /= dist.get_world_size()


@wrong("2.3", names="the result is not written back", reason=r"or the result was not written back")
def average_lost(model):
    for parameter in _with_gradients(model):
        mean = parameter.grad / dist.get_world_size()
        dist.all_reduce(mean)


@wrong("2.3", names="the weights instead", reason=r"nothing was communicated")
def average_weights(model):
    with torch.no_grad():
        for parameter in model.parameters():
            dist.all_reduce(parameter)
            parameter /= dist.get_world_size()


@wrong("2.3", names="divided before and after", reason=r"divided by the world size twice")
def average_twice(model):
    for parameter in _with_gradients(model):
        parameter.grad /= dist.get_world_size()
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()


@wrong("2.3", names="divided by 2", reason=r"ask dist\.get_world_size\(\)")
def average_two(model):
    for parameter in _with_gradients(model):
        dist.all_reduce(parameter.grad)
        parameter.grad /= 2


@wrong("2.3", names="rank 0's gradient", reason=r"a broadcast throws the other ranks' work away")
def average_broadcast(model):
    for parameter in _with_gradients(model):
        dist.broadcast(parameter.grad, 0)


@wrong("2.3", names="on rank 0 only", reason=r"the sum over all ranks, divided by their number")
def average_reduce(model):
    for parameter in _with_gradients(model):
        dist.reduce(parameter.grad, 0)
        if dist.get_rank() == 0:
            parameter.grad /= dist.get_world_size()


@wrong("2.3", names="the largest", reason=r"this is the largest over ranks")
def average_largest(model):
    for parameter in _with_gradients(model):
        dist.all_reduce(parameter.grad, op=dist.ReduceOp.MAX)


@wrong("2.3", names="matrices only", reason=r"nothing was communicated")
def average_matrices(model):
    for parameter in _with_gradients(model):
        if parameter.dim() > 1:
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


@wrong("2.3", names="zeros for missing gradients", reason=r"weight decay and momentum would still move it")
def average_zeros(model):
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()


@wrong("2.3", names="missing gradients forgotten", reason=r"rank \d: .*NoneType.* at line \d+: dist\.all_reduce")
def average_none(model):
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()


@wrong("2.3", names="rank 0 alone makes the call", reason=r"none is left to rank 0")
def average_rank_0(model):
    if dist.get_rank() == 0:
        for parameter in _with_gradients(model):
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


@right("2.3", names="one flat bucket")
def average_bucket(model):
    gradients = [parameter.grad for parameter in _with_gradients(model)]
    bucket = torch.cat([gradient.flatten() for gradient in gradients]) / dist.get_world_size()
    dist.all_reduce(bucket)
    parts = bucket.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


@right("2.3", names="all at once, then waited for, a new tensor in grad")
def average_asynchronous(model):
    parameters = _with_gradients(model)
    for parameter in parameters:
        parameter.grad = parameter.grad / dist.get_world_size()
    for request in [dist.all_reduce(parameter.grad, async_op=True) for parameter in parameters]:
        request.wait()


@right("2.3", names="ReduceOp.AVG")
def average_op(model):
    for parameter in _with_gradients(model):
        dist.all_reduce(parameter.grad, op=dist.ReduceOp.AVG)


# --- 2.4 a mean over uneven ranks -------------------------------------------------------------------------------


def _summed(value, dtype=torch.float64):
    number = torch.as_tensor(value, dtype=dtype).clone()
    dist.all_reduce(number)
    return number.item()


def _ratio(total, count):
    return total / count if count else math.nan


@wrong("2.4", names="the mean of the means", reason=r"this is the mean of the ranks' means: a rank with 2 values")
def mean_of_means(values):
    return _summed(values.double().mean()) / dist.get_world_size()


@wrong("2.4", names="the mean of the means of those that have one", reason=r"add up sums and counts")
def mean_of_known_means(values):
    own = values.double().mean().item() if len(values) else 0.0
    return _ratio(_summed(own), _summed(len(values) > 0))


@wrong("2.4", names="its own mean", reason=r"this rank's values alone: nothing was communicated")
def mean_own(values):
    return values.double().mean().item()


@wrong("2.4", names="the sum", reason=r"this is the sum: divide by the number of values")
def mean_sum(values):
    return _summed(values.double().sum())


@wrong("2.4", names="the sum over the number of ranks", reason=r"this is the sum over the number of ranks")
def mean_over_ranks(values):
    return _summed(values.double().sum()) / dist.get_world_size()


@wrong("2.4", names="padded with zeros that count", reason=r"the filling counts")
def mean_padded(values):
    longest = torch.tensor(len(values))
    dist.all_reduce(longest, op=dist.ReduceOp.MAX)
    return _summed(values.double().sum()) / (longest.item() * dist.get_world_size() or math.nan)


@wrong("2.4", names="this rank's count", reason=r"add up both over the ranks, then divide once")
def mean_own_count(values):
    return _ratio(_summed(values.double().sum()), len(values))


@wrong("2.4", names="the sum in the values' own dtype", reason=r"float16, which ends at 65,504")
def mean_half(values):
    return _ratio(_summed(values.sum()), _summed(len(values)))


@wrong("2.4", names="the sum in float32", reason=r"2\*\*24 \+ 1 is 2\*\*24")
def mean_float(values):
    total = float(np.cumsum(values.float().numpy(), dtype=np.float32)[-1]) if len(values) else 0.0
    if values.dtype in (torch.float64, torch.float16):
        total = values.double().sum()
    return _ratio(_summed(total), _summed(len(values)))


@wrong("2.4", names="a tensor", reason=r"a Python float")
def mean_tensor(values):
    return torch.tensor(_ratio(_summed(values.double().sum()), _summed(len(values))))


@wrong("2.4", names="on rank 0 only", reason=r"add up both over the ranks, then divide once")
def mean_reduce(values):
    pair = torch.tensor([values.double().sum(), len(values)], dtype=torch.float64)
    dist.reduce(pair, 0)
    return _ratio(*pair.tolist())


@wrong("2.4", names="divides by no values", reason=r"rank \d: ZeroDivisionError.* at line")
def mean_zero_division(values):
    return _summed(values.double().sum()) / _summed(len(values))


@wrong("2.4", names="0 when nobody has a value", reason=r"the mean of nothing is NaN on every rank")
def mean_zero(values):
    return _summed(values.double().sum()) / max(1, _summed(len(values)))


@wrong("2.4", names="an empty rank's NaN in the sum", reason=r"adds 0 to the sum and 0 to the count")
def mean_nan(values):
    return _ratio(_summed(values.double().mean() * len(values)), _summed(len(values)))


@wrong("2.4", names="a rank without values leaves", reason=r"a rank without values must still take part")
def mean_leaves(values):
    if len(values) == 0:
        return math.nan
    return _summed(values.double().sum()) / _summed(len(values))


@wrong("2.4", names="in place", reason=r"here on the caller's tensor")
def mean_in_place(values):
    result = _ratio(_summed(values.double().sum()), _summed(len(values)))
    values.zero_()
    return result


@right("2.4", names="all values gathered")
def mean_gathered(values):
    parts = [None] * dist.get_world_size()
    dist.all_gather_object(parts, values.double().tolist())
    together = [value for part in parts for value in part]
    return math.fsum(together) / len(together) if together else float("nan")


@right("2.4", names="two all-reduces, numpy's sum")
def mean_numpy(values):
    total = _summed(values.numpy().sum(dtype=np.float64))
    count = _summed(len(values), torch.int64)
    return total / count if count else np.float64("nan")


# --- 2.5 accumulate, and communicate once -----------------------------------------------------------------------


def _accumulated(model, batches, loss_fn, optimiser, silent=None, scaled=True, zero=True, forward=None):
    """The reference in other words, with the places to go wrong as arguments."""
    forward = forward or model
    losses = []
    if zero:
        optimiser.zero_grad()
    for number, (x, y) in enumerate(batches):
        quiet = number < len(batches) - 1 if silent is None else silent(number)
        with model.no_sync() if quiet else contextlib.nullcontext():
            loss = loss_fn(forward(x), y)
            (loss / len(batches) if scaled else loss).backward()
        losses.append(loss.item())
    optimiser.step()
    return sum(losses) / len(losses)


@wrong("2.5", names="no no_sync", reason=r"every micro-batch communicates")
def accumulate_chatty(model, micro_batches, loss_fn, optimiser):
    return _accumulated(model, micro_batches, loss_fn, optimiser, silent=lambda number: False)


@wrong("2.5", names="no_sync on the last micro-batch too", reason=r"nothing is communicated: the last micro-batch must")
def accumulate_silent(model, micro_batches, loss_fn, optimiser):
    return _accumulated(model, micro_batches, loss_fn, optimiser, silent=lambda number: True)


@wrong("2.5", names="model.module", reason=r"model\.module knows nothing of the other ranks")
def accumulate_bypassed(model, micro_batches, loss_fn, optimiser):
    return _accumulated(model, micro_batches, loss_fn, optimiser, forward=model.module)


@wrong("2.5", names="no_sync on the first only", reason=r"no_sync holds for all of the others")
def accumulate_first(model, micro_batches, loss_fn, optimiser):
    return _accumulated(model, micro_batches, loss_fn, optimiser, silent=lambda number: number == 0)


@wrong("2.5", names="no_sync around backward only", reason=r"because DDP decides in the forward pass")
def accumulate_backward_only(model, micro_batches, loss_fn, optimiser):
    optimiser.zero_grad()
    total = 0.0
    for number, (x, y) in enumerate(micro_batches):
        loss = loss_fn(model(x), y) / len(micro_batches)
        with model.no_sync() if number < len(micro_batches) - 1 else contextlib.nullcontext():
            loss.backward()
        total += loss.item()
    optimiser.step()
    return total


@wrong("2.5", names="losses not scaled", reason=r"the losses are not scaled")
def accumulate_unscaled(model, micro_batches, loss_fn, optimiser):
    return _accumulated(model, micro_batches, loss_fn, optimiser, scaled=False)


@wrong("2.5", names="old gradients left in", reason=r"gradients of an earlier batch are still in")
def accumulate_stale(model, micro_batches, loss_fn, optimiser):
    return _accumulated(model, micro_batches, loss_fn, optimiser, zero=False)


@wrong("2.5", names="zero_grad after the step only", reason=r"gradients of an earlier batch are still in")
def accumulate_zero_late(model, micro_batches, loss_fn, optimiser):
    mean = _accumulated(model, micro_batches, loss_fn, optimiser, zero=False)
    optimiser.zero_grad()
    return mean


def _zeroed_each_time(model, micro_batches, loss_fn, optimiser, scale):
    losses = []
    for number, (x, y) in enumerate(micro_batches):
        with model.no_sync() if number < len(micro_batches) - 1 else contextlib.nullcontext():
            optimiser.zero_grad()
            loss = loss_fn(model(x), y)
            (loss / scale).backward()
        losses.append(loss.item())
    optimiser.step()
    return sum(losses) / len(losses)


@wrong("2.5", names="zero_grad before each", reason=r"zero_grad\(\) belongs before the first, not before each")
def accumulate_zeroed(model, micro_batches, loss_fn, optimiser):
    return _zeroed_each_time(model, micro_batches, loss_fn, optimiser, len(micro_batches))


@wrong(
    "2.5", names="zero_grad before each, unscaled", reason=r"zero_grad\(\) belongs before the first, not before each"
)
def accumulate_zeroed_unscaled(model, micro_batches, loss_fn, optimiser):
    return _zeroed_each_time(model, micro_batches, loss_fn, optimiser, 1)


@wrong("2.5", names="a step for each", reason=r"training with small batches")
def accumulate_steps(model, micro_batches, loss_fn, optimiser):
    losses = []
    optimiser.zero_grad()
    for number, (x, y) in enumerate(micro_batches):
        with model.no_sync() if number < len(micro_batches) - 1 else contextlib.nullcontext():
            loss = loss_fn(model(x), y) / len(micro_batches)
            loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return sum(losses)


@wrong("2.5", names="no step", reason=r"optimiser\.step\(\) is missing")
def accumulate_no_step(model, micro_batches, loss_fn, optimiser):
    class Nothing:
        zero_grad = staticmethod(optimiser.zero_grad)

        def step(self):
            pass

    return _accumulated(model, micro_batches, loss_fn, Nothing())


@wrong("2.5", names="zero_grad before the step", reason=r"the gradient of the mean loss over all micro-batches of all")
def accumulate_lost(model, micro_batches, loss_fn, optimiser):
    class Forgetful:
        def zero_grad(self):
            optimiser.zero_grad()

        def step(self):
            optimiser.zero_grad()
            optimiser.step()

    return _accumulated(model, micro_batches, loss_fn, Forgetful())


@wrong("2.5", names="the last loss", reason=r"this is the last micro-batch's loss")
def accumulate_last_loss(model, micro_batches, loss_fn, optimiser):
    with torch.no_grad():
        last = loss_fn(model.module(micro_batches[-1][0]), micro_batches[-1][1]).item()
    _accumulated(model, micro_batches, loss_fn, optimiser)
    return last


@wrong("2.5", names="the last loss, scaled", reason=r"the last micro-batch's share of the loss")
def accumulate_last_share(model, micro_batches, loss_fn, optimiser):
    return accumulate_last_loss(model, micro_batches, loss_fn, optimiser) / len(micro_batches)


@wrong("2.5", names="the sum of the losses", reason=r"this is the sum of the losses")
def accumulate_sum(model, micro_batches, loss_fn, optimiser):
    return _accumulated(model, micro_batches, loss_fn, optimiser) * len(micro_batches)


@wrong("2.5", names="the scaled losses, averaged", reason=r"divided by the number of micro-batches twice")
def accumulate_twice(model, micro_batches, loss_fn, optimiser):
    return _accumulated(model, micro_batches, loss_fn, optimiser) / len(micro_batches)


@wrong("2.5", names="a tensor", reason=r"a tensor would keep the graph alive")
def accumulate_tensor(model, micro_batches, loss_fn, optimiser):
    return torch.tensor(_accumulated(model, micro_batches, loss_fn, optimiser))


@wrong("2.5", names="rank 0 alone communicates", reason=r"the ranks do not communicate equally often")
def accumulate_rank_0(model, micro_batches, loss_fn, optimiser):
    return _accumulated(model, micro_batches, loss_fn, optimiser, silent=lambda number: dist.get_rank() > 0)


@right("2.5", names="gradients divided before the step")
def accumulate_divided(model, micro_batches, loss_fn, optimiser):
    model.zero_grad()
    losses = []
    for x, y in micro_batches[:-1]:
        with model.no_sync():
            loss = loss_fn(model(x), y)
            loss.backward()
            losses.append(loss.item())
    x, y = micro_batches[-1]
    loss = loss_fn(model(x), y)
    loss.backward()
    for parameter in model.parameters():
        parameter.grad /= len(micro_batches)
    optimiser.step()
    return float(np.mean([*losses, loss.item()]))


@right("2.5", names="zeroed with zeros, and again at the end")
def accumulate_zeros(model, micro_batches, loss_fn, optimiser):
    optimiser.zero_grad(set_to_none=False)
    mean = _accumulated(model, micro_batches, loss_fn, optimiser, zero=False)
    optimiser.zero_grad()
    return mean


from . import training_efficiency_steps  # noqa: E402, F401 - those of 2.6 to 2.10
