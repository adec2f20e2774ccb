#!/usr/bin/env bash
# Sourced by the other scripts, not run by itself.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${EL_VENV:-$root/.venv}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac
python=$venv/bin/python

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# --help prints the script's usage to standard output; a wrong call prints it with the reason.
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

# Makes the environment where it is not there yet, and puts its programs first.
set_up() {
  "$root/scripts/setup.sh"
  export PATH=$venv/bin:$PATH
}
