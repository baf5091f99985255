"""The reference answers of exercises 4.6 to 4.9 and 4.11 agree with torch, with exact sums and with the estimates."""

import pytest
import torch
import torch.nn.functional as F
import wrong_answers as harness
from torch import nn
from torch.nn.utils import prune

from helpers import estimates

SEEDS = range(5)


def answer(exercise):
    return harness.reference(exercise)[0]


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_masks_are_those_of_torchs_pruning(seed):
    torch.manual_seed(seed)
    layers = [nn.Linear(7, 5), nn.Linear(5, 9), nn.Conv2d(2, 3, 3)]
    weights = [layer.weight.detach().clone() for layer in layers]
    prune.global_unstructured([(layer, "weight") for layer in layers], prune.L1Unstructured, amount=40)
    share = 40.5 / sum(weight.numel() for weight in weights)
    for mask, layer in zip(answer("4.6")(weights, share, "global"), layers, strict=True):
        assert torch.equal(mask, layer.weight_mask.bool())
    for mask, weight in zip(answer("4.6")(weights, 0.4, "layer"), weights, strict=True):
        other = nn.Module()
        other.weight = nn.Parameter(weight)
        prune.l1_unstructured(other, "weight", int(0.4 * weight.numel()))
        assert torch.equal(mask, other.weight_mask.bool())


@pytest.mark.parametrize("seed", SEEDS)
def test_the_distillation_loss_is_that_of_torchs_distributions(seed):
    student, teacher = (torch.randn(6, 5, generator=generator(seed + n), dtype=torch.float64) * 4 for n in (0, 100))
    y = torch.randint(5, (6,), generator=generator(seed))
    p, q = (torch.distributions.Categorical(logits=z / 3) for z in (teacher, student))
    want = 0.6 * 9 * torch.distributions.kl_divergence(p, q).mean() + 0.4 * F.cross_entropy(student, y)
    torch.testing.assert_close(answer("4.7")(student, teacher, y, 3.0, 0.6), want)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_text_read_step_by_step_is_attended_to_as_torchs_causal_attention_does(seed):
    query, key, value = torch.randn(3, 2, 3, 9, 4, generator=generator(seed))
    keys, values = torch.randn(2, 2, 3, 12, 4, generator=generator(seed + 1))
    steps = [answer("4.8")(query[:, :, t], key[:, :, t], value[:, :, t], keys, values, t) for t in range(9)]
    want = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(torch.stack(steps, 2), want)


@pytest.mark.parametrize("seed", SEEDS)
def test_over_all_drafts_and_chances_the_token_is_distributed_as_the_target(seed):
    p, q = (torch.rand(5, generator=generator(seed + n), dtype=torch.float64) for n in (0, 50))
    p, q = p / p.sum(), q / q.sum()
    total = torch.zeros_like(p)
    for token in range(5):
        given = torch.tensor([token]), q[None], torch.stack([p, p])
        keep = min(1.0, float(p[token] / q[token]))
        assert answer("4.9")(*given, torch.tensor([keep * 0.999]))[0] == 1
        total[token] += q[token] * keep
        if keep < 1:
            kept, residual = answer("4.9")(*given, torch.tensor([keep * 1.001]))
            assert kept == 0
            total += q[token] * (1 - keep) * residual
    torch.testing.assert_close(total, p)


@pytest.mark.parametrize("batch", [1, 64, 1000])
def test_the_decode_speed_is_that_of_the_estimates(batch):
    gpu = estimates.GPUS["H100"]
    want = estimates.decode_tokens_per_second(
        14e9, gpu.memory_bandwidth, batch, cache_bytes=5e8, parameters=7e9, peak_flops=gpu.peak_flops
    )
    assert answer("4.11")(7e9, 16, 5e8, batch, gpu.memory_bandwidth, gpu.peak_flops) == pytest.approx(want)
