"""What a launch may leave behind: for the tests that demand that it leaves nothing."""

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import psutil

from helpers.ddp import launcher

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1)


def alive(pid):
    """Whether a process runs (one that has ended and waits to be fetched does not)."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def write_pid(folder):
    """For workers, and what they start: so that the test can look for them afterwards."""
    (Path(folder) / str(os.getpid())).touch()


def pids(folder):
    return [int(path.name) for path in Path(folder).iterdir() if path.name.isdigit()]


def wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def processes():
    """The pids of all that this process has started, and what these have, without the launcher's server; also of those
    that have ended and wait to be fetched."""
    server = launcher._server.process.pid if launcher._server is not None and launcher._server.alive() else None
    return {child.pid for child in psutil.Process().children(recursive=True)} - {server}


def ports():
    return {one.laddr.port for one in psutil.Process().net_connections("inet") if one.status == psutil.CONN_LISTEN}


@contextmanager
def nothing_left(folder=None):
    """Demand that the block leaves no process, port, signal handler or shared memory; nor, of those that wrote their
    pid or name to `folder`, any process or shared-memory file. What other tests left, and what of it ends now, is not
    the block's."""
    before, listening = processes(), ports()
    handlers = [signal.getsignal(number) for number in SIGNALS]
    yield
    if folder is not None:
        assert [pid for pid in pids(folder) if alive(pid)] == []
        assert [path.name for path in Path(folder).glob("psm_*") if Path("/dev/shm", path.name).exists()] == []
    assert processes() <= before
    assert ports() <= listening
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
