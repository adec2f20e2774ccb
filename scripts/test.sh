#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Usage: bash scripts/test.sh [pytest arguments]

Lints (ruff, shellcheck) and tests everything; installs what it needs. Under 10 minutes on two
cores. With pytest arguments, such as tests/test_loss.py or -k golden, it runs those tests alone.
END
}
help_or_continue "$@"
set_up
cd "$root"
if [ $# -eq 0 ]; then
  ruff check .
  ruff format --check .
  shellcheck scripts/*.sh data-prep/*.sh .ci/run
  set -- -n 2 --dist loadfile
fi
# One thread a process: two test processes share two cores.
OMP_NUM_THREADS=1 "$python" -m pytest "$@"
