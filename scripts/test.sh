#!/usr/bin/env bash
# Lints (ruff, shellcheck) and tests everything, in under 10 minutes on two cores; installs what it
# needs.
#
#   bash scripts/test.sh                    all
#   bash scripts/test.sh PYTEST-ARGUMENTS   some tests: tests/test_loss.py, or -k golden
#   bash scripts/test.sh --gpu              what only a machine with an NVIDIA GPU can run, and
#                                           benchmarks; writes runs/gpu-report.md, worth sending in
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
case ${1:-} in -h | --help) usage; exit ;; esac
"$root/scripts/setup.sh" --tests
set_up
cd "$root"
if [ "${1:-}" = --gpu ]; then
  shift
  exec "$python" tests/gpu/report.py "$@"
fi
if [ $# -eq 0 ]; then
  ruff check .
  ruff format --check .
  shellcheck scripts/*.sh data-prep/*.sh .ci/run
  set -- -n 2 --dist loadfile --no-loadscope-reorder
fi
# One thread a process: two test processes share two cores.
OMP_NUM_THREADS=1 "$python" -m pytest "$@"
