"""Why did the model say that, and can the explanation be trusted?

Explaining: `explain_image`, `explain_text`, `explain_tabular` (LIME), `shapley_values` and `shap_values`,
`surrogate_tree`. Preparing: `image_classifier`, `imagenet_classifier`, `centre_crop`, `keep_freed_memory`.
The modules are imported when one of their names is first used.
"""

from __future__ import annotations

from helpers.lazy import names_of

_MODULES = {
    "allocation": ("keep_freed_memory",),
    "lime_image": ("FastLimeImageExplainer", "ImageExplanation", "explain_image", "hidden_picture", "segment"),
    "predicting": ("centre_crop", "checked", "image_classifier", "imagenet_classifier"),
}
__getattr__, __dir__ = names_of(__name__, _MODULES)
