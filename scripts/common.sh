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
wrong_usage() { say "error: $*"; usage >&2; exit 2; }

asks_for_help() {
  local word
  for word in "$@"; do
    case $word in
      --) return 1 ;;
      -h | --help) return 0 ;;
    esac
  done
  return 1
}
help_or_continue() { if asks_for_help "$@"; then usage; exit; fi; }

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
  if asks_for_help "$@"; then
    { "$python" "${module[@]}" "${@:2}" || "$python" "${module[@]}" --help; } 2>/dev/null && exit
    usage
    echo "The options: \`bash scripts/setup.sh\` makes the environment, then ask again."
    exit
  fi
  set_up
  [ "${module[0]}" = -m ] || exec "$python" "$@"
  # What lies in the user's folder, a tokenize.py say, is none of Python's modules; and an interrupt
  # while Python imports ends it without a traceback (el_fairseq.common.cli.run takes them then).
  export PYTHONSAFEPATH=1
  exec "$python" -c '
import runpy, signal, sys
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
' "$@"
}
