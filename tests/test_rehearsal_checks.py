"""The numbers in the bank's answers are recomputed, and no text of a file is ever evaluated as Python."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from helpers import estimates
from helpers.rehearsal.checks import CALLS, arithmetic, recompute, verify


def test_the_entries_of_a_question_file_are_recomputed_as_yaml_reads_them():
    # PyYAML leaves 7.0e9, with no sign in its exponent, as a text
    text = """
    - {says: "112 GB", value: 112.0e9, rel: 0.02, call: training_memory, args: {parameters: 7.0e9}, field: total}
    - {says: "16 bytes", value: 16, unit: B, rel: 0.0, arithmetic: "2 + 2 + 4 + 4 + 4"}
    - {says: "4.4 TB", value: 4.4e12, rel: 0.01, call: kv_cache_bytes,
       args: {layers: 32, context: 131.072e3, batch: 64, key_value_heads: 32, head_width: 128}}
    - {says: "five", value: 5, call: balanced_class_weights, args: {counts: {common: 90, rare: 10}}, field: rare}
    - {says: "five", value: 5, call: balanced_class_weights, args: {counts: [90, 10]}, field: 1}
    """
    checks = yaml.safe_load(text)
    assert isinstance(checks[0]["args"]["parameters"], str)
    assert [verify(check) for check in checks] == pytest.approx([112e9, 16, 4.398e12, 5, 5], rel=1e-3)


def test_a_stated_number_that_does_not_come_out_is_named_with_the_right_one():
    check = {"says": "28 GB", "value": 28e9, "rel": 0.05, "call": "model_bytes", "args": {"parameters": 7e9}}
    with pytest.raises(ValueError, match=r"value 2.8e\+10 \(28 GB\) is not what comes out: 1.4e\+10, 50.0% away"):
        verify(check)
    verify(check | {"args": {"parameters": 7e9, "bits": 32}})


def test_exact_means_exact_up_to_rounding():
    assert verify({"value": 0.3, "rel": 0.0, "arithmetic": "0.1 + 0.2"}) == pytest.approx(0.3)
    assert verify({"value": 0, "rel": 0, "arithmetic": "0.1 + 0.2 - 0.3"}) == pytest.approx(0)
    with pytest.raises(ValueError, match=r"0\.1% away"):
        verify({"value": 1000, "rel": 0.0, "arithmetic": "1001"})


def test_every_call_is_a_formula_and_every_formula_can_be_called():
    functions = {name for name in estimates.__all__ if callable(getattr(estimates, name)) and name.islower()}
    assert functions - {"human"} == CALLS


numbers = st.integers(0, 10**6).map(str) | st.floats(0, 1e6).map(repr)
texts = st.recursive(
    numbers,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/"]), inner)
        | st.builds("-{}".format, inner)
        | st.builds("{} ** 2".format, numbers)
    ),
    max_leaves=12,
)


@given(texts)
def test_arithmetic_gives_what_python_gives(text):
    # the reference may use what the bank's reader must not: these texts are made here, of numbers alone
    try:
        expected = eval(text, {"__builtins__": {}})
    except (ZeroDivisionError, OverflowError):
        with pytest.raises(ValueError, match=r"zero|too large"):
            arithmetic(text)
        return
    if len(text) <= 400 and abs(expected) < 1e300:
        assert arithmetic(text) == pytest.approx(expected, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be numbers"),
        ("2 +", "must be numbers"),
        ("7B * 2", "must be numbers"),
        ("2; 3", "must be numbers"),
        ("x = 2", "must be numbers"),
        ("abs(-2)", r"got 'abs\(-2\)'"),
        ("__import__('os').system('true')", "got .__import__"),
        ("(1).__class__", r"got '\(1\).__class__'"),
        ("[1, 2][0]", r"got '\[1, 2\]\[0\]'"),
        ("'2' * 3", "got \"'2'\""),
        ("True + 1", "got 'True'"),
        ("2j * 2", "got '2j'"),
        ("7 // 2", "got '7 // 2'"),
        ("7 % 2", "got '7 % 2'"),
        ("1 << 80", "got '1 << 80'"),
        ("~1", "got '~1'"),
        ("1 if 2 else 3", "got '1 if 2 else 3'"),
        ("1 < 2", "got '1 < 2'"),
        ("(lambda: 1)()", "got '\\(lambda: 1\\)\\(\\)'"),
        ("1 / 0", "divides by zero"),
        ("0 ** -1", "divides by zero"),
        ("(-8) ** 0.5", "root of a negative number"),
        ("10 ** 10 ** 10", "too large"),
        ("9 ** 9 ** 9 ** 9", "too large"),
        ("1e999", "finite number"),
        ("1" + "0" * 399, "too large"),
        ("1 + " * 200 + "1", "at most 400 characters"),
        ("(" * 200 + "1" + ")" * 199, "must be numbers"),
        ("1\x00", "must be numbers"),
    ],
)
def test_what_is_no_arithmetic_is_refused_and_never_run(text, message):
    with pytest.raises(ValueError, match=message):
        arithmetic(text)


@pytest.mark.parametrize(
    ("check", "error", "message"),
    [
        ("2 + 2", TypeError, "check must be a mapping, got str"),
        ({}, ValueError, "either call or arithmetic, got nothing"),
        ({"call": "model_bytes", "arithmetic": "1"}, ValueError, "either call or arithmetic, got call, arithmetic"),
        ({"arithmetic": 4}, TypeError, "arithmetic must be a text .* got int 4"),
        ({"call": "eval"}, ValueError, "call must be one of activation_bytes, .* got 'eval'"),
        ({"call": "human"}, ValueError, "got 'human'"),
        ({"call": "__getattr__", "args": {"name": "GPUS"}}, ValueError, "got '__getattr__'"),
        ({"call": ["model_bytes"]}, ValueError, "call must be"),
        ({"call": "model_bytes", "args": [7e9]}, ValueError, "args of model_bytes must be a mapping"),
        ({"call": "model_bytes", "args": {1: 2}}, ValueError, "args of model_bytes must be a mapping"),
        ({"call": "model_bytes", "args": {"size": 1}}, ValueError, "call model_bytes: .*unexpected keyword .*'size'"),
        ({"call": "model_bytes"}, ValueError, "call model_bytes: .*missing 1 required .*'parameters'"),
        ({"call": "model_bytes", "args": {"parameters": "7B"}}, ValueError, "parameters must be a number, got str"),
        ({"call": "model_bytes", "args": {"parameters": "nan"}}, ValueError, "parameters must be finite"),
        ({"call": "model_bytes", "args": {"parameters": 1}, "field": "total"}, ValueError, "must be left out"),
        ({"call": "training_memory", "args": {"parameters": 1}}, ValueError, "name a field"),
        (
            {"call": "training_memory", "args": {"parameters": 1}, "field": "__class__"},
            ValueError,
            "field of training_memory must be gradients, optimiser, total, weights, got '__class__'",
        ),
        (
            {"call": "balanced_class_weights", "args": {"counts": [1]}, "field": 1},
            ValueError,
            "must be one of 0, got 1",
        ),
        ({"call": "runway_months", "args": {"cash": 1, "monthly_costs": 0}}, ValueError, "must give a finite number"),
    ],
)
def test_a_wrong_check_is_refused_by_name(check, error, message):
    with pytest.raises(error, match=message):
        recompute(check)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"value": "a lot"}, "value must be a number"),
        ({"value": None}, "value"),
        ({"rel": "some"}, "rel must be a num"),
    ],
)
def test_a_stated_value_must_be_a_number(part, message):
    with pytest.raises(ValueError, match=message):
        verify({"value": 4, "rel": 0.0, "arithmetic": "2 + 2"} | part)


def test_recomputing_loads_no_large_library():
    code = (
        "import sys; from helpers.rehearsal.checks import recompute; recompute({'arithmetic': '1'}); "
        "recompute({'call': 'model_bytes', 'args': {'parameters': 1}}); "
        "print(sorted({'torch', 'numpy', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
