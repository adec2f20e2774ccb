#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Usage: bash scripts/test.sh [pytest arguments]
       bash scripts/test.sh --gpu

Lints (ruff, shellcheck) and tests everything; installs what it needs. Under 10 minutes on two
cores. With pytest arguments, such as tests/test_loss.py or -k golden, it runs those tests alone.

--gpu runs what only a machine with an NVIDIA GPU can: the kernel against the formula, training at
half precision, two GPUs where there are two, and the benchmark; and writes runs/gpu-report.md,
which is worth sending in. Under 10 minutes; without a GPU it says so and ends with status 2.
END
}
help_or_continue "$@"
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
