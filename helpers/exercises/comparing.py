"""Is this what was asked for, and is this what was there before? Comparisons that no answer can break."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from helpers.exercises.describing import describe, number_pair

Array = np.ndarray[Any, Any]
Seen = set[tuple[int, int]]  # pairs of objects, by id, that were compared already: one difference ends it all


@dataclass(frozen=True)
class Difference:
    """Where an answer differs from what was asked (`place` may be empty), and both values as text."""

    place: str
    got: str
    want: str


@dataclass(frozen=True)
class Tolerance:
    """Two numbers are close when they differ by at most `atol + rtol * |wanted|`."""

    rtol: float
    atol: float


def difference(got: Any, want: Any, tolerance: Tolerance | None = None, place: str = "") -> Difference | None:
    """The first difference between an answer and what was asked for, or None.

    With a tolerance any nesting of numbers of the same shape is accepted (a list for an array); without one,
    values must be equal and lists, tuples and dicts of the same kind. NaN equals NaN, a bool is not a number.
    A tensor counts as the array of its values.
    """
    numbers = _numbers(want) if tolerance is not None or isinstance(want, np.ndarray) or is_tensor(want) else None
    if numbers is not None:
        return _array_difference(got, numbers, tolerance, place)
    if isinstance(want, dict):
        return _dict_difference(got, want, tolerance, place)
    if isinstance(want, list | tuple):
        return _sequence_difference(got, want, tolerance, place)
    if _equal(got, want):
        return None
    if is_number(got) and is_number(want):
        first, second = number_pair(plain(got), plain(want))
        return Difference(place, first, second)
    return Difference(place, _typed(got, want), describe(want))


def is_number(value: Any) -> bool:
    """True for Python and numpy numbers, not for a bool."""
    return isinstance(value, int | float | complex | np.number) and not isinstance(value, bool)


def is_tensor(value: Any) -> bool:
    """True for a torch tensor or parameter; torch is not imported for this."""
    torch = sys.modules.get("torch")
    return isinstance(value, getattr(torch, "Tensor", ()))


def plain(value: Any) -> Any:
    """A numpy scalar as the Python object that it stands for; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def as_array(value: Any) -> Array | None:
    """The value as a numpy array, or None when it is not an array of anything."""
    try:
        if is_tensor(value):
            value = value.detach().cpu()
            value = value.numpy() if str(value.dtype) != "torch.bfloat16" else value.float().numpy()
        return np.asarray(value)
    except Exception:  # ragged lists, sparse tensors, objects whose __array__ fails
        return None


def same(first: Any, second: Any, seen: Seen | None = None) -> bool:
    """True unless the second object's content differs from the first's: finds arguments changed in place."""
    seen = set() if seen is None else seen
    pair = (id(first), id(second))
    if first is second or pair in seen:  # met before, or an object that holds itself
        return True
    seen.add(pair)
    if type(first) is not type(second):
        return False
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and _same_array(first, second, seen)
    if isinstance(first, np.random.Generator | np.random.RandomState):
        return True  # drawing numbers from a generator is what it is there for
    if isinstance(first, dict):
        keys_same = _same_items(list(first), list(second), seen)
        return keys_same and _same_items(list(first.values()), list(second.values()), seen)
    if isinstance(first, list | tuple):
        return _same_items(first, second, seen)
    return _same_object(first, second, seen)


def _same_items(first: Any, second: Any, seen: Seen) -> bool:
    return len(first) == len(second) and all(same(a, b, seen) for a, b in zip(first, second, strict=True))


def _same_object(first: Any, second: Any, seen: Seen) -> bool:
    package = type(first).__module__.split(".")[0]
    if is_tensor(first):
        return first.dtype == second.dtype and _same_array(
            np.asarray(as_array(first)), np.asarray(as_array(second)), seen
        )
    if package == "pandas" and hasattr(first, "equals"):
        return bool(first.equals(second))
    if isinstance(first, int | float | complex | str | bytes | set | frozenset | np.generic):
        return bool(first == second) or (first != first and second != second)
    if hasattr(first, "__dict__"):
        return same(vars(first), vars(second), seen)
    return True  # nothing to look into, so nothing that an answer could have changed


def _same_array(first: Array, second: Array, seen: Seen) -> bool:
    if first.shape != second.shape:
        return False
    if first.dtype.kind == "O":
        return _same_items(first.ravel().tolist(), second.ravel().tolist(), seen)
    return np.array_equal(first, second, equal_nan=first.dtype.kind in "fcmM")


def _numbers(want: Any) -> Array | None:
    """What was asked for as an array, or None when it is no array of numbers (dicts, texts, ragged lists)."""
    array = as_array(want)
    return array if array is not None and (isinstance(want, np.ndarray) or array.dtype.kind in "iufcb") else None


def _array_difference(got: Any, want: Array, tolerance: Tolerance | None, place: str) -> Difference | None:
    array = None if isinstance(got, dict | set | frozenset | str) or got is None else as_array(got)
    wanted = describe(want[()])  # a single number is shown as one
    if array is None or (array.dtype.kind == "O" and want.dtype.kind != "O"):
        return Difference(place, _typed(got, want), wanted)
    if array.shape != want.shape:
        return Difference(place, f"{_shape(array)}: {describe(got)}", f"{_shape(want)}: {wanted}")
    numeric = "iufc"
    if array.dtype.kind != want.dtype.kind and not (array.dtype.kind in numeric and want.dtype.kind in numeric):
        return Difference(place, f"{array.dtype} values: {describe(got)}", f"{want.dtype} values: {wanted}")
    differs = ~_close(array, want, tolerance)
    if not differs.any():
        return None
    return _first_element(array, want, differs, place)


def _shape(array: Array) -> str:
    return f"shape {array.shape}" if array.ndim else "one value"


def _close(got: Array, want: Array, tolerance: Tolerance | None) -> Array:
    with np.errstate(all="ignore"):
        if tolerance is not None and want.dtype.kind in "iufc":
            return np.asarray(np.isclose(got, want, tolerance.rtol, tolerance.atol, equal_nan=True))
        if want.dtype.kind == "O":
            pairs = zip(got.ravel().tolist(), want.ravel().tolist(), strict=True)
            return np.array([_equal(a, b) for a, b in pairs], dtype=bool).reshape(want.shape)
        nan = (got != got) & (want != want)
        return np.asarray((got == want) | nan)


def _first_element(got: Array, want: Array, differs: Array, place: str) -> Difference:
    index = tuple(int(i) for i in np.argwhere(differs)[0]) if want.ndim else ()
    first, second = plain(got[index]), plain(want[index])
    numeric = is_number(first) and is_number(second)
    texts = number_pair(first, second) if numeric else (describe(first), describe(second))
    if not want.ndim:
        return Difference(place, *texts)
    where = f"{place}[{', '.join(map(str, index))}]"
    return Difference(where, f"{texts[0]} ({int(differs.sum())} of {want.size} differ)", texts[1])


def _dict_difference(got: Any, want: dict[Any, Any], tolerance: Tolerance | None, place: str) -> Difference | None:
    if not isinstance(got, dict):
        return Difference(place, _typed(got, want), describe(want))
    if got.keys() != want.keys():
        return Difference(place, f"keys {describe(list(got))}", f"keys {describe(list(want))}")
    found = (difference(got[key], want[key], tolerance, f"{place}[{describe(key)}]") for key in want)
    return next((one for one in found if one is not None), None)


def _sequence_difference(got: Any, want: Any, tolerance: Tolerance | None, place: str) -> Difference | None:
    kinds = (type(want),) if tolerance is None else (list, tuple, np.ndarray)
    if not isinstance(got, kinds):
        return Difference(place, _typed(got, want), describe(want))
    if len(got) != len(want):
        return Difference(place, f"{len(got)} items: {describe(got)}", f"{len(want)} items: {describe(want)}")
    found = (difference(got[i], want[i], tolerance, f"{place}[{i}]") for i in range(len(want)))
    return next((one for one in found if one is not None), None)


def _equal(got: Any, want: Any) -> bool:
    got, want = plain(got), plain(want)
    if isinstance(got, bool) != isinstance(want, bool):
        return False
    if isinstance(got, float) and isinstance(want, float) and math.isnan(want):
        return math.isnan(got)
    try:
        return bool(got == want)
    except Exception:  # an answer's __eq__ may do anything
        return False


def _typed(got: Any, want: Any) -> str:
    """The answer's description, led by its type where that is the news."""
    text = describe(got)
    return text if got is None or type(got) is type(want) else f"{type(got).__name__}: {text}"
