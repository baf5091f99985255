"""Which rank is to blame when a run of `launch` fails, and the error that says so.

One rank's mistake makes the others fail a moment later, with "connection closed by peer". The rank that failed by
itself is the cause; of several such, the one that failed first.
"""

from __future__ import annotations

import linecache
import pickle
import re
import signal
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["raised", "killed", "timeout", "lost"]

WHY_KILLED = {
    signal.SIGKILL: "kill -9, or the system when memory runs out",
    signal.SIGABRT: "native code gave up; its last lines say why",
    signal.SIGSEGV: "native code touched memory that is not its own",
    signal.SIGBUS: "native code touched memory that is not there; a full /dev/shm does this too",
}
WAIT_FOR_ONE_ANOTHER = (
    "Every rank that is left waits for another one: do all of them make the same collective calls, in the same order?"
)


class WorkerError(RuntimeError):
    """A worker of `launch` failed. The message names the rank and the cause, with its traceback and last lines.

    rank: the rank that failed first. kind: "raised" an exception; "killed" by a signal; "timeout": had not finished
    in time; "lost": its process ended without a result. traceback: that rank's traceback, or its stack when it hung
    or crashed, "" when there is none. exception: what it raised, None when that cannot be pickled.
    """

    def __init__(
        self, message: str, *, rank: int, kind: Kind, traceback: str = "", exception: BaseException | None = None
    ) -> None:
        super().__init__(message)
        self.rank = rank
        self.kind: Kind = kind
        self.traceback = traceback
        self.exception = exception

    def __reduce__(self) -> Any:
        return _remade, (str(self), self.rank, self.kind, self.traceback, self.exception)

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the rank's traceback, not the launcher's."""
        return [f"{type(self).__name__}: {self}"]


def _remade(message: str, rank: int, kind: Kind, traceback: str, exception: BaseException | None) -> WorkerError:
    return WorkerError(message, rank=rank, kind=kind, traceback=traceback, exception=exception)


@dataclass
class Outcome:
    """What is known of one rank when a run has failed.

    error: the worker's message about its exception; status: how its process ended (a negative number is a signal),
    None while it runs; time: when it failed, on the clock that all processes of the machine share; stack: what
    faulthandler wrote; lines: the last that it printed.
    """

    rank: int
    returned: bool = False
    error: dict[str, Any] | None = None
    status: int | None = None
    time: float = 0.0
    stack: str = ""
    lines: Sequence[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether it raised, or its process ended without a result."""
        return self.error is not None or (self.status is not None and not self.returned)

    @property
    def consequence(self) -> bool:
        """Whether it failed only because another rank had gone."""
        return self.error is not None and self.error["consequence"]


def failure(outcomes: Sequence[Outcome]) -> WorkerError:
    """The error for a run in which at least one rank has failed."""
    failed = sorted((one for one in outcomes if one.failed), key=lambda one: (one.consequence, one.time))
    cause, *others = failed
    notes = [f"Then rank {one.rank} {_in_short(one)}." for one in others]
    if cause.consequence and (returned := [one.rank for one in outcomes if one.returned]):
        notes.append(
            f"{_named(returned)} had returned before: do all ranks make the same collective calls, equally often?"
        )
    trace = cause.error["traceback"] if cause.error else _stack(cause.stack)[0] if cause.stack else ""
    kind: Kind = "raised" if cause.error else "killed" if (cause.status or 0) < 0 else "lost"
    return WorkerError(
        _message(f"rank {cause.rank} of {len(outcomes)} {_headline(cause)}", [trace, _last_lines(cause), *notes]),
        rank=cause.rank,
        kind=kind,
        traceback=trace,
        exception=_exception(cause),
    )


def out_of_time(outcomes: Sequence[Outcome], seconds: float, late: Collection[int]) -> WorkerError:
    """The error for a run that had not finished in time: the stack of each rank that was `late`, still running then.

    The rank to blame is the first that does not itself wait for another one.
    """
    hung = [one for one in outcomes if one.rank in late]
    stacks = {one.rank: _stack(one.stack) for one in hung}
    busy = [one for one in hung if not stacks[one.rank][1]]
    cause = (busy or hung)[0]
    parts = []
    for one in sorted(hung, key=lambda one: one is not cause):
        parts += [f"rank {one.rank} stood here:\n{stacks[one.rank][0].rstrip()}", _last_lines(one)]
    if not busy:
        parts.append(WAIT_FOR_ONE_ANOTHER)
    return WorkerError(
        _message(
            f"{_named([one.rank for one in hung])} of {len(outcomes)} had not finished after {seconds:g} s", parts
        ),
        rank=cause.rank,
        kind="timeout",
        traceback=stacks[cause.rank][0],
    )


def server_lost(said: str) -> WorkerError:
    """The error for the loss of the process that all workers come from."""
    return WorkerError(
        _message("the process that starts the workers has ended; the next launch starts another", [said]),
        rank=0,
        kind="lost",
    )


def _message(head: str, parts: Sequence[str]) -> str:
    return _with_cell_names("\n\n".join([head, *(part.rstrip() for part in parts if part.strip())]))


def _headline(one: Outcome) -> str:
    if one.error:
        return f"raised {one.error['summary']}"
    status = one.status or 0
    if status < 0:
        name = signal.Signals(-status).name if -status in list(signal.Signals) else f"signal {-status}"
        why = WHY_KILLED.get(-status)  # type: ignore[call-overload]
        return f"was killed by {name}" + (f" ({why})" if why else "")
    return f"ended with status {status} and returned nothing"


def _in_short(one: Outcome) -> str:
    if one.consequence:
        return "lost its connection to another rank"
    return f"{_headline(one).splitlines()[0][:200]}"


def _named(ranks: Sequence[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else "ranks " + ", ".join(map(str, ranks))


def _last_lines(one: Outcome) -> str:
    if not one.lines:
        return ""
    return f"last lines of rank {one.rank}:\n" + "\n".join(f"  {line}" for line in one.lines)


def _exception(one: Outcome) -> BaseException | None:
    if one.error is None or one.error["exception"] is None:
        return None
    try:
        return pickle.loads(one.error["exception"])
    except Exception:  # it was whole in the worker; here a module may be missing
        return None


FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+) in (?P<name>.+)')
NO_STACK = "(no stack: the process did not answer; it is stopped, or starting)"


def _stack(written: str) -> tuple[str, bool]:
    """faulthandler's stack of the worker's main thread as a traceback, and whether it waits for another rank.

    Of several threads the one that runs the worker's function is taken, without the launcher's own frames.
    """
    for thread in written.split("\n\n"):
        frames = [found for line in thread.splitlines() if (found := FRAME.fullmatch(line))]
        inner = [one for one in frames if not one["file"].endswith(("/ddp/worker.py", "<string>"))]
        if len(inner) < len(frames) and any(one["name"] == "_live" for one in frames):
            waits = any("/torch/distributed/" in one["file"] for one in inner)
            return "Stack (most recent call last):\n" + "".join(map(_frame, reversed(inner))), waits
    return NO_STACK, False


def _frame(found: re.Match[str]) -> str:
    source = linecache.getline(found["file"], int(found["line"])).strip()
    place = f'  File "{found["file"]}", line {found["line"]}, in {found["name"]}\n'
    return place + (f"    {source}\n" if source else "")


def _with_cell_names(text: str) -> str:
    """In a notebook, call a cell `Cell In[3]` and not by its temporary file's name."""
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive else None
    namer = getattr(getattr(shell, "compile", None), "format_code_name", None)
    if namer is None:
        return text

    def named(found: re.Match[str]) -> str:
        name = namer(found[1])
        return f"{' '.join(name)}, line" if name else found[0]

    return re.sub(r'File "([^"\n]+)", line', named, text)
