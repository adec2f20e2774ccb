#!/usr/bin/env bash
# Makes the Python environment that every other script uses, with the exact versions of
# scripts/constraints.txt. The other scripts call it; where all is there it does nothing.
#
#   bash scripts/setup.sh [--tests]   --tests: also scripts/constraints-tests.txt
#
# Environment variables:
#   EL_VENV     folder of the environment (default: .venv in this repository)
#   EL_PYTHON   the Python 3.11 or 3.12 to make it with (default: one that is found)
#   EL_TORCH    cuda or cpu: the build of torch (default: cuda where there is an NVIDIA GPU). Set it
#               to cuda on a login node without GPU, for jobs on other machines.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
help_or_continue "$@"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
constraints=$root/scripts/constraints.txt tests=$root/scripts/constraints-tests.txt
torch=$(grep '^torch==' "$constraints")

# What is installed, in a file each: sums of the lists, and the build of torch that was asked for.
wanted="$root $(cat "$constraints" "$root/setup.py" "${BASH_SOURCE[0]}" | cksum)"
case $* in
  '') wanted_tests='' ;;
  --tests) wanted_tests=$(cksum <"$tests") ;;
  *) wrong_usage "unexpected arguments '$*'" ;;
esac
stamp() { cat "$venv/.el-$1" 2>/dev/null || true; }
EL_TORCH=${EL_TORCH:-$(stamp torch)}
case $EL_TORCH in
  '' | cuda | cpu) ;;
  *) wrong_usage "EL_TORCH is '$EL_TORCH', expected cuda or cpu" ;;
esac

build() {
  case $(echo "$venv"/lib/python3*/site-packages/torch-*.dist-info) in
    *+cpu.dist-info) echo cpu ;;
    *) echo cuda ;;
  esac
}
has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

# Whether the environment's programs, which name its folder in their first lines, are still there.
is_in_place() {
  local made_at
  made_at=$(sed -n 's/^command = .* -m venv //p' "$venv/pyvenv.cfg" 2>/dev/null || true)
  [ "${made_at:-$venv}" -ef "$venv" ]
}

is_ready() {
  [ "$(stamp fairseq)" = "$wanted" ] && is_in_place && "$python" -c '' 2>/dev/null &&
    [ "${EL_TORCH:-$(build)}" = "$(build)" ]
}
has_tests() { [ -z "$wanted_tests" ] || [ "$(stamp tests)" = "$wanted_tests" ]; }

suits() {
  "$1" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1
}

# Prints a Python 3.11 or 3.12: the one that EL_PYTHON names, or one that is found, or uv's.
find_python() {
  local candidate
  if [ -n "${EL_PYTHON:-}" ]; then
    suits "$EL_PYTHON" || die "EL_PYTHON is $EL_PYTHON ($("$EL_PYTHON" --version 2>&1 || true))," \
      "expected a Python 3.11 or 3.12; unset it to have one looked for"
    echo "$EL_PYTHON"
    return
  fi
  for candidate in python3.11 python3.12 python3 python \
    "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1[12].*/bin/python; do
    if suits "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  if command -v uv >/dev/null; then
    say "No Python 3.11 or 3.12 here: uv gets one."
    uv python install 3.11 >&2 && uv python find 3.11 && return
  fi
  die "no Python 3.11 or 3.12 was found. Install one (Debian and Ubuntu: apt install python3.11" \
    "python3.11-venv; anywhere: https://docs.astral.sh/uv) or name it: EL_PYTHON=/path/to/python3.11"
}

# Makes an environment; removes what this script left there before, and nothing else.
make_venv() {
  local base item
  [ -e "$venv/.made-by-el-fairseq" ] || [ -z "$(ls -A "$venv" 2>/dev/null)" ] ||
    die "EL_VENV is $venv, which is no environment of Python 3.11 or 3.12 with pip, and which this" \
      "script did not make; name a new or empty folder"
  base=$(find_python)
  say "Making $venv with $("$base" --version)."
  mkdir -p "$venv"
  touch "$venv/.made-by-el-fairseq"
  for item in bin include lib lib64 share pyvenv.cfg .el-fairseq .el-tests; do
    rm -rf "${venv:?}/$item"
  done
  "$base" -m venv "$venv" ||
    die "$base cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"
}

# The registry's Linux build of torch carries gigabytes of CUDA, of use to an NVIDIA GPU alone.
install_torch() {
  if [ "$EL_TORCH" = cuda ] || { [ -z "$EL_TORCH" ] && has_gpu; }; then
    say "Installing $torch with CUDA."
    "$python" -m pip install -c "$constraints" "$torch,!=${torch#torch==}+cpu" >&2
  elif ! "$python" -m pip install -q --no-deps --retries 1 --timeout 10 "$torch+cpu" \
    --extra-index-url https://download.pytorch.org/whl/cpu 2>/dev/null; then
    say "Installing $torch from the registry: its CPU build could not be had."
    "$python" -m pip install -c "$constraints" "$torch" >&2
  fi
  [ "${EL_TORCH:-$(build)}" = "$(build)" ] ||
    die "EL_TORCH is $EL_TORCH, but pip installed the $(build) build of torch (pip's settings name" \
      "where it looks: pip config list)"
}

name_missing_for_triton() {
  local missing=''
  command -v "${CC:-gcc}" >/dev/null || command -v clang >/dev/null || missing=" a C compiler (gcc)"
  [ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
    missing+="${missing:+ and} Python's headers (Debian and Ubuntu: python3-dev)"
  [ -z "$missing" ] || say "warning: Triton, which the loss's GPU kernel is for, needs$missing"
}

install() {
  [ "$(uname -sm)" = "Linux x86_64" ] || die "this machine is $(uname -sm): ve-fairseq has wheels for" \
    "x86-64 Linux alone; use such a machine, a virtual one or a container"
  if ! suits "$python" || ! "$python" -m pip --version >/dev/null 2>&1 || ! is_in_place; then
    make_venv
  fi
  rm -f "$venv/.el-fairseq"
  install_torch
  say "Installing the other packages of scripts/constraints.txt."
  "$python" -m pip install -q --no-deps -r "$constraints"
  "$python" -m pip install -q --no-deps --no-build-isolation -e "$root"
  [ "$(build)" = cpu ] || ! has_gpu || name_missing_for_triton
  echo "$wanted" >"$venv/.el-fairseq"
}

if ! is_ready || ! has_tests; then
  { mkdir -p "${venv%/*}" && : >>"$venv.lock" && { [ ! -e "$venv" ] || [ -w "$venv" ]; }; } 2>/dev/null ||
    die "$venv is missing or not up to date, and nothing can be written there; name a folder of your" \
      "own for the environment: EL_VENV=/path/to/it"
  exec 9>"$venv.lock"
  flock 9
  trap 'say "The environment is not finished. Run the same command once that is fixed: it goes on."' EXIT
  is_ready || install
  if ! has_tests; then
    say "Installing what the tests need: scripts/constraints-tests.txt."
    "$python" -m pip install -q --no-deps -r "$tests"
    echo "$wanted_tests" >"$venv/.el-tests"
  fi
  trap - EXIT
  say "The environment is ready: $venv"
fi
if [ -z "$EL_TORCH" ] && [ "$(build)" = cpu ] && has_gpu; then
  die "there is a GPU here, but $venv holds the CPU build of torch. Replace it (on a cluster, on the" \
    "login node): EL_TORCH=cuda bash scripts/setup.sh; or keep it: EL_TORCH=cpu bash scripts/setup.sh"
fi
# Where nothing may be written, another user keeps the environment.
[ "$EL_TORCH" = "$(stamp torch)" ] || { echo "$EL_TORCH" >"$venv/.el-torch"; } 2>/dev/null || true
