"""When a rank fails: the message names the rank and the cause, in time, and nothing is left of the run."""
# ruff: noqa: T201 - workers print

import ctypes
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager, suppress
from multiprocessing import shared_memory

import psutil
import pytest
import torch
import torch.distributed as dist
from leftovers import alive, nothing_left, processes, wait_until, write_pid

from helpers.ddp import WorkerError, launch, launcher, progress
from helpers.ddp.failures import Outcome, failure

LIMIT = 30.0
"""Seconds within which a failure must be told, on a busy machine; on an idle one it takes less than one."""


def nothing():
    pass


@pytest.fixture(scope="module", autouse=True)
def started_server():
    """So that the limits do not count the first start."""
    launch(nothing, 1)


@contextmanager
def failing(rank, kind, *texts, folder=None, limit=LIMIT):
    """Demand a WorkerError that names the rank and the cause, in time, with nothing left and the next launch well."""
    start = time.monotonic()
    with nothing_left(folder):
        with pytest.raises(WorkerError) as caught:
            yield caught
        assert time.monotonic() - start < limit
    assert (caught.value.rank, caught.value.kind) == (rank, kind), str(caught.value)
    for text in texts:
        assert text in str(caught.value)
    assert launch(abs, 2, -1) == [1, 1]


# --- a rank raises ---------------------------------------------------------------------------------------------------


def raises_at_the_third_step(guilty):
    for step in range(100):
        if step == 3 and dist.get_rank() == guilty:
            print("just before")
            try:
                {}["missing"]
            except KeyError as error:
                raise ValueError("no such column") from error
        dist.all_reduce(torch.ones(10))


@pytest.mark.parametrize("guilty", [0, 2])
def test_the_rank_that_raised_is_named_with_its_whole_traceback(guilty):
    wanted = [
        f"rank {guilty} of 3 raised ValueError: no such column",
        "KeyError: 'missing'",
        "The above exception was the direct cause",
        'raise ValueError("no such column") from error',
        f"last lines of rank {guilty}:\n  just before",
    ]
    with failing(guilty, "raised", *wanted) as caught:
        launch(raises_at_the_third_step, 3, guilty)
    assert isinstance(caught.value.exception, ValueError)
    assert "helpers/ddp" not in str(caught.value)  # the launcher's own frames are of no interest
    assert pickle.loads(pickle.dumps(caught.value)).rank == guilty


def test_ranks_that_wait_or_compute_are_stopped_when_another_raises(tmp_path):
    def work():
        write_pid(tmp_path)
        if dist.get_rank() == 0:
            wait_until(lambda: len(list(tmp_path.iterdir())) == 3)
            raise ArithmeticError("enough")
        while dist.get_rank() == 1:
            pass
        time.sleep(1000)

    with failing(0, "raised", "ArithmeticError: enough", folder=tmp_path):
        launch(work, 3)


class Awkward(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def test_an_exception_that_cannot_be_pickled_is_told_in_words():
    def work():
        raise Awkward(1, 2)

    with pytest.raises(WorkerError, match=r"rank \d of 2 raised .*Awkward: 1 and 2") as caught:
        launch(work, 2)
    assert caught.value.exception is None
    assert "raise Awkward(1, 2)" in caught.value.traceback


def test_sys_exit_is_a_failure():
    with failing(0, "raised", "SystemExit: 3"):
        launch(sys.exit, 1, 3)


def test_a_result_that_cannot_be_pickled_is_named():
    with failing(0, "raised", "the worker returned a _thread.lock, which cannot be pickled"):
        launch(threading.Lock, 1)


def test_a_function_that_the_worker_cannot_import_is_named(tmp_path, monkeypatch):
    (tmp_path / "short_lived.py").write_text("def work():\n    pass\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        from short_lived import work

    with failing(0, "raised", "ModuleNotFoundError: No module named 'short_lived'"):
        launch(work, 1)


def test_a_rank_that_returns_too_early_is_told():
    def work():
        if dist.get_rank() == 1:
            return
        time.sleep(0.5)
        dist.all_reduce(torch.ones(1))

    with failing(0, "raised", "rank 1 had returned before: do all ranks make the same collective calls"):
        launch(work, 2)


# --- a rank dies -----------------------------------------------------------------------------------------------------


def test_a_rank_killed_in_mid_step_is_named_and_leaves_no_shared_memory(tmp_path):
    def work():
        write_pid(tmp_path)
        subprocess.Popen(["sleep", "1000"])
        memory = shared_memory.SharedMemory(create=True, size=100)
        (tmp_path / memory.name).touch()
        for step in range(1000):
            if step == 20 and dist.get_rank() == 1:
                print("step 20")
                os.kill(os.getpid(), signal.SIGKILL)
            dist.all_reduce(torch.ones(1000))

    with failing(1, "killed", "rank 1 of 2 was killed by SIGKILL", "memory runs out", "  step 20", folder=tmp_path):
        launch(work, 2)
    assert len(list(tmp_path.glob("psm_*"))) == 2


def test_native_code_that_gives_up_has_the_last_word():
    def work():
        dist.all_reduce(torch.ones(100 + dist.get_rank()))  # sizes that do not match end the process in gloo

    with pytest.raises(WorkerError, match=r"rank \d of 2 was killed by SIGABRT") as caught:
        launch(work, 2)
    assert "size doesn't match" in str(caught.value)
    assert "dist.all_reduce(torch.ones(100 + dist.get_rank()))" in caught.value.traceback


def test_a_crash_shows_where_it_was():
    def work():
        ctypes.string_at(0)

    with failing(0, "killed", "killed by SIGSEGV", "in work", "ctypes.string_at(0)"):
        launch(work, 1)


def test_a_process_that_ends_without_a_result_is_lost():
    def work():
        if dist.get_rank() == 1:
            os._exit(7)
        time.sleep(1000)

    with failing(1, "lost", "rank 1 of 2 ended with status 7 and returned nothing"):
        launch(work, 2)


def test_a_crash_after_the_result_does_not_matter():
    def work():
        import atexit

        atexit.register(os.abort)
        return 1

    with nothing_left():
        assert launch(work, 2) == [1, 1]


def test_when_the_server_is_killed_the_next_launch_starts_another():
    launch(nothing, 1)
    server, others = launcher._server.process.pid, processes()

    def work():
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1000)

    with pytest.raises(WorkerError, match="the process that starts the workers has ended") as caught:
        launch(work, 2)
    assert caught.value.kind == "lost"
    wait_until(lambda: not any(map(alive, processes() - others)))
    assert launch(abs, 2, -1) == [1, 1]
    assert launcher._server.process.pid != server
    launcher._server.process.kill()  # between two launches it is not even told
    launcher._server.process.wait()
    assert launch(abs, 2, -1) == [1, 1]


# --- a rank hangs ----------------------------------------------------------------------------------------------------


def hung(work, size, *texts, folder=None):
    """The error of a run that hangs, with these texts in it; a busy machine needs more time to get that far."""
    for timeout in (1, 4, 16):
        with nothing_left(folder), pytest.raises(WorkerError, match=f"had not finished after {timeout} s") as caught:
            launch(work, size, timeout=timeout)
        if all(text in str(caught.value) for text in texts):
            break
    assert caught.value.kind == "timeout"
    for text in texts:
        assert text in str(caught.value)
    assert launch(abs, 2, -1) == [1, 1]
    return caught.value


def test_the_rank_that_hangs_is_named_with_every_stack():
    def work():
        if dist.get_rank() == 1:
            print("going to sleep")
            time.sleep(1000)
        dist.all_reduce(torch.ones(10))

    found = hung(work, 2, "ranks 0, 1 of 2", "time.sleep(1000)", "dist.all_reduce(torch.ones(10))", "  going to sleep")
    assert found.rank == 1
    assert "time.sleep(1000)" in found.traceback
    assert "all_reduce" not in found.traceback
    assert "helpers/ddp" not in str(found)


def test_ranks_that_wait_for_one_another_are_told_so():
    def work():
        other = 1 - dist.get_rank()
        dist.recv(torch.ones(1), other)

    hung(work, 2, "Every rank that is left waits for another one", "dist.recv(torch.ones(1), other)")


def test_a_hang_in_native_code_that_keeps_python_locked_shows_its_stack():
    def work():
        ctypes.PyDLL(None).sleep(1000)

    hung(work, 1, "ctypes.PyDLL(None).sleep(1000)")


def test_a_stopped_process_has_no_stack_and_ends_all_the_same(tmp_path):
    def work():
        write_pid(tmp_path)
        os.kill(os.getpid(), signal.SIGSTOP)

    hung(work, 1, "rank 0 of 1 had not finished", "no stack", folder=tmp_path)


def test_a_worker_that_ignores_sigterm_ends_all_the_same(tmp_path):
    def work():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        write_pid(tmp_path)
        time.sleep(1000)

    hung(work, 1, "time.sleep(1000)", folder=tmp_path)


# --- the port, and the stop button -----------------------------------------------------------------------------------


def test_a_worker_that_insists_on_a_taken_port_says_so():
    def work(port):
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)

    with socket.create_server(("127.0.0.1", 0)) as taken, failing(0, "raised", "EADDRINUSE"):
        launch(work, 1, taken.getsockname()[1], initialise=False)


def test_the_port_asked_for_in_the_environment_may_be_taken(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        assert launch(dist.get_world_size, 2) == [2, 2]


@pytest.mark.parametrize("presses", [1, 3])
def test_an_interrupt_stops_all_ranks(tmp_path, presses):
    def work():
        write_pid(tmp_path)
        for _ in progress(range(10**9)):
            dist.barrier()

    def press():
        with suppress(AssertionError):
            wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        for _ in range(presses):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    finger = threading.Thread(target=press)
    start = time.monotonic()
    with nothing_left(tmp_path):
        finger.start()
        with pytest.raises(KeyboardInterrupt):
            launch(work, 2, echo=False)
            finger.join()
        with suppress(KeyboardInterrupt):  # a press that came after the end
            finger.join()
    assert time.monotonic() - start < LIMIT
    assert launch(abs, 2, -1) == [1, 1]


def test_interrupts_at_any_moment_leave_nothing(tmp_path):
    """Pressed a little later each time: while the workers start, run, and end."""
    for delay in range(0, 200, 20):
        finger = threading.Timer(delay / 1000, os.kill, (os.getpid(), signal.SIGINT))
        with nothing_left(tmp_path):
            try:
                finger.start()
                launch(write_pid, 2, tmp_path)
                finger.join()
                time.sleep(0.05)  # it strikes here when the launch was quicker
            except KeyboardInterrupt:
                finger.join()
    assert launch(abs, 2, -1) == [1, 1]


def test_an_interrupt_of_the_first_start_leaves_no_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import psutil, torch
        from helpers.ddp import launch
        try:
            launch(abs, 2, -1)
        except KeyboardInterrupt:
            print(psutil.Process().children(recursive=True), launch(abs, 2, -2), flush=True)
        """)
    )
    done = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    wait_until(lambda: psutil.Process(done.pid).children(recursive=True), 60)
    done.send_signal(signal.SIGINT)
    assert done.communicate(timeout=120)[0] == "[] [2, 2]\n"


# --- the verdict by itself -------------------------------------------------------------------------------------------


def error(text, consequence=False):
    return {"summary": text, "traceback": f"{text}\n", "consequence": consequence, "exception": None}


@pytest.mark.parametrize(
    ("outcomes", "rank", "kind"),
    [
        # the connection breaks before the death of the other side is known
        ([Outcome(0, error=error("closed", True), time=1.0), Outcome(1, status=-9, time=2.0)], 1, "killed"),
        ([Outcome(0, error=error("b"), time=2.0), Outcome(1, error=error("a"), time=1.0)], 1, "raised"),
        ([Outcome(0, error=error("b"), time=2.0), Outcome(1, status=-6, time=1.0)], 1, "killed"),
        ([Outcome(0, error=error("closed", True), time=1.0), Outcome(1, returned=True, status=0)], 0, "raised"),
        ([Outcome(0, returned=True, status=-11, time=1.0), Outcome(1, status=0, time=2.0)], 1, "lost"),
    ],
)
def test_the_first_that_failed_by_itself_is_to_blame(outcomes, rank, kind):
    found = failure(outcomes)
    assert (found.rank, found.kind) == (rank, kind)


def test_of_two_ranks_that_raise_the_first_is_to_blame(monkeypatch):
    monkeypatch.setattr(launcher, "PATIENCE_WITH_OTHERS", 30.0)  # on a busy machine the second may come late

    def work():
        time.sleep(0.5 * (1 - dist.get_rank()))
        raise ValueError(dist.get_rank())

    with failing(1, "raised", "Then rank 0 raised ValueError: 0"):
        launch(work, 2)
