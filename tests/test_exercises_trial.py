# ruff: noqa: RUF005 - long lists of cases read better in rows
"""A trial says exactly what is wrong with an answer, and neither harms nor trusts the learner's objects."""

import contextlib
import functools
import itertools
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numpy import linalg
from numpy.linalg import eigvalsh

from helpers.exercises.describing import LIMIT, describe, number_pair, shorten
from helpers.exercises.trial import CheckFailed, Mistake, NotAttempted, Trial, is_stub


@pytest.fixture
def trial():
    return Trial("1.4", seed=7)


def failure_of(function, *args, **kwargs):
    with pytest.raises(CheckFailed) as caught:
        function(*args, **kwargs)
    return caught.value


# --- not attempted ------------------------------------------------------------------------------------------------


def raises_stub(y):
    """A docstring."""
    raise NotImplementedError


def pass_stub(y):
    pass


def docstring_stub(y):
    """Only a docstring."""


def ellipsis_stub(y): ...


def returns_ellipsis(y):
    return ...


def computes_then_ellipsis(y):
    total = sum(y)
    return ... if total is not None else 0


def half_written(y):
    n = len(y)
    if n:
        raise NotImplementedError("the rest is yours")
    return n


class EmptyClass:
    """Still to be written."""


class UnwrittenMethod:
    def __init__(self, y):
        raise NotImplementedError


STUBS = [
    raises_stub,
    pass_stub,
    docstring_stub,
    ellipsis_stub,
    returns_ellipsis,
    computes_then_ellipsis,
    half_written,
    EmptyClass,
    UnwrittenMethod,
    functools.partial(raises_stub),
    functools.lru_cache(pass_stub),
    ...,
]


@pytest.mark.parametrize("stub", STUBS, ids=lambda s: getattr(s, "__name__", str(s)[:20]))
def test_an_answer_that_is_not_written_is_not_called_wrong(trial, stub):
    with pytest.raises(NotAttempted):
        trial.call(stub, (1, 2))


@pytest.mark.parametrize("stub", [raises_stub, pass_stub, half_written, returns_ellipsis, computes_then_ellipsis, ...])
def test_a_stub_is_not_attempted_when_an_error_is_asked_for_too(trial, stub):
    with pytest.raises(NotAttempted):
        trial.raises(ValueError, stub, (1,), what="an empty y is refused")
    with pytest.raises(NotAttempted):  # even when its NotImplementedError would do
        trial.raises(Exception, stub, (1,), what="an empty y is refused")


def test_not_attempted_names_the_function_that_is_missing(trial):
    with pytest.raises(NotAttempted, match=r"^raises_stub$"):
        trial.call(raises_stub, 1)


def raises_with_text(y):
    raise NotImplementedError("write the mean of y")


def raises_instance(y):
    raise NotImplementedError()


def raises_value_error(y):
    raise ValueError("no")


def raises_what_it_computes(y):
    raise NotImplementedError(y)


def test_a_stub_is_known_before_it_is_called():
    assert is_stub(raises_stub)
    assert is_stub(raises_with_text)
    assert is_stub(raises_instance)
    assert is_stub(docstring_stub)
    assert not is_stub(raises_value_error)
    assert not is_stub(raises_what_it_computes)
    assert not is_stub(half_written)


def test_a_hard_coded_answer_is_an_attempt():
    assert not is_stub(lambda y: None if y else ...)
    assert not is_stub(lambda y: 0.5)
    assert not is_stub(lambda y: y)
    assert not is_stub(len)
    assert not is_stub(3)
    assert not is_stub(int)

    class Written:
        def fit(self): ...

    assert not is_stub(Written)


def test_a_callable_object_and_a_method_are_answers(trial):
    class Adder:
        def __call__(self, x):
            return x + 1

        def method(self, x):
            return x + 2

        def unwritten(self, x):
            raise NotImplementedError

    class Unwritten:
        def __call__(self, x):
            raise NotImplementedError

    assert trial.call(Adder(), 1) == 2
    assert trial.last == 2
    assert is_stub(Unwritten())
    with pytest.raises(NotAttempted, match=r"^Unwritten$"):
        trial.call(Unwritten(), 1)
    assert trial.call(Adder().method, 1) == 3
    with pytest.raises(NotAttempted):
        trial.call(Adder().unwritten, 1)


def test_a_library_that_does_not_implement_something_is_an_error_and_not_a_stub(trial):
    def uses_a_library(y):
        return pd.Index(y).sortlevel("no", ascending=object())

    def raises_inside_c(y):
        return memoryview(b"abcd").cast("B", [2, 2])[0]  # NotImplementedError from C: sub-views

    assert "NotImplementedError" in str(failure_of(trial.call, raises_inside_c, 1))
    assert "runs" in failure_of(trial.call, uses_a_library, [1]).property


def test_a_learner_s_helper_that_is_a_stub_makes_the_answer_unwritten(trial):
    def answer(y):
        return raises_stub(y) + 1

    with pytest.raises(NotAttempted):
        trial.call(answer, 1)


# --- errors in the learner's code -----------------------------------------------------------------------------------


def test_an_exception_is_quoted_with_its_type_message_and_the_learner_s_line(trial):
    def broken(y):
        scale = 2
        return y["key"] * scale

    failure = failure_of(trial.call, broken, [1, 2])
    assert failure.property == "broken runs"
    assert failure.expected == "no exception"
    assert failure.got.startswith("TypeError: list indices must be integers")
    line = broken.__code__.co_firstlineno + 2
    assert failure.got.endswith(f'at line {line}: return y["key"] * scale')
    assert failure.input == "y = [1, 2]"
    assert isinstance(failure.__cause__, TypeError)


def helper_that_fails(y):
    return 1 / y


def test_the_innermost_of_the_learner_s_own_lines_is_named(trial):
    def answer(y):
        return helper_that_fails(y) + 1

    line = helper_that_fails.__code__.co_firstlineno + 1
    assert failure_of(trial.call, answer, 0).got == f"ZeroDivisionError: division by zero, at line {line}: return 1 / y"


def test_the_learner_s_line_is_named_and_not_the_library_s(trial):
    def broken(y):
        return np.linalg.inv(y)

    failure = failure_of(trial.call, broken, np.ones((2, 2)))
    assert failure.got.startswith("LinAlgError: Singular matrix")
    assert "return np.linalg.inv(y)" in failure.got


def test_a_missing_argument_is_told_without_a_line(trial):
    failure = failure_of(trial.call, lambda: 3, 1)
    assert "takes 0 positional arguments but 1 was given" in failure.got
    assert "at line" not in failure.got
    assert failure.input == "argument 1 = 1"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_passes_through_untouched(trial, error):
    def interrupted(y):
        raise error("stop")

    with pytest.raises(error, match="stop"):
        trial.call(interrupted, 1)
    with pytest.raises(error, match="stop"):
        trial.raises(ValueError, interrupted, 1, what="refuses")
    with pytest.raises(error), trial.forbid("numpy.linalg.eigvalsh", why="write it"):
        trial.call(interrupted, 1)
    assert np.linalg.eigvalsh is eigvalsh


def test_an_exception_whose_message_fails_or_never_ends_is_told_all_the_same(trial):
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError("no")

    def odd(y):
        raise Odd

    def long(y):
        raise ValueError("x" * 10**6)

    assert failure_of(trial.call, odd, 1).got.startswith("Odd, at line")
    assert len(str(failure_of(trial.call, long, 1))) < 1000


def test_endless_recursion_becomes_a_message(trial):
    def forever(y):
        return forever(y)

    assert "RecursionError" in failure_of(trial.call, forever, 1).got


def test_passing_the_result_in_place_of_the_function_is_explained(trial):
    failure = failure_of(trial.call, {1: 2}, 1)
    assert failure.got == "dict: {1: 2}"
    assert "not the result" in failure.mistake


# --- arguments --------------------------------------------------------------------------------------------------------


class Box:
    def __init__(self, value):
        self.value = value


def change_array(x):
    x[0] = 9
    return x


def change_nan(x):
    x[np.isnan(x)] = 0


def change_list(x):
    x.append(1)


def change_nested(x):
    x["a"][0][1] = 5


def change_frame(x):
    x["new"] = 1


def change_series(x):
    x.iloc[0] = 9


def change_object(x):
    x.value = 3


def change_set(x):
    x.add(99)


def change_text_array(x):
    x[0] = "z"


def change_object_array(x):
    x[0].append(3)


def sort_in_place(x):
    x.sort()


def reorder_dict(x):
    x["a"] = x.pop("a")


def change_shape(x):
    x.resize((4, 1), refcheck=False)


def change_object_array_shape(x):
    x.resize((2, 1), refcheck=False)


def change_type(x):
    x[0] = True


def change_dtype(x):
    x.dtype = np.uint64


def change_attribute_type(x):
    x.value = 1.0


def change_bytes(x):
    x["a"] = b"2"


def change_tensor(x):
    x[0] = 5.0


CHANGES = [
    (change_array, lambda: np.arange(4)),
    (change_nan, lambda: np.array([np.nan, 1])),
    (change_list, lambda: [1]),
    (change_nested, lambda: {"a": ([0, 1],)}),
    (change_frame, lambda: pd.DataFrame({"a": [1]})),
    (change_series, lambda: pd.Series([1])),
    (change_object, lambda: Box(1)),
    (change_set, lambda: {1}),
    (change_text_array, lambda: np.array(["a", "b"])),
    (change_object_array, lambda: np.array([[1], [2, 3]], dtype=object)),
    (sort_in_place, lambda: [3, 1]),
    (reorder_dict, lambda: {"a": 1, "b": 2}),
    (change_shape, lambda: np.arange(4)),
    (change_object_array_shape, lambda: np.array(["a", None], dtype=object)),
    (change_type, lambda: [1]),
    (change_dtype, lambda: np.arange(4)),
    (change_attribute_type, lambda: Box(1)),
    (change_bytes, lambda: {"a": b"1"}),
]


@pytest.mark.parametrize(("change", "make"), CHANGES, ids=lambda v: getattr(v, "__name__", ""))
def test_an_argument_changed_in_place_is_found_and_the_caller_s_object_is_not_touched(trial, change, make):
    mine = make()
    before = repr(getattr(mine, "value", mine))
    failure = failure_of(trial.call, change, mine)
    assert failure.property == f"{change.__name__} leaves its argument x as it was"
    assert "work on a copy" in failure.mistake
    assert repr(getattr(mine, "value", mine)) == before


@pytest.mark.filterwarnings("ignore")
def test_a_tensor_changed_in_place_is_found(trial):
    torch = pytest.importorskip("torch")
    mine = torch.tensor([1.0, math.nan])
    assert "argument x" in failure_of(trial.call, change_tensor, mine).property
    assert mine[0] == 1
    assert trial.call(lambda x: x.sum(), mine).isnan()
    assert describe(mine) == "float32 tensor (2,): 1 nan"
    trial.close(torch.tensor([1.0, 2.0], requires_grad=True), [1, 2], what="v")
    trial.close(torch.tensor([1.0, 2.0], dtype=torch.bfloat16), np.array([1, 2]), what="v")


def holds_itself():
    loop = [1]
    loop += [loop, loop]
    return loop


def shared_a_million_times():
    inner = [1]
    for _ in range(40):
        inner = [inner, inner]
    return inner


READ_ONLY = [
    holds_itself,
    shared_a_million_times,
    lambda: [np.float64("nan")],
    lambda: {"nan": float("nan")},
    lambda: [Box(holds_itself())],
]


@pytest.mark.parametrize("make", [*(make for _, make in CHANGES), *READ_ONLY])
def test_an_argument_that_is_only_read_is_no_change(trial, make):
    assert trial.call(lambda x: 3, make()) == 3


@pytest.mark.parametrize("make", [lambda: [math.nan, 1], lambda: np.array([math.nan, "a"], dtype=object)])
def test_writing_the_same_value_back_is_no_change(trial, make):
    def rewrites(x):
        x[0] = x[0] * 1.0  # another NaN object
        return 1

    def writes_a_number(x):
        x[0] = 1.0

    assert trial.call(rewrites, make()) == 1
    failure_of(trial.call, writes_a_number, make())


def test_keyword_arguments_are_guarded_too(trial):
    def change(x, y=None):
        y.append(1)

    failure = failure_of(trial.call, change, 1, y=[])
    assert failure.property == "change leaves its argument y as it was"
    assert failure.expected == "y: []"
    assert failure.got == "y: [1]"


def test_a_generator_or_an_open_file_can_be_an_argument(trial):
    assert trial.call(lambda items: sum(items), (i for i in range(4))) == 6
    assert trial.call(lambda items, more: (sum(items), more), (i for i in range(4)), [1]) == (6, [1])
    mine = [1]
    assert trial.call(lambda items, more: more.clear() or 1, iter([1]), [])
    failure_of(trial.call, lambda items, more: more.clear(), (i for i in range(4)), mine)
    assert mine == [1]


def test_drawing_from_a_generator_is_not_called_a_change(trial):
    for rng in (np.random.default_rng(0), np.random.RandomState(0)):
        trial.call(lambda rng: rng.random() if hasattr(rng, "random") else rng.rand(), rng)


def test_the_same_object_given_twice_stays_one_object(trial):
    shared = [1]
    assert trial.call(lambda a, b: a is b, shared, shared) is True


def test_the_input_of_a_message_names_each_argument(trial):
    trial.call(lambda x, *rest, scale: 1, np.arange(20), "text", scale=2.0)
    assert trial.input == "x = int64 array (20,): 0 1 2 … 18 19, argument 2 = 'text', scale = 2" or (
        "x = int64 array" in trial.input and "scale = 2" in trial.input
    )
    trial.call(lambda: 1)
    assert trial.input is None


# --- types and arrays -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "types"),
    [(1, int), (np.int64(1), int), (1.0, float), (np.float32(1), float), (True, bool), (np.bool_(True), bool)]
    + [({}, dict), (1, (int, float)), (np.float64(1), (int, float)), (True, (int, bool)), (True, object)],
)
def test_the_right_type_is_accepted(trial, got, types):
    trial.is_type(got, types, what="v")


@pytest.mark.parametrize(
    ("got", "types", "expected"),
    [(True, int, "int"), (np.bool_(True), float, "float"), (1, float, "float"), (1.0, int, "int")]
    + [([1], dict, "dict"), (np.array(1.0), float, "float"), ("1", (int, float), "int or float"), (None, int, "int")],
)
def test_the_wrong_type_is_named_with_its_value(trial, got, types, expected):
    failure = failure_of(trial.is_type, got, types, what="the share", otherwise="usual")
    assert failure.property == "the share: its type"
    assert failure.expected == expected
    assert failure.got == ("None" if got is None else f"{type(got).__name__}: {describe(got)}")
    assert failure.mistake == ("the function ends without `return`" if got is None else "usual")


def test_an_array_of_the_asked_shape_and_dtype_is_accepted(trial):
    trial.is_array(np.zeros((2, 3)), (2, 3), what="m")
    trial.is_array(np.zeros((2, 3)), (None, 3), dtype=float, what="m")
    trial.is_array(np.zeros((2, 3)), kind="f", what="m")
    trial.is_array(np.zeros(3, np.uint8), (3,), kind="iu", what="m")
    trial.is_array(np.zeros(()), (), what="m")
    trial.is_array(np.zeros(0), what="m")


@pytest.mark.parametrize(
    ("got", "asked", "property", "expected"),
    [
        (1.0, {"shape": (3,)}, "m: its type", "a numpy array of shape (3,)"),
        ([1.0], {}, "m: its type", "a numpy array"),
        (np.float64(1), {"shape": ()}, "m: its type", "a numpy array of shape ()"),
        (np.zeros(2), {"shape": (3,)}, "m: its shape", "shape (3,)"),
        (np.zeros((3, 1)), {"shape": (3,)}, "m: its shape", "shape (3,)"),
        (np.zeros(3), {"shape": (3, 1)}, "m: its shape", "shape (3, 1)"),
        (np.zeros((3, 2)), {"shape": (None, 1)}, "m: its shape", "shape (any, 1)"),
        (np.zeros(1), {"shape": ()}, "m: its shape", "shape ()"),
        (np.zeros(3), {"dtype": np.int64}, "m: its dtype", "int64"),
        (np.zeros(3, int), {"kind": "f"}, "m: its dtype", "a float dtype"),
        (np.zeros(3), {"kind": "iu"}, "m: its dtype", "an integer dtype or an unsigned dtype"),
        (np.zeros(3), {"kind": "b"}, "m: its dtype", "bool"),
    ],
)
def test_the_wrong_kind_of_array_is_named(trial, got, asked, property, expected):
    failure = failure_of(trial.is_array, got, what="m", otherwise="usual", **asked)
    assert (failure.property, failure.expected, failure.mistake) == (property, expected, "usual")
    assert failure.got == describe(got) or failure.got == f"{type(got).__name__}: {describe(got)}"


def test_a_function_without_return_is_told_so(trial):
    for assertion in (
        lambda: trial.is_array(None, (3,), what="m", otherwise="other"),
        lambda: trial.close(None, 1.0, what="m", otherwise="other"),
        lambda: trial.close(None, np.zeros(2), what="m", otherwise="other"),
        lambda: trial.equal(None, {1: 2}, what="m"),
    ):
        failure = failure_of(assertion)
        assert (failure.got, failure.mistake) == ("None", "the function ends without `return`")


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (1.0, 1.0 + 1e-9),
        (1, 1.0),
        (np.float32(0.5), 0.5),
        (math.nan, math.nan),
        (math.inf, math.inf),
        ([1, 2], np.array([1.0, 2.0])),
        ((1, 2), [1, 2]),
        (np.array([1, math.nan]), [1, math.nan]),
        ({"a": 1.0}, {"a": 1.0 + 1e-9}),
        ({"b": [1], "a": 2}, {"a": 2.0, "b": np.array([1.0])}),
        ((np.zeros(2), np.zeros(3)), (np.zeros(2), np.zeros(3))),
        (np.array([True]), np.array([True])),
        (1 + 1e-8j, 1.0),
        ([], []),
        ("a", "a"),
        (np.array(["a"]), np.array(["a"])),
    ],
)
def test_close_values_are_accepted(trial, got, want):
    trial.close(got, want, what="v", rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("got", "want", "told_got", "told_want"),
    [
        (0.02, 1.67, "0.02", "1.67"),
        (1.0001, 1.0, "1.0001", "1"),
        (1.00001, 1.0, "1.00001", "1"),
        (3, 4, "3", "4"),
        (1234567, 1234569, "1234567", "1234569"),
        (True, 1.0, "bool values: True", "float64 values: 1"),
        (math.nan, 1.0, "nan", "1"),
        (-math.inf, math.inf, "-inf", "inf"),
        ("1", 1.0, "str: '1'", "1"),
        ({}, 1.0, "dict: {}", "1"),
        ([0.5], 0.5, "shape (1,): [0.5]", "one value: 0.5"),
        (0.5, np.array([0.5, 0.5]), "one value: 0.5", "shape (2,): float64 array (2,): 0.5 0.5"),
        (
            np.zeros((2, 1)),
            np.zeros(2),
            "shape (2, 1): float64 array (2, 1): 0 0",
            "shape (2,): float64 array (2,): 0 0",
        ),
        ([1, 2, 3], [1, 2.5, 3], "2 (1 of 3 differ) at [1]", "2.5 at [1]"),
        ([[1, 2], [0, 0]], np.ones((2, 2)), "2 (3 of 4 differ) at [0, 1]", "1 at [0, 1]"),
        ({"a": 1}, {"a": 2}, "1 at ['a']", "2 at ['a']"),
        ({"a": [1, 5]}, {"a": [1, 2]}, "5 (1 of 2 differ) at ['a'][1]", "2 at ['a'][1]"),
        ({"a": 1}, {"b": 1}, "keys ['a']", "keys ['b']"),
        ([1], {"b": 1}, "list: [1]", "{'b': 1}"),
        (
            (np.zeros(2), 1),
            (np.zeros(2), np.ones(3)),
            "one value: 1 at [1]",
            "shape (3,): float64 array (3,): 1 1 1 at [1]",
        ),
        (
            (np.zeros(2),),
            (np.zeros(2), 1),
            "1 items: (float64 array (2,): 0 0,)",
            "2 items: (float64 array (2,): 0 0, 1)",
        ),
        ("b", "a", "'b'", "'a'"),
        (np.array([True, False]), [True, True], "False (1 of 2 differ) at [1]", "True at [1]"),
        ([[1], [1, 2]], np.zeros(2), "list: [[1], [1, 2]]", "float64 array (2,): 0 0"),
    ],
)
def test_a_value_that_is_off_is_told_with_the_place_and_digits_enough_to_see_it(trial, got, want, told_got, told_want):
    failure = failure_of(trial.close, got, want, what="v", otherwise="usual")
    assert (failure.property, failure.mistake) == ("v", "usual")
    assert (failure.got, failure.expected) == (told_got, told_want)


def test_the_tolerances_are_those_asked_for(trial):
    trial.close(1.09, 1.0, what="v", rtol=0.1, atol=0)
    trial.close(0.09, 0.0, what="v", rtol=0, atol=0.1)
    failure_of(trial.close, 1.11, 1.0, what="v", rtol=0.1, atol=0)
    failure_of(trial.close, 0.11, 0.0, what="v", rtol=0, atol=0.1)
    trial.close(1 + 5e-7, 1.0, what="v")
    trial.close(5e-10, 0.0, what="v")
    failure_of(trial.close, 1 + 2e-6, 1.0, what="v")
    failure_of(trial.close, 2e-9, 0.0, what="v")
    trial.close({"a": 1.05, "b": (1.05, [1.05])}, {"a": 1.0, "b": (1.0, [1.0])}, what="v", rtol=0.1)


@pytest.mark.parametrize(
    ("got", "want"),
    [
        ((16, 8), (16, 8)),
        (np.int64(3), 3),
        (3.0, 3),
        (True, np.bool_(True)),
        ({1, 2}, {2, 1}),
        ("a", "a"),
        (None, None),
        ({"a": (1, [2])}, {"a": (1, [2])}),
        ([1, 2], np.array([1, 2])),
        (np.array(["x", "y"]), np.array(["x", "y"])),
        (np.array([1.0, math.nan]), np.array([1.0, math.nan])),
        (np.array([1, "a"], dtype=object), np.array([1, "a"], dtype=object)),
        ((math.nan,), (math.nan,)),
        (np.zeros(0), np.zeros(0)),
    ],
)
def test_equal_values_are_accepted(trial, got, want):
    trial.equal(got, want, what="v")


@pytest.mark.parametrize(
    ("got", "want", "told_got", "told_want"),
    [
        ([16, 8], (16, 8), "list: [16, 8]", "(16, 8)"),
        ((16, 8, 1), (16, 8), "3 items: (16, 8, 1)", "2 items: (16, 8)"),
        ((16, 9), (16, 8), "9 at [1]", "8 at [1]"),
        (True, 1, "bool: True", "1"),
        (1, True, "int: 1", "True"),
        ("1", 1, "str: '1'", "1"),
        (0.3, 0.1 + 0.2, "0.3", "0.30000000000000004"),
        (np.array([1, 2]), [1, 2], "ndarray: int64 array (2,): 1 2", "[1, 2]"),
        (3, np.array([3]), "one value: 3", "shape (1,): int64 array (1,): 3"),
        (np.array([1, 2]), np.array([1, 3]), "2 (1 of 2 differ) at [1]", "3 at [1]"),
        (np.array(["x"]), np.array(["y"]), "'x' (1 of 1 differ) at [0]", "'y' at [0]"),
        (np.array([1]), np.array([True]), "int64 values: int64 array (1,): 1", "bool values: bool array (1,): True"),
        (np.array([1, 2], dtype=object), np.array([1, "a"], dtype=object), "2 (1 of 2 differ) at [1]", "'a' at [1]"),
        ({1}, {2}, "{1}", "{2}"),
        (math.nan, 1.0, "nan", "1"),
        (1.0, math.nan, "1", "nan"),
        ({"a": 1}, ["a"], "dict: {'a': 1}", "['a']"),
    ],
)
def test_an_unequal_value_is_told(trial, got, want, told_got, told_want):
    failure = failure_of(trial.equal, got, want, what="v")
    assert (failure.got, failure.expected) == (told_got, told_want)


def test_an_answer_with_a_hostile_equality_or_array_is_refused_and_not_trusted(trial):
    class Liar:
        def __eq__(self, other):
            raise RuntimeError("no comparison")

        __hash__ = None

    liars = np.array([Liar(), Liar()], dtype=object)
    failure_of(trial.equal, liars, np.array([1, 2], dtype=object), what="v")
    failure_of(trial.close, liars, np.array([1, 2], dtype=object), what="v")

    class BadArray:
        def __array__(self, *args, **kwargs):
            raise RuntimeError("no array")

    failure_of(trial.equal, Liar(), 3, what="v")
    failure_of(trial.equal, Liar(), "a", what="v")
    failure_of(trial.close, BadArray(), np.zeros(2), what="v")
    failure_of(trial.close, BadArray(), 1.0, what="v")


def test_a_value_is_never_stretched_to_the_asked_shape(trial):
    for got in (0.0, [0.0], np.zeros((1, 3)), np.zeros((3, 1))):
        failure_of(trial.close, got, np.zeros(3), what="v")
        failure_of(trial.equal, got, np.zeros(3), what="v")


# --- mistakes -----------------------------------------------------------------------------------------------------


def test_a_known_mistake_is_named_and_an_unknown_one_gets_the_usual_text(trial):
    known = (Mistake(0.5, "half"), Mistake(lambda: 0.25, "a quarter"), Mistake(0.5, "half again"))
    assert failure_of(trial.close, 0.5, 1.0, what="v", mistakes=known, otherwise="usual").mistake == "half"
    assert failure_of(trial.close, 0.25, 1.0, what="v", mistakes=known, otherwise="usual").mistake == "a quarter"
    assert failure_of(trial.close, 0.3, 1.0, what="v", mistakes=known, otherwise="usual").mistake == "usual"
    assert failure_of(trial.close, 0.3, 1.0, what="v", mistakes=known).mistake is None
    assert failure_of(trial.equal, (1, 2), (2, 1), what="v", mistakes=[Mistake((1, 2), "swapped")]).mistake == "swapped"


def test_a_mistake_is_recognised_within_the_tolerance_and_only_in_its_own_shape(trial):
    mistakes = (Mistake(np.array([1.0, 2.0]), "off"),)
    near = [1.0 + 1e-8, 2.0]
    assert failure_of(trial.close, near, [5.0, 5.0], what="v", mistakes=mistakes).mistake == "off"
    assert failure_of(trial.close, [1.0, 2.1], [5.0, 5.0], what="v", mistakes=mistakes).mistake is None
    assert failure_of(trial.close, [[1.0, 2.0]], [5.0, 5.0], what="v", mistakes=mistakes).mistake is None


def test_a_mistake_that_has_no_value_on_this_input_is_passed_over(trial):
    mistakes = (Mistake(lambda: 1 / 0, "division"), Mistake(2, "two"))
    assert failure_of(trial.close, 2, 1, what="v", mistakes=mistakes).mistake == "two"


def test_mistakes_are_not_looked_at_when_the_answer_is_right(trial):
    trial.close(1.0, 1.0, what="v", mistakes=(Mistake(lambda: pytest.fail("computed"), "x"),))


# --- other properties ---------------------------------------------------------------------------------------------


def test_any_other_property_is_told_with_what_came_and_what_was_wanted(trial):
    trial.that(True, what="p")
    trial.that(np.bool_(True), what="p")
    failure = failure_of(
        trial.that, np.False_, what="same seed, same split", want="equal rows", got=[1, 2], otherwise="u"
    )
    assert failure.property == "same seed, same split"
    assert (failure.expected, failure.got, failure.mistake) == ("equal rows", "[1, 2]", "u")
    failure = failure_of(trial.that, False, what="p")
    assert (failure.expected, failure.got, failure.mistake) == (None, None, None)


@pytest.mark.parametrize("condition", [1, None, "yes", np.array([True, True]), [True]])
def test_a_condition_that_is_not_a_bool_is_the_author_s_slip_and_never_a_pass(trial, condition):
    with pytest.raises(TypeError, match="condition of 'p' must be a bool"):
        trial.that(condition, what="p")


def test_an_answer_that_refuses_bad_input_is_accepted(trial):
    def refuse(x, y=0):
        raise ValueError("x is empty")

    trial.raises(ValueError, refuse, [], what="empty")
    trial.raises((TypeError, ValueError), refuse, [], y=3, what="empty", match="empty")
    assert trial.input == "x = [], y = 3"


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (lambda x: 3, "3"),
        (lambda x: x, "[]"),
        (lambda x: [][1], "IndexError: list index out of range, at line"),
    ],
)
def test_an_answer_that_takes_bad_input_is_told(trial, answer, got):
    failure = failure_of(trial.raises, ValueError, answer, [], what="an empty list is refused", otherwise="u")
    assert (failure.property, failure.expected, failure.mistake) == ("an empty list is refused", "ValueError", "u")
    assert failure.got.startswith(got)


def test_an_error_message_that_does_not_name_the_argument_is_told(trial):
    def vague(x):
        raise ValueError("bad")

    failure = failure_of(trial.raises, (ValueError, KeyError), vague, [], what="p", match="^x is", otherwise="u")
    assert failure.expected == "ValueError or KeyError with a message that matches '^x is'"
    assert (failure.got, failure.mistake) == ("ValueError: bad", "u")


def test_raises_gives_copies(trial):
    mine = [1]

    def spoil(x):
        x.clear()
        raise ValueError

    trial.raises(ValueError, spoil, mine, what="p")
    assert mine == [1]


# --- forbidden calls ----------------------------------------------------------------------------------------------


def by_attribute(m):
    return np.linalg.eigvalsh(m)


def by_module_alias(m):
    return linalg.eigvalsh(m)


def by_imported_name(m):
    return eigvalsh(m)


def by_late_import(m):
    from numpy.linalg import eigvalsh as late

    return late(m)


def by_helper(m):
    return by_imported_name(m)


def swallowed(m):
    try:
        return eigvalsh(m)
    except Exception:
        return np.ones(len(m))


def swallowed_and_then_lost(m):
    try:
        values = eigvalsh(m)
    except Exception:
        values = None
    return values.sum()


CALLS = [swallowed_and_then_lost, by_attribute, by_module_alias, by_imported_name, by_late_import, by_helper, swallowed]


@pytest.mark.parametrize("answer", CALLS)
def test_a_forbidden_call_is_found_however_the_function_was_imported(answer):
    trial = Trial("1.9", answers=(answer,))
    with pytest.raises(CheckFailed) as caught, trial.forbid("numpy.linalg.eigvalsh", why="write it out"):
        trial.call(answer, np.eye(2))
    assert caught.value.property == "written without numpy.linalg.eigvalsh"
    assert (caught.value.expected, caught.value.got) == ("write it out", "a call of numpy.linalg.eigvalsh")
    assert np.linalg.eigvalsh is eigvalsh
    assert by_imported_name(np.eye(2)).tolist() == [1, 1]


def test_an_answer_without_the_forbidden_call_passes_and_the_function_is_back(trial):
    with trial.forbid("numpy.linalg.eigvalsh", "numpy.linalg.eigh", why="write it"):
        assert trial.call(lambda m: m.sum(), np.eye(2)) == 2
    assert np.linalg.eigvalsh(np.eye(2)).tolist() == [1, 1]


def test_the_functions_are_back_after_a_failure_inside(trial):
    with pytest.raises(CheckFailed), trial.forbid("numpy.linalg.eigvalsh", why="w"):
        trial.call(lambda m: 1 / 0, 1)
    assert np.linalg.eigvalsh is eigvalsh


def test_a_forbidden_call_is_found_when_an_error_was_asked_for_too():
    trial = Trial("1.9", answers=(by_attribute,))
    with pytest.raises(CheckFailed) as caught, trial.forbid("numpy.linalg.eigvalsh", why="write it out"):
        trial.raises(ValueError, by_attribute, np.eye(2), what="p")
    assert caught.value.property == "written without numpy.linalg.eigvalsh"


def test_a_function_of_a_module_that_nobody_imported_yet_can_be_forbidden(trial, monkeypatch):
    def answer():
        import wsgiref.util

        return wsgiref.util.guess_scheme({})

    for name in ("wsgiref", "wsgiref.util"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(CheckFailed), trial.forbid("wsgiref.util.guess_scheme", why="w"):
        trial.call(answer)
    assert trial.call(answer) == "http"


def test_a_method_can_be_forbidden():
    def answer(frame):
        return frame.corr()

    trial = Trial("1.1", answers=(answer,))
    with pytest.raises(CheckFailed), trial.forbid("pandas.DataFrame.corr", why="write it"):
        trial.call(answer, pd.DataFrame({"a": [1, 2]}))
    assert pd.DataFrame({"a": [1.0, 2.0]}).corr().shape == (1, 1)


def test_a_package_that_is_not_installed_cannot_be_called_and_is_no_error(trial):
    with trial.forbid("no_such_package.module.function", why="w"):
        trial.call(lambda: 1)


def test_a_slip_in_a_forbidden_name_is_told_to_the_author(trial):
    with pytest.raises(ValueError, match=r"numpy.linalg.eigvalsch"), trial.forbid("numpy.linalg.eigvalsch", why="w"):
        pass


def test_the_first_of_several_forbidden_calls_is_the_one_told():
    def both(m):
        for function in (np.linalg.det, np.linalg.eigvalsh):
            with contextlib.suppress(Exception):
                function(m)
        return 1

    trial = Trial("1.1", answers=(both,))
    with pytest.raises(CheckFailed) as caught, trial.forbid("numpy.linalg.eigvalsh", "numpy.linalg.det", why="w"):
        trial.call(both, np.eye(2))
    assert "numpy.linalg.det" in caught.value.property


# --- the message --------------------------------------------------------------------------------------------------


def test_the_message_is_the_card_the_course_promises(trial):
    trial.call(lambda y: 1, np.arange(50))
    mistake = Mistake(0.02, "this is 1/count: multiply by n/k")
    failure = failure_of(trial.close, 0.02, 1.67, what="weight of class 0", mistakes=(mistake,))
    assert str(failure) == (
        "✗ 1.4 not yet: weight of class 0\n"
        "  input     y = int64 array (50,): 0 1 2 … 48 49\n"
        "  expected  1.67\n"
        "  got       0.02\n"
        "  usually   this is 1/count: multiply by n/k\n"
        "  repeat    check(…, seed=7)"
    )
    assert (failure.exercise, failure.property) == ("1.4", "weight of class 0")
    assert failure.input.startswith("y = int64")


def test_below_its_card_a_failure_is_one_line(trial):
    failure = failure_of(trial.that, False, what="p")
    assert failure._render_traceback_() == ["✗ 1.4 not yet: p", "  repeat    check(…, seed=7)"]
    failure.displayed = True
    assert failure._render_traceback_() == ["✗ 1.4 not yet: p"]


def test_a_text_of_several_lines_stays_in_its_column(trial):
    text = str(failure_of(trial.that, False, what="p", otherwise="first\nsecond"))
    assert "  usually   first\n            second\n" in text


def test_the_same_seed_gives_the_same_cases():
    assert Trial("1.1", 3).rng.integers(0, 99, 9).tolist() == Trial("1.1", 3).rng.integers(0, 99, 9).tolist()
    assert Trial("1.1", 3).rng.random() != Trial("1.1", 4).rng.random()
    assert Trial("1.1").rng.random() == np.random.default_rng(0).random()


def test_the_input_of_a_message_stays_short_with_many_arguments(trial):
    trial.call(lambda *args: 1, *["x" * 99] * 10)
    assert len(trial.input) <= 10 * (len("argument 10 = ") + 30 + 2)
    trial.call(lambda a: 1, "x" * 50)
    assert "x" * 50 in trial.input


# --- descriptions -----------------------------------------------------------------------------------------------------


class Loud:
    def __repr__(self):
        return "x" * 10**7


class Broken:
    def __repr__(self):
        raise RuntimeError("no repr")


class BrokenArray(np.ndarray):
    @property
    def dtype(self):
        raise RuntimeError("no dtype")


@pytest.mark.parametrize(
    "value",
    [
        Loud(),
        Broken(),
        np.zeros(3).view(BrokenArray),
        10**5000,
        [Loud()] * 9,
        {i: [[["x" * 99] * 9] * 9] * 9 for i in range(99)},
    ]
    + ["a\nb" * 999, 10**4000, np.zeros((999, 999)), itertools.count(), np.array(["x" * 999] * 20), {1, 2, 3}]
    + [pd.DataFrame(np.zeros((99, 99))), np.array([Loud()] * 3), range(10**9), np.zeros(3, dtype="V8"), b"x" * 9999],
    ids=lambda v: type(v).__name__,
)
def test_any_object_is_described_in_one_short_line(value):
    text = describe(value)
    assert 0 < len(text) <= LIMIT
    assert "\n" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.arange(8), "int64 array (8,): 0 1 2 3 4 5 6 7"),
        (np.arange(9), "int64 array (9,): 0 1 2 … 7 8"),
        (np.array([[0.12345678, math.nan]]), "float64 array (1, 2): 0.123457 nan"),
        (np.zeros((0, 3)), "float64 array (0, 3)"),
        (np.array(["a", "b"]), "<U1 array (2,): 'a' 'b'"),
        (np.float64(0.5), "0.5"),
        ([np.float64(0.25), 2], "[0.25, 2]"),
        (1 / 3, "0.333333"),
        (pd.Series([1, 2]), "int64 Series (2,)"),
        (SimpleNamespace(shape=(1,)), "namespace(shape=(1,))"),
        (pd.DataFrame({"a": [1]}), "DataFrame (1, 1)"),
        ({"b": 1, "a": 2}, "{'a': 2, 'b': 1}"),
        (list(range(9)), "[0, 1, 2, 3, 4, 5, …]"),
        ("it's", '"it\'s"'),
        (None, "None"),
    ],
)
def test_a_description_says_what_matters(value, text):
    assert describe(value) == text


def test_a_long_text_is_cut_in_the_middle_so_that_both_ends_are_seen():
    assert shorten("a" * 10, 10) == "a" * 10
    short = shorten("begin " + "x" * 1000 + " end", 40)
    assert len(short) == 40
    assert short.startswith("begin xxx")
    assert short.endswith("xxx end")
    assert "…" in short
    assert shorten("a \n  b") == "a b"


def test_two_numbers_are_shown_with_the_digits_that_tell_them_apart():
    assert number_pair(0.02, 1.6666666) == ("0.02", "1.667")
    assert number_pair(1.0000001, 1.0) == ("1.0000001", "1")
    assert number_pair(10**20, 10**20 + 1) == (str(10**20), str(10**20 + 1))
    assert number_pair(0.3, 0.1 + 0.2) == ("0.3", "0.30000000000000004")
    assert number_pair(1234567, 7654321) == ("1234567", "7654321")
    assert number_pair(3, 3.0000001) == ("3", "3.0000001")
    assert number_pair(10**999, 1.5) == (describe(10**999), "1.5")
    assert number_pair(1 + 2j, 1.0) == ("1+2j", "1")


def test_importing_the_exercises_imports_neither_torch_nor_ipython():
    code = "import sys, helpers.exercises; sys.exit('torch' in sys.modules or 'IPython' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
