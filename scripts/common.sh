#!/usr/bin/env bash
# Sourced by the other scripts, not run by itself.
set -euo pipefail
unset CDPATH  # cd would print where it went

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=${EL_VENV:-$root/.venv}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac
# shellcheck disable=SC2034  # used by the scripts that source this one
python=$venv/bin/python

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# A script's usage is the comment at its beginning. --help prints it to standard output, a wrong call
# with the reason to standard error.
usage() { sed -n '1d; /^#/!q; s/^# \?//p' "$0"; }
help_or_continue() {
  local word
  for word in "$@"; do
    case $word in
      --) return 0 ;;
      -h | --help) usage; exit 0 ;;
    esac
  done
}
wrong_usage() { say "error: $*"; usage >&2; exit 2; }

# before_dashes WORD ARGUMENTS...: whether WORD stands among the arguments, before a --.
before_dashes() {
  local sought=$1 word
  shift
  for word in "$@"; do
    case $word in
      --) return 1 ;;
      "$sought") return 0 ;;
    esac
  done
  return 1
}

suits() {
  "$1" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1
}

# Prints a Python 3.11 or 3.12: the one that EL_PYTHON names, or one that is found.
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
  return 1
}

# Makes the environment where it is not there yet, and puts its programs first.
set_up() {
  "$root/scripts/setup.sh"
  export PATH=$venv/bin:$PATH
}

# run_module MODULE ARGUMENTS...: the script goes on as this module, or .py file. --help installs
# nothing: where there is no environment yet, it prints the script's purpose.
run_module() {
  local module=(-m "$1")
  case $1 in *.py) module=("$1") ;; esac
  if before_dashes --help "$@" || before_dashes -h "$@"; then
    "$python" "${module[@]}" --help 2>/dev/null && exit
    usage
    echo "The options: \`bash scripts/setup.sh\` makes the environment, then ask again."
    exit
  fi
  set_up
  exec "$python" "${module[@]}" "${@:2}"
}

# The names of the experiments there are, in one line.
experiments() {
  local file
  for file in "$root"/scripts/experiments/*.toml; do basename "$file" .toml; done | paste -sd ' '
}
