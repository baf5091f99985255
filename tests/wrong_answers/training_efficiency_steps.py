"""Wrong and other right answers to exercises 2.6 to 2.10, as candidates give them."""

import math

import torch
from torch import nn

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
