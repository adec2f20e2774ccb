"""The processes that train one run together: of this machine, of torchrun, or of Slurm's srun.

fairseq on a machine without a GPU takes each process that a launcher starts for a training of its
own; here they are told of each other.
"""

import os
import socket
import subprocess
from dataclasses import dataclass

import torch

from ..common.cli import UserError
from .experiment import divided_update_freq

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_JOB_ID")


@dataclass(frozen=True)
class Launch:
    """``world`` processes train together, and find each other by ``init_method``.

    This process is to start those of ``ranks``, the first of which is device ``device`` of this
    machine. The one that starts rank 0 keeps the run's folder.
    """

    world: int = 1
    ranks: range = range(1)
    device: int = 0
    init_method: str = ""

    @property
    def keeps_folder(self):
        return 0 in self.ranks

    def options(self, rank):
        """fairseq-train options of a process: half precision on a GPU, or the CPU; the others."""
        gpus = torch.cuda.device_count()
        options = ["--fp16"] if gpus else ["--cpu"]
        if self.world == 1:
            return [*options, "--distributed-world-size", "1"] if gpus else options
        if not gpus:
            options += ["--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp"]
        device = (self.device + rank - self.ranks[0]) % gpus if gpus else 0
        options += ["--distributed-world-size", str(self.world), "--distributed-rank", str(rank)]
        # Sent by the first process, its options are a class that the safe loader refuses.
        options += ["--load-checkpoint-on-all-dp-ranks"]
        options += ["--distributed-init-method", self.init_method, "--distributed-no-spawn"]
        return [*options, "--device-id", str(device)]


def find_launch(processes):
    """The :class:`Launch` that this process is part of.

    ``processes`` is how many were asked for on this machine; ``None``: no number was given.

    Raises:
        UserError: a launcher's environment contradicts ``processes`` or itself, the port that it
            names is in use, or there are fewer GPUs than processes.
    """
    environment = os.environ
    if "WORLD_SIZE" in environment and "RANK" in environment:
        rank, world, local, _, port = _values("torchrun", TORCHRUN)
        init_method = "env://"
        # torchrun itself may hold the port, and then serves it to its processes.
        hosts = rank == "0" and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    elif "SLURM_STEP_NUM_TASKS" in environment:
        rank, world, local, job = _values("srun", SRUN)
        init_method = _slurm_address(int(job)) if int(world) > 1 else ""
        hosts, port = rank == "0", init_method.rpartition(":")[2]
    else:
        world = 1
    world = int(world)
    if world > 1 and processes is not None:
        raise UserError(
            f"--processes is {processes}, but a launcher (torchrun or srun) started {world} "
            "processes already: leave --processes out"
        )
    if world > 1:
        if hosts:
            _check_free(int(port))
        return Launch(world, range(int(rank), int(rank) + 1), int(local), init_method)
    if processes in (None, 1):
        return Launch()
    gpus = torch.cuda.device_count()
    if gpus and processes > gpus:
        raise UserError(f"--processes is {processes}, expected at most {gpus}, the GPUs here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return Launch(processes, range(processes), 0, f"tcp://127.0.0.1:{port}")


def _values(launcher, names):
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise UserError(
            f"{', '.join(missing)} not set, though other variables of {launcher} are: start this "
            f"by {launcher}, or unset those"
        )
    values = [os.environ[name] for name in names]
    for name, value in zip(names, values):
        if name != "MASTER_ADDR" and not value.isdigit():
            raise UserError(f"{name} is {value!r}, expected a whole number, as {launcher} sets it")
    return values


def _check_free(port):
    with socket.socket() as here:
        here.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            here.bind(("", port))
        except OSError as error:
            raise UserError(
                f"the processes cannot meet on port {port} of this machine ({error.strerror}): set "
                "MASTER_PORT to a free one"
            ) from None


def _slurm_address(job):
    """``tcp://HOST:PORT`` on which all tasks of a step agree: the first machine of the step.

    The port goes by the numbers of job and step; ``MASTER_PORT`` overrides it.
    """
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST", "")
    host = nodes
    if any(mark in nodes for mark in "[,"):
        shown = subprocess.run(
            ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True
        )
        if shown.returncode:
            raise UserError(f"scontrol cannot say which machines {nodes} are: {shown.stderr}")
        host = shown.stdout.split()[0]
    step = int(os.environ.get("SLURM_STEP_ID", "0"))
    port = os.environ.get("MASTER_PORT") or 20000 + (31 * job + step) % 20000
    return f"tcp://{host or '127.0.0.1'}:{port}"


def shared_batch(options, given, world):
    """Options that give ``world`` processes together the batch that ``options`` give one.

    Where ``--update-freq`` is ``given`` after ``--``, it is each process's own, and stays.

    Raises:
        UserError: the batch cannot be divided.
    """
    given = {word.partition("=")[0] for word in given}
    if "--distributed-world-size" in given and world > 1:
        raise UserError("--distributed-world-size contradicts --processes or a launcher: omit it")
    if world == 1 or "--update-freq" in given:
        return []
    return divided_update_freq(options, world)
