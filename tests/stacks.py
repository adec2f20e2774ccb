"""The loss on old and new versions of what it stands on: ``bash scripts/stacks.sh``.

Each stack gets an environment, in which its tests are run; one of them compares the losses of small
trainings with those of other stacks. A stack whose Python is missing, or whose packages cannot be
had, is left out, and the table says why.
"""

import argparse
import os
import re
import shutil
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, CalledProcessError, run

from tabulate import tabulate

ROOT = Path(__file__).parents[1]
PLAIN = ["tests/test_loss.py", "tests/ops"]
ALL = [*PLAIN, "tests/criterion"]
# Python; what pip installs, or None for scripts/constraints*.txt; tests.
STACKS = {
    "python3.11": ("3.11", None, ALL),
    "python3.12": ("3.12", None, ALL),
    "stock": ("3.8", [f"--editable={ROOT}[fairseq]", "tensorboardX"], ALL),
    "newest": ("3.11", [f"--editable={ROOT}", "torch"], PLAIN),
}
VERSIONS = """
import platform, torch
print(platform.python_version(), torch.__version__)
try:
    import fairseq
    print(fairseq.__version__)
except Exception:  # stock fairseq fails with a ValueError where it does not fit
    print("none")
"""


def find_python(version):
    """Path of a Python of this version, or ``None``."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    candidates = [f"python{version}", *sorted(pyenv.glob(f"versions/{version}.*/bin/python"))]
    if shutil.which("uv"):
        found = run(["uv", "python", "find", version], capture_output=True, text=True)
        candidates += found.stdout.splitlines()
    code = f"import sys; sys.exit('%d.%d' % sys.version_info[:2] != {version!r})"
    for path in filter(None, map(shutil.which, candidates)):
        if run([path, "-c", code], stderr=DEVNULL).returncode == 0:
            return path
    return None


def install(venv, python, requirements, log):
    """Make an environment, or bring it up to date; raises ``CalledProcessError``."""
    own = venv / "bin" / "python"
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if requirements is None:
        environment.update(EL_PYTHON=python, EL_VENV=str(venv))
        commands = [["bash", ROOT / "scripts" / "setup.sh", "--tests"]]
    else:
        pip = [own, "-m", "pip", "install", "-q", "--upgrade"]
        # Later versions of pip refuse what stock fairseq asks of omegaconf.
        commands = [[*pip, "pip<24.1"], [*pip, *requirements, "pytest", "hypothesis"]]
        if not own.exists() or run([own, "-m", "pip", "--version"], stdout=DEVNULL).returncode:
            commands.insert(0, [python, "-m", "venv", "--clear", venv])
    for command in commands:
        run(command, env=environment, stdout=log, stderr=log, check=True)


def run_stack(name, folder):
    """What one stack came to: a dictionary for ``table``. Its environment is ``folder / name``."""
    version, requirements, tests = STACKS[name]
    logs, venv = folder / "results" / name, folder / name
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    python = find_python(version)
    if python is None:
        return {"left out": f"no Python {version} was found (pyenv and uv bring one)"}
    print(f"{name}: making the environment.", file=sys.stderr)
    try:
        with (logs / "install.txt").open("w") as log:
            install(venv, python, requirements, log)
    except CalledProcessError:
        reason = (logs / "install.txt").read_text().strip().rpartition("\n")[2]
        return {"left out": f"its packages could not be installed: {reason}"}
    print(f"{name}: running the tests.", file=sys.stderr)
    own = venv / "bin" / "python"
    options = ["-q", "-rs", "--tb=short", "-p", "no:cacheprovider"]
    with (logs / "tests.txt").open("w") as log:
        run([own, "-m", "pytest", *options, *tests], cwd=ROOT, stdout=log, stderr=STDOUT)
    versions = run([own, "-c", VERSIONS], stdout=PIPE, stderr=DEVNULL, text=True).stdout.split()
    return {"tests": (logs / "tests.txt").read_text(), "versions": versions}


def table(results):
    """The table as Markdown, and whether a test failed."""
    rows, notes, failed = [], [], False
    for name, result in results.items():
        if "left out" in result:
            rows.append([name, "", "", "", "not run"])
            notes.append(f"{name}: not run: {result['left out']}")
            continue
        lines = result["tests"].splitlines() or [""]
        # Pytest's own count, such as "3 failed, 20 passed".
        counts = re.sub(r"(, \d+ warnings?)? in [\d.:]+s.*", "", lines[-1].strip("= "))
        failed |= "failed" in counts or "error" in counts or "passed" not in counts
        notes += [f"{name}: {line}" for line in lines if line.startswith("SKIPPED")]
        rows.append([name, *result["versions"][-3:], counts])
    columns = ["stack", "Python", "torch", "fairseq", "tests"]
    text = tabulate(rows, columns, "github", disable_numparse=True)
    return text + "\n" + "".join(f"\n- {note}" for note in notes) + "\n", failed


def main():
    parser = argparse.ArgumentParser(
        prog="bash scripts/stacks.sh",
        description="Run the tests of loss, kernels and criterion on old and new versions of what "
        "they stand on. One compares the losses of fifty updates with those of other stacks.",
        epilog="Status 1: a test failed. The table goes to DIR/stacks.md, what each test said to "
        "DIR/results.",
    )
    stacks = (
        "python3.11, python3.12 (the versions of scripts/constraints*.txt), stock (fairseq 0.12.2 "
        "with torch 1.12.1, on Python 3.8), newest (the newest torch, without fairseq) (all)"
    )
    parser.add_argument("stacks", nargs="*", metavar="STACK", help=stacks)
    folder = "where the environments are made and kept, up to 6 GB each (runs/stacks)"
    parser.add_argument("--dir", type=Path, default=ROOT / "runs" / "stacks", help=folder)
    options = parser.parse_args()
    for name in options.stacks:
        if name not in STACKS:
            parser.error(f"there is no stack '{name}', expected some of {', '.join(STACKS)}")
    folder = options.dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    text, failed = table({name: run_stack(name, folder) for name in options.stacks or STACKS})
    (folder / "stacks.md").write_text(text)
    print(text, end="")
    sys.exit(failed)


if __name__ == "__main__":
    main()
