"""`python -m helpers.ddp`, alone and under PyTorch's launcher: what it reports, refuses and survives."""

import json
import os
import subprocess
import sys

import pytest

from helpers.ddp.__main__ import check_environment

TRAINING = ["-m", "helpers.ddp", "--max-steps=8"]
LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]


def run(*command):
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, check=False, timeout=240)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--lr=-1"], "lr must be finite and above 0"),
        (["--precision=fp8"], "invalid choice: 'fp8'"),
        (["--checkpoint-every=3"], "checkpoint must name a file"),
        (["--die-at-step=0"], "--die-at-step is 0; steps are counted from 1"),
        (["--model=llama"], "invalid choice: 'llama'"),
    ],
)
def test_a_bad_option_ends_at_once_with_status_2_and_one_line_that_names_it(options, says):
    done = run(*TRAINING, *options)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_alone_it_trains_prints_one_line_and_writes_the_same_to_the_file(tmp_path):
    done = run(*TRAINING, f"--out={tmp_path}/result.json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == json.loads((tmp_path / "result.json").read_text())
    assert (told["world_size"], told["steps"], told["restarts"]) == (1, 8, 0)
    assert told["losses"][-1] < told["losses"][0]


def test_a_killed_rank_is_restarted_and_ends_with_the_weights_of_an_undisturbed_run(tmp_path):
    told = {}
    for name, drill in {"calm": [], "storm": ["--die-at-step=6", "--die-rank=1"]}.items():
        saving = [f"--checkpoint={tmp_path}/{name}.pt", "--checkpoint-every=2", "--resume"]
        done = run(*LAUNCHER, *TRAINING, *saving, *drill)
        assert done.returncode == 0, done.stderr[-3000:]
        told[name] = json.loads(done.stdout.splitlines()[-1])
    assert told["storm"]["restarts"] == 1
    assert told["calm"]["checksum"] == told["storm"]["checksum"]
    assert told["calm"]["losses"] == told["storm"]["losses"]


@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({"GROUP_WORLD_SIZE": "2", "TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_USE_AGENT_STORE": "True"}, True),
        ({"GROUP_WORLD_SIZE": "2", "TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_USE_AGENT_STORE": "False"}, False),
        ({"GROUP_WORLD_SIZE": "2", "TORCHELASTIC_MAX_RESTARTS": "0", "TORCHELASTIC_USE_AGENT_STORE": "True"}, False),
        ({"GROUP_WORLD_SIZE": "1", "TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_USE_AGENT_STORE": "True"}, False),
        ({}, False),
    ],
)
def test_restarts_on_several_nodes_that_would_meet_dead_workers_are_refused(environment, refused):
    if not refused:
        check_environment(environment)
        return
    with pytest.raises(ValueError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        check_environment(environment)
