"""Tensors in the checks, and answers that run in real processes: what the learner is told, and that nothing is left."""

import math

import numpy as np
import pytest
import torch

from helpers.exercises.describing import LIMIT, describe
from helpers.exercises.trial import CheckFailed, Trial


@pytest.fixture
def trial():
    return Trial("2.2", seed=7)


def failure_of(function, *args, **kwargs):
    with pytest.raises(CheckFailed) as caught:
        function(*args, **kwargs)
    return caught.value


# --- tensors --------------------------------------------------------------------------------------------------------


def test_a_tensor_that_fits_is_accepted(trial):
    trial.is_tensor(torch.zeros(2, 3), what="m")
    trial.is_tensor(torch.zeros(2, 3), (2, 3), "float32", "cpu", what="m")
    trial.is_tensor(torch.zeros(2, 3), (None, 3), torch.float32, what="m")
    trial.is_tensor(torch.nn.Parameter(torch.zeros(())), (), what="m")


@pytest.mark.parametrize(
    ("got", "asked", "property", "expected", "shown"),
    [
        (1.0, {"shape": (3,)}, "m: its type", "a tensor of shape (3,)", "float: 1"),
        ([1.0], {}, "m: its type", "a tensor", "list: [1]"),
        (np.zeros(2), {}, "m: its type", "a tensor", "ndarray: float64 array (2,): 0 0"),
        (torch.zeros(2), {"shape": (3,)}, "m: its shape", "shape (3,)", "float32 tensor (2,): 0 0"),
        (torch.zeros(1), {"shape": ()}, "m: its shape", "shape ()", "float32 tensor (1,): 0"),
        (torch.zeros(1, 2), {"shape": (None, 1)}, "m: its shape", "shape (any, 1)", "float32 tensor (1, 2): 0 0"),
        (torch.zeros(1).double(), {"dtype": "float32"}, "m: its dtype", "float32", "float64 tensor (1,): 0"),
        (torch.zeros(1), {"dtype": torch.float16}, "m: its dtype", "float16", "float32 tensor (1,): 0"),
        (torch.zeros(1, device="meta"), {"device": "cpu"}, "m: its device", "a tensor on cpu", "a tensor on meta"),
    ],
)
def test_the_wrong_kind_of_tensor_is_named(trial, got, asked, property, expected, shown):
    failure = failure_of(trial.is_tensor, got, what="m", otherwise="usual", **asked)
    assert (failure.property, failure.expected, failure.got) == (property, expected, shown)
    assert failure.mistake == "usual"


def test_a_missing_tensor_is_told_as_a_missing_return(trial):
    assert failure_of(trial.is_tensor, None, what="m").mistake == "the function ends without `return`"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.arange(9), "int64 tensor (9,): 0 1 2 … 7 8"),
        (torch.tensor(0.25, requires_grad=True), "float32 tensor (): 0.25"),
        (torch.nn.Parameter(torch.ones(2, 1)), "float32 tensor (2, 1): 1 1"),
        (torch.tensor([1.5, math.nan], dtype=torch.bfloat16), "bfloat16 tensor (2,): 1.5 nan"),
        (torch.zeros(0, 3), "float32 tensor (0, 3)"),
        (torch.zeros(2, device="meta"), "float32 tensor (2,) on meta"),
        (torch.eye(2).to_sparse(), "float32 tensor (2, 2)"),
        ([torch.tensor([True])], "[bool tensor (1,): True]"),
    ],
)
def test_a_tensor_is_described_by_dtype_shape_and_values(value, text):
    assert describe(value) == text


def test_a_large_tensor_is_described_in_one_line():
    assert len(describe(torch.full((1000, 1000), 1 / 3))) <= LIMIT


def test_equal_tensors_are_equal_and_the_first_different_element_is_named(trial):
    trial.equal(torch.tensor([1.0, math.nan]), torch.tensor([1.0, math.nan]), what="t")
    trial.equal({"x": [torch.ones(2)]}, {"x": [torch.ones(2)]}, what="t")
    failure = failure_of(trial.equal, torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]), what="t")
    assert (failure.got, failure.expected) == ("2 (1 of 2 differ) at [1]", "3 at [1]")
    failure = failure_of(trial.equal, torch.ones(2), torch.ones(2, 1), what="t")
    assert failure.expected.startswith("shape (2, 1)")
    failure = failure_of(trial.equal, None, torch.ones(2), what="t")
    assert failure.mistake == "the function ends without `return`"


def test_a_tensor_whose_dtype_was_changed_in_place_counts_as_changed(trial):
    def halve(x):
        x.data = x.data.half()
        return 1

    assert "argument x" in failure_of(trial.call, halve, torch.ones(2)).property
