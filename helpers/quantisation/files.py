"""Files that a fresh process can load without running what is in them: safetensors, and AOTInductor packages.

A .pt2 package holds machine code, made by the compiler here: load those you have made or whose maker you trust, as with
any program. A .safetensors file holds numbers only. Nothing is unpickled.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from helpers.files import replacing
from helpers.quantisation.affine import (
    INT4,
    INT8,
    QParams,
    dequantise,
    pack_int4,
    params_of,
    quantise_tensor,
    unpack_int4,
)
from helpers.quantisation.backends import compiler_missing, quiet

__all__ = ["load_package", "load_weights", "save_package", "save_weights"]


def save_weights(model: nn.Module, path: str | Path, *, bits: int = 8, group_size: int = 32) -> Path:
    """Write a model's weights, matrices in 8 bits (a scale per output channel) or 4 (a float16 scale per group).

    Vectors (biases, norms) and what 4-bit groups do not divide (8 bits then) stay as they are. A weight that two
    layers share is written once.

    Args:
        bits: 32 (as it is), 8 or 4.
        group_size: columns that share a scale in 4 bits: at 32 a weight takes 4 + 16/32 = 4.5 bits.
    """
    from safetensors.torch import save_file

    if bits not in (4, 8, 32):
        raise ValueError(f"bits must be 4, 8 or 32, got {bits}")
    tensors: dict[str, Tensor] = {}
    about: dict[str, dict[str, Any]] = {}
    shared = dict(model.named_parameters(remove_duplicate=True)) | dict(model.named_buffers())
    for name, value in shared.items():
        value = value.detach().cpu()
        if value.dim() < 2 or not value.is_floating_point() or bits == 32:
            tensors[name] = value.contiguous()
            continue
        parts, about[name] = _stored(value, bits, group_size)
        tensors |= {f"{name}:{part}": one.contiguous() for part, one in parts.items()}
    with replacing(Path(path)) as part:
        save_file(tensors, part, metadata={"quantised": json.dumps(about)})
    return Path(path)


def _stored(value: Tensor, bits: int, group_size: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    flat = value.flatten(1).float()
    if bits == 4 and flat.shape[1] % group_size == 0 and group_size % 2 == 0:
        params = params_of(flat, INT4, group_size=group_size)
        scale = params.scale.half().clamp(min=6e-8)  # rounded first: the integers belong to the scale that is kept
        integers = quantise_tensor(flat, QParams(scale.float(), params.zero_point, INT4, group_size=group_size))
        return {"int4": pack_int4(integers), "scale": scale}, {"shape": list(value.shape), "group": group_size}
    params = params_of(flat, INT8, axis=0)
    return {"int8": quantise_tensor(flat, params), "scale": params.scale}, {"shape": list(value.shape), "group": None}


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """The weights of a file that `save_weights` wrote, as float tensors for `model.load_state_dict(…, strict=False)`.

    Shared weights are there under one of their names. Raises FileNotFoundError, and ValueError when the file is cut
    off or something else.
    """
    from safetensors import SafetensorError, safe_open

    target = Path(path)
    if not target.is_file():
        raise FileNotFoundError(f"there is no weight file {target.name}")
    try:
        with safe_open(target, framework="pt") as file:
            metadata = (file.metadata() or {}).get("quantised")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise ValueError(f"{target.name} is no complete safetensors file: {error}") from error
    if metadata is None:
        raise ValueError(f"{target.name} was not written by save_weights: it does not say how its weights are stored")
    try:
        about = json.loads(metadata)
        restored = {name: _restored(tensors, name, how) for name, how in about.items()}
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{target.name} does not hold what it says it holds: {error}") from error
    return restored | {name: value for name, value in tensors.items() if ":" not in name}


def _restored(tensors: dict[str, Tensor], name: str, how: dict[str, Any]) -> Tensor:
    scale = tensors[f"{name}:scale"].float()
    zero = torch.zeros_like(scale, dtype=torch.int32)
    if how["group"] is not None:
        integers = unpack_int4(tensors[f"{name}:int4"])
        params = QParams(scale, zero, INT4, group_size=how["group"])
    else:
        integers, params = tensors[f"{name}:int8"], QParams(scale, zero, INT8, axis=0)
    return dequantise(integers, params).reshape(how["shape"])


def save_package(model: nn.Module, example: Tensor, path: str | Path) -> Path:
    """Compile the model ahead of time (torch.export and AOTInductor) into a .pt2 package for a free batch size.

    The package runs without Python code of the model, also from C++. Raises RuntimeError without a C++ compiler,
    ValueError unless the path ends in .pt2.
    """
    target = Path(path)
    if target.suffix != ".pt2":
        raise ValueError(f"path must end in .pt2, got {target.name}")
    if (reason := compiler_missing()) is not None:
        raise RuntimeError(f"cannot compile: {reason}")
    batch = torch.export.Dim("batch", min=1, max=1024)
    two = example[:2] if len(example) > 1 else torch.cat([example, example])
    with quiet(), torch.no_grad():
        program = torch.export.export(model, (two,), dynamic_shapes=({0: batch},))
        torch._inductor.aoti_compile_and_package(program, package_path=str(target))
    return target


def load_package(path: str | Path) -> Callable[[Tensor], Tensor]:
    """Load a .pt2 package: a function from tensor to tensor. It runs machine code, see the module's first lines.

    Raises FileNotFoundError, and ValueError when the file is cut off or something else.
    """
    target = Path(path)
    if not target.is_file():
        raise FileNotFoundError(f"there is no package {target.name}")
    try:
        with zipfile.ZipFile(target) as archive:
            names = archive.namelist()
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{target.name} is no complete .pt2 package: {error}") from error
    if broken is not None or not any(name.endswith(".so") for name in names):
        raise ValueError(f"{target.name} is no compiled .pt2 package: it holds no library, or a damaged one")
    with quiet():
        run = torch._inductor.aoti_load_package(str(target))

    def call(x: Tensor) -> Tensor:
        with torch.no_grad():
            return run(x)

    return call
