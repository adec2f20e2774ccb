#!/usr/bin/env bash
# Runs the tests of loss, kernels and criterion on old and new versions of Python, torch and fairseq;
# one of them compares the losses of small trainings with those of other stacks.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_module "$root/tests/stacks.py" "$@"
