"""The checks and hints of exercises 4.6 to 4.9 and 4.11: pruning masks, distillation, cached attention, drafts, speed.

What they do not catch: an answer that is right and slow, such as a loop over all weights.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from helpers.exercises.registry import exercise
from helpers.exercises.trial import Mistake, Trial

Answer = Callable[..., Any]
Drafts = tuple[Any, Any, Any, Any]  # drafted tokens, the draft's distributions, the target's, the chances

# ---------------------------------------------------------------------------------------------------- 4.6 pruning masks


@exercise(
    "4.6",
    title="Pruning masks, global against per layer",
    parts=("pruning_masks",),
    difficulty=2,
    minutes=15,
    asked_as="Prune half of a network's weights. Per layer or globally, and how much faster does it get?",
    hints=(
        "The smallest *magnitudes* go. The two scopes differ only in which weights stand in one ranking.",
        "A threshold fails when weights are equal: take the places of the `int(share * n)` smallest instead.",
        '`scope == "layer"` is the global ranking of a list with one weight in it: write one function, call it twice.',
        "`gone = torch.cat([w.abs().flatten() for w in weights]).argsort(stable=True)[:count]`, a mask of ones with "
        "`mask[gone] = False`, then `mask.split(…)` and `view_as`.",
    ),
)
def pruning_check(trial: Trial, pruning_masks: Answer) -> None:
    import torch

    for scope in ("global", "layer"):
        for share in (float(trial.rng.uniform(0.2, 0.4)), float(trial.rng.uniform(0.6, 0.9)), 0.0):
            weights = [_weight(trial.rng, scale) for scale in (1.0, 0.3, 2.0)]
            if share == 0:
                weights[1].view(-1)[:2] = 0
            got = trial.call(pruning_masks, weights, share, scope)
            _masks_are_right(trial, got, weights, share, scope)
        equal = [torch.full((4, 5), 0.5), torch.full((10,), -0.5)]
        _masks_are_right(trial, trial.call(pruning_masks, equal, 0.3, scope), equal, 0.3, scope)
        close = [torch.from_numpy((1 + 1e-5 * trial.rng.permutation(20)).astype(np.float32))]  # one number in float16
        _masks_are_right(trial, trial.call(pruning_masks, close, 0.5, scope), close, 0.5, scope)
    for share, scope in ((1.0, "global"), (1.2, "layer"), (-0.1, "layer"), (0.5, "row")):
        trial.raises(
            ValueError,
            pruning_masks,
            [torch.ones(2, 3)],
            share,
            scope,
            what=f"share {share} with scope {scope!r} is refused",
            otherwise='share is from 0 to below 1, scope is "global" or "layer"',
        )


def _weight(rng: np.random.Generator, scale: float) -> Any:
    import torch

    shape = tuple(int(n) for n in rng.integers(3, 8, int(rng.integers(2, 4))))
    return torch.from_numpy(rng.normal(0, scale, shape).astype(np.float32))


def _masks_are_right(trial: Trial, got: Any, weights: list[Any], share: float, scope: str) -> None:
    trial.is_type(got, (list, tuple), what="the masks", otherwise="one mask for each weight, in a list")
    trial.equal(len(got), len(weights), what="the number of masks", otherwise="one mask for each weight")
    for number, weight in enumerate(weights):
        trial.is_tensor(
            got[number],
            tuple(weight.shape),
            "bool",
            what=f"mask {number}",
            otherwise="a mask has its weight's shape and holds True (stays) and False (goes)",
        )
    together = np.concatenate([mask.numpy().ravel() for mask in got])
    count = {
        "global": int(share * len(together)),
        "layer": sum(int(share * weight.numel()) for weight in weights),
    }[scope]
    right = _keeps(weights, share, scope)
    trial.equal(
        int((~together).sum()),
        count,
        what=f"how many weights go ({scope})",
        mistakes=[
            Mistake(len(together) - count, "False is for what goes: `share` goes, the rest stays"),
            Mistake(
                count + sum(int((weight == 0).sum()) for weight in weights),
                "exact zeros went besides: with share 0 nothing goes, a zero is a weight like the others",
            ),
            Mistake(0, "nothing goes, or equal weights all stay: take exactly int(share * n)"),
            Mistake(len(together), "equal weights all go: a threshold cannot tell them apart, take the first of them"),
        ],
        otherwise="exactly int(share * n) of the n weights of one ranking, also when weights are equal",
    )
    trial.equal(
        together,
        right,
        what=f"which weights stay ({scope})",
        mistakes=[
            Mistake(_keeps(weights, share, {"global": "layer", "layer": "global"}[scope]), "this is the other scope"),
            Mistake(_keeps(weights, share, scope, signed=True), "rank by magnitude: a large negative weight matters"),
            Mistake(
                _keeps([weight.half() for weight in weights], share, scope),
                "in float16 magnitudes that differ become equal: rank them as they are",
            ),
            Mistake(_keeps(weights, share, scope, largest=True), "the largest went: the smallest have to go"),
        ],
        otherwise="the smallest magnitudes of each ranking go; of equal ones the first",
    )


def _keeps(weights: list[Any], share: float, scope: str, signed: bool = False, largest: bool = False) -> Any:
    """All masks in one flat array."""
    flat = [weight.numpy().ravel() for weight in weights]
    masks = []
    for some in [np.concatenate(flat)] if scope == "global" else flat:
        size = some if signed else np.abs(some)
        mask = np.ones(len(some), bool)
        mask[np.argsort(-size if largest else size, kind="stable")[: int(share * len(some))]] = False
        masks.append(mask)
    return np.concatenate(masks)


# ----------------------------------------------------------------------------------------------------- 4.7 distillation


@exercise(
    "4.7",
    title="The distillation loss",
    parts=("distillation_loss",),
    difficulty=3,
    minutes=15,
    asked_as="Write the distillation loss. Why is there a T², and whose gradient must not flow?",
    hints=(
        "Two parts: how far the student's softened answer is from the teacher's, and the usual cross-entropy at T = 1.",
        "KL(p ‖ q) = Σ p (log p - log q) with p the teacher. Sum over the classes, mean over the batch.",
        "The gradient of the soft part goes with 1/T²: multiply it by T². The teacher's logits are detached.",
        '`F.kl_div(F.log_softmax(student / T, -1), F.log_softmax(teacher.detach() / T, -1), reduction="batchmean", '
        "log_target=True)`: note the order and the reduction.",
    ),
)
def distillation_check(trial: Trial, distillation_loss: Answer) -> None:
    import torch

    for temperature in (2.0, float(trial.rng.uniform(3, 6)), 1.0):
        for weight in (1.0, 0.0, float(trial.rng.uniform(0.2, 0.4))):
            n, classes = (int(k) for k in trial.rng.integers(5, 9, 2))
            student, teacher = (torch.from_numpy(trial.rng.normal(0, 3, (n, classes))) for _ in range(2))
            targets = torch.from_numpy(trial.rng.integers(0, classes, n))
            got = trial.call(distillation_loss, student, teacher, targets, temperature, weight)
            trial.is_tensor(
                got,
                (),
                "float64",
                what="the loss",
                otherwise="one number, the mean over the batch, of the logits' dtype",
            )
            given = (student.numpy(), teacher.numpy(), targets.numpy(), temperature, weight)
            trial.close(
                got,
                _distilled(*given),
                what=f"the loss (temperature {temperature:.3g}, weight {weight:.3g})",
                mistakes=[Mistake(_distilled(*given, slip=slip), text) for slip, text in DISTILLATION_SLIPS.items()],
                otherwise="weight · T² · KL(teacher ‖ student) at temperature T + (1 - weight) · cross-entropy at 1",
                rtol=1e-5,
            )
    far = torch.tensor([[0.0, 2000.0, -2000.0]], dtype=torch.float32)
    near = torch.tensor([[1.0, 0.0, 3.0]], dtype=torch.float32)
    for student, teacher, whose in ((near, far, "teacher"), (far, near, "student")):
        got = trial.call(distillation_loss, student, teacher, torch.tensor([0]), 2.0, 0.5)
        trial.close(
            got,
            _distilled(student.double().numpy(), teacher.double().numpy(), np.array([0]), 2.0, 0.5),
            what=f"the loss for a {whose} with large logits",
            otherwise="log of a probability that was rounded to 0 is infinite, exp of a large logit as well, and an "
            "epsilon gives another number: use log_softmax, not log of softmax",
            rtol=1e-4,
        )
    _gradients_are_right(trial, distillation_loss)


DISTILLATION_SLIPS = {
    "T": "the soft part is multiplied by T²: its gradient has a factor 1/T from the inner derivative and one more "
    "because softened distributions lie close together",
    "no T": "the factor T² is missing: the soft part's gradient shrinks with 1/T²",
    "reversed": "KL(student ‖ teacher): the expectation is taken under the teacher's distribution",
    "all elements": "this is the mean over all elements: sum over the classes, mean over the batch "
    '(reduction="batchmean")',
    "batch sum": "this is the sum over the batch: take the mean",
    "teacher at 1": "the teacher's logits are divided by T as well",
    "student at 1": "the student's logits are divided by T as well",
    "hard softened": "the cross-entropy with the labels is at temperature 1",
    "swapped": "the two weights are swapped: `weight` belongs to the soft part",
    "cross-entropy": "this is the cross-entropy with the teacher, not the KL: the teacher's entropy is missing. "
    "The gradient is the same, the value is not 0 for a perfect student",
    "hard scaled": "T² multiplies the soft part alone",
    "no hard": "the cross-entropy with the labels is missing",
}


def _distilled(student: Any, teacher: Any, y: Any, temperature: float, weight: float, slip: str = "") -> float:
    def log_softmax(z: Any) -> Any:
        z = z - z.max(1, keepdims=True)
        return z - np.log(np.exp(z).sum(1, keepdims=True))

    log_q = log_softmax(student / (1 if slip == "student at 1" else temperature))
    log_p = log_softmax(teacher / (1 if slip == "teacher at 1" else temperature))
    if slip == "reversed":
        log_p, log_q = log_q, log_p
    each = np.exp(log_p) * ((0 if slip == "cross-entropy" else log_p) - log_q)
    soft = {"all elements": each.mean(), "batch sum": each.sum()}.get(slip, each.sum(1).mean())
    logits = student / temperature if slip == "hard softened" else student
    hard = 0.0 if slip == "no hard" else -log_softmax(logits)[np.arange(len(y)), y].mean()
    factor = {"T": temperature, "no T": 1.0}.get(slip, temperature**2)
    if slip == "swapped":
        weight = 1 - weight
    return float(weight * factor * soft + (1 - weight) * hard * (temperature**2 if slip == "hard scaled" else 1))


def _gradients_are_right(trial: Trial, distillation_loss: Answer) -> None:
    import torch

    targets = torch.from_numpy(trial.rng.integers(0, 4, 5))
    for temperature, weight in ((2.0, 0.5), (3.0, 1.0), (2.0, 0.0)):
        student, teacher = (torch.from_numpy(trial.rng.normal(0, 2, (5, 4))).requires_grad_() for _ in range(2))
        loss = distillation_loss(student, teacher, targets, temperature, weight)
        trial.input = f"logits that require gradients, temperature = {temperature}, weight = {weight}"
        if loss.requires_grad:
            loss.backward()
        trial.that(
            student.grad is not None,
            what="the loss has a gradient",
            want="a tensor that depends on the student's logits",
            got="a tensor without a gradient",
            otherwise="no .item(), .detach() or numpy on the student's way",
        )
        trial.that(
            teacher.grad is None,
            what="the teacher learns nothing",
            want="no gradient for the teacher's logits",
            got="a gradient for the teacher's logits",
            otherwise="detach the teacher's logits: otherwise the teacher is pulled towards the student",
        )
        trial.that(
            teacher.requires_grad,
            what="the teacher's logits are left as they came",
            want="a tensor that requires a gradient, as the caller made it",
            got="requires_grad is False",
            otherwise="requires_grad_(False) and detach_() change the caller's tensor: `teacher.detach()` is a new one",
        )
        p, q, q1 = (logits.detach().softmax(-1) for logits in (teacher / temperature, student / temperature, student))
        labels = torch.nn.functional.one_hot(targets, 4)
        soft, hard = weight * temperature * (q - p) / 5, (1 - weight) * (q1 - labels) / 5
        trial.close(
            student.grad,
            soft + hard,
            what="the gradient of the student's logits",
            mistakes=[
                Mistake(hard, "nothing flows through the soft part: no no_grad() or .detach() on the student's way"),
                Mistake(soft, "nothing flows through the cross-entropy with the labels: do not detach the student"),
                Mistake(
                    soft - weight * temperature * q / 5 + hard,
                    "the normaliser (log-sum-exp) of the soft part depends on the student's logits: do not detach it",
                ),
                Mistake(
                    soft + hard - (1 - weight) * q1 / 5,
                    "the normaliser (log-sum-exp) of the cross-entropy depends on the logits: do not detach it",
                ),
                Mistake(
                    -weight * temperature * p / 5 - (1 - weight) * labels / 5,
                    "the normalisers (log-sum-exp) depend on the student's logits: do not detach them",
                ),
            ],
            otherwise="weight · T · (softmax(s / T) - softmax(t / T)) + (1 - weight) · (softmax(s) - one-hot), over n: "
            "the value is right, so something on the student's way was detached",
            rtol=1e-5,
        )


# -------------------------------------------------------------------------------------- 4.8 attention with a KV cache


@exercise(
    "4.8",
    title="One attention step with a key-value cache",
    parts=("attention_step",),
    difficulty=3,
    minutes=20,
    asked_as="Write one decoding step of attention with a KV cache. What is stored, where, and what may it look at?",
    hints=(
        "Write first, then look: the new token attends to itself as well.",
        "The cache has room for `capacity` tokens and holds `position` of them. What stands behind is not zero: it may "
        "be left from an earlier text.",
        "`keys[:, :, position] = key` writes in place. Then use `keys[:, :, : position + 1]`.",
        "`scores = torch.einsum('bhd,bhtd->bht', query, seen) / d**0.5`, softmax over t, and the weighted sum of the "
        "values.",
    ),
)
def cache_check(trial: Trial, attention_step: Answer) -> None:
    import torch

    for case in range(4):
        batch, heads, width = (int(n) for n in trial.rng.integers(2, 5, 3))
        capacity = int(trial.rng.integers(5, 9))
        position = (int(trial.rng.integers(2, capacity - 1)), 0, capacity - 1, 1)[case]
        scale = 1.0 if case else 30.0

        def random(*shape: int, scale: float = 1.0) -> Any:
            return torch.from_numpy(trial.rng.normal(0, scale, shape).astype(np.float32))

        query, key, value = (random(batch, heads, width, scale=s) for s in (scale, scale, 1.0))
        before = random(batch, heads, capacity, width), random(batch, heads, capacity, width)
        answer = _on_a_cache(attention_step, *before)
        with trial.forbid(
            "torch.nn.functional.scaled_dot_product_attention",
            "torch._C._nn.scaled_dot_product_attention",
            "torch.nn.functional.multi_head_attention_forward",
            why="the attention is what is asked: write out the scores, the softmax and the sum",
        ):
            got, keys, values = trial.call(answer, query, key, value, position)
        trial.input = f"{trial.input}; the cache holds {position} of {capacity} tokens"
        for name, cache, new, old in (("keys", keys, key, before[0]), ("values", values, value, before[1])):
            want = old.clone()
            want[:, :, position] = new
            trial.close(
                cache,
                want,
                what=f"the cache of {name} afterwards",
                mistakes=_cache_mistakes(old, new, value if name == "keys" else key, position),
                otherwise=f"the new {name[:-1]} stands at `position`, everything else is as it was",
            )
        trial.is_tensor(got, (batch, heads, width), "float32", what="the output", otherwise="one vector for each head")
        trial.close(
            got,
            _attended(query, key, value, *before, position),
            what="the output",
            mistakes=[
                Mistake(_attended(query, key, value, *before, position, slip=slip), text)
                for slip, text in ATTENTION_SLIPS.items()
            ],
            otherwise="softmax(q · k / √d) over the tokens 0 … position, times their values",
            rtol=1e-4,
            atol=1e-5,
        )


ATTENTION_SLIPS = {
    "whole": "it looks at the whole capacity: what stands behind `position` is from another text",
    "without itself": "the new token looks at itself as well: take `position + 1` tokens",
    "unscaled": "the scores are divided by √d",
    "by d": "the scores are divided by √d, not by d",
    "mean": "all tokens get the same weight here: where is the softmax of the scores?",
    "heads": "the softmax goes over the tokens, not over the heads",
    "overflow": "exp of a large score is infinite: subtract the maximum, or use torch.softmax",
}


def _on_a_cache(answer: Answer, keys: Any, values: Any) -> Answer:
    """The answer on copies of a cache, which it changes; the call gives them back behind its result."""

    @functools.wraps(answer)
    def call(query: Any, key: Any, value: Any, position: int) -> Any:
        own = keys.clone(), values.clone()
        return (answer(query, key, value, *own, position), *own)

    names = ("query", "key", "value", "position")
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    call.__dict__["__signature__"] = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    return call


def _attended(query: Any, key: Any, value: Any, keys: Any, values: Any, position: int, slip: str = "") -> Any:
    import torch

    keys, values = keys.clone(), values.clone()
    keys[:, :, position], values[:, :, position] = key, value
    end = {"whole": keys.shape[2], "without itself": position}.get(slip, position + 1)
    keys, values = keys[:, :, :end], values[:, :, :end]
    if not slip:
        function = torch.nn.functional.scaled_dot_product_attention
        return function(query[:, :, None], keys, values)[:, :, 0]
    width = query.shape[-1]
    scores = (keys @ query[..., None])[..., 0] / {"unscaled": 1, "by d": width}.get(slip, width**0.5)
    weights = scores.softmax(1 if slip == "heads" else -1)
    if slip == "mean":
        weights = torch.full_like(scores, 1 / max(end, 1))
    if slip == "overflow":
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return (weights[..., None] * values).sum(2)


def _cache_mistakes(old: Any, new: Any, other: Any, position: int) -> list[Mistake]:
    def written(place: int, what: Any) -> Any:
        cache = old.clone()
        cache[:, :, place] = what
        return cache

    places = {
        position + 1: "it is written one place too late: the first token stands at position 0",
        position - 1: "it is written one place too early, over a token that is still needed",
        0: "it is written at 0: each token has its own place",
        -1: "it is written at the end of the capacity: the next free place is `position`",
    }
    found = [Mistake(written(p, new), text) for p, text in places.items() if -1 <= p < old.shape[2] and p != position]
    everywhere = old.clone()
    everywhere[:] = new[:, :, None]
    return [
        Mistake(written(position, other), "keys and values are mixed up"),
        Mistake(old, "nothing was written into the cache: torch.cat makes a new tensor, assign in place"),
        Mistake(everywhere, "the whole cache was overwritten"),
        *found,
    ]


# ------------------------------------------------------------------------------------------ 4.9 speculative acceptance


@exercise(
    "4.9",
    title="Speculative acceptance",
    parts=("accept_drafted",),
    difficulty=4,
    minutes=25,
    asked_as="Speculative decoding: when is a drafted token kept, and why does the distribution stay the target's?",
    hints=(
        "Token i is kept with probability min(1, p/q) of that token. The first rejection ends the round.",
        "`chance[i] < p / q` keeps it: when p ≥ q it always does. Count until the first that fails.",
        "After a rejection at i the next token comes from max(target[i] - draft[i], 0), divided by its sum.",
        "When all γ were kept, target[γ] gives one token more: return γ and that row.",
    ),
)
def acceptance_check(trial: Trial, accept_drafted: Answer) -> None:
    import torch

    tried: list[tuple[Drafts, Any, Any]] = []
    for case in range(14):
        given = _drafts(trial.rng, case)
        got = trial.call(accept_drafted, *given)
        trial.is_type(got, tuple, what="the result", otherwise="return how many are kept, and the distribution")
        trial.equal(len(got), 2, what="the number of results", otherwise="return kept, distribution")
        trial.is_type(got[0], int, what="how many are kept", otherwise="a whole number, not a tensor")
        tried.append((given, got, trial.input))
    for given, got, trial.input in tried:
        trial.equal(
            got[0],
            _accepted(*given)[0],
            what="how many drafted tokens are kept",
            mistakes=_count_mistakes(given, tried),
            otherwise="count the tokens before the first with chance ≥ p / q",
        )
    for given, got, trial.input in tried:
        kept, following = _accepted(*given)
        trial.is_tensor(
            got[1], tuple(following.shape), what="the distribution", otherwise="one row over the vocabulary"
        )
        trial.close(
            got[1].double(),
            following,
            what="the distribution of the next token, "
            + ("all kept" if kept == len(given[0]) else "after a rejection"),
            mistakes=[Mistake(_accepted(*given, slip=slip)[1], text) for slip, text in RESIDUAL_SLIPS.items()],
            otherwise="max(p - q, 0) divided by its sum after a rejection; the last target row when all were kept",
            rtol=1e-5,
            atol=1e-7,
        )
    never = torch.tensor([0]), torch.tensor([[0.5, 0.5]]), torch.tensor([[0.0, 1.0], [0.5, 0.5]]), torch.zeros(1)
    trial.equal(
        trial.call(accept_drafted, *never)[0],
        0,
        what="a token that the target never says is never kept",
        otherwise="chance is at least 0 and below 1: keep with `<`, not with `<=`",
    )


def _count_mistakes(given: Drafts, tried: list[tuple[Drafts, Any, Any]]) -> list[Mistake]:
    """The slips that explain every case: one small number is soon explained by another one's slip."""
    return [
        Mistake(_accepted(*given, slip=slip)[0], text)
        for slip, text in COUNT_SLIPS.items()
        if all(got[0] == _accepted(*other, slip=slip)[0] for other, got, _ in tried)
    ]


COUNT_SLIPS = {
    "inverted": "the ratio is p / q: the target's probability over the draft's",
    "later ones": "the first rejection ends the round: what was drafted behind it followed a token that is not there",
    "no chance": "a token with p < q is kept sometimes, with probability p / q: that is what `chance` is for",
    "target only": "keeping with probability p alone gives another distribution: divide by q",
    "nothing": "tokens are kept while chance < p / q",
    "bonus": "the extra token is not a kept one: at most γ are kept",
    "everything": "every token was kept: which one fails chance < p / q?",
    "greedy": "this keeps what the target would say greedily: for draws a token is kept while chance < p / q",
    "other end": "this keeps the upper end of the chances, chance ≥ 1 - p / q: as likely, but asked is chance < p / q",
    "last unchecked": "the last drafted token is kept unchecked: it has a chance like the others",
    "one chance": "each token has its own chance, chance[i]; here the first one's decides for all",
}
RESIDUAL_SLIPS = {
    "not renormalised": "the residual is a distribution only after it was divided by its sum",
    "target": "after a rejection the target itself is not right: what the draft proposes too often was rejected, so "
    "take max(p - q, 0), renormalised",
    "absolute": "negative differences become 0, not positive",
    "negative": "negative differences must become 0 before the division",
    "reversed": "the residual is p - q, not q - p",
    "softmax": "the residual is divided by its sum; a softmax changes its proportions",
    "draft": "the next token is never drawn from the draft",
    "row before": "when all γ are kept the next token comes from target[γ], the row after the last drafted token",
    "without token": "taking the rejected token out and renormalising is another distribution",
    "first row": "the residual is taken at the place of the rejection",
}


def _drafts(rng: np.random.Generator, case: int) -> Drafts:
    """Drafted tokens, both distributions and the chances: every second case keeps all."""
    import torch

    if case == 0:
        return _telling_drafts(rng)
    count, vocabulary = int(rng.integers(1, 5)) + (case > 1), int(rng.integers(3, 7))
    draft = rng.dirichlet(np.ones(vocabulary), count)
    target = rng.dirichlet(np.ones(vocabulary), count + 1)
    drafted = np.array([rng.choice(vocabulary, p=row) for row in draft])
    ratio = target[np.arange(count), drafted] / draft[np.arange(count), drafted]
    chance = rng.uniform(0, np.minimum(1, ratio)) * 0.999
    if case % 2 == 0:
        # one token in the middle is rejected, those behind it would be kept
        place = count // 2
        other = int(np.argmin(target[place] / draft[place]))
        drafted[place] = other
        chance[place] = rng.uniform(target[place, other] / draft[place, other], 1)
    return tuple(map(torch.from_numpy, (drafted, draft, target, chance)))  # type: ignore[return-value]


def _telling_drafts(rng: np.random.Generator) -> Drafts:
    """Six tokens of which four are kept; each usual mistake of counting gives another number."""
    import torch

    p = np.array([0.6, 0.4, 0.3, 0.6, 0.1, 0.5])
    q = np.array([0.5, 0.3, 0.4, 0.3, 0.5, 0.4])
    chance = np.array([0.5, 0.6, 0.2, 0.7, 0.5, 0.3]) * rng.uniform(0.95, 1.05)
    drafted = rng.integers(0, 5, 6)
    rows = []
    for given in (p, q):
        other = rng.dirichlet(np.ones(5), 7)
        other[np.arange(6), drafted] = 0
        other[:6] *= (1 - given)[:, None] / other[:6].sum(1, keepdims=True)
        other[np.arange(6), drafted] = given
        rows.append(other)
    return tuple(map(torch.from_numpy, (drafted, rows[1][:6], rows[0], chance)))  # type: ignore[return-value]


def _accepted(drafted: Any, draft: Any, target: Any, chance: Any, slip: str = "") -> tuple[int, Any]:
    drafted, draft, target, chance = (tensor.numpy() for tensor in (drafted, draft, target, chance))
    count = len(drafted)
    p, q = target[np.arange(count), drafted], draft[np.arange(count), drafted]
    keeps = {
        "inverted": chance < q / p,
        "no chance": p >= q,
        "target only": chance < p,
        "nothing": np.zeros(count, bool),
        "everything": np.ones(count, bool),
        "greedy": target[:count].argmax(1) == drafted,
        "other end": chance >= 1 - p / q,
        "last unchecked": (chance < p / q) | (np.arange(count) == count - 1),
        "one chance": chance[0] < p / q,
    }.get(slip, chance < p / q)
    kept = int(keeps.sum()) if slip == "later ones" else int(np.cumprod(keeps).sum())
    import torch

    if kept == count:
        row = {"row before": target[-2], "draft": draft[-1]}.get(slip, target[-1])
        return kept + (slip == "bonus"), torch.from_numpy(row)
    at = 0 if slip == "first row" else kept
    difference = target[at] - draft[at]
    residual = np.maximum(difference, 0)
    without = np.where(np.arange(len(difference)) == drafted[at], 0, target[at])
    row = {
        "not renormalised": residual,
        "target": target[at],
        "absolute": np.abs(difference) / np.abs(difference).sum(),
        "negative": difference,
        "reversed": np.maximum(-difference, 0) / np.maximum(-difference, 0).sum(),
        "softmax": np.exp(residual) / np.exp(residual).sum(),
        "draft": draft[at],
        "without token": without / without.sum(),
    }.get(slip, residual / residual.sum())
    return kept, torch.from_numpy(row)


# --------------------------------------------------------------------------------------- 4.11 decode speed


@exercise(
    "4.11",
    title="Decode speed from bandwidth",
    parts=("decode_speed",),
    difficulty=2,
    minutes=10,
    asked_as="How many tokens per second can a 7B model decode on this GPU, at batch 1 and at batch 64?",
    hints=(
        "A step reads all weights once, whatever the batch, and each sequence's own cache. How many bytes is that?",
        "A step also computes: two operations for each parameter and sequence. The slower of the two decides.",
        "`seconds = max(bytes / bandwidth, operations / peak_flops)`; a step makes one token for each sequence.",
        "bytes = parameters · weight_bits / 8 + batch · cache_bytes; operations = 2 · parameters · batch; "
        "the answer is batch / seconds.",
    ),
)
def speed_check(trial: Trial, decode_speed: Answer) -> None:
    from helpers.estimates import decode_tokens_per_second

    for case in range(8):
        parameters = float(trial.rng.uniform(1e9, 7e10))
        bits, batch = (16, 8, 4)[case % 3], (1, 16, 512, 8)[case % 4]
        cache = float(trial.rng.uniform(1e8, 1e9)) * (case != 2)
        bandwidth, peak = float(trial.rng.uniform(1e12, 5e12)), float(trial.rng.uniform(3e14, 1e15))
        given = (parameters, bits, cache, batch, bandwidth, peak)
        got = trial.call(decode_speed, *given)
        trial.is_type(got, (int, float), what="the speed", otherwise="tokens per second, one number")
        want = decode_tokens_per_second(
            parameters * bits / 8, bandwidth, batch, cache_bytes=cache, parameters=parameters, peak_flops=peak
        )
        trial.close(
            got,
            want,
            what=f"tokens per second of all {batch} sequences",
            mistakes=[Mistake(_speed(*given, slip=slip), text) for slip, text in SPEED_SLIPS.items()],
            otherwise="batch / max(bytes / bandwidth, operations / peak_flops)",
            rtol=1e-9,
        )
    for batch in (0, -1):
        trial.raises(
            ValueError,
            decode_speed,
            7e9,
            16,
            0.0,
            batch,
            2e12,
            3e14,
            what=f"a batch of {batch} is refused",
            otherwise="there is no step without a sequence: refuse every batch below 1 before anything else",
        )


SPEED_SLIPS = {
    "bits": "weight_bits are bits: 8 of them are a byte",
    "one sequence": "this is the speed of one sequence: the batch makes one token for each",
    "one cache": "every sequence reads its own cache",
    "no cache": "the caches are read as well",
    "weights for each": "the weights are read once for the whole batch: that is why batching pays",
    "sum": "reading and computing overlap: the slower of the two decides, not their sum",
    "memory only": "at a large batch the arithmetic decides: take the slower of the two",
    "fastest": "the slower of the two decides",
    "one operation": "a multiplication and an addition for each parameter: two operations",
    "batch not computed": "each sequence is computed: 2 · parameters · batch operations",
    "seconds": "these are seconds a token: turn it round",
}


def _speed(
    parameters: float, bits: int, cache: float, batch: int, bandwidth: float, peak: float, slip: str = ""
) -> float:
    weights = parameters * bits / (1 if slip == "bits" else 8) * (batch if slip == "weights for each" else 1)
    caches = {"one cache": cache, "no cache": 0.0}.get(slip, batch * cache)
    reading = (weights + caches) / bandwidth
    operations = {"one operation": parameters * batch, "batch not computed": 2 * parameters}
    computing = operations.get(slip, 2 * parameters * batch) / peak
    seconds = {
        "sum": reading + computing,
        "memory only": reading,
        "fastest": min(reading, computing),
    }.get(slip, max(reading, computing))
    return seconds / batch if slip == "seconds" else (1 if slip == "one sequence" else batch) / seconds
