"""Two nodes, each a network namespace with a cable between them, train as one; one of them dies and comes back."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import psutil
import pytest

from benchmarks.harness import Unavailable
from benchmarks.network import two_nodes

pytestmark = pytest.mark.timeout(420)
PORT = 29400  # of the rendezvous: each test has namespaces, and so ports, of its own


@contextmanager
def namespaces():
    try:
        with two_nodes() as made:
            yield made
    except Unavailable as missing:
        if os.geteuid() == 0 and sys.platform == "linux":
            raise  # in CI it must be there
        pytest.skip(str(missing))


@pytest.fixture
def nodes():
    with namespaces() as made:
        yield made


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """What an undisturbed run of both nodes reports."""
    folder = tmp_path_factory.mktemp("calm")
    with (
        namespaces() as made,
        torchrun(made, 0, folder, 60, "calm") as one,
        torchrun(made, 1, folder, 60, "calm") as two,
    ):
        calm = wait(folder, "calm", one, two)
    assert calm["restarts"] == 0
    return calm


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


@contextmanager
def storm(nodes, folder):
    """Both launchers of a run that has written its first checkpoint and has not ended."""
    with torchrun(nodes, 0, folder, 60, "storm") as one, torchrun(nodes, 1, folder, 60, "storm") as two:
        deadline = time.monotonic() + 120
        while not (folder / "storm.pt").exists():
            assert time.monotonic() < deadline, (folder / "storm-0.log").read_text()[-3000:]
            assert two.poll() is None, (folder / "storm-1.log").read_text()[-3000:]
            time.sleep(0.01)
        yield one, two


def same_run(storm, calm):
    assert calm["world_size"] == storm["world_size"] == 2
    assert storm["steps"] == calm["steps"] == 60
    assert storm["checksum"] == calm["checksum"]
    assert storm["losses"] == calm["losses"]


def test_a_node_that_dies_and_comes_back_leaves_the_weights_of_an_undisturbed_run(nodes, calm, tmp_path):
    with storm(nodes, tmp_path) as (one, two):
        kill(two)
        assert not (tmp_path / "storm.json").exists(), "the run had ended before the node died"
        with torchrun(nodes, 1, tmp_path, 60, "storm") as again:
            found = wait(tmp_path, "storm", one, again)
    assert found["restarts"] >= 1
    same_run(found, calm)


def test_when_the_node_of_the_rendezvous_dies_the_other_ends_and_the_job_put_back_goes_on(nodes, calm, tmp_path):
    """Without the meeting point nobody can restart: the launcher that is left gives up, and the scheduler's requeue
    (`sbatch --requeue`) starts both again, which resume from the checkpoint."""
    with storm(nodes, tmp_path) as (one, two):
        kill(one)
        assert not (tmp_path / "storm.json").exists(), "the run had ended before the node died"
        assert two.wait(timeout=180) != 0
    with torchrun(nodes, 0, tmp_path, 60, "storm") as one, torchrun(nodes, 1, tmp_path, 60, "storm") as two:
        found = wait(tmp_path, "storm", one, two)
    same_run(found, calm)


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
