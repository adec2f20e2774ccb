"""Stands in for Python: has a program run in a fork of the warm process, as if it were here.

What the program is sent, this process forwards; what it ends with, this process ends with; and
when this process is killed, so is the program.
"""

# Importing pathlib would double the time that this takes.
# ruff: noqa: PTH109, PTH110, PTH118, PTH119, PTH208
import json
import os
import resource
import signal
import socket
import sys

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
OPEN_FILES = 100


def main(venv, path, *words):
    """Run a command line, with the programs of ``venv``, by the server that listens at ``path``."""
    name = os.path.basename(words[0])
    words = list(words)
    if name != "python":
        words = [name, os.path.join(venv, "bin", name), *words[1:]]
    packages = ("el_fairseq", "fairseq_cli")
    if words[1:2] == ["-m"] and words[2].partition(".")[0] in packages:
        program = {"module": words[2], "arguments": words[3:]}
    elif words[1:] and not words[1].startswith("-"):
        program = {"script": words[1], "arguments": words[2:]}
    else:
        python = os.path.join(venv, "bin", "python")
        os.execv(python, [python, *words[1:]])
    ignored = [number for number in SIGNALS if signal.getsignal(number) == signal.SIG_IGN]
    received, pid = [], None

    def forward(number, _):
        if pid is None:
            received.append(number)
        else:
            os.kill(pid, number)

    for number in SIGNALS:
        signal.signal(number, forward)
    program.update(
        environment=dict(os.environ),
        folder=os.getcwd(),
        ignored=ignored,
        file_size=resource.getrlimit(resource.RLIMIT_FSIZE)[0],
    )
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        files = [0, 1, 2]
        for file in map(int, os.listdir("/proc/self/fd")):
            if file > 2 and file != connection.fileno() and os.path.exists(f"/proc/self/fd/{file}"):
                files.append(file)
        text = json.dumps(program).encode()
        socket.send_fds(connection, [len(text).to_bytes(4, "big")], files[:OPEN_FILES])
        connection.sendall(text)
        answers = connection.makefile("rb")
        pid = int(answers.readline())
        for number in received:
            os.kill(pid, number)
        status = int(answers.readline())
    if status < 0:
        if -status in SIGNALS:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
