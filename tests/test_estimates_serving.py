"""The formulas of serving, communication, data and money agree with real tensors, counted schedules and libraries."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from sklearn.utils.class_weight import compute_class_weight
from torch.utils.flop_counter import FlopCounterMode

from helpers import estimates
from helpers.estimates import (
    GPUS,
    RUNS,
    accuracy_standard_error,
    all_gather_bytes,
    all_gather_seconds,
    all_reduce_bytes,
    all_reduce_seconds,
    balanced_class_weights,
    compute_bound_batch,
    compute_optimal_parameters,
    compute_optimal_tokens,
    cost_per_million_tokens,
    decode_tokens_per_second,
    exact_shapley_evaluations,
    kv_cache_bytes,
    minhash_collision,
    minhash_threshold,
    model_bytes,
    pipeline_bubble,
    prefill_seconds,
    runway_months,
    speculative_speedup,
    speculative_tokens,
    training_flops,
)
from helpers.models import GPT, GPTConfig


def nbytes(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


# ------------------------------------------------------------------------------------------------------- import


def test_every_name_of_the_package_is_there_and_the_formulas_too_need_no_numpy():
    code = (
        "import sys; from helpers import estimates; [getattr(estimates, name) for name in estimates.__all__]; "
        "print(sorted({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="has no attribute 'kv_cash'"):
        estimates.kv_cash


# -------------------------------------------------------------------------------------------------- model bytes


@pytest.mark.parametrize(("bits", "dtype"), [(32, torch.float32), (16, torch.bfloat16), (8, torch.int8)])
def test_a_real_model_s_weights_take_as_many_bytes(bits, dtype):
    weights = [torch.empty(48, 96, dtype=dtype), torch.empty(96, dtype=dtype)]
    assert model_bytes(48 * 96 + 96, bits) == nbytes(weights)


@pytest.mark.parametrize(("group", "scale", "zero"), [(32, torch.float16, True), (128, torch.float32, False)])
def test_int4_weights_that_are_packed_with_their_scales_take_as_many_bytes(group, scale, zero):
    weight = torch.randn(64, 256)
    groups = weight.view(-1, group)
    scales = (groups.abs().amax(1) / 7).to(scale)
    codes = (groups / scales[:, None].float()).round().clamp(-8, 7).to(torch.int8).view(-1) + 8
    packed = (codes[::2] | (codes[1::2] << 4)).to(torch.uint8)
    zeros = torch.zeros(len(scales) // 2, dtype=torch.uint8)  # 4 bits each, two in a byte
    found = model_bytes(
        weight.numel(), 4, group_size=group, scale_bits=scales.element_size() * 8, zero_point_bits=4 if zero else 0
    )
    assert found == nbytes([packed, scales] + ([zeros] if zero else []))


def test_torchao_s_int8_weights_take_as_many_bytes():
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    layer = torch.nn.Linear(256, 512, bias=False, dtype=torch.bfloat16)
    quantize_(layer, Int8WeightOnlyConfig())
    parts = [getattr(layer.weight, name) for name in layer.weight.tensor_data_names if "zero" not in name]
    # its scale per channel is a group of a whole row
    scale_bits = 8 * min(part.element_size() for part in parts if part.dtype.is_floating_point)
    assert model_bytes(256 * 512, 8, group_size=256, scale_bits=scale_bits) == nbytes(parts)


def test_what_stays_in_sixteen_bits_is_counted_so():
    assert model_bytes(1000, 4, unquantised=200) == 800 / 2 + 200 * 2
    assert model_bytes(7e9, 4, group_size=128) / 7e9 * 8 == pytest.approx(4.125)


# ----------------------------------------------------------------------------------------------------- KV cache


def test_the_cache_of_real_heads_takes_as_many_bytes():
    layers, batch, heads, context, width = 3, 2, 4, 17, 8
    cache = [torch.empty(batch, heads, context, width, dtype=torch.float16) for _ in range(2 * layers)]
    assert kv_cache_bytes(layers, context, batch, key_value_heads=heads, head_width=width) == nbytes(cache)


def test_the_cache_of_a_latent_takes_as_many_bytes():
    layers, batch, context, latent, rotary = 3, 2, 17, 32, 8
    cache = [torch.empty(batch, context, latent + rotary, dtype=torch.bfloat16) for _ in range(layers)]
    assert kv_cache_bytes(layers, context, batch, latent_width=latent, rotary_width=rotary) == nbytes(cache)


def test_the_published_caches_come_out():
    # Kwon et al. (vLLM), 2023, section 3: a token of OPT-13B takes 800 KB: 2 x 5120 x 40 layers x 2 bytes
    assert kv_cache_bytes(40, 1, key_value_heads=40, head_width=128) == 800 * 1024
    # DeepSeek-AI (DeepSeek-V2), 2024, section 2.1.4: MLA's cache equals that of GQA with only 2.25 groups
    latent = kv_cache_bytes(60, 1, latent_width=512, rotary_width=64)
    assert latent / kv_cache_bytes(60, 1, key_value_heads=1, head_width=128) == 2.25


def test_fewer_key_value_heads_divide_the_cache():
    full, grouped, one = (kv_cache_bytes(32, 4096, key_value_heads=heads, head_width=128) for heads in (32, 8, 1))
    assert full == 4 * grouped == 32 * one


# ------------------------------------------------------------------------------------------ speed of generation


def test_prefill_counts_the_operations_that_torch_counts():
    config = GPTConfig(vocabulary=64, context=96, layers=2, heads=4, width=64)
    model = GPT(config).eval()
    tokens = torch.randint(0, 64, (3, 96))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(tokens)
    # the tables are looked up, not multiplied; the output layer is the token table and is multiplied
    multiplied = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "position" not in name)
    ours = prefill_seconds(multiplied, 96, 1.0, 1.0, 3, layers=2, width=64)
    assert ours == pytest.approx(counter.get_total_flops(), rel=1e-9)


def test_a_decode_step_is_never_faster_than_its_bytes_and_never_than_its_operations():
    # Llama-2-7B in bf16 on an A100: 13.5 GB over 2.04 TB/s
    assert decode_tokens_per_second(13.48e9, 2.039e12) == pytest.approx(151.3, abs=0.1)
    crowd = decode_tokens_per_second(13.48e9, 2.039e12, 4096, parameters=6.74e9, peak_flops=312e12)
    assert crowd == pytest.approx(312e12 / (2 * 6.74e9))
    # each sequence reads its own cache: at a long context a larger batch buys little
    one, many = (decode_tokens_per_second(1e9, 1e12, batch, cache_bytes=1e9) for batch in (1, 64))
    assert 1.9 < many / one < 2


def test_the_batch_at_which_decode_turns_compute_bound_is_where_the_two_roofs_cross():
    gpu, parameters = GPUS["H100"], 8e9

    def gap(batch: float) -> float:
        return 2 * parameters / gpu.memory_bandwidth - 2 * parameters * batch / gpu.peak_flops

    crossing = optimize.brentq(gap, 1, 1e5)
    assert compute_bound_batch(gpu.peak_flops, gpu.memory_bandwidth) == pytest.approx(crossing)
    below, above = (
        decode_tokens_per_second(
            2 * parameters, gpu.memory_bandwidth, batch, parameters=parameters, peak_flops=gpu.peak_flops
        )
        for batch in (math.floor(crossing), math.ceil(crossing) * 2)
    )
    assert below == pytest.approx(math.floor(crossing) * decode_tokens_per_second(2 * parameters, gpu.memory_bandwidth))
    assert above == pytest.approx(gpu.peak_flops / (2 * parameters))
    assert compute_bound_batch(1e12, 1e9, 8) == compute_bound_batch(1e12, 1e9) / 2


def test_a_million_tokens_cost_what_the_hours_cost():
    # four GPUs of 2 an hour make 1,000 tokens a second half of the time: counted second by second
    seconds = sum(1 for _ in range(0, 1_000_000, 500))
    assert cost_per_million_tokens(2.0, 1000, 4, 0.5) == pytest.approx(seconds * 4 * 2.0 / 3600)


# ------------------------------------------------------------------------------------------ speculative decoding


@given(st.floats(0.0, 1.0), st.integers(0, 6))
def test_the_tokens_per_step_are_the_mean_over_all_ways_in_which_drafts_are_kept(acceptance, draft):
    # each of the 2^draft outcomes: the kept run before the first rejection, and one token of the large model
    expected = 0.0
    for kept in itertools.product((True, False), repeat=draft):
        chance = math.prod(acceptance if one else 1 - acceptance for one in kept)
        expected += chance * (1 + len(list(itertools.takewhile(bool, kept))))
    assert speculative_tokens(acceptance, draft) == pytest.approx(expected)


def test_the_published_speed_ups_of_speculative_decoding_come_out():
    # Leviathan et al., 2023, table 1: α .6 γ 2 → 1.96; .7, 3 → 2.53; .8, 5 → 3.69; .9, 10 → 6.86 (c = 0)
    for acceptance, draft, times in [(0.6, 2, 1.96), (0.7, 3, 2.53), (0.8, 5, 3.69), (0.9, 10, 6.86)]:
        assert speculative_speedup(acceptance, draft, 0.0) == pytest.approx(times, abs=0.006)


def test_a_draft_that_costs_as_much_as_it_saves_is_no_gain():
    assert speculative_speedup(0.0, 4, 0.1) == pytest.approx(1 / 1.4)
    assert speculative_speedup(1.0, 4, 0.0) == 5
    assert speculative_speedup(0.5, 0, 0.3) == 1


# ------------------------------------------------------------------------------------------------ communication


def ring_all_reduce(world_size: int, length: int) -> tuple[list[list[float]], int, int]:
    """A ring all-reduce that is carried out: the results, the elements that rank 0 sends and the rounds."""
    values = [[float(rank * length + i) for i in range(length)] for rank in range(world_size)]
    share, sent, rounds = length // world_size, 0, 0
    for phase in ("reduce-scatter", "all-gather"):
        for step in range(world_size - 1):
            messages = []
            for rank in range(world_size):
                chunk = (rank - step + (phase == "all-gather")) % world_size
                part = slice(chunk * share, (chunk + 1) * share)
                messages.append((rank, part, values[rank][part]))
                sent += share if rank == 0 else 0
            for rank, part, payload in messages:
                to = values[(rank + 1) % world_size]
                added = [a + b for a, b in zip(to[part], payload, strict=True)]
                to[part] = added if phase == "reduce-scatter" else payload
            rounds += 1
    return values, sent, rounds


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 8])
def test_a_ring_that_is_carried_out_sends_the_bytes_and_takes_the_rounds_of_the_formula(world_size):
    length = 8 * world_size
    results, sent, rounds = ring_all_reduce(world_size, length)
    total = [sum(rank * length + i for rank in range(world_size)) for i in range(length)]
    assert all(result == total for result in results)
    assert all_reduce_bytes(length, world_size) == pytest.approx(sent)
    assert all_reduce_seconds(length, world_size, 1e30, latency=1.0) == pytest.approx(rounds)
    # the second half of the ring is an all-gather
    assert all_gather_bytes(length, world_size) == pytest.approx(sent / 2)
    assert all_gather_seconds(length, world_size, 1e30, latency=1.0) == pytest.approx(rounds / 2)
    assert all_gather_seconds(length, world_size, 2.0) == pytest.approx(sent / 2 / 2.0)


def gpipe_idle_share(stages: int, microbatches: int) -> float:
    """Idle share of GPipe, laid out: every forward and backward takes the first slot that is free for it."""
    finished: dict[tuple[str, int, int], int] = {}
    free = [0] * stages
    forward = [("forward", m, s) for m in range(microbatches) for s in range(stages)]
    backward = [("backward", m, s) for m in range(microbatches) for s in reversed(range(stages))]
    for kind, m, s in forward + backward:
        if kind == "forward":
            ready = finished.get(("forward", m, s - 1), 0)
        else:
            ready = finished[("forward", microbatches - 1, stages - 1)] if s == stages - 1 else 0
            ready = max(ready, finished.get(("backward", m, s + 1), 0))
        finished[(kind, m, s)] = free[s] = max(ready, free[s]) + 1
    return 1 - 2 * microbatches / max(finished.values())


@given(st.integers(1, 9), st.integers(1, 24))
def test_the_bubble_is_the_idle_share_of_a_schedule_that_is_laid_out(stages, microbatches):
    assert pipeline_bubble(stages, microbatches) == pytest.approx(gpipe_idle_share(stages, microbatches))


def test_holding_the_model_in_more_chunks_divides_the_bubble_of_the_ideal_time():
    # Narayanan et al., 2021, section 2.2.2: the bubble over the ideal time falls from (p-1)/m to (p-1)/(v m)
    for chunks in (1, 2, 4):
        share = pipeline_bubble(8, 32, chunks)
        assert share / (1 - share) == pytest.approx(7 / 32 / chunks)


# ----------------------------------------------------------------------------------------------------- training


def test_chinchilla_comes_out():
    # Hoffmann et al., 2022: 70 billion parameters, 1.4 trillion tokens, 5.76e23 FLOPs; table 3 says 67 billion for it
    assert compute_optimal_tokens(70e9) == 1.4e12
    assert compute_optimal_parameters(5.76e23) == pytest.approx(67e9, rel=0.05)


@given(st.floats(1e15, 1e26), st.floats(1, 2000))
def test_the_optimal_model_on_its_optimal_tokens_takes_the_compute_that_there_is(flops, ratio):
    parameters = compute_optimal_parameters(flops, ratio)
    assert training_flops(parameters, compute_optimal_tokens(parameters, ratio)) == pytest.approx(flops)


def test_llama_3_was_trained_on_ninety_times_the_compute_optimal_tokens():
    run = next(run for run in RUNS if run.name == "Llama 3 8B")
    assert run.tokens / compute_optimal_tokens(run.parameters) == pytest.approx(93.4, abs=0.1)


# --------------------------------------------------------------------------------------------------------- data


@pytest.mark.parametrize(("bands", "rows"), [(4, 2), (2, 6), (16, 8)])
def test_the_chance_of_meeting_is_what_random_permutations_give(bands, rows):
    left, right = set(range(60)), set(range(15, 70))
    similarity = len(left & right) / len(left | right)
    rng, met, trials = np.random.default_rng(0), 0, 1500
    for _ in range(trials):
        order = rng.random((bands * rows, 70)).argsort(1)
        equal = order[:, sorted(left)].min(1) == order[:, sorted(right)].min(1)
        met += equal.reshape(bands, rows).all(1).any()
    expected = minhash_collision(similarity, bands, rows)
    assert stats.binomtest(met, trials, expected).pvalue > 1e-3


def test_the_threshold_is_where_the_curve_is_steepest():
    bands, rows = 16, 8
    grid = np.linspace(0.01, 0.99, 9801)
    curve = np.array([minhash_collision(one, bands, rows) for one in grid])
    steepest = grid[np.gradient(curve, grid).argmax()]
    assert minhash_threshold(bands, rows) == pytest.approx(steepest, abs=0.02)


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 200), min_size=1))
def test_class_weights_are_those_of_scikit_learn(counts):
    labels = [name for name, count in counts.items() for _ in range(count)]
    classes = sorted(counts)
    theirs = dict(zip(classes, compute_class_weight("balanced", classes=np.array(classes), y=labels), strict=True))
    assert balanced_class_weights(counts) == pytest.approx(theirs)


def test_class_weights_of_counts_without_names_are_numbered():
    assert balanced_class_weights([90, 10]) == {0: 100 / 180, 1: 5.0}


@given(st.floats(0, 1), st.integers(1, 10_000))
def test_the_standard_error_is_that_of_the_binomial_distribution(accuracy, examples):
    assert accuracy_standard_error(accuracy, examples) == pytest.approx(
        stats.binom(examples, accuracy).std() / examples, abs=1e-12
    )


def test_a_network_of_n_features_has_as_many_coalitions_as_are_listed():
    coalitions = [set(some) for size in range(8) for some in itertools.combinations(range(7), size)]
    assert exact_shapley_evaluations(7) == len(coalitions)


# ------------------------------------------------------------------------------------------------------ company


@given(st.floats(0, 1e9), st.floats(1e3, 1e8), st.floats(0, 1e8))
def test_the_runway_is_the_month_in_which_a_ledger_goes_below_zero(cash, costs, revenue):
    months = runway_months(cash, costs, revenue)
    if math.isinf(months):
        assert revenue >= costs
    elif months < 500:
        left = cash
        for _ in range(math.floor(months)):
            left += revenue - costs
        assert -1e-6 * costs <= left <= (costs - revenue) * (1 + 1e-6) + 1e-6 * (cash + costs)


def test_a_company_that_earns_its_costs_has_no_end_of_runway():
    assert runway_months(0, 10, 10) == math.inf
    assert runway_months(4e6, 153e6 / 12, 11e6 / 12) == pytest.approx(0.338, abs=1e-3)


# ---------------------------------------------------------------------------------------------------- bad input

HEADS = {"key_value_heads": 8, "head_width": 128}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: model_bytes(0), ValueError, "parameters must be finite and above 0, got 0"),
        (lambda: model_bytes(1e9, 0), ValueError, "bits must be finite and above 0"),
        (lambda: model_bytes(1e9, 4, group_size=-1), ValueError, "group_size must be at least 0, got -1"),
        (lambda: model_bytes(1e9, 4, scale_bits=-1), ValueError, "scale_bits must be finite and at least 0"),
        (lambda: model_bytes(1e9, 4, zero_point_bits=None), TypeError, "zero_point_bits must be a number"),
        (lambda: model_bytes(1e9, 4, unquantised=2e9), ValueError, "unquantised must be at most .* got 2000000000.0"),
        (lambda: kv_cache_bytes(0, 1, **HEADS), ValueError, "layers must be at least 1"),
        (lambda: kv_cache_bytes(1, 1.5, **HEADS), TypeError, "context must be a whole number"),
        (lambda: kv_cache_bytes(1, 1, 0, **HEADS), ValueError, "batch must be at least 1"),
        (lambda: kv_cache_bytes(1, 1), ValueError, "give key_value_heads and head_width, or latent_width"),
        (lambda: kv_cache_bytes(1, 1, key_value_heads=8), ValueError, "head_width=0"),
        (lambda: kv_cache_bytes(1, 1, **HEADS, latent_width=512), ValueError, "or latent_width .*latent_width=512"),
        (lambda: kv_cache_bytes(1, 1, rotary_width=64), ValueError, "latent_width=0, rotary_width=64"),
        (lambda: kv_cache_bytes(1, 1, **HEADS, value_bytes=0), ValueError, "value_bytes must be finite and above 0"),
        (lambda: decode_tokens_per_second(0, 1), ValueError, "weight_bytes must be finite and above 0"),
        (lambda: decode_tokens_per_second(1, 0), ValueError, "memory_bandwidth must be finite and above 0"),
        (lambda: decode_tokens_per_second(1, 1, 0), ValueError, "batch must be at least 1"),
        (lambda: decode_tokens_per_second(1, 1, cache_bytes=-1), ValueError, "cache_bytes must be finite and at least"),
        (lambda: decode_tokens_per_second(1, 1, parameters=1), ValueError, "both parameters and peak_flops or neither"),
        (lambda: prefill_seconds(1, 1, 1, 40), ValueError, "utilisation must be a share"),
        (lambda: prefill_seconds(1, 0, 1), ValueError, "tokens must be at least 1"),
        (lambda: prefill_seconds(1, 1, 0), ValueError, "peak_flops must be finite and above 0"),
        (lambda: prefill_seconds(1, 1, 1, layers=2), ValueError, "both layers and width or neither, got layers=2"),
        (lambda: compute_bound_batch(1, 1, 0), ValueError, "weight_bits must be finite and above 0"),
        (lambda: compute_bound_batch(1, 0), ValueError, "memory_bandwidth must be finite and above 0"),
        (lambda: cost_per_million_tokens(-1, 1), ValueError, "price must be finite and at least 0"),
        (lambda: cost_per_million_tokens(1, 0), ValueError, "tokens_per_second must be finite and above 0"),
        (lambda: cost_per_million_tokens(1, 1, 0), ValueError, "gpus must be at least 1"),
        (lambda: cost_per_million_tokens(1, 1, 1, 2), ValueError, "utilisation must be a share"),
        (lambda: speculative_tokens(1.1, 2), ValueError, "acceptance must be a share between 0 and 1, got 1.1"),
        (lambda: speculative_speedup(0.5, -1, 0), ValueError, "draft_tokens must be at least 0"),
        (lambda: speculative_speedup(0.5, 1, -1), ValueError, "draft_cost must be finite and at least 0"),
        (lambda: all_gather_bytes(-1, 2), ValueError, "payload must be finite and at least 0"),
        (lambda: all_gather_bytes(1, 0), ValueError, "world_size must be at least 1"),
        (lambda: all_gather_seconds(1, 2, 0), ValueError, "bandwidth must be finite and above 0"),
        (lambda: all_gather_seconds(1, 2, 1, -1), ValueError, "latency must be finite and at least 0"),
        (lambda: pipeline_bubble(0, 1), ValueError, "stages must be at least 1"),
        (lambda: pipeline_bubble(1, 0), ValueError, "microbatches must be at least 1"),
        (lambda: pipeline_bubble(1, 1, 1.5), TypeError, "chunks must be a whole number"),
        (lambda: compute_optimal_tokens(0), ValueError, "parameters must be finite and above 0"),
        (lambda: compute_optimal_tokens(1, 0), ValueError, "tokens_per_parameter must be finite and above 0"),
        (lambda: compute_optimal_parameters("1e21"), TypeError, "flops must be a number, got str"),
        (lambda: minhash_collision(1.2, 1, 1), ValueError, "similarity must be between 0 and 1, got 1.2"),
        (lambda: minhash_collision(0.5, 0, 1), ValueError, "bands must be at least 1"),
        (lambda: minhash_threshold(1, 0), ValueError, "rows must be at least 1"),
        (lambda: balanced_class_weights({}), ValueError, "counts must have at least one class, got none"),
        (lambda: balanced_class_weights({"rare": 0}), ValueError, "counts\\['rare'\\] must be at least 1, got 0"),
        (lambda: balanced_class_weights("aab"), TypeError, "counts must be a mapping or a sequence .* got str"),
        (lambda: balanced_class_weights([0.5, 0.5]), TypeError, "counts\\[0\\] must be a whole number"),
        (lambda: accuracy_standard_error(90, 100), ValueError, "accuracy must be a share between 0 and 1, got 90"),
        (lambda: accuracy_standard_error(0.9, 0), ValueError, "examples must be at least 1"),
        (lambda: exact_shapley_evaluations(0), ValueError, "features must be at least 1"),
        (lambda: runway_months(-1, 1), ValueError, "cash must be finite and at least 0"),
        (lambda: runway_months(1, math.nan), ValueError, "monthly_costs must be finite"),
        (lambda: runway_months(1, 1, True), TypeError, "monthly_revenue must be a number, got bool"),
    ],
)
def test_a_wrong_argument_is_named_with_what_came_and_what_is_accepted(call, error, message):
    with pytest.raises(error, match=message):
        call()
