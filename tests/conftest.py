"""What several test files share: the repository's scripts, corpora and models."""

import contextlib
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

DEVICE = os.environ.get("EL_TEST_DEVICE", "cpu")
if DEVICE == "cpu":  # before any test imports Triton, whose interpreter then runs the kernels
    os.environ["TRITON_INTERPRET"] = "1"
    with contextlib.suppress(ImportError):
        from triton.language.extra import libdevice

        libdevice.fast_dividef = lambda a, b: a / b  # which the interpreter lacks

ROOT = Path(__file__).parents[1]
LONGEST = ("test_experiment.py", "test_soak.py", "test_worker.py")


def pytest_collection_modifyitems(items):
    # So that two processes that share the files are done at about the same time.
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish():
    # What the imports made stays: no collection of garbage need look through it again.
    gc.freeze()


def environment(**more):
    """The environment of the programs that tests start: this one's, a thread each."""
    found = {**os.environ, "EL_VENV": sys.prefix, "OMP_NUM_THREADS": "1", **more}
    found.pop("TRITON_INTERPRET", None)
    found["PATH"] = f"{sys.prefix}/bin{os.pathsep}{found['PATH']}"
    return found


def run(command, cwd=ROOT, env=None, timeout=900):
    """Run a command to its end; returns status, stdout and stderr (text)."""
    return subprocess.run(
        [str(word) for word in command],
        env=environment(**(env or {})),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def script(name, *arguments, **options):
    """Run one of the repository's shell scripts, such as ``scripts/train.sh``."""
    return run(["bash", ROOT / name, *arguments], **options)


def succeed(result):
    """Assert status 0, showing what the command said where it is not."""
    assert result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="session")
def call():
    """Call a command's ``main`` in this process, with the words of its command line."""

    def call(main, *words):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["command", *map(str, words)])
            return main()

    return call


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A made-up language pair with models that know a little of it (``tiny.paths``)."""
    from tiny import make

    return make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Folder of a corpus of 80 pairs (``tiny.make_small``): its ``bin`` and ``lm`` are binary."""
    from tiny import make_small

    return make_small(tmp_path_factory.mktemp("small"))
