"""Tensors in the checks, and answers that run in real processes: what the learner is told, and that nothing is left."""

import math
import os
import re
import subprocess
import sys
import threading
import types

import cloudpickle
import numpy as np
import pytest
import torch
import torch.distributed as dist

from helpers import ddp
from helpers.exercises import ranks
from helpers.exercises.describing import LIMIT, describe
from helpers.exercises.trial import CheckFailed, NotAttempted, Trial


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


# --- answers on ranks -------------------------------------------------------------------------------------------------


def run(answer, *args):
    """The body of these tests, as a check's module would hold it."""
    ranks.working_on(f"args = {args}")
    return answer(*args)


def total(x):
    x = x.clone()
    dist.all_reduce(x)
    return x


def test_an_answer_runs_in_one_process_group_and_its_results_come_back_by_rank(trial):
    def answer(scale):
        return os.getpid(), dist.get_rank(), total(torch.tensor([scale, scale * dist.get_rank()]))

    results = trial.on_ranks(lambda answer: run(answer, 2.0), 3, answer)
    assert trial.last is results
    assert len({pid for pid, _, _ in results} | {os.getpid()}) == 4
    assert [rank for _, rank, _ in results] == [0, 1, 2]
    assert all(value.tolist() == [6, 6] for _, _, value in results)


def test_keyword_arguments_reach_the_body_and_the_input_names_the_ranks(trial):
    assert trial.on_ranks(lambda answer, x, y: (answer(x), y), 1, total, x=torch.ones(1), y="z") == [(1, "z")]
    assert trial.input == "1 rank"
    trial.on_ranks(run, 2, lambda: 1)
    assert trial.input == "2 ranks"


def not_written(x):
    """Still to be written."""


def half_written(x):
    if dist.get_rank() == 0:
        raise NotImplementedError
    return total(x)


def test_a_stub_is_not_attempted_before_or_after_the_ranks_have_started(trial, monkeypatch):
    with pytest.raises(NotAttempted, match=r"^half_written$"):
        trial.on_ranks(lambda answer: run(answer, torch.ones(1)), 2, half_written)
    monkeypatch.setattr(ddp, "launch", None)
    with pytest.raises(NotAttempted, match=r"^not_written$"):
        trial.on_ranks(run, 2, total, not_written)


class CannotBePickled(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
        self.open = open(os.devnull)  # noqa: PTH123, SIM115


def raises_on_one(x):
    if dist.get_rank() == 1:
        return x["no"]
    return total(torch.ones(1))


def raises_oddly(x):
    raise CannotBePickled(1, 2)


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (raises_on_one, r"^rank 1: TypeError: 'int' object is not subscriptable, at line \d+: return x\[\"no\"\]$"),
        (raises_oddly, r"^rank \d: .*CannotBePickled: 1 and 2, at line \d+: raise CannotBePickled\(1, 2\)$"),
    ],
)
def test_an_exception_names_the_rank_that_raised_it_the_learner_s_line_and_the_input(trial, answer, got):
    failure = failure_of(trial.on_ranks, lambda answer: run(answer, 5), 2, answer, otherwise="not this")
    assert failure.property == f"{answer.__name__} runs on every rank"
    assert re.search(got, failure.got), failure.got
    assert failure.mistake is None
    assert failure.input.startswith("2 ranks")
    assert failure.repeat == "check(…, seed=7)"
    assert answer is raises_oddly or failure.input == "2 ranks, args = (5,)"


def waits_for_ever():
    dist.recv(torch.zeros(1), 1 - dist.get_rank())


def leaves():
    if dist.get_rank() == 0:
        dist.recv(torch.zeros(1), 1)


def test_ranks_that_wait_for_one_another_are_told_with_the_line_where_they_stand(trial):
    failure = failure_of(trial.on_ranks, run, 2, waits_for_ever, timeout=3)
    assert failure.property == "waits_for_ever finishes on every rank"
    assert re.search(r"^rank \d still waits after 3 seconds, at line \d+: dist.recv", failure.got)
    assert "all wait for one another" in failure.mistake
    failure = failure_of(trial.on_ranks, run, 2, waits_for_ever, timeout=3, otherwise="send first")
    assert failure.mistake == "send first"


def test_a_rank_whose_partner_has_left_is_told_that_the_calls_differ(trial):
    failure = failure_of(trial.on_ranks, run, 2, leaves, timeout=5)
    assert failure.property == "leaves runs on every rank"
    assert re.search(r"^rank 0: .*, at line \d+: dist.recv", failure.got)
    assert "do not make the same calls" in failure.mistake


def ends():
    os._exit(3)


def test_a_process_that_ends_without_an_exception_is_told(trial):
    failure = failure_of(trial.on_ranks, run, 2, ends, timeout=5)
    assert failure.property == "ends runs on every rank"
    assert re.search(r"^rank \d: its process ended: ", failure.got)


def prints_through(x):
    lock = threading.Lock()  # its own: nothing to send
    with lock:
        return x


LOCK = threading.Lock()


def uses_a_lock(x):
    with LOCK:
        return x


def test_an_answer_that_cannot_be_sent_is_told_what_to_do(trial):
    assert trial.on_ranks(lambda answer: run(answer, 1), 1, prints_through) == [1]
    failure = failure_of(trial.on_ranks, lambda answer: run(answer, 1), 1, uses_a_lock)
    assert failure.property == "the answer can be sent to other processes"
    assert "lock" in failure.got
    assert "create it inside the function" in failure.mistake


all_reduce = dist.all_reduce


def by_imported_name(x):
    all_reduce(x)
    return x


def swallowed(x):
    try:
        dist.all_reduce(x)
    except Exception:
        return x * 2


@pytest.mark.parametrize("answer", [total, by_imported_name, swallowed])
def test_what_is_forbidden_here_is_forbidden_in_the_ranks(answer):
    trial = Trial("2.2", answers=(answer,))
    with pytest.raises(CheckFailed) as caught, trial.forbid("torch.distributed.all_reduce", why="send and receive"):
        trial.on_ranks(lambda answer: run(answer, torch.ones(1)), 2, answer)
    assert caught.value.property == "written without torch.distributed.all_reduce"
    assert caught.value.expected == "send and receive"
    assert dist.all_reduce is all_reduce


def test_what_is_forbidden_stays_so_here_after_the_ranks_have_run(trial):
    with pytest.raises(CheckFailed), trial.forbid("torch.distributed.all_reduce", why="w"):
        assert trial.on_ranks(run, 1, lambda: 3) == [3]
        trial.call(total, torch.ones(1))


def test_an_answer_of_a_module_that_the_ranks_cannot_import_is_sent(trial, monkeypatch, tmp_path):
    module = types.ModuleType("nowhere_to_be_found")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec("def helper(x): return x + 1\ndef answer(x): return helper(x)", module.__dict__)
    assert trial.on_ranks(lambda answer: run(answer, 1), 2, module.answer) == [2, 2]
    assert cloudpickle.list_registry_pickle_by_value() == set()


def test_a_check_stays_as_it_is_for_answers_that_need_no_ranks():
    code = "import sys, helpers.exercises.trial; sys.exit('torch' in sys.modules or 'cloudpickle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
