import socket
import subprocess

import pytest
import torch

from el_fairseq.common.cli import UserError
from el_fairseq.runs import launch
from el_fairseq.runs.launch import find_launch, shared_batch

TORCHRUN = {
    **{"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"},
    **{"MASTER_ADDR": "node1", "MASTER_PORT": "29500"},
}
SRUN = {
    **{"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "1"},
    **{"SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "2", "SLURM_STEP_NODELIST": "node7"},
}


@pytest.fixture
def environment(monkeypatch):
    for name in (*TORCHRUN, *SRUN, "SLURM_JOB_NODELIST", "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    def set_all(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def value_of(option, options):
    return options[options.index(option) + 1]


def test_alone_it_is_one_process_on_the_cpu(environment):
    found = find_launch(None)
    assert (found.world, list(found.ranks), found.options(0)) == (1, [0], ["--cpu"])


def test_processes_of_this_machine_meet_on_a_free_port(environment):
    found = find_launch(2)
    assert list(found.ranks) == [0, 1]
    options = found.options(1)
    assert value_of("--distributed-rank", options) == "1"
    assert value_of("--distributed-world-size", options) == "2"
    assert value_of("--distributed-init-method", options).startswith("tcp://127.0.0.1:")
    assert value_of("--distributed-backend", options) == "gloo" and "--cpu" in options


def test_on_gpus_each_process_gets_its_own_and_half_precision(environment, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    options = find_launch(2).options(1)
    assert value_of("--device-id", options) == "1"
    assert "--fp16" in options and "gloo" not in options
    with pytest.raises(UserError, match="--processes is 4, expected at most 2"):
        find_launch(4)


def test_under_torchrun_a_process_joins_the_others_by_its_environment(environment):
    environment(TORCHRUN)
    found = find_launch(None)
    assert (found.world, list(found.ranks), found.keeps_folder) == (4, [3], False)
    assert value_of("--distributed-init-method", found.options(3)) == "env://"


def test_under_srun_all_tasks_of_a_step_agree_on_one_address(environment):
    environment(SRUN)
    second = find_launch(None)
    environment({"SLURM_PROCID": "0", "SLURM_LOCALID": "0"})
    first = find_launch(None)
    assert first.init_method == second.init_method
    assert first.init_method.startswith("tcp://node7:")
    assert first.keeps_folder and not second.keeps_folder


def test_of_several_machines_the_first_is_asked_of_slurm(environment, monkeypatch):
    def scontrol(command, **_):
        assert command == ["scontrol", "show", "hostnames", "node[7-8]"]
        return subprocess.CompletedProcess(command, 0, "node7\nnode8\n", "")

    monkeypatch.setattr(launch.subprocess, "run", scontrol)
    environment({**SRUN, "SLURM_STEP_NODELIST": "node[7-8]", "MASTER_PORT": "5555"})
    assert find_launch(None).init_method == "tcp://node7:5555"


def test_one_task_of_slurm_is_a_training_alone(environment):
    environment({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"})
    assert find_launch(None).world == 1
    assert find_launch(2).world == 2


@pytest.mark.parametrize(
    ("variables", "processes", "reason"),
    [
        (TORCHRUN, 2, "--processes is 2, but a launcher .* started 4"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, None, "LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set"),
        ({**TORCHRUN, "WORLD_SIZE": "two"}, None, "WORLD_SIZE is 'two', expected a whole number"),
    ],
)
def test_a_contradicting_environment_is_named(environment, variables, processes, reason):
    environment(variables)
    with pytest.raises(UserError, match=reason):
        find_launch(processes)


def test_a_port_in_use_is_named_to_the_process_that_needs_it(environment):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = f"port {port} of this machine .*in use.*: set MASTER_PORT"
        environment({**SRUN, "SLURM_PROCID": "0", "MASTER_PORT": port})
        with pytest.raises(UserError, match=refused):
            find_launch(None)
        environment({"SLURM_PROCID": "1"})
        assert find_launch(None).init_method == f"tcp://node7:{port}"
        environment({**TORCHRUN, "RANK": "0", "MASTER_PORT": port})
        with pytest.raises(UserError, match=refused):
            find_launch(None)
        environment({"TORCHELASTIC_USE_AGENT_STORE": "True"})
        assert find_launch(None).init_method == "env://"


def test_processes_share_the_batch_of_one():
    assert shared_batch(["--update-freq", "4,8"], [], 2) == ["--update-freq", "2,4"]
    assert shared_batch(["--update-freq", "4"], [], 1) == []
    assert shared_batch(["--update-freq", "3"], ["--update-freq=2"], 2) == []
    with pytest.raises(UserError, match="--update-freq is 1, which 2 processes cannot share"):
        shared_batch(["--lr", "1"], [], 2)
