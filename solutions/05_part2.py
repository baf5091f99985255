# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% id="imports"
import itertools
import math

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn

from helpers import datasets, models, plots
from helpers import explanation as ex
from helpers.exercises import check, hint, predict, progress, solution

# %% id="parameters" tags=["parameters"]
QUICK = True
SEED = 0

# %% [markdown] id="gradients-text"
# ## 6 · Gradients
#
# LIME and SHAP ask the model from outside. Who has its weights can ask for the derivative instead, which costs a few passes and not a thousand.
#
# - **Saliency**: $\partial s_c / \partial x$, the gradient of the logit. It says what a *small* change would do, and a network that is sure no longer reacts to small changes.
# - **Integrated gradients** (Sundararajan, Taly and Yan 2017): the mean gradient on the straight way from a baseline $x'$ ("nothing") to $x$, times the way. $\mathrm{IG}_i = (x_i - x_i')\int_0^1 \frac{\partial s_c}{\partial x_i}\big(x' + \alpha (x - x')\big)\,d\alpha$. All of them together give $s_c(x) - s_c(x')$: *completeness*.
# - **Grad-CAM** (Selvaraju et al. 2017): the maps of the last convolution, each weighted by the mean of its gradient, added up, and only what speaks *for* the class: $\mathrm{relu}\big(\sum_k \bar g_k A_k\big)$.
# - **Occlusion** needs no gradient: cover a patch, see how far the logit falls. Slow, and easy to explain to anybody.

# %% id="gradients-model"
net = models.efficientnet_lite0()
for parameter in net.parameters():
    parameter.requires_grad_(False)  # nobody trains here; gradients are taken at the inputs
seen = {name: ex.centre_crop(photo) for name, photo in datasets.photographs().items()}
probabilities = ex.predictor(net)


def decided(name: str) -> tuple[int, str, float]:
    """Number, name and probability of the class that the network names first."""
    p = probabilities(seen[name][None])[0]
    return int(p.argmax()), models.IMAGENET_LABELS[p.argmax()], float(p.max())


for name in ("coffee", "camera", "cat"):
    print("{:7} → {} ({:.2f})".format(name, *decided(name)[1:]))

# %% id="gradients-heats"
coffee, (espresso, label, _) = seen["coffee"], decided("coffee")
x = ex.to_input(coffee)
integrated = ex.integrated_gradients(net, x, espresso, steps=16)
heats = {
    "saliency, size": ex.heat(ex.saliency(net, x, espresso), absolute=True),
    "integrated gradients": ex.heat(integrated.values),
    "Grad-CAM": ex.heat(ex.grad_cam(net, x, espresso, net.head)),
    "occlusion": ex.heat(ex.occlusion(net, x, espresso, patch=48, stride=32)),
}
ex.draw_heats(coffee, heats, title=f"said to be: {label}");

# %% [markdown] id="predict-steps-text"
# **Predict before you run.** The attributions of integrated gradients have to add up to the difference of the two logits. With 16 steps from a black picture, how far off are they, as a share of that difference, for the cat? Write a number for `guess` (0.05 for 5 %).

# %% id="steps-run"
nothing = {"black": np.zeros_like(coffee), "middle grey": np.full_like(coffee, 127)}
if not QUICK:
    nothing["the picture, blurred"] = ex.blurred(seen["cat"])
counts = [4, 8, 16, 32] if QUICK else [4, 8, 16, 32, 64, 128, 256]
cat, feline = ex.to_input(seen["cat"]), decided("cat")[0]
off = {
    name: [ex.integrated_gradients(net, cat, feline, baseline=ex.to_input(picture), steps=steps).relative_error for steps in counts]
    for name, picture in nothing.items()
}

# %% id="predict-steps"
guess = None
predict("error of integrated gradients with 16 steps from black, as a share", guess=guess, measured=round(off["black"][counts.index(16)], 2))

# %% id="steps-plot"
plots.lines({f"from {name}": (counts, values) for name, values in off.items()}, title="The sum is wrong by a good part, and more steps need not help", xlabel="steps (gradients taken)", ylabel="error, share of the difference")
for name, values in off.items():
    print(f"from {name:20}: " + ", ".join(f"{steps} steps {value:.0%}" for steps, value in zip(counts, values)))

# %% [markdown] id="steps-read" tags=["solution"]
# **What to say out loud.** With 16 steps from black the attributions miss the difference by three times the difference itself, and nothing in the picture shows it. A deep network with ReLU6 is a rough function, so the midpoint rule converges slowly and by jumps. The library returns the gap when it is asked (`return_convergence_delta=True`), and I always ask; above 5 % I take more steps or say so.
# The baseline is a choice, and it is part of the explanation: *compared with what?* From black, a black object can get no attribution at all, because $x_i - x_i' = 0$.
# *Follow-up: does completeness make it right?* No. It makes the sum right. A method that puts the whole difference on one pixel is complete as well.

# %% [markdown] id="exercise-5-4-text"
# ### Exercise 5.4 · Integrated gradients, and whether they add up
#
# difficulty 3/5 · 20 min · asked as: "Explain integrated gradients. How do you know that you took enough steps?"
#
# `score` takes a batch of inputs (b, …) and returns one score each, (b,). `x` and `baseline` are single inputs, tensors of the same shape without the batch axis.
#
# - `integrated_gradients(score, x, baseline, steps)`: gradients at the *middle* of each of `steps` equal pieces of the straight way from `baseline` to `x`; their mean, times the way. A tensor of `x`'s shape and dtype. Leave the gradients of the model's own weights alone: explaining must not train.
# - `completeness_gap(score, x, baseline, attributions)`: the sum of the attributions minus the difference of the two scores, with its sign, as a Python float.

# %% id="exercise-5-4" tags=["exercise"]
def integrated_gradients(score, x: Tensor, baseline: Tensor, steps: int) -> Tensor:
    """Attributions of x's shape by the midpoint rule."""
    ### BEGIN SOLUTION
    total = torch.zeros_like(x)
    for k in range(steps):
        here = (baseline + (k + 0.5) / steps * (x - baseline)).detach().requires_grad_()
        total += torch.autograd.grad(score(here[None]).sum(), here)[0]
    return (x - baseline) * total / steps
    ### END SOLUTION


def completeness_gap(score, x: Tensor, baseline: Tensor, attributions: Tensor) -> float:
    """Sum of the attributions minus (score of x - score of the baseline)."""
    ### BEGIN SOLUTION
    with torch.no_grad():
        difference = score(x[None])[0] - score(baseline[None])[0]
    return (attributions.sum() - difference).item()
    ### END SOLUTION

# %% id="check-5-4"
check("5.4", integrated_gradients, completeness_gap)

# %% [markdown] id="aloud-5-4" tags=["solution"]
# **What to say out loud.** Three bugs are common, and each still gives a picture that looks fine: multiplying by $x$ instead of $x - x'$; taking the gradient at $x$ alone (that is gradient × input, which has saturated); and `backward()`, which adds to the gradients of all weights, so that the next `optimiser.step()` trains on an explanation.
# *Follow-up: why the middle of each piece?* The error of the midpoint rule falls with the square of the number of steps on a smooth function, that of the left ends only in proportion.

# %% [markdown] id="exercise-5-7-text"
# ### Exercise 5.7 · Grad-CAM from activations and gradients
#
# difficulty 2/5 · 12 min · asked as: "How does Grad-CAM work? Where does the ReLU belong, and why?"
#
# `activations` are the maps of a convolutional layer for one picture, (channels, h, w); `gradients` is the gradient of the class's score in them, same shape. Return the map enlarged to `size` = (height, width), bilinear with `align_corners=False`: a tensor of that shape, in the dtype of the maps. It is not scaled to 0 … 1; when nothing speaks for the class it is zero everywhere.

# %% id="exercise-5-7" tags=["exercise"]
def grad_cam(activations: Tensor, gradients: Tensor, size: tuple[int, int]) -> Tensor:
    """Heat map (height, width), nowhere below 0."""
    ### BEGIN SOLUTION
    weights = gradients.mean((1, 2))
    coarse = torch.einsum("c,chw->hw", weights, activations).relu()
    return F.interpolate(coarse[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    ### END SOLUTION

# %% id="check-5-7"
check("5.7", grad_cam)

# %% [markdown] id="aloud-5-7" tags=["solution"]
# **What to say out loud.** Mean gradient per channel, weighted sum, ReLU, enlarge: in this order. The ReLU stands on the sum because a place can be covered by channels for and against the class, and their balance is what counts. For a network that ends in global average pooling and one linear layer, as this one does, Grad-CAM on the last maps *is* the older CAM (Zhou et al. 2016): the gradient is the class's weight divided by the number of places.
# *Follow-up: why is it so smooth?* It has 7 × 7 numbers. The smoothness is interpolation; do not read an outline into it.

# %% [markdown] id="attention-text"
# ## 7 · Attention: what it explains and what it does not
#
# "The model looked here" is the explanation that everybody wants from a language model. To judge it one needs a task whose solution is known. Here: random tokens that repeat after 6 to 12 places. The next token can be foretold in one way only: find the current token's first occurrence, copy what followed it. A GPT of two layers learns that within seconds, with two kinds of heads (*induction*, Olsson et al. 2022): heads that look at the previous token, and heads that look at the place *after* the same token.

# %% id="induction-train" tags=["nbval-ignore-output"]
induction = ex.train_induction(seed=SEED, progress=False)
PERIOD = 10
tokens = induction.sequences(64, period=PERIOD, seed=5)
maps = ex.attention_maps(induction.model, tokens)
previous, copying = ex.head_scores(maps, PERIOD)
print(f"{induction.accuracy:.1%} of what can be copied is copied, after {induction.steps} steps; maps {tuple(maps.shape)}: layer, sequence, head, from, to")

# %% id="induction-plot"
titles = ["Layer 1: first to the token before", "Layer 2: to what followed last time", "Rollout keeps both"]
best = [int(previous[0].argmax()), int(copying[1].argmax())]
shown = [maps[0, 0, best[0]], maps[1, 0, best[1]], ex.rollout(maps)[0]]
for axis, matrix, title in zip(plots.panels(titles, width=3.9, height=3.6), shown, titles):
    ex.draw_matrix(matrix.numpy(), ax=axis, xlabel="position looked at", ylabel="position that looks")
    axis.axhline(PERIOD - 0.5, color="#333333", linestyle="--", linewidth=1)  # the first repeated token

# %% [markdown] id="predict-head-text"
# **Predict before you run.** Every head of layer 2 puts more than 90 % of its attention on the one token that has to be copied. How much does the loss rise, in nats a token, when *one* of these four heads is switched off (its output replaced by its mean)? Write a number for `guess`; a network that knows nothing has a loss of $\ln 32 \approx 3.5$.

# %% id="head-run"
alone = ex.head_ablation(induction.model, tokens, PERIOD)
together = [ex.group_ablation(induction.model, tokens, PERIOD, [(layer, head) for head in range(4)]) for layer in (0, 1)]

# %% id="predict-head" tags=["nbval-ignore-output"]
guess = None
predict("rise of the loss without the best copying head, nats", guess=guess, measured=round(float(alone[1, best[1]]), 2))

# %% id="head-plot"
axes = plots.panels(["Layer 2 looks at the right place …", "… and no single head is needed"], height=3.4)
names = [f"layer {layer + 1}, head {head + 1}" for layer, head in np.ndindex(alone.shape)]
plots.bars(dict(zip(names, np.maximum(previous, copying).ravel())), xlabel="attention on its target, share", ax=axes[0])
rises = dict(zip(names, alone.ravel())) | {"all of layer 1": together[0], "all of layer 2": together[1]}
plots.bars(rises, xlabel="rise of the loss when off, nats a token", highlight=["all of layer 1", "all of layer 2"], ax=axes[1]);

# %% [markdown] id="head-read" tags=["solution"]
# **What to say out loud.** Attention and importance are two things. Each copying head looks at the right place with more than nine tenths of its weight, and can be switched off at hardly any cost, because the other three do the same. All four together are worth everything. So "this head is not needed" from ablation, and "this head attends there" from the map, are both true and both incomplete: I ablate heads alone *and* in groups.
# *Follow-up: why the mean and not zero?* Zero is an input that the next layer has never met; part of the damage would be the shock and not the missing information.

# %% [markdown] id="source-text"
# Now one prediction. At the position below, the next token is foretold. The judge is the input itself: replace one earlier token by a random other one, ask the model again, and see how far the probability of the right token falls.

# %% id="source-run"
position = PERIOD + 4
falls = ex.loss_by_source(induction.model, tokens, position, induction.vocabulary)
last = maps[-1][:, :, position, : position + 1].mean(1).numpy()
flow = ex.rollout_to(maps, position)
places = {"the same token, earlier": position - PERIOD, "what followed it": position - PERIOD + 1, "the current token": position}
ranks = pd.DataFrame({"replacing it (the judge)": ex.source_ranks(falls, places.values()), "attention, last layer": ex.source_ranks(last, places.values()), "rollout": ex.source_ranks(flow, places.values())})
ranks.index = list(places)

# %% id="source-plot" tags=["nbval-ignore-output"]
axes = plots.panels(["Three tokens decide …", "… the last layer shows one, rollout all three"], height=3.0, width=5.0)
plots.lines({"replaced": (range(position + 1), falls.mean(0))}, xlabel="position of the token", ylabel="fall of log-probability, nats", ax=axes[0])
plots.lines({"attention, last layer": (range(position + 1), last.mean(0)), "rollout": (range(position + 1), flow.mean(0))}, xlabel="position of the token", ylabel="share", ax=axes[1])
print(f"mean rank among {position + 1} tokens (1: the most)")
ranks.round(1)

# %% [markdown] id="source-read" tags=["solution"]
# **What to say out loud.** Three tokens decide this prediction: the one that is copied, the earlier occurrence that marked the place, and the current token that asked. The last layer's attention shows the first of them only: it says *what* is copied and is silent about *why there*; the current token, which costs more than seven nats when it is replaced, has nearly no attention and one of the lowest ranks. Rollout follows the path through layer 1 and finds all three.
# Rollout assumes that values are passed on as they are and that the residual path carries half. Here that is near enough; in a deep model with strong perceptrons it is a story. The check by replacement needs no such assumption, and it is cheap: one forward pass a token.
# *Follow-up: "attention is not explanation", true or false?* Jain and Wallace (2019) changed attention weights without changing the answer; Wiegreffe and Pinter (2019) showed that this does not settle it. What settles it in a given case is an intervention, as above.
# *Follow-up: my library returns no attention.* Fused kernels (SDPA, FlashAttention) never hold the matrix; Hugging Face's default then returns an empty tuple without an error. Ask for `attn_implementation="eager"`, or compute it again from queries and keys, as `attention_maps` does.

# %% [markdown] id="exercise-5-6-text"
# ### Exercise 5.6 · Attention rollout
#
# difficulty 2/5 · 12 min · asked as: "Can you use attention weights as an explanation? What is rollout, and what does it assume?"
#
# `maps` are the attention weights of one sequence, (layers, heads, t, t); row i of each matrix says where position i looks, and sums to 1. Return the rollout (t, t) in the dtype of the maps: average the heads, let the residual path carry half of each layer, and multiply the layers so that row i says from which *inputs* position i of the *last* layer is made.

# %% id="exercise-5-6" tags=["exercise"]
def attention_rollout(maps: Tensor) -> Tensor:
    """(layers, heads, t, t) -> (t, t), rows sum to 1."""
    ### BEGIN SOLUTION
    mixed = 0.5 * maps.mean(1) + 0.5 * torch.eye(maps.shape[-1], dtype=maps.dtype)
    product = mixed[0]
    for layer in mixed[1:]:
        product = layer @ product
    return product
    ### END SOLUTION

# %% id="check-5-6"
check("5.6", attention_rollout)

# %% [markdown] id="aloud-5-6" tags=["solution"]
# **What to say out loud.** The order of the product is the trap: rows sum to 1 in either order, and with a causal mask both results are lower triangular. A test needs two layers that differ.
# *Follow-up: why the identity?* Without it, what a position knows about itself is lost in every layer, and after a few layers everything points to the first token.

# %% [markdown] id="trust-text"
# ## 8 · Can it be believed?
#
# A heat map always looks like something. Five questions, each with a number, asked of every method **and of three maps that never saw the model**: random blobs, the picture's edges, and the distance to its centre.
#
# | question | measure |
# |---|---|
# | *faithful?* | replace the hottest pixels first and see how soon the class is lost (**deletion**, lower is better); put them into a blurred picture and see how soon it appears (**insertion**, higher is better) (RISE: Petsiuk et al. 2018) |
# | *stable?* | Spearman's rank correlation of the map over **seeds**, and with that of the same picture under invisible noise (**jitter**) |
# | *about the model?* | permute the weights; a map that stays is not about what was learned (**sanity**: Adebayo et al. 2018) |
# | *do they agree?* | rank correlation between methods |
# | *what does it cost?* | **pictures** through the model for one explanation |

# %% id="trust-methods"
STEPS, PIECES, SAMPLES = (8, 10, 100) if QUICK else (32, 20, 1500)  # gradients, steps of a curve, pictures for LIME
METHODS = {
    "Grad-CAM": lambda model, seed: ex.as_explainer(ex.grad_cam, model, explained, layer=model.head),
    "IG, with sign": lambda model, seed: ex.as_explainer(ex.integrated_gradients, model, explained, steps=STEPS),
    "IG, size": lambda model, seed: ex.as_explainer(ex.integrated_gradients, model, explained, steps=STEPS, absolute=True),
    "SmoothGrad, size": lambda model, seed: ex.as_explainer(ex.smooth_grad, model, explained, absolute=True, samples=STEPS, seed=seed),
    "occlusion": lambda model, seed: ex.as_explainer(ex.occlusion, model, explained, patch=48, stride=32),
    "LIME": lambda model, seed: lambda picture: ex.explain_image(picture, ex.predictor(model), labels=[explained], samples=SAMPLES, seed=seed, progress=False).heat_map(explained),
}
DRAWN = ["SmoothGrad, size", "LIME"]  # those that draw random numbers
explained, label, _ = decided("camera")
camera, score = seen["camera"], ex.scorer(net, explained)

# %% id="trust-curves"
shown = {"Grad-CAM": METHODS["Grad-CAM"](net, SEED)(camera)} | {kind: ex.blind_heat(kind, camera) for kind in ex.BLIND}
ex.draw_heats(camera, shown, title=f"said to be: {label}")
axes = plots.panels(["Deletion: edges, blind to the model, …", "… are as good as Grad-CAM here"])
for axis, curve, what in ((axes[0], ex.deletion_curve, "replaced by blur"), (axes[1], ex.insertion_curve, "put into the blur")):
    drawn = {name: curve(score, camera, heat, steps=PIECES) for name, heat in shown.items()}
    plots.lines({name: (c.shares, c.scores) for name, c in drawn.items()}, xlabel=f"share of the pixels {what}", ylabel=f"probability of {label}", ax=axis)

# %% [markdown] id="predict-trust-text"
# **Predict before you run.** Every weight of the network is permuted: it has forgotten all that it knew. The *size* of integrated gradients is taken again. What is its rank correlation with the map of the trained network? Write a number for `guess`, 0 for none, 1 for no change.

# %% id="trust-run"
table = ex.trust_table(METHODS, net, camera, explained, drawn=DRAWN, steps=PIECES, progress=False)

# %% id="predict-trust"
guess = None
predict("rank correlation of integrated gradients' size with that of a network that knows nothing", guess=guess, measured=round(table.loc["IG, size", "sanity"], 2))

# %% id="trust-table"
table.round(2)

# %% [markdown] id="trust-read" tags=["solution"]
# **What to say out loud.** No row wins everything, and some wins are worth nothing.
#
# - **Deletion and insertion**: the edge map, which knows nothing of the network, has the best deletion of all on this photograph, and an insertion that hardly a method beats. A single such number without blind maps beside it proves nothing; with them it is a fair test.
# - **Stability**: edges and centre are perfectly stable. Stability is necessary and says nothing about being right. LIME with so few pictures agrees with another seed at about three quarters; more pictures buy more, and that is what its cost column is for.
# - **Sanity**: with its sign, integrated gradients fall to 0 when the network forgets; their *size* does not, because $|x - x'|$ is a factor of it: part of that popular picture is the photograph itself, more on some photographs than on others. Edges stay at 1, as they must. A coarse map such as Grad-CAM's has 49 numbers, so chance alone gives a few tenths in either direction: permute several times before you judge it.
# - With the sign: sane, but shaky under invisible noise. Without: steady, and in part the photograph. Choosing by one column would choose wrongly.
# - **Cost**: two passes for Grad-CAM, tens for occlusion and gradients with many steps, a hundred for a shaky LIME and a thousand or more for a steady one.
#
# *Follow-up: why permute the weights and not draw new ones?* Fresh weights in a deep network let the activations die out. The map of a dead network is constant, its correlation NaN, and a careless check counts that as "it changed".

# %% id="sanity-run"
depths = {name: ex.sanity_check(METHODS[name], net, camera, stages=3) for name in ("IG, with sign", "IG, size", "Grad-CAM")}
depths["edges"] = ex.sanity_check(lambda model, seed: lambda picture: ex.blind_heat("edges", picture), net, camera, stages=3)
forgotten = [0, *(stage.split()[1] for stage in depths["edges"].stages)]

# %% id="sanity-plot"
plots.lines({name: (list(map(int, forgotten)), [1.0, *check_.correlations]) for name, check_ in depths.items()}, title="What survives when the network forgets", xlabel="layers permuted, from the last (of 50)", ylabel="rank correlation with the trained map")
print({name: ("passes" if check_.passed else "fails") for name, check_ in depths.items()})

# %% id="agreement-run"
maps_of = {name: method(net, SEED)(camera) for name, method in METHODS.items()} | {"edges": ex.blind_heat("edges", camera)}
ex.agreement(maps_of).round(2)

# %% [markdown] id="agreement-read" tags=["solution"]
# **What to say out loud.** The methods agree with each other about as much as with the edges of the photograph, and some less. Agreement between two explanations is no proof either: they may share a bias (here: contrast). When they disagree (Krishna et al. 2022 call it *the disagreement problem*), I do not pick the nicer one; I go back to the question.
#
# | question | which explanation | and the test that belongs to it |
# |---|---|---|
# | where in the picture is the evidence? | Grad-CAM (cheap), occlusion (no gradients needed) | deletion against blind maps, sanity |
# | how much does each input contribute, adding up? | integrated gradients, Shapley values | completeness or additivity gap, baseline named |
# | one decision of a model that I can only call | LIME, SHAP | stability over seeds at the number of samples used |
# | does this feature matter at all? | permutation importance, ablation | an intervention *is* the test; mind correlated features |
# | what is the rule? | a small model, surrogate tree | accuracy given up, fidelity against the majority |

# %% [markdown] id="exercise-5-8-text"
# ### Exercise 5.8 · Deletion AUC
#
# difficulty 3/5 · 18 min · asked as: "How would you measure whether a heat map is faithful to the model, without asking people?"
#
# `score` takes pictures (b, h, w, 3) and returns one score each; `image` and `fill` are (h, w, 3) uint8, `heat` is (h, w) float; n = h · w. After step k = 0, 1, … `steps` the `k * n // steps` hottest pixels are replaced by those of `fill`, all three channels; of equally hot pixels the first in reading order goes first. Return the area under the scores over the *share* of pixels replaced (0 … 1), by trapezoids, as a Python float.

# %% id="exercise-5-8" tags=["exercise"]
def deletion_auc(score, image: np.ndarray, heat: np.ndarray, fill: np.ndarray, steps: int) -> float:
    """Area under the deletion curve; low when the hot pixels matter."""
    ### BEGIN SOLUTION
    n = heat.size
    order = np.argsort(-heat.ravel(), kind="stable")
    counts = np.arange(steps + 1) * n // steps
    pictures = np.repeat(image.reshape(1, n, 3), steps + 1, axis=0)
    for picture, count in zip(pictures, counts):
        picture[order[:count]] = fill.reshape(n, 3)[order[:count]]
    return float(np.trapezoid(score(pictures.reshape(steps + 1, *image.shape)), counts / n))
    ### END SOLUTION

# %% id="check-5-8"
check("5.8", deletion_auc)

# %% [markdown] id="aloud-5-8" tags=["solution"]
# **What to say out loud.** The number depends on `fill`: black squares are pictures that the network has never seen, and the fall of the score may be their doing. I say which fill I used, I use the same for all methods, and I give the blind maps' numbers with it. The clean but dear answer is to train the network again on the deleted pictures (ROAR: Hooker et al. 2019).

# %% [markdown] id="exercise-5-9-text"
# ### Exercise 5.9 · Stability over seeds
#
# difficulty 2/5 · 12 min · asked as: "You run LIME twice and get two explanations. What do you tell the customer, and what do you measure?"
#
# `weights` (seeds, superpixels) holds the weights of one picture's explanation, one row a seed. Return the mean of Spearman's rank correlation over all pairs of different rows, as a Python float; equal weights share the mean of their ranks. Raise `ValueError` for fewer than two rows, or a row whose weights are all equal: there is no ranking then.

# %% id="exercise-5-9" tags=["exercise"]
def stability(weights: np.ndarray) -> float:
    """Mean rank correlation over pairs of seeds, -1 to 1."""
    ### BEGIN SOLUTION
    if len(weights) < 2 or (np.ptp(weights, axis=1) == 0).any():
        raise ValueError("weights must have at least two rows, none of them constant")
    ranks = rankdata(weights, axis=1)
    return float(np.corrcoef(ranks)[np.triu_indices(len(ranks), k=1)].mean())
    ### END SOLUTION

# %% id="check-5-9"
check("5.9", stability)

# %% [markdown] id="aloud-5-9" tags=["solution"]
# **What to say out loud.** I tell the customer the number of samples at which two runs agree, and I show only what is stable there: the first few superpixels, not the whole ranking. The mean over pairs is not the worst pair; a sensitive decision deserves the worst.
# *Follow-up: why not fix the seed?* That makes the picture repeatable and leaves the explanation as uncertain as it was. It is a good habit for reproduction and a bad one as a cure.

# %% [markdown] id="shortcut-text"
# ## 9 · A planted shortcut
#
# A classifier of horses, as good as others in its benchmark, read the photographer's name in the corner of the pictures (Lapuschkin et al. 2019). Here the shortcut is planted, so that it is known what has to be found: real handwritten digits, odd or even, and every even one carries a small mark, as if one supplier had delivered them. First the usual number.

# %% id="shortcut-train"
marked = ex.marked_digits(seed=SEED)
reader = ex.small_network(marked, seed=SEED)


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


print(f"odd or even, {len(marked.y_test)} held-out digits: accuracy {accuracy(reader, marked.x_test, marked.y_test):.2f}")

# %% [markdown] id="predict-shortcut-text"
# **Predict before you run.** The same held-out digits without the mark: what accuracy? Chance is 0.50. Write a number for `guess`.

# %% id="predict-shortcut"
guess = None
predict("accuracy on digits without the mark", guess=guess, measured=round(accuracy(reader, marked.bare, marked.y_test), 2))

# %% [markdown] id="search-text"
# A held-out set from the same source has the same mark: it cannot show this. An explanation can, without being told where to look. For all test digits: which share of the size of integrated gradients falls into each of 4 × 4 cells, class by class? The oddest class and cell come first. Then the experiment: cut that cell out of pictures of the class, paste it into those of the other, and count how many change sides.

# %% id="search-run"
def searched(data: ex.Marked, model: nn.Module) -> pd.DataFrame:
    """The three oddest cells, and what happens when they are transplanted."""
    found = ex.suspects(ex.heat_shares(model, data.x_test, data.y_test)).head(3)
    moved = [ex.transplant(model, data.x_test, data.y_test, row["class"], (row["row"], row["column"])) for row in found.to_dict("records")]
    return found.assign(transplanted=moved).round(2)


before = searched(marked, reader)
mended = ex.marked_digits(mended=True, seed=SEED)
second = ex.small_network(mended, seed=SEED)
after = searched(mended, second)

# %% id="search-plot"
axes = plots.panels(["An even digit, as delivered", "Its class is decided in a corner", "Mended: it is decided on the digit"], width=3.4, height=3.2)
even = marked.x_test[marked.y_test == 1][0, 0]
axes[0].imshow(even, cmap="gray_r")
axes[0].grid(visible=False)
for axis, data, model in ((axes[1], marked, reader), (axes[2], mended, second)):
    ex.draw_matrix(ex.heat_shares(model, data.x_test, data.y_test)[1], ax=axis, xlabel="cell, column", ylabel="cell, row", top=0.35)

# %% id="search-before"
before

# %% id="search-after"
print(f"mended data: accuracy {accuracy(second, mended.x_test, mended.y_test):.2f} with marks at random, {accuracy(second, mended.bare, mended.y_test):.2f} without any")
after

# %% [markdown] id="search-read" tags=["solution"]
# **What to say out loud.** Accuracy 1.00 on held-out data, a coin's toss on digits without the mark. The explanation names the place: the lower right cell, for the even class, far ahead of the next suspect. Heat alone is a suspicion; pasting that cell into odd digits turns *all* of them even, and that is a finding. After mending, the first suspect is a part of the digit, and pasting it moves one in ten.
# The mend is a matter of data (notebook 01), not of the model: the mark on half of all pictures at random, so that it says nothing. Accuracy on marked data falls from 1.00 to what it really is.
# *Follow-up: what does this search miss?* A shortcut that is spread out: a tint, the compression, the length of a text. And it needed the idea that cells are the right unit. A test set from another supplier finds all of them, and is the first thing I ask for.

# %% [markdown] id="simple-text"
# ## 10 · A simpler model
#
# The best explanation is a model that needs none. Rudin (2019) argues that for tables one often gives nothing up. Measured on the 569 biopsies: the same folds for every model, and what each gives up against a forest of 300 trees. A scorecard is whole points that one can add up on paper (in the spirit of Ustun and Rudin 2016).

# %% [markdown] id="predict-simple-text"
# **Predict before you run.** A logistic regression with an L1 penalty keeps 8 of the 30 measurements. How many points of accuracy does it give up against the forest? Write a number for `guess`, below 0 if it is better.

# %% id="simple-run"
biopsies = load_breast_cancer()
malignant = 1 - biopsies.target
given_up = ex.accuracy_given_up(ex.simple_models(seed=SEED), biopsies.data, malignant, repeats=1 if QUICK else 10, seed=SEED)

# %% id="predict-simple"
guess = None
predict("points given up by the sparse logistic regression", guess=guess, measured=round(given_up.loc["logistic, sparse (L1)", "given_up"], 1))

# %% id="simple-plot"
simpler = given_up.iloc[1:]
plots.bars({f"{name} ({row['size']:.0f})": row["given_up"] for name, row in simpler.iterrows()}, errors={f"{name} ({row['size']:.0f})": row["margin"] for name, row in simpler.iterrows()}, title="Eight weights give up nothing, a card of four does", xlabel="accuracy given up, points (in brackets: numbers to read)", form="{:+.1f}")
print(f"the forest: accuracy {given_up['accuracy'].iloc[0]:.3f} with {given_up['size'].iloc[0]:.0f} leaves; bars: 95 % intervals over the folds")

# %% id="scorecard"
card = ex.Scorecard(4).fit(biopsies.data, malignant)
rows = [f"{points:+d}   {biopsies.feature_names[number]} above {cut:.3g}" for number, cut, points in zip(card.features_, card.cuts_, card.points_)]
print("\n".join(rows), f"more than {card.limit_:.0f} points: malignant", sep="\n")

# %% [markdown] id="simple-read" tags=["solution"]
# **What to say out loud.** On this table eight weights are as good as 300 trees, so the forest has to justify itself and not the other way round. The scorecard gives up several points and can be read by a nurse; whether that is worth it is a question about cost, not about machine learning. I give the interval: with these folds a difference of one point is noise.
# *Follow-up: and for an image or a language model?* There is no small model near. What remains: distil for one narrow task (notebook 04), make the *pipeline* simple (retrieve, quote, then answer), and test explanations as above.
# *Follow-up: are eight weights an explanation?* Of the model, yes. Not of the disease: the features are correlated, and another sample would keep others.

# %% [markdown] id="excuse-text"
# ## 11 · When an explanation is an excuse
#
# An explanation can be made to say what its owner wants. Slack et al. (2020) build a classifier that decides by race and shows LIME and SHAP an innocent face: it notices that it is being asked with artificial samples. Aïvodji et al. (2019) fit a fair-looking surrogate to an unfair model and call it *fairwashing*. Neither needs malice: choosing, among five heat maps, the one that looks most reasonable has the same effect.
#
# | what may be asked of you | status | source, date |
# |---|---|---|
# | **GDPR, article 22**: a person has the right not to be subject to a decision based solely on automated processing that has legal or similarly significant effects, with exceptions and then with the right to human intervention and to contest it. **Article 15(1)(h)**: meaningful information about the logic involved. | law | Regulation (EU) 2016/679, applied since 25 May 2018 |
# | A credit score on which a third party "draws strongly" is itself such a decision. | court | CJEU, C-634/21 *SCHUFA*, 7 December 2023 |
# | The person may ask for the procedure and principles *actually applied* to their data, in a form they can understand; a formula or an algorithm alone does not do. Trade secrets go to the authority or court, which weighs them. | court | CJEU, C-203/22 *Dun & Bradstreet Austria*, 27 February 2025 |
# | **EU AI Act, article 86**: a person affected by a decision taken on the output of a high-risk system of Annex III (with exceptions) may ask the deployer for clear and meaningful explanations of the system's role and the main elements of the decision. | law | Regulation (EU) 2024/1689, 13 June 2024 |
# | The obligations for high-risk systems of Annex III were put off from 2 August 2026 to 2 December 2027. Which date holds for which article is a question for a lawyer. | reported: the Council's final vote | press on the *Digital Omnibus on AI*, 29 June 2026 |
# | A creditor in the US must give the specific principal reasons for turning somebody down. | law | Regulation B, 12 CFR 1002.9(b)(2) |
# | That a model is too complicated to name them is no defence, said the US regulator; it withdrew that circular with 66 other papers three years later. The rule above stands. | regulator's reading, withdrawn | CFPB Circular 2022-03, 26 May 2022; withdrawn 12 May 2025 (law firms' reports of the Federal Register notice) |
#
# None of these asks for a heat map. They ask what was decided, on which data, by which rule, and what could have been otherwise.
# **A list to work through before an explanation leaves the house:** the question it answers, in one sentence · the method, its settings, its baseline, its seed · the numbers of section 8, with blind maps · what was *not* shown and why · who may contest the decision, and what happens then.

# %% [markdown] id="rehearse-part2"
# Questions for *rehearse* (sections 6 to 11):
#
# 1. Integrated gradients: what is the baseline, and how do you know that you took enough steps? (6)
#    *积分梯度的基线如何选择？怎样知道步数足够？*
# 2. Where does the ReLU of Grad-CAM belong, and what does the map's smoothness come from? (6)
# 3. Is attention an explanation? Describe an experiment that would decide it for one prediction. (7)
#    *注意力权重能当作解释吗？*
# 4. A head attends exactly where it should, and removing it changes nothing. How can that be? (7)
# 5. Your heat map wins the deletion test. Why does that prove nothing yet? (8)
# 6. What does randomising the weights test, and how can the test itself go wrong? (8)
# 7. Two methods disagree about the same decision. What do you tell the customer? (8)
# 8. Accuracy is 1.00 on held-out data. How do you find out that the model reads a watermark? (9)
#    *验证集准确率 100 %，如何发现模型其实在看水印？*
# 9. When would you refuse to explain a black box and deploy eight weights instead? (10)
# 10. A customer was refused and asks why. What must you be able to say, and what is a heat map worth there? (11)

# %% [markdown] id="further-part2"
# For *go further*:
#
# - Mukund Sundararajan, Ankur Taly, Qiqi Yan, *Axiomatic attribution for deep networks*, ICML 2017; Ramprasaath Selvaraju et al., *Grad-CAM*, ICCV 2017; Bolei Zhou et al., *Learning deep features for discriminative localization*, CVPR 2016.
# - Matthew Zeiler, Rob Fergus, *Visualizing and understanding convolutional networks*, ECCV 2014; Daniel Smilkov et al., *SmoothGrad*, 2017.
# - Samira Abnar, Willem Zuidema, *Quantifying attention flow in transformers*, ACL 2020; Sarthak Jain, Byron Wallace, *Attention is not explanation*, NAACL 2019; Sarah Wiegreffe, Yuval Pinter, *Attention is not not explanation*, EMNLP 2019; Catherine Olsson et al., *In-context learning and induction heads*, 2022.
# - Julius Adebayo et al., *Sanity checks for saliency maps*, NeurIPS 2018; Vitali Petsiuk, Abir Das, Kate Saenko, *RISE*, BMVC 2018; Sara Hooker et al., *A benchmark for interpretability methods in deep neural networks*, NeurIPS 2019; Satyapriya Krishna et al., *The disagreement problem in explainable machine learning*, 2022.
# - Sebastian Lapuschkin et al., *Unmasking Clever Hans predictors*, Nature Communications 2019.
# - Cynthia Rudin, *Stop explaining black box machine learning models for high stakes decisions*, Nature Machine Intelligence 2019; Berk Ustun, Cynthia Rudin, *Supersparse linear integer models*, Machine Learning 2016.
# - Dylan Slack et al., *Fooling LIME and SHAP*, AIES 2020; Ulrich Aïvodji et al., *Fairwashing: the risk of rationalization*, ICML 2019.
