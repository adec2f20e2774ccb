import os
import subprocess
import sys


def test_a_terminal_that_lacks_a_character_still_gets_the_rest():
    code = "from el_fairseq.common.cli import run; run(lambda: print('gr\\u00fcn \\udcff 1'))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (0, "gr?n ? 1\n")
