"""Files that are whole or not there, and logs whose finished lines are never lost."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["append_line", "append_locked", "leftovers", "replacing", "user_folder"]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file under another name beside `path`; when the block ends, it takes the place of `path` in one step.

        with replacing("model.pt") as part:
            torch.save(weights, part)

    A reader, and whoever comes after a crash, finds the old file or the new one, never half of one. The block has to
    create `part`; it is on the disk before it gets its name, and removed when the block raises. Only a process that
    is killed leaves it behind: see `leftovers`. The folder must exist.

    Raises FileNotFoundError when the block did not create the file, and what the disk says when it is full.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut could leave the new name with nothing in it
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def leftovers(path: str | os.PathLike[str]) -> list[Path]:
    """Unfinished files that killed writers of `path` left beside it; another process may still be writing one."""
    target = Path(path)
    known = (f".{target.name}.", ".part")
    return sorted(p for p in target.parent.iterdir() if p.name.startswith(known[0]) and p.name.endswith(known[1]))


def append_line(path: str | os.PathLike[str], line: bytes, *, sync: bool = False) -> None:
    """Append `line`, which ends in a newline, in one write; `sync`: it is on the disk when this returns.

    What was written before stays. After a writer that died in the middle of its line, this one starts on a new line.
    Writers that may come at the same moment need a lock around this call. Raises OSError, also when the disk is full.
    """
    with Path(path).open("a+b", buffering=0) as file:
        log = file.fileno()
        end = os.lseek(log, 0, os.SEEK_END)
        if end > 0:
            os.lseek(log, end - 1, os.SEEK_SET)
            if os.read(log, 1) != b"\n":
                line = b"\n" + line
        if os.write(log, line) != len(line):  # a full disk takes a part; the next writer closes that line
            raise OSError("the disk is full")
        if sync:
            os.fsync(log)


def append_locked(path: str | os.PathLike[str], line: bytes, *, seconds: float, sync: bool = False) -> None:
    """`append_line` while no other process appends to the same file; the folder is made when it is not there.

    Raises OSError when the lock does not come free within `seconds`, when the folder cannot be written, and when the
    disk is full; NotImplementedError on a file system that knows no locks.
    """
    from filelock import FileLock

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=seconds):
        append_line(path, line, sync=sync)


def user_folder() -> Path:
    """Where the learner's own records lie: in LAB_HOME when that is set, else in the user's data folder."""
    home = os.environ.get("LAB_HOME")
    if home:
        return Path(home)
    import platformdirs

    return platformdirs.user_data_path("large-model-interview-lab", appauthor=False)
