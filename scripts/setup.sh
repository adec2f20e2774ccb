#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Usage: bash scripts/setup.sh

Makes the Python environment that every other script uses, with the exact versions of
scripts/constraints.txt. The other scripts call it, so nobody has to. When all is there it does
nothing; after an interruption it goes on.

Environment variables:
  EL_VENV     folder of the environment (default: .venv in this repository)
  EL_PYTHON   the Python 3.11 or 3.12 to make it with (default: one that is found)
END
}
help_or_continue "$@"
[ $# -eq 0 ] || wrong_usage "unexpected argument '$1'"

constraints=$root/scripts/constraints.txt
stamp=$venv/.el-fairseq
wanted="$root $(cat "$constraints" "$root/setup.py" "${BASH_SOURCE[0]}" | cksum)"
torch=$(grep '^torch==' "$constraints")
cpu_index=https://download.pytorch.org/whl/cpu
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

is_ready() { [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$python" -c '' 2>/dev/null; }

suits() {
  "$1" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1
}

find_python() {
  local candidate
  if [ -n "${EL_PYTHON:-}" ]; then
    suits "$EL_PYTHON" || die "EL_PYTHON is $EL_PYTHON ($("$EL_PYTHON" --version 2>&1 || true))," \
      "expected a Python 3.11 or 3.12; unset it to have one looked for"
    echo "$EL_PYTHON"
    return
  fi
  for candidate in python3.11 python3.12 python3 python \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[12].*/bin/python; do
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

has_nvidia_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

cpu_index_answers() {
  "$python" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' \
    "$cpu_index/torch/" 2>/dev/null
}

# The registry's Linux build of torch carries gigabytes of CUDA, of use to an NVIDIA GPU alone.
install_torch() {
  if has_nvidia_gpu; then
    say "Installing $torch with CUDA: this machine has an NVIDIA GPU."
    "$python" -m pip install -c "$constraints" "$torch,!=${torch#torch==}+cpu"
    return
  fi
  if "$python" -m pip install -q --no-index --no-deps "$torch+cpu" 2>/dev/null; then
    say "Installing $torch: the CPU build at hand."
  elif cpu_index_answers; then
    say "Installing $torch: the CPU build from $cpu_index."
    "$python" -m pip install --no-deps --index-url "$cpu_index" "$torch+cpu"
  else
    say "Installing $torch: the registry's build, as $cpu_index does not answer."
  fi
  "$python" -m pip install -q -c "$constraints" "$torch"
}

install() {
  local base
  case "$(uname -s) $(uname -m)" in
    'Linux x86_64') ;;
    *) die "this machine is $(uname -sm): ve-fairseq has wheels for x86-64 Linux alone;" \
      "use such a machine, a virtual one or a container" ;;
  esac
  if ! suits "$python" || ! "$python" -m pip --version >/dev/null 2>&1; then
    if [ -n "$(ls -A "$venv" 2>/dev/null)" ] && [ ! -f "$venv/pyvenv.cfg" ]; then
      die "EL_VENV is $venv, which holds something else than a Python environment;" \
        "name a new or empty folder"
    fi
    base=$(find_python)
    say "Making $venv with $("$base" --version)."
    "$base" -m venv --clear "$venv" ||
      die "$base cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"
  fi
  install_torch
  say "Installing the other packages of scripts/constraints.txt."
  "$python" -m pip install -q --no-deps -r "$constraints"
  "$python" -m pip install -q --no-deps --no-build-isolation -e "$root"
}

if is_ready; then exit 0; fi
mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
flock 9
if is_ready; then exit 0; fi
rm -f "$stamp"
trap 'say "The environment is not finished. Once that is mended, run the same command: it goes on."' EXIT
install
echo "$wanted" >"$stamp"
trap - EXIT
say "The environment is ready: $venv"
