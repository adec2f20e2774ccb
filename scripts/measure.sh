#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<END
Usage: bash scripts/measure.sh EXPERIMENT [--runs DIR]

Measures what scores leave out of all runs that are finished: BLEU, chrF and TER of a beam of 1,
which tell the search from the model, and calibration, before and after one temperature. What was
measured is not measured again; scripts/report.sh and scripts/table.sh --export take it in.

  EXPERIMENT  $(experiments),
              or a .toml file
  --runs DIR  the folder of its runs (default: runs/EXPERIMENT)
END
}
help_or_continue "$@"
[ $# -ge 1 ] || wrong_usage "name an experiment: $(experiments), or a .toml file"
set_up
exec "$python" -m el_fairseq.experiments.measure "$@"
