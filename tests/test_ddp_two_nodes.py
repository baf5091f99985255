"""Two nodes, each a network namespace with a cable between them, train as one; one of them dies and comes back."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress

import psutil
import pytest

from benchmarks.harness import Unavailable
from benchmarks.network import two_nodes

pytestmark = pytest.mark.timeout(420)
PORT = 29400  # of the rendezvous: each test has namespaces, and so ports, of its own


@pytest.fixture
def nodes():
    try:
        with two_nodes() as made:
            yield made
    except Unavailable as missing:
        if os.geteuid() == 0 and sys.platform == "linux":
            raise  # in CI it must be there
        pytest.skip(str(missing))


@contextmanager
def torchrun(nodes, number, folder, steps, name):
    """One node's launcher, with one worker, as a user would start it on each machine."""
    rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint={nodes[0].address}:{PORT}", f"--rdzv-id={name}"]
    rendezvous += [f"--rdzv-conf=is_host={int(number == 0)}", f"--local-addr={nodes[number].address}"]
    launcher = ["torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=3", *rendezvous]
    saving = [f"--checkpoint={folder}/{name}.pt", "--checkpoint-every=4", "--resume", f"--out={folder}/{name}.json"]
    training = ["-m", "helpers.ddp", "--model=gpt", "--epochs=100", f"--max-steps={steps}", *saving]
    settings = {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with (folder / f"{name}-{number}.log").open("ab") as log:
        agent = subprocess.Popen(
            nodes[number].command(sys.executable, "-m", *launcher, *training),
            env=nodes[number].environment(**settings),
            stdout=log,
            stderr=log,
        )
        try:
            yield agent
        finally:
            kill(agent)


def kill(agent):
    """As when the power fails: the launcher and its workers at once, none of them with time for a last word."""
    try:
        everybody = [psutil.Process(agent.pid), *psutil.Process(agent.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        everybody = []
    for process in everybody:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    agent.wait()


def wait(folder, name, *agents):
    """Both launchers' end, and what rank 0 reported."""
    for number, agent in enumerate(agents):
        status = agent.wait(timeout=180)
        assert status == 0, (folder / f"{name}-{number}.log").read_text()[-3000:]
    return json.loads((folder / f"{name}.json").read_text())


def test_a_node_that_dies_and_comes_back_leaves_the_weights_of_an_undisturbed_run(nodes, tmp_path):
    with torchrun(nodes, 0, tmp_path, 60, "calm") as one, torchrun(nodes, 1, tmp_path, 60, "calm") as two:
        calm = wait(tmp_path, "calm", one, two)
    with ExitStack() as stack:
        one = stack.enter_context(torchrun(nodes, 0, tmp_path, 60, "storm"))
        two = stack.enter_context(torchrun(nodes, 1, tmp_path, 60, "storm"))
        deadline = time.monotonic() + 120
        while not (tmp_path / "storm.pt").exists():
            assert time.monotonic() < deadline, (tmp_path / "storm-0.log").read_text()[-3000:]
            assert two.poll() is None, (tmp_path / "storm-1.log").read_text()[-3000:]
            time.sleep(0.01)
        kill(two)
        assert not (tmp_path / "storm.json").exists(), "the run had ended before the node died"
        again = stack.enter_context(torchrun(nodes, 1, tmp_path, 60, "storm"))
        storm = wait(tmp_path, "storm", one, again)
    assert calm["world_size"] == storm["world_size"] == 2
    assert calm["restarts"] == 0
    assert storm["restarts"] >= 1
    assert storm["steps"] == calm["steps"] == 60
    assert storm["checksum"] == calm["checksum"]
    assert storm["losses"] == calm["losses"]


def test_the_nodes_are_apart_but_for_the_cable(nodes):
    """A port of one node's loopback is not the other's: nothing here passes through this machine's own network."""
    listen = "import socket; s = socket.create_server((%r, 0)); print(s.getsockname()[1], flush=True); s.accept()"
    call = "import socket, sys; socket.create_connection((%r, int(sys.argv[1])), timeout=5)"
    for address, reached in ((nodes[0].address, True), ("127.0.0.1", False)):
        command = nodes[0].command(sys.executable, "-c", listen % address)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            port = server.stdout.readline().strip()
            caller = subprocess.run(
                nodes[1].command(sys.executable, "-c", call % address, port), capture_output=True, check=False
            )
            server.kill()
        assert (caller.returncode == 0) is reached, caller.stderr
