#!/usr/bin/env bash
# Runs the tests of loss, kernels and criterion on old and new versions of Python, torch and fairseq;
# one of them compares the losses of small trainings with those of other stacks.
#
#   bash scripts/stacks.sh             pinned (the versions of scripts/constraints.txt), stock (fairseq
#                                      0.12.2, torch 1.12.1, Python 3.8), newest (the newest torch)
#   bash scripts/stacks.sh STACK ...   some of them, such as stock or pinned-3.12
#
# A stack whose Python is neither on the PATH nor among pyenv's is left out. The environments, up to
# 6 GB each, are made and kept in runs/stacks.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
help_or_continue "$@"
"$root/scripts/setup.sh" --tests
set_up
for pythons in "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/*/bin; do PATH=$PATH:$pythons; done
[ $# -eq 0 ] || set -- --session "$@"
exec nox --noxfile "$root/tests/noxfile.py" --envdir "$root/runs/stacks" "$@"
