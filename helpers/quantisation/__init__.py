"""Numbers in eight and four bits: the arithmetic written out, and the real flows that make a model faster with it.

By hand: `params_of`, `quantise_tensor`, `dequantise`, `fake_quantise`, `sqnr`, observers (`MinMax`, `Percentile`,
`MSE`), `quantised_matmul`, `pack_int4`, `fold_conv_bn`, and in small `gptq`, `awq`, `smooth`.
In earnest: `quantise(model, config, calibration=…)`, which gives a `QuantisedModel` with a report; `mend`,
`layer_errors`, `fold_model`; `save_onnx`, `save_package` and `save_weights` with what loads them.
The modules are imported when one of their names is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.lazy import names_of

if TYPE_CHECKING:
    from helpers.quantisation import examples
    from helpers.quantisation.affine import (
        INT4,
        INT8,
        UINT4,
        UINT8,
        IntegerType,
        QParams,
        choose_params,
        dequantise,
        fake_quantise,
        pack_int4,
        params_of,
        quantise_tensor,
        sqnr,
        unpack_int4,
    )
    from helpers.quantisation.backends import (
        compiled,
        compiler_missing,
        has_vnni,
        onnx_quantised,
        onnx_session,
        quiet,
        save_onnx,
    )
    from helpers.quantisation.corrections import awq, gptq, output_sqnr, round_to_nearest, smooth, w8a8
    from helpers.quantisation.files import load_package, load_weights, save_package, save_weights
    from helpers.quantisation.flows import (
        QuantisationReport,
        QuantiseConfig,
        QuantisedModel,
        convert,
        prepare,
        quantise,
    )
    from helpers.quantisation.folding import fold_conv_bn, fold_model
    from helpers.quantisation.integer import integer_matmul, quantised_matmul
    from helpers.quantisation.mending import LayerError, layer_errors, mend
    from helpers.quantisation.observers import MSE, MinMax, Observer, Percentile

_MODULES = {
    "affine": (
        "INT4",
        "INT8",
        "UINT4",
        "UINT8",
        "IntegerType",
        "QParams",
        "choose_params",
        "dequantise",
        "fake_quantise",
        "pack_int4",
        "params_of",
        "quantise_tensor",
        "sqnr",
        "unpack_int4",
    ),
    "backends": (
        "compiled",
        "compiler_missing",
        "has_vnni",
        "onnx_quantised",
        "onnx_session",
        "quiet",
        "save_onnx",
    ),
    "examples": (),
    "corrections": ("awq", "gptq", "output_sqnr", "round_to_nearest", "smooth", "w8a8"),
    "files": ("load_package", "load_weights", "save_package", "save_weights"),
    "flows": ("QuantisationReport", "QuantiseConfig", "QuantisedModel", "convert", "prepare", "quantise"),
    "folding": ("fold_conv_bn", "fold_model"),
    "integer": ("integer_matmul", "quantised_matmul"),
    "mending": ("LayerError", "layer_errors", "mend"),
    "observers": ("MSE", "MinMax", "Observer", "Percentile"),
}
__getattr__, __dir__ = names_of(__name__, _MODULES)

__all__ = [
    "INT4",
    "INT8",
    "MSE",
    "UINT4",
    "UINT8",
    "IntegerType",
    "LayerError",
    "MinMax",
    "Observer",
    "Percentile",
    "QParams",
    "QuantisationReport",
    "QuantiseConfig",
    "QuantisedModel",
    "awq",
    "choose_params",
    "compiled",
    "compiler_missing",
    "convert",
    "dequantise",
    "examples",
    "fake_quantise",
    "fold_conv_bn",
    "fold_model",
    "gptq",
    "has_vnni",
    "integer_matmul",
    "layer_errors",
    "load_package",
    "load_weights",
    "mend",
    "onnx_quantised",
    "onnx_session",
    "output_sqnr",
    "pack_int4",
    "params_of",
    "prepare",
    "quantise",
    "quantise_tensor",
    "quantised_matmul",
    "quiet",
    "round_to_nearest",
    "save_onnx",
    "save_package",
    "save_weights",
    "smooth",
    "sqnr",
    "unpack_int4",
    "w8a8",
]
