"""One door to the real int8 flows: `quantise(model, config, calibration=…)`.

Static and quantisation-aware: PT2E, torch's export-based flow (torchao), with the quantiser of the x86 compiler.
Dynamic and weight-only: torchao's `quantize_` for the linear layers. ONNX Runtime: its own static quantiser.
"""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from helpers.latency import compare_latency
from helpers.quantisation.affine import sqnr
from helpers.quantisation.backends import (
    compiled,
    compiler_missing,
    has_vnni,
    onnx_quantised,
    onnx_session,
    quiet,
)
from helpers.quantisation.folding import fold_model
from helpers.quantisation.mending import LayerError, layer_errors, mend

__all__ = ["QuantisationReport", "QuantiseConfig", "QuantisedModel", "convert", "prepare", "quantise"]

Method = Literal["static", "qat", "dynamic", "weight-only"]
Backend = Literal["auto", "compiled", "onnxruntime", "reference"]
TINY = torch.finfo(torch.float32).eps
REPORTED = 8  # calibration inputs that the report by layer is made on: enough for a decibel


@dataclass(frozen=True)
class QuantiseConfig:
    """What to quantise and how.

    Attributes:
        method: "static" (weights and activations, ranges from calibration), "qat" (the same, trained with rounding in
            the loop: see `prepare`), "dynamic" (linear layers, ranges of the activations at run time) or "weight-only"
            (linear layers, activations stay in float).
        mended: move the weights onto their grid with `mend` first.
        keep_float: layers that stay in float32.
        smallest_scale: no scale is below. torchao's own default, 2⁻¹², rounds channels of small weights away.
    """

    method: Method = "static"
    mended: bool = False
    keep_float: tuple[str, ...] = ()
    smallest_scale: float = TINY

    def __post_init__(self) -> None:
        if self.method not in ("static", "qat", "dynamic", "weight-only"):
            raise ValueError(f"method must be static, qat, dynamic or weight-only, got {self.method!r}")
        if not self.smallest_scale > 0:
            raise ValueError(f"smallest_scale must be above 0, got {self.smallest_scale}")


@dataclass(frozen=True)
class QuantisationReport:
    """What quantising did: error by layer, bytes, what stayed in float and why, and what was measured to choose."""

    output_db: float
    """SQNR of the whole model's output on the calibration data."""
    agreement: float
    """Share of calibration inputs whose largest output is the same as in float."""
    float_bytes: int
    quantised_bytes: int
    layers: tuple[LayerError, ...] = ()
    kept_float: dict[str, str] = field(default_factory=dict)
    """Layer → why it is not int8."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Backend → median seconds of a call, of those that were tried."""
    left_out: tuple[str, ...] = ()
    """What could not be tried on this machine, and why."""

    @property
    def worst(self) -> list[LayerError]:
        """Layers by the SQNR of their output, the lowest first."""
        return sorted(self.layers, key=lambda layer: layer.output_db)

    def __str__(self) -> str:
        lines = [
            f"output {self.output_db:.1f} dB, same answer {self.agreement:.1%}, "
            f"{self.quantised_bytes / 1e6:.2f} MB for {self.float_bytes / 1e6:.2f} MB "
            f"({self.quantised_bytes / self.float_bytes:.2f})"
        ]
        lines += [f"  {e.output_db:5.1f} dB  {e.name} ({e.kind})" for e in self.worst[:3]]
        lines += [f"  float: {name}: {why}" for name, why in self.kept_float.items()]
        lines += [f"  left out: {what}" for what in self.left_out]
        return "\n".join(lines)


@dataclass(frozen=True)
class QuantisedModel:
    """A model whose layers run on integers: call it with a batch. `backend` says what runs it."""

    run: Callable[[Tensor], Tensor]
    backend: str
    config: QuantiseConfig
    report: QuantisationReport
    module: nn.Module | None = None
    """The quantised module in torch, which `reference` runs; None for a model that ONNX Runtime holds."""

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs, as the float model would give them."""
        with torch.no_grad():
            return self.run(x)


def quantise(
    model: nn.Module,
    config: QuantiseConfig | None = None,
    *,
    calibration: Tensor | None = None,
    backend: Backend = "auto",
    batch: int = 1,
) -> QuantisedModel:
    """A quantised copy of `model`; the model itself is not changed.

    Args:
        model: in evaluation mode.
        calibration: real inputs (b, …), never those that accuracy is measured on. For "dynamic" and "weight-only"
            one input is enough: it is only used to compile and to compare.
        backend: "compiled" (torch.compile), "onnxruntime" (static only), "reference" (no compiler; slow, shows the
            accuracy) or "auto": builds what this machine can, times them in turns on `batch` inputs, keeps the fastest.
        batch: the batch size that is compiled and timed.

    Raises ValueError when the model is in training mode, calibration is missing or not finite, or the backend cannot
    do it here. What "auto" could not try stands in `report.left_out`.
    """
    config = config or QuantiseConfig()
    data = _checked(model, config, calibration, backend, batch)
    start, report = _start(model, config, data)
    example = data[:batch] if len(data) >= batch else data[:1].repeat(batch, *[1] * (data.dim() - 1))
    module = None if backend == "onnxruntime" else _in_torch(start, config, data)
    sides, left_out = _sides(backend, module, start, config, data, example)
    seconds = {}
    if len(sides) > 1:
        calls = {name: functools.partial(run, example) for name, run in sides.items()}
        timed = compare_latency(calls, pairs=15, warm_up=3)
        seconds = {name: timed[name].p50 for name in sides}
    chosen = min(sides, key=lambda name: seconds.get(name, 0.0))
    with torch.no_grad():
        exact = model(data)
        got = torch.cat([sides[chosen](part) for part in _in_batches(data, batch)])[: len(data)]
    report = replace(
        report,
        output_db=sqnr(exact, got),
        agreement=float((exact.argmax(-1) == got.argmax(-1)).float().mean()),
        seconds=seconds,
        left_out=tuple(left_out),
    )
    return QuantisedModel(sides[chosen], chosen, config, report, module if chosen != "onnxruntime" else None)


def _in_torch(start: nn.Module, config: QuantiseConfig, data: Tensor) -> nn.Module:
    if config.method in ("dynamic", "weight-only"):
        return _linear_layers(start, config)
    return convert(_calibrated(start, config, data), config)


def _checked(model: nn.Module, config: QuantiseConfig, calibration: Tensor | None, backend: str, batch: int) -> Tensor:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch module, got {type(model).__name__}")
    if model.training:
        raise ValueError("model must be in evaluation mode: call model.eval() first")
    if backend not in ("auto", "compiled", "onnxruntime", "reference"):
        raise ValueError(f"backend must be auto, compiled, onnxruntime or reference, got {backend!r}")
    if backend == "onnxruntime" and config.method != "static":
        raise ValueError(f"backend onnxruntime does static quantisation here, config asks for {config.method}")
    if not isinstance(calibration, Tensor) or not len(calibration):
        raise ValueError("calibration must be a tensor of real inputs (b, …), at least one")
    if calibration.is_floating_point() and not torch.isfinite(calibration).all():
        raise ValueError("calibration must be finite: NaN or an infinity would set every range")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    return calibration


def _start(model: nn.Module, config: QuantiseConfig, data: Tensor) -> tuple[nn.Module, QuantisationReport]:
    """The float model that is quantised, and the part of the report that does not depend on the backend."""
    known: dict[str, Any] = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    if unknown := set(config.keep_float) - set(known):
        raise ValueError(f"keep_float must name convolutions or linear layers, got {sorted(unknown)}")
    kept = dict.fromkeys(config.keep_float, "asked for (keep_float)")
    if config.method in ("dynamic", "weight-only"):
        kept |= {n: f"{config.method} is for linear layers" for n, m in known.items() if isinstance(m, nn.Conv2d)}
        start: nn.Module = copy.deepcopy(model)
        layers: list[LayerError] = []
    else:
        layers = layer_errors(model, data[:: max(1, len(data) // REPORTED)])
        start = mend(model, data, keep_float=config.keep_float) if config.mended else fold_model(model)
    total = sum(p.numel() * p.element_size() for p in [*start.parameters(), *start.buffers()])
    in_bytes: list[Any] = [m for n, m in start.named_modules() if n in known and n not in kept]
    # a byte a weight, and a float scale for each output channel
    saved = sum(3 * m.weight.numel() - 4 * m.weight.shape[0] for m in in_bytes)
    return start, QuantisationReport(0.0, 0.0, total, total - saved, tuple(layers), kept)


def _in_batches(data: Tensor, batch: int) -> list[Tensor]:
    """The compiled shape, whatever is left over filled up with the first inputs."""
    missing = -len(data) % batch
    filler = data[:1].repeat(missing, *[1] * (data.dim() - 1))
    return list(torch.cat([data, filler]).split(batch))


def _sides(
    backend: str, module: nn.Module | None, start: nn.Module, config: QuantiseConfig, data: Tensor, example: Tensor
) -> tuple[dict[str, Callable[[Tensor], Tensor]], list[str]]:
    sides: dict[str, Callable[[Tensor], Tensor]] = {}
    left_out: list[str] = []
    reason = compiler_missing()
    if module is not None and backend == "reference":
        sides["reference"] = module
    if module is not None and (backend == "compiled" or (backend == "auto" and reason is None)):
        sides["compiled"] = compiled(module, example)
    elif backend == "auto":
        left_out.append(f"compiled: {reason}")
    if backend == "onnxruntime" or (backend == "auto" and config.method == "static"):
        with tempfile.TemporaryDirectory() as folder:
            file = onnx_quantised(start, data, Path(folder) / "int8.onnx", keep_float=config.keep_float)
            sides["onnxruntime"] = onnx_session(file)
    if not has_vnni():
        left_out.append("int8 instructions: this processor has no VNNI, so expect little or no speed-up")
    if module is not None and not sides:  # "auto" without a compiler, for what ONNX Runtime does not do here
        sides["reference"] = module
    return sides, left_out


# ---------------------------------------------------------------------------------------------- static and QAT


def prepare(model: nn.Module, example: Tensor, config: QuantiseConfig) -> Any:
    """The model as an exported graph with an observer (static) or a rounding (qat) at each tensor to be quantised.

    For "qat": train the result (`torchao.quantization.pt2e.move_exported_model_to_train`), then `convert` it.
    """
    with quiet():
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e, prepare_qat_pt2e

    batch = torch.export.Dim("batch", min=1, max=4096)
    two = example[:2] if len(example) > 1 else example[:1].repeat(2, *[1] * (example.dim() - 1))
    with quiet():
        exported = torch.export.export(model, (two,), dynamic_shapes=({0: batch},)).module()
        quantiser = _quantiser(config)
        return (prepare_qat_pt2e if config.method == "qat" else prepare_pt2e)(exported, quantiser)


def convert(prepared: Any, config: QuantiseConfig) -> nn.Module:
    """Observers and roundings become integers: what `prepare` made and calibration or training filled, quantised."""
    with quiet():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        return convert_pt2e(prepared)


def _calibrated(start: nn.Module, config: QuantiseConfig, data: Tensor) -> Any:
    prepared = prepare(start, data, config)
    with torch.no_grad():
        for part in data.split(16):
            prepared(part)
    return prepared


def _quantiser(config: QuantiseConfig) -> Any:
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        _annotate_nodes_not_quantize,
        get_default_x86_inductor_quantization_config,
    )

    class Quantiser(X86InductorQuantizer):
        """Leaves the layers of `keep_float` alone: the library's own way misses a layer that is fused with its ReLU."""

        def annotate(self, graph: Any) -> Any:
            for node in graph.graph.nodes:
                stack = node.meta.get("nn_module_stack") or {}
                place = list(stack.values())[-1][0].removeprefix("L['self'].") if stack else ""
                if place in config.keep_float:
                    _annotate_nodes_not_quantize(node)
            return super().annotate(graph)

    default = get_default_x86_inductor_quantization_config(is_qat=config.method == "qat", reduce_range=not has_vnni())
    quantiser = Quantiser()
    quantiser.set_global(default if config.method == "qat" else _with_small_scales(default, config))
    return quantiser


def _with_small_scales(default: Any, config: QuantiseConfig) -> Any:
    """The library's choice but for three things: min–max ranges, a smaller least scale, weights in -127..127."""
    from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantizer.utils import QuantizationConfig

    eps = config.smallest_scale
    activation = replace(default.input_activation, observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=eps))
    weight = replace(
        default.weight, quant_min=-127, observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=eps)
    )
    return QuantizationConfig(activation, activation, weight, default.bias, default.is_qat)


# ------------------------------------------------------------------------------------- dynamic and weight-only


def _linear_layers(model: nn.Module, config: QuantiseConfig) -> nn.Module:
    with quiet():
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_

    kind = Int8WeightOnlyConfig if config.method == "weight-only" else Int8DynamicActivationInt8WeightConfig
    with quiet():
        quantize_(model, kind(), filter_fn=lambda m, name: isinstance(m, nn.Linear) and name not in config.keep_float)
    return model
