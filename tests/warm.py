"""Python programs that start in a moment, for tests that start many.

Most of a program's time is torch's and fairseq's import. Here a process imports both once for a
session of tests (``warm_server.py``), and programs are forks of it; to those that start them, by
bash or otherwise, they are processes like others (``warm_client.py``).
"""

import fcntl
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = ("generate", "hydra-train", "interactive", "preprocess", "train", "validate")
FOLDER = "EL_TEST_WARM"


def begin():
    """Choose a folder for the warm process of this session and of the processes that it starts."""
    if FOLDER not in os.environ:
        os.environ[FOLDER] = f"{os.getpid()}:{tempfile.mkdtemp(prefix='warm-')}"


def end():
    owner, _, folder = os.environ[FOLDER].partition(":")
    if int(owner) == os.getpid():
        shutil.rmtree(folder)
        del os.environ[FOLDER]


def environment():
    """Folder of an environment like this one, with a ``bin`` whose programs start in a moment."""
    if sys.platform != "linux" or sys.version_info < (3, 9):
        return Path(sys.prefix)
    owner, _, folder = os.environ[FOLDER].partition(":")
    folder = Path(folder)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "socket").exists():
            _make(folder)
            _start(folder, owner)
    return folder


def wait_for_killed():
    """Return when no program is left whose stand-in was killed, as a test sees to be gone."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(environment() / "socket"))
        connection.sendall((2).to_bytes(4, "big") + b"{}")
        assert connection.recv(1)


def _make(folder):
    for path in Path(sys.prefix).iterdir():
        if path.name != "bin":
            (folder / path.name).symlink_to(path)
    (folder / "bin").mkdir()
    client = [sys.executable, "-IS", HERE / "warm_client.py", sys.prefix, folder / "socket"]
    call = shlex.join(map(str, client))
    ours = ["python", *(f"fairseq-{name}" for name in PROGRAMS)]
    for path in Path(sys.prefix, "bin").iterdir():
        here = folder / "bin" / path.name
        if path.name in ours:
            here.write_text(f'#!/bin/sh\nexec {call} "$0" "$@"\n')
            here.chmod(0o755)
        else:
            here.symlink_to(path)


def _start(folder, owner):
    variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, HERE / "warm_server.py", folder, owner],
            env={**variables, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    while not (folder / "socket").exists():
        assert server.poll() is None, (folder / "log").read_text()
        time.sleep(0.05)
