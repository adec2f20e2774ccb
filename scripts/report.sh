#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<END
Usage: bash scripts/report.sh EXPERIMENT|RUNS [-- options of python -m el_fairseq.analysis]

Analyses one finished run of each loss (margins, energies, calibration, rare words, text of other
domains, noise) and writes the report of all runs. An analysis of the same checkpoints, data and
options is not made again.

  EXPERIMENT   $(experiments), or a .toml file:
               its runs are in runs/EXPERIMENT
  RUNS         the folder of a results.json, with the runs in it
  -- ...       options for the analysis, such as --noise-sentences 100, after the experiment's

Writes RUNS/analysis, RUNS/report.html (opens from disk, needs no network) and RUNS/report.md.
END
}
help_or_continue "$@"
[ $# -ge 1 ] || wrong_usage "name an experiment or a folder of runs"
[ $# -eq 1 ] || [ "$2" = -- ] || wrong_usage "unexpected argument '$2'"
runs=$1
[ -d "$runs" ] || runs=$root/runs/$(basename "$1" .toml)
[ -f "$runs/results.json" ] ||
  die "there is no $runs/results.json: run the experiment first (bash scripts/reproduce.sh --help)"
runs=$(cd -- "$runs" && pwd)
shift
set_up
cd "$root"
exec "$python" -m el_fairseq.report "$runs" "$@"
