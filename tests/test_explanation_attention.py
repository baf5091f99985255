"""Attention maps are those the model used; rollout, ablation and replacement say what is known of the task."""

import itertools

import numpy as np
import pytest
import torch
import wrong_answers as harness

from helpers import explanation as ex
from helpers.models import GPT, GPTConfig

PERIOD = 10


def gpt(seed=0, **changes):
    torch.manual_seed(seed)
    return GPT(GPTConfig(**{"vocabulary": 20, "context": 12, "layers": 2, "heads": 2, "width": 16, **changes})).eval()


@pytest.fixture(scope="module")
def induction():
    return ex.train_induction(progress=False)


@pytest.fixture(scope="module")
def tokens(induction):
    return induction.sequences(64, period=PERIOD, seed=5)


def test_the_maps_give_the_output_of_the_fused_attention_to_1e_5():
    model, tokens = gpt(), torch.randint(20, (3, 12), generator=torch.Generator().manual_seed(0))
    maps = ex.attention_maps(model, tokens)
    kept = {}
    block = model.blocks[1]
    handles = [
        block.query_key_value.register_forward_hook(lambda m, i, out: kept.update(qkv=out)),
        block.attention_out.register_forward_pre_hook(lambda m, i: kept.update(mixed=i[0])),
    ]
    with torch.no_grad():
        model(tokens)
    for handle in handles:
        handle.remove()
    value = kept["qkv"].view(3, 12, 3, 2, 8).permute(2, 0, 3, 1, 4)[2]
    mixed = (maps[1] @ value).transpose(1, 2).reshape(3, 12, 16)
    torch.testing.assert_close(mixed, kept["mixed"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 3, 2, 12))
    assert (maps.triu(1) == 0).all()


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_rollout_is_the_sum_over_all_paths(layers):
    maps = torch.rand(layers, 2, 4, 4, generator=torch.Generator().manual_seed(layers)).double()
    maps = maps / maps.sum(-1, keepdim=True)
    mixed = (maps.mean(1).numpy() + np.eye(4)) / 2
    want = np.zeros((4, 4))
    for path in itertools.product(range(4), repeat=layers + 1):
        want[path[-1], path[0]] += np.prod([mixed[n, path[n + 1], path[n]] for n in range(layers)])
    np.testing.assert_allclose(ex.rollout(maps).numpy(), want, rtol=1e-12)
    np.testing.assert_allclose(harness.reference("5.6")[0](maps).numpy(), want, rtol=1e-12)


def test_a_batch_rolls_out_sequence_by_sequence():
    model, tokens = gpt(), torch.randint(20, (3, 12), generator=torch.Generator().manual_seed(1))
    together = ex.rollout(ex.attention_maps(model, tokens))
    for row in range(3):
        alone = ex.attention_maps(model, tokens[row : row + 1])[:, 0]
        torch.testing.assert_close(together[row], harness.reference("5.6")[0](alone), rtol=1e-5, atol=1e-6)


def test_the_repeated_sequences_repeat_and_have_one_place_to_look():
    tokens, period = ex.repeated(200, 24, 32, periods=(6, 12), seed=3)
    assert set(period.tolist()) == set(range(6, 13))
    for row, p in zip(tokens.tolist(), period.tolist(), strict=True):
        assert len(set(row[:p])) == p
        assert all(row[i] == row[i - p] for i in range(p, 24))
    assert torch.equal(tokens, ex.repeated(200, 24, 32, periods=(6, 12), seed=3)[0])


@pytest.mark.timeout(300)
def test_the_small_gpt_learns_to_copy_with_the_two_known_kinds_of_heads(induction, tokens):
    assert induction.accuracy >= 0.99
    previous, copying = ex.head_scores(ex.attention_maps(induction.model, tokens), PERIOD)
    assert previous[0].max() > 0.3 > 0.2 > previous[1].max()
    assert copying[1].min() > 0.8
    assert copying[0].max() < 0.3


def test_one_copying_head_is_not_needed_and_all_of_them_are(induction, tokens):
    alone = ex.head_ablation(induction.model, tokens, PERIOD)
    together = ex.group_ablation(induction.model, tokens, PERIOD, [(1, head) for head in range(4)])
    assert alone[1].max() < 0.2
    assert together > 10 * alone[1].max()
    assert together > 2


def test_replacement_names_three_tokens_rollout_finds_them_and_the_last_layer_one(induction, tokens):
    position = PERIOD + 4
    deciding = [position - PERIOD, position - PERIOD + 1, position]
    falls = ex.loss_by_source(induction.model, tokens, position, induction.vocabulary, draws=4)
    assert set(np.argsort(-falls.mean(0))[:3]) == set(deciding)
    maps = ex.attention_maps(induction.model, tokens)
    assert set(np.argsort(-ex.rollout_to(maps, position).mean(0))[:3]) == set(deciding)
    last = maps[-1][:, :, position, : position + 1].mean(1).numpy()
    ranks = ex.source_ranks(last, deciding)
    assert ranks[deciding[1]] < 1.5
    assert min(ranks[deciding[0]], ranks[position]) > 4


def test_switching_off_no_head_changes_nothing_and_hooks_are_taken_back(tokens, induction):
    model = induction.model
    with torch.no_grad():
        before = model(tokens)
        with ex.heads_off(model, []):
            torch.testing.assert_close(model(tokens), before)
        with ex.heads_off(model, [(0, 1), (1, 0)]):
            assert not torch.allclose(model(tokens), before)
        assert torch.equal(model(tokens), before)
    with pytest.raises(RuntimeError), ex.heads_off(model, [(0, 0)]):
        raise RuntimeError
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_training_leaves_the_global_random_state_alone():
    state = torch.get_rng_state()
    ex.train_induction(steps=2, width=16, progress=False)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_explained_is_refused():
    model = gpt()
    tokens = torch.zeros(1, 5, dtype=torch.int64)
    with pytest.raises(ValueError, match="evaluation mode"):
        ex.attention_maps(gpt().train(), tokens)
    with pytest.raises(ValueError, match="int64"):
        ex.attention_maps(model, tokens.float())
    with pytest.raises(ValueError, match="int64"):
        ex.attention_maps(model, torch.zeros(1, 0, dtype=torch.int64))
    with pytest.raises(ValueError, match="heads must be"), ex.heads_off(model, [(2, 0)]):
        pass
    with pytest.raises(ValueError, match="maps must be"):
        ex.rollout(torch.ones(3, 4, 5))
    with pytest.raises(ValueError, match="periods must be"):
        ex.repeated(2, 24, 8, periods=(6, 12))
    with pytest.raises(ValueError, match="period must be"):
        ex.head_scores(ex.attention_maps(model, tokens), 5)
