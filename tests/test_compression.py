"""Pruning, low-rank factors and distillation, against torch's own pruning, numpy and closed forms."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from helpers import compression as co
from helpers import datasets
from helpers.models import GPT, GPTConfig


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 20), nn.BatchNorm1d(20), nn.Linear(20, 10)
    )


def perceptron(width=12, hidden=32):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.77, 0.99])
def test_global_pruning_is_torchs(share):
    model, theirs = network(), network()
    layers = [(theirs[i], "weight") for i in (0, 3, 5)]
    count = int(share * sum(layer.weight.numel() for layer, _ in layers))
    if count:
        prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=count)
    pruned = co.prune_weights(model, share)
    for i in (0, 3, 5):
        assert torch.equal(pruned[i].weight, theirs[i].weight)
    assert co.sparsity(pruned) == pytest.approx(share, abs=1e-3)
    assert co.sparsity(model) == 0  # the model itself is left alone


@pytest.mark.parametrize("share", [0.3, 0.77])
def test_pruning_by_layer_is_torchs(share):
    pruned = co.prune_weights(network(), share, scope="layer")
    theirs = network()
    for i in (0, 3, 5):
        prune.l1_unstructured(theirs[i], "weight", int(share * theirs[i].weight.numel()))
        assert torch.equal(pruned[i].weight, theirs[i].weight)
    assert max(co.layer_sparsity(pruned).values()) - min(co.layer_sparsity(pruned).values()) < 0.03


def test_equal_weights_are_pruned_to_the_exact_count():
    model = nn.Sequential(nn.Linear(10, 10))
    nn.init.ones_(model[0].weight)
    assert co.sparsity(co.prune_weights(model, 0.25)) == 0.25


def test_hidden_units_that_do_nothing_are_pruned_without_a_change():
    model = perceptron()
    with torch.no_grad():
        model[2].weight[:, ::2] = 0
    smaller, x = co.prune_hidden(nn.ModuleList([model]), 0.5)[0], torch.randn(5, 12)
    assert smaller[0].weight.shape == (16, 12) and smaller[2].weight.shape == (12, 16)
    with torch.no_grad():
        torch.testing.assert_close(smaller(x), model(x))


def test_pruned_hidden_units_are_those_with_the_smallest_product_of_norms():
    model = perceptron()
    first, last = model[0].weight.detach().numpy(), model[2].weight.detach().numpy()
    worth = np.sqrt((first**2).sum(1) * (last**2).sum(0))
    kept = np.sort(np.argsort(worth)[8:])
    smaller = co.prune_hidden(model, 0.25)
    np.testing.assert_array_equal(smaller[0].weight.detach(), first[kept])
    np.testing.assert_array_equal(smaller[0].bias.detach(), model[0].bias.detach()[kept])
    np.testing.assert_array_equal(smaller[2].weight.detach(), last[:, kept])


def test_a_gpt_still_runs_after_each_kind_of_compression():
    model = GPT(GPTConfig(vocabulary=11, context=8, layers=2, heads=2, width=16)).eval()
    tokens = torch.arange(8)[None]
    for made in (co.prune_weights(model, 0.5), co.prune_hidden(model, 0.5), co.low_rank(model, 0.5)):
        assert made(tokens).shape == (1, 8, 11)
        assert sum(p.numel() for p in made.parameters()) <= sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_the_factors_are_the_closest_matrix_of_their_rank(share):
    layer = nn.Sequential(nn.Linear(30, 20))
    made = co.low_rank(layer, share)[0]
    rank = made.down.shape[0]
    assert rank == int(share * 600 / 50) and made.up.shape == (20, rank)
    error = torch.linalg.matrix_norm(layer[0].weight - made.up @ made.down).item()
    singular = np.linalg.svd(layer[0].weight.detach().numpy(), compute_uv=False)
    assert error == pytest.approx(np.sqrt((singular[rank:] ** 2).sum()), rel=1e-4)  # Eckart and Young
    x = torch.randn(4, 30)
    with torch.no_grad():
        torch.testing.assert_close(made(x), x @ (made.up @ made.down).T + layer[0].bias, rtol=1e-4, atol=1e-5)


def test_small_layers_keep_their_rank():
    made = co.low_rank(network(), 0.5, smallest=20)
    assert isinstance(made[3], co.LowRankLinear) and isinstance(made[5], nn.Linear)
    with pytest.raises(ValueError, match="Linear layer"):
        co.low_rank(network(), 0.5, smallest=21)


def test_the_distillation_loss_is_that_of_its_definition_in_numpy():
    rng = np.random.default_rng(0)
    student, teacher, y = rng.normal(0, 3, (7, 5)), rng.normal(0, 3, (7, 5)), rng.integers(0, 5, 7)

    def softmax(z):
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    p, q = softmax(teacher / 3), softmax(student / 3)
    soft = (p * np.log(p / q)).sum(1).mean()
    hard = -np.log(softmax(student)[np.arange(7), y]).mean()
    got = co.distillation_loss(*map(torch.tensor, (student, teacher, y)), temperature=3, weight=0.3)
    assert got.item() == pytest.approx(0.3 * 9 * soft + 0.7 * hard)


def test_the_gradient_of_the_soft_part_stays_with_the_temperature():
    torch.manual_seed(0)
    sizes = []
    for temperature in (20.0, 200.0):
        student = torch.randn(50, 10, generator=torch.Generator().manual_seed(1), requires_grad=True)
        teacher = torch.randn(50, 10, generator=torch.Generator().manual_seed(2), requires_grad=True)
        y = torch.zeros(50, dtype=torch.int64)
        co.distillation_loss(student, teacher, y, temperature=temperature, weight=1.0).backward()
        sizes.append(student.grad.norm().item())
        assert teacher.grad is None
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)  # without T² a hundred times apart


def test_a_student_learns_from_a_teacher_that_knows_more_than_the_labels():
    pixels, labels = datasets.digits()
    x, y = torch.from_numpy(pixels / 16).float(), torch.from_numpy(labels)

    def made(hidden):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    teacher = made(64)
    losses = co.train_student(teacher, None, x[:1000], y[:1000], epochs=30)
    assert losses[-1] < losses[0] / 5
    before = copy.deepcopy(teacher.state_dict())
    student = made(8)
    # no labels at all: what it learns comes from the teacher
    co.train_student(student, teacher, x[:1000], torch.zeros(1000, dtype=torch.int64), epochs=60, lr=3e-3, weight=1.0)
    assert not student.training
    assert (student(x[1000:]).argmax(1) == y[1000:]).float().mean() > 0.8
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: co.prune_weights(network(), 1.0), "share must be at least 0 and below 1, got 1.0"),
        (lambda: co.prune_weights(network(), 0.5, scope="row"), "scope must be 'global' or 'layer', got 'row'"),
        (lambda: co.prune_weights(nn.ReLU(), 0.5), "got a ReLU without one"),
        (lambda: co.sparsity(nn.ReLU()), "got a ReLU without one"),
        (lambda: co.prune_hidden(perceptron(), -0.1), "share must be"),
        (lambda: co.prune_hidden(network(), 0.1), "nn.Sequential of Linear"),
        (lambda: co.low_rank(network(), 0), "share must be above 0"),
        (lambda: co.low_rank(nn.ReLU(), 0.5), "got a ReLU without one"),
        (lambda: co.LowRankLinear(nn.Linear(3, 4), 4), "rank must be between 1 and 3, got 4"),
        (lambda: co.distillation_loss(*[torch.ones(2, 3)] * 2, torch.zeros(2).long(), temperature=0), "temperature"),
        (lambda: co.distillation_loss(*[torch.ones(2, 3)] * 2, torch.zeros(2).long(), weight=2), "weight must be"),
        (lambda: co.distillation_loss(torch.ones(2, 3), torch.ones(2, 4), torch.zeros(2).long()), r"got \(2, 4\)"),
        (lambda: co.train_student(network(), None, torch.ones(2), torch.ones(3), epochs=1), "equally long"),
    ],
)
def test_what_does_not_fit_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_the_soft_part_is_torchs_kl_of_the_softened_distributions():
    student, teacher = torch.randn(6, 4), torch.randn(6, 4)
    y = torch.zeros(6, dtype=torch.int64)
    p, q = (torch.distributions.Categorical(logits=z / 2) for z in (teacher, student))
    want = 4 * torch.distributions.kl_divergence(p, q).mean()
    torch.testing.assert_close(co.distillation_loss(student, teacher, y, temperature=2, weight=1.0), want)
    torch.testing.assert_close(co.distillation_loss(student, teacher, y, weight=0.0), F.cross_entropy(student, y))
