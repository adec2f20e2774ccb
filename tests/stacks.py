"""The loss on old and new versions of what it stands on: ``bash scripts/stacks.sh``.

Each stack gets an environment, in which its tests are run and ``stack_losses.py`` trains. A stack
whose Python is missing, or whose packages cannot be had, is left out, and the table says why.
"""

import argparse
import json
import math
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
TOLERANCE = 1e-4


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
    (logs / "work").mkdir(parents=True)
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
    print(f"{name}: running the tests and two or four trainings.", file=sys.stderr)
    own = venv / "bin" / "python"
    options = ["-q", "-rs", "--tb=short", "-p", "no:cacheprovider"]
    with (logs / "tests.txt").open("w") as log:
        run([own, "-m", "pytest", *options, *tests], cwd=ROOT, stdout=log, stderr=STDOUT)
    with (logs / "losses.log").open("w") as log:
        command = [own, ROOT / "tests" / "stack_losses.py", logs / "work"]
        trained = run(command, stdout=PIPE, stderr=log, text=True)
    result = {"tests": (logs / "tests.txt").read_text()}
    if trained.returncode == 0:  # fairseq may have printed something before the last line
        result.update(json.loads(trained.stdout.splitlines()[-1]))
    return result


def difference(losses, others):
    """The largest difference at any update of any training that both stacks ran."""
    shared = [name for name in losses if name in others]
    if any(len(losses[name]) != len(others[name]) for name in shared):
        return math.inf
    gaps = [abs(a - b) for name in shared for a, b in zip(losses[name], others[name])]
    return max(gaps) if all(map(math.isfinite, gaps)) else math.inf


def table(results):
    """The table as Markdown, and whether a test failed or losses differ."""
    rows, notes, failed, reference = [], [], False, None
    for name, result in results.items():
        if "left out" in result:
            rows.append([name, "", "", "", "not run", ""])
            notes.append(f"{name}: not run: {result['left out']}")
            continue
        lines = result["tests"].splitlines() or [""]
        # Pytest's own count, such as "3 failed, 20 passed".
        counts = re.sub(r"(, \d+ warnings?)? in [\d.:]+s.*", "", lines[-1].strip("= "))
        failed |= "failed" in counts or "error" in counts or "passed" not in counts
        notes += [f"{name}: {line}" for line in lines if line.startswith("SKIPPED")]
        losses, shown = result.get("losses"), "not run"
        if losses is None:
            failed = True
        elif reference is None:
            reference, shown = losses, "compared with"
        else:
            gap = difference(losses, reference)
            failed |= gap > TOLERANCE
            shown = f"{gap:.1e}" + (" (too much)" if gap > TOLERANCE else "")
        versions = result.get("versions", {})
        of = [versions.get(part) or "none" for part in ("python", "torch", "fairseq")]
        rows.append([name, *of, counts, shown])
    columns = ["stack", "Python", "torch", "fairseq", "tests", "losses differ by"]
    text = tabulate(rows, columns, "github", disable_numparse=True)
    return text + "\n" + "".join(f"\n- {note}" for note in notes) + "\n", failed


def main():
    parser = argparse.ArgumentParser(
        prog="bash scripts/stacks.sh",
        description="Run the tests of loss, kernels and criterion on old and new versions of what "
        "they stand on, and compare the losses of the first fifty updates of the same trainings.",
        epilog="Status 1: a test failed, or losses differ by more than 0.0001. The table goes to "
        "DIR/stacks.md, what each test said to DIR/results.",
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
