"""scripts/setup.sh with stand-ins for Python and pip, so that nothing is downloaded."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT, run, script, succeed
from packaging.requirements import Requirement

# Makes "virtual environments" whose Python is this file again, and logs what pip is asked for. The
# CPU build of torch can be had where AT_HAND is set; elsewhere torch comes as $BUILD.
PYTHON = """#!/bin/bash
here=$(cd "$(dirname "$0")" && pwd)
site=$here/../lib/python3.11/site-packages
case "$*" in
  *version_info*) exit 0 ;;
  --version) echo Python 3.11.7 ;;
  '-m venv '*)
    mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo "command = $0 -m venv $3" >"$3/pyvenv.cfg"
    printf '#!%s/bin/python\\n' "$3" >"$3/bin/pip"; chmod +x "$3/bin/pip" ;;
  *pip\\ install*)
    echo "$*" >>"$LOG"
    [ -z "${KILL:-}" ] || kill -9 $PPID
    case "$*" in
      *' torch==2.13.0+cpu '*) [ -n "${AT_HAND:-}" ] || exit 1; torch=2.13.0+cpu ;;
      *' torch=='*) torch=2.13.0${BUILD-+cpu} ;;
      *) exit 0 ;;
    esac
    rm -rf "$site"/torch-*; mkdir -p "$site/torch-$torch.dist-info" ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """A machine with a stand-in Python 3.11; returns its environment variables."""
    python = tmp_path / "bin" / "python3.11"
    python.parent.mkdir()
    python.write_text(PYTHON)
    python.chmod(0o755)
    return {
        "EL_VENV": str(tmp_path / "venv"),
        "EL_PYTHON": str(python),
        "LOG": str(tmp_path / "pip.log"),
    }


@pytest.fixture
def gpu(tmp_path):
    """The beginning of a command for a machine with a stand-in for NVIDIA's driver."""
    program = tmp_path / "gpu" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "GPU 0: stand-in"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return ["env", f"PATH={path}", "bash", ROOT / "scripts/setup.sh"]


def pip_calls(machine):
    calls = Path(machine["LOG"]).read_text().splitlines()
    return [call.removeprefix("-m pip install ") for call in calls]


@pytest.mark.parametrize("python", ["3.8", "3.9", "3.12", "3.14"])
def test_the_extra_asks_for_one_fairseq_so_that_pip_fails_where_there_is_none(python):
    asked = {"extra": "fairseq", "python_version": python, "platform_machine": "x86_64"}
    requirements = map(Requirement, importlib.metadata.requires("el-fairseq"))
    names = [one.name for one in requirements if one.marker and one.marker.evaluate(asked)]
    expected = "fairseq" if python == "3.8" else "ve-fairseq"
    assert [name for name in names if "fairseq" in name] == [expected]


def test_what_pip_installs_is_whole_and_works_from_another_folder(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(
        ROOT / "el_fairseq", source / "el_fairseq", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    succeed(run([*pip, "--target", site, source]))
    files = {path.relative_to(source) for path in (source / "el_fairseq").rglob("*.*")}
    installed = {path.relative_to(site) for path in (site / "el_fairseq").rglob("*.*")}
    assert {path for path in files - installed if path.name != "README.md"} == set()
    code = (
        "import el_fairseq.criterion as c; print(c.__file__, c.EncouragingLossCriterion.__name__)"
    )
    result = succeed(run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(site)}))
    assert result.stdout == f"{site}/el_fairseq/criterion.py EncouragingLossCriterion\n"


def test_all_is_pinned_tests_packages_are_added_and_what_is_there_is_not_installed_again(machine):
    succeed(script("scripts/setup.sh", env=machine))
    constraints = ROOT / "scripts" / "constraints.txt"
    assert f"-q --no-deps -r {constraints}" in pip_calls(machine)
    assert f"-q --no-deps --no-build-isolation -e {ROOT}" in pip_calls(machine)
    assert {"torch==2.13.0", "ve-fairseq==0.12.3"} <= set(constraints.read_text().splitlines())
    tests = f"-q --no-deps -r {ROOT / 'scripts' / 'constraints-tests.txt'}"
    before = pip_calls(machine)
    assert tests not in before
    succeed(script("scripts/setup.sh", "--tests", env=machine))
    for arguments in ((), ("--tests",)):
        assert succeed(script("scripts/setup.sh", *arguments, env=machine)).stderr == ""
    assert pip_calls(machine) == [*before, tests]
    Path(machine["EL_VENV"], "bin", "python").unlink()
    succeed(script("scripts/setup.sh", "--tests", env=machine))
    assert Path(machine["EL_VENV"], "bin", "python").exists()
    assert pip_calls(machine).count(tests) == 2


@pytest.mark.parametrize(
    ("arguments", "variables", "status", "said"),
    [
        (["--test"], {}, 2, "unexpected arguments '--test'"),
        ([], {"EL_TORCH": "rocm"}, 2, "EL_TORCH is 'rocm', expected cuda or cpu"),
        ([], {"EL_TORCH": "cuda"}, 1, "EL_TORCH is cuda, but pip installed the cpu build"),
        ([], {"EL_PYTHON": "{old}"}, 1, "old (Python 3.8.18), expected a Python 3.11 or 3.12"),
    ],
)
def test_what_cannot_be_had_is_refused(machine, tmp_path, arguments, variables, status, said):
    old = tmp_path / "bin" / "old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.18\nexit 1\n')
    old.chmod(0o755)
    variables = {name: value.format(old=old) for name, value in variables.items()}
    result = script("scripts/setup.sh", *arguments, env={**machine, **variables})
    assert result.returncode == status and said in result.stderr


def test_a_killed_installation_is_gone_on_with(machine):
    killed = script("scripts/setup.sh", env={**machine, "KILL": "yes", "AT_HAND": "yes"})
    assert killed.returncode != 0
    assert not Path(machine["EL_VENV"], ".el-fairseq").exists()
    succeed(script("scripts/setup.sh", env=machine))
    assert "-e" in pip_calls(machine)[-1]


@pytest.mark.parametrize("at_hand", [True, False])
def test_a_machine_without_gpu_takes_the_cpu_build_where_it_can_be_had(machine, at_hand):
    environment = {**machine, "BUILD": "", **({"AT_HAND": "yes"} if at_hand else {})}
    result = succeed(script("scripts/setup.sh", env=environment))
    index = "https://download.pytorch.org/whl/cpu"
    first, second = pip_calls(machine)[:2]
    assert first.endswith(f"torch==2.13.0+cpu --extra-index-url {index}")
    assert second.endswith("constraints.txt torch==2.13.0") == (not at_hand)
    assert ("its CPU build could not be had" in result.stderr) == (not at_hand)


def test_without_a_python_it_says_how_to_get_one(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    needed = "bash dirname cat cksum grep sed ls uname mkdir flock rm touch cp env"
    for name in needed.split():
        (tools / name).symlink_to(shutil.which(name))
    nowhere = ["env", "-u", "EL_PYTHON", f"PATH={tools}", f"HOME={tmp_path}", "PYENV_ROOT=/none"]
    venv = f"EL_VENV={tmp_path / 'none'}"
    result = run([*nowhere, venv, tools / "bash", ROOT / "scripts/setup.sh"])
    assert result.returncode == 1
    assert "no Python 3.11 or 3.12 was found. Install one" in result.stderr


def test_the_build_of_torch_is_the_one_that_was_asked_for_and_cudas_beside_a_gpu(machine, gpu):
    environment = {**machine, "AT_HAND": "yes"}
    succeed(script("scripts/setup.sh", env=environment))
    before = pip_calls(machine)
    result = run(gpu, env=environment)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "there is a GPU here, but" in result.stderr and "EL_TORCH=cuda bash" in result.stderr
    succeed(script("scripts/setup.sh", env={**environment, "EL_TORCH": "cpu"}))
    succeed(run(gpu, env=environment))
    assert pip_calls(machine) == before
    environment["BUILD"] = ""  # the build of torch that the registry has is CUDA's
    succeed(script("scripts/setup.sh", env={**environment, "EL_TORCH": "cuda"}))
    assert pip_calls(machine)[len(before)].endswith("torch==2.13.0,!=2.13.0+cpu")
    before = pip_calls(machine)
    # Neither a login node without the variable nor the machine with the GPU changes it.
    succeed(script("scripts/setup.sh", env=environment))
    succeed(run(gpu, env=environment))
    assert pip_calls(machine) == before


@pytest.mark.parametrize("there", ["thesis.tex", "bin/python"])
def test_a_folder_that_this_script_did_not_make_is_left_alone(machine, tmp_path, there):
    home = tmp_path / "home"
    (home / there).parent.mkdir(parents=True)
    (home / "pyvenv.cfg").touch()
    (home / there).write_text("#!/bin/sh\nexit 1\n")
    (home / there).chmod(0o755)
    result = script("scripts/setup.sh", env={**machine, "EL_VENV": str(home)})
    assert result.returncode == 1
    assert "which this script did not make; name a new or empty folder" in result.stderr
    assert (home / there).exists()


def test_a_moved_environment_is_made_anew(machine, tmp_path):
    succeed(script("scripts/setup.sh", env=machine))
    moved = Path(machine["EL_VENV"]).rename(tmp_path / "elsewhere & far")
    succeed(script("scripts/setup.sh", env={**machine, "EL_VENV": str(moved)}))
    assert (moved / "bin" / "pip").read_text() == f"#!{moved}/bin/python\n"
    assert succeed(script("scripts/setup.sh", env={**machine, "EL_VENV": str(moved)})).stderr == ""


def test_a_moved_repository_installs_itself_anew(machine, tmp_path):
    for number in (1, 2):
        checkout = tmp_path / f"checkout{number}"
        (checkout / "scripts").mkdir(parents=True)
        shutil.copy(ROOT / "setup.py", checkout)
        for name in ("common.sh", "setup.sh", "constraints.txt", "constraints-tests.txt"):
            shutil.copy(ROOT / "scripts" / name, checkout / "scripts")
        succeed(run(["bash", checkout / "scripts" / "setup.sh"], env=machine))
        assert pip_calls(machine)[-1].endswith(f"-e {checkout}")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A copy of the scripts in a clone where nothing has been installed."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("scripts", "data-prep"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "setup.py", folder)
    return folder


SCRIPTS = [*ROOT.glob("scripts/*.sh"), *ROOT.glob("data-prep/*.sh")]


@pytest.mark.parametrize(
    "name", [str(path.relative_to(ROOT)) for path in SCRIPTS if path.name != "common.sh"]
)
def test_help_needs_no_environment_and_makes_none(fresh, name):
    result = succeed(run(["bash", fresh / name, "--help"], env={"EL_VENV": ""}))
    assert len(result.stdout.splitlines()) > 2 and result.stderr == ""
    assert not (fresh / ".venv").exists()


def test_where_nothing_may_be_written_another_folder_is_asked_for():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are its user's alone
        checkout = Path(folder, "checkout")
        shutil.copytree(ROOT / "scripts", checkout / "scripts")
        shutil.copy(ROOT / "setup.py", checkout)
        for path in (Path(folder), checkout):
            path.chmod(0o555)
        command = ["bash", checkout / "scripts" / "setup.sh"]
        options = {"capture_output": True, "text": True, "env": {**os.environ, "EL_VENV": ""}}
        user = 65534 if os.geteuid() == 0 else None
        refused = subprocess.run(command, user=user, **options)
        for path in (Path(folder), checkout):
            path.chmod(0o755)
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    assert f"{checkout}/.venv is missing or not up to date" in refused.stderr
    assert "EL_VENV=/path/to/it" in refused.stderr
