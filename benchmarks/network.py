"""Two computers on one machine: two Linux network namespaces with a virtual cable of chosen speed between them.

What runs in a namespace sees its own loopback and its end of the cable, nothing else, so that two of them are two
nodes as far as the network is concerned. They share the processors, the memory and the file system.

The namespaces have no name: the kernel removes them, and the cable, with the last process in them, and the process
that holds one open ends when this one does, however it ends. Nothing is left behind, and any number can run at once.

What this does not show: the delay of a real switch, lost packets, and two computers' worth of processors.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.harness import Unavailable

INTERFACE = "cable"
"""Name of the cable's end in each namespace: what GLOO_SOCKET_IFNAME has to say."""


@dataclass(frozen=True)
class Node:
    """One namespace: its address on the cable, and the words that run a command in it."""

    address: str
    enter: tuple[str, ...]

    def command(self, *command: str) -> list[str]:
        """The command line that runs `command` in this namespace."""
        return [*self.enter, *command]

    def environment(self, **variables: str) -> dict[str, str]:
        """This process's environment with what gloo needs to find the cable, and `variables`."""
        return {**os.environ, "GLOO_SOCKET_IFNAME": INTERFACE, **variables}


@contextmanager
def two_nodes(megabits: float | None = None) -> Iterator[tuple[Node, Node]]:
    """Two namespaces joined by a cable, each way limited to `megabits` per second (None: as fast as memory).

    The limit is a token bucket (tc-tbf(8)) on both ends. Root is not needed where the kernel lets users make user
    namespaces. Raises Unavailable, saying what is missing, on other systems than Linux, without iproute2, and where
    namespaces are not allowed; ValueError when `megabits` is not positive.
    """
    if megabits is not None and not megabits > 0:
        raise ValueError(f"megabits is {megabits}; it must be above 0, or None for no limit")
    for tool, package in (("ip", "iproute2"), ("tc", "iproute2"), ("unshare", "util-linux"), ("nsenter", "util-linux")):
        if shutil.which(tool) is None:
            raise Unavailable(f"two network namespaces need the command {tool} (Debian package {package})")
    root = os.geteuid() == 0
    with ExitStack() as stack:
        first = stack.enter_context(_held(["unshare", "--net", *([] if root else ["--user", "--map-root-user"])]))
        enter = ["nsenter", *([] if root else ["--user", "--preserve-credentials"]), "--net", "--target"]
        second = stack.enter_context(_held([*enter, str(first), "unshare", "--net"]))
        nodes = (
            Node("10.77.0.1", (*enter, str(first))),
            Node("10.77.0.2", (*enter, str(second))),
        )
        _do(nodes[0], "ip", "link", "add", INTERFACE, "type", "veth", "peer", "name", INTERFACE, "netns", str(second))
        for node in nodes:
            _do(node, "ip", "address", "add", f"{node.address}/24", "dev", INTERFACE)
            _do(node, "ip", "link", "set", INTERFACE, "up")
            _do(node, "ip", "link", "set", "lo", "up")
            if megabits is not None:
                shape = f"rate {megabits}mbit burst 256kb latency 50ms"
                _do(node, "tc", "qdisc", "add", "dev", INTERFACE, "root", "tbf", *shape.split())
        yield nodes


@contextmanager
def _held(make: list[str]) -> Iterator[int]:
    """Process id of a `cat` in a new namespace. It ends when its input does: when this process closes it, or dies."""
    holder = subprocess.Popen(
        [*make, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert holder.stdin and holder.stdout and holder.stderr
    try:
        try:
            holder.stdin.write("ready\n")
            holder.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; why, it says below
        if holder.stdout.readline() != "ready\n":  # cat's echo: the namespace is there
            raise Unavailable(f"no network namespace to be had here: {holder.stderr.read().strip()}")
        yield holder.pid
    finally:
        holder.kill()
        holder.communicate()


def _do(node: Node, *command: str) -> None:
    done = subprocess.run(node.command(*command), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(command)} was refused: {done.stderr.strip() or done.returncode}")
