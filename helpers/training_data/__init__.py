"""How good is this training data, and what is wrong with it? For tables and for text.

Tables: `load_table`, `audit`, `split`, `fit_preprocessing`, `class_weights`, `out_of_fold_probabilities`,
`label_errors`. Text: `tokenise`, `deduplicate`, `near_duplicates`, `contamination`, `vendi_score`, `diversity`,
`distinct_n`. The modules are imported when one of their names is first used, so importing the package costs nothing.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from helpers.lazy import names_of

if TYPE_CHECKING:
    from helpers.training_data.audit import audit
    from helpers.training_data.contamination import Contamination, contamination
    from helpers.training_data.diversity import Diversity, distinct_n, diversity, vendi_score
    from helpers.training_data.labels import label_errors, out_of_fold_probabilities
    from helpers.training_data.near_duplicates import (
        Deduplicated,
        NearDuplicates,
        deduplicate,
        near_duplicates,
    )
    from helpers.training_data.report import AuditReport, Finding
    from helpers.training_data.splits import Split, class_weights, fit_preprocessing, split
    from helpers.training_data.tables import TableError, load_table
    from helpers.training_data.text import tokenise

_MODULES = {
    "audit": ("audit",),
    "contamination": ("Contamination", "contamination"),
    "diversity": ("Diversity", "distinct_n", "diversity", "vendi_score"),
    "labels": ("label_errors", "out_of_fold_probabilities"),
    "near_duplicates": ("Deduplicated", "NearDuplicates", "deduplicate", "near_duplicates"),
    "report": ("AuditReport", "Finding"),
    "splits": ("Split", "class_weights", "fit_preprocessing", "split"),
    "tables": ("TableError", "load_table"),
    "text": ("tokenise",),
}
__getattr__, __dir__ = names_of(__name__, _MODULES)

__all__ = [
    "AuditReport",
    "Contamination",
    "Deduplicated",
    "Diversity",
    "Finding",
    "NearDuplicates",
    "Split",
    "TableError",
    "audit",
    "class_weights",
    "contamination",
    "deduplicate",
    "distinct_n",
    "diversity",
    "fit_preprocessing",
    "label_errors",
    "load_table",
    "near_duplicates",
    "out_of_fold_probabilities",
    "split",
    "tokenise",
    "vendi_score",
]


class _Package(ModuleType):
    """Keeps `helpers.training_data.audit` the function.

    Importing the submodule of the same name would otherwise bind the module over it, and whether
    `from helpers.training_data import audit` gives a function would depend on who imported what before.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
