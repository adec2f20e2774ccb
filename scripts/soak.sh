#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Usage: bash scripts/soak.sh [--minutes N] [--seed S]

Runs a tiny experiment, from archive to table, over and over, ends its processes at random moments
(SIGKILL, SIGTERM, SIGINT, SIGHUP to all or to one of them, also while a checkpoint is copied; and
with a disk that is full), runs it again to its end, and compares it with an undisturbed one:
manifest, checkpoints, translations, scores, results and table.

  --minutes N   how long (default: 5)
  --seed S      which interruptions (default: 1); cycle after cycle takes S, S + 1, ...
END
}
help_or_continue "$@"
set_up
export OMP_NUM_THREADS=1
exec "$python" "$root/tests/soak.py" "$@"
