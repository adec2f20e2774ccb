#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Usage: bash scripts/report.sh RUNS [-- options of python -m el_fairseq.analysis]

Analyses one finished run of each loss (margins, energies, calibration, rare words, text of other
domains, noise) and writes the report of all runs. An analysis that is there and newer than the
results is not made again.

  RUNS   the folder of a results.json, with the runs in it: runs/demo, for example
  -- ... options for the analysis, such as --noise-sentences 100

Writes RUNS/analysis, RUNS/report.html (opens from disk, needs no network) and RUNS/report.md.
END
}
help_or_continue "$@"
[ $# -ge 1 ] || wrong_usage "name a folder of runs"
[ $# -eq 1 ] || [ "$2" = -- ] || wrong_usage "unexpected argument '$2'"
[ -f "$1/results.json" ] || die "there is no $1/results.json: run scripts/demo.sh, or train and evaluate runs first"
runs=$(cd "$1" && pwd)
shift
set_up
cd "$root"
"$python" -m el_fairseq.report.of_runs "$runs" "$@"
