import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from el_fairseq.common import processes

# A keeper that starts a child, says its number, and waits.
KEEPER = """
import runpy, time
start = runpy.run_path({module!r})["start"]
child = start(["sleep", "60"])
print(child.pid, flush=True)
{then}
"""


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


def keeper(then):
    text = KEEPER.format(module=processes.__file__, then=then)
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_child_ends_with_its_keeper_however_that_ends(number):
    with keeper("time.sleep(60)") as parent:
        child = int(parent.stdout.readline())
        parent.send_signal(number)
    assert gone(child)


def test_a_child_that_does_not_heed_is_killed(monkeypatch):
    monkeypatch.setattr(processes, "SECONDS_TO_END", 0.1)
    deaf = ["bash", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]
    with processes.start(deaf, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        processes.end([child])
    assert child.returncode == -signal.SIGKILL


# Signals itself where Python drops exceptions, also where the suite ignores signals (nohup, &).
SIGNALLED_IN_A_FINALIZER = """
import os, runpy, signal, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_path({module!r})["exit_on_signals"]()

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        time.sleep(0.01)

Finalized()
time.sleep(20)
print("it went on")
"""


@pytest.mark.parametrize(("name", "status"), [("SIGHUP", 129), ("SIGTERM", 143), ("SIGINT", -2)])
def test_a_signal_that_comes_where_python_drops_exceptions_is_not_lost(name, status):
    code = SIGNALLED_IN_A_FINALIZER.format(module=processes.__file__, name=name)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (status, "")
    assert "ignored" not in result.stderr
