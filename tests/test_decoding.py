"""Generating, batching, drafting and the roofline: against the plain model, exact distributions and torch."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from helpers import decoding, models
from helpers.models import GPT, GPTConfig, KVCache


def gpt(seed=0, **shape):
    torch.manual_seed(seed)
    config = GPTConfig(**{"vocabulary": 17, "context": 40, "layers": 2, "heads": 2, "width": 16} | shape)
    model = GPT(config).eval()
    with torch.no_grad():  # at its first weights a GPT repeats one token
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def plain_greedy(model, prompt, new_tokens):
    text = prompt[None]
    with torch.no_grad():
        for _ in range(new_tokens):
            text = torch.cat([text, model(text)[:, -1:].argmax(-1)], 1)
    return text[0, len(prompt) :]


def prompts(count, seed=0, longest=9):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=generator)
    return [torch.randint(17, (int(n),), generator=generator) for n in lengths]


# --- the cache --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [[12], [1] * 12, [5, 1, 1, 5], [3, 9]])
def test_reading_in_pieces_gives_the_logits_of_reading_at_once(pieces):
    model, tokens = gpt(), torch.randint(17, (3, 12), generator=torch.Generator().manual_seed(1))
    cache = KVCache(model.config, 3)
    with torch.no_grad():
        got = torch.cat([model(part, cache) for part in tokens.split(pieces, 1)], 1)
        torch.testing.assert_close(got, model(tokens), rtol=1e-5, atol=1e-5)
    assert cache.lengths == [12, 12, 12]


def test_rows_of_different_length_do_not_see_each_others_places():
    model, texts = gpt(), prompts(5, seed=2)
    longest = max(len(text) for text in texts)
    padded = torch.stack([F.pad(text, (0, longest - len(text)), value=3) for text in texts])
    cache = KVCache(model.config, 5)
    with torch.no_grad():
        model(padded, cache)
        cache.lengths = [len(text) for text in texts]
        new = torch.arange(10).view(5, 2)
        got = model(new, cache)
        for row, text in enumerate(texts):
            torch.testing.assert_close(got[row], model(torch.cat([text, new[row]])[None])[0, -2:], rtol=1e-5, atol=1e-5)


def test_a_shortened_cache_forgets_what_came_after():
    model, text = gpt(), torch.arange(8)[None]
    cache = KVCache(model.config)
    with torch.no_grad():
        model(text, cache)
        cache.lengths = [5]
        got = model(torch.tensor([[9, 10]]), cache)
        torch.testing.assert_close(got[0], model(torch.tensor([[0, 1, 2, 3, 4, 9, 10]]))[0, -2:], rtol=1e-5, atol=1e-5)


def test_the_cache_is_allocated_once():
    model = gpt()
    cache = KVCache(model.config, capacity=20)
    places = cache.keys.data_ptr(), cache.values.data_ptr()
    with torch.no_grad():
        for _ in range(20):
            model(torch.tensor([[1]]), cache)
    assert (cache.keys.data_ptr(), cache.values.data_ptr()) == places
    assert cache.nbytes == 2 * 2 * 20 * 16 * 4
    with pytest.raises(ValueError, match=r"holds 20 a row; 20 are there and 1 are new"):
        model(torch.tensor([[1]]), cache)


@pytest.mark.parametrize(("batch", "capacity", "match"), [(0, None, "batch"), (1, 0, "capacity"), (1, 41, "capacity")])
def test_a_cache_that_does_not_fit_is_refused(batch, capacity, match):
    with pytest.raises(ValueError, match=match):
        KVCache(gpt().config, batch, capacity=capacity)


def test_another_batch_than_the_caches_is_refused():
    model = gpt()
    with pytest.raises(ValueError, match="as many rows as the cache, 2, got 3"):
        model(torch.zeros(3, 1, dtype=torch.int64), KVCache(model.config, 2))


# --- generating -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_greedy_tokens_are_those_of_the_plain_model_with_and_without_a_cache(seed):
    model = gpt(seed)
    for prompt in prompts(4, seed):
        want = plain_greedy(model, prompt, 25)
        assert len(set(want.tolist())) > 1  # a model that repeats one token would prove nothing
        for cache in (True, False):
            assert torch.equal(decoding.generate(model, prompt, 25, cache=cache), want)


def test_sampled_tokens_do_not_depend_on_the_cache():
    model, prompt = gpt(), torch.tensor([1, 2, 3])
    made = [
        decoding.generate(model, prompt, 30, temperature=0.8, cache=c, generator=torch.Generator().manual_seed(5))
        for c in (True, False)
    ]
    assert torch.equal(*made)


def test_a_stream_yields_before_the_text_is_complete_and_refuses_at_the_call():
    model = gpt()
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    tokens = decoding.stream(model, torch.tensor([1]), 20)
    assert not calls
    next(tokens)
    assert len(calls) == 1
    with pytest.raises(ValueError, match="new_tokens"):
        decoding.stream(model, torch.tensor([1]), 40)


def test_generating_leaves_the_models_mode_as_it_was_and_drops_nothing():
    model = gpt(dropout=0.5).train()
    model.blocks[0].eval()
    made = decoding.generate(model, torch.tensor([1, 2]), 20)
    assert model.training and model.blocks[1].training and not model.blocks[0].training
    assert torch.equal(made, plain_greedy(model.eval(), torch.tensor([1, 2]), 20))


@pytest.mark.parametrize(
    ("prompt", "new", "error", "match"),
    [
        (torch.tensor([1.0]), 1, TypeError, "prompt must be an int64"),
        ([1], 1, TypeError, "got list"),
        (torch.tensor([[1]]), 1, ValueError, r"shape \(1, 1\)"),
        (torch.tensor([], dtype=torch.int64), 1, ValueError, "at least one token"),
        (torch.tensor([1]), 0, ValueError, "got 0"),
        (torch.tensor([1]), 2.0, TypeError, "new_tokens must be a whole number"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused(prompt, new, error, match):
    with pytest.raises(error, match=match):
        decoding.generate(gpt(), prompt, new)


def test_probabilities_are_softmax_and_at_zero_the_largest():
    logits = torch.tensor([[1.0, 3.0, 3.0], [0.0, -1.0, 5.0]])
    torch.testing.assert_close(decoding.probabilities(logits, 2.0), torch.softmax(logits / 2, -1))
    assert decoding.probabilities(logits, 0).tolist() == [[0, 1, 0], [0, 0, 1]]
    for bad in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match="temperature"):
            decoding.probabilities(logits, bad)


def test_perplexity_is_that_of_torchs_cross_entropy_and_of_a_uniform_model():
    model, blocks = gpt(), torch.randint(17, (37, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = F.cross_entropy(model(blocks[:, :-1]).transpose(1, 2), blocks[:, 1:]).exp().item()
    assert decoding.perplexity(model, blocks) == pytest.approx(want, rel=1e-5)
    with torch.no_grad():
        model.norm.weight.zero_()
        model.norm.bias.zero_()
    assert decoding.perplexity(model, blocks) == pytest.approx(17)
    with pytest.raises(ValueError, match="blocks"):
        decoding.perplexity(model, blocks[:, :1])


# --- batches ----------------------------------------------------------------------------------------------------------


def requests(seed=0):
    lengths = torch.randint(1, 25, (11,), generator=torch.Generator().manual_seed(seed)).tolist()
    return [decoding.Request(p, n) for p, n in zip(prompts(11, seed), lengths, strict=True)]


@pytest.mark.parametrize("serve", [decoding.serve_padded, decoding.serve_continuously])
@pytest.mark.parametrize("rows", [1, 3, 4, 20])
def test_a_batch_answers_each_request_as_the_plain_model_would(serve, rows):
    model, wanted = gpt(3), requests()
    served = serve(model, wanted, rows)
    for request, tokens in zip(wanted, served.tokens, strict=True):
        assert torch.equal(tokens, plain_greedy(model, request.prompt, request.new_tokens))


def test_the_steps_are_those_of_a_count_by_hand():
    model = gpt()
    wanted = [decoding.Request(torch.tensor([1]), n) for n in (11, 3, 3, 3, 3)]
    padded = decoding.serve_padded(model, wanted, 2)
    assert (padded.steps, padded.finished) == (10 + 2 + 2, (10, 2, 12, 12, 14))
    assert padded.utilisation == pytest.approx((10 + 4 * 2) / (14 * 2))
    continuous = decoding.serve_continuously(model, wanted, 2)
    assert (continuous.steps, continuous.finished) == (10, (10, 2, 4, 6, 8))
    assert continuous.utilisation == pytest.approx(18 / 20)


@pytest.mark.parametrize("serve", [decoding.serve_padded, decoding.serve_continuously])
def test_a_batch_that_does_not_fit_is_refused(serve):
    with pytest.raises(ValueError, match="requests"):
        serve(gpt(), [], 2)
    with pytest.raises(ValueError, match="rows"):
        serve(gpt(), requests(), 0)
    with pytest.raises(ValueError, match="new_tokens"):
        serve(gpt(), [decoding.Request(torch.tensor([1]), 40)], 2)


# --- drafting ---------------------------------------------------------------------------------------------------------


class Bigrams(nn.Module):
    """A model whose exact distribution of whole texts can be written down: the next token depends on the last one."""

    def __init__(self, table):
        super().__init__()
        self.table = nn.Parameter(table)
        self.config = GPTConfig(vocabulary=len(table), context=16, layers=1, heads=1, width=1)

    def forward(self, tokens, cache):
        cache.lengths = [cache.lengths[0] + tokens.shape[1]]
        return self.table[tokens]


def chi_square(made, exact):
    counts = torch.bincount(made, minlength=len(exact)).double()
    return stats.chisquare(counts.numpy(), (exact / exact.sum() * len(made)).numpy()).pvalue


@pytest.mark.parametrize("gamma", [1, 3])
def test_fifty_thousand_speculative_texts_are_distributed_as_the_targets(gamma):
    generator = torch.Generator().manual_seed(gamma)
    tables = [torch.randn(3, 3, generator=generator) for _ in range(2)]
    target, draft = map(Bigrams, tables)
    p, q = torch.softmax(tables[0].double(), 1), torch.softmax(tables[1].double(), 1)
    made, spoken = [], []
    for _ in range(50_000):
        run = decoding.speculate(
            target, draft, torch.tensor([0]), 3, draft_tokens=gamma, temperature=1.0, generator=generator
        )
        made.append(int(run.tokens @ torch.tensor([9, 3, 1])))
        spoken.append(run.acceptance)
    texts = list(itertools.product(range(3), repeat=3))
    exact = torch.tensor([p[0, a] * p[a, b] * p[b, c] for a, b, c in texts])
    drafts = torch.tensor([q[0, a] * q[a, b] * q[b, c] for a, b, c in texts])
    assert chi_square(torch.tensor(made), exact) > 1e-3
    assert chi_square(torch.tensor(made), drafts) < 1e-6  # the test has the power to see the draft's distribution
    assert 0.2 < sum(spoken) / len(spoken) < 0.95


def test_fifty_thousand_acceptances_follow_the_target_where_the_draft_is_certain_or_never_right():
    generator = torch.Generator().manual_seed(0)
    target = torch.tensor([[0.5, 0.2, 0.3, 0.0], [0.1, 0.2, 0.3, 0.4]])
    for draft in ([0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 0.25, 0.25]):
        q = torch.tensor([draft])
        made, kept = [], 0
        for drafted in torch.multinomial(q[0], 50_000, replacement=True, generator=generator):
            count, following = decoding.accept(drafted[None], q, target, generator)
            made.append(int(drafted if count else following))
            kept += count
        assert made.count(3) == 0
        assert chi_square(torch.tensor(made), target[0, :3].double()) > 1e-3
        assert kept / 50_000 == pytest.approx(float(torch.minimum(q[0], target[0]).sum()), abs=0.01)


def test_a_draft_that_differs_by_rounding_alone_leaves_the_target_to_draw_from():
    target = torch.tensor([[0.25, 0.0, 0.75], [1.0, 0.0, 0.0]])
    kept, following = decoding.accept(torch.tensor([1]), torch.tensor([[0.25, 1e-9, 0.75]]), target)
    assert kept == 0 and int(following) in (0, 2)


@pytest.mark.parametrize("gamma", [1, 2, 5, 50])
def test_speculative_greedy_tokens_are_those_of_the_plain_model(gamma):
    for seed in range(3):
        target = gpt(seed)
        for draft in (gpt(seed + 10, layers=1, width=8), target):
            for prompt in prompts(3, seed):
                run = decoding.speculate(target, draft, prompt, 25, draft_tokens=gamma)
                assert torch.equal(run.tokens, plain_greedy(target, prompt, 25))


def test_a_draft_that_is_the_target_is_always_accepted():
    model = gpt()
    run = decoding.speculate(model, model, torch.tensor([1]), 25, draft_tokens=4)
    assert (run.rounds, run.acceptance, run.tokens_per_round) == (5, 1.0, 5.0)
    generator = torch.Generator().manual_seed(0)
    run = decoding.speculate(model, model, torch.tensor([1]), 25, draft_tokens=4, temperature=1.0, generator=generator)
    assert run.acceptance == 1.0


def test_a_draft_that_does_not_fit_is_refused():
    prompt = torch.tensor([1])
    with pytest.raises(ValueError, match="vocabulary, 17, got 18"):
        decoding.speculate(gpt(), gpt(vocabulary=18), prompt, 5)
    with pytest.raises(ValueError, match="context of 10"):
        decoding.speculate(gpt(), gpt(context=10), prompt, 20)
    with pytest.raises(ValueError, match="draft_tokens"):
        decoding.speculate(gpt(), gpt(), prompt, 5, draft_tokens=0)
    with pytest.raises(ValueError, match=r"got \(1, 3\) and \(1, 3\)"):
        decoding.accept(torch.tensor([1]), torch.ones(1, 3) / 3, torch.ones(1, 3) / 3)


# --- int8 weights and the roofline ------------------------------------------------------------------------------------


def test_int8_weights_are_torchaos_and_the_output_is_near():
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(64, 48))
    with torch.no_grad():
        layer[0].weight[3] = 0
    ours = decoding.int8_weights(layer)
    x = torch.randn(5, 2, 64)
    theirs = nn.Sequential(nn.Linear(64, 48))
    theirs.load_state_dict(layer.state_dict())
    quantize_(theirs, Int8WeightOnlyConfig())
    with torch.no_grad():
        want = layer(x)
        assert (ours(x) - want).norm() / want.norm() < 0.012
        assert (ours(x) - theirs(x)).norm() / want.norm() < 0.008  # rounded to bfloat16
    assert ours[0].weight.dtype == torch.int8
    assert decoding.weight_bytes(ours) == 64 * 48 + 2 * 48 + 4 * 48
    with pytest.raises(ValueError, match="Linear layer"):
        decoding.int8_weights(nn.Sequential(nn.ReLU()))


def test_shared_weights_count_once():
    model = gpt()
    assert decoding.weight_bytes(model) == 4 * sum(p.numel() for p in model.parameters())


def test_the_work_of_a_step_is_what_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    model = gpt()
    for length, new, batch in ((0, 1, 1), (9, 1, 3), (9, 4, 2)):
        cache = KVCache(model.config, batch)
        cache.lengths = [length] * batch
        with (
            FlopCounterMode(display=False) as counter,
            torch.no_grad(),
            nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH),
        ):
            model(torch.zeros(batch, new, dtype=torch.int64), cache)
        work = decoding.decode_work(model.config, length, batch=batch, new_tokens=new)
        # the kernel also multiplies what the mask hides: new · (new - 1) / 2 pairs of tokens a row
        hidden = batch * 4 * 2 * 16 * new * (new - 1) / 2
        assert counter.get_total_flops() == work.flops + hidden


def test_the_bytes_of_a_step_are_those_of_the_matrices_and_the_cache():
    model = gpt()
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n != "positions.weight"]
    cache = KVCache(model.config, 3, capacity=11)
    work = decoding.decode_work(model.config, 10, batch=3)
    assert work.nbytes == sum(p.nbytes for p in matrices) + cache.nbytes
    assert decoding.decode_work(model.config, 10, weight_bits=8, cache_bits=16).nbytes == (
        sum(p.numel() for p in matrices) + cache.nbytes / 3 / 2
    )


def test_the_roof_has_two_sides():
    roof = decoding.Roofline(peak_flops=100.0, bandwidth=10.0)
    low, high = decoding.Work(50, 10), decoding.Work(500, 10)
    assert roof.ridge == 10
    assert (roof.attainable(low), roof.attainable(high)) == (50, 100)
    assert (roof.seconds(low), roof.seconds(high)) == (1, 5)
    assert (roof.bound_by(low), roof.bound_by(high)) == ("memory", "arithmetic")
    axis = roof.plot({"a": (low, 2.0)}, title="a title")
    assert axis.get_legend().get_texts()[0].get_text() == "a: 50% of the roof"
    with pytest.raises(ValueError, match="bandwidth must be above 0"):
        decoding.Roofline(1.0, 0.0)
    with pytest.raises(ValueError, match="flops"):
        decoding.Work(0, 1)


def test_the_bandwidth_is_what_a_machine_of_today_can_have():
    assert 1e8 < decoding.memory_bandwidth(nbytes=64_000_000, repeats=3) < 1e13
    with pytest.raises(ValueError, match="nbytes"):
        decoding.memory_bandwidth(nbytes=10)


# --- the trained model ------------------------------------------------------------------------------------------------


def test_training_learns_from_other_files_and_keeps_the_random_state():
    training, held_out = decoding.code_tokens(32, 400)
    assert len(training) == 350 and len(held_out) == 50
    config = GPTConfig(context=32, layers=1, heads=2, width=32)
    state = torch.get_rng_state()
    made = decoding.train_code_gpt(config, training, steps=90, lr=3e-3)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(made.losses) == 90
    assert decoding.perplexity(made.model, held_out) < 30 < decoding.perplexity(models.GPT(config), held_out)
    again = decoding.train_code_gpt(config, training, steps=90, lr=3e-3)
    assert again.losses == made.losses
    with pytest.raises(ValueError, match="2 to 17 tokens"):
        decoding.train_code_gpt(GPTConfig(context=16), training, steps=1)
