#!/usr/bin/env bash
# Interrupts a tiny experiment at random moments, over and over, runs it again to its end, and
# compares everything that it leaves with an undisturbed one. Installs what it needs.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
asks_for_help "$@" || "$root/scripts/setup.sh" --tests
export OMP_NUM_THREADS=1
run_module "$root/tests/soak.py" "$@"
