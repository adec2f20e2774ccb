import subprocess
import sys

from conftest import warmed


def test_it_runs_in_an_environment_that_is_not_activated(tiny):
    command = [sys.executable, "-m", "el_fairseq.benchmarks.analysis", tiny.bin, tiny.ce]
    start = warmed([*command, "--times", "1"])
    start["env"]["PATH"] = "/usr/bin:/bin"
    result = subprocess.run(**start, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == [
        "fairseq-validate",
        "el_fairseq.analysis",
        "ratio",
    ]
