"""What happens on the workers' side of `launch`: a small server that forks workers, and the life of one worker.

    notebook, script or test ──one socket──▶ server: has imported torch, and nothing else
                                               ├─fork─▶ rank 0
                                               └─fork─▶ rank 1

Starting Python and importing torch takes seconds; forking a process that has done so takes milliseconds. Forking the
notebook's own process would be as quick, but hangs once torch has used its threads there: a forked child has none of
its parent's threads, and waits for them. The server has never computed anything, so its children start clean, and it
never imports the user's script, so a script needs no `if __name__ == "__main__"`.

The server, and with it every worker, ends when its socket closes: a killed notebook leaves nothing behind.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import linecache
import mmap
import os
import pickle
import random
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

PRELOADED = ("torch", "torch.distributed", "torch.nn.parallel", "torch.optim", "torch.utils.data", "torch._dynamo")
"""What nearly every training script imports. `torch._dynamo` is what the first optimiser would import otherwise."""

HEADER = struct.Struct("!Q")
"""Before each message of a worker: its length in bytes."""

CONSEQUENCES = (
    "closed by peer",
    "reset by peer",
    "onnection refused",
    "onnection was likely closed",
    "Broken pipe",
    "Timed out waiting",
    "timed out after",
    "Socket Timeout",
    "failed to recv",
    "NCCL",
)
"""What a rank's error says when it is another rank that has gone."""

SECONDS_BETWEEN_REPORTS = 0.1


@dataclass
class Rank:
    """Who this process is, and its connection to the process that called `launch`."""

    number: int
    channel: socket.socket

    def send(self, kind: str, **fields: Any) -> None:
        """Send one message; the fields are pickled by value."""
        from helpers.pickling import dumps

        data = dumps({"kind": kind, "time": time.monotonic(), **fields})
        self.channel.sendall(HEADER.pack(len(data)))
        self.channel.sendall(data)


current: Rank | None = None
"""The rank that this process is, None outside `launch`."""


def progress(iterable: Iterable[T], *, total: int | None = None, label: str = "") -> Iterator[T]:
    """Yield the items of `iterable`, with one progress bar for all ranks.

    In a worker, rank 0 reports to the process that called `launch`, which draws the bar; the other ranks only pass
    their items through. Outside `launch` it is `tqdm.auto`, again on rank 0 only. `total`: the number of items, by
    default the iterable's length when it has one.
    """
    if current is None and os.environ.get("RANK", "0") == "0":
        from tqdm.auto import tqdm

        yield from tqdm(iterable, total=total, desc=label or None)
    elif current is None or current.number != 0:
        yield from iterable
    else:
        if total is None and hasattr(iterable, "__len__"):
            total = len(iterable)  # type: ignore[arg-type]
        yield from _reported(iterable, total, label, current)


def _reported(iterable: Iterable[T], total: int | None, label: str, rank: Rank) -> Iterator[T]:
    done, reported = 0, time.monotonic()
    rank.send("progress", done=0, total=total, label=label, first=True)
    try:
        for item in iterable:
            yield item
            done += 1
            if time.monotonic() - reported > SECONDS_BETWEEN_REPORTS:
                rank.send("progress", done=done, total=total, label=label, first=False)
                reported = time.monotonic()
    finally:
        rank.send("progress", done=done, total=total, label=label, first=False)


# --- the server --------------------------------------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Import torch, then fork a worker for each request until the socket closes. Runs in a process of its own."""
    for name in PRELOADED:
        import_module(name)
    _Server(socket.socket(fileno=descriptor)).run()


class _Server:
    """Forks workers and reports how each ended, in lines of JSON."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.children: set[int] = set()
        self.parent = os.getppid()
        self.wake, wakeup = socket.socketpair()
        for one in (self.wake, wakeup):
            one.setblocking(False)
        self.wakeup = wakeup

    def run(self) -> None:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wakeup.fileno(), warn_on_full_buffer=False)
        gc.collect()
        gc.freeze()  # a collection in a child would write to, and so copy, the pages that it shares with the server
        self._report(ready=True)
        try:
            while self._serve_once():
                self._reap()
        finally:
            for child in self.children:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(child, signal.SIGKILL)

    def _serve_once(self) -> bool:
        """Wait for a request or the end of a child; False when the caller of `launch` has gone."""
        import select

        readable = select.select([self.connection, self.wake], [], [], 2.0)[0]
        if self.wake in readable:
            with suppress(BlockingIOError):
                self.wake.recv(4096)
        if self.connection in readable:
            data, descriptors, _, _ = socket.recv_fds(self.connection, 4096, 4)
            if not data:
                return False
            self._fork(json.loads(data)["rank"], descriptors)
        return os.getppid() == self.parent

    def _fork(self, rank: int, descriptors: list[int]) -> None:
        child = os.fork()
        if child == 0:
            self.connection.close()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.wake.close()
            self.wakeup.close()
            _live(rank, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self.children.add(child)
        self._report(started=child)

    def _reap(self) -> None:
        for child in list(self.children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                self.children.discard(child)
                self._report(ended=child, status=os.waitstatus_to_exitcode(status), time=time.monotonic())

    def _report(self, **fields: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the caller has gone: the next read says so
            self.connection.sendall(json.dumps(fields).encode() + b"\n")


# --- one worker --------------------------------------------------------------------------------------------------


def _live(number: int, job: int, output: int, channel: int, stacks: int) -> NoReturn:
    """The whole life of a worker, from the fork to its end; never returns into the server's loop.

    The descriptors: the file with what to do, where printed lines go, the connection to `launch`, and the file for
    the stack of a rank that hangs or crashes.
    """
    global current
    status = 1
    try:
        os.setsid()  # a group of its own: whatever this worker starts can be stopped with it
        for descriptor in (job, output, channel, stacks):
            os.set_inheritable(descriptor, False)
        _redirect(output)
        faulthandler.enable(stacks)
        faulthandler.register(signal.SIGUSR1, stacks)
        current = Rank(number, socket.socket(fileno=channel))
        threading.Thread(target=_end_with_parent, args=(current.channel,), daemon=True).start()
        status = _run(current, job)
        if status == 0:
            _finish()
    except BaseException:  # nothing may unwind into the server's loop
        with suppress(BaseException):
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(status)


def _redirect(output: int) -> None:
    """Send what Python and native code print to the launcher, line by line."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):  # new ones: the server's may be tied to a file
        stream = open(descriptor, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)


def _end_with_parent(channel: socket.socket) -> None:
    """End this worker and all it started when the process that called `launch` is gone."""
    with suppress(OSError):
        channel.recv(1)
    os.killpg(0, signal.SIGKILL)


def _run(rank: Rank, job: int) -> int:
    """Do the job and send its result, or the error; returns the exit status."""
    try:
        result = _call(rank.number, job)
    except BaseException as error:
        _flush()
        rank.send("error", **_described(error))
        return 1
    _flush()
    try:
        rank.send("result", value=result)
    except Exception as error:
        what = f"{type(result).__module__}.{type(result).__qualname__}"
        refused = TypeError(
            f"the worker returned a {what}, which cannot be pickled ({error}); return numbers, strings, tensors, "
            "arrays, or tuples, lists and dictionaries of them"
        )
        rank.send("error", **_described(refused))
        return 1
    return 0


def _call(number: int, job: int) -> Any:
    with mmap.mmap(job, 0, access=mmap.ACCESS_READ) as data:  # the ranks share one file, and so its position
        setting = pickle.loads(data)
    os.close(job)
    _move_in(number, setting)
    function, args, kwargs = pickle.loads(setting["call"])
    if setting["backend"]:
        _join_group(setting)
    return function(*args, **kwargs)


def _move_in(number: int, setting: dict[str, Any]) -> None:
    """Take over the caller's environment, folder and module path; become rank `number`."""
    import torch

    os.environ.clear()
    os.environ.update(setting["environment"], RANK=str(number), LOCAL_RANK=str(number))
    os.chdir(setting["folder"])
    sys.path[:] = setting["path"]
    linecache.cache.update(setting["sources"])
    torch.set_num_threads(setting["threads"])  # OMP_NUM_THREADS was read when the server imported torch
    random.seed()  # or all workers would continue the server's sequence
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    with suppress(OSError):
        Path("/proc/self/comm").write_text(f"rank {number}")  # what `ps` and `top` call it, on Linux


def _join_group(setting: dict[str, Any]) -> None:
    import torch
    import torch.distributed as dist

    device = None
    if "nccl" in setting["backend"]:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # `launch` ends the run first, and can say who hung
    patience = timedelta(seconds=setting["timeout"] + 60)
    dist.init_process_group(setting["backend"], timeout=patience, device_id=device)


def _finish() -> None:
    """Close the process group and run what was registered for the exit; the result has been sent already."""
    import atexit

    import torch.distributed as dist

    with suppress(Exception):
        if dist.is_initialized():
            dist.destroy_process_group()
    atexit._run_exitfuncs()
    _flush()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


def _described(error: BaseException) -> dict[str, Any]:
    """An exception as what can be sent: in words, and as an object where it survives being pickled."""
    from helpers.pickling import dumps

    try:
        pickled = dumps(error)
        pickle.loads(pickled)
    except Exception:
        pickled = None
    return {
        "summary": "".join(traceback.format_exception_only(error)).strip(),
        "traceback": "".join(traceback.format_exception(type(error), error, _own_frames(error))),
        "consequence": _is_consequence(error),
        "exception": pickled,
    }


def _own_frames(error: BaseException) -> Any:
    """The traceback without the frames of this module."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return frames


def _is_consequence(error: BaseException | None) -> bool:
    """Whether the error, or what caused it, says that another rank is gone."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ConnectionError):
            return True
        if isinstance(error, RuntimeError) and any(words in str(error) for words in CONSEQUENCES):
            return True
        error = error.__cause__ or error.__context__
    return False
