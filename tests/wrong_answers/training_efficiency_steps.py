"""Wrong and other right answers to exercises 2.6 to 2.10, as candidates give them."""

import io
import math
import os
import pickle
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler, SubsetRandomSampler

from . import right, wrong

# --- 2.6 mixed precision ----------------------------------------------------------------------------------------


def _forward(model, x, y, loss_fn, device="cpu", dtype=torch.float16):
    with torch.autocast(device, dtype=dtype):
        return loss_fn(model(x), y)


def _clip(model, max_norm):
    return nn.utils.clip_grad_norm_(model.parameters(), max_norm)


@wrong("2.6", names="clipped before unscaling", reason=r"norm of the scaled gradients: scaler\.unscale_")
def mixed_clip_first(model, x, y, loss_fn, optimiser, scaler, max_norm):
    optimiser.zero_grad()
    loss = _forward(model, x, y, loss_fn)
    scaler.scale(loss).backward()
    norm = _clip(model, max_norm)
    scaler.unscale_(optimiser)
    scaler.step(optimiser)
    scaler.update()
    return loss.item(), norm.item()


@wrong("2.6", names="never unscaled by hand, norm divided afterwards", reason=r"max_norm was compared with the scaled")
def mixed_norm_divided(model, x, y, loss_fn, optimiser, scaler, max_norm):
    optimiser.zero_grad()
    loss = _forward(model, x, y, loss_fn)
    scaler.scale(loss).backward()
    norm = _clip(model, max_norm) / scaler.get_scale()
    scaler.step(optimiser)
    scaler.update()
    return loss.item(), norm.item()


@wrong("2.6", names="not clipped", reason=r"were not clipped before the step")
def mixed_unclipped(model, x, y, loss_fn, optimiser, scaler, max_norm):
    optimiser.zero_grad()
    loss = _forward(model, x, y, loss_fn)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    norm = _clip(model, math.inf)
    scaler.step(optimiser)
    scaler.update()
    return loss.item(), norm.item()


@wrong("2.6", names="clipped after the step", reason=r"were not clipped before the step")
def mixed_clip_last(model, x, y, loss_fn, optimiser, scaler, max_norm):
    optimiser.zero_grad()
    loss = _forward(model, x, y, loss_fn)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    scaler.step(optimiser)
    norm = _clip(model, max_norm)
    scaler.update()
    return loss.item(), norm.item()


@wrong("2.6", names="each number cut off", reason=r"each number was cut off|were not clipped")
def mixed_clip_value(model, x, y, loss_fn, optimiser, scaler, max_norm):
    optimiser.zero_grad()
    loss = _forward(model, x, y, loss_fn)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    norm = _clip(model, math.inf)
    nn.utils.clip_grad_value_(model.parameters(), max_norm)
    scaler.step(optimiser)
    scaler.update()
    return loss.item(), norm.item()


@wrong("2.6", names="each parameter clipped by itself", reason=r"each parameter was clipped by itself")
def mixed_clip_each(model, x, y, loss_fn, optimiser, scaler, max_norm):
    optimiser.zero_grad()
    loss = _forward(model, x, y, loss_fn)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    norm = torch.stack([nn.utils.clip_grad_norm_(p, max_norm) for p in model.parameters()]).norm()
    scaler.step(optimiser)
    scaler.update()
    return loss.item(), norm.item()


@wrong("2.6", names="always stretched to max_norm", reason=r"gradients below max_norm stay as they are")
def mixed_stretched(model, x, y, loss_fn, optimiser, scaler, max_norm):
    optimiser.zero_grad()
    loss = _forward(model, x, y, loss_fn)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    norm = _clip(model, math.inf)
    for p in model.parameters():
        p.grad *= max_norm / norm
    scaler.step(optimiser)
    scaler.update()
    return loss.item(), norm.item()


@wrong("2.6", names="the norm after clipping", reason=r"this is the norm after clipping")
def mixed_norm_after(model, x, y, loss_fn, optimiser, scaler, max_norm):
    loss, norm = mixed_reference(model, x, y, loss_fn, optimiser, scaler, max_norm)
    return loss, min(norm, max_norm)


@wrong("2.6", names="the loss times the scale", reason=r"this is the loss times the scale")
def mixed_scaled_loss(model, x, y, loss_fn, optimiser, scaler, max_norm):
    scale = scaler.get_scale()
    loss, norm = mixed_reference(model, x, y, loss_fn, optimiser, scaler, max_norm)
    return loss * scale, norm


@wrong("2.6", names="old gradients counted", reason=r"gradients of an earlier batch are counted as well")
def mixed_not_zeroed(model, x, y, loss_fn, optimiser, scaler, max_norm):
    loss = _forward(model, x, y, loss_fn)
    for p in model.parameters():  # as if they were left by an earlier micro-batch of the same scale
        p.grad *= scaler.get_scale()
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    norm = _clip(model, max_norm)
    scaler.step(optimiser)
    scaler.update()
    return loss.item(), norm.item()


@wrong(
    "2.6",
    names="zeroed between backward and step",
    reason=r"the weights did not move",
)
def mixed_zeroed_late(model, x, y, loss_fn, optimiser, scaler, max_norm):
    optimiser.zero_grad()
    loss = _forward(model, x, y, loss_fn)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    norm = _clip(model, max_norm)
    optimiser.zero_grad(set_to_none=False)
    scaler.step(optimiser)
    scaler.update()
    return loss.item(), norm.item()


@wrong("2.6", names="no scaler at all", reason=r"in float16 gradients this small are 0|how the scale changes")
def mixed_no_scaler(model, x, y, loss_fn, optimiser, scaler, max_norm):
    optimiser.zero_grad()
    loss = _forward(model, x, y, loss_fn)
    loss.backward()
    norm = _clip(model, max_norm)
    optimiser.step()
    return loss.item(), norm.item()


@wrong("2.6", names="scaler used after an unscaled backward", reason=r"divided by the scale twice, or never multiplied")
def mixed_unscaled_backward(model, x, y, loss_fn, optimiser, scaler, max_norm):
    optimiser.zero_grad()
    loss = _forward(model, x, y, loss_fn)
    scaler.scale(loss)
    loss.backward()
    scaler.unscale_(optimiser)
    norm = _clip(model, max_norm)
    scaler.step(optimiser)
    scaler.update()
    return loss.item(), norm.item()


@wrong("2.6", names="optimiser.step instead of scaler.step", reason=r"do not call optimiser\.step\(\) yourself")
def mixed_own_step(model, x, y, loss_fn, optimiser, scaler, max_norm):
    optimiser.zero_grad()
    loss = _forward(model, x, y, loss_fn)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    norm = _clip(model, max_norm)
    optimiser.step()
    scaler.update()
    return loss.item(), norm.item()


@wrong("2.6", names="overflowing gradients repaired", reason=r"do not repair such gradients")
def mixed_repaired(model, x, y, loss_fn, optimiser, scaler, max_norm):
    optimiser.zero_grad()
    loss = _forward(model, x, y, loss_fn)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    for p in model.parameters():
        p.grad.nan_to_num_(0.0, 0.0, 0.0)
    norm = _clip(model, max_norm)
    optimiser.step()
    scaler.update()
    return loss.item(), norm.item()


@wrong("2.6", names="no update", reason=r"scaler\.update\(\) ends every step")
def mixed_no_update(model, x, y, loss_fn, optimiser, scaler, max_norm):
    optimiser.zero_grad()
    loss = _forward(model, x, y, loss_fn)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    norm = _clip(model, max_norm)
    scaler.step(optimiser)
    # as a candidate who resets the scaler by hand instead: the scale stays
    scaler._per_optimizer_states.clear()
    return loss.item(), norm.item()


@wrong("2.6", names="bfloat16", reason=r"got +bfloat16")
def mixed_bfloat16(model, x, y, loss_fn, optimiser, scaler, max_norm):
    return mixed_reference(model, x, y, loss_fn, optimiser, scaler, max_norm, dtype=torch.bfloat16)


@wrong("2.6", names="autocast for a GPU that the batch is not on", reason=r"of device than that of x changes nothing")
def mixed_cuda(model, x, y, loss_fn, optimiser, scaler, max_norm):
    return mixed_reference(model, x, y, loss_fn, optimiser, scaler, max_norm, device="cuda")


@wrong("2.6", names="the whole model in float16", reason=r"Attempting to unscale FP16 gradients")
def mixed_half(model, x, y, loss_fn, optimiser, scaler, max_norm):
    model.half()
    return mixed_reference(model, x.half(), y, loss_fn, optimiser, scaler, max_norm)


@wrong("2.6", names="tensors", reason=r"\.item\(\) gives it")
def mixed_tensors(model, x, y, loss_fn, optimiser, scaler, max_norm):
    loss, norm = mixed_reference(model, x, y, loss_fn, optimiser, scaler, max_norm)
    return torch.tensor(loss), torch.tensor(norm)


@wrong("2.6", names="the loss alone", reason=r"return loss, norm")
def mixed_loss_only(model, x, y, loss_fn, optimiser, scaler, max_norm):
    return mixed_reference(model, x, y, loss_fn, optimiser, scaler, max_norm)[0]


@wrong("2.6", names="the loss after the step", reason=r"the loss of this batch, before the step")
def mixed_loss_after(model, x, y, loss_fn, optimiser, scaler, max_norm):
    _, norm = mixed_reference(model, x, y, loss_fn, optimiser, scaler, max_norm)
    with torch.no_grad():
        return _forward(model, x, y, loss_fn).item(), norm


@right("2.6", names="zeroed with the model, the loss in 32 bits outside autocast, the norm by hand")
def mixed_by_hand(model, x, y, loss_fn, optimiser, scaler, max_norm):
    model.zero_grad(set_to_none=False)
    with torch.amp.autocast(device_type=x.device.type, dtype=torch.half):
        output = model(x)
    loss = loss_fn(output.float(), y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
    if norm > max_norm:
        for gradient in gradients:
            gradient.mul_(max_norm / norm)
    scaler.step(optimiser)
    scaler.update()
    return float(loss.detach()), norm


@right("2.6", names="the parameters of the optimiser clipped")
def mixed_reference(model, x, y, loss_fn, optimiser, scaler, max_norm, device="cpu", dtype=torch.float16):
    optimiser.zero_grad(set_to_none=True)
    loss = _forward(model, x, y, loss_fn, device, dtype)
    scaler.scale(loss).backward()
    scaler.unscale_(optimiser)
    norm = nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], max_norm)
    scaler.step(optimiser)
    scaler.update()
    return loss.item(), norm.item()


# --- 2.7 memory -------------------------------------------------------------------------------------------------


def _bytes(parameters, world_size, stage, sizes=(2, 2, 12), first=(3, 2, 1)):
    """The reference in other words: bytes per parameter of weights, gradients, optimiser, and who is cut from when."""
    if stage not in range(4) or parameters < 1 or world_size < 1:
        raise ValueError("out of range")
    parts = zip(("weights", "gradients", "optimiser"), sizes, first, strict=True)
    return {part: size * parameters / (world_size if stage >= cut else 1) for part, size, cut in parts}


@wrong("2.7", names="the 32-bit copy of the weights forgotten", reason=r"the 32-bit copy of the weights that")
def memory_no_master(parameters, world_size, stage):
    return _bytes(parameters, world_size, stage, sizes=(2, 2, 8))


@wrong("2.7", names="training in 32 bits", reason=r"this is training in 32 bits")
def memory_full_precision(parameters, world_size, stage):
    return _bytes(parameters, world_size, stage, sizes=(4, 4, 8))


@wrong("2.7", names="three to four times the inference memory", reason=r"the optimiser state is in 32 bits")
def memory_four_times_inference(parameters, world_size, stage):
    return _bytes(parameters, world_size, stage, sizes=(2, 2, 4))


@wrong("2.7", names="gradients in 32 bits", reason=r"the gradients are in 16 bits here")
def memory_full_gradients(parameters, world_size, stage):
    return _bytes(parameters, world_size, stage, sizes=(2, 4, 12))


@wrong("2.7", names="stages counted from 1", reason=r"these are the bytes of stage \d, not of stage \d")
def memory_off_by_one(parameters, world_size, stage):
    return _bytes(parameters, world_size, stage, first=(4, 3, 2))


@wrong("2.7", names="everything sharded at every stage", reason=r"these are the bytes of stage 3, not of stage 0")
def memory_all_sharded(parameters, world_size, stage):
    return _bytes(parameters, world_size, stage, first=(0, 0, 0))


@wrong("2.7", names="plain data parallelism shards the optimiser", reason=r"these are the bytes of stage 1, not of st")
def memory_stage_zero(parameters, world_size, stage):
    _bytes(parameters, world_size, stage)
    return _bytes(parameters, world_size, max(1, stage))


@wrong("2.7", names="weights sharded before gradients", reason=r"stage 3 the weights, not the other way round")
def memory_weights_first(parameters, world_size, stage):
    return _bytes(parameters, world_size, stage, first=(2, 3, 1))


@wrong("2.7", names="only the stage's own part sharded", reason=r"stage 2 the gradients as well")
def memory_not_cumulative(parameters, world_size, stage):
    if stage == 0:
        return _bytes(parameters, world_size, 0)
    first = tuple(0 if stage == cut else 9 for cut in (3, 2, 1))
    return _bytes(parameters, world_size, stage, first=first)


@wrong("2.7", names="the sum over all GPUs", reason=r"this is the sum over all GPUs")
def memory_of_all(parameters, world_size, stage):
    return {part: size * world_size for part, size in _bytes(parameters, world_size, stage).items()}


@wrong("2.7", names="gigabytes", reason=r"these are gigabytes")
def memory_gigabytes(parameters, world_size, stage):
    return {part: size / 1e9 for part, size in _bytes(parameters, world_size, stage).items()}


@wrong("2.7", names="one number for all parts", reason=r"weights 2, gradients 2, optimiser 12")
def memory_total(parameters, world_size, stage):
    return sum(_bytes(parameters, world_size, stage).values())


@wrong("2.7", names="stage 4 is stage 3", reason=r"there are the stages 0 to 3")
def memory_stage_four(parameters, world_size, stage):
    return _bytes(parameters, world_size, min(stage, 3))


@wrong("2.7", names="no GPU holds nothing", reason=r"a world size below 1 is a slip")
def memory_no_gpu(parameters, world_size, stage):
    return _bytes(parameters, max(world_size, 1), stage)


@right("2.7", names="shards rounded up to whole parameters")
def memory_rounded(parameters, world_size, stage):
    if not (parameters >= 1 and world_size >= 1 and 0 <= stage <= 3):
        raise ValueError("out of range")
    shard = math.ceil(parameters / world_size)
    whole = [("optimiser", 12), ("gradients", 2), ("weights", 2)]
    return {part: size * (shard if place < stage else parameters) for place, (part, size) in enumerate(whole)}


@right("2.7", names="a match over the stages")
def memory_match(parameters, world_size, stage):
    if parameters <= 0 or world_size <= 0:
        raise ValueError("nothing to share")
    n = world_size
    match stage:
        case 0:
            weights, gradients, optimiser = 2.0, 2.0, 12.0
        case 1:
            weights, gradients, optimiser = 2.0, 2.0, 12 / n
        case 2:
            weights, gradients, optimiser = 2.0, 2 / n, 12 / n
        case 3:
            weights, gradients, optimiser = 2 / n, 2 / n, 12 / n
        case _:
            raise ValueError(f"no stage {stage}")
    return {
        "weights": weights * parameters,
        "gradients": gradients * parameters,
        "optimiser": optimiser * parameters,
    }


# --- 2.8 checkpoints --------------------------------------------------------------------------------------------


def _gathered():
    states = [None] * dist.get_world_size()
    dist.all_gather_object(states, torch.get_rng_state())
    return states


def _content(model, optimiser, epoch, step, states):
    return {"weights": model.state_dict(), "optimiser": optimiser.state_dict(), "random": states, "at": [epoch, step]}


def _write(path, content):
    torch.save(content, path + ".new")
    Path(path + ".new").replace(path)


def _save(path, model, optimiser, epoch, step):
    """The reference in other words."""
    states = _gathered()
    if dist.get_rank() == 0:
        _write(path, _content(model, optimiser, epoch, step, states))
    dist.barrier()


def _read(path, **options):
    try:
        return torch.load(path, **options)
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"broken: {path}") from error


def _restore(saved, model, optimiser, rank=None):
    model.load_state_dict(saved["weights"])
    optimiser.load_state_dict(saved["optimiser"])
    torch.set_rng_state(saved["random"][dist.get_rank() if rank is None else rank])
    return dict(zip(("epoch", "step"), saved["at"], strict=True))


def _load(path, model, optimiser):
    return _restore(_read(path), model, optimiser)


def _checkpoints(save=_save, load=_load):
    return {"save_checkpoint": save, "load_checkpoint": load}


def save_everywhere(path, model, optimiser, epoch, step):
    _write(path, _content(model, optimiser, epoch, step, _gathered()))
    dist.barrier()


wrong("2.8", names="saved by every rank", reason=r"rank 0 alone writes", parts=_checkpoints(save_everywhere))


def save_random_file_each(path, model, optimiser, epoch, step):
    _save(path, model, optimiser, epoch, step)
    torch.save(torch.get_rng_state(), f"{path}.{dist.get_rank()}")


wrong(
    "2.8",
    names="a file of random states for each rank",
    reason=r"nothing left beside it",
    parts=_checkpoints(save_random_file_each),
)


def save_no_barrier(path, model, optimiser, epoch, step):
    states = _gathered()
    if dist.get_rank() == 0:
        _write(path, _content(model, optimiser, epoch, step, states))


wrong("2.8", names="no barrier", reason=r"all ranks wait for rank 0 at the end", parts=_checkpoints(save_no_barrier))


def save_barrier_first(path, model, optimiser, epoch, step):
    states = _gathered()
    dist.barrier()
    if dist.get_rank() == 0:
        _write(path, _content(model, optimiser, epoch, step, states))


wrong("2.8", names="the barrier before writing", reason=r"after the writing", parts=_checkpoints(save_barrier_first))


def save_gather_inside(path, model, optimiser, epoch, step):
    if dist.get_rank() == 0:
        _write(path, _content(model, optimiser, epoch, step, _gathered()))
    dist.barrier()


wrong(
    "2.8",
    names="gathered by rank 0 alone",
    reason=r"stands inside `if rank == 0` waits for ever",
    parts=_checkpoints(save_gather_inside),
)


def save_no_random(path, model, optimiser, epoch, step):
    if dist.get_rank() == 0:
        _write(path, _content(model, optimiser, epoch, step, None))
    dist.barrier()


def load_no_random(path, model, optimiser):
    saved = _read(path)
    return _restore({**saved, "random": {dist.get_rank(): torch.get_rng_state()}}, model, optimiser)


wrong(
    "2.8",
    names="no random state",
    reason=r"not as it was when it was saved: the random state",
    parts=_checkpoints(save_no_random, load_no_random),
)


def load_random_of_rank_0(path, model, optimiser):
    return _restore(_read(path), model, optimiser, rank=0)


wrong(
    "2.8",
    names="rank 0's random state for all",
    reason=r"gather the states of all ranks, and give each rank its own",
    parts=_checkpoints(load=load_random_of_rank_0),
)


def load_no_optimiser(path, model, optimiser):
    kept = optimiser.state_dict()
    return _restore({**_read(path), "optimiser": kept}, model, optimiser)


wrong(
    "2.8",
    names="the optimiser forgotten",
    reason=r"not as it was when it was saved: the optimiser's state",
    parts=_checkpoints(load=load_no_optimiser),
)


def load_on_rank_0(path, model, optimiser):
    saved = _read(path)
    if dist.get_rank() == 0:
        return _restore(saved, model, optimiser)
    return {"epoch": saved["at"][0], "step": saved["at"][1]}


wrong(
    "2.8",
    names="loaded by rank 0 alone",
    reason=r"not as it was when it was saved: weights, the optimiser's state, the random state",
    parts=_checkpoints(load=load_on_rank_0),
)


def save_draws(path, model, optimiser, epoch, step):
    _save(path, model, optimiser, epoch, step)
    torch.rand(1)  # for instance a random name for the file


wrong(
    "2.8", names="saving draws a random number", reason=r"saving has changed something", parts=_checkpoints(save_draws)
)


def load_no_position(path, model, optimiser):
    return {"epoch": _load(path, model, optimiser)["epoch"], "step": 0}


wrong(
    "2.8",
    names="starts the epoch again",
    reason=r"the position in the run is a part of its state",
    parts=_checkpoints(load=load_no_position),
)


def save_in_place(path, model, optimiser, epoch, step):
    states = _gathered()
    if dist.get_rank() == 0:
        torch.save(_content(model, optimiser, epoch, step, states), path)
    dist.barrier()


wrong("2.8", names="written over the old one", reason=r"never write over", parts=_checkpoints(save_in_place))


def save_removed_first(path, model, optimiser, epoch, step):
    states = _gathered()
    if dist.get_rank() == 0:
        Path(path).unlink(missing_ok=True)
        _write(path, _content(model, optimiser, epoch, step, states))
    dist.barrier()


wrong(
    "2.8",
    names="the old one removed first",
    reason=r"remove or rename the only good",
    parts=_checkpoints(save_removed_first),
)


def load_bare(path, model, optimiser):
    return _restore(torch.load(path), model, optimiser)


wrong(
    "2.8",
    names="torch's own errors",
    reason=r"a checkpoint cut in half is refused[\s\S]*turn them into a ValueError",
    parts=_checkpoints(load=load_bare),
)


def load_no_path(path, model, optimiser):
    try:
        return _load(path, model, optimiser)
    except ValueError:
        raise ValueError("corrupt checkpoint") from None


wrong(
    "2.8", names="an error without the path", reason=r"ValueError with the path", parts=_checkpoints(load=load_no_path)
)


def load_one_error(path, model, optimiser):
    try:
        return _restore(torch.load(path), model, optimiser)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"broken: {path}") from error


wrong(
    "2.8",
    names="only the error that was seen",
    reason=r"an empty file is refused[\s\S]*EOFError",
    parts=_checkpoints(load=load_one_error),
)


def load_fresh_start(path, model, optimiser):
    try:
        return _load(path, model, optimiser)
    except ValueError:
        return {"epoch": 0, "step": 0}


wrong(
    "2.8",
    names="a broken file is a fresh start",
    reason=r"got +no exception[\s\S]*fall back on an older checkpoint",
    parts=_checkpoints(load=load_fresh_start),
)


def load_missing_is_fresh(path, model, optimiser):
    if not Path(path).exists():
        return {"epoch": 0, "step": 0}
    return _load(path, model, optimiser)


wrong(
    "2.8",
    names="a missing file is a fresh start",
    reason=r"a wrong path must not look like a fresh start",
    parts=_checkpoints(load=load_missing_is_fresh),
)


def load_trusting(path, model, optimiser):
    saved = _read(path, weights_only=False)
    try:
        return _restore(saved, model, optimiser)
    except KeyError as error:
        raise ValueError(f"broken: {path}") from error


wrong(
    "2.8",
    names="weights_only=False",
    reason=r"a plain pickle may do anything",
    parts=_checkpoints(load=load_trusting),
)


def load_code_error(path, model, optimiser):
    try:
        return _restore(torch.load(path, weights_only=True), model, optimiser)
    except (OSError, RuntimeError, EOFError) as error:
        raise ValueError(f"broken: {path}") from error


wrong(
    "2.8",
    names="the refusal of a pickle as it is",
    reason=r"a pickle that runs code is refused",
    parts=_checkpoints(load=load_code_error),
)


def save_temporary_file(path, model, optimiser, epoch, step):
    rank, size = dist.get_rank(), dist.get_world_size()
    own = torch.get_rng_state()
    states = [torch.empty_like(own) for _ in range(size)] if rank == 0 else None
    dist.gather(own, states, dst=0)
    if rank == 0:
        buffer = io.BytesIO()
        torch.save(_content(model, optimiser, epoch, step, dict(enumerate(states))), buffer)
        with tempfile.NamedTemporaryFile(dir=Path(path).parent, delete=False) as file:
            file.write(buffer.getvalue())
        Path(file.name).rename(path)
    dist.broadcast(torch.zeros(1), src=0)


def load_read_once(path, model, optimiser):
    content = Path(path).read_bytes()
    try:
        saved = torch.load(io.BytesIO(content), weights_only=True)
    except Exception:
        raise ValueError(f"{path} cannot be read") from None
    return _restore(saved, model, optimiser)


right(
    "2.8",
    names="gathered to rank 0, a temporary file, a broadcast as a barrier",
    parts=_checkpoints(save_temporary_file, load_read_once),
)


def load_from_rank_0(path, model, optimiser):
    box = [_read(path)] if dist.get_rank() == 0 else [None]
    dist.broadcast_object_list(box, src=0)
    return _restore(box[0], model, optimiser)


right("2.8", names="read by rank 0, sent to the others", parts=_checkpoints(load=load_from_rank_0))


# --- 2.9 money --------------------------------------------------------------------------------------------------


def _bill(parameters, tokens, peak_flops, utilisation, gpus, price, per_token=6, **change):
    """The reference in other words; `change` replaces entries by functions of (hours, gpus, price)."""
    if min(parameters, tokens, peak_flops, utilisation, gpus) <= 0 or utilisation > 1 or price < 0:
        raise ValueError("out of range")
    hours = per_token * parameters * tokens / peak_flops / utilisation / 3600
    done = {"gpu_hours": hours, "days": hours / (24 * gpus), "money": hours * price}
    return {**done, **{entry: value(hours, gpus, price) for entry, value in change.items()}}


@wrong("2.9", names="forward pass only", reason=r"the forward pass alone")
def cost_forward(parameters, tokens, peak_flops, utilisation, gpus, price):
    return _bill(parameters, tokens, peak_flops, utilisation, gpus, price, per_token=2)


@wrong("2.9", names="with recomputation", reason=r"8 counts a second forward pass")
def cost_recomputed(parameters, tokens, peak_flops, utilisation, gpus, price):
    return _bill(parameters, tokens, peak_flops, utilisation, gpus, price, per_token=8)


@wrong("2.9", names="operations of the tokens only", reason=r"the parameters are missing")
def cost_without_parameters(parameters, tokens, peak_flops, utilisation, gpus, price):
    _bill(parameters, tokens, peak_flops, utilisation, gpus, price)
    return _bill(1, tokens, peak_flops, utilisation, gpus, price)


@wrong("2.9", names="the peak is reached", reason=r"the utilisation is left out")
def cost_at_peak(parameters, tokens, peak_flops, utilisation, gpus, price):
    _bill(parameters, tokens, peak_flops, utilisation, gpus, price)
    return _bill(parameters, tokens, peak_flops, 1, gpus, price)


@wrong("2.9", names="multiplied by the utilisation", reason=r"multiplied by the utilisation: divide by it")
def cost_times_utilisation(parameters, tokens, peak_flops, utilisation, gpus, price):
    _bill(parameters, tokens, peak_flops, utilisation, gpus, price)
    return _bill(parameters * utilisation, tokens, peak_flops, 1, gpus, price)


@wrong("2.9", names="seconds", reason=r"these are seconds")
def cost_seconds(*run, **named):
    return _bill(*run, **named, gpu_hours=lambda hours, gpus, price: hours * 3600)


@wrong("2.9", names="hours on the clock", reason=r"hours on the clock: GPU-hours are summed")
def cost_on_the_clock(*run, **named):
    return _bill(*run, **named, gpu_hours=lambda hours, gpus, price: hours / gpus)


@wrong("2.9", names="days of one GPU", reason=r"all GPUs work at once: divide the GPU-hours by their number")
def cost_one_gpu(*run, **named):
    return _bill(*run, **named, days=lambda hours, gpus, price: hours / 24)


@wrong("2.9", names="hours called days", reason=r"these are hours: 24 of them are a day")
def cost_hours_as_days(*run, **named):
    return _bill(*run, **named, days=lambda hours, gpus, price: hours / gpus)


@wrong("2.9", names="GPU-hours times GPUs times price", reason=r"the number of GPUs is multiplied in twice")
def cost_gpus_twice(*run, **named):
    return _bill(*run, **named, money=lambda hours, gpus, price: hours * gpus * price)


@wrong("2.9", names="the bill of one GPU", reason=r"this is the bill of one GPU")
def cost_bill_of_one(*run, **named):
    return _bill(*run, **named, money=lambda hours, gpus, price: hours / gpus * price)


@wrong("2.9", names="three bare numbers", reason=r"return them by name")
def cost_bare(*run, **named):
    return tuple(_bill(*run, **named).values())


@wrong("2.9", names="a percentage accepted", reason=r"40 % is 0\.4")
def cost_percent(parameters, tokens, peak_flops, utilisation, gpus, price):
    done = _bill(parameters, tokens, peak_flops, min(utilisation, 1), gpus, price)
    return {entry: value / max(utilisation, 1) for entry, value in done.items()}


@wrong("2.9", names="divides by zero GPUs", reason=r"without a GPU there is no number of days")
def cost_no_gpu(parameters, tokens, peak_flops, utilisation, gpus, price):
    hours = _bill(parameters, tokens, peak_flops, utilisation, 1, price)["gpu_hours"]
    return {"gpu_hours": hours, "days": hours / gpus / 24, "money": hours * price}


@wrong("2.9", names="a negative price accepted", reason=r"a negative price is a slip")
def cost_negative_price(parameters, tokens, peak_flops, utilisation, gpus, price):
    done = _bill(parameters, tokens, peak_flops, utilisation, gpus, abs(price))
    return {**done, "money": done["gpu_hours"] * price}


@wrong("2.9", names="own GPUs cannot be free, full use is impossible", reason=r"got +ValueError: price and utilisation")
def cost_too_strict(parameters, tokens, peak_flops, utilisation, gpus, price):
    if utilisation >= 1 or price <= 0:
        raise ValueError("price and utilisation out of range")
    return _bill(parameters, tokens, peak_flops, utilisation, gpus, price)


@right("2.9", names="forward and backward counted apart, one entry more")
def cost_counted_apart(parameters, tokens, peak_flops, utilisation, gpus, price):
    for value in (parameters, tokens, peak_flops, utilisation, gpus):
        if not value > 0:
            raise ValueError(f"{value} must be positive")
    if utilisation > 1 or price < 0:
        raise ValueError("no share, or no price")
    forward = 2 * parameters * tokens
    hours = (forward + 2 * forward) / (peak_flops * utilisation) / 60 / 60
    return {"days": hours / gpus / 24, "gpu_hours": hours, "money": price * hours, "flops": 3 * forward}


@right("2.9", names="from tokens per second")
def cost_throughput(parameters, tokens, peak_flops, utilisation, gpus, price):
    if not (utilisation > 0 and parameters > 0 and tokens > 0 and peak_flops > 0 and gpus >= 1 and price >= 0):
        raise ValueError("out of range")
    if not utilisation <= 1:
        raise ValueError("utilisation is a share")
    tokens_per_second = gpus * peak_flops * utilisation / 6 / parameters
    hours = tokens / tokens_per_second / 3600
    return {"gpu_hours": hours * gpus, "days": hours / 24, "money": hours * gpus * price}


# --- 2.10 fix this code -----------------------------------------------------------------------------------------


def _loader(data, batch_size, seed, **options):
    return DataLoader(data, batch_size=batch_size, sampler=DistributedSampler(data, seed=seed, **options))


def _worker(
    data, epochs, batch_size, seed, folder, *,
    loader=_loader, set_epoch=True, wrap=DistributedDataParallel, rate=0.1, saves=lambda: dist.get_rank() == 0,
    weights=None, saved=None, clean_up=True, result=lambda done, own: done,
):  # fmt: skip
    """The reference in other words; the options replace a part of it. `own`: this rank's batches (loss, samples)."""
    dist.init_process_group("gloo")
    torch.manual_seed(seed)
    bare = nn.Linear(6, 3)
    model = wrap(bare)
    optimiser = torch.optim.SGD(bare.parameters(), lr=rate)
    batches, own = loader(data, batch_size, seed), []
    for epoch in range(epochs):
        if set_epoch and hasattr(batches.sampler, "set_epoch"):
            batches.sampler.set_epoch(epoch)
        own.append([])
        for x, y in batches:
            loss = F.cross_entropy(model(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            own[-1].append((loss.item(), len(x)))
    sums = torch.tensor([[sum(loss * n for loss, n in e), sum(n for _, n in e)] for e in own], dtype=torch.float64)
    dist.all_reduce(sums)
    state = dict(bare.state_dict()) if weights is None else weights(model)
    if saves():
        torch.save(state if saved is None else saved(model), f"{folder}/model.pt")
    done = {"weights": state, "losses": (sums[:, 0] / sums[:, 1]).tolist(), "samples": int(sums[:, 1].sum())}
    done = result(done, own)
    if clean_up:
        dist.destroy_process_group()
    return done


def _fix(names, reason=None, **change):
    def train_worker(data, epochs, batch_size, seed, folder):
        return _worker(data, epochs, batch_size, seed, folder, **change)

    if reason is None:
        right("2.10", names=names, parts={"train_worker": train_worker})
    else:
        wrong("2.10", names=names, reason=reason, parts={"train_worker": train_worker})


def _everything(data, batch_size, seed):
    return DataLoader(data, batch_size=batch_size, shuffle=True, generator=torch.Generator().manual_seed(seed))


def _by_local_rank(data, batch_size, seed):
    local = int(os.environ["LOCAL_RANK"])
    return _loader(data, batch_size, seed, num_replicas=dist.get_world_size(), rank=local)


def _own_permutation(data, batch_size, seed):
    """Each rank draws a permutation of its own, and takes its part of that."""
    return _loader(data, batch_size, seed + dist.get_rank())


def _without_padding(data, batch_size, seed):
    mine = range(dist.get_rank(), len(data), dist.get_world_size())
    return DataLoader(data, batch_size=batch_size, sampler=SubsetRandomSampler(mine))


_fix("no sampler", r"every rank reads everything: n processes do the work of one", loader=_everything)
_fix("shared out by LOCAL_RANK", r"LOCAL_RANK is 0 on each machine", loader=_by_local_rank)
_fix("another seed on each rank", r"shuffle alike on all ranks", loader=_own_permutation)
_fix("the remainder dropped", r"leave nothing out \(drop_last\)", loader=lambda *given: _loader(*given, drop_last=True))
_fix("no set_epoch", r"the same order in each epoch: sampler\.set_epoch", set_epoch=False)
_fix("not shuffled", r"the same order in each epoch", loader=lambda *given: _loader(*given, shuffle=False))
_fix(
    "the sampler's own seed",
    r"another seed gives the same order",
    loader=lambda data, size, seed: _loader(data, size, 0),
)
_fix("never averaged", r"a rank that has trained alone", wrap=lambda bare: bare)
_fix("the learning rate times the ranks", r"summed over the ranks: their mean", rate=0.2)
_fix("every rank saves", r"one process of all saves, the one with rank 0", saves=lambda: True)
_fix(
    "saved by LOCAL_RANK 0",
    r"there is a LOCAL_RANK 0 on each machine",
    saves=lambda: os.environ["LOCAL_RANK"] == "0",
)
_fix("nobody saves", r"one file, model\.pt", saves=lambda: False)
_fix(
    "the wrapper's names in the result",
    r'the wrapper puts "module\." before each name',
    weights=lambda model: dict(model.state_dict()),
)
_fix("the wrapper's names in the file", r"the state_dict of the bare model", saved=lambda model: model.state_dict())
_fix("no clean-up", r"destroy_process_group\(\) in a `finally`", clean_up=False)
_fix(
    "only rank 0 returns",
    r"every rank returns all three",
    result=lambda done, own: done if dist.get_rank() == 0 else None,
)
_fix(
    "the loss of this rank",
    r"mean over one rank's samples: reduce sum and number",
    result=lambda done, own: {**done, "losses": [sum(loss * n for loss, n in e) / sum(n for _, n in e) for e in own]},
)
_fix(
    "the mean of this rank's batches",
    r"the mean over the batches of one rank",
    result=lambda done, own: {**done, "losses": [sum(loss for loss, _ in e) / len(e) for e in own]},
)


def _mean_over_batches(done, own):
    means = torch.tensor([sum(loss for loss, _ in e) / len(e) for e in own])
    dist.all_reduce(means)
    return {**done, "losses": (means / dist.get_world_size()).tolist()}


_fix("the mean of all batches", r"the last, smaller one weighs as much", result=_mean_over_batches)
_fix(
    "losses summed over ranks",
    r"divide by their number",
    result=lambda done, own: {**done, "losses": [2 * loss for loss in done["losses"]]},
)
_fix(
    "samples: the data set's length",
    r"counts the data set, not what was read",
    result=lambda done, own: {**done, "samples": len(own) * (done["samples"] // len(own) - 1)},
)
_fix(
    "samples of this rank",
    r"one rank's share: all_reduce",
    result=lambda done, own: {**done, "samples": sum(n for e in own for _, n in e)},
)


@wrong("2.10", names="as it was found", reason=r"NameError: name 'init_process_group' is not defined")
def train_as_found(data, epochs, batch_size, seed, folder):
    init_process_group(backend="nccl")  # noqa: F821 - that is the fault


@wrong("2.10", names="no process group", reason=r"process group")
def train_without_group(data, epochs, batch_size, seed, folder):
    torch.manual_seed(seed)
    model = DistributedDataParallel(nn.Linear(6, 3))
    raise AssertionError(f"never reached: {model}")


@wrong("2.10", names="the barrier on rank 0 only", reason=r"waits for ever|wait for one another")
def train_waits(data, epochs, batch_size, seed, folder):
    def save_and_wait():
        if dist.get_rank() == 0:
            dist.barrier()
        return dist.get_rank() == 0

    return _worker(data, epochs, batch_size, seed, folder, saves=save_and_wait)


_fix("in other words")


@right("2.10", names="gradients averaged by hand, own shares, a broadcast of the seed's order")
def train_by_hand(data, epochs, batch_size, seed, folder):
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(seed)
    model, losses, samples = nn.Linear(6, 3), [], 0
    for epoch in range(epochs):
        order = list(RandomSampler(data, generator=torch.Generator().manual_seed(1000 * seed + epoch)))
        order = (order + order[: -len(order) % world])[rank::world]
        sums = torch.zeros(2, dtype=torch.float64)
        for x, y in DataLoader(data, batch_sampler=BatchSampler(order, batch_size, drop_last=False)):
            model.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            with torch.no_grad():
                for p in model.parameters():
                    dist.all_reduce(p.grad)
                    p -= 0.1 * p.grad / world
            sums += torch.tensor([loss.item() * len(x), len(x)])
        dist.all_reduce(sums)
        losses.append(float(sums[0] / sums[1]))
        samples += round(float(sums[1]))
    if rank == 0:
        torch.save(model.state_dict(), Path(folder, "model.pt"))
    dist.barrier()
    dist.destroy_process_group()
    return {"weights": model.state_dict(), "losses": losses, "samples": samples}
