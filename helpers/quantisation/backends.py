"""What runs a quantised network here: torch's compiler, ONNX Runtime, or neither; what to say when one is missing."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch._inductor.config
from torch import Tensor, nn

from helpers.files import replacing

__all__ = ["compiled", "compiler_missing", "has_vnni", "onnx_quantised", "onnx_session", "save_onnx"]


@functools.cache
def has_vnni() -> bool:
    """Whether this processor multiplies bytes and sums them in one instruction (x86 VNNI), or has Arm's equivalent."""
    information = Path("/proc/cpuinfo")
    flags = information.read_text() if information.exists() else ""
    return any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "asimddp", "i8mm"))


def compiler_missing() -> str | None:
    """Why torch.compile cannot generate code for this CPU, or None when it can."""
    name = os.environ.get("CXX") or next((n for n in ("clang++", "g++", "c++") if shutil.which(n)), None)
    if name is None or shutil.which(name) is None:
        return "no C++ compiler was found (torch.compile writes C++): install g++ or clang, or set CXX"
    done = subprocess.run([name, "--version"], capture_output=True, check=False)
    return None if done.returncode == 0 else f"the C++ compiler {name} does not run"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the libraries' chatter out of the notebook: their warnings are about themselves, not about the learner."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def compiled(model: nn.Module, example: Tensor) -> Callable[[Tensor], Tensor]:
    """The model through torch.compile with constants frozen, compiled now for this example's shape.

    Frozen means that weights are laid out once for the kernel that will read them. Another shape compiles again, and
    so does another number of threads.
    Raises RuntimeError with the reason when there is no C++ compiler.
    """
    if (reason := compiler_missing()) is not None:
        raise RuntimeError(f"cannot compile: {reason}")
    # as settings around the compilation: given to torch.compile as options, the int8 kernels of a quantised graph fail
    frozen = {"freezing": True, "cpp_wrapper": True}
    fast = torch.compile(model, dynamic=False)
    known: set[tuple] = set()

    def run(x: Tensor) -> Tensor:
        # what torch.compile looks at before it takes the code that it has
        inside = torch.is_inference_mode_enabled(), x.is_inference()
        state = x.shape, x.stride(), x.dtype, torch.get_num_threads(), *inside
        if state in known:
            with torch.no_grad():
                return fast(x)
        with quiet(), torch.no_grad(), torch._inductor.config.patch(frozen):
            y = fast(x)
        known.add(state)
        return y

    run(example)
    return run


# -------------------------------------------------------------------------------------------------- ONNX Runtime


def save_onnx(model: nn.Module, example: Tensor, path: str | Path) -> Path:
    """Write the model as ONNX with a free batch size; the input is called `x`, the output `y`."""
    target = Path(path)
    batch = torch.export.Dim("batch", min=1, max=4096)
    twice = example if len(example) > 1 else torch.cat([example, example])  # a batch of 1 would be taken for a constant
    with quiet(), torch.no_grad(), replacing(target) as part:
        program = torch.onnx.export(
            model, (twice,), dynamo=True, dynamic_shapes=({0: batch},), input_names=["x"], output_names=["y"]
        )
        assert program is not None
        import onnx

        onnx.save(program.model_proto, part)
    return target


def onnx_session(path: str | Path, *, threads: int | None = None) -> Callable[[Tensor], Tensor]:
    """Load an ONNX file into ONNX Runtime: a function from tensor to tensor.

    Raises FileNotFoundError, and ValueError when the file is cut off or something else: ONNX is data, nothing in it
    is executed on loading.
    """
    import onnxruntime

    target = Path(path)
    if not target.is_file():
        raise FileNotFoundError(f"there is no ONNX file {target.name}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or torch.get_num_threads()
    # its threads spin on after a call, waiting for the next: whatever runs here in between would lose their cores
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library has a class of its own for each way to fail
        raise ValueError(f"{target.name} is no complete ONNX model: {str(error).splitlines()[0][:200]}") from error
    name = session.get_inputs()[0].name

    def run(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: x.numpy()})[0])

    return run


def onnx_quantised(model: nn.Module, calibration: Tensor, path: str | Path, *, keep_float: Sequence[str] = ()) -> Path:
    """Write the model as int8 ONNX: activations uint8, weights int8 per channel, ranges from `calibration` (min–max).

    Args:
        keep_float: layers (names of the model's modules) that stay in float32. Fold the model first (`fold_model`): the
            exporter's own folding of a BatchNorm loses the convolution's name.

    Raises ValueError when one is not found.
    Without VNNI the sum of two products of full bytes can overflow 16 bits: then the weights get 7 bits.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(calibration.split(8))

        def get_next(self) -> dict | None:
            batch = next(self.batches, None)
            return None if batch is None else {"x": batch.numpy()}

    with tempfile.TemporaryDirectory() as folder, quiet(), replacing(Path(path)) as part:
        plain = save_onnx(model, calibration[:2], Path(folder) / "float.onnx")
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(plain, ready)
        quantize_static(
            ready,
            part,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=not has_vnni(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_nodes_of(onnx.load(ready), keep_float),
        )
    return Path(path)


def _nodes_of(graph: Any, layers: Sequence[str]) -> list[str]:
    """Names of the convolutions and products whose exporter's note says that they come from one of these modules."""
    found: dict[str, str] = {}
    for node in graph.graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "")
        layer = next((layer for layer in layers if f"'{layer}'" in scopes), None)
        if layer is not None and node.op_type in ("Conv", "Gemm", "MatMul"):
            found[node.name] = layer
    if missing := sorted(set(layers) - set(found.values())):
        raise ValueError(f"keep_float: the exported graph has no convolution or product of {missing}; fold_model first")
    return list(found)
