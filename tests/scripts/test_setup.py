"""scripts/setup.sh with stand-ins for Python and pip, so that nothing is downloaded."""

import importlib.metadata
import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, run, script, succeed
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Makes "virtual environments" whose Python is this file again, and logs what pip is asked for.
PYTHON = """#!/bin/bash
here=$(cd "$(dirname "$0")" && pwd)
case "$*" in
  *version_info*) exit 0 ;;
  --version) echo Python 3.11.7 ;;
  '-m venv '*) mkdir -p "$3/bin"; touch "$3/pyvenv.cfg"; cp "$0" "$3/bin/python" ;;
  *torch.version.cuda*) echo "${BUILD:-cpu}" ;;
  *urlopen*) exit "${CPU_INDEX_STATUS:-1}" ;;
  *--no-index*) echo "$*" >>"$LOG"; exit "${AT_HAND_STATUS:-1}" ;;
  *pip\\ install*) echo "$*" >>"$LOG"; [ -z "${KILL:-}" ] || kill -9 $PPID ;;
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


def test_everything_comes_pinned_from_the_constraints_file(machine):
    succeed(script("scripts/setup.sh", env=machine))
    constraints = ROOT / "scripts" / "constraints.txt"
    assert f"-q --no-deps -r {constraints}" in pip_calls(machine)
    assert f"-q --no-deps --no-build-isolation -e {ROOT}" in pip_calls(machine)
    assert {"torch==2.13.0", "ve-fairseq==0.12.3"} <= set(constraints.read_text().splitlines())


# torchaudio serves speech alone, mosestokenizer's requirements its Python (it's here for its Perl);
# torch's CUDA build brings its own libraries.
LEFT_OUT = "torchaudio|docopt|openfile|toolwrapper|uctools|(nvidia|cuda)-.*"


def pins(name):
    """Versions of one of the lists, by name in the form of ``canonicalize_name``."""
    lines = (ROOT / "scripts" / name).read_text().splitlines()
    pinned = [line.partition(";")[0].split("==") for line in lines if not line.startswith("#")]
    versions = {canonicalize_name(package): version for package, version in pinned}
    assert len(versions) == len(pinned)
    return versions


def needed(*extras):
    """What ``el-fairseq`` with these extras stands on, as installed, by its canonical name."""
    todo, found = [Requirement(f"el-fairseq[{','.join(extras)}]")], {}
    while todo:
        requirement = todo.pop()
        package = importlib.metadata.distribution(requirement.name)
        found[canonicalize_name(requirement.name)] = package.version.partition("+")[0]
        for other in map(Requirement, package.requires or []):
            asked = [{"extra": extra} for extra in requirement.extras or [""]]
            applies = other.marker is None or any(map(other.marker.evaluate, asked))
            name = canonicalize_name(other.name)
            if applies and name not in found and not re.fullmatch(LEFT_OUT, name):
                todo.append(other)
    del found["el-fairseq"]
    return found


def test_the_lists_hold_what_scripts_and_tests_need_and_nothing_twice():
    scripts, tests = pins("constraints.txt"), pins("constraints-tests.txt")
    assert scripts.keys().isdisjoint(tests)
    everything = needed("fairseq", "scripts", "transformers", "test")
    assert everything.items() <= {**scripts, **tests}.items()
    assert needed("fairseq", "scripts").items() <= {**scripts, "triton": tests["triton"]}.items()


def test_the_tests_packages_are_added_to_the_scripts_environment(machine):
    succeed(script("scripts/setup.sh", env=machine))
    tests = f"-q --no-deps -r {ROOT / 'scripts' / 'constraints-tests.txt'}"
    before = pip_calls(machine)
    assert tests not in before
    succeed(script("scripts/setup.sh", "--tests", env=machine))
    assert pip_calls(machine) == [*before, tests]
    for arguments in ((), ("--tests",)):
        assert succeed(script("scripts/setup.sh", *arguments, env=machine)).stderr == ""
    assert pip_calls(machine) == [*before, tests]


def test_an_environment_made_for_the_tests_serves_the_scripts(machine):
    succeed(script("scripts/setup.sh", "--tests", env=machine))
    before = pip_calls(machine)
    assert sum("-r" in call for call in before) == 2
    assert succeed(script("scripts/setup.sh", env=machine)).stderr == ""
    assert pip_calls(machine) == before


def test_another_build_of_torch_leaves_the_tests_packages_alone(machine):
    succeed(script("scripts/setup.sh", "--tests", env={**machine, "BUILD": "cuda"}))
    before = len(pip_calls(machine))
    cpu = {**machine, "EL_TORCH": "cpu", "AT_HAND_STATUS": "0"}
    succeed(script("scripts/setup.sh", "--tests", env=cpu))
    assert not any("constraints-tests.txt" in call for call in pip_calls(machine)[before:])


def test_tests_packages_are_installed_again_where_the_environment_had_to_be_made_again(machine):
    succeed(script("scripts/setup.sh", "--tests", env=machine))
    Path(machine["EL_VENV"], "bin", "python").unlink()
    succeed(script("scripts/setup.sh", "--tests", env=machine))
    assert sum("constraints-tests.txt" in call for call in pip_calls(machine)) == 2


def test_an_unknown_argument_is_named():
    result = script("scripts/setup.sh", "--test")
    assert result.returncode == 2 and "unexpected arguments '--test'" in result.stderr


def test_a_second_call_installs_and_says_nothing(machine):
    succeed(script("scripts/setup.sh", env=machine))
    before = pip_calls(machine)
    assert succeed(script("scripts/setup.sh", env=machine)).stderr == ""
    assert pip_calls(machine) == before


def test_a_killed_installation_is_gone_on_with(machine):
    killed = script("scripts/setup.sh", env={**machine, "KILL": "yes", "AT_HAND_STATUS": "0"})
    assert killed.returncode != 0
    assert not Path(machine["EL_VENV"], ".el-fairseq").exists()
    succeed(script("scripts/setup.sh", env=machine))
    assert "-e" in pip_calls(machine)[-1]


def test_a_machine_without_gpu_takes_the_cpu_build_at_hand(machine):
    succeed(script("scripts/setup.sh", env={**machine, "AT_HAND_STATUS": "0"}))
    calls = pip_calls(machine)
    assert calls[0] == "-q --no-index --no-deps torch==2.13.0+cpu"
    assert "index-url" not in calls[1]


def test_a_machine_without_gpu_takes_the_cpu_build_of_pytorchs_index_where_it_answers(machine):
    succeed(script("scripts/setup.sh", env={**machine, "CPU_INDEX_STATUS": "0"}))
    index = "https://download.pytorch.org/whl/cpu"
    assert pip_calls(machine)[1] == f"--no-deps --index-url {index} torch==2.13.0+cpu"


def test_without_either_the_registrys_build_is_taken(machine):
    succeed(script("scripts/setup.sh", env=machine))
    assert pip_calls(machine)[1].endswith("constraints.txt torch==2.13.0")


def test_a_gpu_machine_gets_the_cuda_build_even_with_a_cpu_build_at_hand(machine, gpu):
    succeed(run(gpu, env={**machine, "AT_HAND_STATUS": "0", "BUILD": "cuda"}))
    assert pip_calls(machine)[0].endswith("torch==2.13.0,!=2.13.0+cpu")


def test_a_python_that_does_not_suit_is_refused_by_name_and_version(machine, tmp_path):
    old = tmp_path / "bin" / "old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.18\nexit 1\n')
    old.chmod(0o755)
    result = script("scripts/setup.sh", env={**machine, "EL_PYTHON": str(old)})
    assert result.returncode == 1
    assert f"EL_PYTHON is {old} (Python 3.8.18), expected a Python 3.11 or 3.12" in result.stderr


def test_without_a_python_it_says_how_to_get_one(machine, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "cat", "cksum", "grep", "uname", "mkdir", "flock", "rm"):
        (tools / tool).symlink_to(shutil.which(tool))
    nowhere = ["env", "-u", "EL_PYTHON", f"PATH={tools}", f"HOME={tmp_path}", "PYENV_ROOT=/none"]
    venv = f"EL_VENV={tmp_path / 'none'}"
    result = run([*nowhere, venv, tools / "bash", ROOT / "scripts/setup.sh"])
    assert result.returncode == 1
    assert "no Python 3.11 or 3.12 was found. Install one" in result.stderr


def test_uv_is_asked_for_a_python_where_there_is_none(machine, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "cat", "cksum", "grep", "uname", "mkdir", "flock", "rm"):
        (tools / tool).symlink_to(shutil.which(tool))
    for tool in ("cp", "touch", "env"):
        (tools / tool).symlink_to(shutil.which(tool))
    uv = tools / "uv"
    uv.write_text(f'#!/bin/bash\n[ "$2" = find ] && echo "{machine["EL_PYTHON"]}"\nexit 0\n')
    uv.chmod(0o755)
    variables = [f"{name}={value}" for name, value in machine.items() if name != "EL_PYTHON"]
    nowhere = ["env", "-u", "EL_PYTHON", f"PATH={tools}", f"HOME={tmp_path}", "PYENV_ROOT=/none"]
    result = succeed(run([*nowhere, *variables, tools / "bash", ROOT / "scripts/setup.sh"]))
    assert "uv gets one" in result.stderr


def test_a_login_node_without_gpu_gets_the_cuda_build_where_it_is_asked_for(machine, gpu):
    environment = {**machine, "BUILD": "cuda", "AT_HAND_STATUS": "0"}
    succeed(script("scripts/setup.sh", env={**environment, "EL_TORCH": "cuda"}))
    assert pip_calls(machine)[0].endswith("torch==2.13.0,!=2.13.0+cpu")
    before = pip_calls(machine)
    # Neither the login node without the variable nor the machine with the GPU changes it.
    succeed(script("scripts/setup.sh", env=environment))
    succeed(run(gpu, env=environment))
    assert pip_calls(machine) == before


def test_a_cpu_build_that_nobody_asked_for_is_not_used_where_there_is_a_gpu(machine, gpu):
    environment = {**machine, "AT_HAND_STATUS": "0"}
    succeed(script("scripts/setup.sh", env=environment))
    before = pip_calls(machine)
    result = run(gpu, env=environment)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "there is a GPU here, but" in result.stderr and "EL_TORCH=cuda bash" in result.stderr
    succeed(script("scripts/setup.sh", env={**environment, "EL_TORCH": "cpu"}))
    succeed(run(gpu, env=environment))
    assert pip_calls(machine) == before
    succeed(script("scripts/setup.sh", env={**environment, "EL_TORCH": "cuda", "BUILD": "cuda"}))
    assert pip_calls(machine)[len(before)].endswith("torch==2.13.0,!=2.13.0+cpu")


def test_a_build_that_pip_did_not_give_is_told(machine):
    result = script("scripts/setup.sh", env={**machine, "EL_TORCH": "cuda"})
    assert result.returncode == 1
    assert "EL_TORCH is cuda, but pip installed the cpu build" in result.stderr


def test_an_unknown_build_is_refused(machine):
    result = script("scripts/setup.sh", env={**machine, "EL_TORCH": "rocm"})
    assert result.returncode == 2
    assert "EL_TORCH is 'rocm', expected cuda or cpu" in result.stderr


def test_a_folder_that_holds_something_else_is_left_alone(machine, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "pyvenv.cfg").touch()
    (home / "thesis.tex").write_text("years of work")
    result = script("scripts/setup.sh", env={**machine, "EL_VENV": str(home)})
    assert result.returncode == 1
    assert "which also holds thesis.tex; name a new or empty folder" in result.stderr
    assert (home / "thesis.tex").read_text() == "years of work"


def test_an_environment_that_somebody_else_made_is_not_cleared(machine, tmp_path):
    other = tmp_path / "other"
    (other / "bin").mkdir(parents=True)
    (other / "pyvenv.cfg").touch()
    (other / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    (other / "bin" / "python").chmod(0o755)
    result = script("scripts/setup.sh", env={**machine, "EL_VENV": str(other)})
    assert result.returncode == 1 and "which this script did not make" in result.stderr
    assert (other / "bin" / "python").exists()


def test_an_environment_of_this_script_is_made_again_where_its_python_is_gone(machine):
    succeed(script("scripts/setup.sh", env=machine))
    Path(machine["EL_VENV"], "bin", "python").unlink()
    succeed(script("scripts/setup.sh", env=machine))
    assert Path(machine["EL_VENV"], "bin", "python").exists()


def test_scripts_find_their_folder_whatever_cdpath_says(machine):
    result = run(["bash", "scripts/setup.sh"], env={**machine, "CDPATH": "/tmp:."})
    assert f"The environment is ready: {machine['EL_VENV']}" in succeed(result).stderr
