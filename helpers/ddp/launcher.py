"""Run a function in several processes, from a notebook, a script or a test, and bring back what each returned.

`launch` starts real processes with the environment that `torchrun` would give them, so the same function runs there
unchanged. `helpers/ddp/worker.py` is the workers' side, and says why they are forked from a server.

What this does not do: several machines (`python -m helpers.ddp` under torchrun does), and Windows.
"""

from __future__ import annotations

import atexit
import inspect
import json
import linecache
import math
import operator
import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from helpers.ddp import failures, worker
from helpers.ddp.failures import WorkerError
from helpers.pickling import dumps

__all__ = ["WorkerError", "launch"]

LAST_LINES = 10
POLL = 0.1
"""Seconds between looks at the clock and at the stop button."""
PATIENCE_WITH_OTHERS = 0.2
"""Seconds to wait for news of other ranks after a failure: an earlier one may still be on its way."""
PATIENCE_WITH_CAUSE = 3.0
"""The same when a rank only says that another is gone: writing a dead process's memory to disk takes a while."""
PATIENCE_AT_END = 5.0
"""Seconds for workers to end by themselves once all have returned."""
PATIENCE_AFTER_SIGNAL = 1.5
"""Seconds for a worker and what it started to obey SIGTERM, then SIGKILL."""


def launch(
    worker: Callable[..., Any],
    world_size: int,
    *args: Any,
    backend: str | None = None,
    timeout: float = 600.0,
    threads: int | None = None,
    echo: bool = True,
    initialise: bool = True,
    env: Mapping[str, str] | None = None,
    **kwargs: Any,
) -> list[Any]:
    """Call `worker(*args, **kwargs)` in `world_size` processes at once; returns their results by rank.

    worker: a function of a module, a script or a notebook cell. It and its arguments are copied to each process, with
        the cell's global variables that it uses; changes to those stay there. It runs with torch.distributed's default
        process group initialised, in this process's folder, with its environment and module path.
    backend: of torch.distributed; None: "nccl" when there is a GPU for every rank, else "gloo".
    timeout: seconds for the whole run, without the start of Python and torch at the first launch.
    threads: torch's threads per rank; None: this process's, shared out.
    echo: show each rank's printed lines as they come, after "[rank 0] ".
    initialise: False leaves `init_process_group()` to the worker; the variables that it reads are set.
    env: more environment variables for the workers.

    Results, and arguments, must be picklable; tensors are copied. Random numbers: torch starts from its own default
    seed in every rank, `random` and NumPy from a fresh one.

    When a rank fails the others are stopped. However the run ends, nothing of it is left when launch returns or
    raises: no worker, port or shared memory. One process stays, and is what makes the second launch quick; it ends
    with this one.

    Raises WorkerError when a rank raises, dies or does not finish in time; TypeError or ValueError, before anything
    starts, for what cannot be pickled or does not fit; RuntimeError inside a worker (no launch within a launch).
    """
    _check_call(worker, args, kwargs, timeout)
    size = _whole("world_size", world_size)
    each = _threads(threads, size)
    setting = {
        "call": _pickled(worker, args, kwargs),
        "backend": _backend(backend, size) if initialise else "",
        "timeout": float(timeout),
        "threads": each,
        "folder": str(Path.cwd()),
        "path": list(sys.path),
        "sources": {name: entry for name, entry in linecache.cache.items() if len(entry) == 4 and entry[1] is None},
    }
    _check_backend(backend, size)
    with _ONE_AT_A_TIME, _stop_button() as stopped:
        server = _running_server(stopped)
        with ExitStack() as stack:
            port = stack.enter_context(_store())
            setting["environment"] = _environment(port, size, each, env)
            run = _Run(server, size, echo, stopped)
            stack.callback(run.stop)
            run.start(setting)
            return run.results(timeout)


# --- what is checked before anything starts ------------------------------------------------------------------------


def _check_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: Any) -> None:
    if worker.current is not None:
        raise RuntimeError(f"launch was called in rank {worker.current.number} of a launch: workers start no workers")
    if not hasattr(os, "fork"):
        raise RuntimeError("launch needs Linux or macOS; on Windows run it inside WSL")
    if not callable(function):
        raise TypeError(f"worker is of type {type(function).__name__}; give a function")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise ValueError(f"timeout is {timeout!r}; give a positive number of seconds")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have none
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name = getattr(function, "__name__", repr(function))
        raise TypeError(f"the arguments do not fit the worker {name}{signature}: {error}") from None


def _whole(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is of type {type(value).__name__}; give a whole number, at least 1") from None
    if isinstance(value, bool) or number < 1:
        raise ValueError(f"{name} is {value!r}; give a whole number, at least 1")
    return number


def _threads(threads: int | None, size: int) -> int:
    import torch

    return max(1, torch.get_num_threads() // size) if threads is None else _whole("threads", threads)


def _backend(backend: str | None, size: int) -> str:
    import torch
    import torch.distributed as dist

    if backend is None:
        return "nccl" if dist.is_nccl_available() and torch.cuda.device_count() >= size else "gloo"
    return backend


def _check_backend(backend: str | None, size: int) -> None:
    import torch
    import torch.distributed as dist

    if backend is None:
        return
    if not isinstance(backend, str):
        raise TypeError(f"backend is of type {type(backend).__name__}; give a name such as 'gloo' or 'nccl', or None")
    for part in backend.split(","):
        if not dist.is_backend_available(part.rpartition(":")[2]):
            raise ValueError(f"backend is {backend!r}, which this PyTorch does not have; 'gloo' it always has")
    if "nccl" in backend and (gpus := torch.cuda.device_count()) < size:
        raise ValueError(f"world_size is {size}, but backend 'nccl' needs a GPU for each rank and there are {gpus}")


def _pickled(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The call as bytes; when that fails, an error that names the part which cannot be pickled."""
    try:
        return dumps((function, args, kwargs))
    except Exception as error:
        parts = {"the worker function": function}
        parts |= {f"argument {number} of the worker": value for number, value in enumerate(args, 1)}
        parts |= {f"argument {name} of the worker": value for name, value in kwargs.items()}
        for name, value in parts.items():
            try:
                dumps(value)
            except Exception as its:
                raise TypeError(
                    f"{name} cannot be sent to another process: {its}. Create such an object inside the worker"
                ) from its
        raise TypeError(f"the call cannot be sent to another process: {error}") from error


# --- what the workers need -------------------------------------------------------------------------------------------


@contextmanager
def _store() -> Iterator[int]:
    """The meeting point of the ranks, kept by this process; yields its port.

    As with torchrun's agent, no rank has to open a port that another program may have taken in the meantime. The
    system picks a free one, which only this machine can reach.
    """
    import torch.distributed as dist

    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    port = listener.getsockname()[1]
    store = dist.TCPStore("127.0.0.1", port, None, True, wait_for_workers=False, master_listen_fd=listener.detach())
    try:
        yield port
    finally:
        del store  # closes the port


def _environment(port: int, size: int, threads: int, more: Mapping[str, str] | None) -> dict[str, str]:
    """The variables that torchrun would set, and a barrier; each worker adds its RANK and LOCAL_RANK."""
    variables = dict(os.environ)
    for _, name in socket.if_nameindex():
        if name in ("lo", "lo0"):  # gloo would look the machine's name up, which fails on a laptop without network
            variables.setdefault("GLOO_SOCKET_IFNAME", name)
    return variables | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "OMP_NUM_THREADS": str(threads),
        "TORCH_DIST_INIT_BARRIER": "1",  # or a rank that returns at once hangs up on one that is still connecting
        **(more or {}),
    }


@contextmanager
def _stop_button() -> Iterator[Callable[[], bool]]:
    """Inside, an interrupt is noted, and the function that is yielded tells; KeyboardInterrupt follows at the end.

    So it cannot strike between starting a process and writing down that it was started, nor in the clearing up.
    Handlers exist only in the main thread, and an interrupt that is ignored (`nohup`) stays ignored.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (None, signal.SIG_IGN):
        yield lambda: False
        return
    pressed: list[bool] = []
    signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


# --- the server that workers are forked from -------------------------------------------------------------------------


class _Server:
    """This process's end of `worker.serve`."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        self.said = tempfile.TemporaryFile()  # noqa: SIM115
        self._received = b""
        self._lost = False
        code = f"from helpers.ddp.worker import serve; serve({theirs.fileno()})"
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",  # macOS: or a child that uses Objective-C aborts
        }
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=self.said,
                stderr=self.said,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # neither Ctrl-C nor the stop button is for the server
            )
        self.connection.setblocking(False)

    def wait_until_ready(self, stopped: Callable[[], bool]) -> None:
        """Wait for the end of its imports; raises KeyboardInterrupt, WorkerError when it has ended."""
        while not any("ready" in report for report in self.reports(POLL)):
            if stopped():
                raise KeyboardInterrupt

    def reports(self, seconds: float = 0.0) -> list[dict[str, Any]]:
        """What it has to say, waiting up to `seconds` for it. Raises WorkerError when it has ended."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            if not selector.select(seconds):
                return []
        try:
            data = self.connection.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise self._gone()
        *lines, self._received = (self._received + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def fork(self, rank: int, descriptors: list[int]) -> list[dict[str, Any]]:
        """Ask for a worker; returns the reports that came until it had started."""
        try:
            socket.send_fds(self.connection, [json.dumps({"rank": rank}).encode()], descriptors)
        except (BrokenPipeError, ConnectionResetError):
            raise self._gone() from None
        reports: list[dict[str, Any]] = []
        while not any("started" in report for report in reports):
            reports += self.reports(POLL)
        return reports

    def alive(self) -> bool:
        """Whether it can be asked for workers."""
        return not self._lost and self.process.poll() is None

    def close(self) -> None:
        """End it, and with it any worker."""
        self.connection.close()
        try:
            self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.said.close()

    def _gone(self) -> WorkerError:
        self._lost = True
        self.said.seek(0)
        return failures.server_lost(self.said.read().decode(errors="replace")[-4000:])


_server: _Server | None = None  # kept from one launch to the next: starting it takes seconds
_ONE_AT_A_TIME = threading.Lock()


def _running_server(stopped: Callable[[], bool]) -> _Server:
    """The server, started when there is none or it has died."""
    global _server
    if _server is not None and not _server.alive():
        _close_server()
    if _server is None:
        server = _Server()
        try:
            server.wait_until_ready(stopped)
        except BaseException:
            server.close()
            raise
        _server = server
    return _server


def _close_server() -> None:
    global _server
    if _server is not None:
        _server.close()
        _server = None


def _forget_server() -> None:
    """In a forked copy of this process: the server is not the copy's, which must not keep it alive either."""
    global _server, _ONE_AT_A_TIME
    if _server is not None:
        _server.connection.close()
    _server, _ONE_AT_A_TIME = None, threading.Lock()


atexit.register(_close_server)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_server)


# --- one run ---------------------------------------------------------------------------------------------------------


class _Worker:
    """One rank, as seen from here: its process, what it printed and what it sent."""

    def __init__(self, rank: int) -> None:
        self.outcome = failures.Outcome(rank, lines=deque(maxlen=LAST_LINES))
        self.pid = 0
        self.result: Any = None
        self.printing = True
        self.output, self._their_output = os.pipe()
        self.channel, self._their_channel = socket.socketpair()
        self.channel.setblocking(False)
        self.stacks: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._line = b""
        self._received = bytearray()

    def their_ends(self) -> list[int]:
        """The descriptors for the worker."""
        return [self._their_output, self._their_channel.fileno(), self.stacks.fileno()]

    def close_their_ends(self) -> None:
        """Once the worker has them, so that its end is noticed here."""
        os.close(self._their_output)
        self._their_output = -1
        self._their_channel.close()

    def read_lines(self) -> list[str]:
        """The lines that have come; of a line that was drawn over again (a progress bar) only its last state."""
        data = os.read(self.output, 65536)
        self.printing = bool(data)
        *lines, self._line = (self._line + (data or b"\n" * bool(self._line))).split(b"\n")
        found = [line.rstrip(b"\r").rsplit(b"\r", 1)[-1].decode(errors="replace") for line in lines]
        self.outcome.lines.extend(found)  # type: ignore[attr-defined]
        return found

    def read_messages(self) -> Iterator[dict[str, Any]]:
        """The messages that have come whole."""
        with suppress(BlockingIOError, ConnectionResetError):
            while data := self.channel.recv(1 << 20):
                self._received += data
        size = worker.HEADER.size
        while len(self._received) >= size:
            end = size + worker.HEADER.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            message = bytes(self._received[size:end])
            del self._received[:end]
            yield pickle.loads(message)

    def gone(self) -> bool:
        """Whether its process and all that this one started have ended."""
        if self.pid == 0:
            return True
        return self.outcome.status is not None and not self.printing and not self._signal(0)

    def signal(self, number: int) -> None:
        """Send a signal to its process and all that this one started."""
        if self.pid:
            self._signal(number)

    def _signal(self, number: int) -> bool:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS refuses for a group of which only ended ones are left
            return False
        return True

    def close(self) -> None:
        """Give everything back."""
        if self._their_output >= 0:
            self.close_their_ends()
        os.close(self.output)
        self.channel.close()
        self.stacks.close()


class _Run:
    """The workers of one launch, from their start until the last is gone."""

    def __init__(self, server: _Server, size: int, echo: bool, stopped: Callable[[], bool]) -> None:
        self.server = server
        self.echo = echo
        self.stopped = stopped
        self.selector = selectors.DefaultSelector()
        self.workers: list[_Worker] = []
        self.size = size
        self.bar: Any = None

    def start(self, setting: dict[str, Any]) -> None:
        """Start all workers."""
        self.selector.register(self.server.connection, selectors.EVENT_READ, self._hear_server)
        with tempfile.TemporaryFile() as job:
            pickle.dump(setting, job)
            job.flush()
            for rank in range(self.size):
                one = _Worker(rank)
                self.workers.append(one)
                for report in self.server.fork(rank, [job.fileno(), *one.their_ends()]):
                    one.pid = report.get("started", one.pid)
                    self._note_end(report)
                one.close_their_ends()
                self.selector.register(one.output, selectors.EVENT_READ, lambda one=one: self._hear_lines(one))
                self.selector.register(one.channel, selectors.EVENT_READ, lambda one=one: self._hear_messages(one))

    def results(self, timeout: float) -> list[Any]:
        """Wait for all results. Raises WorkerError or KeyboardInterrupt."""
        deadline = time.monotonic() + timeout
        while not all(one.outcome.returned for one in self.workers):
            self._listen(POLL)
            if self.stopped():
                raise KeyboardInterrupt
            if self._failed():
                raise failures.failure(self._outcomes())
            if time.monotonic() > deadline:
                late = {one.rank for one in self._outcomes() if not one.returned}
                self._ask_for_stacks()  # may wake a rank, whose result then comes too late
                raise failures.out_of_time(self._outcomes(), timeout, late)
        return [one.result for one in self.workers]

    def stop(self) -> None:
        """Wait for the workers' end, or bring it about, and give everything back."""
        try:
            if all(one.outcome.returned for one in self.workers):
                self._listen_until(lambda: all(one.outcome.status is not None for one in self.workers), PATIENCE_AT_END)
            for number in (signal.SIGTERM, signal.SIGKILL):
                for one in self.workers:
                    if not one.gone():
                        one.signal(number)
                self._listen_until(lambda: all(one.gone() for one in self.workers), PATIENCE_AFTER_SIGNAL)
        finally:
            for one in self.workers:
                one.signal(signal.SIGKILL)
                one.close()
            self.selector.close()
            if self.bar is not None:
                self.bar.close()

    def _failed(self) -> bool:
        """Whether a rank has failed, and all that matters about it is known."""
        failed = [one.outcome for one in self.workers if one.outcome.failed]
        if not failed:
            return False
        patience = PATIENCE_WITH_CAUSE if all(one.consequence for one in failed) else PATIENCE_WITH_OTHERS
        known = all(one.outcome.failed or one.outcome.returned for one in self.workers)
        return known or time.monotonic() - min(one.time for one in failed) > patience

    def _outcomes(self) -> list[failures.Outcome]:
        for one in self.workers:
            one.stacks.seek(0)
            one.outcome.stack = one.stacks.read().decode(errors="replace")
        return [one.outcome for one in self.workers]

    def _ask_for_stacks(self) -> None:
        """Have each rank that hangs write its stack: the C handler of faulthandler does, whatever Python is at."""
        asked = [one for one in self.workers if one.outcome.status is None and not one.outcome.returned]
        for one in asked:
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGUSR1)
        self._listen_until(lambda: all(os.fstat(one.stacks.fileno()).st_size for one in asked), 1.0)
        self._listen_until(lambda: False, 0.2)  # for the rest of the stacks

    def _listen_until(self, done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline:
            self._listen(0.01)

    def _listen(self, seconds: float) -> None:
        for key, _ in self.selector.select(seconds):
            key.data()

    def _hear_server(self) -> None:
        for report in self.server.reports():
            self._note_end(report)

    def _note_end(self, report: dict[str, Any]) -> None:
        for one in self.workers:
            if "ended" in report and one.pid == report["ended"]:
                self._hear_messages(one)  # all it has sent is here: whether a result is among it decides
                one.outcome.status = report["status"]
                one.outcome.time = one.outcome.time or report["time"]

    def _hear_lines(self, one: _Worker) -> None:
        for line in one.read_lines():
            if self.echo:
                self._print(f"[rank {one.outcome.rank}] {line}\n")
        if not one.printing:
            self.selector.unregister(one.output)

    def _print(self, text: str) -> None:
        if self.bar is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            self.bar.write(text, file=sys.stdout, end="")  # above the bar, where there is a terminal

    def _hear_messages(self, one: _Worker) -> None:
        for message in one.read_messages():
            if message["kind"] == "result":
                one.result, one.outcome.returned = message["value"], True
            elif message["kind"] == "error":
                one.outcome.error, one.outcome.time = message, message["time"]
            else:
                self._draw(message)

    def _draw(self, message: dict[str, Any]) -> None:
        from tqdm.auto import tqdm

        if self.bar is None:
            self.bar = tqdm(total=message["total"])
        elif message["first"]:
            self.bar.reset(message["total"])
        self.bar.set_description(message["label"], refresh=False)
        self.bar.n = message["done"]
        self.bar.refresh()
