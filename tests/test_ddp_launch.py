"""`launch`: real processes, with each one's result, lines and progress, from everywhere that people call it."""
# ruff: noqa: T201 - workers print

import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
from jupyter_client.manager import KernelManager
from leftovers import alive, nothing_left, wait_until, write_pid

from helpers.ddp import WorkerError, launch, launcher, progress

ROOT = Path(__file__).resolve().parents[1]


def nothing():
    pass


def sum_of_ranks():
    total = torch.tensor([float(dist.get_rank())])
    dist.all_reduce(total)
    return dist.get_rank(), dist.get_world_size(), dist.get_backend(), total.item()


def variables(*names):
    return {name: os.environ.get(name) for name in names}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_each_rank_is_a_process_of_one_group_and_results_come_by_rank(size):
    total = float(sum(range(size)))
    with nothing_left():
        assert launch(sum_of_ranks, size) == [(rank, size, "gloo", total) for rank in range(size)]
    assert len({os.getpid(), *launch(os.getpid, size)}) == size + 1


def test_the_worker_sees_what_torchrun_would_set():
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "GIVEN")
    for rank, found in enumerate(launch(variables, 2, *names, env={"GIVEN": "yes"})):
        assert list(found.values()) == [str(rank), str(rank), "2", "2", "127.0.0.1", "yes"]


def test_the_worker_may_make_the_group_itself():
    def own():
        assert not dist.is_initialized()
        dist.init_process_group("gloo")
        return sum_of_ranks()

    assert launch(own, 2, initialise=False) == [(0, 2, "gloo", 1.0), (1, 2, "gloo", 1.0)]


# --- what travels ----------------------------------------------------------------------------------------------------


class Point:
    def __init__(self, x):
        self.x = x


def test_local_functions_classes_and_keywords_travel_both_ways():
    factor = 3

    class Local:
        value = 0

    def work(point, *, more):
        answer = Local()
        answer.value = point.x * factor + more
        return answer, Point(dist.get_rank())

    (first, one), (_, two) = launch(work, 2, Point(2), more=1)
    assert type(first) is Local
    assert first.value == 7
    assert (type(one), one.x, two.x) == (Point, 0, 1)


def test_tensors_are_copied_both_ways():
    given = torch.arange(6.0).view(2, 3)

    def change(tensor):
        tensor += 1
        return {"tensor": tensor[1:], "gradient": torch.ones(2, requires_grad=True) * 2, "array": np.eye(2)}

    results = launch(change, 2, given)
    assert torch.equal(given, torch.arange(6.0).view(2, 3))
    for result in results:
        assert torch.equal(result["tensor"], torch.tensor([[4.0, 5.0, 6.0]]))
        assert torch.equal(result["gradient"], torch.full((2,), 2.0))
        assert np.array_equal(result["array"], np.eye(2))


def test_large_arguments_and_results_arrive_whole():
    given = torch.randn(5_000_000)
    for result in launch(torch.neg, 2, given):
        assert torch.equal(result, -given)


def test_folder_environment_and_module_path_of_the_moment_come_along(tmp_path, monkeypatch):
    launch(nothing, 1)  # the server is older than the changes
    (tmp_path / "written_later.py").write_text("def answer():\n    return 42\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SET_LATER", "yes")
    monkeypatch.syspath_prepend(tmp_path)

    def look():
        import written_later

        return str(Path.cwd()), os.environ["SET_LATER"], written_later.answer()

    assert launch(look, 1) == [(str(tmp_path), "yes", 42)]


def test_random_numbers_start_as_in_a_fresh_process():
    def draw():
        return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002

    (one, two), (three, _) = launch(draw, 2), launch(draw, 2)
    assert len({one[0], two[0], three[0]}) == len({one[1], two[1], three[1]}) == 3
    assert one[2] == two[2] == three[2]


# --- threads ---------------------------------------------------------------------------------------------------------


def threads_that_compute():
    """How many threads torch starts when it has work for all of them, this one included."""
    before = psutil.Process().num_threads()
    values = torch.randn(2_000_000)
    for _ in range(5):
        values = values.sin()
    return torch.get_num_threads(), psutil.Process().num_threads() - before + 1


@pytest.mark.parametrize("threads", [1, 2])
def test_torch_really_computes_with_the_threads_that_were_asked_for(threads):
    assert launch(threads_that_compute, 2, threads=threads) == [(threads, threads)] * 2


def test_threads_are_shared_out_by_default():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert launch(torch.get_num_threads, 2) == [2, 2]
        torch.set_num_threads(1)
        assert launch(torch.get_num_threads, 2) == [1, 1]
    finally:
        torch.set_num_threads(before)


def test_it_works_after_torch_computed_with_threads_here():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        threads_that_compute()
        assert launch(threads_that_compute, 2, threads=2) == [(2, 2)] * 2
    finally:
        torch.set_num_threads(before)


# --- lines and progress ----------------------------------------------------------------------------------------------


def chatter():
    print("to stdout ✓")
    print("to stderr", file=sys.stderr)
    os.system("echo from a program")
    print("10%\r50%\r100%")
    print("without an end", end="")


def test_each_line_is_shown_once_with_its_rank(capfd):
    launch(chatter, 2)
    out, err = capfd.readouterr()
    wanted = ["to stdout ✓", "to stderr", "from a program", "100%", "without an end"]
    assert [line for line in out.splitlines() if line.startswith("[rank 0]")] == [f"[rank 0] {line}" for line in wanted]
    assert sorted(out.splitlines()) == sorted(f"[rank {rank}] {line}" for rank in (0, 1) for line in wanted)
    assert err == ""
    launch(chatter, 2, echo=False)
    assert capfd.readouterr() == ("", "")


def test_lines_are_shown_while_the_worker_runs(tmp_path, monkeypatch):
    seen = tmp_path / "seen"

    class Screen:
        def write(self, text):
            if text == "[rank 0] now\n":
                seen.touch()

        def flush(self):
            pass

    def says_and_waits():
        print("now")
        wait_until(seen.exists)
        return True

    monkeypatch.setattr(sys, "stdout", Screen())
    assert launch(says_and_waits, 1, timeout=30) == [True]


class Bar:
    """Stands in for tqdm's, and keeps what it was told."""

    made = ()

    def __init__(self, total=None):
        self.events = [("total", total)]
        self.n, self.closed = 0, False
        Bar.made = (*Bar.made, self)

    def reset(self, total=None):
        self.events += [("n", self.n), ("total", total)]

    def set_description(self, label, refresh):
        if ("label", label) not in self.events:
            self.events.append(("label", label))

    def refresh(self):
        pass

    def write(self, text, file, end):
        self.events.append(("line", text + end))

    def close(self):
        self.events.append(("n", self.n))
        self.closed = True


def test_one_bar_counts_what_rank_0_did(monkeypatch, tmp_path):
    def steps():
        for _ in progress(range(7), label="epoch 1"):
            pass
        wait_until((tmp_path / "bar").exists)  # a line that comes before is printed as without a bar
        for count in progress(iter("abcdef"), total=6, label="epoch 2"):
            if count == "d":
                break
        print("done")
        return list(progress("xyz"))

    def made(total=None):
        (tmp_path / "bar").touch()
        return Bar(total)

    monkeypatch.setattr("tqdm.auto.tqdm", made)
    monkeypatch.setattr(Bar, "made", ())
    assert launch(steps, 2) == [["x", "y", "z"]] * 2
    (bar,) = Bar.made
    assert bar.closed
    told = [event for event in bar.events if event[0] != "line"]
    assert told == [
        *[("total", 7), ("label", "epoch 1"), ("n", 7)],
        *[("total", 6), ("label", "epoch 2"), ("n", 3)],
        *[("total", 3), ("label", ""), ("n", 3)],
    ]
    assert sorted(event[1] for event in bar.events if event[0] == "line") == ["[rank 0] done\n", "[rank 1] done\n"]


def test_outside_launch_progress_is_a_plain_bar_on_rank_0(capsys, monkeypatch):
    assert list(progress(range(3), label="here")) == [0, 1, 2]
    assert "here: 100%" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")  # as under torchrun
    assert list(progress(range(3), label="here")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


# --- errors before anything starts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: launch(nothing, 0), ValueError, "world_size is 0; give a whole number, at least 1"),
        (lambda: launch(nothing, True), ValueError, "world_size is True"),
        (lambda: launch(nothing, 2.0), TypeError, "world_size is of type float"),
        (lambda: launch(nothing, 2, threads=0), ValueError, "threads is 0"),
        (lambda: launch(nothing, 2, timeout=0), ValueError, "timeout is 0; give a positive number of seconds"),
        (lambda: launch(nothing, 2, timeout="5"), ValueError, "timeout is '5'"),
        (lambda: launch(nothing, 2, backend="glue"), ValueError, "backend is 'glue'.*'gloo' it always has"),
        (lambda: launch(nothing, 2, backend=3), TypeError, "backend is of type int"),
        (lambda: launch("nothing", 2), TypeError, "worker is of type str; give a function"),
        (lambda: launch(nothing, 2, 3), TypeError, r"arguments do not fit the worker nothing\(\): too many"),
        (lambda: launch(print, 2, threading.Lock()), TypeError, "argument 1 of the worker cannot be sent.*lock"),
        (lambda: launch(print, 2, sep=threading.Lock()), TypeError, "argument sep of the worker cannot be sent"),
        (lambda: launch(threading.Lock().acquire, 2), TypeError, "the worker function cannot be sent"),
    ],
)
def test_a_call_that_cannot_work_is_refused_before_anything_starts(call, error, message, monkeypatch):
    monkeypatch.setattr(launcher, "_running_server", lambda stopped: pytest.fail("the server was started"))
    with pytest.raises(error, match=message):
        call()


def test_more_ranks_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(launcher, "_running_server", lambda stopped: pytest.fail("the server was started"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(dist, "is_backend_available", lambda name: name == "nccl")
    with pytest.raises(ValueError, match="world_size is 2, but backend 'nccl' needs a GPU for each rank"):
        launch(nothing, 2, backend="nccl")


def test_a_launch_within_a_launch_is_refused():
    def nested():
        launch(nothing, 2)

    with nothing_left(), pytest.raises(WorkerError, match=r"launch was called in rank [01] of a launch") as caught:
        launch(nested, 2)
    assert type(caught.value.exception) is RuntimeError


# --- again and again, and from everywhere ----------------------------------------------------------------------------


def test_twenty_launches_in_a_row_leave_nothing():
    launch(nothing, 2)
    files = psutil.Process().num_fds()
    with nothing_left():
        for _ in range(20):
            assert launch(sum_of_ranks, 2) == [(0, 2, "gloo", 1.0), (1, 2, "gloo", 1.0)]
    assert psutil.Process().num_fds() <= files + 2


def test_the_usual_port_may_be_taken():
    with socket.socket() as listener:
        with suppress(OSError):  # then another program has it, which is as good
            listener.bind(("", 29500))
            listener.listen()
        assert len(launch(sum_of_ranks, 2)) == 2


def test_threads_may_launch_at_the_same_time():
    results = {}
    threads = [threading.Thread(target=lambda n=n: results.update({n: launch(abs, 2, -n)})) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [n, n] for n in (1, 2, 3)}


def test_what_a_worker_started_ends_with_it(tmp_path):
    def leaves_one_behind():
        quiet = subprocess.DEVNULL
        child = subprocess.Popen(["sleep", "1000"], stdout=quiet, stderr=quiet)
        (tmp_path / str(child.pid)).touch()

    with nothing_left(tmp_path):
        launch(leaves_one_behind, 2)


def test_a_loader_with_processes_works_in_a_worker(tmp_path):
    class Squares(torch.utils.data.Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, index):
            write_pid(tmp_path)
            return torch.tensor(index**2)

    def read():
        loader = torch.utils.data.DataLoader(
            Squares(), batch_size=5, num_workers=1, persistent_workers=True, multiprocessing_context="fork"
        )
        return torch.cat(list(loader)).tolist()

    with nothing_left(tmp_path):
        assert launch(read, 2) == [[n**2 for n in range(10)]] * 2


def run_script(folder, text, **more):
    """A script as a learner would start it, without a `__main__` guard."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(text))
    return subprocess.Popen([sys.executable, "script.py"], cwd=folder, text=True, env={**os.environ, **more})


def test_a_plain_script_without_a_guard_runs_once(tmp_path):
    (tmp_path / "beside.py").write_text("def double(x):\n    return 2 * x\n")
    script = run_script(
        tmp_path,
        """
        import torch.distributed as dist
        from beside import double
        from helpers.ddp import launch

        with open("runs", "a") as file:
            file.write("run\\n")
        offset = 10

        def worker():
            return double(dist.get_rank() + offset)

        with open("result", "w") as file:
            file.write(repr(launch(worker, 2)))
        """,
    )
    server_gone = script.wait(120)
    assert server_gone == 0
    assert (tmp_path / "result").read_text() == "[20, 22]"
    assert (tmp_path / "runs").read_text() == "run\n"


def test_no_worker_outlives_a_killed_parent(tmp_path):
    script = run_script(
        tmp_path,
        """
        import os, subprocess, time
        from pathlib import Path
        from helpers.ddp import launch

        def worker():
            Path(str(os.getpid())).touch()
            Path(str(os.getppid())).touch()
            Path(str(subprocess.Popen(["sleep", "1000"]).pid)).touch()
            Path(f"ready {os.environ['RANK']}").touch()
            time.sleep(1000)

        launch(worker, 2)
        """,
    )
    wait_until(lambda: len(list(tmp_path.glob("ready *"))) == 2, 120)
    script.kill()
    script.wait()
    found = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]
    assert len(found) == 5  # two workers, what each started, and the server
    wait_until(lambda: not any(map(alive, found)), 10)


def test_a_forked_copy_of_this_process_does_not_touch_the_workers():
    launch(nothing, 1)
    child = os.fork()
    if child == 0:
        os._exit(0 if launcher._server is None else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert launch(abs, 2, -1) == [1, 1]


# --- in a notebook ---------------------------------------------------------------------------------------------------


class Kernel:
    """A real kernel: cells are sent to it, and their outputs come back."""

    def __init__(self):
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(ROOT / "notebooks"))
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(60)
        self.process = psutil.Process(self.manager.provisioner.process.pid)

    def run(self, source, interrupt_when=None):
        """The output of a cell as text, and the error's name and text; with the stop button pressed on a condition."""
        request = self.client.execute(textwrap.dedent(source))
        if interrupt_when is not None:
            wait_until(interrupt_when, 60)
            self.manager.interrupt_kernel()
        printed, error = "", ("", "")
        while True:
            message = self.client.get_iopub_msg(timeout=120)
            content = message["content"]
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["msg_type"] == "stream":
                printed += content["text"]
            elif message["msg_type"] == "execute_result":
                printed += content["data"]["text/plain"]
            elif message["msg_type"] == "error":
                error = content["ename"], "\n".join(content["traceback"])
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return printed, error

    def processes(self):
        return self.process.children(recursive=True)

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


IMPORTS = """
    import os, signal, time
    from pathlib import Path
    import torch
    import torch.distributed as dist
    from helpers.ddp import launch
"""


@pytest.fixture
def new_kernel():
    """One that has launched nothing yet."""
    with closing(Kernel()) as found:
        assert found.run(IMPORTS)[1] == ("", "")
        yield found


@pytest.fixture(scope="module")
def kernel():
    """One whose server runs."""
    with closing(Kernel()) as found:
        assert found.run(IMPORTS)[1] == ("", "")
        assert found.run("launch(abs, 2, -1)") == ("[1, 1]", ("", ""))
        yield found


def test_the_stop_button_works_during_the_very_first_start(new_kernel):
    assert new_kernel.processes() == []
    printed, (name, _) = new_kernel.run("launch(abs, 2, -1)", interrupt_when=new_kernel.processes)
    assert (printed, name) == ("", "KeyboardInterrupt")
    wait_until(lambda: new_kernel.processes() == [], 5)


def test_a_function_of_a_cell_runs_in_real_processes(kernel):
    printed, error = kernel.run("""
        scale = 10
        torch.randn(500, 500) @ torch.randn(500, 500)

        def worker(add):
            total = torch.tensor(dist.get_rank() + add)
            dist.all_reduce(total)
            print("I am here")
            return scale * total.item()

        launch(worker, 2, 1)
    """)
    assert error == ("", "")
    assert sorted(printed.splitlines()) == ["[30, 30]", "[rank 0] I am here", "[rank 1] I am here"]
    assert len(kernel.processes()) == 1  # the server, which makes the next launch quick


def test_the_traceback_shows_the_line_of_the_cell(kernel):
    _, (name, text) = kernel.run("""
        def faulty():
            if dist.get_rank() == 1:
                raise ValueError("too large")  # of the cell
            dist.barrier()

        launch(faulty, 2)
    """)
    assert name == "WorkerError"
    assert "rank 1 of 2 raised ValueError: too large" in text
    assert 'raise ValueError("too large")  # of the cell' in text
    assert "Cell In[" in text
    assert "ipykernel_" not in text
    assert "launcher.py" not in text


def test_the_stop_button_leaves_nothing_and_the_next_launch_works(kernel, tmp_path):
    (server,) = kernel.processes()
    assert kernel.run("old = signal.getsignal(signal.SIGINT)") == ("", ("", ""))
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        printed, (name, _) = kernel.run(
            f"""
            def endless():
                Path({str(folder)!r}, str(os.getpid())).touch()
                while True:
                    dist.barrier()
                    time.sleep(0.01)
            launch(endless, 2)
            """,
            interrupt_when=lambda folder=folder: len(list(folder.iterdir())) == 2,
        )
        assert (printed, name) == ("", "KeyboardInterrupt")
        assert kernel.processes() == [server]
        assert [one for one in kernel.process.net_connections("tcp") if one.laddr.ip == "0.0.0.0"] == []
        assert kernel.run("launch(abs, 2, -5), old is signal.getsignal(signal.SIGINT)")[0] == "([5, 5], True)"


def test_nothing_outlives_the_kernel(new_kernel):
    assert new_kernel.run("launch(abs, 2, -1)")[0] == "[1, 1]"
    (server,) = new_kernel.processes()
    os.kill(new_kernel.process.pid, signal.SIGKILL)
    wait_until(lambda: not alive(server.pid))  # also where nobody fetches an orphan that has ended
