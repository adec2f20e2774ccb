"""A process that has imported everything, and runs Python programs in forks of itself.

``python warm_server.py FOLDER PID`` until process PID ends. Only the libraries that programs stand
on are imported already, and the compiled loss: their own modules and fairseq's programs are not.
"""

import atexit
import importlib
import json
import logging
import os
import resource
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
import types
from pathlib import Path

import torch
from warm_client import OPEN_FILES, SIGNALS

ROOT = Path(__file__).parents[1]
LIBRARIES = [
    *("torch._dynamo", "fairseq_cli.train", "fairseq_cli.generate", "fairseq_cli.preprocess"),
    *("fairseq_cli.validate", "fairseq_cli.hydra_train", "fairseq_cli.interactive"),
    *("tensorboardX", "sacrebleu", "sacremoses", "sentencepiece", "tabulate", "scipy.stats"),
    *("subword_nmt.learn_bpe", "subword_nmt.apply_bpe", "matplotlib.pyplot", "jinja2"),
]


def import_all():
    for name in LIBRARIES:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "fairseq_cli"]:
        del sys.modules[name]
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    # The compiled loss without what the package does when it is imported.
    package = sys.modules["el_fairseq"] = types.ModuleType("el_fairseq")
    package.__path__ = [str(ROOT / "el_fairseq")]
    encouraging_loss = importlib.import_module("el_fairseq.loss").encouraging_loss
    encouraging_loss(torch.zeros(2, 3, requires_grad=True), torch.zeros(2, dtype=torch.int64))
    del sys.modules["el_fairseq"], sys.modules["el_fairseq.loss"]


def run_program(program, files):
    """What the new process of a program does, from its first moment on."""
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208
        if number > 2 and number not in files[3:]:
            try:
                os.close(number)
            except OSError:
                continue
    os.setsid()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN if number in program["ignored"] else signal.SIG_DFL)
    if signal.SIGINT not in program["ignored"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (program["file_size"], hard))
    os.environ.clear()
    os.environ.update(program["environment"])
    os.chdir(program["folder"])
    buffering = 1 if os.environ.get("PYTHONUNBUFFERED") else -1
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", buffering, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    status = 1
    try:
        if "module" in program:
            sys.argv = [program["module"], *program["arguments"]]
            sys.path[0] = str(Path.cwd())
            runpy.run_module(program["module"], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [program["script"], *program["arguments"]]
            sys.path[0] = str(Path(program["script"]).resolve().parent)
            runpy.run_path(program["script"], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                status = status or 120  # as Python itself
        os._exit(status & 255)


def start_stand_ins(folder):
    """Have programs start further ones through the environment in the folder, too."""
    original = subprocess.Popen.__init__
    own = Path(sys.executable).parent

    def start(self, command, *arguments, **options):
        if isinstance(command, (list, tuple)):
            first = Path(str(command[0]))
            if first.parent == own and (folder / "bin" / first.name).exists():
                command = [str(folder / "bin" / first.name), *command[1:]]
        original(self, command, *arguments, **options)

    subprocess.Popen.__init__ = start


class Server:
    def __init__(self, listening, owner):
        self.selector = selectors.DefaultSelector()
        self.listening = listening
        self.waiting, self.killed = [], 0
        self.selector.register(listening, selectors.EVENT_READ, self.accept)
        self.selector.register(os.pidfd_open(owner), selectors.EVENT_READ, sys.exit)

    def serve(self):
        while True:
            for key, _ in self.selector.select():
                if key.fileobj in self.selector.get_map():
                    key.data()
            while self.waiting and not self.killed:
                connection = self.waiting.pop()
                tell(connection, 0)
                connection.close()

    def accept(self):
        connection, _ = self.listening.accept()
        header, files, _, _ = socket.recv_fds(connection, 4, OPEN_FILES)
        if not header:  # killed before it could say what to run
            connection.close()
            return
        length, text = int.from_bytes(header, "big"), b""
        while len(text) < length:
            part = connection.recv(length - len(text))
            if not part:
                break
            text += part
        else:
            program = json.loads(text)
            if program:
                self.start(connection, program, files)
            else:
                self.waiting.append(connection)
        for file in files:
            os.close(file)

    def start(self, connection, program, files):
        pid = os.fork()
        if pid == 0:
            run_program(program, files)
        process = os.pidfd_open(pid)
        tell(connection, pid)

        def kill():
            # Nothing but its end comes from a stand-in.
            signal.pidfd_send_signal(process, signal.SIGKILL)
            self.selector.unregister(connection)
            self.killed += 1

        def end():
            self.selector.unregister(process)
            if connection in self.selector.get_map():
                self.selector.unregister(connection)
            else:
                self.killed -= 1
            tell(connection, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            connection.close()
            os.close(process)

        self.selector.register(connection, selectors.EVENT_READ, kill)
        self.selector.register(process, selectors.EVENT_READ, end)


def tell(connection, number):
    try:
        connection.sendall(b"%d\n" % number)
    except OSError:  # it was killed
        return


def main(folder, owner):
    folder = Path(folder)
    os.setsid()
    import_all()
    start_stand_ins(folder)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "unready"))
        listening.listen(100)
        (folder / "unready").rename(folder / "socket")
        Server(listening, int(owner)).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
