"""The loss on old and new versions of what it stands on: ``bash scripts/stacks.sh``.

A session is a stack. One of its tests compares the losses of small trainings with those of other
stacks. A stack whose Python is missing is left out, and nox says so.
"""

from pathlib import Path

import nox

ROOT = Path(__file__).parents[1]
PLAIN = ["tests/test_loss.py", "tests/ops"]
ALL = [*PLAIN, "tests/criterion"]
# Prints the versions of Python and torch.
VERSIONS = "import sys, torch; print('Python', sys.version.split()[0], 'torch', torch.__version__)"

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False


def test(session, tests):
    session.chdir(ROOT)
    session.run("python", "-c", VERSIONS)
    options = ["-q", "-rs", "--tb=short", "-p", "no:cacheprovider"]
    session.run("python", "-m", "pytest", *options, *tests, env={"OMP_NUM_THREADS": "1"})


@nox.session(python=["3.11", "3.12"])
def pinned(session):
    """The versions of scripts/constraints.txt."""
    environment = {"EL_VENV": session.virtualenv.location}
    session.run("bash", f"{ROOT}/scripts/setup.sh", "--tests", env=environment, external=True)
    test(session, ALL)


@nox.session(python="3.8")
def stock(session):
    """fairseq 0.12.2 with torch 1.12.1."""
    session.install("pip<24.1")  # later versions refuse what stock fairseq asks of omegaconf
    session.install("-e", f"{ROOT}[fairseq]", "tensorboardX", "pytest", "hypothesis")
    test(session, ALL)


@nox.session(python="3.11")
def newest(session):
    """The newest torch, without fairseq."""
    session.install("--upgrade", "-e", f"{ROOT}", "torch", "pytest", "hypothesis", "tabulate")
    test(session, PLAIN)
