"""From a torch network to the function that an explainer calls, and the check that it is what explainers expect.

The usual faults lie here: channels first against last, 0–255 against 0–1, logits for probabilities, training mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

__all__ = ["centre_crop", "checked", "image_classifier", "imagenet_classifier"]

Predict = Callable[..., Any]
Array = np.ndarray[Any, Any]

RUNTIMES = ("torch", "onnxruntime")
SLACK = 1e-3  # half-precision probabilities sum to 1 within this


def image_classifier(
    model: nn.Module, *, mean: Sequence[float] | float = 0.0, std: Sequence[float] | float = 255.0
) -> Callable[[Array], Array]:
    """What a LIME explainer calls: pictures (n, h, w, 3), uint8 or float in 0..255 -> probabilities (n, classes).

    Args:
        model: takes (n, 3, h, w) float32 and gives logits (n, classes). It is put into evaluation mode, on the CPU or
            wherever its weights are.
        mean, std: of the network's normalisation, in grey levels 0..255, one number or one per channel; the default
            brings the pictures to 0..1.

    Raises TypeError when `model` is no torch module.
    """
    import torch
    from torch import nn

    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch module that gives logits, got {type(model).__name__}")
    model.eval()  # dropout and BatchNorm would answer differently in each call
    shift, scale = (torch.tensor(value, dtype=torch.float32).reshape(-1, 1, 1) for value in (mean, std))

    def predict(images: Array) -> Array:
        weight = next(model.parameters(), torch.empty(0))
        pixels = torch.from_numpy(np.asarray(images)).permute(0, 3, 1, 2)
        x = ((pixels.float() - shift) / scale).contiguous()
        with torch.inference_mode():
            return model(x.to(weight.device)).softmax(1).cpu().numpy()

    return predict


def imagenet_classifier(runtime: str = "torch") -> Callable[[Array], Array]:
    """EfficientNet-Lite0 with its ImageNet weights: pictures (n, 224, 224, 3) uint8 -> probabilities (n, 1000).

    Args:
        runtime: "torch", or "onnxruntime": exported first (some seconds), then several times faster on a CPU; its
            probabilities differ by rounding, about 1e-6.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime must be one of {RUNTIMES}, got {runtime!r}")
    from helpers.models import efficientnet

    model: nn.Module = efficientnet.efficientnet_lite0(turned=True)
    if runtime == "onnxruntime":
        model = _in_onnxruntime(model, efficientnet.SIZE)
    return image_classifier(model, mean=efficientnet.MEAN, std=efficientnet.STD)


def _in_onnxruntime(model: nn.Module, size: int) -> nn.Module:
    """A module that answers like `model` for (n, 3, size, size), by ONNX Runtime."""
    import contextlib
    import io
    import warnings

    import onnxruntime
    import torch
    from torch import nn

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # the exporter reports what it does
        warnings.simplefilter("ignore")
        # two pictures: a batch of one would be taken for a constant
        program = torch.onnx.export(
            model, (torch.zeros(2, 3, size, size),), dynamo=True, dynamic_shapes=({0: "n"},), verbose=False
        )
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    class Exported(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(session.run(None, {name: x.numpy()})[0])

    return Exported()


def centre_crop(photograph: Array, size: int = 224) -> Array:
    """What an ImageNet network sees of a photograph (h, w, 3) uint8: its scaled centre, (size, size, 3) uint8.

    The same picture as `models.efficientnet_preprocess` makes, in whole grey levels. Raises what that raises.
    """
    from helpers.models import efficientnet

    seen = efficientnet.efficientnet_preprocess(photograph, size=size)
    levels = seen * efficientnet.STD + efficientnet.MEAN
    return levels.round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()


def must_be_function(predict: Any) -> None:
    """TypeError unless `predict` is a function; a torch module is told apart, because it is the usual slip."""
    kinds = {kind.__module__ + "." + kind.__qualname__ for kind in type(predict).__mro__}
    if "torch.nn.modules.module.Module" in kinds:
        raise TypeError(
            "predict must be a function from arrays to probabilities, got a torch module: "
            "wrap it, image_classifier(model)"
        )
    if not callable(predict):
        hint = ": pass its predict_proba" if hasattr(predict, "predict_proba") else ""
        raise TypeError(f"predict must be a function from inputs to probabilities, got {type(predict).__name__}{hint}")


def checked(predict: Predict) -> Predict:
    """The same function, whose every answer is held against what an explainer expects.

    That is an array (n, classes) of finite probabilities with at least two classes, rows that sum to 1, n the number
    of inputs. Raises TypeError for something that is no such function, ValueError (when called) for other answers.
    """
    must_be_function(predict)

    def call(inputs: Any) -> Array:
        answer = predict(inputs)
        if hasattr(answer, "detach"):
            answer = answer.detach().cpu().numpy()
        p = np.asarray(answer)
        if p.ndim != 2 or len(p) != len(inputs):
            raise ValueError(
                f"predict must give probabilities of shape ({len(inputs)}, classes) for {len(inputs)} inputs, "
                f"got shape {p.shape}" + (": labels instead of predict_proba?" if p.ndim == 1 else "")
            )
        if p.dtype.kind not in "f":
            raise ValueError(f"predict must give probabilities as floats, got {p.dtype}")
        if p.shape[1] < 2:
            raise ValueError(
                "predict must give a column for each of at least two classes, got one: "
                "for a binary score p give the columns 1 - p and p"
            )
        if not np.isfinite(p).all():
            raise ValueError("predict must give finite probabilities, got NaN or infinity")
        sums = p.sum(1, dtype=np.float64)
        if (p < -SLACK).any() or (abs(sums - 1) > SLACK).any():
            raise ValueError(
                f"predict must give probabilities, rows that sum to 1, got {p.min():.3g} to {p.max():.3g} with row "
                f"sums {sums.min():.3g} to {sums.max():.3g}: are these logits? Take the softmax"
            )
        return p

    return call
