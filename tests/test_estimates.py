"""The formulas agree with the papers they come from, with real modules, and with runs whose hours were published."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from helpers import estimates
from helpers.estimates import (
    GPUS,
    PRICES,
    RUNS,
    activation_bytes,
    all_reduce_bytes,
    all_reduce_seconds,
    data_parallel_efficiency,
    gpt_parameters,
    gpu_hours,
    human,
    training_cost,
    training_flops,
    training_memory,
    utilisation,
)
from helpers.models import GPT, GPTConfig

# ------------------------------------------------------------------------------------------------------- import


def test_importing_the_estimates_loads_neither_torch_nor_numpy():
    code = "import sys, helpers.estimates; print(sorted({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_that_is_offered_exists():
    assert all(hasattr(estimates, name) for name in estimates.__all__)


# ------------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "B", "0 B"),
        (512, "B", "512 B"),
        (999.4, "B", "999 B"),
        (999.6, "B", "1.00 kB"),
        (1e3, "B", "1.00 kB"),
        (120e9, "B", "120 GB"),
        (31.40625e9, "B", "31.4 GB"),
        (1.875e9, "B", "1.88 GB"),
        (9.996e6, "B", "10.0 MB"),
        (99.96e6, "B", "100 MB"),
        (999.7e6, "B", "1.00 GB"),
        (-5e6, "B", "-5.00 MB"),
        (0.25, "s", "0.25 s"),
        (8.4e22, "FLOP", "84.0 ZFLOP"),
        (312e12, "FLOP/s", "312 TFLOP/s"),
        (5e27, "FLOP", "5000 YFLOP"),
    ],
)
def test_a_quantity_is_printed_with_three_digits_and_its_unit(value, unit, text):
    assert human(value, unit) == text


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_is_no_number_is_not_printed_as_one(value):
    with pytest.raises(ValueError, match="value must be finite"):
        human(value)


# ------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.88)])
def test_the_table_of_the_zero_paper_comes_out(stage, gigabytes):
    # Rajbhandari et al., 2020, figure 1 and table 1: 7.5 billion parameters on 64 GPUs
    found = training_memory(7.5e9, world_size=64, zero_stage=stage)
    assert found.total / 1e9 == pytest.approx(gigabytes, rel=3e-3)


def test_the_zero_paper_s_trillion_parameters_fit_on_1024_gpus_only_at_stage_three():
    # the same paper, table 1: 1T parameters on 1,024 GPUs, in GB
    totals = [training_memory(1e12, world_size=1024, zero_stage=stage).total / 1e9 for stage in (1, 2, 3)]
    assert totals == pytest.approx([4011, 2013, 15.6], rel=2e-3)


def test_each_stage_divides_one_thing_more():
    parts = [training_memory(1e9, world_size=4, zero_stage=stage) for stage in range(4)]
    assert [one.optimiser / 1e9 for one in parts] == [12, 3, 3, 3]
    assert [one.gradients / 1e9 for one in parts] == [2, 2, 0.5, 0.5]
    assert [one.weights / 1e9 for one in parts] == [2, 2, 2, 0.5]


OPTIMISERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters),
    "adamw": lambda parameters: torch.optim.AdamW(parameters),
}


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_real_optimiser_keeps_as_much_as_the_estimate_says(name, precision, dtype):
    model = nn.Linear(64, 33).to(dtype)
    optimiser = OPTIMISERS[name](model.parameters())
    model(torch.ones(2, 64, dtype=dtype)).sum().backward()
    optimiser.step()
    states = [value for state in optimiser.state.values() for value in state.values() if torch.is_tensor(value)]
    found = training_memory(64 * 33 + 33, optimiser=name, precision=precision)
    assert found.weights == sum(p.numel() * p.element_size() for p in model.parameters())
    assert found.gradients == sum(p.grad.numel() * p.grad.element_size() for p in model.parameters())
    # Adam's count of steps is one number per tensor
    assert found.optimiser == sum(v.numel() * v.element_size() for v in states if v.numel() > 1)


def test_a_memory_estimate_prints_its_parts_with_units():
    text = repr(training_memory(7.5e9, world_size=64, zero_stage=1))
    assert text == "MemoryEstimate(31.4 GB a GPU: weights 15.0 GB, gradients 15.0 GB, optimiser 1.41 GB)"


@pytest.mark.parametrize(
    "config",
    [GPTConfig(), GPTConfig(vocabulary=50, context=7, layers=1, heads=2, width=6), GPTConfig(layers=3, width=96)],
    ids=["default", "tiny", "odd"],
)
def test_the_parameters_of_our_gpt_are_counted_exactly(config):
    counted = sum(parameter.numel() for parameter in GPT(config).parameters())
    assert gpt_parameters(config.layers, config.width, config.vocabulary, context=config.context) == counted


def test_a_layer_of_torch_has_as_many_parameters_as_one_of_ours():
    layer = nn.TransformerEncoderLayer(32, 4, dim_feedforward=80)
    one, two = (gpt_parameters(layers, 32, 100, hidden=80) for layers in (1, 2))
    assert two - one == sum(parameter.numel() for parameter in layer.parameters())


LLAMA = {"gated": True, "biases": False, "tied": False}


@pytest.mark.parametrize(
    ("name", "counted", "published"),
    [
        ("GPT-2 small", gpt_parameters(12, 768, 50257, context=1024), 124_439_808),
        ("GPT-2 XL", gpt_parameters(48, 1600, 50257, context=1024), 1_557_611_200),
        ("Llama 2 7B", gpt_parameters(32, 4096, 32000, hidden=11008, **LLAMA), 6_738_415_616),
        ("Llama 3 8B", gpt_parameters(32, 4096, 128256, hidden=14336, key_value_width=1024, **LLAMA), 8_030_261_248),
    ],
)
def test_published_models_are_counted_to_the_last_parameter(name, counted, published):
    assert counted == published  # as the model's own files on the Hugging Face Hub have it


# -------------------------------------------------------------------------------------------------- activations


def test_the_formulas_of_the_activation_paper_come_out():
    # Korthikanti et al., 2022, table 2, without parallelism; GPT-3: s 2048, h 12288, a 96, 96 layers
    s, b, h, a, layers = 2048, 1, 12288, 96, 96
    kept = activation_bytes(layers, h, s, b, a)
    assert kept == pytest.approx(s * b * h * layers * (34 + 5 * a * s / h))
    assert activation_bytes(layers, h, s, b, a, "selective") == s * b * h * layers * 34
    assert activation_bytes(layers, h, s, b, a, "full") == s * b * h * layers * 2
    # section 5: "selective activation recomputation saves 70% of the required activation memory" for GPT-3
    assert 1 - activation_bytes(layers, h, s, b, a, "selective") / kept == pytest.approx(0.70, abs=0.005)


def test_attention_dominates_only_when_the_context_is_long():
    short, long = (
        activation_bytes(1, 1024, s, 1, 16) / activation_bytes(1, 1024, s, 1, 16, "selective") for s in (64, 8192)
    )
    assert short < 1.2
    assert long > 15


# ------------------------------------------------------------------------------------------------ communication


def ring_sent(length: int, world_size: int) -> float:
    """Elements that one rank sends, counted in a ring that is written out: n-1 rounds of a share, twice."""
    return sum(length / world_size for _ in range(world_size - 1)) * 2


@pytest.mark.parametrize("world_size", [1, 2, 3, 8, 1000])
def test_a_ring_sends_at_most_twice_the_payload_however_many_ranks_there_are(world_size):
    sent = all_reduce_bytes(6e9, world_size)
    assert sent == pytest.approx(ring_sent(6e9, world_size))
    assert sent < 12e9


def test_the_time_of_an_all_reduce_is_its_bytes_over_the_slowest_link_and_a_wait_per_round():
    assert all_reduce_seconds(100e6, 2, 62.5e6) == pytest.approx(1.6)  # 100 MB over 500 Mbit/s
    assert all_reduce_seconds(0, 8, 1e9, latency=1e-3) == pytest.approx(14e-3)
    assert all_reduce_seconds(100e6, 1, 1.0) == 0


def test_efficiency_falls_with_what_cannot_be_hidden():
    assert data_parallel_efficiency(1.0, 0.0) == 1
    assert data_parallel_efficiency(0.3, 0.1) == pytest.approx(0.75)
    assert data_parallel_efficiency(0.3, 0.1, overlap=1.0) == 1
    assert data_parallel_efficiency(0.1, 0.4, overlap=1.0) == pytest.approx(0.25)  # no more hides than is computed


# -------------------------------------------------------------------------------------------- hours and money


@pytest.mark.parametrize("name", ["LLaMA 7B", "LLaMA 65B", "MPT-7B", "Llama 2 7B", "Llama 2 70B"])
def test_published_gpu_hours_are_estimated_within_a_fifth_at_forty_percent_utilisation(name):
    run = next(run for run in RUNS if run.name == name)
    hours = gpu_hours(training_flops(run.parameters, run.tokens), GPUS[run.gpu].peak_flops, 0.4)
    assert hours == pytest.approx(run.gpu_hours, rel=0.2)
    assert 0.3 < run.utilisation < 0.5


def test_a_run_that_the_formula_does_not_reproduce_is_among_the_published_ones():
    # an honest table has its exception: Llama 3 8B took 2.6 times what 40 % of the peak would have needed
    run = next(run for run in RUNS if run.name == "Llama 3 8B")
    assert run.utilisation == pytest.approx(0.156, abs=0.001)


def test_tokens_per_second_and_gpu_hours_of_the_llama_paper_agree_with_each_other_and_with_ours():
    # section 2.4: 380 tokens per second and GPU at 65.2 billion parameters; table 15: 1,022,362 hours
    run = next(run for run in RUNS if run.name == "LLaMA 65B")
    assert run.tokens / 380 / 3600 == pytest.approx(run.gpu_hours, rel=2e-3)
    assert 6 * run.parameters * 380 / GPUS["A100"].peak_flops == pytest.approx(run.utilisation, rel=2e-3)


def test_a_published_utilisation_comes_out():
    # llm-foundry's table, 2023: 7B at 2,048 tokens on 8 A100-80GB, 4,641 tokens/s a GPU, 64.23 % with attention
    flops = training_flops(6_658_859_008, 4641 * 3600, layers=32, width=4096, context=2048)
    assert utilisation(flops, 1, GPUS["A100"].peak_flops) == pytest.approx(0.6423, abs=5e-3)


def test_attention_adds_what_counting_its_products_gives():
    layers, width, context = 4, 128, 128
    # two products of (context × width) by (width × context) per layer and sequence, 2 operations each, three passes
    products = 3 * layers * 2 * (2 * context * width * context)
    added = training_flops(1, context, layers=layers, width=width, context=context) - training_flops(1, context)
    assert added == products


def test_hours_and_utilisation_undo_each_other():
    assert utilisation(1e21, gpu_hours(1e21, 312e12, 0.37), 312e12) == pytest.approx(0.37)


def test_the_bill_of_llama_2_7b_is_its_hours_times_the_price():
    cost = training_cost(6.738e9, 2e12, 312e12, 0.391, gpus=512, price=2.0)
    assert cost.gpu_hours == pytest.approx(184_320, rel=2e-3)
    assert cost.money == pytest.approx(2 * 184_320, rel=2e-3)
    assert cost.days == pytest.approx(184_320 / 512 / 24, rel=2e-3)
    assert repr(cost).startswith("TrainingCost(80.9 ZFLOP, 184,")
    assert "15.0 days" in repr(cost)


def test_more_gpus_take_fewer_days_for_the_same_money():
    few, many = (training_cost(1e9, 1e11, 312e12, 0.4, gpus=gpus, price=2.0) for gpus in (8, 64))
    assert few.days == pytest.approx(8 * many.days)
    assert few.money == many.money


def test_the_peak_is_the_one_without_sparsity():
    # the datasheets: H100 SXM 1,979 TFLOP/s in bf16 "with sparsity", A100 624
    assert GPUS["H100"].peak_flops == pytest.approx(1979e12 / 2, rel=1e-3)
    assert GPUS["A100"].peak_flops == pytest.approx(624e12 / 2)


def test_every_published_figure_names_its_source_and_year():
    for one in (*GPUS.values(), *RUNS, *PRICES):
        assert any(f"20{year}" in one.source for year in range(20, 27)), one
    assert all(one.gpu in GPUS for one in (*RUNS, *PRICES))
    assert repr(GPUS["H100"]).startswith("GPU(H100: 989 TFLOP/s bf16, 80.0 GB, 3.35 TB/s memory, 450 GB/s link")


# ---------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: training_memory(0), ValueError, "parameters must be finite and above 0, got 0"),
        (lambda: training_memory("7B"), TypeError, "parameters must be a number, got str"),
        (lambda: training_memory(True), TypeError, "parameters must be a number, got bool"),
        (lambda: training_memory(1e9, world_size=0), ValueError, "world_size must be at least 1, got 0"),
        (lambda: training_memory(1e9, world_size=2.0), TypeError, "world_size must be a whole number, got float 2.0"),
        (lambda: training_memory(1e9, zero_stage=4), ValueError, "zero_stage must be 0, 1, 2 or 3, got 4"),
        (lambda: training_memory(1e9, zero_stage=-1), ValueError, "zero_stage must be at least 0"),
        (lambda: training_memory(1e9, optimiser="lion"), ValueError, "optimiser must be one of 'adamw', 'adam'"),
        (lambda: training_memory(1e9, precision="fp8"), ValueError, "precision must be one of 'mixed'.*got 'fp8'"),
        (lambda: gpt_parameters(0, 1, 1), ValueError, "layers must be at least 1"),
        (lambda: gpt_parameters(1, 8, 1, hidden=0), ValueError, "hidden must be at least 1"),
        (lambda: gpt_parameters(1, 8, 1, context=-1), ValueError, "context must be at least 0"),
        (lambda: gpt_parameters(1, 8, 1, key_value_width=1.5), TypeError, "key_value_width must be a whole number"),
        (lambda: activation_bytes(1, 8, 0, 1, 1), ValueError, "context must be at least 1"),
        (lambda: activation_bytes(1, 8, 8, 1, 1, "some"), ValueError, "recompute must be one of 'none', 'selective'"),
        (lambda: activation_bytes(1, 8, 8, 1, 1, value_bytes=0), ValueError, "value_bytes must be at least 1"),
        (lambda: activation_bytes(1, 8, 8, 1, 1, vocabulary=-1), ValueError, "vocabulary must be at least 0"),
        (lambda: all_reduce_bytes(-1, 2), ValueError, "payload must be finite and at least 0, got -1"),
        (lambda: all_reduce_bytes(1, 0), ValueError, "world_size must be at least 1"),
        (lambda: all_reduce_seconds(1, 2, 0), ValueError, "bandwidth must be finite and above 0"),
        (lambda: all_reduce_seconds(1, 2, 1, -1), ValueError, "latency must be finite and at least 0"),
        (lambda: data_parallel_efficiency(0, 1), ValueError, "compute_s must be finite and above 0"),
        (lambda: data_parallel_efficiency(1, -1), ValueError, "communication_s must be finite and at least 0"),
        (lambda: data_parallel_efficiency(1, 1, 1.1), ValueError, "overlap must be a share between 0 and 1, got 1.1"),
        (lambda: training_flops(1e9, math.inf), ValueError, "tokens must be finite"),
        (lambda: training_flops(1e9, 1e9, layers=2), ValueError, "layers, width and context together"),
        (lambda: gpu_hours(1, 1, 40), ValueError, "utilisation must be a share, above 0 and at most 1, got 40"),
        (lambda: gpu_hours(1, 1, 0), ValueError, "utilisation must be finite and above 0"),
        (lambda: gpu_hours(0, 1, 1), ValueError, "flops must be finite"),
        (lambda: gpu_hours(1, 0, 1), ValueError, "peak_flops must be finite"),
        (lambda: utilisation(1, 0, 1), ValueError, "gpu_hours must be finite"),
        (lambda: utilisation(1, 1, None), TypeError, "peak_flops must be a number, got NoneType"),
        (lambda: utilisation(-1, 1, 1), ValueError, "flops must be finite"),
        (lambda: training_cost(1, 1, 1, 1, 0, 1), ValueError, "gpus must be at least 1"),
        (lambda: training_cost(1, 1, 1, 1, 1, -2), ValueError, "price must be finite and at least 0"),
    ],
)
def test_a_wrong_argument_is_named_with_what_came_and_what_is_accepted(call, error, message):
    with pytest.raises(error, match=message):
        call()
