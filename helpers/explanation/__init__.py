"""Why did the model say that, and can the explanation be trusted?

Explaining by questions: `explain_image`, `explain_text`, `explain_tabular` (LIME), `exact_shapley`, `shap_values`,
`surrogate_tree`. Preparing: `image_classifier`, `imagenet_classifier`, `centre_crop`, `keep_freed_memory`.
The modules are imported when one of their names is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.lazy import names_of

if TYPE_CHECKING:
    from helpers.explanation.allocation import keep_freed_memory
    from helpers.explanation.lime_image import (
        FastLimeImageExplainer,
        ImageExplanation,
        explain_image,
        hidden_picture,
        segment,
    )
    from helpers.explanation.lime_tabular import explain_tabular
    from helpers.explanation.lime_text import FeatureExplanation, explain_text, highlighted
    from helpers.explanation.pictures import draw_explanation, draw_labels
    from helpers.explanation.predicting import centre_crop, checked, image_classifier, imagenet_classifier
    from helpers.explanation.shapley import coalition_values, exact_shapley, shap_values, shapley_from_values
    from helpers.explanation.surrogate import Fidelity, Step, Surrogate, fidelity, surrogate_tree

_MODULES = {
    "allocation": ("keep_freed_memory",),
    "lime_image": ("FastLimeImageExplainer", "ImageExplanation", "explain_image", "hidden_picture", "segment"),
    "lime_tabular": ("explain_tabular",),
    "lime_text": ("FeatureExplanation", "explain_text", "highlighted"),
    "pictures": ("draw_explanation", "draw_labels"),
    "predicting": ("centre_crop", "checked", "image_classifier", "imagenet_classifier"),
    "shapley": ("coalition_values", "exact_shapley", "shap_values", "shapley_from_values"),
    "surrogate": ("Fidelity", "Step", "Surrogate", "fidelity", "surrogate_tree"),
}
__getattr__, __dir__ = names_of(__name__, _MODULES)

__all__ = [
    "FastLimeImageExplainer",
    "FeatureExplanation",
    "Fidelity",
    "ImageExplanation",
    "Step",
    "Surrogate",
    "centre_crop",
    "checked",
    "coalition_values",
    "draw_explanation",
    "draw_labels",
    "exact_shapley",
    "explain_image",
    "explain_tabular",
    "explain_text",
    "fidelity",
    "hidden_picture",
    "highlighted",
    "image_classifier",
    "imagenet_classifier",
    "keep_freed_memory",
    "segment",
    "shap_values",
    "shapley_from_values",
    "surrogate_tree",
]
