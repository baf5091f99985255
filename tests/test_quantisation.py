"""helpers.quantisation against torch's own kernels, torchao, closed forms and fresh processes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import quantisation as quant
from helpers.quantisation import backends, flows

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

TYPES = {"int8": (quant.INT8, torch.qint8), "uint8": (quant.UINT8, torch.quint8)}
SPECIAL = {
    "zeros": torch.zeros(3, 4),
    "one element": torch.tensor([[0.7]]),
    "huge": torch.tensor([[3e38, -1e38, 0.0, 1.0]]),
    "denormal": torch.tensor([[1e-40, -3e-42, 0.0, 1e-45]]),
    "ties": torch.arange(-600, 600).reshape(1, -1) * 0.5,
    "infinite": torch.tensor([[math.inf, -math.inf, 1.0, 0.0]]),
}


def random_tensor(seed):
    generator = torch.Generator().manual_seed(seed)
    shape = [int(torch.randint(1, 7, (1,), generator=generator)) for _ in range(1 + seed % 4)]
    return torch.randn(shape, generator=generator) * 10.0 ** (seed % 9 - 4)


def torch_integers(x, scale, zero, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(x, float(scale), int(zero), dtype).int_repr()


# --- bit for bit ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("seed", range(40))
def test_integers_are_those_of_torch_quantize_per_tensor(kind, seed):
    type_, dtype = TYPES[kind]
    x = random_tensor(seed)
    params = quant.params_of(x, type_, symmetric=bool(seed % 2))
    got = quant.quantise_tensor(x, params)
    assert torch.equal(got, torch_integers(x, params.scale, params.zero_point, dtype))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 7.0, 1e-6, 1e30])
def test_special_values_are_quantised_as_torch_does(kind, name, scale):
    type_, dtype = TYPES[kind]
    x = SPECIAL[name]
    params = quant.QParams(torch.tensor(scale), torch.tensor(3, dtype=torch.int32), type_)
    assert torch.equal(quant.quantise_tensor(x, params), torch_integers(x, params.scale, 3, dtype))
    want = torch.fake_quantize_per_tensor_affine(x, float(params.scale), 3, type_.low, type_.high)
    assert torch.equal(quant.fake_quantise(x, params), want)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 3), st.booleans())
def test_fake_quantisation_per_channel_is_torchs_bit_for_bit(seed, axis, symmetric):
    x = random_tensor(4 * seed + 3)
    axis = axis % x.dim()
    params = quant.params_of(x, quant.INT8, symmetric=symmetric, axis=axis)
    want = torch.fake_quantize_per_channel_affine(x, params.scale, params.zero_point, axis, -128, 127)
    assert torch.equal(quant.fake_quantise(x, params), want)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("seed", range(20))
def test_scale_and_zero_point_are_those_of_torchaos_observer(kind, symmetric, seed):
    from torchao.quantization.pt2e import MinMaxObserver

    type_, _ = TYPES[kind]
    x = random_tensor(seed) + (seed % 3 - 1) * 5
    scheme = torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine
    # told its range, the observer puts the middle of symmetric uint8 at 127; left to itself at 128
    bounds = {} if symmetric else {"quant_min": type_.low, "quant_max": type_.high}
    observer = MinMaxObserver(dtype=type_.dtype, qscheme=scheme, eps=torch.finfo(torch.float32).eps, **bounds)
    observer(x)
    scale, zero = observer.calculate_qparams()
    params = quant.params_of(x, type_, symmetric=symmetric)
    assert float(params.scale) == float(scale)
    assert int(params.zero_point) == int(zero)


@pytest.mark.parametrize("name", ["zeros", "one element", "denormal"])
def test_tensors_with_hardly_a_range_have_a_scale_and_come_back(name):
    params = quant.params_of(SPECIAL[name], quant.UINT8, symmetric=False)
    assert params.scale > 0
    torch.testing.assert_close(quant.fake_quantise(SPECIAL[name], params), SPECIAL[name], rtol=0.01, atol=1e-7)


def test_zero_is_kept_exactly_whatever_the_range():
    for low, high in ((0.3, 5.0), (-7.0, -2.0), (-1.0, 3.0)):
        params = quant.params_of(torch.tensor([low, high]), quant.UINT8, symmetric=False)
        assert float(quant.fake_quantise(torch.zeros(1), params)) == 0.0


@pytest.mark.parametrize(
    ("x", "error", "says"),
    [
        (torch.tensor([1.0, math.inf]), ValueError, "must be finite, got"),
        (torch.tensor([1.0, math.nan]), ValueError, "must be finite, got"),
        (torch.tensor([3e38, -3e38]), ValueError, "largest float32"),
        (torch.zeros(0), ValueError, "at least one value"),
        (torch.zeros(3, dtype=torch.int32), TypeError, "floating-point tensor, got torch.int32"),
        ([1.0], TypeError, "got list"),
    ],
)
def test_what_has_no_range_is_refused_with_its_reason(x, error, says):
    with pytest.raises(error, match=says):
        quant.params_of(x, quant.UINT8, symmetric=False)


def test_nan_has_no_integer_and_axis_and_groups_must_exist():
    params = quant.params_of(torch.ones(2))
    with pytest.raises(ValueError, match="NaN"):
        quant.quantise_tensor(torch.tensor([math.nan]), params)
    with pytest.raises(ValueError, match="axis must be a dimension"):
        quant.params_of(torch.ones(2, 2), axis=2)
    with pytest.raises(ValueError, match="divide the 6 columns, got 4"):
        quant.params_of(torch.ones(2, 6), group_size=4)
    with pytest.raises(TypeError, match="must hold integers"):
        quant.dequantise(torch.ones(2), params)


def test_groups_are_channels_of_the_reshaped_matrix():
    weight = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    by_group = quant.fake_quantise(weight, quant.params_of(weight, quant.INT4, group_size=4))
    rows = weight.reshape(15, 4)
    assert torch.equal(by_group, quant.fake_quantise(rows, quant.params_of(rows, quant.INT4, axis=0)).reshape(5, 12))


@given(st.lists(st.integers(-8, 7), min_size=2, max_size=40).filter(lambda values: len(values) % 2 == 0))
def test_four_bit_integers_come_back_and_take_half_a_byte(values):
    q = torch.tensor(values, dtype=torch.int8)
    packed = quant.pack_int4(q)
    assert packed.numel() * 2 == q.numel()
    assert torch.equal(quant.unpack_int4(packed), q)
    first = int(packed[0])
    assert (first & 15, first >> 4) == (values[0] % 16, values[1] % 16)


def test_what_does_not_fit_four_bits_is_refused():
    for q, says in ((torch.tensor([8, 0]), "from -8 to 7, got 0 to 8"), (torch.tensor([1]), "even last dimension")):
        with pytest.raises(ValueError, match=says):
            quant.pack_int4(q)


# --- observers, products, folding -----------------------------------------------------------------------------------


def test_observers_see_all_batches_and_mse_is_never_worse_than_min_max():
    x = torch.randn(4, 1000, generator=torch.Generator().manual_seed(1))
    x[2, 0] = 40.0
    errors = {}
    for name, observer in {"minmax": quant.MinMax(quant.UINT4), "mse": quant.MSE(quant.UINT4)}.items():
        for batch in x:
            observer.observe(batch)
        errors[name] = float((quant.fake_quantise(x, observer.params()) - x).square().mean())
    assert errors["mse"] < 0.5 * errors["minmax"]
    clipped = quant.Percentile(99.0)
    clipped.observe(x)
    assert float(clipped.params().scale) * 255 < 10
    with pytest.raises(RuntimeError, match="observe"):
        quant.MinMax().params()
    with pytest.raises(ValueError, match="finite"):
        quant.MSE().observe(torch.tensor([math.nan]))


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_integer_product_is_the_product_of_what_the_integers_stand_for(symmetric):
    generator = torch.Generator().manual_seed(2)
    a, b = torch.rand(7, 300, generator=generator), torch.randn(300, 5, generator=generator)
    pa, pb = (
        quant.params_of(a, quant.UINT8, symmetric=False),
        quant.params_of(b, quant.INT8, symmetric=symmetric, axis=1),
    )
    qa, qb = quant.quantise_tensor(a, pa), quant.quantise_tensor(b, pb)
    want = quant.dequantise(qa, pa).double() @ quant.dequantise(qb, pb).double()
    torch.testing.assert_close(quant.quantised_matmul(qa, pa, qb, pb).double(), want, rtol=1e-5, atol=1e-5)
    with pytest.raises(TypeError, match="int8 or uint8"):
        quant.integer_matmul(a, qb)
    with pytest.raises(ValueError, match="along k"):
        quant.quantised_matmul(qa, pa, qb, quant.params_of(b, axis=0))


def small_network(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8, eps=1e-3), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip
    for layer in net:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.01, 2)
            nn.init.normal_(layer.weight)
    return net.eval()


def inputs(count=16):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def test_folding_agrees_with_torchs_and_leaves_the_model_alone():
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    net = small_network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    folded = quant.fold_model(net)
    theirs = fuse_conv_bn_eval(net[3], net[4])
    torch.testing.assert_close(folded.get_submodule("3").weight, theirs.weight)
    torch.testing.assert_close(folded.get_submodule("3").bias, theirs.bias)
    with torch.no_grad():
        torch.testing.assert_close(folded(inputs()), net(inputs()), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    with pytest.raises(ValueError, match="evaluation mode"):
        quant.fold_model(net.train())


def test_a_convolution_that_is_used_twice_is_not_folded():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + y

    net = Twice().eval()
    nn.init.normal_(net.norm.running_mean)
    with torch.no_grad():
        torch.testing.assert_close(quant.fold_model(net)(inputs()), net(inputs()))


# --- rounding that knows the inputs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def correlated():
    generator = torch.Generator().manual_seed(4)
    mix = torch.randn(64, 64, generator=generator)
    x = torch.randn(600, 64, generator=generator) @ mix
    x[:, 5] *= 20
    return torch.randn(24, 64, generator=generator), x


def test_gptq_and_awq_lose_less_than_rounding_to_nearest_also_on_new_inputs(correlated):
    weight, x = correlated
    old, new = x[:400], x[400:]
    plain = quant.output_sqnr(weight, quant.round_to_nearest(weight), new)
    assert quant.output_sqnr(weight, quant.gptq(weight, old), new) > plain + 2
    assert quant.output_sqnr(weight, quant.awq(weight, old), new) > plain + 1


def test_gptq_with_inputs_that_say_nothing_is_rounding_to_nearest(correlated):
    weight, _ = correlated
    plain, got = quant.round_to_nearest(weight), quant.gptq(weight, torch.eye(64))
    # the largest of a group lies in the middle between two integers (7.5): there the last bit decides
    largest = weight.reshape(24, 2, 32).abs().amax(2).repeat_interleave(32, 1) == weight.abs()
    torch.testing.assert_close(got[~largest], plain[~largest])


def test_gptqs_weights_lie_on_the_grid(correlated):
    weight, x = correlated
    steps = quant.gptq(weight, x) / quant.params_of(weight, quant.INT4, group_size=32).scale.repeat_interleave(32, 1)
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
    assert steps.min() >= -8.01
    assert steps.max() <= 7.01


def test_smoothing_changes_nothing_in_float_and_helps_in_int8(correlated):
    weight, x = correlated
    moved, scale = quant.smooth(weight, x)
    torch.testing.assert_close((x / scale) @ moved.T, x @ weight.T, rtol=1e-3, atol=1e-2)
    exact = x @ weight.T
    assert quant.sqnr(exact, quant.w8a8(moved, x / scale)) > quant.sqnr(exact, quant.w8a8(weight, x)) + 2


def test_mended_weights_are_found_again_by_a_quantiser_that_reads_the_scale_off_the_largest():
    mended = quant.mend(small_network(), inputs(), keep_float=("8",))
    for name in ("0", "3"):
        weight = mended.get_submodule(name).weight.detach()
        scale = weight.abs().flatten(1).amax(1) / 127
        steps = weight / scale.view(-1, 1, 1, 1)
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=2e-3)


def test_layer_errors_name_every_layer_with_its_kind():
    found = quant.layer_errors(small_network(), inputs())
    assert [(e.name, e.kind) for e in found] == [("0", "convolution"), ("3", "depthwise"), ("8", "linear")]
    assert all(20 < e.output_db < 60 for e in found)


# --- the real flows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["reference", "onnxruntime"])
@pytest.mark.parametrize("mended", [False, True])
def test_static_int8_stays_close_to_float_and_reports(backend, mended):
    net = small_network()
    made = quant.quantise(net, quant.QuantiseConfig(mended=mended), calibration=inputs(), backend=backend)
    with torch.no_grad():
        assert quant.sqnr(net(inputs()), made(inputs())) > 25
    assert made.backend == backend
    assert made.report.output_db > 25
    assert 0.2 < made.report.quantised_bytes / made.report.float_bytes < 0.6
    assert "dB" in str(made.report)


def test_a_layer_kept_in_float_is_float_in_both_backends(tmp_path):
    net = small_network()
    made = quant.quantise(net, quant.QuantiseConfig(keep_float=("0",)), calibration=inputs(), backend="reference")
    integers = [str(n.target) for n in made.module.graph.nodes if "quantize_per_channel" in str(n.target)]
    assert len(integers) == 2  # the depthwise and the linear layer
    assert made.report.kept_float == {"0": "asked for (keep_float)"}
    import onnx

    file = quant.onnx_quantised(quant.fold_model(net), inputs(), tmp_path / "q.onnx", keep_float=("0",))
    model = onnx.load(file)
    weights = {t.name: t.data_type for t in model.graph.initializer}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    assert [weights.get(n.input[1]) == onnx.TensorProto.FLOAT for n in convolutions] == [True, False]


def test_code_that_is_compiled_again_is_frozen_again(monkeypatch: pytest.MonkeyPatch):
    frozen = []

    def compile_(model, **options):
        return lambda x: frozen.append(torch._inductor.config.freezing) or model(x)

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr("helpers.quantisation.backends.compiler_missing", lambda: None)
    run, threads = quant.compiled(small_network(), inputs()[:1]), torch.get_num_threads()
    run(inputs()[:1])
    assert frozen == [True, False]
    try:
        torch.set_num_threads(threads + 1)  # torch.compile guards it: at this call it compiles anew
        run(inputs()[:1])
        with torch.inference_mode():
            run(inputs()[:1])
        run(inputs()[:1])
        run(inputs()[:2])
    finally:
        torch.set_num_threads(threads)
    assert frozen == [True, False, True, True, False, True]


def test_a_layer_whose_name_the_exporter_lost_is_not_quantised_silently(tmp_path):
    with pytest.raises(ValueError, match=r"no convolution or product of \['0'\]; fold_model first"):
        quant.onnx_quantised(small_network(), inputs(), tmp_path / "q.onnx", keep_float=("0",))
    assert not (tmp_path / "q.onnx").exists()


def test_torchaos_floor_under_the_scales_rounds_small_channels_away():
    net = small_network()
    with torch.no_grad():
        net[8].weight *= 1e-4
    floor = quant.QuantiseConfig(smallest_scale=2**-12)
    free = [quant.quantise(net, c, calibration=inputs(), backend="reference").report.output_db for c in (None, floor)]
    assert free[0] > free[1] + 10


@pytest.mark.parametrize("method", ["dynamic", "weight-only"])
def test_dynamic_and_weight_only_leave_convolutions_in_float_and_say_so(method):
    made = quant.quantise(small_network(), quant.QuantiseConfig(method), calibration=inputs(), backend="reference")
    assert set(made.report.kept_float) == {"0", "3"}
    assert made.report.output_db > 30
    assert type(made.module[8].weight).__name__ != "Parameter"


def test_quantisation_aware_training_trains_and_converts():
    from torchao.quantization.pt2e import move_exported_model_to_eval, move_exported_model_to_train

    config = quant.QuantiseConfig("qat")
    net = quant.fold_model(small_network())
    prepared = quant.prepare(net, inputs(), config)
    move_exported_model_to_train(prepared)
    optimiser = torch.optim.SGD(prepared.parameters(), lr=1e-3)
    for _ in range(3):
        loss = prepared(inputs()).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    move_exported_model_to_eval(prepared)
    with torch.no_grad():
        assert quant.sqnr(prepared(inputs()), quant.convert(prepared, config)(inputs())) > 15


@pytest.mark.skipif(backends.compiler_missing() is not None, reason="needs a C++ compiler")
def test_auto_times_what_it_built_and_keeps_the_fastest():
    made = quant.quantise(small_network(), calibration=inputs(), backend="auto")
    assert set(made.report.seconds) == {"compiled", "onnxruntime"}
    assert made.backend == min(made.report.seconds, key=made.report.seconds.get)
    with torch.no_grad():
        assert quant.sqnr(small_network()(inputs(1)), made(inputs(1))) > 20


def test_without_a_compiler_auto_still_works_and_says_what_was_left_out(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    made = quant.quantise(small_network(), calibration=inputs(), backend="auto")
    assert made.backend == "onnxruntime"
    assert any("C++ compiler" in what for what in made.report.left_out)
    with pytest.raises(RuntimeError, match="C\\+\\+ compiler"):
        quant.compiled(small_network(), inputs(1))


def test_without_vnni_the_report_warns_and_ranges_are_reduced(monkeypatch):
    for module in (backends, flows):
        monkeypatch.setattr(module, "has_vnni", lambda: False)
    made = quant.quantise(small_network(), calibration=inputs(), backend="onnxruntime")
    assert any("VNNI" in what for what in made.report.left_out)
    assert made.report.output_db > 15


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"calibration": None}, ValueError, "calibration must be a tensor"),
        ({"calibration": torch.full((2, 3, 16, 16), math.nan)}, ValueError, "calibration must be finite"),
        ({"backend": "tpu"}, ValueError, "backend must be auto"),
        ({"batch": 0}, ValueError, "batch must be at least 1"),
        ({"config": quant.QuantiseConfig("dynamic"), "backend": "onnxruntime"}, ValueError, "static"),
        ({"config": quant.QuantiseConfig(keep_float=("7",))}, ValueError, r"got \['7'\]"),
    ],
)
def test_bad_requests_are_named_before_any_work(change, error, says):
    request = {"config": None, "calibration": inputs(), "backend": "reference", **change}
    with pytest.raises(error, match=says):
        quant.quantise(small_network(), request.pop("config"), **request)
    with pytest.raises(ValueError, match="method must be"):
        quant.QuantiseConfig("int8")
    with pytest.raises(ValueError, match="evaluation mode"):
        quant.quantise(small_network().train(), calibration=inputs())


# --- files ------------------------------------------------------------------------------------------------------------

LOAD = """
import json, sys, torch
from helpers import quantisation as quant
kind, path = sys.argv[1:]
x = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(3))
if kind == "weights":
    loaded = quant.load_weights(path)
    print(json.dumps({name: float(value.double().sum()) for name, value in loaded.items()}))
else:
    print(json.dumps({"onnx": quant.onnx_session, "package": quant.load_package}[kind](path)(x).tolist()))
"""


def in_fresh_process(kind, path):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", LOAD, kind, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("int8", [False, True])
def test_onnx_loads_in_a_fresh_process_and_agrees(tmp_path, int8):
    net = small_network()
    with torch.no_grad():
        want = net(inputs())
    if int8:
        file = quant.onnx_quantised(quant.fold_model(net), inputs(), tmp_path / "m.onnx")
    else:
        file = quant.save_onnx(net, inputs(), tmp_path / "m.onnx")
    assert quant.sqnr(want, torch.tensor(in_fresh_process("onnx", file))) > (25 if int8 else 80)


@pytest.mark.skipif(backends.compiler_missing() is not None, reason="needs a C++ compiler")
def test_a_package_loads_in_a_fresh_process_and_agrees(tmp_path):
    net = small_network()
    file = quant.save_package(net, inputs(), tmp_path / "m.pt2")
    with torch.no_grad():
        assert quant.sqnr(net(inputs()), torch.tensor(in_fresh_process("package", file))) > 80
    data = file.read_bytes()
    for name, content in {"cut": data[: len(data) // 2], "foreign": b"PK nonsense"}.items():
        (tmp_path / f"{name}.pt2").write_bytes(content)
        with pytest.raises(ValueError, match=r"no complete \.pt2 package"):
            quant.load_package(tmp_path / f"{name}.pt2")


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_weights_load_in_a_fresh_process_and_agree(tmp_path, bits):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(256, 128), nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8))
    file = quant.save_weights(net, tmp_path / "w.safetensors", bits=bits)
    sums = in_fresh_process("weights", file)
    here = quant.load_weights(file)
    assert set(here) == set(net.state_dict())
    for name, value in net.state_dict().items():
        assert sums[name] == pytest.approx(float(here[name].double().sum()))
        if value.is_floating_point() and bits == 32:
            assert torch.equal(here[name], value)
    assert quant.sqnr(net[0].weight, here["0.weight"]) > {32: 200, 8: 40, 4: 18}[bits]


def test_a_shared_weight_is_written_once(tmp_path):
    net = nn.ModuleDict({"a": nn.Linear(64, 64, bias=False), "b": nn.Linear(64, 64, bias=False)})
    net["b"].weight = net["a"].weight
    assert set(quant.load_weights(quant.save_weights(net, tmp_path / "w", bits=8))) == {"a.weight"}


def test_sizes_on_disk_are_what_the_bits_say(tmp_path):
    net = nn.Linear(1024, 1024)
    size = {b: quant.save_weights(net, tmp_path / str(b), bits=b).stat().st_size for b in (32, 8, 4)}
    assert size[8] / size[32] < 0.26
    assert size[4] / size[32] < 0.145


def test_a_cut_off_or_foreign_file_gets_a_clear_error_and_nothing_is_unpickled(tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was run",))

    net = small_network()
    files = {
        "onnx": (quant.save_onnx(net, inputs(), tmp_path / "m.onnx"), quant.onnx_session),
        "weights": (quant.save_weights(net, tmp_path / "m.safetensors"), quant.load_weights),
        "package": (None, quant.load_package),
    }
    for kind, (whole, load) in files.items():
        contents = {"pickle": pickle.dumps(Bomb()), "empty": b"", "text": b"hello, this is not a model"}
        if whole is not None:
            contents["cut"] = whole.read_bytes()[: whole.stat().st_size // 2]
        for name, content in contents.items():
            path = tmp_path / f"{kind}-{name}"
            path.write_bytes(content)
            with pytest.raises(ValueError, match="is no"):
                load(path)
        with pytest.raises(FileNotFoundError, match="there is no"):
            load(tmp_path / "missing")


def test_a_safetensors_file_of_somebody_else_is_named(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "x")
    with pytest.raises(ValueError, match="not written by save_weights"):
        quant.load_weights(tmp_path / "x")
    save_file({"a": torch.ones(2)}, tmp_path / "y", metadata={"quantised": '{"w": {"shape": [2], "group": null}}'})
    with pytest.raises(ValueError, match="does not hold what it says"):
        quant.load_weights(tmp_path / "y")


def test_depthwise_and_dense_convolutions_have_the_inputs_that_their_filters_meet():
    from helpers.quantisation.mending import _rows

    for layer in (nn.Conv2d(6, 6, 3, groups=6, padding=1, stride=2), nn.Conv2d(6, 4, 3), nn.Conv2d(6, 4, 1)):
        x = torch.randn(2, 6, 8, 8)
        rows, groups = _rows(layer, x)
        stacked = layer.weight.reshape(groups, layer.out_channels // groups, -1)
        got = (rows @ stacked.transpose(1, 2)).permute(0, 2, 1).reshape(layer.out_channels, -1)
        want = F.conv2d(x, layer.weight, None, layer.stride, layer.padding, 1, layer.groups)
        torch.testing.assert_close(
            got.sort(1).values, want.transpose(0, 1).flatten(1).sort(1).values, rtol=1e-3, atol=1e-4
        )
