import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from el_fairseq.common import processes

# A program that starts a child by our rules, says its number, and waits for it.
PROGRAM = """
import importlib.util, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # also where the suite runs in the background
spec = importlib.util.spec_from_file_location("processes", {module!r})
processes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(processes)

def work():
    with processes.started({command!r}) as child:
        print(child.pid, flush=True)
    if child.returncode in (75, -signal.SIGUSR1):
        sys.exit(75)
    print("it went on")

{before}
processes.supervise(work)
"""
WAITS = ["sleep", "60"]


def program(command, before=""):
    code = PROGRAM.format(module=processes.__file__, command=command, before=before)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def gone(number):
    """Whether a process has ended, within some seconds."""
    for _ in range(200):
        try:
            if "State:\tZ" in Path(f"/proc/{number}/status").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_child_ends_with_its_program_however_that_ends(number):
    with program(WAITS) as parent:
        child = int(parent.stdout.readline())
        parent.send_signal(number)
        assert parent.wait(20) == -number
        assert parent.stdout.read() == ""
    assert gone(child)


def test_a_signal_that_the_user_had_ignored_stays_ignored():
    before = "signal.signal(signal.SIGUSR1, signal.SIG_IGN)"
    with program(["sleep", "1"], before) as parent:
        parent.stdout.readline()
        parent.send_signal(signal.SIGUSR1)
        assert parent.stdout.read() == "it went on\n"
    assert parent.returncode == 0


# Ends well by SIGUSR1, as a training does when it has written its checkpoint.
TRAINING = """
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("is_ready", [True, False])
def test_sigusr1_lets_a_child_end_as_it_likes_and_stops_the_program(is_ready):
    with program([sys.executable, "-c", TRAINING] if is_ready else WAITS) as parent:
        child = int(parent.stdout.readline())
        if is_ready:
            parent.stdout.readline()
        parent.send_signal(signal.SIGUSR1)
        assert parent.wait(20) == 75
        assert "it went on" not in parent.stdout.read()
    assert gone(child)


def test_a_child_ends_with_an_error_of_its_program():
    deaf = ["bash", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]
    with pytest.raises(RuntimeError), processes.started(deaf, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        raise RuntimeError
    assert child.returncode == -signal.SIGKILL


def test_a_command_that_is_not_there_is_named(capfd):
    assert processes.call(["no-such-program"]) == 1
    assert "no-such-program cannot be started" in capfd.readouterr().err
