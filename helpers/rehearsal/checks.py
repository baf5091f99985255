"""Recompute the numbers of an answer: the `check:` entries of a bank question.

An entry says which number it is about and how to get it, by a formula of `helpers.estimates` or by plain arithmetic:

    - {says: "112 GB", value: 112.0e9, rel: 0.02, call: training_memory, args: {parameters: 7.0e9}, field: total}
    - {says: "16 bytes", value: 16, unit: B, rel: 0.0, arithmetic: "2 + 2 + 4 + 4 + 4"}

Nothing of a file is ever evaluated as Python: the call must be one of `CALLS`, and arithmetic is read by `ast`, which
accepts numbers, + - * / ** and parentheses and nothing else.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from math import isclose, isfinite
from typing import Any

from helpers import estimates

__all__ = ["CALLS", "arithmetic", "recompute", "verify"]

CALLS = frozenset(
    {
        "accuracy_standard_error",
        "activation_bytes",
        "all_gather_bytes",
        "all_gather_seconds",
        "all_reduce_bytes",
        "all_reduce_seconds",
        "balanced_class_weights",
        "compute_bound_batch",
        "compute_optimal_parameters",
        "compute_optimal_tokens",
        "cost_per_million_tokens",
        "data_parallel_efficiency",
        "decode_tokens_per_second",
        "exact_shapley_evaluations",
        "gpt_parameters",
        "gpu_hours",
        "kv_cache_bytes",
        "minhash_collision",
        "minhash_threshold",
        "model_bytes",
        "pipeline_bubble",
        "prefill_seconds",
        "runway_months",
        "speculative_speedup",
        "speculative_tokens",
        "training_cost",
        "training_flops",
        "training_memory",
        "utilisation",
    }
)
"""The formulas of `helpers.estimates` that a check may call."""

FIELDS = frozenset({"weights", "gradients", "optimiser", "total", "flops", "gpu_hours", "days", "money"})
"""What a check may take of a result that holds several numbers; of a mapping it may take any key."""

LONGEST = 400
ROUNDING = 1e-9  # what "exactly" means for numbers that went through a division

OPERATIONS: Mapping[type[ast.operator], Callable[[float, float], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def arithmetic(text: str) -> float:
    """The value of plain arithmetic: numbers, + - * / ** and parentheses.

    Raises TypeError for what is no text, ValueError for anything else than arithmetic, and for a result that is not a
    finite number. It is computed with floats, so no exponent can fill the memory.
    """
    if not isinstance(text, str):
        raise TypeError(f"arithmetic must be a text such as '2 + 2 * 3', got {type(text).__name__} {text!r}")
    if len(text) > LONGEST:
        raise ValueError(f"arithmetic must have at most {LONGEST} characters, got {len(text)}")
    try:
        return _finite(_value(ast.parse(text.strip(), mode="eval").body, text), f"arithmetic {text!r}")
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"arithmetic must be numbers, + - * / ** and parentheses, got {text!r}") from error
    except ZeroDivisionError as error:
        raise ValueError(f"arithmetic {text!r} divides by zero") from error
    except OverflowError as error:
        raise ValueError(f"arithmetic {text!r} is too large for a number") from error


def _value(node: ast.expr, text: str) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        inner = _value(node.operand, text)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        found = OPERATIONS[type(node.op)](_value(node.left, text), _value(node.right, text))
        if isinstance(found, complex):
            raise ValueError(f"arithmetic {text!r} takes a root of a negative number")
        return float(found)
    part = ast.get_source_segment(text.strip(), node) or type(node).__name__
    raise ValueError(f"arithmetic must be numbers, + - * / ** and parentheses, got {part!r} in {text!r}")


def _finite(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{what} must give one number, got {type(value).__name__}: name a field")
    if not isfinite(value):
        raise ValueError(f"{what} must give a finite number, got {value}")
    return float(value)


def _number(value: Any) -> Any:
    """A number that YAML 1.1 left as text (7.0e9 without a sign in the exponent), and anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        found = float(value)
    except ValueError:
        return value
    return int(found) if isfinite(found) and found == int(found) else found


def recompute(check: Mapping[str, Any]) -> float:
    """The number that a check describes, computed anew: by `call` with `args` and `field`, or by `arithmetic`.

    Raises TypeError for what is no mapping, ValueError for everything else that is wrong with it, naming the part.
    """
    if not isinstance(check, Mapping):
        raise TypeError(f"check must be a mapping, got {type(check).__name__}")
    call, text = check.get("call"), check.get("arithmetic")
    if (call is None) == (text is None):
        raise ValueError(f"check must have either call or arithmetic, got {', '.join(map(str, check)) or 'nothing'}")
    if text is not None:
        return arithmetic(text)
    if not isinstance(call, str) or call not in CALLS:
        raise ValueError(f"call must be one of {', '.join(sorted(CALLS))}, got {call!r}")
    return _called(call, check.get("args"), check.get("field"))


def _called(call: str, args: Any, field: Any) -> float:
    args = {} if args is None else args
    if not isinstance(args, Mapping) or not all(isinstance(name, str) for name in args):
        raise ValueError(f"args of {call} must be a mapping of names to values, got {args!r}")
    try:
        result = getattr(estimates, call)(**{name: _number(value) for name, value in args.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"call {call}: {error}") from error
    if field is None:
        return _finite(result, f"call {call}")
    if isinstance(result, Mapping):
        if field not in result:
            raise ValueError(f"field of {call} must be one of {', '.join(map(repr, result))}, got {field!r}")
        return _finite(result[field], f"field {field!r} of {call}")
    if field not in FIELDS or not hasattr(result, field):
        accepted = ", ".join(sorted(name for name in FIELDS if hasattr(result, name))) or "left out"
        raise ValueError(f"field of {call} must be {accepted}, got {field!r}")
    return _finite(getattr(result, field), f"field {field!r} of {call}")


def verify(check: Mapping[str, Any]) -> float:
    """Recompute and compare with the stated `value`, within `rel` of it; gives the recomputed number.

    Raises ValueError when they differ, with both numbers, and when `value` or `rel` is no number.
    """
    found = recompute(check)
    stated, rel = (_number(check.get(name, 0.0 if name == "rel" else None)) for name in ("value", "rel"))
    for name, value in {"value": stated, "rel": rel}.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
            raise ValueError(f"{name} must be a number, got {value!r}")
    if not isclose(found, stated, rel_tol=max(rel, ROUNDING), abs_tol=0.0 if stated else ROUNDING):
        says = f" ({check['says']})" if "says" in check else ""
        off = f", {abs(found / stated - 1):.1%} away" if stated else ""
        raise ValueError(f"value {stated:g}{says} is not what comes out: {found:.6g}{off}, accepted within {rel:.1%}")
    return found
