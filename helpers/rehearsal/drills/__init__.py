"""Estimation drills: a number is asked, an answer is judged by its factor, and the derivation is shown line by line.

    problem = DRILLS["kv-cache"].draw(random.Random(0))
    print(problem.prompt["en"])
    print(problem.judge("about 17 GB").message["en"])
    for line in problem.derivation:
        print(line["en"])

No torch, no NumPy. The formulas are those of `helpers.estimates`; the derivations are arithmetic of their own, and the
tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from helpers.rehearsal.drills import data, serving, training
from helpers.rehearsal.drills.problem import Drill, Judgement, Problem, Step
from helpers.rehearsal.quantities import QuantityError, parse_quantity

__all__ = ["DRILLS", "Drill", "Judgement", "Problem", "QuantityError", "Step", "drill", "parse_quantity"]

DRILLS: Mapping[str, Drill] = MappingProxyType(
    {one.name: one for one in (*data.DRILLS, *training.DRILLS, *serving.DRILLS)}
)
"""Name → drill, in the order of the areas."""


def drill(name: str) -> Drill:
    """The drill of this name. Raises ValueError for an unknown one, with the nearest and all names."""
    if name not in DRILLS:
        raise ValueError(f"name must be one of {', '.join(DRILLS)}, got {name!r}")
    return DRILLS[name]
