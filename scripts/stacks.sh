#!/usr/bin/env bash
# Runs the tests of loss, kernels and criterion on old and new versions of Python, torch and fairseq,
# and compares the losses of the same small trainings on all of them.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
run_module "$root/tests/stacks.py" "$@"
