#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<END
Usage: bash scripts/table.sh EXPERIMENT [--runs DIR] [--last N] [--translations N] [--export DIR]

Prints the table of an experiment as far as its runs are finished: mean and standard deviation
over seeds, published figures, the differences between EL and CE, and how sure they are.

  EXPERIMENT         $(experiments),
                     or a .toml file
  --runs DIR         the folder of its runs, or a folder that --export made
                     (default: runs/EXPERIMENT)
  --last N           how many epoch checkpoints were averaged (default: the experiment's)
  --translations N   show N translations of the test set before
  --export DIR       copy scores and translations into a new folder, small enough to keep

The table goes to table.md and table.csv in that folder, too.
END
}
help_or_continue "$@"
[ $# -ge 1 ] || wrong_usage "name an experiment: $(experiments), or a .toml file"
set_up
exec "$python" -m el_fairseq.experiments.comparison "$@"
