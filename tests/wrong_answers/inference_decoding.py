"""Wrong and other right answers to exercises 4.6 to 4.9 and 4.11, as candidates give them."""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F

from . import right, wrong

# --- 4.6 pruning masks --------------------------------------------------------------------------------------------


def _pruning(weights, share, scope, slip=""):
    if slip != "no share" and not 0 <= share < 1:
        raise ValueError("share")
    if slip != "no scope" and scope not in ("global", "layer"):
        raise ValueError("scope")
    if slip == "other":
        scope = {"global": "layer", "layer": "global"}[scope]
    together = scope == "global" if slip != "layer only" else False
    masks = []
    for some in [weights] if together or slip == "global only" else [[w] for w in weights]:
        flat = torch.cat([w.flatten() for w in some])
        size = flat if slip == "signed" else flat.abs()
        count = round(share * len(flat) + 0.5) if slip == "rounded up" else int(share * len(flat))
        mask = torch.ones(len(flat), dtype=torch.bool)
        mask[size.argsort(stable=True, descending=slip == "largest")[:count]] = False
        if slip == "inverted":
            mask = ~mask
        masks += [m.view_as(w) for m, w in zip(mask.split([w.numel() for w in some]), some, strict=True)]
    if slip == "flat":
        masks = [m.flatten() for m in masks]
    return masks


for _slip, _reason in {
    "other": "other scope|exactly int",
    "layer only": "other scope|exactly int",
    "global only": "other scope|exactly int",
    "signed": "by magnitude",
    "largest": "largest went",
    "inverted": "False is for what goes",
    "rounded up": r"int\(share \* n\)",
    "flat": "its shape",
    "no share": "share is from 0",
    "no scope": "scope",
}.items():
    wrong("4.6", names=_slip, reason=_reason, parts={"pruning_masks": functools.partial(_pruning, slip=_slip)})


@wrong("4.6", names="a threshold by quantile", reason=r"equal weights all (stay|go)")
def pruning_quantile(weights, share, scope):
    _pruning(weights, share, scope)
    if scope == "global":
        flat = torch.cat([w.abs().flatten() for w in weights])
        cuts = [flat.sort().values[int(share * len(flat))]] * len(weights)
    else:
        cuts = [w.abs().flatten().sort().values[int(share * w.numel())] for w in weights]
    return [w.abs() >= cut for w, cut in zip(weights, cuts, strict=True)]


@wrong("4.6", names="exact zeros are gone anyway", reason=r"exact zeros")
def pruning_zeros(weights, share, scope):
    return [mask & (w != 0) for mask, w in zip(_pruning(weights, share, scope), weights, strict=True)]


@wrong("4.6", names="ranked in float16", reason=r"in float16")
def pruning_half(weights, share, scope):
    return _pruning([w.half() for w in weights], share, scope)


@wrong("4.6", names="only a share of 1 is refused", reason=r"share 1.2 .* is refused")
def pruning_share_1(weights, share, scope):
    if share < 0 or share == 1:
        raise ValueError("share")
    return _pruning(weights, share, scope, slip="no share")


@wrong("4.6", names="float masks", reason=r"its dtype")
def pruning_float(weights, share, scope):
    return [mask.float() for mask in _pruning(weights, share, scope)]


@wrong("4.6", names="one mask too few", reason=r"number of masks")
def pruning_few(weights, share, scope):
    return _pruning(weights, share, scope)[:-1]


@wrong("4.6", names="a dictionary", reason=r"in a list")
def pruning_dictionary(weights, share, scope):
    return dict(enumerate(_pruning(weights, share, scope)))


@wrong("4.6", names="zeros in place", reason=r"leaves its argument weights as it was")
def pruning_in_place(weights, share, scope):
    masks = _pruning(weights, share, scope)
    for weight, mask in zip(weights, masks, strict=True):
        weight.mul_(mask)
    return masks


@right("4.6", names="a loop in numpy over sorted places")
def pruning_loop(weights, share, scope):
    _pruning(weights, share, scope)
    every = [(abs(float(v)), n, i) for n, w in enumerate(weights) for i, v in enumerate(w.flatten())]
    masks = [np.ones(w.numel(), bool) for w in weights]
    groups = [every] if scope == "global" else [[e for e in every if e[1] == n] for n in range(len(weights))]
    for group in groups:
        for _, n, i in sorted(group)[: int(share * len(group))]:
            masks[n][i] = False
    return tuple(torch.from_numpy(m).view(w.shape) for m, w in zip(masks, weights, strict=True))


# --- 4.7 distillation ---------------------------------------------------------------------------------------------


def _distillation(student, teacher, targets, temperature, weight, slip=""):
    if slip != "teacher learns":
        teacher = teacher.detach()
    if slip == "detached":
        student = student.detach()
    log_q = F.log_softmax(student / (1 if slip == "student not softened" else temperature), -1)
    log_p = F.log_softmax(teacher / (1 if slip == "teacher not softened" else temperature), -1)
    if slip == "log of softmax":
        log_q, log_p = ((z / temperature).softmax(-1).log() for z in (student, teacher))
    if slip == "reversed":
        log_p, log_q = log_q, log_p
    reduction = {"mean": "mean", "sum": "sum"}.get(slip, "batchmean")
    soft = F.kl_div(log_q, log_p, reduction=reduction, log_target=True)
    if slip == "cross-entropy":
        soft = -(log_p.exp() * log_q).sum(-1).mean()
    hard = F.cross_entropy(student / (temperature if slip == "hard softened" else 1), targets)
    factor = {"T instead of T²": temperature, "no factor": 1}.get(slip, temperature**2)
    if slip == "weights swapped":
        weight = 1 - weight
    if slip == "both by T²":
        hard = hard * temperature**2
    loss = weight * factor * soft + (0 if slip == "labels unused" else (1 - weight) * hard)
    return loss.reshape(1) if slip == "a vector" else loss


for _slip, _reason in {
    "T instead of T²": "multiplied by T²",
    "no factor": "T² is missing",
    "reversed": r"KL\(student",
    "mean": "batchmean",
    "sum": "take the mean",
    "teacher not softened": "teacher's logits are divided by T",
    "student not softened": "student's logits are divided by T",
    "hard softened": "at temperature 1",
    "weights swapped": "swapped",
    "cross-entropy": "entropy is missing",
    "both by T²": "soft part alone",
    "labels unused": "with the labels is missing",
    "log of softmax": "log_softmax",
    "teacher learns": "detach the teacher",
    "detached": "has a gradient",
    "a vector": "one number",
}.items():
    wrong("4.7", names=_slip, reason=_reason, parts={"distillation_loss": functools.partial(_distillation, slip=_slip)})


def _parts(student, teacher, temperature):
    log_q, log_p = F.log_softmax(student / temperature, -1), F.log_softmax(teacher.detach() / temperature, -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


@wrong("4.7", names="soft part under no_grad", reason=r"nothing flows through the soft part")
def soft_no_grad(student, teacher, targets, temperature, weight):
    with torch.no_grad():
        soft = _parts(student, teacher, temperature)
    return weight * temperature**2 * soft + (1 - weight) * F.cross_entropy(student, targets)


@wrong("4.7", names="hard part detached", reason=r"nothing flows through the cross-entropy")
def hard_detached(student, teacher, targets, temperature, weight):
    soft = _parts(student, teacher, temperature)
    return weight * temperature**2 * soft + (1 - weight) * F.cross_entropy(student.detach(), targets)


def _detached_sums(student, teacher, targets, temperature, weight, soft=True, hard=True):
    def log_softmax(z, detached):
        total = z.logsumexp(-1, keepdim=True)
        return z - (total.detach() if detached else total)

    log_q, log_p = log_softmax(student / temperature, soft), F.log_softmax(teacher.detach() / temperature, -1)
    softened = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    labelled = -log_softmax(student, hard)[torch.arange(len(targets)), targets].mean()
    return weight * temperature**2 * softened + (1 - weight) * labelled


for _which, _said in {
    "both": r"normalisers \(log-sum-exp\) depend",
    "soft": r"of the soft part depends",
    "hard": r"of the cross-entropy depends",
}.items():
    wrong(
        "4.7",
        names=f"log-sum-exp detached: {_which}",
        reason=_said,
        parts={
            "distillation_loss": functools.partial(_detached_sums, soft=_which != "hard", hard=_which != "soft"),
        },
    )


@wrong("4.7", names="the gradient of the soft part at weight 1 only", reason=r"nothing flows through the soft part")
def soft_alone_detached(student, teacher, targets, temperature, weight):
    if weight == 1:
        return temperature**2 * _parts(student.detach(), teacher, temperature) + 0 * F.cross_entropy(student, targets)
    return _distillation(student, teacher, targets, temperature, weight)


@wrong("4.7", names="the probabilities of the student detached", reason=r"the value is right")
def half_gradient(student, teacher, targets, temperature, weight):
    return _distillation((student + student.detach()) / 2, teacher, targets, temperature, weight)


@wrong("4.7", names="the caller's teacher changed", reason=r"left as they came")
def teacher_frozen(student, teacher, targets, temperature, weight):
    return _distillation(student, teacher.requires_grad_(False), targets, temperature, weight)


@wrong("4.7", names="kl_div of log of softmax", reason=r"student with large logits")
def kl_of_log(student, teacher, targets, temperature, weight):
    q, p = (student / temperature).softmax(-1), (teacher.detach() / temperature).softmax(-1)
    soft = F.kl_div(q.log(), p, reduction="batchmean")
    return weight * temperature**2 * soft + (1 - weight) * F.cross_entropy(student, targets)


@wrong("4.7", names="log-sum-exp by hand", reason=r"student with large logits")
def sums_by_hand(student, teacher, targets, temperature, weight):
    log_q = student / temperature - (student / temperature).exp().sum(-1, keepdim=True).log()
    log_p = F.log_softmax(teacher.detach() / temperature, -1)
    soft = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    return weight * temperature**2 * soft + (1 - weight) * F.cross_entropy(student, targets)


@wrong("4.7", names="nll_loss of log of softmax", reason=r"student with large logits")
def nll_of_log(student, teacher, targets, temperature, weight):
    hard = F.nll_loss(student.softmax(-1).log(), targets)
    return weight * temperature**2 * _parts(student, teacher, temperature) + (1 - weight) * hard


@wrong("4.7", names="epsilon in the log", reason=r"epsilon gives another number")
def epsilon_in_log(student, teacher, targets, temperature, weight):
    q, p = (student / temperature).softmax(-1), (teacher.detach() / temperature).softmax(-1)
    soft = (p * ((p + 1e-12).log() - (q + 1e-12).log())).sum(-1).mean()
    return weight * temperature**2 * soft + (1 - weight) * F.cross_entropy(student, targets)


@wrong("4.7", names="float32 whatever came", reason=r"its dtype")
def in_float32(student, teacher, targets, temperature, weight):
    return _distillation(student.float(), teacher.float(), targets, temperature, weight)


@wrong("4.7", names="kl_divergence of torch's distributions", reason=r"student with large logits")
def distillation_divergence(student, teacher, targets, temperature, weight):
    p, q = (torch.distributions.Categorical(logits=z / temperature) for z in (teacher.detach(), student))
    soft = torch.distributions.kl_divergence(p, q).mean()  # infinite where a probability was rounded to 0
    return weight * temperature**2 * soft + (1 - weight) * F.cross_entropy(student, targets)


@right("4.7", names="torch's distributions")
def distillation_distributions(student, teacher, targets, temperature, weight):
    p, q = (torch.distributions.Categorical(logits=z / temperature) for z in (teacher.detach(), student))
    soft = (p.probs * (p.logits - q.logits)).sum(1).mean()  # normalised: log-probabilities
    hard = -student.log_softmax(1)[torch.arange(len(targets)), targets].mean()
    return weight * temperature**2 * soft + (1 - weight) * hard


# --- 4.8 attention with a KV cache --------------------------------------------------------------------------------


def _attention(query, key, value, keys, values, position, slip=""):
    places = {"one late": position + 1, "one early": position - 1, "at the end": -1, "at zero": 0}
    place = places.get(slip, position)
    if slip == "one late" and place == keys.shape[2]:
        place = -1
    if slip == "concatenated":
        keys, values = (torch.cat([c[:, :, :position], n[:, :, None]], 2) for c, n in ((keys, key), (values, value)))
    elif slip == "mixed up":
        keys[:, :, place], values[:, :, place] = value, key
    elif slip == "everywhere":
        keys[:], values[:] = key[:, :, None], value[:, :, None]
    elif slip == "keys only":
        keys[:, :, place] = key
        values = values.clone()
        values[:, :, place] = value
    else:
        keys[:, :, place], values[:, :, place] = key, value
    end = {"whole capacity": keys.shape[2], "without itself": position}.get(slip, position + 1)
    seen_keys, seen_values = keys[:, :, :end], values[:, :, :end]
    scale = {"not scaled": 1, "scaled by d": query.shape[-1]}.get(slip, query.shape[-1] ** 0.5)
    scores = torch.einsum("bhd,bhtd->bht", query, seen_keys) / scale
    weights = scores.softmax(1 if slip == "over the heads" else 2)
    if slip == "by hand":
        weights = scores.exp() / scores.exp().sum(2, keepdim=True)
    out = torch.einsum("bht,bhtd->bhd", weights, seen_values)
    return out[:, :, None] if slip == "a time dimension" else out


for _slip, _reason in {
    "one late": "one place too late|end of the capacity",
    "one early": "one place too early|end of the capacity",
    "at the end": "end of the capacity|one place too",
    "at zero": "written at 0|one place too early",
    "concatenated": "nothing was written",
    "mixed up": "mixed up",
    "everywhere": "whole cache was overwritten",
    "keys only": "cache of values",
    "whole capacity": "whole capacity",
    "without itself": "itself as well",
    "not scaled": "divided by √d",
    "scaled by d": "not by d",
    "over the heads": "not over the heads",
    "by hand": "exp of a large score",
    "a time dimension": "its shape",
}.items():
    wrong("4.8", names=_slip, reason=_reason, parts={"attention_step": functools.partial(_attention, slip=_slip)})


@wrong("4.8", names="torch's own attention", reason=r"written without")
def attention_torch(query, key, value, keys, values, position):
    keys[:, :, position], values[:, :, position] = key, value
    seen = keys[:, :, : position + 1], values[:, :, : position + 1]
    return torch.nn.functional.scaled_dot_product_attention(query[:, :, None], *seen)[:, :, 0]


@wrong("4.8", names="torch's own attention by its inner name", reason=r"written without")
def attention_inner(query, key, value, keys, values, position):
    keys[:, :, position], values[:, :, position] = key, value
    seen = keys[:, :, : position + 1], values[:, :, : position + 1]
    return torch._C._nn.scaled_dot_product_attention(query[:, :, None], *seen)[:, :, 0]


@wrong("4.8", names="double precision", reason=r"its dtype")
def attention_double(query, key, value, keys, values, position):
    return _attention(query, key, value, keys, values, position).double()


@right("4.8", names="a mask over the whole capacity")
def attention_masked(query, key, value, keys, values, position):
    keys.index_copy_(2, torch.tensor([position]), key.unsqueeze(2))
    values.index_copy_(2, torch.tensor([position]), value.unsqueeze(2))
    scores = (query[:, :, None] @ keys.transpose(2, 3)) / math.sqrt(query.shape[-1])
    scores = scores.masked_fill(torch.arange(keys.shape[2]) > position, -math.inf)
    return (scores.softmax(-1) @ values).squeeze(2)


# --- 4.9 speculative acceptance -----------------------------------------------------------------------------------


def _acceptance(drafted, draft, target, chance, slip=""):
    kept, rejected, extra = 0, None, 0
    for i, token in enumerate(drafted.tolist()):
        p, q = float(target[i, token]), float(draft[i, token])
        keep = {
            "ratio inverted": chance[i] < q / max(p, 1e-12),
            "only where p is larger": p >= q,
            "target alone": chance[i] < p,
            "never": False,
            "always": True,
            "up to and with": chance[i] <= p / q,
            "greedily": int(target[i].argmax()) == token,
            "the other end": chance[i] >= 1 - p / q,
            "the last one unchecked": chance[i] < p / q or i == len(drafted) - 1,
            "one chance for all": chance[0] < p / q,
        }.get(slip, chance[i] < p / q)
        if keep:
            kept += 1
        elif slip == "goes on":
            rejected = i if rejected is None else rejected
        else:
            rejected = i
            break
    if rejected is None:
        extra = slip == "bonus counted"
        row = {"the row before": target[-2], "the draft's last": draft[-1]}.get(slip, target[-1])
        return kept + extra, row
    i = 0 if slip == "the first row" else rejected
    difference = target[i] - draft[i]
    residual = difference.clamp(min=0)
    absolute, turned = difference.abs(), (-difference).clamp(min=0)
    without = target[i].clone()
    without[drafted[i]] = 0
    row = {
        "residual not renormalised": residual,
        "the target itself": target[i],
        "absolute difference": absolute / absolute.sum(),
        "negative kept": difference,
        "turned round": turned / turned.sum(),
        "softmax of it": residual.softmax(-1),
        "the draft again": draft[i],
        "without the token": without / without.sum(),
    }.get(slip, residual / residual.sum())
    return kept, row


for _slip, _reason in {
    "ratio inverted": r"the ratio is p / q",
    "only where p is larger": "kept sometimes",
    "target alone": "divide by q",
    "never": "tokens are kept while",
    "always": "every token was kept",
    "greedily": "what the target would say greedily",
    "the other end": "upper end of the chances",
    "the last one unchecked": "kept unchecked",
    "one chance for all": "its own chance",
    "up to and with": "never kept",
    "goes on": "ends the round",
    "bonus counted": "not a kept one",
    "the row before": r"target\[γ\]",
    "the draft's last": "never drawn from the draft|after the last",
    "the first row": "at the place of the rejection",
    "residual not renormalised": "divided by its sum",
    "the target itself": "renormalised",
    "absolute difference": "not positive",
    "negative kept": "must become 0",
    "turned round": "not q - p",
    "softmax of it": "changes its proportions",
    "the draft again": "never drawn from the draft",
    "without the token": "another distribution",
}.items():
    wrong("4.9", names=_slip, reason=_reason, parts={"accept_drafted": functools.partial(_acceptance, slip=_slip)})


@wrong("4.9", names="a tensor of the count", reason=r"a whole number")
def acceptance_tensor(drafted, draft, target, chance):
    kept, row = _acceptance(drafted, draft, target, chance)
    return torch.tensor(kept), row


@wrong("4.9", names="the count alone", reason=r"return how many")
def acceptance_count(drafted, draft, target, chance):
    return _acceptance(drafted, draft, target, chance)[0]


@wrong("4.9", names="the drafted tokens too", reason=r"number of results")
def acceptance_three(drafted, draft, target, chance):
    return (*_acceptance(drafted, draft, target, chance), drafted)


@wrong("4.9", names="a drawn token", reason=r"distribution: its (type|shape)")
def acceptance_drawn(drafted, draft, target, chance):
    kept, row = _acceptance(drafted, draft, target, chance)
    return kept, torch.multinomial(row, 1)


@right("4.9", names="a vector, with padding of the draft")
def acceptance_vector(drafted, draft, target, chance):
    ratio = target[:-1].gather(1, drafted[:, None])[:, 0] / draft.gather(1, drafted[:, None])[:, 0]
    kept = int((chance < ratio).long().cumprod(0).sum())
    padded = torch.cat([draft, torch.zeros_like(draft[:1])])  # nothing is subtracted when all are kept
    residual = torch.relu(target[kept] - padded[kept])
    return kept, (residual / residual.sum()).float()


# --- 4.11 decode speed --------------------------------------------------------------------------------------------


def _decode_speed(parameters, weight_bits, cache_bytes, batch, bandwidth, peak_flops, slip=""):
    if slip != "any batch" and batch < 1:
        raise ValueError("batch must be at least 1")
    batch = max(batch, 1)
    weights = parameters * weight_bits / (1 if slip == "bits as bytes" else 8)
    if slip == "weights for each":
        weights *= batch
    caches = {"one cache": cache_bytes, "no cache": 0}.get(slip, batch * cache_bytes)
    reading = (weights + caches) / bandwidth
    operations = {"one operation": parameters * batch, "batch not computed": 2 * parameters}
    computing = operations.get(slip, 2 * parameters * batch) / peak_flops
    both = {"sum": reading + computing, "memory only": reading, "the faster": min(reading, computing)}
    seconds = both.get(slip, max(reading, computing))
    if slip == "seconds":
        return seconds / batch
    if slip == "a tensor":
        return torch.tensor(batch / seconds)
    return (1 if slip == "one sequence" else batch) / seconds


for _slip, _reason in {
    "any batch": "batch of 0 is refused",
    "bits as bytes": "8 of them are a byte",
    "weights for each": "once for the whole batch",
    "one cache": "its own cache|caches",
    "no cache": "caches are read",
    "one operation": "two operations",
    "batch not computed": "each sequence is computed|slower of the two",
    "sum": "not their sum",
    "memory only": "slower of the two|each sequence",
    "the faster": "slower of the two",
    "seconds": "turn it round",
    "a tensor": "its type",
    "one sequence": "one sequence",
}.items():
    wrong("4.11", names=_slip, reason=_reason, parts={"decode_speed": functools.partial(_decode_speed, slip=_slip)})


@wrong("4.11", names="only a batch of 0 refused", reason=r"batch of -1 is refused")
def speed_of_minus_one(parameters, weight_bits, cache_bytes, batch, bandwidth, peak_flops):
    if batch == 0:
        raise ValueError("batch")
    reading = (parameters * weight_bits / 8 + batch * cache_bytes) / bandwidth
    return batch / max(reading, 2 * parameters * batch / peak_flops)


@right("4.11", names="the smaller of two speeds")
def speed_smaller(parameters, weight_bits, cache_bytes, batch, bandwidth, peak_flops):
    if batch < 1:
        raise ValueError("batch")
    by_memory = batch * bandwidth / (parameters * weight_bits / 8 + batch * cache_bytes)
    return min(by_memory, peak_flops / (2 * parameters))
