"""What is measured is what is there: bytes, operations, times and phases of real models."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
import time

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel

from helpers import ddp, efficiency, estimates
from helpers.efficiency import measuring, profiling
from helpers.efficiency.profiling import Operator, Profile, Span, Step
from helpers.models import GPT, GPTConfig, resnet18

SMALL = GPTConfig(layers=3, width=96, heads=3, context=64)


def gpt(config: GPTConfig = SMALL) -> GPT:
    torch.manual_seed(0)
    return GPT(config)


def tokens(batch: int = 4, config: GPTConfig = SMALL) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(config.vocabulary, (batch, config.context), generator=generator)


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(x).flatten(0, 1), x.flatten())


# --------------------------------------------------------------------------------------------------- throughput


def test_a_step_takes_as_long_as_it_sleeps_and_warm_up_does_not_count():
    pauses = itertools.chain([0.5, 0.5], itertools.repeat(0.02))
    found = efficiency.throughput(lambda: time.sleep(next(pauses)), samples=8, warm_up=2, repeats=5)
    assert 0.02 <= found.seconds <= max(found.runs) < 0.5
    assert len(found.runs) == 5
    assert found.per_second == pytest.approx(8 / found.seconds)


def test_one_slow_step_does_not_move_the_result():
    pauses = iter([0.01, 0.2, 0.01])
    found = efficiency.throughput(lambda: time.sleep(next(pauses)), warm_up=0, repeats=3)
    assert found.seconds < 0.1
    assert max(found.runs) >= 0.2


def test_a_throughput_prints_its_units_and_its_spread():
    found = efficiency.Throughput((0.020, 0.025, 0.040), samples=100)
    assert repr(found) == "Throughput(25 ms a step, 4,000 samples/s; 3 steps between 20 and 40 ms)"


# ------------------------------------------------------------------------------------------------ state in memory


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda p: torch.optim.AdamW(p), "adamw"),
        (lambda p: torch.optim.SGD(p, momentum=0.9), "momentum"),
        (lambda p: torch.optim.SGD(p), "sgd"),
    ],
)
def test_what_is_measured_between_two_steps_is_what_was_estimated(make, name):
    model = gpt()
    optimiser = make(model.parameters())
    loss_of(model, tokens()).backward()
    optimiser.step()
    count = sum(parameter.numel() for parameter in model.parameters())
    expected = estimates.training_memory(count, optimiser=name, precision="fp32")
    found = efficiency.state_bytes(model, optimiser)
    assert (found.weights, found.gradients) == (expected.weights, expected.gradients)
    # Adam also counts its steps, four bytes for each tensor
    assert 0 <= found.optimiser - expected.optimiser <= 4 * len(list(model.parameters()))


def test_before_the_first_step_there_are_weights_only():
    model = gpt()
    found = efficiency.state_bytes(model, torch.optim.AdamW(model.parameters()))
    assert (found.gradients, found.optimiser) == (0, 0)
    assert found.weights == found.total > 0


def test_statistics_of_batch_normalisation_take_memory_too():
    model = nn.BatchNorm1d(10)  # weight and bias, running mean and variance, and one int64
    assert efficiency.state_bytes(model).weights == 4 * 10 * 4 + 8


# --------------------------------------------------------------------------------------------------- activations


def activations(model: nn.Module, x: torch.Tensor, precision: str = "fp32") -> int:
    def forward() -> torch.Tensor:
        with efficiency.autocast(precision):
            return loss_of(model, x)

    return efficiency.saved_bytes(forward)


def estimated(config: GPTConfig, batch: int, recompute: str, value_bytes: int = 4) -> int:
    return estimates.activation_bytes(
        config.layers,
        config.width,
        config.context,
        batch,
        config.heads,
        recompute,
        value_bytes=value_bytes,
        dropout=False,
        vocabulary=config.vocabulary,
    )


CONFIGS = [SMALL, GPTConfig(), GPTConfig(layers=2, width=64, heads=8, context=256)]


@pytest.mark.parametrize("config", CONFIGS, ids=["small", "default", "long"])
def test_a_gpt_with_fused_attention_keeps_what_the_paper_says_within_two_percent(config):
    found = activations(gpt(config), tokens(4, config))
    assert found == pytest.approx(estimated(config, 4, "selective"), rel=0.02)


@pytest.mark.parametrize("config", CONFIGS, ids=["small", "default", "long"])
def test_attention_written_out_keeps_its_matrices_within_a_tenth_of_the_paper(config):
    with sdpa_kernel(SDPBackend.MATH):
        found = activations(gpt(config), tokens(4, config))
    # the written-out attention of torch also keeps scaled queries and keys
    assert found == pytest.approx(estimated(config, 4, "none"), rel=0.10)
    assert found > activations(gpt(config), tokens(4, config))


@pytest.mark.parametrize("config", CONFIGS, ids=["small", "default", "long"])
def test_checkpointed_blocks_keep_their_inputs_within_three_percent(config):
    found = activations(efficiency.checkpoint_activations(gpt(config)), tokens(4, config))
    assert found == pytest.approx(estimated(config, 4, "full"), rel=0.03)


def test_autocast_keeps_a_quarter_to_a_half_more_than_sixteen_bits_say():
    config = GPTConfig()
    found = activations(gpt(config), tokens(8, config), "bf16")
    assert 1.1 < found / estimated(config, 8, "selective", value_bytes=2) < 1.5
    assert found < activations(gpt(config), tokens(8, config))


def test_activations_grow_with_the_batch_and_weights_do_not_count():
    model = gpt()
    one, two = (activations(model, tokens(batch)) for batch in (4, 8))
    assert two == pytest.approx(2 * one, rel=0.01)


def test_a_tensor_saved_twice_is_counted_once_and_a_weight_not_at_all():
    layer = nn.Linear(10, 10)
    x = torch.randn(100, 10, requires_grad=True) * 1  # not a leaf
    assert efficiency.saved_bytes(lambda: layer(x) + layer(x)) == 100 * 10 * 4


def test_measuring_activations_leaves_the_gradients_right():
    model, x = gpt(), tokens()
    losses = []
    efficiency.saved_bytes(lambda: losses.append(loss_of(model, x)))
    losses[0].backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    loss_of(model, x).backward()
    assert all(torch.equal(one, parameter.grad) for one, parameter in zip(found, model.parameters(), strict=True))


# --------------------------------------------------------------------------------------------------- peak memory


def hold(megabytes: int) -> None:
    np.ones(megabytes * 10**6, dtype=np.uint8)


@pytest.mark.skipif(sys.platform != "linux", reason="exact on Linux only")
def test_the_peak_is_what_the_function_held_although_it_gave_it_back():
    assert efficiency.peak_memory(hold, 200) == pytest.approx(200e6, rel=0.1)


def test_a_function_of_a_notebook_cell_can_be_measured_and_may_print():
    size = 50 * 10**6

    def cell() -> None:
        sys.stdout.write("a line that is not the answer")
        torch.zeros(size, dtype=torch.uint8) + 1

    assert efficiency.peak_memory(cell) > size


def tiny_step() -> None:
    model = nn.Linear(8, 8)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(8, 8)).sum().backward()
    optimiser.step()


@pytest.mark.skipif(sys.platform != "linux", reason="exact on Linux only")
def test_what_torch_loads_for_its_first_step_is_not_the_functions_memory():
    assert efficiency.peak_memory(tiny_step) < 30e6  # it was 180 MB


def test_a_failing_function_says_why():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        efficiency.peak_memory(lambda: 1 / 0)


def test_a_function_that_never_ends_is_stopped():
    with pytest.raises(subprocess.TimeoutExpired):
        efficiency.peak_memory(time.sleep, 600, timeout=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_memory_cannot_be_measured():
    with pytest.raises(ValueError, match="torch finds no GPU"):
        efficiency.peak_memory(hold, 1, device="cuda")


# --------------------------------------------------------------------------------------------- floating point


def test_the_operations_of_a_linear_layer_are_counted_by_hand():
    # forward 2·b·in·out; backward the same for the weights, and for the input only where it needs a gradient
    layers = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 7))
    by_hand = 2 * 11 * (3 * 5 + 5 * 7) + 2 * 11 * (3 * 5 + 5 * 7) + 2 * 11 * (5 * 7)
    assert efficiency.training_flops_of(layers, torch.randn(11, 3)) == by_hand


@pytest.mark.parametrize("config", CONFIGS, ids=["small", "default", "long"])
def test_the_operations_of_a_gpt_are_six_per_parameter_and_token_and_attention(config):
    model = gpt(config)
    # the table of positions is added, not multiplied
    parameters = sum(p.numel() for p in model.parameters()) - model.positions.weight.numel()
    expected = estimates.training_flops(
        parameters, 4 * config.context, layers=config.layers, width=config.width, context=config.context
    )
    assert efficiency.training_flops_of(model, tokens(4, config)) == pytest.approx(expected, rel=0.02)


def test_the_operations_of_resnet18_agree_with_the_published_count():
    # torchvision's own table: 1.81 GFLOPS (multiplications and additions together once) for one 224×224 picture
    model = resnet18(classes=1000)
    picture = torch.zeros(1, 3, 224, 224)
    forward_twice = 2 * 1.814e9
    stem = 2 * 7 * 7 * 3 * 64 * 112 * 112  # the picture needs no gradient
    assert efficiency.training_flops_of(model, picture) == pytest.approx(3 * forward_twice - stem, rel=0.01)


def test_counting_changes_neither_the_model_nor_the_random_state():
    model = resnet18()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    efficiency.training_flops_of(model, torch.zeros(2, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_what_checkpointing_does_twice_counts_once_and_the_model_stays_checkpointed():
    plain = efficiency.training_flops_of(gpt(), tokens())
    model = efficiency.checkpoint_activations(gpt())
    assert efficiency.training_flops_of(model, tokens()) == plain
    assert activations(model, tokens()) < activations(gpt(), tokens()) / 3


def test_the_peak_is_the_operations_of_the_best_product_over_its_time(monkeypatch):
    def pretended(step, **options):
        step()
        return efficiency.Throughput((2.0, 0.5, 1.0), samples=1)

    monkeypatch.setattr(measuring, "throughput", pretended)
    assert efficiency.peak_flops(torch.bfloat16, size=64) == 2 * 64**3 / 0.5


def test_the_measured_peak_of_this_machine_is_a_plausible_number():
    assert 1e8 < efficiency.peak_flops(repeats=3) < 1e15


def test_utilisation_is_work_over_what_the_time_allowed():
    assert efficiency.utilisation(2e12, 0.5, 8e12) == 0.5


# ----------------------------------------------------------------------------------------------------- profiling


def training_step(model: nn.Module, x: torch.Tensor):
    optimiser, scaler = torch.optim.AdamW(model.parameters()), efficiency.grad_scaler("fp32")

    def step() -> None:
        loss_of(model, x).backward()
        efficiency.optimiser_step(optimiser, scaler, model.parameters(), 1.0)

    return step


def test_a_step_is_forward_then_backward_then_update():
    found = efficiency.profile_step(training_step(gpt(), tokens()), steps=2)
    assert len(found.steps) == 2
    for step in found.steps:
        order = [phase for phase, _ in itertools.groupby(span.phase for span in step.compute)]
        assert order == ["forward", "backward", "optimiser"]
        assert step.transfers == ()
    shares = found.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["communication"] == 0
    assert min(shares["forward"], shares["backward"], shares["optimiser"]) > 0


def test_accumulation_shows_as_several_pairs_before_one_update():
    model, x = gpt(), tokens()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> None:
        optimiser.zero_grad()
        for _ in range(3):
            loss_of(model, x).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    spans = efficiency.profile_step(step, steps=1).steps[0].compute
    order = [phase for phase, _ in itertools.groupby(span.phase for span in spans)]
    assert order == ["optimiser", *["forward", "backward"] * 3, "optimiser"]


def test_a_forward_pass_alone_is_all_forward():
    model, x = gpt(), tokens()
    found = efficiency.profile_step(lambda: model(x), steps=1)
    assert {span.phase for span in found.steps[0].compute} == {"forward"}


def test_what_python_waits_for_is_no_phase():
    step = training_step(gpt(), tokens(1))

    def slow() -> None:
        time.sleep(0.5)
        step()

    assert efficiency.profile_step(slow, steps=1).shares()["other"] > 0.3


def test_the_table_names_the_matrix_products_first_and_its_shares_add_up():
    found = efficiency.profile_step(training_step(gpt(GPTConfig()), tokens(16, GPTConfig())), steps=2)
    table = found.table(3)
    assert list(table.columns) == ["operator", "calls", "self ms", "share"]
    assert len(table) == 3
    assert {"aten::mm", "aten::addmm"} & set(table["operator"])
    assert table["self ms"].is_monotonic_decreasing
    assert found.table(10**6)["share"].sum() == pytest.approx(1)
    # the two linear layers and two projections of each of 4 blocks
    calls = found.table(10**6).set_index("operator")["calls"]
    assert calls["aten::addmm"] == 4 * 4


def test_profiling_says_nothing_on_the_error_output():
    code = (
        "import torch; from helpers import efficiency\n"
        "w = torch.ones(3, requires_grad=True)\n"
        "efficiency.profile_step(lambda: w.sum().backward())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout == ""


def test_profiling_leaves_the_environment_alone(monkeypatch):
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)
    efficiency.profile_step(lambda: torch.ones(2).sum())
    assert "KINETO_LOG_LEVEL" not in os.environ


def profiled_worker(buckets: float) -> Profile:
    model = DistributedDataParallel(gpt(), bucket_cap_mb=buckets)
    step = training_step(model, tokens())
    found = efficiency.profile_step(step, steps=2)
    dist.barrier()
    return found


@pytest.fixture(scope="module")
def two_ranks() -> list[Profile]:
    return ddp.launch(profiled_worker, 2, 0.2, timeout=120)


def test_workers_return_their_profiles_with_the_transfers_of_every_bucket(two_ranks):
    assert [one.rank for one in two_ranks] == [0, 1]
    for one in two_ranks:
        assert all(len(step.transfers) >= 2 for step in one.steps)  # several buckets
        assert sum(one.shares().values()) == pytest.approx(1, abs=0.02)
        assert 0 <= one.overlap() <= 1
    # one clock: the steps of two ranks that wait for one another overlap
    first, second = (one.steps[-1] for one in two_ranks)
    assert abs(first.began - second.began) < (first.milliseconds + second.milliseconds) / 1e3


def test_the_picture_of_two_ranks_has_two_rows_for_each_and_a_legend(two_ranks):
    mpl.use("Agg")
    axis = two_ranks[0].timeline(two_ranks[1])
    rows = [label.get_text() for label in axis.get_yticklabels()]
    assert rows == ["rank 0 computes", "rank 0 transfers", "rank 1 computes", "rank 1 transfers"]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(profiling.PHASES)
    assert axis.get_xlabel().endswith("ms")
    assert "backward" in axis.figure.get_suptitle()
    plt.close("all")


# --------------------------------------------------------------------------------- phases and shares, by hand


def profile_of(compute: list[tuple[str, float, float]], transfers: list[tuple[float, float]], ms: float) -> Profile:
    spans = tuple(Span(*one) for one in compute)
    sent = tuple(Span("communication", *one) for one in transfers)
    return Profile(0, (Step(0.0, ms, spans, sent),), (Operator("a", 1, 1.0),))


def test_only_the_part_of_a_transfer_that_nothing_hides_is_waiting():
    found = profile_of([("forward", 0, 20), ("backward", 20, 60), ("optimiser", 80, 90)], [(40, 55), (50, 80)], 100)
    shares = found.shares()
    assert shares == pytest.approx(
        {"forward": 0.2, "backward": 0.4, "optimiser": 0.1, "communication": 0.2, "other": 0.1}
    )
    assert found.overlap() == pytest.approx(0.5)  # 40 ms are sent, 20 of them are hidden


def test_a_step_without_transfers_hides_none():
    assert profile_of([("forward", 0, 10)], [], 10).overlap() == 0


def test_hand_written_averaging_between_backward_and_step_is_communication():
    backward = "autograd::engine::evaluate_function: MmBackward0"
    names = ["aten::mm", backward, backward, "c10d::allreduce_", "aten::div_", "Optimizer.step#SGD.step", "aten::item"]
    expected = ["forward", "backward", "backward", "communication", "optimiser", "optimiser", "optimiser"]
    assert profiling._phases(names) == expected


def test_what_follows_a_backward_without_an_update_is_no_phase():
    assert profiling._phases(["aten::mm", "autograd::engine::evaluate_function: M", "aten::item"])[-1] == "other"


def test_neighbours_are_joined_and_a_long_pause_stays_visible():
    spans = [Span("forward", 0, 1), Span("forward", 1.5, 3), Span("forward", 9, 10), Span("backward", 10, 11)]
    assert list(profiling._merged(spans)) == [Span("forward", 0, 3), Span("forward", 9, 10), Span("backward", 10, 11)]


def test_phases_can_be_told_apart_without_colour():
    assert len(set(profiling.HATCHES.values())) == len(profiling.PHASES)


def test_one_process_is_drawn_in_one_row_under_the_readers_title():
    mpl.use("Agg")
    axis = profile_of([("forward", 0, 20), ("backward", 20, 60)], [], 60).timeline(title="a finding")
    assert [label.get_text() for label in axis.get_yticklabels()] == ["computes"]
    assert axis.figure.get_suptitle() == "a finding"
    assert axis.get_xlim()[1] >= 60
    plt.close("all")


def test_a_later_rank_is_drawn_later():
    mpl.use("Agg")
    early = Profile(0, (Step(5.0, 10, (Span("forward", 0, 10),), ()),), ())
    late = Profile(1, (Step(5.004, 10, (Span("forward", 0, 10),), ()),), ())
    axis = early.timeline(late)
    starts = [collection.get_paths()[0].get_extents().x0 for collection in axis.collections]
    assert starts == pytest.approx([0, 4], abs=1e-3)
    plt.close("all")


def test_a_profile_is_small_plain_data():
    found = efficiency.profile_step(training_step(gpt(), tokens(1)))
    assert pickle.loads(pickle.dumps(found)) == found
    assert len(pickle.dumps(found)) < 100_000


# ----------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: efficiency.throughput(3), TypeError, "step must be a function to call, got int"),
        (lambda: efficiency.throughput(print, repeats=0), ValueError, "repeats must be at least 1, got 0"),
        (lambda: efficiency.throughput(print, warm_up=-1), ValueError, "warm_up must be at least 0"),
        (lambda: efficiency.throughput(print, samples=1.5), TypeError, "samples must be a whole number, got float"),
        (lambda: efficiency.saved_bytes(torch.ones(1)), TypeError, "function must be a function to call, got Tensor"),
        (lambda: efficiency.peak_memory(None), TypeError, "function must be a function to call, got NoneType"),
        (lambda: efficiency.peak_memory(print, device="tpu"), ValueError, "device must be 'cpu' or 'cuda', got 'tpu'"),
        (lambda: efficiency.training_flops_of(nn.Linear(1, 1), [1]), TypeError, "batch must be a tensor or a tuple"),
        (lambda: efficiency.peak_flops(torch.int8), ValueError, "dtype must be a floating-point type, got torch.int8"),
        (lambda: efficiency.peak_flops(size=-1), ValueError, "size must be at least 0"),
        (lambda: efficiency.utilisation(0, 1, 1), ValueError, "flops must be above 0, got 0"),
        (lambda: efficiency.utilisation(1, float("nan"), 1), ValueError, "seconds must be above 0"),
        (lambda: efficiency.profile_step("step"), TypeError, "step must be a function to call, got str"),
        (lambda: efficiency.profile_step(print, warm_up=0), ValueError, "warm_up must be a whole number of at least 1"),
        (lambda: efficiency.profile_step(print, steps=True), ValueError, "steps must be a whole number of at least 1"),
    ],
)
def test_a_wrong_argument_is_named_with_what_came_and_what_is_accepted(call, error, message):
    with pytest.raises(error, match=message):
        call()
