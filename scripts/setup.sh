#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Usage: bash scripts/setup.sh [--tests]

Makes the Python environment that every other script uses, with the exact versions of
scripts/constraints.txt. The other scripts call it, so nobody has to. When all is there it does
nothing; after an interruption it goes on.

  --tests   also what only the tests need (scripts/constraints-tests.txt), as scripts/test.sh asks

Environment variables:
  EL_VENV     folder of the environment (default: .venv in this repository)
  EL_PYTHON   the Python 3.11 or 3.12 to make it with (default: one that is found)
  EL_TORCH    cuda or cpu: the build of torch (default: cuda where there is an NVIDIA GPU). Set it to
              cuda where jobs will run on other machines, as on the login node of a cluster.
END
}
help_or_continue "$@"
wanted_tests=''
case $* in
  '') ;;
  --tests) wanted_tests=$(cksum <"$root/scripts/constraints-tests.txt") ;;
  *) wrong_usage "unexpected arguments '$*'" ;;
esac

constraints=$root/scripts/constraints.txt
stamp=$venv/.el-fairseq
wanted="$root $(cat "$constraints" "$root/setup.py" "${BASH_SOURCE[0]}" | cksum)"
torch=$(grep '^torch==' "$constraints")
cpu_index=https://download.pytorch.org/whl/cpu
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

case ${EL_TORCH:-} in
  '' | cuda | cpu) ;;
  *) wrong_usage "EL_TORCH is '$EL_TORCH', expected cuda or cpu" ;;
esac

# The stamp's lines: what is there, the build of torch, whether that was asked for, and the tests'
# packages.
read_stamp() {
  local lines=()
  [ ! -f "$stamp" ] || mapfile -t lines <"$stamp"
  found=${lines[0]:-} build=${lines[1]:-} asked=${lines[2]:-} found_tests=${lines[3]:-}
}
write_stamp() { printf '%s\n' "$wanted" "$build" "$asked" "$found_tests" >"$stamp"; }

is_ready() {
  [ "$found" = "$wanted" ] && [ "${EL_TORCH:-$build}" = "$build" ] && "$python" -c '' 2>/dev/null
}
has_tests() { [ -z "$wanted_tests" ] || [ "$found_tests" = "$wanted_tests" ]; }

# A CPU build that nobody asked for must not be trained with where there is a GPU.
check_build() {
  if [ "$build" = cpu ] && [ -z "${EL_TORCH:-}$asked" ] && has_nvidia_gpu; then
    die "there is a GPU here, but $venv holds the CPU build of torch. Replace it (on a cluster, on" \
      "the login node): EL_TORCH=cuda bash scripts/setup.sh; or keep it: EL_TORCH=cpu bash" \
      "scripts/setup.sh"
  fi
  if [ -n "${EL_TORCH:-}" ] && [ -z "$asked" ]; then
    asked='asked for'
    write_stamp
  fi
}

get_python() {
  if command -v uv >/dev/null; then
    say "No Python 3.11 or 3.12 here: uv gets one."
    uv python install 3.11 >&2 && uv python find 3.11 && return
  fi
  die "no Python 3.11 or 3.12 was found. Install one (Debian and Ubuntu: apt install python3.11" \
    "python3.11-venv; anywhere: https://docs.astral.sh/uv) or name it: EL_PYTHON=/path/to/python3.11"
}

has_nvidia_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

cpu_index_answers() {
  "$python" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' \
    "$cpu_index/torch/" 2>/dev/null
}

# The registry's Linux build of torch carries gigabytes of CUDA, of use to an NVIDIA GPU alone.
install_torch() {
  if [ "${EL_TORCH:-}" = cuda ] || { [ -z "${EL_TORCH:-}" ] && has_nvidia_gpu; }; then
    say "Installing $torch with CUDA."
    "$python" -m pip install -c "$constraints" "$torch,!=${torch#torch==}+cpu"
  elif "$python" -m pip install -q --no-index --no-deps "$torch+cpu" 2>/dev/null; then
    say "Installed $torch: the CPU build at hand."
  elif cpu_index_answers; then
    say "Installing $torch: the CPU build from $cpu_index."
    "$python" -m pip install --no-deps --index-url "$cpu_index" "$torch+cpu"
  else
    say "Installing $torch: the registry's build, as $cpu_index does not answer."
    "$python" -m pip install -q -c "$constraints" "$torch"
  fi
}

# Makes an environment; removes what this script left there before, and nothing else.
make_venv() {
  local base item found=''
  for item in "$venv"/* "$venv"/.[!.]*; do
    [ -e "$item" ] || [ -L "$item" ] || continue
    case ${item##*/} in
      bin | include | lib | lib64 | share | pyvenv.cfg | .gitignore | .made-by-el-fairseq | .el-fairseq) ;;
      *) die "EL_VENV is $venv, which also holds ${item##*/}; name a new or empty folder" ;;
    esac
    found=yes
  done
  [ -z "$found" ] || [ -e "$venv/.made-by-el-fairseq" ] ||
    die "EL_VENV is $venv, whose Python is no 3.11 or 3.12 with pip and which this script did not" \
      "make; delete it, or name a new or empty folder"
  base=$(find_python)
  [ -n "$base" ] || base=$(get_python)
  say "Making $venv with $("$base" --version)."
  found_tests=''
  mkdir -p "$venv"
  touch "$venv/.made-by-el-fairseq"
  for item in bin include lib lib64 share pyvenv.cfg; do rm -rf "${venv:?}/$item"; done
  "$base" -m venv "$venv" ||
    die "$base cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"
}

install() {
  case "$(uname -s) $(uname -m)" in
    'Linux x86_64') ;;
    *) die "this machine is $(uname -sm): ve-fairseq has wheels for x86-64 Linux alone;" \
      "use such a machine, a virtual one or a container" ;;
  esac
  if ! suits "$python" || ! "$python" -m pip --version >/dev/null 2>&1; then make_venv; fi
  install_torch
  say "Installing the other packages of scripts/constraints.txt."
  "$python" -m pip install -q --no-deps -r "$constraints"
  "$python" -m pip install -q --no-deps --no-build-isolation -e "$root"
  build=$("$python" -c 'import torch; print("cuda" if torch.version.cuda else "cpu")')
  [ "${EL_TORCH:-$build}" = "$build" ] ||
    die "EL_TORCH is $EL_TORCH, but pip installed the $build build of torch (pip's settings name" \
      "where it looks: pip config list)"
  asked=${EL_TORCH:+asked for}
  write_stamp
}

install_tests() {
  say "Installing what the tests need: scripts/constraints-tests.txt."
  "$python" -m pip install -q --no-deps -r "$root/scripts/constraints-tests.txt"
  found_tests=$wanted_tests
  write_stamp
}

read_stamp
if is_ready; then
  check_build
  if has_tests; then exit 0; fi
fi
mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
flock 9
read_stamp
if is_ready && has_tests; then exit 0; fi
trap 'say "The environment is not finished. Run the same command once that is fixed: it goes on."' EXIT
if ! is_ready; then
  rm -f "$stamp"
  install
fi
if ! has_tests; then install_tests; fi
trap - EXIT
say "The environment is ready: $venv"
